#!/usr/bin/env bash
# The shipped proxy.yaml, started for real: tests/smoke.sh [BINARY] [FILE]
#
# Its ports are fixed (3000, 8080, 8081, 9901, 9902), so this stands apart from the tests, which use free ones. A tiny app
# on port 3000, both doors asked, readiness and metrics, then SIGTERM and a clean exit.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=$(realpath "${1:-target/debug/outrigger}")
file=$(realpath "${2:-proxy.yaml}")

work=$(mktemp -d)
pids=()
finish() {
    status=$?
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2> /dev/null || true; done
    if [ "$status" != 0 ]; then
        echo "smoke: FAILED; the proxy's last words:"
        tail -n 30 "$work/proxy.log" 2> /dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

for port in 3000 8080 8081 9901 9902; do
    if (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
        echo "smoke: port $port is in use on this machine" >&2
        exit 1
    fi
done

mkdir "$work/app"
echo 'hello from the app' > "$work/app/index.html"
python3 -m http.server 3000 --bind 127.0.0.1 --directory "$work/app" > "$work/app.log" 2>&1 < /dev/null &
pids+=($!)
(cd "$work" && exec "$binary" run --config "$file") > "$work/proxy.log" 2>&1 < /dev/null &
proxy=$!
pids+=("$proxy")

ask() { curl -sS --max-time 5 "$@"; }
wait_for() { # what, command...
    local what=$1
    shift
    for _ in $(seq 100); do
        if "$@" > /dev/null 2>&1; then return; fi
        kill -0 "$proxy" 2> /dev/null || { echo "smoke: the proxy has ended" >&2; exit 1; }
        sleep 0.1
    done
    echo "smoke: $what did not happen within 10 s" >&2
    exit 1
}
wait_for "the app" ask -f http://127.0.0.1:3000/
wait_for "readiness" ask -f http://127.0.0.1:9902/ready

expect() { # what, wanted, text
    case "$3" in
        *"$2"*) echo "smoke: $1" ;;
        *)
            printf 'smoke: %s: wanted `%s` in:\n%s\n' "$1" "$2" "$3" >&2
            exit 1
            ;;
    esac
}
expect "inbound door: the app's page" "hello from the app" "$(ask http://127.0.0.1:8080/)"
# A provider that nobody configured: the door answers by itself, no network needed.
expect "outbound door: an unknown provider is told" "no_route" "$(ask -i http://127.0.0.1:8081/nobody/v1/chat/completions -d '{}')"
expect "probes: live" "200" "$(ask -o /dev/null -w '%{http_code}' http://127.0.0.1:9902/live)"
expect "probes: nothing else" "404" "$(ask -o /dev/null -w '%{http_code}' http://127.0.0.1:9902/health)"
expect "admin: health" '"status"' "$(ask http://127.0.0.1:9901/health)"
metrics=$(ask http://127.0.0.1:9902/metrics)
expect "metrics: requests were counted" 'outrigger_requests_total{' "$metrics"
if command -v promtool > /dev/null; then
    promtool check metrics <<< "$metrics"
    echo "smoke: metrics: promtool has no complaint"
fi

kill -TERM "$proxy"
status=0
wait "$proxy" || status=$?
[ "$status" = 0 ] || { echo "smoke: SIGTERM: exit code $status" >&2; exit 1; }
echo "smoke: SIGTERM: left with 0"
