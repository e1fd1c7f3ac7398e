//! The proxy's errors and limits in the provider's words: an SDK then raises its own kind of exception.
//!
//! Shapes: OpenAI's error object, Anthropic's error envelope, google.rpc.Status, Bedrock's `__type`. Official SDKs choose
//! the exception by status and read message and code from the body.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use crate::{
    config::{Api, Operation},
    reject::{Limited, Reject, ceil_secs},
};

/// The shortest window of a budget: a tokens limit with a shorter window is a rate.
const BUDGET: Duration = Duration::from_secs(3_600);

/// The content type and body of a reject in the API's own form. `request_id` stands in the API's place for one (Anthropic's
/// envelope, Google's `RequestInfo`), else beside the message.
///
/// A spent dollar budget, or a spent tokens limit of an hour and more, has the form of the provider's spent quota (OpenAI:
/// `insufficient_quota`; Anthropic: `enforced_spend_limit_reached`). Any other limit has the form of a rate limit.
pub fn render(api: Api, reject: &Reject, request_id: &str) -> (&'static str, String) {
    let (status, detail, reason) = (reject.status(), reject.detail(), reject.reason());
    let spent = matches!(reject, Reject::Limited(limited) if is_budget(limited));
    let body = match api {
        Api::OpenAi => {
            let (kind, code) = match status.as_u16() {
                429 if spent => ("insufficient_quota", "insufficient_quota"),
                429 => (limited_by(reject), "rate_limit_exceeded"),
                401 => ("invalid_request_error", "invalid_api_key"),
                400..=499 => ("invalid_request_error", reason),
                503 => ("service_unavailable_error", reason),
                _ => ("server_error", reason),
            };
            json!({"error": {"message": detail, "type": kind, "param": null, "code": code, "request_id": request_id}})
        }
        Api::Anthropic => {
            let mut error = json!({"type": anthropic_type(status), "message": detail});
            if spent {
                error["details"] = json!({"error_code": "enforced_spend_limit_reached"});
            }
            json!({"type": "error", "error": error, "request_id": request_id})
        }
        Api::Gemini => {
            let mut details = vec![json!({
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": reason.to_ascii_uppercase(),
                "domain": "outrigger",
            })];
            if let Some(seconds) = reject.retry_after().filter(|_| !spent) {
                details.push(json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")}));
            }
            details.push(json!({"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id}));
            json!({"error": {"code": status.as_u16(), "message": detail, "status": google_status(status), "details": details}})
        }
        Api::Bedrock => json!({"__type": aws_type(status), "message": detail, "requestId": request_id}),
        Api::Plain => return ("application/problem+json", reject.problem(Some(request_id)).to_string()),
    };
    ("application/json", body.to_string())
}

/// The field in which an API's SDKs look for the request id; `None`: `x-request-id`.
pub fn request_id_field(api: Api) -> Option<HeaderName> {
    match api {
        Api::Anthropic => Some(HeaderName::from_static("request-id")),
        Api::Bedrock => Some(HeaderName::from_static("x-amzn-requestid")),
        Api::OpenAi | Api::Gemini | Api::Plain => None,
    }
}

/// The error event of a broken stream, in the protocol's own form: bytes to be sent as they are. Empty if the protocol has no such
/// event (Bedrock's frames, unknown operations).
///
/// `mid_event`: the bytes sent so far end within an event. That event is ended first: the error is an event of its own.
pub fn stream_error(api: Api, operation: Operation, message: &str, mid_event: bool) -> Bytes {
    let error = match (api, operation) {
        (Api::OpenAi, Operation::Chat | Operation::Completions) => {
            let data = json!({"error": {"message": message, "type": "server_error", "param": null, "code": "upstream_error"}});
            format!("data: {data}\n\n")
        }
        (Api::OpenAi, Operation::Responses) => {
            // The members at the top are the documented event. The SDKs look for `error`.
            let data = json!({
                "type": "error", "code": "upstream_error", "message": message, "param": null,
                "error": {"message": message, "type": "server_error", "param": null, "code": "upstream_error"},
            });
            format!("event: error\ndata: {data}\n\n")
        }
        (Api::Anthropic, Operation::Messages) => {
            let data = json!({"type": "error", "error": {"type": "api_error", "message": message}});
            format!("event: error\ndata: {data}\n\n")
        }
        (Api::Gemini, Operation::Chat) => {
            let data = json!({"error": {"code": 502, "message": message, "status": "UNAVAILABLE"}});
            format!("data: {data}\n\n")
        }
        _ => return Bytes::new(),
    };
    Bytes::from(if mid_event { format!("\n\n{error}") } else { error })
}

/// The state of one of the proxy's limits, for the provider's header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    /// `requests` or `tokens`; no provider has a header for dollars.
    pub unit: &'static str,
    /// How much per window.
    pub limit: u64,
    /// How much is left.
    pub remaining: u64,
    /// The time until the limit is whole again.
    pub reset: Duration,
}

/// The provider's own header fields for a limit: OpenAI's `x-ratelimit-*` with a Go duration, Anthropic's
/// `anthropic-ratelimit-*` with an RFC 3339 time. Empty for APIs without such fields and for other units.
pub fn limit_headers(api: Api, state: &LimitState, now: SystemTime) -> Vec<(HeaderName, HeaderValue)> {
    let names = match (api, state.unit) {
        (Api::OpenAi, "requests") => ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
        (Api::OpenAi, "tokens") => ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
        (Api::Anthropic, "requests") => {
            ["anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"]
        }
        (Api::Anthropic, "tokens") => {
            ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"]
        }
        _ => return Vec::new(),
    };
    let reset = if api == Api::OpenAi {
        go_duration(state.reset)
    } else {
        // Whole seconds, rounded up: the limit must not refuse at that time any more.
        let at = now.checked_add(Duration::from_secs(ceil_secs(state.reset))).unwrap_or(now);
        humantime::format_rfc3339_seconds(at).to_string()
    };
    let reset = HeaderValue::from_str(&reset).unwrap_or(HeaderValue::from_static("0s"));
    let [limit, remaining, until] = names.map(HeaderName::from_static);
    vec![(limit, HeaderValue::from(state.limit)), (remaining, HeaderValue::from(state.remaining)), (until, reset)]
}

fn is_budget(limited: &Limited) -> bool {
    limited.unit == "usd" || (limited.unit == "tokens" && limited.window >= BUDGET)
}

/// OpenAI's `type` of a rate limit: the dimension that is used up.
fn limited_by(reject: &Reject) -> &'static str {
    match reject {
        Reject::Limited(limited) => limited.unit,
        _ => "requests",
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

fn google_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

fn aws_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        400..=499 => "ValidationException",
        502..=504 => "ServiceUnavailableException",
        _ => "InternalServerException",
    }
}

/// A duration as Go prints it, in whole milliseconds, rounded up: `1m2.5s`, `120ms`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    let (hours, minutes, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis % 60_000);
    let seconds = match (rest / 1_000, rest % 1_000) {
        (0, ms) if hours == 0 && minutes == 0 && ms > 0 => return format!("{ms}ms"),
        (s, 0) => format!("{s}s"),
        (s, ms) => format!("{}s", format!("{s}.{ms:03}").trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, m) => format!("{m}m{seconds}"),
        (h, m) => format!("{h}h{m}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::provider::errors::{ErrorClass, classify, classify_inside, hint::parse_reset};

    fn limited(unit: &'static str, window: u64) -> Reject {
        Reject::Limited(Box::new(Limited {
            remaining: 0,
            limit: "budget".into(),
            number: 0,
            tier: None,
            why: crate::reject::Why::Spent,
            act: crate::config::OnLimit::Refuse,
            unit,
            amount: 5,
            window: Duration::from_secs(window),
            retry_after: Some(Duration::from_millis(1_500)),
            headers: crate::http1::Fields::new(),
        }))
    }

    fn body(api: Api, reject: &Reject) -> Value {
        serde_json::from_str(&render(api, reject, "req_1").1).expect("json")
    }

    #[test]
    fn limits_in_the_providers_words() {
        assert_eq!(body(Api::OpenAi, &limited("requests", 60))["error"]["code"], "rate_limit_exceeded");
        assert_eq!(body(Api::OpenAi, &limited("tokens", 60))["error"]["type"], "tokens");
        assert_eq!(body(Api::OpenAi, &limited("usd", 60))["error"]["code"], "insufficient_quota");
        assert_eq!(body(Api::OpenAi, &limited("tokens", 86_400))["error"]["type"], "insufficient_quota");
        let anthropic = body(Api::Anthropic, &limited("requests", 60));
        assert_eq!(
            (&anthropic["type"], &anthropic["error"]["type"], &anthropic["request_id"]),
            (&json!("error"), &json!("rate_limit_error"), &json!("req_1"))
        );
        assert_eq!(body(Api::Anthropic, &limited("usd", 60))["error"]["details"]["error_code"], "enforced_spend_limit_reached");
        let gemini = body(Api::Gemini, &limited("requests", 60));
        assert_eq!(
            (&gemini["error"]["status"], &gemini["error"]["details"][1]["retryDelay"]),
            (&json!("RESOURCE_EXHAUSTED"), &json!("2s"))
        );
        assert_eq!(body(Api::Bedrock, &limited("requests", 60))["__type"], "ThrottlingException");
        assert_eq!(render(Api::Plain, &Reject::Loop, "").0, "application/problem+json");
        for (api, place) in [
            (Api::OpenAi, "/error/request_id"),
            (Api::Anthropic, "/request_id"),
            (Api::Gemini, "/error/details/2/requestId"),
            (Api::Bedrock, "/requestId"),
            (Api::Plain, "/request_id"),
        ] {
            let said = body(api, &limited("requests", 60));
            assert_eq!(said.pointer(place), Some(&json!("req_1")), "{api}: {said}");
        }
    }

    #[test]
    fn what_we_say_we_understand() {
        for api in [Api::OpenAi, Api::Anthropic, Api::Gemini, Api::Bedrock] {
            for (reject, expected) in [
                (limited("requests", 60), ErrorClass::Throttled),
                (Reject::NotFound("x".into()), ErrorClass::NotFound),
                (Reject::Overloaded("x".into()), ErrorClass::Overloaded),
                (Reject::Internal("x".into()), ErrorClass::Transient),
                (Reject::BadRequest("x".into()), ErrorClass::BadRequest),
            ] {
                let (_, body) = render(api, &reject, "r");
                assert_eq!(classify(api, reject.status(), &Default::default(), body.as_bytes()), expected, "{api} {body}");
            }
        }
        for api in [Api::OpenAi, Api::Anthropic] {
            let (_, body) = render(api, &limited("usd", 60), "r");
            assert_eq!(classify(api, StatusCode::TOO_MANY_REQUESTS, &Default::default(), body.as_bytes()), ErrorClass::QuotaSpent);
        }
    }

    #[test]
    fn an_error_in_mid_stream_is_an_event_of_its_own() {
        for (api, operation) in [
            (Api::OpenAi, Operation::Chat),
            (Api::OpenAi, Operation::Responses),
            (Api::Anthropic, Operation::Messages),
            (Api::Gemini, Operation::Chat),
        ] {
            for mid_event in [false, true] {
                let mut splitter = crate::provider::sse::Splitter::new(1024);
                let mut errors = Vec::new();
                let before: &[u8] = if mid_event { b"data: {\"a\":1},{" } else { b"data: {}\n\n" };
                splitter.feed(before, |_| {});
                splitter.feed(&stream_error(api, operation, "it \"broke\"\n", mid_event), |event| {
                    if let Some(data) = event.data.filter(|data| serde_json::from_slice::<Value>(data).is_ok()) {
                        errors.push(classify_inside(data));
                    }
                });
                assert_eq!(errors.len(), 1, "{api} {operation:?} {mid_event}");
                assert!(errors[0].retryable());
                assert!(!splitter.mid_event());
            }
        }
        assert!(stream_error(Api::Bedrock, Operation::Chat, "m", false).is_empty());
    }

    #[test]
    fn limits_as_headers() {
        let state = LimitState { unit: "tokens", limit: 100, remaining: 7, reset: Duration::from_millis(62_500) };
        let now = SystemTime::UNIX_EPOCH;
        let text = |api| -> Vec<String> {
            limit_headers(api, &state, now).iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect()
        };
        assert_eq!(
            text(Api::OpenAi),
            ["x-ratelimit-limit-tokens: 100", "x-ratelimit-remaining-tokens: 7", "x-ratelimit-reset-tokens: 1m2.5s"]
        );
        assert_eq!(text(Api::Anthropic)[2], "anthropic-ratelimit-tokens-reset: 1970-01-01T00:01:03Z");
        assert_eq!(text(Api::Gemini), [""; 0]);
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(millis in 0u64..400_000_000) {
            let text = go_duration(Duration::from_millis(millis));
            let read = parse_reset(&text, SystemTime::UNIX_EPOCH).expect("a duration");
            prop_assert!((read.as_secs_f64() - millis as f64 / 1e3).abs() < 1e-6, "{}", text);
        }
    }
}
