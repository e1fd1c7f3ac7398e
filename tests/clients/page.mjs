// The page in a real browser: every view with real traffic, filters, the story of one exchange, changes with the token, the keyboard, a
// saved report from a file. What must not happen is counted over all of it: a breach of the Content-Security-Policy, an error on the
// console, a finding of axe, a request to anywhere else.
//
// WATCHED is the admin door of another proxy, at which looking needs a token too; LOOKS is a token that may look and no more.
//
// ADMIN, INBOUND, OUTBOUND are the proxy's doors, CONFIG its file, APP the port of the app to start, TOKEN the admin token, SHOTS where pictures go, ONLY a part of
// the name of the checks to make.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { bundle } from "./page_bundle.mjs";
import { VIEWS, broken, changes, looking } from "./page_changes.mjs";
import { hour } from "./page_hour.mjs";
import { app, traffic, MARKUP } from "./page_traffic.mjs";
import { check, finish } from "./verdicts.mjs";

const { ADMIN, INBOUND, OUTBOUND, APP, TOKEN, SHOTS, SOURCE, BROWSER } = process.env;
const AXE = fs.readFileSync(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8");

fs.mkdirSync(SHOTS, { recursive: true });
const server = await app(+APP, OUTBOUND);
const load = traffic(INBOUND, 40);
const browser = await chromium.launch({ executablePath: BROWSER, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

/** A tab in which whatever must not happen is noted. */
async function tab(options = {}, token = "") {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.bad = [];
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) page.bad.push(`console: ${message.text()}`); });
  page.on("pageerror", (error) => page.bad.push(`script: ${error.stack}`));
  page.on("dialog", (dialog) => { page.bad.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => { if (!/^(data|blob|file):/.test(request.url()) && !request.url().startsWith(ADMIN + "/")) page.bad.push(`elsewhere: ${request.url()}`); });
  await page.exposeFunction("breach", (text) => page.bad.push(`policy: ${text}`));
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (event) => window.breach(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
  if (token) await page.addInitScript((secret) => sessionStorage.setItem("outrigger:token", secret), token);
  return page;
}

/** Findings of axe in the whole page. Its script comes in past the policy, by the debugger. */
async function axe(page, what) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  assert.deepEqual(found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.target.join(" ")).slice(0, 3).join(", ")} ${one.nodes[0].failureSummary}`), [], what);
}

const shown = (page, text) => page.locator("main", { hasText: text }).first().waitFor({ timeout: 15_000 });
const open = async (page, view) => { await page.goto(`${ADMIN}/#${view}`); await page.locator(`main.view-${view.split("?")[0]}`).waitFor(); };
const live = (page) => page.locator(".live[data-tone=ok]").waitFor({ timeout: 15_000 });
const clean = (page, what) => assert.deepEqual(page.bad, [], what);
const cell = (page, region, row, column) => page.locator(`[role=region][aria-label="${region}"] tr`, { hasText: row }).first().locator("td").nth(column);
const number = (text) => Number(String(text).replace(/[^\d.]/g, ""));

await check("the chart library is the published one, unchanged", async () => {
  const published = path.dirname(new URL(import.meta.resolve("uplot/package.json")).pathname);
  for (const [file, from] of [["uPlot.iife.min.js", "dist/uPlot.iife.min.js"], ["uPlot.LICENSE", "LICENSE"]]) {
    assert.equal(fs.readFileSync(path.join(SOURCE, "vendor", file), "utf8"), fs.readFileSync(path.join(published, from), "utf8"), file);
  }
});

await check("the bundle is what tests/page.sh makes of the source", async () => {
  for (const [file, text] of Object.entries(bundle(SOURCE))) assert.ok(fs.readFileSync(path.join(SOURCE, file), "utf8") === text, `${file} is not: run tests/page.sh`);
});

const page = await tab();
await open(page, "overview");
await live(page);
// Two marks of the page's rates: after that a number is that of the traffic.
await page.waitForFunction(() => document.querySelectorAll("[aria-label=Routes] tbody tr").length > 6, null, { timeout: 30_000 });

await check("overview: numbers of both doors, charts, budgets and routes", async () => {
  await page.waitForFunction(() => parseFloat(document.querySelector(".tile .value").textContent) > 20, null, { timeout: 45_000 });
  assert.equal(await page.locator(".chart canvas").count(), 6);
  await shown(page, "user-spend");
  assert.ok(number(await cell(page, "Routes", "boom", 2).textContent()) > 0.5);
  assert.match(await cell(page, "Routes", "boom", 3).textContent(), /100/);
});

await check("five questions are answered on the first view, each a click away from more", async () => {
  for (const [question, answer, view] of [
    ["What does a user cost?", "ada [<]?\\$", "money"],
    ["Why was a request refused?", "Last: .* at .*Most often: .*limited \\d", "errors"],
    ["Which provider is slow?", "(anthropic|openai) .*95% of the answers", "targets"],
    ["What would a cache save?", "of claude and saved about [<]?\\$", "cache"],
    ["Is it safe to deploy now?", "^Better not: .*(down|breaker|incident)", "health"],
  ]) {
    await open(page, "overview");
    await page.waitForFunction(([asked, answer]) => {
      const at = [...document.querySelectorAll(".asked dt")].find((one) => one.textContent === asked);
      return at && new RegExp(answer).test(at.nextElementSibling.textContent.replaceAll("\u2009", " "));
    }, [question, answer], { timeout: 45_000 }).catch(async () => assert.fail(`${question} ${await page.locator(".asked").textContent()}`));
    await page.locator(".asked dt", { hasText: question }).locator("xpath=following-sibling::dd[1]").getByRole("button").click();
    await page.locator(`main.view-${view}`).waitFor();
  }
  clean(page);
});

await check("a caller whose name is markup is text, here and in every view", async () => {
  await open(page, "money");
  await page.locator("[aria-label='Money by caller'] tr", { hasText: MARKUP }).waitFor({ timeout: 20_000 });
  for (const view of VIEWS) { await open(page, view); await page.waitForTimeout(300); }
  assert.equal(await page.locator("img").count(), 0);
  clean(page);
});

await check("a filter narrows the routes, and a route leads to its errors", async () => {
  await open(page, "overview");
  await page.getByLabel("Filter routes").fill("boom");
  await page.waitForFunction(() => document.querySelectorAll("[aria-label=Routes] tbody tr").length === 1);
  await page.getByRole("button", { name: "boom" }).click();
  await page.locator("main.view-errors").waitFor();
  assert.equal(await page.getByLabel("Route", { exact: true }).inputValue(), "boom");
});

await check("canvas: every layer has its nodes, a click tells what is known, a find hides the rest", async () => {
  await open(page, "canvas");
  const node = (name) => page.getByRole("button", { name });
  for (const name of [/^ada /, /^chat /, /^app /, /^embeddings /, /^anthropic /, /^claude-sonnet.*\$/, /^openai key 2 /]) await node(name).first().waitFor({ timeout: 20_000 });
  assert.ok(await page.locator(".money text").count() > 0, "dollars stand on edges");
  await node(/^down /).click();
  await page.locator(".side", { hasText: "Breaker down/gpt-4o-mini" }).waitFor();
  await page.locator(".side li", { hasText: /connect_failed|breaker_open/ }).first().waitFor({ timeout: 20_000 }).catch(async () => assert.fail(await page.locator(".side").textContent()));
  // A key says what the provider has left for it, and an operation what holds of its routes.
  const said = (id, text) => page.waitForFunction(([id, text]) => new RegExp(text).test(document.querySelector(`g[data-id="${id}"]`)?.getAttribute("aria-description") || ""), [id, text], { timeout: 30_000 }).catch(async () => assert.fail(`${id} ${await page.locator(`g[data-id="${id}"]`).getAttribute("aria-description")}`));
  await said("key:openai #1", "left");
  await said("provider:anthropic", "left|used");
  await said("key:lent #1", "quarantined");
  await said("op:chat", "used|hits|ref");
  await page.locator('g[data-id="op:chat"]').click();
  await page.locator(".side", { hasText: /Policies of gpt(?=.*cache)(?=.*limits)/ }).waitFor();
  await page.locator(".side h3", { hasText: "Last errors" }).waitFor();
  await page.locator('g[data-id="key:lent #1"]').click();
  await page.locator(".side", { hasText: /Key team-b\s*quarantined until .*bad key/ }).waitFor();
  await axe(page, "canvas with a node's facts");
  await page.getByLabel("Find in the picture").fill("embed");
  await page.waitForFunction(() => !document.querySelector('g[data-id="in:boom"]'));
  await page.getByLabel("Find in the picture").fill("");
  await page.locator('g[data-id="in:boom"]').waitFor();
});

await check("canvas: places that a reader has chosen are remembered", async () => {
  const first = () => page.evaluate(() => [...document.querySelectorAll('g[data-id^="in:"]')].sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map((one) => one.dataset.id));
  const before = await first();
  await page.locator(`g[data-id="${before[2]}"]`).focus();
  await page.keyboard.press("Alt+ArrowUp");
  await page.keyboard.press("Alt+ArrowUp");
  await page.waitForFunction((id) => JSON.parse(localStorage.getItem("outrigger:canvas:order")).in[0] === id, before[2]);
  await page.reload();
  await page.locator(`g[data-id="${before[2]}"]`).waitFor();
  await page.waitForFunction((count) => document.querySelectorAll('g[data-id^="in:"]').length === count, before.length);
  assert.equal((await first())[0], before[2]);
});

await check("money: sums by caller, what is behind one, and an export", async () => {
  await open(page, "money");
  await page.locator("[aria-label='Money by caller'] tr", { hasText: "ada" }).waitFor({ timeout: 20_000 });
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Export CSV" }).click();
  const csv = fs.readFileSync(await (await download).path(), "utf8");
  assert.match(csv, /^from,to,caller,calls,cost_usd/);
  assert.match(csv, /\r\n.*,ada,\d+,\d+\.\d{9},/);
  await page.getByRole("button", { name: "ada", exact: true }).click();
  await page.locator("[aria-label='Money by model'] tr", { hasText: "claude-sonnet-4-5" }).waitFor({ timeout: 20_000 });
  assert.match(page.url(), /caller=ada/);
});

await check("errors: filters, and the whole story of one exchange", async () => {
  await open(page, "errors");
  const rows = page.locator("[aria-label=Errors] tbody tr");
  await rows.nth(3).waitFor({ timeout: 20_000 });
  await page.getByRole("searchbox", { name: "Reason" }).fill("connect_failed");
  await page.getByRole("searchbox", { name: "Reason" }).press("Enter");
  await page.waitForFunction(() => { const all = [...document.querySelectorAll("[aria-label=Errors] tbody tr")]; return all.length > 0 && all.every((row) => row.cells[2].textContent === "connect_failed"); });
  assert.match(page.url(), /reason=connect_failed/);
  await rows.first().getByRole("button").click();
  const steps = page.locator(".story .steps li");
  await steps.first().waitFor();
  assert.match(await steps.first().textContent(), /down.*connect_failed.*retried/);
  assert.match(await page.locator(".story").textContent(), /Request id.*Route.*Tries/s);
  await page.locator(".story").getByRole("button", { name: "This caller" }).click();
  await page.waitForFunction(() => location.hash.includes("caller="));
  await page.getByLabel("Time").selectOption("own");
  await page.getByLabel("To (empty: now)").fill("2020-01-01T00:00");
  await page.getByText("No failure fits").waitFor();
  assert.match(page.url(), /since=own.*to=2020/);
  await axe(page, "errors with own times");
  await page.getByLabel("To (empty: now)").fill("");
  await page.locator(".story").getByRole("button", { name: "Close" }).or(page.locator("main")).first().waitFor();
  await rows.first().waitFor();
  await page.getByLabel("Time").selectOption("");
  await page.getByLabel("Kind").selectOption("client_error");
  await page.getByText("No failure fits").or(rows.first()).first().waitFor();
});

await check("limits, cache, targets and health say what they should", async () => {
  const visit = () => fetch(`${INBOUND}/busy`, { headers: { "x-user-id": "nearby" } }).then((answer) => answer.status);
  const seen = [await visit(), await visit(), await visit(), await visit()];
  assert.deepEqual(seen, [200, 200, 200, 429]);
  await open(page, "limits");
  await page.locator(".budgets li", { hasText: "caller nearby" }).filter({ hasText: "3 of 3 requests per 10 s" }).waitFor();
  await page.locator("[aria-label=Limits] tr", { hasText: "visits" }).getByRole("button").click();
  await page.locator("main.view-errors").waitFor();
  assert.equal(await page.getByRole("searchbox", { name: "Limit" }).inputValue(), "visits");
  await page.locator("[aria-label=Errors] tbody tr", { hasText: "nearby" }).first().waitFor();
  assert.ok(await page.evaluate(() => [...document.querySelectorAll("[aria-label=Errors] tbody tr")].every((row) => row.cells[2].textContent === "limited")));
  await open(page, "cache");
  await page.locator("[aria-label='Keys that save most'] tr", { hasText: "/products/" }).first().waitFor({ timeout: 20_000 });
  await open(page, "targets");
  await page.locator("[aria-label=Breakers] tr", { hasText: "down/gpt-4o-mini" }).waitFor({ timeout: 20_000 });
  assert.match(await cell(page, "Targets", "openai", 10).textContent(), /2 of 2/);
  const barred = page.locator("[aria-label=Keys] tr", { hasText: "team-b" });
  await barred.filter({ hasText: "quarantined" }).filter({ hasText: "bad key" }).waitFor({ timeout: 30_000 });
  assert.match(await barred.textContent(), /\d\d:\d\d:\d\d/, "until when");
  assert.ok(!(await page.content()).includes("sk-"), "no key is in the page");
  await open(page, "health");
  await shown(page, "in memory: a restart begins at zero");
});

await check("health: incidents, monitors with their days, and who is told", async () => {
  await open(page, "health");
  const incident = page.locator("[aria-label=Incidents] tbody tr", { hasText: "monitor gone" });
  await incident.filter({ hasText: "open" }).first().waitFor({ timeout: 30_000 });
  await page.locator("[aria-label=Incidents] tbody tr", { hasText: "breaker" }).first().waitFor({ timeout: 30_000 });
  await page.locator("[aria-label=Monitors] tr", { hasText: "gone" }).filter({ hasText: "down" }).waitFor();
  await page.locator("[aria-label=Monitors] tr", { hasText: "shop" }).filter({ hasText: "up" }).waitFor();
  assert.equal(await page.locator("[aria-label=Monitors] tr", { hasText: "shop" }).locator("rect").count(), 90);
  await page.waitForFunction(() => { const row = [...document.querySelectorAll("[aria-label=Channels] tbody tr")].find((row) => row.cells[0].textContent === "team"); return row && +row.cells[2].textContent > 0; }, null, { timeout: 30_000 });
  await page.locator("[aria-label=Channels] tr", { hasText: "nowhere" }).locator("[data-tone=bad]").first().waitFor({ timeout: 30_000 });
  assert.equal(await page.getByRole("button", { name: "Send a test to team" }).count(), 0);
  clean(page);
});

await check("without the token nothing can be changed, and the page says what to do", async () => {
  await open(page, "config");
  await shown(page, "needs the admin token");
  await open(page, "cache");
  assert.equal(await page.getByRole("button", { name: "Purge", exact: true }).count(), 0);
  clean(page, "without a token the page asks for nothing that is refused");
});

await check("the token signs in, stays out of the address, and allows changes", async () => {
  await page.getByRole("banner").getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("Admin token").fill("wrong");
  await page.getByRole("dialog").getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").filter({ hasText: "does not take" }).waitFor();
  await page.getByLabel("Admin token").fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  await open(page, "targets");
  // The provider has several keys: each has a breaker of its own.
  const breaker = "openai#1/gpt-4o-mini";
  await page.getByRole("button", { name: `Hold open ${breaker}` }).click();
  await page.locator("[aria-label=Breakers] tr", { hasText: breaker }).filter({ hasText: "by hand" }).waitFor();
  await page.getByRole("button", { name: `Close ${breaker}` }).click();
  await page.locator("[aria-label=Breakers] tr", { hasText: breaker }).filter({ hasText: "closed" }).waitFor();
  await open(page, "health");
  await page.getByRole("button", { name: "Send a test to team" }).click();
  await page.locator("#said", { hasText: "Delivered to team" }).waitFor();
  await open(page, "canvas");
  if ((await page.locator('g[data-id="op:chat"]').getAttribute("aria-pressed")) !== "true") await page.locator('g[data-id="op:chat"]').click();
  await page.locator(".terms", { hasText: "What holds on gpt" }).waitFor();
  assert.match(await page.locator(".terms").textContent(), /limits budget.*\$0\.50 per day.*cache.*ttl10m/s);
  await open(page, "cache");
  await page.getByRole("button", { name: /^Purge GET .*products/ }).first().click();
  await page.locator("#said", { hasText: "1 entries purged" }).waitFor();
  await open(page, "config");
  await page.locator("pre", { hasText: "user-spend" }).waitFor();
  assert.ok(!(await page.locator("pre").textContent()).includes("sk-one"), "secrets are masked");
  assert.ok(!page.url().includes(TOKEN));
  await page.goto(`${ADMIN}/#constructor`); // a name that every object has
  await open(page, "canvas");
  await page.evaluate(() => { location.hash = "__proto__"; });
  await page.waitForTimeout(200);
  assert.equal(await page.locator("main.view-canvas").count(), 1, "what is no view opens none");
  assert.equal(await page.evaluate((secret) => JSON.stringify(localStorage).includes(secret) || document.documentElement.textContent.includes(secret), TOKEN), false);
});

const tools = { browser, axe, open, live, clean };
await changes(page, tools);
await looking(tools);
await broken(tools);

await check("by keyboard alone: to a view, along the picture, into a node and back", async () => {
  const keys = await tab();
  await open(keys, "overview");
  await live(keys);
  await keys.locator("body").press("Tab");
  assert.equal(await keys.evaluate(() => document.activeElement.textContent), "To the content");
  for (let tabs = 0; tabs < 8 && (await keys.evaluate(() => document.activeElement.textContent)) !== "Canvas"; tabs += 1) await keys.keyboard.press("Tab");
  await keys.keyboard.press("Enter");
  await keys.locator("g.node").first().waitFor({ timeout: 20_000 });
  await keys.locator('g[data-id^="in:"]').first().waitFor({ timeout: 20_000 });
  const current = () => keys.evaluate(() => document.activeElement.dataset.id || document.activeElement.tagName);
  for (let tabs = 0; tabs < 8 && !(await current()).includes(":"); tabs += 1) await keys.keyboard.press("Tab");
  const first = await current();
  assert.match(first, /:/);
  await keys.keyboard.press("ArrowRight");
  assert.notEqual((await current()).split(":")[0], first.split(":")[0], "the next layer");
  const here = await current();
  await keys.keyboard.press("Enter");
  await keys.locator(".side h2").waitFor();
  assert.equal(await current(), here, "the place is kept");
  await keys.keyboard.press("Escape");
  await keys.locator(".side").waitFor({ state: "hidden" });
  clean(keys);
  await keys.context().close();
});

for (const [name, options] of [["light", { colorScheme: "light" }], ["dark", { colorScheme: "dark" }], ["phone", { colorScheme: "light", viewport: { width: 375, height: 780 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }], ["narrow", { colorScheme: "dark", viewport: { width: 640, height: 800 } }]]) {
  await check(`${name}: every view, no finding of axe, nothing wider than the window`, async () => {
    const view = await tab(options, TOKEN);
    await open(view, "overview");
    await live(view);
    await view.waitForFunction(() => document.querySelectorAll("[aria-label=Routes] tbody tr").length > 6, null, { timeout: 30_000 });
    for (const name_ of VIEWS) {
      await open(view, name_);
      await view.waitForTimeout(1_500);
      await axe(view, `${name_}, ${name}`);
      assert.ok(await view.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), `${name_} is wider than the window`);
      await view.screenshot({ path: path.join(SHOTS, `${name_}-${name}.png`), fullPage: true });
    }
    clean(view, name);
    await view.context().close();
  });
}

await check("below a path, with and without the last slash", async () => {
  const below = await tab();
  for (const place of ["/ops/outrigger", "/ops/outrigger/"]) {
    await below.context().route("**/ops/outrigger**", async (route) => {
      const inner = route.request().url().replace(/\/ops\/outrigger\/?/, "/");
      if (inner.endsWith("/api/live")) return route.fulfill({ status: 200, contentType: "text/event-stream", body: "" });
      // A request of a page that is left has no answer.
      return route.fetch({ url: inner, timeout: 5_000 }).then((response) => route.fulfill({ response })).catch(() => {});
    });
    const asked = below.waitForRequest((request) => request.url().endsWith("/ops/outrigger/api/live"));
    await below.goto(ADMIN + place + "#health");
    await asked;
    await below.locator("main", { hasText: "What the proxy depends on" }).waitFor();
    await below.context().unroute("**/ops/outrigger**");
  }
  await below.context().close();
});

/** Opens the picture with what is known of a route. The page remembers the chosen node: a click on it would close it. */
async function products() {
  await open(page, "canvas");
  const node = page.locator('g[data-id="in:products"]');
  await node.waitFor();
  if ((await node.getAttribute("aria-pressed")) !== "true") await node.click();
  await page.locator(".side h2", { hasText: "products" }).waitFor();
}

await check("a saved report opens from a file, with its numbers and without the proxy", async () => {
  // With the token, the terms of a route and the configuration are among the answers.
  await page.getByRole("banner").getByRole("button", { name: "Sign out" }).waitFor();
  await open(page, "errors");
  await page.locator("[aria-label=Errors] tbody tr").first().waitFor();
  await open(page, "config");
  await page.locator("pre", { hasText: "user-spend" }).waitFor();
  await products();
  await page.locator(".side", { hasText: "What holds here" }).waitFor();
  await open(page, "overview");
  await page.waitForTimeout(2_500);
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save report" }).click();
  await page.locator("#said", { hasText: "Left out: the configuration, the terms" }).waitFor();
  const file = path.join(SHOTS, "report.html");
  await (await download).saveAs(file);
  const text = fs.readFileSync(file, "utf8");
  assert.ok(!text.includes(TOKEN) && !text.includes("sk-one") && !text.includes("sk-ant"), "no secret is in it");
  const held = JSON.parse(text.match(/<script type="application\/json" id="report">(.*?)<\/script>/s)[1]);
  const may = ["api/health", "api/limits", "api/cache", "api/cache/top?by=time", "api/targets", "api/ledger", "api/approvals", "api/alerts", "api/monitors"];
  assert.deepEqual(Object.keys(held.answers).filter((path) => !may.includes(path) && !path.startsWith("api/usage?")), [], "nothing that the token guards");
  assert.ok(held.answers["api/limits"] && held.answers["api/health"]);
  const report = await tab({ offline: true });
  await report.goto(pathToFileURL(file).href);
  await report.locator(".live", { hasText: "report of" }).waitFor();
  for (const view of VIEWS) {
    await report.goto(`${pathToFileURL(file).href}#${view}`);
    await report.locator(`main.view-${view}`).waitFor();
    await report.waitForTimeout(200);
    await axe(report, `report, ${view}`);
  }
  assert.match(await report.locator("#banner").textContent(), /Left out: the configuration/);
  await report.goto(`${pathToFileURL(file).href}#errors`);
  await report.locator("main", { hasText: "is not part of a saved report" }).waitFor();
  await report.goto(`${pathToFileURL(file).href}#overview`);
  await report.locator("[aria-label=Routes] tbody tr").nth(6).waitFor();
  await report.goto(`${pathToFileURL(file).href}#health`);
  await report.locator("[aria-label=Monitors] tr", { hasText: "gone" }).waitFor();
  await report.goto(`${pathToFileURL(file).href}#money`);
  await report.locator("[aria-label='Money by caller'] tr", { hasText: "ada" }).waitFor();
  await report.screenshot({ path: path.join(SHOTS, "report.png"), fullPage: true });
  clean(report);
  await report.context().close();
});

await check("signing out forgets what the token has opened", async () => {
  await products();
  await page.locator(".side", { hasText: "What holds here" }).waitFor();
  await page.getByRole("banner").getByRole("button", { name: "Sign out" }).click();
  // Whoever comes next sees what the proxy tells now, and nothing from before.
  await page.route("**/api/routes/terms", () => {});
  await page.getByRole("banner").getByRole("button", { name: "Sign in" }).click();
  await page.getByLabel("Admin token").fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  await products();
  await page.waitForTimeout(2_500);
  assert.equal(await page.locator(".side", { hasText: "What holds here" }).count(), 0);
});

await check("first paint within 150 ms", async () => {
  const times = [];
  for (let round = 0; round < 5; round += 1) {
    const fresh = await tab();
    await open(fresh, "overview");
    await fresh.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
    times.push(await fresh.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    await fresh.context().close();
  }
  console.log(`     first paint: ${times.map((time) => Math.round(time)).join(", ")} ms`);
  assert.ok(Math.min(...times) <= 150, times.join(", "));
});

await check("an hour of ticks with 500 nodes: the memory of the browser is flat", async () => {
  const door = await hour(await (await fetch(`${ADMIN}/`)).text());
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
  const view = await context.newPage();
  await view.addInitScript(() => localStorage.setItem("outrigger:canvas:wide", JSON.stringify({ caller: true, in: true, provider: true, model: true, key: true })));
  const devtools = await context.newCDPSession(view);
  await devtools.send("HeapProfiler.enable");
  const heap = async () => { await devtools.send("HeapProfiler.collectGarbage"); return (await devtools.send("Runtime.getHeapUsage")).usedSize / 1024 / 1024; };
  await view.goto(`${door.url}/#canvas`);
  await view.waitForFunction(() => document.querySelectorAll("g.node").length >= 500, null, { timeout: 60_000 });
  const sizes = [];
  for (const tick of [1200, 2400, 3600]) {
    await door.reached(tick);
    await view.waitForTimeout(1_000); // what was sent is drawn
    sizes.push(await heap());
  }
  console.log(`     heap after 20, 40 and 60 minutes: ${sizes.map((size) => size.toFixed(1)).join(", ")} MiB; ${await view.locator("g.node").count()} nodes, ${await view.locator(".edges path").count()} edges`);
  assert.ok(sizes[2] <= sizes[0] * 1.1 + 1, sizes.join(", "));
  await context.close();
  door.close();
});

await check("nothing was breached, nothing was said on the console, nothing was asked elsewhere", async () => clean(page));

await browser.close();
await load.stop();
server.closeAllConnections();
server.close();
finish();
