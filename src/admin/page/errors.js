// Errors: the last failures and refusals, with filters, and the whole story of one exchange.

const FILTERS = [
  ["since", "Time", [["", "all that is kept"], ["1m", "1 minute"], ["15m", "15 minutes"], ["1h", "1 hour"], ["24h", "24 hours"], ["own", "own times"]]],
  ["door", "Door", [["", "both"], "inbound", "outbound"]],
  ["kind", "Kind", [["", "all"], "refused", "timeout", ["client_error", "4xx of a target"], ["server_error", "5xx of a target"], ["upstream_broken", "broken off"], ["client_gone", "client gone"], "stopped", ["rescued", "rescued by a retry"]]],
  ["route", "Route"], ["reason", "Reason"], ["caller", "Caller"], ["status", "Status", null, "502 or 5xx"], ["target", "Target"], ["operation", "Operation"], ["model", "Model"], ["key", "Key"], ["refused_by", "Limit"], ["trace", "Trace id"], ["request", "Request id"],
];

const utc = (text) => { const at = new Date(text || NaN); return Number.isNaN(at.getTime()) ? "" : at.toISOString(); };

/** The question to the ring of failures, as a path; `from` and `to` are own times, in the reader's zone. */
function errorPath(words, limit) {
  const asked = FILTERS.map(([name]) => [name, words[name]]);
  if (words.since === "own") asked.splice(0, 1, ["since", utc(words.from)], ["until", utc(words.to)]);
  return "api/errors?" + [...asked.filter(([, value]) => value), ["limit", limit]].map(([name, value]) => name + "=" + encodeURIComponent(value)).join("&");
}

const ms = (n) => (n === undefined || n === null ? NONE : time(n / 1000));

/** How a failure ended, in a word and a colour. */
const statusBadge = (row) => badge(!row.status ? "bad" : row.status >= 500 ? "bad" : row.status >= 400 ? "warn" : "dull", row.status ? String(row.status) : "none");

/** The whole story of one exchange. */
function story(row) {
  const skip = new Set(["id", "steps", "timestamp", "tokens"]);
  const named = { request_id: "Request id", trace_id: "Trace id", duration_ms: "Took", upstream_ms: "Upstream", first_byte_ms: "First byte", first_token_ms: "First token", cost_usd: "Cost", bytes_in: "Bytes in", bytes_out: "Bytes out" };
  const text = (name, value) => (value === null ? NONE : typeof value === "object" ? (Array.isArray(value) ? value.join(", ") : Object.entries(value).map(([key, n]) => key + " " + n).join(", ")) : name.endsWith("_ms") ? ms(value) : name === "cost_usd" ? usd(value) : name.startsWith("bytes") ? bytes(value) : String(value));
  const rows = [["When", moment(Date.parse(row.timestamp))], ...Object.entries(row).filter(([name]) => !skip.has(name)).map(([name, value]) => [named[name] || name[0].toUpperCase() + name.slice(1).replaceAll("_", " "), text(name, value)])];
  if (row.tokens) rows.push(["Tokens", text("tokens", row.tokens)]);
  const steps = (row.steps || []).map((step) => h("li", null,
    h("span", { class: "at" }, "+" + ms(step.at_ms)), h("b", null, step.target + (step.model ? " (" + step.model + ")" : "")), " ",
    badge(step.result === "ok" ? "ok" : "bad", step.result + (step.status ? " " + step.status : "")), " ", step.ms ? "after " + ms(step.ms) + " " : "",
    h("span", { class: "note" }, [step.then && step.then.replaceAll("_", " "), step.pause_ms !== undefined && "pause " + ms(step.pause_ms), step.why && step.why.replaceAll("_", " "), step.breaker && "breaker " + step.breaker, step.refused_key && "key refused: " + step.refused_key].filter(Boolean).join(", "))));
  const find = [];
  if (row.trace_id) find.push(button("All of this trace", () => go("errors", { trace: row.trace_id }), { class: "quiet" }));
  if (row.caller) find.push(button("This caller", () => go("errors", { caller: row.caller }), { class: "quiet" }));
  if (row.limit) find.push(button("This limit", () => go("errors", { refused_by: row.limit, door: row.door }), { class: "quiet" }));
  if (row.reason) find.push(button("This reason", () => go("errors", { reason: row.reason }), { class: "quiet" }));
  if (row.cause) find.push(button("The request that caused it", () => go("errors", { request: row.cause }), { class: "quiet" }));
  return h("div", { class: "story" }, h("h3", null, "What happened"), steps.length ? h("ol", { class: "steps" }, steps) : h("p", { class: "hint" }, row.reason && !row.tries ? "No target was asked: the proxy refused the request itself." : "One try, and nothing was thrown away."), h("h3", null, "Everything known"), pairs(rows), h("div", { class: "bar" }, find));
}

/** Refusals by reason since the start and now, out of the counters: also where no failure is kept. */
function reasons() {
  const rows = new Map();
  for (const one of familyOf("rejects_total")) {
    const key = [one.label.door, one.label.route, one.label.reason].join(" ");
    rows.set(key, { key, ...one.label, all: one.v, now: growth(one) });
  }
  for (const one of familyOf("requests_total").filter(isError)) {
    const key = [one.label.door, one.label.route, "status " + one.label.code].join(" ");
    const row = rows.get(key) || { key, ...one.label, reason: "status " + one.label.code, all: 0, now: 0 };
    rows.set(key, { ...row, all: row.all + one.v, now: row.now + growth(one) });
  }
  return [...rows.values()].filter((row) => row.all > 0);
}

