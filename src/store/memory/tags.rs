//! The tag index: the keys that hold a variant with a tag. Bounded; a variant without tags costs nothing.
//!
//! The index is ordered: a purge reads the keys of a tag in slices. It is split into parts: workers rarely meet. It has no
//! table that moves when it grows: a lock is held for a few steps per tag, however many keys there are.

use std::{
    collections::BTreeSet,
    hash::BuildHasher,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::TierKey;

/// Bytes of one pair of tag and key in the index.
const PAIR: u64 = 96;
/// Parts of the index.
const PARTS: usize = 64;

/// The bytes that the tags of one variant cost.
pub(super) fn weight(tags: &[Arc<str>]) -> u64 {
    tags.iter().map(|tag| PAIR + tag.len() as u64).sum()
}

/// A part of the index: pairs of a tag's hash and a key.
type Part<K> = Mutex<BTreeSet<(u64, K)>>;

/// A tag stands in the index as a hash. The variants' own tags tell apart two tags with one hash.
pub(super) struct Tags<K> {
    parts: Box<[Part<K>]>,
    hasher: foldhash::quality::RandomState,
    pairs: AtomicUsize,
    most: usize,
}

impl<K: TierKey> Tags<K> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: foldhash::quality::RandomState::default(),
            pairs: AtomicUsize::new(0),
            most,
        }
    }

    /// Adds all pairs or none; `false` if they do not fit.
    pub(super) fn add(&self, tags: &[Arc<str>], key: K) -> bool {
        let fits = |pairs: usize| pairs.checked_add(tags.len()).filter(|sum| *sum <= self.most);
        if tags.is_empty() {
            return true;
        }
        if self.pairs.fetch_update(Relaxed, Relaxed, fits).is_err() {
            return false;
        }
        let known = tags.iter().filter(|tag| {
            let tag = self.hash(tag);
            !self.part(tag).lock().insert((tag, key))
        });
        self.pairs.fetch_sub(known.count(), Relaxed);
        true
    }

    pub(super) fn remove(&self, tags: &[Arc<str>], key: &K) {
        for tag in tags {
            let tag = self.hash(tag);
            let removed = self.part(tag).lock().remove(&(tag, *key));
            self.pairs.fetch_sub(usize::from(removed), Relaxed);
        }
    }

    /// The first keys with a tag that come after `after`, in their order, at most `most`.
    pub(super) fn keys(&self, tag: &str, after: Option<K>, most: usize) -> Vec<K> {
        let tag = self.hash(tag);
        let from = after.map_or(Bound::Included((tag, K::LEAST)), |key| Bound::Excluded((tag, key)));
        let part = self.part(tag).lock();
        part.range((from, Bound::Unbounded)).take_while(|(of, _)| *of == tag).take(most).map(|(_, key)| *key).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.pairs.load(Relaxed)
    }

    fn hash(&self, tag: &str) -> u64 {
        self.hasher.hash_one(tag)
    }

    fn part(&self, tag: u64) -> &Mutex<BTreeSet<(u64, K)>> {
        &self.parts[tag as usize % PARTS]
    }
}
