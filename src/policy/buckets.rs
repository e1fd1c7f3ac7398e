//! Two counts over a recent span of time, without a lock: ten buckets that share the span, each one atomic word.
//!
//! A bucket saturates at 1,048,575 events: both counts stop there, and their ratio stays the same. 24 bits of lap number tell a
//! bucket from one of an older lap of the ring.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

const BUCKETS: u64 = 10;
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const LAP_MASK: u64 = (1 << 24) - 1;

/// Sums over the last span, to a tenth of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Events of the first kind.
    pub first: u64,
    /// Events of the second kind.
    pub second: u64,
}

/// The counts. Time is a `Duration` since any fixed start; it should not run backwards.
#[derive(Debug)]
pub struct Buckets {
    width: u64,
    words: [AtomicU64; BUCKETS as usize],
}

impl Buckets {
    /// Counts over `span` (at least 10 ns).
    pub fn new(span: Duration) -> Self {
        let width = (u64::try_from(span.as_nanos()).unwrap_or(u64::MAX) / BUCKETS).max(1);
        Self { width, words: [const { AtomicU64::new(0) }; BUCKETS as usize] }
    }

    /// Adds to both counts of the present bucket.
    pub fn add(&self, now: Duration, first: u64, second: u64) {
        let lap = self.lap(now);
        let _ = self.word(lap).fetch_update(Relaxed, Relaxed, |word| {
            let (one, two) = match unpack(word) {
                (was, one, two) if was == lap & LAP_MASK => (one, two),
                _ => (0, 0),
            };
            let fits = one + first <= COUNT_MAX && two + second <= COUNT_MAX;
            Some(if fits { pack(lap, one + first, two + second) } else { pack(lap, one, two) })
        });
    }

    /// Takes one back from the second count of the present bucket; does nothing if the bucket has changed since.
    pub fn take_back(&self, now: Duration) {
        let lap = self.lap(now);
        let _ = self.word(lap).fetch_update(Relaxed, Relaxed, |word| match unpack(word) {
            (was, one, two) if was == lap & LAP_MASK && two > 0 => Some(pack(lap, one, two - 1)),
            _ => None,
        });
    }

    /// Both sums over the last span.
    pub fn sums(&self, now: Duration) -> Sums {
        let lap = self.lap(now);
        let mut sums = Sums::default();
        for back in 0..BUCKETS.min(lap + 1) {
            let (was, one, two) = unpack(self.word(lap - back).load(Relaxed));
            if was == (lap - back) & LAP_MASK {
                sums.first += one;
                sums.second += two;
            }
        }
        sums
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for word in &self.words {
            word.store(0, Relaxed);
        }
    }

    fn lap(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX) / self.width
    }

    fn word(&self, lap: u64) -> &AtomicU64 {
        &self.words[(lap % BUCKETS) as usize]
    }
}

fn pack(lap: u64, one: u64, two: u64) -> u64 {
    (lap & LAP_MASK) << (2 * COUNT_BITS) | one << COUNT_BITS | two
}

fn unpack(word: u64) -> (u64, u64, u64) {
    (word >> (2 * COUNT_BITS), word >> COUNT_BITS & COUNT_MAX, word & COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn counts_leave_with_their_bucket() {
        let counts = Buckets::new(Duration::from_secs(10));
        counts.add(at(500), 3, 1);
        counts.add(at(9_900), 2, 2);
        assert_eq!(counts.sums(at(9_999)), Sums { first: 5, second: 3 });
        assert_eq!(counts.sums(at(10_000)), Sums { first: 2, second: 2 });
        assert_eq!(counts.sums(at(60_000)), Sums::default());
        counts.add(at(60_000), 1, 0);
        counts.take_back(at(60_000));
        assert_eq!(counts.sums(at(60_000)), Sums { first: 1, second: 0 });
    }

    #[test]
    fn a_full_bucket_stops_both_counts() {
        let counts = Buckets::new(Duration::from_secs(10));
        counts.add(at(0), COUNT_MAX, COUNT_MAX / 2);
        counts.add(at(0), 1, 1);
        assert_eq!(counts.sums(at(0)), Sums { first: COUNT_MAX, second: COUNT_MAX / 2 });
    }
}
