//! The screen as lines of text, for a terminal of any width.

use std::time::Duration;

use serde_json::Value;

use super::scrape::{Numbers, Rates};
use crate::config::human;

/// Most rows of a list.
const ROWS: usize = 6;
/// Columns of the numbers beside a name.
const NUMBERS: usize = 50;

/// The lines; none is wider than `width` columns.
pub(super) fn lines(now: &Numbers, width: usize) -> Vec<String> {
    let name = width.saturating_sub(NUMBERS).clamp(12, 48);
    let mut out = vec![head(&now.look.health)];
    trouble(now, &mut out);
    out.push(String::new());
    out.push(format!("{:<name$} {:>9} {:>8} {:>9} {:>9} {:>9}", "door, routes", "req/s", "err/s", "p50", "p95", "p99"));
    for (door, rates, open) in &now.doors {
        out.push(row(&format!("{door} ({open} open)"), rates, name));
    }
    for (route, rates) in now.routes.iter().take(ROWS) {
        out.push(row(&format!("  {route}"), rates, name));
    }
    times(now, name, &mut out);
    let rate = now.hit_rate.map_or_else(|| "-".to_owned(), |rate| format!("{:.1}%", rate * 100.0));
    out.push(String::new());
    out.push(format!("cache answers {rate}   spent {}/min   saved {}/min", dollars(now.usd.0), dollars(now.usd.1)));
    if !now.models.is_empty() {
        out.push(String::new());
        out.push(format!("{:<name$} {:>12} {:>12}", "models", "$/min", "tokens/min"));
        let models = now.models.iter().take(ROWS);
        out.extend(models.map(|(model, usd, tokens)| format!("{:<name$} {:>12} {tokens:>12.0}", short(model, name), dollars(*usd))));
    }
    callers(&now.look.callers, name, &mut out);
    out.iter().map(|line| short(line, width)).collect()
}

/// The state of the proxy in a line.
fn head(health: &Value) -> String {
    let word = |name: &str| health[name].as_str().unwrap_or("?");
    let up = human::wait(Duration::from_secs(health["uptime"].as_u64().unwrap_or_default()));
    let ill = health["dependencies"].as_object().into_iter().flatten().filter(|(_, one)| one["state"] != "ok");
    let ill: Vec<String> = ill.map(|(name, one)| format!("{name} {}", one["state"].as_str().unwrap_or("?"))).collect();
    let ill = if ill.is_empty() { String::new() } else { format!(": {}", ill.join(", ")) };
    format!("outrigger {}   up {up}   {}{ill}", word("version"), word("status"))
}

fn row(name: &str, rates: &Rates, width: usize) -> String {
    let [p50, p95, p99] = rates.quantiles.map_or_else(|| ["-".to_owned(), "-".to_owned(), "-".to_owned()], |all| all.map(seconds));
    let errors = if rates.errors > 0.0 { format!("{:.1}", rates.errors) } else { "-".to_owned() };
    format!("{:<width$} {:>9.1} {errors:>8} {p50:>9} {p95:>9} {p99:>9}", short(name, width), rates.requests)
}

