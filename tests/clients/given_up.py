"""One failing call of an SDK behind `retry` costs the tries that are configured, and not a multiple of them.

run.py starts it in front of part_given_up's proxy: three tries of everything; the providers `closed-*` refuse connections; the
model `late` has 250 ms for all tries, `rests` a static 503 after them, `cannot` a retry policy that does not cover a 500, an upload
one that keeps no body of its size; `breaking` has a breaker that opens at two failures, `unretried` the same without `retry`.
Prints `N passed, N failed`.
"""

import os
import re
import time

import anthropic
import openai
from google import genai
from google.genai import errors, types

from checks import calls, check, control, equal, fetch, finish, fresh, script, user

# The providers that refuse connections.
CLOSED = {"openai": os.environ["OPENAI_BASE_URL"].replace("/openai/", "/closed-openai/"),
          "anthropic": os.environ["ANTHROPIC_BASE_URL"].replace("/anthropic", "/closed-anthropic")}


class OpenAi:
    name, errors = "openai", openai

    def client(self, **more):
        return openai.OpenAI(api_key="sk-test", **more)

    def ask(self, client, model="gpt-4o-mini", stream=False):
        return client.chat.completions.create(model=model, messages=user(fresh()), stream=stream)


class Upload(OpenAi):
    def ask(self, client, **_):
        return client.files.create(purpose="batch", file=("calls.jsonl", bytes(8192)))


class Anthropic:
    name, errors = "anthropic", anthropic

    def client(self, **more):
        return anthropic.Anthropic(api_key="sk-ant-test", **more)

    def ask(self, client, model="claude-sonnet-4-5", stream=False):
        return client.messages.create(model=model, max_tokens=20, messages=user(fresh()), stream=stream)


def tries(target):
    """What the proxy says it sent there."""
    found = re.findall(r'^outrigger_tries_total\{[^}]*target="%s"[^}]*\} (\d+)' % target, fetch(os.environ["METRICS_URL"]), re.MULTILINE)
    return sum(map(int, found))


def given_up(sdk, client, **how):
    """Asks, and returns the error and how long it took."""
    begun = time.monotonic()
    try:
        sdk.ask(client, **how)
    except sdk.errors.APIStatusError as error:
        return error, time.monotonic() - begun
    raise AssertionError("no error")


def final(error, status):
    equal(error.status_code, status, "status")
    equal(error.response.headers.get("x-should-retry"), "false", "x-should-retry")


def refused(sdk, stream=False):
    target = f"closed-{sdk.name}"
    before = tries(target)
    error, _ = given_up(sdk, sdk.client(base_url=CLOSED[sdk.name]), stream=stream)
    equal(tries(target) - before, 3, "tries")
    final(error, 502)


def broken(sdk, fault, status):
    script(*[fault] * 12)
    error, _ = given_up(sdk, sdk.client())
    equal(calls(), 3, "calls")
    final(error, status)


def rests(sdk):
    """The last word is ours, from the configuration."""
    script(*["503;retry-after-ms=20"] * 12)
    error, _ = given_up(sdk, sdk.client(), model="rests")
    equal(calls(), 3, "calls")
    final(error, 503)


def late(sdk):
    """The last try is cut off by the end of all of them."""
    script(*["hang"] * 12)
    error, took = given_up(sdk, sdk.client(), model="late")
    seen = calls()
    assert 2 <= seen <= 3 and took < 0.7, f"{seen} calls in {took:.1f} s"
    final(error, 504)


def breaker(sdk):
    """The policy ran, and the breaker ended it."""
    script(*["503;retry-after-ms=20"] * 12)
    error, took = given_up(sdk, sdk.client(), model="breaking")
    equal(calls(), 2, "calls")
    assert took < 1, f"the SDK waited for {took:.1f} s"
    final(error, 503)


def breaker_alone(sdk):
    """No policy of ours retries, so the SDK does, after its own waits: half a second and one."""
    script(*["503"] * 12)
    for _ in range(2):
        given_up(sdk, sdk.client(max_retries=0), model="unretried")
    error, took = given_up(sdk, sdk.client(), model="unretried")
    assert took < 2.5, f"the SDK slept {took:.1f} s before it gave up"
    equal((error.status_code, calls()), (503, 2), "status and calls")


def left_alone(sdk, **how):
    """A policy that cannot retry says nothing: the SDK does what it does direct."""
    script(*["500;retry-after-ms=20"] * 12)
    error, _ = given_up(sdk, sdk.client(), **how)
    equal((calls(), error.response.headers.get("x-should-retry")), (3, None), "calls, and x-should-retry")
    counts = [dict(request["headers"])["x-stainless-retry-count"] for request in control("GET", "/mock/requests")]
    equal(counts, ["0", "1", "2"], "the SDK's retries")


def ignored():
    """A client that knows nothing of x-should-retry gets one try for each time it repeats what was just given up."""
    retries = types.HttpRetryOptions(attempts=3, initial_delay=0.02, jitter=0)
    client = genai.Client(api_key="test-key", http_options=types.HttpOptions(retry_options=retries))
    script(*["503"] * 12)
    try:
        client.models.generate_content(model="gemini-2.5-flash", contents=fresh())
    except errors.ServerError:
        seen = calls()
        assert seen <= 5, f"{seen} calls: three tries, and one for each of two repetitions"
        return
    raise AssertionError("no error")


if __name__ == "__main__":
    for sdk in (OpenAi(), Anthropic()):
        check(f"{sdk.name}: a provider that is down costs three tries", lambda: refused(sdk))
        check(f"{sdk.name}: a stream from a provider that is down costs three tries", lambda: refused(sdk, stream=True))
        check(f"{sdk.name}: a provider that resets costs three tries", lambda: broken(sdk, "reset", 502))
        check(f"{sdk.name}: a provider that says nothing costs three tries", lambda: broken(sdk, "hang", 504))
        check(f"{sdk.name}: a static answer after three tries ends the call", lambda: rests(sdk))
        check(f"{sdk.name}: tries that take longer than `total` cost no more of them", lambda: late(sdk))
        check(f"{sdk.name}: a breaker that opens ends the call", lambda: breaker(sdk))
        check(f"{sdk.name}: an open breaker does not make the SDK sleep longer", lambda: breaker_alone(sdk))
        check(f"{sdk.name}: a status that is not retried is the SDK's to retry", lambda: left_alone(sdk, model="cannot"))
    check("openai: a body that is not kept is the SDK's to send again", lambda: left_alone(Upload()))
    check("gemini: retries of its own on top cost one try each", ignored)
    finish()