views.errors = {
  title: "Errors",
  /** The last few errors of a part of the picture. */
  few(words) {
    const { data } = look(errorPath(words, 5), 5);
    if (!data || !data.failures) return [];
    return [h("h3", null, "Last errors"), data.failures.length ? h("ul", { class: "joined" }, data.failures.slice(0, 5).map((row) => h("li", null, h("span", null, clock(Date.parse(row.timestamp)) + " " + (row.reason || row.kind || "")), h("span", { class: "n" }, row.status || "none")))) : h("p", { class: "hint" }, "None is kept.")];
  },
  mount(root, params) {
    const words = Object.keys(params).length ? { ...params } : { since: "" };
    let chosen = "", before = "";
    const change = (name, value) => { words[name] = value.trim(); before = ""; note(words); ownTimes(); render(); };
    const times = h("span", { class: "bar" });
    const ownTimes = () => {
      times.hidden = words.since !== "own";
      if (!times.hidden && !times.children.length) {
        words.from = words.from || local(Date.now() - 3600e3);
        times.append(timeField("From", words.from, (at) => change("from", at)), timeField("To (empty: now)", words.to, (at) => change("to", at)));
      }
    };
    ownTimes();
    const form = h("form", { class: "bar", role: "search", "aria-label": "Filter errors", onsubmit: (event) => event.preventDefault() }, FILTERS.map(([name, label, among, hint], at) => [at === 1 && times, h("label", { class: "field" }, label,
      among ? choice(label, among, words[name] || "", (value) => change(name, value))
        : h("input", { type: "search", size: name === "trace" || name === "request" ? 16 : 10, value: words[name] || "", placeholder: hint || "", onchange: (event) => change(name, event.target.value) }))]));
    const wrong = h("p", { class: "wrong", role: "alert", hidden: true }), kept = h("p", { class: "hint" });
    const detail = h("section", { class: "panel side", "aria-label": "One exchange", hidden: true });
    const list = table("errors", "Errors", [
      { name: "Time", of: (row) => row.timestamp, show: (at) => clock(Date.parse(at)), number: false },
      { name: "Status", of: (row) => row.status || 0, show: (_, row) => statusBadge(row) },
      { name: "Reason", of: (row) => row.reason || row.outcome },
      { name: "Route", of: (row) => row.route || "(none)", class: "name" },
      { name: "Caller", of: (row) => row.caller || NONE, class: "name" },
      { name: "Target", of: (row) => row.target || NONE },
      { name: "Tries", number: true, of: (row) => row.tries, show: whole },
      { name: "Took", number: true, of: (row) => row.duration_ms, show: ms },
    ], { key: (row) => row.id, sort: "Time", most: 200, empty: "No failure fits. That is good, or the filter is too narrow.", open: (row) => { chosen = chosen === row.id ? "" : row.id; render(); } });
    const older = button("Older", () => { before = older.dataset.next; render(); }, { class: "quiet", hidden: true });
    const newest = button("Newest", () => { before = ""; render(); }, { class: "quiet", hidden: true });
    const counted = table("reasons", "Refusals and errors by reason", [
      { name: "Reason", of: (row) => row.reason, class: "name" }, { name: "Route", of: (row) => row.route || "(none)", class: "name" }, { name: "Door", of: (row) => row.door },
      { name: "Now/s", number: true, of: (row) => row.now, show: rate, tone: (n) => (n > 0 ? "warn" : null) }, { name: "Since start", number: true, of: (row) => row.all, show: whole },
    ], { key: (row) => row.key, sort: "Since start", most: 50, empty: "Nothing was refused and nothing failed since the start.", open: (row) => {
      for (const name of Object.keys(words)) delete words[name];
      go("errors", { door: row.door, route: row.route, ...(row.reason.startsWith("status ") ? { status: row.reason.slice(7) } : { reason: row.reason }) });
    } });
    const ring = panel("Failures", { note: "newest first; one opens its story" }, form, wrong, h("div", { class: "desk flat" }, h("div", null, list.element, h("div", { class: "bar" }, newest, older, kept)), detail));
    const closed = h("div", { hidden: true }); // a door that is open to a network shows the stories with a token alone
    fill(root, [ring, closed, panel("By reason", { note: "out of the counters: every refusal and every answer of 500 or more" }, counted.element)]);
    let shown = null;
    return {
      update() {
        counted.update(reasons());
        const { data, error } = look(errorPath(words, 100) + (before ? "&before=" + before : ""), before ? 60 : 2);
        wrong.hidden = !error;
        say(wrong, error ? error.message : "");
        ring.hidden = !!report || (access.known && !has("api/errors"));
        if (closed.hidden === ring.hidden) {
          closed.hidden = !ring.hidden;
          closed.replaceChildren(...[needsToken("What a failure's story tells")].filter(Boolean));
        }
        const rows = (data && data.failures) || [];
        list.update(rows);
        if (data && data.kept) say(kept, whole(data.kept.entries) + " failures are kept" + (data.displaced ? ", " + whole(data.displaced) + " older ones made room" : "") + ". No bodies and no secrets are in them.");
        else say(kept, "");
        older.hidden = !(data && data.next);
        if (data && data.next) older.dataset.next = data.next;
        newest.hidden = !before;
        const row = rows.find((row) => row.id === chosen) || (shown && shown.id === chosen ? shown : null);
        detail.hidden = !row;
        set(detail.parentElement, "data-side", row ? "open" : null);
        if (row && (!shown || shown.id !== row.id)) {
          shown = row;
          detail.replaceChildren(h("div", { class: "bar" }, h("h2", null, row.method ? row.method + " " + row.path : row.reason), h("span", { class: "push" }), button("Close", () => { chosen = ""; render(); }, { class: "quiet" })), story(row));
        }
        if (!row) shown = null;
      },
    };
  },
};
