//! Golden transcripts: the meter's result for each is the same for all cuts.

use proptest::prelude::*;

use super::*;
use crate::http1::{Fields, Id};

macro_rules! transcript {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/", $path)) as &[u8]
    };
}

const CHAT: (Api, Operation) = (Api::OpenAi, Operation::Chat);
const RESPONSES: (Api, Operation) = (Api::OpenAi, Operation::Responses);
const MESSAGES: (Api, Operation) = (Api::Anthropic, Operation::Messages);
const GEMINI: (Api, Operation) = (Api::Gemini, Operation::Chat);
const SSE: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";
const INPUT: u64 = 77;

pub fn headers(content_type: &str, coding: &str) -> Fields {
    let mut headers = Fields::new();
    for (name, value) in [(Id::ContentType, content_type), (Id::ContentEncoding, coding)] {
        if !value.is_empty() {
            headers.insert(name, value);
        }
    }
    headers
}

fn observe((api, operation): (Api, Operation), content_type: &str, text: &[u8]) -> Observed {
    let mut meter = Meter::new(api, operation, &headers(content_type, ""));
    meter.feed(text);
    meter.finish(true, INPUT)
}

fn usage(input: u64, cache_read: u64, cache_write: u64, cache_write_1h: u64, output: u64, reasoning: u64) -> Usage {
    Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning, ..Usage::default() }
}

/// Usage, source, finish, error, terminal.
fn facts(seen: &Observed) -> (Usage, UsageSource, Option<Finish>, Option<ErrorClass>, bool) {
    (seen.usage, seen.source, seen.finish, seen.error, seen.terminal)
}

#[test]
fn openai_chat_streams() {
    let whole = usage(8, 4, 0, 0, 5, 2);
    let provider = UsageSource::Provider;
    for (name, text, expected) in [
        ("usage", transcript!("openai/chat_usage.sse"), (whole, provider, Some(Finish::Stop), None, true)),
        ("no done", transcript!("openai/chat_no_done.sse"), (whole, provider, Some(Finish::Stop), None, false)),
        ("crlf", transcript!("openai/chat_crlf.sse"), (whole, provider, Some(Finish::Stop), None, true)),
        ("tools", transcript!("openai/chat_tools.sse"), (whole, provider, Some(Finish::ToolCalls), None, true)),
    ] {
        let seen = observe(CHAT, SSE, text);
        assert_eq!(facts(&seen), expected, "{name}");
        assert_eq!(seen.model.as_deref(), Some("gpt-4o-mini-2024-07-18"), "{name}");
    }
    assert_eq!(observe(CHAT, SSE, transcript!("openai/chat_usage.sse")).content_events, 4, "the role chunk is no content");
    assert_eq!(observe(CHAT, SSE, transcript!("openai/chat_tools.sse")).content_events, 3);
    let compatible = observe(CHAT, SSE, transcript!("openai/chat_compatible.sse"));
    assert_eq!(facts(&compatible), (usage(7, 0, 0, 0, 3, 0), provider, None, None, true), "the last usage wins, nothing is added up");
    let completions = observe((Api::OpenAi, Operation::Completions), SSE, transcript!("openai/completions.sse"));
    assert_eq!((facts(&completions).0, completions.finish, completions.content_events), (usage(3, 0, 0, 0, 2, 0), Some(Finish::Length), 2));
}

#[test]
fn a_stream_without_usage_is_estimated() {
    let plain = observe(CHAT, SSE, transcript!("openai/chat_plain.sse"));
    assert_eq!((plain.source, plain.usage.input, plain.terminal), (UsageSource::Estimated, INPUT, true));
    assert!((4..=8).contains(&plain.usage.output), "{plain:?}");
    let cut = observe(CHAT, SSE, transcript!("openai/chat_cut.sse"));
    assert_eq!((cut.source, cut.usage.output, cut.terminal, cut.finish), (UsageSource::Estimated, plain.usage.output, false, None));
}

