//! The proxy's account of itself: metrics, access log, traces, OTLP.
//!
//! One [`Telemetry`] for the process; each worker takes a [`WorkerTelemetry`] from it.

pub mod failures;
pub mod flows;
pub mod log;
pub mod metrics;
pub mod observed;
pub mod otlp;
pub mod trace;

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::runtime::Handle;
use tracing::Level;

pub use log::{end_process_log, init_process_log, say_repeats};
pub use otlp::Tracer;

use crate::{
    clock::{Clock, Instant},
    config,
    resolve::Resolver,
};
use failures::Failures;
use flows::{Flows, WorkerFlows};
use log::{
    Log, Output, WorkerLog, lines_lost,
    queue::{LineKind, LogLine},
    send_process_log, standard_output,
};
use metrics::{Family, Metrics, WorkerMetrics};
use otlp::{Otlp, OtlpError};
use trace::Sampler;

/// Longest wait for a log's last lines.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log's thread could not be started.
    #[error("the access log cannot be started: {0}")]
    Log(#[from] io::Error),
    /// The exporters could not be started.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
}

/// Metrics, access log and exporters of the process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    flows: Flows,
    log: Log,
    otlp: Option<Otlp>,
    sampler: Sampler,
    failures: Arc<Failures>,
}

/// A worker's share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerTelemetry {
    /// The worker's cells.
    pub metrics: WorkerMetrics,
    /// The worker's flows.
    pub flows: WorkerFlows,
    /// The worker's end of the access log.
    pub log: WorkerLog,
    /// The tracer that takes sampled spans; `None`: OTLP is off, and `traceparent` is neither made nor changed.
    pub tracer: Option<Arc<Tracer>>,
    /// The sampling decision for traces that begin here.
    pub sampler: Sampler,
    /// The last failures of the process.
    pub failures: Arc<Failures>,
}

impl Telemetry {
    /// Starts the log's thread and, if an endpoint is set, the exporters on the side runtime. `names` looks up the endpoint's name.
    pub fn start(config: &config::Telemetry, clock: Clock, side: &Handle, names: &Resolver) -> Result<Arc<Self>, TelemetryError> {
        Self::start_into(config, clock, side, names, standard_output())
    }

    /// As [`Telemetry::start`], with the access log going to `out`.
    ///
    /// # Errors
    /// As [`Telemetry::start`].
    pub fn start_into(
        config: &config::Telemetry,
        clock: Clock,
        side: &Handle,
        names: &Resolver,
        out: Output,
    ) -> Result<Arc<Self>, TelemetryError> {
        let metrics = Metrics::new(clock);
        let mut log = Log::start_into(config.log, metrics.shared().counter(Family::LogDropped, &["access"]), out)?;
        metrics.register(Family::LogDropped, Box::new(|| vec![(vec!["process".to_owned()], lines_lost() as f64)]));
        let otlp = match config.otlp.as_deref().filter(|endpoint| !endpoint.is_empty()) {
            Some(endpoint) => Some(Otlp::start(config, endpoint, &metrics, side, names)?),
            None => None,
        };
        if let Some(lines) = otlp.as_ref().and_then(|otlp| otlp.lines.clone()) {
            if config.otlp_logs.access() {
                log.send_to(lines.clone());
            }
            if config.otlp_logs.process() {
                send_process_log(Some(lines));
            }
        }
        let failures = Failures::new(config.errors);
        let ring = failures.clone();
        metrics.register(Family::ErrorsDisplaced, Box::new(move || vec![(Vec::new(), ring.displaced() as f64)]));
        let ring = failures.clone();
        metrics.register(Family::ErrorsBytes, Box::new(move || vec![(Vec::new(), ring.kept().1 as f64)]));
        Ok(Arc::new(Self { metrics, flows: Flows::default(), log, otlp, sampler: Sampler::new(config.sample), failures }))
    }

    /// The share of one more worker.
    pub fn worker(&self) -> WorkerTelemetry {
        WorkerTelemetry {
            metrics: self.metrics.worker(),
            flows: self.flows.worker(),
            log: self.log.worker(),
            tracer: self.otlp.as_ref().map(|otlp| otlp.tracer.clone()),
            sampler: self.sampler,
            failures: self.failures.clone(),
        }
    }

    /// The last failures of the process.
    pub fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    /// Every number of the process.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Who talks to whom, while somebody looks.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Sends a line of the audit log to the collector, if logs go there.
    pub fn audited(&self, at: SystemTime, line: &str) {
        if let Some(lines) = self.otlp.as_ref().and_then(|otlp| otlp.lines.as_ref()) {
            lines.push(LogLine { kind: LineKind::Audit, at, level: Level::INFO, trace: None, json: line.as_bytes().into() });
        }
    }

    /// Exports and writes what is left; takes at most `within` (and a moment for the log). Works on any runtime with time, also
    /// on the side runtime itself. Gives whether the work ended in time; a failed export has ended, and is counted.
    pub async fn shutdown(self: Arc<Self>, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        // A line of the process log that comes later would wait for an exporter that has gone.
        send_process_log(None);
        let exported = match &self.otlp {
            Some(otlp) => otlp.shutdown(deadline).await,
            None => true,
        };
        // Lines in memory are worth a moment even after the deadline, and never more: a pipe without a reader takes nothing,
        // however long the wait.
        let left = deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(100), LAST_LINES);
        let (done, written) = tokio::sync::oneshot::channel();
        let spawned = std::thread::Builder::new().name("outrigger-log-end".into()).spawn(move || {
            let _ = done.send(self.log.shutdown(left));
        });
        spawned.is_ok() && written.await.unwrap_or(false) && exported
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;

    fn config(otlp: Option<String>) -> config::Telemetry {
        let otlp_interval = Duration::from_secs(3600);
        config::Telemetry {
            log: LogFormat::Off,
            otlp,
            otlp_logs: config::SentLogs::Off,
            otlp_headers: Vec::new(),
            sample: 1.0,
            service: "s".into(),
            otlp_interval,
            errors: config::FailureBounds { keep: 0, bytes: 0 },
        }
    }

    #[tokio::test]
    async fn without_an_endpoint_there_is_no_tracer_and_nothing_to_wait_for() {
        for endpoint in [None, Some(String::new())] {
            let telemetry = Telemetry::start(&config(endpoint), Clock::system(), &Handle::current(), &Resolver::default()).expect("starts");
            assert!(telemetry.worker().tracer.is_none());
            assert!(telemetry.shutdown(Duration::ZERO).await);
        }
    }

    /// The runtime of this test is the side runtime, and has one thread.
    #[tokio::test]
    async fn shutdown_from_the_side_runtime_itself_does_not_lock_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        let telemetry =
            Telemetry::start(&config(Some(format!("http://127.0.0.1:{port}"))), Clock::system(), &Handle::current(), &Resolver::default())
                .expect("starts");
        assert!(telemetry.worker().tracer.is_some());
        let metrics = telemetry.metrics().clone();
        assert!(telemetry.shutdown(Duration::from_secs(20)).await);
        assert!(metrics.render().contains("outrigger_otlp_exports_total{signal=\"metrics\",outcome=\"error\"} 1\n"));
    }
}
