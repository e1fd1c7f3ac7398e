// The Node SDKs of OpenAI and Anthropic through the outbound door, against `outrigger mock`.
//
//   tests/tools.sh && cp tests/clients/*.mjs target/tools/node/
//   OPENAI_BASE_URL=http://127.0.0.1:8081/openai/v1 ANTHROPIC_BASE_URL=http://127.0.0.1:8081/anthropic \
//   DIRECT_URL=http://127.0.0.1:9100 node target/tools/node/sdk.mjs
//
// DIRECT_URL is the mock itself: everything is done there too, and must come out the same. (DIRECT_OPENAI_BASE_URL and
// DIRECT_ANTHROPIC_BASE_URL override its `/v1` and root.) CACHED=1 checks the cache in place of transparency: run it with
// a proxy.yaml that caches chat calls. Without it the proxy must name no policy at the outbound door.
// Prints a line for every check, then `N passed, N failed`; exits 1 if one failed.

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";

import {
  asSent, both, cached, calls, check, CLAUDE, direct, EMBED, env, failing, fault, finish, fresh, GPT, leftEarly, oneByOne, requests, script, user,
} from "./checks.mjs";

// Another major of it, if one is named.
const { default: OpenAI } = await import(env.OPENAI_PACKAGE ?? "openai");

// Each SDK twice: [0] through the proxy, [1] straight.
const urls = {
  openai: [env.OPENAI_BASE_URL, env.DIRECT_OPENAI_BASE_URL ?? `${direct}/v1`],
  anthropic: [env.ANTHROPIC_BASE_URL, env.DIRECT_ANTHROPIC_BASE_URL ?? direct],
};
const openais = urls.openai.map((baseURL) => new OpenAI({ baseURL, apiKey: "sk-test-one" }));
const anthropics = urls.anthropic.map((baseURL) => new Anthropic({ baseURL, apiKey: "sk-ant-test" }));

/** Runs into an error of a class; returns its outside and how many calls the provider saw. */
async function raised(client, ask, faults, errorClass) {
  const { error, seen, calls } = await failing(() => ask(client), ...faults);
  assert.ok(error instanceof errorClass, `${error?.name} is no ${errorClass.name}: ${error?.message}`);
  const retries = seen.map((request) => Object.fromEntries(request.headers)["x-stainless-retry-count"]);
  // A request id is new in every try.
  const body = JSON.stringify(error.error ?? null).replaceAll(/req_\w+/g, "req");
  return { name: error.constructor.name, status: error.status, body, calls, retries };
}

const askOpenai = (client) => client.chat.completions.create({ model: GPT, messages: user(fresh()) });
const askAnthropic = (client) => client.messages.create({ model: CLAUDE, max_tokens: 20, messages: user(fresh()) });
const streamOpenai = (client, how) => client.chat.completions.create({ model: GPT, messages: user(fresh()), stream: true }, fault(how));

await check("openai: chat", async () => {
  const prompt = fresh();
  const [text] = await both(async (client) => {
    const answer = await client.chat.completions.create({ model: GPT, messages: user(prompt) });
    return [answer.choices[0].message.content, answer.usage];
  }, openais);
  assert.ok(text.length > 0);
});

await check("openai: stream comes chunk by chunk", async () => {
  const prompt = fresh();
  const texts = await both(async (client) => {
    const stream = await client.chat.completions.create({ model: GPT, messages: user(prompt), stream: true }, fault("tokens=20;rate=50"));
    const texts = [], at = [];
    for await (const chunk of stream) {
      const text = chunk.choices[0]?.delta?.content;
      if (text) texts.push(text), at.push(Date.now());
    }
    oneByOne(at);
    return texts;
  }, openais);
  assert.equal(texts.length, 20);
});

await check("openai: responses, whole and streamed", async () => {
  const prompt = fresh();
  await both(async (client) => {
    const whole = await client.responses.create({ model: GPT, input: prompt });
    let streamed = "", last;
    for await (const event of await client.responses.create({ model: GPT, input: prompt, stream: true })) {
      if (event.type === "response.output_text.delta") streamed += event.delta;
      last = event.type;
    }
    assert.equal(streamed, whole.output_text);
    assert.equal(last, "response.completed");
    return [whole.output_text, whole.usage.total_tokens];
  }, openais);
});

await check("openai: embeddings are equal", async () => {
  const input = [fresh(), fresh()];
  const vectors = await both(async (client) => {
    const answer = await client.embeddings.create({ model: EMBED, input });
    const floats = await client.embeddings.create({ model: EMBED, input, encoding_format: "float" });
    answer.data[0].embedding.forEach((x, n) => assert.ok(Math.abs(x - floats.data[0].embedding[n]) < 1e-6, "base64 and float differ"));
    return answer.data.map((item) => [...item.embedding]);
  }, openais);
  assert.deepEqual(vectors.map((vector) => vector.length), [1536, 1536]);
});

await check("anthropic: messages", async () => {
  const prompt = fresh();
  await both(async (client) => {
    const answer = await client.messages.create({ model: CLAUDE, max_tokens: 50, messages: user(prompt) });
    return [answer.content[0].text, answer.usage.input_tokens, answer.usage.output_tokens];
  }, anthropics);
});

await check("anthropic: stream comes chunk by chunk", async () => {
  const prompt = fresh();
  const texts = await both(async (client) => {
    const stream = client.messages.stream({ model: CLAUDE, max_tokens: 50, messages: user(prompt) }, fault("tokens=20;rate=50"));
    const texts = [], at = [];
    stream.on("text", (text) => (texts.push(text), at.push(Date.now())));
    await stream.finalMessage();
    oneByOne(at);
    return texts;
  }, anthropics);
  assert.equal(texts.length, 20);
});

