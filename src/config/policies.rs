//! The policies of a route as meant, in the order in which they run.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;

use super::Glob;

/// Every policy of a route, in the order in which they run. A policy that is not named is absent and does nothing.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// CIDR access.
    pub access: Option<Access>,
    /// Limits written on the route (the door's come first and live in the door).
    pub limits: Vec<Limit>,
    /// Response cache.
    pub cache: Option<Cache>,
    /// Tags purged after a success.
    pub purge: Vec<Arc<str>>,
    /// Time bounds; absent: none.
    pub timeouts: Option<Timeouts>,
    /// Retries; absent: none but the safe reconnect.
    pub retry: Option<Retry>,
    /// Circuit breaker; absent: none.
    pub breaker: Option<Breaker>,
    /// Ordered targets after the first; empty: none.
    pub fallback: Vec<Fallback>,
}

/// Whether a policy acts or only counts what it would do. (`off` is absence.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Mode {
    #[default]
    Enforce,
    Observe,
}

/// Who may come in, by address. `deny` wins.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Access {
    pub mode: Mode,
    pub allow: Vec<IpNet>,
    pub deny: Vec<IpNet>,
}

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

/// One limit. A limit counts where it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// As written, or made from place and terms; state lives on by it across reloads; label of metrics.
    pub name: Arc<str>,
    /// Enforce or observe.
    pub mode: Mode,
    /// What the counters are kept by; empty means one counter for all.
    pub key: Vec<KeyPart>,
    /// What is counted.
    pub unit: Unit,
    /// How much per window: requests, tokens or nano-USD.
    pub amount: u64,
    /// The window.
    pub window: Duration,
    /// How the window is counted.
    pub algorithm: Algorithm,
    /// Whether answers from the cache count too.
    pub applies: Applies,
    /// What to do when the shared store does not answer.
    pub on_store_error: OnStoreError,
    /// Fractions of `amount` that raise an alert, ascending.
    pub alert_at: Vec<f64>,
    /// What a call of a model without a price means to a dollar limit.
    pub unpriced: Unpriced,
    /// What a call whose cost no answer says means to a limit on tokens or dollars.
    pub unmetered: Unpriced,
}

/// Part of a limit's key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyPart {
    ClientIp,
    Caller,
    Header(HeaderName),
    Cookie(String),
    Query(String),
    /// The credential the client sent, hashed.
    ApiKey,
    Route,
    Provider,
    Model,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Unit {
    Requests,
    Tokens,
    /// Nano-dollars: 1 USD = 1_000_000_000.
    NanoUsd,
}

/// How a window is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ring of 32 slots; never above the limit in any window.
    Sliding,
    /// Aligned windows.
    Fixed,
    /// Leaky bucket by `governor`; requests only.
    Gcra {
        /// Requests that may come at once.
        burst: u32,
    },
}

/// Which requests a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Applies {
    All,
    Misses,
}

/// What a limit does while the shared store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OnStoreError {
    Local,
    Allow,
    Deny,
}

/// Calls that a limit cannot count: without a known price, or of a cost that no answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unpriced {
    Allow,
    Refuse,
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

/// Response cache.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Enforce or observe (observe keeps keys, not bodies).
    pub mode: Mode,
    /// Forced freshness; `None`: RFC 9111 alone (inbound), required outbound.
    pub ttl: Option<Duration>,
    /// RFC 5861, overrides the origin's.
    pub stale_while_revalidate: Option<Duration>,
    /// RFC 5861, overrides the origin's.
    pub stale_if_error: Option<Duration>,
    /// Purge tags given to every entry.
    pub tags: Vec<Arc<str>>,
    /// Extra key parts.
    pub key: Vec<KeyPart>,
    /// Whether forced freshness applies to requests with cookies.
    pub cookies: Cookies,
    /// Whether forced freshness overrides Set-Cookie, Authorization and private.
    pub unsafe_: bool,
    /// Largest body stored.
    pub max_body: u64,
    /// Inbound: POST is answered from the cache too, by this of its body.
    pub body: Option<CacheBody>,
    /// Largest request body that is read for [`Cache::body`].
    pub max_request: u64,
    /// Model calls: one cache for all tenants.
    pub share: bool,
    /// Model calls: entries also apart by caller.
    pub per_caller: bool,
    /// Replayed streams keep the recorded pauses.
    pub paced: bool,
    /// Model calls: answers that ask for tool calls are stored too.
    pub tool_calls: bool,
    /// Model calls: above this temperature nothing is answered from the store.
    pub max_temperature: Option<f64>,
}

/// What of a POST's body tells entries apart. Whoever writes it declares that such a POST only reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheBody {
    /// These fields of its JSON; nothing else of it matters.
    Fields(Vec<FieldPath>),
    /// All of its JSON.
    All,
    /// A GraphQL request: its document by tokens, and everything beside it. Only queries only read.
    GraphQl,
}

/// A field of a JSON object, perhaps of one inside of it: `variables.id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldPath(pub Vec<String>);

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Requests that carry cookies, under forced or heuristic freshness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cookies {
    Bypass,
    Ignore,
}

/// Time bounds; `None` is unbounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Enforce or observe.
    pub mode: Mode,
    /// To an open connection, TLS included.
    pub connect: Option<Duration>,
    /// From the request fully sent to the response head.
    pub response_header: Option<Duration>,
    /// Streams only: to the first event.
    pub first_token: Option<Duration>,
    /// Between two pieces of a response body.
    pub idle: Option<Duration>,
    /// Over all tries, to the response head (streams and upgrades) or the last byte (else).
    pub total: Option<Duration>,
    /// One try, to the response head.
    pub per_try: Option<Duration>,
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

impl Unit {
    /// The unit of a word of [`Self::as_str`].
    pub fn of_word(word: &str) -> Self {
        match word {
            "tokens" => Self::Tokens,
            "usd" => Self::NanoUsd,
            _ => Self::Requests,
        }
    }

    /// The word used in `proxy.yaml`, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::NanoUsd => "usd",
        }
    }
}
