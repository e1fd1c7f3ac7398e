"""The Python SDKs where policies are named: the proxy retries for them, and refuses in the provider's own words.

run.py starts it with the environment of sdk.py and gemini.py, in front of a proxy with `retry` on every route and limits for
the model `limited` (2 chat calls or 60 tokens of messages a minute for a key). Prints `N passed, N failed`.
"""

import time

import anthropic
import openai
from google import genai
from google.genai import errors, types

from checks import calls, check, equal, fault, finish, fresh, script, user

GPT, CLAUDE, MODEL = "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash"

# The base URLs come from the environment.
once = openai.OpenAI(api_key="sk-test-one", max_retries=0)
claude = anthropic.Anthropic(api_key="sk-ant-test", max_retries=0)
gemini = genai.Client(api_key="test-key")


def chat(client=once, model=GPT, **more):
    return client.chat.completions.create(model=model, messages=user(fresh()), **more)


def ask_gemini(client=gemini, model=MODEL, **more):
    return client.models.generate_content(model=model, contents=fresh(), config=types.GenerateContentConfig(**more))


def retried():
    script("503;retry-after-ms=20", "503;retry-after-ms=20")
    assert chat().choices[0].message.content
    equal(calls(), 3, "calls")


def retried_messages():
    script("529;retry-after-ms=20", "reset")
    assert claude.messages.create(model=CLAUDE, max_tokens=20, messages=user(fresh())).content[0].text
    equal(calls(), 3, "calls")


def waited():
    script("429;retry-after=1")
    begun = time.monotonic()
    chat()
    assert 0.95 < time.monotonic() - begun < 3, f"Retry-After: 1 was waited for {time.monotonic() - begun:.2f} s"


def retried_stream():
    """Before its first byte a stream is retried like anything else."""
    script("reset", "500;retry-after-ms=20")
    stream = once.chat.completions.create(model=GPT, messages=user(fresh()), stream=True)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in stream) > 5
    equal(calls(), 3, "calls")


def not_after_the_first_byte():
    """A stream that has begun is never spliced from two answers."""
    stream = once.chat.completions.create(model=GPT, messages=user(fresh()), stream=True, extra_headers=fault("cut-after=4"))
    try:
        list(stream)
    except Exception:
        equal(calls(), 1, "calls")
        return
    raise AssertionError("a broken stream ended as if it were whole")


def given_up():
    """The last error is the provider's own, and the SDK is told not to start over."""
    script(*["503;retry-after-ms=20"] * 9)
    try:
        chat(openai.OpenAI(api_key="sk-test-one"))
    except openai.InternalServerError as error:
        equal(error.status_code, 503, "status")
        equal(error.response.headers.get("x-should-retry"), "false", "x-should-retry")
        equal(calls(), 3, "calls: one and two retries of the proxy, none of the SDK")
        return
    raise AssertionError("no error")


def the_next_call():
    """A call that was given up takes nothing from the next one."""
    script(*["503;retry-after-ms=20"] * 3)
    try:
        chat()
    except openai.InternalServerError:
        script(*["503;retry-after-ms=20"] * 2)
        assert chat().choices
        equal(calls(), 3, "calls")
        return
    raise AssertionError("no error")


def observed():
    """A policy that only observes leaves the SDK's own retries alone."""
    script(*["503;retry-after-ms=20"] * 9)
    try:
        chat(openai.OpenAI(api_key="sk-test-one"), "observed")
    except openai.InternalServerError as error:
        equal(error.response.headers.get("x-should-retry"), None, "x-should-retry")
        equal(calls(), 3, "calls: one and two retries of the SDK")
        return
    raise AssertionError("no error")


def not_retried():
    for text, error in [("400", openai.BadRequestError), ("quota", openai.RateLimitError)]:
        script(*[text] * 3)
        try:
            chat()
        except error:
            equal(calls(), 1, f"calls after {text}")
        else:
            raise AssertionError(f"{text}: no error")


