//! The circuit breaker of one target: closed, open, half open.
//!
//! - Closed: trips on failures in a row, or on their share over a window once enough requests were seen. Throttled answers (429)
//!   count in the share only.
//! - Open: refuses until its time is over: doubling from `open_base` to `open_max`, with jitter, not above `open_max`. The wait
//!   that the target asks for (`Retry-After`) lengthens the time, up to `open_max`.
//! - Half open: one probe at a time. Some successes in a row close it; one failure (or throttled answer) opens it again.
//! - A result that comes after the state has changed is ignored. A cancelled try is neutral and returns its probe.
//!
//! While closed, a permit and a success touch a few atomics and no lock. All breakers of the process stand in [`Breakers`].

mod by_name;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

pub use by_name::{Breakers, belongs};

use super::buckets::Buckets;
use crate::{
    clock::{Chance, Instant},
    config::{self, Mode},
};

/// The wait told to a refused try while a probe is under way.
const PROBE_UNDER_WAY: Duration = Duration::from_secs(1);
const STATE_BITS: u32 = 2;

/// A breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Closed,
    HalfOpen,
    Open,
}

impl State {
    /// Every state; the index of each is its value in `outrigger_breaker_state`.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The word used in metrics, logs and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// How a try ended, for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The target works (4xx other than 429 too).
    Success,
    /// The target fails: no connection, reset, a passed time bound, 502, 503, 504, and errors that a provider calls its own fault.
    Failure {
        /// The wait that the target asks for.
        retry_after: Option<Duration>,
    },
    /// The target works and wants fewer requests (429).
    Throttled {
        /// The wait that the target asks for.
        retry_after: Option<Duration>,
    },
    /// No client waited for the end.
    Cancelled,
}

/// The breaker is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Time until the next probe; `None`: held open by hand, for an unknown time.
    pub retry_after: Option<Duration>,
}

/// The breaker of one target. Shared by all workers.
#[derive(Debug)]
pub struct Breaker {
    terms: config::Breaker,
    started: Instant,
    /// Generation and state in one word: a permit reads both at once.
    word: AtomicU64,
    in_a_row: AtomicU32,
    window: Option<Buckets>,
    slow: Mutex<Slow>,
    transitions: [AtomicU64; 3],
    refused: AtomicU64,
}

/// The part that only matters when the state is not closed, or changes.
#[derive(Debug)]
struct Slow {
    since: Instant,
    until: Instant,
    /// Times it opened since it was last closed.
    opened: u32,
    probing: bool,
    successes: u32,
    forced: bool,
}

/// The right to one try. Settle it; a dropped permit counts as cancelled.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts as cancelled"]
pub struct Permit {
    breaker: Arc<Breaker>,
    generation: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Probe,
    /// A breaker that only observes would have refused: the outcome does not count.
    Observed,
    Done,
}

