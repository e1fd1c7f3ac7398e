//! The table of usage by wire: every wire, whole and streamed, by every class of [`Usage`]. A cell is the figure of a transcript,
//! or the reason why there is none. No row or cell can be left out: the rows are matched on, and a row has a cell for each
//! class.

use super::{tests::headers, *};

macro_rules! transcript {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts/", $path)) as &[u8]
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Images,
    Transcription,
    Speech,
    Messages,
    Generate,
    GeminiEmbeddings,
    Converse,
    InvokeClaude,
    InvokeTitan,
    TitanEmbeddings,
    /// Anthropic's first API.
    AnthropicCompletions,
    /// A background response, in polls and resumed streams.
    Background,
    /// Usage under `x_groq`.
    Groq,
    /// Usage in a choice.
    Moonshot,
    /// Reasoning beside the output, and included in the total.
    Xai,
    /// Servers that count up in every chunk, and repeat the count at the end.
    Cumulative,
    /// A coarser figure after a finer one.
    CoarseLast,
    /// Figures of the input that come again with the last delta.
    LateInput,
}

const CALLS: [Call; 22] = [
    Call::Chat,
    Call::Completions,
    Call::Responses,
    Call::Embeddings,
    Call::Images,
    Call::Transcription,
    Call::Speech,
    Call::Messages,
    Call::Generate,
    Call::GeminiEmbeddings,
    Call::Converse,
    Call::InvokeClaude,
    Call::InvokeTitan,
    Call::TitanEmbeddings,
    Call::AnthropicCompletions,
    Call::Background,
    Call::Groq,
    Call::Moonshot,
    Call::Xai,
    Call::Cumulative,
    Call::CoarseLast,
    Call::LateInput,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    Streamed,
    /// Gemini's stream without `alt=sse`.
    Listed,
}

