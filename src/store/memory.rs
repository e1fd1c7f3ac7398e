//! The cache's memory tier: a fixed byte budget, scan-resistant eviction, variants under one key, purges by key, tag, route and
//! path prefix. Shared by all workers; no call waits for I/O: the tier has none.
//!
//! A quarter of the budget is for bodies that are still coming in ([`Budget`]), the rest for stored variants and their indexes.
//! The memory of recently evicted keys is a constant beside the budget (about 64 bytes for each 4 KiB of it).
//!
//! Purges and sweeps go through the keys in slices of [`SLICE`]: a lock is held for one key, or for a slice of the tag index,
//! and other threads have their turn between two slices.

mod counters;
mod tags;

use std::{
    hash::{BuildHasher, Hash},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache as Quick};

pub use counters::AGES;
use counters::Counters;
use tags::Tags;

use crate::clock::Moment;

/// A value of the tier.
pub trait Stored: Send + Sync + 'static {
    /// Bytes it holds, everything counted; must not change.
    fn weight(&self) -> u64;
    /// Purge tags, each once.
    fn tags(&self) -> &[Arc<str>];
    /// The route that stored it.
    fn route(&self) -> &str;
    /// Path and query.
    fn path(&self) -> &str;
    /// When it was stored.
    fn stored_at(&self) -> Moment;
    /// Marks it stale (soft purge).
    fn soften(&self);
    /// Whether no request can be answered with it any more.
    fn is_beyond_use(&self, now: Moment) -> bool;
}

/// Keys of the tier: small, and evenly spread by construction (a keyed hash).
pub trait TierKey: Copy + Ord + Hash + Send + Sync + 'static {
    /// No key is less.
    const LEAST: Self;
}

/// Most variants under one key; beyond them the oldest goes.
pub const MAX_VARIANTS: usize = 64;

/// Bytes a key costs beside its variants: slots of the map, of the list, of the index.
const KEY_OVERHEAD: u64 = 224;
const VARIANT_OVERHEAD: u64 = 32;
const STRIPES: usize = 64;

/// Keys that a purge or a sweep looks at before other threads have their turn.
pub const SLICE: usize = 256;

/// The tier: `K` is a key, `V` a stored variant.
pub struct Memory<K: TierKey, V: Stored> {
    quick: Quick<K, Arc<Slot<V>>, ByWeight, foldhash::fast::RandomState, Collect>,
    /// One lock per group of keys: a key has one writer at a time, and no variant and no tag is lost.
    stripes: Box<[Mutex<()>]>,
    striper: foldhash::fast::RandomState,
    tags: Tags<K>,
    counters: Counters,
    in_flight: Arc<Budget>,
    budget: u64,
}

/// All variants under one key, newest first.
pub struct Slot<V> {
    variants: Box<[Arc<V>]>,
    weight: u64,
}

impl<V> Slot<V> {
    /// The variants, newest first.
    pub fn variants(&self) -> &[Arc<V>] {
        &self.variants
    }
}

/// Why a variant left the tier, or was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Other variants needed the room.
    Size,
    /// No request could be answered with it any more.
    Expired,
    /// A purge removed it.
    Purged,
    /// A newer response replaced it, or an unsafe method's success removed it.
    Replaced,
    /// Heavier than half a shard (two of the largest bodies).
    TooLarge,
    /// Its tags did not fit into the index, and no purge by tag could have found it.
    TagsFull,
}

impl Reason {
    /// Every reason with its metric label.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Size, "size"),
        (Self::Expired, "expired"),
        (Self::Purged, "purged"),
        (Self::Replaced, "replaced"),
        (Self::TooLarge, "too_large"),
        (Self::TagsFull, "tags_full"),
    ];

    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// The variants that a purge means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which<K> {
    /// Those under one key.
    Key(K),
    /// Those with a tag.
    Tag(Arc<str>),
    /// Those stored by a route.
    Route(Arc<str>),
    /// Those whose path begins with this text.
    Prefix(String),
    /// Everything.
    All,
}

