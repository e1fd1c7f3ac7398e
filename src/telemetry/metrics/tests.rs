//! Tests of the whole path: handles to scrape.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::SystemTime,
};

use opentelemetry::{SpanId, TraceId};

use super::*;
use crate::{
    arrival::Door,
    usage::{Usage, UsageSource},
};

fn metrics() -> Arc<Metrics> {
    Metrics::new(Clock::fixed(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)))
}

/// The lines of one family, without comments.
fn lines(metrics: &Metrics, family: Family) -> Vec<String> {
    let name = family.spec().name;
    metrics.render().lines().filter(|line| line.starts_with(name) && !line.starts_with('#')).map(str::to_owned).collect()
}

fn finished(code: u16, cache: CacheOutcome) -> Finished {
    let total = Duration::from_millis(20);
    Finished { code, cache, total, own: Some(Duration::from_micros(80)), reject: None, broken: false, at: Instant::now(), span: None }
}

fn call() -> ModelCall<'static> {
    ModelCall {
        route: "chat",
        provider: "openai",
        flavor: "openai",
        operation: "chat",
        model: "gpt-4o",
        usage: Usage { input: 10, cache_read: 5, output: 7, ..Usage::default() },
        source: UsageSource::Provider,
        cost: Some(1_500_000),
        duration: Duration::from_millis(900),
        first_token: Some(Duration::from_millis(120)),
        error: None,
        unattributed: true,
        span: None,
    }
}

