//! Names that others have given to exchanges: request ids from trusted proxies, and trace ids.
//!
//! A name finds its exchange by a keyed hash, in an entry of a few bytes. Several exchanges of one payee may share a name: the
//! payee is certain, the exchange is not. A name shared by exchanges of two payees finds neither: the sender of a name chooses it.
//!
//! Entries stand in the order in which their exchanges began. When there are too many, the oldest goes first, unless its
//! exchange is still running. Each entry links to the one before it in its bucket. Links to entries that are gone lead nowhere:
//! removing the oldest is one step, and no entry is ever moved.

use std::{array, collections::VecDeque};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::{
    payees::{SHARDS, shard_of},
    token::{HashKey, Mark, Place, Tick},
};

/// Most entries of a shard.
const MOST: usize = 32_768;

/// Fewest buckets of a shard: it begins with these.
const FEWEST: usize = 64;

/// Running exchanges that are passed over before the oldest entry goes all the same.
const PASSED_OVER: usize = 16;

/// Most entries looked at under one lock while sweeping.
const SLICE: usize = 512;

/// The kind of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A request id.
    RequestId = 1,
    /// The id of a trace.
    Trace = 2,
}

/// A name's keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashed(u64);

/// The meaning of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meant {
    /// One exchange.
    One(Mark),
    /// Exchanges of one payee; this one began last.
    Several(Mark),
    /// Exchanges of several payees.
    Nobody,
}

/// All names.
#[derive(Debug)]
pub(super) struct Names {
    key: HashKey,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// Entries, the oldest first.
    entries: VecDeque<Entry>,
    /// The number of the oldest entry; the others count on from there.
    oldest: u32,
    /// The number of the newest entry of each bucket. The count of buckets is a power of two.
    buckets: Vec<u32>,
    pressed_out: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u64,
    begun: Tick,
    payee: u32,
    slot: u32,
    /// The number of the entry before it in its bucket.
    before: u32,
    serial: u16,
    shared: Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    No,
    ByOnePayee,
    ByMany,
}

impl Entry {
    fn mark(&self) -> Mark {
        Mark { begun: self.begun, payee: self.payee, place: Place { slot: self.slot, serial: self.serial } }
    }
}

impl Names {
    pub fn new() -> Self {
        Self { key: HashKey::new(), shards: array::from_fn(|_| Mutex::default()) }
    }

    /// The hash of a name.
    pub fn hash(&self, kind: Kind, name: &[u8]) -> Hashed {
        let mut text: SmallVec<[u8; 160]> = SmallVec::new();
        text.push(kind as u8);
        text.extend_from_slice(name);
        Hashed(self.key.hash(&text) as u64)
    }

    /// Gives a name to an exchange. `since` is the tick in which its payee came to its index. `horizon`: an exchange that began
    /// earlier, and does not run, is no rival.
    pub fn give(&self, hash: Hashed, mark: Mark, since: Tick, horizon: Tick, is_running: impl Fn(Mark) -> bool) {
        let mut shard = self.shards[shard_of(hash.0)].lock();
        let rival = shard.find(hash.0).map(|(_, entry)| entry).filter(|entry| entry.begun >= horizon || is_running(entry.mark()));
        let shared = match rival {
            None => Shared::No,
            Some(entry) if entry.shared == Shared::ByMany => Shared::ByMany,
            Some(entry) if entry.payee != mark.payee => Shared::ByMany,
            // The index had another payee before `since`: that payee is forgotten.
            Some(entry) if entry.begun < since => Shared::No,
            Some(_) => Shared::ByOnePayee,
        };
        let mut passed_over = 0;
        while shard.entries.len() >= MOST {
            let again = passed_over < PASSED_OVER && shard.oldest_runs(&is_running);
            passed_over += 1;
            shard.pressed_out += u64::from(!shard.let_oldest_go(again));
        }
        let Mark { begun, payee, place } = mark;
        shard.push(Entry { hash: hash.0, begun, payee, slot: place.slot, before: 0, serial: place.serial, shared });
    }

    /// The meaning of a name; `None`: the name is unknown.
    pub fn find(&self, hash: Hashed) -> Option<Meant> {
        let (_, entry) = self.shards[shard_of(hash.0)].lock().find(hash.0)?;
        Some(match entry.shared {
            Shared::No => Meant::One(entry.mark()),
            Shared::ByOnePayee => Meant::Several(entry.mark()),
            Shared::ByMany => Meant::Nobody,
        })
    }

