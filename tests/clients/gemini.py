"""Google's Python SDK (google-genai) through the outbound door, against `outrigger mock`.

Started like sdk.py, with GOOGLE_GEMINI_BASE_URL for the proxy. Prints a line for every check, then `N passed, N failed`.
"""

import asyncio
import os
import time

from google import genai
from google.genai import errors, types

from checks import (CACHED, DIRECT, as_sent, books, both, calls, check, control, equal, eventually, fault, finish, fresh, left_early, one_by_one,
                    script)

GEMINI = os.environ["GOOGLE_GEMINI_BASE_URL"]
MODEL = "gemini-2.5-flash"
# Quick and without jitter, so that both sides wait the same.
RETRIES = types.HttpRetryOptions(attempts=3, initial_delay=0.1, exp_base=2, jitter=0)


def both_ways(**more):
    """The SDK twice: [0] through the proxy, [1] straight."""
    options = {"api_key": "test-key"} | more
    retry = options.pop("retry_options", None)
    return [genai.Client(http_options=types.HttpOptions(base_url=url, retry_options=retry), **options) for url in (GEMINI, DIRECT)]


clients = both_ways()


def how(text=None, **more):
    """The configuration of one call that goes wrong as told."""
    return types.GenerateContentConfig(http_options=types.HttpOptions(headers=fault(text) if text else None, **more))


def ask(client, config=None):
    return client.models.generate_content(model=MODEL, contents=fresh(), config=config)


def said(answer):
    usage = answer.usage_metadata
    return answer.text, usage.prompt_token_count, usage.candidates_token_count, answer.candidates[0].finish_reason, answer.model_version


# --- answers ------------------------------------------------------------------------------------

def whole():
    prompt = fresh()
    text, *_ = both(lambda client: said(client.models.generate_content(model=MODEL, contents=prompt)), clients)
    assert text


def stream():
    prompt = fresh()

    def run(client):
        texts, at, usage = [], [], None
        for chunk in client.models.generate_content_stream(model=MODEL, contents=prompt, config=how("tokens=20;rate=50")):
            texts.append(chunk.text)
            at.append(time.monotonic())
            usage = chunk.usage_metadata or usage
        one_by_one(at)
        return texts, usage.candidates_token_count, chunk.candidates[0].finish_reason
    texts, tokens, _ = both(run, clients)
    assert len(texts) == tokens == 20


def asynchronous():
    prompt = fresh()

    async def run(client):
        answer = await client.aio.models.generate_content(model=MODEL, contents=prompt)
        streamed = [chunk.text async for chunk in await client.aio.models.generate_content_stream(model=MODEL, contents=prompt)]
        await client.aio.aclose()
        equal("".join(streamed), answer.text, "streamed and whole text")
        return said(answer)
    both(lambda client: asyncio.run(run(client)), both_ways())


def unknown():
    """What the provider does not know is the provider's to say."""
    def run(client):
        try:
            client.models.embed_content(model=MODEL, contents="the same")
        except errors.ClientError as error:
            return error.code, error.status, error.details
        raise AssertionError("no error")
    equal(both(run, clients)[0], 404, "status")


def variable():
    script()
    client = genai.Client(api_key="test-key")  # or it would be closed before its answer
    assert client.models.generate_content(model=MODEL, contents=fresh()).text
    assert "via" in dict(control("GET", "/mock/requests")[0]["headers"]), "not through the proxy"


# --- errors and retries -------------------------------------------------------------------------

def failing(client, *faults):
    """Runs into `faults`; returns the error's outside, and how many calls the provider saw."""
    script(*faults)
    try:
        ask(client)
    except errors.APIError as error:
        return type(error).__name__, error.code, error.status, error.message, error.details, calls()
    raise AssertionError("no APIError")


