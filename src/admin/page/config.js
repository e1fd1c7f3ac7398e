// Config: the configuration at work, and changes of it. A change is planned first: the difference and the check are shown before a byte is
// written; it is applied with a history, and one press brings an earlier version back.

/** Whether this proxy takes changes of its file, and this reader may make them. */
const editable = () => access.operates && !report && has("api/config/history");

/** The policies of a door, each once: those of the door first, then each route's own. */
function policyRows(all) {
  const rows = [];
  for (const door of ["inbound", "outbound"]) {
    const doors = new Set();
    for (const route of (all && all[door]) || []) {
      for (const policy of route.policies) {
        const ofDoor = policy.terms["written on"] === "the door";
        const limit = policy.policy === "limits" ? policy.terms.name : "";
        if (ofDoor && doors.has(limit)) continue;
        if (ofDoor) doors.add(limit);
        rows.push({ key: [door, ofDoor ? "" : route.name, policy.policy, limit].join("|"), door, route: ofDoor ? null : route.name, policy: policy.policy, limit, mode: policy.mode, terms: policy.terms });
      }
    }
  }
  return rows;
}

/** A difference, line by line. */
const difference = (text) => h("pre", { class: "text diff", tabindex: "0", role: "region", "aria-label": "Difference" }, text.split("\n").map((line) =>
  h("span", { class: line.startsWith("+") && !line.startsWith("+++") ? "added" : line.startsWith("-") && !line.startsWith("---") ? "taken" : line.startsWith("@@") ? "hunk" : null }, line + "\n")));

const UNITS = ["requests", "tokens", "usd", "concurrency"];

/** The unit and the number of a limit's amount in words, as a first guess for the field. */
function amountOf(text) {
  const number_ = (/[\d][\d,.]*/.exec(text) || [""])[0].replaceAll(",", "");
  return { unit: text.startsWith("$") ? "usd" : text.includes("token") ? "tokens" : text.includes("flight") || text.includes("at once") ? "concurrency" : "requests", number: number_ };
}

