//! Whether a try is followed by another, at the same target or the next, and after which pause. Pure: time, chance and the
//! budget come in as arguments.
//!
//! - A request that may have been processed is sent again only if it is [`repeatable`].
//! - A wait that the target asks for (`Retry-After`) is kept; if it is longer than `max_hint`, there is no other try here.
//! - No pause goes over the deadline; no retry goes over the target's budget.
//! - A spent quota is not a throttle: there is no other try here, whatever the status.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Method, StatusCode};
use parking_lot::Mutex;

use super::buckets::Buckets;
use crate::{
    arrival::Door,
    clock::{Chance, Instant},
    config::{self, Backoff, Mode, RetryBudget, RetryOn},
    http1::{Fields, Id},
    reject::{Bound, Fault},
};

/// Budgets look this far back.
const BUDGET_SPAN: Duration = Duration::from_secs(10);

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TryOutcome {
    /// A response head came.
    Answer(Answer),
    /// No response head came.
    Fault {
        /// The fault.
        fault: Fault,
        /// Whether any byte of the request may have reached the target's application.
        may_be_processed: bool,
    },
    /// A time bound passed.
    Timeout(Bound),
    /// The answer began well and failed before any byte of it was passed on (an error event inside a 200 stream).
    BrokenStream,
    /// The target was not asked: its breaker is open.
    BreakerOpen,
}

/// The head of an answer, as classified for the provider or for plain HTTP.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// The wait that the target asks for, from all its headers and its body.
    pub hint: Option<Duration>,
    /// The target's own word on another try (`x-should-retry`); it overrides `retry.on`.
    pub advice: Option<bool>,
    /// A quota is spent.
    pub spent: bool,
    /// Another target may do better although the status does not tell (a bad key, a model that is unknown there).
    pub elsewhere: bool,
}

impl Answer {
    /// A plain answer.
    pub fn new(status: StatusCode) -> Self {
        Self { status, hint: None, advice: None, spent: false, elsewhere: false }
    }
}

/// The state of an exchange after a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Tries made at this target, this one included.
    pub made: u32,
    /// See [`repeatable`].
    pub repeatable: bool,
    /// Whether the whole request can be sent once more (its body was kept, or there is none).
    pub replayable: bool,
    /// The time left of the deadline; `None`: there is no deadline.
    pub left: Option<Duration>,
    /// The step after this target.
    pub next: Next,
    /// Whether the client repeats a call that was given up: it gets one try, else its retries would multiply ours.
    pub repeats: bool,
}

/// The step after a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Nothing,
    /// Another target, which gets the request.
    Target,
    /// An answer that needs no target (stale, static).
    Answer,
}

/// The decision on a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep the result.
    Keep,
    /// Try the same target once more.
    TryAgain {
        /// The pause before that try.
        pause: Duration,
    },
    /// Go on to the next step.
    NextTarget,
}

/// A verdict, and its facts for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// The decision.
    pub verdict: Verdict,
    /// Whether only the budget forbade another try.
    pub budget_exhausted: bool,
    /// Whether a policy that only observes would have tried again.
    pub observed: bool,
    /// Whether the policy covers such a failure: the client's answer is then final.
    pub ran: bool,
}