def error_checks():
    for what, text, kind in [
        ("429 with RetryInfo", "429;retry-after=1", "ClientError"), ("400", "400", "ClientError"), ("500", "500", "ServerError"),
        ("503", "503", "ServerError"), ("an HTML error page", "502;html", "ServerError"), ("a spent quota", "quota", "ClientError"),
    ]:
        def once():
            name, *_, seen = both(lambda client: failing(client, text, text), clients, what)
            equal((name, seen), (kind, 1), "error and calls: this SDK retries only when told to")
        check(f"gemini: {what} looks the same", once)

    def denied():
        name, code, *_ = both(failing, both_ways(api_key="sk-invalid"))
        equal((name, code), ("ClientError", 401), "error")

    def retried():
        for status in ("408", "429", "500", "503"):
            def run(client):
                begun = time.monotonic()
                error = failing(client, *[status] * 4)
                assert 0.29 < time.monotonic() - begun < 2, "not what the SDK waits: 0.1 s, 0.2 s"
                return error
            *_, seen = both(run, both_ways(retry_options=RETRIES), status)
            equal(seen, 3, "calls: one and two retries of the SDK")

    def reset():
        def run(client):
            script("reset")
            try:
                ask(client)
            except Exception as error:  # direct it is a raw transport error; a proxy has to answer something
                return isinstance(error, errors.APIError)
            raise AssertionError("no error")
        equal([run(client) for client in clients], [True, False], "an error of the SDK's own")

    check("gemini: a bad key looks the same", denied)
    check("gemini: retry_options retry as often and as long as direct", retried)
    check("gemini: a reset connection is an error", reset)


# --- streams that end badly ---------------------------------------------------------------------

def broken(text):
    def run(client):
        texts = 0
        try:
            for chunk in client.models.generate_content_stream(model=MODEL, contents=fresh(), config=how(text)):
                texts += bool(chunk.text)
        except Exception:  # raw transport errors reach the caller in this SDK
            return texts
        raise AssertionError("a broken stream ended as if it were whole")
    proxied, direct = (run(client) for client in clients)
    if text.startswith("cut"):
        equal(proxied, direct, "texts before the cut")


def left():
    def start(client):
        stream = client.models.generate_content_stream(model=MODEL, contents=fresh(), config=how("tokens=1000;rate=50"))
        return stream, stream.close
    left_early(start, clients)


def timeout():
    def run(client):
        script()
        try:
            ask(client, how("hang", timeout=300))
        except errors.APIError as error:
            raise AssertionError(f"an answer came: {error}") from error
        except Exception:
            eventually("the provider still works for a client that left", lambda: books()["in_flight"] == 0)
            return calls()
        raise AssertionError("no timeout")
    equal(both(run, clients), 1, "calls")


# --- cache --------------------------------------------------------------------------------------

def cached():
    prompt = fresh()

    def run(client):
        return client.models.generate_content(model=MODEL, contents=prompt)
    first, second = run(clients[0]), run(clients[0])
    equal(second.model_dump(exclude={"sdk_http_response"}), first.model_dump(exclude={"sdk_http_response"}), "cached answer")
    status = dict(second.sdk_http_response.headers).get("cache-status", "")
    assert "hit" in [part.strip() for part in status.replace(",", ";").split(";")], f"Cache-Status: {status!r}"
    equal(calls(), 1, "calls")
    run(both_ways(api_key="another-key")[0])
    equal(calls(), 2, "calls: another credential is another question")


def cached_stream():
    prompt = fresh()

    def run():
        chunks = clients[0].models.generate_content_stream(model=MODEL, contents=prompt)
        return [chunk.model_dump(exclude={"sdk_http_response"}) for chunk in chunks]
    first, second = run(), run()
    assert len(first) > 5, first
    equal(second, first, "replayed stream")
    equal(calls(), 1, "calls: the SDK streams with a URL of its own")
    clients[0].models.generate_content(model=MODEL, contents=prompt)
    equal(calls(), 2, "calls: a stream answers no call without one")


def main():
    check("gemini: an answer", whole)
    check("gemini: stream comes chunk by chunk", stream)
    check("gemini: the asynchronous client, whole and streamed", asynchronous)
    check("gemini: what the provider does not know", unknown)
    check("gemini: a cut stream raises", lambda: broken("cut-after=4"))
    check("gemini: a reset stream raises", lambda: broken("reset-after=4"))
    check("gemini: a client that leaves releases the provider", left)
    check("gemini: the client's own timeout releases the provider", timeout)
    if CACHED:
        check("cache: the second identical call is a hit", cached)
        check("cache: a stream is replayed", cached_stream)
    else:
        check("gemini: the request reaches the provider as sent", lambda: as_sent(
            lambda client: client.models.generate_content(model=MODEL, contents="the same", config=how(timeout=30_000)), clients))
        check("gemini: the base URL's environment variable is enough", variable)
        error_checks()
    finish()


if __name__ == "__main__":
    main()