#[test]
fn errors_inside_a_200_stream() {
    let first = observe(CHAT, SSE, transcript!("openai/chat_error_first.sse"));
    assert_eq!(facts(&first), (Usage::default(), UsageSource::Missing, None, Some(ErrorClass::Transient), false));
    let late = observe(CHAT, SSE, transcript!("openai/chat_error_late.sse"));
    assert_eq!((late.error, late.source), (Some(ErrorClass::Throttled), UsageSource::Estimated), "what was streamed is paid for");
    let anthropic = observe(MESSAGES, SSE, transcript!("anthropic/messages_error_first.sse"));
    assert_eq!((anthropic.error, anthropic.content_events, anthropic.terminal), (Some(ErrorClass::Overloaded), 0, false));
    let late = observe(MESSAGES, SSE, transcript!("anthropic/messages_error_late.sse"));
    assert_eq!((late.error, late.source, late.content_events), (Some(ErrorClass::Transient), UsageSource::Estimated, 2));
    let failed = observe(RESPONSES, SSE, transcript!("openai/responses_failed.sse"));
    assert_eq!((failed.error, failed.terminal), (Some(ErrorClass::Transient), true));
    let first = observe(RESPONSES, SSE, transcript!("openai/responses_error_first.sse"));
    assert_eq!((first.error, first.source), (Some(ErrorClass::Throttled), UsageSource::Missing));
}

#[test]
fn openai_responses() {
    let whole = usage(15, 10, 5, 0, 9, 4);
    for (text, content_type, finish) in [
        (transcript!("openai/responses_completed.sse"), SSE, Finish::Stop),
        (transcript!("openai/responses_incomplete.sse"), SSE, Finish::Length),
        (transcript!("openai/responses.json"), JSON, Finish::ToolCalls),
    ] {
        let seen = observe(RESPONSES, content_type, text);
        assert_eq!(facts(&seen), (whole, UsageSource::Provider, Some(finish), None, true));
        assert_eq!(seen.model.as_deref(), Some("gpt-5-mini-2025-08-07"));
    }
    let cut = observe(RESPONSES, SSE, transcript!("openai/responses_cut.sse"));
    assert_eq!((cut.source, cut.content_events, cut.terminal), (UsageSource::Estimated, 2, false));
}

#[test]
fn anthropic_messages_overwrite_and_never_add() {
    let seen = observe(MESSAGES, SSE, transcript!("anthropic/messages.sse"));
    assert_eq!(facts(&seen), (usage(25, 50, 60, 40, 15, 0), UsageSource::Provider, Some(Finish::Stop), None, true));
    assert_eq!((seen.model.as_deref(), seen.content_events), (Some("claude-sonnet-4-5-20250929"), 2));
    let inputs = observe(MESSAGES, SSE, transcript!("anthropic/messages_delta_inputs.sse"));
    assert_eq!((inputs.usage, inputs.finish), (usage(26, 51, 60, 40, 16, 0), Some(Finish::Length)));
    assert_eq!(observe(MESSAGES, SSE, transcript!("anthropic/messages_tool.sse")).finish, Some(Finish::ToolCalls));
    let json = observe(MESSAGES, JSON, transcript!("anthropic/messages.json"));
    assert_eq!(facts(&json), (usage(25, 50, 100, 0, 6, 0), UsageSource::Provider, Some(Finish::Stop), None, true));
    let cut = observe(MESSAGES, SSE, transcript!("anthropic/messages_cut.sse"));
    assert_eq!((cut.source, cut.terminal), (UsageSource::Estimated, false));
    assert_eq!(cut.usage, usage(25, 50, 60, 40, cut.estimated_output, 0), "input is known, output is what passed");
}

#[test]
fn gemini_in_all_its_forms() {
    let whole = (usage(15, 8, 0, 0, 11, 5), UsageSource::Provider, Some(Finish::Stop), None, true);
    for (text, content_type) in
        [(transcript!("gemini/stream.sse"), SSE), (transcript!("gemini/stream.json"), JSON), (transcript!("gemini/generate.json"), JSON)]
    {
        let seen = observe(GEMINI, content_type, text);
        assert_eq!(facts(&seen), whole, "{content_type}");
        assert_eq!(seen.model.as_deref(), Some("gemini-2.5-flash"));
    }
    assert_eq!(observe(GEMINI, JSON, transcript!("gemini/stream.json")).content_events, 2);
    let blocked = observe(GEMINI, JSON, transcript!("gemini/blocked.json"));
    assert_eq!((blocked.finish, blocked.usage.input), (Some(Finish::ContentFilter), 4));
    assert_eq!(observe(GEMINI, JSON, transcript!("gemini/stream_error.json")).error, Some(ErrorClass::Overloaded));
}

