//! Embeddings: vectors of length 1, as numbers or as base64 of little-endian 32-bit floats.

use serde_json::{Value, json};

use crate::usage::Usage;

use super::super::{
    answer::{Muse, base64, prompt_tokens},
    call::{Answer, Ask, Content, Refusal},
};

const MOST_INPUTS: usize = 2_048;
const MOST_DIMENSIONS: u64 = 4_096;

/// `POST /v1/embeddings`.
pub(in super::super) fn embeddings(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let model = ask.model()?;
    let inputs = inputs(&ask.body["input"])?;
    let native = if model.contains("large") { 3_072 } else { 1_536 };
    let dimensions = ask.body["dimensions"].as_u64().unwrap_or(native);
    if dimensions == 0 || dimensions > MOST_DIMENSIONS {
        return Err(Refusal::bad(format!("Invalid 'dimensions': expected 1 to {MOST_DIMENSIONS}")));
    }
    let encode: fn(Vec<f32>) -> Value = match ask.body["encoding_format"].as_str() {
        None | Some("float") => |vector| json!(vector),
        Some("base64") => |vector| json!(base64(&vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())),
        Some(other) => return Err(Refusal::bad(format!("Invalid 'encoding_format': '{other}'"))),
    };
    let tokens: u64 = inputs.iter().map(|(_, tokens)| tokens).sum();
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, (text, _))| {
            let vector = Muse::new(&format!("{model}\n{text}"), 0).vector(dimensions as usize);
            json!({"object": "embedding", "index": index, "embedding": encode(vector)})
        })
        .collect();
    let body = json!({"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}});
    Ok(Answer { model: model.to_owned(), usage: Usage { input: tokens, ..Usage::default() }, content: Content::Whole(body) })
}

/// Texts with their tokens: a string, an array of them, an array of token ids, or an array of such arrays.
fn inputs(input: &Value) -> Result<Vec<(String, u64)>, Refusal> {
    let bad = || Refusal::bad("Invalid 'input': expected a string, an array of strings, or an array of token arrays");
    let text = |text: &str| (text.to_owned(), prompt_tokens(text));
    let inputs = match input {
        Value::String(one) => vec![text(one)],
        Value::Array(ids) if !ids.is_empty() && ids.iter().all(Value::is_u64) => vec![(input.to_string(), ids.len() as u64)],
        Value::Array(many) => many
            .iter()
            .map(|item| match item {
                Value::String(one) => Ok(text(one)),
                Value::Array(ids) if !ids.is_empty() && ids.iter().all(Value::is_u64) => Ok((item.to_string(), ids.len() as u64)),
                _ => Err(bad()),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(bad()),
    };
    if inputs.is_empty() || inputs.len() > MOST_INPUTS { Err(bad()) } else { Ok(inputs) }
}
