//! The responses API: a stream of typed events with rising sequence numbers, usage in the last, and no `[DONE]`.

use serde_json::{Value, json};

use crate::usage::Usage;

use super::{
    super::{
        answer::{prompt_tokens, text_of},
        call::{Answer, Ask, Content, Piece, Refusal, Spoken, Wish, event},
        errors,
    },
    input_usage,
};

/// `POST /v1/responses`.
pub(in super::super) fn responses(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let model = ask.model()?;
    let input = &ask.body["input"];
    if !input.is_string() && !input.is_array() {
        return Err(Refusal::bad("Missing required parameter: 'input'."));
    }
    let prompt = format!("{}\n{}", ask.body["instructions"].as_str().unwrap_or_default(), text_of(input));
    let mut tokens = 3 + prompt_tokens(&prompt);
    if ask.body["tools"].is_array() {
        tokens += prompt_tokens(&ask.body["tools"].to_string());
    }
    let most = ask.body["max_output_tokens"].as_u64();
    let spoken = ask.speak(&prompt, &Wish { most, tool: forced_tool(ask.body), ..Wish::default() });
    let usage = Usage { output: spoken.count(), ..input_usage(ask, model, &prompt, tokens) };
    let item = item(ask, &spoken, "completed", &spoken.text());
    let (status, name) = if spoken.truncated { ("incomplete", "response.incomplete") } else { ("completed", "response.completed") };
    let paid = if ask.fault.no_usage { Value::Null } else { usage_json(usage) };
    let complete = response(ask, model, status, json!([item]), paid);
    let content = if ask.streams() {
        Content::Pieces {
            content_type: "text/event-stream; charset=utf-8",
            pieces: pieces(ask, model, &spoken, name, &complete),
            error: errors::responses_event,
        }
    } else {
        Content::Whole(complete)
    };
    Ok(Answer { model: model.to_owned(), usage, content })
}

fn pieces(ask: &Ask<'_>, model: &str, spoken: &Spoken, last: &str, complete: &Value) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut say = |name: &str, mut data: Value, tokens: u32| {
        data["type"] = json!(name);
        data["sequence_number"] = json!(pieces.len());
        pieces.push(Piece { bytes: event(Some(name), &data), tokens });
    };
    let begun = response(ask, model, "in_progress", json!([]), Value::Null);
    let id = item_id(ask);
    let text = spoken.text();
    say("response.created", json!({"response": begun}), 0);
    say("response.in_progress", json!({"response": begun}), 0);
    say("response.output_item.added", json!({"output_index": 0, "item": item(ask, spoken, "in_progress", "")}), 0);
    if spoken.tool.is_some() {
        for (delta, tokens) in ask.groups(&spoken.tokens) {
            say("response.function_call_arguments.delta", json!({"item_id": id, "output_index": 0, "delta": delta}), tokens);
        }
        say("response.function_call_arguments.done", json!({"item_id": id, "output_index": 0, "arguments": text}), 0);
    } else {
        let place = |mut data: Value| {
            data["item_id"] = json!(id);
            data["output_index"] = json!(0);
            data["content_index"] = json!(0);
            data
        };
        say("response.content_part.added", place(json!({"part": part("")})), 0);
        for (delta, tokens) in ask.groups(&spoken.tokens) {
            say("response.output_text.delta", place(json!({"delta": delta, "logprobs": []})), tokens);
        }
        say("response.output_text.done", place(json!({"text": text, "logprobs": []})), 0);
        say("response.content_part.done", place(json!({"part": part(&text)})), 0);
    }
    say("response.output_item.done", json!({"output_index": 0, "item": item(ask, spoken, "completed", &text)}), 0);
    say(last, json!({"response": complete}), 0);
    pieces
}

fn response(ask: &Ask<'_>, model: &str, status: &str, output: Value, usage: Value) -> Value {
    json!({
        "id": format!("resp_mock{:08x}", ask.serial),
        "object": "response",
        "created_at": ask.unix,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null },
        "instructions": ask.body["instructions"],
        "max_output_tokens": ask.body["max_output_tokens"],
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "store": ask.body["store"].as_bool().unwrap_or(true),
        "temperature": ask.body["temperature"].as_f64().unwrap_or(1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": ask.body.get("tool_choice").cloned().unwrap_or_else(|| json!("auto")),
        "tools": ask.body.get("tools").cloned().unwrap_or_else(|| json!([])),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
    })
}

fn item(ask: &Ask<'_>, spoken: &Spoken, status: &str, text: &str) -> Value {
    match &spoken.tool {
        Some(name) => json!({
            "id": item_id(ask), "type": "function_call", "status": status,
            "call_id": format!("call_mock{:08x}", ask.serial), "name": name, "arguments": text,
        }),
        None => {
            let content = if status == "in_progress" { json!([]) } else { json!([part(text)]) };
            json!({"id": item_id(ask), "type": "message", "status": status, "role": "assistant", "content": content})
        }
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn item_id(ask: &Ask<'_>) -> String {
    format!("item_mock{:08x}", ask.serial)
}

fn forced_tool(body: &Value) -> Option<(&str, &Value)> {
    let tools = body["tools"].as_array()?;
    let choice = &body["tool_choice"];
    let wanted = |tool: &&Value| {
        tool["type"] == "function" && (*choice == "required" || choice["type"] == "function" && choice["name"] == tool["name"])
    };
    tools.iter().find(wanted).map(|tool| (tool["name"].as_str().unwrap_or_default(), &tool["parameters"]))
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.total_input(),
        "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total(),
    })
}
