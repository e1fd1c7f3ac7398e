// The larger parts of views: tables that can be sorted and are updated in place, and charts.

// ---- tables

/**
 * A table. `columns`: `{name, of(row), show(value, row), number, title}`; `key(row)` names a row for good.
 * `update(rows)` changes what has changed and nothing else: a reader's place, focus and selection stay.
 */
function table(id, label, columns, options) {
  const { key, empty, open, sort, most = 200 } = options;
  const state = recall("sort:" + id, { by: sort || columns[0].name, down: true });
  if (!columns.some((column) => column.name === state.by)) state.by = columns[0].name;
  const heads = columns.map((column) => {
    const press = button(column.name, () => {
      state.down = state.by === column.name ? !state.down : column.number !== false && !!column.number;
      state.by = column.name;
      keep("sort:" + id, state);
      update(last);
    }, { class: "sorter", title: column.title || null });
    return h("th", { scope: "col", class: column.number ? "n" : null }, column.plain ? h("span", { class: "sorter" }, column.name) : press);
  });
  const body = h("tbody");
  const nothing = h("p", { class: "empty", hidden: true }, empty || "Nothing yet.");
  const more = h("p", { class: "more", hidden: true });
  const grid = h("table", null, h("thead", null, h("tr", null, heads)), body);
  const box = h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, grid);
  const shown = new Map();
  let last = [];

  function line(row) {
    const cells = columns.map((column) => h("td", { class: [column.number ? "n" : "", column.class || ""].join(" ").trim() || null }));
    const element = h("tr", null, cells);
    const one = { element, cells, row };
    if (open) {
      const press = button("", () => open(one.row), { class: "opener" });
      cells[0].append(press);
      one.press = press;
      element.classList.add("opens");
      element.addEventListener("click", (event) => { if (!event.target.closest("button, a")) open(one.row); });
    }
    return one;
  }

  function update(rows) {
    last = rows;
    const by = columns.find((column) => column.name === state.by);
    const value = by.sortBy || by.of;
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      const texts = typeof x === "string" || typeof y === "string";
      const less = texts ? String(x ?? "").localeCompare(String(y ?? ""), "en", { numeric: true }) : (Number.isFinite(x) ? x : -1) - (Number.isFinite(y) ? y : -1);
      return (state.down ? -less : less) || String(key(a)).localeCompare(String(key(b)), "en", { numeric: true });
    };
    const sorted = [...rows].sort(order);
    heads.forEach((head, at) => set(head, "aria-sort", columns[at].name === state.by ? (state.down ? "descending" : "ascending") : null));
    const wanted = new Set();
    sorted.slice(0, most).forEach((row, at) => {
      const name = key(row);
      wanted.add(name);
      let one = shown.get(name);
      if (!one) shown.set(name, (one = line(row)));
      one.row = row;
      columns.forEach((column, place) => {
        const cell = place === 0 && one.press ? one.press : one.cells[place];
        const raw = column.of(row);
        const text = column.show ? column.show(raw, row) : raw ?? NONE;
        if (text instanceof Node) {
          const of = text.textContent + text.className + (text.dataset.mode || "");
          if (cell.dataset.of !== of) { cell.replaceChildren(text); cell.dataset.of = of; }
        } else say(cell, text);
        if (column.tone) set(cell, "data-tone", column.tone(raw, row) || null);
      });
      if (body.children[at] !== one.element) body.insertBefore(one.element, body.children[at] || null);
    });
    for (const [name, one] of shown) if (!wanted.has(name)) { one.element.remove(); shown.delete(name); }
    nothing.hidden = sorted.length > 0;
    box.hidden = sorted.length === 0;
    more.hidden = sorted.length <= most;
    if (!more.hidden) say(more, "The first " + most + " of " + whole(sorted.length) + " rows; sort or filter to see others.");
  }
  return { element: h("div", { class: "tabular" }, box, nothing, more), update };
}

// ---- charts

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const charts = new Set();

/** The text at a mark of the time axis: no finer than the marks are apart. */
function mark(ms, step) {
  const at = new Date(ms);
  if (step >= 86400) return two(at.getMonth() + 1) + "-" + two(at.getDate());
  return two(at.getHours()) + ":" + two(at.getMinutes()) + (step < 60 ? ":" + two(at.getSeconds()) : "");
}
/** A number without zeros that say nothing. */
const bare = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

