//! What a rule finds in one look: whose value is bad, how bad, and in which words.
//!
//! A share is concluded from a sample. An incident begins when the bound of the share's confidence interval passes the threshold
//! (Wilson's interval, z = 4: one chance in 30,000), and goes on while the share itself is beyond it. So few requests make no alarm.

use std::sync::Arc;

use super::{
    facts::{Counts, Facts},
    trail::{Trail, WINDOWS},
};
use crate::config::{AlertRule, Measure, Severity, UnitOf, human};

/// Standard deviations of the interval.
const Z: f64 = 4.0;
/// Least dollars of five minutes that can be a spike: 10 cents.
const SPIKE: u64 = 100_000_000;

/// One subject's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) subject: Arc<str>,
    /// The severity that begins an incident or makes it worse.
    pub(super) firm: Option<Severity>,
    /// Whether an incident that has begun goes on.
    pub(super) stays: bool,
    /// In a sentence.
    pub(super) says: String,
}

/// The lower and upper bound of a share, of which `some` of `all` were seen (Wilson 1927).
pub(super) fn bounds(some: f64, all: f64) -> (f64, f64) {
    if all <= 0.0 {
        return (0.0, 1.0);
    }
    let (share, z2) = ((some / all).clamp(0.0, 1.0), Z * Z);
    let middle = share + z2 / (2.0 * all);
    let half = Z * (share * (1.0 - share) / all + z2 / (4.0 * all * all)).sqrt();
    let whole = 1.0 + z2 / all;
    ((middle - half) / whole, (middle + half) / whole)
}

/// The threshold that a value has passed, or would pass first.
fn limit(rule: &AlertRule, severity: Option<Severity>) -> String {
    let at = severity.and_then(|severity| rule.thresholds[severity as usize]).or(rule.thresholds.iter().flatten().next().copied());
    at.map_or_else(String::new, |at| match rule.of.unit() {
        UnitOf::Share => percent(at),
        UnitOf::Time => seconds(at),
        UnitOf::Number => format!("{at}"),
    })
}

pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 || percent.fract() == 0.0 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}

pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        _ => human::wait(std::time::Duration::from_secs_f64(seconds.min(1e12))),
    }
}

/// The findings of a rule about a route: its counts in the shortest window with enough requests.
pub(super) fn of_route(rule: &AlertRule, subject: &Arc<str>, trail: &Trail<Counts>) -> Option<Finding> {
    let enough = |counts: &Counts| match rule.of {
        Measure::HitRate => counts.lookups >= u64::from(rule.min_requests),
        _ => counts.requests >= u64::from(rule.min_requests),
    };
    let now = trail.last()?;
    let counts = WINDOWS.iter().filter_map(|window| Some(now.since(trail.before(*window)?.0))).find(enough)?;
    let (firm, stays, value) = match rule.of {
        Measure::ErrorRate => {
            let (some, all) = (counts.errors as f64, counts.requests as f64);
            (
                rule.severity(bounds(some, all).0),
                rule.severity(some / all).is_some(),
                format!("{} of the answers of {subject} are errors", percent(some / all)),
            )
        }
        Measure::HitRate => {
            let (some, all) = (counts.hits as f64, counts.lookups as f64);
            let says = format!("the cache answers {} of the requests to {subject}", percent(some / all));
            (rule.severity(bounds(some, all).1), rule.severity(some / all).is_some(), says)
        }
        _ => {
            let p95 = counts.quantile(0.95)?;
            let slow = |at: f64| bounds(counts.slower_than(at), counts.requests as f64).0 >= 0.05;
            let firm =
                Severity::ALL.into_iter().zip(rule.thresholds).rev().find(|(_, at)| at.is_some_and(slow)).map(|(severity, _)| severity);
            (firm, rule.severity(p95).is_some(), format!("5% of the answers of {subject} take {} or longer", seconds(p95)))
        }
    };
    Some(Finding { subject: subject.clone(), firm, stays, says: format!("{value} (threshold {})", limit(rule, firm)) })
}

/// What a value that needs no sample is.
pub(super) fn of_value(rule: &AlertRule, subject: &Arc<str>, value: f64, says: &str) -> Finding {
    let firm = rule.severity(value);
    let threshold = limit(rule, firm);
    Finding { subject: subject.clone(), firm, stays: firm.is_some(), says: format!("{says} (threshold {threshold})") }
}

/// The findings of a rule about the sums of the process.
pub(super) fn of_totals(rule: &AlertRule, facts: &Facts, trail: &Trail<super::facts::Totals>) -> Option<Finding> {
    let now = trail.last()?;
    let process: Arc<str> = "proxy".into();
    match rule.of {
        Measure::Unattributed => {
            let calls = WINDOWS.iter().filter_map(|window| Some(now.since(trail.before(*window)?.0)));
            let counts = calls.into_iter().find(|counts| counts.calls >= u64::from(rule.min_requests))?;
            let (some, all) = (counts.unattributed as f64, counts.calls as f64);
            let says = format!("{} of the model calls belong to no known request (threshold {})", percent(some / all), limit(rule, None));
            Some(Finding { subject: process, firm: rule.severity(bounds(some, all).0), stays: rule.severity(some / all).is_some(), says })
        }
        Measure::Dropped => {
            let lost = now.since(trail.before(WINDOWS[1])?.0).lost;
            Some(of_value(rule, &process, lost as f64, &format!("{lost} log lines, spans or notices were lost in the last minute")))
        }
        Measure::Spike => {
            let (before, length) = trail.before(WINDOWS[2])?;
            let spent = now.since(before).nano_usd;
            let usual = facts.usual.filter(|usual| *usual > 0)?;
            if length + 10_000 < WINDOWS[2] || spent < SPIKE {
                return None;
            }
            let hourly = u64::try_from(u128::from(spent) * 3_600_000 / u128::from(length)).unwrap_or(u64::MAX);
            let says = format!(
                "model calls cost {} an hour; this hour usually costs {}",
                human::about_dollars(hourly),
                human::about_dollars(usual)
            );
            Some(of_value(rule, &process, hourly as f64 / usual as f64, &says))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_prove_little() {
        let (low, high) = bounds(1.0, 2.0);
        assert!(low < 0.1 && high > 0.9);
        assert!(bounds(4.0, 20.0).0 < 0.05 && bounds(6.0, 20.0).0 > 0.05);
        let (low, high) = bounds(500.0, 1_000.0);
        assert!(low > 0.43 && high < 0.57);
        assert_eq!(bounds(0.0, 0.0), (0.0, 1.0));
    }

    proptest::proptest! {
        #[test]
        fn the_share_is_between_its_bounds(all in 1u32..10_000, part in 0.0f64..=1.0) {
            let some = (f64::from(all) * part).floor();
            let (low, high) = bounds(some, all.into());
            let share = some / f64::from(all);
            proptest::prop_assert!((-1e-9..=share + 1e-9).contains(&low) && (share - 1e-9..=1.0 + 1e-9).contains(&high));
        }
    }

    #[test]
    fn values_are_told_as_people_write_them() {
        assert_eq!([percent(0.05), percent(0.315), percent(0.0123)], ["5%", "32%", "1.2%"]);
        assert_eq!([seconds(0.25), seconds(2.0), seconds(300.0)], ["250 ms", "2.0 s", "5 min"]);
    }
}
