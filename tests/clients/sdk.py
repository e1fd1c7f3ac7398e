"""The Python SDKs of OpenAI and Anthropic through the outbound door, against `outrigger mock`.

    tests/tools.sh
    OPENAI_BASE_URL=http://127.0.0.1:8081/openai/v1 ANTHROPIC_BASE_URL=http://127.0.0.1:8081/anthropic \
    DIRECT_URL=http://127.0.0.1:9100 target/tools/venv/bin/python tests/clients/sdk.py

DIRECT_URL is the mock itself: everything is done there too, and must come out the same. (DIRECT_OPENAI_BASE_URL and
DIRECT_ANTHROPIC_BASE_URL override its `/v1` and root.) CACHED=1 checks the cache in place of transparency: run it with
a `proxy.yaml` that caches chat calls. Without it the proxy must name no policy at the outbound door.
Prints a line for every check, then `N passed, N failed`; exits 1 if one failed.
"""

import json
import os
import threading
import time

import anthropic
import openai

from checks import (CACHED, DIRECT, as_sent, books, both, calls, check, control, equal, eventually, fault, finish, fresh, left_early,
                    one_by_one, same, script, user)

OPENAI = os.environ["OPENAI_BASE_URL"]
ANTHROPIC = os.environ["ANTHROPIC_BASE_URL"]
DIRECT_OPENAI = os.environ.get("DIRECT_OPENAI_BASE_URL", DIRECT + "/v1")
DIRECT_ANTHROPIC = os.environ.get("DIRECT_ANTHROPIC_BASE_URL", DIRECT)
GPT, CLAUDE, EMBED = "gpt-4o-mini", "claude-sonnet-4-5", "text-embedding-3-small"

# Each SDK twice: [0] through the proxy, [1] straight.
openais = [openai.OpenAI(base_url=url, api_key="sk-test-one") for url in (OPENAI, DIRECT_OPENAI)]
anthropics = [anthropic.Anthropic(base_url=url, api_key="sk-ant-test") for url in (ANTHROPIC, DIRECT_ANTHROPIC)]


# --- answers ------------------------------------------------------------------------------------

def chat():
    prompt = fresh()

    def run(client):
        answer = client.chat.completions.create(model=GPT, messages=user(prompt))
        return answer.choices[0].message.content, answer.usage.model_dump(), answer.model
    text, usage, _ = both(run, openais)
    assert text and usage["completion_tokens"] > 0


def tools():
    prompt = fresh()
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}

    def run(client):
        answer = client.chat.completions.create(model=GPT, messages=user(prompt), tools=[tool], tool_choice="required")
        call = answer.choices[0].message.tool_calls[0].function
        return call.name, json.loads(call.arguments), answer.choices[0].finish_reason
    assert both(run, openais)[0] == "weather"


def chat_stream():
    prompt = fresh()

    def run(client):
        stream = client.chat.completions.create(
            model=GPT, messages=user(prompt), stream=True, stream_options={"include_usage": True},
            extra_headers=fault("tokens=20;rate=50"))
        texts, at, usage = [], [], None
        for chunk in stream:
            usage = chunk.usage or usage
            if chunk.choices and chunk.choices[0].delta.content:
                texts.append(chunk.choices[0].delta.content)
                at.append(time.monotonic())
        one_by_one(at)
        return texts, usage.completion_tokens
    texts, tokens = both(run, openais)
    assert len(texts) == tokens == 20


def stream_without_usage():
    prompt = fresh()

    def run(client):
        stream = client.chat.completions.create(model=GPT, messages=user(prompt), stream=True)
        return [(bool(chunk.choices), chunk.usage) for chunk in stream]
    assert all(choices and usage is None for choices, usage in both(run, openais, "chunks")), "a chunk that nobody asked for"


def responses():
    prompt = fresh()

    def whole(client):
        answer = client.responses.create(model=GPT, input=prompt)
        return answer.output_text, answer.usage.total_tokens

    def streamed(client):
        with client.responses.stream(model=GPT, input=prompt) as stream:
            names = [event.type for event in stream]
            return names, stream.get_final_response().output_text
    text, _ = both(whole, openais)
    names, streamed_text = both(streamed, openais)
    same(streamed_text, text, "streamed and whole text")
    assert names[-1] == "response.completed"


