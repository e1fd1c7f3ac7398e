//! Golden transcripts: each with the arithmetic of the provider's own page of prices beside it, and cut streams with the truth.
//!
//! A line of the arithmetic is a number of tokens and a price in nano-dollars for one token: 2,500 is a list price of $2.50 for a million.
//! The transcripts are texts of the wire formats; their prompts and answers were counted with `o200k_base`.

use super::{Facts, Meter, Observed, Prices, facts, ratio::Ratios};
use crate::{
    config::{Api, Operation},
    http1::{Fields, Id},
    usage::{Usage, UsageSource},
};

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/golden/", $name)) as &[u8]
    };
}

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";
const FRAMES: &str = "application/vnd.amazon.eventstream";
const CHAT: (Api, Operation) = (Api::OpenAi, Operation::Chat);
const RESPONSES: (Api, Operation) = (Api::OpenAi, Operation::Responses);
const MESSAGES: (Api, Operation) = (Api::Anthropic, Operation::Messages);
const GEMINI: (Api, Operation) = (Api::Gemini, Operation::Chat);
const COMPLETIONS: (Api, Operation) = (Api::OpenAi, Operation::Completions);
const BEDROCK: (Api, Operation) = (Api::Bedrock, Operation::Chat);
const SONNET: &str = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
const INSTRUCT: &str = "gpt-3.5-turbo-instruct";
const NO_FEES: u64 = 0;

fn meter((api, operation): (Api, Operation), content_type: &str) -> Meter {
    let mut headers = Fields::new();
    headers.insert(Id::ContentType, content_type);
    Meter::new(api, operation, &headers)
}

fn observe(call: (Api, Operation), content_type: &str, text: &[u8]) -> Observed {
    let mut meter = meter(call, content_type);
    text.chunks(97).for_each(|piece| {
        meter.feed(piece);
    });
    meter.finish(true, 1)
}

/// A transcript, the model that was asked for, and what its provider bills: lines of tokens and nano-dollars, a factor of them, fees.
struct Golden {
    name: &'static str,
    call: (Api, Operation),
    content_type: &'static str,
    text: &'static [u8],
    asked: &'static str,
    lines: &'static [(u64, u64)],
    factor: (u64, u64),
    fees: u64,
}

#[allow(clippy::too_many_arguments)]
const fn of(
    name: &'static str,
    call: (Api, Operation),
    content_type: &'static str,
    text: &'static [u8],
    asked: &'static str,
    lines: &'static [(u64, u64)],
    factor: (u64, u64),
    fees: u64,
) -> Golden {
    Golden { name, call, content_type, text, asked, lines, factor, fees }
}

