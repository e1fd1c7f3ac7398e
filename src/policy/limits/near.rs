//! Keys that are near their limit: half of it is used, or more.
//!
//! A counter knows the hash of its key and no name. A key that passes half of its limit is put down here, and its next request says its
//! name: only then a name is made. While no name is wanted, a request pays one load of an atomic number for each of its limits.
//! With Redis the use is the part that this process has seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Asked, Limits,
    outlook::{Budget, Watched},
    rule::Rule,
    table::{Item, Key, Meter},
};
use crate::clock::Instant;

/// Most keys of a limit that are put down. The oldest makes room.
const KEPT: usize = 64;
/// Most keys of a limit that are told.
const TOLD: usize = 8;

/// The keys of a limit that are near.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// Keys whose names are wanted.
    nameless: AtomicUsize,
    keys: Mutex<Vec<Watched>>,
}

impl Near {
    fn change(&self, change: impl FnOnce(&mut Vec<Watched>)) {
        let mut keys = self.keys.lock();
        change(&mut keys);
        self.nameless.store(keys.iter().filter(|known| known.who.is_none()).count(), Relaxed);
    }

    /// Puts a key down.
    fn add(&self, watched: Watched) {
        self.change(|keys| match keys.iter_mut().find(|known| known.key == watched.key) {
            Some(known) => *known = Watched { who: watched.who.or(known.who.take()), ..watched },
            None => {
                if keys.len() >= KEPT {
                    keys.remove(0);
                }
                keys.push(watched);
            }
        });
    }

    /// Whether the name of a key is wanted.
    pub(super) fn wants(&self, key: Key) -> bool {
        self.nameless.load(Relaxed) > 0 && self.keys.lock().iter().any(|known| known.key == key && known.who.is_none())
    }

    /// The key of this name, if it is put down.
    pub(super) fn find(&self, who: &str) -> Option<Key> {
        self.keys.lock().iter().find(|known| known.who.as_deref() == Some(who)).map(|known| known.key)
    }

    /// Takes the name of a key.
    pub(super) fn name(&self, key: Key, who: &Arc<str>) {
        self.change(|keys| keys.iter_mut().filter(|known| known.key == key).for_each(|known| known.who = Some(who.clone())));
    }
}

/// Whether `used` is near, of an amount that may be used at once.
fn is_near(used: u64, capacity: u64) -> bool {
    used > 0 && used.saturating_mul(2) >= capacity
}

/// Puts a key down if its use has passed half between `before` and `used`.
pub(super) fn watch(rule: &Rule, (key, level): (Key, u16), who: Option<&Arc<str>>, before: u64, used: u64) {
    let capacity = rule.capacity(level, key);
    if !rule.parts.is_empty() && is_near(used, capacity) && !is_near(before, capacity) {
        rule.tally.near.add(Watched { key, level, who: who.cloned() });
    }
}

/// The same for a request that was admitted.
pub(super) fn admitted(asked: &Asked<'_>, item: &Item<'_>) {
    let used = item.answer.used;
    // A place in flight is taken beside the table: the table charges nothing.
    let charge = if matches!(item.meter, Meter::Flight) { 1 } else { item.charge };
    watch(asked.rule, (item.key, asked.keys.level), asked.keys.who.as_ref(), used.saturating_sub(charge), used);
}

impl Rule {
    /// The use of a key now, and the time until its limit is spent; `None`: at the rate of late the limit is not spent in its window.
    fn standing(&self, now: u64, key: Key, capacity: u64) -> (u64, Option<u64>) {
        match &self.meter {
            Meter::Flight => (self.inner.flights.count(key), None),
            Meter::Pace(pace) => (self.inner.table.paced(now, key, pace), None),
            Meter::Window(_) => self.inner.table.outlook(now, key, &self.meter, capacity),
        }
    }

    /// The keys that are near, the nearest first.
    fn near(&self, now: u64) -> Vec<Budget> {
        let keys = match self.parts.is_empty() {
            true => vec![self.only()],
            false => self.tally.near.keys.lock().clone(),
        };
        let of = |watched: Watched| {
            let amount = self.capacity(watched.level, watched.key);
            let (used, spent_in) = self.standing(now, watched.key, amount);
            let hidden = || Arc::from(format!("key #{:08x}", watched.key[0] >> 32));
            is_near(used, amount).then(|| Budget {
                door: self.door,
                limit: self.name.clone(),
                who: if self.parts.is_empty() { None } else { Some(watched.who.unwrap_or_else(hidden)) },
                unit: self.unit,
                used,
                amount,
                window: if matches!(self.meter, Meter::Window(_)) { self.window } else { Duration::ZERO },
                spent_in: spent_in.map(Duration::from_micros),
            })
        };
        let mut near: Vec<Budget> = keys.into_iter().filter_map(of).collect();
        Budget::sort(&mut near);
        near.truncate(TOLD);
        near
    }

    /// Forgets keys that are near no longer.
    fn tidy(&self, now: u64) {
        let near = |known: &Watched| {
            let capacity = self.capacity(known.level, known.key);
            is_near(self.standing(now, known.key, capacity).0, capacity)
        };
        self.tally.near.change(|keys| keys.retain(near));
    }
}

impl Limits {
    /// The keys that are near, of every limit at most `TOLD`, those with the largest share used first. A window of zero: the amount
    /// is one that may be used at once.
    pub fn near(&self, now: Instant) -> Vec<Budget> {
        let now = self.inner.micros(now);
        let mut near: Vec<Budget> = self.rules().iter().flat_map(|rule| rule.near(now)).collect();
        Budget::sort(&mut near);
        near
    }

    /// Forgets the keys that are near no longer.
    pub(super) fn tidy(&self, now: u64) {
        self.rules().iter().for_each(|rule| rule.tidy(now));
    }
}
