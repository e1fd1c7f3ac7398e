//! What real traffic says of each target: its tries since the last check. A target with several addresses has a count for each, `app:NAME`;
//! whoever asks for `app` gets their sum.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    monitor::Check,
    telemetry::metrics::{Family, Metrics, Value},
};

/// Failed tries from which on traffic alone proves that a target is down. With fewer a probe decides.
const PROOF: u64 = 3;

/// Tries by target.
#[derive(Default)]
pub(super) struct Traffic {
    now: BTreeMap<Arc<str>, Tries>,
    /// The tries at the last check, by what was asked for: a target, or all its addresses.
    checked: BTreeMap<Arc<str>, Tries>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tries {
    good: u64,
    bad: u64,
}

/// Whether a try that ended with this word failed by the target's fault; `None`: it says nothing of the target.
fn is_bad(outcome: &str) -> Option<bool> {
    match outcome {
        "ok" => Some(false),
        "status_5xx" | "overloaded" | "transient" => Some(true),
        // The client left, or we refused: the target is not to blame.
        word if word.starts_with("status_4") || word.contains("cancel") || word.contains("client") || word.contains("throttled") => None,
        word if ["connect", "timeout", "reset", "dns", "tls", "malformed", "broken"].iter().any(|part| word.contains(part)) => Some(true),
        _ => None,
    }
}

impl Traffic {
    /// Notes the counts of all targets.
    pub(super) fn look(&mut self, metrics: &Metrics) {
        let mut now: BTreeMap<Arc<str>, Tries> = BTreeMap::new();
        for family in metrics.gather_of(&[Family::Tries]) {
            for (labels, value) in &family.series {
                let ([target, outcome], Value::Number(n)) = (&labels[..], value) else { continue };
                let tries = now.entry(target.clone()).or_default();
                match is_bad(outcome) {
                    Some(true) => tries.bad += *n as u64,
                    Some(false) => tries.good += *n as u64,
                    None => {}
                }
            }
        }
        self.now = now;
    }

    /// What the tries since the last time prove; `None`: nothing.
    pub(super) fn take(&mut self, target: &Arc<str>) -> Option<Check> {
        let is_of = |name: &str| name.strip_prefix(&**target).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
        let of_it = self.now.iter().filter(|(name, _)| is_of(name)).map(|(_, tries)| tries);
        let now = of_it.fold(Tries::default(), |sum, tries| Tries { good: sum.good + tries.good, bad: sum.bad + tries.bad });
        // What was before the first check proves nothing.
        let before = self.checked.insert(target.clone(), now)?;
        let (good, bad) = (now.good.saturating_sub(before.good), now.bad.saturating_sub(before.bad));
        match (good, bad) {
            (good, bad) if good > 0 && good >= bad => Some(Check::Up),
            (good, bad) if bad >= PROOF => Some(Check::Down(format!("{bad} of {} requests to it failed", good + bad))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn traffic_proves_health_and_silence_proves_nothing() {
        let metrics = Metrics::new(Clock::system());
        let mut traffic = Traffic::default();
        let of = |target: &str, outcome: &str, n: u64| metrics.shared().counter(Family::Tries, &[target, outcome]).add(n);
        let (app, count) = (Arc::from("app"), |outcome: &str, n: u64| of("app", outcome, n));
        count("ok", 5);
        traffic.look(&metrics);
        assert_eq!((traffic.take(&app), traffic.take(&"other".into())), (None, None), "what was before counts for nothing");
        count("ok", 1);
        traffic.look(&metrics);
        assert_eq!((traffic.take(&app), traffic.take(&app)), (Some(Check::Up), None));
        count("connect_failed", 2);
        traffic.look(&metrics);
        assert_eq!(traffic.take(&app), None, "a probe decides");
        count("status_5xx", 4);
        count("ok", 1);
        count("status_404", 50);
        traffic.look(&metrics);
        assert_eq!(traffic.take(&app), Some(Check::Down("4 of 5 requests to it failed".into())));
    }

    #[test]
    fn an_app_of_several_addresses_is_proved_by_all_of_them_together() {
        let metrics = Metrics::new(Clock::system());
        let mut traffic = Traffic::default();
        let count = |target: &str, outcome: &str, n: u64| metrics.shared().counter(Family::Tries, &[target, outcome]).add(n);
        let (app, one): (Arc<str>, Arc<str>) = ("app".into(), "app:one".into());
        count("app:one", "ok", 5);
        traffic.look(&metrics);
        assert_eq!((traffic.take(&app), traffic.take(&one)), (None, None));
        count("app:two", "ok", 3);
        count("app:one", "connect_failed", 3);
        count("apple", "connect_failed", 50);
        traffic.look(&metrics);
        let failed = |n: u64, of: u64| Some(Check::Down(format!("{n} of {of} requests to it failed")));
        assert_eq!((traffic.take(&app), traffic.take(&one)), (Some(Check::Up), failed(3, 3)), "each asks for itself");
        count("app:one", "status_5xx", 2);
        count("app:two", "status_5xx", 2);
        traffic.look(&metrics);
        assert_eq!((traffic.take(&app), traffic.take(&app)), (failed(4, 4), None));
    }
}
