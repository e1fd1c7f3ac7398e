"""The official Python SDKs of OpenAI and Anthropic with one base URL for three providers and five names of models.

OUTBOUND_URL is the outbound door; OPENAI_URL, AZURE_URL, ANTHROPIC_URL are the mocks behind it. The SDKs are set up by their environment alone.
"""

import json
import os
import urllib.request

import anthropic
import openai

from verdicts import check, finish

MOCKS = {name: os.environ[f"{name.upper()}_URL"] for name in ("openai", "azure", "anthropic")}
gpt, claude = openai.OpenAI(max_retries=0), anthropic.Anthropic(max_retries=0)
WORDS = [{"role": "user", "content": "say something"}]


def control(name, method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(MOCKS[name] + path, data=data, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return json.loads(answer.read())


def asked():
    """What each mock was asked for since the last look: (path, model)."""
    found = {}
    for name in MOCKS:
        seen = control(name, "GET", "/mock/requests")
        if seen:
            found[name] = [(one["path"], json.loads(one["body"] or "{}").get("model")) for one in seen]
        control(name, "POST", "/mock/reset")
    return found


def equal(found, wanted):
    assert found == wanted, f"{found!r} in place of {wanted!r}"


def aliases():
    for name, provider, model in [("fast", "openai", "gpt-4o-mini"), ("big", "azure", "gpt-4.1"), ("smart", "azure", "gpt-4o"),
                                  ("gpt-4.1-nano", "openai", "gpt-4.1-nano"), ("azure/gpt-4o", "azure", "gpt-4o")]:
        answer = gpt.chat.completions.create(model=name, messages=WORDS)
        assert answer.choices[0].message.content and answer.model.startswith(model), answer
        equal(asked(), {provider: [("/v1/chat/completions", model)]})


def messages():
    for name, model in [("smart", "claude-opus-4-5"), ("claude-haiku-4-5", "claude-haiku-4-5")]:
        answer = claude.messages.create(model=name, max_tokens=20, messages=WORDS)
        assert answer.content[0].text and answer.model.startswith(model), answer
        equal(asked(), {"anthropic": [("/v1/messages", model)]})


def streams():
    chunks = list(gpt.chat.completions.create(model="fast", messages=WORDS, stream=True))
    assert all(chunk.choices for chunk in chunks) and chunks[0].model.startswith("gpt-4o-mini"), "no chunk that was not asked for"
    with claude.messages.stream(model="smart", max_tokens=20, messages=WORDS) as stream:
        assert stream.get_final_text()
    equal(set(asked()), {"openai", "anthropic"})


def other_calls():
    assert gpt.embeddings.create(model="vectors", input=["a"]).data[0].embedding
    assert gpt.responses.create(model="fast", input="say something").output_text
    equal(asked(), {"openai": [("/v1/embeddings", "text-embedding-3-small"), ("/v1/responses", "gpt-4o-mini")]})


def fallback():
    control("azure", "POST", "/mock/script", ["503"])
    answer = gpt.chat.completions.create(model="smart", messages=WORDS)
    assert answer.model.startswith("gpt-4.1"), answer
    equal(asked(), {"azure": [("/v1/chat/completions", "gpt-4o")], "openai": [("/v1/chat/completions", "gpt-4.1")]})


def lists():
    names = [model.id for model in gpt.models.list()]
    assert {"fast", "smart", "big", "vectors", "openai/gpt-4o-mini"} <= set(names) and "anthropic/claude-opus-4-5" not in names, names
    equal([model.id for model in claude.models.list()], ["smart", "anthropic/claude-opus-4-5"])
    equal((gpt.models.retrieve("fast").id, claude.models.retrieve("smart").id), ("fast", "smart"))
    equal(asked(), {})


def unknown():
    try:
        gpt.chat.completions.create(model="fsat", messages=WORDS)
        raise AssertionError("answered")
    except openai.NotFoundError as error:
        assert "`fast`" in str(error) and error.code == "unknown_model", error
    try:
        claude.messages.create(model="fast", max_tokens=20, messages=WORDS)
        raise AssertionError("answered")
    except anthropic.NotFoundError as error:
        assert "POST /v1/chat/completions" in str(error), error
    equal(asked(), {})


def credentials():
    """Each provider has seen its own key, and none the app's: all three are configured."""
    gpt.chat.completions.create(model="fast", messages=WORDS)
    gpt.chat.completions.create(model="big", messages=WORDS)
    seen = [dict(control(name, "GET", "/mock/requests")[0]["headers"])["authorization"] for name in ("openai", "azure")]
    assert seen[0] != seen[1], seen
    asked()


for name, test in [("five names lead to three providers", aliases), ("Anthropic's SDK", messages), ("streams", streams), ("embeddings, responses", other_calls),
                   ("a pool falls back", fallback), ("lists of models", lists), ("unknown names", unknown), ("keys", credentials)]:
    check(name, test)
finish()
