//! The counters of all keys, shared by all workers: 64 shards, each a lock over a dense vector and an index of it.
//!
//! All limits of one request are decided together: the shards they need are locked in order, every limit is asked, and all are
//! charged only if none refuses. The number of keys is bounded. A new key at the bound takes the place of an expired one, else
//! of one not used lately: a full table forgets, it never refuses. A key takes 64 bytes, about 8 of index, and 144 more while
//! it has charges in more than one slot. Of a million keys each took 91, because lists grow by doubling, and 115 more (benches/policies.rs).

mod meter;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

pub use meter::Meter;
use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::{
    gcra::{Checked, Pace},
    ring::{Ring, Shape},
};

/// Fewest and most shards; powers of two.
const SHARDS: usize = 64;
const MOST_SHARDS: usize = 32_768;
/// Keys of a shard, as long as more shards are allowed: work on all keys of a shard holds its lock while requests wait.
const KEYS: usize = 4_096;
/// Entries looked at to find one that may go.
const LOOK: usize = 16;
/// Entries that a sweep looks at while it holds a lock.
pub const SLICE: usize = 256;
/// Expired entries dropped per new key.
const TIDY: usize = 2;
const EMPTY: u32 = u32::MAX;

/// A keyed hash of a limit's identity and its key parts.
pub type Key = [u64; 2];

/// One limit's question, and the answer to it.
#[derive(Debug)]
pub struct Item<'a> {
    /// The key of the counter.
    pub key: Key,
    /// How it counts.
    pub meter: &'a Meter,
    /// The amount per window.
    pub limit: u64,
    /// The amount that must fit.
    pub check: u64,
    /// The amount charged if everything fits.
    pub charge: u64,
    /// Whether a refusal only counts.
    pub observe: bool,
    /// Whether the cost fits in any case and is charged: the use may go beyond the limit.
    pub force: bool,
    /// Whether it only checks: nothing is charged, now or when the cost is known.
    pub look: bool,
    /// The answer: whether it fits, and what it found.
    pub answer: Answer,
}

/// The answer of a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether the request does not fit.
    pub refused: bool,
    /// Refused: microseconds until the request would fit; `None`: never.
    pub wait: Option<u64>,
    /// The use before, or, once charged, after.
    pub used: u64,
    /// Microseconds until the window is free again.
    pub resets: u64,
    /// The slot that was charged.
    pub slot: u64,
}

/// The counters.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    /// The number of bits of a key that name its shard.
    bits: u32,
    per_shard: usize,
    keys: AtomicUsize,
    evictions: AtomicU64,
}

impl Table {
    /// A table of at most `max_keys` (at least one a shard, of which there are at least [`SHARDS`]).
    pub fn new(max_keys: usize) -> Self {
        let shards = max_keys.div_ceil(KEYS).next_power_of_two().clamp(SHARDS, MOST_SHARDS);
        let per_shard = max_keys.div_ceil(shards).clamp(1, EMPTY as usize - 1);
        let shards: Box<[_]> = (0..shards).map(|_| Mutex::default()).collect();
        Self { bits: shards.len().ilog2(), shards, per_shard, keys: AtomicUsize::new(0), evictions: AtomicU64::new(0) }
    }

