//! Requests in flight, counted by key. A place is held until the last byte of the answer, and is given back by `Drop`.
//!
//! The counts need no bound of their own: a key is held only while one of its requests is in flight. Replicas do not share the counts: a
//! replica that dies could give nothing back.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{
    Asked, Inner, Lease,
    table::{Answer, Item, Key, Meter},
};

const SHARDS: usize = 16;

/// The counts of all keys.
#[derive(Debug, Default)]
pub(super) struct Flights([Mutex<HashMap<Key, u64>>; SHARDS]);

/// A request's place. Dropping it lets the next request of the key in.
#[derive(Debug)]
pub(super) struct Place {
    inner: Arc<Inner>,
    key: Key,
}

impl Flights {
    /// Counts one more request of `key`, if there are fewer than `limit`. Gives whether it was counted, and the count then.
    fn enter(&self, key: Key, limit: u64) -> (bool, u64) {
        let mut counts = self.shard(key).lock();
        let count = counts.entry(key).or_default();
        let room = *count < limit;
        *count += u64::from(room);
        let now = *count;
        if now == 0 {
            counts.remove(&key);
        }
        (room, now)
    }

    fn leave(&self, key: Key) {
        let mut counts = self.shard(key).lock();
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }

    /// The requests of a key that are in flight.
    pub(super) fn count(&self, key: Key) -> u64 {
        self.shard(key).lock().get(&key).copied().unwrap_or_default()
    }

    fn shard(&self, key: Key) -> &Mutex<HashMap<Key, u64>> {
        &self.0[key[0] as usize % SHARDS]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.flights.leave(self.key);
        self.inner.lines.wake_first(self.key);
    }
}

/// Takes a place for the request under each limit on requests in flight; `lease` holds the places. `false`: a limit has none left, and
/// `items` say which.
pub(super) fn enter(inner: &Arc<Inner>, rules: &[Asked<'_>], items: &mut [Item<'_>], lease: &mut Lease) -> bool {
    for (at, (asked, item)) in rules.iter().zip(items.iter_mut()).enumerate() {
        if !matches!(item.meter, Meter::Flight) {
            continue;
        }
        let (room, used) = inner.flights.enter(item.key, item.limit);
        item.answer = Answer { refused: !room, used, ..Answer::default() };
        let held = &mut lease.held_mut()[at];
        held.used = used;
        held.observed = !room;
        if room {
            held.place = Some(Place { inner: asked.rule.inner.clone(), key: item.key });
        } else if !item.observe {
            return false;
        }
    }
    true
}
