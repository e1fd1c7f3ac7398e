// What the Node client tests share: one line for every check, the mock's controls, and "the same through the proxy and direct".
//
// DIRECT_URL is `outrigger mock` itself. A test ends with `finish()`: `N passed, N failed`, and 1 if one failed.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { check as verdict, finish } from "./verdicts.mjs";

export const env = process.env;
export const direct = env.DIRECT_URL.replace(/\/+$/, "");
export const cached = env.CACHED === "1";
export const GPT = "gpt-4o-mini", CLAUDE = "claude-sonnet-4-5", GEMINI = "gemini-2.5-flash", EMBED = "text-embedding-3-small";
console.warn = () => {}; // model deprecations; the mock answers to every name

export { finish };

export const check = (name, test) => verdict(name, async () => {
  await script();
  await test();
});

export async function control(method, path, body) {
  const answer = await fetch(direct + path, { method, body: body && JSON.stringify(body) });
  return answer.json();
}

export const books = () => control("GET", "/mock/books");
export const requests = () => control("GET", "/mock/requests");
export const fresh = () => `Question ${randomUUID()}`;
export const user = (content) => [{ role: "user", content }];
export const fault = (text) => ({ headers: { "x-mock-fault": text } });

/** How many requests the mock has seen. */
export const calls = async () => (await books()).requests;

/** The faults of the next calls, and nothing left of what was. */
export async function script(...faults) {
  await control("POST", "/mock/reset");
  if (faults.length) await control("POST", "/mock/script", faults);
}

/** The same through the proxy and direct; returns what came. */
export async function both(run, clients) {
  const results = [];
  for (const client of clients) results.push(await run(client));
  assert.deepEqual(results[0], results[1], `through the proxy ${JSON.stringify(results[0])}, direct ${JSON.stringify(results[1])}`);
  return results[0];
}

export async function eventually(what, test) {
  for (const end = Date.now() + 3000; !(await test()); await sleep(20)) assert.ok(Date.now() < end, what);
}

/** 20 pieces at 50 a second come at 20 instants; on a busy machine at fewer, of a buffered stream at one or two. */
export function oneByOne(at) {
  const instants = at.filter((time, nth) => nth === 0 || time - at[nth - 1] > 5).length;
  assert.ok(instants >= 5, `pieces came at ${instants} instants: not one by one`);
}

/** What `ask` raises, and what the provider saw of it. */
export async function failing(ask, ...faults) {
  await script(...faults);
  try {
    await ask();
  } catch (error) {
    return { error, seen: await requests(), calls: await calls() };
  }
  throw new Error("no error");
}

// Fields of one hop, which the proxy may add or change.
const HOP = new Set(["host", "connection", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id",
  "traceparent", "tracestate"]);

/** The request at the provider is the same through the proxy, but for the hop itself. */
export async function asSent(ask, clients) {
  const codings = [];
  const [fields] = await both(async (client) => {
    await script();
    await ask(client);
    const [request] = await requests();
    const fields = request.headers.filter(([name]) => !HOP.has(name)).map(([name, value]) => `${name}: ${value}`).sort();
    codings.push(new Set(fields.filter((field) => field.startsWith("accept-encoding")).flatMap((field) => field.split(/[:,]\s*/).slice(1))));
    return [fields.filter((field) => !field.startsWith("accept-encoding")), request.body, request.path];
  }, clients);
  // Usage is read on the side, so codings are narrowed to those that can be; none is added.
  assert.ok([...codings[0]].every((coding) => codings[1].has(coding)), codings);
  assert.ok(!fields.some((field) => field.includes("outrigger")), fields);
}

/** Leaving in the middle of a stream releases the provider; `start` gives what streams, and what ends it. */
export async function leftEarly(start, clients) {
  for (const client of clients) {
    await script();
    const [stream, leave] = await start(client);
    let number = 0;
    for await (const _ of stream) if (++number === 4) break;
    leave();
    await eventually("the provider still answers a client that left", async () => (await books()).in_flight === 0);
    const after = await books();
    assert.ok(after.abandoned === 1 && after.total.output < 200, JSON.stringify(after));
  }
}
