// An app, and clients that use it through the proxy: what the page is shown with.
//
// The app passes on what instrumentation passes on (`baggage`, `traceparent`, `x-request-id`), so that its calls are joined to the
// requests that caused them. One caller's name is markup: the page must show it as text.

import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

export const MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>";
const PASSED_ON = ["baggage", "traceparent", "x-request-id"];

/** Starts the app; `outbound` is the proxy's outbound door. */
export function app(port, outbound) {
  const agent = new http.Agent({ keepAlive: true });
  const call = (path, body, headers) => new Promise((done) => {
    const request = http.request(outbound + path, { method: "POST", agent, headers: { "content-type": "application/json", authorization: "Bearer sk-app", ...headers } }, (answer) => {
      answer.resume().on("end", () => done(answer.statusCode));
    });
    request.on("error", () => done(0));
    request.end(JSON.stringify(body));
  });
  const server = http.createServer(async (request, answer) => {
    const url = new URL(request.url, "http://app");
    const reply = (status, text, headers = {}) => { answer.writeHead(status, { "content-type": "application/json", ...headers }); answer.end(JSON.stringify(text)); };
    request.resume();
    if (url.pathname === "/boom") return reply(500, { error: "broken" });
    if (url.pathname === "/slow") { await sleep(120); return reply(200, { slow: true }); }
    if (url.pathname.startsWith("/products")) { await sleep(15); return reply(200, { products: ["anchor"] }, { "cache-control": "max-age=60" }); }
    if (url.pathname === "/chat" || url.pathname === "/embed") {
      const headers = Object.fromEntries(PASSED_ON.filter((name) => request.headers[name]).map((name) => [name, request.headers[name]]));
      const q = url.searchParams.get("q") || "?";
      const model = url.searchParams.get("model") || "gpt-4o-mini";
      const provider = url.searchParams.get("provider") || "openai";
      const messages = [{ role: "user", content: q }];
      const status = url.pathname === "/embed" ? await call("/openai/v1/embeddings", { model: "text-embedding-3-small", input: q }, headers)
        : provider === "anthropic" ? await call("/anthropic/v1/messages", { model: "claude-sonnet-4-5", max_tokens: 64, messages }, { ...headers, "anthropic-version": "2023-06-01" })
        : await call(`/${provider}/v1/chat/completions`, { model, messages }, headers);
      return reply(status === 200 ? 200 : 502, { model: status });
    }
    reply(200, { path: url.pathname });
  });
  return new Promise((done) => server.listen(port, "127.0.0.1", () => done(server)));
}

/** Sends requests until `stop()`; about `rate` a second. */
export function traffic(inbound, rate = 40) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
  const callers = ["ada", "grace", "linus", "margaret", "u-1042", MARKUP];
  let going = true, sent = 0, n = 0;
  const get = (path, caller) => new Promise((done) => {
    const request = http.get(inbound + path, { agent, headers: { "x-user-id": caller } }, (answer) => answer.resume().on("end", done));
    request.on("error", done);
  });
  const one = () => {
    n += 1;
    const caller = callers[n % 11 < 5 ? 0 : n % callers.length];
    const path = n % 19 === 0 ? "/boom" : n % 13 === 0 ? "/slow" : n % 29 === 0 ? `/chat?provider=down&q=${n}` : n % 31 === 0 ? `/chat?provider=lent&q=${n}`
      : n % 7 === 0 ? `/chat?provider=anthropic&q=${n % 70}` : n % 5 === 0 ? `/embed?q=${n}` : n % 3 === 0 ? `/chat?q=${n % 40}` : n % 2 === 0 ? `/products/${n % 4}` : n % 17 === 0 ? "/busy" : "/";
    sent += 1;
    return get(path, caller);
  };
  const done = (async () => {
    const began = Date.now();
    const open = new Set();
    while (going) {
      while (sent < ((Date.now() - began) / 1000) * rate && open.size < 200) {
        const request = one().finally(() => open.delete(request));
        open.add(request);
      }
      await sleep(10);
    }
    await Promise.all(open);
    agent.destroy();
  })();
  return { stop: () => { going = false; return done; }, get sent() { return sent; } };
}

export const CONFIG = `
inbound:
  listen: 127.0.0.1:{inbound}
  app: http://127.0.0.1:{app}
  trusted_proxies: [127.0.0.0/8]
  caller: [header:x-user-id, client_ip]
  routes:
    - {name: products, match: {path: /products/**}, cache: {ttl: 60s, tags: [catalog]}} # the catalogue changes rarely
    - {name: busy, match: {path: /busy}, limits: [{name: visits, key: caller, requests: 3, window: 10s}]}
    - name: chat
      match: {path: /chat}
      limits: [{name: user-spend, key: caller, usd: 0.05, window: 1h, alert_at: [0.1, 0.8]}]
    - {name: embed, match: {path: /embed}}
    - {name: boom, match: {path: /boom}, breaker: {consecutive: 1000, ratio: "off"}}
outbound:
  listen: 127.0.0.1:{outbound}
  providers:
    openai: {url: "{mock}", keys: [sk-one-1111, sk-two-2222]}
    anthropic: {url: "{mock}", keys: [sk-ant-3333]}
    lent: {api: openai, url: "{mock}", keys: [{name: team-b, key: sk-team-invalid}, {name: team-c, key: sk-team-c}]}
    down: {api: openai, url: "http://127.0.0.1:{closed}"}
  limits:
    - {name: budget, key: provider, usd: 0.5, window: 1d, alert_at: [0.01, 0.5, 0.8]}
    - {name: calls, key: caller, requests: 400, window: 1m, mode: observe}
  defaults:
    timeouts: {connect: 500ms}
    retry: {max_retries: 1, backoff: [20ms]}
    breaker: {consecutive: 3, ratio: "off", open: {base: 2s, max: 10s}}
  routes:
    - {name: gpt, match: {operation: chat, models: ["gpt-*"]}, cache: {ttl: 10m}}
    - {name: claude, match: {operation: messages}, cache: {ttl: 10m, mode: observe}}
    - {name: vectors, match: {operation: embeddings}}
monitors:
  shop: {url: "tcp://127.0.0.1:{app}", every: 1s, timeout: 500ms}
  gone: {url: "tcp://127.0.0.1:{closed}", every: 1s, timeout: 500ms}
alerts:
  group: 0s
  channels: {team: {webhook: "http://127.0.0.1:{app}/hook"}, nowhere: {webhook: "http://127.0.0.1:{closed}/hook"}}
`;
