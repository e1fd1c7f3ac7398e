//! Handles, grouped by owner: a door, a route, a target. Words that vary (a status, a reason) are resolved on first use and
//! found again in a short list.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    WorkerMetrics,
    cell::{Counter, Gauge, Histogram, SpanPoint, nanos},
    family::Family,
    rolling::Ended,
    shard::OTHER,
};
use crate::{
    arrival::Door,
    clock::Instant,
    usage::{Usage, UsageSource},
};

/// Most words of one handle; further ones count as [`OTHER`].
const MAX_WORDS: usize = 64;

/// What the cache did for a request; labels `cache` and `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum CacheOutcome {
    /// The route has no cache.
    None,
    Hit,
    Stale,
    Miss,
    Coalesced,
    Bypass,
    Revalidated,
    ObservedHit,
}

impl CacheOutcome {
    /// Every outcome of a route with a cache.
    pub const ALL: [Self; 7] = [Self::Hit, Self::Stale, Self::Miss, Self::Coalesced, Self::Bypass, Self::Revalidated, Self::ObservedHit];

    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Bypass => "bypass",
            Self::Revalidated => "revalidated",
            Self::ObservedHit => "observed_hit",
        }
    }

    /// Whether the answer came from the store, or from another request's fetch.
    pub fn is_answer(self) -> bool {
        self.looked_up() == Some(true)
    }

    /// `None` if no cache was asked; otherwise whether it answered.
    fn looked_up(self) -> Option<bool> {
        match self {
            Self::None | Self::Bypass => None,
            Self::Hit | Self::Stale | Self::Coalesced | Self::Revalidated => Some(true),
            Self::Miss | Self::ObservedHit => Some(false),
        }
    }
}

/// An exchange that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Finished {
    /// Status sent to the client; 0 if none was sent.
    pub code: u16,
    /// What the cache did.
    pub cache: CacheOutcome,
    /// From the complete request head to the last byte.
    pub total: Duration,
    /// The proxy's own time to the response head; `None` if there was none.
    pub own: Option<Duration>,
    /// The reject's reason, if the proxy answered by itself.
    pub reject: Option<&'static str>,
    /// The answer broke off on the upstream's side.
    pub broken: bool,
    /// When it ended.
    pub at: Instant,
    /// Its span, if its trace is sampled.
    pub span: Option<SpanPoint>,
}

