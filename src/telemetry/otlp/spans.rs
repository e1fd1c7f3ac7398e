//! Sampled spans to the collector: finished span data straight into the SDK's batch processor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use opentelemetry_otlp::{Compression, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor},
};

use super::{EXPORT_TIMEOUT, Exports, OtlpClient, OtlpError};
use crate::telemetry::{
    metrics::{Counter, Family, Metrics},
    trace::Span,
};

/// Most spans that wait for export; further ones are dropped and counted.
pub const MAX_QUEUE: usize = 4096;

/// Takes finished spans. Never blocks.
#[derive(Debug)]
pub struct Tracer {
    processor: BatchSpanProcessor,
    queued: Arc<AtomicUsize>,
    dropped: Counter,
}

impl Tracer {
    pub(super) fn start(client: OtlpClient, resource: &Resource, metrics: &Metrics) -> Result<Self, OtlpError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(client.url("/v1/traces"))
            .with_http_client(client)
            .with_compression(Compression::Gzip)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        let queued = Arc::new(AtomicUsize::new(0));
        let exporter = Counted { exporter, queued: queued.clone(), exports: Exports::new("traces", metrics) };
        let config = BatchConfigBuilder::default().with_max_queue_size(MAX_QUEUE).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        processor.set_resource(resource);
        let dropped = metrics.shared().counter(Family::OtlpExports, &["traces", "dropped"]);
        Ok(Self { processor, queued, dropped })
    }

    /// Ends the span at `at` and queues it.
    pub fn end(&self, span: Span, at: SystemTime) {
        // the processor drops silently when its queue is full: this counter keeps the queue from filling
        if self.queued.fetch_add(1, Relaxed) >= MAX_QUEUE {
            self.queued.fetch_sub(1, Relaxed);
            self.dropped.inc();
            return;
        }
        self.processor.on_end(span.end(at));
    }

    /// Exports the queued spans and ends; blocks, at most `within`. Gives whether the export ended in time.
    pub fn shutdown(&self, within: Duration) -> bool {
        self.processor.shutdown_with_timeout(within).is_ok()
    }
}

/// The exporter, with its outcomes counted.
#[derive(Debug)]
struct Counted {
    exporter: opentelemetry_otlp::SpanExporter,
    queued: Arc<AtomicUsize>,
    exports: Exports,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.queued.fetch_sub(batch.len(), Relaxed);
        let result = self.exporter.export(batch).await;
        self.exports.record(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
