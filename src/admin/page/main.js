// The frame: head, tabs, the view that is open, the theme, signing in, the saved report.

const ORDER = ["canvas", "overview", "money", "errors", "limits", "cache", "targets", "config", "health"].filter((name) => views[name]);

// ---- the address: `#view?name=value`; the token never stands in it

function place() {
  const [name, query] = location.hash.slice(1).split("?");
  return { view: views[name] ? name : null, params: Object.fromEntries(new URLSearchParams(query || "")) };
}

/** Opens a view, with what it should show. */
function go(view, params) {
  const query = new URLSearchParams(Object.entries(params || {}).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();
  location.hash = view + (query ? "?" + query : "");
}

/** Puts what a view shows into the address, without a new entry in the history. */
function note(params) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();
  history.replaceState(null, "", "#" + open.name + (query ? "?" + query : ""));
}

const open = { name: "", at: null };

function show() {
  const { view, params } = place();
  const name = view || recall("view", "overview");
  const known = views[name] ? name : "overview";
  const root = document.getElementById("main");
  if (open.at && open.at.leave) open.at.leave();
  const moved = open.name && open.name !== known;
  open.name = known;
  keep("view", known);
  root.replaceChildren(h("h1", { class: "unseen" }, views[known].title));
  root.className = "view-" + known;
  open.at = views[known].mount(root, params);
  document.title = views[known].title + " · Outrigger";
  for (const [tab, link] of tabs) set(link, "aria-current", tab === known ? "page" : null);
  const current = tabs.get(known);
  if (current) current.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (moved) root.focus({ preventScroll: true });
  render();
}

// ---- the head

const tabs = new Map(ORDER.map((name) => [name, h("a", { href: location.href.split("#")[0] + "#" + name }, views[name].title)]));
const live = h("span", { class: "live" });
const person = button("Sign in", () => (access.name ? signOut() : openSignIn()), { class: "quiet" });
const banner = h("p", { id: "banner", role: "status", hidden: true });

function theme(next) {
  const now = recall("theme", "auto");
  const chosen = next ? { auto: "light", light: "dark", dark: "auto" }[now] : now;
  keep("theme", chosen);
  set(document.documentElement, "data-theme", chosen === "auto" ? null : chosen);
  say(look_, chosen === "auto" ? "Theme: auto" : chosen === "light" ? "Theme: light" : "Theme: dark");
  for (const one of charts) one.redraw();
}
const look_ = button("Theme", () => theme(true), { class: "quiet" });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const one of charts) one.redraw(); });

function head() {
  const save = button("Save report", saveReport, { class: "quiet", title: "This page with its numbers, as one file that can be mailed" });
  document.getElementById("top").replaceChildren(
    h("div", { class: "row" }, h("strong", { class: "brand" }, "Outrigger"), live, h("span", { class: "push" }), report ? null : save, look_, report ? null : person),
    h("nav", { "aria-label": "Views" }, [...tabs.values()]), banner,
  );
  theme(false);
}

const WORDS = {
  connecting: ["dull", "connecting"], live: ["ok", "live"], away: ["bad", "no answer"], locked: ["warn", "locked"], resting: ["dull", "resting"],
};

function frame() {
  const [how, word] = report ? ["dull", "report of " + moment(store.at)] : WORDS[link.state];
  set(live, "data-tone", how);
  say(live, word);
  say(person, access.name ? "Sign out" : "Sign in");
  set(person, "title", access.name ? "Signed in as " + access.name : null);
  const draining = total("draining") > 0;
  const text = report ? "A saved report. Left out: " + LEFT_OUT + "." :
    link.state === "away" ? "The proxy does not answer. The numbers below are those of " + (store.at ? moment(store.at) : "no moment yet") + "; the page tries again by itself." + (link.why ? " It said: " + link.why : "") :
    link.state === "locked" ? "The proxy wants the admin token before it shows its numbers. Sign in, or open the page over its loopback address." :
    draining ? "The proxy is draining: it finishes what is under way and takes nothing new." : "";
  banner.hidden = !text;
  say(banner, text);
}

let drawn = false;
/** Draws what has changed, at most once a frame. */
function render() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    frame();
    if (open.at) open.at.update();
    tidy();
  });
}

