//! PagerDuty Events API v2: one event an incident. The incident's id is the deduplication key, so replicas and reminders are one incident.

use serde_json::{Value, json};

use super::cut;
use crate::{
    alert::{Kind, Notice},
    config::Severity,
};

/// The events of a notice. A digest pages nobody.
pub fn events(notice: &Notice, routing_key: &str) -> Vec<Value> {
    if notice.kind == Kind::Digest {
        return Vec::new();
    }
    let event = |item: &crate::alert::Item| {
        let action = if notice.kind == Kind::Resolved { "resolve" } else { "trigger" };
        let severity = match item.severity {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Low => "info",
        };
        let summary = cut(&format!("[{}] {}: {} - {}", notice.service, item.rule, item.subject, item.says), 1_024);
        json!({
            "routing_key": routing_key,
            "event_action": action,
            "dedup_key": format!("outrigger/{}/{}", notice.service, item.id),
            "client": "outrigger",
            "payload": {
                "summary": summary,
                "source": notice.service,
                "severity": severity,
                "timestamp": super::time(item.since),
                "component": item.subject,
                "class": item.rule,
                "custom_details": {"says": cut(&item.says, 4_000), "hit": item.hit.says(), "what_to_do": item.advice},
            },
            "links": item.runbook.iter().map(|url| json!({"href": url, "text": "Runbook"})).collect::<Vec<_>>(),
        })
    };
    notice.items.iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::format::tests::notice;

    #[test]
    fn an_event_names_its_incident_and_a_resolve_the_same_one() {
        let firing = events(&notice(Kind::Firing, 2), "key");
        let resolved = events(&notice(Kind::Resolved, 2), "key");
        assert_eq!((firing.len(), &firing[0]["event_action"], &resolved[0]["event_action"]), (2, &json!("trigger"), &json!("resolve")));
        assert_eq!(firing[1]["dedup_key"], resolved[1]["dedup_key"]);
        assert!(firing[1]["payload"]["summary"].as_str().is_some_and(|text| text.chars().count() <= 1_024));
        assert!(events(&notice(Kind::Digest, 2), "key").is_empty());
    }
}
