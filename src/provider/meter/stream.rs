//! Adds one event of a stream to the tally. A content event costs a few substring searches and no allocation. JSON is parsed
//! only if a search has found a key of interest.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use memchr::memmem::Finder;

use super::{Finish, Tally, Wire, answer::Answer, condense::Condensed, frames::Kind, tools};
use crate::{
    config::Api,
    provider::{errors::classify_inside, json, terms},
};

/// Takes one event. `name` is its `event` field; empty if there is none. With `large`, `data` is the kept part of a large event.
pub(super) fn event(wire: Wire, tally: &mut Tally, name: &[u8], data: &[u8], large: Option<&Condensed>) {
    match wire {
        Wire::Chat => chat(tally, data, large),
        Wire::Responses => responses(tally, named(name, data), data, large),
        Wire::Anthropic => anthropic(tally, named(name, data), data, large),
        Wire::Gemini => gemini(tally, data, large),
        Wire::Media | Wire::Embeddings => media(tally, named(name, data), data),
        Wire::Bedrock | Wire::Unknown => {}
    }
}

/// OpenAI chat and completions. Every chunk may carry usage (compatible servers count up): the last usage that is not zero counts.
fn chat(tally: &mut Tally, data: &[u8], large: Option<&Condensed>) {
    let keys = &*KEYS;
    if data.trim_ascii() == b"[DONE]" {
        tally.terminal = true;
        return;
    }
    let text = [&keys.content, &keys.text, &keys.arguments, &keys.reasoning_content, &keys.reasoning, &keys.refusal]
        .into_iter()
        .filter_map(|key| json::string_after(data, key))
        .find(|text| !text.is_empty());
    match text {
        Some(text) => tally.content(text, large),
        // A tool call begins with its name; its arguments come later.
        None if non_null(data, &keys.tool_calls) => tally.content(b"", large),
        None => {}
    }
    if tally.model.is_none() {
        tally.model = model(data);
        // The first chunk names the class of service: a stream that is cut has its price.
        if let Some(word) = json::string_after(data, &keys.service_tier).and_then(|word| std::str::from_utf8(word).ok()) {
            tally.beside.terms.tier = terms::tier(Api::OpenAi, word);
        }
    }
    if let Some(reason) = json::string_after(data, &keys.finish_reason)
        && let Some(finish) = std::str::from_utf8(reason).ok().and_then(Finish::openai)
    {
        tally.finish = Some(finish);
    }
    let has_usage = non_null(data, &keys.usage);
    if !has_usage && !non_null(data, &keys.error) && (text.is_some() || keys.choices.find(data).is_some()) {
        return;
    }
    let Some(answer) = Answer::read(data) else {
        return;
    };
    if answer.is_error() {
        tally.failed(classify_inside(data));
    }
    if let Some(figures) = answer.figures(Wire::Chat) {
        tally.beside.read(Wire::Chat, &answer);
        tally.figure(Some(figures));
        tally.settled = answer.has_no_choices() || tally.finish.is_some();
    }
}

/// OpenAI Responses: only the terminal event has usage, and no `[DONE]` follows.
fn responses(tally: &mut Tally, name: &[u8], data: &[u8], large: Option<&Condensed>) {
    match name {
        _ if name.ends_with(b".delta") => {
            // Sound is base64: its length says nothing about tokens.
            let text = if name == b"response.audio.delta" { None } else { json::string_after(data, &KEYS.delta) };
            tally.content(text.unwrap_or_default(), large.filter(|_| text.is_some()));
        }
        b"response.completed" | b"response.incomplete" | b"response.failed" | b"response.cancelled" => {
            tally.terminal = true;
            let Some(answer) = Answer::read(data) else {
                return;
            };
            if let Some(answer) = answer.inner() {
                tally.figure(answer.figures(Wire::Responses));
                tally.beside.read(Wire::Responses, &answer);
                tally.settled = tally.figures.is_some();
                tally.model = answer.model().or(tally.model.take());
                tally.finish = answer.finish(Wire::Responses).or(tally.finish);
                tally.work = answer.background().or(tally.work.take()).map(|(id, _)| (id, false));
            }
            if name == b"response.failed" {
                tally.failed(classify_inside(data));
            }
        }
        b"response.created" | b"response.queued" | b"response.in_progress" => {
            if let Some(answer) = Answer::read(data).and_then(|answer| answer.inner()) {
                tally.model = answer.model().or(tally.model.take());
                tally.work = answer.background().or(tally.work.take());
                tally.beside.read(Wire::Responses, &answer);
            }
        }
        b"response.output_item.done" if tools::is_a_call(data) => tally.beside.item(data),
        b"error" => tally.failed(classify_inside(data)),
        _ => {}
    }
}

