//! The demand of a request on its limits.

use smallvec::SmallVec;

use super::rule::Rule;
use crate::{
    config::{Applies, OnLimit, Unit},
    reject::Limited,
};

/// A request's estimated use of tokens or dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimate {
    /// The request is known to use none: the limit is not asked, also when it is spent.
    Nothing,
    /// Nothing is known: the limit refuses once it is spent.
    Unknown,
    /// About this amount, which must fit.
    About(u64),
}

impl From<u64> for Estimate {
    /// An estimate of 0 is no knowledge: a door that knows of no use says [`Estimate::Nothing`].
    fn from(amount: u64) -> Self {
        if amount == 0 { Self::Unknown } else { Self::About(amount) }
    }
}

/// The demand of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand<'a> {
    /// Requests; 0: limits on requests are not asked.
    pub requests: u64,
    /// Tokens.
    pub tokens: Estimate,
    /// Nano-USD.
    pub nano_usd: Estimate,
    /// Limits on tokens and dollars are only checked: they refuse once spent, and nothing is charged.
    pub look: bool,
    /// Only limits that apply at this stage; `None`: all.
    pub stage: Option<Applies>,
    /// Only limits that change with the target: tokens, dollars, and requests by provider or model.
    pub moves: bool,
    /// Limits on requests in flight are asked.
    pub flies: bool,
    /// Spent limits that have acted and let the request through; `None`: none.
    pub over: Option<&'a Over>,
    /// The decision is one more about the same use: it does not count as a decision of its own.
    pub again: bool,
}

/// The spent limits that have acted and let a request through: each by its own act. Every other limit still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Over {
    /// Limits that degrade: the call has gone to their cheaper model.
    degraded: SmallVec<[u64; 1]>,
    /// Limits that ask: a person has said yes.
    approved: SmallVec<[u64; 1]>,
    /// Limits that let stored answers alone through.
    stored: SmallVec<[u64; 1]>,
}

impl Over {
    /// Notes that the limit which has refused so has acted. A limit that only refuses has no act.
    pub fn add(&mut self, limited: &Limited) {
        match limited.act {
            OnLimit::Degrade(_) => self.degraded.push(limited.number),
            OnLimit::Ask(_) => self.approved.push(limited.number),
            OnLimit::CacheOnly => self.stored.push(limited.number),
            OnLimit::Refuse => {}
        }
    }

    /// The same at a target that no limit has chosen: the limits that degrade hold there.
    pub fn elsewhere(&self) -> Self {
        Self { degraded: SmallVec::new(), ..self.clone() }
    }
}

impl<'a> Demand<'a> {
    /// An incoming request: it counts as one, and only checks the limits on tokens and dollars, which its calls will spend.
    pub fn arrival(stage: Applies) -> Self {
        Self {
            requests: 1,
            tokens: Estimate::Unknown,
            nano_usd: Estimate::Unknown,
            look: true,
            stage: Some(stage),
            moves: false,
            flies: true,
            over: None,
            again: false,
        }
    }

    /// A model call at the outbound door.
    pub fn call(stage: Applies, tokens: impl Into<Estimate>, nano_usd: impl Into<Estimate>) -> Self {
        Self {
            requests: 1,
            tokens: tokens.into(),
            nano_usd: nano_usd.into(),
            look: false,
            stage: Some(stage),
            moves: false,
            flies: true,
            over: None,
            again: false,
        }
    }

    /// A model call against the limits of the inbound route that caused it: tokens and dollars only.
    pub fn caused(tokens: impl Into<Estimate>, nano_usd: impl Into<Estimate>) -> Self {
        Self {
            requests: 0,
            tokens: tokens.into(),
            nano_usd: nano_usd.into(),
            look: false,
            stage: None,
            moves: false,
            flies: false,
            over: None,
            again: false,
        }
    }

    /// One more try at the same target: tokens, dollars, and requests in flight by provider or model.
    pub fn again(tokens: impl Into<Estimate>, nano_usd: impl Into<Estimate>) -> Self {
        Self { moves: true, flies: true, ..Self::caused(tokens, nano_usd) }
    }

    /// A call that moves on to another target: see [`Lease::take_moving`](super::Lease::take_moving).
    pub fn moved(tokens: impl Into<Estimate>, nano_usd: impl Into<Estimate>) -> Self {
        Self {
            requests: 1,
            tokens: tokens.into(),
            nano_usd: nano_usd.into(),
            look: false,
            stage: None,
            moves: true,
            flies: true,
            over: None,
            again: false,
        }
    }

    /// Whether `rule` lets the request through although the limit is spent. A limit on tokens or dollars that acts lets an incoming
    /// request through: the limit acts on the request's calls.
    pub(super) fn forces(self, rule: &Rule) -> bool {
        let has = |acted: fn(&Over) -> &[u64]| self.over.is_some_and(|over| acted(over).contains(&rule.number));
        match rule.on_limit {
            OnLimit::Degrade(_) => self.looks(rule) || has(|over| &over.degraded),
            OnLimit::Ask(_) => self.looks(rule) || has(|over| &over.approved),
            OnLimit::Refuse | OnLimit::CacheOnly => false,
        }
    }

    /// Whether `rule` is not asked: it has let stored answers through, which it does not count.
    pub(super) fn passes(self, rule: &Rule) -> bool {
        self.over.is_some_and(|over| over.stored.contains(&rule.number))
    }

    /// Whether `rule` is only checked.
    pub(super) fn looks(self, rule: &Rule) -> bool {
        self.look && matches!(rule.unit, Unit::Tokens | Unit::NanoUsd)
    }

    /// The amount that must fit, and the amount charged; `None`: the limit is not asked.
    pub(super) fn of(self, unit: Unit) -> Option<(u64, u64)> {
        let estimate = match unit {
            // A request in flight takes a place: nothing is charged.
            Unit::Concurrency => return Some((1, 0)),
            Unit::Requests if self.requests == 0 => return None,
            Unit::Requests => return Some((self.requests, self.requests)),
            Unit::Tokens => self.tokens,
            Unit::NanoUsd => self.nano_usd,
        };
        match estimate {
            Estimate::Nothing => None,
            Estimate::Unknown => Some((1, 0)),
            Estimate::About(_) if self.look => Some((1, 0)),
            Estimate::About(amount) => Some((amount, amount)),
        }
    }
}