/// Counters of one family, one per word.
#[derive(Debug)]
struct Words {
    worker: WorkerMetrics,
    family: Family,
    /// Label values before the word.
    before: SmallVec<[Arc<str>; 2]>,
    seen: RefCell<SmallVec<[(&'static str, Counter); 4]>>,
}

impl Words {
    fn new(worker: &WorkerMetrics, family: Family, before: &[&str]) -> Self {
        let before = before.iter().map(|value| Arc::from(*value)).collect();
        Self { worker: worker.clone(), family, before, seen: RefCell::default() }
    }

    fn inc(&self, word: &'static str) {
        let mut seen = self.seen.borrow_mut();
        // A word is the same text each time: to compare addresses first leaves the text alone.
        if let Some((_, counter)) = seen.iter().find(|(known, _)| std::ptr::eq(*known, word) || *known == word) {
            return counter.inc();
        }
        let full = seen.len() >= MAX_WORDS;
        let mut values: SmallVec<[&str; 4]> = self.before.iter().map(|value| &**value).collect();
        values.push(if full { OTHER } else { word });
        let counter = self.worker.counter(self.family, &values);
        counter.inc();
        if !full {
            seen.push((word, counter));
        }
    }
}

/// The numbers of a door.
#[derive(Debug, Clone)]
pub struct DoorCells {
    /// Requests that have begun and not ended; [`Gauge::enter`] it.
    pub inflight: Gauge,
    /// Open client connections.
    pub connections: Gauge,
    /// Connections that could not be accepted.
    pub accept_errors: Counter,
    handshakes: Rc<Words>,
}

impl DoorCells {
    /// A TLS handshake ended: `ok`, `failed`, `timeout`, `clear_text`.
    pub fn handshake(&self, outcome: &'static str) {
        self.handshakes.inc(outcome);
    }
}

/// The numbers of every request of a route.
#[derive(Debug)]
pub struct RequestCells {
    worker: WorkerMetrics,
    door: Door,
    route: Arc<str>,
    duration: Histogram,
    own: Histogram,
    rejects: Words,
    cache: Words,
    codes: RefCell<SmallVec<[(u16, CacheOutcome, Counter); 4]>>,
}

impl RequestCells {
    /// Counts an exchange that ended: status, cache, durations, reject, the last 24 hours.
    pub fn finish(&self, finished: &Finished) {
        self.code(finished.code, finished.cache);
        self.duration.observe_duration_within(finished.total, finished.span);
        if let Some(own) = finished.own {
            self.own.observe_duration_within(own, finished.span);
        }
        if let Some(reason) = finished.reject {
            self.rejects.inc(reason);
        }
        if finished.cache != CacheOutcome::None {
            self.cache.inc(finished.cache.as_str());
        }
        self.worker.worker.ring.record(
            finished.at.saturating_duration_since(self.worker.started),
            Ended { error: finished.code >= 500 || finished.broken, nanos: nanos(finished.total), hit: finished.cache.looked_up() },
        );
    }

    fn code(&self, code: u16, cache: CacheOutcome) {
        let mut codes = self.codes.borrow_mut();
        if let Some((_, _, counter)) = codes.iter().find(|(known, outcome, _)| *known == code && *outcome == cache) {
            return counter.inc();
        }
        let full = codes.len() >= MAX_WORDS;
        let number;
        let word = match code {
            _ if full => OTHER,
            0 => "none",
            100..=599 => {
                number = code.to_string();
                &number
            }
            _ => OTHER,
        };
        let counter = self.worker.counter(Family::Requests, &[self.door.as_str(), &self.route, word, cache.as_str()]);
        counter.inc();
        if !full {
            codes.push((code, cache, counter));
        }
    }
}

/// The numbers of a route's policies.
#[derive(Debug)]
pub struct RouteCells {
    worker: WorkerMetrics,
    door: Door,
    route: Arc<str>,
    bypasses: Words,
    fills: Words,
    /// Tokens of model calls answered by the cache.
    pub saved_tokens: Counter,
    /// Nano-dollars that those tokens would have cost.
    pub saved_nano_usd: Counter,
}

impl RouteCells {
    /// The request went on to a later target (its name) or a static answer (`respond`).
    pub fn fallback(&self, to: &str) {
        self.worker.counter(Family::Fallbacks, &[self.door.as_str(), &self.route, to]).inc();
    }

    /// A fetch for the cache has ended: `stored`, or the reason for not storing.
    pub fn filled(&self, result: &'static str) {
        self.fills.inc(result);
    }

    /// `access` only observes, and would have refused a request.
    pub fn access_observed(&self) {
        self.worker.counter(Family::AccessObserved, &[self.door.as_str(), &self.route]).inc();
    }

    /// A policy of the gate only observes, and would have refused a request.
    pub fn gate_observed(&self, policy: &str) {
        self.worker.counter(Family::GateObserved, &[self.door.as_str(), &self.route, policy]).inc();
    }

    /// `log` has left an exchange out of the access log.
    pub fn log_left_out(&self) {
        self.worker.counter(Family::LogLeftOut, &[self.door.as_str(), &self.route]).inc();
    }

    /// `compress` has coded an answer (its coding), or has left it (the reason).
    pub fn compressed(&self, result: &str) {
        self.worker.counter(Family::Compressed, &[self.door.as_str(), &self.route, result]).inc();
    }

    /// `privacy` has found personal data of a kind, so many times, and has done this with it.
    pub fn personal(&self, kind: &str, action: &str, times: u64) {
        self.worker.counter(Family::PrivacyFound, &[self.door.as_str(), &self.route, kind, action]).add(times);
    }

    /// `privacy` could not read a request, for this reason.
    pub fn privacy_unread(&self, why: &str) {
        self.worker.counter(Family::PrivacyUnread, &[self.door.as_str(), &self.route, why]).inc();
    }

    /// `privacy` has put so many values back into an answer.
    pub fn privacy_restored(&self, values: u64) {
        self.worker.counter(Family::PrivacyRestored, &[self.door.as_str(), &self.route]).add(values);
    }

    /// An answer went out with the placeholders that it has, for this reason.
    pub fn privacy_unrestored(&self, why: &str) {
        self.worker.counter(Family::PrivacyUnrestored, &[self.door.as_str(), &self.route, why]).inc();
    }

    /// The cache had no part in a request, for this reason.
    pub fn bypassed(&self, reason: &'static str) {
        self.bypasses.inc(reason);
    }
}

/// The numbers of a target.
#[derive(Debug)]
pub struct TargetCells {
    /// One try, from sending to the response head.
    pub duration: Histogram,
    /// Retries not made because the budget was spent.
    pub budget_exhausted: Counter,
    /// Idle upstream connections of this worker.
    pub idle: Gauge,
    /// Upstream connections of this worker that carry a request.
    pub active: Gauge,
    /// Requests of this worker that wait for a connection.
    pub waiting: Gauge,
    tries: Words,
    retries: Words,
    timeouts: Words,
    connects: Words,
}

impl TargetCells {
    /// A try ended: `ok`, `status_5xx`, `connect_failed`, `timeout`, ...
    pub fn tried(&self, outcome: &'static str) {
        self.tries.inc(outcome);
    }

    /// Another try follows because of `reason`.
    pub fn retried(&self, reason: &'static str) {
        self.retries.inc(reason);
    }

    /// A time bound expired ([`crate::reject::Bound::as_str`]).
    pub fn timed_out(&self, bound: &'static str) {
        self.timeouts.inc(bound);
    }

    /// A connection was opened (`ok`) or not (`refused`, `dns`, `tls`, `timeout`).
    pub fn connected(&self, outcome: &'static str) {
        self.connects.inc(outcome);
    }
}

/// One model call that has ended, for the token, money and GenAI families.
#[derive(Debug, Clone, Copy)]
pub struct ModelCall<'a> {
    /// Route name.
    pub route: &'a str,
    /// Provider as named in the configuration.
    pub provider: &'a str,
    /// `gen_ai.provider.name` of the wire format: `openai`, `anthropic`, `gcp.gemini`, `aws.bedrock`.
    pub flavor: &'a str,
    /// `gen_ai.operation.name`: `chat`, `text_completion`, `embeddings`, `generate_content`.
    pub operation: &'a str,
    /// Model as asked for.
    pub model: &'a str,
    /// The tokens that it used.
    pub usage: Usage,
    /// The source of the numbers; nothing is counted when [`UsageSource::Missing`].
    pub source: UsageSource,
    /// Nano-dollars; `None` if the model has no price.
    pub cost: Option<u64>,
    /// From sending to the last byte.
    pub duration: Duration,
    /// Streams: from sending to the first event with content.
    pub first_token: Option<Duration>,
    /// `error.type` of a failed call: a status code or a word; `None` for a success.
    pub error: Option<&'a str>,
    /// Whether the call has no known inbound exchange.
    pub unattributed: bool,
    /// The span of its exchange, if its trace is sampled.
    pub span: Option<SpanPoint>,
}

impl WorkerMetrics {
    /// Handles of a listener.
    pub fn door_cells(&self, door: &str) -> DoorCells {
        DoorCells {
            inflight: self.gauge(Family::Inflight, &[door]),
            connections: self.gauge(Family::Connections, &[door]),
            accept_errors: self.counter(Family::AcceptErrors, &[door]),
            handshakes: Rc::new(Words::new(self, Family::TlsHandshakes, &[door])),
        }
    }

