//! Payees: caller, route, and the charge of the calls. Each payee is remembered once, however many requests it makes, and a
//! token names it by its index.
//!
//! Time tells which payee an index names. A payee can only be forgotten in a tick after its last use, and the next payee at its
//! index begins after that tick. A token older than the payee at its index names another payee, and finds none.
//!
//! The table is bounded in bytes. When it is full, the payee that was used longest ago goes first. A payee with a running
//! exchange or a call under way never goes.

use std::{
    array,
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::token::{INDEX_BITS, Tick};

pub(super) const SHARDS: usize = 16;
const SHARD_BITS: u32 = SHARDS.ilog2();

/// Most payees of a shard: the index has room for no more.
const MOST: usize = 1 << (INDEX_BITS - SHARD_BITS);

/// Most bytes of all payees together.
pub(super) const BYTES: usize = 64 << 20;

/// Payees in use that are passed over before a new payee is turned away.
const PASSED_OVER: usize = 64;

/// Most payees forgotten under one lock while sweeping.
const SLICE: usize = 256;

const NONE: u32 = u32::MAX;

/// A caller on a route, and the charge of the calls of its requests.
#[derive(Debug)]
pub struct Payee<C> {
    /// The caller, if a trusted source names it.
    pub caller: Option<Arc<str>>,
    /// The inbound route.
    pub route: Arc<str>,
    /// The charge that the calls must reserve against.
    pub charge: Option<C>,
}

/// The facts of which a payee is made.
#[derive(Debug)]
pub(super) struct Facts<'a, C> {
    pub caller: Option<&'a Arc<str>>,
    pub route: &'a Arc<str>,
    pub charge: Option<&'a C>,
}

/// A payee of the table.
#[derive(Debug)]
pub(super) struct Known<C> {
    pub payee: Arc<Payee<C>>,
    /// The index by which tokens name it.
    pub index: u32,
    /// The first tick in which the payee had this index.
    pub since: Tick,
    pub hash: u64,
}

/// All payees.
#[derive(Debug)]
pub(super) struct Payees<C> {
    hasher: foldhash::quality::RandomState,
    shards: [Mutex<Shard<C>>; SHARDS],
    /// Most bytes of a shard.
    budget: usize,
    forgotten: AtomicU64,
    turned_away: AtomicU64,
}

#[derive(Debug)]
struct Shard<C> {
    entries: Vec<Entry<C>>,
    by_hash: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    free: Vec<u32>,
    /// The entry used last, and the one not used for longest.
    front: u32,
    back: u32,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<C> {
    payee: Option<Arc<Payee<C>>>,
    /// Its key in `by_hash`.
    key: u64,
    since: Tick,
    /// The tick of its last use; for a free entry, that of its last payee.
    last: Tick,
    newer: u32,
    older: u32,
}

impl<C: Eq + Hash + Clone> Payees<C> {
    /// A table of at most `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            hasher: foldhash::quality::RandomState::default(),
            shards: array::from_fn(|_| Mutex::new(Shard::new())),
            budget: bytes / SHARDS,
            forgotten: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    /// The hash by which [`Self::intern`] finds a payee.
    pub fn hash(&self, facts: &Facts<'_, C>) -> u64 {
        self.hasher.hash_one((facts.caller, facts.route, facts.charge))
    }

