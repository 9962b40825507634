"""Names below localhost are this machine (RFC 6761, 6.3), as browsers and curl
have it. Python asks the resolver, which may not know."""

import socket

_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, *rest, **named):
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and name.lower().rstrip(".").endswith(".localhost"):
        host = "127.0.0.1"
    return _getaddrinfo(host, *rest, **named)


socket.getaddrinfo = getaddrinfo
