// A door that shows the page an hour of a large proxy in half a minute: 200 callers, 120 routes, 20 providers, 140 models, 40 keys.

import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const EXCHANGE = [0.001, 0.01, 0.1, 1, 10];
const FAMILIES = [["outrigger_requests_total", ["door", "route", "code", "cache"], null], ["outrigger_request_duration_seconds", ["door", "route"], EXCHANGE], ["outrigger_own_duration_seconds", ["door", "route"], EXCHANGE], ["outrigger_upstream_duration_seconds", ["target"], EXCHANGE], ["outrigger_cost_usd_total", ["route", "provider", "model"], null]];
const TICKS = 3600;

/** Serves `page`, and a feed that goes through an hour as fast as it is read; `reached(tick)` lets it go on to a tick, where it waits. */
export async function hour(page) {
  const began = Date.now() - TICKS * 1000;
  const values = new Map(), series = [];
  const add = (family, labels) => { series.push([series.length, family, labels, FAMILIES[family][2] ? [0, 0, 0, 0, 0, 0, 0] : 0]); };
  for (let n = 0; n < 120; n += 1) for (const family of [0, 1, 2]) add(family, family ? ["inbound", `route-${n}`] : ["inbound", `route-${n}`, "200", "none"]);
  for (let n = 0; n < 20; n += 1) add(3, [`provider-${n}`]);
  for (let n = 0; n < 140; n += 1) add(4, ["chat", `provider-${n % 20}`, `model-${n}`]);
  let tick = 0, seed = 1;
  const chance = (below) => { seed = Math.imul(seed ^ (seed >>> 15), 0x2c1b3c6d) + 0x9e3779b9 | 0; return ((seed ^ (seed >>> 13)) >>> 0) % below; };
  let until = 100, reached = () => {};
  const next = () => {
    tick += 1;
    const set = series.map(([id, family]) => {
      const value = (values.get(id) || 0) + chance(20);
      values.set(id, value);
      return [id, FAMILIES[family][2] ? [value / 100, 2, value] : value];
    });
    const flows = [];
    for (let n = 0; n < 300; n += 1) {
      const caller = chance(200), route = (caller * 7 + chance(2)) % 120, model = (caller * 3 + chance(2)) % 140;
      flows.push(["inbound", `caller-${caller}`, null, `route-${route}`, "app", "", null, null, 7, chance(50) ? 0 : 1, 0, 0, 0, 0, 9000]);
      flows.push(["outbound", `caller-${caller}`, `route-${route}`, "chat", `provider-${model % 20}`, "chat", `model-${model}`, chance(2), 3, 0, 0, 0, 900, 40000, 90000]);
    }
    return { at: began + tick * 1000, up: tick, generation: 1, new: [], set, gone: [], flows };
  };
  const server = http.createServer(async (request, answer) => {
    const path = new URL(request.url, "http://door").pathname;
    if (path === "/") return answer.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page);
    if (path === "/api") return answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ role: "read", pages: [] }));
    answer.writeHead(200, { "content-type": "text/event-stream" });
    let gone = false;
    answer.on("close", () => { gone = true; });
    const send = async (name, data) => { if (!answer.write(`id: 1.${tick}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`)) await new Promise((go) => { const end = () => { answer.off("drain", end); answer.off("close", end); go(); }; answer.on("drain", end); answer.on("close", end); }); };
    await send("snapshot", { v: 1, at: began, up: 0, generation: 1, version: "test", families: FAMILIES, series, minutes: [] });
    while (!gone) {
      if (tick < until) await send("tick", next());
      if (tick === until) reached();
      await sleep(tick < until ? 7 : 50);
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    reached: (wanted) => new Promise((done) => { until = wanted; reached = done; }),
    close: () => { server.closeAllConnections(); server.close(); },
  };
}