    /// The payee of these facts, remembered from now on. `None`: the table is full of payees in use.
    pub fn intern(&self, facts: &Facts<'_, C>, hash: u64, now: Tick) -> Option<Known<C>> {
        let number = shard_of(hash);
        let mut shard = self.shards[number].lock();
        let known = |shard: &Shard<C>, at: u32| {
            let entry = &shard.entries[at as usize];
            let payee = entry.payee.clone()?;
            Some(Known { payee, index: at << SHARD_BITS | number as u32, since: entry.since, hash })
        };
        let mut key = hash;
        while let Some(at) = shard.by_hash.get(&key).copied() {
            if shard.entries[at as usize].payee.as_ref().is_some_and(|payee| payee.is(facts)) {
                shard.touch(at, now);
                return known(&shard, at);
            }
            key = key.wrapping_add(1);
        }
        let weight = weight::<C>(facts.caller.map(|caller| &**caller));
        while shard.bytes + weight > self.budget || (shard.free.is_empty() && shard.entries.len() == MOST) {
            if !shard.forget_one(now) {
                self.turned_away.fetch_add(1, Relaxed);
                return None;
            }
            self.forgotten.fetch_add(1, Relaxed);
        }
        let payee = Payee { caller: facts.caller.cloned(), route: facts.route.clone(), charge: facts.charge.cloned() };
        let at = shard.put(Arc::new(payee), key, now);
        shard.bytes += weight;
        known(&shard, at)
    }

    /// Tells the table that a payee is in use: it is not the next to go.
    pub fn touch(&self, known: &Known<C>, now: Tick) {
        self.shards[known.index as usize % SHARDS].lock().touch(known.index >> SHARD_BITS, now);
    }

    /// The payee at `index` when a token of tick `begun` was made.
    pub fn find(&self, index: u32, begun: Tick, now: Tick) -> Option<Arc<Payee<C>>> {
        let mut shard = self.shards[index as usize % SHARDS].lock();
        let at = index >> SHARD_BITS;
        let entry = shard.entries.get(at as usize)?;
        let payee = entry.payee.clone().filter(|_| entry.since <= begun)?;
        shard.touch(at, now);
        Some(payee)
    }

    /// Forgets payees that were not used since `horizon`, and gives their memory back.
    pub fn sweep(&self, horizon: Tick, now: Tick) {
        for shard in &self.shards {
            loop {
                let mut shard = shard.lock();
                let mut left = SLICE;
                while left > 0 && shard.back != NONE && shard.entries[shard.back as usize].last < horizon {
                    let at = shard.back;
                    match shard.is_in_use(at) {
                        true => shard.touch(at, now),
                        false => shard.forget(at),
                    }
                    left -= 1;
                }
                if left > 0 {
                    shard.shrink();
                    break;
                }
            }
        }
    }

    /// The number of payees, and their bytes.
    pub fn census(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(count, bytes), shard| {
            let shard = shard.lock();
            (count + shard.by_hash.len(), bytes + shard.bytes)
        })
    }

    /// Payees forgotten because their memory was full, and requests whose payee found no room.
    pub fn lost(&self) -> (u64, u64) {
        (self.forgotten.load(Relaxed), self.turned_away.load(Relaxed))
    }
}

impl<C: Eq> Payee<C> {
    /// Whether the payee is made of these facts.
    pub(super) fn is(&self, facts: &Facts<'_, C>) -> bool {
        let same = |one: &Arc<str>, other: &Arc<str>| Arc::ptr_eq(one, other) || one == other;
        let caller = match (&self.caller, facts.caller) {
            (Some(one), Some(other)) => same(one, other),
            (None, None) => true,
            _ => false,
        };
        caller && same(&self.route, facts.route) && self.charge.as_ref() == facts.charge
    }
}

/// Bytes of one payee: itself, its entry, its place in the index, the text of its caller. Routes are the configuration's.
fn weight<C>(caller: Option<&str>) -> usize {
    /// The two counts of an `Arc`, and the allocator's rounding.
    const BOX: usize = 16 + 8;
    /// A key and an entry number, in a map that is half full.
    const INDEX: usize = 2 * (size_of::<u64>() + size_of::<u64>() + 1);
    size_of::<Payee<C>>() + BOX + size_of::<Entry<C>>() + INDEX + caller.map_or(0, |caller| caller.len() + BOX)
}

impl<C> Shard<C> {
    fn new() -> Self {
        Self { entries: Vec::new(), by_hash: HashMap::default(), free: Vec::new(), front: NONE, back: NONE, bytes: 0 }
    }