/// Anthropic Messages: `message_start` has the input; the cumulative figures of each `message_delta` replace the earlier ones.
fn anthropic(tally: &mut Tally, name: &[u8], data: &[u8], large: Option<&Condensed>) {
    let keys = &*KEYS;
    match name {
        b"content_block_delta" => {
            let text = [&keys.text, &keys.partial_json, &keys.thinking].into_iter().find_map(|key| json::string_after(data, key));
            tally.content(text.unwrap_or_default(), large);
        }
        b"message_start" => {
            if let Some(message) = Answer::read(data).and_then(|answer| answer.inner()) {
                tally.figure(message.figures(Wire::Anthropic));
                tally.beside.read(Wire::Anthropic, &message);
                tally.model = message.model();
            }
        }
        b"message_delta" => {
            if let Some(answer) = Answer::read(data) {
                if let Some(figures) = answer.figures(Wire::Anthropic) {
                    tally.figure(Some(figures));
                    tally.settled = true;
                }
                tally.beside.read(Wire::Anthropic, &answer);
                tally.finish = answer.finish(Wire::Anthropic).or(tally.finish);
            }
        }
        b"message_stop" => tally.terminal = true,
        b"error" => tally.failed(classify_inside(data)),
        _ => {}
    }
}

/// Gemini: every chunk carries running usage, and the last one counts. The finish reason is the protocol's only end.
pub(super) fn gemini(tally: &mut Tally, data: &[u8], large: Option<&Condensed>) {
    let keys = &*KEYS;
    match json::string_after(data, &keys.text) {
        Some(text) if !text.is_empty() => tally.content(text, large),
        _ if non_null(data, &keys.function_call) || non_null(data, &keys.inline_data) => tally.content(b"", large),
        _ => {}
    }
    let Some(answer) = Answer::read(data) else {
        return;
    };
    if answer.is_error() {
        tally.failed(classify_inside(data));
    }
    tally.figure(answer.figures(Wire::Gemini));
    if answer.grounded_candidates().is_some() || keys.traffic.find(data).is_some() || keys.service_tier_camel.find(data).is_some() {
        tally.beside.read(Wire::Gemini, &answer);
    }
    tally.finish = answer.finish(Wire::Gemini).or(tally.finish);
    tally.terminal |= tally.finish.is_some();
    tally.settled = tally.terminal && tally.figures.is_some();
    if tally.model.is_none() {
        tally.model = answer.model();
    }
}

/// OpenAI's streams of images, speech and transcripts: the event that ends the stream has usage.
fn media(tally: &mut Tally, name: &[u8], data: &[u8]) {
    if name.ends_with(b".delta") || name.ends_with(b".partial_image") {
        let text = if name.starts_with(b"transcript") { json::string_after(data, &KEYS.delta) } else { None };
        tally.content(text.unwrap_or_default(), None);
    } else if name.ends_with(b".completed") || name.ends_with(b".done") {
        tally.terminal = true;
        if let Some(answer) = Answer::read(data) {
            tally.figure(answer.figures(Wire::Media));
            tally.beside.read(Wire::Media, &answer);
        }
        tally.settled = tally.figures.is_some() || tally.beside.units.audio_millis > 0;
    } else if name == b"error" {
        tally.failed(classify_inside(data));
    }
}

/// Bedrock: the events of ConverseStream, and those of InvokeModel, which carry the model's own events.
pub(super) fn bedrock(tally: &mut Tally, kind: &Kind, data: &[u8], large: Option<&Condensed>) {
    let keys = &*KEYS;
    if kind.exception {
        let said =
            serde_json::json!({"__type": kind.name, "message": json::string_after(data, &keys.message).map(String::from_utf8_lossy)});
        tally.failed(classify_inside(said.to_string().as_bytes()));
        return;
    }
    match kind.name.as_str() {
        "contentBlockDelta" => {
            let text = [&keys.text, &keys.input].into_iter().find_map(|key| json::string_after(data, key));
            tally.content(text.unwrap_or_default(), large);
        }
        "messageStop" => tally.finish = Answer::read(data).and_then(|answer| answer.finish(Wire::Bedrock)).or(tally.finish),
        "metadata" => {
            tally.terminal = true;
            if let Some(answer) = Answer::read(data) {
                tally.figure(answer.figures(Wire::Bedrock));
                tally.beside.read(Wire::Bedrock, &answer);
            }
            tally.settled = tally.figures.is_some();
        }
        "chunk" => {
            let encoded = json::string_after(data, &keys.bytes).unwrap_or_default();
            match BASE64_STANDARD.decode(encoded) {
                Ok(own) if large.is_none() => own_words(tally, &own),
                // Too large to be held. Its usage comes again with the last event.
                _ => tally.content(b"", large),
            }
        }
        _ => {}
    }
}

