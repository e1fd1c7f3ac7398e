//! What a rule may look at: counts since the start, gauges, and states that stand.

use std::sync::Arc;

use crate::config::{Measure, Severity};

/// One look at the numbers.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Wall time, in milliseconds since 1970.
    pub wall: u64,
    /// Steady time, in milliseconds.
    pub steady: u64,
    /// The routes of both doors.
    pub routes: Vec<Route>,
    /// Sums over the process.
    pub totals: Totals,
    /// Nano-dollars that an hour like this one usually costs; `None`: nobody knows.
    pub usual: Option<u64>,
    /// Values that are what they are now.
    pub gauges: Vec<Gauge>,
    /// What is wrong now, and stays so until it is not among the facts any more.
    pub standing: Vec<Standing>,
}

/// A route's counts.
#[derive(Debug, Clone)]
pub struct Route {
    /// `inbound` or `outbound`.
    pub door: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its counts.
    pub counts: Counts,
}

/// A route's counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers.
    pub requests: u64,
    /// Answers with status 500 or more, or cut.
    pub errors: u64,
    /// Cache lookups.
    pub lookups: u64,
    /// Cache lookups that were answered.
    pub hits: u64,
    /// Answers by duration; one more than the bounds.
    pub buckets: Vec<u64>,
    /// The upper bounds of the durations, in nanoseconds.
    pub bounds: &'static [u64],
}

/// Sums over the process since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests at the inbound door.
    pub arrivals: u64,
    /// Model calls.
    pub calls: u64,
    /// Model calls without a known inbound request.
    pub unattributed: u64,
    /// Nano-dollars of model calls.
    pub nano_usd: u64,
    /// Lines, spans and notices that were lost.
    pub lost: u64,
}

/// A value now.
#[derive(Debug, Clone)]
pub struct Gauge {
    /// The measure that it belongs to.
    pub of: Measure,
    /// Whose value.
    pub subject: Arc<str>,
    /// In the measure's unit.
    pub value: f64,
    /// The value in a sentence.
    pub says: String,
    /// For a time that is left: the window that it is a part of, in seconds; 0: none.
    pub scope: f64,
    /// The most that it may be; `None`: what the rule says.
    pub most: Option<Severity>,
}

impl Default for Gauge {
    fn default() -> Self {
        Self { of: Measure::Memory, subject: "".into(), value: 0.0, says: String::new(), scope: 0.0, most: None }
    }
}

/// Something wrong that stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The measure that it belongs to.
    pub of: Measure,
    /// What is wrong.
    pub subject: Arc<str>,
    /// Why, in a sentence.
    pub says: String,
    /// The most that it may be; `None`: what the rule says.
    pub most: Option<Severity>,
}

impl Counts {
    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let minus = |now: u64, before: u64| now.saturating_sub(before);
        let before = |at: usize| earlier.buckets.get(at).copied().unwrap_or_default();
        Self {
            requests: minus(self.requests, earlier.requests),
            errors: minus(self.errors, earlier.errors),
            lookups: minus(self.lookups, earlier.lookups),
            hits: minus(self.hits, earlier.hits),
            buckets: self.buckets.iter().enumerate().map(|(at, now)| minus(*now, before(at))).collect(),
            bounds: self.bounds,
        }
    }

    /// How many answers took longer than this many seconds. Within a bucket they are spread evenly.
    pub fn slower_than(&self, seconds: f64) -> f64 {
        let (mut from, mut slower) = (0.0, 0.0);
        for (at, count) in self.buckets.iter().enumerate() {
            let to = self.bounds.get(at).map_or(f64::INFINITY, |bound| *bound as f64 / 1e9);
            slower += *count as f64
                * match seconds {
                    seconds if seconds <= from => 1.0,
                    seconds if seconds >= to || to.is_infinite() => 0.0,
                    seconds => (to - seconds) / (to - from),
                };
            from = to;
        }
        // Nothing is known beyond the last bound but that it was passed.
        slower
    }

    /// The time in which this share of the answers was complete, in seconds; the last bound for what is beyond it.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.buckets.iter().sum();
        let (wanted, mut seen, mut from) = (share * all as f64, 0.0, 0.0);
        for (at, count) in self.buckets.iter().enumerate() {
            let Some(bound) = self.bounds.get(at) else { return (all > 0).then_some(from) };
            let to = *bound as f64 / 1e9;
            if seen + *count as f64 >= wanted && *count > 0 {
                return Some(from + (to - from) * (wanted - seen).max(0.0) / *count as f64);
            }
            seen += *count as f64;
            from = to;
        }
        None
    }
}

impl Totals {
    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            arrivals: self.arrivals.saturating_sub(earlier.arrivals),
            calls: self.calls.saturating_sub(earlier.calls),
            unattributed: self.unattributed.saturating_sub(earlier.unattributed),
            nano_usd: self.nano_usd.saturating_sub(earlier.nano_usd),
            lost: self.lost.saturating_sub(earlier.lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_off_the_buckets() {
        let counts = Counts { buckets: vec![50, 50, 0, 10], bounds: &[1_000_000_000, 2_000_000_000, 4_000_000_000], ..Counts::default() };
        assert_eq!(counts.quantile(0.5), Some(1.1));
        assert_eq!(counts.quantile(0.99), Some(4.0), "beyond the last bound nothing is known");
        assert_eq!((counts.slower_than(1.5), counts.slower_than(1.0), counts.slower_than(0.0)), (35.0, 60.0, 110.0));
        assert_eq!(Counts::default().quantile(0.5), None);
    }
}
