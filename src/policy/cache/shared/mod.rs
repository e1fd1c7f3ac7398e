//! The Redis tier behind the memory tier: an answer fetched by one replica serves all, and a purge at one is a purge at all.
//!
//! - A look-up that memory cannot answer asks Redis before the origin ([`Fill::look_shared`]); a value found goes into memory.
//! - An entry stored in memory is written to Redis behind the request, all variants of a key in one value, with a TTL. Writes
//!   in flight hold at most [`WRITING`] bytes; more are dropped and counted.
//! - Purges go through a journal ([`crate::store::redis::journal`]). Every replica purges its memory when it hears of one.
//!   Every value in Redis carries the number of the last purge its writer had heard of: a value purged later is not used,
//!   whichever replica wrote it and however late. Redis is never searched: a purged value goes with its TTL. The room for all
//!   this is fixed ([`known`](super::known)).
//! - A replica that may have missed a purge (a new connection, a gap) reads the journal. If the journal has new records or is
//!   another one, the whole memory tier goes. Until then, and while a purge of our own is not yet in the journal, Redis is not asked.
//! - A message may get lost without a trace (a Cluster carries it from node to node): after a second without a message, the
//!   journal's number is compared with the last one heard.
//! - A purge while Redis is away takes effect here at once and elsewhere when Redis is back.
//!
//! Wall clocks tell how long a value has lain in Redis: those of the replicas have to agree to about a second. After the read,
//! its age grows by the reader's own time.

mod talk;
mod value;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use self::value::Seal;
use super::{
    Cache, Fill, HitInfo, HitKind, LARGEST_SHARE, Lookup, Purge,
    answer::{Mark, answer},
    directives::RequestDirectives,
    entry::Entry,
    fill::head_of,
    freshness::Use,
    key::{self, Key, Keys},
    known::{Fate, Known, Record, Stamp, Subject},
    plan::{Selected, select},
    status::Forward,
    storable,
};
use crate::{
    clock::{Clock, Moment},
    config,
    store::{
        memory::{Budget, Reason, Slot, Stored, Which},
        redis::Redis,
    },
};

/// Bytes of the largest value; a larger one stays with the replica that fetched it. At 1 Gbit/s such a value delays others by 8 ms.
pub const LARGEST: usize = 1 << 20;
/// Bytes of values on their way to Redis.
pub const WRITING: u64 = 16 << 20;
/// Bytes a write costs beside its content.
const WRITE_OVERHEAD: u64 = 4 << 10;
/// Most purges that wait for Redis; more become one purge of everything.
const UNSAID: usize = 1_024;
/// Longest life in Redis, and the life there of an entry that is only good for validation.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);
const VALIDATOR_KEPT: Duration = Duration::from_secs(3_600);
const JOURNAL: &str = "cache:1:journal";
const EVERYTHING: Record = Record::Purged { which: Which::All, soft: false };

/// The tier's counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedStats {
    /// Counts of events, in the order of [`Event::ALL`].
    pub events: [u64; Event::ALL.len()],
    /// Purges that are not yet told to the other replicas.
    pub unsaid: u64,
    /// Whether Redis is asked at all: connected, and no purge can have been missed.
    pub ready: bool,
}

/// An event of the tier; label of `outrigger_cache_store_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Redis had an answer that memory had not.
    Hit,
    /// Redis had no answer.
    Miss,
    /// Redis had an answer that was purged since.
    Purged,
    /// Redis had a value of another format version or under another secret.
    Unreadable,
    /// A value was written.
    Stored,
    /// A value was not written: Redis is away or refused, or too many bytes are being written.
    Dropped,
    /// A value is too large to be shared.
    TooLarge,
}

impl Event {
    /// Every event with its word.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Hit, "hit"),
        (Self::Miss, "miss"),
        (Self::Purged, "purged"),
        (Self::Unreadable, "unreadable"),
        (Self::Stored, "stored"),
        (Self::Dropped, "dropped"),
        (Self::TooLarge, "too_large"),
    ];
}

