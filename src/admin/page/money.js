// Money: what was spent and saved, by caller, route, model or another dimension, over any time, out of the ledger.

const BY = [["caller", "caller"], ["inbound", "inbound route"], ["outbound", "outbound route"], ["provider", "provider"], ["model", "model"], ["tier", "tier"], ["outcome", "outcome"], ["known", "how it is known"]];
const RANGES = [["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"], ["365d", "1 year"], ["own", "own times"]];
const INKS = ["one", "two", "three", "four", "five"];

/** The parts of time of a chart over a range. */
function bucketOf(range, from, to) {
  const hours = range === "own" ? (Date.parse(to || new Date().toISOString()) - Date.parse(from)) / 3600e3 : { "1h": 1, "24h": 24, "7d": 168, "30d": 720, "365d": 8760 }[range];
  return hours <= 3 ? "minute" : hours <= 72 ? "hour" : hours <= 2400 ? "day" : "week";
}

const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** The question to the ledger, as a path. */
function question(state, bucket) {
  const words = [["by", state.by], ["from", state.range === "own" ? state.from : state.range]];
  if (state.range === "own" && state.to) words.push(["to", state.to]);
  if (bucket) words.push(["bucket", bucket], ["limit", "2000"]);
  words.push(["tz", ZONE]);
  for (const [name] of BY) if (state[name]) words.push([name, state[name]]);
  return "api/usage?" + words.map(([name, value]) => name + "=" + encodeURIComponent(value)).join("&");
}

/** What a saved report asks for. */
function moneyQuestions() {
  const common = { range: "24h" };
  return ["caller", "inbound", "model"].flatMap((by) => [question({ ...common, by }), question({ ...common, by }, "hour")]);
}

const tokensOf = (row) => Object.entries(row.tokens || {}).reduce((all, [name, n]) => all + (name === "reasoning" ? 0 : n), 0);

