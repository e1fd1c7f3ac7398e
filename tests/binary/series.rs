//! What the shipped rules look at is there from the start.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    QUICK,
    process::{App, Home, get, metric, until},
    yaml,
};

/// There only where a store, or the audit log, is configured; an alert on a gauge misses nothing before.
const SOMETIMES: [&str; 2] = ["outrigger_store_up", "outrigger_audit_up"];

const RULES: &str = "deploy/prometheus/rules.yml";
const PANELS: &str = "deploy/grafana/dashboards/outrigger.json";

/// What is watched and told beside requests.
const WATCHED: [&str; 8] = [
    "outrigger_alerts_open",
    "outrigger_monitor_up",
    "outrigger_notices_total",
    "outrigger_notices_waiting",
    "outrigger_sentry_events_total",
    "outrigger_gate_observed_total",
    "outrigger_errors_",
    "outrigger_otlp_exports_total",
];

/// What a file selects, by the names that are scraped: a metric, with its labels' conditions or without.
fn selected_by(file: &str) -> BTreeSet<String> {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("readable").replace("\\\"", "\"");
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    let mut rest = rules.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        rest = &rest[at..];
        let (word, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
        rest = after;
        if (word.starts_with("outrigger_") || word.starts_with("process_")) && !word.contains(':') {
            let labels = after.strip_prefix('{').and_then(|after| after.split_once('}')).map_or("", |(labels, _)| labels);
            found.insert(format!("{word}{{{labels}}}"));
        }
    }
    found
}

/// Whether a line of a scrape is of a series that `selector` selects. Patterns have alternatives and dots, no more.
fn selects(selector: &str, line: &str) -> bool {
    let (name, conditions) = selector.trim_end_matches('}').split_once('{').expect("a selector");
    let Some(series) = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])) else { return false };
    let label = |wanted: &str| {
        let labels = series.strip_prefix('{').and_then(|series| series.split_once('}')).map_or("", |(labels, _)| labels);
        let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == wanted).map_or("", |(_, value)| value.trim_matches('"')).to_owned()
    };
    let matches = |pattern: &str, value: &str| {
        let alike = |one: &str| one.len() == value.len() && one.bytes().zip(value.bytes()).all(|(a, b)| a == b'.' || a == b);
        pattern.split('|').any(alike)
    };
    conditions.split(',').filter(|condition| !condition.is_empty()).all(|condition| {
        let (name, pattern) = condition.split_once('"').expect("a value");
        let name = name.trim();
        let said = name.trim_end_matches(['=', '~', '!']);
        // Prometheus adds the job; the proxy knows nothing of it.
        ["job", "instance"].contains(&said) || matches(pattern.trim_end_matches('"'), &label(said)) != name.contains('!')
    })
}

#[test]
fn every_series_that_a_rule_uses_exists_before_anything_happens() {
    let app = App::start();
    let line = "limits: [{name: line, key: client_ip, requests: 1k, window: 1m, queue: {max: 1, wait: 1s}}]";
    let gate = "routes: [{match: {path: /watched/**}, csrf: {mode: observe}}, {match: {path: /**}, csrf: {}, cors: {origins: ['https://shop.example']}}]";
    let told = "alerts: {channels: {team: {webhook: 'http://127.0.0.1:9'}}}\nmonitors: {}\nsentry: {dsn: 'http://key@127.0.0.1:9/1'}";
    let policies =
        format!("  {line}\n  defaults: {{cache: {{ttl: 1s}}, breaker: {{}}, retry: {{}}}}\n  {gate}\nmemory_limit: 1GiB\n{told}");
    let home = Home::new(&(yaml(&app, &policies) + QUICK));
    let proxy = home.start();
    until("the monitors know something", || metric(proxy.admin, "outrigger_monitor_up{monitor=\"app\"}").is_some());
    let text = get(proxy.admin, "/metrics").text();
    let used = selected_by(RULES);
    assert!(used.len() > 15, "{used:?}");
    let missing: Vec<&String> = used
        .iter()
        .filter(|selector| !SOMETIMES.iter().any(|name| selector.starts_with(name)))
        .filter(|selector| !text.lines().any(|line| selects(selector, line)))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    // The panels of what is watched and told, as the rules.
    let panels = selected_by(PANELS).into_iter().filter(|selector| WATCHED.iter().any(|name| selector.starts_with(name)));
    let (seen, unseen): (Vec<String>, Vec<String>) = panels.partition(|selector| text.lines().any(|line| selects(selector, line)));
    assert!(seen.len() >= WATCHED.len() && unseen.is_empty(), "seen {seen:#?}, unseen {unseen:#?}");
    for series in [
        "outrigger_requests_total{door=\"inbound\",route=\"default\",code=\"502\",cache=\"none\"} 0",
        "outrigger_requests_total{door=\"inbound\",route=\"default\",code=\"502\",cache=\"miss\"} 0",
        "outrigger_requests_total{door=\"inbound\",route=\"default\",code=\"503\",cache=\"bypass\"} 0",
        "outrigger_config_last_reload_successful 1",
        "outrigger_cache_requests_total{door=\"inbound\",route=\"default\",result=\"miss\"} 0",
        "outrigger_retry_budget_exhausted_total{target=\"openai\"} 0",
        "outrigger_unpriced_calls_total{provider=\"openai\",model=\"\"} 0",
        "outrigger_breaker_state{target=\"app\"} 0",
        "outrigger_accept_errors_total{door=\"outbound\"} 0",
        "outrigger_otlp_exports_total{signal=\"traces\",outcome=\"dropped\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series}\n{text}");
    }
}