/// The tier's contents and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Keys.
    pub entries: u64,
    /// Bytes stored.
    pub bytes: u64,
    /// Bytes of bodies that are still coming in.
    pub in_flight: u64,
    /// The whole budget in bytes.
    pub budget: u64,
    /// Pairs in the tag index.
    pub tag_pairs: u64,
    /// Variants stored since the start.
    pub stored: u64,
    /// By [`Reason::ALL`]: variants that left, and the sum of their ages.
    pub evicted: [(u64, Duration); 6],
    /// By [`Reason::ALL`]: variants with an age that left, by [`AGES`]; the last number counts those older than all of these.
    pub ages: [[u64; AGES.len() + 1]; 6],
}

impl<K: TierKey, V: Stored> Memory<K, V> {
    /// A tier of `budget` bytes in all, whose largest body is `largest` bytes.
    pub fn new(budget: u64, largest: u64) -> Self {
        let in_flight = budget / 4;
        let resident = budget - in_flight;
        // The library splits the budget evenly and refuses a value heavier than its shard: a shard holds four of the largest.
        let shards = (resident / largest.saturating_mul(4).max(1)).clamp(1, 16);
        let shards = 1usize << shards.ilog2();
        let mut options = OptionsBuilder::new();
        options.shards(shards).weight_capacity(resident).estimated_items_capacity((resident / 2048).max(64) as usize);
        #[expect(clippy::expect_used, reason = "both required numbers are given two lines above")]
        let options = options.build().expect("capacity and items are set");
        Self {
            quick: Quick::with_options(options, ByWeight, foldhash::fast::RandomState::default(), Collect),
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            striper: foldhash::fast::RandomState::default(),
            tags: Tags::new((budget / 512).max(64) as usize),
            counters: Counters::default(),
            in_flight: Arc::new(Budget { used: AtomicU64::new(0), limit: in_flight }),
            budget,
        }
    }

    /// The variants under a key. Marks them as used.
    pub fn get(&self, key: &K) -> Option<Arc<Slot<V>>> {
        self.quick.get(key)
    }

    /// Replaces the variants under `key` by the result of `change` (given the old ones, newest first; `None` leaves them).
    /// Gives whether the result is now stored.
    pub fn update(&self, key: K, now: Moment, change: impl FnOnce(&[Arc<V>]) -> Option<Vec<Arc<V>>>) -> Result<(), Reason> {
        let mut evicted = Evicted::default();
        let result = {
            let _writer = self.stripe(&key).lock();
            self.update_locked(key, now, Reason::Replaced, &mut evicted, change)
        };
        self.account(evicted, now);
        result
    }

    /// Removes everything under `key`; gives the number of variants.
    pub fn remove(&self, key: &K, now: Moment, reason: Reason) -> usize {
        let _writer = self.stripe(key).lock();
        let Some((_, slot)) = self.quick.remove(key) else { return 0 };
        for variant in &slot.variants {
            self.tags.remove(variant.tags(), key);
            self.counters.left(reason, variant.as_ref(), now);
        }
        slot.variants.len()
    }

    /// Removes (`soft`: marks stale) the variants that match and `is_meant`; gives their number. Calls `between` after each
    /// slice, with no lock held. A purge by route, by prefix or of everything looks at every key: not for a worker.
    pub fn purge(&self, which: &Which<K>, soft: bool, now: Moment, is_meant: impl Fn(&V) -> bool, between: &mut dyn FnMut()) -> usize {
        match which {
            Which::Key(key) => self.purge_key(*key, soft, now, is_meant),
            Which::Tag(tag) => {
                let (mut count, mut after) = (0, None);
                loop {
                    let keys = self.tags.keys(tag, after, SLICE);
                    count += self.purge_keys(&keys, tag, soft, now, &is_meant);
                    after = keys.last().copied();
                    if keys.len() < SLICE {
                        return count;
                    }
                    between();
                }
            }
            Which::Route(route) => self.purge_where(soft, now, |variant| variant.route() == &**route && is_meant(variant), between),
            Which::Prefix(prefix) => {
                self.purge_where(soft, now, |variant| variant.path().starts_with(prefix.as_str()) && is_meant(variant), between)
            }
            Which::All => self.purge_where(soft, now, is_meant, between),
        }
    }

