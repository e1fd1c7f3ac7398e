//! The meaning of a provider's error, and the proxy's own errors in the provider's words.
//!
//! Sources: OpenAI, Anthropic, Gemini and Bedrock error pages. Compatible servers answer with plain text or HTML as well:
//! bodies are read leniently, and the status decides if the body does not.

pub mod hint;
pub mod render;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{self, Text};
use crate::{config::Api, http1::Fields};

/// Bytes that are read of an error body.
const LOOKED_AT: usize = 64 * 1024;

/// The meaning of an error for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Too fast: the same call works after a wait.
    Throttled,
    /// The provider has too much to do (503, 529).
    Overloaded,
    /// Money or a long quota is spent: waiting does not help.
    QuotaSpent,
    /// The credential is missing, wrong or not allowed this call.
    BadKey,
    /// The call itself is wrong.
    BadRequest,
    /// The input does not fit the model's context; a model with a larger one may answer.
    ContextTooLong,
    /// Refused because of its content.
    Filtered,
    /// No such model, path or thing.
    NotFound,
    /// The body is too large for the provider.
    TooLarge,
    /// The provider's fault, perhaps gone the next time.
    Transient,
    /// None of these.
    Other,
}

impl ErrorClass {
    /// Whether the same call to the same target can succeed later.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Throttled | Self::Overloaded | Self::Transient)
    }

    /// Whether the error speaks against the target itself. A throttle does not: it has its own wait. A credential or quota does not:
    /// one of the app's credentials may be bad while the others work.
    pub fn counts_for_breaker(self) -> bool {
        matches!(self, Self::Overloaded | Self::Transient)
    }

    /// Whether the error is about the credential that was used: another key may succeed at once.
    pub fn is_about_the_key(self) -> bool {
        matches!(self, Self::Throttled | Self::QuotaSpent | Self::BadKey)
    }

    /// The word used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::QuotaSpent => "quota_spent",
            Self::BadKey => "bad_key",
            Self::BadRequest => "bad_request",
            Self::ContextTooLong => "context_too_long",
            Self::Filtered => "filtered",
            Self::NotFound => "not_found",
            Self::TooLarge => "too_large",
            Self::Transient => "transient",
            Self::Other => "other",
        }
    }
}

/// The meaning of an answer with an error status. `body` may be the body's beginning alone; it must not be compressed.
pub fn classify(api: Api, status: StatusCode, headers: &Fields, body: &[u8]) -> ErrorClass {
    let kind = headers.get("x-amzn-errortype").filter(|_| api == Api::Bedrock).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut said = Said::read(body);
    if !kind.is_empty() {
        // The header may be `ThrottlingException:http://internal.amazon.com/...`.
        said.kind = kind.split(':').next().unwrap_or_default().to_owned();
    }
    said.class(status)
}

/// The meaning of an error inside a 200. `json`: the whole JSON text of the body or event that carries the error.
pub(super) fn classify_inside(json: &[u8]) -> ErrorClass {
    let said = Said::read(json);
    // A compatible server may repeat the status inside.
    let status = said.code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()).filter(|status| status.as_u16() >= 400);
    match said.class(status.unwrap_or(StatusCode::OK)) {
        // An error that the provider finds while it answers is its own.
        ErrorClass::Other => ErrorClass::Transient,
        class => class,
    }
}

