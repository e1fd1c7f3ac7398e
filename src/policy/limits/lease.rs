//! The reservations of an admitted request until its cost is known, and the header fields that tell its client about its limits.
//!
//! Header fields are those of draft-ietf-httpapi-ratelimit-headers-11: `RateLimit-Policy` (`q` quota, `w` window in seconds, `qu`
//! unit) and `RateLimit` (`r` remaining, `t` seconds until the window is free, or, refused, until the request would pass).
//! Limits that only observe are not shown.

use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use smallvec::SmallVec;

use super::{
    Asked, Rule,
    abroad::{Abroad, Holds},
    alert,
    shared::Hold,
    table::{Item, Key},
};
use crate::{
    clock::Instant,
    config::{self, Mode, Unit},
    http1::{Fields, Id, write_number},
    reject::{Limited, ceil_secs},
};

/// The largest integer of a structured field (RFC 9651 section 3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// The reservations of limits for a request. A lease that is dropped (the request was cancelled or failed) gives tokens and
/// dollars back. The request itself stays counted: hanging up must not give free requests.
#[derive(Debug, Default)]
#[must_use = "dropping a lease gives its tokens and dollars back"]
pub struct Lease {
    held: SmallVec<[Held; 2]>,
    /// The charges of another replica in the shared store.
    abroad: Option<Box<Holds>>,
}