/// The way to Redis, and the known purges of all replicas.
pub(super) struct Tier {
    redis: Arc<Redis>,
    seal: Seal,
    known: RwLock<Option<Known>>,
    /// The stamp of `known`.
    heard: watch::Sender<Option<Stamp>>,
    records: mpsc::Sender<Record>,
    /// Records given and not yet in the journal.
    unsaid: AtomicU64,
    overflowed: AtomicBool,
    writing: Arc<Budget>,
    events: [AtomicU64; Event::ALL.len()],
}

impl Cache {
    /// As [`Cache::configured`], with a Redis behind it that all replicas share. Without a configured secret, keys are made
    /// with that of Redis as soon as it is known. Must be called on the store's runtime.
    ///
    /// # Errors
    /// The store's client cannot be made.
    pub fn with_redis(store: &config::Store, redis: &Arc<Redis>, clock: Clock) -> Result<Arc<Self>, String> {
        let encrypt = store.redis.as_ref().is_some_and(|redis| redis.encrypt);
        let notices = redis.journal_notices(JOURNAL).map_err(|error| error.to_string())?;
        let (records, waiting) = mpsc::channel(UNSAID);
        let tier = Arc::new(Tier {
            redis: redis.clone(),
            // The secret last: it opens what was sealed before there were keys.
            seal: Seal::new(store.encryption_keys.iter().chain(store.secret.as_ref().filter(|_| encrypt)))?,
            known: RwLock::new(None),
            heard: watch::Sender::new(None),
            records,
            unsaid: AtomicU64::new(0),
            overflowed: AtomicBool::new(false),
            writing: Budget::new(WRITING),
            events: Default::default(),
        });
        let cache = Self::build(store.memory, store.memory / LARGEST_SHARE, key::secret(store), Some(tier.clone()));
        redis.handle().spawn(talk::hear(Arc::downgrade(&cache), Arc::downgrade(redis), notices, clock));
        redis.handle().spawn(talk::speak(Arc::downgrade(&tier), waiting));
        Ok(cache)
    }

    /// Puts the entries found in Redis into memory, unless a purge forbids it; returns whether it did.
    fn admit(&self, keys: &Keys, told: u64, found: &[Arc<Entry>], now: Moment) -> bool {
        let is_current = |entry: &Arc<Entry>| self.told.fate(told, Subject::of(keys, entry)) == Fate::Lives;
        if !found.iter().all(is_current) {
            return false;
        }
        found.iter().for_each(|entry| entry.asked_after(told));
        let number = self.told.number();
        let stored = self.memory.update(keys.entry, now, |old| {
            let mut all: Vec<Arc<Entry>> = old.to_vec();
            for entry in found {
                match all.iter_mut().find(|other| other.variance == entry.variance) {
                    Some(other) if other.stored_at.wall < entry.stored_at.wall => *other = entry.clone(),
                    Some(_) => {}
                    None => all.push(entry.clone()),
                }
            }
            all.sort_by_key(|entry| std::cmp::Reverse(entry.stored_at.wall));
            Some(all)
        });
        if stored.is_ok() && !found.iter().all(is_current) {
            self.memory.remove(&keys.entry, now, Reason::Purged);
            return false;
        }
        self.look_again_at(keys, number, now);
        stored.is_ok()
    }

    /// Obeys a record of another replica, or an earlier one of this replica.
    fn obey(&self, record: &Record, now: Moment) {
        match record {
            Record::Changed(uri) => {
                self.changed_here(*uri, now);
            }
            Record::Purged { which, soft } => {
                self.purge_here(&Purge { which: which.clone(), soft: *soft }, now);
            }
        }
    }
}

impl Fill {
    /// Whether another replica may have what this request needs.
    pub fn may_be_shared(&self) -> bool {
        let asks = !matches!(self.why, Forward::Request | Forward::Bypass | Forward::Method);
        self.cache.tier.is_some() && (self.only_if_cached || (asks && !self.plan.observe && !self.unconditional))
    }

