// The way to the proxy: the feed, questions, changes, and the token that allows them. A saved report has none of it.
//
// Every address is below that of the document, so that the page works under any path. The token goes in a header and nowhere else.

const report = (() => {
  const text = document.getElementById("report").textContent.trim();
  return text ? JSON.parse(text) : null;
})();

const BASE = (() => {
  const here = new URL(document.baseURI);
  here.search = here.hash = "";
  // `/ops` and `/ops/` are the same page; only the second is a folder.
  if (!here.pathname.endsWith("/") && !here.pathname.endsWith(".html")) here.pathname += "/";
  return here;
})();
const address = (path) => new URL(path.replace(/^\//, ""), BASE).href;

const TOKEN = "outrigger:token";
const access = { token: "", operates: false, name: "", known: false, pages: new Set() };
try { access.token = sessionStorage.getItem(TOKEN) || ""; } catch { /* the token then lives as long as the page */ }

const fields = (more) => ({ ...(access.token ? { authorization: "Bearer " + access.token } : {}), ...more });

/** Why a request had no answer, in words for the reader. */
class Refusal extends Error {
  constructor(status, body) {
    super((body && (body.error || body.reason)) || (status ? "the proxy answered " + status : "the proxy does not answer"));
    this.status = status;
    this.body = body;
  }
}

async function ask(path, how) {
  let answer;
  try {
    answer = await fetch(address(path), { cache: "no-store", credentials: "omit", redirect: "error", ...how, headers: fields(how && how.headers) });
  } catch { throw new Refusal(0, null); }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, body);
  return body;
}

const change = (path, body) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body) });

/** Whether this proxy has a page. What it has not is not asked for. */
const has = (path) => access.pages.has("GET /" + path.split("?")[0]);

// ---- answers that views look at, asked again while somebody looks

const answers = new Map();

/** The newest answer of a page of the proxy, asked again when it is older than `seconds`. */
function look(path, seconds) {
  let one = answers.get(path);
  if (!one) answers.set(path, (one = { data: null, error: null, at: 0, busy: false, used: 0 }));
  one.used = Date.now();
  if (!report && has(path) && !one.busy && Date.now() - one.at > seconds * 1000) {
    one.busy = true;
    ask(path).then(
      (data) => { one.data = data; one.error = null; },
      (error) => { one.error = error; if (error.status) one.data = null; },
    ).finally(() => { one.busy = false; one.at = Date.now(); render(); });
  }
  return one;
}

/** Forgets answers, so that the next look asks again. */
function stale(...paths) {
  for (const [path, one] of answers) if (paths.some((wanted) => path.startsWith(wanted))) one.at = 0;
}

/** Answers that no view has looked at for a while are forgotten. */
function tidy() {
  if (report) return;
  for (const [path, one] of answers) if (!one.busy && Date.now() - one.used > 120000) answers.delete(path);
}

// ---- the feed, by fetch: an EventSource cannot send the token

const link = { state: "connecting", last: "", tries: 0, abort: null };

async function follow() {
  for (;;) {
    if (document.hidden && Date.now() - shownAt > 60000) {
      link.state = "resting"; // nobody looks: the proxy has nothing to do
      await new Promise((go) => document.addEventListener("visibilitychange", go, { once: true }));
      continue;
    }
    link.abort = new AbortController();
    const before = link.last;
    try {
      const answer = await fetch(address("api/live"), {
        cache: "no-store", credentials: "omit", signal: link.abort.signal, headers: fields({ accept: "text/event-stream", ...(link.last ? { "last-event-id": link.last } : {}) }),
      });
      if (!answer.ok) throw new Refusal(answer.status, await answer.json().catch(() => null));
      await read(answer.body.getReader());
      // The proxy ends each feed after some minutes. The next one goes on where this one was.
      if (link.last === before) throw new Refusal(0, null);
    } catch (error) {
      link.state = error.status === 401 || error.status === 403 ? "locked" : "away";
      link.why = error instanceof Refusal && error.status ? error.message : "";
      render();
    }
    link.tries += 1;
    await new Promise((go) => setTimeout(go, Math.min(10000, 500 * 2 ** Math.min(link.tries, 5))));
  }
}

async function read(reader) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      take(rest.slice(0, end));
      rest = rest.slice(end + 2);
    }
  }
}

function take(event) {
  const of = (name) => (event.split("\n").find((line) => line.startsWith(name + ": ")) || "").slice(name.length + 2);
  const [id, data] = [of("id"), JSON.parse(of("data"))];
  const number = (text) => +text.split(".")[1];
  const snapshot = of("event") === "snapshot";
  if (snapshot) {
    takeSnapshot(data);
    // It may be another process, with other pages and tokens.
    verify().then(render);
  }
  // A tick that came before, or that a snapshot has had already, only shows that the proxy answers.
  if (snapshot || link.last.split(".")[0] !== id.split(".")[0] || number(id) > number(link.last)) {
    if (!snapshot) takeTick(data);
    link.last = id;
  }
  link.tries = 0;
  link.state = "live";
  render();
}

let shownAt = Date.now();
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) { shownAt = Date.now(); return; }
  shownAt = Date.now();
  setTimeout(() => { if (document.hidden && link.abort) link.abort.abort(); }, 61000);
});

// ---- signing in

/** Asks what the proxy has, and whether the token is taken; without one, or with another, changes are refused. */
async function verify() {
  access.known = false;
  try {
    const said = await ask("api");
    access.pages = new Set(said.pages.map((page) => page.split(/[ ?]/).slice(0, 2).join(" ")));
    access.operates = said.role === "operate";
    access.name = said.name || (access.operates && access.token ? "operator" : "");
    if (access.token && !access.name) forgetToken();
  } catch { access.operates = false; }
  access.known = true;
  return !!access.name;
}

function forgetToken() {
  access.token = access.name = "";
  access.operates = false;
  try { sessionStorage.removeItem(TOKEN); } catch { /* it was not kept */ }
  answers.clear(); // among them is what the token has opened
}

async function signIn(token) {
  access.token = token;
  const taken = await verify();
  if (taken) {
    try { sessionStorage.setItem(TOKEN, token); } catch { /* it lives as long as the page */ }
    for (const one of answers.values()) one.at = 0;
    if (link.state === "locked" && link.abort) { link.tries = 0; link.abort.abort(); }
  }
  return taken;
}

/** A change, with its outcome told to the reader. Gives whether it was made. */
async function make(what, path, body, ...outdated) {
  try {
    const done = await change(path, body);
    tell(typeof what === "function" ? what(done) : what, "ok");
    stale(...outdated);
    render();
    return done || true;
  } catch (error) {
    tell(error.message, "bad");
    if (error.status === 401 || error.status === 403) { access.operates = false; render(); }
    return null;
  }
}

/** What to do where a token is missing; nothing where changes are allowed. */
function needsToken(what) {
  if (report) return h("p", { class: "hint" }, what + " is not part of a saved report.");
  if (access.operates) return null;
  return h("p", { class: "hint" }, what + " needs the admin token. ",
    button("Sign in", openSignIn, { class: "quiet" }),
    " Without a token (", h("code", null, "admin.token"), " or ", h("code", null, "OUTRIGGER_ADMIN_TOKEN"),
    "), use the command line on the machine: it goes over the proxy's own socket.");
}
