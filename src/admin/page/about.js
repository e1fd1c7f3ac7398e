// What is known of one part of the picture: its numbers, its state, what it is joined to, its last errors.

const pairs = (rows) => h("dl", { class: "pairs" }, rows.filter((row) => row && row[1] !== null && row[1] !== undefined && row[1] !== "").map(([name, value, how]) => [h("dt", null, name), h("dd", { "data-tone": how || null }, value)]));

/** The target whose numbers belong to a node: the app, a provider, or the provider of a model or key. */
function targetOf(one) {
  if (one.column === "app") return "app";
  if (one.column === "provider") return one.name;
  return one.column === "model" ? one.name.split("/")[0] : one.column === "key" ? one.name.split(" #")[0] : null;
}

function numbersOf(one, all) {
  const rows = [
    ["Requests", rate(one.rate) + "/s"],
    ["Errors", percent(one.rate ? one.errors / one.rate : NaN), one.errors > 0 ? "bad" : null],
    one.refused > 0 && ["Refused", rate(one.refused) + "/s", "warn"],
    one.cached > 0 && ["Cached", percent(one.cached / one.rate), "ok"],
    ["Spend", usd(one.usd) + "/min"],
  ];
  const door = one.column === "in" ? "inbound" : null;
  if (door) {
    const of = (family) => spread(familyOf(family).filter((series) => series.label.door === door && series.label.route === one.name));
    const times = of("request_duration_seconds");
    for (const share of [50, 95, 99]) rows.push(["p" + share, time(quantile(times, boundsOf("request_duration_seconds") || [], share / 100))]);
    rows.push(["Own p95", time(quantile(of("own_duration_seconds"), boundsOf("own_duration_seconds") || [], 0.95))]);
  }
  const target = targetOf(one);
  if (target) {
    const times = spread(familyOf("upstream_duration_seconds").filter((series) => series.label.target === target));
    for (const share of [50, 95, 99]) rows.push([(one.column === "key" || one.column === "model" ? target + " " : "") + "p" + share, time(quantile(times, boundsOf("upstream_duration_seconds") || [], share / 100))]);
    for (const series of familyOf("tries_total").filter((series) => series.label.target === target && growth(series) > 0 && series.label.outcome !== "ok")) {
      rows.push(["Tries: " + series.label.outcome, rate(growth(series)) + "/s", "warn"]);
    }
  }
  const joined = [...all.edges.values()].filter((edge) => edge.from === one.id || edge.to === one.id).sort((a, b) => b.rate - a.rate).slice(0, 8);
  return { rows, joined };
}

