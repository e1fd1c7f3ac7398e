//! What real traffic says of each target: its tries since the last check.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    monitor::Check,
    telemetry::metrics::{Family, Metrics, Value},
};

/// Failed tries from which on traffic alone proves that a target is down. With fewer a probe decides.
const PROOF: u64 = 3;

/// Tries by target: those at the last check, and those now.
#[derive(Default)]
pub(super) struct Traffic(BTreeMap<Arc<str>, [Tries; 2]>);

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
        for (target, tries) in now {
            self.0.entry(target).or_insert([tries; 2])[1] = tries;
        }
    }

    /// What the tries since the last time prove; `None`: nothing.
    pub(super) fn take(&mut self, target: &str) -> Option<Check> {
        let [before, now] = self.0.get_mut(target)?;
        let (good, bad) = (now.good.saturating_sub(before.good), now.bad.saturating_sub(before.bad));
        *before = *now;
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
        let count = |outcome: &str, n: u64| metrics.shared().counter(Family::Tries, &["app", outcome]).add(n);
        count("ok", 5);
        traffic.look(&metrics);
        assert_eq!((traffic.take("app"), traffic.take("other")), (None, None), "what was before counts for nothing");
        count("ok", 1);
        traffic.look(&metrics);
        assert_eq!((traffic.take("app"), traffic.take("app")), (Some(Check::Up), None));
        count("connect_failed", 2);
        traffic.look(&metrics);
        assert_eq!(traffic.take("app"), None, "a probe decides");
        count("status_5xx", 4);
        count("ok", 1);
        count("status_404", 50);
        traffic.look(&metrics);
        assert_eq!(traffic.take("app"), Some(Check::Down("4 of 5 requests to it failed".into())));
    }
}
