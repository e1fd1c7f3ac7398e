//! The keys of one provider: the key of the next try, and the keys that rest.
//!
//! - The keys are used in turn, by weight. A provider with one key uses that key, whatever its state.
//! - A throttled key rests for the model until its reset.
//! - A key that is spent or refused is in quarantine for [`FIRST_REST`], doubled each time up to [`LONGEST_REST`]. After that one
//!   try at a time asks whether it works again: quotas are raised and keys restored. If all keys are in quarantine, the first one
//!   that comes back is asked each [`FIRST_REST`].
//! - A key whose quota would not last for the call stands back (see `quota`): it is used if no other key works.
//! - If every key rests, no key is used: [`KeyChoice::Rests`] says when the first one works again.
//!
//! A key's state is known by provider and key: it lives on across reloads, whatever its name, weight or neighbours.

mod quota;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::turns::turns;
use crate::{clock::Instant, usage::Quota};
use quota::Bucket;

/// Rest of a key that was refused for the first time.
pub const FIRST_REST: Duration = Duration::from_secs(60);
/// Longest rest of a key that is refused again and again.
pub const LONGEST_REST: Duration = Duration::from_secs(1_800);
/// Most keys of a provider.
pub const MOST_KEYS: usize = 64;
/// Rest of a throttled key whose provider gives no time.
const THROTTLED_REST: Duration = Duration::from_secs(1);
/// The time for which one try alone asks whether a refused key works again.
const TRIAL: Duration = Duration::from_secs(10);
/// Models whose state a key keeps: clients choose the names.
const MOST_MODELS: usize = 256;

/// RestReason a key rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestReason {
    /// Too many requests or tokens.
    Throttled,
    /// Its quota or its money is spent.
    Spent,
    /// The provider does not accept it.
    Refused,
}

impl RestReason {
    /// The word used in metrics, logs and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Spent => "quota_spent",
            Self::Refused => "bad_key",
        }
    }
}

/// A refusal of a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyRefusal<'a> {
    /// RestReason.
    pub why: RestReason,
    /// The wait that the provider asks for.
    pub wait: Option<Duration>,
    /// The model for which the key rests; `None`: the key rests for every model.
    pub model: Option<&'a str>,
}

/// The demands of a call on its key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The model; empty: none is named.
    pub model: &'a str,
    /// Estimated tokens.
    pub tokens: u64,
}

/// The key of the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChoice {
    /// The key at this place.
    Key(usize),
    /// Every key rests.
    Rests {
        /// The time until the first one may be used.
        wait: Duration,
        /// RestReason that one rests.
        why: RestReason,
    },
    /// There are no keys, or all were passed over.
    Nothing,
}

/// The keys of one provider, in the order of the file. Shared by all workers.
#[derive(Debug)]
pub struct Keyring {
    keys: Box<[Arc<KeyState>]>,
    /// The places of the keys in the order of use, each as often as its weight says.
    turns: Box<[u8]>,
    turn: AtomicUsize,
    /// Turns of keys that could not be used.
    stand_ins: AtomicUsize,
}

/// The state of one key.
#[derive(Debug, Default)]
pub struct KeyState {
    state: Mutex<Inner>,
    /// Whether it was refused since it was last accepted: an accepted key without refusals costs no lock.
    was_refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    whole: KeyRest,
    models: HashMap<Box<str>, OfModel>,
    /// Requests and tokens that were left when the provider last said so, for whatever model.
    left: [Option<u64>; 2],
}

#[derive(Debug, Default)]
struct OfModel {
    rest: KeyRest,
    /// Requests and tokens.
    quotas: [Option<Bucket>; 2],
}

/// A rest, under way or over.
#[derive(Debug, Clone, Copy, Default)]
struct KeyRest {
    /// Why it rests, since when, until when.
    last: Option<(RestReason, Instant, Instant)>,
    /// Quarantines in a row.
    refusals: u32,
    /// When it was refused last. A trial does not move it.
    refused: Option<Instant>,
}

/// The state of a key, for an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySnapshot {
    /// Seconds of its rest to come, and why it rests; for every model, or (`model`) for one. The longest, if there are several.
    pub rest: Option<(f64, RestReason)>,
    /// The model for which it rests; `None`: all, or it does not rest.
    pub model: Option<Box<str>>,
    /// Quarantines in a row.
    pub refusals: u32,
    /// Requests and tokens that were left when the provider last said so.
    pub left: [Option<u64>; 2],
}

