//! The choice of one of several addresses of a target, its members.
//!
//! - `least_loaded`: of two members taken by chance (by weight) the one with less load: its latency times the work under way there
//!   (Mitzenmacher 2001, "The Power of Two Choices"). The latency is a peak EWMA (Finagle): it rises at once and falls within [`DECAY`].
//! - `in_turn`: exactly by weight.
//! - `sticky`: the same member for the same key, by weighted rendezvous hashing (Thaler and Ravishankar 1998): where a member fails, its
//!   keys alone move.
//!
//! Members come in tiers: those of the proxy's own zone, all others, backups. A tier serves where no member of an earlier one is left.
//! Whether a member works is not decided here: the caller leaves out (`passed`) those that do not.
//!
//! The state of a member lives on across reloads, whatever its name, weight or neighbours.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::turns::turns;
use crate::{
    clock::{Chance, Instant},
    config::{Choose, Members},
    underway::{InHand, Underway},
};

/// The time in which a latency that is not seen again falls to its 2.7th part.
pub const DECAY: Duration = Duration::from_secs(10);
/// Least latency that a failed try counts with: a member that fails fast must not look like the fastest.
const FAILED: Duration = Duration::from_secs(1);
/// Latency of a member that is asked and has answered nothing yet, in seconds.
const UNKNOWN: f64 = 0.1;
/// Least share of its weight that a member begins with.
const FIRST_SHARE: f64 = 0.1;

/// The members of one target. Shared by all workers.
#[derive(Debug)]
pub struct Balancer {
    members: Box<[(Arc<MemberState>, u32)]>,
    /// The places of each tier, a bit for each.
    tiers: Box<[u64]>,
    choose: Choose,
    slow_start: Duration,
    /// The places in turn, by weight.
    turns: Box<[u8]>,
    turn: AtomicUsize,
}

/// The state of one member.
#[derive(Debug)]
pub struct MemberState {
    /// Tells it from the others for `sticky`: the same in every process.
    mark: u64,
    underway: Underway,
    /// Tries that wait for the head of an answer.
    waiting: Underway,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The latency in seconds when it was last seen, and that time.
    latency: (f64, Instant),
    /// When it began to serve.
    began: Instant,
    /// Since when some try waits there, if any does.
    waits_since: Instant,
}

/// An exchange with a member that begins.
#[derive(Debug)]
pub struct Begun {
    /// Counts until the exchange is over.
    pub work: InHand,
    /// Counts until the head of the answer.
    _waits: InHand,
}

impl MemberState {
    /// A member that begins to serve. `mark`: its name and URL.
    pub fn new(mark: &str, now: Instant) -> Self {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&blake3::hash(mark.as_bytes()).as_bytes()[..8]);
        Self {
            mark: u64::from_le_bytes(bytes),
            underway: Underway::default(),
            waiting: Underway::default(),
            inner: Mutex::new(Inner { latency: (0.0, now), began: now, waits_since: now }),
        }
    }

    /// The latency now, in seconds.
    pub fn latency(&self, now: Instant) -> f64 {
        self.inner.lock().latency_at(now)
    }

    /// How many exchanges are under way.
    pub fn underway(&self) -> u32 {
        self.underway.count()
    }

    /// Latency times work by weight: the time that one more request waits, if all wait for each other. A member that answers nothing
    /// is as slow as its silence is long.
    fn load(&self, weight: u32, now: Instant) -> f64 {
        let work = f64::from(self.underway.count()) / f64::from(weight);
        let inner = self.inner.lock();
        let mut latency = inner.latency_at(now);
        if self.waiting.count() > 0 {
            let (seen, at) = inner.latency;
            let silence = now.saturating_duration_since(at.max(inner.waits_since)).as_secs_f64();
            latency = latency.max(silence).max(if seen > 0.0 { 0.0 } else { UNKNOWN });
        }
        latency * (1.0 + work)
    }
}

