//! Metrics to the collector: the same snapshot that a scrape reads, as OTLP messages (opentelemetry-proto 1.x,
//! `metrics/v1`), cumulative since start.
//!
//! The SDK's metrics are not used: they have no instrument that reads a histogram kept elsewhere, and the cells exist to avoid
//! a second recording on the hot path. Cumulative points make retries needless: the next export carries the same sums.

use std::{io::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use opentelemetry_http::HttpError;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::{
        self, AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        exemplar, metric::Data, number_data_point,
    },
    resource,
};
use opentelemetry_sdk::Resource;
use prost::Message;
use tokio::sync::watch;

use super::{Exports, OtlpClient, attribute, resource_message};
use crate::{
    clock::unix,
    telemetry::metrics::{Exemplar, Kind, Metrics, Snapshot, VERSION, Value, nanos},
};

/// A shorter interval would only burn CPU.
const SHORTEST: Duration = Duration::from_millis(100);

/// Sends every family once per interval.
pub(super) struct Exporter {
    client: OtlpClient,
    resource: resource::v1::Resource,
    metrics: Arc<Metrics>,
    exports: Exports,
}

impl Exporter {
    pub(super) fn new(client: OtlpClient, resource: &Resource, metrics: Arc<Metrics>) -> Self {
        Self { client, resource: resource_message(resource), exports: Exports::new("metrics", &metrics), metrics }
    }

    /// Exports every `interval` (at least [`SHORTEST`]), and once more when `stop` turns true.
    pub(super) async fn run(self, interval: Duration, mut stop: watch::Receiver<bool>) {
        loop {
            let last = tokio::select! {
                // an error: the sender of stop is gone
                changed = stop.wait_for(|stop| *stop) => { let _ = changed; true }
                () = tokio::time::sleep(interval.max(SHORTEST)) => false,
            };
            self.exports.record(&self.export().await);
            if last {
                return;
            }
        }
    }

    async fn export(&self) -> Result<(), HttpError> {
        let (start, now) = self.metrics.span_nanos();
        let message = request(&self.metrics.gather(), self.resource.clone(), start, now).encode_to_vec();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&message)?;
        let answer = self.client.post("/v1/metrics", Some("gzip"), Bytes::from(gzip.finish()?)).await?;
        let partial = ExportMetricsServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
        match partial {
            Some(partial) if partial.rejected_data_points > 0 => {
                Err(format!("the collector rejected {} points: {}", partial.rejected_data_points, partial.error_message).into())
            }
            _ => Ok(()),
        }
    }
}

/// One export: the present state of every family, counted since `start` (nanoseconds since 1970).
fn request(snapshots: &[Snapshot], resource: resource::v1::Resource, start: u64, now: u64) -> ExportMetricsServiceRequest {
    let scope = InstrumentationScope { name: "outrigger".into(), version: VERSION.into(), ..Default::default() };
    let metrics = snapshots.iter().map(|snapshot| metric(snapshot, start, now)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }];
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() }],
    }
}

fn metric(snapshot: &Snapshot, start: u64, now: u64) -> Metric {
    let (name, unit) = snapshot.spec.otlp();
    let aggregation_temporality = AggregationTemporality::Cumulative.into();
    let data = match snapshot.spec.kind {
        Kind::Counter => Data::Sum(Sum { data_points: numbers(snapshot, start, now), aggregation_temporality, is_monotonic: true }),
        Kind::Gauge => Data::Gauge(Gauge { data_points: numbers(snapshot, start, now) }),
        Kind::Histogram(_) => Data::Histogram(Histogram { data_points: histograms(snapshot, start, now), aggregation_temporality }),
    };
    Metric { name, unit: unit.into(), description: snapshot.spec.help.into(), data: Some(data), ..Default::default() }
}

fn numbers(snapshot: &Snapshot, start: u64, now: u64) -> Vec<NumberDataPoint> {
    let point = |(labels, value): (&Vec<Arc<str>>, &Value)| match value {
        Value::Number(number) => Some(NumberDataPoint {
            attributes: attributes(snapshot, labels),
            start_time_unix_nano: start,
            time_unix_nano: now,
            value: Some(number_data_point::Value::AsDouble(*number)),
            ..Default::default()
        }),
        Value::Histogram { .. } => None,
    };
    snapshot.series.iter().filter_map(point).collect()
}

fn histograms(snapshot: &Snapshot, start: u64, now: u64) -> Vec<HistogramDataPoint> {
    let point = |(labels, value): (&Vec<Arc<str>>, &Value)| match value {
        Value::Histogram { bounds, buckets, sum, exemplars } => Some(HistogramDataPoint {
            attributes: attributes(snapshot, labels),
            start_time_unix_nano: start,
            time_unix_nano: now,
            count: buckets.iter().sum(),
            sum: Some(*sum),
            bucket_counts: buckets.clone(),
            exemplars: exemplars.iter().flatten().map(|exemplar| self::exemplar(snapshot, exemplar)).collect(),
            explicit_bounds: bounds.iter().map(|bound| *bound as f64 / snapshot.spec.unit.per_unit()).collect(),
            ..Default::default()
        }),
        Value::Number(_) => None,
    };
    snapshot.series.iter().filter_map(point).collect()
}

fn exemplar(snapshot: &Snapshot, exemplar: &Exemplar) -> v1::Exemplar {
    v1::Exemplar {
        time_unix_nano: nanos(unix(exemplar.span.at)),
        value: Some(exemplar::Value::AsDouble(exemplar.value as f64 / snapshot.spec.unit.per_unit())),
        trace_id: exemplar.span.trace_id.to_bytes().to_vec(),
        span_id: exemplar.span.span_id.to_bytes().to_vec(),
        ..Default::default()
    }
}

/// Labels as attributes; an empty value means no attribute (`error.type` of a success).
fn attributes(snapshot: &Snapshot, values: &[Arc<str>]) -> Vec<KeyValue> {
    let pairs = snapshot.spec.labels.iter().zip(values);
    pairs.filter(|(_, value)| !value.is_empty()).map(|(name, value)| attribute(name, value.to_string())).collect()
}
