//! A limit ready to count: its terms, its amounts by tier, and its counts since start.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    Inner, KeyFacts, Keys, alert,
    by_hand::Raises,
    gcra::Pace,
    keys,
    near::Near,
    outlook::Watched,
    queue::{QueueCounts, QueueTally},
    ring::Shape,
    table::{Key, Meter},
    told,
};
use crate::{
    arrival::Door,
    config::{self, Algorithm, Applies, KeyPart, Mode, OnLimit, OnStoreError, Queue, Unit, Unpriced},
};

/// One limit, ready to count.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) inner: Arc<Inner>,
    pub(super) door: Door,
    pub(super) name: Arc<str>,
    pub(super) mode: Mode,
    pub(super) parts: Vec<KeyPart>,
    counts_unknown: bool,
    pub(super) unit: Unit,
    pub(super) window: Duration,
    pub(super) applies: Applies,
    /// Whether its key names the provider or the model.
    pub(super) by_target: bool,
    pub(super) on_store_error: OnStoreError,
    pub(super) on_limit: OnLimit,
    pub(super) unpriced: Unpriced,
    pub(super) unmetered: Unpriced,
    pub(super) meter: Meter,
    /// Requests that may wait in line.
    pub(super) queue: Option<Queue>,
    /// Everything that tells its counters from those of other limits.
    pub(super) identity: String,
    pub(super) number: u64,
    /// Its name as a structured field has it.
    pub(super) quoted: String,
    /// The source of a request's tier.
    pub(super) tier: Option<KeyPart>,
    /// The amounts: the limit's own first, then those of its tiers.
    pub(super) levels: Box<[Level]>,
    /// Whether `alert_at` is written.
    pub(super) warns: bool,
    pub(super) tally: Arc<Tally>,
}

/// An amount of a limit: its own, or a tier's.
#[derive(Debug)]
pub(super) struct Level {
    /// The tier; `None`: the limit's own amount.
    pub(super) tier: Option<Arc<str>>,
    /// The amount per window; `None`: the limit does not count the tier.
    pub(super) amount: Option<u64>,
    /// Its member of `RateLimit-Policy`.
    pub(super) policy: String,
    /// The shares of `alert_at`.
    pub(super) shares: Box<[alert::Share]>,
}

/// The counts of a limit since start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) admitted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) observed: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) store_away: AtomicU64,
    pub(super) spared: AtomicU64,
    /// The newest limit of the name.
    pub(super) rule: Mutex<Weak<Rule>>,
    /// Whether it has a queue.
    pub(super) queues: AtomicBool,
    pub(super) queue: QueueTally,
    pub(super) alerted: alert::Alerted,
    pub(super) near: Near,
    pub(super) raises: Raises,
}

/// The counts of a limit since start, for metrics and the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitCounts {
    /// Its door.
    pub door: Door,
    /// Its name.
    pub name: Arc<str>,
    /// Requests it let pass.
    pub admitted: u64,
    /// Requests it refused.
    pub refused: u64,
    /// Requests it only observed and would have refused.
    pub observed: u64,
    /// Requests it did not count: their caller is unknown.
    pub skipped: u64,
    /// Decisions made without the shared store, as `on_store_error` says.
    pub store_away: u64,
    /// Refusals from memory by an earlier answer of the store: the store was not asked again.
    pub spared: u64,
    /// Whether it has a queue.
    pub queues: bool,
    /// Requests that its queue has held, or not.
    pub queue: QueueCounts,
    /// By share of the limit (`alert_at`, ascending): how many keys have reached it, once per window each.
    pub alerts: Vec<(Arc<str>, u64)>,
}