/// Judges a try. `policy` of `None` retries nothing, but may go to the next target. For a [`Verdict::TryAgain`], one retry has
/// been withdrawn from the budget.
pub fn judge(
    outcome: &TryOutcome,
    tries: &Standing,
    policy: Option<&config::Retry>,
    budget: &Budget,
    chance: &Chance,
    now: Instant,
) -> Judgement {
    let mut judgement = Judgement { verdict: otherwise(outcome, tries), budget_exhausted: false, observed: false, ran: false };
    let Some(policy) = policy else { return judgement };
    let hint = match outcome {
        TryOutcome::Answer(answer) => answer.hint.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    let covered =
        retryable(outcome, &policy.on) && (tries.repeatable || !may_be_processed(outcome)) && tries.replayable && hint <= policy.max_hint;
    judgement.ran = policy.mode == Mode::Enforce && policy.max_retries > 0 && (covered || tries.made > 1);
    let may = covered && tries.made <= policy.max_retries && !tries.repeats;
    if !may {
        return judgement;
    }
    let pause = pause(&policy.backoff, tries.made, chance).max(hint);
    if tries.left.is_some_and(|left| pause >= left) {
        return judgement;
    }
    if policy.mode == Mode::Observe {
        judgement.observed = true;
    } else if budget.withdraw(now) {
        judgement.verdict = Verdict::TryAgain { pause };
    } else {
        judgement.budget_exhausted = true;
    }
    judgement
}

/// The pause before retry number `retry` (from 1).
pub fn pause(backoff: &Backoff, retry: u32, chance: &Chance) -> Duration {
    let before = retry.saturating_sub(1);
    match backoff {
        Backoff::FullJitter { base, max } => {
            let ceiling = 2_u32.checked_pow(before).and_then(|times| base.checked_mul(times)).unwrap_or(*max).min(*max);
            chance.up_to(ceiling)
        }
        Backoff::Schedule(pauses) => pauses.get(before as usize).or(pauses.last()).copied().unwrap_or_default(),
    }
}

/// Whether a request may be sent again although it may have been processed: at the outbound door always (a model call has no
/// effect but its bill), at the inbound door if its method is idempotent (RFC 9110 section 9.2.2), if it carries an
/// `Idempotency-Key`, or if the route says `any_method`.
pub fn repeatable(door: Door, method: &Method, headers: &Fields, policy: Option<&config::Retry>) -> bool {
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE].contains(method);
    door == Door::Outbound || idempotent || headers.has("idempotency-key") || policy.is_some_and(|policy| policy.any_method)
}

/// Whether the client says that it repeats a call by itself (`x-stainless-retry-count`: the SDKs of OpenAI and Anthropic).
pub fn is_repeat(headers: &Fields) -> bool {
    let count = headers.get("x-stainless-retry-count").and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
    count.is_some_and(|count| count > 0)
}

/// A try that got no byte of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Broke {
    /// The fault.
    pub fault: Fault,
    /// Whether the connection had served before: its close may have crossed the request.
    pub reused: bool,
    /// Whether no server has looked at the request: no byte of it was written, or the target says so (HTTP/2).
    pub unseen: bool,
}

/// Whether one free, immediate retry is safe: no server has looked at the request, or the request is idempotent and went out on
/// a kept connection that was closed. The retry draws on no budget.
pub fn safe_reconnect(broke: Broke, idempotent: bool) -> bool {
    broke.fault == Fault::Reset && (broke.unseen || (broke.reused && idempotent))
}

/// The wait that the answer asks for: `retry-after-ms`, else `Retry-After` in seconds or as a date (RFC 9110 section 10.2.3).
pub fn hint(headers: &Fields, wall: SystemTime) -> Option<Duration> {
    if let Some(millis) = headers.text("retry-after-ms").map(str::trim).and_then(|text| text.parse::<f64>().ok()) {
        return Duration::try_from_secs_f64(millis / 1_000.0).ok();
    }
    let after = headers.text(Id::RetryAfter)?.trim();
    match after.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => httpdate::parse_http_date(after).ok().map(|date| date.duration_since(wall).unwrap_or_default()),
    }
}

fn retryable(outcome: &TryOutcome, on: &[RetryOn]) -> bool {
    let wanted = |what| on.contains(&what);
    match outcome {
        TryOutcome::Answer(answer) if answer.spent => false,
        TryOutcome::Answer(answer) => answer.advice.unwrap_or_else(|| wanted(RetryOn::Status(answer.status))),
        TryOutcome::Fault { fault: Fault::Dns | Fault::Refused | Fault::Tls, .. } => wanted(RetryOn::Connect),
        TryOutcome::Fault { fault: Fault::Reset | Fault::Malformed, .. } | TryOutcome::BrokenStream => wanted(RetryOn::Reset),
        // Another try would join the same queue.
        TryOutcome::Fault { fault: Fault::Full, .. } => false,
        TryOutcome::Timeout(Bound::Connect) => wanted(RetryOn::Connect),
        TryOutcome::Timeout(Bound::ResponseHeader | Bound::FirstToken | Bound::PerTry) => wanted(RetryOn::Timeout),
        TryOutcome::Timeout(Bound::Total | Bound::Caller | Bound::BodyIdle | Bound::BodyRate) | TryOutcome::BreakerOpen => false,
    }
}