#[test]
fn bedrock_converse() {
    let bedrock = (Api::Bedrock, Operation::Chat);
    let json = observe(bedrock, JSON, transcript!("bedrock/converse.json"));
    assert_eq!(facts(&json), (usage(11, 3, 2, 0, 4, 0), UsageSource::Provider, Some(Finish::Stop), None, true));
    let frames = observe(bedrock, "application/vnd.amazon.eventstream", transcript!("bedrock/converse.eventstream"));
    assert_eq!((frames.usage, frames.source), (usage(11, 0, 0, 0, 4, 0), UsageSource::Provider));
}

#[test]
fn one_json_answer() {
    let chat = observe(CHAT, JSON, transcript!("openai/chat.json"));
    assert_eq!(facts(&chat), (usage(8, 4, 0, 0, 5, 2), UsageSource::Provider, Some(Finish::Length), None, true));
    let none = observe(CHAT, JSON, transcript!("openai/chat_no_usage.json"));
    assert_eq!((none.source, none.usage.input), (UsageSource::Estimated, INPUT));
    assert!(none.usage.output > 0);
    let error = observe(CHAT, JSON, transcript!("openai/chat_error_200.json"));
    assert_eq!((error.error, error.source), (Some(ErrorClass::QuotaSpent), UsageSource::Missing));
    assert_eq!(observe(MESSAGES, JSON, transcript!("anthropic/messages_error_200.json")).error, Some(ErrorClass::Overloaded));
    let text = transcript!("openai/chat.json");
    let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(JSON, ""));
    meter.feed(&text[..text.len() / 2]);
    let cut = meter.finish(false, INPUT);
    assert_eq!((cut.source, cut.terminal), (UsageSource::Estimated, false));
    assert!((5..=15).contains(&cut.usage.output), "the words, and not the JSON around them: {cut:?}");
}

#[test]
fn embeddings_of_any_size_with_usage_first_or_last() {
    let embeddings = (Api::OpenAi, Operation::Embeddings);
    let small = observe(embeddings, JSON, transcript!("openai/embeddings.json"));
    assert_eq!(
        (small.usage, small.source, small.model.as_deref()),
        (usage(8, 0, 0, 0, 0, 0), UsageSource::Provider, Some("text-embedding-3-small"))
    );
    let vector = "[0.0123456789]".repeat(200_000).replace("][", ",");
    let (usage_text, data) =
        (r#""usage":{"prompt_tokens":9,"total_tokens":9},"model":"m""#, format!(r#""data":[{{"embedding":{vector}}}]"#));
    for text in [format!("{{{data},{usage_text}}}"), format!("{{{usage_text},{data}}}")] {
        let mut meter = Meter::new(embeddings.0, embeddings.1, &headers(JSON, ""));
        for piece in text.as_bytes().chunks(16_384) {
            meter.feed(piece);
        }
        let seen = meter.finish(true, INPUT);
        assert_eq!((seen.usage.input, seen.source, seen.model.as_deref()), (9, UsageSource::Provider, Some("m")));
        assert!(!seen.flawed);
    }
}

#[test]
fn news_comes_once_and_in_time() {
    let mut meter = Meter::new(MESSAGES.0, MESSAGES.1, &headers(SSE, ""));
    let mut news = Vec::new();
    for event in transcript!("anthropic/messages.sse").split_inclusive(|byte| *byte == b'\n') {
        let new = meter.feed(event);
        if new != News::default() {
            news.push(new);
        }
    }
    let (first, last) = (News { first_content: true, ..News::default() }, News { ended: true, ..News::default() });
    assert_eq!(news, [first, last]);

    let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(SSE, ""));
    assert_eq!(meter.feed(transcript!("openai/chat_error_first.sse")), News { error: Some(ErrorClass::Transient), ..News::default() });
    let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(JSON, ""));
    assert_eq!(meter.feed(transcript!("openai/chat_error_200.json")).error, Some(ErrorClass::QuotaSpent), "before the end");
    let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(JSON, ""));
    assert!(meter.feed(b"{\"id\":").first_content);
    let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(SSE, ""));
    meter.feed(b"data: {\"a\"");
    assert!(meter.mid_event());
    meter.feed(b":1}\n\n");
    assert!(!meter.mid_event());
}

