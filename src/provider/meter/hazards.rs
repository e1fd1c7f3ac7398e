//! Tests of answers that a meter could misread: figures behind images, figures in odd places, estimates without a bound, work
//! that goes on after its answer, empty answers.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{frames::tests::frame, tests::headers, *};

macro_rules! transcript {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/", $path)) as &[u8]
    };
}

const CHAT: (Api, Operation) = (Api::OpenAi, Operation::Chat);
const RESPONSES: (Api, Operation) = (Api::OpenAi, Operation::Responses);
const MESSAGES: (Api, Operation) = (Api::Anthropic, Operation::Messages);
const GEMINI: (Api, Operation) = (Api::Gemini, Operation::Chat);
const BEDROCK: (Api, Operation) = (Api::Bedrock, Operation::Chat);
const IMAGES: (Api, Operation) = (Api::OpenAi, Operation::Images);
const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";
const FRAMES: &str = "application/vnd.amazon.eventstream";

fn meter((api, operation): (Api, Operation), content_type: &str) -> Meter {
    Meter::new(api, operation, &headers(content_type, ""))
}

fn observe_by(size: usize, call: (Api, Operation), content_type: &str, text: &[u8]) -> Observed {
    let mut meter = meter(call, content_type);
    text.chunks(size).for_each(|piece| {
        meter.feed(piece);
    });
    meter.finish(true, 77)
}

fn observe(call: (Api, Operation), content_type: &str, text: &[u8]) -> Observed {
    observe_by(16_384, call, content_type, text)
}

fn tokens(seen: &Observed) -> (u64, u64, UsageSource) {
    (seen.usage.total_input(), seen.usage.output, seen.source)
}

fn image() -> String {
    "iVBORw0KGgo+/8AA".repeat(300_000)
}

#[test]
fn usage_is_found_behind_megabytes_of_images_on_every_wire() {
    let image = image();
    let gemini = format!(
        r#"{{"candidates":[{{"content":{{"parts":[{{"inlineData":{{"mimeType":"image/png","data":"{image}"}}}}]}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":20,"candidatesTokenCount":1290,"thoughtsTokenCount":100,"totalTokenCount":1410}},"modelVersion":"gemini-2.5-pro"}}"#
    );
    let responses = format!(
        r#"{{"id":"r","status":"completed","model":"gpt-5-mini","output":[{{"type":"image_generation_call","result":"{image}"}}],"usage":{{"input_tokens":20,"output_tokens":1390,"total_tokens":1410}}}}"#
    );
    let chat = format!(
        r#"{{"model":"m","choices":[{{"index":0,"delta":{{"images":[{{"image_url":{{"url":"data:image/png;base64,{image}"}}}}]}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":1390,"total_tokens":1410}}}}"#
    );
    let message = format!(
        r#"{{"type":"message","model":"claude-opus-5","content":[{{"type":"text","text":"{image}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":20,"output_tokens":1390}}}}"#
    );
    let converse = format!(
        r#"{{"output":{{"message":{{"content":[{{"image":{{"bytes":"{image}"}}}}]}}}},"stopReason":"end_turn","usage":{{"inputTokens":20,"outputTokens":1390}}}}"#
    );
    let messages_event = format!(
        "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"usage\":{{\"input_tokens\":20,\"output_tokens\":1}}}}}}\n\n\
         event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"text_delta\",\"text\":\"{image}\"}}}}\n\n\
         event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{{\"output_tokens\":1390}}}}\n\n\
         event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
    );
    let images = format!(
        r#"{{"type":"image_generation.completed","b64_json":"{image}","usage":{{"input_tokens":20,"output_tokens":1390,"total_tokens":1410}}}}"#
    );
    for (name, call, content_type, text) in [
        ("Gemini whole", GEMINI, JSON, gemini.clone()),
        ("Gemini event", GEMINI, SSE, format!("data: {gemini}\r\n\r\n")),
        ("Gemini list", GEMINI, JSON, format!("[{gemini}\n,\r\n{{\"candidates\":[]}}]")),
        ("Responses whole", RESPONSES, JSON, responses.clone()),
        (
            "Responses event",
            RESPONSES,
            SSE,
            format!(
                "event: response.output_text.delta\ndata: {{\"delta\":\"hi\"}}\n\nevent: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{responses}}}\n\n"
            ),
        ),
        (
            "Responses, its last event without an end",
            RESPONSES,
            SSE,
            format!("event: response.completed\ndata: {{\"response\":{responses}}}"),
        ),
        ("Chat event", CHAT, SSE, format!("data: {chat}\n\ndata: [DONE]\n\n")),
        ("Chat whole", CHAT, JSON, chat.replace("\"delta\"", "\"message\"")),
        ("Messages whole", MESSAGES, JSON, message),
        ("Converse whole", BEDROCK, JSON, converse),
        ("Messages event", MESSAGES, SSE, messages_event),
        ("Images whole", IMAGES, JSON, images.replace("image_generation.completed", "x")),
        (
            "Images event",
            IMAGES,
            SSE,
            format!(
                "event: image_generation.partial_image\ndata: {{\"b64_json\":\"{image}\"}}\n\nevent: image_generation.completed\ndata: {images}\n\n"
            ),
        ),
    ] {
        let seen = observe(call, content_type, text.as_bytes());
        assert_eq!(tokens(&seen), (20, 1_390, UsageSource::Provider), "{name}: {seen:?}");
        assert!(seen.terminal && seen.answered && !seen.flawed, "{name}: {seen:?}");
    }
}

