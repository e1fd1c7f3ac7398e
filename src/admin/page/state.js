// Limits, Cache and Targets: what the proxy's own pages say, and the changes that an operator may make.

/** A button for a change; it is there only where changes are allowed. */
const act = (text, press, props) => (access.operates && !report ? button(text, press, { class: "quiet", ...props }) : null);

views.limits = {
  title: "Limits",
  mount(root) {
    const near = budgetList("Nobody has used half of a limit.", 40);
    const held = h("div"), locked = h("div");
    let before = "";
    const list = table("limits", "Limits", [
      { name: "Limit", of: (row) => row.name, class: "name" }, { name: "Door", of: (row) => row.door },
      { name: "Admitted/s", number: true, of: (row) => row.rates.admitted, show: rate },
      { name: "Refused/s", number: true, of: (row) => row.rates.refused, show: rate, tone: (n) => (n > 0 ? "bad" : null) },
      { name: "Refused", number: true, of: (row) => row.refused, show: whole },
      { name: "Refused of all", number: true, of: (row) => row.refused / (row.admitted + row.refused), show: percent },
      { name: "Would refuse", number: true, of: (row) => row.observed, show: whole, title: "Requests that a limit with `mode: observe` would have refused", tone: (n) => (n > 0 ? "warn" : null) },
      { name: "Waiting", number: true, of: (row) => row.queue.waiting, show: whole },
      { name: "Store away", number: true, of: (row) => row.store_away, show: whole, tone: (n) => (n > 0 ? "warn" : null) },
    ], { key: (row) => row.door + row.name, sort: "Refused/s", empty: "No limit is configured.", open: (row) => go("errors", { refused_by: row.name, door: row.door }) });
    const refused = h("div"), keys = h("p", { class: "hint" }), own = h("p", { class: "hint" });
    fill(root, [held, panel("Near", { note: "who has used half of a limit or more, and the budgets that are watched; the fullest first" }, near.element, own), panel("All limits", { note: "a limit opens who was refused" }, list.element, keys), refused, locked]);
    return {
      update() {
        const { data } = look("api/limits", 2);
        near.update(budgets(true));
        own.hidden = !(data && data.shared);
        say(own, own.hidden ? "" : "Limits count together with other replicas; this list has what this replica has seen itself.");
        const rates = (row) => Object.fromEntries(["admitted", "refused"].map((decision) => [decision, perSecond("limit_decisions_total", (one) => one.label.door === row.door && one.label.limit === row.name && one.label.decision === decision)]));
        list.update(((data && data.limits) || []).map((row) => ({ ...row, rates: rates(row) })));
        say(keys, data ? whole(data.keys) + " keys in memory, " + whole(data.evictions) + " forgotten because memory was full; " + (data.shared ? "counted together with other replicas." : "counted by this replica alone.") : "");
        const asked = look("api/approvals", 2).data;
        const rows = (asked && asked.held) || [];
        const now = JSON.stringify([rows, access.operates]);
        if (now !== before) {
          before = now;
          held.replaceChildren(...(rows.length ? [panel("Waiting for a yes", { note: "requests that a spent limit holds" }, h("ul", { class: "rows" }, rows.map((row) => h("li", null,
            h("span", { class: "grow" }, h("b", null, row.caller || "(unknown)"), " ", row.what, " ", h("span", { class: "note" }, row.limit + ", expected " + usd(row.expected_usd) + ", since " + clock(Date.parse(row.since)))),
            act("Approve", () => make("Approved.", "api/approvals/" + row.id, undefined, "api/approvals"), { class: "" }), act("Decline", () => make("Declined.", "api/approvals/" + row.id + "/decline", undefined, "api/approvals"))))), needsToken("An answer"))] : []));
        }
        const last = look(errorPath({ reason: "limited" }, 200), 5).data;
        const by = new Map();
        for (const row of (last && last.failures) || []) {
          const key = (row.caller || NOBODY) + "\n" + (row.limit || "");
          by.set(key, { caller: row.caller || NOBODY, limit: row.limit || "", n: (by.get(key) || { n: 0 }).n + 1 });
        }
        refused.hidden = !by.size;
        if (by.size) {
          const lines = [...by.values()].sort((a, b) => b.n - a.n).slice(0, 12);
          const text = JSON.stringify(lines);
          if (refused.dataset.of !== text) {
            refused.dataset.of = text;
            refused.replaceChildren(panel("Who was refused", { note: "of the last 200 refusals" }, h("ul", { class: "joined" }, lines.map((row) => h("li", null, h("span", null, button(row.caller, () => go("errors", { caller: row.caller === NOBODY ? "" : row.caller, refused_by: row.limit }), { class: "opener" }), " ", h("span", { class: "note" }, row.limit)), h("span", { class: "n" }, whole(row.n)))))));
          }
        }
      },
    };
  },
};