#[test]
fn codings_and_formats() {
    let plain = observe(CHAT, SSE, transcript!("openai/chat_usage.sse"));
    let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(SSE, "gzip"));
    for piece in transcript!("openai/chat_usage.sse.gz").chunks(7) {
        meter.feed(piece);
    }
    assert_eq!(meter.finish(true, INPUT), plain);
    let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(JSON, "gzip"));
    meter.feed(transcript!("openai/chat.json.gz"));
    assert_eq!(meter.finish(true, INPUT).usage, usage(8, 4, 0, 0, 5, 2));
    for (coding, text) in [("br", transcript!("openai/chat.json")), ("gzip", b"not gzip at all, to be sure of it")] {
        let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(JSON, coding));
        meter.feed(text);
        assert!(meter.is_blind());
        assert_eq!(meter.finish(true, INPUT).source, UsageSource::Missing, "{coding}");
    }
    let careless = observe(CHAT, "application/json", transcript!("openai/chat_usage.sse"));
    assert_eq!(careless.usage, plain.usage, "a stream under the wrong content type");
    assert_eq!(observe(CHAT, "text/html", b"<html>").source, UsageSource::Missing);
    assert_eq!(observe(CHAT, JSON, b"").source, UsageSource::Missing);
}

proptest! {
    #[test]
    fn cutting_changes_nothing(which in 0usize..12, size in 1usize..200) {
        let (call, content_type, text) = [
            (CHAT, SSE, transcript!("openai/chat_usage.sse")),
            (CHAT, SSE, transcript!("openai/chat_crlf.sse")),
            (CHAT, SSE, transcript!("openai/chat_error_late.sse")),
            (CHAT, SSE, transcript!("openai/chat_compatible.sse")),
            (CHAT, JSON, transcript!("openai/chat.json")),
            (CHAT, JSON, transcript!("openai/chat_error_200.json")),
            (RESPONSES, SSE, transcript!("openai/responses_completed.sse")),
            (MESSAGES, SSE, transcript!("anthropic/messages.sse")),
            (MESSAGES, SSE, transcript!("anthropic/messages_cut.sse")),
            (GEMINI, SSE, transcript!("gemini/stream.sse")),
            (GEMINI, JSON, transcript!("gemini/stream.json")),
            (GEMINI, JSON, transcript!("gemini/stream_error.json")),
        ][which];
        let mut meter = Meter::new(call.0, call.1, &headers(content_type, ""));
        for piece in text.chunks(size) {
            meter.feed(piece);
        }
        prop_assert_eq!(meter.finish(true, INPUT), observe(call, content_type, text));
    }

    /// Found by fuzzing: blanks in a piece of their own were not counted, and a byte order mark cut in two made the meter blind.
    #[test]
    fn what_comes_before_the_answer_counts_for_nothing(before in "[ \r\n\t\u{feff}]{0,6}", size in 1usize..9) {
        for (call, content_type, text) in [
            (CHAT, JSON, transcript!("openai/chat.json")),
            (CHAT, JSON, transcript!("openai/chat_no_usage.json")),
            (CHAT, JSON, transcript!("openai/chat_usage.sse")),
            (GEMINI, JSON, transcript!("gemini/stream.json")),
        ] {
            let text = [before.as_bytes(), text].concat();
            let mut meter = Meter::new(call.0, call.1, &headers(content_type, ""));
            for piece in text.chunks(size) {
                meter.feed(piece);
            }
            prop_assert!(!meter.is_blind());
            prop_assert_eq!(meter.finish(true, INPUT), observe(call, content_type, &text[before.len()..]));
        }
    }

    #[test]
    fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..300), sse in any::<bool>(), gzip in any::<bool>()) {
        for call in [CHAT, RESPONSES, MESSAGES, GEMINI] {
            let mut meter = Meter::new(call.0, call.1, &headers(if sse { SSE } else { JSON }, if gzip { "gzip" } else { "" }));
            meter.feed(&text);
            meter.finish(false, 1);
        }
    }
}
