//! The book of work that goes on after its answer: this process's own, and the one in Redis that all replicas share.
//!
//! The first process that hears of a work's end charges it to the payer who began it. The book in Redis names the payer, also for
//! another replica and after a restart. While Redis is away each replica goes by its own book: each may charge a work once. Without Redis
//! the process keeps its book in `state_dir` (`kept`), and the next process goes on with it.

mod kept;

pub use kept::pays;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::pledge::Pledge;
use crate::{
    clock::Instant,
    policy::limits::{Abroad, Lease},
    provider::{Due, Works},
    store::redis::{Redis, WorkEnded},
    usage::Usage,
};

/// How long the payer of a work is remembered: one day. Providers keep a polled response for a shorter time.
const PROMISED: Duration = Duration::from_secs(86_400);
/// How long a work is remembered as charged: seven days, longer than any process remembers a payer.
const CHARGED: Duration = Duration::from_secs(7 * 86_400);
/// How long the payer of a batch is remembered: providers keep a batch's results for 30 days.
const BATCH_PROMISED: Duration = Duration::from_secs(30 * 86_400);
/// How long a batch is remembered as charged.
const BATCH_CHARGED: Duration = Duration::from_secs(37 * 86_400);
/// The beginning of a batch's name in the book.
const BATCH: &str = "batch:";

/// The name of a batch in the book. No background response has it.
pub fn batch(id: &str) -> Box<str> {
    format!("{BATCH}{id}").into()
}

/// The book. Shared by all workers.
pub struct Book {
    here: Works<Pledge>,
    batches: Works<Pledge>,
    redis: Option<Arc<Redis>>,
    /// Wakes who keeps the book in a file.
    news: Notify,
}

impl Default for Book {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Drop for Book {
    /// The works go on when the process leaves. Their reservations stand; the replica that hears of their end corrects them, and the next
    /// process charges what this one has kept.
    fn drop(&mut self) {
        self.here.give_up().into_iter().chain(self.batches.give_up()).filter_map(|pledge| pledge.lease).for_each(Lease::keep);
    }
}

/// The payer of a work, as other replicas are told.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    /// The caller, in words.
    pub caller: Option<String>,
    /// The route that ordered it.
    pub route: String,
    /// The inbound route that caused the order. A replica of an older version does not say it.
    #[serde(default)]
    pub inbound: Option<String>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// No inbound request is known to have caused it.
    pub unattributed: bool,
    /// Tokens that were expected at most: input, output.
    pub expected: [u64; 2],
    /// The work's reservations in Redis.
    pub reserved: Vec<Abroad>,
    /// A kept book named the payer: nothing is reserved any more, and the limits are charged by name.
    #[serde(default)]
    pub kept: bool,
    /// The caller is claimed: no limit counts the caller.
    #[serde(default)]
    pub claimed: bool,
}

impl Said {
    fn of(pledge: &Pledge) -> Self {
        let (order, leader) = (&pledge.order, pledge.payers.leader());
        Self {
            caller: leader.caller.as_deref().map(str::to_owned),
            inbound: leader.cause.as_ref().map(|cause| &*cause.route).or(order.inbound.as_deref()).map(str::to_owned),
            route: order.route.to_string(),
            model: order.model.as_deref().map(str::to_owned),
            unattributed: order.unattributed,
            expected: [order.expected.input, order.expected.output],
            reserved: pledge.lease.as_ref().map(Lease::abroad).unwrap_or_default(),
            kept: leader.kept,
            claimed: leader.claimed,
        }
    }

    /// Tokens that were expected at most.
    pub fn expected(&self) -> Usage {
        Usage { input: self.expected[0], output: self.expected[1], ..Usage::default() }
    }
}

/// The payer of an ended work.
#[derive(Debug)]
pub enum Owed {
    /// Known to this process.
    Here(Due<Pledge>),
    /// Known from Redis: another replica, or this one before a restart, has written it.
    Abroad(Said),
    /// Another replica has charged the work. This one has to correct its own reservation in its own counters.
    Charged(Option<Pledge>),
}

impl Book {
    /// A book that is shared through `redis`, if given.
    pub fn new(redis: Option<Arc<Redis>>) -> Self {
        Self { here: Works::default(), batches: Works::lasting(BATCH_PROMISED), redis, news: Notify::new() }
    }

    /// This process's part of the book that has `id`, and how long Redis remembers a payer and a charge there.
    fn part(&self, id: &str) -> (&Works<Pledge>, [Duration; 2]) {
        match id.starts_with(BATCH) {
            true => (&self.batches, [BATCH_PROMISED, BATCH_CHARGED]),
            false => (&self.here, [PROMISED, CHARGED]),
        }
    }