def embeddings():
    texts = [fresh(), fresh()]

    def run(client, **more):
        answer = client.embeddings.create(model=EMBED, input=texts, **more)
        return [item.embedding for item in answer.data], answer.usage.prompt_tokens
    vectors, _ = both(run, openais, "vectors")
    assert [len(vector) for vector in vectors] == [1536, 1536]
    floats, _ = both(lambda client: run(client, encoding_format="float"), openais, "float vectors")
    assert max(abs(a - b) for a, b in zip(vectors[0], floats[0])) < 1e-6, "base64 and float differ"


def models():
    assert GPT in both(lambda client: [model.id for model in client.models.list()], openais)


def messages():
    prompt = fresh()

    def run(client):
        answer = client.messages.create(model=CLAUDE, max_tokens=50, messages=user(prompt))
        return answer.content[0].text, answer.usage.input_tokens, answer.usage.output_tokens
    assert both(run, anthropics)[2] > 0


def messages_stream():
    prompt = fresh()

    def run(client):
        texts, at = [], []
        with client.messages.stream(
                model=CLAUDE, max_tokens=50, messages=user(prompt), extra_headers=fault("tokens=20;rate=50")) as stream:
            for text in stream.text_stream:
                texts.append(text)
                at.append(time.monotonic())
            final = stream.get_final_message()
        one_by_one(at)
        return texts, final.usage.output_tokens, final.stop_reason
    assert len(both(run, anthropics)[0]) == 20


def count_tokens():
    prompt = fresh()
    assert both(lambda client: client.messages.count_tokens(model=CLAUDE, messages=user(prompt)).input_tokens, anthropics) > 0


# --- errors and retries -------------------------------------------------------------------------

def failing(client, call, faults, error_class):
    """Runs into `faults`; returns the error's outside and how many calls the provider saw."""
    script(*faults)
    try:
        call(client)
    except error_class as error:
        body = error.body if isinstance(error.body, dict) else {"text": str(error.body)}
        body.pop("request_id", None)
        seen = control("GET", "/mock/requests")
        counts = [dict(request["headers"]).get("x-stainless-retry-count") for request in seen]
        return {"type": type(error).__name__, "status": error.status_code, "body": body, "calls": calls(), "retries": counts}
    raise AssertionError(f"no {error_class.__name__}")


def ask_openai(client):
    return client.chat.completions.create(model=GPT, messages=user(fresh()))


def ask_anthropic(client):
    return client.messages.create(model=CLAUDE, max_tokens=20, messages=user(fresh()))


def error_checks(module, clients, ask, overloaded):
    def limited():
        once = [client.with_options(max_retries=0) for client in clients]
        answer = both(lambda client: failing(client, ask, ["429;retry-after=1"], module.RateLimitError), once)
        equal(answer["calls"], 1, "calls")

    def limited_then_waits():
        def run(client):
            script("429;retry-after=1")
            begun = time.monotonic()
            ask(client)
            assert 0.9 < time.monotonic() - begun < 3, "Retry-After is not what the SDK waited for"
            return calls()
        equal(both(run, clients), 2, "calls")

    def broken():
        answer = both(lambda client: failing(client, ask, ["500;retry-after-ms=50"] * 3, module.InternalServerError), clients)
        equal(answer["calls"], 3, "calls (one and two retries of the SDK)")
        equal(answer["retries"], ["0", "1", "2"], "retry counts")

    def busy():
        answer = both(lambda client: failing(client, ask, [f"{overloaded};retry-after-ms=50"] * 3, module.APIStatusError), clients)
        equal((answer["status"], answer["calls"]), (overloaded, 3), "status and calls")

    def final():
        answer = both(lambda client: failing(client, ask, ["503;should-retry=false"], module.APIStatusError), clients)
        equal(answer["calls"], 1, "calls")

    def quota():
        once = [client.with_options(max_retries=0) for client in clients]
        both(lambda client: failing(client, ask, ["quota"], module.RateLimitError), once)

    def html():
        once = [client.with_options(max_retries=0) for client in clients]
        both(lambda client: failing(client, ask, ["502;html"], module.InternalServerError), once)

    def denied():
        bad = [client.with_options(api_key="sk-invalid") for client in clients]
        both(lambda client: failing(client, ask, [], module.AuthenticationError), bad)

    def reset():
        def run(client):
            script("reset", "reset", "reset")
            try:
                ask(client)
            except module.APIError as error:
                # A proxy has to answer something where the provider answered nothing; that it is an error is what counts.
                return isinstance(error, (module.APIConnectionError, module.InternalServerError))
            raise AssertionError("no error")
        assert both(run, clients)

    name = module.__name__
    check(f"{name}: 429 is RateLimitError", limited)
    check(f"{name}: 429 with Retry-After is retried by the SDK after that time", limited_then_waits)
    check(f"{name}: 500 is InternalServerError after the SDK's own retries", broken)
    check(f"{name}: {overloaded} is retried as often as direct", busy)
    check(f"{name}: x-should-retry: false is obeyed", final)
    check(f"{name}: a spent quota looks the same", quota)
    check(f"{name}: an HTML error page looks the same", html)
    check(f"{name}: a bad key is AuthenticationError", denied)
    check(f"{name}: a reset connection is an error", reset)


