// The picture behind the Canvas: nodes and edges out of the flows, with the state of each node.

const COLUMNS = [["caller", "Callers"], ["in", "Inbound routes"], ["app", "App"], ["op", "Operations"], ["provider", "Providers"], ["model", "Models"], ["key", "Keys"]];

const NOBODY = "(unknown)";

/** Nodes by id and edges by id, with rates a second and dollars a minute; with a word, of the flows that have it in a name. */
function picture(word) {
  const { seconds, rows: all } = flowsNow();
  const fits = (row) => [row.caller, row.cause, row.route, row.target, row.operation, row.model].some((name) => name && name.toLowerCase().includes(word));
  const rows = word ? all.filter(fits) : all;
  const nodes = new Map(), edges = new Map();
  const node = (column, name, more) => {
    const id = column + ":" + name;
    let one = nodes.get(id);
    if (!one) nodes.set(id, (one = { id, column, name, label: name, rate: 0, errors: 0, refused: 0, cached: 0, usd: 0, state: null, idle: true, routes: new Set(), ...more }));
    return one;
  };
  const edge = (from, to) => {
    const id = from.id + ">" + to.id;
    let one = edges.get(id);
    if (!one) edges.set(id, (one = { id, from: from.id, to: to.id, rate: 0, errors: 0, usd: 0 }));
    return one;
  };
  const add = (one, row, requests) => {
    one.rate += requests / seconds;
    one.errors += Math.min(row.errors, requests) / seconds;
  };
  const count = (one, row) => {
    one.idle = false;
    add(one, row, row.requests);
    one.refused += row.refused / seconds;
    one.cached += row.cached / seconds;
  };
  const app = node("app", "app");
  for (const row of rows) {
    const usd = (row.nano / 1e9 / seconds) * 60;
    const on = Math.max(0, row.requests - row.cached - row.refused);
    if (row.door === "inbound") {
      const [caller, route] = [node("caller", row.caller || NOBODY), node("in", row.route)];
      count(caller, row);
      count(route, row);
      caller.routes.add("inbound " + row.route);
      add(edge(caller, route), row, row.requests);
      add(edge(route, app), row, on);
      app.idle = false;
      add(app, row, on);
      continue;
    }
    const of = [];
    const op = node("op", row.operation || "other");
    const provider = node("provider", row.target || "(none)");
    of.push(op, provider);
    count(op, row);
    const first = edge(app, op);
    add(first, row, row.requests);
    const chain = [[op, provider]];
    provider.idle = false;
    add(provider, row, on);
    if (row.model) {
      const model = node("model", provider.name + "/" + row.model, { label: row.model });
      model.idle = false;
      add(model, row, on);
      model.usd += usd;
      chain.push([provider, model]);
      of.push(model);
      if (row.key !== null) {
        const key = node("key", provider.name + " #" + (row.key + 1), { label: provider.name + " key " + (row.key + 1), key: String(row.key + 1) });
        of.push(key);
        key.idle = false;
        add(key, row, on);
        key.usd += usd;
        chain.push([model, key]);
      }
    }
    for (const [from, to] of chain) {
      const one = edge(from, to);
      add(one, row, on);
      one.usd += usd;
    }
    for (const one of of) one.routes.add("outbound " + row.route);
    first.usd += usd;
    for (const one of [op, provider, app]) one.usd += usd;
    // The dollars of a call are those of the request that caused it.
    if (row.caller) {
      const caller = node("caller", row.caller);
      caller.usd += usd;
      if (row.cause) edge(caller, node("in", row.cause)).usd += usd;
    }
    if (row.cause) {
      const route = node("in", row.cause);
      route.usd += usd;
      edge(route, app).usd += usd;
    }
  }
  for (const one of nodes.values()) if (one.column === "in") one.routes.add("inbound " + one.name);
  known((column, name, more) => { if (nodes.has(column + ":" + name) || !word || name.toLowerCase().includes(word)) Object.assign(node(column, name), more); });
  states(nodes);
  return { nodes, edges };
}

