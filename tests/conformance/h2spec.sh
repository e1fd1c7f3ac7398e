#!/usr/bin/env bash
# HTTP/2 conformance of the inbound door: tests/conformance/h2spec.sh H2SPEC [--tls] [BINARY]
#
# What it proves: every case of the public suite h2spec (github.com/summerwind/h2spec) in its strict mode passes against the
# proxy, in clear text with prior knowledge or, with --tls, over TLS with ALPN, save those that `EXPECTED` below names with
# a reason. A named case that passes is an error too, so that the list stays true.
#
# H2SPEC (or $H2SPEC) is the suite's program; nothing is fetched, and without it this says so and ends well, except where
# CI is set. BINARY is the proxy, by default target/release/outrigger, else target/debug/outrigger. It needs Python 3, and
# openssl for --tls. Takes a few seconds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(realpath "$here/../..")

# Where (clear or tls), section/number of a case, and why it does not pass there.
EXPECTED=(
    "clear http2/3.5/2 The port speaks HTTP/1.1 too: what does not begin with the preface is read as that, answered with 400 and closed."
)

tls= words=()
for word in "$@"; do
    if [ "$word" = --tls ]; then tls=1; else words+=("$word"); fi
done
plain=1
[ -z "$tls" ] || plain=
h2spec=${words[0]:-${H2SPEC:-}}
binary=${words[1]:-}
for built in "$root"/target/{release,debug}/outrigger; do
    if [ -z "$binary" ] && [ -x "$built" ]; then binary=$built; fi
done
if [ -z "$h2spec" ] || ! [ -x "$h2spec" ]; then
    printf '\n*** SKIPPED: no h2spec at `%s`; give its path as the argument or in H2SPEC ***\n\n' "$h2spec" >&2
    [ -z "${CI:-}" ] || exit 1
    exit 0
fi
[ -x "$binary" ] || { echo "h2spec: no proxy to test; build it or name it" >&2; exit 1; }

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

mkfifo "$work/origin.in"
python3 "$root/benches/lab.py" origin < "$work/origin.in" > "$work/origin.out" 2> "$work/origin.log" &
pids+=($!)
exec 9> "$work/origin.in" # open as long as the origin shall live
read -r inbound probes < <(cd "$root/benches" && python3 -B -c 'import lab; print(*lab.free_ports(2))')
for _ in $(seq 100); do [ -s "$work/origin.out" ] && break; sleep 0.1; done
terms=
if [ -n "$tls" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/cert.pem" 2> "$work/openssl.log"
    terms="tls: {cert: $work/cert.pem, key: $work/key.pem}"
fi
cat > "$work/proxy.yaml" << YAML
inbound:
  listen: 127.0.0.1:$inbound
  app: http://127.0.0.1:$(cat "$work/origin.out")
  $terms
admin: {listen: "off", probes: 127.0.0.1:$probes, socket: $work/admin.sock}
telemetry: {log: "off"}
shutdown: {drain_delay: 0s, deadline: 2s}
YAML
"$binary" run --config "$work/proxy.yaml" > "$work/proxy.log" 2>&1 < /dev/null 9>&- &
pids+=($!)
for _ in $(seq 100); do
    if "$binary" health --probes "127.0.0.1:$probes" > /dev/null 2>&1; then up=1; break; fi
    sleep 0.1
done
if [ -z "${up:-}" ]; then
    echo "h2spec: the origin or the proxy did not start" >&2
    tail -n 20 "$work/origin.log" "$work/proxy.log" >&2
    exit 1
fi

"$h2spec" --version
echo "against $("$binary" --version), ${tls:+TLS}${plain:+clear text}"
# It ends badly for any failure; which of them count is said below.
timeout 300 "$h2spec" --strict --host 127.0.0.1 --port "$inbound" --timeout 3 ${tls:+--tls --insecure} \
    --junit-report "$work/report.xml" > "$work/report.txt" 2>&1 || true
[ -s "$work/report.xml" ] || { cat "$work/report.txt"; echo "h2spec: it did not finish" >&2; exit 1; }
printf '%s\n' ${EXPECTED[@]+"${EXPECTED[@]}"} > "$work/expected"
python3 - "$work" "${tls:+tls}${plain:+clear}" << 'PYTHON'
import os, sys, xml.etree.ElementTree as xml

work = sys.argv[1]
with open(os.path.join(work, "expected"), encoding="utf-8") as file:
    named = [line.strip().split(None, 2) for line in file if line.strip()]
expected = {case: why for where, case, why in named if where == sys.argv[2]}
passed, skipped, wrong = 0, 0, []
for suite in xml.parse(os.path.join(work, "report.xml")).getroot().iter("testsuite"):
    for number, case in enumerate(suite.iter("testcase"), 1):
        name = f"{case.get('package')}/{number}"
        flaw = case.find("failure") if case.find("failure") is not None else case.find("error")
        if flaw is None:
            skipped += case.find("skipped") is not None
            passed += case.find("skipped") is None
            if name in expected:
                wrong.append(f"passes, but is listed: {name}")
        elif name in expected:
            print(f"expected  {name} {case.get('classname')}: {expected[name]}")
        else:
            said = " ".join("".join(flaw.itertext()).split())
            wrong.append(f"FAILED    {name} {case.get('classname')}: {said}")
print(*wrong, sep="\n")
print(f"h2spec: {passed} passed, {skipped} skipped, {len(expected)} listed with a reason, {len(wrong)} wrong")
sys.exit(bool(wrong) or passed < 100)
PYTHON