// ---- signing in

function openSignIn() {
  const field = h("input", { type: "password", autocomplete: "off", id: "token", "aria-describedby": "token-help", required: true });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const dialog = h("dialog", { "aria-labelledby": "token-title", onclose: () => dialog.remove() },
    h("form", { method: "dialog", onsubmit: async (event) => {
      event.preventDefault();
      say(wrong, "");
      if (await signIn(field.value.trim())) { dialog.close(); tell(access.operates ? "Signed in: changes are allowed." : "Signed in as " + access.name + ": to look, not to change.", "ok"); show(); }
      else { say(wrong, "The proxy does not take this token."); field.select(); }
    } },
      h("h2", { id: "token-title" }, "Sign in"),
      h("label", { for: "token" }, "Admin token"), field,
      h("p", { id: "token-help", class: "hint" }, "The value of ", h("code", null, "admin.token"), " in proxy.yaml, usually from ", h("code", null, "OUTRIGGER_ADMIN_TOKEN"),
        ". It is kept until this tab is closed and is sent to this proxy alone. If the proxy has no token, changes are made with the command line."),
      wrong,
      h("div", { class: "bar end" }, button("Cancel", () => dialog.close(), { class: "quiet" }), h("button", { type: "submit" }, "Sign in"))));
  document.body.append(dialog);
  dialog.showModal();
  field.focus();
}

function signOut() {
  forgetToken();
  tell("Signed out: the token is forgotten.");
  show();
}

// ---- the saved report: this document, with what it knows inside

// What may leave the machine. Everything else stays: the configuration, the terms of the routes, the stories of failures.
const SAVED = ["api/health", "api/limits", "api/cache", "api/cache/top?by=time", "api/targets", "api/ledger", "api/approvals", "api/alerts", "api/monitors"];

const LEFT_OUT = "the configuration, the terms of the routes, the stories of failures, the token";

async function saveReport() {
  try {
    const page = await (await fetch(BASE.href, { credentials: "omit", cache: "no-store" })).text();
    const kept = {};
    for (const path of [...SAVED, ...(views.money ? moneyQuestions() : [])]) {
      const known = answers.get(path);
      kept[path] = known && known.data ? known.data : await ask(path).catch(() => null);
    }
    const know = { store: { ...store, series: [...store.series.values()], lists: null, flows: store.flows.map((all) => [...all.entries()]) }, points: {}, answers: kept };
    const begin = Math.max(0, points.end - POINTS);
    for (const name of LINES) know.points[name] = Array.from(points[name].subarray(begin, points.end), (n) => (Number.isNaN(n) ? null : +n.toPrecision(7)));
    // Within the element only `<` could end it.
    const text = JSON.stringify(know).replaceAll("<", "\\u003c");
    const mark = '<script type="application/json" id="report">';
    const at = page.indexOf(mark) + mark.length;
    download("outrigger-" + moment(store.at).replace(" ", "-").replaceAll(":", "") + ".html", "text/html", page.slice(0, at) + text + page.slice(at));
    tell("The report is saved. It holds names of callers and routes. Left out: " + LEFT_OUT + ".", "ok");
  } catch (error) { tell("The report could not be saved: " + error.message, "bad"); }
}

function openReport() {
  Object.assign(store, report.store);
  store.series = new Map(report.store.series.map((one) => [one.id, one]));
  store.lists = new Map();
  for (const one of store.series.values()) {
    if (!store.lists.has(one.name)) store.lists.set(one.name, []);
    store.lists.get(one.name).push(one);
  }
  store.flows = report.store.flows.map((all) => new Map(all));
  for (let at = 0; at < report.points.t.length; at += 1) {
    const point = {};
    for (const name of LINES) point[name] = report.points[name][at] === null ? NaN : report.points[name][at];
    addPoint(point);
  }
  for (const [path, data] of Object.entries(report.answers)) answers.set(path, { data, error: null, at: Date.now(), busy: false, used: Date.now() });
}

// ---- beginning

head();
if (report) openReport();
addEventListener("hashchange", () => { if (place().view !== null) show(); });
addEventListener("resize", render);
show();
if (!report) {
  verify().then(() => (access.operates ? show() : render()));
  follow();
}