/** A chart of lines over time. `lines`: `{name, ink, show}`; `update(data)` takes times in seconds and one list a line. */
function chart(title, lines, show, options) {
  const { height = 150, bars = false, stacked = false } = options || {};
  const keys = lines.map((line) => {
    const value = h("b", null, NONE);
    return { value, element: h("li", null, h("i", { class: "key key-" + line.ink, "aria-hidden": "true" }), line.name + " ", value) };
  });
  const place = h("div", { class: "plot", role: "img", "aria-label": title });
  const when = h("span", { class: "note" });
  const element = h("figure", { class: "chart" }, h("figcaption", null, h("span", null, title), when), place, h("ul", { class: "keys" }, keys.map((one) => one.element)));
  let plot = null, data = null, width = 0;

  const axis = (extra) => ({ stroke: () => ink("muted"), grid: { stroke: () => ink("grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif", ...extra });
  function build() {
    if (plot) plot.destroy();
    const series = lines.map((line) => ({
      stroke: () => ink(line.ink), width: bars ? 0 : line.thin ? 1 : 1.5, fill: bars ? () => ink(line.ink) : null, points: { show: false },
      paths: bars ? uPlot.paths.bars({ size: [0.8, 40], align: 1 }) : undefined, spanGaps: false,
    }));
    plot = new uPlot({
      width, height, legend: { show: false }, padding: [8, 6, 0, 0],
      cursor: { y: false, points: { show: !bars, size: 5 }, drag: { setScale: false }, sync: bars ? undefined : { key: "time" } },
      scales: { x: { time: true, ...(options && options.ends ? { range: () => options.ends() } : {}) }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [axis({ size: 26, space: 70, values: (_, all, __, ___, step) => all.map((t) => mark(t * 1000, step)) }), axis({ size: 60, space: 34, values: (_, all) => all.map((n) => bare(show(n))) })],
      series: [{}, ...series],
      hooks: { setCursor: [(self) => values(self.cursor.idx)], ready: [(self) => self.over.setAttribute("aria-hidden", "true")] },
    }, stacked ? pile(data) : data, place);
  }
  // Bars stand upon each other: the highest is drawn first, and the others before it.
  const pile = (all) => {
    const out = [all[0]];
    for (let at = 1; at < all.length; at += 1) out.push(all[at].map((n, i) => all.slice(at).reduce((a, list) => a + (list[i] || 0), 0)));
    return out;
  };
  function values(at) {
    const here = Number.isInteger(at) && data[0].length > at ? at : data[0].length - 1;
    lines.forEach((line, place) => {
      let n = data[place + 1][here];
      // The last second of a line that is not measured every second.
      for (let back = here; n === null && back > here - 15 && back >= 0 && !Number.isInteger(at); back -= 1) n = data[place + 1][back];
      say(keys[place].value, n === null || n === undefined ? NONE : (line.show || show)(n));
    });
    say(when, Number.isInteger(at) && data[0].length > at ? (bars ? moment : clock)(data[0][at] * 1000) : "");
  }
  function update(fresh) {
    data = fresh;
    const wide = Math.floor(place.clientWidth);
    if (wide < 40) return;
    if (!plot || wide !== width) { width = wide; build(); } else plot.setData(stacked ? pile(data) : data);
    values(plot.cursor.idx);
    set(place, "aria-label", title + ": " + lines.map((line, at) => line.name + " " + keys[at].value.textContent).join(", "));
  }
  const one = { element, update, redraw: () => plot && data && plot.redraw(), drop: () => { if (plot) plot.destroy(); plot = null; charts.delete(one); } };
  charts.add(one);
  return one;
}

/** A bar that shows a share of 1, with a mark where it will be. */
function meter(share, projected, label) {
  const how = share >= 1 ? "bad" : share >= 0.8 ? "warn" : "ok";
  const fraction = (n) => (Math.min(1, Math.max(0, n)) * 100).toFixed(1);
  const bar = s("svg", { class: "meter", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("rect", { class: "rail", width: 100, height: 8 }), s("rect", { class: "level " + how, width: fraction(share), height: 8 }));
  if (projected !== null && projected > share) bar.append(s("rect", { class: "mark", x: fraction(projected) - 0.6, width: 1.2, height: 8 }));
  return bar;
}

/** A figure with its name and a smaller line below. */
function tile(name, hint) {
  const value = h("dd", { class: "value" }, NONE);
  const below = h("dd", { class: "below" }, "");
  const element = h("div", { class: "tile", title: hint || null }, h("dt", null, name), value, below);
  const [number, unit] = [h("span"), h("small")];
  value.replaceChildren(number, unit);
  return { element, update: (text, more, how) => {
    const [, first, rest] = /^(.*?)(\/\w+|)$/.exec(text);
    say(number, first); say(unit, rest); say(below, more || ""); set(value, "data-tone", how || null);
  } };
}
