// Canvas: both doors as one picture in layers. Width of an edge is its rate, colour its errors, the number on it dollars a minute.
//
// Nodes keep their places: a new one comes below, and the reader's own order is remembered. One node is in the tab order; arrow keys
// go to the others, Enter opens one, Alt with an arrow moves it.

const NODE = { height: 42, gap: 12, top: 30 };
const SHOWN = 14; // nodes of a column before the others are folded

views.canvas = {
  title: "Canvas",
  mount(root, params) {
    let order = recall("canvas:order", {}), wide = recall("canvas:wide", {}), word = recall("canvas:word", "");
    let chosen = params.node || recall("canvas:node", ""), current = "", last = null, drag = null;
    const edgesAt = s("g", { class: "edges" }), labelsAt = s("g", { class: "money", "aria-hidden": "true" }), nodesAt = s("g"), headsAt = s("g", { class: "heads" });
    const svg = s("svg", { class: "canvas", role: "group", "aria-label": "Traffic from callers to models" }, headsAt, edgesAt, labelsAt, nodesAt);
    const box = h("div", { class: "scroll board", role: "region", "aria-label": "Picture of the traffic", tabindex: "0" }, svg);
    const filter = h("input", { type: "search", placeholder: "Find a caller, route, model", "aria-label": "Find in the picture", value: word, oninput: () => { word = filter.value.toLowerCase(); keep("canvas:word", word); render(); } });
    const side = h("section", { class: "panel side", "aria-label": "About the chosen part", hidden: true });
    const legend = h("p", { class: "note" }, "Width: requests a second. Colour: ", h("span", { class: "swatch calm" }), "no errors ", h("span", { class: "swatch some" }), "some ", h("span", { class: "swatch many" }), "many. Numbers: dollars a minute.");
    fill(root, [
      h("div", { class: "bar" }, filter, button("Arrange", () => { order = {}; keep("canvas:order", order); render(); }, { class: "quiet", title: "Order by rate; forget moved places" }), legend),
      h("div", { class: "desk" }, box, side),
    ]);
    const drawnNodes = new Map(), drawnEdges = new Map(), drawnLabels = new Map();

    /** The nodes of each column in their order; what is beyond the shown ones becomes one node. */
    function columns(all) {
      return COLUMNS.map(([column, title]) => {
        const mine = [...all.nodes.values()].filter((one) => one.column === column);
        const places = order[column] || (order[column] = []);
        const fresh = mine.filter((one) => !places.includes(one.id)).sort((a, b) => b.rate - a.rate || a.label.localeCompare(b.label));
        for (const one of fresh) places.push(one.id);
        if (places.length > 1000) places.splice(0, places.length - 1000);
        const at = new Map(places.map((id, place) => [id, place]));
        mine.sort((a, b) => at.get(a.id) - at.get(b.id));
        const open = wide[column] || word;
        const shown = mine.slice(0, open || mine.length <= SHOWN ? mine.length : SHOWN - 1);
        const folded = mine.slice(shown.length);
        if (folded.length) {
          const more = { id: "more:" + column, column, label: folded.length + " more", rate: sum(folded, (one) => one.rate), errors: sum(folded, (one) => one.errors), usd: sum(folded, (one) => one.usd), state: null, idle: false, folds: new Set(folded.map((one) => one.id)) };
          shown.push(more);
        } else if (wide[column] && mine.length > SHOWN && !word) shown.push({ id: "fewer:" + column, column, label: "fewer", rate: 0, errors: 0, usd: 0, state: null, idle: true });
        return { column, title, nodes: shown, count: mine.length };
      });
    }

    function draw() {
      const all = picture(word);
      last = all;
      const cols = columns(all);
      const room = Math.max(box.clientWidth - 30, 1240);
      const width = Math.min(200, (room / cols.length) * 0.72), step = (room - width - 2) / (cols.length - 1);
      const tallest = Math.max(4, ...cols.map((col) => col.nodes.length));
      const height = NODE.top + tallest * (NODE.height + NODE.gap) + 10;
      for (const [name, value] of [["width", room], ["height", height], ["viewBox", "0 0 " + room + " " + height]]) set(svg, name, value);
      const at = new Map(), stands = new Map();
      headsAt.replaceChildren(...cols.map((col, place) => s("text", { x: place * step, y: 14 }, col.title + (col.count > 1 ? " (" + col.count + ")" : ""))));
      cols.forEach((col, place) => {
        const begin = NODE.top + (Math.min(8, tallest - col.nodes.length) * (NODE.height + NODE.gap)) / 2;
        col.nodes.forEach((one, nth) => {
          at.set(one.id, { x: place * step, y: begin + nth * (NODE.height + NODE.gap), one, place, nth });
          for (const id of one.folds || []) stands.set(id, one.id);
        });
      });
      drawEdges(all, at, stands, width);
      if (!at.has(current)) current = at.size ? at.keys().next().value : "";
      const wanted = new Set();
      for (const spot of at.values()) {
        wanted.add(spot.one.id);
        drawNode(spot, width);
      }
      for (const [id, one] of drawnNodes) if (!wanted.has(id)) { one.element.remove(); drawnNodes.delete(id); }
      spots = at;
    }
    let spots = new Map();

    function drawEdges(all, at, stands, width) {
      const merged = new Map();
      for (const edge of all.edges.values()) {
        const from = at.has(edge.from) ? edge.from : stands.get(edge.from), to = at.has(edge.to) ? edge.to : stands.get(edge.to);
        if (!from || !to) continue;
        const id = from + ">" + to;
        const one = merged.get(id) || { id, from, to, rate: 0, errors: 0, usd: 0 };
        one.rate += edge.rate; one.errors += edge.errors; one.usd += edge.usd;
        merged.set(id, one);
      }
      const most = Math.max(0.001, ...[...merged.values()].map((one) => one.rate));
      // The dearest edges of each layer have their number: more would hide each other.
      const dear = new Set();
      for (let place = 0; place < COLUMNS.length; place += 1) {
        [...merged.values()].filter((one) => cents(one.usd) && at.get(one.from).place === place).sort((a, b) => b.usd - a.usd).slice(0, 5).forEach((one) => dear.add(one.id));
      }
      const labels = new Set(), ends = new Map();
      for (const one of merged.values()) if (dear.has(one.id)) ends.set(one.to, (ends.get(one.to) || 0) + 1);
      for (const one of merged.values()) {
        const [a, b] = [at.get(one.from), at.get(one.to)];
        const [x1, y1, x2, y2] = [a.x + width, a.y + NODE.height / 2, b.x, b.y + NODE.height / 2];
        const bend = (x2 - x1) * 0.5;
        let path = drawnEdges.get(one.id);
        if (!path) { path = s("path", { fill: "none" }); edgesAt.append(path); drawnEdges.set(one.id, path); }
        set(path, "d", `M${x1.toFixed(1)} ${y1.toFixed(1)}C${(x1 + bend).toFixed(1)} ${y1.toFixed(1)} ${(x2 - bend).toFixed(1)} ${y2.toFixed(1)} ${x2.toFixed(1)} ${y2.toFixed(1)}`);
        set(path, "stroke-width", (1 + 9 * Math.sqrt(one.rate / most)).toFixed(1));
        const share = one.rate ? one.errors / one.rate : 0;
        const touched = chosen && (one.from === chosen || one.to === chosen);
        set(path, "class", (one.rate < 0.001 ? "idle" : share >= 0.2 ? "many" : share > 0.005 ? "some" : "calm") + (touched ? " touched" : chosen && spots.has(chosen) ? " other" : ""));
        if (dear.has(one.id)) {
          labels.add(one.id);
          let text = drawnLabels.get(one.id);
          if (!text) { text = s("text", { "text-anchor": "middle" }); labelsAt.append(text); drawnLabels.set(one.id, text); }
          // Where the edge is apart from its neighbours: edges that end together are so at their begin.
          const t = ends.get(one.to) > 1 ? 0.3 : 0.62, u = 1 - t, y = u ** 3 * y1 + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t ** 3 * y2;
          set(text, "x", (u ** 3 * x1 + 3 * u * u * t * (x1 + bend) + 3 * u * t * t * (x2 - bend) + t ** 3 * x2).toFixed(1));
          set(text, "y", (y - 3).toFixed(1));
          say(text, cents(one.usd));
        }
      }
      for (const [id, path] of drawnEdges) if (!merged.has(id)) { path.remove(); drawnEdges.delete(id); }
      for (const [id, text] of drawnLabels) if (!labels.has(id)) { text.remove(); drawnLabels.delete(id); }
    }

    function drawNode(spot, width) {
      const { one } = spot;
      let drawn = drawnNodes.get(one.id);
      if (!drawn) {
        drawn = { name: s("text", { x: 9, y: 17, class: "label" }), numbers: s("text", { x: 9, y: 33, class: "numbers" }), state: s("text", { y: 33, "text-anchor": "end" }), rect: s("rect", { rx: 6, height: NODE.height }) };
        drawn.element = s("g", { role: "button", onclick: () => choose(one.id), onkeydown: keys, onfocus: () => { current = one.id; roam(); }, onpointerdown: grab }, drawn.rect, drawn.name, drawn.numbers, drawn.state);
        drawn.element.dataset.id = one.id;
        drawnNodes.set(one.id, drawn);
        nodesAt.append(drawn.element);
      }
      set(drawn.rect, "width", width.toFixed(0));
      const moved = drag && drag.id === one.id ? drag.by : 0;
      set(drawn.element, "transform", `translate(${spot.x.toFixed(1)} ${(spot.y + moved).toFixed(1)})`);
      const share = one.rate ? one.errors / one.rate : 0;
      set(drawn.element, "class", ["node", one.idle ? "idle" : "", one.id === chosen ? "chosen" : "", share >= 0.2 ? "many" : share > 0.005 ? "some" : "", one.state ? "state-" + one.state.how : ""].join(" ").trim());
      set(drawn.element, "tabindex", one.id === current ? "0" : "-1");
      set(drawn.element, "aria-pressed", one.id === chosen ? "true" : "false");
      const letters = Math.floor((width - 16) / 7.1);
      say(drawn.name, one.label.length > letters ? one.label.slice(0, letters - 1) + "…" : one.label);
      const numbers = one.id.startsWith("fewer:") ? "" : one.idle ? (one.state ? "" : "idle") : rate(one.rate) + "/s" + (one.state ? "" : "  " + cents(one.usd));
      say(drawn.numbers, " " + numbers); // the texts are read out as one: a space stands between them
      set(drawn.state, "x", (width - 9).toFixed(0));
      set(drawn.state, "class", one.state ? "state " + one.state.how : "state");
      say(drawn.state, one.state ? " " + one.state.text : "");
      const words = [one.label, rate(one.rate) + " a second", share > 0 ? percent(share) + " errors" : "", one.usd > 0 ? usd(one.usd) + " a minute" : "", one.state ? one.state.text : ""].filter(Boolean).join(", ");
      set(drawn.element, "aria-description", words);
    }

    function choose(id) {
      if (drag && drag.moved) return;
      const [kind, column] = id.split(":");
      if (kind === "more" || kind === "fewer") { wide[column] = kind === "more"; keep("canvas:wide", wide); return render(); }
      chosen = chosen === id ? "" : id;
      keep("canvas:node", chosen);
      note({ node: chosen });
      render();
    }

    const roam = () => { for (const [id, one] of drawnNodes) set(one.element, "tabindex", id === current ? "0" : "-1"); };
    const focus = (id) => { const one = drawnNodes.get(id); if (one) one.element.focus(); };

    function keys(event) {
      const spot = spots.get(event.currentTarget.dataset.id);
      if (!spot) return;
      const up = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
      if (event.key === "Enter" || event.key === " ") choose(spot.one.id);
      else if (event.key === "Escape" && chosen) choose(chosen);
      else if (up && event.altKey) move(spot.one, spot.nth + up);
      else if (up) { const next = [...spots.values()].find((other) => other.place === spot.place && other.nth === spot.nth + up); if (next) focus(next.one.id); }
      else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        for (let place = spot.place + (event.key === "ArrowLeft" ? -1 : 1); place >= 0 && place < COLUMNS.length; place += event.key === "ArrowLeft" ? -1 : 1) {
          const y = spot.y, all = [...spots.values()].filter((other) => other.place === place);
          if (all.length) { focus(all.sort((a, b) => Math.abs(a.y - y) - Math.abs(b.y - y))[0].one.id); break; }
        }
      } else return;
      event.preventDefault();
    }

    /** Puts a node at another place of its column, and remembers that. */
    function move(one, to) {
      const shown = [...spots.values()].filter((other) => other.one.column === one.column && last.nodes.has(other.one.id)).sort((a, b) => a.nth - b.nth).map((other) => other.one.id);
      if (!shown.includes(one.id)) return;
      shown.splice(shown.indexOf(one.id), 1);
      shown.splice(Math.max(0, to), 0, one.id);
      order[one.column] = [...shown, ...order[one.column].filter((id) => !shown.includes(id))];
      keep("canvas:order", order);
      draw();
      focus(one.id);
    }

    function grab(event) {
      const id = event.currentTarget.dataset.id, spot = spots.get(id);
      if (event.button !== 0 || !spot || !last.nodes.has(id)) return;
      const began = event.clientY;
      drag = { id, by: 0, moved: false };
      const onMove = (now) => { drag.by = now.clientY - began; drag.moved = drag.moved || Math.abs(drag.by) > 6; if (drag.moved) set(drawnNodes.get(id).element, "transform", `translate(${spot.x.toFixed(1)} ${(spot.y + drag.by).toFixed(1)})`); };
      const onEnd = () => {
        removeEventListener("pointermove", onMove);
        removeEventListener("pointerup", onEnd);
        removeEventListener("pointercancel", onEnd);
        const { by, moved } = drag;
        drag.by = 0;
        if (moved) move(spot.one, spot.nth + Math.round(by / (NODE.height + NODE.gap)));
        setTimeout(() => { drag = null; });
      };
      addEventListener("pointermove", onMove);
      addEventListener("pointerup", onEnd);
      addEventListener("pointercancel", onEnd);
    }

    let told = null;
    return {
      update() {
        draw();
        const one = last.nodes.get(chosen);
        side.hidden = !one;
        set(box.parentElement, "data-side", one ? "open" : null);
        if (!one) { told = null; return; }
        if (!told || told.id !== one.id) {
          told = about(one, last, () => choose(one.id));
          told.id = one.id;
          side.replaceChildren(told.element);
        }
        told.update(one, last);
      },
    };
  },
};
