//! The reservations of an admitted request until its cost is known.

use std::{sync::Arc, time::Duration};

use super::{
    Asked, Rule,
    abroad::{Abroad, Holds},
    alert,
    flight::Place,
    near,
    shared::Hold,
    table::{Item, Key},
    told,
};
use crate::{
    clock::Instant,
    config::{Mode, Unit},
    http1::Fields,
};

/// The reservations of limits for a request. A lease that is dropped (the request was cancelled or failed) gives tokens and
/// dollars back. The request itself stays counted: hanging up must not give free requests.
#[derive(Debug, Default)]
#[must_use = "dropping a lease gives its tokens and dollars back"]
pub struct Lease {
    /// Not inline: a lease is handed on more often than it is made.
    held: Vec<Held>,
    /// The charges of another replica in the shared store.
    abroad: Option<Box<Holds>>,
}

/// One limit's part of a lease.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) rule: Arc<Rule>,
    pub(super) level: u16,
    pub(super) key: Key,
    /// The amount reserved in memory, and its slot.
    pub(super) reserved: u64,
    pub(super) slot: u64,
    /// Whether the limit is charged: not if it was only checked, or refused while it observes.
    pub(super) charged: bool,
    /// Whether the limit only observes and would have refused.
    pub(super) observed: bool,
    pub(super) shared: Option<Box<Hold>>,
    /// The place among the requests in flight.
    pub(super) place: Option<Place>,
    pub(super) used: u64,
    pub(super) resets: u64,
    /// The owner of the counter in words, for `alert_at`.
    pub(super) who: Option<Arc<str>>,
}

impl Held {
    /// The amount that was left at the admission.
    fn left(&self) -> u64 {
        self.rule.capacity(self.level, self.key).saturating_sub(self.used)
    }
}

/// The state of a limit as a client may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState<'a> {
    /// Its name.
    pub name: &'a str,
    /// The unit it counts.
    pub unit: Unit,
    /// The amount per window.
    pub amount: u64,
    /// The window.
    pub window: Duration,
    /// The amount that may still be used now.
    pub remaining: u64,
    /// The time until everything used now is free again.
    pub resets: Duration,
}

impl Lease {
    /// Corrects the reservations to the true cost: tokens and nano-USD over all tries that may have been billed. An overspend
    /// is a debt that following requests wait for.
    pub fn settle(mut self, tokens: u64, nano_usd: u64, now: Instant) {
        if let Some(abroad) = self.abroad.take() {
            abroad.settle(tokens, nano_usd);
        }
        for held in self.held.drain(..) {
            match held.rule.unit {
                Unit::Requests | Unit::Concurrency => {}
                Unit::Tokens => held.correct(tokens, Some(now)),
                Unit::NanoUsd => held.correct(nano_usd, Some(now)),
            }
        }
    }

    /// Leaves the estimates charged: the cost will never be known, but was very likely incurred.
    pub fn keep(mut self) {
        self.held.clear();
        self.abroad = None;
    }

    /// Gives everything back, the request too: it was answered from cache, refused elsewhere, or never sent.
    pub fn refund(mut self) {
        self.give_back_abroad();
        for held in self.held.drain(..) {
            held.correct(0, None);
        }
    }

    /// Splits off the limits that change with the target: tokens, dollars, and requests by provider or model. The other limits
    /// are the caller's own and stay, whichever target answers.
    pub fn take_moving(&mut self) -> Self {
        let (moving, staying) = self.held.drain(..).partition(|held| held.rule.moves());
        self.held = staying;
        Self { held: moving, abroad: None }
    }

    /// Takes over the reservations of another lease.
    pub fn join(&mut self, mut other: Self) {
        self.held.append(&mut other.held);
    }

    /// Gives the places among the requests in flight back: the answer has ended, the work goes on.
    pub fn landed(mut self) -> Self {
        self.held.iter_mut().for_each(|held| held.place = None);
        self
    }