views.cache = {
  title: "Cache",
  mount(root) {
    const tiles = { hit: tile("Hit rate"), held: tile("Held"), entries: tile("Entries"), saved: tile("Saved"), flights: tile("Fetches under way") };
    let by = recall("cache:by", "time");
    const list = table("cachetop", "Keys that save most", [
      { name: "What", of: (row) => row.what, class: "wide" }, { name: "Route", of: (row) => row.route },
      { name: "Requests", number: true, of: (row) => row.saved.requests, show: whole }, { name: "Time", number: true, of: (row) => row.saved.seconds, show: time },
      { name: "Tokens", number: true, of: (row) => row.saved.tokens, show: short }, { name: "Dollars", number: true, of: (row) => +row.saved.usd, show: usd },
      { name: "Purge", plain: true, number: true, of: () => "", show: (_, row) => (access.operates && !report ? button("Purge", () => purge({ key: row.key }), { class: "quiet small", "aria-label": "Purge " + row.what }) : h("span", null, "")) },
    ], { key: (row) => row.key, sort: "Time", most: 50, empty: "Nothing was answered from the cache yet." });
    const byRoute = table("cacheroutes", "Cache by route", [
      { name: "Route", of: (row) => row.route, class: "name" }, { name: "Door", of: (row) => row.door }, { name: "Lookups/s", number: true, of: (row) => row.look, show: rate },
      { name: "Hits", number: true, of: (row) => (row.all ? row.hits / row.all : NaN), show: percent }, { name: "Would hit", number: true, of: (row) => (row.all ? row.would / row.all : NaN), show: percent, title: "Lookups that a cache with `mode: observe` would have answered" },
      { name: "Saved", number: true, of: (row) => row.saved, show: usd, tone: (n) => (n > 0 ? "ok" : null) },
      { name: "Would save", number: true, of: (row) => (row.would ? row.might : NaN), show: usd, title: "Dollars that answers of a cache with `mode: observe` have cost all the same, by the mean cost of a call" },
    ], { key: (row) => row.door + row.route, sort: "Lookups/s", empty: "No route has a cache, or none was asked yet." });
    const what = choice("Entries", [["route", "of the route"], ["tag", "with the tag"], ["prefix", "below the path"], ["key", "under the key"], ["all", "all of them"]], "route", () => { word.hidden = what.value === "all"; });
    const word = h("input", { type: "text", "aria-label": "Which entries", required: true });
    const soft = h("input", { type: "checkbox", id: "soft" });
    const purge = (which) => make((done) => whole(done.purged) + " entries purged.", "api/cache/purge", { ...which, ...(soft.checked ? { soft: true } : {}) }, "api/cache");
    const form = h("form", { class: "bar", hidden: true, onsubmit: (event) => {
      event.preventDefault();
      if (what.value === "all") purge({ all: true }); else purge({ [what.value]: word.value });
    } }, "Purge entries", what, word, h("label", { class: "check", for: "soft" }, soft, "only mark them stale"), h("button", { type: "submit", class: "danger" }, "Purge"));
    const locked = h("div"), evicted = h("div");
    fill(root, [h("dl", { class: "tiles" }, Object.values(tiles).map((one) => one.element)), panel("By route", null, byRoute.element),
      panel("Keys that save most", null, h("div", { class: "bar" }, "Ordered by the proxy by ", choice("Ordered by", [["time", "time"], ["usd", "dollars"], ["requests", "requests"], ["tokens", "tokens"]], by, (value) => { by = value; keep("cache:by", by); render(); })), list.element),
      panel("Purge", null, form, locked), panel("Entries that left", null, evicted)]);
    return {
      update() {
        form.hidden = !access.operates || !!report;
        if (locked.dataset.of !== String(access.operates)) { locked.dataset.of = String(access.operates); locked.replaceChildren(...[needsToken("A purge")].filter(Boolean)); }
        const { data } = look("api/cache", 2);
        list.update(((look("api/cache/top?by=" + by, 3).data || {}).keys) || []);
        byRoute.update(cacheRows());
        const [hits, lookups] = [total("requests_total", isHit), total("requests_total", isLookup)];
        tiles.hit.update(percent(lookups ? hits / lookups : NaN), whole(hits) + " of " + whole(lookups) + " lookups");
        if (!data) return;
        tiles.held.update(bytes(data.memory.bytes), percent(data.memory.budget_bytes ? data.memory.bytes / data.memory.budget_bytes : NaN) + " of " + bytes(data.memory.budget_bytes));
        tiles.entries.update(whole(data.memory.entries), whole(data.memory.stored) + " stored since start");
        tiles.saved.update(usd(+data.saved.usd), whole(data.saved.tokens) + " tokens");
        tiles.flights.update(whole(data.fetches_in_flight), whole(data.answers.coalesced) + " shared so far");
        evicted.replaceChildren(pairs(Object.entries(data.evictions).map(([reason, one]) => [reason.replaceAll("_", " "), whole(one.count) + (one.mean_age_seconds === null ? "" : ", at the age of " + span(one.mean_age_seconds))])));
      },
    };
  },
};

