// The page in a real browser, continued: changes of the configuration, a reader that may only look, a feed that breaks off.
//
// The environment is that of page.mjs.

import assert from "node:assert/strict";
import fs from "node:fs";
import { cut } from "./page_feed.mjs";
import { check } from "./verdicts.mjs";

const { ADMIN, WATCHED, LOOKS, INBOUND, CONFIG } = process.env;
export const VIEWS = ["canvas", "overview", "money", "errors", "limits", "cache", "targets", "config", "health"];

/** Changes through the page, by a reader that is signed in. */
export async function changes(page, { axe, open, clean }) {
  const there = (await (await fetch(`${ADMIN}/api`)).json()).pages;
  if (!there.includes("POST /api/config/plan")) console.log("SKIPPED a policy is switched to observe: this proxy takes no changes of its file");
  else await check("a policy is switched to observe: difference, check, history, and back again", async () => {
    await open(page, "config");
    const mode = page.getByLabel("Mode of cache on products").or(page.getByLabel("Mode of cache  on products"));
    await mode.selectOption("observe");
    const diff = page.getByLabel("Difference");
    await diff.filter({ hasText: "mode: observe" }).waitFor();
    assert.match(await diff.locator(".taken").last().textContent(), /ttl: 60s/);
    await page.getByPlaceholder("Why (kept in the history)").fill("trying it out");
    await page.getByRole("button", { name: "Apply" }).click();
    await page.locator("#said", { hasText: "Applied" }).waitFor();
    await page.locator("main li", { hasText: "trying it out" }).filter({ hasText: "at work" }).waitFor();
    assert.match(fs.readFileSync(CONFIG, "utf8"), /\{[^{}]*catalog[^{}]*mode: observe[^{}]*\}/);
    assert.match(fs.readFileSync(CONFIG, "utf8"), /# the catalogue changes rarely/, "comments stay");
    await page.getByRole("button", { name: "Move the limit user-spend" }).click();
    await page.getByLabel("Amount").fill("0.75");
    await page.getByRole("dialog").getByRole("button", { name: "Plan" }).click();
    await diff.filter({ hasText: "usd: 0.75" }).waitFor();
    await page.getByRole("button", { name: "Discard" }).click();
    await page.getByRole("button", { name: "Roll back to version 1" }).click();
    await diff.filter({ hasText: "mode: observe" }).waitFor();
    await page.getByRole("button", { name: "Apply" }).click();
    await page.locator("#said", { hasText: "back to version 1" }).waitFor();
    assert.doesNotMatch(fs.readFileSync(CONFIG, "utf8"), /\{[^{}]*catalog[^{}]*mode: observe[^{}]*\}/);
    clean(page);
  });

  await check("a route is added where it can match, and the page says what stands in its way", async () => {
    const diff = page.getByLabel("Difference");
    const add = async (door, name, fits) => {
      await open(page, "config");
      const form = page.locator("details", { hasText: "Add a route" });
      if ((await form.getAttribute("open")) === null) await form.locator("summary").click();
      await form.getByLabel("Door").selectOption(door);
      await form.getByLabel("Name").fill(name);
      await form.getByLabel("Path or models").fill(fits);
      await form.getByRole("button", { name: "Plan" }).click();
      await diff.filter({ hasText: `"${name}"` }).or(diff.filter({ hasText: `name: ${name}` })).waitFor();
    };
    await add("inbound", "twin", "/boom");
    await page.locator("main li", { hasText: "the same match as route `boom`" }).waitFor();
    assert.ok(await page.getByRole("button", { name: "Apply" }).isDisabled());
    await page.getByRole("button", { name: "Discard" }).click();
    await add("outbound", "mine", "*-4o");
    await page.locator("main p", { hasText: "`gpt` takes the requests that match both it and `mine`: its `models` is more specific" }).waitFor();
    await axe(page, "a planned change with a warning");
    await page.getByRole("button", { name: "Discard" }).click();
    await add("inbound", "reports", "/api/reports/**");
    assert.equal(await page.getByText("in the way").count(), 0);
    await page.getByPlaceholder("Why (kept in the history)").fill("a new route");
    await page.getByRole("button", { name: "Apply" }).click();
    await page.locator("#said", { hasText: "Applied: append to inbound.routes" }).waitFor();
    assert.match(fs.readFileSync(CONFIG, "utf8"), /name: reports/);
    await fetch(`${INBOUND}/api/reports/1`, { headers: { "x-user-id": "ada" } });
    await open(page, "overview");
    await page.locator("[aria-label=Routes] tr", { hasText: "reports" }).waitFor({ timeout: 20_000 });
    await open(page, "config");
    const last = page.locator("main li", { hasText: "a new route" });
    const version = Number(await last.locator("b").textContent());
    await page.getByRole("button", { name: `Roll back to version ${version - 1}` }).click();
    await diff.filter({ hasText: "reports" }).waitFor();
    await page.getByRole("button", { name: "Apply" }).click();
    await page.locator("#said", { hasText: `back to version ${version - 1}` }).waitFor();
    assert.doesNotMatch(fs.readFileSync(CONFIG, "utf8"), /reports/);
    clean(page);
  });
}

/** A reader with a token of the role `read`, at a door where looking needs one. */
export async function looking({ browser, axe, live }) {
  await check("a token that may look sees no button for a change, and the door refuses one", async () => {
    const context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
    const view = await context.newPage();
    const bad = [];
    view.on("console", (message) => { if (message.type() === "error" && !/401|403/.test(message.text())) bad.push(message.text()); });
    view.on("pageerror", (error) => bad.push(error.stack));
    await view.goto(`${WATCHED}/#overview`);
    await view.locator("#banner", { hasText: "wants the admin token" }).waitFor();
    await view.getByRole("banner").getByRole("button", { name: "Sign in" }).click();
    await view.getByLabel("Admin token").fill(LOOKS);
    await view.keyboard.press("Enter");
    await view.locator("#said", { hasText: "Signed in as eye: to look, not to change" }).waitFor();
    await live(view);
    for (const name of VIEWS) {
      await view.goto(`${WATCHED}/#${name}`);
      await view.locator(`main.view-${name}`).waitFor();
      await view.waitForTimeout(700);
      const words = await view.locator("main button:visible").allTextContents();
      assert.deepEqual(words.filter((word) => /^(Apply|Plan|Move|Roll back|Purge|Hold open|Close|Send a test|Approve|Decline|Read the file again)$/.test(word)), [], name);
      assert.equal(await view.locator("main select[aria-label^='Mode of']").count(), 0);
      assert.equal(await view.getByText("Add a route").isVisible().catch(() => false), false);
      await axe(view, `${name}, a token that looks`);
    }
    for (const [path, body] of [["api/config/plan", { edits: [] }], ["api/config/apply", { base: "", edits: [] }], ["api/config/rollback", { version: 1 }], ["api/cache/purge", { all: true }], ["api/reload", {}], ["api/drain", {}]]) {
      const answer = await fetch(`${WATCHED}/${path}`, { method: "POST", headers: { authorization: `Bearer ${LOOKS}` }, body: JSON.stringify(body) });
      assert.equal(answer.status, 403, path);
    }
    for (const path of ["api/config", "api/config/history", "api/routes/terms"]) assert.equal((await fetch(`${WATCHED}/${path}`, { headers: { authorization: `Bearer ${LOOKS}` } })).status, 403, path);
    assert.deepEqual(bad, []);
    await context.close();
  });
}

/** The feed of a door that goes away and comes back. */
export async function broken({ browser, axe }) {
  await check("a feed that breaks off: the page says so, goes on where it was, and counts nothing twice", async () => {
    const door = await cut(await (await fetch(`${ADMIN}/`)).text());
    const context = await browser.newContext({ viewport: { width: 1360, height: 900 } });
    const view = await context.newPage();
    const bad = [];
    view.on("pageerror", (error) => bad.push(error.stack));
    await view.goto(`${door.url}/#canvas`);
    const numbers = () => view.locator('g[data-id="caller:ada"] .numbers').textContent().then((text) => parseFloat(text));
    await door.reached(60);
    await view.locator('g[data-id="caller:ada"]').waitFor();
    await view.waitForTimeout(300);
    assert.equal(await numbers(), 10);
    door.break();
    await view.locator(".live", { hasText: "no answer" }).waitFor();
    await view.locator("#banner", { hasText: "The proxy does not answer. The numbers below are those of" }).waitFor();
    await axe(view, "a feed that broke off");
    assert.equal(await numbers(), 10, "what is known stays");
    door.mend();
    await view.locator(".live", { hasText: "live" }).waitFor({ timeout: 15_000 });
    await view.locator("#banner").waitFor({ state: "hidden" });
    assert.equal(door.asked.at(-1), "1.60", "it asks for what came after the last tick it has had");
    await door.reached(100);
    await view.waitForTimeout(300);
    assert.equal(await numbers(), 10, "ticks that came twice count once");
    assert.deepEqual(bad, []);
    await context.close();
    door.close();
  });
}
