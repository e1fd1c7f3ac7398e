//! A failure as an event of Sentry's protocol, in its envelope.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use sentry_types::protocol::v7::{Breadcrumb, Context, Envelope, Event, Exception, Level, TraceContext, User, Uuid, Value};

/// Where the reports come from.
#[derive(Debug, Clone)]
pub struct Place {
    /// The environment, such as `production`.
    pub environment: String,
    /// The release of the app.
    pub release: String,
    /// `telemetry.service`.
    pub service: String,
}

/// A panic of the proxy itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// Its message.
    pub message: String,
    /// File and line.
    pub location: String,
}

/// Longest text of a report, in characters.
const LONGEST: usize = 200;

/// Reasons that are the proxy doing what it was told, and no error.
const MEANT: [&str; 8] =
    ["limited", "too_many_in_flight", "queue_full", "queue_too_long", "breaker_open", "stopping", "connections_full", "overloaded"];

/// Why a failure is not reported; `None`: it is.
pub fn dropped(story: &Value) -> Option<&'static str> {
    let kind = story["kind"].as_str().unwrap_or_default();
    let reason = story["reason"].as_str().unwrap_or_default();
    let status = story["status"].as_u64().unwrap_or_default();
    match kind {
        _ if MEANT.contains(&reason) => Some("meant"),
        "server_error" | "upstream_broken" | "timeout" => None,
        "refused" if status >= 500 => None,
        _ => Some("no_error"),
    }
}

/// P0: a fault of the proxy. P1: the app is broken. P2: a provider is broken. P3: somebody waited too long.
fn priority(story: &Value) -> (&'static str, Level) {
    match (story["reason"].as_str(), story["kind"].as_str(), story["door"].as_str()) {
        (Some("internal"), ..) => ("P0", Level::Fatal),
        (_, Some("timeout"), _) => ("P3", Level::Warning),
        (_, _, Some("inbound")) => ("P1", Level::Error),
        _ => ("P2", Level::Error),
    }
}

fn short(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The event of a failure; `story` is as the ring of failures shows it.
pub fn of_failure(story: &Value, place: &Place, id: u128, at: SystemTime) -> Event<'static> {
    let text = |name: &str| short(&story[name]).unwrap_or_default();
    let (priority, level) = priority(story);
    let [reason, kind, door, route, target] = ["reason", "kind", "door", "route", "target"].map(text);
    let mut event = base(place, id, at, level);
    event.message = Some(format!("{reason}: {door} {route} -> {}", if target.is_empty() { "nobody" } else { &target }));
    event.transaction = Some(format!("{} {door} {route}", text("method")));
    event.fingerprint = Cow::Owned([&reason, &kind, &door, &route, &target].map(|part| Cow::Owned(part.clone())).to_vec());
    event.tags.insert("priority".into(), priority.into());
    for name in ["reason", "kind", "door", "route", "target", "provider", "model", "status", "operation", "cache"] {
        if let Some(value) = short(&story[name]) {
            event.tags.insert(name.into(), value);
        }
    }
    for name in ["request_id", "cause", "duration_ms", "tries", "detail", "fallback"] {
        if let Some(value) = short(&story[name]) {
            event.extra.insert(name.into(), value.into());
        }
    }
    // A hash tells how many were hit, and not who.
    event.user = short(&story["caller"])
        .map(|caller| User { id: Some(blake3::hash(caller.as_bytes()).to_hex()[..16].to_owned()), ..User::default() });
    if let Some(trace_id) = story["trace_id"].as_str().and_then(|text| text.parse().ok()) {
        event.contexts.insert("trace".into(), Context::Trace(Box::new(TraceContext { trace_id, ..TraceContext::default() })));
    }
    let steps = story["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    event.breadcrumbs = steps.iter().take(50).map(|step| crumb(step, at)).collect::<Vec<_>>().into();
    event
}

/// A try, as a breadcrumb.
fn crumb(step: &Value, began: SystemTime) -> Breadcrumb {
    let after = step["at_ms"].as_f64().filter(|millis| (0.0..1e9).contains(millis)).unwrap_or_default();
    let mut crumb = Breadcrumb {
        timestamp: began + Duration::from_secs_f64(after / 1e3),
        ty: "http".into(),
        category: Some("try".into()),
        level: Level::Warning,
        message: Some(format!("{}: {}", short(&step["target"]).unwrap_or_default(), short(&step["result"]).unwrap_or_default())),
        ..Breadcrumb::default()
    };
    for name in ["status", "ms", "then", "pause_ms", "why", "breaker", "model"] {
        if let Some(value) = short(&step[name]) {
            crumb.data.insert(name.into(), value.into());
        }
    }
    crumb
}

/// The event of a panic.
pub fn of_panic(panic: &Panic, place: &Place, id: u128, at: SystemTime) -> Event<'static> {
    let mut event = base(place, id, at, Level::Fatal);
    event.tags.insert("priority".into(), "P0".into());
    event.tags.insert("location".into(), panic.location.clone());
    event.fingerprint = Cow::Owned(vec!["panic".into(), panic.location.clone().into()]);
    let value = short(&Value::String(panic.message.clone()));
    event.exception = vec![Exception { ty: "panic".into(), value, ..Exception::default() }].into();
    event
}

