"""A server that streams, and takes what is posted. Arguments: address, port."""

import hashlib
import http.server
import os
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        # The second one is sent when the reader has the first.
        while not os.path.exists("/tmp/go"):
            time.sleep(0.05)
        self.wfile.write(b"data: second\n\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open("/workspace/posted", "wb") as file:
            file.write(body)
        answer = hashlib.sha256(body).hexdigest().encode()
        self.send_response(201)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


address, port = sys.argv[1], int(sys.argv[2])
http.server.ThreadingHTTPServer((address, port), Handler).serve_forever()
