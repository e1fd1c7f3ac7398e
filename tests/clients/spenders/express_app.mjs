// An Express app that calls models with the official SDKs, in each way in which such apps do; it knows nothing of the proxy.
//
// `/told` says what the calls of each `tag` have used, by the SDKs' own figures.

import Anthropic from "@anthropic-ai/sdk";
import express from "express";
import OpenAI from "openai";

const [GPT, CLAUDE] = ["gpt-4o-mini", "claude-sonnet-5"];
const client = new OpenAI({ maxRetries: 0 });
const claude = new Anthropic({ maxRetries: 0 });
const used = {};
const uses = (tag, model, input, output) => (used[tag] ??= []).push([model, input, output]);
const said = (tag) => [{ role: "user", content: `Say something to ${tag}.` }];

async function chat(tag, headers = {}) {
  const answer = await client.chat.completions.create({ model: GPT, messages: said(tag) }, { headers });
  uses(tag, GPT, answer.usage.prompt_tokens, answer.usage.completion_tokens);
  return { said: answer.choices[0].message.content };
}

const app = express();
app.get("/ask", async (req, res) => res.json(await chat(req.query.tag)));
app.get("/several", async (req, res) => res.json(await Promise.all([0, 1, 2].map(() => chat(req.query.tag)))));
app.get("/claude", async (req, res) => {
  const answer = await claude.messages.create({ model: CLAUDE, max_tokens: 200, messages: said(req.query.tag) });
  uses(req.query.tag, CLAUDE, answer.usage.input_tokens, answer.usage.output_tokens);
  res.json({ said: answer.content[0].text });
});
app.get("/stream", async (req, res) => {
  const { tag } = req.query;
  for await (const chunk of await client.chat.completions.create({ model: GPT, messages: said(tag), stream: true, stream_options: { include_usage: true } })) {
    if (chunk.usage) uses(tag, GPT, chunk.usage.prompt_tokens, chunk.usage.completion_tokens);
    for (const choice of chunk.choices) res.write(choice.delta.content ?? "");
  }
  res.end();
});
app.get("/fetch", async (req, res) => {
  const { tag } = req.query;
  const answer = await fetch(`${process.env.OPENAI_BASE_URL}/chat/completions`, {
    method: "POST", headers: { "content-type": "application/json", authorization: "Bearer sk-test" }, body: JSON.stringify({ model: GPT, messages: said(tag) }),
  }).then((answer) => answer.json());
  uses(tag, GPT, answer.usage.prompt_tokens, answer.usage.completion_tokens);
  res.json({ said: answer.choices[0].message.content });
});
app.get("/later", (req, res) => {
  setTimeout(() => chat(req.query.tag), 20);
  res.json({ said: "later" });
});
// As an app does it that passes the request id on.
app.get("/copies", async (req, res) => res.json(await chat(req.query.tag, { "x-request-id": req.headers["x-request-id"] })));
app.get("/fields", (req, res) => res.json(req.headers));
app.get("/told", (req, res) => res.json(used));
app.listen(Number(process.env.PORT), "127.0.0.1");