    fn put(&mut self, payee: Arc<Payee<C>>, key: u64, now: Tick) -> u32 {
        let at = match self.free.pop() {
            Some(at) => {
                let entry = &mut self.entries[at as usize];
                entry.since = now.max(entry.last + 1);
                entry.last = entry.since;
                entry.payee = Some(payee);
                entry.key = key;
                at
            }
            None => {
                self.entries.push(Entry { payee: Some(payee), key, since: now, last: now, newer: NONE, older: NONE });
                self.entries.len() as u32 - 1
            }
        };
        self.by_hash.insert(key, at);
        self.link(at);
        at
    }

    fn touch(&mut self, at: u32, now: Tick) {
        let entry = &mut self.entries[at as usize];
        if entry.last < now && entry.payee.is_some() {
            entry.last = now;
            self.unlink(at);
            self.link(at);
        }
    }

    /// Whether the payee is held elsewhere: by a running exchange, a worker that uses it much, or a call under way.
    fn is_in_use(&self, at: u32) -> bool {
        self.entries[at as usize].payee.as_ref().is_some_and(|payee| Arc::strong_count(payee) > 1)
    }

    /// Forgets the payee not used for longest; `false`: all payees looked at are in use.
    fn forget_one(&mut self, now: Tick) -> bool {
        for _ in 0..PASSED_OVER {
            let at = self.back;
            // A payee may still be put into tokens in its last tick.
            if at == NONE || self.entries[at as usize].last >= now {
                return false;
            }
            if !self.is_in_use(at) {
                self.forget(at);
                return true;
            }
            self.touch(at, now);
        }
        false
    }

    fn forget(&mut self, at: u32) {
        self.unlink(at);
        let entry = &mut self.entries[at as usize];
        let caller = entry.payee.take().and_then(|payee| payee.caller.clone());
        self.bytes -= weight::<C>(caller.as_deref());
        self.by_hash.remove(&entry.key);
        self.free.push(at);
    }

    fn link(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.front, at);
        let entry = &mut self.entries[at as usize];
        (entry.newer, entry.older) = (NONE, before);
        match before {
            NONE => self.back = at,
            before => self.entries[before as usize].newer = at,
        }
    }

    fn unlink(&mut self, at: u32) {
        let Entry { newer, older, .. } = self.entries[at as usize];
        match newer {
            NONE => self.front = older,
            newer => self.entries[newer as usize].older = older,
        }
        match older {
            NONE => self.back = newer,
            older => self.entries[older as usize].newer = newer,
        }
    }

    fn shrink(&mut self) {
        if self.by_hash.capacity() > 1024 && self.by_hash.len() < self.by_hash.capacity() / 8 {
            self.by_hash.shrink_to(self.by_hash.len() * 2);
        }
    }
}

