//! Refused requests for the audit log: those that a policy of security has refused.

use super::{ask::Origin, ending::Ending};
use crate::audit::Refusal;

/// Notes the exchange, if it is one of those.
pub(super) fn note(ending: &Ending) {
    let Some(reason) = ending.answer.reject else { return };
    let (ask, audit) = (&ending.ask, &ending.ask.proxy.shared.audit);
    if !audit.is_on() || ask.origin != Origin::Client {
        return;
    }
    let Some(event) = event(reason) else { return };
    if ask.worker.live.config.audit.as_ref().is_none_or(|audit| !audit.refusals) {
        return;
    }
    audit.refused(&Refusal {
        event,
        reason,
        door: ask.door().as_str(),
        route: &ask.route_name(),
        method: ask.arrival.method.as_str(),
        request_id: ask.request_id().text(&mut [0; 32]),
        address: ask.arrival.client,
        caller: ask.caller_name().unwrap_or_default(),
    });
}

/// The word of the log for a refusal; `None`: it is none of security.
fn event(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "access_denied" | "attack_refused" | "banned" => "access.refused",
        "auth_missing" | "auth_invalid" | "auth_insufficient" | "auth_slowed" | "auth_unknown" => "auth.refused",
        "cors_refused" => "cors.refused",
        "csrf_refused" => "csrf.refused",
        "invalid_method" | "undocumented" | "invalid_type" | "invalid_size" | "invalid_json" | "invalid_content" => "validate.refused",
        "misdirected" => "host.refused",
        _ => return None,
    })
}
