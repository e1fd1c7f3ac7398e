//! What one event of a stream adds to the tally. A content event costs a few substring searches and no allocation; JSON is
//! parsed only where a search says that something is to be learned.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{Finish, Tally, Wire, answer::Answer};
use crate::provider::{errors::classify_inside, json};

/// Takes one event. `name` is its `event` field, empty if there is none.
pub(super) fn event(wire: Wire, tally: &mut Tally, name: &[u8], data: &[u8]) {
    match wire {
        Wire::Chat => chat(tally, data),
        Wire::Responses => responses(tally, named(name, data), data),
        Wire::Anthropic => anthropic(tally, named(name, data), data),
        Wire::Gemini => gemini(tally, data),
        Wire::Media | Wire::Embeddings => media(tally, named(name, data), data),
        Wire::Bedrock | Wire::Unknown => {}
    }
}

/// OpenAI chat and completions. Every chunk may carry usage (compatible servers count up): the last that is not null wins.
fn chat(tally: &mut Tally, data: &[u8]) {
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
        Some(text) => tally.content(text),
        // A tool call begins with its name and no arguments yet.
        None if non_null(data, &keys.tool_calls) => tally.content(b""),
        None => {}
    }
    if tally.model.is_none() {
        tally.model = model(data);
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
    if let Some(usage) = answer.usage(Wire::Chat) {
        tally.usage = Some(usage);
        tally.settled = answer.has_no_choices() || tally.finish.is_some();
    }
}

/// OpenAI Responses: usage stands in the terminal event alone, and no `[DONE]` follows.
fn responses(tally: &mut Tally, name: &[u8], data: &[u8]) {
    match name {
        _ if name.ends_with(b".delta") => {
            // Sound is base64 and says nothing of tokens.
            let text = if name == b"response.audio.delta" { None } else { json::string_after(data, &KEYS.delta) };
            tally.content(text.unwrap_or_default());
        }
        b"response.completed" | b"response.incomplete" | b"response.failed" => {
            tally.terminal = true;
            let Some(answer) = Answer::read(data) else {
                return;
            };
            if let Some(answer) = answer.inner() {
                tally.usage = answer.usage(Wire::Responses).or(tally.usage);
                tally.settled = tally.usage.is_some();
                tally.model = answer.model().or(tally.model.take());
                tally.finish = answer.finish(Wire::Responses).or(tally.finish);
            }
            if name == b"response.failed" {
                tally.failed(classify_inside(data));
            }
        }
        b"response.created" => tally.model = Answer::read(data).and_then(|answer| answer.inner()?.model()),
        b"error" => tally.failed(classify_inside(data)),
        _ => {}
    }
}

/// Anthropic Messages: `message_start` has the input, every `message_delta` overwrites with cumulative figures.
fn anthropic(tally: &mut Tally, name: &[u8], data: &[u8]) {
    let keys = &*KEYS;
    match name {
        b"content_block_delta" => {
            let text = [&keys.text, &keys.partial_json, &keys.thinking].into_iter().find_map(|key| json::string_after(data, key));
            tally.content(text.unwrap_or_default());
        }
        b"message_start" => {
            if let Some(message) = Answer::read(data).and_then(|answer| answer.inner()) {
                tally.usage = message.usage(Wire::Anthropic);
                tally.model = message.model();
            }
        }
        b"message_delta" => {
            if let Some(answer) = Answer::read(data) {
                if let Some(usage) = answer.usage_over(tally.usage.unwrap_or_default()) {
                    tally.usage = Some(usage);
                    tally.settled = true;
                }
                tally.finish = answer.finish(Wire::Anthropic).or(tally.finish);
            }
        }
        b"message_stop" => tally.terminal = true,
        b"error" => tally.failed(classify_inside(data)),
        _ => {}
    }
}

/// Gemini: every chunk carries running usage, the last wins; a finish reason is the only end there is.
pub(super) fn gemini(tally: &mut Tally, data: &[u8]) {
    let keys = &*KEYS;
    match json::string_after(data, &keys.text) {
        Some(text) if !text.is_empty() => tally.content(text),
        _ if non_null(data, &keys.function_call) || non_null(data, &keys.inline_data) => tally.content(b""),
        _ => {}
    }
    let Some(answer) = Answer::read(data) else {
        return;
    };
    if answer.is_error() {
        tally.failed(classify_inside(data));
    }
    tally.usage = answer.usage(Wire::Gemini).or(tally.usage);
    tally.finish = answer.finish(Wire::Gemini).or(tally.finish);
    tally.terminal |= tally.finish.is_some();
    tally.settled = tally.terminal && tally.usage.is_some();
    if tally.model.is_none() {
        tally.model = answer.model();
    }
}

/// OpenAI's streams of images, speech and transcripts: usage stands in the event that ends them.
fn media(tally: &mut Tally, name: &[u8], data: &[u8]) {
    if name.ends_with(b".delta") || name.ends_with(b".partial_image") {
        let text = if name.starts_with(b"transcript") { json::string_after(data, &KEYS.delta) } else { None };
        tally.content(text.unwrap_or_default());
    } else if name.ends_with(b".completed") || name.ends_with(b".done") {
        tally.terminal = true;
        tally.usage = Answer::read(data).and_then(|answer| answer.usage(Wire::Media)).or(tally.usage);
        tally.settled = tally.usage.is_some();
    } else if name == b"error" {
        tally.failed(classify_inside(data));
    }
}

/// The event's name, from its `event` field or, without one, from the first `type` in its data.
fn named<'a>(name: &'a [u8], data: &'a [u8]) -> &'a [u8] {
    if name.is_empty() { json::string_after(data, &KEYS.kind).unwrap_or_default() } else { name }
}

fn model(data: &[u8]) -> Option<String> {
    let raw = json::string_after(data, &KEYS.model)?;
    if raw.contains(&b'\\') { Answer::read(data)?.model() } else { std::str::from_utf8(raw).ok().map(str::to_owned) }
}

/// Whether the key stands in the data with a value other than null.
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

/// The keys searched for, with their quotes: inside a JSON string a quote is escaped, so a match is a key or a whole string.
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
});
