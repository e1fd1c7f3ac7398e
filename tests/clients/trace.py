"""One request through both doors is one trace: python trace.py INBOUND_URL DIRECTORY_OF_THE_COLLECTOR

The app behind the inbound door calls a model through the outbound door, under OpenTelemetry's zero-code instrumentation.
A collector writes what it receives as OTLP JSON into the directory. Prints `N passed, N failed`.
"""

import json
import pathlib
import sys
import time
import urllib.request

INBOUND, DIRECTORY = sys.argv[1], pathlib.Path(sys.argv[2])
SERVER, CLIENT = 2, 3  # span kinds of OTLP
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KINDS = {"SPAN_KIND_SERVER": SERVER, "SPAN_KIND_CLIENT": CLIENT}

passed = failed = 0


def check(name, fine, seen):
    global passed, failed
    passed, failed = passed + bool(fine), failed + (not fine)
    print(f"ok   {name}" if fine else f"FAIL {name}: {seen!r:.1500}", flush=True)


def attributes(item):
    return {one["key"]: next(iter(one["value"].values()), None) for one in item.get("attributes", [])}


def documents():
    for file in sorted(path for path in DIRECTORY.rglob("*") if path.is_file()):
        for line in file.read_text(errors="replace").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                pass  # the last line may still be written


def received():
    """Every span as (service, span, attributes)."""
    for document in documents():
        for resource in document.get("resourceSpans", []):
            service = attributes(resource.get("resource", {})).get("service.name")
            for scope in resource.get("scopeSpans", []):
                for span in scope.get("spans", []):
                    yield service, span | {"kind": KINDS.get(span.get("kind"), span.get("kind"))}, attributes(span)


def ask(headers):
    request = urllib.request.Request(INBOUND + "/ask?q=one+trace", headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return json.load(answer)


def spans_of(trace, service, enough):
    end = time.monotonic() + 20
    while True:
        found = [(name, span, more) for name, span, more in received() if span["traceId"] == trace]
        if sum(name == service for name, _, _ in found) >= enough or time.monotonic() > end:
            return found
        time.sleep(0.2)


def main():
    check("the app answers through both doors", ask({"traceparent": f"00-{TRACE}-{PARENT}-01"})["said"], "nothing")
    spans = spans_of(TRACE, "sidecar", 4)
    seen = [(name, span["name"], span["kind"], span["spanId"], span.get("parentSpanId")) for name, span, _ in spans]
    ours = [(span, more) for name, span, more in spans if name == "sidecar"]
    apps = [(span, more) for name, span, more in spans if name == "app"]
    check("spans of the sidecar and of the app came, all in the client's trace", ours and apps, sorted({name for name, _, _ in received()}))

    inbound = [(s, m) for s, m in ours if s["kind"] == SERVER and s.get("parentSpanId") == PARENT]
    check("inbound: one server span below the client's span", len(inbound) == 1, seen)
    chain, tops = inbound[:1], ["inbound server"]
    for what, pool, kind in [("inbound try", ours, CLIENT), ("app server", apps, SERVER), ("app client", apps, CLIENT),
                             ("outbound server", ours, SERVER), ("provider try", ours, CLIENT)]:
        below = [(s, m) for s, m in pool if chain and s.get("parentSpanId") == chain[-1][0]["spanId"] and s["kind"] == kind]
        check(f"{what}: one span below the {tops[-1]} span", len(below) == 1, seen)
        chain, tops = chain + below[:1], tops + [what]
    model = {}
    for span, more in ours:
        model |= {name: value for name, value in more.items() if name.startswith("gen_ai.")}
    for name, wanted in [("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "openai"), ("gen_ai.request.model", "gpt-4o-mini")]:
        check(f"{name} is {wanted}", model.get(name) == wanted, model)
    for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
        check(f"{name} is a number above 0", int(model.get(name) or 0) > 0, model)
    secrets = [value for _, _, more in spans for value in more.values() if "sk-test" in str(value)]
    check("no credential is in a span", not secrets, secrets)
    metrics = {metric["name"] for document in documents() for resource in document.get("resourceMetrics", [])
               for scope in resource.get("scopeMetrics", []) for metric in scope.get("metrics", [])}
    print(f"     metrics so far: {len(metrics)}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