impl Inner {
    fn latency_at(&self, now: Instant) -> f64 {
        let (seen, at) = self.latency;
        seen * (-now.saturating_duration_since(at).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

impl Balancer {
    /// The members with their states, as `terms` lists them.
    pub fn new(terms: &Members, states: Vec<Arc<MemberState>>) -> Self {
        let tier = |far: bool, backup: bool| {
            let is_of = |n: &usize| {
                let member = &terms.list[*n];
                let is_far = terms.zone.is_some() && member.zone != terms.zone;
                (is_far, member.backup) == (far, backup)
            };
            (0..terms.list.len()).filter(is_of).fold(0_u64, |bits, n| bits | 1 << n)
        };
        let tiers = [tier(false, false), tier(true, false), tier(false, true), tier(true, true)];
        let weights: Vec<u32> = terms.list.iter().map(|member| member.weight).collect();
        Self {
            turns: turns(&weights),
            members: states.into_iter().zip(weights).collect(),
            tiers: tiers.into_iter().filter(|bits| *bits != 0).collect(),
            choose: terms.choose.clone(),
            slow_start: terms.slow_start,
            turn: AtomicUsize::new(0),
        }
    }

    /// The key of a `sticky` choice.
    pub fn choice(&self) -> &Choose {
        &self.choose
    }

    /// A bit for each member.
    pub fn all(&self) -> u64 {
        self.tiers.iter().fold(0, |all, tier| all | tier)
    }

    /// The member for the next try; `None`: all are passed over. `passed`: a bit for each place that must not be used. `key`: of a
    /// sticky choice; without one a member is taken by its load.
    pub fn next(&self, passed: u64, key: Option<u64>, now: Instant, chance: &Chance) -> Option<usize> {
        let left = self.tiers.iter().map(|tier| tier & !passed).find(|left| *left != 0)?;
        if left.is_power_of_two() {
            return Some(left.trailing_zeros() as usize);
        }
        match (&self.choose, key) {
            (Choose::InTurn, _) => self.in_turn(left),
            (Choose::Sticky(_), Some(key)) => self.sticky(left, key),
            _ => self.least_loaded(left, now, chance),
        }
    }

    /// The state of the member at this place.
    pub fn state(&self, place: usize) -> Option<&Arc<MemberState>> {
        self.members.get(place).map(|(state, _)| state)
    }

    /// An exchange begins at this place; it is under way until the work is dropped.
    pub fn begin(&self, place: usize, now: Instant) -> Option<Begun> {
        let state = self.state(place)?;
        if state.waiting.count() == 0 {
            state.inner.lock().waits_since = now;
        }
        Some(Begun { work: state.underway.begin(), _waits: state.waiting.begin() })
    }

    /// A try has taken this long to its answer or its failure.
    pub fn took(&self, place: usize, took: Duration, failed: bool, now: Instant) {
        let Some(state) = self.state(place) else { return };
        let took = if failed { took.max(FAILED) } else { took }.as_secs_f64();
        let mut inner = state.inner.lock();
        let (before, (_, at)) = (inner.latency_at(now), inner.latency);
        let passed = now.saturating_duration_since(at).as_secs_f64();
        let kept = (-passed / DECAY.as_secs_f64()).exp();
        inner.latency = (if took > before { took } else { before + took * (1.0 - kept) }, now);
    }

    /// A member begins to serve again: it comes up to its share slowly.
    pub fn begins(&self, place: usize, now: Instant) {
        if let Some(state) = self.state(place) {
            state.inner.lock().began = now;
        }
    }

    fn in_turn(&self, left: u64) -> Option<usize> {
        let first = self.turn.fetch_add(1, Relaxed);
        let at = |n: usize| usize::from(self.turns[(first.wrapping_add(n)) % self.turns.len()]);
        (0..self.turns.len()).map(at).find(|place| left & 1 << place != 0)
    }

    fn sticky(&self, left: u64, key: u64) -> Option<usize> {
        let score = |place: &usize| {
            let (state, weight) = &self.members[*place];
            // In `(0, 1)`: the logarithm is finite and negative.
            let unit = ((mixed(key ^ state.mark) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -unit.ln() / f64::from(*weight)
        };
        places(left).min_by(|a, b| score(a).total_cmp(&score(b)))
    }

    fn least_loaded(&self, left: u64, now: Instant, chance: &Chance) -> Option<usize> {
        let one = self.by_weight(left, now, chance)?;
        let other = self.by_weight(left, now, chance)?;
        if one == other {
            return Some(one);
        }
        let load = |place: usize| {
            let (state, weight) = &self.members[place];
            state.load(*weight, now)
        };
        Some(if load(other) < load(one) { other } else { one })
    }

    /// One by chance: as likely as its weight says, less so while it comes up.
    fn by_weight(&self, left: u64, now: Instant, chance: &Chance) -> Option<usize> {
        let share = |place: usize| {
            let (state, weight) = &self.members[place];
            let came_up = if self.slow_start.is_zero() {
                1.0
            } else {
                let since = now.saturating_duration_since(state.inner.lock().began).as_secs_f64();
                (since / self.slow_start.as_secs_f64()).clamp(FIRST_SHARE, 1.0)
            };
            f64::from(*weight) * came_up
        };
        let all: f64 = places(left).map(share).sum();
        let mut at = chance.unit() * all;
        let found = places(left).find(|place| {
            at -= share(*place);
            at < 0.0
        });
        found.or_else(|| places(left).last())
    }
}

fn places(bits: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |place| bits & 1 << place != 0)
}

/// The bits of `number` spread over the word (the finalizer of SplitMix64, Steele, Lea and Flood 2014).
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests;