    /// Asks Redis, at most for the store's deadline. Returns a stored answer if Redis has one, else the fill to go forward with.
    pub async fn look_shared(self: Box<Self>, clock: Clock) -> Lookup {
        let cache = self.cache.clone();
        let Some(tier) = &cache.tier else { return self.go_forward() };
        let found = tier.get(&self.keys, clock).await;
        let now = clock.moment();
        if found.is_empty() || !cache.admit(&self.keys, self.told, &found, now) {
            return self.go_forward();
        }
        self.look_again(now)
    }

    fn look_again(mut self: Box<Self>, now: Moment) -> Lookup {
        let cache = self.cache.clone();
        let slot = cache.stored(&self.keys.entry, now);
        let entry = match select(slot.as_deref(), &self.plan, &self.request) {
            Selected::Entry(entry) => entry,
            Selected::None(why) => {
                (self.why, self.selected) = (why, None);
                return self.go_forward();
            }
        };
        let asked = RequestDirectives::of(&self.request);
        let usable = entry.fresh.usable(&asked, entry.is_softly_purged(), now);
        let outcome = match usable {
            Use::Fresh | Use::Stale => HitKind::Hit,
            Use::StaleWhileRevalidate => HitKind::Stale,
            Use::Validate => {
                (self.why, self.selected) = (Forward::Stale, Some(entry));
                return self.go_forward();
            }
        };
        let head = self.method == http::Method::HEAD;
        let info = HitInfo::of(&entry, outcome, now);
        cache.count_hit(self.keys.entry, &entry, &info);
        let response = answer(&entry, &self.request, head, self.plan.paced, Mark::Hit(info), now);
        if outcome == HitKind::Hit {
            if let Some(flight) = self.flight.take() {
                flight.resolve(head_of(&entry, false), &entry.body, entry.trailers.clone());
            }
            return Lookup::Hit(response, info);
        }
        if self.flight.is_none() && !head {
            self.flight = cache.lead(&self.keys, self.plan, || self.born());
        }
        (self.why, self.selected) = (Forward::Stale, Some(entry));
        Lookup::Stale { response, info, revalidate: self.flight.is_some().then_some(self) }
    }

    fn go_forward(self: Box<Self>) -> Lookup {
        match (self.only_if_cached, self.is_revalidation()) {
            (true, _) => Lookup::OnlyIfCached,
            (false, true) => Lookup::Revalidate(self),
            (false, false) => Lookup::Miss(self),
        }
    }
}

impl Tier {
    /// The secret of keys, once Redis or the configuration has told it.
    pub(super) fn secret(&self) -> Option<Arc<[u8; 32]>> {
        self.redis.secret()
    }

