// Health: incidents that are open or over, what monitors have seen in 90 days, who is told, what the proxy depends on, the process.

/** Incidents of alerts and of monitors as rows. What a monitor has seen itself is told once. */
function incidents(alerts, monitors) {
  const rows = [...(alerts.incidents || []), ...(alerts.recent || [])].filter((one) => !monitors.some((monitor) => monitor.past.length && one.subject === monitor.name)).map((one) => ({ ...one, what: one.rule + " " + one.subject }));
  for (const monitor of monitors) for (const past of monitor.past) rows.push({ id: monitor.name + past.from, severity: "critical", what: "monitor " + monitor.name, since: past.from, until: past.to, says: past.why });
  return rows.map((row) => ({ ...row, at: Date.parse(row.since), lasted: ((row.until ? Date.parse(row.until) : store.at) - Date.parse(row.since)) / 1000 }));
}

const incidentTable = () => table("incidents", "Incidents", [
  { name: "Since", number: false, of: (row) => row.at, show: moment },
  { name: "State", of: (row) => (row.until ? "over" : "open"), show: (word) => badge(word === "open" ? "bad" : "dull", word) },
  { name: "Severity", of: (row) => row.severity, show: (word) => badge({ critical: "bad", warning: "warn" }[word] || "dull", word) },
  { name: "What", of: (row) => row.what, class: "name" }, { name: "Lasts", number: true, of: (row) => row.lasted, show: span },
  { name: "In words", of: (row) => row.says + (row.what_to_do ? " " + row.what_to_do : ""), class: "wide" },
  { name: "Runbook", plain: true, of: (row) => row.runbook, show: (address) => (/^https?:/.test(address) ? h("a", { href: address, rel: "noreferrer" }, "Runbook") : h("span", null, address || NONE)) },
], { key: (row) => row.id + row.since, sort: "Since", most: 100, empty: "No incident is open, and none is known of." });

/** A bar a day: all well, at times down, down for more than a tenth of the day, not watched. */
function days(shares) {
  const words = shares.map((share) => (share === null ? "" : share === 1 ? "ok" : share >= 0.9 ? "warn" : "bad"));
  return h("span", { "data-mode": words.join() }, s("svg", { class: "days", viewBox: "0 0 " + shares.length * 2 + " 8", preserveAspectRatio: "none", role: "img", "aria-label": words.filter(Boolean).length + " days watched, " + words.filter((word) => word && word !== "ok").length + " with a fault" },
    words.map((word, at) => s("rect", { x: at * 2, width: 1.5, height: 8, class: word ? "level " + word : "rail" }))));
}

const monitorTable = () => table("monitors", "Monitors", [
  { name: "Monitor", of: (row) => row.name, class: "name" }, { name: "State", of: (row) => row.state, show: (word) => badge({ up: "ok", slow: "warn", down: "bad" }[word] || "dull", word) },
  { name: "90 days", plain: true, of: (row) => row.days, show: days }, { name: "Up, 7 days", number: true, of: (row) => row.share_7d ?? NaN, show: percent },
  { name: "Down, 7 days", number: true, of: (row) => row.down_seconds_7d, show: span, tone: (n) => (n > 0 ? "warn" : null) }, { name: "Incidents", number: true, of: (row) => row.incidents, show: whole },
  { name: "In words", of: (row) => row.why || "", class: "wide" },
], { key: (row) => row.name, sort: "Monitor", empty: "No monitor is configured." });

const channelTable = () => table("channels", "Channels", [
  { name: "Channel", of: (row) => row.name, class: "name" }, { name: "By", of: (row) => row.means },
  { name: "Delivered", number: true, of: (row) => row.delivered, show: whole }, { name: "Last", of: (row) => row.delivered_at || "", show: (at) => (at ? moment(Date.parse(at)) : NONE) },
  { name: "Waiting", number: true, of: (row) => row.waiting, show: whole }, { name: "Failed tries", number: true, of: (row) => row.failed, show: whole, tone: (n) => (n > 0 ? "warn" : null) }, { name: "Given up", number: true, of: (row) => row.lost, show: whole, tone: (n) => (n > 0 ? "bad" : null) },
  { name: "Last failure", of: (row) => row.failed_at || "", class: "wide", show: (at, row) => (at ? moment(Date.parse(at)) + (row.trouble ? ": " + row.trouble : "") : NONE), tone: (at, row) => (row.trouble ? "bad" : null) },
  { name: "Try", plain: true, number: true, of: () => "", show: (_, row) => act("Send a test", () => make("Delivered to " + row.name + ".", "api/alerts/" + encodeURIComponent(row.name) + "/test", undefined, "api/alerts"), { class: "quiet small", "aria-label": "Send a test to " + row.name }) || h("span", null, "") },
], { key: (row) => row.name, sort: "Channel", empty: "Nobody is told: there is no channel." });

