//! Chat completions, and the older completions. Usage in a stream follows `stream_options.include_usage`: `"usage": null` in
//! every chunk, and the numbers in one more chunk without choices.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::usage::Usage;

use super::{
    super::{
        answer::{prompt_tokens, text_of},
        call::{Answer, Ask, Content, Piece, Refusal, Spoken, Wish, event},
        errors,
    },
    input_usage, read_messages,
};

const MOST_CHOICES: u64 = 8;

/// `POST /v1/chat/completions`.
pub(in super::super) fn chat(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let model = ask.model()?;
    let (prompt, tokens) = read_messages(&ask.body["messages"], ask.body)?;
    let most = ask.body["max_completion_tokens"].as_u64().or_else(|| ask.body["max_tokens"].as_u64());
    let format = &ask.body["response_format"];
    let any = json!({"type": "object", "properties": {"answer": {"type": "string"}}});
    let schema = match format["type"].as_str() {
        Some("json_schema") => Some(&format["json_schema"]["schema"]),
        Some("json_object") => Some(&any),
        _ => None,
    };
    let tool = forced_tool(ask.body)?;
    let spoken = choices(ask, |variant| ask.speak(&prompt, &Wish { most, tool, schema, variant }))?;
    let usage = Usage { output: spoken.iter().map(Spoken::count).sum(), ..input_usage(ask, model, &prompt, tokens) };
    let stream = ask.streams();
    let include_usage = includes_usage(ask)?;
    let head = head(ask, if stream { "chat.completion.chunk" } else { "chat.completion" }, "chatcmpl", model);
    let content = if stream {
        Content::Pieces {
            content_type: "text/event-stream; charset=utf-8",
            pieces: chat_pieces(ask, &head, &spoken, include_usage.then(|| usage_json(usage))),
            error: errors::chat_event,
        }
    } else {
        let choices: Vec<Value> = spoken.iter().enumerate().map(|(index, spoken)| chat_choice(ask, index, spoken)).collect();
        Content::Whole(whole(ask, head, choices, usage))
    };
    Ok(Answer { model: model.to_owned(), usage, content })
}

/// `POST /v1/completions`.
pub(in super::super) fn completions(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let model = ask.model()?;
    let prompt = text_of(&ask.body["prompt"]);
    let most = ask.body["max_tokens"].as_u64().or(Some(16));
    let spoken = choices(ask, |variant| ask.speak(&prompt, &Wish { most, variant, ..Wish::default() }))?;
    let usage = Usage { output: spoken.iter().map(Spoken::count).sum(), ..input_usage(ask, model, &prompt, prompt_tokens(&prompt)) };
    let include_usage = includes_usage(ask)?;
    let head = head(ask, "text_completion", "cmpl", model);
    let choice = |index: usize, text: &str, finish: Value| json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish});
    let content = if ask.streams() {
        let chunk = |choices: Value, tokens| Piece { bytes: event(None, &with_usage(&head, choices, include_usage, &Value::Null)), tokens };
        let mut pieces = Vec::new();
        for (index, spoken) in spoken.iter().enumerate() {
            pieces.extend(ask.groups(&spoken.tokens).into_iter().map(|(text, n)| chunk(json!([choice(index, &text, Value::Null)]), n)));
            pieces.push(chunk(json!([choice(index, "", json!(finish_reason(spoken)))]), 0));
        }
        close(ask, &mut pieces, &head, include_usage.then(|| usage_json(usage)));
        Content::Pieces { content_type: "text/event-stream; charset=utf-8", pieces, error: errors::chat_event }
    } else {
        let choices =
            spoken.iter().enumerate().map(|(index, spoken)| choice(index, &spoken.text(), json!(finish_reason(spoken)))).collect();
        Content::Whole(whole(ask, head, choices, usage))
    };
    Ok(Answer { model: model.to_owned(), usage, content })
}

/// The tool that the request forces: named, or the first of `required`.
fn forced_tool(body: &Value) -> Result<Option<(&str, &Value)>, Refusal> {
    let Some(tools) = body["tools"].as_array() else { return Ok(None) };
    let function = |tool: &Value| tool["type"] == "function";
    let found = match &body["tool_choice"] {
        Value::String(choice) if choice == "required" => tools.iter().find(|tool| function(tool)),
        Value::Object(choice) if choice.get("type").is_some_and(|kind| kind == "function") => {
            let name = &body["tool_choice"]["function"]["name"];
            let found = tools.iter().find(|tool| function(tool) && tool["function"]["name"] == *name);
            Some(found.ok_or_else(|| Refusal::bad(format!("Tool choice {name} not found in 'tools'")))?)
        }
        _ => None,
    };
    Ok(found.map(|tool| (tool["function"]["name"].as_str().unwrap_or_default(), &tool["function"]["parameters"])))
}

