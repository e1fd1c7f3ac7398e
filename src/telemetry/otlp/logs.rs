//! Log lines to the collector, as OTLP messages (opentelemetry-proto 1.x, `logs/v1`).
//!
//! A batch that a collector could not take stays, and is sent again: what comes meanwhile waits in the queue, whose bounds say what is
//! lost. A batch that a collector refuses for good is lost and counted (OTLP specification, "Failures").

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::StatusCode;
use opentelemetry_http::HttpError;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource,
};
use opentelemetry_sdk::Resource;
use prost::Message;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::Level;

use super::{CollectorSaid, Exports, OtlpClient, resource_message};
use crate::{
    clock::unix,
    telemetry::{
        log::queue::{LineKind, LineQueue, LogLine},
        metrics::{Metrics, VERSION, nanos},
    },
};

/// A line waits at most this long before an export begins.
const EVERY: Duration = Duration::from_secs(1);

/// Longest pause before a batch is sent again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends what waits in the queue.
pub(super) struct LogExporter {
    client: OtlpClient,
    resource: resource::v1::Resource,
    metrics: Arc<Metrics>,
    exports: Exports,
    lines: Arc<LineQueue>,
    /// The lines of the export under way, or of one that failed.
    batch: Vec<LogLine>,
    /// Pause after a failure; `None`: the last export went well.
    pause: Option<Duration>,
}

/// How an export ended.
enum ExportEnd {
    Done,
    /// The batch is sent again.
    Later(HttpError),
    /// So many lines are lost.
    Refused(usize, HttpError),
}

impl LogExporter {
    pub(super) fn new(client: OtlpClient, resource: &Resource, metrics: Arc<Metrics>, lines: Arc<LineQueue>) -> Self {
        let exports = Exports::new("logs", &metrics);
        Self { client, resource: resource_message(resource), metrics, exports, lines, batch: Vec::new(), pause: None }
    }

    /// Exports every [`EVERY`] and whenever a batch is full, and once more when `stop` turns true.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let last = tokio::select! {
                // an error: the sender of stop is gone
                changed = stop.wait_for(|stop| *stop) => { let _ = changed; true }
                () = self.due() => false,
            };
            self.export_all().await;
            if last {
                return self.give_up();
            }
        }
    }

    async fn due(&self) {
        match self.pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.lines.filled() => {}
            },
        }
    }

    /// Exports batch by batch, until nothing waits or an export fails.
    async fn export_all(&mut self) {
        loop {
            if self.batch.is_empty() {
                self.batch = self.lines.take();
            }
            if self.batch.is_empty() {
                return;
            }
            match self.export().await {
                ExportEnd::Done => {
                    self.exports.record::<HttpError>(&Ok(()));
                    self.batch.clear();
                    self.pause = None;
                }
                ExportEnd::Later(error) => {
                    self.exports.record(&Err(error));
                    self.pause = Some(self.pause.map_or(EVERY, |pause| (pause * 2).min(LONGEST_PAUSE)));
                    return;
                }
                ExportEnd::Refused(lost, error) => {
                    self.exports.record(&Err(error));
                    self.lines.lost(lost);
                    self.batch.clear();
                }
            }
        }
    }

    /// Counts what is left at the end as lost.
    fn give_up(mut self) {
        while !self.batch.is_empty() {
            self.lines.lost(self.batch.len());
            self.batch = self.lines.take();
        }
    }

    async fn export(&self) -> ExportEnd {
        let (_, now) = self.metrics.span_nanos();
        let message = request(&self.batch, self.resource.clone(), now).encode_to_vec();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let body = match gzip.write_all(&message).and_then(|()| gzip.finish()) {
            Ok(body) => Bytes::from(body),
            Err(error) => return ExportEnd::Refused(self.batch.len(), error.into()),
        };
        let answer = match self.client.post("/v1/logs", Some("gzip"), body).await {
            Ok(answer) => answer,
            Err(error) => {
                return match error.downcast_ref::<CollectorSaid>() {
                    Some(CollectorSaid(status)) if !is_passing(*status) => ExportEnd::Refused(self.batch.len(), error),
                    _ => ExportEnd::Later(error),
                };
            }
        };
        match ExportLogsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success) {
            Some(partial) if partial.rejected_log_records > 0 => {
                let lost = usize::try_from(partial.rejected_log_records).unwrap_or(usize::MAX).min(self.batch.len());
                ExportEnd::Refused(lost, format!("the collector rejected {lost} lines: {}", partial.error_message).into())
            }
            _ => ExportEnd::Done,
        }
    }
}

