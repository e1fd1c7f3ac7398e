//! Errors in each provider's own shape, as its SDKs expect them.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::config::Api;

use super::call::event;

/// The body of an error answer. Gemini gives `retry_after` in the body.
pub(super) fn body(api: Api, status: u16, message: &str, request_id: &str, retry_after: Option<&str>) -> Value {
    match api {
        Api::Anthropic => json!({
            "type": "error",
            "error": {"type": anthropic_type(status), "message": message},
            "request_id": request_id,
        }),
        Api::Gemini => {
            let mut error = json!({"code": status, "message": message, "status": gemini_status(status)});
            if let Some(delay) = retry_after {
                error["details"] = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{delay}s")}]);
            }
            json!({ "error": error })
        }
        _ => {
            let (kind, code) = openai_type(status);
            json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
        }
    }
}

/// The answer to a quota that is spent: waiting does not help.
pub(super) fn quota(api: Api, request_id: &str) -> Value {
    match api {
        Api::Anthropic => json!({
            "type": "error",
            "error": {
                "type": "rate_limit_error",
                "message": "This workspace has reached its spend limit.",
                "details": {"error_code": "enforced_spend_limit_reached"},
            },
            "request_id": request_id,
        }),
        Api::Gemini => json!({"error": {
            "code": 429,
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel", "quotaValue": "0"}]}],
        }}),
        _ => json!({"error": {
            "message": "You exceeded your current quota, please check your plan and billing details.",
            "type": "insufficient_quota",
            "param": null,
            "code": "insufficient_quota",
        }}),
    }
}

/// The status that an error type has outside a stream.
pub(super) fn status_of(api: Api, kind: &str) -> u16 {
    match kind {
        "overloaded_error" if api == Api::Anthropic => 529,
        "overloaded_error" | "server_is_overloaded" => 503,
        "rate_limit_error" | "rate_limit_exceeded" => 429,
        "invalid_request_error" => 400,
        _ => 500,
    }
}

/// The status of an overloaded provider.
pub(super) fn overloaded(api: Api) -> u16 {
    if api == Api::Anthropic { 529 } else { 503 }
}

/// The error event of a chat or completions stream.
pub(super) fn chat_event(kind: &str) -> Bytes {
    event(None, &json!({"error": {"message": message_of(kind), "type": kind, "param": null, "code": null}}))
}

/// The error event of a responses stream.
pub(super) fn responses_event(kind: &str) -> Bytes {
    event(Some("error"), &json!({"type": "error", "code": kind, "message": message_of(kind), "param": null, "sequence_number": 999}))
}

/// The error event of a messages stream.
pub(super) fn anthropic_event(kind: &str) -> Bytes {
    event(Some("error"), &json!({"type": "error", "error": {"type": kind, "message": message_of(kind)}}))
}

/// The error of a Gemini stream.
pub(super) fn gemini_event(kind: &str) -> Bytes {
    let status = status_of(Api::Gemini, kind);
    event(None, &json!({"error": {"code": status, "message": message_of(kind), "status": gemini_status(status)}}))
}

fn message_of(kind: &str) -> &'static str {
    if kind == "overloaded_error" { "Overloaded" } else { "The server had an error while processing your request." }
}

fn openai_type(status: u16) -> (&'static str, Value) {
    match status {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        404 => ("invalid_request_error", json!("not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        503 => ("service_unavailable_error", json!("server_is_overloaded")),
        400..=499 => ("invalid_request_error", Value::Null),
        _ => ("server_error", Value::Null),
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

fn gemini_status(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}