    /// Handles of a route's requests.
    pub fn request_cells(&self, door: Door, route: &str) -> RequestCells {
        RequestCells {
            worker: self.clone(),
            door,
            route: route.into(),
            duration: self.histogram(Family::RequestDuration, &[door.as_str(), route]),
            own: self.histogram(Family::OwnDuration, &[door.as_str(), route]),
            rejects: Words::new(self, Family::Rejects, &[door.as_str(), route]),
            cache: Words::new(self, Family::CacheRequests, &[door.as_str(), route]),
            codes: RefCell::default(),
        }
    }

    /// Handles of a route's policies.
    pub fn route_cells(&self, door: Door, route: &str) -> RouteCells {
        let of = [door.as_str(), route];
        RouteCells {
            worker: self.clone(),
            door,
            route: route.into(),
            fills: Words::new(self, Family::CacheFills, &of),
            bypasses: Words::new(self, Family::CacheBypasses, &of),
            saved_tokens: self.counter(Family::CacheSavedTokens, &of),
            saved_nano_usd: self.counter(Family::CacheSavedUsd, &of),
        }
    }

    /// Handles of a target.
    pub fn target_cells(&self, target: &str) -> TargetCells {
        TargetCells {
            duration: self.histogram(Family::UpstreamDuration, &[target]),
            budget_exhausted: self.counter(Family::RetryBudgetExhausted, &[target]),
            idle: self.gauge(Family::PoolConnections, &[target, "idle"]),
            active: self.gauge(Family::PoolConnections, &[target, "active"]),
            waiting: self.gauge(Family::PoolWaiting, &[target]),
            tries: Words::new(self, Family::Tries, &[target]),
            retries: Words::new(self, Family::Retries, &[target]),
            timeouts: Words::new(self, Family::Timeouts, &[target]),
            connects: Words::new(self, Family::PoolConnects, &[target]),
        }
    }

