//! Alertmanager's API v2 (`POST /api/v2/alerts`): one alert an incident; equal labels are the same alert, so replicas are one.

use serde_json::{Value, json};

use super::time;
use crate::alert::{Kind, Notice};

/// An alert without an end is over for Alertmanager after this time, unless it is told again: longer than the pause between two
/// reminders of the courier (see [`RENEW`]).
const LASTS: u64 = 15 * 60_000;
/// An open incident is told to an Alertmanager again after this time, in milliseconds.
pub const RENEW: u64 = 5 * 60_000;

/// The alerts of a notice. A digest is none: its incidents are over.
pub fn alerts(notice: &Notice) -> Vec<Value> {
    if notice.kind == Kind::Digest {
        return Vec::new();
    }
    let alert = |item: &crate::alert::Item| {
        json!({
            "labels": {
                "alertname": format!("outrigger_{}", item.rule),
                "service": notice.service,
                "severity": item.severity.as_str(),
                "subject": item.subject,
                "incident": item.id,
            },
            "annotations": {
                "summary": item.says,
                "hit": item.hit.says().unwrap_or_default(),
                "what_to_do": item.advice,
                "runbook_url": item.runbook.as_deref().unwrap_or_default(),
            },
            "startsAt": time(item.since),
            "endsAt": time(item.until.unwrap_or(notice.at + LASTS)),
        })
    };
    notice.items.iter().map(alert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::format::tests::notice;

    #[test]
    fn an_alert_is_the_same_when_it_ends() {
        let (firing, over) = (alerts(&notice(Kind::Firing, 1)), alerts(&notice(Kind::Resolved, 1)));
        assert_eq!(firing[0]["labels"], over[0]["labels"]);
        assert_eq!(over[0]["endsAt"], "2027-01-15T08:01:30Z");
        assert_eq!(firing[0]["endsAt"], "2027-01-15T08:16:40Z");
    }
}
