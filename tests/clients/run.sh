#!/usr/bin/env bash
# Real clients and real apps through real processes: tests/clients/run.sh [BINARY] [PART...]
#
# Installs what is missing (tests/tools.sh), then tests/clients/run.py starts and ends everything on free ports.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${OUTRIGGER_TOOLS:-$PWD/target/tools}
tests/tools.sh
binary=$(realpath "${1:-target/debug/outrigger}")
[ $# -eq 0 ] || shift
cp tests/clients/*.mjs "$tools/node/" # Node looks for packages beside the file
exec "$tools/venv/bin/python" tests/clients/run.py "$binary" "$tools" "$@"
