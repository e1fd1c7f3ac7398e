// One failing call of a Node SDK behind `retry` costs the tries that are configured, and not a multiple of them.
//
// Started like given_up.py, in front of the same proxy. Prints `N passed, N failed`.

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText } from "ai";
import OpenAI from "openai";

import { check, CLAUDE, env, failing, finish, fresh, GPT, user } from "./checks.mjs";

const CLOSED = {
  openai: env.OPENAI_BASE_URL.replace("/openai/", "/closed-openai/"),
  anthropic: env.ANTHROPIC_BASE_URL.replace("/anthropic", "/closed-anthropic"),
};
const SDKS = {
  openai: { client: (more) => new OpenAI({ apiKey: "sk-test", ...more }), ask: (client) => client.chat.completions.create({ model: GPT, messages: user(fresh()) }) },
  anthropic: {
    client: (more) => new Anthropic({ apiKey: "sk-ant-test", ...more }),
    ask: (client) => client.messages.create({ model: CLAUDE, max_tokens: 20, messages: user(fresh()) }),
  },
};

/** What the proxy says it sent there. */
async function tries(target) {
  const metrics = await (await fetch(env.METRICS_URL)).text();
  const found = metrics.matchAll(new RegExp(`^outrigger_tries_total\\{[^}]*target="${target}"[^}]*\\} (\\d+)`, "gm"));
  return [...found].reduce((sum, [, number]) => sum + Number(number), 0);
}

for (const [name, sdk] of Object.entries(SDKS)) {
  await check(`${name}: a provider that is down costs three tries`, async () => {
    const before = await tries(`closed-${name}`);
    const { error } = await failing(() => sdk.ask(sdk.client({ baseURL: CLOSED[name] })));
    assert.equal(await tries(`closed-${name}`) - before, 3, "tries");
    assert.deepEqual([error.status, error.headers.get("x-should-retry")], [502, "false"]);
  });
  await check(`${name}: a provider that says nothing costs three tries`, async () => {
    const { error, calls } = await failing(() => sdk.ask(sdk.client()), ...Array(12).fill("hang"));
    assert.deepEqual([calls, error.status, error.headers.get("x-should-retry")], [3, 504, "false"]);
  });
}

await check("ai: retries of its own on top cost one try each", async () => {
  const client = createOpenAI({ baseURL: env.OPENAI_BASE_URL, apiKey: "sk-test" });
  const ask = () => generateText({ model: client.chat(GPT), prompt: fresh() });
  const { calls } = await failing(ask, ...Array(12).fill("503;retry-after-ms=20"));
  assert.ok(calls <= 5, `${calls} calls: three tries, and one for each of two repetitions`);
});

finish();
