//! Purges. A purge counts at once for every later request, however many entries it is about.
//!
//! A purge of few entries takes them out in the call. A purge of many is *open* at first: a look-up passes over its entries.
//! [`Cache::finish_purges`] takes the entries out in slices, on a thread that may take its time, and closes the purge. An entry
//! carries the number of records told before its request: an open purge leaves later entries alone.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::RwLock;
use tokio::sync::Notify;

use super::{
    Cache, Purge,
    entry::Entry,
    key::{self, Key, Keys},
    known::{Fate, Record, Subject},
};
use crate::{
    clock::Moment,
    store::memory::{Reason, Slot, Stored, Which},
};

/// Most entries that a purge takes out in the call: some microseconds on a worker.
pub const FEW: usize = 64;
/// Most open purges: every look-up compares with each. More become one purge of everything.
const MOST_OPEN: usize = 256;

/// Purges whose entries are still being taken out.
#[derive(Debug, Default)]
pub(super) struct Open {
    purges: RwLock<Vec<OpenPurge>>,
    /// How many, for a look without the lock.
    count: AtomicUsize,
    wanted: Notify,
}

/// A purge of the entries requested before record `number` was told.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OpenPurge {
    number: u64,
    purge: Purge,
    /// Whether a thread takes its entries out now.
    taken: bool,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Opens `purge`: look-ups pass over its entries from now on.
    fn add(&self, number: u64, purge: Purge, taken: bool) {
        let mut purges = self.purges.write();
        if let Some(waits) = purges.iter_mut().find(|waits| !taken && !waits.taken && waits.purge == purge) {
            waits.number = waits.number.max(number);
            return;
        }
        let too_many = purges.len() >= MOST_OPEN;
        if too_many {
            purges.retain(|open| open.taken);
            purges.push(OpenPurge { number, purge: Purge { which: Which::All, soft: false }, taken: false });
        }
        if taken || !too_many {
            purges.push(OpenPurge { number, purge, taken });
        }
        self.count.store(purges.len(), Ordering::Release);
        drop(purges);
        if too_many || !taken {
            self.wanted.notify_one();
        }
    }

    /// Takes a purge that no thread works at. A purge told by Redis waits for the end of an equal one under way here: the
    /// caller of that one is told how many entries it was about.
    fn take(&self) -> Option<OpenPurge> {
        let mut purges = self.purges.write();
        let is_under_way = |waits: &OpenPurge| purges.iter().any(|open| open.taken && open.purge == waits.purge);
        let at = purges.iter().position(|open| !open.taken && !is_under_way(open))?;
        purges[at].taken = true;
        Some(purges[at].clone())
    }

    fn close(&self, done: &OpenPurge) {
        let mut purges = self.purges.write();
        purges.retain(|open| open != done);
        self.count.store(purges.len(), Ordering::Release);
        if purges.iter().any(|open| !open.taken) {
            self.wanted.notify_one();
        }
    }

    fn fate(&self, entry: &Entry) -> Fate {
        let mut fate = Fate::Lives;
        for open in self.purges.read().iter().filter(|open| entry.told() < open.number) {
            let is_about = match &open.purge.which {
                Which::Tag(tag) => entry.tags.contains(tag),
                Which::Route(route) => entry.route == *route,
                Which::Prefix(prefix) => entry.path.starts_with(prefix.as_str()),
                Which::All => true,
                // A purge of a key takes its entry out in the call.
                Which::Key(_) => false,
            };
            match (is_about, open.purge.soft) {
                (false, _) => {}
                (true, false) => return Fate::Gone,
                (true, true) => fate = Fate::Stale,
            }
        }
        fate
    }
}

impl Cache {
    /// Removes the matching entries or marks them stale; returns the number of variants in memory. A fetch under way is neither
    /// stored nor joined from now on. With Redis all replicas do the same, as soon as they hear of it. The call may take the
    /// time that all entries need: a worker uses [`Self::purge_soon`].
    pub fn purge(&self, purge: &Purge, now: Moment) -> usize {
        let number = self.begin(purge);
        if matches!(purge.which, Which::Key(_)) {
            self.say_purged(purge);
            return self.memory.purge(&purge.which, purge.soft, now, |_| true, &mut || {});
        }
        let open = OpenPurge { number, purge: purge.clone(), taken: true };
        self.open.add(number, purge.clone(), true);
        self.say_purged(purge);
        self.finish(&open, now, &mut std::thread::yield_now)
    }