def limited():
    client = openai.OpenAI(api_key=f"sk-{fresh()[-12:]}")
    chat(client, "limited")
    chat(client, "limited")
    try:
        chat(client, "limited")
    except openai.RateLimitError as error:
        headers = error.response.headers
        equal(error.status_code, 429, "status")
        assert isinstance(error.body, dict) and error.body.get("message") and error.body.get("code") == "rate_limit_exceeded", error.body
        assert 1 <= int(headers["retry-after"]) <= 62, headers["retry-after"]
        equal(headers.get("x-should-retry"), "false", "x-should-retry")
        assert "ratelimit" in headers, dict(headers)
        assert headers.get("x-ratelimit-remaining-requests") == "0", dict(headers)
        print("     it says:", error.body["message"])
    else:
        raise AssertionError("a third call in the window was admitted")
    equal(calls(), 2, "calls at the provider (the SDK was told not to retry)")
    chat(client.with_options(api_key=f"sk-{fresh()[-12:]}"), "limited")
    equal(calls(), 3, "calls: another key counts apart")
    chat(client, GPT)


def limited_messages():
    client = anthropic.Anthropic(api_key=f"sk-ant-{fresh()[-12:]}")

    def ask():
        return client.messages.create(model="limited", max_tokens=30, messages=user("Hi"))
    ask()
    try:
        for _ in range(5):
            ask()
    except anthropic.RateLimitError as error:
        equal(error.body.get("type"), "error", "the error's shape")
        equal(error.body["error"]["type"], "rate_limit_error", "error type")
        assert int(error.response.headers["retry-after"]) >= 1
        assert calls() <= 3, calls()
        print("     it says:", error.body["error"]["message"])
        return
    raise AssertionError("60 tokens a minute were never spent")


def gemini_retried():
    for fault_of in ("503", "500", "reset"):
        script(fault_of, fault_of)
        assert ask_gemini().text
        equal(calls(), 3, f"calls where {fault_of} comes twice")


def gemini_waited():
    """Its API says the time in the body (RetryInfo)."""
    script("429;retry-after=1")
    begun = time.monotonic()
    ask_gemini()
    assert 0.95 < time.monotonic() - begun < 3, f"a retryDelay of 1 s was waited for {time.monotonic() - begun:.2f} s"


def gemini_stream():
    script("reset", "500")
    texts = [chunk.text for chunk in gemini.models.generate_content_stream(model=MODEL, contents=fresh())]
    assert len(texts) > 5, texts
    equal(calls(), 3, "calls")


def gemini_given_up():
    script(*["503"] * 9)
    try:
        ask_gemini()
    except errors.ServerError as error:
        equal((error.code, error.status, calls()), (503, "UNAVAILABLE", 3), "code, status and calls")
        return
    raise AssertionError("no error")


def gemini_limited():
    client = genai.Client(api_key=fresh())
    ask_gemini(client, "limited")
    ask_gemini(client, "limited")
    try:
        ask_gemini(client, "limited")
    except errors.ClientError as error:
        equal((error.code, error.status), (429, "RESOURCE_EXHAUSTED"), "code and status")
        kinds = {detail["@type"].rpartition(".")[2]: detail for detail in error.details["error"]["details"]}
        assert 1 <= int(kinds["RetryInfo"]["retryDelay"].removesuffix("s")) <= 62, kinds
        print("     it says:", error.message)
    else:
        raise AssertionError("a third call in the window was admitted")
    equal(calls(), 2, "calls")


if __name__ == "__main__":
    check("retry: 503, 503, 200 is an answer", retried)
    check("retry: 529, reset, 200 is an answer", retried_messages)
    check("retry: Retry-After is waited for", waited)
    check("retry: a stream before its first byte", retried_stream)
    check("retry: not a stream that has begun", not_after_the_first_byte)
    check("retry: what stays broken is the provider's error, once", given_up)
    check("retry: the call after one that was given up has all its tries", the_next_call)
    check("retry: mode: observe leaves the SDK's retries alone", observed)
    check("retry: not a bad request, not a spent quota", not_retried)
    check("retry: gemini, two failures and an answer", gemini_retried)
    check("retry: gemini, RetryInfo is waited for", gemini_waited)
    check("retry: gemini, a stream before its first byte", gemini_stream)
    check("retry: gemini, what stays broken is the provider's error", gemini_given_up)
    check("limits: the third of two calls is RateLimitError", limited)
    check("limits: tokens of messages are RateLimitError", limited_messages)
    check("limits: gemini, the third of two calls is RESOURCE_EXHAUSTED", gemini_limited)
    finish()