for (const how of ["cut-after=4", "reset-after=4"]) {
  await check(`openai: a stream that breaks (${how}) raises`, async () => {
    for (const client of openais) {
      await assert.rejects(async () => {
        for await (const _ of await streamOpenai(client, how));
      });
    }
  });
}

await check("anthropic: a stream that breaks raises", async () => {
  for (const client of anthropics) {
    const stream = client.messages.stream({ model: CLAUDE, max_tokens: 50, messages: user(fresh()) }, fault("cut-after=6"));
    await assert.rejects(stream.finalMessage());
  }
});

await check("openai: an error event raises", async () => {
  await both(async (client) => {
    try {
      for await (const _ of await streamOpenai(client, "error-in-stream=server_error;after=4"));
    } catch (error) {
      return [error.name, error.type];
    }
    throw new Error("no error");
  }, openais);
});

await check("anthropic: an error event raises", async () => {
  const [, type] = await both(async (client) => {
    try {
      const how = fault("error-in-stream=overloaded_error;after=6");
      await client.messages.stream({ model: CLAUDE, max_tokens: 50, messages: user(fresh()) }, how).finalMessage();
    } catch (error) {
      return [error.name, error.error?.error?.type];
    }
    throw new Error("no error");
  }, anthropics);
  assert.equal(type, "overloaded_error");
});

await check("openai: a client that leaves releases the provider", async () => {
  await leftEarly(async (client) => {
    const stream = await streamOpenai(client, "tokens=1000;rate=50");
    return [stream, () => stream.controller.abort()];
  }, openais);
});

function errorChecks(name, SDK, clients, ask, overloaded) {
  const once = clients.map((client) => client.withOptions({ maxRetries: 0 }));
  return [
    [`${name}: 429 is RateLimitError`, async () => {
      const answer = await both((client) => raised(client, ask, ["429;retry-after=1"], SDK.RateLimitError), once);
      assert.equal(answer.calls, 1);
    }],
    [`${name}: 429 with Retry-After is retried by the SDK after that time`, async () => {
      const seen = await both(async (client) => {
        await script("429;retry-after=1");
        const begun = Date.now();
        await ask(client);
        assert.ok(Date.now() - begun > 900 && Date.now() - begun < 3000, `${Date.now() - begun} ms`);
        return calls();
      }, clients);
      assert.equal(seen, 2);
    }],
    [`${name}: 500 is InternalServerError after the SDK's own retries`, async () => {
      const answer = await both((client) => raised(client, ask, Array(3).fill("500;retry-after-ms=50"), SDK.InternalServerError), clients);
      assert.deepEqual([answer.calls, answer.retries], [3, ["0", "1", "2"]]);
    }],
    [`${name}: ${overloaded} is retried as often as direct`, async () => {
      const answer = await both((client) => raised(client, ask, Array(3).fill(`${overloaded};retry-after-ms=50`), SDK.APIError), clients);
      assert.deepEqual([answer.status, answer.calls], [overloaded, 3]);
    }],
    [`${name}: x-should-retry: false is obeyed`, async () => {
      const answer = await both((client) => raised(client, ask, ["503;should-retry=false"], SDK.APIError), clients);
      assert.equal(answer.calls, 1);
    }],
    [`${name}: a spent quota looks the same`, () => both((client) => raised(client, ask, ["quota"], SDK.RateLimitError), once)],
    [`${name}: a bad key is AuthenticationError`, () =>
      both((client) => raised(client.withOptions({ apiKey: "sk-invalid" }), ask, [], SDK.AuthenticationError), once)],
  ];
}

if (cached) {
  await check("cache: the second identical call is a hit", async () => {
    const messages = user(fresh());
    const first = await openais[0].chat.completions.create({ model: GPT, messages }).withResponse();
    const second = await openais[0].chat.completions.create({ model: GPT, messages }).withResponse();
    assert.deepEqual(second.data.choices, first.data.choices);
    assert.equal(second.data.id, first.data.id);
    assert.match(second.response.headers.get("cache-status") ?? "none", /;\s*hit\b/);
    assert.equal(await calls(), 1);
  });
  await check("cache: a stream is replayed", async () => {
    const messages = user(fresh());
    const run = async () => {
      const chunks = [];
      for await (const chunk of await openais[0].chat.completions.create({ model: GPT, messages, stream: true })) chunks.push(chunk);
      return chunks;
    };
    const first = await run();
    assert.deepEqual(await run(), first);
    assert.equal(await calls(), 1);
  });
} else {
  await check("openai, anthropic: the request reaches the provider as sent", async () => {
    await asSent((client) => client.chat.completions.create({ model: GPT, messages: user("the same") }), openais);
    await asSent((client) => client.messages.create({ model: CLAUDE, max_tokens: 20, messages: user("the same") }), anthropics);
  });
  await check("openai, anthropic: the base URL's environment variable is enough", async () => {
    await askOpenai(new OpenAI({ apiKey: "sk-test" }));
    await askAnthropic(new Anthropic({ apiKey: "sk-ant-test" }));
    const vias = (await requests()).map((request) => Object.fromEntries(request.headers).via);
    assert.ok(vias.length === 2 && vias.every(Boolean), `through the proxy: ${vias}`);
  });
  const checks = [
    ...errorChecks("openai", OpenAI, openais, askOpenai, 503),
    ...errorChecks("anthropic", Anthropic, anthropics, askAnthropic, 529),
  ];
  for (const [name, test] of checks) await check(name, test);
}

finish();