    /// Counts as [`Self::purge`] for every request that comes from now on, but takes more than [`FEW`] entries out later;
    /// returns the number of variants taken out in the call.
    pub fn purge_soon(&self, purge: &Purge, now: Moment) -> usize {
        let purged = self.purge_here(purge, now);
        self.say_purged(purge);
        purged
    }

    fn say_purged(&self, purge: &Purge) {
        if let Some(tier) = &self.tier {
            tier.say(Record::Purged { which: purge.which.clone(), soft: purge.soft });
        }
    }

    /// Tells a purge and returns its number: no earlier fetch is stored or joined from now on.
    fn begin(&self, purge: &Purge) -> u64 {
        let number = self.told.tell(&Record::Purged { which: purge.which.clone(), soft: purge.soft });
        self.observed.clear();
        number
    }

    /// [`Self::purge_soon`] in this replica alone.
    pub(super) fn purge_here(&self, purge: &Purge, now: Moment) -> usize {
        let number = self.begin(purge);
        match &purge.which {
            Which::Key(_) => self.memory.purge(&purge.which, purge.soft, now, |_| true, &mut || {}),
            Which::Tag(tag) => self.purge_tag(number, tag, purge.soft, now),
            Which::Route(_) | Which::Prefix(_) | Which::All => {
                self.open.add(number, purge.clone(), false);
                0
            }
        }
    }

    fn purge_tag(&self, number: u64, tag: &Arc<str>, soft: bool, now: Moment) -> usize {
        self.memory.purge_few(tag, FEW, soft, now, |_| true).unwrap_or_else(|| {
            self.open.add(number, Purge { which: Which::Tag(tag.clone()), soft }, false);
            0
        })
    }

    /// Purges the entries under `uri`, which an unsafe method has changed, in this replica alone.
    pub(super) fn changed_here(&self, uri: Key, now: Moment) -> usize {
        let number = self.told.tell(&Record::Changed(uri));
        self.observed.remove(&uri);
        let tag = Arc::from(key::uri_tag(uri));
        self.memory.remove(&uri, now, Reason::Replaced) + self.purge_tag(number, &tag, false, now)
    }

    /// Returns when a purge waits for [`Self::finish_purges`].
    pub async fn until_purges_wait(&self) {
        self.open.wanted.notified().await;
    }

    /// Takes out the entries of open purges; returns the number of variants. Not for a worker.
    pub fn finish_purges(&self, now: Moment) -> usize {
        self.finish_purges_in_slices(now, &mut std::thread::yield_now)
    }

    /// [`Self::finish_purges`], calling `between` after each slice.
    pub(super) fn finish_purges_in_slices(&self, now: Moment, between: &mut dyn FnMut()) -> usize {
        std::iter::from_fn(|| self.open.take()).map(|open| self.finish(&open, now, between)).sum()
    }

    fn finish(&self, open: &OpenPurge, now: Moment, between: &mut dyn FnMut()) -> usize {
        let OpenPurge { number, purge: Purge { which, soft }, .. } = open;
        let is_meant = |entry: &Entry| entry.told() < *number;
        let count = self.memory.purge(which, *soft, now, is_meant, between);
        self.open.close(open);
        count
    }

    /// Removes entries that can answer no request any more; returns the number of variants. Call every few seconds, not on a worker.
    pub fn sweep(&self, now: Moment) -> usize {
        self.memory.sweep(now, &mut std::thread::yield_now)
    }

    /// The variants under `key`, without those of an open purge.
    pub(super) fn stored(&self, key: &Key, now: Moment) -> Option<Arc<Slot<Entry>>> {
        let slot = self.memory.get(key)?;
        if self.open.is_empty() {
            return Some(slot);
        }
        let mut gone = false;
        for entry in slot.variants() {
            match self.open.fate(entry) {
                Fate::Lives => {}
                Fate::Stale => entry.soften(),
                Fate::Gone => gone = true,
            }
        }
        if !gone {
            return Some(slot);
        }
        self.memory.purge(&Which::Key(*key), false, now, |entry| self.open.fate(entry) == Fate::Gone, &mut || {});
        self.memory.get(key)
    }

    /// Checks variants of `keys` that were stored again: a record told since `number` may be about them and have missed them.
    pub(super) fn look_again_at(&self, keys: &Keys, number: u64, now: Moment) {
        if self.told.number() != number {
            let is_gone = |entry: &Entry| self.told.fate(entry.told(), Subject::of(keys, entry)) == Fate::Gone;
            self.memory.purge(&Which::Key(keys.entry), false, now, is_gone, &mut || {});
        }
    }
}

#[cfg(test)]
#[path = "purging_tests.rs"]
mod tests;