/// Who has spent most in the last minutes.
fn callers(page: &Value, name: usize, out: &mut Vec<String>) {
    let rows = page["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let usd = |row: &Value| row["cost_usd"].as_str().and_then(|usd| usd.parse::<f64>().ok()).unwrap_or_default();
    let mut rows: Vec<&Value> = rows.iter().collect();
    if rows.is_empty() {
        return;
    }
    rows.sort_by(|a, b| usd(b).total_cmp(&usd(a)));
    out.push(String::new());
    out.push(format!("{:<name$} {:>12} {:>12}", "callers, last 5 min", "$", "calls"));
    for row in rows.into_iter().take(ROWS) {
        let who = row["caller"].as_str().filter(|who| !who.is_empty()).unwrap_or("unattributed");
        out.push(format!("{:<name$} {:>12} {:>12}", short(who, name), dollars(usd(row)), row["calls"].to_string()));
    }
}

/// The proxy's own time, and the time and the tries of each target.
fn times(now: &Numbers, name: usize, out: &mut Vec<String>) {
    if now.own.is_none() && now.targets.is_empty() {
        return;
    }
    out.push(String::new());
    out.push(format!("{:<name$} {:>9} {:>8} {:>9} {:>9} {:>9}", "own time, targets", "tries/s", "failed/s", "p50", "p95", "p99"));
    if let Some([p50, p95, p99]) = now.own.map(|all| all.map(seconds)) {
        out.push(format!("{:<name$} {:>9} {:>8} {p50:>9} {p95:>9} {p99:>9}", "the proxy", "-", "-"));
    }
    out.extend(now.targets.iter().take(ROWS).map(|(target, rates)| row(&format!("  {target}"), rates, name)));
}

/// What needs somebody first: incidents, breakers that are not closed, keys that do not serve, limits that are near.
fn trouble(now: &Numbers, out: &mut Vec<String>) {
    let look = &now.look;
    let rows = |page: &Value| page.as_array().cloned().unwrap_or_default();
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or("?").to_owned();
    let mut found: Vec<String> = rows(&look.alerts["incidents"])
        .iter()
        .map(|one| {
            format!(
                "{}: {} {} since {}: {}",
                word(one, "severity"),
                word(one, "rule"),
                word(one, "subject"),
                word(one, "since"),
                word(one, "says")
            )
        })
        .collect();
    let open = rows(&look.breakers["breakers"]).into_iter().filter(|one| one["state"] != "closed");
    found.extend(open.map(|one| format!("breaker {} is {}", word(&one, "name"), word(&one, "state").replace('_', " "))));
    for target in rows(&look.targets["targets"]) {
        let keys = rows(&target["keys"]).into_iter();
        found.extend(keys.filter_map(|key| Some(format!("key {} of {} {}", key_name(&key), word(&target, "name"), rest(&key)?))));
    }
    let mut told = Vec::new();
    for budget in rows(&look.limits["budgets"]).into_iter().chain(rows(&look.limits["near"])) {
        let who = budget["who"].as_str().unwrap_or("everybody");
        let at = budget["spent_at"].as_str().map(|at| format!(", spent at {at}")).unwrap_or_default();
        let line = format!("limit {}, {who}: {}{at}", word(&budget, "limit"), word(&budget, "text"));
        if !told.contains(&line) {
            told.push(line);
        }
    }
    found.extend(told);
    let more = found.len().saturating_sub(2 * ROWS);
    out.extend(found.into_iter().take(2 * ROWS));
    if more > 0 {
        out.push(format!("and {more} more: `outrigger alerts`, the page of the admin door"));
    }
}

fn key_name(key: &Value) -> String {
    key["name"].as_str().map_or_else(|| key["key"].to_string(), str::to_owned)
}

/// Why a key does not serve, and for how long; `None`: it serves.
fn rest(key: &Value) -> Option<String> {
    let rests = human::wait(Duration::from_secs_f64(key["rests_seconds"].as_f64().filter(|rests| *rests > 0.0)?));
    let why = key["why"].as_str().unwrap_or("?");
    let how = if why == "bad_key" { "is quarantined" } else { "rests" };
    let model = key["model"].as_str().map(|model| format!(" for {model}")).unwrap_or_default();
    Some(format!("{how}{model} for {rests} ({})", why.replace('_', " ")))
}

fn dollars(usd: f64) -> String {
    if usd == 0.0 {
        "$0".to_owned()
    } else if usd < 0.01 {
        format!("${usd:.6}")
    } else {
        format!("${usd:.2}")
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

/// A text of at most `width` characters, none of which controls a terminal: clients choose some of the names.
fn short(text: &str, width: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if clean.chars().count() <= width {
        return clean;
    }
    clean.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::top::scrape::Look;

    fn numbers() -> Numbers {
        let busy = Rates { requests: 1234.56, errors: 2.0, quantiles: Some([0.0012, 0.25, 3.5]) };
        let look = Look {
            health: json!({"version": "0.1.0", "status": "degraded", "uptime": 3725, "dependencies": {"redis": {"state": "degraded"}, "app": {"state": "ok"}}}),
            limits: json!({
                "budgets": [{"limit": "budget", "who": null, "text": "$20 of $25 per day", "spent_at": "2026-11-30T20:00:00Z"}],
                "near": [
                    {"limit": "budget", "who": null, "text": "$20 of $25 per day", "spent_at": "2026-11-30T20:00:00Z"},
                    {"limit": "visits", "who": "caller ann", "text": "2 of 3 requests per minute", "spent_at": null},
                ],
            }),
            alerts: json!({"incidents": [{"severity": "critical", "rule": "error_rate", "subject": "inbound route chat", "since": "2026-11-30T19:00:00Z", "says": "31%"}]}),
            targets: json!({"targets": [{"name": "openai", "keys": [
                {"key": 1, "name": "team-a", "rests_seconds": null, "why": null, "model": null},
                {"key": 2, "name": "team-b", "rests_seconds": 61.0, "why": "bad_key", "model": null},
                {"key": 3, "name": "team-c", "rests_seconds": 5.0, "why": "throttled", "model": "gpt-4o"},
            ]}]}),
            breakers: json!({"breakers": [{"name": "openai/gpt\u{1b}[2J", "state": "half_open"}, {"name": "app", "state": "closed"}]}),
            callers: json!({"rows": [{"caller": "u-1", "cost_usd": "0.5", "calls": 3}, {"caller": "u-2", "cost_usd": "1.25", "calls": 1}]}),
            ..Look::default()
        };
        Numbers {
            doors: vec![("inbound".into(), busy.clone(), 7.0)],
            routes: vec![("inbound /a/very/long/path/that/no/narrow/terminal/shows/in/full".into(), busy.clone())],
            own: Some([0.0001, 0.0002, 0.004]),
            targets: vec![("openai".into(), busy)],
            models: vec![("gpt-4o".into(), 0.0012, 900.0)],
            hit_rate: Some(0.755),
            usd: (1.5, 0.0),
            look,
        }
    }

    #[test]
    fn the_screen_says_what_matters_and_fits() {
        for width in [40, 80, 200] {
            let lines = lines(&numbers(), width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines.iter().all(|line| !line.contains('\u{1b}')));
        }
        let text = lines(&numbers(), 80).join("\n");
        for part in [
            "outrigger 0.1.0   up 1 h 3 min   degraded: redis degraded",
            "1234.6",
            "1.2 ms",
            "3.50 s",
            "cache answers 75.5%   spent $1.50/min   saved $0/min",
            "gpt-4o",
            "$0.001200",
            "breaker openai/gpt?[2J is half open",
            "limit budget, everybody: $20 of $25 per day, spent at 2026-11-30T20:00:00Z",
            "critical: error_rate inbound route chat since 2026-11-30T19:00:00Z: 31%",
            "key team-b of openai is quarantined for 1 min 1 s (bad key)",
            "key team-c of openai rests for gpt-4o for 5 s (throttled)",
            "limit visits, caller ann: 2 of 3 requests per minute",
            "the proxy                              -        -    0.1 ms    0.2 ms    4.0 ms",
            "  openai                          1234.6      2.0    1.2 ms  250.0 ms    3.50 s",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(text.matches("limit budget").count(), 1, "a budget that is near is told once");
        assert!(!text.contains("team-a"), "a key that serves is no trouble");
        let (dear, cheap) = (text.find("u-2").expect("there"), text.find("u-1").expect("there"));
        assert!(dear < cheap, "the dearest first");
    }
}
