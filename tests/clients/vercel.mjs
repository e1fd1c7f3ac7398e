// The Vercel AI SDK (`ai` with its OpenAI provider) through the outbound door, against `outrigger mock`.
//
// Started like sdk.mjs. Chat completions and Responses both: the provider takes the latter where nothing else is said.
// This SDK does not know `x-should-retry`. Prints a line for every check, then `N passed, N failed`.

import assert from "node:assert/strict";

import { createOpenAI, openai } from "@ai-sdk/openai";
import { APICallError, embed, generateText, RetryError, streamText } from "ai";

import {
  asSent, both, cached, calls, check, direct, EMBED, env, failing, fault, finish, fresh, GPT, leftEarly, oneByOne, requests, script,
} from "./checks.mjs";

// The provider twice: [0] through the proxy, [1] straight.
const bothWays = (apiKey) => [env.OPENAI_BASE_URL, `${direct}/v1`].map((baseURL) => createOpenAI({ baseURL, apiKey }));
const clients = bothWays("sk-test-one");
const MODELS = { chat: (client) => client.chat(GPT), responses: (client) => client(GPT) };

const stream = (model, text, more) => streamText({ model, prompt: fresh(), headers: fault(text).headers, onError() {}, ...more });

/** The parts of a stream, and the error that is one of them or ends it. */
async function parts(result) {
  const found = { types: [], text: "", error: undefined };
  try {
    for await (const part of result.fullStream) {
      found.types.push(part.type);
      if (part.type === "text-delta") found.text += part.text;
      if (part.type === "error") found.error = part.error;
    }
  } catch (error) {
    found.error = error;
  }
  return found;
}

for (const [api, model] of Object.entries(MODELS)) {
  await check(`ai, ${api}: an answer`, async () => {
    const prompt = fresh();
    const [text] = await both(async (client) => {
      const answer = await generateText({ model: model(client), prompt });
      return [answer.text, answer.usage, answer.finishReason];
    }, clients);
    assert.ok(text.length > 0);
  });

  await check(`ai, ${api}: stream comes chunk by chunk`, async () => {
    const prompt = fresh();
    const [texts, usage] = await both(async (client) => {
      const result = stream(model(client), "tokens=20;rate=50", { prompt });
      const texts = [], at = [];
      for await (const text of result.textStream) texts.push(text), at.push(Date.now());
      oneByOne(at);
      return [texts, await result.usage, await result.finishReason];
    }, clients);
    assert.deepEqual([texts.length, usage.outputTokens], [20, 20]);
  });

  for (const text of ["cut-after=4", "reset-after=4"]) {
    await check(`ai, ${api}: a stream that breaks (${text}) is an error`, async () => {
      for (const client of clients) assert.ok((await parts(stream(model(client), text))).error, "it ended as if it were whole");
    });
  }

  await check(`ai, ${api}: an error event is an error`, async () => {
    const name = await both(async (client) => (await parts(stream(model(client), "error-in-stream=server_error;after=4"))).error?.name, clients);
    assert.ok(name);
  });

  await check(`ai, ${api}: a client that leaves releases the provider`, () =>
    leftEarly(async (client) => {
      const left = new AbortController();
      return [stream(model(client), "tokens=1000;rate=50", { abortSignal: left.signal }).textStream, () => left.abort()];
    }, clients));
}

await check("ai: embeddings are equal", async () => {
  const value = fresh();
  const embedding = await both(async (client) => (await embed({ model: client.embedding(EMBED), value })).embedding, clients);
  assert.equal(embedding.length, 1536);
});

/** What the SDK raises, and what the provider saw. */
async function raised(client, faults, more) {
  const { error, calls } = await failing(() => generateText({ model: client.chat(GPT), prompt: fresh(), ...more }), ...faults);
  const last = RetryError.isInstance(error) ? error.lastError : error;
  assert.ok(APICallError.isInstance(last), `${last?.name}: ${last?.message}`);
  return { name: error.name, reason: error.reason, status: last.statusCode, message: last.message, body: last.responseBody, calls };
}

if (cached) {
  for (const [api, model] of Object.entries(MODELS)) {
    await check(`cache: the second identical call is a hit (${api})`, async () => {
      const prompt = fresh();
      const run = () => generateText({ model: model(clients[0]), prompt });
      const first = await run(), second = await run();
      assert.deepEqual([second.text, second.usage, second.response.id], [first.text, first.usage, first.response.id]);
      assert.match(second.response.headers["cache-status"] ?? "none", /;\s*hit\b/);
      assert.equal(await calls(), 1);
    });
    await check(`cache: a stream is replayed (${api})`, async () => {
      const prompt = fresh();
      const run = async () => {
        const { error, ...found } = await parts(streamText({ model: model(clients[0]), prompt }));
        assert.equal(error, undefined);
        return found;
      };
      const first = await run();
      assert.ok(first.types.length > 5);
      assert.deepEqual(await run(), first);
      assert.equal(await calls(), 1);
    });
  }
} else {
  await check("ai: the request reaches the provider as sent", async () => {
    for (const model of Object.values(MODELS)) await asSent((client) => generateText({ model: model(client), prompt: "the same" }), clients);
  });
  await check("ai: the base URL's environment variable is enough", async () => {
    process.env.OPENAI_API_KEY = "sk-test";
    await generateText({ model: openai(GPT), prompt: fresh() });
    const [request] = await requests();
    assert.ok(Object.fromEntries(request.headers).via, "not through the proxy");
  });
  for (const [what, text, status] of [
    ["429", "429;retry-after-ms=50", 429], ["500", "500;retry-after-ms=50", 500], ["503", "503;retry-after-ms=50", 503],
    ["an HTML error page", "502;html;retry-after-ms=50", 502],
  ]) {
    await check(`ai: ${what} is raised after the SDK's own retries`, async () => {
      const answer = await both((client) => raised(client, Array(4).fill(text)), clients);
      assert.deepEqual([answer.name, answer.status, answer.calls], ["AI_RetryError", status, 3]);
    });
  }
  await check("ai: 429 with Retry-After is retried by the SDK after that time", async () => {
    const seen = await both(async (client) => {
      await script("429;retry-after=1");
      const begun = Date.now();
      await generateText({ model: client.chat(GPT), prompt: fresh() });
      assert.ok(Date.now() - begun > 900 && Date.now() - begun < 1900, `${Date.now() - begun} ms`);
      return calls();
    }, clients);
    assert.equal(seen, 2);
  });
  for (const [what, text, status] of [["a bad request", "400", 400], ["a spent quota", "quota", 429], ["an overloaded provider", "503", 503]]) {
    await check(`ai: ${what} looks the same`, async () => {
      const answer = await both((client) => raised(client, [text, text], { maxRetries: 0 }), clients);
      assert.deepEqual([answer.name, answer.status, answer.calls], ["AI_APICallError", status, 1]);
    });
  }
  await check("ai: a bad key looks the same", async () => {
    assert.equal((await both((client) => raised(client, [], { maxRetries: 0 }), bothWays("sk-invalid"))).status, 401);
  });
  await check("ai: a reset connection is an error", async () => {
    // Direct there is no status; a proxy has to answer something.
    const statuses = [];
    for (const client of clients) statuses.push((await raised(client, ["reset"], { maxRetries: 0 })).status);
    assert.deepEqual(statuses, [502, undefined]);
  });
}

finish();