#[tokio::test(start_paused = true)]
async fn workers_are_added_up_and_each_status_is_a_series() {
    let metrics = metrics();
    for _ in 0..2 {
        let cells = metrics.worker().request_cells(Door::Inbound, "api");
        cells.finish(&finished(200, CacheOutcome::Hit));
        cells.finish(&Finished { reject: Some("limited"), ..finished(429, CacheOutcome::None) });
    }
    assert_eq!(
        lines(&metrics, Family::Requests),
        [
            r#"outrigger_requests_total{door="inbound",route="api",code="200",cache="hit"} 2"#,
            r#"outrigger_requests_total{door="inbound",route="api",code="429",cache="none"} 2"#,
        ]
    );
    assert_eq!(lines(&metrics, Family::Rejects), [r#"outrigger_rejects_total{door="inbound",route="api",reason="limited"} 2"#]);
    assert_eq!(lines(&metrics, Family::CacheRequests), [r#"outrigger_cache_requests_total{door="inbound",route="api",result="hit"} 2"#]);
    let duration = lines(&metrics, Family::RequestDuration);
    assert!(duration.contains(&r#"outrigger_request_duration_seconds_bucket{door="inbound",route="api",le="0.01"} 0"#.into()));
    assert!(duration.contains(&r#"outrigger_request_duration_seconds_bucket{door="inbound",route="api",le="0.025"} 4"#.into()));
    assert!(duration.contains(&r#"outrigger_request_duration_seconds_bucket{door="inbound",route="api",le="+Inf"} 4"#.into()));
    assert!(duration.contains(&r#"outrigger_request_duration_seconds_sum{door="inbound",route="api"} 0.08"#.into()));
    assert!(duration.contains(&r#"outrigger_request_duration_seconds_count{door="inbound",route="api"} 4"#.into()));
    let day = metrics.last_day(Instant::now());
    assert_eq!((day.requests, day.hits, day.lookups, day.errors), (4, 2, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn openmetrics_has_the_numbers_of_the_text_and_the_trace_of_a_buckets_newest_value() {
    let metrics = metrics();
    let span = |trace: u128, at| SpanPoint {
        trace_id: TraceId::from(trace),
        span_id: SpanId::from(7),
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(at),
    };
    for (trace, at) in [(0xa, 1_500), (0xc, 2_500), (0xb, 2_000)] {
        let cells = metrics.worker().request_cells(Door::Inbound, "a\"b\\c\nd");
        cells.finish(&Finished { span: Some(span(trace, at)), ..finished(200, CacheOutcome::None) });
    }
    metrics.worker().request_cells(Door::Inbound, "untraced").finish(&finished(200, CacheOutcome::None));
    let text = metrics.render_as(Exposition::OpenMetrics);
    let has = |line: &str| assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    has("# TYPE outrigger_requests counter");
    has(r#"outrigger_requests_total{door="inbound",route="a\"b\\c\nd",code="200",cache="none"} 3.0"#);
    has("# TYPE outrigger_request_duration_seconds histogram");
    has("# UNIT outrigger_request_duration_seconds seconds");
    has(r#"outrigger_request_duration_seconds_bucket{door="inbound",route="a\"b\\c\nd",le="0.01"} 0"#);
    let newest = r#"# {trace_id="0000000000000000000000000000000c",span_id="0000000000000007"} 0.02 2.500"#;
    has(&format!(r#"outrigger_request_duration_seconds_bucket{{door="inbound",route="a\"b\\c\nd",le="0.025"}} 3 {newest}"#));
    has(r#"outrigger_request_duration_seconds_bucket{door="inbound",route="a\"b\\c\nd",le="1.0"} 3"#);
    has(r#"outrigger_request_duration_seconds_bucket{door="inbound",route="untraced",le="0.025"} 1"#);
    has(r#"outrigger_request_duration_seconds_count{door="inbound",route="a\"b\\c\nd"} 3"#);
    assert!(text.ends_with("\n# EOF\n") && !text.contains("gen_ai"));
    // The process works on between two readings.
    let still = |text: String| text.lines().filter(|line| !line.starts_with("process_")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(still(metrics.render_as(Exposition::Text)), still(metrics.render()));
    assert!(!metrics.render().contains("trace_id"), "the text format has no place for it");
}

#[tokio::test(start_paused = true)]
async fn label_tuples_that_join_to_the_same_text_stay_two_series() {
    let metrics = metrics();
    let worker = metrics.worker();
    worker.counter(Family::Fallbacks, &["outbound", "ab", "c"]).add(1);
    worker.counter(Family::Fallbacks, &["outbound", "a", "bc"]).add(2);
    assert_eq!(
        lines(&metrics, Family::Fallbacks),
        [
            r#"outrigger_fallbacks_total{door="outbound",route="a",to="bc"} 2"#,
            r#"outrigger_fallbacks_total{door="outbound",route="ab",to="c"} 1"#
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn models_beyond_the_cap_are_counted_as_other_and_none_is_lost() {
    let metrics = metrics();
    let worker = metrics.worker();
    for n in 0..MAX_SERIES + 50 {
        worker.counter(Family::UnpricedCalls, &["openai", &format!("model-{n}")]).inc();
    }
    let lines = lines(&metrics, Family::UnpricedCalls);
    assert_eq!(lines.len(), MAX_SERIES + 1);
    assert!(lines.contains(&r#"outrigger_unpriced_calls_total{provider="openai",model="other"} 50"#.into()));
}

#[tokio::test(start_paused = true)]
async fn strange_statuses_do_not_make_strange_series() {
    let metrics = metrics();
    let cells = metrics.worker().request_cells(Door::Outbound, "r");
    for code in [0, 99, 600, 999] {
        cells.finish(&finished(code, CacheOutcome::None));
    }
    let lines = lines(&metrics, Family::Requests);
    assert!(lines.contains(&r#"outrigger_requests_total{door="outbound",route="r",code="none",cache="none"} 1"#.into()));
    assert!(lines.contains(&r#"outrigger_requests_total{door="outbound",route="r",code="other",cache="none"} 3"#.into()));
}

#[tokio::test(start_paused = true)]
async fn a_long_label_is_cut_at_a_character() {
    let metrics = metrics();
    metrics.worker().counter(Family::UnpricedCalls, &["p", &"é".repeat(MAX_VALUE)]).inc();
    let expected = format!(r#"outrigger_unpriced_calls_total{{provider="p",model="{}"}} 1"#, "é".repeat(MAX_VALUE / 2));
    assert_eq!(lines(&metrics, Family::UnpricedCalls), [expected]);
}

#[tokio::test(start_paused = true)]
async fn a_model_call_counts_tokens_money_and_time() {
    let metrics = metrics();
    metrics.worker().model_call(&call());
    assert_eq!(
        lines(&metrics, Family::Tokens),
        [
            r#"outrigger_tokens_total{route="chat",provider="openai",model="gpt-4o",class="cache_read",source="provider"} 5"#,
            r#"outrigger_tokens_total{route="chat",provider="openai",model="gpt-4o",class="input",source="provider"} 10"#,
            r#"outrigger_tokens_total{route="chat",provider="openai",model="gpt-4o",class="output",source="provider"} 7"#,
        ]
    );
    assert_eq!(lines(&metrics, Family::Cost), [r#"outrigger_cost_usd_total{route="chat",provider="openai",model="gpt-4o"} 0.0015"#]);
    assert_eq!(lines(&metrics, Family::UnattributedCalls), ["outrigger_unattributed_calls_total 1"]);
    let all = metrics.gather();
    let usage = all.iter().find(|snapshot| snapshot.spec.family == Family::GenAiTokenUsage).expect("there");
    let input: Vec<Arc<str>> = ["chat", "openai", "gpt-4o", "input"].map(Arc::from).to_vec();
    assert!(matches!(&usage.series[&input], Value::Histogram { sum, .. } if *sum == 15.0), "cached input is input");
    assert!(!metrics.render().contains("gen_ai"), "OpenTelemetry's own names are not scraped");
}

#[tokio::test(start_paused = true)]
async fn callbacks_are_asked_at_every_scrape_and_equal_labels_are_added() {
    let metrics = metrics();
    for value in [1.0, 2.5] {
        metrics.register(Family::StoreUp, Box::new(move || vec![(vec!["redis".into()], value)]));
    }
    assert_eq!(lines(&metrics, Family::StoreUp), [r#"outrigger_store_up{store="redis"} 3.5"#]);
}

#[tokio::test(start_paused = true)]
async fn a_scrape_has_build_info_and_the_process_and_escapes_labels() {
    let metrics = metrics();
    metrics.worker().counter(Family::UnpricedCalls, &["p", "a\"b\\c\nd"]).inc();
    let text = metrics.render();
    assert!(text.contains(&format!("outrigger_build_info{{version=\"{VERSION}\",commit=\"{COMMIT}\"}} 1\n")));
    assert!(text.contains("# TYPE process_resident_memory_bytes gauge\n"));
    assert!(text.contains("outrigger_log_dropped_total{log=\"process\"} 0\n"));
    assert!(text.contains(r#"model="a\"b\\c\nd""#));
}

/// Every family with a series, through the real linter.
#[tokio::test(start_paused = true)]
async fn promtool_accepts_a_full_scrape() {
    let metrics = metrics();
    let worker = metrics.worker();
    for spec in FAMILIES.iter().filter(|spec| spec.scraped()) {
        let labels: Vec<&str> = spec.labels.iter().map(|_| "x").collect();
        match spec.kind {
            Kind::Counter => worker.counter(spec.family, &labels).add(3),
            Kind::Gauge => worker.gauge(spec.family, &labels).set(3),
            Kind::Histogram(_) => worker.histogram(spec.family, &labels).observe(3),
        }
    }
    let text = metrics.render();
    for spec in FAMILIES.iter().filter(|spec| spec.scraped()) {
        assert!(text.contains(&format!("# HELP {} ", spec.name)), "{} is scraped", spec.name);
    }
    let Ok(mut child) = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
        eprintln!("SKIPPED: promtool is not installed (apt-get install prometheus); the scrape was not linted");
        return;
    };
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("written");
    let out = child.wait_with_output().expect("ran");
    assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Exact to the nano-dollar, without the tail that a sum of floats would leave (0.1 + 0.2 is 0.30000000000000004).
#[tokio::test(start_paused = true)]
async fn dollars_are_exact_over_all_workers() {
    for amounts in [
        &[100_000_000_u64, 200_000_000][..],
        &[1, 2, 999_999_997],
        &[123_456_789_012_345, 1],
        &[8_000_000_123_456_789, 1],
        &[333_333_333, 333_333_333, 333_333_333],
    ] {
        let metrics = metrics();
        for amount in amounts {
            metrics.worker().counter(Family::Cost, &["chat", "openai", "gpt-4o"]).add(*amount);
        }
        let sum: u64 = amounts.iter().sum();
        let exact = format!("{}.{:09}", sum / 1_000_000_000, sum % 1_000_000_000);
        let line = lines(&metrics, Family::Cost).concat();
        let printed = line.rsplit(' ').next().expect("a number");
        assert_eq!(printed, exact.trim_end_matches('0').trim_end_matches('.'), "{amounts:?}");
    }
}
