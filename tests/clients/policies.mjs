// The Node SDKs where policies are named: the proxy retries for them, and refuses in the provider's own words.
//
// Started like sdk.mjs, in front of the proxy of policies.py. Prints `N passed, N failed`.

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";
import { createOpenAI } from "@ai-sdk/openai";
import { ApiError, GoogleGenAI } from "@google/genai";
import { APICallError, generateText, streamText } from "ai";
import OpenAI from "openai";

import { calls, check, CLAUDE, failing, finish, fresh, GEMINI, GPT, script, user } from "./checks.mjs";

const { OPENAI_BASE_URL: baseURL } = process.env; // the other base URLs come from the environment by themselves
const waits = (error) => Number(error.headers.get("retry-after")) >= 1;
const key = () => `key-${fresh().slice(-12)}`;

/** Each SDK: a client without retries of its own, with its default, what it asks, how it streams, what it raises. */
const SDKS = {
  openai: {
    once: (apiKey = key()) => new OpenAI({ apiKey, maxRetries: 0 }),
    usual: () => new OpenAI({ apiKey: key() }),
    ask: (client, model = GPT) => client.chat.completions.create({ model, messages: user(fresh()) }),
    async stream(client) {
      let texts = 0;
      for await (const chunk of await client.chat.completions.create({ model: GPT, messages: user(fresh()), stream: true }))
        texts += Boolean(chunk.choices[0]?.delta?.content);
      return texts;
    },
    limited: (error) => error instanceof OpenAI.RateLimitError && error.code === "rate_limit_exceeded" && waits(error),
    broken: (error) => error instanceof OpenAI.InternalServerError && error.status === 503,
  },
  anthropic: {
    once: (apiKey = key()) => new Anthropic({ apiKey, maxRetries: 0 }),
    usual: () => new Anthropic({ apiKey: key() }),
    ask: (client, model = CLAUDE) => client.messages.create({ model, max_tokens: 30, messages: user("Hi") }),
    async stream(client) {
      let texts = 0;
      const stream = client.messages.stream({ model: CLAUDE, max_tokens: 30, messages: user(fresh()) });
      stream.on("text", () => (texts += 1));
      await stream.finalMessage();
      return texts;
    },
    limited: (error) => error instanceof Anthropic.RateLimitError && error.error?.error?.type === "rate_limit_error" && waits(error),
    broken: (error) => error instanceof Anthropic.InternalServerError && error.status === 503,
  },
  gemini: {
    once: (apiKey = key()) => new GoogleGenAI({ apiKey }),
    usual: () => new GoogleGenAI({ apiKey: key() }),
    ask: (client, model = GEMINI) => client.models.generateContent({ model, contents: fresh() }),
    async stream(client) {
      let texts = 0;
      for await (const chunk of await client.models.generateContentStream({ model: GEMINI, contents: fresh() })) texts += Boolean(chunk.text);
      return texts;
    },
    limited: (error) => error instanceof ApiError && error.status === 429 && ["RESOURCE_EXHAUSTED", "RetryInfo"].every((word) => error.message.includes(word)),
    broken: (error) => error instanceof ApiError && error.status === 503 && error.message.includes("UNAVAILABLE"),
  },
  ai: {
    once: (apiKey = key()) => createOpenAI({ baseURL, apiKey }),
    ask: (client, model = GPT) => generateText({ model: client.chat(model), prompt: fresh(), maxRetries: 0 }),
    async stream(client) {
      let texts = 0;
      for await (const _ of streamText({ model: client.chat(GPT), prompt: fresh(), maxRetries: 0, onError() {} }).textStream) texts += 1;
      return texts;
    },
    limited: (error) => APICallError.isInstance(error) && error.statusCode === 429 && error.data?.error?.code === "rate_limit_exceeded",
    broken: (error) => APICallError.isInstance(error) && error.statusCode === 503,
  },
};

for (const [name, sdk] of Object.entries(SDKS)) {
  await check(`retry: ${name}, two failures and an answer`, async () => {
    for (const text of ["503;retry-after-ms=20", "500;retry-after-ms=20", "reset"]) {
      await script(text, text);
      assert.ok(await sdk.ask(sdk.once()));
      assert.equal(await calls(), 3, `calls where ${text} comes twice`);
    }
  });
  await check(`retry: ${name}, a stream before its first byte`, async () => {
    await script("reset", "500;retry-after-ms=20");
    assert.ok((await sdk.stream(sdk.once())) > 5);
    assert.equal(await calls(), 3);
  });
  await check(`retry: ${name}, what stays broken is the provider's error`, async () => {
    const { error, calls } = await failing(() => sdk.ask((sdk.usual ?? sdk.once)()), ...Array(9).fill("503;retry-after-ms=20"));
    assert.ok(sdk.broken(error), `${error.name}: ${error.message}`);
    assert.equal(calls, 3, "one and two retries of the proxy, none of the SDK");
  });
  await check(`limits: ${name}, what is over is the provider's own error`, async () => {
    const client = sdk.once(key());
    let admitted = 0;
    const { error } = await failing(async () => {
      for (; admitted < 6; admitted += 1) await sdk.ask(client, "limited");
    });
    assert.ok(sdk.limited(error), `${error.name}: ${error.message}`);
    assert.ok(admitted >= 1 && admitted <= 3 && admitted === (await calls()), `${admitted} were admitted`);
    assert.ok(await sdk.ask(sdk.once(key()), "limited"), "another key counts apart");
  });
}

finish();