    /// The point up to which purges are known. `None`: a purge may have been missed, and no value of Redis can be trusted.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.known.read().as_ref().map(Known::stamp)
    }

    fn hear(&self, number: u64, record: &Record) -> Option<Stamp> {
        let mut known = self.known.write();
        let known = known.as_mut()?;
        known.hear(number, record);
        self.heard.send_replace(Some(known.stamp()));
        Some(known.stamp())
    }

    fn learn(&self, known: Known) {
        let stamp = known.stamp();
        *self.known.write() = Some(known);
        self.heard.send_replace(Some(stamp));
    }

    fn forget(&self) {
        *self.known.write() = None;
        self.heard.send_replace(None);
    }

    /// The entries that Redis has under the key and that are still good; none on any failure.
    async fn get(&self, keys: &Keys, clock: Clock) -> Vec<Arc<Entry>> {
        if !self.ready() {
            return Vec::new();
        }
        let name = self.name(&keys.entry);
        let Ok(value) = self.redis.get(&name).await else { return Vec::new() };
        let Some(value) = value else { return self.note(Event::Miss, Vec::new()) };
        let Some((stamp, entries)) = self.seal.unwrap(&name, &value, clock.moment()) else {
            return self.note(Event::Unreadable, Vec::new());
        };
        if !self.ready() {
            return Vec::new();
        }
        let known = self.known.read();
        let Some(known) = known.as_ref() else { return Vec::new() };
        let alive: Vec<Arc<Entry>> = entries
            .into_iter()
            .filter(|entry| {
                let fate = known.fate(stamp, Subject::of(keys, entry));
                if fate == Fate::Stale {
                    entry.soften();
                }
                fate != Fate::Gone
            })
            .map(Arc::new)
            .collect();
        let event = if alive.is_empty() { Event::Purged } else { Event::Hit };
        self.note(event, alive)
    }

    /// Writes the slot of a key to Redis, behind the request. `stamp` was taken before memory was changed.
    pub(super) fn write(self: &Arc<Self>, key: Key, slot: Option<Arc<Slot<Entry>>>, stamp: Option<Stamp>, now: Moment) {
        let (Some(stamp), true) = (stamp, self.redis.is_up()) else { return self.note(Event::Dropped, ()) };
        let bytes = slot.iter().flat_map(|slot| slot.variants()).map(|entry| entry.len).sum::<u64>() + WRITE_OVERHEAD;
        if bytes > LARGEST as u64 + WRITE_OVERHEAD {
            return self.note(Event::TooLarge, ());
        }
        if !self.writing.reserve(bytes) {
            return self.note(Event::Dropped, ());
        }
        let this = self.clone();
        self.redis.handle().spawn(async move {
            let event = this.write_now(key, slot, stamp, now).await;
            this.writing.release(bytes);
            if let Some(event) = event {
                this.note(event, ());
            }
        });
    }

    async fn write_now(&self, key: Key, slot: Option<Arc<Slot<Entry>>>, stamp: Stamp, now: Moment) -> Option<Event> {
        let name = self.name(&key);
        let worth = |entry: &&Arc<Entry>| !kept(entry, now).is_zero();
        let variants: Vec<&Arc<Entry>> = slot.iter().flat_map(|slot| slot.variants()).filter(worth).collect();
        let Some(longest) = variants.iter().map(|entry| kept(entry, now)).max() else {
            return self.redis.delete(&[name]).await.is_err().then_some(Event::Dropped);
        };
        let Some(value) = self.seal.wrap(&name, stamp, variants.into_iter().map(|entry| &**entry), LARGEST, now) else {
            return Some(Event::TooLarge);
        };
        match self.redis.set(&name, value.into(), longest).await {
            Ok(()) => Some(Event::Stored),
            Err(_) => Some(Event::Dropped),
        }
    }

    /// Queues `record` for all replicas, this one included.
    pub(super) fn say(self: &Arc<Self>, record: Record) {
        if let Record::Changed(key) | Record::Purged { which: Which::Key(key), soft: false } = &record
            && self.ready()
        {
            // A value that is surely of no use any more need not take up room until its TTL.
            self.write(*key, None, self.stamp(), Moment::at(std::time::UNIX_EPOCH));
        }
        self.unsaid.fetch_add(1, Ordering::AcqRel);
        if self.records.try_send(record).is_err() {
            self.overflowed.store(true, Ordering::Release);
            self.unsaid.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether Redis may be asked.
    fn ready(&self) -> bool {
        self.redis.is_up() && self.unsaid.load(Ordering::Acquire) == 0 && self.known.read().is_some()
    }

    pub(super) fn stats(&self) -> SharedStats {
        let events = std::array::from_fn(|at| self.events[at].load(Ordering::Relaxed));
        SharedStats { events, unsaid: self.unsaid.load(Ordering::Relaxed), ready: self.ready() }
    }

    fn name(&self, key: &Key) -> String {
        self.redis.key(&format!("cache:1:{key}"))
    }

    fn note<T>(&self, event: Event, result: T) -> T {
        self.events[event as usize].fetch_add(1, Ordering::Relaxed);
        result
    }
}

/// How long an entry is worth keeping in Redis.
fn kept(entry: &Entry, now: Moment) -> Duration {
    let fresh = &entry.fresh;
    let stale = fresh.stale_while_revalidate.max(fresh.stale_if_error);
    let validator = if storable::has_validator(&entry.headers) { VALIDATOR_KEPT } else { Duration::ZERO };
    let staleness = fresh.staleness(now);
    (fresh.left(now) + stale.max(validator).saturating_sub(staleness)).min(LONGEST)
}

impl fmt::Debug for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tier").field("redis", &self.redis).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
