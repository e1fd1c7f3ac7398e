"""The Python SDKs where policies are named: the proxy retries for them, and refuses in the provider's own words.

run.py starts it with the environment of sdk.py, in front of a proxy with `retry` on every route and limits for the model
`limited` (2 chat calls or 60 tokens of messages a minute for a key). Prints `N passed, N failed`.
"""

import sys
import time

import anthropic
import openai

import sdk
from sdk import ANTHROPIC, CLAUDE, GPT, OPENAI, books, check, control, fault, fresh, same, user

once = openai.OpenAI(base_url=OPENAI, api_key="sk-test-one", max_retries=0)
claude = anthropic.Anthropic(base_url=ANTHROPIC, api_key="sk-ant-test", max_retries=0)


def chat(client=once, model=GPT, **more):
    return client.chat.completions.create(model=model, messages=user(fresh()), **more)


def retried():
    control("POST", "/mock/script", ["503;retry-after-ms=20", "503;retry-after-ms=20"])
    assert chat().choices[0].message.content
    same(books()["requests"], 3, "calls")


def retried_messages():
    control("POST", "/mock/script", ["529;retry-after-ms=20", "reset"])
    assert claude.messages.create(model=CLAUDE, max_tokens=20, messages=user(fresh())).content[0].text
    same(books()["requests"], 3, "calls")


def waited():
    control("POST", "/mock/script", ["429;retry-after=1"])
    begun = time.monotonic()
    chat()
    assert 0.95 < time.monotonic() - begun < 3, f"Retry-After: 1 was waited for {time.monotonic() - begun:.2f} s"


def retried_stream():
    """Before its first byte a stream is retried like anything else."""
    control("POST", "/mock/script", ["reset", "500;retry-after-ms=20"])
    stream = once.chat.completions.create(model=GPT, messages=user(fresh()), stream=True)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in stream) > 5
    same(books()["requests"], 3, "calls")


def not_after_the_first_byte():
    """A stream that has begun is never spliced from two answers."""
    stream = once.chat.completions.create(model=GPT, messages=user(fresh()), stream=True, extra_headers=fault("cut-after=4"))
    try:
        list(stream)
    except Exception:
        same(books()["requests"], 1, "calls")
        return
    raise AssertionError("a broken stream ended as if it were whole")


def given_up():
    """The last error is the provider's own, and the SDK is told not to start over."""
    control("POST", "/mock/script", ["503;retry-after-ms=20"] * 9)
    try:
        chat(openai.OpenAI(base_url=OPENAI, api_key="sk-test-one"))
    except openai.InternalServerError as error:
        same(error.status_code, 503, "status")
        same(error.response.headers.get("x-should-retry"), "false", "x-should-retry")
        same(books()["requests"], 3, "calls: one and two retries of the proxy, none of the SDK")
        return
    raise AssertionError("no error")


def not_retried():
    for script, error in [("400", openai.BadRequestError), ("quota", openai.RateLimitError)]:
        control("POST", "/mock/reset")
        control("POST", "/mock/script", [script] * 3)
        try:
            chat()
        except error:
            same(books()["requests"], 1, f"calls after {script}")
        else:
            raise AssertionError(f"{script}: no error")


def limited():
    client = openai.OpenAI(base_url=OPENAI, api_key=f"sk-{fresh()[-12:]}")
    chat(client, "limited")
    chat(client, "limited")
    try:
        chat(client, "limited")
    except openai.RateLimitError as error:
        headers = error.response.headers
        same(error.status_code, 429, "status")
        assert isinstance(error.body, dict) and error.body.get("message") and error.body.get("code") == "rate_limit_exceeded", error.body
        assert 1 <= int(headers["retry-after"]) <= 62, headers["retry-after"]
        same(headers.get("x-should-retry"), "false", "x-should-retry")
        assert "ratelimit" in headers, dict(headers)
        assert headers.get("x-ratelimit-remaining-requests") == "0", dict(headers)
        print("     it says:", error.body["message"])
    else:
        raise AssertionError("a third call in the window was admitted")
    same(books()["requests"], 2, "calls at the provider (the SDK was told not to retry)")
    chat(client.with_options(api_key=f"sk-{fresh()[-12:]}"), "limited")
    same(books()["requests"], 3, "calls: another key counts apart")
    chat(client, GPT)


def limited_messages():
    client = anthropic.Anthropic(base_url=ANTHROPIC, api_key=f"sk-ant-{fresh()[-12:]}")

    def ask():
        return client.messages.create(model="limited", max_tokens=30, messages=user("Hi"))
    ask()
    try:
        for _ in range(5):
            ask()
    except anthropic.RateLimitError as error:
        same(error.body.get("type"), "error", "the error's shape")
        same(error.body["error"]["type"], "rate_limit_error", "error type")
        assert int(error.response.headers["retry-after"]) >= 1
        assert books()["requests"] <= 3, books()
        print("     it says:", error.body["error"]["message"])
        return
    raise AssertionError("60 tokens a minute were never spent")


if __name__ == "__main__":
    check("retry: 503, 503, 200 is an answer", retried)
    check("retry: 529, reset, 200 is an answer", retried_messages)
    check("retry: Retry-After is waited for", waited)
    check("retry: a stream before its first byte", retried_stream)
    check("retry: not a stream that has begun", not_after_the_first_byte)
    check("retry: what stays broken is the provider's error, once", given_up)
    check("retry: not a bad request, not a spent quota", not_retried)
    check("limits: the third of two calls is RateLimitError", limited)
    check("limits: tokens of messages are RateLimitError", limited_messages)
    print(f"{sdk.passed} passed, {sdk.failed} failed")
    sys.exit(1 if sdk.failed else 0)
