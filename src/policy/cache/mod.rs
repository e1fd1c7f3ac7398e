//! The response cache: RFC 9111 for both doors, and recorded answers of model calls.
//!
//! ```text
//! look_up -> Hit            answer from the store
//!         -> Stale          answer, and refresh in the background
//!         -> Revalidate     ask the origin with our validators       \
//!         -> Miss           ask the origin                            > a Fill: the only thing that can store
//!         -> Follower       wait for somebody else's fetch           /
//!         -> Bypass, OnlyIfCached
//! ```
//!
//! The rules are pure functions over fields and times ([`directives`], [`freshness`], [`storable`], [`vary`], [`validate`],
//! [`range`], [`invalidate`]); this file only asks them in order. Three choices are deliberate. A response with `Set-Cookie` is
//! stored if its origin gave it explicit freshness (section 7.3 asks for nothing else). Partial responses are not stored.
//! `Pragma` is ignored (deprecated by section 5.4).
//!
//! # The parts of a key
//!
//! A key is 128 bits of BLAKE3, keyed with the store's secret, over these parts, each with its name and length
//! ([`Cache::explain`] lists them; long and secret values appear as hashes):
//!
//! | part | of | value |
//! |---|---|---|
//! | class | all | `read` (GET and HEAD share), `post` or `model` |
//! | scheme, host | all | as the client meant; the default port is left out |
//! | path | all | path and query as sent; of a model call without credentials |
//! | key | all | each part of the policy's `key:` |
//! | body | POST | each part that `body:` declares, or that a GraphQL request has |
//! | provider, operation | model calls | |
//! | header, value | model calls | version, beta, organisation and project fields; streamed or not; gzip or not |
//! | tenant | model calls | the credential the app sent, with `per: caller` the caller too; empty with `share` |
//! | body | model calls | the canonical JSON of the body, without members that cannot change the answer |
//!
//! One key holds the variants that `Vary` names. An unsafe method invalidates by the key of the URI alone, whatever other parts
//! the key of the entry has.

mod answer;
pub mod carried;
pub mod codec;
pub mod date;
pub mod directives;
pub mod entry;
mod exact;
mod expiring;
pub mod fill;
pub mod flight;
pub mod freshness;
pub mod graphql;
pub mod head;
mod hit;
pub mod invalidate;
pub mod key;
mod known;
mod lookup;
pub mod plan;
mod purging;
mod query;
pub mod range;
pub mod recorder;
mod shared;
mod stats;
pub mod status;
pub mod storable;
pub mod top;
pub mod validate;
pub mod vary;

use std::{fmt, sync::Arc, time::Duration};

use http::{Method, StatusCode};

use self::{
    answer::{Mark, answer},
    directives::RequestDirectives,
    entry::Entry,
    expiring::Expiring,
    flight::{Born, FlightWriter, Flights, Joined},
    freshness::Use,
    key::{Key, KeyPart, Keys},
    known::{Fate, Record, Subject, Told},
    plan::{Home, Plan, Selected, bypasses, select},
    shared::Tier,
    stats::Counts,
    status::Forward,
};
pub use self::{
    fill::{Decision, Fill, Follower, Passed},
    hit::{HitInfo, HitKind},
    lookup::Lookup,
    purging::FEW,
    query::{BodyPart, CacheQuery, ModelKey},
    recorder::{Recorder, Worth},
    shared::{Event, SharedStats},
    stats::{Purge, Stats},
};
use crate::{
    body::Body,
    clock::Moment,
    config,
    http1::{Fields, Id},
    message::Response,
    store::memory::{Memory, Stored},
};

/// How long requests for a key do not wait for each other, after an answer that was not for sharing.
pub const NOT_SHARED_FOR: Duration = Duration::from_secs(10);
const OBSERVED: usize = 65_536;
const NOT_SHARED: usize = 16_384;

/// The cache of the process, shared by all workers.
pub struct Cache {
    memory: Memory<Key, Entry>,
    flights: Arc<Flights>,
    secret: [u8; 32],
    /// Redis behind the memory.
    tier: Option<Arc<Tier>>,
    observed: Expiring,
    not_shared: Expiring,
    /// The changes and purges of this process: an earlier fetch is neither stored nor joined.
    told: Told,
    /// The operations of persisted GraphQL queries.
    persisted: graphql::Persisted,
    /// The keys that save most.
    top: top::Top,
    counts: Counts,
    /// The purges whose entries are still in memory.
    open: purging::Open,
}