/// Whether a key may be used now.
#[derive(Debug, Clone, Copy)]
enum Fitness {
    Works,
    /// Its quota lasts for the call after this time.
    StandsBack(Duration),
    /// It rests for this time; in the pair: since its refusal.
    Rests(Duration, RestReason, Duration),
}

impl Keyring {
    /// A ring of keys with their weights: a key of weight 2 is used twice as often as one of weight 1. At most [`MOST_KEYS`] count.
    pub fn new(keys: Vec<(Arc<KeyState>, u32)>) -> Self {
        let weights: Vec<u32> = keys.iter().take(MOST_KEYS).map(|(_, weight)| *weight).collect();
        let keys = keys.into_iter().take(MOST_KEYS).map(|(key, _)| key).collect();
        Self { keys, turns: turns(&weights), turn: AtomicUsize::new(0), stand_ins: AtomicUsize::new(0) }
    }

    /// Whether there are several keys to choose from.
    pub fn is_pool(&self) -> bool {
        self.keys.len() > 1
    }

    /// The key for the next try. `passed`: a bit for each place that must not be used.
    pub fn next(&self, wanted: &Wanted<'_>, passed: u64, now: Instant) -> KeyChoice {
        match self.keys.len() {
            0 => return KeyChoice::Nothing,
            1 if passed == 0 => return KeyChoice::Key(0),
            _ => {}
        }
        let turn = usize::from(self.turns[self.turn.fetch_add(1, Relaxed) % self.turns.len()]);
        if passed & 1 << turn == 0 && matches!(self.keys[turn].standing(wanted, now), Fitness::Works) {
            return self.taken(turn, wanted, now);
        }
        let (mut works, mut back, mut resting) = (0_u64, None::<(Duration, usize)>, Vec::new());
        for (place, key) in self.keys.iter().enumerate().filter(|(place, _)| passed & 1 << place == 0) {
            match key.standing(wanted, now) {
                Fitness::Works => works |= 1 << place,
                Fitness::StandsBack(wait) if back.is_none_or(|(least, _)| wait < least) => back = Some((wait, place)),
                Fitness::StandsBack(_) => {}
                Fitness::Rests(wait, why, since) => resting.push((place, wait, why, since)),
            }
        }
        match (works, back) {
            (0, None) => self.first_back(&resting, wanted, now),
            (0, Some((_, place))) => self.taken(place, wanted, now),
            _ => self.taken(self.stand_in(works), wanted, now),
        }
    }

    /// The key in the place of one that cannot be used: the others have turns among themselves, by weight.
    fn stand_in(&self, works: u64) -> usize {
        let turns = || self.turns.iter().map(|place| usize::from(*place)).filter(|place| works & 1 << place != 0);
        let nth = self.stand_ins.fetch_add(1, Relaxed) % turns().count().max(1);
        turns().nth(nth).unwrap_or_default()
    }

    /// The choice where every key rests. A throttled key is waited for. If all keys are in quarantine, one of them is asked each
    /// [`FIRST_REST`]: whoever pays the bill waits no longer than that.
    fn first_back(&self, resting: &[(usize, Duration, RestReason, Duration)], wanted: &Wanted<'_>, now: Instant) -> KeyChoice {
        let throttled = resting.iter().filter(|(_, _, why, _)| *why == RestReason::Throttled).min_by_key(|(_, wait, ..)| *wait);
        if let Some((_, wait, why, _)) = throttled {
            // A key in quarantine may come back sooner.
            let soonest = resting.iter().map(|(_, wait, ..)| *wait).min().unwrap_or(*wait);
            return KeyChoice::Rests { wait: soonest, why: *why };
        }
        let shortened = |(place, wait, why, since): &(usize, Duration, RestReason, Duration)| {
            (*place, FIRST_REST.saturating_sub(*since).min(*wait), *why)
        };
        match resting.iter().map(shortened).min_by_key(|(_, wait, _)| *wait) {
            None => KeyChoice::Nothing,
            Some((place, wait, _)) if wait.is_zero() => self.taken(place, wanted, now),
            Some((_, wait, why)) => KeyChoice::Rests { wait, why },
        }
    }