    /// Records a work that goes on, paid by `pledge`. Gives the pledges of the works that are forgotten to make room.
    ///
    /// # Errors
    /// The work is known already and has its payer. `pledge` is given back.
    pub fn begin(&self, id: &str, pledge: Pledge, now: Instant) -> Result<Vec<Pledge>, Box<Pledge>> {
        let provider = pledge.order.provider.clone();
        let shared = self.shared().map(|redis| (redis, serde_json::to_vec(&Said::of(&pledge)).unwrap_or_default()));
        let (here, [promised, _]) = self.part(id);
        let forgotten = here.begin(&provider, id, pledge, now).map_err(Box::new)?;
        self.changes();
        if let Some((redis, said)) = shared {
            let (handle, id) = (redis.handle().clone(), Box::<str>::from(id));
            // If Redis does not answer, another replica charges the caller who polls. The failure counts as the store's error.
            handle.spawn(async move {
                if let Some(work) = name(&redis, &provider, &id).await {
                    let _ = redis.work_begins(&work, Bytes::from(said), promised).await;
                }
            });
        }
        Ok(forgotten)
    }

    /// Records a work that has ended in its first answer, and is charged.
    pub fn charged(&self, provider: &Arc<str>, id: &str, now: Instant) {
        let (here, [_, charged]) = self.part(id);
        let _ = here.end(provider, id, now);
        self.changes();
        if let Some(redis) = self.shared() {
            let (handle, provider, id) = (redis.handle().clone(), provider.clone(), Box::<str>::from(id));
            handle.spawn(async move {
                if let Some(work) = name(&redis, &provider, &id).await {
                    let _ = redis.work_ends(&work, charged).await;
                }
            });
        }
    }

    /// Ends a work by this process's own book, and names its payer.
    pub fn end_here(&self, provider: &Arc<str>, id: &str, now: Instant) -> Owed {
        let due = self.part(id).0.end(provider, id, now);
        self.changes();
        Owed::Here(due)
    }

    /// Ends a work and names its payer. Waits for Redis, at most Redis's deadline. Without Redis this process's own book decides.
    pub async fn end(&self, provider: &Arc<str>, id: &str, now: Instant) -> Owed {
        let (here, [_, charged]) = self.part(id);
        let known = match self.shared() {
            Some(redis) => match name(&redis, provider, id).await {
                Some(work) => redis.work_ends(&work, charged).await.ok(),
                None => None,
            },
            None => None,
        };
        let here = here.end(provider, id, now);
        self.changes();
        match (known, here) {
            (Some(WorkEnded::Charged), Due::From(pledge)) => Owed::Charged(Some(pledge)),
            (Some(WorkEnded::Charged), _) => Owed::Charged(None),
            (Some(WorkEnded::Said(said)), Due::FromWhoAsks) => match serde_json::from_slice(&said) {
                Ok(said) => Owed::Abroad(said),
                Err(_) => Owed::Here(Due::FromWhoAsks),
            },
            (_, here) => Owed::Here(here),
        }
    }

    /// As [`end`](Self::end), for a work that an answer mentions among others. A work that nobody is known to have begun is not charged:
    /// lists tell of all works of an account, also of those that did not pass through the proxy.
    pub async fn end_if_known(&self, provider: &Arc<str>, id: &str, now: Instant) -> Owed {
        let here = self.part(id).0.goes_on(provider, id);
        let is_known = match (here, self.shared()) {
            (Some(goes_on), _) => goes_on,
            (None, Some(redis)) => match name(&redis, provider, id).await {
                Some(work) => redis.work_goes_on(&work).await.unwrap_or(false),
                None => false,
            },
            (None, None) => false,
        };
        if is_known { self.end(provider, id, now).await } else { Owed::Charged(None) }
    }

    /// Ends a work that this process has begun by its own book. Any other work is not charged.
    pub fn end_here_if_known(&self, provider: &Arc<str>, id: &str, now: Instant) -> Owed {
        match self.part(id).0.goes_on(provider, id) {
            Some(true) => self.end_here(provider, id, now),
            _ => Owed::Charged(None),
        }
    }

    /// Forgets the works that are too old: no answer will state their usage any more. Gives their pledges.
    pub fn sweep(&self, now: Instant) -> Vec<Pledge> {
        let forgotten: Vec<Pledge> = [&self.here, &self.batches].into_iter().flat_map(|works| works.sweep(now)).collect();
        if !forgotten.is_empty() {
            self.changes();
        }
        forgotten
    }

    /// How many works under way this process has begun.
    pub fn under_way(&self) -> usize {
        self.here.under_way()
    }

    /// Whether other replicas are asked.
    pub fn is_shared(&self) -> bool {
        self.shared().is_some()
    }

    /// Redis, unless it is away. A process that has just begun waits for it: another replica may know the payer.
    fn shared(&self) -> Option<Arc<Redis>> {
        self.redis.clone().filter(|redis| redis.may_be_up())
    }
}

/// The work's name in Redis, which does not reveal the provider's id; `None`: Redis is away.
async fn name(redis: &Redis, provider: &str, id: &str) -> Option<String> {
    let secret = redis.joined().await.then(|| redis.secret()).flatten()?;
    let mut hasher = blake3::Hasher::new_keyed(&secret);
    hasher.update(&(provider.len() as u64).to_le_bytes()).update(provider.as_bytes()).update(id.as_bytes());
    Some(format!("work:1:{}", &hasher.finalize().to_hex()[..32]))
}