const GOLDEN: &[Golden] = &[
    of("chat, whole", CHAT, JSON, golden!("chat.json"), "gpt-4o", &[(229, 2_500), (189, 10_000)], (1, 1), NO_FEES),
    of("chat, streamed", CHAT, SSE, golden!("chat.sse"), "gpt-4o", &[(229, 2_500), (189, 10_000)], (1, 1), NO_FEES),
    // Input 220, cached 1,024 at a tenth, written for 30 minutes 256 at 1.25, output 48; fast costs twice.
    of(
        "chat, tool calls, cached, fast",
        CHAT,
        SSE,
        golden!("chat_tools.sse"),
        "gpt-5.6-sol",
        &[(220, 4_000), (1_024, 400), (256, 5_000), (48, 20_000)],
        (2, 1),
        NO_FEES,
    ),
    // Text and sound, in and out.
    of(
        "chat with sound",
        CHAT,
        JSON,
        golden!("chat_audio.json"),
        "gpt-audio",
        &[(20, 2_500), (100, 32_000), (10, 10_000), (50, 64_000)],
        (1, 1),
        NO_FEES,
    ),
    // A compatible server that tells its figures after the end.
    of("chat, usage behind the end", CHAT, SSE, golden!("compatible_late.sse"), "gpt-4o", &[(9, 2_500), (1, 10_000)], (1, 1), NO_FEES),
    // Input 1,024, cached 1,024 at 1/20, written for 30 minutes 1,536 at 1.25, for 12 hours 512 at 2.5, output with reasoning 253.
    of(
        "responses, whole, cached",
        RESPONSES,
        JSON,
        golden!("responses.json"),
        "gpt-6.2-sol",
        &[(1_024, 2_000), (1_024, 100), (1_536, 2_500), (512, 5_000), (253, 10_000)],
        (1, 1),
        NO_FEES,
    ),
    of(
        "responses, streamed, cached",
        RESPONSES,
        SSE,
        golden!("responses.sse"),
        "gpt-6.2-sol",
        &[(1_024, 2_000), (1_024, 100), (1_536, 2_500), (512, 5_000), (253, 10_000)],
        (1, 1),
        NO_FEES,
    ),
    // Flex costs half; a search of the web $0.01 (opening a page nothing), of files $0.0025, one container $0.03.
    of(
        "responses, hosted tools, flex",
        RESPONSES,
        SSE,
        golden!("responses_tools.sse"),
        "gpt-6.2-sol",
        &[(9_000, 2_000), (300, 10_000)],
        (1, 2),
        10_000_000 + 2_500_000 + 30_000_000,
    ),
    // Ultrafast costs three times.
    of(
        "responses, function call, ultrafast",
        RESPONSES,
        JSON,
        golden!("responses_function.json"),
        "gpt-6.2-sol",
        &[(220, 2_000), (1_280, 100), (48, 10_000)],
        (3, 1),
        NO_FEES,
    ),
    // Bound to the United States: a tenth more.
    of(
        "messages, whole, in the United States",
        MESSAGES,
        JSON,
        golden!("messages.json"),
        "claude-sonnet-4-6",
        &[(229, 3_000), (189, 15_000)],
        (11, 10),
        NO_FEES,
    ),
    of(
        "messages, streamed, in the United States",
        MESSAGES,
        SSE,
        golden!("messages.sse"),
        "claude-sonnet-4-6",
        &[(229, 3_000), (189, 15_000)],
        (11, 10),
        NO_FEES,
    ),
    // Input 200, read 20,000, written for five minutes 3,000 at 1.25 and for an hour 2,000 at 2, output 60; fast costs twice; three
    // searches at $0.01, fetches are free.
    of(
        "messages, tool calls, cached, fast",
        MESSAGES,
        SSE,
        golden!("messages_tools.sse"),
        "claude-opus-5-5",
        &[(200, 4_000), (20_000, 200), (3_000, 5_000), (2_000, 8_000), (60, 20_000)],
        (2, 1),
        30_000_000,
    ),
    // The documented example: the compaction's 180,000 and 3,500 are in the list alone.
    of(
        "messages, compaction",
        MESSAGES,
        JSON,
        golden!("messages_compaction.json"),
        "claude-opus-4-6",
        &[(180_000, 5_000), (3_500, 25_000), (23_000, 5_000), (1_000, 25_000)],
        (1, 1),
        NO_FEES,
    ),
    // Two passes of Sonnet 5, and its adviser Opus 5 at its own price.
    of(
        "messages, adviser",
        MESSAGES,
        SSE,
        golden!("messages_advisor.sse"),
        "claude-sonnet-5",
        &[(412, 2_000), (89, 10_000), (823, 5_000), (1_612, 25_000), (1_348, 2_000), (412, 200), (442, 10_000)],
        (1, 1),
        NO_FEES,
    ),
    // Fable 5 refused after 12 tokens, Opus 5 answered.
    of(
        "messages, fallback inside the provider",
        MESSAGES,
        JSON,
        golden!("messages_fallback.json"),
        "claude-fable-5",
        &[(900, 10_000), (12, 50_000), (950, 5_000), (300, 25_000)],
        (1, 1),
        NO_FEES,
    ),
    // Thoughts are output.
    of("gemini, whole", GEMINI, JSON, golden!("gemini.json"), "gemini-2.5-flash", &[(229, 300), (189 + 50, 2_500)], (1, 1), NO_FEES),
    of("gemini, streamed", GEMINI, SSE, golden!("gemini.sse"), "gemini-2.5-flash", &[(229, 300), (189, 2_500)], (1, 1), NO_FEES),
    of("gemini, listed", GEMINI, JSON, golden!("gemini_list.json"), "gemini-2.5-flash", &[(229, 300), (189, 2_500)], (1, 1), NO_FEES),
    // Text 5,000 + 700 - 4,000 - 500 of sound, sound 2,000 - 1,500, both cached at a tenth, output with thoughts 200; priority costs
    // 1.8 times; two queries at $0.014.
    of(
        "gemini, tool calls, cached, sound, grounded, priority",
        GEMINI,
        JSON,
        golden!("gemini_tools.json"),
        "gemini-3-flash-preview",
        &[(1_200, 500), (500, 1_000), (2_500, 50), (1_500, 100), (200, 3_000)],
        (9, 5),
        28_000_000,
    ),
    of(
        "gemini, a picture",
        GEMINI,
        JSON,
        golden!("gemini_image.json"),
        "gemini-2.5-flash-image",
        &[(12, 300), (10, 2_500), (1_290, 30_000)],
        (1, 1),
        NO_FEES,
    ),
    of("converse, whole", BEDROCK, JSON, golden!("converse.json"), SONNET, &[(229, 3_000), (189, 15_000)], (1, 1), NO_FEES),
    of("converse, streamed", BEDROCK, FRAMES, golden!("converse.eventstream"), SONNET, &[(229, 3_000), (189, 15_000)], (1, 1), NO_FEES),
    of(
        "converse, tool calls, cached",
        BEDROCK,
        FRAMES,
        golden!("converse_tools.eventstream"),
        SONNET,
        &[(200, 3_000), (20_000, 300), (3_000, 3_750), (2_000, 6_000), (60, 15_000)],
        (1, 1),
        NO_FEES,
    ),
    of("invoke, whole", BEDROCK, JSON, golden!("invoke.json"), "claude-haiku-4-5", &[(229, 1_000), (189, 5_000)], (1, 1), NO_FEES),
    of(
        "invoke, streamed",
        BEDROCK,
        FRAMES,
        golden!("invoke.eventstream"),
        "claude-haiku-4-5",
        &[(229, 1_000), (189, 5_000)],
        (1, 1),
        NO_FEES,
    ),
    // Input 200, read 20,000 at a tenth, written for five minutes 3,000 at 1.25 and for an hour 2,000 at 2, output 60.
    of(
        "invoke, tool calls, cached",
        BEDROCK,
        FRAMES,
        golden!("invoke_tools.eventstream"),
        "eu.anthropic.claude-haiku-4-5-20251001-v1:0",
        &[(200, 1_000), (20_000, 100), (3_000, 1_250), (2_000, 2_000), (60, 5_000)],
        (1, 1),
        NO_FEES,
    ),
    // Embeddings bill their input alone.
    of(
        "embeddings",
        (Api::OpenAi, Operation::Embeddings),
        JSON,
        golden!("embeddings.json"),
        "text-embedding-3-large",
        &[(229, 130)],
        (1, 1),
        NO_FEES,
    ),
    // The answer's own name has a date behind a colon, which no page of prices has: the model that was asked for decides.
    of("completions, whole", COMPLETIONS, JSON, golden!("completions.json"), INSTRUCT, &[(41, 1_500), (21, 2_000)], (1, 1), NO_FEES),
    of("completions, streamed", COMPLETIONS, SSE, golden!("completions.sse"), INSTRUCT, &[(41, 1_500), (21, 2_000)], (1, 1), NO_FEES),
    of(
        "images",
        (Api::OpenAi, Operation::Images),
        JSON,
        golden!("images.json"),
        "gpt-image-1.5",
        &[(50, 5_000), (100, 8_000), (50, 10_000), (1_056, 32_000)],
        (1, 1),
        NO_FEES,
    ),
    of(
        "a transcript by tokens",
        (Api::OpenAi, Operation::Audio),
        JSON,
        golden!("transcription.json"),
        "gpt-4o-transcribe",
        &[(10, 2_500), (130, 6_000), (45, 10_000)],
        (1, 1),
        NO_FEES,
    ),
    // Nine seconds at $0.006 a minute.
    of(
        "a transcript by time",
        (Api::OpenAi, Operation::Audio),
        JSON,
        golden!("transcription_seconds.json"),
        "whisper-1",
        &[],
        (1, 1),
        900_000,
    ),
];

