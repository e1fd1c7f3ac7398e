//! Tests of log lines at the collector.

use std::net::{IpAddr, Ipv4Addr};

use opentelemetry_proto::tonic::{collector::logs::v1::ExportLogsServiceRequest, logs::v1::LogRecord};
use tracing::Level;

use super::*;
use crate::{
    config::SentLogs,
    telemetry::{
        Telemetry,
        log::{
            Record, Tokens,
            queue::{BATCH, LineKind, LogLine, MAX_LINES},
            testing,
        },
    },
};

/// Every line that a collector has got.
fn lines(collector: &Collector) -> Vec<LogRecord> {
    let requests = collector.bodies("/v1/logs").into_iter();
    let requests = requests.map(|body| ExportLogsServiceRequest::decode(&body[..]).expect("decodes"));
    requests.flat_map(|request| request.resource_logs).flat_map(|of| of.scope_logs).flat_map(|of| of.log_records).collect()
}

fn said(line: &LogRecord) -> String {
    match line.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn process_line(number: usize) -> LogLine {
    let json = format!("{{\"timestamp\":\"x\",\"level\":\"WARN\",\"message\":\"line {number}\",\"target\":\"app\",\"count\":7}}\n");
    LogLine { kind: LineKind::Process, at: UNIX_EPOCH, level: Level::WARN, trace: None, json: json.into_bytes().into() }
}

async fn start(collector: &Collector, sent: SentLogs) -> (Arc<Telemetry>, u16) {
    let port = collector.start(None).await;
    let config = config::Telemetry { otlp_logs: sent, ..config(format!("http://127.0.0.1:{port}")) };
    (Telemetry::start(&config, Clock::system(), &Handle::current(), &Resolver::default()).expect("starts"), port)
}

fn record<'a>(trace: &TraceContext, path: &'a str) -> Record<'a> {
    Record {
        at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        trace_id: Some(trace.trace_id),
        span_id: Some(trace.span_id),
        door: Door::Outbound,
        route: "chat",
        caller: "ada",
        client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)),
        method: &Method::POST,
        host: "shop",
        path,
        query: "page=2&token=secret",
        status: 502,
        target: "openai",
        tries: 2,
        thrown_away: &["status_5xx"],
        provider: "openai",
        operation: "chat",
        model: "m",
        stream: Some(true),
        tokens: Some(Tokens { usage: Usage { input: 3, output: 4, ..Usage::default() }, source: UsageSource::Provider }),
        cost: Some(2_500_000),
        ..testing::record()
    }
}

#[tokio::test]
async fn an_exchange_arrives_with_its_trace_and_the_names_of_the_conventions() {
    let collector = Collector::default();
    let (telemetry, _) = start(&collector, SentLogs::All).await;
    let trace = Trace::begin(None, Sampler::new(1.0), &Chance::seeded(5)).context;
    let log = telemetry.worker().log;
    assert!(log.enabled(), "the collector wants lines, although standard output gets none");
    log.write(&record(&trace, "/v1/chat"));
    let metrics = telemetry.metrics().clone();
    assert!(telemetry.shutdown(Duration::from_secs(20)).await);

    let bodies = collector.bodies("/v1/logs");
    let request = ExportLogsServiceRequest::decode(&bodies[0][..]).expect("decodes");
    let resource = request.resource_logs[0].resource.as_ref().expect("resource");
    assert_eq!(text(&resource.attributes, "service.name"), "shop-sidecar");
    let lines = lines(&collector);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!((&line.trace_id[..], &line.span_id[..]), (&trace.trace_id.to_bytes()[..], &trace.span_id.to_bytes()[..]));
    assert_eq!(said(line), "POST /v1/chat?page=2&token=*** 502");
    assert_eq!((line.severity_text.as_str(), line.severity_number, line.event_name.as_str()), ("ERROR", 17, "outrigger.exchange"));
    assert_eq!(line.time_unix_nano, 1_700_000_000_000_000_000);
    assert!(line.observed_time_unix_nano > line.time_unix_nano);
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/v1/chat"),
        ("url.query", "page=2&token=***"),
        ("client.address", "10.0.0.9"),
        ("gen_ai.request.model", "m"),
        ("outrigger.request_id", "r-1"),
        ("outrigger.caller", "ada"),
        ("outrigger.tokens.source", "provider"),
    ] {
        assert_eq!(text(&line.attributes, key), value, "{key}");
    }
    for (key, value) in [
        ("http.response.status_code", "Some(IntValue(502))"),
        ("outrigger.tokens.output", "Some(IntValue(4))"),
        ("outrigger.cost_usd", "Some(DoubleValue(0.0025))"),
        ("outrigger.stream", "Some(BoolValue(true))"),
    ] {
        assert_eq!(text(&line.attributes, key), value, "{key}");
    }
    assert_eq!((exports(&metrics, "logs", "ok"), exports(&metrics, "logs", "error"), exports(&metrics, "logs", "dropped")), (1, 0, 0));
}