/** The state of limits, breakers, keys and cache of a node, as pairs. */
function stateOf(one) {
  const rows = [];
  const routes = routesOf(one), holds = (row) => routes.some((route) => route.door === row.door && route.limits.includes(row.limit));
  const named = (row) => (row.who || "").split(", ").some((part) => ["caller", "provider", "route", "model"].some((kind) => part === kind + " " + (one.column === "model" ? one.label : one.name)));
  const mine = budgets(true).filter((row) => named(row) || ((one.column === "in" || one.column === "op") && holds(row))).slice(0, 8);
  for (const row of mine) rows.push([row.limit + (named(row) ? "" : ", " + (row.who || "everybody")), row.text + (row.left !== null ? ", spent in " + span(row.left) : ""), row.share >= 0.8 ? "warn" : null]);
  for (const route of routes.slice(0, 8)) rows.push([one.column === "in" ? "Policies" : "Policies of " + route.name, route.policies.length ? route.policies.join(", ") : "none"]);
  const targets = look("api/targets", 3).data;
  const target = targets && targets.targets.find((target) => target.name === targetOf(one));
  if (target) {
    if (one.column === "provider" || one.column === "app") rows.push(["Address", target.origin], ["Reached", target.reached, target.reached === "no" ? "bad" : null]);
    for (const breaker of target.breakers) {
      if (one.column === "model" && breaker.name.split("@")[0].replace(/^([^/#]*)#[^/]*/, "$1") !== one.name) continue;
      if (one.column !== "key") rows.push(["Breaker " + breaker.name, breaker.state + " for " + span(breaker.since_seconds), breaker.state === "open" ? "bad" : breaker.state === "closed" ? null : "warn"]);
    }
    for (const key of target.keys || []) {
      if (one.column === "key" && !one.name.endsWith(" #" + key.key)) continue;
      if (one.column === "provider" || one.column === "key") for (const [name, word] of [["requests_left", "Requests"], ["tokens_left", "Tokens"]]) if (key[name] !== null && key[name] !== undefined) rows.push([word + " left, key " + (key.name || key.key), whole(key[name]), key[name] ? null : "bad"]);
      if (one.column === "provider" || one.column === "key") rows.push(["Key " + (key.name || key.key), key.rests_seconds ? keyWord(key) + (key.model ? " for " + key.model : "") + " until " + clock(store.at + key.rests_seconds * 1000) + ": " + (key.why || "").replaceAll("_", " ") : "serves", key.rests_seconds ? "warn" : null]);
    }
  }
  return rows;
}

/** The policies of a route with their numbers, as `outrigger explain` says them; for an operator alone: access rules are among them. */
function termsOf(one) {
  if (!access.operates || report) return [];
  const all = look("api/routes/terms", 15).data || {};
  const routes = routesOf(one).map((route) => ({ door: route.door, ...(all[route.door] || []).find((known) => known.name === route.name) })).filter((route) => route.policies && route.policies.length);
  return routes.slice(0, 8).flatMap((route) => [h("h3", null, "What holds " + (one.column === "in" ? "here" : "on " + route.name)), ...route.policies.map((policy) => h("details", null, h("summary", null, policy.policy + (policy.terms.name ? " " + policy.terms.name : "") + " ", badge(policy.mode === "enforce" ? "ok" : "warn", policy.mode)),
    editable() && button(policy.mode === "enforce" ? "Only observe …" : "Enforce …", () => go("config", { door: route.door, route: policy.terms["written on"] === "the door" ? "" : route.name, policy: policy.policy, limit: policy.policy === "limits" ? policy.terms.name : "", mode: policy.mode === "enforce" ? "observe" : "enforce" }), { class: "quiet small" }),
    pairs(Object.entries(policy.terms).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]))))]);
}

function about(one, all, close) {
  const kind = COLUMNS.find(([column]) => column === one.column)[1].replace(/s$/, "");
  const numbers = h("div"), state = h("div"), terms = h("div", { class: "terms" }), joined = h("ul", { class: "joined" }), errors = h("div");
  const links = [];
  if (one.column === "in") links.push(["Errors of this route", () => go("errors", { door: "inbound", route: one.name })], ["What it costs", () => go("money", { by: "caller", inbound: one.name })]);
  if (one.column === "caller") links.push(["Errors of this caller", () => go("errors", { caller: one.name })], ["What this caller costs", () => go("money", { by: "model", caller: one.name })]);
  if (one.column === "model" || one.column === "provider") links.push(["What it costs", () => go("money", one.column === "model" ? { by: "caller", model: one.label } : { by: "model", provider: one.name })]);
  if (targetOf(one)) links.push(["Targets", () => go("targets")]);
  const element = h("div", null,
    h("div", { class: "bar" }, h("h2", null, one.label), h("span", { class: "note" }, kind), h("span", { class: "push" }), button("Close", close, { class: "quiet" })),
    numbers, state, terms, h("h3", null, "Joined to"), joined, errors,
    h("div", { class: "bar" }, links.map(([text, press]) => button(text, press, { class: "quiet" }))));
  return {
    element,
    update(now, whole) {
      const { rows, joined: edges } = numbersOf(now, whole);
      numbers.replaceChildren(pairs(rows));
      state.replaceChildren(pairs(stateOf(now)));
      // What a reader has opened stays open: it is only made once.
      if (!terms.children.length) terms.replaceChildren(...termsOf(now));
      joined.replaceChildren(...edges.map((edge) => {
        const other = whole.nodes.get(edge.from === now.id ? edge.to : edge.from);
        return h("li", null, (edge.from === now.id ? "→ " : "← ") + other.label, h("span", { class: "n" }, rate(edge.rate) + "/s" + (edge.usd > 0 ? "  " + usd(edge.usd) + "/min" : "")));
      }));
      if (!edges.length) joined.replaceChildren(h("li", { class: "hint" }, "Nothing in the last 30 seconds."));
      if (views.errors && views.errors.few) errors.replaceChildren(...views.errors.few(now.column === "in" ? { route: now.name } : now.column === "caller" ? { caller: now.name } : now.column === "op" ? { operation: now.name } : now.column === "model" ? { target: targetOf(now), model: now.label } : now.column === "key" ? { target: targetOf(now), key: now.key } : targetOf(now) ? { target: targetOf(now) } : {}));
    },
  };
}