#[test]
fn every_transcript_costs_what_its_provider_bills() {
    let prices = Prices::new(&[]);
    let mut wrong = Vec::new();
    for golden in GOLDEN {
        let seen = observe(golden.call, golden.content_type, golden.text);
        let tokens: u64 = golden.lines.iter().map(|(tokens, nano)| tokens * nano).sum();
        let billed = tokens * golden.factor.0 / golden.factor.1 + golden.fees;
        let charged = prices.charge(Some(golden.asked), &seen);
        let receipt = prices.receipt(Some(golden.asked), &seen).map(|receipt| receipt.nano_usd);
        let counted: u64 = golden.lines.iter().map(|(tokens, _)| tokens).sum();
        if charged != Some(billed) || receipt != charged || seen.source != UsageSource::Provider || seen.usage.total() != counted {
            wrong.push(format!("{}: {billed} is right, {charged:?} charged, {receipt:?} shown: {seen:?}", golden.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_error_inside_a_success_costs_nothing() {
    for (name, call, content_type, text) in [
        ("chat", CHAT, SSE, golden!("chat_error.sse")),
        ("responses", RESPONSES, SSE, golden!("responses_error.sse")),
        ("gemini", GEMINI, JSON, golden!("gemini_error.json")),
        ("converse", BEDROCK, FRAMES, golden!("converse_error.eventstream")),
        ("completions", COMPLETIONS, SSE, golden!("completions_error.sse")),
    ] {
        let seen = observe(call, content_type, text);
        assert!(seen.error.is_some() && !seen.answered, "{name}: {seen:?}");
        assert_eq!((seen.source, seen.usage), (UsageSource::Missing, Usage::default()), "{name}");
    }
    // Anthropic has told the prompt before it failed: the prompt is estimated to be billed.
    for (call, content_type, text) in
        [(MESSAGES, SSE, golden!("messages_error.sse")), (BEDROCK, FRAMES, golden!("invoke_error.eventstream"))]
    {
        let seen = observe(call, content_type, text);
        let told = (seen.error.is_some(), seen.source, seen.usage.input, seen.usage.output);
        assert_eq!(told, (true, UsageSource::Estimated, 229, 1), "{content_type}");
    }
}

/// Tokens of the deltas of a stream, in turn.
const STEPS: [u64; 5] = [1, 5, 3, 8, 2];

/// A stream's bytes up to a place, its complete deltas there, and their tokens.
fn truth(text: &[u8], at: usize, delta: &[u8], most: u64) -> u64 {
    let whole = memchr::memmem::find_iter(text, delta).filter(|place| *place < at).count();
    (0..whole).map(|n| STEPS[n % STEPS.len()]).sum::<u64>().min(most)
}

#[test]
fn a_cut_stream_costs_within_a_tenth_of_the_truth() {
    let (prices, mut worst) = (Prices::new(&[]), 0);
    for (name, call, content_type, request, text, whole, delta, asked, input, output) in [
        (
            "chat",
            CHAT,
            SSE,
            golden!("chat_request.json"),
            golden!("chat.sse"),
            golden!("chat.json"),
            &b"\"delta\":{\"content\""[..],
            "gpt-4o",
            2_500,
            10_000,
        ),
        (
            "responses",
            RESPONSES,
            SSE,
            golden!("chat_request.json"),
            golden!("responses.sse"),
            golden!("chat.json"),
            b"event: response.output_text.delta",
            "gpt-4o",
            2_500,
            10_000,
        ),
        (
            "messages",
            MESSAGES,
            SSE,
            golden!("messages_request.json"),
            golden!("messages.sse"),
            golden!("messages.json"),
            b"event: content_block_delta",
            "claude-sonnet-4-5",
            3_000,
            15_000,
        ),
        (
            "gemini",
            GEMINI,
            SSE,
            golden!("gemini_request.json"),
            golden!("gemini.sse"),
            golden!("gemini.json"),
            b"data: ",
            "gemini-2.5-flash",
            300,
            2_500,
        ),
        (
            "converse",
            BEDROCK,
            FRAMES,
            golden!("converse_request.json"),
            golden!("converse.eventstream"),
            golden!("converse.json"),
            b"\"contentBlockIndex\":0,\"delta\"",
            SONNET,
            3_000,
            15_000,
        ),
        (
            "invoke",
            BEDROCK,
            FRAMES,
            golden!("messages_request.json"),
            golden!("invoke.eventstream"),
            golden!("invoke.json"),
            b"\"bytes\"",
            "claude-haiku-4-5",
            1_000,
            5_000,
        ),
    ] {
        let Facts { estimated_input, .. } = facts::read(call.0, call.1, request).expect("a body");
        // What complete calls have taught before.
        let ratios = Ratios::default();
        for _ in 0..24 {
            let taught = if call == RESPONSES { CHAT } else { call };
            ratios.learn(Some(asked), estimated_input, &observe(taught, JSON, whole));
        }
        let ratio = ratios.of(Some(asked));
        for share in [30, 50, 70, 90] {
            let at = text.len() * share / 100;
            let mut meter = meter(call, content_type).spoken_as(ratio);
            meter.feed(&text[..at]);
            let mut seen = meter.finish(false, ratio.prompt(estimated_input));
            seen.model = None;
            seen.terms = Default::default();
            // InvokeModel's first event is no delta, and its last ones neither.
            let before = if name == "invoke" { 3 } else { 0 };
            let delta_at = if before > 0 { memchr::memmem::find_iter(text, delta).nth(before).expect("a delta") } else { 0 };
            let billed = 229 * input + truth(&text[delta_at..], at.saturating_sub(delta_at), delta, 189) * output;
            let charged = prices.charge(Some(asked), &seen).expect("a price");
            let off = charged.abs_diff(billed) * 1_000 / billed;
            worst = worst.max(off);
            assert!(off <= 100, "{name} at {share}%: {charged} for {billed}, {seen:?}");
            assert_eq!(seen.source, UsageSource::Estimated, "{name}");
        }
    }
    assert!(worst > 0, "an estimate is no oracle");
}
