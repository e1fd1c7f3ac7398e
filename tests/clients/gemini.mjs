// Google's Node SDK (@google/genai) through the outbound door, against `outrigger mock`.
//
// Started like sdk.mjs, with GOOGLE_GEMINI_BASE_URL for the proxy. Prints a line for every check, then `N passed, N failed`.

import assert from "node:assert/strict";

import { ApiError, GoogleGenAI } from "@google/genai";

import {
  asSent, books, both, cached, calls, check, direct, env, eventually, failing, fault, finish, fresh, GEMINI as model, leftEarly, oneByOne, requests,
} from "./checks.mjs";

// The SDK twice: [0] through the proxy, [1] straight.
const bothWays = (apiKey) => [env.GOOGLE_GEMINI_BASE_URL, direct].map((baseUrl) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl } }));
const clients = bothWays("test-key");

const how = (text, more) => ({ httpOptions: { ...(text && fault(text)), ...more } });
const ask = (client, config) => client.models.generateContent({ model, contents: fresh(), config });
const stream = (client, config, contents = fresh()) => client.models.generateContentStream({ model, contents, config });

async function all(chunks) {
  const found = [];
  for await (const chunk of await chunks) found.push(chunk);
  return found;
}

await check("gemini: an answer", async () => {
  const contents = fresh();
  const [text] = await both(async (client) => {
    const answer = await client.models.generateContent({ model, contents });
    return [answer.text, answer.usageMetadata, answer.candidates[0].finishReason, answer.modelVersion];
  }, clients);
  assert.ok(text.length > 0);
});

await check("gemini: stream comes chunk by chunk", async () => {
  const contents = fresh();
  const [texts, usage] = await both(async (client) => {
    const texts = [], at = [];
    let last;
    for await (const chunk of await stream(client, how("tokens=20;rate=50"), contents)) texts.push(chunk.text), at.push(Date.now()), last = chunk;
    oneByOne(at);
    return [texts, last.usageMetadata, last.candidates[0].finishReason];
  }, clients);
  assert.deepEqual([texts.length, usage.candidatesTokenCount], [20, 20]);
});

for (const text of ["cut-after=4", "reset-after=4"]) {
  await check(`gemini: a stream that breaks (${text}) raises`, async () => {
    for (const client of clients) await assert.rejects(all(stream(client, how(text))));
  });
}

await check("gemini: a client that leaves releases the provider", () =>
  leftEarly(async (client) => {
    const left = new AbortController();
    return [await stream(client, { ...how("tokens=1000;rate=50"), abortSignal: left.signal }), () => left.abort()];
  }, clients));

await check("gemini: the client's own timeout releases the provider", async () => {
  const seen = await both(async (client) => {
    const { error, calls } = await failing(() => ask(client, how("hang", { timeout: 300 })));
    assert.ok(!(error instanceof ApiError), error);
    await eventually("the provider still works for a client that left", async () => (await books()).in_flight === 0);
    return calls;
  }, clients);
  assert.equal(seen, 1);
});

if (cached) {
  await check("cache: the second identical call is a hit", async () => {
    const contents = fresh();
    const run = (client) => client.models.generateContent({ model, contents });
    const first = await run(clients[0]), second = await run(clients[0]);
    assert.deepEqual([second.candidates, second.responseId], [first.candidates, first.responseId]);
    assert.match(second.sdkHttpResponse.headers["cache-status"] ?? "none", /;\s*hit\b/);
    assert.equal(await calls(), 1);
    await run(bothWays("another-key")[0]);
    assert.equal(await calls(), 2, "another credential is another question");
  });
  await check("cache: a stream is replayed", async () => {
    const contents = fresh();
    const run = async () => (await all(stream(clients[0], {}, contents))).map((chunk) => [chunk.text, chunk.usageMetadata, chunk.responseId]);
    const first = await run();
    assert.ok(first.length > 5);
    assert.deepEqual(await run(), first);
    assert.equal(await calls(), 1);
  });
} else {
  await check("gemini: the request reaches the provider as sent", () =>
    asSent((client) => client.models.generateContent({ model, contents: "the same", config: how("", { timeout: 30_000 }) }), clients));
  await check("gemini: the base URL's environment variable is enough", async () => {
    await ask(new GoogleGenAI({ apiKey: "test-key" }));
    const [request] = await requests();
    assert.ok(Object.fromEntries(request.headers).via, "not through the proxy");
  });
  for (const [what, text, status] of [
    ["429 with RetryInfo", "429;retry-after=1", 429], ["400", "400", 400], ["500", "500", 500], ["503", "503", 503],
    ["an HTML error page", "502;html", 502], ["a spent quota", "quota", 429],
  ]) {
    await check(`gemini: ${what} looks the same`, async () => {
      const raised = await both(async (client) => {
        const { error, calls } = await failing(() => ask(client), text, text);
        return [error instanceof ApiError, error.status, error.message, calls];
      }, clients);
      assert.deepEqual([raised[0], raised[1], raised[3]], [true, status, 1], "this SDK does not retry");
    });
  }
  await check("gemini: a bad key looks the same", async () => {
    const raised = await both(async (client) => {
      const { error } = await failing(() => ask(client));
      return [error instanceof ApiError, error.status, error.message];
    }, bothWays("sk-invalid"));
    assert.deepEqual(raised.slice(0, 2), [true, 401]);
  });
  await check("gemini: a reset connection is an error", async () => {
    // Direct it is a raw transport error; a proxy has to answer something.
    const kinds = [];
    for (const client of clients) kinds.push((await failing(() => ask(client), "reset")).error instanceof ApiError);
    assert.deepEqual(kinds, [true, false]);
  });
}

finish();