#[test]
fn usage_is_found_behind_megabytes_within_frames() {
    let image = image();
    let delta = format!(r#"{{"type":"content_block_delta","delta":{{"type":"text_delta","text":"{image}"}}}}"#);
    let said = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":20,"output_tokens":1390}}"#;
    let stop = r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":20,"outputTokenCount":1390}}"#;
    let own = |words: &str| frame("event", "chunk", format!(r#"{{"bytes":"{}"}}"#, BASE64_STANDARD.encode(words)).as_bytes());
    let converse = [
        frame("event", "contentBlockDelta", format!(r#"{{"delta":{{"image":{{"source":{{"bytes":"{image}"}}}}}}}}"#).as_bytes()),
        frame("event", "messageStop", br#"{"stopReason":"end_turn"}"#),
        frame("event", "metadata", br#"{"usage":{"inputTokens":20,"outputTokens":1390,"totalTokens":1410}}"#),
    ];
    let invoke = [own(&delta), own(said), own(stop)];
    for (name, frames) in [("Converse", converse.concat()), ("InvokeModel", invoke.concat())] {
        for size in [1_000, 65_536, frames.len()] {
            let seen = observe_by(size, BEDROCK, FRAMES, &frames);
            assert_eq!(tokens(&seen), (20, 1_390, UsageSource::Provider), "{name} by {size}: {seen:?}");
            assert!(seen.terminal && seen.answered, "{name} by {size}: {seen:?}");
        }
    }
}

#[test]
fn no_image_is_counted_as_text_where_nothing_says_what_was_used() {
    let image = image();
    let part = format!(r#"{{"candidates":[{{"content":{{"parts":[{{"text":"Here it is:"}},{{"inlineData":{{"data":"{image}"}}}}]}}}}]}}"#);
    let content = format!("Look: ![it](data:image/png;base64,{image})");
    for (name, call, content_type, text) in [
        ("Gemini whole", GEMINI, JSON, part.clone()),
        ("Gemini event", GEMINI, SSE, format!("data: {part}\n\n")),
        ("Gemini list", GEMINI, JSON, format!("[{part}]")),
        ("Chat whole", CHAT, JSON, format!(r#"{{"choices":[{{"message":{{"content":"{content}"}}}}]}}"#)),
        ("Chat event", CHAT, SSE, format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{content}\"}}}}]}}\n\n")),
    ] {
        let seen = observe(call, content_type, text.as_bytes());
        assert_eq!((seen.source, seen.usage.input), (UsageSource::Estimated, 77), "{name}");
        assert!((1_000..1_050).contains(&seen.usage.output), "{name}: {seen:?}");
    }
}

#[test]
fn an_estimate_never_goes_beyond_the_calls_own_bound() {
    let piece = r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"k\":\"\\n\\n\\n\\n\",{\"k\":\"\\n\\n\\n\\n\","}}]}}]}"#;
    let stream = format!("{piece}\n\n").repeat(100);
    for (most, expected) in [(None, 100..=3_000), (Some(60), 60..=60), (Some(100_000), 100..=3_000)] {
        let mut meter = meter(CHAT, SSE).at_most(most);
        meter.feed(stream.as_bytes());
        let seen = meter.finish(false, 9);
        assert_eq!((seen.source, seen.usage.input), (UsageSource::Estimated, 9));
        assert!(expected.contains(&seen.usage.output), "{most:?}: {seen:?}");
    }
    let said = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":90}}"#;
    let mut meter = meter(CHAT, SSE).at_most(Some(60));
    meter.feed(format!("{said}\n\n").as_bytes());
    assert_eq!(meter.finish(true, 9).usage.output, 90, "what the provider says stands");
}

#[test]
fn usage_in_odd_places_and_of_odd_sums() {
    for (name, content_type, text, expected) in [
        ("Moonshot", SSE, transcript!("openai/chat_moonshot.sse"), (12, 7, 13, 0)),
        ("Groq", SSE, transcript!("openai/chat_groq.sse"), (18, 0, 21, 0)),
        ("coarse last", SSE, transcript!("openai/chat_coarse_last.sse"), (70, 30, 60, 40)),
        ("xAI", JSON, transcript!("openai/chat_xai.json"), (9_992, 128, 4_308, 2_809)),
        ("xAI", SSE, transcript!("openai/chat_xai.sse"), (9_992, 128, 4_308, 2_809)),
        ("in the message", JSON, br#"{"choices":[{}],"message":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}"#, (3, 0, 4, 0)),
        (
            "beside an odd value",
            JSON,
            br#"{"choices":[{}],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":7}}"#,
            (3, 0, 4, 0),
        ),
        ("an empty object first", JSON, br#"{"choices":[{"usage":{"prompt_tokens":3,"completion_tokens":4}}],"usage":{}}"#, (3, 0, 4, 0)),
    ] {
        let Observed { usage, source, .. } = observe(CHAT, content_type, text);
        assert_eq!((usage.input, usage.cache_read, usage.output, usage.reasoning), expected, "{name}");
        assert_eq!(source, UsageSource::Provider, "{name}");
    }
}

#[test]
fn work_in_the_background_says_nothing_until_it_has_ended() {
    let id: Box<str> = "resp_bg1".into();
    for (name, content_type, text, work, expected) in [
        ("queued", JSON, transcript!("openai/responses_queued.json"), Work::GoesOn(id.clone()), (0, 0, UsageSource::Missing)),
        ("cut", SSE, transcript!("openai/responses_background_cut.sse"), Work::GoesOn(id.clone()), (0, 0, UsageSource::Missing)),
        (
            "polled",
            JSON,
            transcript!("openai/responses_background_done.json"),
            Work::Ended(id.clone()),
            (1_000, 50_000, UsageSource::Provider),
        ),
        ("streamed", SSE, transcript!("openai/responses_background.sse"), Work::Ended(id), (1_000, 50_000, UsageSource::Provider)),
    ] {
        let seen = observe(RESPONSES, content_type, text);
        assert_eq!((&seen.work, tokens(&seen)), (&Some(work), expected), "{name}");
        assert!(seen.answered, "{name}");
    }
    for text in [transcript!("openai/responses.json"), transcript!("openai/responses_completed.sse")] {
        let content_type = if text.starts_with(b"{") { JSON } else { SSE };
        assert_eq!(observe(RESPONSES, content_type, text).work, None, "made before its answer");
    }
}

#[test]
fn what_is_no_answer() {
    for (name, call, content_type, text, answered) in [
        ("nothing", CHAT, SSE, "", false),
        ("comments", CHAT, SSE, ": keep-alive\n\n: keep-alive\n\n", false),
        ("a role and no more", CHAT, SSE, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n", false),
        ("its end alone", CHAT, SSE, "data: [DONE]\n\n", true),
        ("a reason to end", CHAT, SSE, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", true),
        ("pings", MESSAGES, SSE, "event: ping\ndata: {\"type\":\"ping\"}\n\n", false),
        ("a stream's name, JSON in it", CHAT, SSE, r#"{"choices":[{"message":{"content":"x"}}]}"#, true),
        ("empty", CHAT, JSON, "", false),
        ("blank", CHAT, JSON, "  \n", false),
        ("a page", CHAT, "text/html", "<html><body>502</body></html>", false),
        ("a page under a wrong name", CHAT, JSON, "\u{feff}\n<!DOCTYPE html>", false),
        ("words", CHAT, "text/plain", "upstream connect error", false),
        ("an empty object", CHAT, JSON, "{}", false),
        ("an empty list", GEMINI, JSON, "[]", false),
        ("cut", CHAT, JSON, r#"{"choices":[{"message":{"content":"x"#, false),
        ("cut", GEMINI, JSON, r#"[{"candidates":[{"content":"#, false),
        ("whole", CHAT, JSON, r#" {"choices":[]} "#, true),
        ("an error", CHAT, JSON, r#"{"error":{"message":"x"}}"#, false),
        ("no output, but usage", BEDROCK, JSON, r#"{"usage":{"inputTokens":1,"outputTokens":0}}"#, true),
        ("sound", (Api::OpenAi, Operation::Audio), "audio/mpeg", "ID3\x04", true),
        ("no sound", (Api::OpenAi, Operation::Audio), "audio/mpeg", "", false),
        ("a transcript as text", (Api::OpenAi, Operation::Audio), "text/plain", "did I say that?", true),
        ("no image", (Api::OpenAi, Operation::Images), JSON, "<html>", false),
        ("no vector", (Api::OpenAi, Operation::Embeddings), JSON, "", false),
        ("another operation", (Api::OpenAi, Operation::Other), JSON, "", true),
        ("no frames", BEDROCK, FRAMES, "", false),
        ("frames that are none", BEDROCK, FRAMES, "{\"message\":\"x\"}", false),
    ] {
        let seen = observe(call, content_type, text.as_bytes());
        assert_eq!(seen.answered, answered, "{name}: {seen:?}");
        assert!(answered || seen.source != UsageSource::Provider, "{name}");
    }
    let mut coded = Meter::new(CHAT.0, CHAT.1, &headers(JSON, "compress"));
    coded.feed(b"???");
    assert!(coded.finish(true, 1).answered, "it cannot be told");
}

#[test]
fn a_break_after_the_protocols_own_end_is_none() {
    for (call, content_type, text) in [
        (CHAT, SSE, transcript!("openai/chat_usage.sse")),
        (RESPONSES, SSE, transcript!("openai/responses_completed.sse")),
        (MESSAGES, SSE, transcript!("anthropic/messages.sse")),
        (GEMINI, SSE, transcript!("gemini/stream.sse")),
        (BEDROCK, FRAMES, transcript!("bedrock/converse_classes.eventstream")),
        (CHAT, JSON, transcript!("openai/chat.json")),
    ] {
        let mut meter = meter(call, content_type);
        meter.feed(&text[..text.len() / 2]);
        assert!(!meter.has_ended(), "{call:?}");
        meter.feed(&text[text.len() / 2..]);
        assert!(meter.has_ended(), "{call:?}");
        let broken = meter.finish(false, 1);
        assert!(broken.answered && broken.terminal, "{call:?}");
        assert_eq!((broken.source, broken.usage), (UsageSource::Provider, observe(call, content_type, text).usage), "{call:?}");
    }
    let mut cut = meter(CHAT, SSE);
    cut.feed(transcript!("openai/chat_cut.sse"));
    assert!(!cut.has_ended() && !cut.finish(false, 1).answered);
}

#[test]
fn answers_in_every_coding() {
    let text = transcript!("openai/chat_usage.sse");
    let plain = observe(CHAT, SSE, text);
    let zstd = ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut zlib, text).expect("memory");
    for (coding, body) in [("zstd", zstd), ("deflate", zlib.finish().expect("memory"))] {
        for size in [1, 9, 10_000] {
            let mut meter = Meter::new(CHAT.0, CHAT.1, &headers(SSE, coding));
            body.chunks(size).for_each(|piece| {
                meter.feed(piece);
            });
            assert_eq!(meter.finish(true, 77), plain, "{coding}");
        }
    }
}

#[test]
fn bedrocks_streams_when_they_fail_and_its_counts_in_the_head() {
    let cut = observe(BEDROCK, FRAMES, transcript!("bedrock/converse_cut.eventstream"));
    assert_eq!((tokens(&cut), cut.content_events), ((77, 2, UsageSource::Estimated), 2), "what was streamed is paid for");
    let throttled = observe(BEDROCK, FRAMES, transcript!("bedrock/converse_throttled.eventstream"));
    assert_eq!((throttled.error, throttled.source, throttled.answered), (Some(ErrorClass::Throttled), UsageSource::Missing, false));
    let mut head = headers(JSON, "");
    for (name, count) in [("input", "12"), ("output", "34"), ("cache-read-input", "5")] {
        head.insert(&*format!("x-amzn-bedrock-{name}-token-count"), count);
    }
    let mut meter = Meter::new(BEDROCK.0, BEDROCK.1, &head);
    meter.feed(br#"{"outputs":[{"text":"Mistral says nothing of tokens"}]}"#);
    let seen = meter.finish(true, 77);
    assert_eq!((seen.usage.input, seen.usage.cache_read, seen.usage.output, seen.source), (12, 5, 34, UsageSource::Provider));
}

#[test]
fn every_piece_of_a_large_answer_gives_the_same() {
    let words = "word ".repeat(60_000);
    let event = format!(
        "event: response.completed\r\ndata: {{\"response\":{{\"id\":\"r\",\"status\":\"completed\",\"output\":[{{\"text\":\"{words}\"}}],\"usage\":{{\"input_tokens\":3,\"output_tokens\":4}}}}}}\r\n\r\n"
    );
    let whole = observe_by(event.len(), RESPONSES, SSE, event.as_bytes());
    for size in [7, 1_000, 65_536, 65_537] {
        assert_eq!(observe_by(size, RESPONSES, SSE, event.as_bytes()), whole, "{size}");
    }
    let large = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{words}\"}}}}]}}\n\n");
    for size in [7, 65_536, large.len()] {
        let seen = observe_by(size, CHAT, SSE, large.as_bytes());
        assert_eq!((seen.usage.output, seen.content_events), (60_000, 1), "{size}: all of its words count");
    }
}