    /// Forgets the names of exchanges that began before `horizon` and do not run.
    pub fn sweep(&self, horizon: Tick, is_running: impl Fn(Mark) -> bool) {
        for shard in &self.shards {
            let mut seen = 0;
            loop {
                let mut shard = shard.lock();
                let mut left = SLICE;
                while left > 0 && seen < MOST && shard.entries.front().is_some_and(|entry| entry.begun < horizon) {
                    let again = shard.oldest_runs(&is_running);
                    shard.let_oldest_go(again);
                    (left, seen) = (left - 1, seen + 1);
                }
                if left > 0 {
                    shard.shrink();
                    break;
                }
            }
        }
    }

    /// The number of entries, and their bytes.
    pub fn census(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(count, bytes), shard| {
            let shard = shard.lock();
            let room = shard.entries.capacity() * size_of::<Entry>() + shard.buckets.capacity() * size_of::<u32>();
            (count + shard.entries.len(), bytes + room)
        })
    }

    /// Names forgotten before their time.
    pub fn pressed_out(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().pressed_out).sum()
    }
}

impl Shard {
    /// The newest entry of this hash, and its number.
    fn find(&self, hash: u64) -> Option<(u32, Entry)> {
        let mut number = *self.buckets.get(self.bucket(hash))?;
        loop {
            let entry = self.entries.get(number.wrapping_sub(self.oldest) as usize)?;
            if entry.hash == hash {
                return Some((number, *entry));
            }
            number = entry.before;
        }
    }

    fn push(&mut self, mut entry: Entry) {
        if self.entries.len() == self.buckets.len() {
            self.spread((self.buckets.len() * 2).max(FEWEST));
        }
        let (bucket, number) = (self.bucket(entry.hash), self.oldest.wrapping_add(self.entries.len() as u32));
        entry.before = std::mem::replace(&mut self.buckets[bucket], number);
        self.entries.push_back(entry);
    }

    /// Whether the oldest entry is the newest of its name, and its exchange is running.
    fn oldest_runs(&self, is_running: impl Fn(Mark) -> bool) -> bool {
        self.entries
            .front()
            .is_some_and(|entry| self.find(entry.hash).is_some_and(|(number, _)| number == self.oldest) && is_running(entry.mark()))
    }

    /// Takes the oldest entry out; with `again`, puts it in as the newest. Returns whether the entry stays, or was not the
    /// newest of its name.
    fn let_oldest_go(&mut self, again: bool) -> bool {
        let Some(entry) = self.entries.front().copied() else { return true };
        let is_last_word = self.find(entry.hash).is_some_and(|(number, _)| number == self.oldest);
        self.entries.pop_front();
        self.oldest = self.oldest.wrapping_add(1);
        if again {
            self.push(entry);
        }
        again || !is_last_word
    }

    fn shrink(&mut self) {
        if self.buckets.len() > FEWEST && self.entries.len() < self.buckets.len() / 8 {
            let room = (self.entries.len() * 2).next_power_of_two().max(FEWEST);
            self.entries.shrink_to(room);
            self.spread(room);
        }
    }

    /// Puts the entries into this many buckets, the oldest first.
    fn spread(&mut self, buckets: usize) {
        // A number before the oldest leads nowhere.
        self.buckets = vec![self.oldest.wrapping_sub(1); buckets];
        for at in 0..self.entries.len() {
            let bucket = self.bucket(self.entries[at].hash);
            let number = self.oldest.wrapping_add(at as u32);
            self.entries[at].before = std::mem::replace(&mut self.buckets[bucket], number);
        }
    }

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & self.buckets.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(payee: u32, begun: Tick) -> Mark {
        Mark { begun, payee, place: Place { slot: payee, serial: begun as u16 } }
    }

    fn none(_: Mark) -> bool {
        false
    }