fn choices(ask: &Ask<'_>, speak: impl Fn(u64) -> Spoken) -> Result<Vec<Spoken>, Refusal> {
    let n = ask.body["n"].as_u64().unwrap_or(1);
    if n == 0 || n > MOST_CHOICES {
        return Err(Refusal::bad(format!("Invalid 'n': expected 1 to {MOST_CHOICES}")));
    }
    Ok((0..n).map(speak).collect())
}

fn includes_usage(ask: &Ask<'_>) -> Result<bool, Refusal> {
    let options = &ask.body["stream_options"];
    if ask.fault.no_stream_options && !options.is_null() {
        return Err(Refusal::bad("Unrecognized request argument supplied: stream_options"));
    }
    if options.is_object() && !ask.streams() {
        return Err(Refusal::bad("The 'stream_options' parameter is only allowed when 'stream' is enabled."));
    }
    Ok(options["include_usage"].as_bool().unwrap_or(false) && !ask.fault.no_usage)
}

fn head(ask: &Ask<'_>, object: &str, prefix: &str, model: &str) -> Value {
    json!({"id": format!("{prefix}-mock{:08x}", ask.serial), "object": object, "created": ask.unix, "model": model, "system_fingerprint": "fp_mock"})
}

fn whole(ask: &Ask<'_>, mut head: Value, choices: Vec<Value>, usage: Usage) -> Value {
    head["choices"] = Value::Array(choices);
    if !ask.fault.no_usage {
        head["usage"] = usage_json(usage);
    }
    head
}

fn chat_choice(ask: &Ask<'_>, index: usize, spoken: &Spoken) -> Value {
    let message = match &spoken.tool {
        Some(name) => json!({
            "role": "assistant", "content": null, "refusal": null,
            "tool_calls": [{"id": tool_id(ask, index), "type": "function", "function": {"name": name, "arguments": spoken.text()}}],
        }),
        None => json!({"role": "assistant", "content": spoken.text(), "refusal": null, "annotations": []}),
    };
    json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(spoken)})
}

fn chat_pieces(ask: &Ask<'_>, head: &Value, spoken: &[Spoken], usage: Option<Value>) -> Vec<Piece> {
    let include = usage.is_some();
    let chunk = |index: usize, delta: Value, finish: Value, tokens| {
        let choices = json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        Piece { bytes: event(None, &with_usage(head, choices, include, &Value::Null)), tokens }
    };
    let mut pieces = Vec::new();
    for (index, spoken) in spoken.iter().enumerate() {
        let opening = match &spoken.tool {
            Some(name) => json!({"role": "assistant", "content": null, "tool_calls": [
                {"index": 0, "id": tool_id(ask, index), "type": "function", "function": {"name": name, "arguments": ""}}]}),
            None => json!({"role": "assistant", "content": "", "refusal": null}),
        };
        pieces.push(chunk(index, opening, Value::Null, 0));
        for (text, tokens) in ask.groups(&spoken.tokens) {
            let delta = match spoken.tool {
                Some(_) => json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
                None => json!({"content": text}),
            };
            pieces.push(chunk(index, delta, Value::Null, tokens));
        }
        pieces.push(chunk(index, json!({}), json!(finish_reason(spoken)), 0));
    }
    close(ask, &mut pieces, head, usage);
    pieces
}

/// Adds the usage chunk if asked, then `[DONE]`; adds comments between the pieces if the fault asks for them.
fn close(ask: &Ask<'_>, pieces: &mut Vec<Piece>, head: &Value, usage: Option<Value>) {
    if let Some(usage) = usage {
        pieces.push(Piece { bytes: event(None, &with_usage(head, json!([]), true, &usage)), tokens: 0 });
    }
    pieces.push(Piece { bytes: Bytes::from_static(b"data: [DONE]\n\n"), tokens: 0 });
    if let Some(every) = ask.fault.ping {
        let plain = std::mem::take(pieces);
        for (n, piece) in plain.into_iter().enumerate() {
            if n % every as usize == 0 {
                pieces.push(Piece { bytes: Bytes::from_static(b": ping\n\n"), tokens: 0 });
            }
            pieces.push(piece);
        }
    }
}

fn with_usage(head: &Value, choices: Value, include: bool, usage: &Value) -> Value {
    let mut chunk = head.clone();
    chunk["choices"] = choices;
    if include {
        chunk["usage"] = usage.clone();
    }
    chunk
}

fn finish_reason(spoken: &Spoken) -> &'static str {
    match (spoken.truncated, &spoken.tool) {
        (true, _) => "length",
        (false, Some(_)) => "tool_calls",
        (false, None) => "stop",
    }
}

fn tool_id(ask: &Ask<'_>, index: usize) -> String {
    format!("call_mock{:08x}{index}", ask.serial)
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.total_input(),
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}