/// A breaker as metrics and the API show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its target.
    pub name: Arc<str>,
    /// Its state.
    pub state: State,
    /// The time it has been in its state.
    pub since: Duration,
    /// Open: time until the next probe; `None`: opened by hand, or not open.
    pub retry_after: Option<Duration>,
    /// Opened by hand.
    pub forced: bool,
    /// Failures in a row.
    pub in_a_row: u32,
    /// Requests in the window; 0 without `ratio`.
    pub requests: u64,
    /// Failures in the window; 0 without `ratio`.
    pub failures: u64,
    /// Transitions since start, by the new state, in the order of [`State::ALL`].
    pub transitions: [u64; 3],
    /// Tries refused (or, observed, that would have been).
    pub refused: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(terms: config::Breaker, now: Instant) -> Self {
        Self {
            started: now,
            word: AtomicU64::new(State::Closed as u64),
            in_a_row: AtomicU32::new(0),
            window: terms.ratio.map(|ratio| Buckets::new(ratio.window)),
            slow: Mutex::new(Slow { since: now, until: now, opened: 0, probing: false, successes: 0, forced: false }),
            transitions: [const { AtomicU64::new(0) }; 3],
            refused: AtomicU64::new(0),
            terms,
        }
    }

    /// The right to try the target now, or the time to stay away.
    pub fn permit(self: &Arc<Self>, now: Instant) -> Result<Permit, Open> {
        let word = self.word.load(Relaxed);
        if state_of(word) == State::Closed {
            return Ok(self.grant(word, Kind::Plain));
        }
        let mut slow = self.slow.lock();
        let word = self.word.load(Relaxed);
        let retry_after = match state_of(word) {
            State::Closed => return Ok(self.grant(word, Kind::Plain)),
            State::Open if slow.forced => None,
            State::Open if now < slow.until => Some(slow.until - now),
            State::Open => {
                self.turn(&mut slow, State::HalfOpen, now);
                slow.probing = true;
                return Ok(self.grant(self.word.load(Relaxed), Kind::Probe));
            }
            State::HalfOpen if !slow.probing => {
                slow.probing = true;
                return Ok(self.grant(word, Kind::Probe));
            }
            State::HalfOpen => Some(PROBE_UNDER_WAY.min(self.terms.open_max)),
        };
        drop(slow);
        self.refused.fetch_add(1, Relaxed);
        match self.terms.mode {
            Mode::Enforce => Err(Open { retry_after }),
            Mode::Observe => Ok(self.grant(word, Kind::Observed)),
        }
    }

    /// Its state now. An open breaker whose time is over stays open until a try asks for a permit.
    pub fn state(&self) -> State {
        state_of(self.word.load(Relaxed))
    }

    /// The time until its next probe; `None`: it is not open, or held open by hand.
    pub fn rests(&self, now: Instant) -> Option<Duration> {
        let slow = self.slow.lock();
        (self.state() == State::Open && !slow.forced).then(|| slow.until.saturating_duration_since(now))
    }

    /// Opens it until [`close`](Self::close), whatever the outcomes.
    pub fn open(&self, now: Instant) {
        let mut slow = self.slow.lock();
        slow.forced = true;
        self.turn(&mut slow, State::Open, now);
    }

    /// Closes it and forgets all failures; after that it works by itself.
    pub fn close(&self, now: Instant) {
        let mut slow = self.slow.lock();
        self.recover(&mut slow, now);
    }

    /// The breaker as metrics and the API show it.
    pub fn snapshot(&self, name: &Arc<str>, now: Instant) -> Snapshot {
        let slow = self.slow.lock();
        let state = self.state();
        let sums = self.window.as_ref().map(|window| window.sums(self.age(now))).unwrap_or_default();
        Snapshot {
            name: name.clone(),
            state,
            since: now.saturating_duration_since(slow.since),
            retry_after: (state == State::Open && !slow.forced).then(|| slow.until.saturating_duration_since(now)),
            forced: slow.forced,
            in_a_row: self.in_a_row.load(Relaxed),
            requests: sums.first,
            failures: sums.second,
            transitions: [0, 1, 2].map(|state: usize| self.transitions[state].load(Relaxed)),
            refused: self.refused.load(Relaxed),
        }
    }

    fn grant(self: &Arc<Self>, word: u64, kind: Kind) -> Permit {
        Permit { breaker: self.clone(), generation: word >> STATE_BITS, kind }
    }

    /// Counts an outcome. Gives the state that it has led to, if it has led to one.
    fn settle(&self, generation: u64, kind: Kind, outcome: Outcome, now: Option<(Instant, &Chance)>) -> Option<State> {
        if kind == Kind::Probe {
            return self.settle_probe(generation, outcome, now);
        }
        let (now, chance) = now?;
        if kind == Kind::Observed || self.word.load(Relaxed) >> STATE_BITS != generation {
            return None;
        }
        let (failed, in_a_row) = match outcome {
            Outcome::Cancelled => return None,
            Outcome::Success => {
                if self.in_a_row.load(Relaxed) != 0 {
                    self.in_a_row.store(0, Relaxed);
                }
                (0, 0)
            }
            Outcome::Throttled { .. } => (1, 0),
            Outcome::Failure { .. } => (1, self.in_a_row.fetch_add(1, Relaxed) + 1),
        };
        if let Some(window) = &self.window {
            window.add(self.age(now), 1, failed);
        }
        let too_many = self.terms.consecutive > 0 && in_a_row >= self.terms.consecutive;
        if too_many || self.ratio_is_reached(now) {
            let mut slow = self.slow.lock();
            if self.word.load(Relaxed) >> STATE_BITS == generation {
                self.trip(&mut slow, asked(outcome), now, chance);
                return Some(State::Open);
            }
        }
        None
    }

    fn settle_probe(&self, generation: u64, outcome: Outcome, now: Option<(Instant, &Chance)>) -> Option<State> {
        let mut slow = self.slow.lock();
        if self.word.load(Relaxed) >> STATE_BITS != generation {
            return None;
        }
        slow.probing = false;
        match (outcome, now) {
            (Outcome::Success, Some((now, _))) => {
                slow.successes += 1;
                if slow.successes >= self.terms.successes {
                    self.recover(&mut slow, now);
                    return Some(State::Closed);
                }
                None
            }
            (Outcome::Failure { .. } | Outcome::Throttled { .. }, Some((now, chance))) => {
                self.trip(&mut slow, asked(outcome), now, chance);
                Some(State::Open)
            }
            _ => None,
        }
    }

    fn ratio_is_reached(&self, now: Instant) -> bool {
        let (Some(ratio), Some(window)) = (&self.terms.ratio, &self.window) else { return false };
        let sums = window.sums(self.age(now));
        sums.second > 0 && sums.first >= u64::from(ratio.min_requests) && sums.second as f64 >= ratio.threshold * sums.first as f64
    }

    fn trip(&self, slow: &mut Slow, asked: Option<Duration>, now: Instant, chance: &Chance) {
        let max = self.terms.open_max;
        let doubled = 2_u32.checked_pow(slow.opened).and_then(|times| self.terms.open_base.checked_mul(times)).unwrap_or(max).min(max);
        let jittered = doubled.mul_f64(1.0 + self.terms.jitter.clamp(0.0, 1.0) * chance.unit()).min(max);
        slow.until = now + jittered.max(asked.unwrap_or_default().min(max));
        slow.opened = slow.opened.saturating_add(1);
        self.turn(slow, State::Open, now);
    }

    fn recover(&self, slow: &mut Slow, now: Instant) {
        slow.opened = 0;
        slow.forced = false;
        self.turn(slow, State::Closed, now);
    }

    /// Begins a new generation in state `to`. The counts begin anew.
    fn turn(&self, slow: &mut Slow, to: State, now: Instant) {
        slow.since = now;
        slow.probing = false;
        slow.successes = 0;
        self.in_a_row.store(0, Relaxed);
        if let Some(window) = &self.window {
            window.clear();
        }
        self.transitions[to as usize].fetch_add(1, Relaxed);
        let generation = (self.word.load(Relaxed) >> STATE_BITS) + 1;
        self.word.store(generation << STATE_BITS | to as u64, Relaxed);
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// A breaker with new terms that takes over this one's state. Permits of this one no longer count.
    fn successor(&self, terms: config::Breaker, now: Instant) -> Self {
        let next = Self::new(terms, now);
        {
            let (from, mut to) = (self.slow.lock(), next.slow.lock());
            *to = Slow { probing: false, since: from.since, until: from.until, opened: from.opened, successes: 0, forced: from.forced };
            next.word.store(self.state() as u64, Relaxed);
            for (to, from) in next.transitions.iter().zip(&self.transitions) {
                to.store(from.load(Relaxed), Relaxed);
            }
            next.refused.store(self.refused.load(Relaxed), Relaxed);
        }
        next
    }
}

impl Permit {
    /// Tells the breaker how the try ended. Gives the breaker's new state, if the outcome has opened or closed the breaker.
    pub fn settle(mut self, outcome: Outcome, now: Instant, chance: &Chance) -> Option<State> {
        let kind = std::mem::replace(&mut self.kind, Kind::Done);
        self.breaker.settle(self.generation, kind, outcome, Some((now, chance)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.kind != Kind::Done {
            self.breaker.settle(self.generation, self.kind, Outcome::Cancelled, None);
        }
    }
}

fn state_of(word: u64) -> State {
    match word & ((1 << STATE_BITS) - 1) {
        0 => State::Closed,
        1 => State::HalfOpen,
        _ => State::Open,
    }
}

fn asked(outcome: Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Failure { retry_after } | Outcome::Throttled { retry_after } => retry_after,
        Outcome::Success | Outcome::Cancelled => None,
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
