//! What a call is expected to use before it is sent, and requests that no provider bills. Pure.

use http::{HeaderMap, Method, header};

use super::Facts;
use crate::{
    config::{Api, Operation},
    usage::Usage,
};

/// Tokens of output that are expected where the request sets no bound of its own.
const UNBOUNDED_OUTPUT: u64 = 1024;

/// What limits reserve for a call: its input as estimated, and as much output as it allows.
pub fn expected_usage(operation: Operation, facts: &Facts) -> Usage {
    let output = match operation {
        Operation::Embeddings => 0,
        _ => facts.max_output.unwrap_or(UNBOUNDED_OUTPUT).saturating_mul(facts.n),
    };
    Usage { input: facts.estimated_input, output, ..Usage::default() }
}

/// Whether a request to a provider that speaks `api` cannot cost anything, whatever its answer. A WebSocket (OpenAI's
/// realtime sessions, Gemini's live ones) opens with GET and costs. Of a provider that is not understood nothing is known.
pub fn costs_nothing(api: Api, method: &Method, path: &str, headers: &HeaderMap) -> bool {
    if api == Api::Plain {
        return false;
    }
    if method.is_safe() || *method == Method::DELETE {
        return !headers.contains_key(header::UPGRADE);
    }
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match api {
        // `/v1/messages/count_tokens`, `/v1/responses/input_tokens`, `/v1/moderations`
        Api::OpenAi | Api::Anthropic => matches!(last, "count_tokens" | "input_tokens" | "moderations"),
        Api::Gemini => last.ends_with(":countTokens"),
        // https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html
        Api::Bedrock => last == "count-tokens",
        Api::Plain => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_provider_bills_is_free() {
        let plain = HeaderMap::new();
        let upgrade: HeaderMap = [(header::UPGRADE, "websocket".parse().expect("a value"))].into_iter().collect();
        for (api, method, path, headers, expected) in [
            (Api::OpenAi, Method::GET, "/v1/models", &plain, true),
            (Api::OpenAi, Method::GET, "/v1/realtime", &upgrade, false),
            (Api::OpenAi, Method::DELETE, "/v1/files/f", &plain, true),
            (Api::OpenAi, Method::POST, "/v1/chat/completions", &plain, false),
            (Api::OpenAi, Method::POST, "/v1/moderations", &plain, true),
            (Api::OpenAi, Method::POST, "/v1/something/new", &plain, false),
            (Api::Anthropic, Method::POST, "/v1/messages/count_tokens", &plain, true),
            (Api::Anthropic, Method::POST, "/v1/messages", &plain, false),
            (Api::Gemini, Method::POST, "/v1beta/models/g:countTokens", &plain, true),
            (Api::Gemini, Method::POST, "/v1beta/models/g:generateContent", &plain, false),
            (Api::Bedrock, Method::POST, "/model/m/count-tokens", &plain, true),
            (Api::Bedrock, Method::POST, "/model/m/converse", &plain, false),
            (Api::Plain, Method::GET, "/search", &plain, false),
        ] {
            assert_eq!(costs_nothing(api, &method, path, headers), expected, "{api} {method} {path}");
        }
    }
}
