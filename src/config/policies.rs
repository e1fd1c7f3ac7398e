//! The policies of a route as meant, in the order in which they run.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};

use super::{Glob, Mode};

/// A source of the caller's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerSource {
    /// A header, believed only from `trusted_proxies` (inbound).
    Header(HeaderName),
    /// The client's address (IPv6: its /64).
    ClientIp,
    /// The client's certificate, verified by the listener's `tls.client_ca`.
    ClientCert,
}

/// How exactly model calls are metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metering {
    /// Streams are asked for their usage; what the app did not ask for is taken out again.
    #[default]
    Exact,
    /// Calls go out as the app sent them: a stream without usage is estimated.
    AsSent,
}

/// Retries.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Enforce or observe.
    pub mode: Mode,
    /// Tries after the first.
    pub max_retries: u32,
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// The pauses.
    pub backoff: Backoff,
    /// Longest `Retry-After` that is waited for; longer ones pass to the client.
    pub max_hint: Duration,
    /// Share of requests that may be retries.
    pub budget: RetryBudget,
    /// Largest body kept for another try.
    pub replay_buffer: u64,
    /// Non-idempotent methods too (always so on provider routes).
    pub any_method: bool,
}

/// A retryable outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum RetryOn {
    Connect,
    Reset,
    Timeout,
    Status(StatusCode),
}

/// Pauses between tries.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// Full jitter: uniform in `0..=min(max, base * 2^n)`.
    FullJitter {
        /// Ceiling of the first pause.
        base: Duration,
        /// Ceiling of every pause.
        max: Duration,
    },
    /// Exactly these pauses; the last repeats.
    Schedule(Vec<Duration>),
}

/// A target's retry budget.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct RetryBudget {
    pub ratio: f64,
    pub min_per_sec: f64,
}

/// Circuit breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Enforce or observe.
    pub mode: Mode,
    /// Failures in a row that open it; 0 is off.
    pub consecutive: u32,
    /// Share of failures that opens it.
    pub ratio: Option<BreakerRatio>,
    /// First open time.
    pub open_base: Duration,
    /// Longest open time.
    pub open_max: Duration,
    /// Added jitter, 0..=1 of the open time.
    pub jitter: f64,
    /// Successful probes that close it.
    pub successes: u32,
}

/// Share of failures over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct BreakerRatio {
    pub threshold: f64,
    pub window: Duration,
    pub min_requests: u32,
}

/// What comes after a target that failed.
#[derive(Debug, Clone)]
pub enum Fallback {
    /// Another provider of the same API, or another model.
    Provider {
        /// Index into [`Outbound::providers`](super::Outbound::providers).
        provider: usize,
        /// Replaces the model in the body.
        model: Option<Arc<str>>,
    },
    /// A static answer.
    Respond {
        /// Its status.
        status: StatusCode,
        /// Its body.
        body: String,
        /// Its content type.
        content_type: HeaderValue,
    },
}

/// A model's price in nano-USD per token (USD 1 per million tokens = 1_000).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Price {
    pub model: Glob,
    pub input: u64,
    pub output: u64,
    pub cached_input: Option<u64>,
    pub cache_write: Option<u64>,
    pub cache_write_1h: Option<u64>,
}