/** How a key does, in a word. */
const keyWord = (key) => (!key.rests_seconds ? "serves" : key.why === "bad_key" ? "quarantined" : "rests");

views.targets = {
  title: "Targets",
  mount(root) {
    const list = table("targets", "Targets", [
      { name: "Target", of: (row) => row.name, class: "name" }, { name: "Address", of: (row) => row.origin },
      { name: "State", of: (row) => row.order, show: (_, row) => badge(row.how, row.word) },
      { name: "Tries/s", number: true, of: (row) => row.tries, show: rate }, { name: "Failed", number: true, of: (row) => (row.tries ? row.failed / row.tries : NaN), show: percent, tone: (n) => (n >= 0.05 ? "bad" : n > 0 ? "warn" : null) },
      { name: "p50", number: true, of: (row) => row.p50, show: time }, { name: "p95", number: true, of: (row) => row.p95, show: time }, { name: "p99", number: true, of: (row) => row.p99, show: time },
      { name: "Retries/s", number: true, of: (row) => row.retries, show: rate }, { name: "Connections", number: true, of: (row) => row.connections, show: whole },
      { name: "Keys", number: true, of: (row) => (row.keys && row.keys.length ? row.keys.length : NaN), show: (n, row) => (Number.isFinite(n) ? row.keys.filter((key) => !key.rests_seconds).length + " of " + n : NONE), title: "Keys that serve, of those configured" },
    ], { key: (row) => row.name, sort: "Tries/s", empty: "No target is configured." });
    const breakers = table("breakers", "Breakers", [
      { name: "Breaker", of: (row) => row.name, class: "name" }, { name: "State", of: (row) => row.state, show: (_, row) => badge(row.state === "open" ? "bad" : row.state === "closed" ? "ok" : "warn", row.state.replaceAll("_", " ") + (row.by_hand ? ", by hand" : "")) },
      { name: "For", number: true, of: (row) => row.since_seconds, show: span }, { name: "Asks again in", number: true, of: (row) => row.retry_after_seconds, show: (n) => (n === null ? NONE : span(n)) },
      { name: "Requests", number: true, of: (row) => row.requests, show: whole }, { name: "Failures", number: true, of: (row) => row.failures, show: whole }, { name: "Refused", number: true, of: (row) => row.refused, show: whole, tone: (n) => (n > 0 ? "warn" : null) },
      { name: "Change", plain: true, number: true, of: () => "", show: (_, row) => (access.operates && !report ? button(row.state === "closed" ? "Hold open" : "Close", () => make(row.state === "closed" ? row.name + " is held open." : row.name + " is closed.", "api/breakers/" + encodeURIComponent(row.name) + "/" + (row.state === "closed" ? "open" : "close"), undefined, "api/targets"), { class: "quiet small", "aria-label": (row.state === "closed" ? "Hold open " : "Close ") + row.name }) : h("span", null, "")) },
    ], { key: (row) => row.name, sort: "State", empty: "No breaker has seen a request. A route gets one with `breaker: {}`." });
    const keys = table("keys", "Keys", [
      { name: "Provider", of: (row) => row.target, class: "name" }, { name: "Key", of: (row) => row.name || String(row.key), class: "name" },
      { name: "State", of: (row) => row.rests_seconds || 0, show: (n, row) => badge(n ? keyWord(row) === "rests" ? "warn" : "bad" : "ok", keyWord(row)) },
      { name: "Why", of: (row) => (row.why || "").replaceAll("_", " ") }, { name: "For the model", of: (row) => (row.rests_seconds ? row.model || "all" : "") }, { name: "Until", of: (row) => (row.rests_seconds ? store.at + row.rests_seconds * 1000 : ""), show: (at) => (at ? clock(at) : "") },
      { name: "Calls/s", number: true, of: (row) => row.rate, show: rate }, { name: "$/min", number: true, of: (row) => row.usd, show: usd }, { name: "Requests left", number: true, of: (row) => row.requests_left ?? NaN, show: whole, title: "Of the provider's own quota, as it last said", tone: (n) => (n === 0 ? "bad" : null) }, { name: "Tokens left", number: true, of: (row) => row.tokens_left ?? NaN, show: whole, tone: (n) => (n === 0 ? "bad" : null) },
      { name: "Refusals in a row", number: true, of: (row) => row.refusals, show: whole, tone: (n) => (n > 0 ? "warn" : null) },
    ], { key: (row) => row.target + row.key, sort: "Provider", empty: "No keys are configured: the app's own credentials pass through." });
    const locked = h("div");
    fill(root, [panel("Targets", { note: "the app and the providers" }, list.element), panel("Breakers", null, breakers.element, locked), panel("Keys", { note: "by name, else by their place in the list; never shown" }, keys.element)]);
    return {
      update() {
        if (locked.dataset.of !== String(access.operates)) { locked.dataset.of = String(access.operates); locked.replaceChildren(...[needsToken("Holding a breaker")].filter(Boolean)); }
        const { data } = look("api/targets", 2);
        const all = (data && data.targets) || [];
        list.update(all.map((target) => {
          const fits = (one) => one.label.target === target.name;
          const times = spread(familyOf("upstream_duration_seconds").filter(fits));
          const at = (share) => quantile(times, boundsOf("upstream_duration_seconds") || [], share);
          const open = target.breakers.filter((breaker) => breaker.state === "open").length;
          const [order, how, word] = target.reached === "no" ? [3, "bad", "not reached"] : open ? [2, "bad", "breaker open"] : target.reached === "yes" ? [0, "ok", "ok"] : [1, "dull", "not asked yet"];
          return { ...target, order, how, word, p50: at(0.5), p95: at(0.95), p99: at(0.99), tries: perSecond("tries_total", fits), failed: perSecond("tries_total", (one) => fits(one) && one.label.outcome !== "ok"), retries: perSecond("retries_total", fits), connections: total("pool_connections", fits) };
        }));
        breakers.update(all.flatMap((target) => target.breakers));
        const { seconds, rows } = flowsNow();
        keys.update(all.flatMap((target) => (target.keys || []).map((key) => {
          const mine = rows.filter((row) => row.target === target.name && row.key === key.key - 1);
          return { ...key, target: target.name, rate: sum(mine, (row) => row.requests) / seconds, usd: (sum(mine, (row) => row.nano) / 1e9 / seconds) * 60 };
        })));
      },
    };
  },
};
