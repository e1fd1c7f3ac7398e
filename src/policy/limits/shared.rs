//! Limits counted in Redis: one script, one round trip, after the counters of this process have agreed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::{
    Asked, Gathered, Inner, Question,
    denial::Denial,
    deny::Denied,
    gather,
    lease::Lease,
    table::{Answer, Item, Meter},
    tally,
};
use crate::{
    arrival::Door,
    clock::Instant,
    config::{OnStoreError, Unit},
    store::{
        StoreError,
        redis::{Redis, scripts},
    },
};

/// Most corrections that wait for Redis; further ones are lost, and counted.
const WAITING: usize = 8_192;
/// Most corrections in one script.
const TOGETHER: usize = 64;

/// The way to Redis.
#[derive(Debug)]
pub(super) struct Sharing {
    store: Arc<Redis>,
    settlements: mpsc::Sender<(Hold, i64)>,
    lost: Arc<AtomicU64>,
    /// Keys that Redis has refused.
    pub(super) denied: Denied,
}

/// A charge in Redis.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) key: String,
    pub(super) width: u64,
    pub(super) reach: u64,
    pub(super) slot: u64,
}

impl Sharing {
    /// Starts settling behind the requests, until dropped.
    pub(super) fn start(store: Arc<Redis>) -> Self {
        let (settlements, waiting) = mpsc::channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        store.handle().spawn(settle(store.clone(), waiting, lost.clone()));
        Self { store, settlements, lost, denied: Denied::default() }
    }

    /// The secret of shared keys, once known.
    pub(super) fn secret(&self) -> Option<Arc<[u8; 32]>> {
        self.store.secret()
    }