/// The words of an error body in any known shape; all lower case but `code`.
#[derive(Debug, Default)]
struct Said {
    kind: String,
    code: String,
    status: String,
    message: String,
    /// Google's `reason` and `quotaId`, Anthropic's `details.error_code`.
    details: Vec<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let body = body[..body.len().min(LOOKED_AT)].trim_ascii();
        // Gemini's array stream carries its error as the only element.
        let body = body.strip_prefix(b"[").map_or(body, |inner| inner.strip_suffix(b"]").unwrap_or(inner).trim_ascii());
        let Some(outer) = json::lenient::<Outer<'_>>(body) else {
            return Self { message: String::from_utf8_lossy(&body[..body.len().min(2_048)]).to_ascii_lowercase(), ..Self::default() };
        };
        let raw = outer.error.or_else(|| outer.response.and_then(|response| response.error)).map_or("", |error| error.get());
        let words = match raw.as_bytes().first() {
            Some(b'{') => json::lenient::<Words<'_>>(raw.as_bytes()).unwrap_or_default(),
            Some(b'"') => Words { message: json::lenient(raw.as_bytes()).unwrap_or_default(), ..Words::default() },
            _ => json::lenient::<Words<'_>>(body).unwrap_or_default(),
        };
        let mut details = Vec::new();
        if let Some(raw) = words.details {
            if let Some(list) = json::lenient::<Vec<Detail>>(raw.get().as_bytes()) {
                for detail in list {
                    details.extend(detail.reason.0);
                    details.extend(detail.violations.into_iter().filter_map(|violation| violation.quota_id.0));
                }
            } else if let Some(detail) = json::lenient::<Detail>(raw.get().as_bytes()) {
                details.extend(detail.error_code.0.or(detail.reason.0));
            }
        }
        let lower = |text: Text| text.0.unwrap_or_default().to_ascii_lowercase();
        Self {
            kind: lower(if words.kind.0.is_some() { words.kind } else { words.aws }),
            code: lower(words.code),
            status: lower(words.status),
            message: lower(words.message),
            details: details.into_iter().map(|text| text.to_ascii_lowercase()).collect(),
        }
    }

    fn class(&self, status: StatusCode) -> ErrorClass {
        let kind = self.kind.to_ascii_lowercase();
        let any = |words: &[&str]| {
            words.iter().any(|word| kind == *word || self.code == *word || self.status == *word || self.details.iter().any(|d| d == word))
        };
        let says = |parts: &[&str]| parts.iter().any(|part| self.message.contains(part));
        // The order matters: a billing 429 looks like a throttle, a context error looks like a bad request.
        if any(SPENT)
            || status == StatusCode::PAYMENT_REQUIRED
            || self.details.iter().any(|detail| detail.contains("perday"))
            || (any(&["resource_exhausted"]) && says(&["limit: 0"]))
            || (status.is_client_error()
                && says(&["credit balance is too low", "spend limit", "exceeded your current quota, please check your plan"])
                && !any(&["resource_exhausted"]))
        {
            return ErrorClass::QuotaSpent;
        }
        if any(&["context_length_exceeded", "model_context_window_exceeded"])
            || ((status.is_client_error() || status.is_success())
                && says(&[
                    "maximum context length",
                    "prompt is too long",
                    "context window",
                    "exceeds the maximum number of tokens",
                    "input is too long",
                ]))
        {
            return ErrorClass::ContextTooLong;
        }
        if any(&["content_filter", "content_policy_violation", "responsibleaipolicyviolation", "moderation_blocked"])
            // OpenRouter's 403 (https://openrouter.ai/docs/api-reference/errors).
            || (status == StatusCode::FORBIDDEN && says(&["requires moderation", "was flagged"]))
        {
            return ErrorClass::Filtered;
        }
        if any(BAD_KEY) || says(&["api key not valid"]) {
            return ErrorClass::BadKey;
        }
        if any(&[
            "overloaded_error",
            "server_is_overloaded",
            "unavailable",
            "modelnotreadyexception",
            "serviceunavailableexception",
            "engine_overloaded",
        ]) {
            return ErrorClass::Overloaded;
        }
        if any(&["rate_limit_exceeded", "rate_limit_error", "slow_down", "resource_exhausted", "throttlingexception", "too_many_requests"])
        {
            return ErrorClass::Throttled;
        }
        if any(&["request_too_large"]) {
            return ErrorClass::TooLarge;
        }
        if any(&["model_not_found", "not_found_error", "not_found", "resourcenotfoundexception", "deploymentnotfound"]) {
            return ErrorClass::NotFound;
        }
        match status.as_u16() {
            401 | 403 => ErrorClass::BadKey,
            404 => ErrorClass::NotFound,
            413 => ErrorClass::TooLarge,
            429 => ErrorClass::Throttled,
            503 | 529 => ErrorClass::Overloaded,
            // 424: Bedrock's model failed; 409: the provider's own conflict, which the SDKs retry too.
            408 | 409 | 424 | 500.. => ErrorClass::Transient,
            400 | 422 => ErrorClass::BadRequest,
            200..=299 if any(&["invalid_request_error", "invalid_argument", "validationexception"]) => ErrorClass::BadRequest,
            _ => ErrorClass::Other,
        }
    }
}