    fn taken(&self, place: usize, wanted: &Wanted<'_>, now: Instant) -> KeyChoice {
        self.keys[place].take(wanted, now);
        KeyChoice::Key(place)
    }

    /// Lets a refused key rest. Returns its rest, and whether another key may serve the call now.
    pub fn refused(&self, place: usize, refusal: &KeyRefusal<'_>, wanted: &Wanted<'_>, now: Instant) -> (Duration, bool) {
        let Some(key) = self.keys.get(place) else { return (Duration::ZERO, false) };
        let rest = key.refuse(refusal, now);
        let serves = |(at, other): (usize, &Arc<KeyState>)| at != place && !matches!(other.standing(wanted, now), Fitness::Rests(..));
        (rest, self.keys.iter().enumerate().any(serves))
    }

    /// Ends the quarantine of a key that was accepted for this model by a try that began at `began`. A try that began before the
    /// refusal says nothing, and a throttle lasts until its reset. Returns whether the key was in quarantine.
    pub fn accepted(&self, place: usize, model: &str, began: Instant) -> bool {
        self.keys.get(place).filter(|key| key.was_refused.load(Relaxed)).is_some_and(|key| key.accept(model, began))
    }

    /// The time until the first throttled key works again for such a call; `None`: one may be used now, or all are in
    /// quarantine.
    pub fn next_reset(&self, wanted: &Wanted<'_>, now: Instant) -> Option<Duration> {
        let mut least: Option<Duration> = None;
        for key in &self.keys {
            match key.standing(wanted, now) {
                Fitness::Rests(wait, RestReason::Throttled, _) => least = Some(least.map_or(wait, |least| least.min(wait))),
                Fitness::Rests(..) => {}
                Fitness::Works | Fitness::StandsBack(_) => return None,
            }
        }
        least
    }

    /// Notes what the provider says of the key's quota: requests, then tokens. What it does not say stays as it was.
    pub fn told(&self, place: usize, model: &str, quotas: [Option<Quota>; 2], now: Instant) {
        if let Some(key) = self.keys.get(place).filter(|_| quotas.iter().any(Option::is_some)) {
            key.tell(model, quotas, now);
        }
    }

    /// The state of each key.
    pub fn states(&self, now: Instant) -> Vec<KeySnapshot> {
        self.keys.iter().map(|key| key.state(now)).collect()
    }

    /// How many keys rest, for every model or for one.
    pub fn resting(&self, now: Instant) -> usize {
        self.keys.iter().filter(|key| key.was_refused.load(Relaxed) && key.state(now).rest.is_some()).count()
    }
}

impl KeyState {
    fn standing(&self, wanted: &Wanted<'_>, now: Instant) -> Fitness {
        let state = self.state.lock();
        let model = state.models.get(wanted.model);
        let rests = [Some(&state.whole), model.map(|model| &model.rest)].into_iter().flatten();
        let longest = rests.filter_map(|rest| rest.left(now)).max_by_key(|(left, ..)| *left);
        if let Some((left, why, since)) = longest {
            return Fitness::Rests(left, why, since);
        }
        let quotas = model.map(|model| &model.quotas).into_iter().flatten().zip([1, wanted.tokens]);
        let wait = quotas.filter_map(|(bucket, need)| Some(bucket.as_ref()?.wait(need, now))).max().unwrap_or_default();
        if wait.is_zero() { Fitness::Works } else { Fitness::StandsBack(wait) }
    }

    /// The key is used for a call: its quotas are drawn on, and the try is the only one for a while if the key was refused.
    fn take(&self, wanted: &Wanted<'_>, now: Instant) {
        let mut state = self.state.lock();
        state.whole.begin_trial(now);
        if let Some(model) = state.models.get_mut(wanted.model) {
            model.rest.begin_trial(now);
            for (bucket, need) in model.quotas.iter_mut().zip([1, wanted.tokens]) {
                if let Some(bucket) = bucket {
                    bucket.draw(need);
                }
            }
        }
    }

    fn refuse(&self, refusal: &KeyRefusal<'_>, now: Instant) -> Duration {
        let mut state = self.state.lock();
        self.was_refused.store(true, Relaxed);
        let Inner { whole, models, .. } = &mut *state;
        let rest = match refusal.model {
            None => whole,
            Some(model) => match of_model(models, model, now) {
                Some(model) => &mut model.rest,
                // So many refused models are names that clients make up: they say nothing about the key.
                None if refusal.why != RestReason::Throttled => return Duration::ZERO,
                None => whole,
            },
        };
        rest.begin(refusal, now)
    }

