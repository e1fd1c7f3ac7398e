// The numbers: what the feed says, kept by series, and the last hour as points.
//
// A series keeps its value now and at two earlier marks, so that a rate is that of the last 15 to 30 seconds. All memory here has a
// bound: an hour of points, two windows of flows.

const MARK = 15; // ticks between two marks
const POINTS = 3600; // seconds of points
const FLOWS = 5000; // most flows of one window

const store = {
  version: "", generation: 0, at: 0, up: 0, ticks: 0,
  families: [], lists: new Map(), series: new Map(),
  marks: [0, 0],
  flows: [new Map(), new Map()], flowsSince: [0, 0],
};

/** Lines of the charts of the Overview, each a number a second. */
const LINES = ["t", "all", "in", "out", "err", "ref", "hit", "look", "own50", "own95", "own99", "up50", "up95", "up99", "app95", "usd", "saved"];
// Twice as long as needed: the last hour always stands in one piece.
const points = { end: 0 };
for (const name of LINES) points[name] = new Float64Array(2 * POINTS);

function addPoint(point) {
  if (points.end === 2 * POINTS) {
    for (const name of LINES) points[name].copyWithin(0, POINTS);
    points.end = POINTS;
  }
  for (const name of LINES) points[name][points.end] = point[name] === undefined ? NaN : point[name];
  points.end += 1;
}

/** The last `seconds` of some lines, as a chart takes them: without a number there is a gap. */
function lines(names, seconds) {
  const since = points.end ? points.t[points.end - 1] - seconds : 0;
  let begin = Math.max(0, points.end - POINTS);
  while (begin < points.end && points.t[begin] < since) begin += 1;
  return ["t", ...names].map((name) => Array.from(points[name].subarray(begin, points.end), (n) => (Number.isNaN(n) ? null : n)));
}

const familyOf = (name) => store.lists.get("outrigger_" + name) || store.lists.get(name) || [];

function learn([id, family, labels, value], fresh) {
  const [name, names, bounds] = store.families[family];
  const old = store.series.get(id);
  if (old) { old.v = value; return; }
  // A counter that was not there a tick ago was at nothing.
  const before = Array.isArray(value) ? value.map(() => 0) : 0;
  const first = fresh ? before : value;
  const one = { id, name, bounds, v: Array.isArray(value) ? value.slice() : value, marks: [copy(first), copy(first)], label: {} };
  names.forEach((label, at) => { one.label[label] = labels[at]; });
  store.series.set(id, one);
  if (!store.lists.has(name)) store.lists.set(name, []);
  store.lists.get(name).push(one);
}

const copy = (value) => (Array.isArray(value) ? value.slice() : value);

function takeSnapshot(data) {
  const again = store.ticks > 0;
  Object.assign(store, { version: data.version, generation: data.generation, at: data.at, up: data.up });
  store.families = data.families;
  store.series.clear();
  store.lists.clear();
  store.flows = [new Map(), new Map()];
  store.flowsSince = [data.at, data.at];
  store.marks = [data.at, data.at];
  past.length = 0;
  data.series.forEach((one) => learn(one, false));
  if (again) addPoint({ t: data.at / 1000 });
  else {
    const began = data.at / 1000 - data.up;
    // The present minute is not over: it would look like a fall.
    for (const [second, requests, errors, millis, hits, lookups] of data.minutes.slice(0, -1)) {
      addPoint({ t: began + second + 30, all: requests / 60, err: errors / 60, hit: hits / 60, look: lookups / 60 });
    }
  }
}

function takeTick(data) {
  Object.assign(store, { generation: data.generation, at: data.at, up: data.up });
  data.new.forEach((one) => learn(one, true));
  for (const [id, value] of data.set) {
    const one = store.series.get(id);
    if (!one) continue;
    if (Array.isArray(value) && Array.isArray(one.v)) {
      one.v[0] = value[0];
      for (let at = 1; at < value.length; at += 2) one.v[1 + value[at]] = value[at + 1];
    } else one.v = value;
  }
  for (const id of data.gone) {
    const one = store.series.get(id);
    if (!one) continue;
    store.series.delete(id);
    const list = store.lists.get(one.name);
    list.splice(list.indexOf(one), 1);
  }
  data.flows.forEach(takeFlow);
  store.ticks += 1;
  if (store.ticks % MARK === 0) {
    for (const one of store.series.values()) { one.marks = [one.marks[1], copy(one.v)]; }
    store.marks = [store.marks[1], store.at];
    store.flows = [store.flows[1], new Map()];
    store.flowsSince = [store.flowsSince[1], store.at];
  }
  measure();
}

const FLOW = ["door", "caller", "cause", "route", "target", "operation", "model", "key"];
const SUMS = ["requests", "errors", "refused", "cached", "tokens", "nano", "micros"];