/// The largest stored body is the memory tier divided by this.
const LARGEST_SHARE: u64 = 8;

impl Cache {
    /// The cache as it is configured, in memory alone.
    pub fn configured(store: &config::Store) -> Arc<Self> {
        Self::new(store.memory, store.memory / LARGEST_SHARE, key::secret(store))
    }

    /// A cache of `budget` bytes in all, whose largest storable body is `largest` bytes, with keys under `secret`.
    pub fn new(budget: u64, largest: u64, secret: [u8; 32]) -> Arc<Self> {
        Self::build(budget, largest, secret, None)
    }

    fn build(budget: u64, largest: u64, secret: [u8; 32], tier: Option<Arc<Tier>>) -> Arc<Self> {
        let memory = Memory::new(budget, largest);
        Arc::new(Self {
            flights: Flights::new(memory.in_flight().clone()),
            memory,
            secret,
            tier,
            observed: Expiring::new(OBSERVED),
            not_shared: Expiring::new(NOT_SHARED),
            told: Told::default(),
            persisted: graphql::Persisted::default(),
            top: top::Top::default(),
            counts: Counts::default(),
            open: purging::Open::default(),
        })
    }

    /// Looks a request up: gives its answer, or the way to get one.
    pub fn look_up(self: &Arc<Self>, policy: &config::Cache, query: CacheQuery<'_>, now: Moment) -> Lookup {
        let asked = RequestDirectives::of(query.headers);
        if let Some(reason) = bypasses(policy, &query, &asked) {
            return Lookup::Bypass(reason);
        }
        let keys = key::keys(&self.secret(), &query);
        let plan = Plan::of(policy, &query, &asked);
        if plan.observe {
            let observed_hit = !asked.no_cache && self.observed.contains(&keys.entry, now);
            let mut fill = self.fill(policy, plan, keys, &query, Forward::Bypass, now);
            fill.observed_hit = observed_hit;
            return Lookup::Miss(Box::new(fill));
        }
        let slot = self.stored(&keys.entry, now);
        let (why, selected) = match select(slot.as_deref(), &plan, query.headers) {
            Selected::None(why) => (why, None),
            Selected::Entry(entry) => match entry.fresh.usable(&asked, entry.is_softly_purged(), now) {
                Use::Fresh | Use::Stale => {
                    let (response, info) = self.serve(keys.entry, &entry, HitKind::Hit, plan, &query, now);
                    return Lookup::Hit(response, info);
                }
                Use::StaleWhileRevalidate => {
                    let (response, info) = self.serve(keys.entry, &entry, HitKind::Stale, plan, &query, now);
                    // HEAD cannot fetch the body anew; the next GET does.
                    let born = || Born { told: self.told.number(), home: Arc::new(Home::of(policy, &query)) };
                    let writer = if query.method == Method::HEAD { None } else { self.lead(&keys, plan, born) };
                    let revalidate = writer.map(|writer| {
                        let mut fill = self.fill(policy, plan, keys, &query, Forward::Stale, now);
                        fill.selected = Some(entry);
                        fill.flight = Some(writer);
                        Box::new(fill)
                    });
                    return Lookup::Stale { response, info, revalidate };
                }
                Use::Validate => {
                    let fresh = entry.fresh.is_fresh(now) && !entry.fresh.no_cache && !entry.is_softly_purged();
                    (if fresh { Forward::Request } else { Forward::Stale }, Some(entry))
                }
            },
        };
        if asked.only_if_cached && self.tier.is_none() {
            return Lookup::OnlyIfCached;
        }
        let mut fill = self.fill(policy, plan, keys, &query, why, now);
        fill.selected = selected;
        if asked.only_if_cached {
            // Another replica may have the answer; see `Fill::look_shared`.
            fill.only_if_cached = true;
            return Lookup::Miss(Box::new(fill));
        }
        self.take_off(fill, &asked, now).unwrap_or_else(|| self.look_up(policy, query, now))
    }

