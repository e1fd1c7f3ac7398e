#!/usr/bin/env bash
# The test command: tests/run.sh [arguments of cargo test]
#
# Installs the real components that the tests use (tests/tools.sh), runs every test, and closes with the sum.
set -euo pipefail
cd "$(dirname "$0")/.."
SECONDS=0
tests/tools.sh

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Not --all-targets: that would run the benches too.
targets=(--lib --bins --tests --examples)
[ $# -eq 0 ] || targets=()
status=0
cargo test --locked --no-fail-fast ${targets[@]+"${targets[@]}"} "$@" 2>&1 < /dev/null | tee "$log" || status=$?
if [ $# -eq 0 ]; then
    cargo test --locked --doc 2>&1 < /dev/null | tee -a "$log" || status=$?
fi

if [ $# -eq 0 ]; then
    # Real clients, apps and a collector, in front of and behind the binary that the tests built.
    tests/clients/run.sh target/debug/outrigger 2>&1 < /dev/null | tee -a "$log" || status=$?
fi

echo
grep -E '^SKIPPED|^FAIL |^test .* FAILED$' "$log" || true
awk -v skipped="$(grep -c '^SKIPPED' "$log" || true)" -v seconds="$SECONDS" '
    /^test result:/ { passed += $4; failed += $6; ignored += $8 }
    /^clients: [0-9]+ passed/ { passed += $2; failed += $4 }
    END { printf "tests: %d passed, %d failed, %d ignored, %d skipped, %d s\n", passed, failed, ignored, skipped, seconds }' "$log"
[ "$status" = 0 ] && echo "tests: ok" || echo "tests: FAILED"
exit "$status"
