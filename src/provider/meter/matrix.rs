//! The table of what each wire says of usage: every wire, whole and streamed, by every class of [`Usage`]. A cell is the figure
//! that a transcript comes to, or the reason why there is none. Nothing can be left out: the rows are matched on, and a row
//! has a cell for each class.

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
}

const CALLS: [Call; 14] = [
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

const ONE_LIFETIME: Cell = Not("OpenAI prices one lifetime of cache writes; the 30 minute counts of 2026 have no known name yet");
const NO_CACHE: Cell = Not("this operation has no prompt cache");
const NO_REASONING: Cell = Not("these models do not reason");
const NO_OUTPUT: Cell = Not("vectors are no tokens");
const NOT_TOLD: Cell = Not("Bedrock does not tell reasoning from other output");
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
            | Call::InvokeTitan,
            How::Listed,
        ) => return Err("only Gemini streams a JSON list"),
    })
}

fn shape(call: Call) -> (Api, Operation) {
    match call {
        Call::Chat => (Api::OpenAi, Operation::Chat),
        Call::Completions => (Api::OpenAi, Operation::Completions),
        Call::Responses => (Api::OpenAi, Operation::Responses),
        Call::Embeddings => (Api::OpenAi, Operation::Embeddings),
        Call::Images => (Api::OpenAi, Operation::Images),
        Call::Transcription | Call::Speech => (Api::OpenAi, Operation::Audio),
        Call::Messages => (Api::Anthropic, Operation::Messages),
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
                let found = [usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h, usage.output, usage.reasoning];
                let expected = cells.map(|cell| if let Says(figure) = cell { figure } else { 0 });
                if found != expected || seen.source != UsageSource::Provider || !seen.terminal || !seen.answered {
                    wrong.push(format!("{call:?} {how:?} by {size}: {expected:?} is right, {seen:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
