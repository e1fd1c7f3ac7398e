"""Who spent what, of an app by others' frameworks: spenders.py INBOUND OUTBOUND ADMIN knows|unknown WAY...

Users ask the app at the inbound door, many at once. The app says what each request has used by its SDKs' figures; the ledger must say
the same, user by user and route by route, to the nano-dollar. With `unknown` the app does not say which request caused a call: the same
sums must stand under `unattributed`, and nobody's name beside `copies`. Then clients try to spend as somebody else.
"""

import http.client
import json
import os
import random
import sys
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from verdicts import check, finish  # noqa: E402

INBOUND, OUTBOUND, ADMIN = (urllib.parse.urlsplit(url) for url in sys.argv[1:4])
KNOWS, WAYS = sys.argv[4] == "knows", sys.argv[5:]
USERS = [f"u-{n}" for n in range(12)]
UNKNOWN = "unattributed"
# Dollars for a million tokens of input and of output.
PRICES = {"gpt-4o-mini": ("0.15", "0.6"), "claude-sonnet-5": ("2", "10")}
# Of a trusted proxy, and of anybody.
TRUSTED, ANYBODY = "127.0.0.1", "127.0.0.2"


def get(place, path, headers=None, source=TRUSTED):
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60, source_address=(source, 0))
    connection.request("GET", path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, f"{path}: {answer.status} {body[:300]}"
    return body


def told():
    return json.loads(get(INBOUND, "/told", {"x-user-id": "nobody"}))


def ledger():
    """Nano-dollars by caller and inbound route."""
    rows = json.loads(get(ADMIN, "/api/usage?from=1h&by=caller,inbound&limit=2000"))["rows"]
    return Counter({(row["caller"], row["inbound"]): int(Decimal(row["cost_usd"]) * 10**9) for row in rows if Decimal(row["cost_usd"])})


def cost(calls):
    nano = Decimal(0)
    for model, input, output in calls:
        nano += sum(Decimal(tokens) * Decimal(rate) * 1000 for tokens, rate in zip((input, output), PRICES[model]))
    assert nano == int(nano), "these prices have no parts of a nano-dollar"
    return int(nano)


def until(due):
    """Waits until the ledger says it: a call is counted a moment after its answer."""
    end = time.monotonic() + 20
    while (found := ledger()) != due() and time.monotonic() < end:
        time.sleep(0.1)
    assert found == due(), f"the ledger has {dict(found - due())} too much and {dict(due() - found)} too little"


before, owners = Counter(), {}


def due():
    """What the ledger must say."""
    sums = Counter()
    for tag, calls in told().items():
        sums[owners[tag]] += cost(calls)
    return sums


def ask(user, way, tag, headers=None, source=TRUSTED):
    get(INBOUND, f"/{way}?tag={tag}", {"x-user-id": user, **(headers or {})}, source)


def crowd():
    """All users at once, in every way."""
    chance = random.Random(15)
    asks = [(user, way, f"{user}.{way}.{n}") for user in USERS for way in WAYS for n in range(chance.randint(1, 3))]
    chance.shuffle(asks)
    for user, way, tag in asks:
        known = KNOWS or way == "copies"
        owners[tag] = (user, f"/{way}") if known else (UNKNOWN, "")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda one: ask(*one), asks))
    end = time.monotonic() + 20
    while len(told()) < len(asks) and time.monotonic() < end:  # some calls come after the answer
        time.sleep(0.1)
    assert len(told()) == len(asks), "a call is missing"
    until(due)


def stolen():
    """The fields by which the proxy knows a request of `u-0`."""
    fields = json.loads(get(INBOUND, "/fields", {"x-user-id": "u-0"}))
    return {name: fields[name] for name in ("baggage", "x-request-id", "traceparent") if name in fields}


def forged(name, headers, way="ask"):
    def test():
        tag = f"forged.{name.replace(' ', '-')}"
        # Not trusted: it is known by its address.
        owners[tag] = (ANYBODY, f"/{way}") if KNOWS or way == "copies" else (UNKNOWN, "")
        ask("u-1", way, tag, headers(), ANYBODY)
        until(due)
    check(f"nobody spends as somebody else: {name}", test)


def outside():
    """Calls of this machine that nobody's request has caused."""
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]})
    for fields in ({"baggage": "outrigger=" + "A" * 43}, {"x-request-id": "0" * 32}, {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}):
        connection = http.client.HTTPConnection(OUTBOUND.hostname, OUTBOUND.port, timeout=30)
        connection.request("POST", "/openai/v1/chat/completions", body, {"content-type": "application/json", **fields})
        answer = connection.getresponse()
        usage = json.loads(answer.read())["usage"]
        connection.close()
        strangers.append(["gpt-4o-mini", usage["prompt_tokens"], usage["completion_tokens"]])
    until(lambda: due() + Counter({(UNKNOWN, ""): cost(strangers)}))


strangers = []
check(f"{len(USERS)} users at once, {', '.join(WAYS)}: the ledger says {'who' if KNOWS else 'that it does not know who'}", crowd)
forged("the name of another user", lambda: {"x-user-id": "u-0"})
forged("the proxy's own header", lambda: {"outrigger-caller": "u-0"})
forged("another request's baggage", lambda: {"baggage": stolen().get("baggage", "")})
forged("another request's baggage behind one's own", lambda: {"baggage": "a=b," + stolen().get("baggage", "")})
forged("another request's id", lambda: {"x-request-id": stolen()["x-request-id"]}, "copies")
forged("another request's trace", lambda: {"traceparent": stolen().get("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")})
check("calls that nobody's request has caused are nobody's", outside)
finish()