/// One limit's part of a lease.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) rule: Arc<Rule>,
    pub(super) key: Key,
    /// The amount reserved in memory, and its slot.
    pub(super) reserved: u64,
    pub(super) slot: u64,
    /// Whether the limit is charged: not if it was only checked, or refused while it observes.
    pub(super) charged: bool,
    pub(super) shared: Option<Box<Hold>>,
    pub(super) used: u64,
    pub(super) resets: u64,
    /// The owner of the counter in words, for `alert_at`.
    pub(super) who: Option<Arc<str>>,
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
                Unit::Requests => {}
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
        self.held.extend(other.held.drain(..));
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
        Self { held: SmallVec::new(), abroad: Some(Box::new(holds)) }
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
            amount: held.rule.amount,
            window: held.rule.window,
            remaining: held.rule.capacity().saturating_sub(held.used),
            resets: Duration::from_micros(held.resets),
        })
    }

    /// Adds `RateLimit-Policy` and `RateLimit` of the same limits, if there are any.
    pub fn tell(&self, fields: &mut Fields) {
        tell(self.held.iter().map(|held| (&*held.rule, held.used, Duration::from_micros(held.resets))), fields);
    }

    /// The lease of an admission in memory.
    pub(super) fn granted(rules: &[Asked<'_>], items: &[Item<'_>]) -> Self {
        let held = rules.iter().zip(items).map(|(asked, item)| Held {
            rule: asked.rule.clone(),
            key: item.key,
            reserved: item.charge,
            slot: item.answer.slot,
            // An estimate of nothing is still settled; a check that charges nothing is not.
            charged: !item.answer.refused && !item.look,
            shared: None,
            used: item.answer.used,
            resets: item.answer.resets,
            who: asked.who.cloned(),
        });
        Self { held: held.collect(), abroad: None }
    }

    /// A lease without reservations: its cost becomes a debt in the current slot.
    pub(super) fn unreserved(rules: &[Asked<'_>], items: &[Item<'_>]) -> Self {
        let held = rules.iter().zip(items).map(|(asked, item)| Held {
            rule: asked.rule.clone(),
            key: item.key,
            reserved: 0,
            slot: 0,
            charged: true,
            shared: asked.rule.inner.sharing.as_ref().and_then(|sharing| sharing.hold(asked, 0)).map(Box::new),
            used: 0,
            resets: 0,
            who: asked.who.cloned(),
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
            if held.rule.unit != Unit::Requests {
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
        if self.charged && now.is_some() && !self.rule.shares.is_empty() {
            // Watched from 0: a share passed while others held reservations is seen by the next lease that settles.
            alert::watch(&self.rule, alert::Whose { key: self.key, who: self.who.as_deref() }, 0, used, micros);
        }
        if let (Some(hold), Some(sharing)) = (self.shared, &inner.sharing) {
            sharing.settle(*hold, self.reserved, actual);
        }
    }
}

/// The refusal by the limit with the longest wait, counted; its fields tell the state of all limits.
pub(super) fn refusal(rules: &[Asked<'_>], items: &[Item<'_>], now: u64) -> Box<Limited> {
    let mut worst: Option<(&Rule, &Item<'_>)> = None;
    for (asked, item) in rules.iter().zip(items).filter(|(_, item)| item.answer.refused && !item.observe) {
        asked.rule.tally.refused.fetch_add(1, Relaxed);
        alert::refused(asked.rule, asked.whose(item.key), item.answer.used, now);
        let longer = worst.is_none_or(|(_, longest)| match (longest.answer.wait, item.answer.wait) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(longest), Some(wait)) => wait > longest,
        });
        if longer {
            worst = Some((asked.rule, item));
        }
    }
    let states = rules.iter().zip(items).map(|(asked, item)| {
        let until = if item.answer.refused { item.answer.wait.unwrap_or(item.answer.resets) } else { item.answer.resets };
        (&**asked.rule, item.answer.used, Duration::from_micros(until))
    });
    let mut headers = Fields::new();
    tell(states, &mut headers);
    let (rule, item) = worst.unwrap_or((rules[0].rule, &items[0]));
    let remaining = rule.capacity().saturating_sub(item.answer.used);
    limited(rule, item.answer.wait.map(Duration::from_micros), remaining, headers)
}

/// A refusal by one limit.
pub(super) fn limited(rule: &Rule, retry_after: Option<Duration>, remaining: u64, headers: Fields) -> Box<Limited> {
    let (limit, unit) = (rule.name.clone(), rule.unit.as_str());
    Box::new(Limited { limit, unit, amount: rule.amount, window: rule.window, retry_after, remaining, headers })
}

/// A limit's member of `RateLimit-Policy`.
pub(super) fn policy(limit: &config::Limit) -> String {
    let unit = match limit.unit {
        Unit::Requests => "requests",
        Unit::Tokens => "tokens",
        Unit::NanoUsd => "nano-usd",
    };
    let window = ceil_secs(limit.window).clamp(1, LARGEST);
    format!("{};q={};w={window};qu=\"{unit}\"", quoted(&limit.name), limit.amount.min(LARGEST))
}

/// Adds `RateLimit-Policy` and `RateLimit` of the limits that are enforced: limit, amount used, time until it is whole again.
fn tell<'a>(states: impl Iterator<Item = (&'a Rule, u64, Duration)> + Clone, fields: &mut Fields) {
    let enforced = || states.clone().filter(|(rule, ..)| rule.mode == Mode::Enforce);
    if enforced().next().is_none() {
        return;
    }
    fields.append_with(Id::RatelimitPolicy, |line| {
        for (at, (rule, ..)) in enforced().enumerate() {
            line.extend_from_slice(if at > 0 { b", " } else { b"" });
            line.extend_from_slice(rule.policy.as_bytes());
        }
    });
    fields.append_with(Id::Ratelimit, |line| {
        for (at, (rule, used, until)) in enforced().enumerate() {
            line.extend_from_slice(if at > 0 { b", " } else { b"" });
            line.extend_from_slice(rule.quoted.as_bytes());
            for (key, number) in [(b";r=", rule.capacity().saturating_sub(used)), (b";t=", ceil_secs(until))] {
                line.extend_from_slice(key);
                write_number(line, number.min(LARGEST));
            }
        }
    });
}

/// A name as a structured-field string: visible ASCII, `\` and `"` escaped; other characters become `?`.
pub(super) fn quoted(name: &str) -> String {
    let mut out = String::from('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => out.push('?'),
        }
    }
    out.push('"');
    out
}