    #[test]
    fn a_name_of_one_payee_finds_it_and_one_of_two_finds_nobody() {
        let names = Names::new();
        let hash = names.hash(Kind::RequestId, b"lb-1");
        assert_eq!(names.find(hash), None);
        names.give(hash, mark(1, 10), 0, 0, none);
        assert_eq!(names.find(hash), Some(Meant::One(mark(1, 10))));
        assert_eq!(names.find(names.hash(Kind::Trace, b"lb-1")), None, "another kind of name");
        names.give(hash, mark(1, 11), 0, 0, none);
        assert_eq!(names.find(hash), Some(Meant::Several(mark(1, 11))));
        names.give(hash, mark(2, 12), 0, 0, none);
        assert_eq!(names.find(hash), Some(Meant::Nobody));
        names.give(hash, mark(1, 13), 0, 0, none);
        assert_eq!(names.find(hash), Some(Meant::Nobody), "who was in it stays in it");
        names.give(hash, mark(1, 99), 0, 14, none);
        assert_eq!(names.find(hash), Some(Meant::One(mark(1, 99))), "long after, it is a new name");
    }

    #[test]
    fn an_index_that_is_used_again_is_not_the_same_payee() {
        let names = Names::new();
        let hash = names.hash(Kind::Trace, b"t");
        names.give(hash, mark(1, 10), 0, 0, none);
        names.give(hash, mark(1, 20), 15, 0, none);
        assert_eq!(names.find(hash), Some(Meant::One(mark(1, 20))));
    }

    #[test]
    fn an_entry_that_is_not_the_last_word_on_its_name_goes_without_loss() {
        let names = Names::new();
        let hash = names.hash(Kind::Trace, b"t");
        for at in 0..MOST as u32 + 100 {
            names.give(hash, mark(1, at), 0, 0, |_| true);
        }
        assert_eq!((names.find(hash), names.pressed_out()), (Some(Meant::Several(mark(1, MOST as u32 + 99))), 0));
    }

    proptest! {
        /// Against a table that forgets nothing: every name found is right, and only the oldest are missing.
        #[test]
        fn what_is_found_is_what_was_given_last(gifts in prop::collection::vec((0..60u32, 0..3u32), 0..400), sweeps in 1..100usize) {
            let names = Names::new();
            let mut last = std::collections::HashMap::new();
            for (at, (name, payee)) in gifts.iter().enumerate() {
                let begun = at as Tick;
                let horizon = begun.saturating_sub(150);
                let hash = names.hash(Kind::RequestId, &name.to_le_bytes());
                names.give(hash, mark(*payee, begun), 0, horizon, none);
                let owners: &mut Vec<(u32, Tick)> = last.entry(*name).or_default();
                // A payee that comes after a silence longer than the horizon starts anew.
                if owners.last().is_some_and(|(_, before)| *before < horizon) {
                    owners.clear();
                }
                owners.push((*payee, begun));
                if at % sweeps == 0 {
                    names.sweep(horizon, none);
                }
                for (name, owners) in &last {
                    let (payee, begun) = owners[owners.len() - 1];
                    let expected = match owners[..] {
                        _ if owners.iter().any(|(other, _)| *other != payee) => Meant::Nobody,
                        [_] => Meant::One(mark(payee, begun)),
                        _ => Meant::Several(mark(payee, begun)),
                    };
                    match names.find(names.hash(Kind::RequestId, &name.to_le_bytes())) {
                        Some(found) => prop_assert_eq!(found, expected),
                        None => prop_assert!(begun < horizon),
                    }
                    if name % 7 != at as u32 % 7 {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn the_oldest_name_goes_first_and_a_running_one_stays() {
        let names = Names::new();
        let is_running = |mark: Mark| mark.place.slot == 7;
        let all: Vec<Hashed> =
            (0u32..).map(|at| names.hash(Kind::RequestId, &at.to_le_bytes())).filter(|hash| shard_of(hash.0) == 5).take(MOST + 3).collect();
        let give = |at: usize| names.give(all[at], mark(if at == 1 { 7 } else { 1 }, at as u32), 0, 0, is_running);
        (0..MOST).for_each(give);
        assert!(all[..MOST].iter().all(|hash| names.find(*hash).is_some()));
        (MOST..MOST + 3).for_each(give);
        let gone: Vec<usize> = (0..MOST + 3).filter(|at| names.find(all[*at]).is_none()).collect();
        assert_eq!((gone, names.pressed_out()), (vec![0, 2, 3], 3));
        let (count, bytes) = names.census();
        assert!(count == MOST && bytes == 36 * MOST, "{count} in {bytes}");
        names.sweep(MOST as u32, is_running);
        assert_eq!(names.census().0, 4, "three that are younger and one that runs");
        assert!(names.census().1 < 3_000, "{:?}", names.census());
        assert_eq!([0, 1, 2, 3, MOST].map(|at| names.find(all[at]).is_some()), [false, true, false, false, true]);
    }
}