    /// [`Self::purge`] of a tag that at most `most` keys have; `None`: more keys have it, and nothing was done.
    pub fn purge_few(&self, tag: &Arc<str>, most: usize, soft: bool, now: Moment, is_meant: impl Fn(&V) -> bool) -> Option<usize> {
        let keys = self.tags.keys(tag, None, most + 1);
        (keys.len() <= most).then(|| self.purge_keys(&keys, tag, soft, now, &is_meant))
    }

    /// Removes variants that can answer no request any more; gives their number. Meant to be called now and then, not on a
    /// worker. Calls `between` as [`Self::purge`] does.
    pub fn sweep(&self, now: Moment, between: &mut dyn FnMut()) -> usize {
        self.in_slices(|variant| variant.is_beyond_use(now), |key, of| self.remove_from(key, now, Reason::Expired, of), between)
    }

    /// The budget of bodies that are still coming in.
    pub fn in_flight(&self) -> &Arc<Budget> {
        &self.in_flight
    }

    /// The heaviest variant that is let in.
    pub fn heaviest(&self) -> u64 {
        self.quick.shard_capacity() / 2
    }

    /// The tier's contents and counts.
    pub fn stats(&self) -> Stats {
        Stats {
            entries: self.quick.len() as u64,
            bytes: self.quick.weight(),
            in_flight: self.in_flight.used.load(Relaxed),
            budget: self.budget,
            tag_pairs: self.tags.len() as u64,
            stored: self.counters.stored(),
            evicted: self.counters.evicted(),
            ages: self.counters.ages(),
        }
    }

    fn stripe(&self, key: &K) -> &Mutex<()> {
        &self.stripes[self.striper.hash_one(key) as usize % STRIPES]
    }

    fn update_locked(
        &self,
        key: K,
        now: Moment,
        reason: Reason,
        evicted: &mut Evicted<K, V>,
        change: impl FnOnce(&[Arc<V>]) -> Option<Vec<Arc<V>>>,
    ) -> Result<(), Reason> {
        let before = self.quick.peek(&key);
        let old: &[Arc<V>] = before.as_ref().map_or(&[], |slot| &slot.variants);
        let Some(mut new) = change(old) else { return Ok(()) };
        let mut refused = None;
        new.truncate(MAX_VARIANTS);
        let fresh = |variant: &Arc<V>, others: &[Arc<V>]| !others.iter().any(|other| Arc::ptr_eq(other, variant));
        let weigh = |variants: &[Arc<V>]| {
            let each = |variant: &Arc<V>| variant.weight() + VARIANT_OVERHEAD + tags::weight(variant.tags());
            KEY_OVERHEAD + variants.iter().map(each).sum::<u64>()
        };
        while weigh(&new) > self.heaviest() && !new.is_empty() {
            // The oldest variant goes first; a single variant that is too heavy is not let in.
            if new.len() == 1 {
                refused = Some(Reason::TooLarge);
                self.counters.refused(Reason::TooLarge);
            }
            new.pop();
        }
        new.retain(|variant| {
            let indexed = !fresh(variant, old) || self.tags.add(variant.tags(), key);
            if !indexed {
                refused = Some(Reason::TagsFull);
                self.counters.refused(Reason::TagsFull);
            }
            indexed
        });
        for gone in old.iter().filter(|variant| fresh(variant, &new)) {
            self.counters.left(reason, gone.as_ref(), now);
            let still: Vec<&Arc<str>> = new.iter().flat_map(|variant| variant.tags()).collect();
            let unused: Vec<Arc<str>> = gone.tags().iter().filter(|tag| !still.contains(tag)).cloned().collect();
            self.tags.remove(&unused, &key);
        }
        self.counters.stored_more(new.iter().filter(|variant| fresh(variant, old)).count() as u64);
        if new.is_empty() {
            self.quick.remove(&key);
        } else {
            let weight = weigh(&new);
            self.quick.insert_with_lifecycle(key, Arc::new(Slot { variants: new.into(), weight }), evicted);
        }
        refused.map_or(Ok(()), Err)
    }