function takeFlow(row) {
  const window = store.flows[1];
  const key = JSON.stringify(row.slice(0, FLOW.length));
  let flow = window.get(key);
  if (!flow) {
    if (window.size >= FLOWS) row = row.with(1, "other").with(6, row[6] && "other");
    const other = JSON.stringify(row.slice(0, FLOW.length));
    if (window.has(other)) return addTo(window.get(other), row);
    flow = {};
    FLOW.forEach((name, at) => { flow[name] = row[at]; });
    SUMS.forEach((name) => { flow[name] = 0; });
    window.set(other, flow);
  }
  addTo(flow, row);
}

const addTo = (flow, row) => SUMS.forEach((name, at) => { flow[name] += row[FLOW.length + at]; });

/** The flows of the last 15 to 30 seconds; `seconds` tells how long that is. */
function flowsNow() {
  const seconds = Math.max(1, (store.at - store.flowsSince[0]) / 1000);
  return { seconds, rows: [...store.flows[0].values(), ...store.flows[1].values()] };
}

// ---- questions

const since = () => Math.max(1, (store.at - store.marks[0]) / 1000);
/** Growth of a counter a second. */
const growth = (one) => Math.max(0, (one.v - one.marks[0]) / since());
/** The sum of a number over series. */
const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);
const total = (name, fits) => sum(fits ? familyOf(name).filter(fits) : familyOf(name), (one) => one.v);
const perSecond = (name, fits) => sum(fits ? familyOf(name).filter(fits) : familyOf(name), growth);

/** Counts per bucket since the earlier mark, over series. */
function spread(list) {
  let counts = null;
  for (const one of list) {
    if (!counts) counts = new Array(one.v.length - 1).fill(0);
    for (let at = 1; at < one.v.length; at += 1) counts[at - 1] += one.v[at] - one.marks[0][at];
  }
  return counts;
}

/** The value below which a share of the counted lies, by straight lines within a bucket; in the family's unit. */
function quantile(counts, bounds, share) {
  const all = counts ? counts.reduce((a, b) => a + b, 0) : 0;
  if (!all) return NaN;
  let below = 0;
  for (let at = 0; at < counts.length; at += 1) {
    if (below + counts[at] >= share * all && counts[at] > 0) {
      const low = at ? bounds[at - 1] : 0;
      const high = at < bounds.length ? bounds[at] : bounds[bounds.length - 1];
      return low + (high - low) * ((share * all - below) / counts[at]);
    }
    below += counts[at];
  }
  return bounds[bounds.length - 1];
}

const boundsOf = (name) => (familyOf(name)[0] || {}).bounds;

// ---- one point a second

const past = []; // sums of the last ten ticks

const isError = (one) => +one.label.code >= 500;
const isHit = (one) => ["hit", "stale", "coalesced", "revalidated"].includes(one.label.cache);
const isLookup = (one) => isHit(one) || ["miss", "observed_hit"].includes(one.label.cache);

function wholeSpread(name, fits) {
  let counts = null;
  for (const one of familyOf(name)) {
    if (fits && !fits(one)) continue;
    if (!counts) counts = new Float64Array(one.v.length - 1);
    for (let at = 1; at < one.v.length; at += 1) counts[at - 1] += one.v[at];
  }
  return counts;
}

function measure() {
  const now = {
    at: store.at, in: 0, out: 0, err: 0, hit: 0, look: 0, ref: total("rejects_total"),
    usd: total("cost_usd_total"), saved: total("cache_saved_usd_total"),
    own: wholeSpread("own_duration_seconds"), up: wholeSpread("upstream_duration_seconds", (one) => one.label.target !== "app"),
    app: wholeSpread("upstream_duration_seconds", (one) => one.label.target === "app"),
  };
  for (const one of familyOf("requests_total")) {
    now[one.label.door === "inbound" ? "in" : "out"] += one.v;
    if (isError(one)) now.err += one.v;
    if (isHit(one)) now.hit += one.v;
    if (isLookup(one)) now.look += one.v;
  }
  past.push(now);
  if (past.length > 11) past.shift();
  const before = past.length > 1 ? past[past.length - 2] : null;
  if (!before) return;
  const seconds = Math.max(0.5, (now.at - before.at) / 1000);
  const point = { t: now.at / 1000 };
  for (const name of ["in", "out", "err", "ref", "hit", "look"]) point[name] = Math.max(0, (now[name] - before[name]) / seconds);
  point.all = point.in + point.out;
  // Money and times over ten seconds: a second has too few calls for either.
  const old = past[0];
  const long = Math.max(1, (now.at - old.at) / 1000);
  point.usd = Math.max(0, ((now.usd - old.usd) / long) * 60);
  point.saved = Math.max(0, ((now.saved - old.saved) / long) * 60);
  for (const [name, family, shares] of [
    ["own", "own_duration_seconds", [50, 95, 99]], ["up", "upstream_duration_seconds", [50, 95, 99]], ["app", "upstream_duration_seconds", [95]],
  ]) {
    if (!now[name]) continue;
    const counts = Array.from(now[name], (n, at) => n - (old[name] ? old[name][at] : 0));
    for (const share of shares) point[name + share] = quantile(counts, boundsOf(family), share / 100);
  }
  addPoint(point);
}
