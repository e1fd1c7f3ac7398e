//! The demand of a request on its limits.

use super::rule::Rule;
use crate::config::{Applies, OnLimit, Unit};

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
pub struct Demand {
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
    /// Spent limits that let the request through.
    pub over: Over,
}

/// The spent limits that let a request through. It is charged, so that the use goes on beyond the limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Over {
    /// Limits that degrade: the call has gone to a cheaper model.
    pub degrade: bool,
    /// Limits that ask: a person has said yes.
    pub approved: bool,
}

impl Demand {
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
            over: Over::default(),
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
            over: Over::default(),
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
            over: Over::default(),
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
            over: Over::default(),
        }
    }

    /// Whether `rule` lets the request through although the limit is spent. A limit on tokens or dollars that acts lets an incoming
    /// request through: the limit acts on the request's calls.
    pub(super) fn forces(self, rule: &Rule) -> bool {
        let looks = self.look && matches!(rule.unit, Unit::Tokens | Unit::NanoUsd);
        match rule.on_limit {
            OnLimit::Degrade(_) => looks || self.over.degrade,
            OnLimit::Ask(_) => looks || self.over.approved,
            OnLimit::Refuse | OnLimit::CacheOnly => false,
        }
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