    fn purge_key(&self, key: K, soft: bool, now: Moment, matches: impl Fn(&V) -> bool) -> usize {
        if soft {
            let Some(slot) = self.quick.peek(&key) else { return 0 };
            return slot.variants.iter().filter(|variant| matches(variant)).map(|variant| variant.soften()).count();
        }
        self.remove_from(key, now, Reason::Purged, matches)
    }

    fn purge_keys(&self, keys: &[K], tag: &Arc<str>, soft: bool, now: Moment, is_meant: &impl Fn(&V) -> bool) -> usize {
        let matches = |variant: &V| variant.tags().contains(tag) && is_meant(variant);
        keys.iter().map(|key| self.purge_key(*key, soft, now, matches)).sum()
    }

    fn purge_where(&self, soft: bool, now: Moment, matches: impl Fn(&V) -> bool, between: &mut dyn FnMut()) -> usize {
        self.in_slices(matches, |key, of| self.purge_key(key, soft, now, of), between)
    }

    /// Runs `work` on each key with a variant that `matches`. The library's iterator holds its lock for one step.
    fn in_slices<M: Fn(&V) -> bool>(&self, matches: M, work: impl Fn(K, &M) -> usize, between: &mut dyn FnMut()) -> usize {
        let mut count = 0;
        for (at, (key, slot)) in self.quick.iter().enumerate() {
            if slot.variants.iter().any(|variant| matches(variant)) {
                count += work(key, &matches);
            }
            // The slot's variants are freed before other threads have their turn.
            drop(slot);
            if at % SLICE == SLICE - 1 {
                between();
            }
        }
        count
    }

    fn remove_from(&self, key: K, now: Moment, reason: Reason, matches: impl Fn(&V) -> bool) -> usize {
        let (mut evicted, mut count) = (Evicted::default(), 0);
        {
            let _writer = self.stripe(&key).lock();
            let result = self.update_locked(key, now, reason, &mut evicted, |old| {
                let kept: Vec<_> = old.iter().filter(|variant| !matches(variant)).cloned().collect();
                count = old.len() - kept.len();
                (count > 0).then_some(kept)
            });
            debug_assert!(result.is_ok(), "what was there fits");
        }
        self.account(evicted, now);
        count
    }

    /// Takes evicted variants out of the index and counts them. The caller holds no lock.
    fn account(&self, evicted: Evicted<K, V>, now: Moment) {
        for (key, slot) in evicted.0 {
            let _writer = self.stripe(&key).lock();
            // The key may have been stored anew meanwhile.
            let current = self.quick.peek(&key);
            let kept: &[Arc<V>] = current.as_ref().map_or(&[], |slot| &slot.variants);
            for variant in slot.variants.iter().filter(|gone| !kept.iter().any(|other| Arc::ptr_eq(other, gone))) {
                let unused: Vec<_> =
                    variant.tags().iter().filter(|tag| !kept.iter().any(|other| other.tags().contains(tag))).cloned().collect();
                self.tags.remove(&unused, &key);
                self.counters.left(Reason::Size, variant.as_ref(), now);
            }
        }
    }
}

/// Bytes that may be held at once: reserved and released.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }

    /// Reserves `bytes`; `false` if they do not fit.
    pub fn reserve(&self, bytes: u64) -> bool {
        self.used.fetch_update(Relaxed, Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.limit)).is_ok()
    }

    /// Releases reserved bytes.
    pub fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }
}

#[derive(Clone)]
struct ByWeight;

impl<K, V> Weighter<K, Arc<Slot<V>>> for ByWeight {
    fn weight(&self, _key: &K, slot: &Arc<Slot<V>>) -> u64 {
        slot.weight
    }
}

/// Collects evicted slots: they are accounted for after the shard's lock is released.
#[derive(Clone)]
struct Collect;

struct Evicted<K, V>(Vec<(K, Arc<Slot<V>>)>);

impl<K, V> Default for Evicted<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Lifecycle<K, Arc<Slot<V>>> for Collect {
    type RequestState = Evicted<K, V>;

    fn on_evict(&self, state: &mut Evicted<K, V>, key: K, slot: Arc<Slot<V>>) {
        state.0.push((key, slot));
    }
}

#[cfg(test)]
mod tests;