# --- streams that end badly ---------------------------------------------------------------------

def openai_stream(client, **more):
    return client.chat.completions.create(model=GPT, messages=user(fresh()), stream=True, extra_headers=fault(more.pop("fault")), **more)


def cut(how):
    def run(client):
        texts = 0
        try:
            for chunk in openai_stream(client, fault=how):
                texts += bool(chunk.choices and chunk.choices[0].delta.content)
        except Exception:  # raw transport errors reach the caller in these SDKs
            return texts
        raise AssertionError("a broken stream ended as if it were whole")
    proxied, direct = run(openais[0]), run(openais[1])
    if how.startswith("cut"):
        same(proxied, direct, "texts before the cut")


def cut_anthropic():
    def run(client):
        try:
            with client.messages.stream(
                    model=CLAUDE, max_tokens=50, messages=user(fresh()), extra_headers=fault("cut-after=6")) as stream:
                return list(stream.text_stream)
        except Exception:
            return "raised"
    equal(both(run, anthropics), "raised", "outcome")


def error_event_openai():
    def run(client):
        try:
            for _ in openai_stream(client, fault="error-in-stream=server_error;after=4"):
                pass
        except openai.APIError as error:
            return type(error).__name__, error.type
        raise AssertionError("no error")
    both(run, openais)


def error_event_anthropic():
    def run(client):
        try:
            with client.messages.stream(
                    model=CLAUDE, max_tokens=50, messages=user(fresh()), extra_headers=fault("error-in-stream=overloaded_error;after=6")) as stream:
                list(stream.text_stream)
        except anthropic.APIStatusError as error:
            return type(error).__name__, error.body["error"]["type"]
        raise AssertionError("no error")
    equal(both(run, anthropics)[1], "overloaded_error", "error type")


def cancel():
    def start(client):
        stream = openai_stream(client, fault="tokens=1000;rate=50")
        return stream, stream.close
    left_early(start, openais)


def timeout():
    def run(client):
        script()
        try:
            client.with_options(timeout=0.3, max_retries=0).chat.completions.create(
                model=GPT, messages=user(fresh()), extra_headers=fault("hang"))
        except openai.APITimeoutError:
            eventually("the provider still works for a client that left", lambda: books()["in_flight"] == 0)
            return calls()
        raise AssertionError("no timeout")
    equal(both(run, openais), 1, "calls")


def parallel():
    """Many streams at once, each its own."""
    prompts = [fresh() for _ in range(20)]
    texts = [{}, {}]

    def run(side, prompt):
        stream = openais[side].chat.completions.create(
            model=GPT, messages=user(prompt), stream=True, extra_headers=fault("tokens=20;rate=100"))
        texts[side][prompt] = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    for side in (0, 1):
        threads = [threading.Thread(target=run, args=(side, prompt)) for prompt in prompts]
        [thread.start() for thread in threads]
        [thread.join(30) for thread in threads]
    same(texts[0], texts[1], "texts")
    assert len(set(texts[0].values())) == len(prompts)


