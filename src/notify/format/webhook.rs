//! The body of a webhook (Standard Webhooks: `type`, `timestamp`, `data`): the notice as it is.

use serde_json::{Value, json};

use super::time;
use crate::alert::Notice;

/// The body.
pub fn body(notice: &Notice) -> Value {
    let item = |item: &crate::alert::Item| {
        json!({
            "id": item.id,
            "rule": item.rule,
            "subject": item.subject,
            "severity": item.severity.as_str(),
            "summary": item.says,
            "since": time(item.since),
            "until": item.until.map(time),
            "callers": item.hit.callers.iter().map(|(name, n)| json!({"name": name, "failures": n})).collect::<Vec<_>>(),
            "caller_count": item.hit.caller_count,
            "routes": item.hit.routes.iter().map(|(name, n)| json!({"name": name, "failures": n})).collect::<Vec<_>>(),
            "cost_usd": item.hit.nano_usd.map(crate::config::human::usd),
            "what_to_do": item.advice,
            "runbook": item.runbook,
        })
    };
    json!({
        "type": format!("alert.{}", notice.kind.as_str()),
        "timestamp": time(notice.at),
        "data": {
            "service": notice.service,
            "severity": notice.severity.as_str(),
            "title": notice.title(),
            "incidents": notice.items.iter().map(item).collect::<Vec<_>>(),
            "more": notice.more,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::Kind, notify::format::tests::notice};

    #[test]
    fn dollars_are_decimal_texts_and_times_are_rfc_3339() {
        let body = body(&notice(Kind::Firing, 1));
        let one = &body["data"]["incidents"][0];
        assert_eq!(
            (&body["type"], &one["cost_usd"], &one["since"]),
            (&json!("alert.firing"), &json!("1.23"), &json!("2027-01-15T08:00:00Z"))
        );
    }
}