/** The routes that a node's requests went through, with the names of their policies and limits; of the app: every inbound one. */
function routesOf(one) {
  const all = look("api/routes", 15).data || {};
  return ["inbound", "outbound"].flatMap((door) => (all[door] || []).filter((route) => one.routes.has(door + " " + route.name) || (one.column === "app" && door === "inbound")).map((route) => ({ ...route, door })));
}

/** What is configured and has no traffic is there too. */
function known(node) {
  const routes = look("api/routes", 15).data;
  for (const route of (routes && routes.inbound) || []) node("in", route.name);
  const targets = look("api/targets", 3).data;
  for (const target of (targets && targets.targets) || []) {
    if (target.name === "app") continue;
    node("provider", target.name);
    for (const key of target.keys || []) node("key", target.name + " #" + key.key, { label: target.name + " key " + (key.name || key.key), key: key.name || String(key.key) });
  }
}

/** The one thing about a node that a reader should know first. */
function states(nodes) {
  const worse = (one, how, text) => {
    const order = ["bad", "warn", "ok", null];
    if (one && text && (!one.state || order.indexOf(how) < order.indexOf(one.state.how))) one.state = { how, text };
  };
  const fullest = new Map();
  for (const row of budgets(true)) {
    const how = row.share >= 1 ? "bad" : row.share >= 0.8 ? "warn" : "ok", text = Math.round(row.share * 100) + "% used";
    for (const part of (row.who || "").split(", ")) {
      const [kind, name] = [part.split(" ", 1)[0], part.slice(part.indexOf(" ") + 1)];
      worse(nodes.get({ caller: "caller:", provider: "provider:", route: "in:" }[kind] + name), how, text);
    }
    // The fullest comes first.
    if (!fullest.has(row.door + row.limit)) fullest.set(row.door + row.limit, [how, text]);
  }
  const limits = new Map(["inbound", "outbound"].flatMap((door) => ((look("api/routes", 15).data || {})[door] || []).map((route) => [door + " " + route.name, route.limits.map((limit) => door + limit)])));
  for (const one of nodes.values()) {
    if (one.column === "in" || one.column === "op") for (const route of one.routes) for (const limit of limits.get(route) || []) worse(one, ...(fullest.get(limit) || []));
    if (one.cached > 0) worse(one, "ok", Math.round((one.cached / one.rate) * 100) + "% hits");
    if (one.refused > 0) worse(one, "warn", rate(one.refused) + "/s ref.");
  }
  for (const { label, v } of familyOf("breaker_state")) {
    if (!v) continue;
    const name = label.target.split("@")[0].replace(/^([^/#]*)#[^/]*/, "$1");
    const [how, text] = v === 2 ? ["bad", "breaker open"] : ["warn", "half open"];
    worse(nodes.get("model:" + name) || nodes.get("provider:" + name) || (name === "app" ? nodes.get("app:app") : null), how, text);
    worse(nodes.get("provider:" + name.split("/")[0]), how === "bad" && !name.includes("/") ? "bad" : "warn", text);
  }
  const targets = look("api/targets", 3).data;
  for (const target of (targets && targets.targets) || []) {
    if (target.reached === "no") worse(nodes.get(target.name === "app" ? "app:app" : "provider:" + target.name), "bad", "not reached");
    const left = (keys) => {
      for (const [name, word] of [["requests_left", " left"], ["tokens_left", " tok left"]]) {
        const known = keys.filter((key) => key[name] !== null && key[name] !== undefined);
        if (known.length) { const n = sum(known, (key) => key[name]); return [n ? "ok" : "bad", short(n) + word]; }
      }
      return [];
    };
    for (const key of target.keys || []) {
      const one = nodes.get("key:" + target.name + " #" + key.key);
      if (key.rests_seconds) worse(one, keyWord(key) === "rests" ? "warn" : "bad", keyWord(key) + " " + span(key.rests_seconds));
      worse(one, ...left([key]));
    }
    worse(nodes.get("provider:" + target.name), ...left(target.keys || []));
  }
}
