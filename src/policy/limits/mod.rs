//! Limits on requests, tokens and dollars: never above the limit in any window, all limits of one request decided together.
//!
//! ```text
//! at load:      limits.set(door, &config)            -> LimitSet   (resolved once; counters live on by name across reloads)
//! per request:  set.keyed(&facts)                    -> Keyed      (hashes; may outlive the request, in its cause)
//!               limits.admit(&[ask, ..], now)        -> Lease      or the refusal, all or none; in memory, no await
//!               limits.admit_shared(&[ask, ..], now) -> Lease      the same, counted in Redis where there is one
//! at the end:   lease.settle(tokens, nano_usd, now) | lease.refund() | lease.keep()
//! ```
//!
//! `concurrency` counts requests in flight, until the last byte of their answers. A limit with a `queue` holds requests in line
//! ([`Limits::admit_in_line`]) instead of refusing them.
//!
//! With Redis every limit is counted in this process as well: a replica by itself never passes more than the limit, whatever
//! Redis does. N replicas pass at most the limit while Redis answers, and at most N times the limit while it does not. A script
//! whose answer did not come in time may have counted: the limit is then stricter, for at most its window. `gcra` limits pace
//! one process, `concurrency` counts one: neither is shared.

mod abroad;
mod alert;
mod approvals;
mod by_hand;
mod demand;
mod denial;
mod deny;
mod flight;
mod gcra;
pub mod keys;
mod lease;
mod lines;
mod near;
mod outlook;
mod queue;
pub mod ring;
mod rule;
mod shared;
mod table;
mod told;

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use parking_lot::Mutex;
use smallvec::SmallVec;

pub use abroad::Abroad;
pub use approvals::{About, Approvals, Plea};
pub use by_hand::{ByHand, Handled, Raised};
pub use demand::{Demand, Estimate, Over};
pub use keys::KeyFacts;
pub use lease::{Lease, LimitState};
pub use outlook::Budget;
pub use queue::{QueueCounts, Waited};
pub use rule::LimitCounts;

use self::{
    denial::Denial,
    flight::Flights,
    lines::Lines,
    rule::{Rule, Tally},
    shared::Sharing,
    table::{Item, Key, Table},
};
use crate::{
    arrival::Door,
    clock::{self, Clock, Instant},
    config::{self, Applies, Mode, OnLimit, Unit, Unpriced},
    reject::Limited,
    store::redis::Redis,
};

/// All counters of the process. Shared by all workers.
#[derive(Debug)]
pub struct Limits {
    inner: Arc<Inner>,
    tallies: Mutex<Tallies>,
}

/// Tallies by door and name.
type Tallies = HashMap<(Door, Arc<str>), Arc<Tally>>;

#[derive(Debug)]
struct Inner {
    table: Table,
    flights: Flights,
    lines: Lines,
    started: Instant,
    /// Microseconds since 1970 at `started`. From there time only goes forward, even if the wall clock is set back.
    started_micros: u64,
    sharing: Option<Sharing>,
}

/// The limits of one route and its door, resolved. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LimitSet(Arc<[Arc<Rule>]>);

/// A [`LimitSet`] with the keys of one request. It holds no part of the request itself.
#[derive(Debug, Clone)]
pub struct Keyed {
    set: LimitSet,
    /// The keys of each limit; `None`: the limit is skipped, because its caller is unknown.
    keys: SmallVec<[Option<Keys>; 2]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Keys {
    local: Key,
    /// The halves of the key in Redis; both 0: no Redis, or its secret is not known yet. A cause keeps keys for each caller: an option
    /// of a `u128` would take twice the memory.
    shared: [u64; 2],
    /// The place of the amount that holds, among the limit's own amount and its tiers' amounts.
    level: u16,
    /// The owner of the counter in words; only where `alert_at` may have to name it, or the key is near and has no name yet.
    who: Option<Arc<str>>,
}

impl Keys {
    fn shared(&self) -> Option<u128> {
        let [high, low] = self.shared;
        Some(u128::from(high) << 64 | u128::from(low)).filter(|key| *key != 0)
    }
}

/// A request's demand on a set of limits.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The limits with the request's keys.
    pub keyed: &'a Keyed,
    /// The demand.
    pub demand: Demand<'a>,
}

