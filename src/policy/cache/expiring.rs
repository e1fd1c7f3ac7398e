//! Bounded memories of keys: a set whose members expire (what observe mode would have stored, what need not be waited
//! for), and a list of the keys that were invalidated last.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

use parking_lot::Mutex;
use quick_cache::sync::Cache as Quick;

use super::key::Key;
use crate::clock::unix;

/// The set. Beyond its bound the least used go.
#[derive(Debug)]
pub(super) struct Expiring {
    until: Quick<Key, u64>,
}

impl Expiring {
    /// A set of at most about `most` keys.
    pub(super) fn new(most: usize) -> Self {
        Self { until: Quick::new(most) }
    }

    pub(super) fn insert(&self, key: Key, until: SystemTime) {
        self.until.insert(key, unix(until).as_millis() as u64);
    }

    pub(super) fn contains(&self, key: &Key, now: SystemTime) -> bool {
        let Some(until) = self.until.get(key) else { return false };
        let held = unix(now).as_millis() < u128::from(until);
        if !held {
            self.until.remove(key);
        }
        held
    }

    pub(super) fn remove(&self, key: &Key) {
        self.until.remove(key);
    }

    pub(super) fn clear(&self) {
        self.until.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }
}

/// Invalidated keys, in order. Only the last [`REMEMBERED`] are known by name; whoever asks about more is told yes.
#[derive(Debug, Default)]
pub(super) struct Changed {
    count: AtomicU64,
    last: Mutex<VecDeque<Key>>,
}

const REMEMBERED: usize = 1024;

impl Changed {
    pub(super) fn add(&self, key: Key) {
        let mut last = self.last.lock();
        if last.len() == REMEMBERED {
            last.pop_front();
        }
        last.push_back(key);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// How many there were so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Whether `key` may have been added after the count was `count`.
    pub(super) fn since(&self, count: u64, key: &Key) -> bool {
        if self.count() == count {
            return false;
        }
        let last = self.last.lock();
        let newer = usize::try_from(self.count() - count).unwrap_or(usize::MAX);
        newer > last.len() || last.iter().rev().take(newer).any(|changed| changed == key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_is_seen_by_whoever_began_before_it() {
        let changed = Changed::default();
        let (mine, other) = (Key::numbered(1), Key::numbered(2));
        changed.add(mine);
        let began = changed.count();
        assert!(!changed.since(began, &mine));
        changed.add(other);
        assert!(!changed.since(began, &mine) && changed.since(began, &other));
        changed.add(mine);
        assert!(changed.since(began, &mine));
        let long_ago = changed.count();
        (0..=REMEMBERED as u64).for_each(|at| changed.add(Key::numbered(100 + at)));
        assert!(changed.since(long_ago, &mine), "more happened than is remembered");
    }

    #[test]
    fn members_expire() {
        let (set, at) = (Expiring::new(64), |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        set.insert(Key::numbered(1), at(10));
        assert!(set.contains(&Key::numbered(1), at(9)));
        assert!(!set.contains(&Key::numbered(1), at(10)) && set.len() == 0);
        (0..1000).for_each(|key| set.insert(Key::numbered(key), at(10)));
        assert!(set.len() <= 64);
    }
}
