"""WebSockets and batches with the SDKs: what they used is in the proxy's books to the last token, once, and a limit ends a session."""

import json
import os
import urllib.request

from anthropic import Anthropic
from openai import OpenAI
from verdicts import check, finish

OUTBOUND, METRICS = os.environ["OUTBOUND_URL"], os.environ["METRICS_URL"]

def cost(model):
    scrape = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(METRICS, timeout=10).read().decode()
    lines = [line for line in scrape.splitlines() if line.startswith("outrigger_cost_usd_total") and f'model="{model}"' in line]
    return round(sum(float(line.split()[-1]) for line in lines), 9)


def equal(found, due):
    assert found == due, f"{found} instead of {due}"


def openai(provider):
    return OpenAI(api_key="k", base_url=f"{OUTBOUND}/{provider}/v1", max_retries=0)


def responses():
    with openai("sockets").responses.connect() as connection:
        for turn in range(2):
            connection.response.create(model="gpt-4o", input="hi")
            event = next(event for event in connection if event.type == "response.completed")
            equal(event.response.usage.total_tokens, 1500)
            equal(cost("gpt-4o"), (turn + 1) * 0.0075)


def realtime():
    said = []
    try:
        with openai("sockets").realtime.connect(model="gpt-realtime") as connection:
            for _ in range(10):
                connection.response.create()
                said.append(next(event for event in connection if event.type in ("response.done", "error")))
    except Exception as error:
        assert "1008" in str(error) and "small" in str(error), error
    equal([event.type for event in said[:2]], ["response.done", "response.done"])
    equal((said[-1].type, said[-1].error.code), ("error", "insufficient_quota"))


def openai_batch():
    client = openai("batches")
    request = {"method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o-2024-08-06", "max_tokens": 1000, "messages": []}}
    lines = "\n".join(json.dumps({"custom_id": name, **request}) for name in "ab")
    file = client.files.create(file=("b.jsonl", lines.encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status != "completed":
        batch = client.batches.retrieve(batch.id)
    for _ in range(2):
        equal(len(client.files.content(batch.output_file_id).text.splitlines()), 2)
    # Two answers of 1,000 and 500 tokens, at half of 2.5 and 10 dollars a million.
    equal(cost("gpt-4o-2024-08-06"), 0.0075)


def anthropic_batch():
    client = Anthropic(api_key="k", base_url=f"{OUTBOUND}/batches", max_retries=0, default_headers={"x-proxy": OUTBOUND.split("//")[1]})
    params = {"model": "claude-opus-5", "max_tokens": 1000, "messages": [{"role": "user", "content": "hi"}]}
    batch = client.messages.batches.create(requests=[{"custom_id": name, "params": params} for name in "abc"])
    for _ in range(2):
        equal([result.result.type for result in client.messages.batches.results(batch.id)], ["succeeded", "succeeded", "expired"])
    equal(cost("claude-opus-5"), 0.0175)


def unknown_batch():
    try:
        openai("batches").batches.create(input_file_id="file-9", endpoint="/v1/chat/completions", completion_window="24h")
    except Exception as error:
        equal((error.status_code, error.code), (403, "unmetered"))
    else:
        raise AssertionError("it passed")


check("Responses over a WebSocket: charged at once", responses)
check("Realtime: charged, ended with an error event and 1008", realtime)
check("an OpenAI batch: charged once, by its results", openai_batch)
check("an Anthropic batch: charged once, by its results", anthropic_batch)
check("a batch whose file is not known is refused", unknown_batch)
finish()
