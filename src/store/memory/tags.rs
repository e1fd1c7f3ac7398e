//! The tag index: which keys hold something with a tag. Bounded; nothing is kept for what has no tag.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;

use super::TierKey;

/// Bytes of one pair of tag and key in the index.
const PAIR: u64 = 96;

/// What the tags of one variant cost.
pub(super) fn weight(tags: &[Arc<str>]) -> u64 {
    tags.iter().map(|tag| PAIR + tag.len() as u64).sum()
}

pub(super) struct Tags<K> {
    index: Mutex<Index<K>>,
    most: usize,
}

struct Index<K> {
    keys: HashMap<Arc<str>, HashSet<K, foldhash::fast::RandomState>, foldhash::fast::RandomState>,
    pairs: usize,
}

impl<K: TierKey> Tags<K> {
    pub(super) fn new(most: usize) -> Self {
        Self { index: Mutex::new(Index { keys: HashMap::default(), pairs: 0 }), most }
    }

    /// Adds all pairs or none; `false` if they do not fit.
    pub(super) fn add(&self, tags: &[Arc<str>], key: K) -> bool {
        if tags.is_empty() {
            return true;
        }
        let mut index = self.index.lock();
        if index.pairs + tags.len() > self.most {
            return false;
        }
        for tag in tags {
            let added = index.keys.entry(tag.clone()).or_default().insert(key);
            index.pairs += usize::from(added);
        }
        true
    }

    pub(super) fn remove(&self, tags: &[Arc<str>], key: &K) {
        if tags.is_empty() {
            return;
        }
        let mut index = self.index.lock();
        for tag in tags {
            let Some(keys) = index.keys.get_mut(tag) else { continue };
            let removed = keys.remove(key);
            if keys.is_empty() {
                index.keys.remove(tag);
            }
            index.pairs -= usize::from(removed);
        }
    }

    pub(super) fn keys(&self, tag: &str) -> Vec<K> {
        self.index.lock().keys.get(tag).map(|keys| keys.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.index.lock().pairs
    }
}
