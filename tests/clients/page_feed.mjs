// A door whose feed can be broken off and mended: one caller, ten requests a tick. After a break it sends ticks again that it has sent
// before, as a reverse proxy with a buffer may.

import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

const AGAIN = 20;

/** Serves `page` and a feed that goes to the tick of the last `reached(tick)` and waits there. */
export async function cut(page) {
  const began = Date.now() - 600_000;
  const asked = [];
  let last = 0, until = 0, reached = () => {}, broken = false, open = [];
  const tick = (n) => ({ at: began + n * 1000, up: n, generation: 1, new: [], set: [], gone: [], flows: [["inbound", "ada", null, "home", "app", "", null, null, 10, 0, 0, 0, 0, 0, 9000]] });
  const server = http.createServer(async (request, answer) => {
    const path = new URL(request.url, "http://door").pathname;
    if (path === "/") return answer.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page);
    if (path === "/api") return answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ role: "read", pages: [] }));
    if (broken) return request.socket.destroy();
    const seen = request.headers["last-event-id"];
    asked.push(seen);
    open.push(request.socket);
    let gone = false;
    answer.on("close", () => { gone = true; });
    answer.writeHead(200, { "content-type": "text/event-stream" });
    const send = (name, n, data) => answer.write(`id: 1.${n}\nevent: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
    let next = 1;
    if (seen) next = Math.max(1, last - AGAIN + 1);
    else send("snapshot", 0, { v: 1, at: began, up: 0, generation: 1, version: "test", families: [], series: [], minutes: [] });
    while (!gone) {
      if (next <= until) {
        send("tick", next, tick(next));
        last = Math.max(last, next);
        next += 1;
        if (next > until) reached();
      }
      await sleep(10);
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}`, asked,
    reached: (wanted) => new Promise((done) => { until = wanted; reached = done; }),
    break: () => { broken = true; open.forEach((socket) => socket.destroy()); open = []; },
    mend: () => { broken = false; },
    close: () => { server.closeAllConnections(); server.close(); },
  };
}
