//! What the proxy says about itself: metrics, access log, traces, OTLP.

pub mod log;
pub mod metrics;
pub mod trace;
