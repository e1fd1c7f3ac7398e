//! Anthropic's wire format: messages, streamed and not, with prompt caching by `cache_control`, and token counts.

use serde_json::{Value, json};

use crate::usage::Usage;

use super::{
    answer::{prompt_tokens, text_of},
    call::{Answer, Ask, Content, Piece, Refusal, Spoken, Wish, event},
    errors,
};

/// Below this many tokens `cache_control` is ignored, as the real models do.
const CACHED_FROM: u64 = 1_024;

/// `POST /v1/messages`.
pub(super) fn messages(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let model = ask.model()?;
    let most = ask.body["max_tokens"].as_u64().filter(|most| *most > 0).ok_or_else(|| Refusal::bad("max_tokens: Field required"))?;
    let prompt = Prompt::read(ask.body)?;
    let spoken = ask.speak(&prompt.text, &Wish { most: Some(most), tool: forced_tool(ask.body), ..Wish::default() });
    let usage = Usage { output: spoken.count(), ..prompt.usage(ask, model) };
    let content = if ask.streams() {
        Content::Pieces {
            content_type: "text/event-stream; charset=utf-8",
            pieces: pieces(ask, model, &spoken, usage),
            error: errors::anthropic_event,
        }
    } else {
        let mut message = message(ask, model, usage);
        message["content"] = json!([block(ask, &spoken, spoken.text())]);
        message["stop_reason"] = json!(stop_reason(&spoken));
        if ask.fault.no_usage {
            message["usage"] = Value::Null;
        }
        Content::Whole(message)
    };
    Ok(Answer { model: model.to_owned(), usage, content })
}

/// `POST /v1/messages/count_tokens`: costs nothing.
pub(super) fn count_tokens(ask: &Ask<'_>) -> Result<Value, Refusal> {
    ask.model()?;
    Ok(json!({"input_tokens": Prompt::read(ask.body)?.tokens}))
}

/// `GET /v1/models`.
pub(super) fn models() -> Value {
    let data: Vec<Value> = super::MODELS.iter().filter(|id| id.starts_with("claude")).map(|id| model(id)).collect();
    json!({"data": data, "has_more": false, "first_id": data.first().map(|model| &model["id"]), "last_id": data.last().map(|model| &model["id"])})
}

/// `GET /v1/models/{id}`.
pub(super) fn model(id: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z"})
}

struct Prompt {
    text: String,
    tokens: u64,
    /// The end of the last block marked `cache_control`: bytes of `text`, tokens, and whether it is kept for an hour.
    marked: Option<(usize, u64, bool)>,
}

impl Prompt {
    /// Tools, then system, then messages: the order in which the real prompt cache sees them.
    fn read(body: &Value) -> Result<Self, Refusal> {
        let messages = body["messages"].as_array().filter(|messages| !messages.is_empty());
        let messages = messages.ok_or_else(|| Refusal::bad("messages: at least one message is required"))?;
        let mut prompt = Self { text: String::new(), tokens: 3, marked: None };
        for tool in body["tools"].as_array().into_iter().flatten() {
            prompt.add(&tool.to_string(), tool);
        }
        prompt.add_content(&body["system"]);
        for message in messages {
            prompt.text.push_str(message["role"].as_str().unwrap_or_default());
            prompt.tokens += 3;
            prompt.add_content(&message["content"]);
        }
        Ok(prompt)
    }

    fn add_content(&mut self, content: &Value) {
        match content {
            Value::Array(blocks) => blocks.iter().for_each(|block| self.add(&text_of(block), block)),
            Value::Null => {}
            text => self.add(&text_of(text), &Value::Null),
        }
    }

    fn add(&mut self, text: &str, block: &Value) {
        self.text.push('\n');
        self.text.push_str(text);
        self.tokens += prompt_tokens(text);
        if block["cache_control"].is_object() {
            self.marked = Some((self.text.len(), self.tokens, block["cache_control"]["ttl"] == "1h"));
        }
    }

    fn usage(&self, ask: &Ask<'_>, model: &str) -> Usage {
        let Some((end, cached, hour)) = self.marked.filter(|(_, tokens, _)| *tokens >= CACHED_FROM) else {
            return Usage { input: self.tokens, ..Usage::default() };
        };
        let mut usage = Usage { input: self.tokens - cached, ..Usage::default() };
        let class = match (ask.prompts.seen(ask.credential, model, &self.text[..end]), hour) {
            (true, _) => &mut usage.cache_read,
            (false, true) => &mut usage.cache_write_1h,
            (false, false) => &mut usage.cache_write,
        };
        *class = cached;
        usage
    }
}

fn message(ask: &Ask<'_>, model: &str, usage: Usage) -> Value {
    json!({
        "id": format!("msg_mock{:08x}", ask.serial),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage_json(usage),
    })
}

fn pieces(ask: &Ask<'_>, model: &str, spoken: &Spoken, usage: Usage) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut say = |name: &str, mut data: Value, tokens: u32| {
        data["type"] = json!(name);
        pieces.push(Piece { bytes: event(Some(name), &data), tokens });
    };
    let begun = message(ask, model, Usage { output: 1.min(usage.output), ..usage });
    say("message_start", json!({"message": begun}), 0);
    let opening = block(ask, spoken, String::new());
    say("content_block_start", json!({"index": 0, "content_block": opening}), 0);
    say("ping", json!({}), 0);
    for (text, tokens) in ask.groups(&spoken.tokens) {
        let delta = match spoken.tool {
            Some(_) => json!({"type": "input_json_delta", "partial_json": text}),
            None => json!({"type": "text_delta", "text": text}),
        };
        say("content_block_delta", json!({"index": 0, "delta": delta}), tokens);
    }
    say("content_block_stop", json!({"index": 0}), 0);
    let mut ended = json!({"delta": {"stop_reason": stop_reason(spoken), "stop_sequence": null}, "usage": {"output_tokens": usage.output}});
    if ask.fault.no_usage {
        ended["usage"] = Value::Null;
    }
    say("message_delta", ended, 0);
    say("message_stop", json!({}), 0);
    pieces
}

fn block(ask: &Ask<'_>, spoken: &Spoken, text: String) -> Value {
    match &spoken.tool {
        Some(name) => {
            // Cut arguments are not JSON; the real API then returns the part it has: here an empty object.
            let input = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": format!("toolu_mock{:08x}", ask.serial), "name": name, "input": input})
        }
        None => json!({"type": "text", "text": text}),
    }
}

fn stop_reason(spoken: &Spoken) -> &'static str {
    match (spoken.truncated, &spoken.tool) {
        (true, _) => "max_tokens",
        (false, Some(_)) => "tool_use",
        (false, None) => "end_turn",
    }
}

/// The tool that `tool_choice` forces: `{type: tool, name}` or the first of `{type: any}`.
fn forced_tool(body: &Value) -> Option<(&str, &Value)> {
    let tools = body["tools"].as_array()?;
    let choice = &body["tool_choice"];
    let wanted = |tool: &&Value| choice["type"] == "any" || choice["type"] == "tool" && choice["name"] == tool["name"];
    tools.iter().find(wanted).map(|tool| (tool["name"].as_str().unwrap_or_default(), &tool["input_schema"]))
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write + usage.cache_write_1h,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write, "ephemeral_1h_input_tokens": usage.cache_write_1h},
        "output_tokens": usage.output,
        "service_tier": "standard",
    })
}
