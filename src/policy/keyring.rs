//! The choice of a provider's key for the next try. Keys are used in turn; a refused key rests and the others serve.
//!
//! A throttled key rests until its reset. A key that is spent or refused rests for [`FIRST_REST`], doubled each time up to
//! [`LONGEST_REST`]. It is then tried again: quotas are raised and keys restored. If every key rests, the one whose rest ends
//! first is used: the provider's answer is better than a guess.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use crate::clock::Instant;

/// Rest of a key that was refused for the first time.
pub const FIRST_REST: Duration = Duration::from_secs(60);
/// Longest rest of a key that is refused again and again.
pub const LONGEST_REST: Duration = Duration::from_secs(1_800);
/// Rest of a throttled key whose provider gives no time.
const THROTTLED_REST: Duration = Duration::from_secs(1);

/// Why a key rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Too many requests; the time after which the key works again, if the provider gives one.
    Throttled(Option<Duration>),
    /// Its quota is spent, or it is not accepted.
    Unusable,
}

/// The keys of one provider. Shared by all workers; lives on across reloads while the keys stay the same.
#[derive(Debug)]
pub struct Keyring {
    started: Instant,
    turn: AtomicUsize,
    keys: Box<[Key]>,
}

#[derive(Debug, Default)]
struct Key {
    /// Milliseconds after the ring's start at which the key's rest ends; 0: the key does not rest.
    rests_until: AtomicU64,
    /// Refusals in a row.
    refusals: AtomicU32,
    /// Requests and tokens that the provider said were left, each plus one; 0: it said nothing yet.
    left: [AtomicU64; 2],
}

/// The state of a key, for an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// Seconds for which it still rests, if it rests.
    pub rests: Option<f64>,
    /// Refusals in a row.
    pub refusals: u32,
    /// Requests and tokens that were left when the provider last said so.
    pub left: [Option<u64>; 2],
}

impl Keyring {
    /// A ring of `keys` keys, none of which rests.
    pub fn new(keys: usize, now: Instant) -> Self {
        Self { started: now, turn: AtomicUsize::new(0), keys: (0..keys).map(|_| Key::default()).collect() }
    }

    /// The key for the next try; `None`: there are none.
    pub fn next(&self, now: Instant) -> Option<usize> {
        let count = self.keys.len();
        let first = self.turn.fetch_add(1, Relaxed);
        let now = self.millis(now);
        let turns = (0..count).map(|at| first.wrapping_add(at) % count);
        turns.min_by_key(|at| self.keys[*at].rests_until.load(Relaxed).saturating_sub(now))
    }

    /// Lets a refused key rest. Returns the rest, and whether another key does not rest.
    pub fn refused(&self, key: usize, why: Refused, now: Instant) -> (Duration, bool) {
        let Some(state) = self.keys.get(key) else { return (Duration::ZERO, false) };
        let rest = match why {
            Refused::Throttled(hint) => hint.unwrap_or(THROTTLED_REST).min(LONGEST_REST),
            Refused::Unusable => {
                let before = state.refusals.fetch_add(1, Relaxed).min(8);
                (FIRST_REST * 2_u32.pow(before)).min(LONGEST_REST)
            }
        };
        state.rests_until.store(self.millis(now + rest).max(1), Relaxed);
        (rest, self.resting(now) < self.keys.len())
    }

    /// Ends the rest of a key that was accepted.
    pub fn accepted(&self, key: usize) {
        if let Some(state) = self.keys.get(key).filter(|state| state.rests_until.load(Relaxed) != 0) {
            state.rests_until.store(0, Relaxed);
            state.refusals.store(0, Relaxed);
        }
    }

    /// Notes the requests and tokens that the provider says are left; what it does not say stays as it was.
    pub fn told(&self, key: usize, left: [Option<u64>; 2]) {
        let Some(state) = self.keys.get(key) else { return };
        for (place, left) in state.left.iter().zip(left) {
            if let Some(left) = left {
                place.store(left.saturating_add(1), Relaxed);
            }
        }
    }

    /// The state of each key.
    pub fn states(&self, now: Instant) -> Vec<State> {
        let now = self.millis(now);
        let rest = |key: &Key| {
            let left = key.rests_until.load(Relaxed).saturating_sub(now);
            (left > 0).then(|| Duration::from_millis(left).as_secs_f64())
        };
        let left = |place: &AtomicU64| place.load(Relaxed).checked_sub(1);
        let state =
            |key: &Key| State { rests: rest(key), refusals: key.refusals.load(Relaxed), left: [left(&key.left[0]), left(&key.left[1])] };
        self.keys.iter().map(state).collect()
    }

    /// How many keys rest.
    pub fn resting(&self, now: Instant) -> usize {
        let now = self.millis(now);
        self.keys.iter().filter(|key| key.rests_until.load(Relaxed) > now).count()
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn keys_are_used_in_turn_and_a_refused_one_rests() {
        let start = Instant::now();
        let ring = Keyring::new(3, start);
        assert_eq!([ring.next(start), ring.next(start), ring.next(start)], [Some(0), Some(1), Some(2)]);
        assert_eq!(ring.refused(1, Refused::Unusable, start), (FIRST_REST, true));
        let used: Vec<_> = (0..30).filter_map(|_| ring.next(start)).collect();
        assert!(!used.contains(&1) && used.contains(&0) && used.contains(&2), "{used:?}");
        let later = start + FIRST_REST + SECOND;
        assert!((0..3).any(|_| ring.next(later) == Some(1)), "it is asked again");
        assert_eq!(ring.refused(1, Refused::Unusable, later), (FIRST_REST * 2, true), "for longer each time");
        ring.told(0, [Some(0), Some(7)]);
        ring.told(0, [None, Some(9)]);
        ring.told(9, [Some(1), None]);
        let state = |rests, refusals, left| State { rests, refusals, left };
        let unsaid = [None; 2];
        assert_eq!(ring.states(later), [state(None, 0, [Some(0), Some(9)]), state(Some(120.0), 2, unsaid), state(None, 0, unsaid)]);
        ring.accepted(1);
        assert_eq!((ring.resting(later), ring.refused(1, Refused::Unusable, later).0), (0, FIRST_REST));
    }

    #[test]
    fn a_throttled_key_rests_until_its_reset_and_the_nearest_is_used_where_all_rest() {
        let start = Instant::now();
        let ring = Keyring::new(2, start);
        assert_eq!(ring.refused(0, Refused::Throttled(Some(SECOND * 20)), start), (SECOND * 20, true));
        assert_eq!(ring.refused(1, Refused::Throttled(Some(SECOND * 5)), start), (SECOND * 5, false));
        assert_eq!((ring.next(start), ring.next(start)), (Some(1), Some(1)));
        assert_eq!(Keyring::new(0, start).next(start), None);
    }

    #[test]
    fn no_rest_is_longer_than_the_longest() {
        let start = Instant::now();
        let ring = Keyring::new(1, start);
        for _ in 0..40 {
            assert!(ring.refused(0, Refused::Unusable, start).0 <= LONGEST_REST);
        }
        assert_eq!(ring.refused(0, Refused::Throttled(Some(SECOND * 90_000)), start).0, LONGEST_REST);
    }
}