impl Limits {
    /// Counters for at most `max_keys` keys, in memory, and shared through `store` where there is one. The store's runtime must
    /// be alive: a task of its own carries the settlements.
    pub fn new(max_keys: usize, clock: &Clock, store: Option<Arc<Redis>>) -> Self {
        let inner = Inner {
            table: Table::new(max_keys),
            flights: Flights::default(),
            lines: Lines::default(),
            started: clock.now(),
            started_micros: u64::try_from(clock::unix(clock.wall()).as_micros()).unwrap_or(u64::MAX),
            sharing: store.map(Sharing::start),
        };
        Self { inner: Arc::new(inner), tallies: Mutex::default() }
    }

    /// Resolves limits: those of the door first, then those of the route. A name that comes twice counts once. Counters live on by
    /// door, name, unit and window.
    pub fn set<'c>(&self, door: Door, limits: impl IntoIterator<Item = &'c config::Limit>) -> LimitSet {
        let mut tallies = self.tallies.lock();
        tallies.retain(|_, tally| Arc::strong_count(tally) > 1);
        let mut rules: Vec<Arc<Rule>> = Vec::new();
        for limit in limits {
            if rules.iter().all(|rule| rule.name != limit.name) {
                let tally = tallies.entry((door, limit.name.clone())).or_default().clone();
                let rule = Arc::new(Rule::new(self.inner.clone(), door, limit, tally));
                rule.put_to_work();
                rules.push(rule);
            }
        }
        LimitSet(rules.into())
    }

    /// Decides all asks together, in memory. Gives a lease if every limit agrees, else the refusal of the limit with the
    /// longest wait; a refusal charges nothing.
    pub fn admit(&self, asks: &[Question<'_>], now: Instant) -> Result<Lease, Box<Limited>> {
        self.decide_here(asks, now).map_err(|denial| denial.refuse())
    }

    fn decide_here<'a>(&self, asks: &'a [Question<'_>], now: Instant) -> Result<Lease, Box<Denial<'a>>> {
        let (mut rules, mut items) = Gathered::default();
        gather(asks, &mut rules, &mut items);
        if items.is_empty() {
            return Ok(Lease::default());
        }
        let now = self.inner.micros(now);
        match self.inner.decide(&rules, &mut items, now) {
            Some(lease) => {
                tally(&rules, &items, now);
                Ok(lease)
            }
            None => Err(Box::new(Denial { rules, items, now, without_store: None })),
        }
    }

    /// Decides in memory, and in the store where there is one. A denial is not counted yet.
    async fn decide<'a>(&self, asks: &'a [Question<'_>], now: Instant) -> Result<Lease, Box<Denial<'a>>> {
        match &self.inner.sharing {
            None => self.decide_here(asks, now),
            // Boxed: every request in flight would carry the future's size even without a store.
            Some(sharing) => Box::pin(sharing.admit(&self.inner, asks, now)).await,
        }
    }

    /// As [`Self::admit_in_line`], where nothing has to be waited for; `None`: there is a store, or a limit with a queue.
    pub fn admit_at_once(&self, asks: &[Question<'_>], now: Instant) -> Option<Result<Lease, Box<Limited>>> {
        let waits = self.inner.sharing.is_some() || asks.iter().any(|ask| ask.keyed.set.queues());
        (!waits).then(|| self.admit(asks, now))
    }

    /// As [`Self::admit`], with the limits counted in Redis too: one round trip, after memory has agreed. Without a store, or
    /// with nothing to count, it does not wait.
    pub async fn admit_shared(&self, asks: &[Question<'_>], now: Instant) -> Result<Lease, Box<Limited>> {
        match &self.inner.sharing {
            None => self.admit(asks, now),
            Some(_) => self.decide(asks, now).await.map_err(|denial| denial.refuse()),
        }
    }

    /// Charges tokens and dollars without a reservation: a request that takes over another's fetch pays its cost. The charge is
    /// never refused; an amount above a limit is a debt.
    pub fn charge(&self, keyed: &Keyed, tokens: u64, nano_usd: u64, now: Instant) {
        let asks = [Question { keyed, demand: Demand { requests: 0, ..Demand::moved(0, 0) } }];
        let (mut rules, mut items) = Gathered::default();
        gather(&asks, &mut rules, &mut items);
        Lease::unreserved(&rules, &items).settle(tokens, nano_usd, now);
    }

    /// Counts the refusal of a limit that could not act instead.
    pub fn count_refused(&self, name: &str) {
        let tallies = self.tallies.lock();
        if let Some((_, tally)) = tallies.iter().find(|((_, known), _)| **known == *name) {
            tally.refused.fetch_add(1, Relaxed);
        }
    }

    /// Whether limits are shared through a store.
    pub fn is_shared(&self) -> bool {
        self.inner.sharing.is_some()
    }

    /// Drops keys that hold nothing any more and gives their memory back. Call every few seconds, not on a worker.
    pub fn sweep(&self, now: Instant) -> usize {
        let now = self.inner.micros(now);
        if let Some(sharing) = &self.inner.sharing {
            sharing.denied.sweep(now);
        }
        self.tidy(now);
        self.inner.table.sweep(now, &mut std::thread::yield_now)
    }

    /// Keys held in memory.
    pub fn keys(&self) -> usize {
        self.inner.table.keys()
    }

    /// Keys forgotten before their time: there were too many.
    pub fn evictions(&self) -> u64 {
        self.inner.table.evictions()
    }

    /// Corrections that did not reach the shared store.
    pub fn settlements_lost(&self) -> u64 {
        self.inner.sharing.as_ref().map_or(0, Sharing::lost)
    }

    /// The counts of every limit since start, by door and name.
    pub fn counts(&self) -> Vec<LimitCounts> {
        let tallies = self.tallies.lock();
        let mut counts: Vec<_> = tallies
            .iter()
            .map(|((door, name), tally)| LimitCounts {
                door: *door,
                name: name.clone(),
                admitted: tally.admitted.load(Relaxed),
                refused: tally.refused.load(Relaxed),
                observed: tally.observed.load(Relaxed),
                skipped: tally.skipped.load(Relaxed),
                store_away: tally.store_away.load(Relaxed),
                spared: tally.spared.load(Relaxed),
                queues: tally.queues.load(Relaxed),
                queue: tally.queue.counts(),
                alerts: tally.alerted.counts(),
            })
            .collect();
        counts.sort_by(|a, b| (a.door, &a.name).cmp(&(b.door, &b.name)));
        counts
    }
}

impl LimitSet {
    /// Whether there are no limits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the limits.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|rule| &*rule.name).collect()
    }

    /// Whether any limit applies at `stage`.
    pub fn applies(&self, stage: Applies) -> bool {
        self.0.iter().any(|rule| rule.applies == stage)
    }

    /// Whether any limit counts `unit`: an estimate of the unit is then worth making.
    pub fn counts(&self, unit: Unit) -> bool {
        self.0.iter().any(|rule| rule.unit == unit)
    }

    /// Whether a dollar limit refuses calls of models without a price.
    pub fn refuses_unpriced(&self) -> bool {
        self.0.iter().any(|rule| rule.unit == Unit::NanoUsd && rule.mode == Mode::Enforce && rule.unpriced == Unpriced::Refuse)
    }

    /// Whether a limit on tokens or dollars refuses calls whose answers do not tell their cost.
    pub fn refuses_unmetered(&self) -> bool {
        self.spends().any(|rule| rule.unmetered == Unpriced::Refuse)
    }

    /// Whether a limit on dollars refuses calls that may or may not cost anything.
    pub fn refuses_unknown(&self) -> bool {
        self.spends().any(|rule| rule.unit == Unit::NanoUsd && rule.unmetered == Unpriced::Refuse)
    }

    /// Whether a limit on tokens or dollars enforces.
    pub fn enforces_spend(&self) -> bool {
        self.spends().next().is_some()
    }

    fn spends(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.0.iter().filter(|rule| rule.mode == Mode::Enforce && matches!(rule.unit, Unit::Tokens | Unit::NanoUsd))
    }

    /// Whether a limit holds requests in line instead of refusing them.
    fn queues(&self) -> bool {
        self.0.iter().any(|rule| rule.queue.is_some())
    }

    /// Whether a spent limit sends calls to a cheaper model: their model must be known.
    pub fn degrades(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule.on_limit, OnLimit::Degrade(_)))
    }

    /// The keys of a request. Make them once, for all later questions.
    pub fn keyed(&self, facts: &KeyFacts<'_>) -> Keyed {
        let secret = self.0.first().and_then(|rule| rule.inner.sharing.as_ref()).and_then(Sharing::secret);
        let keys = self.0.iter().map(|rule| rule.keys(facts, secret.as_deref())).collect();
        Keyed { set: self.clone(), keys }
    }
}

/// The same limits of the same generation, and the same keys.
impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.set.0, &other.set.0) && self.keys == other.keys
    }
}

