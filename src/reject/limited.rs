//! A spent limit, as its client is told.

use std::{sync::Arc, time::Duration};

use crate::{
    config::{OnLimit, Unit, human},
    http1::Fields,
};

/// A spent limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limited {
    /// The limit's name.
    pub limit: Arc<str>,
    /// The limit's number, which tells it from all others.
    pub number: u64,
    /// The tier whose amount holds; `None`: the limit's own.
    pub tier: Option<Arc<str>>,
    /// The unit that it counts.
    pub unit: &'static str,
    /// The amount per window, in `unit` (USD: nano-dollars).
    pub amount: u64,
    /// The window.
    pub window: Duration,
    /// The time until the same request would pass; `None`: never, it asks for more than the limit.
    pub retry_after: Option<Duration>,
    /// The amount that is left now: too little for this request.
    pub remaining: u64,
    /// Fields that tell the state of the limits.
    pub headers: Fields,
    /// Why it refuses.
    pub why: Why,
    /// What the limits would rather do than refuse.
    pub act: OnLimit,
}

/// Why a limit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The amount of its window is used up.
    Spent,
    /// As many requests as it allows are in flight.
    InFlight,
    /// As many requests as it allows wait in its queue.
    QueueFull,
    /// The wait in its queue is longer than allowed, or would be.
    QueueTooLong,
    /// Nobody has said yes.
    NotApproved,
}

impl Why {
    /// The word for metrics, logs and bodies.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Spent => "limited",
            Self::InFlight => "too_many_in_flight",
            Self::QueueFull => "queue_full",
            Self::QueueTooLong => "queue_too_long",
            Self::NotApproved => "not_approved",
        }
    }
}

impl Limited {
    pub(super) fn detail(&self) -> String {
        let unit = Unit::of_word(self.unit);
        let tier = self.tier.as_ref().map(|tier| format!(" (tier {tier})")).unwrap_or_default();
        let terms = format!("{}{tier}", human::limit(unit, self.amount, self.window));
        let queue = match self.why {
            Why::Spent => None,
            Why::InFlight => Some("as many requests are in flight"),
            Why::QueueFull => Some("its queue is full"),
            Why::QueueTooLong => Some("the wait in its queue is longer than allowed"),
            Why::NotApproved => Some("it is spent, and nobody has said yes to this request"),
        };
        if let Some(why) = queue {
            let wait = self.retry_after.map(|wait| format!("; try again in {}", human::wait(wait))).unwrap_or_default();
            return format!("the limit `{}` of {terms} has no room: {why}{wait}", self.limit);
        }
        let Some(wait) = self.retry_after else {
            return format!("this request alone may need more than the limit `{}` of {terms}", self.limit);
        };
        let state = match self.remaining {
            0 => format!("of {terms} is spent"),
            left => {
                let left = human::part_of(unit, left, self.amount);
                format!("has {left} {}{tier} left, and this request may need more", human::per(self.window))
            }
        };
        format!("the limit `{}` {state}; try again in {}", self.limit, human::wait(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_limit_is_told_in_amounts_and_times_of_people() {
        let detail = |unit, amount, remaining, window, retry_after: Option<u64>| {
            let (window, retry_after) = (Duration::from_secs(window), retry_after.map(Duration::from_secs));
            let (limit, tier) = ("budget".into(), None);
            Limited {
                limit,
                number: 0,
                tier,
                unit,
                amount,
                window,
                retry_after,
                remaining,
                headers: Fields::new(),
                why: Why::Spent,
                act: OnLimit::Refuse,
            }
            .detail()
        };
        for (said, expected) in [
            (
                detail("usd", 25_000_000_000, 60_000_000, 86_400, Some(88_680)),
                "the limit `budget` has $0.06 of $25 per day left, and this request may need more; try again in 24 h 38 min",
            ),
            (detail("usd", 500_000_000, 0, 3_600, Some(61)), "the limit `budget` of $0.50 per hour is spent; try again in 1 min 1 s"),
            (detail("requests", 1_000, 0, 60, Some(5)), "the limit `budget` of 1,000 requests per minute is spent; try again in 5 s"),
            (detail("tokens", 200, 200, 60, None), "this request alone may need more than the limit `budget` of 200 tokens per minute"),
        ] {
            assert_eq!(said, expected);
        }
    }
}