function csv(rows) {
  const cell = (value) => {
    let text = String(value ?? "");
    // A spreadsheet would take such a name for a formula.
    if (/^[=+\-@\t\r]/.test(text) && Number.isNaN(+text)) text = "'" + text;
    return /[",\n\r]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
  };
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return [columns.join(","), ...rows.map((row) => columns.map((name) => cell(row[name])).join(","))].join("\r\n") + "\r\n";
}

views.money = {
  title: "Money",
  mount(root, params) {
    const state = { by: "caller", range: "24h", from: "", to: "", ...(Object.keys(params).length ? {} : recall("money", {})), ...params };
    if (!BY.some(([name]) => name === state.by)) state.by = "caller";
    if (!RANGES.some(([name]) => name === state.range)) state.range = "24h";
    const changed = (more) => { Object.assign(state, more); keep("money", state); note(state); build(); render(); };
    const asks = h("div", { class: "bar" }), filters = h("div", { class: "bar" });
    const tiles = { usd: tile("Spent"), saved: tile("Saved by the cache"), calls: tile("Calls"), tokens: tile("Tokens"), sure: tile("Reported by providers", "Share of the dollars that the providers themselves stated the tokens of") };
    const wrong = h("p", { class: "wrong", hidden: true }), gaps = h("p", { class: "hint", hidden: true });
    const graph = h("div");
    let bars = null, barNames = "", ends = [0, 1];
    let list = null;
    const place = h("div");
    function build() {
      const moment_ = (name, label) => timeField(label, state[name].slice(0, 16), (at) => changed({ [name]: at && at + ":00" }));
      asks.replaceChildren(
        h("label", { class: "field" }, "By", choice("By", BY, state.by, (by) => changed({ by }))),
        h("label", { class: "field" }, "Time", choice("Time", RANGES, state.range, (range) => changed({ range, from: state.from || moment(Date.now()).slice(0, 10) + "T00:00:00" }))),
        ...(state.range === "own" ? [moment_("from", "From"), moment_("to", "To (empty: now)")] : []),
        h("span", { class: "push" }), button("Export CSV", () => exported("csv"), { class: "quiet" }), button("Export JSON", () => exported("json"), { class: "quiet" }));
      filters.replaceChildren(...BY.filter(([name]) => state[name]).map(([name, label]) => button(label + " = " + state[name] + "  ×", () => changed({ [name]: "" }), { class: "quiet", "aria-label": "Remove the filter " + label + " = " + state[name] })));
      filters.hidden = !filters.children.length;
      list = table("money", "Money by " + state.by, [
        { name: BY.find(([name]) => name === state.by)[1], of: (row) => row[state.by] || "(none)", class: "name" },
        { name: "Calls", number: true, of: (row) => row.calls, show: whole },
        { name: "Tokens", number: true, of: tokensOf, show: short },
        { name: "Spent", number: true, of: (row) => +row.cost_usd, show: usd, title: "In dollars; exports have nine places" },
        { name: "Share", number: true, of: (row) => row.share, show: percent },
        { name: "$ per call", number: true, of: (row) => (row.calls ? row.cost_usd / row.calls : NaN), show: usd },
        { name: "Saved", number: true, of: (row) => +row.saved_usd, show: usd, tone: (n) => (n > 0 ? "ok" : null) },
        { name: "Unpriced", number: true, of: (row) => row.unpriced_calls, show: whole, tone: (n) => (n > 0 ? "warn" : null) },
      ], {
        key: (row) => row[state.by], sort: "Spent", most: 500, empty: "The ledger has no call in this time.",
        // The next question: what is behind this row.
        open: (row) => changed({ [state.by]: row[state.by], by: state.by === "model" ? "caller" : state.by === "caller" ? "model" : "caller" }),
      });
      place.replaceChildren(list.element);
    }
    async function exported(kind) {
      const data = look(question(state), 1e9).data;
      if (!data) return;
      const rows = data.rows.map(({ tokens, ...row }) => ({ ...row, ...Object.fromEntries(Object.entries(tokens).map(([name, n]) => ["tokens_" + name, n])) }));
      const name = "outrigger-" + state.by + "-" + moment(store.at).slice(0, 10);
      if (kind === "csv") download(name + ".csv", "text/csv", csv(rows));
      else download(name + ".json", "application/json", JSON.stringify(data, null, 2) + "\n");
      tell(whole(rows.length) + " rows exported" + (data.cursor ? ": there are more; `outrigger usage` exports all" : ""), "ok");
    }
    /** The dearest names of the rows, each a list by part of time; what is left is `others`. */
    function piled(rows) {
      const parts = [...new Set(rows.map((row) => row.from))].sort((a, b) => Date.parse(a) - Date.parse(b));
      const sums = new Map();
      for (const row of rows) sums.set(row[state.by] || "(none)", (sums.get(row[state.by] || "(none)") || 0) + +row.cost_usd);
      const names = [...sums.entries()].filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]).map(([name]) => name);
      const top = names.slice(0, INKS.length);
      const at = new Map(parts.map((part, place) => [part, place]));
      const lists = [...top, ...(names.length > top.length ? ["others"] : [])].map(() => new Array(parts.length).fill(0));
      for (const row of rows) {
        const place = top.indexOf(row[state.by] || "(none)");
        const pile = lists[place < 0 ? top.length : place];
        if (pile) pile[at.get(row.from)] += +row.cost_usd;
      }
      return { names: top, others: names.length - top.length, data: [parts.map((part) => Date.parse(part) / 1000), ...lists] };
    }
    function drawBars(rows) {
      const { names, others, data } = piled(rows);
      const now = JSON.stringify([names, others]);
      if (now !== barNames) {
        if (bars) bars.drop();
        barNames = now;
        bars = names.length ? chart("Dollars by " + state.by, [...names.map((name, at) => ({ name: name.length > 30 ? name.slice(0, 29) + "…" : name, ink: INKS[at] })), ...(others > 0 ? [{ name: others === 1 ? "1 other" : others + " others", ink: "dim" }] : [])], usd, { bars: true, stacked: true, height: 180, ends: () => ends }) : null;
        graph.replaceChildren(bars ? bars.element : h("p", { class: "empty" }, "No dollars in this time."));
      }
      if (bars) bars.update(data);
    }
    build();
    fill(root, [
      h("section", { class: "panel", "aria-label": "Question" }, asks, filters, wrong),
      h("dl", { class: "tiles" }, Object.values(tiles).map((one) => one.element)),
      panel("Over time", null, graph), panel("Sums", { note: "a row opens what is behind it" }, gaps, place),
    ]);
    return {
      update() {
        const { data, error } = look(question(state), 5);
        const parts = look(question(state, bucketOf(state.range, state.from, state.to)), 10);
        wrong.hidden = !error;
        say(wrong, error ? error.message : "");
        if (!data) { if (report && !error) { wrong.hidden = false; say(wrong, "The report does not hold this question; it has 24 hours by caller, inbound route and model."); } list.update([]); return; }
        const all = +data.total.cost_usd;
        tiles.usd.update(usd(all), data.from.slice(0, 16).replace("T", " ") + " to " + data.to.slice(0, 16).replace("T", " "));
        tiles.saved.update(usd(+data.total.saved_usd), whole(data.total.saved_tokens) + " tokens");
        tiles.calls.update(whole(data.total.calls), data.total.unpriced_calls ? whole(data.total.unpriced_calls) + " without a price" : "all with a price", data.total.unpriced_calls ? "warn" : null);
        tiles.tokens.update(short(tokensOf(data.total)), Object.entries(data.total.tokens).slice(0, 3).map(([name, n]) => name + " " + short(n)).join(", "));
        tiles.sure.update(percent(data.known.reported.share_of_cost), "estimated " + percent(data.known.estimated.share_of_cost));
        const words = [...data.gaps, data.durable ? "" : "The ledger is in memory: it begins at the last restart (" + data.since.replace("T", " ").slice(0, 16) + "). Set store.state_dir to keep it.", data.cursor ? "Only the first rows are shown." : ""].filter(Boolean);
        gaps.hidden = !words.length;
        say(gaps, words.map((text) => text[0].toUpperCase() + text.slice(1) + (text.endsWith(".") ? "" : ".")).join(" "));
        list.update(data.rows.map((row) => ({ ...row, share: all ? row.cost_usd / all : NaN })));
        if (parts.data) {
          ends = [Date.parse(parts.data.from) / 1000, Date.parse(parts.data.to) / 1000];
          drawBars(parts.data.rows);
        }
      },
      leave: () => bars && bars.drop(),
    };
  },
};
