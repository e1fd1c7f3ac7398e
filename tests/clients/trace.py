"""One request through both doors is one trace: python trace.py INBOUND_URL PORT

The app behind the inbound door calls a model through the outbound door, under OpenTelemetry's zero-code instrumentation.
A collector between hands what it received on to this port. Prints `N passed, N failed`.
"""

import gzip
import http.server
import json
import sys
import threading
import time
import urllib.request

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

INBOUND, PORT = sys.argv[1], int(sys.argv[2])
SERVER, CLIENT = 2, 3  # span kinds of OTLP
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

passed = failed = 0


def check(name, fine, seen):
    global passed, failed
    passed, failed = passed + bool(fine), failed + (not fine)
    print(f"ok   {name}" if fine else f"FAIL {name}: {seen!r:.1500}", flush=True)


spans, metrics, lines = [], set(), []


def attributes(item):
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in item.attributes}


class Receiver(http.server.BaseHTTPRequestHandler):
    """What the collector hands on: every span as (service, span, attributes), the names of metrics, and lines of logs."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = attributes(resource.resource).get("service.name")
                spans.extend((service, span, attributes(span)) for scope in resource.scope_spans for span in scope.spans)
        elif self.path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                metrics.update(metric.name for scope in resource.scope_metrics for metric in scope.metrics)
        elif self.path == "/v1/logs":
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                lines.extend((record, attributes(record)) for scope in resource.scope_logs for record in scope.log_records)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def ask(headers):
    request = urllib.request.Request(INBOUND + "/ask?q=one+trace", headers=headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
        return json.load(answer)


def spans_of(trace, enough):
    """The trace's spans, once `enough` of each service have come; what came within 20 s otherwise."""
    end = time.monotonic() + 20
    while True:
        found = [one for one in list(spans) if one[1].trace_id.hex() == trace]
        counts = [sum(service == name for service, _, _ in found) for name in enough]
        if all(count >= wanted for count, wanted in zip(counts, enough.values())) or time.monotonic() > end:
            return found
        time.sleep(0.1)


def main():
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    check("the app answers through both doors", ask({"traceparent": f"00-{TRACE}-{PARENT}-01"})["said"], "nothing")
    found = spans_of(TRACE, {"sidecar": 4, "app": 2})
    seen = [(service, span.name, span.kind, span.span_id.hex(), span.parent_span_id.hex()) for service, span, _ in found]
    ours = [(span, more) for service, span, more in found if service == "sidecar"]
    apps = [(span, more) for service, span, more in found if service == "app"]
    check("spans of the sidecar and of the app came, all in the client's trace", ours and apps, sorted({str(one[0]) for one in spans}))

    parent, above = PARENT, "client's"
    for what, pool, kind in [("inbound", ours, SERVER), ("try of the app", ours, CLIENT), ("app's server", apps, SERVER),
                             ("app's client", apps, CLIENT), ("outbound", ours, SERVER), ("try of the provider", ours, CLIENT)]:
        below = [span for span, _ in pool if span.parent_span_id.hex() == parent and span.kind == kind]
        check(f"{what} span: one, below the {above} span", len(below) == 1, seen)
        parent, above = below[0].span_id.hex() if below else "none", what
    model = {}
    for _, more in ours:
        model |= {name: value for name, value in more.items() if name.startswith("gen_ai.")}
    for name, wanted in [("gen_ai.operation.name", "chat"), ("gen_ai.provider.name", "openai"), ("gen_ai.request.model", "gpt-4o-mini")]:
        check(f"{name} is {wanted}", model.get(name) == wanted, model)
    for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
        check(f"{name} is a number above 0", int(model.get(name) or 0) > 0, model)
    end = time.monotonic() + 20
    while sum(record.trace_id.hex() == TRACE for record, _ in list(lines)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    logged = {(record.trace_id.hex(), record.span_id.hex()): more for record, more in list(lines) if record.trace_id}
    doors = [logged.get((TRACE, span.span_id.hex()), {}).get("outrigger.door") for span, _ in ours if span.kind == SERVER]
    check("the line of each exchange names its span", sorted(map(str, doors)) == ["inbound", "outbound"], (doors, sorted(logged)))
    secrets = [value for _, _, more in found for value in more.values() if "sk-test" in str(value)]
    check("no credential is in a span", not secrets, secrets)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