views.config = {
  title: "Config",
  mount(root, params) {
    let edits = [], plan = null, planned = 0, before = null;
    const place = h("div", { class: "stack" }), planAt = h("div"), historyAt = h("div"), addAt = h("div"), textAt = h("div"), lockedAt = h("div");
    const modes = ["enforce", "observe", "off"];
    const same = (a, b) => ["op", "door", "route", "policy", "limit"].every((name) => a[name] === b[name]);

    function add(edit) {
      edits = [...edits.filter((one) => edit.op === "append" || !same(one, edit)), edit];
      replan();
    }
    const wanted = (row, op) => edits.find((one) => one.op === op && one.door === row.door && (one.route || null) === row.route && (op === "limit" ? one.limit === row.limit : one.policy === row.policy && (one.limit || "") === row.limit));

    async function replan(version) {
      const mine = (planned += 1);
      if (!edits.length && !version) { plan = null; return drawPlan(); }
      try {
        const said = version ? await change("api/config/rollback", { version, plan: true }) : await change("api/config/plan", { edits });
        if (mine === planned) { plan = { ...said, version: version || null }; drawPlan(); }
      } catch (error) {
        if (mine === planned) { plan = { wrong: error.message }; drawPlan(); }
      }
    }

    async function apply(noteText) {
      const body = plan.version ? { version: plan.version, base: plan.base } : { base: plan.base, edits };
      if (noteText) body.note = noteText;
      const done = await make((done) => "Applied: " + done.what + ". Generation " + done.generation + (done.version ? ", version " + done.version : "") + ".", plan.version ? "api/config/rollback" : "api/config/apply", body, "api/config", "api/routes", "api/limits");
      if (done) { edits = []; plan = null; drawPlan(); }
      else replan(plan && plan.version);
    }

    function drawPlan() {
      before = null;
      if (!plan) { planAt.replaceChildren(); return render(); }
      const discard = button("Discard", () => { edits = []; plan = null; drawPlan(); }, { class: "quiet" });
      if (plan.wrong) { planAt.replaceChildren(panel("This change cannot be made", null, h("p", { class: "wrong" }, plan.wrong), h("div", { class: "bar" }, discard))); return render(); }
      const noteAt = h("input", { type: "text", "aria-label": "Note for the history", placeholder: "Why (kept in the history)", size: 34, maxlength: 200 });
      const mistakes = plan.check.ok ? [] : plan.check.mistakes;
      const ready = plan.check.ok && plan.changed && !plan.restart;
      planAt.replaceChildren(panel(plan.version ? "Back to version " + plan.version : "Planned change", { note: plan.what },
        plan.changed ? difference(plan.diff) : h("p", { class: "hint" }, "Nothing would change."),
        plan.check.ok ? h("p", null, badge("ok", "checked"), " The proxy would take this file.", plan.check.notes.map((one) => h("span", { class: "note" }, " Line " + one.line + ": " + one.message)))
          : h("ul", { class: "wrong" }, mistakes.map((one) => h("li", null, (one.line ? "Line " + one.line + ": " : "") + one.message + (one.hint ? " (" + one.hint + ")" : "")))),
        (plan.routes || []).map((one) => h("p", { class: "wrong" }, badge("warn", "in the way"), " " + one.message + ".")),
        plan.restart && h("p", { class: "wrong" }, plan.restart),
        h("div", { class: "bar" }, noteAt, button("Apply", () => apply(noteAt.value.trim()), { disabled: !ready }), discard)));
      render();
    }

    const list = table("policies", "Policies", [
      { name: "Door", of: (row) => row.door }, { name: "Route", of: (row) => row.route || "(the door)", class: "name" }, { name: "Policy", of: (row) => row.policy + (row.limit ? " " + row.limit : "") },
      { name: "Numbers", plain: true, of: (row) => Object.entries(row.terms).filter(([name]) => !["name", "written on", "algorithm", "counts"].includes(name)).slice(0, 3).map(([name, value]) => name + " " + value).join("; "), class: "wide" },
      { name: "Mode", of: (row) => (wanted(row, "mode") || row).mode, show: (mode, row) => {
        if (!editable() || row.policy === "purge" || row.policy === "fallback") return badge(mode === "enforce" ? "ok" : "warn", mode);
        const box = choice("Mode of " + row.policy + " " + (row.limit || "") + " on " + (row.route || "the door"), modes, mode, (to) => add({ op: "mode", door: row.door, route: row.route, policy: row.policy, ...(row.limit ? { limit: row.limit } : {}), mode: to }));
        box.className = wanted(row, "mode") ? "changed" : "";
        box.dataset.mode = mode;
        return box;
      } },
      { name: "Move", plain: true, number: true, of: () => "", show: (_, row) => {
        if (!editable() || !row.limit) return h("span", null, "");
        return button("Move", () => moveLimit(row), { class: "quiet small", "aria-label": "Move the limit " + row.limit });
      } },
    ], { key: (row) => row.key, sort: "Route", most: 400, empty: "No policy is configured: the proxy passes everything on." });

    function moveLimit(row) {
      const now = amountOf(String(row.terms.amount));
      const number_ = h("input", { type: "text", inputmode: "decimal", id: "amount", value: now.number, required: true, size: 10 });
      const unit = choice("Unit", UNITS, now.unit, () => {});
      const window_ = h("input", { type: "text", id: "window", placeholder: "as it is", size: 8 });
      const dialog = h("dialog", { "aria-labelledby": "move-title", onclose: () => dialog.remove() }, h("form", { method: "dialog", onsubmit: (event) => {
        event.preventDefault();
        const amount = /^\d+(\.\d+)?$/.test(number_.value.trim()) ? Number(number_.value) : number_.value.trim();
        add({ op: "limit", door: row.door, route: row.route, limit: row.limit, [unit.value]: amount, ...(window_.value.trim() ? { window: window_.value.trim() } : {}) });
        dialog.close();
      } }, h("h2", { id: "move-title" }, "Move the limit " + row.limit), h("p", { class: "hint" }, "Now: " + row.terms.amount),
        h("div", { class: "bar" }, h("label", { class: "field", for: "amount" }, "Amount", number_), h("label", { class: "field" }, "Unit", unit), h("label", { class: "field", for: "window" }, "Window", window_)),
        h("div", { class: "bar end" }, button("Cancel", () => dialog.close(), { class: "quiet" }), h("button", { type: "submit" }, "Plan"))));
      document.body.append(dialog);
      dialog.showModal();
    }

    function addForm() {
      const door = choice("Door", ["inbound", "outbound"], "inbound", () => { fits.placeholder = door.value === "inbound" ? "/api/reports/**" : "gpt-*"; });
      const name = h("input", { type: "text", required: true, size: 12 }), fits = h("input", { type: "text", required: true, placeholder: "/api/reports/**" });
      const policies = h("textarea", { rows: 3, cols: 60, "aria-label": "Policies as JSON", spellcheck: "false" });
      policies.value = '{"limits": [{"key": "caller", "requests": 60, "window": "1m", "mode": "observe"}]}';
      const wrong = h("p", { class: "wrong", role: "alert" });
      return h("details", null, h("summary", null, "Add a route"), h("form", { onsubmit: (event) => {
        event.preventDefault();
        say(wrong, "");
        let of;
        try { of = JSON.parse(policies.value || "{}"); } catch (error) { return say(wrong, "The policies are not JSON: " + error.message); }
        const match = door.value === "inbound" ? { path: fits.value.trim() } : { models: fits.value.split(",").map((one) => one.trim()) };
        add({ op: "append", path: door.value + ".routes", value: { name: name.value.trim(), match, ...of } });
      } }, h("div", { class: "bar" }, h("label", { class: "field" }, "Door", door), h("label", { class: "field" }, "Name", name), h("label", { class: "field" }, "Path or models", fits)), policies, wrong, h("button", { type: "submit" }, "Plan")));
    }

    function drawHistory(data) {
      historyAt.replaceChildren(panel("History", { note: data.durable ? data.file : "in memory: a restart forgets it (store.state_dir keeps it)" }, data.versions.length ? h("ul", { class: "rows" }, data.versions.map((one) => h("li", null,
        h("b", null, one.version), h("span", { class: "grow" }, one.what, " ", h("span", { class: "note" }, one.who + ", " + moment(Date.parse(one.at)) + (one.note ? ": " + one.note : ""))),
        one.current ? badge("ok", "at work") : button("Roll back", () => { edits = []; replan(one.version); }, { class: "quiet small", "aria-label": "Roll back to version " + one.version })))) : h("p", { class: "empty" }, "The file was not changed through the page yet.")));
    }

    fill(root, [place]);
    place.append(lockedAt, planAt, panel("Policies", { note: "try a policy out with `observe`: it counts what it would do" }, list.element, addAt), historyAt, textAt);
    if (params.policy && modes.includes(params.mode)) add({ op: "mode", door: params.door, route: params.route || null, policy: params.policy, ...(params.limit ? { limit: params.limit } : {}), mode: params.mode });
    return {
      update() {
        const open_ = access.operates && !report;
        const one = open_ ? look("api/config", 10) : { data: null, error: null };
        const terms = open_ ? look("api/routes/terms", 10).data : null;
        const versions = editable() ? look("api/config/history", 10).data : null;
        const now = JSON.stringify([access.operates, one.data && one.data.generation, one.error && one.error.message, terms, versions, edits]);
        if (now === before) return;
        before = now;
        for (const [index, element] of [...place.children].entries()) element.hidden = index > 0 && !open_;
        lockedAt.replaceChildren(...(open_ ? [] : [panel("Configuration", null, needsToken("The configuration"))]));
        if (!open_) return;
        list.update(policyRows(terms));
        if (editable() && !addAt.children.length) addAt.append(addForm());
        if (versions) drawHistory(versions); else historyAt.replaceChildren();
        if (!one.data) return textAt.replaceChildren(panel("At work", null, h("p", { class: "hint" }, one.error ? one.error.message : "Reading …")));
        textAt.replaceChildren(panel("At work", { note: "generation " + one.data.generation + ", secrets masked" },
          h("div", { class: "bar" }, h("span", { class: "grow" }, one.data.file || "no file: flags alone"), button("Read the file again", () => make((done) => (done.reloaded ? "Reloaded: generation " + done.generation : "There is no file to read."), "api/reload", undefined, "api/config"), { class: "quiet" })),
          h("pre", { class: "text", tabindex: "0", role: "region", "aria-label": "The configuration at work" }, one.data.config)));
      },
    };
  },
};