#[derive(Debug, Clone, Copy)]
enum Cell {
    Says(u64),
    Not(#[allow(dead_code)] &'static str),
}

/// A transcript, and its cells in the order of [`Usage`]: input, cache reads, cache writes, those for an hour, output, reasoning.
type Row = Result<(&'static [u8], [Cell; 6]), &'static str>;

use Cell::{Not, Says};

const ONE_LIFETIME: Cell = Not("OpenAI tells the lifetimes of cache writes from GPT-5.6 on: 30 minutes, 12 hours");
const NO_CACHE: Cell = Not("this operation has no prompt cache");
const NO_REASONING: Cell = Not("these models do not reason");
const NO_OUTPUT: Cell = Not("vectors are no tokens");
const NOT_TOLD: Cell = Not("Bedrock does not tell reasoning from other output");
const NOT_THERE: Cell = Not("this server does not say it");
const NO_WRITES: Cell = Not("Gemini bills explicit caches by storage, and implicit ones not at all");

fn row(call: Call, how: How) -> Row {
    Ok(match (call, how) {
        (Call::Chat, How::Whole) => {
            (transcript!("openai/chat_classes.json"), [Says(50), Says(30), Says(20), ONE_LIFETIME, Says(60), Says(40)])
        }
        (Call::Chat, How::Streamed) => {
            (transcript!("openai/chat_classes.sse"), [Says(50), Says(30), Says(20), ONE_LIFETIME, Says(60), Says(40)])
        }
        (Call::Completions, How::Whole) => {
            (transcript!("openai/completions.json"), [Says(3), NO_CACHE, NO_CACHE, NO_CACHE, Says(2), NO_REASONING])
        }
        (Call::Completions, How::Streamed) => {
            (transcript!("openai/completions.sse"), [Says(3), NO_CACHE, NO_CACHE, NO_CACHE, Says(2), NO_REASONING])
        }
        (Call::Responses, How::Whole) => {
            (transcript!("openai/responses.json"), [Says(15), Says(10), Says(5), ONE_LIFETIME, Says(9), Says(4)])
        }
        (Call::Responses, How::Streamed) => {
            (transcript!("openai/responses_completed.sse"), [Says(15), Says(10), Says(5), ONE_LIFETIME, Says(9), Says(4)])
        }
        (Call::Embeddings, How::Whole) => {
            (transcript!("openai/embeddings.json"), [Says(8), NO_CACHE, NO_CACHE, NO_CACHE, NO_OUTPUT, NO_REASONING])
        }
        (Call::Images, How::Whole) => {
            (transcript!("openai/images.json"), [Says(50), NO_CACHE, NO_CACHE, NO_CACHE, Says(1_056), NO_REASONING])
        }
        (Call::Images, How::Streamed) => {
            (transcript!("openai/images.sse"), [Says(50), NO_CACHE, NO_CACHE, NO_CACHE, Says(1_056), NO_REASONING])
        }
        (Call::Transcription, How::Whole) => {
            (transcript!("openai/transcription.json"), [Says(14), NO_CACHE, NO_CACHE, NO_CACHE, Says(45), NO_REASONING])
        }
        (Call::Transcription, How::Streamed) => {
            (transcript!("openai/transcription.sse"), [Says(14), NO_CACHE, NO_CACHE, NO_CACHE, Says(45), NO_REASONING])
        }
        (Call::Messages, How::Whole) => {
            (transcript!("anthropic/messages_classes.json"), [Says(25), Says(50), Says(60), Says(40), Says(200), Says(150)])
        }
        (Call::Messages, How::Streamed) => {
            (transcript!("anthropic/messages_classes.sse"), [Says(25), Says(50), Says(60), Says(40), Says(200), Says(150)])
        }
        (Call::Generate, How::Whole) => {
            (transcript!("gemini/generate_tools.json"), [Says(16), Says(8), NO_WRITES, NO_WRITES, Says(11), Says(5)])
        }
        (Call::Generate, How::Streamed) => (transcript!("gemini/stream.sse"), [Says(15), Says(8), NO_WRITES, NO_WRITES, Says(11), Says(5)]),
        (Call::Generate, How::Listed) => (transcript!("gemini/stream.json"), [Says(15), Says(8), NO_WRITES, NO_WRITES, Says(11), Says(5)]),
        (Call::GeminiEmbeddings, How::Whole) => {
            (transcript!("gemini/embed.json"), [Says(9), NO_CACHE, NO_CACHE, NO_CACHE, NO_OUTPUT, NO_REASONING])
        }
        (Call::Converse, How::Whole) => {
            (transcript!("bedrock/converse_classes.json"), [Says(11), Says(3), Says(2), Says(7), Says(4), NOT_TOLD])
        }
        (Call::Converse, How::Streamed) => {
            (transcript!("bedrock/converse_classes.eventstream"), [Says(11), Says(3), Says(2), Says(7), Says(4), NOT_TOLD])
        }
        (Call::InvokeClaude, How::Whole) => {
            (transcript!("bedrock/invoke_claude.json"), [Says(25), Says(50), Says(60), Says(40), Says(200), NOT_TOLD])
        }
        (Call::InvokeClaude, How::Streamed) => {
            (transcript!("bedrock/invoke_claude.eventstream"), [Says(25), Says(50), Says(60), Says(40), Says(200), NOT_TOLD])
        }
        (Call::InvokeTitan, How::Whole) => {
            (transcript!("bedrock/invoke_titan.json"), [Says(5), NO_CACHE, NO_CACHE, NO_CACHE, Says(7), NO_REASONING])
        }
        (Call::InvokeTitan, How::Streamed) => {
            (transcript!("bedrock/invoke_titan.eventstream"), [Says(5), NO_CACHE, NO_CACHE, NO_CACHE, Says(7), NO_REASONING])
        }
        (Call::TitanEmbeddings, How::Whole) => {
            (transcript!("bedrock/embed_titan.json"), [Says(6), NO_CACHE, NO_CACHE, NO_CACHE, NO_OUTPUT, NO_REASONING])
        }
        (Call::AnthropicCompletions, _) => return Err("the API of 2023 tells no tokens: the reservation stands"),
        (Call::Background, How::Whole) => (
            transcript!("openai/responses_background_done.json"),
            [Says(1_000), Says(0), Says(0), ONE_LIFETIME, Says(50_000), Says(40_000)],
        ),
        (Call::Background, How::Streamed) => {
            (transcript!("openai/responses_background.sse"), [Says(1_000), Says(0), Says(0), ONE_LIFETIME, Says(50_000), Says(40_000)])
        }
        (Call::Groq, How::Streamed) => {
            (transcript!("openai/chat_groq.sse"), [Says(18), NOT_THERE, NOT_THERE, NOT_THERE, Says(21), NOT_THERE])
        }
        (Call::Moonshot, How::Streamed) => {
            (transcript!("openai/chat_moonshot.sse"), [Says(12), Says(7), NOT_THERE, NOT_THERE, Says(13), NOT_THERE])
        }
        (Call::Xai, How::Whole) => {
            (transcript!("openai/chat_xai.json"), [Says(9_992), Says(128), NOT_THERE, NOT_THERE, Says(4_308), Says(2_809)])
        }
        (Call::Xai, How::Streamed) => {
            (transcript!("openai/chat_xai.sse"), [Says(9_992), Says(128), NOT_THERE, NOT_THERE, Says(4_308), Says(2_809)])
        }
        (Call::Cumulative, How::Streamed) => {
            (transcript!("openai/chat_compatible.sse"), [Says(7), NOT_THERE, NOT_THERE, NOT_THERE, Says(3), NOT_THERE])
        }
        (Call::CoarseLast, How::Streamed) => {
            (transcript!("openai/chat_coarse_last.sse"), [Says(70), Says(30), NOT_THERE, NOT_THERE, Says(60), Says(40)])
        }
        (Call::LateInput, How::Streamed) => {
            (transcript!("anthropic/messages_delta_inputs.sse"), [Says(26), Says(51), Says(60), Says(40), Says(16), NO_REASONING])
        }
        (Call::Groq | Call::Moonshot | Call::Cumulative | Call::CoarseLast | Call::LateInput, How::Whole) => {
            return Err("what is odd about it is odd about its streams");
        }
        (Call::Embeddings | Call::GeminiEmbeddings | Call::TitanEmbeddings, How::Streamed | How::Listed) => {
            return Err("vectors are not streamed");
        }
        (Call::Speech, How::Whole) => return Err("sound alone, priced by the character or minute: the reservation stands"),
        (Call::Speech, How::Streamed) => {
            (transcript!("openai/speech.sse"), [Says(14), NO_CACHE, NO_CACHE, NO_CACHE, Says(101), NO_REASONING])
        }
        (
            Call::Chat
            | Call::Completions
            | Call::Responses
            | Call::Images
            | Call::Transcription
            | Call::Speech
            | Call::Messages
            | Call::Converse
            | Call::InvokeClaude
            | Call::InvokeTitan
            | Call::Background
            | Call::Groq
            | Call::Moonshot
            | Call::Xai
            | Call::Cumulative
            | Call::CoarseLast
            | Call::LateInput,
            How::Listed,
        ) => return Err("only Gemini streams a JSON list"),
    })
}

fn shape(call: Call) -> (Api, Operation) {
    match call {
        Call::Chat | Call::Groq | Call::Moonshot | Call::Xai | Call::Cumulative | Call::CoarseLast => (Api::OpenAi, Operation::Chat),
        Call::Completions => (Api::OpenAi, Operation::Completions),
        Call::Responses | Call::Background => (Api::OpenAi, Operation::Responses),
        Call::Embeddings => (Api::OpenAi, Operation::Embeddings),
        Call::Images => (Api::OpenAi, Operation::Images),
        Call::Transcription | Call::Speech => (Api::OpenAi, Operation::Audio),
        Call::Messages | Call::LateInput => (Api::Anthropic, Operation::Messages),
        Call::AnthropicCompletions => (Api::Anthropic, Operation::Completions),
        Call::Generate => (Api::Gemini, Operation::Chat),
        Call::GeminiEmbeddings => (Api::Gemini, Operation::Embeddings),
        Call::Converse | Call::InvokeClaude | Call::InvokeTitan => (Api::Bedrock, Operation::Chat),
        Call::TitanEmbeddings => (Api::Bedrock, Operation::Embeddings),
    }
}

#[test]
fn every_wire_by_every_class_of_usage() {
    let mut wrong = Vec::new();
    for call in CALLS {
        for how in [How::Whole, How::Streamed, How::Listed] {
            let Ok((text, cells)) = row(call, how) else { continue };
            let (api, operation) = shape(call);
            let content_type = match (how, api) {
                (How::Streamed, Api::Bedrock) => "application/vnd.amazon.eventstream",
                (How::Streamed, _) => "text/event-stream",
                _ => "application/json",
            };
            for size in [1, 13, text.len()] {
                let mut meter = Meter::new(api, operation, &headers(content_type, ""));
                text.chunks(size).for_each(|piece| {
                    meter.feed(piece);
                });
                let seen = meter.finish(true, 1);
                let usage = seen.usage;
                // Sound and pictures count with the text here.
                let input = usage.input + usage.audio_input + usage.image_input;
                let read = usage.cache_read + usage.audio_cache_read + usage.image_cache_read;
                let found = [input, read, usage.cache_write, usage.cache_write_1h, usage.total_output(), usage.reasoning];
                let expected = cells.map(|cell| if let Says(figure) = cell { figure } else { 0 });
                if told_total(text).is_some_and(|total| total != usage.total()) {
                    wrong.push(format!("{call:?} {how:?} by {size}: the total is another, {seen:?}"));
                }
                if found != expected || seen.source != UsageSource::Provider || !seen.terminal || !seen.answered {
                    wrong.push(format!("{call:?} {how:?} by {size}: {expected:?} is right, {seen:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The last total in a transcript: the classes of a reading must add up to it.
fn told_total(text: &[u8]) -> Option<u64> {
    let last = |key: &str| {
        let at = memchr::memmem::rfind(text, key.as_bytes())? + key.len();
        let digits = text[at..].iter().skip_while(|byte| matches!(byte, b':' | b' ')).take_while(|byte| byte.is_ascii_digit());
        std::str::from_utf8(&digits.copied().collect::<Vec<u8>>()).ok()?.parse().ok()
    };
    ["\"total_tokens\"", "\"totalTokenCount\"", "\"totalTokens\""].into_iter().find_map(last)
}

#[test]
fn most_transcripts_tell_a_total_to_check_against() {
    let rows = CALLS.iter().flat_map(|call| [How::Whole, How::Streamed, How::Listed].map(|how| row(*call, how)));
    let told = rows.filter_map(Result::ok).filter(|(text, _)| told_total(text).is_some()).count();
    assert!(told >= 23, "{told}");
}