/// The verdict without another try at this target: go on to the next step, if this was a failure and the step is allowed.
fn otherwise(outcome: &TryOutcome, tries: &Standing) -> Verdict {
    let failure = match outcome {
        TryOutcome::Answer(answer) => {
            answer.spent
                || answer.elsewhere
                || answer.status.is_server_error()
                || matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        }
        // The whole exchange is over, or it was the client's fault.
        TryOutcome::Timeout(Bound::Total | Bound::Caller | Bound::BodyIdle | Bound::BodyRate) => false,
        TryOutcome::Timeout(_) | TryOutcome::Fault { .. } | TryOutcome::BrokenStream | TryOutcome::BreakerOpen => true,
    };
    let possible = match tries.next {
        Next::Nothing => false,
        Next::Answer => true,
        Next::Target => {
            tries.replayable && (tries.repeatable || !may_be_processed(outcome)) && tries.left.is_none_or(|left| !left.is_zero())
        }
    };
    if failure && possible { Verdict::NextTarget } else { Verdict::Keep }
}

fn may_be_processed(outcome: &TryOutcome) -> bool {
    match outcome {
        TryOutcome::Fault { fault: Fault::Dns | Fault::Refused | Fault::Tls | Fault::Full, .. } => false,
        TryOutcome::Fault { may_be_processed, .. } => *may_be_processed,
        TryOutcome::Timeout(Bound::Connect) | TryOutcome::BreakerOpen => false,
        TryOutcome::Timeout(_) | TryOutcome::Answer(_) | TryOutcome::BrokenStream => true,
    }
}

/// The retries that a target may get: a share of the requests of the last ten seconds, and a floor. Shared by all workers. The
/// budget is never exceeded, though two workers that draw the last retry at the same instant may both be refused.
#[derive(Debug)]
pub struct Budget {
    terms: RetryBudget,
    started: Instant,
    /// Requests, and retries drawn.
    counts: Buckets,
}

impl Budget {
    /// An untouched budget.
    pub fn new(terms: RetryBudget, now: Instant) -> Self {
        Self { terms, started: now, counts: Buckets::new(BUDGET_SPAN) }
    }

    /// Counts a request for the target (its first try).
    pub fn deposit(&self, now: Instant) {
        self.counts.add(self.age(now), 1, 0);
    }

    /// Draws one retry, if there is one.
    pub fn withdraw(&self, now: Instant) -> bool {
        let now = self.age(now);
        self.counts.add(now, 0, 1);
        let sums = self.counts.sums(now);
        let allowed = self.terms.ratio * sums.first as f64 + self.terms.min_per_sec * BUDGET_SPAN.as_secs_f64();
        let fits = sums.second as f64 <= allowed;
        if !fits {
            self.counts.take_back(now);
        }
        fits
    }

    /// Counts the caller's own retry (`x-stainless-retry-count` above 0): it draws on the same budget, and is never refused.
    pub fn drawn_by_caller(&self, now: Instant) {
        self.counts.add(self.age(now), 0, 1);
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }
}

/// The budgets of the process, by target; they live on across reloads as long as their terms do.
#[derive(Debug, Default)]
pub struct Budgets(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<Arc<str>, Arc<Budget>>,
    /// The newest generation of the configuration.
    generation: u64,
}

impl Budgets {
    /// The budget of a target, for a request of this generation of the configuration: the existing one, or a new one. A request
    /// of an older generation changes nothing: it takes the existing budget, or one for itself alone. For load time: keep the result.
    pub fn get(&self, name: &Arc<str>, terms: RetryBudget, generation: u64, now: Instant) -> Arc<Budget> {
        let mut known = self.0.lock();
        let is_old = generation < known.generation;
        match known.by_name.get(name) {
            Some(budget) if is_old || budget.terms == terms => budget.clone(),
            _ => {
                let budget = Arc::new(Budget::new(terms, now));
                if !is_old {
                    known.by_name.insert(name.clone(), budget.clone());
                }
                budget
            }
        }
    }

    /// Begins a generation of the configuration: forgets the budgets of targets that no longer exist.
    pub fn retain(&self, generation: u64, keep: impl Fn(&str) -> bool) {
        let mut known = self.0.lock();
        known.generation = known.generation.max(generation);
        known.by_name.retain(|name, _| keep(name));
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
