// Overview: how both doors do just now, the last hour, the budgets, and every route.

/** The views by name. A name of every object, as `constructor`, is none of them. */
const views = Object.create(null);

/** Rows by door and route, with the numbers of the last seconds. */
function routes() {
  const rows = new Map();
  const row = (label) => {
    const key = label.door + " " + label.route;
    if (!rows.has(key)) rows.set(key, { key, door: label.door, route: label.route, requests: 0, all: 0, errors: 0, refused: 0, hits: 0, lookups: 0, usd: 0 });
    return rows.get(key);
  };
  for (const one of familyOf("requests_total")) {
    const [at, n] = [row(one.label), growth(one)];
    at.requests += n;
    at.all += one.v;
    if (isError(one)) at.errors += n;
    if (isHit(one)) at.hits += n;
    if (isLookup(one)) at.lookups += n;
  }
  for (const one of familyOf("rejects_total")) row(one.label).refused += growth(one);
  for (const one of familyOf("cost_usd_total")) row({ door: "outbound", route: one.label.route }).usd += growth(one) * 60;
  for (const [family, name] of [["request_duration_seconds", "p"], ["own_duration_seconds", "own"]]) {
    for (const one of familyOf(family)) {
      const at = rows.get(one.label.door + " " + one.label.route);
      if (!at) continue;
      const counts = spread([one]);
      for (const share of name === "own" ? [95] : [50, 95, 99]) at[name + share] = quantile(counts, one.bounds, share / 100);
    }
  }
  return [...rows.values()];
}

/** Budgets as rows: use, amount, and the time until they are spent if it goes on as lately. With `near`: every key that is near its limit too. */
function budgets(near) {
  const limits = look("api/limits", 3).data || {};
  const rows = new Map();
  for (const one of [...(limits.budgets || []), ...((near && limits.near) || [])]) {
    const left = one.spent_at ? Math.max(0, (Date.parse(one.spent_at) - store.at) / 1000) : null;
    rows.set([one.door, one.limit, one.who].join(), { ...one, share: +one.amount ? +one.used / +one.amount : 0, left });
  }
  return [...rows.values()].sort((a, b) => b.share - a.share);
}

function budgetList(nothing, most) {
  const list = h("ul", { class: "budgets" });
  const empty = h("p", { class: "empty" }, nothing);
  let before = "";
  return {
    element: h("div", null, list, empty),
    update(rows) {
      const now = JSON.stringify(rows.map((row) => [row.limit, row.who, row.text, row.share, Math.round((row.left || 0) / 10)]));
      if (now === before) return;
      before = now;
      empty.hidden = rows.length > 0;
      list.replaceChildren(...rows.slice(0, most).map((row) => {
        const end = row.share >= 1 ? ", spent" : row.left !== null ? ", spent in " + span(row.left) + " at this rate" : row.unit === "usd" || row.unit === "tokens" ? ", will last at this rate" : "";
        return h("li", null,
          h("span", { class: "what" }, button(row.limit, () => go("errors", { refused_by: row.limit, door: row.door }), { class: "opener" }), " ", h("span", { class: "who" }, row.who || "everybody")),
          h("span", { class: "text" }, row.text), meter(row.share, null, row.limit + " " + percent(row.share) + " used"),
          h("span", { class: "end", "data-tone": row.share >= 1 ? "bad" : row.left !== null ? "warn" : null }, percent(row.share) + end));
      }));
    },
  };
}

