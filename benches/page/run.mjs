// What the page costs the proxy: node benches/page/run.mjs BINARY [SECONDS]
//
// 250 routes, 249 callers and the app are 500 nodes of the canvas; 2,000 requests a second touch them in turn. The CPU time of the process
// is read over windows of SECONDS (15) each, in turn without and with one viewer of the Canvas. On a busy machine the rate is not the same
// in every window: the price is the viewer's part of the least squares of `share = a * rate + price * viewer`, as a share of one core. More
// than 2% is a failure. App and load share this process, on the other cores.

import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const [binary, seconds = "15"] = process.argv.slice(2);
const [RATE, ROUTES, CALLERS, WINDOWS, MOST] = [2000, 250, 249, 4, 2];
const home = fs.mkdtempSync(path.join(os.tmpdir(), "outrigger-page-"));

const app = http.createServer((request, answer) => { request.resume(); answer.end("ok"); });
await new Promise((done) => app.listen(0, "127.0.0.1", done));
const routes = Array.from({ length: ROUTES }, (_, n) => `    - {name: route-${n}, match: {path: /r/${n}}, limits: [{key: caller, requests: 1M, window: 1m}]}`);
const file = path.join(home, "proxy.yaml");
fs.writeFileSync(file, `inbound:
  listen: 127.0.0.1:0
  app: http://127.0.0.1:${app.address().port}
  trusted_proxies: [127.0.0.0/8]
  caller: [header:x-user-id]
  routes:
${routes.join("\n")}
admin: {listen: 127.0.0.1:0, probes: off, socket: off}
telemetry: {log: off}
workers: 1
`);
const proxy = spawn(binary, ["run", "--config", file], { stdio: ["ignore", "ignore", "pipe"] });
const at = await new Promise((done, fail) => {
  let said = "";
  proxy.stderr.on("data", (text) => {
    said += text;
    const line = said.split("\n").find((one) => one.includes('"serving"'));
    if (line) done(JSON.parse(line));
  });
  proxy.on("exit", () => fail(new Error(said)));
});

const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
const [host, port] = at.inbound.split(":");
let going = true, sent = 0, answered = 0, failed = 0;
const why = new Map();
const fail = (what) => { failed += 1; why.set(what, (why.get(what) || 0) + 1); };
const one = (n) => http.get({ host, port, agent, path: `/r/${n % ROUTES}`, headers: { "x-user-id": `caller-${n % CALLERS}` } }, (answer) => {
  answer.resume().on("end", () => { answered += 1; if (answer.statusCode !== 200) fail(`${answer.statusCode} ${answer.headers["proxy-status"] || ""}`); });
}).on("error", (error) => fail(error.code));
const load = (async () => {
  const began = Date.now();
  while (going) {
    for (const due = ((Date.now() - began) / 1000) * RATE; sent < due; sent += 1) one(sent);
    await sleep(2);
  }
})();

/** CPU time of the proxy so far, in seconds. */
const spent = () => {
  const fields = fs.readFileSync(`/proc/${proxy.pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
};
/** Reads the page's feed and asks what the Canvas asks, as often as it does (`look` in src/admin/page); gives the end of it. */
const view = () => {
  let ticks = 0;
  const ask = (page) => http.get(`http://${at.admin}/api/${page}`, (answer) => answer.resume()).on("error", () => {});
  const asking = [["limits", 3], ["targets", 3], ["routes", 15]].map(([page, every]) => (ask(page), setInterval(() => ask(page), every * 1000)));
  const request = http.get(`http://${at.admin}/api/live`, (answer) => answer.on("data", (piece) => { ticks += String(piece).split("event: ").length - 1; }));
  request.on("error", () => {});
  return () => { asking.forEach(clearInterval); request.destroy(); return ticks; };
};

await sleep(5000);
const windows = [];
let ticks = 0;
for (let round = 0; round < WINDOWS * 2; round += 1) {
  const watched = round % 2 === 1;
  const end = watched ? view() : () => 0;
  await sleep(2000);
  const [cpu, time, before] = [spent(), performance.now(), answered];
  await sleep(+seconds * 1000);
  const share = (100 * (spent() - cpu)) / ((performance.now() - time) / 1000);
  const rate = (answered - before) / ((performance.now() - time) / 1000);
  ticks += end();
  windows.push({ rate, watched: Number(watched), share });
  console.log(`${watched ? "with   " : "without"} a viewer: ${share.toFixed(2)}% of a core at ${rate.toFixed(0)} requests/s`);
}
going = false;
await load;
while (answered + [...why].reduce((all, [what, n]) => (what.startsWith("E") ? all + n : all), 0) < sent) await sleep(10);
agent.destroy();
proxy.kill("SIGTERM");
await new Promise((done) => proxy.on("exit", done));
app.closeAllConnections();
app.close();
fs.rmSync(home, { recursive: true });
const sum = (of) => windows.reduce((all, one) => all + of(one), 0);
const [rr, rw, ww] = [sum((one) => one.rate ** 2), sum((one) => one.rate * one.watched), sum((one) => one.watched)];
const [rs, ws] = [sum((one) => one.rate * one.share), sum((one) => one.watched * one.share)];
const price = (rr * ws - rw * rs) / (rr * ww - rw * rw), requests = (rs * ww - rw * ws) / (rr * ww - rw * rw);
const mean = sum((one) => one.rate) / windows.length;
console.log(`${RATE} requests a second: ${(requests * RATE).toFixed(2)}% of a core (${mean.toFixed(0)} a second were sent on average)`);
console.log(`the page: ${price.toFixed(2)}% of a core (${MOST}% at most); ${ticks} events, ${failed} of ${answered} requests failed ${[...why].map(([what, n]) => `${n} of ${what}`).join(", ")}`);
process.exit(price > MOST || failed > 0 || ticks < WINDOWS * +seconds ? 1 : 0);
