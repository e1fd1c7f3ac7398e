#!/usr/bin/env bash
# WebSockets through the inbound door: tests/conformance/websocket.sh CHECKOUT [BINARY]
#
# What it proves: every case of the public Autobahn suite (github.com/crossbario/autobahn-testsuite: framing, pings, reserved
# bits, opcodes, fragmentation, UTF-8, closing, sizes up to 16 MiB, compression) ends through the proxy exactly as it
# ends at the same server without it: same verdict, same verdict on the closing handshake, same close code and reason, and
# the same side closed the connection. No failure that the direct server does not have.
#
# CHECKOUT (or $AUTOBAHN) is a checkout of the suite; PYTHON2 is a Python 2.7 that has what its requirements.txt names, by
# default python2.7. Nothing is fetched; without them this says so and ends well, except where CI is set. CASES are the
# cases, by default "*". BINARY is the proxy, by default target/release/outrigger, else target/debug/outrigger.
# The server is the suite's own echo server (`testeeserver`). The cases 1 to 9 take a minute,
# the compression cases (12 and 13) half an hour more on two busy cores: CASES='[1-9].*' leaves them out. Needs Python 3 too.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$here/../..")
suite=${1:-${AUTOBAHN:-}}
binary=${2:-}
for built in "$root"/target/{release,debug}/outrigger; do
    if [ -z "$binary" ] && [ -x "$built" ]; then binary=$built; fi
done
[ -d "$suite/autobahntestsuite/autobahntestsuite" ] && suite=$suite/autobahntestsuite
python=${PYTHON2:-python2.7}
wstest() { PYTHONPATH=$suite PYTHONDONTWRITEBYTECODE=1 exec "$python" -m autobahntestsuite.wstest --webport 0 "$@"; }
if [ -z "$suite" ] || ! [ -d "$suite/autobahntestsuite" ] || ! (wstest --help) > /dev/null 2>&1; then
    printf '\n*** SKIPPED: `%s` does not run the suite at `%s`; give a checkout as the argument and PYTHON2 ***\n\n' "$python" "$suite" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
suite=$(realpath "$suite")
[ -x "$binary" ] || { echo "websocket: no proxy to test; build it or name it" >&2; exit 1; }
binary=$(realpath "$binary")

work=$(mktemp -d)
pids=()
finish() {
    status=$?
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2> /dev/null || true; done
    for pid in ${pids[@]+"${pids[@]}"}; do wait "$pid" 2> /dev/null || true; done
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

read -r server inbound probes < <(cd "$root/benches" && python3 -B -c 'import lab; print(*lab.free_ports(3))')
# The suite's `testeeserver`, which may be reached under another port than its own: behind a proxy, Host names the proxy's.
cat > "$work/server.py" << 'PYTHON'
import sys
from autobahn.twisted.websocket import listenWS
from autobahntestsuite.testee import TesteeServerFactory
from twisted.internet import reactor
factory = TesteeServerFactory("ws://127.0.0.1:" + sys.argv[1])
factory.externalPort = None
listenWS(factory, interface="127.0.0.1")
reactor.run()
PYTHON
PYTHONPATH=$suite PYTHONDONTWRITEBYTECODE=1 "$python" "$work/server.py" "$server" > "$work/server.log" 2>&1 < /dev/null &
pids+=($!)
cat > "$work/proxy.yaml" << YAML
inbound: {listen: "127.0.0.1:$inbound", app: "http://127.0.0.1:$server"}
admin: {listen: "off", probes: "127.0.0.1:$probes", socket: "$work/admin.sock"}
telemetry: {log: "off"}
shutdown: {drain_delay: 0s, deadline: 2s}
YAML
"$binary" run --config "$work/proxy.yaml" > "$work/proxy.log" 2>&1 < /dev/null &
pids+=($!)
answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }
for _ in $(seq 100); do
    if answers "$server" && "$binary" health --probes "127.0.0.1:$probes" > /dev/null 2>&1; then up=1; break; fi
    sleep 0.1
done
if [ -z "${up:-}" ]; then
    echo "websocket: the server or the proxy did not start" >&2
    tail -n 20 "$work/server.log" "$work/proxy.log" >&2
    exit 1
fi

cat > "$work/spec.json" << JSON
{"outdir": "$work/reports", "cases": ["${CASES:-*}"], "exclude-cases": [], "exclude-agent-cases": {}, "options": {"failByDrop": false},
 "servers": [{"agent": "direct", "url": "ws://127.0.0.1:$server", "options": {"version": 18}},
             {"agent": "proxy", "url": "ws://127.0.0.1:$inbound", "options": {"version": 18}}]}
JSON
echo "against $("$binary" --version)"
(cd "$work" && wstest --mode fuzzingclient --spec spec.json) > "$work/client.log" 2>&1 < /dev/null \
    || { tail -n 20 "$work/client.log"; echo "websocket: the suite did not finish" >&2; exit 1; }
python3 - "$work/reports" << 'PYTHON'
import collections, json, os, sys

reports = sys.argv[1]
with open(os.path.join(reports, "index.json"), encoding="utf-8") as file:
    index = json.load(file)
LOOKED_AT = ("behavior", "behaviorClose", "remoteCloseCode", "remoteCloseReason", "wasClean", "droppedByMe",
             "wasOpenHandshakeTimeout", "wasCloseHandshakeTimeout", "wasServerConnectionDropTimeout")


def seen(agent, case):
    entry = index.get(agent, {}).get(case)
    if entry is None:
        return {"behavior": "not run"}
    with open(os.path.join(reports, entry["reportfile"]), encoding="utf-8") as file:
        detail = json.load(file)
    return {name: detail.get(name) for name in LOOKED_AT}


sums, times, wrong = {}, {}, []
cases = sorted(set().union(*index.values()), key=lambda case: [int(part) for part in case.split(".")])
for case in cases:
    direct, proxy = seen("direct", case), seen("proxy", case)
    for name in LOOKED_AT:
        if direct.get(name) != proxy.get(name):
            wrong.append(f"DIFFERS {case} {name}: direct {direct.get(name)!r}, proxy {proxy.get(name)!r}")
for agent in ("direct", "proxy"):
    entries = index.get(agent, {})
    verdicts = collections.Counter(entry["behavior"] for entry in entries.values())
    seconds = sum(entry["duration"] for entry in entries.values()) / 1000
    print(f"{agent:7} {len(entries)} cases: " + ", ".join(f"{count} {word}" for word, count in verdicts.most_common()) + f"; {seconds:.1f} s")
print(*wrong[:40], sep="\n")
print(f"websocket: {len(cases)} cases, {len(wrong)} differences")
sys.exit(bool(wrong) or not cases or len(index) != 2)
PYTHON