impl Eq for Keyed {}

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.set.0).cast::<()>().hash(state);
        self.keys.hash(state);
    }
}

impl Keyed {
    /// The limits.
    pub fn set(&self) -> &LimitSet {
        &self.set
    }
}

impl Inner {
    /// Decides in memory; `None`: a limit refuses, and `items` say which.
    fn decide(self: &Arc<Self>, rules: &[Asked<'_>], items: &mut [Item<'_>], now: u64) -> Option<Lease> {
        if !self.table.decide(now, items) {
            return None;
        }
        let mut lease = Lease::granted(rules, items);
        if flight::enter(self, rules, items, &mut lease) {
            return Some(lease);
        }
        lease.refund();
        None
    }

    fn micros(&self, now: Instant) -> u64 {
        let passed = u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX);
        self.started_micros.saturating_add(passed)
    }
}

/// The limits to ask, in the order of the asks.
type Rules<'a> = SmallVec<[Asked<'a>; 4]>;
/// What each is asked. It is filled where it stands: it is large to be moved.
type Items<'a> = SmallVec<[Item<'a>; 4]>;
type Gathered<'a> = (Rules<'a>, Items<'a>);

/// The question to which an [`Item`] belongs.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    rule: &'a Arc<Rule>,
    keys: &'a Keys,
    /// Whether an admission counts as a decision.
    counts: bool,
}