    /// Removes the entries that a successful unsafe method invalidates; returns the number of variants.
    pub fn invalidate(&self, query: CacheQuery<'_>, status: StatusCode, response: &Fields, now: Moment) -> usize {
        if !invalidate::invalidates(query.method, status) {
            return 0;
        }
        let targets = invalidate::targets(query.host, query.path_and_query, response);
        let remove = |path: &String| {
            let uri = key::uri_key(&self.secret(), &query, path);
            let removed = self.changed_here(uri, now);
            if let Some(tier) = &self.tier {
                tier.say(Record::Changed(uri));
            }
            removed
        };
        targets.iter().map(remove).sum()
    }

    /// The key of a request and its parts, for people.
    pub fn explain(&self, query: CacheQuery<'_>) -> (Key, Vec<KeyPart>) {
        key::explain(&self.secret(), &query)
    }

    /// The known persisted GraphQL queries.
    pub fn persisted(&self) -> &graphql::Persisted {
        &self.persisted
    }

    /// A key for `purpose`, made from the store's secret: the same for the same `owner` in every process that shares the secret.
    pub fn key_for(&self, purpose: &str, owner: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret());
        *hasher.update(purpose.as_bytes()).update(&[0]).update(owner).finalize().as_bytes()
    }

    /// The store's secret where replicas share one.
    fn secret(&self) -> [u8; 32] {
        self.tier.as_ref().and_then(|tier| tier.secret()).map_or(self.secret, |shared| *shared)
    }

    /// The cache's contents and its counts since the start.
    pub fn stats(&self) -> Stats {
        let (saved_tokens, saved_nano_usd) = self.counts.all_saved();
        Stats {
            memory: self.memory.stats(),
            flights: self.flights.len(),
            observed_keys: self.observed.len(),
            answers: self.counts.answers(),
            saved_tokens,
            saved_nano_usd,
            shared: self.tier.as_ref().map(|tier| tier.stats()),
        }
    }

    fn serve(
        &self,
        key: Key,
        entry: &Arc<Entry>,
        outcome: HitKind,
        plan: Plan,
        query: &CacheQuery<'_>,
        now: Moment,
    ) -> (Response<Body>, HitInfo) {
        let info = HitInfo::of(entry, outcome, now);
        self.count_hit(key, entry, &info);
        (answer(entry, query.headers, query.method == Method::HEAD, plan.paced, Mark::Hit(info), now), info)
    }

    /// Begins a fetch, joins one, or sends the request alone if its answer cannot be shared. `None`: look up again.
    fn take_off(self: &Arc<Self>, mut fill: Fill, asked: &RequestDirectives, now: Moment) -> Option<Lookup> {
        const OF_ONE: [Id; 5] = [Id::Range, Id::IfNoneMatch, Id::IfModifiedSince, Id::IfMatch, Id::IfUnmodifiedSince];
        let conditional = OF_ONE.iter().any(|name| fill.request.has(name));
        let alone = fill.method == Method::HEAD
            || asked.no_cache
            || asked.max_age.is_some()
            || asked.min_fresh.is_some()
            || (conditional && !fill.plan.model && !fill.is_revalidation())
            // Each request needs its own validation.
            || fill.selected.as_ref().is_some_and(|entry| entry.fresh.no_cache)
            || self.not_shared.contains(&fill.keys.entry, now);
        if !alone {
            let may_join = |born: &Born| self.may_join(&fill.keys, fill.plan, born);
            match self.flights.join(fill.keys.entry, fill.plan.max_body, may_join, || fill.born()) {
                Joined::Follower(reader) => return Some(Lookup::Join(Box::new(Follower { reader, fill }))),
                Joined::Leader(writer) => {
                    // A flight may have landed between the look into the store and the look into the list of flights.
                    let landed = fill.why == Forward::UriMiss && self.stored(&fill.keys.entry, now).is_some();
                    if landed {
                        return None;
                    }
                    fill.flight = Some(writer);
                }
            }
        }
        let fill = Box::new(fill);
        Some(if fill.is_revalidation() { Lookup::Revalidate(fill) } else { Lookup::Miss(fill) })
    }

    fn fill(self: &Arc<Self>, policy: &config::Cache, plan: Plan, keys: Keys, query: &CacheQuery<'_>, why: Forward, now: Moment) -> Fill {
        Fill {
            cache: self.clone(),
            plan,
            home: Arc::new(Home::of(policy, query)),
            keys,
            method: query.method.clone(),
            request: query.headers.clone(),
            why,
            selected: None,
            flight: None,
            requested: now,
            told: self.told.number(),
            observed_hit: false,
            unconditional: false,
            only_if_cached: false,
        }
    }

    /// Whether a new request may join the fetch that began at `born`. A model's answer has no tags of its own.
    fn may_join(&self, keys: &Keys, plan: Plan, born: &Born) -> bool {
        let Home { tags, route, path, .. } = &*born.home;
        self.told.fate(born.told, Subject { keys, route, path, tags, may_have_more_tags: !plan.model }) == Fate::Lives
    }

    /// Begins a fetch unless one that may be joined is under way.
    fn lead(&self, keys: &Keys, plan: Plan, born: impl FnOnce() -> Born) -> Option<FlightWriter> {
        match self.flights.join(keys.entry, plan.max_body, |under_way| self.may_join(keys, plan, under_way), born) {
            Joined::Leader(writer) => Some(writer),
            Joined::Follower(_) => None,
        }
    }

    /// Stores `entry` in front of the other variants; it replaces its equals and `instead`. `told` is the number of records
    /// told before the fetch.
    fn store(&self, keys: &Keys, told: u64, entry: Arc<Entry>, instead: Option<&Arc<Entry>>, now: Moment) -> bool {
        let key = keys.entry;
        // The stamp is taken first: a purge after it is later than the written value.
        let stamp = self.tier.as_ref().map(|tier| tier.stamp());
        let is_current = || match self.told.fate(told, Subject::of(keys, &entry)) {
            Fate::Lives => true,
            Fate::Stale => {
                entry.soften();
                true
            }
            Fate::Gone => false,
        };
        if !is_current() {
            return false;
        }
        entry.asked_after(told);
        let number = self.told.number();
        let stored = self.memory.update(key, now, |old| {
            let others =
                old.iter().filter(|other| other.variance != entry.variance && !instead.is_some_and(|gone| Arc::ptr_eq(gone, other)));
            Some([entry.clone()].into_iter().chain(others.cloned()).collect())
        });
        if stored.is_ok() && !is_current() {
            // A change came between the check and the storing, perhaps too early to find the entry.
            self.forget(key, &entry, now);
            return false;
        }
        self.look_again_at(keys, number, now);
        if let (Ok(()), Some(tier), Some(stamp)) = (&stored, &self.tier, stamp) {
            tier.write(key, self.stored(&key, now), stamp, now);
        }
        stored.is_ok()
    }

    fn forget(&self, key: Key, gone: &Arc<Entry>, now: Moment) {
        let stamp = self.tier.as_ref().map(|tier| tier.stamp());
        let forgotten = self.memory.update(key, now, |old| {
            let kept: Vec<_> = old.iter().filter(|other| !Arc::ptr_eq(other, gone)).cloned().collect();
            (kept.len() < old.len()).then_some(kept)
        });
        debug_assert!(forgotten.is_ok(), "what was there fits");
        if let (Some(tier), Some(stamp)) = (&self.tier, stamp) {
            tier.write(key, self.stored(&key, now), stamp, now);
        }
    }

    /// Marks `entry` stale, in memory and in Redis.
    fn soften(&self, key: Key, entry: &Entry, now: Moment) {
        let stamp = self.tier.as_ref().map(|tier| tier.stamp());
        entry.soften();
        if let (Some(tier), Some(stamp)) = (&self.tier, stamp) {
            tier.write(key, self.stored(&key, now), stamp, now);
        }
    }

    /// Counts an answer from `entry`: the origin was not asked, or failed.
    fn count_hit(&self, key: Key, entry: &Entry, info: &HitInfo) {
        self.counts.answered(info);
        self.top.record(key, entry, 1);
    }

    /// The keys that save most.
    pub fn top(&self) -> &top::Top {
        &self.top
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("memory", &self.memory.stats()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
