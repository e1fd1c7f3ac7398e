//! The leaky bucket. `governor` does the arithmetic, and our table keeps the one number it needs per key: these keys are
//! bounded, evicted and decided together with all others. Requests only, per process.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

/// A rate with a burst.
#[derive(Debug)]
pub struct Pace {
    limiter: RateLimiter<NotKeyed, Held, Fed, StateInformationMiddleware>,
    interval: u64,
    burst: u32,
}

/// The outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The request passes.
    Fits {
        /// The key's number from now on.
        state: u64,
        /// The requests that may still come at once.
        remaining: u32,
    },
    /// The request would pass after these microseconds; `None`: it is above the burst.
    Refused(Option<u64>),
}

impl Pace {
    /// `amount` per `window`, of which `burst` may come at once. Zeros count as one.
    pub fn new(amount: u64, window: Duration, burst: u32) -> Self {
        let interval = (u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / amount.max(1)).max(1);
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(Duration::from_nanos(interval)).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
        NOW.set(0);
        let limiter = RateLimiter::new(quota.allow_burst(burst), Held, Fed);
        Self { limiter, interval, burst: burst.get() }
    }

    /// Whether `cost` requests pass at `now` (microseconds), given the key's number (0: new).
    pub fn check(&self, state: u64, now: u64, cost: u32) -> Checked {
        let Some(cost) = NonZeroU32::new(cost) else {
            return Checked::Fits { state, remaining: self.burst };
        };
        NOW.set(now.saturating_mul(1_000));
        STATE.set(state);
        match self.limiter.check_n(cost) {
            Ok(Ok(snapshot)) => Checked::Fits { state: STATE.get(), remaining: snapshot.remaining_burst_capacity() },
            Ok(Err(until)) => {
                Checked::Refused(Some(u64::try_from(until.wait_time_from(Fed.now()).as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)))
            }
            Err(_) => Checked::Refused(None),
        }
    }

    /// The key's number after `amount` requests that pass although the bucket is full: later ones wait for them.
    pub fn overfill(&self, state: u64, now: u64, amount: u64) -> u64 {
        state.max(now.saturating_mul(1_000)).saturating_add(self.interval.saturating_mul(amount))
    }

    /// The key's number after `amount` requests were given back.
    pub fn give_back(&self, state: u64, amount: u64) -> u64 {
        state.saturating_sub(self.interval.saturating_mul(amount))
    }

    /// The time (microseconds) from which a key's number means nothing.
    pub fn until(&self, state: u64) -> u64 {
        state.div_ceil(1_000)
    }

    /// The requests of the burst that are used at `now` (microseconds), by the key's number.
    pub fn used(&self, state: u64, now: u64) -> u64 {
        state.saturating_sub(now.saturating_mul(1_000)).div_ceil(self.interval).min(u64::from(self.burst))
    }

    /// Microseconds between two requests.
    pub fn interval_micros(&self) -> u64 {
        self.interval.div_ceil(1_000)
    }

    /// The requests that may come at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }
}

thread_local! {
    /// The instant and the key's number of this thread's present check: governor takes neither as an argument.
    static NOW: Cell<u64> = const { Cell::new(0) };
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// The clock that stands at `NOW`.
#[derive(Debug, Clone, Copy)]
struct Fed;

impl Clock for Fed {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(NOW.get())
    }
}

/// The state that is lent for one check.
#[derive(Debug)]
struct Held;

impl StateStore for Held {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = STATE.get();
        let (outcome, next) = measure((state > 0).then(|| Nanos::from(state)))?;
        STATE.set(next.as_u64());
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate() {
        let pace = Pace::new(10, Duration::from_secs(10), 3);
        let start = 1_000_000_000_000_u64;
        let mut state = 0;
        for left in [2, 1, 0] {
            match pace.check(state, start, 1) {
                Checked::Fits { state: next, remaining } => {
                    assert_eq!(remaining, left);
                    state = next;
                }
                refused => panic!("{refused:?}"),
            }
        }
        assert_eq!(pace.check(state, start, 1), Checked::Refused(Some(1_000_000)));
        assert!(matches!(pace.check(state, start + 1_000_000, 1), Checked::Fits { .. }), "the promised instant passes");
        assert_eq!(pace.check(0, start, 4), Checked::Refused(None));
        let back = pace.give_back(state, 1);
        assert!(matches!(pace.check(back, start, 1), Checked::Fits { .. }), "what was given back passes at once");
    }
}
