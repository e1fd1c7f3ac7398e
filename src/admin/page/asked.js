// Five questions that a reader has first, each with its answer in a sentence and the view that says more.

/** The cache of each route: lookups, hits, and what a cache that only observes would have answered and saved. */
function cacheRows() {
  const rows = new Map();
  for (const one of familyOf("requests_total")) {
    if (one.label.cache === "none") continue;
    const key = one.label.door + one.label.route;
    const mine = (other) => other.label.route === one.label.route;
    const row = rows.get(key) || { door: one.label.door, route: one.label.route, look: 0, hits: 0, all: 0, would: 0,
      saved: total("cache_saved_usd_total", (saved) => saved.label.door === one.label.door && mine(saved)), spent: one.label.door === "outbound" ? total("cost_usd_total", mine) : 0 };
    if (isLookup(one)) { row.look += growth(one); row.all += one.v; }
    if (isHit(one)) row.hits += one.v;
    if (one.label.cache === "observed_hit") row.would += one.v;
    rows.set(key, row);
  }
  // What was spent on answers that were kept already: each asked lookup has cost the same on average.
  return [...rows.values()].map((row) => ({ ...row, might: row.all > row.hits ? (row.spent * row.would) / (row.all - row.hits) : 0 }));
}

const list_ = (words) => words.slice(0, 3).join(", ") + (words.length > 3 ? " and " + (words.length - 3) + " more" : "");

function costs() {
  const { data } = look(question({ by: "caller", range: "24h" }), 15);
  if (!data) return ["Money says it by caller.", null];
  const rows = data.rows.filter((row) => +row.cost_usd > 0).sort((a, b) => b.cost_usd - a.cost_usd);
  if (!rows.length) return ["Nothing was spent in the last 24 hours.", null];
  return [list_(rows.map((row) => (row.caller || "(unknown)") + " " + usd(+row.cost_usd))) + ", in the last 24 hours.", null];
}

function refused() {
  const [now, all] = [perSecond("rejects_total"), total("rejects_total")];
  if (!all) return ["None was refused since the start.", "ok"];
  const last = has("api/errors") && look(errorPath({ kind: "refused" }, 1), 5).data;
  const row = last && last.failures && last.failures[0];
  const sums = new Map();
  for (const one of familyOf("rejects_total")) sums.set(one.label.reason, (sums.get(one.label.reason) || 0) + one.v);
  const most = [...sums].filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]).map(([reason, n]) => reason + " " + whole(n));
  const say = row ? "Last: " + (row.caller || "somebody") + " at " + clock(Date.parse(row.timestamp)) + ", " + (row.detail || row.reason) + ". " : "";
  return [say + "Most often: " + list_(most) + ".", now > 0 ? "warn" : null];
}

function slow() {
  const bounds = boundsOf("upstream_duration_seconds") || [];
  const rows = [...new Set(familyOf("upstream_duration_seconds").map((one) => one.label.target))].filter((name) => name !== "app").map((name) => {
    const times = spread(familyOf("upstream_duration_seconds").filter((one) => one.label.target === name));
    return { name, p95: quantile(times, bounds, 0.95) };
  }).filter((row) => Number.isFinite(row.p95)).sort((a, b) => b.p95 - a.p95);
  if (!rows.length) return ["No provider was asked in the last 30 seconds.", null];
  return [list_(rows.map((row) => row.name + " " + time(row.p95))) + ": 95% of the answers begin within that time.", null];
}

function saves() {
  const rows = cacheRows();
  const watched = rows.filter((row) => row.would > 0);
  const saved = total("cache_saved_usd_total");
  const real = saved > 0 ? "Caches that answer have saved " + usd(saved) + ". " : "";
  if (watched.length) return [real + "Those that observe would have answered " + list_(watched.map((row) => percent(row.would / row.all) + " of " + row.route + (row.might > 0 ? " and saved about " + usd(row.might) : ""))) + ".", "ok"];
  const cached = new Set(rows.map((row) => row.door + row.route));
  const without = [...new Set(familyOf("cost_usd_total").filter((one) => one.v > 0 && !cached.has("outbound" + one.label.route)).map((one) => one.label.route))];
  return [real + (without.length ? "Of " + list_(without) + " nobody knows: `cache: {ttl: 1h, mode: observe}` counts it without answering from it." : rows.length ? "Every route that costs money has a cache." : "No route has a cache: one with `mode: observe` counts it without answering from it."), null];
}

/** Whether the process can be replaced now: what speaks against it, and what is only to be known. */
function deploy() {
  const against = [], know = [];
  if (total("draining") > 0) against.push("it is draining already");
  const health = look("api/health", 2).data;
  if (health) for (const [name, one] of Object.entries(health.dependencies)) if (one.state !== "ok" && name !== "ledger") against.push(name + " is " + one.state);
  const alerts = has("api/alerts") && look("api/alerts", 5).data;
  for (const one of (alerts && alerts.incidents) || []) if (one.severity !== "low") against.push("an incident is open: " + one.rule + " " + one.subject);
  const targets = look("api/targets", 2).data;
  for (const target of (targets && targets.targets) || []) for (const breaker of target.breakers) if (breaker.state === "open") against.push("the breaker of " + breaker.name + " is open");
  const held = has("api/approvals") && look("api/approvals", 2).data;
  if (held && held.held && held.held.length) against.push(held.held.length + " requests wait for a yes");
  const ledger = look("api/ledger", 5).data;
  if (ledger && !ledger.busy && !ledger.durable) know.push("the ledger is in memory: the figures begin at zero");
  const flying = total("inflight_requests");
  know.unshift(flying ? whole(flying) + " requests in flight are finished first" : "nothing is in flight");
  return against.length ? ["Better not: " + list_(against) + ".", "warn"] : ["Yes. " + know[0][0].toUpperCase() + list_(know).slice(1) + ".", "ok"];
}

/** The panel of questions. */
function asked() {
  const rows = [
    ["What does a user cost?", costs, "Money", () => go("money", { by: "caller", range: "24h" })],
    ["Why was a request refused?", refused, "Refusals", () => go("errors", { kind: "refused" })],
    ["Which provider is slow?", slow, "Targets", () => go("targets")],
    ["What would a cache save?", saves, "Cache", () => go("cache")],
    ["Is it safe to deploy now?", deploy, "Health", () => go("health")],
  ].map(([question, answer, view, press]) => ({ question, answer, view, press, said: h("span") }));
  return {
    element: h("dl", { class: "asked" }, rows.map((row) => [h("dt", null, row.question), h("dd", null, row.said, " ", button(row.view, row.press, { class: "opener" }))])),
    update() {
      for (const row of rows) {
        const [text, tone] = row.answer();
        say(row.said, text);
        set(row.said, "data-tone", tone);
      }
    },
  };
}