fn base(place: &Place, id: u128, at: SystemTime, level: Level) -> Event<'static> {
    Event {
        event_id: Uuid::from_u128(id),
        level,
        timestamp: at,
        platform: "other".into(),
        logger: Some("outrigger".into()),
        server_name: Some(place.service.clone().into()),
        release: Some(place.release.clone()).filter(|text| !text.is_empty()).map(Cow::Owned),
        environment: Some(place.environment.clone()).filter(|text| !text.is_empty()).map(Cow::Owned),
        ..Event::default()
    }
}

/// The bytes of an event's envelope.
///
/// # Errors
/// The event cannot be written as JSON.
pub fn envelope(event: Event<'static>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Envelope::from(event).to_writer(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn story() -> Value {
        json!({
            "timestamp": "2027-01-15T08:00:00.000Z", "request_id": "r1", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "door": "outbound",
            "route": "chat", "caller": "ann@example.com", "method": "POST", "host": "h", "path": "/openai/v1/x?key=secretpart",
            "query": "key=secretpart", "status": 502, "reason": "connection_reset", "kind": "upstream_broken", "target": "openai",
            "tries": 2, "detail": "closed\u{7}", "steps": [
                {"at_ms": 1.5, "target": "openai", "result": "connection_reset", "status": 0, "ms": 20.0, "then": "retried", "pause_ms": 50.0},
                {"at_ms": 80.0, "target": "openai", "result": "connection_reset", "ms": 20.0, "then": "gave_up", "breaker": "open"},
            ],
        })
    }

    fn place() -> Place {
        Place { environment: "production".into(), release: "shop@1.2.3".into(), service: "shop".into() }
    }

    #[test]
    fn an_envelope_is_what_sentrys_own_parser_reads_and_nobody_is_named_in_it() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let bytes = envelope(of_failure(&story(), &place(), 7, at)).expect("writes");
        let text = String::from_utf8(bytes.clone()).expect("text");
        assert!(!text.contains("secretpart") && !text.contains("ann@") && !text.contains("/openai/"), "{text}");
        let envelope = Envelope::from_slice(&bytes).expect("parses");
        let event = envelope.event().expect("an event");
        assert_eq!((event.release.as_deref(), event.environment.as_deref()), (Some("shop@1.2.3"), Some("production")));
        assert_eq!((event.tags["priority"].as_str(), event.tags["route"].as_str()), ("P2", "chat"));
        assert_eq!(event.fingerprint.to_vec(), ["connection_reset", "upstream_broken", "outbound", "chat", "openai"]);
        assert_eq!((event.breadcrumbs.len(), event.breadcrumbs[1].data["breaker"].as_str()), (2, Some("open")));
        assert!(
            matches!(event.contexts.get("trace"), Some(Context::Trace(trace)) if trace.trace_id.to_string() == "4bf92f3577b34da6a3ce929d0e0e4736")
        );
        assert_eq!(event.user.as_ref().and_then(|user| user.id.as_ref()).map(String::len), Some(16));
    }

    #[test]
    fn what_was_meant_is_no_error_and_a_fault_of_ours_comes_first() {
        let with =
            |reason: &str, kind: &str, status: u64, door: &str| json!({"reason": reason, "kind": kind, "status": status, "door": door});
        for (story, expected) in [
            (with("limited", "refused", 429, "inbound"), None),
            (with("breaker_open", "refused", 503, "outbound"), None),
            (with("access_denied", "refused", 403, "inbound"), None),
            (with("status_404", "client_error", 404, "inbound"), None),
            (with("rescued", "rescued", 200, "outbound"), None),
            (with("internal", "refused", 500, "inbound"), Some("P0")),
            (with("status_5xx", "server_error", 500, "inbound"), Some("P1")),
            (with("dns", "refused", 502, "outbound"), Some("P2")),
            (with("total_timeout", "timeout", 504, "outbound"), Some("P3")),
        ] {
            let reported = dropped(&story).is_none().then(|| priority(&story).0);
            assert_eq!(reported, expected, "{story}");
        }
        let panic = Panic { message: "index out of bounds".into(), location: "src/x.rs:1".into() };
        let bytes = envelope(of_panic(&panic, &place(), 8, SystemTime::UNIX_EPOCH)).expect("writes");
        let envelope = Envelope::from_slice(&bytes).expect("parses");
        assert_eq!(envelope.event().expect("an event").exception[0].ty, "panic");
    }
}