impl Asked<'_> {
    fn whose(&self, key: Key) -> alert::Whose<'_> {
        alert::Whose { key, level: self.keys.level, who: self.keys.who.as_deref() }
    }
}

fn gather<'a>(asks: &'a [Question<'a>], rules: &mut Rules<'a>, items: &mut Items<'a>) {
    for Question { keyed, demand } in asks {
        for (rule, keys) in keyed.set.0.iter().zip(&keyed.keys) {
            let Some(keys) = keys else { continue };
            if demand.stage.is_some_and(|stage| stage != rule.applies) {
                continue;
            }
            if demand.moves && !rule.moves() || rule.unit == Unit::Concurrency && !demand.flies || demand.passes(rule) {
                continue;
            }
            let Some((check, charge)) = demand.of(rule.unit) else { continue };
            rules.push(Asked { rule, keys, counts: !demand.again });
            items.push(Item {
                key: keys.local,
                meter: &rule.meter,
                limit: rule.amount(keys.level, keys.local),
                check,
                charge,
                observe: rule.mode == Mode::Observe,
                force: demand.forces(rule),
                look: demand.looks(rule),
                answer: table::Answer::default(),
            });
        }
    }
}

/// Counts an admission in the tallies of its limits. A check is not counted: the reservation that follows it is.
fn tally(rules: &[Asked<'_>], items: &[Item<'_>], now: u64) {
    for (asked, item) in rules.iter().zip(items) {
        let tally = &asked.rule.tally;
        let cell = if item.answer.refused { &tally.observed } else { &tally.admitted };
        let counts = item.answer.refused || asked.counts && !item.look;
        cell.fetch_add(u64::from(counts), Relaxed);
        near::admitted(asked, item);
        let used = item.answer.used;
        if item.answer.refused {
            alert::refused(asked.rule, asked.whose(item.key), used, now);
        } else if asked.rule.warns && asked.rule.unit == Unit::Requests {
            // The true tokens and dollars are known when they are settled.
            alert::watch(asked.rule, asked.whose(item.key), used.saturating_sub(item.charge), used, now);
        }
    }
}

#[cfg(test)]
mod tests;
