//! OpenAI's wire format: chat completions, completions, responses, embeddings, models.

mod chat;
mod embeddings;
mod responses;

use serde_json::{Value, json};

use crate::usage::Usage;

use super::{
    answer::{prompt_tokens, text_of},
    call::{Ask, Refusal},
};

pub(super) use chat::{chat, completions};
pub(super) use embeddings::embeddings;
pub(super) use responses::responses;

/// From this number of tokens on, the provider caches prompts unasked.
const CACHED_FROM: u64 = 1_024;

/// `GET /v1/models`.
pub(super) fn models(unix: u64) -> Value {
    let models: Vec<Value> = super::MODELS.iter().map(|id| model(id, unix)).collect();
    json!({"object": "list", "data": models})
}

/// `GET /v1/models/{id}`.
pub(super) fn model(id: &str, unix: u64) -> Value {
    json!({"id": id, "object": "model", "created": unix, "owned_by": "mock"})
}

/// The input side of a bill. The first 1,024 tokens of a long prompt come from the prompt cache if this credential has sent them before.
fn input_usage(ask: &Ask<'_>, model: &str, prompt: &str, tokens: u64) -> Usage {
    if tokens < CACHED_FROM {
        return Usage { input: tokens, ..Usage::default() };
    }
    let mut end = (4 * CACHED_FROM as usize).min(prompt.len());
    while !prompt.is_char_boundary(end) {
        end -= 1;
    }
    let cached = if ask.prompts.seen(ask.credential, model, &prompt[..end]) { CACHED_FROM } else { 0 };
    Usage { input: tokens - cached, cache_read: cached, ..Usage::default() }
}

/// The prompt as text, and its tokens: three more for every message, and those of the tools' definitions.
fn read_messages(messages: &Value, body: &Value) -> Result<(String, u64), Refusal> {
    let messages = messages.as_array().filter(|messages| !messages.is_empty());
    let messages = messages.ok_or_else(|| Refusal::bad("Invalid 'messages': expected a non-empty array"))?;
    let mut prompt = String::new();
    let mut tokens = 3;
    for message in messages {
        let text = text_of(message);
        tokens += 3 + prompt_tokens(&text);
        prompt.push_str(message["role"].as_str().unwrap_or_default());
        prompt.push('\n');
        prompt.push_str(&text);
        prompt.push('\n');
    }
    if body["tools"].is_array() {
        tokens += prompt_tokens(&body["tools"].to_string());
    }
    Ok((prompt, tokens))
}
