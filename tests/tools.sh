#!/usr/bin/env bash
# Installs what the tests need beside Rust, where it is missing: tests/tools.sh [bench|peers]
# With `bench` what the load benches need instead, with `peers` what tests/cache/peers.sh needs.
#
# Debian packages go through apt (as root or by sudo); Python and Node packages, pinned, stay in target/tools
# (or $OUTRIGGER_TOOLS). Running it again costs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${OUTRIGGER_TOOLS:-$PWD/target/tools}
mkdir -p "$tools"

packages=()
need() { # command, Debian package
    # Daemons live in sbin, which is not on everybody's PATH.
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" > /dev/null || packages+=("$2")
}
if [ "${1:-}" = bench ]; then
    need nginx nginx-light
    need haproxy haproxy
    need varnishd varnish
    need redis-server redis-server
    need python3 python3
    need taskset util-linux
elif [ "${1:-}" = peers ]; then
    need nginx nginx-light
    need varnishd varnish
else
    need redis-server redis-server
    need redis-cli redis-tools
    need promtool prometheus
    need prometheus-alertmanager prometheus-alertmanager
    need curl curl
    need python3 python3
    need node nodejs
    need npm npm
    need chromium-headless-shell chromium-headless-shell
    [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || packages+=(fonts-dejavu-core)
    python3 -c 'import ensurepip, venv' 2> /dev/null || packages+=(python3-venv)
fi
if [ ${#packages[@]} -gt 0 ]; then
    if ! command -v apt-get > /dev/null; then
        echo "tests/tools.sh: please install: ${packages[*]} (Debian names)" >&2
        exit 1
    fi
    echo "tests/tools.sh: installing ${packages[*]}"
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    ${root[@]+"${root[@]}"} apt-get update -q
    ${root[@]+"${root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" < /dev/null
fi
[ -z "${1:-}" ] || exit 0

# A stamp holds the lists that were installed, so that changed ones are installed again.
lists=(tests/requirements.txt tests/clients/requirements.txt tests/clients/earlier.txt tests/constraints.txt)
if ! cat "${lists[@]}" | cmp -s - "$tools/requirements.stamp"; then
    rm -rf "$tools/requirements.stamp" "$tools/earlier"
    python3 -m venv --clear "$tools/venv"
    pip() { "$tools/venv/bin/pip" install -q --disable-pip-version-check "$@"; }
    pip -r tests/requirements.txt -c tests/constraints.txt
    # --no-deps: what else these need is in the environment already.
    pip --no-deps --target "$tools/earlier" -r tests/clients/earlier.txt
    cat "${lists[@]}" > "$tools/requirements.stamp"
fi
# The validator of FOCUS rows is left out where no Python is new enough: its test then says so.
if ! cmp -s tests/focus.txt "$tools/focus.stamp"; then
    # 3.12 first: the older numpy has no wheel for a newer one. pyenv's stand beside the path: its word works only where a version is chosen.
    for python in python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python3 python3 python3.13 python3.14; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2> /dev/null || continue
        "$python" -m venv --clear "$tools/focus"
        "$tools/focus/bin/pip" install -q --disable-pip-version-check -r tests/focus.txt
        cp tests/focus.txt "$tools/focus.stamp"
        break
    done
fi
if ! cmp -s tests/clients/package-lock.json "$tools/node/package-lock.stamp"; then
    mkdir -p "$tools/node"
    cp tests/clients/package.json tests/clients/package-lock.json "$tools/node/"
    (cd "$tools/node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp tests/clients/package-lock.json "$tools/node/package-lock.stamp"
fi
