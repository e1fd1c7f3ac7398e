//! Keys that the store has refused. A key is refused from memory until the store's answer is out of date: the store is not asked.
//!
//! A refusal by an inbound limit on requests stands until the request would pass: nothing gives such requests back. Any other refusal
//! (tokens, dollars, outbound requests) stands for [`SHORT`]: another replica may give room back.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;

use super::table::{Answer, Item};

const SHARDS: usize = 16;
/// Most keys of a shard. A full shard remembers no further one until some are out of date.
const MOST: usize = 4_096;
/// Microseconds for which a refusal stands while another replica may give room back.
const SHORT: u64 = 1_000_000;

/// The keys that the store has refused.
#[derive(Debug, Default)]
pub(super) struct Denied {
    count: AtomicUsize,
    shards: [Mutex<HashMap<u128, Spent>>; SHARDS],
}

#[derive(Debug, Clone, Copy)]
struct Spent {
    /// Microseconds since 1970 until which the refusal stands.
    until: u64,
    /// The time at which the request would pass.
    fits: u64,
    /// The time at which everything used is free again.
    resets: u64,
    used: u64,
    limit: u64,
}

impl Denied {
    /// The store's refusal of `key`, if the refusal holds for this question.
    pub(super) fn find(&self, key: u128, item: &Item<'_>, now: u64) -> Option<Answer> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        let spent = *self.shard(key).lock().get(&key)?;
        let holds = now < spent.until && item.check > 0 && item.limit <= spent.limit;
        holds.then(|| Answer {
            refused: true,
            wait: Some(spent.fits.saturating_sub(now)),
            used: spent.used,
            resets: spent.resets.saturating_sub(now),
            slot: 0,
        })
    }

    /// Remembers a key that the store has refused with its whole amount used. `stands`: no charge under this key is ever given back.
    pub(super) fn remember(&self, key: u128, item: &Item<'_>, stands: bool, now: u64) {
        let Answer { refused: true, wait: Some(wait), used, resets, .. } = item.answer else { return };
        if used < item.limit {
            return; // A smaller request may fit.
        }
        let fits = now.saturating_add(wait);
        let until = if stands { fits } else { fits.min(now.saturating_add(SHORT)) };
        let mut shard = self.shard(key).lock();
        let before = shard.len();
        if before >= MOST && !shard.contains_key(&key) {
            shard.retain(|_, spent| spent.until > now);
        }
        if shard.len() < MOST || shard.contains_key(&key) {
            let resets = now.saturating_add(resets);
            shard.insert(key, Spent { until, fits, resets, used, limit: item.limit });
        }
        let after = shard.len();
        drop(shard);
        match after.checked_sub(before) {
            Some(more) => self.count.fetch_add(more, Relaxed),
            None => self.count.fetch_sub(before - after, Relaxed),
        };
    }

    /// Forgets what is out of date.
    pub(super) fn sweep(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|_, spent| spent.until > now);
            self.count.fetch_sub(before - shard.len(), Relaxed);
        }
    }

    fn shard(&self, key: u128) -> &Mutex<HashMap<u128, Spent>> {
        &self.shards[key as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::limits::{ring::Shape, table::Meter};

    fn item(meter: &Meter, check: u64, limit: u64) -> Item<'_> {
        let answer = Answer { refused: true, wait: Some(30_000_000), used: limit, resets: 60_000_000, slot: 0 };
        Item { key: [0, 0], meter, limit, check, charge: check, observe: false, force: false, look: false, answer }
    }

    #[test]
    fn a_refusal_holds_for_its_time_and_under_the_same_amount() {
        let meter = Meter::Window(Shape::sliding(Duration::from_secs(60)));
        let (denied, now) = (Denied::default(), 1_780_000_000_000_000);
        denied.remember(1, &item(&meter, 5, 100), true, now);
        denied.remember(2, &item(&meter, 5, 100), false, now);
        let finds = |key, check, limit, after: u64| denied.find(key, &item(&meter, check, limit), now + after).map(|answer| answer.wait);
        assert_eq!(finds(1, 5, 100, 10_000_000), Some(Some(20_000_000)));
        assert_eq!(finds(1, 4, 100, 10_000_000), Some(Some(20_000_000)), "nothing is left for a smaller one");
        let item_ = item(&meter, 5, 100);
        denied.remember(3, &Item { answer: Answer { used: 99, ..item_.answer }, ..item_ }, true, now);
        assert_eq!(finds(3, 5, 100, 0), None, "something is left");
        assert_eq!(finds(1, 5, 101, 0), None, "a larger amount may have room");
        assert_eq!(finds(1, 5, 100, 30_000_000), None, "it would pass now");
        assert_eq!(finds(2, 5, 100, 999_999), Some(Some(29_000_001)));
        assert_eq!(finds(2, 5, 100, 1_000_000), None, "something may have been given back");
        denied.sweep(now + 30_000_000);
        assert_eq!(denied.count.load(Relaxed), 0);
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_room_comes_back() {
        let meter = Meter::Window(Shape::sliding(Duration::from_secs(60)));
        let (denied, now) = (Denied::default(), 1_780_000_000_000_000);
        for key in 0..3 * (MOST * SHARDS) as u128 {
            denied.remember(key, &item(&meter, 1, 1), true, now);
        }
        assert_eq!(denied.count.load(Relaxed), MOST * SHARDS);
        denied.remember(u128::MAX, &item(&meter, 1, 1), true, now + 31_000_000);
        assert!(denied.find(u128::MAX, &item(&meter, 1, 1), now + 31_000_001).is_some());
    }
}
