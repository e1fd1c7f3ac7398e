"""What the Python client tests share: one line for every check, the mock's controls, and "the same through the proxy and direct".

DIRECT_URL is `outrigger mock` itself. A test ends with `finish()`: `N passed, N failed`, and 1 if one failed.
"""

import json
import os
import time
import urllib.request
import uuid
import warnings

import verdicts
from verdicts import check, finish  # noqa: F401, the tests take them from here

DIRECT = os.environ["DIRECT_URL"].rstrip("/")
CACHED = os.environ.get("CACHED") == "1"
warnings.simplefilter("ignore", DeprecationWarning)  # of models; the mock answers to every name


def fetch(url, data=None, method="GET"):
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.read().decode()


def control(method, path, body=None):
    return json.loads(fetch(DIRECT + path, None if body is None else json.dumps(body).encode(), method))


verdicts.before = lambda: control("POST", "/mock/reset")


def books():
    return control("GET", "/mock/books")


def script(*faults):
    """The faults of the next calls, and nothing left of what was."""
    control("POST", "/mock/reset")
    control("POST", "/mock/script", list(faults))


def calls():
    """How many requests the mock has seen."""
    return books()["requests"]


def same(proxied, direct, what):
    assert proxied == direct, f"{what}: through the proxy {proxied!r}, direct {direct!r}"


def equal(found, wanted, what):
    assert found == wanted, f"{what}: {found!r} in place of {wanted!r}"


def both(run, clients, what="result"):
    """The same through the proxy and direct; returns what came."""
    proxied, direct = (run(client) for client in clients)
    same(proxied, direct, what)
    return proxied


def fresh():
    """A prompt that no cache has seen."""
    return f"Question {uuid.uuid4()}"


def user(text):
    return [{"role": "user", "content": text}]


def fault(text):
    return {"x-mock-fault": text}


def eventually(what, test, seconds=3.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def one_by_one(at):
    """20 pieces at 50 a second come at 20 instants; on a busy machine at fewer, of a buffered stream at one or two."""
    instants = 1 + sum(later - earlier > 0.005 for earlier, later in zip(at, at[1:]))
    assert instants >= 5, f"pieces came at {instants} instants: not one by one"
    assert max(b - a for a, b in zip(at, at[1:])) < 0.2, "pieces came in lumps"


# Fields of one hop, which the proxy may add or change.
HOP = {"host", "connection", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id", "traceparent",
       "tracestate"}


def as_sent(ask, clients):
    """The request at the provider is the same through the proxy, but for the hop itself."""
    codings = []

    def run(client):
        script()
        ask(client)
        request = control("GET", "/mock/requests")[0]
        fields = sorted((name, value) for name, value in request["headers"] if name not in HOP)
        codings.append({coding.strip() for name, value in fields if name == "accept-encoding" for coding in value.split(",")})
        return [field for field in fields if field[0] != "accept-encoding"], request["body"], request["path"]
    fields, _, _ = both(run, clients, "request at the provider")
    # Usage is read on the side, so codings are narrowed to those that can be; none is added.
    assert codings[0] <= codings[1], codings
    assert not any(name.startswith("outrigger") or "outrigger" in value for name, value in fields), fields


def left_early(start, clients):
    """Leaving in the middle of a stream releases the provider; `start` gives what streams, and what ends it."""
    for client in clients:
        script()
        stream, leave = start(client)
        for number, _ in enumerate(stream):
            if number == 3:
                break
        equal(books()["in_flight"], 1, "answers under way")
        leave()
        eventually("the provider still answers a client that left", lambda: books()["in_flight"] == 0)
        line = books()
        assert line["abandoned"] == 1 and line["total"]["output"] < 200, line