views.health = {
  title: "Health",
  mount(root) {
    const tiles = { status: tile("State"), deploy: tile("Safe to deploy?"), up: tile("Up for"), err: tile("Errors, 24 hours"), cpu: tile("CPU", "Share of one core, now"), mem: tile("Memory"), conn: tile("Connections") };
    const list = table("health", "Dependencies", [
      { name: "What", of: (row) => row.name, class: "name" }, { name: "State", of: (row) => ["ok", "degraded", "down"].indexOf(row.state), show: (_, row) => badge(row.state === "ok" ? "ok" : row.state === "down" ? "bad" : "warn", row.state) },
      { name: "In words", of: (row) => row.detail || "", class: "wide" },
    ], { key: (row) => row.name, sort: "State", empty: "Nothing is known." });
    const facts = h("div"), quiet = h("p", { class: "hint" }), unwatched = h("p", { class: "hint" }), kept = incidentTable(), watched = monitorTable(), channels = channelTable();
    fill(root, [h("dl", { class: "tiles" }, Object.values(tiles).map((one) => one.element)), panel("Incidents", { note: "open and recent, the newest first" }, quiet, kept.element),
      panel("Monitors", null, unwatched, watched.element), panel("Who is told", null, channels.element), panel("What the proxy depends on", null, list.element), panel("The process", null, facts)]);
    return {
      update() {
        const alerts = look("api/alerts", 3).data || {}, monitors = (look("api/monitors", 15).data || {}).monitors;
        quiet.hidden = alerts.on !== false && alerts.kept !== false;
        say(quiet, alerts.on === false ? "Nobody looks for incidents: the configuration has no `alerts`." : "Incidents are in memory: a restart forgets them. Set store.state_dir to keep the open ones.");
        unwatched.hidden = monitors !== null;
        say(unwatched, "Nothing is watched: the configuration has no `monitors`.");
        kept.update(incidents(alerts, monitors || []));
        watched.update(monitors || []);
        channels.update(alerts.channels || []);
        const { data } = look("api/health", 2);
        tiles.cpu.update(percent(perSecond("process_cpu_seconds_total")), "of one core");
        tiles.mem.update(bytes(total("process_resident_memory_bytes")), total("memory_bytes", (one) => one.label.kind === "budget") ? "may be " + bytes(total("memory_bytes", (one) => one.label.kind === "budget")) : "no limit is set");
        tiles.conn.update(whole(total("connections")), whole(total("inflight_requests")) + " requests in flight");
        const [verdict, tone] = deploy();
        const [first, ...rest] = verdict.split(/(?<=^Yes\.) |(?<=^Better not:) /);
        tiles.deploy.update(first.replace(/[.:]$/, ""), rest.join(" "), tone);
        tiles.up.update(span(store.up), "generation " + store.generation);
        if (!data) return;
        tiles.status.update(data.status, "version " + data.version, data.status === "healthy" ? "ok" : data.status === "degraded" ? "warn" : "bad");
        tiles.err.update(percent(data.error_rate_24h), whole(data.requests_24h) + " requests");
        list.update(Object.entries(data.dependencies).map(([name, one]) => ({ name, ...one })));
        const ledger = look("api/ledger", 5).data;
        facts.replaceChildren(pairs([["Version", data.version + " (" + data.commit + ")"], ["Mean time of a request", data.avg_latency === null ? NONE : ms(data.avg_latency)], ["Hit rate, 24 hours", percent(data.cache_hit_rate)],
          ledger && !ledger.busy && ["Ledger", ledger.durable ? ledger.file : "in memory: a restart begins at zero"], ledger && !ledger.busy && ["Ledger, last write", ledger.last_commit_millis ? moment(ledger.last_commit_millis) : NONE], ledger && !ledger.busy && ["Ledger, waiting", whole(ledger.waiting)],
          ["Calls without a known cause", whole(total("unattributed_calls_total"))], ["Calls without a price", whole(total("unpriced_calls_total"))]]));
      },
    };
  },
};