    /// Counts a model call that has ended. About a dozen lookups, small beside a model call: model names come from clients and
    /// are not resolved ahead.
    pub fn model_call(&self, call: &ModelCall<'_>) {
        let gen_ai = [call.operation, call.flavor, call.model];
        if call.source != UsageSource::Missing {
            self.usage(call);
            // the convention's names are for the provider's own numbers
            if call.source == UsageSource::Provider {
                for (kind, tokens) in [("input", call.usage.total_input()), ("output", call.usage.total_output())] {
                    self.histogram(Family::GenAiTokenUsage, &[gen_ai[0], gen_ai[1], gen_ai[2], kind]).observe(tokens);
                }
            }
        }
        match call.cost {
            Some(cost) => self.counter(Family::Cost, &[call.route, call.provider, call.model]).add(cost),
            None => self.counter(Family::UnpricedCalls, &[call.provider, call.model]).inc(),
        }
        if call.unattributed {
            self.counter(Family::UnattributedCalls, &[]).inc();
        }
        if let Some(first) = call.first_token {
            self.histogram(Family::FirstToken, &[call.provider, call.model]).observe_duration_within(first, call.span);
            self.histogram(Family::GenAiFirstChunk, &gen_ai).observe_duration_within(first, call.span);
        }
        let error = call.error.unwrap_or_default();
        self.histogram(Family::GenAiOperationDuration, &[gen_ai[0], gen_ai[1], gen_ai[2], error])
            .observe_duration_within(call.duration, call.span);
    }

    fn usage(&self, call: &ModelCall<'_>) {
        let classes = Usage::NAMES.into_iter().zip(call.usage.classes());
        for (class, tokens) in classes.filter(|(_, tokens)| *tokens > 0) {
            self.counter(Family::Tokens, &[call.route, call.provider, call.model, class, call.source.as_str()]).add(tokens);
        }
    }
}