/// Codes and types of a spent quota: pay, or wait for days.
const SPENT: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "enforced_spend_limit_reached",
    "servicequotaexceededexception",
];

/// Codes and types of a refused credential.
const BAD_KEY: &[&str] = &[
    "invalid_api_key",
    "authentication_error",
    "permission_error",
    "api_key_invalid",
    "permission_denied",
    "unauthenticated",
    "accessdeniedexception",
    "unrecognizedclientexception",
    "expiredtokenexception",
    "invalidsignatureexception",
];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Outer<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    /// `response.failed` of the Responses API.
    #[serde(borrow)]
    response: Option<Inner<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Inner<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The members of an error object, in all known shapes.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Words<'a> {
    #[serde(rename = "type")]
    kind: Text,
    #[serde(rename = "__type")]
    aws: Text,
    code: Text,
    status: Text,
    #[serde(alias = "Message", alias = "detail")]
    message: Text,
    #[serde(borrow)]
    details: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    error_code: Text,
    reason: Text,
    violations: Vec<Violation>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Violation {
    #[serde(rename = "quotaId")]
    quota_id: Text,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(api: Api, status: u16, body: &str) -> ErrorClass {
        classify(api, StatusCode::from_u16(status).expect("status"), &Fields::new(), body.as_bytes())
    }

    #[test]
    fn openai_errors() {
        let error = |kind: &str, code: &str| format!(r#"{{"error":{{"message":"m","type":"{kind}","param":null,"code":"{code}"}}}}"#);
        for (status, body, expected) in [
            (401, error("invalid_request_error", "invalid_api_key"), ErrorClass::BadKey),
            (429, error("requests", "rate_limit_exceeded"), ErrorClass::Throttled),
            (429, error("rate_limit_error", "slow_down"), ErrorClass::Throttled),
            (429, error("insufficient_quota", "insufficient_quota"), ErrorClass::QuotaSpent),
            (429, error("x", "project_spend_limit_exceeded"), ErrorClass::QuotaSpent),
            (503, error("service_unavailable_error", "server_is_overloaded"), ErrorClass::Overloaded),
            (400, error("invalid_request_error", "context_length_exceeded"), ErrorClass::ContextTooLong),
            (400, error("invalid_request_error", "content_filter"), ErrorClass::Filtered),
            (400, error("invalid_request_error", "unknown_parameter"), ErrorClass::BadRequest),
            (404, error("invalid_request_error", "model_not_found"), ErrorClass::NotFound),
            (500, error("server_error", ""), ErrorClass::Transient),
            (429, "<html>slow down</html>".into(), ErrorClass::Throttled),
            (502, String::new(), ErrorClass::Transient),
            (418, "teapot".into(), ErrorClass::Other),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 8 tokens","code":400}"#.into(),
                ErrorClass::ContextTooLong,
            ),
            (404, r#"{"error":"model not found, try pulling it first"}"#.into(), ErrorClass::NotFound),
        ] {
            assert_eq!(class(Api::OpenAi, status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn anthropic_errors() {
        let error =
            |kind: &str, more: &str| format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"m"{more}}},"request_id":"r"}}"#);
        for (status, body, expected) in [
            (400, error("invalid_request_error", ""), ErrorClass::BadRequest),
            (401, error("authentication_error", ""), ErrorClass::BadKey),
            (402, error("billing_error", ""), ErrorClass::QuotaSpent),
            (403, error("permission_error", ""), ErrorClass::BadKey),
            (404, error("not_found_error", ""), ErrorClass::NotFound),
            (409, error("conflict_error", ""), ErrorClass::Transient),
            (413, error("request_too_large", ""), ErrorClass::TooLarge),
            (429, error("rate_limit_error", ""), ErrorClass::Throttled),
            (429, error("rate_limit_error", r#","details":{"error_code":"enforced_spend_limit_reached"}"#), ErrorClass::QuotaSpent),
            (500, error("api_error", ""), ErrorClass::Transient),
            (504, error("timeout_error", ""), ErrorClass::Transient),
            (529, error("overloaded_error", ""), ErrorClass::Overloaded),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#.into(),
                ErrorClass::QuotaSpent,
            ),
            (
                400,
                r#"{"error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8"}}"#.into(),
                ErrorClass::ContextTooLong,
            ),
        ] {
            assert_eq!(class(Api::Anthropic, status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn google_and_bedrock_errors() {
        let google =
            |status: &str, details: &str| format!(r#"{{"error":{{"code":1,"message":"m","status":"{status}","details":{details}}}}}"#);
        for (status, body, expected) in [
            (429, google("RESOURCE_EXHAUSTED", "[]"), ErrorClass::Throttled),
            (
                429,
                google("RESOURCE_EXHAUSTED", r#"[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProject"}]}]"#),
                ErrorClass::QuotaSpent,
            ),
            (429, google("RESOURCE_EXHAUSTED", r#"[{"violations":[{"quotaId":"GenerateRequestsPerMinute"}]}]"#), ErrorClass::Throttled),
            (400, google("INVALID_ARGUMENT", r#"[{"reason":"API_KEY_INVALID"}]"#), ErrorClass::BadKey),
            (503, google("UNAVAILABLE", "[]"), ErrorClass::Overloaded),
            (503, format!("[{}]", google("UNAVAILABLE", "[]")), ErrorClass::Overloaded),
        ] {
            assert_eq!(class(Api::Gemini, status, &body), expected, "{status} {body}");
        }
        let mut headers = Fields::new();
        headers.insert("x-amzn-errortype", "ThrottlingException:http://x");
        assert_eq!(classify(Api::Bedrock, StatusCode::BAD_REQUEST, &headers, br#"{"message":"m"}"#), ErrorClass::Throttled);
        assert_eq!(
            class(Api::Bedrock, 400, r#"{"__type":"ValidationException","message":"Input is too long"}"#),
            ErrorClass::ContextTooLong
        );
        assert_eq!(class(Api::Bedrock, 424, "{}"), ErrorClass::Transient);
    }

    #[test]
    fn an_error_inside_a_200() {
        for (body, expected) in [
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, ErrorClass::Overloaded),
            (r#"{"error":{"message":"m","type":"server_error"}}"#, ErrorClass::Transient),
            (r#"{"error":{"message":"m","code":429}}"#, ErrorClass::Throttled),
            (r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded"}}}"#, ErrorClass::Throttled),
            (r#"{"type":"error","code":"insufficient_quota","message":"m"}"#, ErrorClass::QuotaSpent),
            (r#"[{"error":{"code":503,"status":"UNAVAILABLE"}}]"#, ErrorClass::Overloaded),
            (r#"{"error":{"type":"invalid_request_error"}}"#, ErrorClass::BadRequest),
        ] {
            assert_eq!(classify_inside(body.as_bytes()), expected, "{body}");
        }
    }

    proptest! {
        #[test]
        fn classifying_never_panics(status in 100u16..1000, body in prop::collection::vec(any::<u8>(), 0..100)) {
            let status = StatusCode::from_u16(status).expect("in range");
            for api in [Api::OpenAi, Api::Gemini, Api::Bedrock] {
                let _ = classify(api, status, &Fields::new(), &body);
            }
        }
    }
}