/// The shard of a hash: by bits that the shard's map does not look at.
pub(super) fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// A hasher for keys that are hashes already.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn intern(payees: &Payees<u32>, caller: &str, now: Tick) -> Option<Known<u32>> {
        let (caller, route): (Arc<str>, Arc<str>) = (caller.into(), "chat".into());
        let facts = Facts { caller: Some(&caller), route: &route, charge: None };
        payees.intern(&facts, payees.hash(&facts), now)
    }

    fn name(payees: &Payees<u32>, index: u32, begun: Tick) -> Option<String> {
        payees.find(index, begun, begun)?.caller.as_deref().map(str::to_owned)
    }

    /// Room for this many in every shard.
    fn room_for(count: usize) -> Payees<u32> {
        Payees::new(SHARDS * count * weight::<u32>(Some("12345678")))
    }

    #[test]
    fn a_payee_is_remembered_once_and_told_from_every_other() {
        let payees: Payees<u32> = Payees::new(BYTES);
        let texts: Vec<Arc<str>> = ["a", "b"].map(Arc::from).to_vec();
        let mut indices = std::collections::HashSet::new();
        for _ in 0..2 {
            for caller in [None, Some(&texts[0]), Some(&texts[1])] {
                for route in &texts {
                    for charge in [None, Some(&1), Some(&2)] {
                        let facts = Facts { caller, route, charge };
                        let known = payees.intern(&facts, payees.hash(&facts), 1).expect("room");
                        assert!(known.payee.is(&facts));
                        indices.insert(known.index);
                    }
                }
            }
        }
        assert_eq!((indices.len(), payees.census().0), (18, 18));
    }

    #[test]
    fn two_payees_of_one_hash_are_two() {
        let payees: Payees<u32> = Payees::new(BYTES);
        let texts: Vec<Arc<str>> = (0..3).map(|at| at.to_string().into()).collect();
        let known: Vec<_> = texts
            .iter()
            .map(|caller| payees.intern(&Facts { caller: Some(caller), route: &texts[0], charge: None }, 7, 1).expect("room"))
            .collect();
        for (at, one) in known.iter().enumerate() {
            assert_eq!(name(&payees, one.index, 1).as_deref(), Some(&*texts[at]));
        }
    }

    #[test]
    fn the_one_that_was_not_used_for_longest_goes_first_and_one_in_use_stays() {
        let payees = room_for(1);
        // Each new payee of the same shard pushes out the one before.
        let same_shard: Vec<String> = {
            let all = (0..400).map(|at| format!("{at:08}"));
            let probe: Payees<u32> = Payees { hasher: payees.hasher.clone(), ..Payees::new(BYTES) };
            all.filter(|caller| intern(&probe, caller, 1).expect("room").index as usize % SHARDS == 3).collect()
        };
        let [first, second, third, ..] = &same_shard[..] else { panic!("400 payees over 16 shards") };
        let index = intern(&payees, first, 1).expect("room").index;
        assert!(intern(&payees, second, 1).is_none(), "in the tick of its last use it stays");
        assert_eq!(intern(&payees, second, 2).map(|known| known.index), Some(index));
        assert_eq!((name(&payees, index, 1), name(&payees, index, 2).as_deref()), (None, Some(&**second)));
        let held = intern(&payees, second, 3).expect("known");
        assert!(intern(&payees, third, 9).is_none(), "it is in use");
        drop(held);
        assert!(intern(&payees, third, 99).is_some());
        assert_eq!(payees.lost(), (2, 2));
    }

    #[test]
    fn one_that_is_not_used_any_more_is_swept_and_its_bytes_are_free() {
        let payees: Payees<u32> = Payees::new(BYTES);
        let index = intern(&payees, "gone", 5).expect("room").index;
        let held = intern(&payees, "held", 5).expect("room");
        payees.sweep(5, 50);
        assert_eq!(payees.census().0, 2);
        payees.sweep(6, 50);
        assert_eq!((payees.census().0, name(&payees, index, 5)), (1, None));
        assert_eq!(name(&payees, held.index, 5).as_deref(), Some("held"));
        drop(held);
        payees.sweep(1000, 1000);
        assert_eq!(payees.census(), (0, 0));
    }

    proptest! {
        /// An index and a time never name another payee than theirs, whatever comes and goes.
        #[test]
        fn an_index_that_is_used_again_never_says_somebody_else(
            uses in prop::collection::vec((0..100u32, 0..2u32, 0..8u32), 1..200),
            room in 1..4usize,
        ) {
            let payees = room_for(room);
            let (mut now, mut given) = (1, Vec::new());
            for (caller, passes, stale) in uses {
                now += passes;
                let caller = format!("{caller:08}");
                // Another worker's clock may be a little behind.
                if let Some(known) = intern(&payees, &caller, now.saturating_sub(stale)) {
                    given.push((known.index, now.saturating_sub(stale).max(known.since), caller));
                }
                let (count, bytes) = payees.census();
                prop_assert!(count <= room * SHARDS && bytes <= payees.budget * SHARDS);
                for (index, begun, caller) in &given {
                    let said = payees.find(*index, *begun, 0).and_then(|payee| payee.caller.clone());
                    prop_assert!(said.is_none() || said.as_deref() == Some(&**caller), "{said:?} for {caller}");
                }
            }
        }
    }
}