views.overview = {
  title: "Overview",
  mount(root) {
    let seconds = recall("span", 900);
    const tiles = {
      in: tile("Inbound", "Requests a second to the app"), out: tile("Outbound", "Requests a second to the providers"),
      err: tile("Errors", "Share of requests that ended with 500 or more"), ref: tile("Refused", "Requests a second that the proxy answered itself"),
      own: tile("Own time", "The proxy's own time to the response head, p95"), up: tile("Providers", "One try at a provider, to the response head, p95"),
      hit: tile("Cache hits", "Share of lookups that were answered"), usd: tile("Spend", "Dollars a minute"), saved: tile("Saved", "Dollars a minute that cached answers would have cost"),
    };
    const perSec = (n) => rate(n) + "/s";
    const graphs = [
      [chart("Requests a second", [{ name: "all", ink: "dim", thin: true }, { name: "inbound", ink: "one" }, { name: "outbound", ink: "two" }], rate), ["all", "in", "out"]],
      [chart("Errors and refusals a second", [{ name: "errors", ink: "bad" }, { name: "refused", ink: "warn" }], rate), ["err", "ref"]],
      [chart("The proxy's own time", [{ name: "p50", ink: "one" }, { name: "p95", ink: "two" }, { name: "p99", ink: "three" }], time), ["own50", "own95", "own99"]],
      [chart("Upstream time", [{ name: "providers p50", ink: "one" }, { name: "p95", ink: "two" }, { name: "p99", ink: "three" }, { name: "app p95", ink: "four" }], time), ["up50", "up95", "up99", "app95"]],
      [chart("Dollars a minute", [{ name: "spent", ink: "two" }, { name: "saved", ink: "ok" }], usd), ["usd", "saved"]],
      [chart("Cache lookups a second", [{ name: "lookups", ink: "dim" }, { name: "hits", ink: "ok" }], rate), ["look", "hit"]],
    ];
    const spans = choice("Length of time", [[300, "5 minutes"], [900, "15 minutes"], [3600, "1 hour"]], seconds, (value) => { seconds = +value; keep("span", seconds); render(); });
    const money = budgetList(["No budget is in use. A limit with ", h("code", null, "alert_at"), " is shown here as soon as it is used."], 12);
    const questions = asked();
    let word = "";
    const filter = h("input", { type: "search", placeholder: "Filter routes", "aria-label": "Filter routes", oninput: () => { word = filter.value.toLowerCase(); render(); } });
    const list = table("routes", "Routes", [
      { name: "Route", of: (row) => row.route || "(no route)", class: "name" },
      { name: "Door", of: (row) => row.door },
      { name: "Req/s", number: true, of: (row) => row.requests, show: rate },
      { name: "Errors", number: true, of: (row) => (row.requests ? row.errors / row.requests : 0), show: percent, tone: (share) => (share >= 0.05 ? "bad" : share > 0 ? "warn" : null) },
      { name: "Refused/s", number: true, of: (row) => row.refused, show: rate, tone: (n) => (n > 0 ? "warn" : null) },
      { name: "p50", number: true, of: (row) => row.p50, show: time },
      { name: "p95", number: true, of: (row) => row.p95, show: time },
      { name: "p99", number: true, of: (row) => row.p99, show: time },
      { name: "Own p95", number: true, of: (row) => row.own95, show: time },
      { name: "Hits", number: true, of: (row) => (row.lookups ? row.hits / row.lookups : NaN), show: percent },
      { name: "$/min", number: true, of: (row) => (row.door === "outbound" ? row.usd : NaN), show: usd },
    ], { key: (row) => row.key, sort: "Req/s", empty: "No request has come yet. Send one to a door of the proxy and it is shown here.", open: (row) => go("errors", { door: row.door, route: row.route }) });

    fill(root, [
      h("dl", { class: "tiles" }, Object.values(tiles).map((one) => one.element)),
      panel("Asked first", null, questions.element),
      h("div", { class: "bar" }, h("h2", null, "The last"), spans),
      h("div", { class: "charts" }, graphs.map(([one]) => one.element)),
      panel("Budgets", null, money.element),
      panel("Routes", { note: "numbers of the last 30 seconds; a route opens its errors" }, h("div", { class: "bar" }, filter), list.element),
    ]);
    return {
      update() {
        questions.update();
        const at = points.end - 1;
        const now = (name) => (at >= 0 && Number.isFinite(points[name][at]) ? points[name][at] : 0);
        const fresh = (name) => { for (let back = at; back > at - 15 && back >= 0; back -= 1) if (Number.isFinite(points[name][back])) return points[name][back]; return NaN; };
        const fits = (door) => (one) => one.label.door === door;
        tiles.in.update(perSec(perSecond("requests_total", fits("inbound"))), whole(total("inflight_requests", fits("inbound"))) + " in flight");
        tiles.out.update(perSec(perSecond("requests_total", fits("outbound"))), whole(total("inflight_requests", fits("outbound"))) + " in flight");
        const [requests, errors] = [perSecond("requests_total"), perSecond("requests_total", isError)];
        const share = requests ? errors / requests : 0;
        tiles.err.update(percent(share), perSec(errors), share >= 0.05 ? "bad" : share > 0 ? "warn" : null);
        const refused = perSecond("rejects_total");
        tiles.ref.update(perSec(refused), whole(total("rejects_total")) + " since start", refused > 0 ? "warn" : null);
        tiles.own.update(time(fresh("own95")), "p50 " + time(fresh("own50")) + ", p99 " + time(fresh("own99")));
        tiles.up.update(time(fresh("up95")), "p50 " + time(fresh("up50")) + ", app " + time(fresh("app95")));
        const [hits, lookups] = [perSecond("requests_total", isHit), perSecond("requests_total", isLookup)];
        const [hitsAll, lookupsAll] = [total("requests_total", isHit), total("requests_total", isLookup)];
        tiles.hit.update(percent(lookups ? hits / lookups : NaN), "since start " + percent(lookupsAll ? hitsAll / lookupsAll : NaN));
        tiles.usd.update((cents(now("usd")) || usd(now("usd"))) + "/min", usd(total("cost_usd_total")) + " since start");
        tiles.saved.update((cents(now("saved")) || usd(now("saved"))) + "/min", usd(total("cache_saved_usd_total")) + " since start");
        for (const [one, names] of graphs) one.update(lines(names, seconds));
        money.update(budgets());
        list.update(routes().filter((row) => !word || (row.route + " " + row.door).toLowerCase().includes(word)));
      },
      leave: () => graphs.forEach(([one]) => one.drop()),
    };
  },
};
