//! A bounded set of keys whose members expire: what observe mode would have stored, what need not be waited for.

use quick_cache::sync::Cache as Quick;

use super::key::Key;
use crate::clock::Moment;

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

    pub(super) fn insert(&self, key: Key, until: Moment) {
        self.until.insert(key, until.steady_millis());
    }

    pub(super) fn contains(&self, key: &Key, now: Moment) -> bool {
        let Some(until) = self.until.get(key) else { return false };
        let held = now.steady_millis() < until;
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
    }
}