impl Rule {
    pub(super) fn new(inner: Arc<Inner>, door: Door, limit: &config::Limit, tally: Arc<Tally>) -> Self {
        let (kind, meter) = match limit.algorithm {
            _ if limit.unit == Unit::Concurrency => ('c', Meter::Flight),
            Algorithm::Sliding => ('s', Meter::Window(Shape::sliding(limit.window))),
            Algorithm::Fixed => ('f', Meter::Window(Shape::fixed(limit.window))),
            Algorithm::Gcra { burst } => ('g', Meter::Pace(Pace::new(limit.amount, limit.window, burst))),
        };
        tally.queues.store(limit.queue.is_some(), Relaxed);
        let own = Level::new(limit, None, Some(limit.amount));
        tally.alerted.expect(&own.shares);
        let tiers = limit.tiers.iter().flat_map(|tiers| &tiers.all);
        let levels = std::iter::once(own).chain(tiers.map(|tier| Level::new(limit, Some(tier.name.clone()), tier.amount))).collect();
        let identity = format!("l1:{kind}:{}:{}:{}:{}", limit.unit.as_str(), limit.window.as_micros(), door.as_str(), limit.name);
        let mut number = [0; 8];
        number.copy_from_slice(&blake3::hash(identity.as_bytes()).as_bytes()[..8]);
        Self {
            door,
            name: limit.name.clone(),
            mode: limit.mode,
            parts: limit.key.clone(),
            counts_unknown: limit.counts_unknown,
            unit: limit.unit,
            window: limit.window,
            applies: limit.applies,
            by_target: limit.key.iter().any(|part| matches!(part, KeyPart::Provider | KeyPart::Model)),
            on_store_error: limit.on_store_error,
            on_limit: limit.on_limit.clone(),
            unpriced: limit.unpriced,
            unmetered: limit.unmetered,
            meter,
            queue: limit.queue,
            quoted: told::quoted(&limit.name),
            tier: limit.tiers.as_ref().map(|tiers| tiers.source.clone()),
            levels,
            warns: !limit.alert_at.is_empty(),
            number: u64::from_le_bytes(number),
            identity,
            inner,
            tally,
        }
    }

    pub(super) fn keys(&self, facts: &KeyFacts<'_>, secret: Option<&[u8; 32]>) -> Option<Keys> {
        let level = self.level_of(facts);
        self.level(level).amount?;
        let mut local = keys::Local::new(self.number);
        if !keys::feed(&mut local, self.door, &self.parts, facts, self.counts_unknown) {
            self.tally.skipped.fetch_add(1, Relaxed);
            return None;
        }
        let shared = secret.filter(|_| matches!(self.meter, Meter::Window(_))).map(|secret| {
            let mut shared = keys::Shared::new(secret, self.identity.as_bytes());
            keys::feed(&mut shared, self.door, &self.parts, facts, self.counts_unknown);
            let key = shared.finish();
            [(key >> 64) as u64, key as u64]
        });
        let local = local.finish();
        let wanted = self.tally.near.wants(local);
        let named = (self.warns || wanted) && !self.parts.is_empty();
        let who: Option<Arc<str>> = named.then(|| keys::words(self.door, &self.parts, facts, local).into());
        if let Some(who) = who.as_ref().filter(|_| wanted) {
            self.tally.near.name(local, who);
        }
        Some(Keys { local, shared: shared.unwrap_or_default(), level, who })
    }

    /// Whether its count changes with the target.
    pub(super) fn moves(&self) -> bool {
        self.by_target || matches!(self.unit, Unit::Tokens | Unit::NanoUsd)
    }

    /// The amount that holds for a key now: an operator may have raised it.
    pub(super) fn amount(&self, level: u16, key: Key) -> u64 {
        self.tally.raises.amount(self.level(level).amount.unwrap_or(u64::MAX), key)
    }

    /// The amount that a key may use at once.
    pub(super) fn capacity(&self, level: u16, key: Key) -> u64 {
        match &self.meter {
            Meter::Window(_) | Meter::Flight => self.amount(level, key),
            Meter::Pace(pace) => u64::from(pace.burst()),
        }
    }

    /// Makes this the newest limit of its name. Its only counter, if it has one for all, is watched from now on.
    pub(super) fn put_to_work(self: &Arc<Self>) {
        *self.tally.rule.lock() = Arc::downgrade(self);
        if self.warns && self.parts.is_empty() {
            self.tally.alerted.board().add(self.only());
        }
    }

    /// The only counter of a limit without a key.
    pub(super) fn only(&self) -> Watched {
        Watched { key: keys::Local::new(self.number).finish(), level: 0, who: None }
    }

    /// The amount by which a request is counted: the place in `levels`.
    fn level_of(&self, facts: &KeyFacts<'_>) -> u16 {
        let Some(source) = &self.tier else { return 0 };
        let Some(tier) = keys::tier(source, facts) else { return 0 };
        let at = self.levels.iter().position(|level| level.tier.as_deref().is_some_and(|name| name.as_bytes() == tier));
        at.and_then(|at| u16::try_from(at).ok()).unwrap_or(0)
    }

    /// The amount at a place in `levels`.
    pub(super) fn level(&self, at: u16) -> &Level {
        &self.levels[usize::from(at)]
    }
}

impl Level {
    fn new(limit: &config::Limit, tier: Option<Arc<str>>, amount: Option<u64>) -> Self {
        let policy = told::policy(limit, amount.unwrap_or(u64::MAX));
        let shares = alert::Share::of(&limit.alert_at, amount.unwrap_or(u64::MAX));
        Self { tier, amount, policy, shares }
    }
}