def headers():
    as_sent(lambda client: client.chat.completions.create(model=GPT, messages=user("the same"), extra_headers={"X-Own": "a, b"}), openais)
    as_sent(lambda client: client.messages.create(model=CLAUDE, max_tokens=20, messages=user("the same")), anthropics)


def variables():
    """An app whose code knows nothing of the proxy."""
    script()
    assert openai.OpenAI(api_key="sk-test").models.list().data
    assert anthropic.Anthropic(api_key="sk-ant-test").messages.create(model=CLAUDE, max_tokens=20, messages=user(fresh())).content
    assert all("via" in dict(request["headers"]) for request in control("GET", "/mock/requests")), "not through the proxy"
    equal(calls(), 2, "calls")


# --- cache --------------------------------------------------------------------------------------

def cached():
    prompt = fresh()
    client = openais[0]
    first = client.chat.completions.with_raw_response.create(model=GPT, messages=user(prompt))
    second = client.chat.completions.with_raw_response.create(model=GPT, messages=user(prompt))
    same(second.parse().model_dump(), first.parse().model_dump(), "cached answer")
    status = second.headers.get("cache-status", "")
    assert "hit" in [part.strip() for part in status.replace(",", ";").split(";")], f"Cache-Status: {status!r}"
    equal(calls(), 1, "calls")


def cached_stream():
    prompt = fresh()

    def run():
        stream = openais[0].chat.completions.create(model=GPT, messages=user(prompt), stream=True, stream_options={"include_usage": True})
        return [chunk.model_dump() for chunk in stream]
    first, second = run(), run()
    same(second, first, "replayed stream")
    equal(calls(), 1, "calls")


def cached_apart():
    prompt = fresh()
    openais[0].chat.completions.create(model=GPT, messages=user(prompt))
    openais[0].chat.completions.create(model=GPT, messages=user(prompt), temperature=0)
    openais[0].with_options(api_key="sk-test-two").chat.completions.create(model=GPT, messages=user(prompt))
    equal(calls(), 3, "calls: another temperature and another credential are other questions")


def error_not_cached():
    prompt = fresh()
    client = openais[0].with_options(max_retries=0)
    script("400")
    try:
        client.chat.completions.create(model=GPT, messages=user(prompt))
        raise AssertionError("no error")
    except openai.BadRequestError:
        client.chat.completions.create(model=GPT, messages=user(prompt))
    equal(calls(), 2, "calls")


def meant():
    """PYTHONPATH can bring another major; it must not bring the usual one unnoticed."""
    print(f"     openai {openai.__version__}, anthropic {anthropic.__version__}")
    major = os.environ.get("OPENAI_MAJOR", "")
    assert openai.__version__.startswith(major), f"openai {openai.__version__} in place of {major}"


def main():
    check("the SDKs are those that are meant", meant)
    check("openai: chat", chat)
    check("openai: tool call", tools)
    check("openai: stream comes chunk by chunk", chat_stream)
    check("openai: a stream has no usage that was not asked for", stream_without_usage)
    check("openai: responses, whole and streamed", responses)
    check("openai: embeddings are equal", embeddings)
    check("openai: models", models)
    check("anthropic: messages", messages)
    check("anthropic: stream comes chunk by chunk", messages_stream)
    check("anthropic: count_tokens", count_tokens)
    check("openai: 20 streams at once", parallel)
    check("openai: a cut stream raises", lambda: cut("cut-after=4"))
    check("openai: a reset stream raises", lambda: cut("reset-after=4"))
    check("anthropic: a cut stream raises", cut_anthropic)
    check("openai: an error event raises", error_event_openai)
    check("anthropic: an error event raises", error_event_anthropic)
    check("openai: a client that leaves releases the provider", cancel)
    check("openai: the client's own timeout releases the provider", timeout)
    if CACHED:
        check("cache: the second identical call is a hit", cached)
        check("cache: a stream is replayed", cached_stream)
        check("cache: other questions and other credentials are apart", cached_apart)
        check("cache: errors are not cached", error_not_cached)
    else:
        check("openai, anthropic: the request reaches the provider as sent", headers)
        check("openai, anthropic: the base URL's environment variable is enough", variables)
        error_checks(openai, openais, ask_openai, 503)
        error_checks(anthropic, anthropics, ask_anthropic, 529)
    finish()


if __name__ == "__main__":
    main()
