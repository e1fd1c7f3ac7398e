//! What the shipped rules look at is there from the start.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    QUICK,
    process::{App, Home, get},
    yaml,
};

/// There only where a store is configured; an alert on a gauge misses nothing before.
const SOMETIMES: [&str; 1] = ["outrigger_store_up"];

/// The metrics that the rules read, by the names that are scraped.
fn read_by_rules() -> BTreeSet<String> {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/rules.yml")).expect("readable");
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let ours = words.filter(|word| (word.starts_with("outrigger_") || word.starts_with("process_")) && !word.contains(':'));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_series_that_a_rule_uses_exists_before_anything_happens() {
    let app = App::start();
    let policies = "  defaults: {cache: {ttl: 1s}, breaker: {}, retry: {}}\nmemory_limit: 1GiB";
    let home = Home::new(&(yaml(&app, policies) + QUICK));
    let proxy = home.start();
    let text = get(proxy.admin, "/metrics").text();
    let used = read_by_rules();
    assert!(used.len() > 15, "{used:?}");
    let missing: Vec<&String> = used
        .iter()
        .filter(|name| !SOMETIMES.contains(&name.as_str()))
        .filter(|name| !text.lines().any(|line| line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(['{', ' ']))))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for series in [
        "outrigger_requests_total{door=\"inbound\",route=\"default\",code=\"502\",cache=\"none\"} 0",
        "outrigger_cache_requests_total{route=\"default\",result=\"miss\"} 0",
        "outrigger_retry_budget_exhausted_total{target=\"openai\"} 0",
        "outrigger_unpriced_calls_total{provider=\"openai\",model=\"\"} 0",
        "outrigger_breaker_state{target=\"app\"} 0",
        "outrigger_accept_errors_total{door=\"outbound\"} 0",
        "outrigger_otlp_exports_total{signal=\"traces\",outcome=\"dropped\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series}\n{text}");
    }
}
