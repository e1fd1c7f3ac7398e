#!/bin/sh
# Lays out the root file system of the image: rootfs.sh BINARY DIRECTORY
#
# The binary, the shared libraries it names, the TLS roots and three small files of /etc. Nothing else, so that a
# reader of the image has nothing to patch. Also used by the tests, which start the binary inside it without an engine.
set -eu

binary=$1
root=$2

mkdir -p "$root/etc/outrigger" "$root/etc/ssl/certs" "$root/run/outrigger" "$root/tmp"
cp "$binary" "$root/outrigger"
chmod 0755 "$root/outrigger"

# Each line of ldd is `name => /path (address)` or, for the loader, `/path (address)`.
ldd "$binary" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

if [ -r /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
fi
echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' > "$root/etc/passwd"
echo 'nonroot:x:65532:' > "$root/etc/group"
# glibc would otherwise ask DNS before it reads /etc/hosts.
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
chown 65532:65532 "$root/run/outrigger" 2> /dev/null || true
