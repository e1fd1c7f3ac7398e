//! Gemini's wire format: `generateContent`, and `streamGenerateContent` as SSE (`alt=sse`) or as one JSON array.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::usage::Usage;

use super::{
    answer::{prompt_tokens, text_of},
    call::{Answer, Ask, Content, Piece, Refusal, Spoken, Wish, event},
    errors,
};

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Whole,
    Events,
    Array,
}

/// `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`.
pub(super) fn generate(ask: &Ask<'_>, model: &str, form: Form) -> Result<Answer, Refusal> {
    let contents = ask.body["contents"].as_array().filter(|contents| !contents.is_empty());
    contents.ok_or_else(|| Refusal::bad("* GenerateContentRequest.contents: contents is not specified"))?;
    let prompt = format!("{}\n{}", text_of(&ask.body["systemInstruction"]), text_of(&ask.body["contents"]));
    let most = ask.body["generationConfig"]["maxOutputTokens"].as_u64();
    let spoken = ask.speak(&prompt, &Wish { most, ..Wish::default() });
    let usage = Usage { input: prompt_tokens(&prompt), output: spoken.count(), ..Usage::default() };
    let content = if form == Form::Whole {
        Content::Whole(chunk(ask, model, &spoken.text(), Some(&spoken), usage))
    } else {
        Content::Pieces {
            content_type: if form == Form::Events { "text/event-stream" } else { "application/json; charset=UTF-8" },
            pieces: pieces(ask, model, form, &spoken, usage),
            error: errors::gemini_event,
        }
    };
    Ok(Answer { model: model.to_owned(), usage, content })
}

fn pieces(ask: &Ask<'_>, model: &str, form: Form, spoken: &Spoken, usage: Usage) -> Vec<Piece> {
    let groups = ask.groups(&spoken.tokens);
    let mut said = 0;
    let mut pieces = Vec::new();
    for (n, (text, tokens)) in groups.iter().enumerate() {
        said += u64::from(*tokens);
        let last = (n + 1 == groups.len()).then_some(spoken);
        let chunk = chunk(ask, model, text, last, Usage { output: said, ..usage });
        let bytes = match form {
            Form::Array => Bytes::from(format!("{}{chunk}", if n == 0 { "[" } else { ",\r\n" })),
            _ => event(None, &chunk),
        };
        pieces.push(Piece { bytes, tokens: *tokens });
    }
    if form == Form::Array {
        pieces.push(Piece { bytes: Bytes::from_static(if groups.is_empty() { b"[]" } else { b"]" }), tokens: 0 });
    }
    pieces
}

/// One answer, or one part of a stream; `last` carries the finish reason. Usage counts everything so far.
fn chunk(ask: &Ask<'_>, model: &str, text: &str, last: Option<&Spoken>, usage: Usage) -> Value {
    let mut candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    if let Some(spoken) = last {
        candidate["finishReason"] = json!(if spoken.truncated { "MAX_TOKENS" } else { "STOP" });
    }
    let mut chunk = json!({"candidates": [candidate], "modelVersion": model, "responseId": format!("mock{:08x}", ask.serial)});
    if !ask.fault.no_usage {
        chunk["usageMetadata"] = json!({
            "promptTokenCount": usage.total_input(),
            "candidatesTokenCount": usage.output,
            "totalTokenCount": usage.total(),
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.total_input()}],
        });
    }
    chunk
}
