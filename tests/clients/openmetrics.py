"""Reads a scrape with the OpenMetrics parser of Prometheus' own client: openmetrics.py URL

The scrape follows traffic through both doors with tracing on.
"""
import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as plain

url = sys.argv[1]


def scrape(accept):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


kind, text = scrape("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
families = {family.name: family for family in text_string_to_metric_families(text)}
for name in ["outrigger_request_duration_seconds", "outrigger_upstream_duration_seconds"]:
    samples = [sample for sample in families[name].samples if sample.exemplar]
    assert samples, f"{name} has no exemplar"
    for sample in samples:
        link = sample.exemplar.labels
        assert len(link["trace_id"]) == 32 and len(link["span_id"]) == 16, link
        assert sample.exemplar.value <= float(sample.labels["le"]) and float(sample.exemplar.timestamp) > 0, sample
counted = {family.name: family for family in plain(scrape("text/plain")[1])}
assert scrape("*/*")[0] == "text/plain; version=0.0.4; charset=utf-8"
missing = {name for name in counted if name not in families}
assert not missing, f"in the text format alone: {missing}"
print(f"ok   {len(families)} families, the same as in the text format, with exemplars\n1 passed, 0 failed")
