// The gate in a real browser: what pages of other origins may read and send, and what `secure: on` does to a page that knows nothing of it.
//
// INBOUND is the proxy's door, APP the port of the app to start, FRIEND and STRANGER the ports of two other origins, BROWSER the browser.

import assert from "node:assert/strict";
import http from "node:http";
import { chromium } from "playwright-core";
import { check, finish } from "./verdicts.mjs";

const { INBOUND, APP, FRIEND, STRANGER, BROWSER } = process.env;

// The app answers pages of every origin, as careless apps do.
const seen = [];
const app = http.createServer((request, response) => {
  seen.push(`${request.method} ${request.url}`);
  request.resume();
  response.setHeader("access-control-allow-origin", "*");
  if (request.url === "/page") {
    response.setHeader("set-cookie", ["sid=1; Path=/", "csrftoken=2; Path=/"]);
    response.setHeader("x-powered-by", "an app");
    response.setHeader("content-type", "text/html");
    return response.end(`<title>page</title><form method=post action=/pay><button id=pay>pay</button></form><script>document.title = "ran"</script>`);
  }
  response.setHeader("x-total", "7");
  response.setHeader("content-type", "application/json");
  response.end(`{"cookie":${JSON.stringify(request.headers.cookie ?? "")}}`);
});
app.on("upgrade", (request, socket) => { seen.push(`UPGRADE ${request.url}`); socket.destroy(); });
await new Promise((ready) => app.listen(+APP, "127.0.0.1", ready));
const plain = http.createServer((_, response) => response.setHeader("content-type", "text/html").end("<title>elsewhere</title>"));
const other = http.createServer((_, response) => response.setHeader("content-type", "text/html").end("<title>elsewhere</title>"));
await new Promise((ready) => plain.listen(+FRIEND, "127.0.0.1", ready));
await new Promise((ready) => other.listen(+STRANGER, "127.0.0.1", ready));

const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const context = await browser.newContext();
const friend = await context.newPage(), stranger = await context.newPage(), own = await context.newPage();
await friend.goto(`http://localhost:${FRIEND}/`);
await stranger.goto(`http://localhost:${STRANGER}/`);

/** What a page gets: status, fields it may read, body; or the name of its error. */
const asks = (page, path, options = {}) => page.evaluate(async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return { status: answer.status, total: answer.headers.get("x-total"), wait: answer.headers.get("retry-after"), id: answer.headers.get("x-request-id"), body: await answer.text() };
  } catch (error) {
    return { error: error.name };
  }
}, [INBOUND + path, options]);
const since = async (act) => {
  const before = seen.length;
  const answer = await act();
  return [answer, seen.slice(before)];
};

await check("a page of a named origin reads the answer, the exposed fields and the request id", async () => {
  const answer = await asks(friend, "/api/data", { credentials: "include" });
  assert.equal(answer.status, 200);
  assert.equal(answer.total, "7");
  assert.equal(answer.id.length, 32);
});

await check("a page of another origin reads nothing, whatever the app says", async () => {
  assert.deepEqual(await asks(stranger, "/api/data"), { error: "TypeError" });
});

await check("a preflight is answered by the proxy, and the request behind it reaches the app", async () => {
  const put = { method: "PUT", headers: { "content-type": "application/json", authorization: "Bearer x" }, body: "{}", credentials: "include" };
  const [answer, reached] = await since(() => asks(friend, "/api/data", put));
  assert.equal(answer.status, 200);
  assert.deepEqual(reached, ["PUT /api/data"]);
});

await check("a preflight of a page that is not named is refused, and nothing reaches the app", async () => {
  const [answer, reached] = await since(() => asks(stranger, "/api/data", { method: "PUT", headers: { "x-a": "1" } }));
  assert.deepEqual([answer, reached], [{ error: "TypeError" }, []]);
});

await check("a page sees that it is refused by a limit, and how long to wait", async () => {
  assert.equal((await asks(friend, "/tight/data")).status, 200);
  const refused = await asks(friend, "/tight/data");
  assert.equal(refused.status, 429);
  assert.ok(+refused.wait > 0);
});

await check("a form and a blind fetch of another site change nothing", async () => {
  const [status, reached] = await since(async () => {
    const answer = stranger.waitForResponse((response) => response.url() === `${INBOUND}/pay`);
    await stranger.evaluate((url) => {
      const form = Object.assign(document.createElement("form"), { method: "post", action: url });
      document.body.append(form);
      form.submit();
    }, `${INBOUND}/pay`);
    await stranger.waitForURL(`${INBOUND}/pay`);
    return (await answer).status();
  });
  assert.deepEqual([status, reached], [403, []]);
  await stranger.goto(`http://localhost:${STRANGER}/`);
  const [, blind] = await since(() => asks(stranger, "/pay", { method: "POST", mode: "no-cors", body: "x" }));
  assert.deepEqual(blind, []);
});

await check("a WebSocket of another site is refused", async () => {
  const [, reached] = await since(() => stranger.evaluate((url) => new Promise((done) => { new WebSocket(url).onerror = () => done(); }), INBOUND.replace("http", "ws") + "/socket"));
  assert.deepEqual(reached, []);
});

await check("the app's own page works as before, and its own form passes", async () => {
  const answer = await own.goto(`${INBOUND}/page`);
  assert.equal(await own.title(), "ran");
  const fields = answer.headers();
  assert.equal(fields["x-powered-by"], undefined);
  assert.equal(fields["x-content-type-options"], "nosniff");
  assert.ok(fields["content-security-policy-report-only"].includes("default-src 'self'"));
  assert.equal(await own.evaluate(() => document.cookie), "csrftoken=2");
  const [paid, reached] = await since(async () => {
    const answer = own.waitForResponse((response) => response.url() === `${INBOUND}/pay`);
    await own.click("#pay");
    return (await answer).status();
  });
  assert.deepEqual([paid, reached[0]], [200, "POST /pay"]);
});

await check("no page of another origin frames it", async () => {
  const framed = await stranger.evaluate((url) => new Promise((done) => {
    const frame = Object.assign(document.createElement("iframe"), { src: url });
    frame.onload = () => { try { done(frame.contentDocument === null ? "elsewhere" : "blocked"); } catch { done("blocked"); } };
    document.body.append(frame);
  }), `${INBOUND}/page`);
  const shown = stranger.frames().find((frame) => frame.url().startsWith(INBOUND));
  assert.ok(framed && (!shown || (await shown.title().catch(() => "")) !== "ran"), "the page ran in a frame");
});

await browser.close();
for (const server of [app, plain, other]) { server.closeAllConnections(); server.close(); }
finish();