/// Takes an event in a model's own format, and Bedrock's own figures beside it.
fn own_words(tally: &mut Tally, data: &[u8]) {
    let keys = &*KEYS;
    tally.tool_calls = tally.tool_calls || tools::asks(Wire::Anthropic, data);
    let name = named(b"", data);
    if !name.is_empty() {
        anthropic(tally, name, data, None);
    } else if let Some(text) = [&keys.output_text, &keys.generation, &keys.text].into_iter().find_map(|key| json::string_after(data, key)) {
        tally.content(text, None);
    }
    if keys.metrics.find(data).is_some() {
        tally.terminal = true;
        tally.figure(Answer::read(data).and_then(|answer| answer.figures(Wire::Bedrock)));
        tally.settled = tally.figures.is_some();
    }
}

/// The event's name, from its `event` field, else from the first `type` in its data.
fn named<'a>(name: &'a [u8], data: &'a [u8]) -> &'a [u8] {
    if name.is_empty() { json::string_after(data, &KEYS.kind).unwrap_or_default() } else { name }
}

fn model(data: &[u8]) -> Option<String> {
    let raw = json::string_after(data, &KEYS.model)?;
    if raw.contains(&b'\\') { Answer::read(data)?.model() } else { std::str::from_utf8(raw).ok().map(str::to_owned) }
}

/// Whether the data has the key with a value other than null.
fn non_null(data: &[u8], key: &Finder<'_>) -> bool {
    let mut at = 0;
    while let Some(found) = key.find(&data[at..]) {
        at += found + key.needle().len();
        if json::value_at(&data[at..]).is_some_and(|value| value.first() != Some(&b'n')) {
            return true;
        }
    }
    false
}

/// The keys to search for, with their quotes. A quote inside a JSON string is escaped: a match is a key or a whole string.
struct Keys {
    content: Finder<'static>,
    text: Finder<'static>,
    arguments: Finder<'static>,
    reasoning_content: Finder<'static>,
    reasoning: Finder<'static>,
    refusal: Finder<'static>,
    tool_calls: Finder<'static>,
    choices: Finder<'static>,
    finish_reason: Finder<'static>,
    usage: Finder<'static>,
    error: Finder<'static>,
    model: Finder<'static>,
    delta: Finder<'static>,
    partial_json: Finder<'static>,
    thinking: Finder<'static>,
    function_call: Finder<'static>,
    inline_data: Finder<'static>,
    kind: Finder<'static>,
    message: Finder<'static>,
    input: Finder<'static>,
    bytes: Finder<'static>,
    output_text: Finder<'static>,
    generation: Finder<'static>,
    metrics: Finder<'static>,
    service_tier: Finder<'static>,
    service_tier_camel: Finder<'static>,
    traffic: Finder<'static>,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    content: Finder::new(b"\"content\""),
    text: Finder::new(b"\"text\""),
    arguments: Finder::new(b"\"arguments\""),
    reasoning_content: Finder::new(b"\"reasoning_content\""),
    reasoning: Finder::new(b"\"reasoning\""),
    refusal: Finder::new(b"\"refusal\""),
    tool_calls: Finder::new(b"\"tool_calls\""),
    choices: Finder::new(b"\"choices\""),
    finish_reason: Finder::new(b"\"finish_reason\""),
    usage: Finder::new(b"\"usage\""),
    error: Finder::new(b"\"error\""),
    model: Finder::new(b"\"model\""),
    delta: Finder::new(b"\"delta\""),
    partial_json: Finder::new(b"\"partial_json\""),
    thinking: Finder::new(b"\"thinking\""),
    function_call: Finder::new(b"\"functionCall\""),
    inline_data: Finder::new(b"\"inlineData\""),
    kind: Finder::new(b"\"type\""),
    message: Finder::new(b"\"message\""),
    input: Finder::new(b"\"input\""),
    bytes: Finder::new(b"\"bytes\""),
    output_text: Finder::new(b"\"outputText\""),
    generation: Finder::new(b"\"generation\""),
    metrics: Finder::new(b"\"amazon-bedrock-invocationMetrics\""),
    service_tier: Finder::new(b"\"service_tier\""),
    service_tier_camel: Finder::new(b"\"serviceTier\""),
    traffic: Finder::new(b"\"trafficType\""),
});
