#!/bin/sh
# Makes a tree of packages into a sandbox's root file system. Runs on the host
# after the last package is set up; $1 is the tree.
set -eu
root=$1

mkdir -p "$root/workspace" "$root/etc/emberbox"
cat >"$root/etc/emberbox/env" <<'ENV'
LANG=C.UTF-8
PIP_DISABLE_PIP_VERSION_CHECK=1
PIP_ROOT_USER_ACTION=ignore
ENV
printf 'LANG=C.UTF-8\n' >"$root/etc/default/locale"

# A sandbox is thrown away; `pip install` may change its system.
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED

if [ -n "${EMBERBOX_HOST_CA:-}" ]; then
    mkdir -p "$root/usr/local/share/ca-certificates"
    cp "$EMBERBOX_HOST_CA"/*.crt "$root/usr/local/share/ca-certificates/"
    chroot "$root" update-ca-certificates
    # These bring a bundle of their own unless told of the system's.
    for name in SSL_CERT_FILE REQUESTS_CA_BUNDLE PIP_CERT; do
        printf '%s=/etc/ssl/certs/ca-certificates.crt\n' "$name"
    done >>"$root/etc/emberbox/env"
    # Node reads this file at every start, on top of its own bundle: given the
    # system's, each start takes half as long again.
    for certificate in "$EMBERBOX_HOST_CA"/*.crt; do
        cat "$certificate"
        echo
    done >"$root/etc/emberbox/host-ca.pem"
    echo NODE_EXTRA_CA_CERTS=/etc/emberbox/host-ca.pem >>"$root/etc/emberbox/env"
fi

# The manual pages are left out, yet some packages link into these.
for section in 1 2 3 4 5 6 7 8; do
    mkdir -p "$root/usr/share/man/man$section"
done

# How strictly dates are checked belongs to the mirror; how the host reaches it,
# through which proxy, is nobody's business in the guest.
conf=$root/etc/apt/apt.conf.d
grep -h '^Acquire::Check-' "$conf/99mmdebstrap" >"$conf/99mirror" || rm -f "$conf/99mirror"
rm -f "$conf/99mmdebstrap"

# Each guest gets these from its host when it is claimed.
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/systemd/random-seed"
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/hostname" "$root/etc/resolv.conf"
: >"$root/etc/machine-id"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
find "$root/var/log" -type f -delete
mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