    fn accept(&self, model: &str, began: Instant) -> bool {
        let mut state = self.state.lock();
        let mut was = state.whole.end(began);
        if let Some(model) = state.models.get_mut(model) {
            was |= model.rest.end(began);
        }
        let of_models = state.models.values().map(|model| &model.rest);
        let rests = [&state.whole].into_iter().chain(of_models).any(|rest| rest.refusals > 0 || rest.left(began).is_some());
        self.was_refused.store(rests, Relaxed);
        was
    }

    fn tell(&self, model: &str, quotas: [Option<Quota>; 2], now: Instant) {
        let mut state = self.state.lock();
        for (left, quota) in state.left.iter_mut().zip(&quotas) {
            *left = quota.map(|quota| quota.left).or(*left);
        }
        let Some(model) = of_model(&mut state.models, model, now) else { return };
        for (bucket, quota) in model.quotas.iter_mut().zip(quotas) {
            if let Some(quota) = quota {
                *bucket = Bucket::new(quota, now);
            }
        }
    }

    fn state(&self, now: Instant) -> KeySnapshot {
        let state = self.state.lock();
        let of_models = state.models.iter().map(|(name, model)| (Some(name), &model.rest));
        let rests = [(None, &state.whole)].into_iter().chain(of_models);
        let refusals = rests.clone().map(|(_, rest)| rest.refusals).max().unwrap_or_default();
        let longest = rests.filter_map(|(name, rest)| Some((name, rest.left(now)?))).max_by_key(|(_, (left, ..))| *left);
        KeySnapshot {
            rest: longest.map(|(_, (left, why, _))| (left.as_secs_f64(), why)),
            model: longest.and_then(|(name, _)| name.cloned()),
            refusals,
            left: state.left,
        }
    }
}

impl KeyRest {
    /// The time left of a rest under way, why it rests, and the time since its refusal.
    fn left(&self, now: Instant) -> Option<(Duration, RestReason, Duration)> {
        let (why, since, until) = self.last.filter(|(_, _, until)| *until > now)?;
        Some((until - now, why, now.saturating_duration_since(since)))
    }

    fn begin(&mut self, refusal: &KeyRefusal<'_>, now: Instant) -> Duration {
        let rest = match refusal.why {
            RestReason::Throttled => refusal.wait.unwrap_or(THROTTLED_REST).min(LONGEST_REST),
            RestReason::Spent | RestReason::Refused => {
                // Tries that were under way at the refusal say nothing new. A trial's rest is no longer than TRIAL.
                let known = self.last.filter(|(why, since, until)| {
                    self.refusals > 0 && *why != RestReason::Throttled && *until > now && *until - *since > TRIAL
                });
                if let Some((_, _, until)) = known {
                    return until - now;
                }
                let before = self.refusals.min(8);
                self.refusals = self.refusals.saturating_add(1);
                (FIRST_REST * 2_u32.pow(before)).min(LONGEST_REST)
            }
        };
        self.last = Some((refusal.why, now, now + rest));
        self.refused = Some(now);
        rest
    }

    /// Ends a quarantine that began before `began`.
    fn end(&mut self, began: Instant) -> bool {
        let ends = self.refusals > 0 && self.refused.is_none_or(|at| at <= began);
        if ends {
            *self = Self::default();
        }
        ends
    }

    /// A key in quarantine is tried: the others wait for the result.
    fn begin_trial(&mut self, now: Instant) {
        if let Some((why, _, _)) = self.last.filter(|_| self.refusals > 0) {
            self.last = Some((why, now, now + TRIAL));
        }
    }
}

/// The state of a model, a new one if need be; `None`: the key knows too many models.
fn of_model<'m>(models: &'m mut HashMap<Box<str>, OfModel>, name: &str, now: Instant) -> Option<&'m mut OfModel> {
    if !models.contains_key(name) {
        if models.len() >= MOST_MODELS {
            models.retain(|_, model| model.rest.left(now).is_some());
        }
        if models.len() >= MOST_MODELS {
            return None;
        }
        models.insert(name.into(), OfModel::default());
    }
    models.get_mut(name)
}

#[cfg(test)]
mod tests;