    /// Asks every item. Charges all of them if none that enforces refuses, else none; returns whether they were charged.
    pub fn decide(&self, now: u64, items: &mut [Item<'_>]) -> bool {
        match items {
            [only] if !matches!(only.meter, Meter::Flight) => self.decide_one(now, only),
            items => self.decide_all(now, items),
        }
    }

    /// The same for one item, which needs no order of locks.
    fn decide_one(&self, now: u64, item: &mut Item<'_>) -> bool {
        let mut shard = self.shards[self.shard_index(item.key)].lock();
        let place = self.place(&mut shard, now, item.key);
        let entry = &mut shard.entries[place];
        item.answer = entry.ask(now, item.meter, item.limit, item.check);
        item.answer.refused &= !item.force;
        if !item.answer.refused && item.charge > 0 {
            entry.charge(now, item.meter, item.charge, &mut item.answer);
        }
        !item.answer.refused || item.observe
    }

    fn decide_all(&self, now: u64, items: &mut [Item<'_>]) -> bool {
        let mut held = self.lock(items);
        let mut places = SmallVec::<[usize; 4]>::new();
        let mut admitted = true;
        for item in &mut *items {
            if matches!(item.meter, Meter::Flight) {
                places.push(0);
                continue;
            }
            let shard = shard_of(&mut held, self.shard_index(item.key));
            let place = self.place(shard, now, item.key);
            item.answer = shard.entries[place].ask(now, item.meter, item.limit, item.check);
            item.answer.refused &= !item.force;
            admitted &= !item.answer.refused || item.observe;
            places.push(place);
        }
        if !admitted {
            return false;
        }
        for (item, place) in items.iter_mut().zip(places) {
            if item.answer.refused || item.charge == 0 || matches!(item.meter, Meter::Flight) {
                continue; // a refusal by a limit that observes is not counted as use
            }
            let shard = shard_of(&mut held, self.shard_index(item.key));
            // A later item's new key may have taken this one's place.
            let moved = shard.entries.get(place).is_none_or(|entry| entry.key != item.key);
            let place = if moved { self.place(shard, now, item.key) } else { place };
            shard.entries[place].charge(now, item.meter, item.charge, &mut item.answer);
        }
        true
    }

    /// Replaces a reservation by the actual amount, and returns the use then. `now` of 0 is good enough where `actual` is not
    /// above `reserved`.
    pub fn correct(&self, now: u64, key: Key, meter: &Meter, slot: u64, reserved: u64, actual: u64) -> u64 {
        let mut shard = self.shards[self.shard_index(key)].lock();
        let place = match shard.find(key) {
            Some((_, place)) => place,
            None if actual > reserved => self.place(&mut shard, now, key),
            None => return 0,
        };
        let entry = &mut shard.entries[place];
        match meter {
            Meter::Window(shape) => {
                entry.ring.correct(*shape, now, slot, reserved, actual);
                if actual > reserved {
                    entry.until = entry.until.max(shape.end(shape.slot(now)));
                }
                entry.ring.total()
            }
            Meter::Pace(pace) => {
                let state = pace.give_back(entry.until_nanos(), reserved.saturating_sub(actual));
                entry.pace(pace, state);
                0
            }
            Meter::Flight => 0,
        }
    }

    /// The use of a key, and microseconds until `limit` is used up if the use goes on as lately; `None`: not in this window.
    pub fn outlook(&self, now: u64, key: Key, meter: &Meter, limit: u64) -> (u64, Option<u64>) {
        let Meter::Window(shape) = meter else { return (0, None) };
        let mut shard = self.shards[self.shard_index(key)].lock();
        let Some((_, place)) = shard.find(key) else { return (0, None) };
        let ring = &mut shard.entries[place].ring;
        (ring.used(*shape, now), ring.spent_in(*shape, now, limit))
    }

    /// Drops a key's counter; `false`: it has none.
    pub fn forget(&self, key: Key) -> bool {
        let mut shard = self.shards[self.shard_index(key)].lock();
        let found = shard.find(key).map(|(_, place)| shard.remove(place)).is_some();
        self.keys.fetch_sub(usize::from(found), Relaxed);
        found
    }

    /// The requests of a key's burst that are used.
    pub fn paced(&self, now: u64, key: Key, pace: &Pace) -> u64 {
        let shard = self.shards[self.shard_index(key)].lock();
        shard.find(key).map_or(0, |(_, place)| pace.used(shard.entries[place].until_nanos(), now))
    }

    /// Microseconds until `cost` would pass without other requests; `None`: `cost` alone is above the limit.
    pub fn first_fit(&self, now: u64, key: Key, meter: &Meter, limit: u64, cost: u64) -> Option<u64> {
        let mut shard = self.shards[self.shard_index(key)].lock();
        let Some((_, place)) = shard.find(key) else { return (cost <= limit).then_some(0) };
        let answer = shard.entries[place].ask(now, meter, limit, cost);
        if answer.refused { answer.wait } else { Some(0) }
    }

    /// Drops the keys that hold nothing any more and gives their memory back; returns the number of keys dropped. Looks at
    /// every key, in slices of [`SLICE`]: not for a worker. Calls `between` after each slice, with no lock held.
    pub fn sweep(&self, now: u64, between: &mut dyn FnMut()) -> usize {
        let mut gone = 0;
        for shard in &self.shards {
            let mut place = 0;
            loop {
                let (dropped, next) = shard.lock().sweep_from(place, now);
                gone += dropped;
                self.keys.fetch_sub(dropped, Relaxed);
                between();
                let Some(next) = next else { break };
                place = next;
            }
        }
        gone
    }

    fn shard_index(&self, key: Key) -> usize {
        (key[0] >> (u64::BITS - self.bits)) as usize
    }

    /// Keys held.
    pub fn keys(&self) -> usize {
        self.keys.load(Relaxed)
    }

    /// Keys forgotten before they expired.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// Locks the shards of all items, each once, in order.
    fn lock(&self, items: &[Item<'_>]) -> Held<'_> {
        let mut wanted: SmallVec<[usize; 4]> = items.iter().map(|item| self.shard_index(item.key)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.into_iter().map(|shard| (shard, self.shards[shard].lock())).collect()
    }

    /// The place of a key; a new key is given one.
    fn place(&self, shard: &mut Shard, now: u64, key: Key) -> usize {
        if let Some((_, place)) = shard.find(key) {
            shard.entries[place].recent = true;
            return place;
        }
        for _ in 0..TIDY {
            if let Some(place) = shard.next_at_hand()
                && shard.entries[place].until <= now
            {
                shard.remove(place);
                self.keys.fetch_sub(1, Relaxed);
            }
        }
        if shard.entries.len() >= self.per_shard {
            let place = shard.victim(now);
            if shard.entries[place].until > now {
                self.evictions.fetch_add(1, Relaxed);
            }
            shard.remove(place);
            self.keys.fetch_sub(1, Relaxed);
        }
        self.keys.fetch_add(1, Relaxed);
        shard.insert(key)
    }
}

type Held<'a> = SmallVec<[(usize, MutexGuard<'a, Shard>); 4]>;

#[expect(clippy::expect_used, reason = "`lock` took the shard of every item")]
fn shard_of<'h>(held: &'h mut Held<'_>, wanted: usize) -> &'h mut Shard {
    held.iter_mut().find(|(shard, _)| *shard == wanted).map(|(_, shard)| &mut **shard).expect("its lock is held")
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// A window's charges; unused by a pace, whose state is in `until` and `nanos`.
    ring: Ring,
    /// Microseconds since 1970 from which no part of the entry counts.
    until: u64,
    /// Nanoseconds by which a pace's state lies before `until`; `recent`: the entry was used lately.
    nanos: u16,
    recent: bool,
}

impl Entry {
    fn ask(&mut self, now: u64, meter: &Meter, limit: u64, check: u64) -> Answer {
        match meter {
            Meter::Window(shape) => {
                let used = self.ring.used(*shape, now);
                if used.checked_add(check).is_some_and(|sum| sum <= limit) {
                    return Answer { used, ..Answer::default() };
                }
                let wait = self.ring.first_fit(*shape, now, limit, check);
                Answer { refused: true, wait, used, resets: self.ring.resets(*shape, now), slot: 0 }
            }
            Meter::Pace(pace) => match pace.check(self.until_nanos(), now, u32::try_from(check).unwrap_or(u32::MAX)) {
                // The new state travels in `slot` until everything else has agreed.
                Checked::Fits { state, remaining } => {
                    Answer { used: u64::from(pace.burst() - remaining), slot: state, ..Answer::default() }
                }
                Checked::Refused(wait) => {
                    // A limit that acts may let it through all the same.
                    let slot = pace.overfill(self.until_nanos(), now, check);
                    Answer { refused: true, wait, used: u64::from(pace.burst()), resets: self.until.saturating_sub(now), slot }
                }
            },
            Meter::Flight => Answer::default(),
        }
    }

    fn charge(&mut self, now: u64, meter: &Meter, amount: u64, answer: &mut Answer) {
        match meter {
            Meter::Window(shape) => {
                answer.slot = self.ring.charge(*shape, now, amount);
                answer.used = self.ring.total();
                let until = shape.end(answer.slot);
                answer.resets = until.saturating_sub(now);
                self.until = self.until.max(until);
            }
            Meter::Pace(pace) => {
                self.pace(pace, answer.slot);
                answer.resets = self.until.saturating_sub(now);
            }
            Meter::Flight => {}
        }
    }

    fn pace(&mut self, pace: &Pace, state: u64) {
        self.until = pace.until(state);
        self.nanos = (self.until * 1_000 - state) as u16;
    }

    /// A pace's state: the instant at which its bucket is empty, which is also when the entry expires.
    fn until_nanos(&self) -> u64 {
        self.until * 1_000 - u64::from(self.nanos)
    }
}

/// Entries in any order, an open-addressed index of them, and a clock hand.
#[derive(Debug, Default)]
struct Shard {
    entries: Vec<Entry>,
    /// Places in `entries`; a power of two, at most three quarters full, linear probing.
    index: Vec<u32>,
    hand: usize,
}

impl Shard {
    /// The places of a key in the index and in the entries.
    fn find(&self, key: Key) -> Option<(usize, usize)> {
        if self.index.is_empty() {
            return None;
        }
        let mask = self.index.len() - 1;
        let mut at = home(key) & mask;
        loop {
            match self.index[at] {
                EMPTY => return None,
                place if self.entries[place as usize].key == key => return Some((at, place as usize)),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a new key.
    fn insert(&mut self, key: Key) -> usize {
        if (self.entries.len() + 1) * 4 > self.index.len() * 3 {
            self.rebuild((self.index.len() * 2).max(8));
        }
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact((self.entries.len() / 4).max(4));
        }
        let place = self.entries.len();
        self.entries.push(Entry { key, ring: Ring::default(), until: 0, nanos: 0, recent: true });
        self.link(key, place);
        place
    }

    fn link(&mut self, key: Key, place: usize) {
        let mask = self.index.len() - 1;
        let mut at = home(key) & mask;
        while self.index[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.index[at] = place as u32;
    }

    /// Takes an entry out; the last one takes its place.
    fn remove(&mut self, place: usize) {
        let Some((at, _)) = self.find(self.entries[place].key) else { return };
        self.unlink(at);
        let last = self.entries.len() - 1;
        if place != last
            && let Some((at, _)) = self.find(self.entries[last].key)
        {
            self.index[at] = place as u32;
        }
        self.entries.swap_remove(place);
    }

    /// Empties a cell of the index and moves the cells behind it up: no search may stop too early.
    fn unlink(&mut self, mut hole: usize) {
        let mask = self.index.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let place = self.index[at];
            if place == EMPTY {
                break;
            }
            let wanted = home(self.entries[place as usize].key) & mask;
            // The cell may move if its home is not between the hole and itself.
            if (at.wrapping_sub(wanted) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.index[hole] = place;
                hole = at;
            }
        }
        self.index[hole] = EMPTY;
    }

    fn rebuild(&mut self, cells: usize) {
        self.index = vec![EMPTY; cells];
        for place in 0..self.entries.len() {
            self.link(self.entries[place].key, place);
        }
    }

    /// Drops the expired entries among [`SLICE`]; returns their number and the place to go on from. An entry that moves between
    /// two slices is looked at by the next sweep.
    fn sweep_from(&mut self, mut place: usize, now: u64) -> (usize, Option<usize>) {
        let before = self.entries.len();
        for _ in 0..SLICE.min(before.saturating_sub(place)) {
            if self.entries[place].until <= now {
                self.remove(place);
            } else {
                place += 1;
            }
        }
        if place < self.entries.len() {
            return (before - self.entries.len(), Some(place));
        }
        if self.entries.len() * 4 < self.entries.capacity() {
            self.shrink();
        }
        (before - self.entries.len(), None)
    }

    fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        if self.entries.is_empty() {
            self.index = Vec::new();
        } else {
            self.rebuild((self.entries.len() * 2).next_power_of_two().max(8));
        }
    }

    fn next_at_hand(&mut self) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        self.hand = (self.hand + 1) % self.entries.len();
        Some(self.hand)
    }

    /// The entry to evict: the first expired one within reach of the hand, else the first not used since the hand last came by.
    fn victim(&mut self, now: u64) -> usize {
        let mut idle = None;
        for _ in 0..LOOK {
            let Some(place) = self.next_at_hand() else { break };
            let entry = &mut self.entries[place];
            if entry.until <= now {
                return place;
            }
            if idle.is_none() && !std::mem::replace(&mut entry.recent, false) {
                idle = Some(place);
            }
        }
        idle.unwrap_or(self.hand)
    }
}

fn home(key: Key) -> usize {
    key[1] as usize
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