#[tokio::test]
async fn only_the_logs_that_are_asked_for_go() {
    for (sent, access) in [(SentLogs::Off, false), (SentLogs::Process, false), (SentLogs::Access, true)] {
        let collector = Collector::default();
        let (telemetry, _) = start(&collector, sent).await;
        let log = telemetry.worker().log;
        assert_eq!(log.enabled(), access, "{sent:?}: a record is put together for nobody");
        log.write(&record(&Trace::begin(None, Sampler::new(1.0), &Chance::seeded(1)).context, "/"));
        telemetry.shutdown(Duration::from_secs(20)).await;
        assert_eq!(lines(&collector).len(), usize::from(access), "{sent:?}");
    }
}

/// An [`Otlp`] that sends logs to `collector`, and its queue.
async fn queue(collector: &Collector, metrics: &Arc<Metrics>) -> (Otlp, Arc<LineQueue>) {
    let port = collector.start(None).await;
    let config = config::Telemetry { otlp_logs: SentLogs::Process, ..config(format!("http://127.0.0.1:{port}")) };
    let endpoint = config.otlp.as_deref().expect("set");
    let otlp = Otlp::start(&config, endpoint, metrics, &Handle::current(), &Resolver::default()).expect("starts");
    let lines = otlp.lines.clone().expect("a queue");
    (otlp, lines)
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let all = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_batch_that_a_collector_could_not_take_is_sent_again_and_none_is_lost() {
    let collector = Collector::default();
    collector.status.store(503, Ordering::Relaxed);
    let metrics = Metrics::new(Clock::system());
    let (otlp, queue) = queue(&collector, &metrics).await;
    (0..BATCH + 1).for_each(|number| queue.push(process_line(number)));
    until("a full batch is sent at once", || exports(&metrics, "logs", "error") >= 1).await;
    collector.status.store(0, Ordering::Relaxed);
    assert!(otlp.shutdown(soon()).await);
    let said: Vec<String> = lines(&collector).iter().map(said).collect();
    let expected: Vec<String> = (0..BATCH + 1).map(|number| format!("line {number}")).collect();
    assert_eq!(said, expected, "each once, in order");
    let line = &lines(&collector)[0];
    assert_eq!((line.severity_text.as_str(), text(&line.attributes, "outrigger.target").as_str()), ("WARN", "app"));
    assert!(line.trace_id.is_empty() && line.event_name.is_empty());
    assert_eq!(exports(&metrics, "logs", "dropped"), 0);
}

#[tokio::test]
async fn what_a_collector_refuses_for_good_and_what_finds_no_room_is_counted() {
    let collector = Collector::default();
    collector.status.store(400, Ordering::Relaxed);
    let metrics = Metrics::new(Clock::system());
    let (otlp, queue) = queue(&collector, &metrics).await;
    (0..MAX_LINES + 5).for_each(|number| queue.push(process_line(number)));
    assert_eq!(exports(&metrics, "logs", "dropped"), 5, "the queue is bounded");
    assert!(otlp.shutdown(soon()).await);
    assert_eq!(exports(&metrics, "logs", "dropped"), (MAX_LINES + 5) as u64, "every line is accounted for");

    let metrics = Metrics::new(Clock::system());
    let away = Collector::default();
    away.status.store(503, Ordering::Relaxed);
    let (otlp, queue) = self::queue(&away, &metrics).await;
    (0..3).for_each(|number| queue.push(process_line(number)));
    assert!(otlp.shutdown(soon()).await);
    assert_eq!(exports(&metrics, "logs", "dropped"), 3, "what is left at the end is lost, and counted");
}

#[tokio::test]
async fn a_line_of_the_audit_log_arrives_byte_for_byte() {
    let collector = Collector::default();
    let (telemetry, _) = start(&collector, SentLogs::Access).await;
    let line = r#"{"seq":7,"time":"2026-12-01T00:00:00.000Z","event":"auth.refused","caller":"ab12","prev":"00","hash":"ff"}"#;
    telemetry.audited(UNIX_EPOCH, line);
    assert!(telemetry.shutdown(Duration::from_secs(20)).await);
    let arrived = &lines(&collector)[0];
    let event = text(&arrived.attributes, "outrigger.event");
    assert_eq!((said(arrived).as_str(), arrived.event_name.as_str(), event.as_str()), (line, "outrigger.audit", "auth.refused"));
}