/// Whether the same request may succeed later (OTLP specification, "Retryable Response Codes").
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// One export at `now` (nanoseconds since 1970).
fn request(lines: &[LogLine], resource: resource::v1::Resource, now: u64) -> ExportLogsServiceRequest {
    let scope = InstrumentationScope { name: "outrigger".into(), version: VERSION.into(), ..Default::default() };
    let log_records = lines.iter().map(|line| record(line, now)).collect();
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records, ..Default::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { resource: Some(resource), scope_logs, ..Default::default() }] }
}

fn record(line: &LogLine, now: u64) -> LogRecord {
    let mut members: Map<String, Value> = serde_json::from_slice(&line.json).unwrap_or_default();
    for written_apart in ["timestamp", "level", "trace_id"] {
        members.remove(written_apart);
    }
    let (body, event_name) = match line.kind {
        LineKind::Process => (text(members.remove("message")), ""),
        // Byte for byte: whoever has it can say whether the chain on the disk is the same.
        LineKind::Audit => (String::from_utf8_lossy(&line.json).into_owned(), "outrigger.audit"),
        LineKind::Access => {
            let of = |name: &str| text(members.get(name).cloned());
            (format!("{} {} {}", of("method"), of("path"), of("status")), "outrigger.exchange")
        }
    };
    let mut attributes = Vec::with_capacity(members.len() + 1);
    members.into_iter().for_each(|(name, value)| add(&mut attributes, line.kind, &name, value));
    let (trace_id, span_id) = line.trace.map(|(trace, span)| (trace.to_bytes().to_vec(), span.to_bytes().to_vec())).unwrap_or_default();
    LogRecord {
        time_unix_nano: nanos_of(line.at),
        observed_time_unix_nano: now,
        severity_number: severity(line.level).into(),
        severity_text: line.level.as_str().into(),
        body: Some(AnyValue { value: Some(any_value::Value::StringValue(body)) }),
        attributes,
        trace_id,
        span_id,
        event_name: event_name.into(),
        ..Default::default()
    }
}

fn nanos_of(at: SystemTime) -> u64 {
    nanos(unix(at))
}

fn severity(level: Level) -> SeverityNumber {
    match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    }
}

/// Adds a member of a line. What the HTTP and GenAI conventions name has their name; the rest is named as in the log, with `outrigger.`
/// before it. A member with members becomes several attributes.
fn add(attributes: &mut Vec<KeyValue>, kind: LineKind, name: &str, value: Value) {
    if let Value::Object(members) = value {
        return members.into_iter().for_each(|(inner, value)| add(attributes, kind, &format!("{name}.{inner}"), value));
    }
    if let (LineKind::Access, "path", Value::String(path)) = (kind, name, &value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        attributes.push(attribute("url.path", Value::from(path)));
        if !query.is_empty() {
            attributes.push(attribute("url.query", Value::from(query)));
        }
        return;
    }
    match known(name).filter(|_| kind == LineKind::Access) {
        Some(known) => attributes.push(attribute(known, value)),
        None => attributes.push(attribute(&format!("outrigger.{name}"), value)),
    }
}

/// A name of the semantic conventions (HTTP spans, GenAI spans) for a member of an access line.
fn known(name: &str) -> Option<&'static str> {
    Some(match name {
        "method" => "http.request.method",
        "status" => "http.response.status_code",
        "client_ip" => "client.address",
        "host" => "server.address",
        "operation" => "gen_ai.operation.name",
        "model" => "gen_ai.request.model",
        _ => return None,
    })
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(any(value)), ..Default::default() }
}

fn any(value: Value) -> AnyValue {
    use any_value::Value as Any;
    let value = match value {
        Value::Bool(on) => Some(Any::BoolValue(on)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(whole) => Any::IntValue(whole),
            None => Any::DoubleValue(number.as_f64().unwrap_or_default()),
        }),
        Value::Array(values) => Some(Any::ArrayValue(ArrayValue { values: values.into_iter().map(any).collect() })),
        Value::Null => None,
        // Members of objects were taken apart before; one inside a list stays JSON.
        other => Some(Any::StringValue(text(Some(other)))),
    };
    AnyValue { value }
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    }
}