    /// Whether no limit was asked.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.abroad.is_none()
    }

    /// The charges in the shared store, in a form that another replica can settle.
    pub fn abroad(&self) -> Vec<Abroad> {
        let charges = self.held.iter().filter(|held| held.rule.unit != Unit::Requests);
        charges.filter_map(|held| Some(Abroad::of(held.shared.as_deref()?, held.reserved, held.rule.unit == Unit::NanoUsd))).collect()
    }

    /// Corrects the reservations in this process: another replica has settled the rest.
    pub fn settle_here(mut self, tokens: u64, nano_usd: u64, now: Instant) {
        self.held.iter_mut().for_each(|held| held.shared = None);
        self.settle(tokens, nano_usd, now);
    }

    pub(super) fn held_abroad(holds: Holds) -> Self {
        Self { held: Vec::new(), abroad: Some(Box::new(holds)) }
    }

    fn give_back_abroad(&mut self) {
        if let Some(abroad) = self.abroad.take() {
            abroad.settle(0, 0);
        }
    }

    /// The state of every limit that enforces, as of this request's admission.
    pub fn states(&self) -> impl Iterator<Item = LimitState<'_>> {
        self.held.iter().filter(|held| held.rule.mode == Mode::Enforce).map(|held| LimitState {
            name: &held.rule.name,
            unit: held.rule.unit,
            amount: held.rule.amount(held.level, held.key),
            window: held.rule.window,
            remaining: held.left(),
            resets: Duration::from_micros(held.resets),
        })
    }

    /// The observing limits that would have refused the request.
    pub fn would_refuse(&self) -> impl Iterator<Item = &Arc<str>> {
        self.held.iter().filter(|held| held.observed).map(|held| &held.rule.name)
    }

    /// Adds `RateLimit-Policy` and `RateLimit` of the same limits, if there are any.
    pub fn tell(&self, fields: &mut Fields) {
        told::tell(self.held.iter().map(|held| (&*held.rule, held.level, held.left(), Duration::from_micros(held.resets))), fields);
    }

    /// The lease of an admission in memory.
    pub(super) fn granted(rules: &[Asked<'_>], items: &[Item<'_>]) -> Self {
        let held = rules.iter().zip(items).map(|(asked, item)| Held {
            rule: asked.rule.clone(),
            level: asked.keys.level,
            key: item.key,
            reserved: item.charge,
            slot: item.answer.slot,
            // An estimate of nothing is still settled; a check that charges nothing is not.
            charged: !item.answer.refused && !item.look,
            observed: item.answer.refused,
            shared: None,
            place: None,
            used: item.answer.used,
            resets: item.answer.resets,
            who: asked.keys.who.clone(),
        });
        Self { held: held.collect(), abroad: None }
    }

    /// A lease without reservations: its cost becomes a debt in the current slot.
    pub(super) fn unreserved(rules: &[Asked<'_>], items: &[Item<'_>]) -> Self {
        let held = rules.iter().zip(items).map(|(asked, item)| Held {
            rule: asked.rule.clone(),
            level: asked.keys.level,
            key: item.key,
            reserved: 0,
            slot: 0,
            charged: true,
            observed: false,
            shared: asked.rule.inner.sharing.as_ref().and_then(|sharing| sharing.hold(asked, 0)).map(Box::new),
            place: None,
            used: 0,
            resets: 0,
            who: asked.keys.who.clone(),
        });
        Self { held: held.collect(), abroad: None }
    }

    pub(super) fn held_mut(&mut self) -> &mut [Held] {
        &mut self.held
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back_abroad();
        for held in self.held.drain(..) {
            if matches!(held.rule.unit, Unit::Tokens | Unit::NanoUsd) {
                held.correct(0, None);
            }
        }
    }
}

impl Held {
    /// Corrects the reservation to `actual`. `now` is `None` only for refunds.
    fn correct(self, actual: u64, now: Option<Instant>) {
        let inner = &self.rule.inner;
        let micros = now.map_or(0, |now| inner.micros(now));
        let mut used = self.used.saturating_sub(self.reserved).saturating_add(actual);
        if self.charged && actual != self.reserved {
            used = used.max(inner.table.correct(micros, self.key, &self.rule.meter, self.slot, self.reserved, actual));
        }
        if self.charged && now.is_some() {
            near::watch(&self.rule, (self.key, self.level), self.who.as_ref(), self.used, used);
        }
        if self.charged && now.is_some() && self.rule.warns {
            // Watched from 0: a share passed while others held reservations is seen by the next lease that settles.
            alert::watch(&self.rule, alert::Whose { key: self.key, level: self.level, who: self.who.as_deref() }, 0, used, micros);
        }
        if let (Some(hold), Some(sharing)) = (self.shared, &inner.sharing) {
            sharing.settle(*hold, self.reserved, actual);
        }
    }
}
