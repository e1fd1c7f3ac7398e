//! The ring itself: many short lists, one for each of a few threads, that are bounded together.
//!
//! A thread that keeps a failure locks its own list alone, for a push. The oldest failure of all lists makes room. A reader copies
//! [`STRETCH`] references at a time under a list's lock, and looks at them after the lock is given back.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
};

use parking_lot::Mutex;

use super::Entry;
use crate::config::FailureBounds;

/// Lists. Threads beyond this number share them.
const LISTS: usize = 16;
/// References that a reader copies from a list at once.
const STRETCH: usize = 256;
/// In the place of a list's oldest number: the list is empty.
const NONE: u64 = u64::MAX;

/// A failure and its number. Numbers rise in the order in which the exchanges ended.
pub(super) type Numbered = (u64, Arc<Entry>);

#[derive(Debug)]
struct List {
    /// In the order of their numbers.
    entries: Mutex<VecDeque<Numbered>>,
    /// The first entry's number, or [`NONE`]. Written under the lock.
    oldest: AtomicU64,
}

impl List {
    fn note_oldest(&self, entries: &VecDeque<Numbered>) {
        self.oldest.store(entries.front().map_or(NONE, |(number, _)| *number), Release);
    }

    /// Takes the oldest entry.
    fn pop(&self) -> Option<Numbered> {
        let mut entries = self.entries.lock();
        let oldest = entries.pop_front();
        self.note_oldest(&entries);
        oldest
    }
}

/// The lists.
#[derive(Debug)]
pub(super) struct Ring {
    bounds: FailureBounds,
    lists: [List; LISTS],
    last: AtomicU64,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    displaced: AtomicU64,
}

impl Ring {
    pub(super) fn new(bounds: FailureBounds) -> Self {
        let lists = [(); LISTS].map(|()| List { entries: Mutex::default(), oldest: AtomicU64::new(NONE) });
        let (last, entries, bytes, displaced) = Default::default();
        Self { bounds, lists, last, entries, bytes, displaced }
    }

    /// Keeps a failure, and lets the oldest go until the bounds hold.
    pub(super) fn push(&self, entry: Arc<Entry>) {
        let bytes = entry.bytes();
        let list = &self.lists[own_list()];
        // Before the push: whoever takes the entry away subtracts what was added.
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        {
            let mut entries = list.entries.lock();
            // Under the lock: the list stays in order, and a reader that knows the number finds the entry.
            let number = self.last.fetch_add(1, Release) + 1;
            entries.push_back((number, entry));
            list.note_oldest(&entries);
        }
        while self.entries.load(Relaxed) > self.bounds.keep || self.bytes.load(Relaxed) > self.bounds.bytes {
            // Freed here, after the lock.
            let oldest = self.lists.iter().min_by_key(|list| list.oldest.load(Acquire)).and_then(List::pop);
            let Some((_, gone)) = oldest else { break };
            self.less(&gone);
            self.displaced.fetch_add(1, Relaxed);
        }
    }

    fn less(&self, gone: &Entry) {
        self.entries.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(gone.bytes(), Relaxed);
    }

    /// Takes away the failures that `is_meant` means. Gives their number.
    pub(super) fn remove(&self, is_meant: impl Fn(&Entry) -> bool) -> usize {
        let mut gone = Vec::new();
        for list in &self.lists {
            let mut entries = list.entries.lock();
            let all = std::mem::take(&mut *entries);
            let (meant, kept): (VecDeque<_>, VecDeque<_>) = all.into_iter().partition(|(_, entry)| is_meant(entry));
            *entries = kept;
            list.note_oldest(&entries);
            gone.extend(meant);
        }
        gone.iter().for_each(|(_, entry)| self.less(entry));
        gone.len()
    }

    /// Failures that are kept, and their bytes.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.entries.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// Failures that newer ones have displaced.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced.load(Relaxed)
    }

    /// The number of the newest failure. A reader that asks from here on misses none.
    pub(super) fn newest(&self) -> u64 {
        self.last.load(Acquire)
    }

    /// The oldest failure.
    pub(super) fn oldest(&self) -> Option<Arc<Entry>> {
        let fronts = self.lists.iter().filter_map(|list| list.entries.lock().front().cloned());
        fronts.min_by_key(|(number, _)| *number).map(|(_, entry)| entry)
    }

    /// The failures below a number, the newest first.
    pub(super) fn backwards(&self, below: u64) -> Backwards<'_> {
        Backwards { ring: self, below, ready: Vec::new() }
    }
}

/// A reader of the lists. What comes or goes meanwhile may be missing.
pub(super) struct Backwards<'a> {
    ring: &'a Ring,
    /// Every entry from here on was given, or is in `ready`.
    below: u64,
    /// The next ones, the newest last.
    ready: Vec<Numbered>,
}

impl Backwards<'_> {
    /// Copies a stretch of each list. Of what was copied, those are ready that no list has a newer one before.
    fn copy(&mut self) {
        let mut floor = 0;
        for list in &self.ring.lists {
            let entries = list.entries.lock();
            let end = entries.partition_point(|(number, _)| *number < self.below);
            let begin = end.saturating_sub(STRETCH);
            self.ready.extend(entries.range(begin..end).cloned());
            if begin > 0 && begin < end {
                floor = floor.max(entries[begin].0);
            }
        }
        self.ready.retain(|(number, _)| *number >= floor);
        self.ready.sort_unstable_by_key(|(number, _)| *number);
        self.below = floor;
    }
}

impl Iterator for Backwards<'_> {
    type Item = Numbered;

    fn next(&mut self) -> Option<Numbered> {
        if self.ready.is_empty() && self.below > 0 {
            self.copy();
        }
        self.ready.pop()
    }
}

/// The list of this thread.
fn own_list() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = THREADS.fetch_add(1, Relaxed) % LISTS;
    }
    OWN.with(|own| *own)
}
