//! A bounded set of keys that expire: answers that observe mode would have stored, and keys whose requests do not wait for each other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use quick_cache::sync::Cache as Quick;

use super::key::Key;
use crate::clock::Moment;

/// The set. Beyond its bound the least used keys go.
#[derive(Debug)]
pub(super) struct Expiring {
    /// The expiry of each key, and its generation.
    until: Quick<Key, (u64, u64)>,
    generation: AtomicU64,
}

impl Expiring {
    /// A set of at most about `most` keys.
    pub(super) fn new(most: usize) -> Self {
        Self { until: Quick::new(most), generation: AtomicU64::new(0) }
    }

    pub(super) fn insert(&self, key: Key, until: Moment) {
        self.until.insert(key, (until.steady_millis(), self.generation.load(Relaxed)));
    }

    pub(super) fn contains(&self, key: &Key, now: Moment) -> bool {
        let Some((until, generation)) = self.until.get(key) else { return false };
        let held = now.steady_millis() < until && generation == self.generation.load(Relaxed);
        if !held {
            self.until.remove(key);
        }
        held
    }

    pub(super) fn remove(&self, key: &Key) {
        self.until.remove(key);
    }

    /// Empties the set. The memory of the old keys is freed as new keys need it: no request waits for it.
    pub(super) fn clear(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn members_expire() {
        let (set, at) = (Expiring::new(64), |seconds| Moment::at(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)));
        set.insert(Key::numbered(1), at(10));
        assert!(set.contains(&Key::numbered(1), at(9)));
        assert!(!set.contains(&Key::numbered(1), at(10)) && set.len() == 0);
        (0..1000).for_each(|key| set.insert(Key::numbered(key), at(10)));
        assert!(set.len() <= 64);
        set.insert(Key::numbered(1), at(10));
        set.clear();
        assert!(!set.contains(&Key::numbered(1), at(9)));
        set.insert(Key::numbered(1), at(10));
        assert!(set.contains(&Key::numbered(1), at(9)));
    }
}