    /// Corrections that did not reach Redis.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Queues the correction of a charge.
    pub(super) fn settle(&self, hold: Hold, reserved: u64, actual: u64) {
        let change = signed(actual).saturating_sub(signed(reserved));
        if change != 0 && self.settlements.try_send((hold, change)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Decides in memory, then in Redis. A future dropped half-way gives its reservations in memory back as a cancelled request
    /// does; a charge that Redis may have counted stays for its window.
    pub(super) async fn admit<'a>(&self, inner: &Arc<Inner>, asks: &'a [Question<'_>], now: Instant) -> Result<Lease, Box<Denial<'a>>> {
        let (mut rules, mut items) = Gathered::default();
        gather(asks, &mut rules, &mut items);
        if items.is_empty() {
            return Ok(Lease::default());
        }
        // A limit with `on_store_error: allow` waits for Redis' answer: memory must not refuse it.
        let observing: SmallVec<[bool; 4]> = items.iter().map(|item| item.observe).collect();
        for (asked, item) in rules.iter().zip(&mut items) {
            item.observe |= matches!(item.meter, Meter::Window(_)) && asked.rule.on_store_error == OnStoreError::Allow;
        }
        let now = inner.micros(now);
        let passed = inner.decide(&rules, &mut items, now);
        for (item, observe) in items.iter_mut().zip(observing) {
            item.observe = observe;
        }
        let Some(mut lease) = passed else {
            return Err(Box::new(Denial { rules, items, now, without_store: None }));
        };
        if self.known_as_spent(&rules, &mut items, now) {
            lease.refund();
            return Err(Box::new(Denial { rules, items, now, without_store: None }));
        }
        match self.ask(&rules, &items).await {
            Ok(None) => {}
            Ok(Some((admitted, answers))) => {
                let shared = rules.iter().zip(&mut items).enumerate().filter(|(_, (asked, _))| asked.keys.shared().is_some());
                for ((at, (asked, item)), answer) in shared.zip(answers) {
                    item.answer = answer;
                    let held = &mut lease.held_mut()[at];
                    (held.used, held.resets) = (answer.used, answer.resets);
                    if admitted && !answer.refused && !item.look {
                        held.shared = self.hold(asked, answer.slot).map(Box::new);
                    }
                }
                if !admitted {
                    lease.refund();
                    self.remember(&rules, &items, now);
                    return Err(Box::new(Denial { rules, items, now, without_store: None }));
                }
            }
            Err(_) => {
                if let Some(at) = self.without_store(&rules, &mut items) {
                    lease.refund();
                    return Err(Box::new(Denial { rules, items, now, without_store: Some(at) }));
                }
            }
        }
        tally(&rules, &items, now);
        Ok(lease)
    }

    /// Redis' answers to the shared items; `None`: no item is shared.
    async fn ask(&self, rules: &[Asked<'_>], items: &[Item<'_>]) -> Result<Option<(bool, Vec<Answer>)>, StoreError> {
        let (mut keys, mut args) = (Vec::with_capacity(items.len()), Vec::with_capacity(1 + 6 * items.len()));
        let mut unknown = false;
        args.push(0);
        for (asked, item) in rules.iter().zip(items) {
            let Meter::Window(shape) = item.meter else { continue };
            let Some(key) = self.key(asked) else {
                unknown = true;
                continue;
            };
            keys.push(key);
            args.extend([shape.width(), shape.reach(), item.limit, item.check, item.charge, mode(item)].map(signed));
        }
        if unknown {
            return Err(StoreError::Away); // the secret that keys are made with has not been told yet
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let answer = self.store.eval(&scripts::LIMITS, &keys, &args).await?;
        read(&answer, keys.len()).map(Some).ok_or_else(|| StoreError::Refused("the script's answer is not understood".into()))
    }

    /// Whether Redis has refused one of the limits lately: Redis need not be asked, and `items` say which limit.
    fn known_as_spent(&self, rules: &[Asked<'_>], items: &mut [Item<'_>], now: u64) -> bool {
        let mut spent = false;
        for (asked, item) in rules.iter().zip(items).filter(|(_, item)| !item.observe && !item.force) {
            if let Some(answer) = asked.keys.shared().and_then(|key| self.denied.find(key, item, now)) {
                asked.rule.tally.spared.fetch_add(1, Relaxed);
                item.answer = answer;
                spent = true;
            }
        }
        spent
    }

    /// Remembers the limits that Redis has refused.
    fn remember(&self, rules: &[Asked<'_>], items: &[Item<'_>], now: u64) {
        for (asked, item) in rules.iter().zip(items).filter(|(_, item)| item.answer.refused && !item.observe) {
            if let Some(key) = asked.keys.shared() {
                let stands = asked.rule.door == Door::Inbound && asked.rule.unit == Unit::Requests;
                self.denied.remember(key, item, stands, now);
            }
        }
    }

    /// Counts a decision without Redis for each limit; returns the place of the first limit that then refuses.
    fn without_store(&self, rules: &[Asked<'_>], items: &mut [Item<'_>]) -> Option<usize> {
        let mut denies = None;
        for (at, (asked, item)) in rules.iter().zip(items).enumerate() {
            if !matches!(item.meter, Meter::Window(_)) {
                continue;
            }
            asked.rule.tally.store_away.fetch_add(1, Relaxed);
            match asked.rule.on_store_error {
                OnStoreError::Local => {}
                OnStoreError::Allow => item.answer.refused &= item.observe,
                OnStoreError::Deny if item.observe => item.answer.refused = true,
                OnStoreError::Deny => denies = denies.or(Some(at)),
            }
        }
        denies
    }

    fn key(&self, asked: &Asked<'_>) -> Option<String> {
        // The identity begins with format version, kind, unit and window; the door and the name are in the hash as well.
        let terms = asked.rule.identity.splitn(5, ':').take(4).collect::<Vec<_>>().join(":");
        asked.keys.shared().map(|hash| self.store.tagged(&format!("{terms}:{hash:032x}")))
    }

    pub(super) fn hold(&self, asked: &Asked<'_>, slot: u64) -> Option<Hold> {
        let Meter::Window(shape) = &asked.rule.meter else { return None };
        Some(Hold { key: self.key(asked)?, width: shape.width(), reach: shape.reach(), slot })
    }
}

/// Carries corrections to Redis, many at once.
async fn settle(store: Arc<Redis>, mut waiting: mpsc::Receiver<(Hold, i64)>, lost: Arc<AtomicU64>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
        let mut args = vec![0];
        let mut keys = Vec::with_capacity(batch.len());
        for (hold, change) in batch.drain(..) {
            args.extend([signed(hold.width), signed(hold.reach), signed(hold.slot), change]);
            keys.push(hold.key);
        }
        if store.eval(&scripts::SETTLE, &keys, &args).await.is_err() {
            lost.fetch_add(keys.len() as u64, Relaxed);
        }
    }
}

/// The word of `limits.lua` for what a refusal means.
fn mode(item: &Item<'_>) -> u64 {
    match (item.force, item.observe) {
        (true, _) => 2,
        (false, observe) => u64::from(observe),
    }
}

/// The answer of `limits.lua`.
fn read(answer: &[i64], limits: usize) -> Option<(bool, Vec<Answer>)> {
    let (admitted, rest) = answer.split_first()?;
    let (rows, []) = rest.as_chunks::<5>() else { return None };
    let answers = rows.iter().map(|[refused, wait, used, resets, slot]| Answer {
        refused: *refused == 1,
        wait: u64::try_from(*wait).ok(),
        used: unsigned(*used),
        resets: unsigned(*resets),
        slot: unsigned(*slot),
    });
    (rows.len() == limits).then(|| (*admitted == 1, answers.collect()))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
