// The small things that every part uses: elements, numbers as text, memory of the browser.
//
// Data become text nodes and attributes alone. Nothing here or elsewhere makes markup from a text.

const SVG = "http://www.w3.org/2000/svg";

/** Gives an element its properties: `on...` are listeners, `class` and others attributes; null and false are left out. */
function dress(element, props) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "open" || name === "hidden") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

function fill(element, kids) {
  for (const kid of kids.flat(Infinity)) {
    if (kid === null || kid === undefined || kid === false) continue;
    element.append(kid instanceof Node ? kid : document.createTextNode(String(kid)));
  }
  return element;
}

/** An element of HTML. */
const h = (tag, props, ...kids) => fill(dress(document.createElement(tag), props), kids);
/** An element of SVG. */
const s = (tag, props, ...kids) => fill(dress(document.createElementNS(SVG, tag), props), kids);

/** Sets the text of an element, if it is another. */
function say(element, text) {
  const wanted = String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Sets an attribute, if it is another. */
function set(element, name, value) {
  if (value === null || value === undefined) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// ---- numbers as text: at most four digits that matter, a narrow no-break space before the unit

const NONE = "–";
const THIN = "\u202f";

const group = new Intl.NumberFormat("en-US");
/** A whole number. */
const whole = (n) => (Number.isFinite(n) ? group.format(Math.round(n)) : NONE);

/** A number with a fitting count of places. */
function short(n) {
  if (!Number.isFinite(n)) return NONE;
  const size = Math.abs(n);
  if (size === 0) return "0";
  if (size >= 1e9) return (n / 1e9).toFixed(size >= 1e10 ? 1 : 2) + THIN + "G";
  if (size >= 1e6) return (n / 1e6).toFixed(size >= 1e7 ? 1 : 2) + THIN + "M";
  if (size >= 1e4) return (n / 1e3).toFixed(size >= 1e5 ? 0 : 1) + THIN + "k";
  if (size >= 100) return whole(n);
  if (size >= 10) return n.toFixed(1);
  if (size >= 0.01) return n.toFixed(2);
  return "<0.01";
}

/** A rate per second. */
const rate = (n) => (Number.isFinite(n) ? (n === 0 ? "0" : short(n)) : NONE);

/** Dollars, with three digits that matter: a call costs parts of a cent. */
function usd(n) {
  if (n === null || n === undefined || !Number.isFinite(+n)) return NONE;
  n = +n;
  const size = Math.abs(n);
  if (size === 0) return "$0";
  if (size >= 1000) return "$" + group.format(Math.round(n));
  if (size >= 1) return "$" + n.toFixed(2);
  if (size < 0.0000005) return "<$0.000001";
  return "$" + n.toFixed(Math.min(6, 2 - Math.floor(Math.log10(size)))).replace(/(\.\d\d\d*?)0+$/, "$1");
}

/** Dollars where there is little room; amounts too small to matter are left out. */
const cents = (n) => (n >= 100 ? "$" + whole(n) : n >= 0.0995 ? "$" + n.toFixed(2) : n >= 0.00995 ? "$" + n.toFixed(3) : n >= 0.00005 ? "$" + n.toFixed(4) : "");

/** A time given in seconds. */
function time(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds === 0) return "0";
  if (seconds < 0.001) return Math.max(1, Math.round(seconds * 1e6)) + THIN + "µs";
  if (seconds < 0.01) return (seconds * 1e3).toFixed(2) + THIN + "ms";
  if (seconds < 1) return (seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0) + THIN + "ms";
  if (seconds < 60) return seconds.toFixed(seconds < 10 ? 2 : 1) + THIN + "s";
  return span(seconds);
}

/** A length of time in words: `3 h 12 min`. */
function span(seconds) {
  if (!Number.isFinite(seconds)) return NONE;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const at = parts.findIndex(([size]) => seconds >= size);
  if (at < 0) return "0" + THIN + "s";
  const [size, word] = parts[at];
  const first = Math.floor(seconds / size);
  const next = parts[at + 1];
  const rest = next ? Math.floor((seconds - first * size) / next[0]) : 0;
  return first + THIN + word + (rest ? " " + rest + THIN + next[1] : "");
}

function bytes(n) {
  if (!Number.isFinite(n)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return (at === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)) + THIN + units[at];
}

/** A share, 0 to 1, as percent. */
function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return NONE;
  const n = share * 100;
  if (n === 0 || n === 100) return n + THIN + "%";
  if (n < 0.1) return "<0.1" + THIN + "%";
  if (n > 99.9) return ">99.9" + THIN + "%";
  return n.toFixed(n < 10 || n > 90 ? 1 : 0) + THIN + "%";
}

const two = (n) => String(n).padStart(2, "0");
/** The time of day of a moment in milliseconds since 1970. */
function clock(ms) {
  const at = new Date(ms);
  return two(at.getHours()) + ":" + two(at.getMinutes()) + ":" + two(at.getSeconds());
}
/** Date and time of a moment. */
function moment(ms) {
  const at = new Date(ms);
  if (Number.isNaN(at.getTime())) return NONE;
  return at.getFullYear() + "-" + two(at.getMonth() + 1) + "-" + two(at.getDate()) + " " + clock(ms);
}

/** A moment as a field for date and time takes it. */
const local = (ms) => moment(ms).replace(" ", "T").slice(0, 16);

// ---- memory of the browser: a view, an order, a filter; never a token beyond the tab's life

const PREFIX = "outrigger:";
const recall = (name, otherwise) => {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch { return otherwise; }
};
const keep = (name, value) => {
  try { localStorage.setItem(PREFIX + name, JSON.stringify(value)); } catch { /* a page without memory works too */ }
};

// ---- small parts of views

/** A heading with a panel below it. */
const panel = (title, props, ...kids) => {
  const { note, class: kind, ...rest } = props || {};
  return h("section", { class: "panel " + (kind || ""), ...rest }, h("h2", null, title, note && h("span", { class: "note" }, note)), ...kids);
};

/** A word in a colour that says how it is: ok, warn, bad, or dull. The word itself says it too. */
const badge = (how, word) => h("span", { class: "badge " + how }, word);

/** A choice among a few words. */
function choice(label, words, chosen, choose) {
  const box = h("select", { "aria-label": label, onchange: () => choose(box.value) },
    words.map((word) => { const [value, text] = Array.isArray(word) ? word : [word, word]; return h("option", { value }, text); }));
  box.value = chosen;
  return box;
}

/** A field for date and time. */
const timeField = (label, value, change) => h("label", { class: "field" }, label, h("input", { type: "datetime-local", value: value || "", onchange: (event) => change(event.target.value) }));

const button = (text, press, props) => h("button", { type: "button", onclick: press, ...props }, text);

/** Tells the reader something, also one that does not see it. */
let silence = 0;
function tell(text, how) {
  const place = document.getElementById("said");
  place.className = how || "";
  say(place, text);
  clearTimeout(silence);
  silence = setTimeout(() => say(place, ""), how === "bad" ? 12000 : 6000);
}

/** Gives a file to the reader. */
function download(name, kind, text) {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = h("a", { href: address, download: name, hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
