//! OTLP over HTTP: spans through the SDK's batch processor, metrics from our own cells, lines of the logs; all over our own client.
//!
//! Without an endpoint nothing is opened. A slow, absent or faulty collector costs counted exports and bounded memory, never a
//! request's time.

mod client;
mod logs;
mod metrics;
mod spans;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue as Pair, any_value},
    resource,
};
use opentelemetry_sdk::Resource;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

pub use client::{CollectorSaid, OtlpClient};
pub use spans::Tracer;

use super::{
    log::queue::LineQueue,
    metrics::{Counter, Family, Metrics, VERSION},
};
use crate::{
    clock::{Instant, unguessable_id},
    config::{self, Origin},
    resolve::Resolver,
};

/// Longest time of one export, its retries included (the specification's default).
pub const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the exporters could not start.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The endpoint is no `http(s)` URL.
    #[error("telemetry.otlp: {0}")]
    Endpoint(String),
    /// TLS could not be set up.
    #[error("telemetry.otlp: TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The exporter could not be built.
    #[error("telemetry.otlp: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Running exports.
#[derive(Debug)]
pub struct Otlp {
    /// The tracer that takes sampled spans.
    pub tracer: Arc<Tracer>,
    /// Takes lines of the logs; `None`: no log goes to the collector.
    pub(super) lines: Option<Arc<LineQueue>>,
    stop: watch::Sender<bool>,
    /// The exporters of metrics and of logs.
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl Otlp {
    /// Starts exports to `endpoint` on the side runtime, whose time and I/O drivers must be on.
    pub fn start(
        config: &config::Telemetry,
        endpoint: &str,
        metrics: &Arc<Metrics>,
        side: &Handle,
        names: &Resolver,
    ) -> Result<Self, OtlpError> {
        let origin = Origin::parse(endpoint).map_err(OtlpError::Endpoint)?;
        let mut headers = config.otlp_headers.clone();
        headers.extend(headers_of_environment());
        Self::with_client(config, OtlpClient::new(origin, headers, EXPORT_TIMEOUT, side.clone(), names.clone(), None)?, metrics, side)
    }

    /// As [`Otlp::start`], over the caller's own client.
    pub fn with_client(config: &config::Telemetry, client: OtlpClient, metrics: &Arc<Metrics>, side: &Handle) -> Result<Self, OtlpError> {
        let resource = resource(&config.service);
        let tracer = Arc::new(Tracer::start(client.clone(), &resource, metrics)?);
        let (stop, stopped) = watch::channel(false);
        let exporter = metrics::Exporter::new(client.clone(), &resource, metrics.clone());
        let mut tasks = vec![side.spawn(exporter.run(config.otlp_interval, stopped.clone()))];
        let lines = (config.otlp_logs != config::SentLogs::Off).then(|| {
            let lines = Arc::new(LineQueue::new(metrics.shared().counter(Family::OtlpExports, &["logs", "dropped"])));
            tasks.push(side.spawn(logs::LogExporter::new(client, &resource, metrics.clone(), lines.clone()).run(stopped)));
            lines
        });
        Ok(Self { tracer, lines, stop, tasks: parking_lot::Mutex::new(tasks) })
    }

    /// Exports what is left of every signal and ends; returns by `deadline` at the latest. Gives whether the work ended by
    /// then; a failed export has ended, and is counted.
    pub async fn shutdown(&self, deadline: Instant) -> bool {
        let _ = self.stop.send(true);
        let (done, spans) = tokio::sync::oneshot::channel();
        let tracer = self.tracer.clone();
        let left = deadline.saturating_duration_since(Instant::now());
        // the processor blocks its caller, and its own thread needs the runtime that may be calling here
        let spawned = std::thread::Builder::new().name("outrigger-otlp-end".into()).spawn(move || {
            let _ = done.send(tracer.shutdown(left));
        });
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let others = async {
            let mut ended = true;
            for task in tasks {
                ended &= task.await.is_ok();
            }
            ended
        };
        let all = async { (spans.await.unwrap_or(false), others.await) };
        let ended = tokio::time::timeout_at(deadline, all).await;
        spawned.is_ok() && ended == Ok((true, true))
    }
}

/// Counts the exports of one signal. A failure is logged when it begins and when it ends, not each time.
#[derive(Debug)]
struct Exports {
    signal: &'static str,
    ok: Counter,
    error: Counter,
    failing: AtomicBool,
}

impl Exports {
    fn new(signal: &'static str, metrics: &Metrics) -> Self {
        let of = |outcome| metrics.shared().counter(Family::OtlpExports, &[signal, outcome]);
        Self { signal, ok: of("ok"), error: of("error"), failing: AtomicBool::new(false) }
    }

    fn record<E: std::fmt::Display>(&self, result: &Result<(), E>) {
        match result {
            Ok(()) => {
                self.ok.inc();
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(signal = self.signal, "OTLP exports succeed again");
                }
            }
            Err(error) => {
                self.error.inc();
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(signal = self.signal, %error, "OTLP export failed; further failures are only counted");
                }
            }
        }
    }
}

/// The resource that exports. `OTEL_RESOURCE_ATTRIBUTES` adds to it.
fn resource(service: &str) -> Resource {
    Resource::builder()
        .with_service_name(service.to_owned())
        .with_attributes([
            KeyValue::new("service.version", VERSION),
            KeyValue::new("service.instance.id", format!("{:032x}", unguessable_id())),
        ])
        .build()
}

/// The resource in a message of our own.
fn resource_message(resource: &Resource) -> resource::v1::Resource {
    let attributes = resource.iter().map(|(key, value)| attribute(key.as_str(), value.as_str().into_owned())).collect();
    resource::v1::Resource { attributes, ..Default::default() }
}

/// An attribute of a message of our own.
fn attribute(key: &str, value: String) -> Pair {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value)) };
    Pair { key: key.into(), value: Some(value), ..Default::default() }
}

/// `OTEL_EXPORTER_OTLP_HEADERS`: `name=value` pairs with commas between, percent-encoded; invalid headers are left out.
fn headers_of_environment() -> Vec<(HeaderName, HeaderValue)> {
    let text = std::env::var("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().parse().ok()?, HeaderValue::from_str(&value).ok()?))
    };
    text.split(',').filter_map(pair).collect()
}
