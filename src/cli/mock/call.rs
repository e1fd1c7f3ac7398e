//! The input and output of an API's module; the sums that all APIs share.

use bytes::Bytes;
use serde_json::Value;

use crate::usage::Usage;

use super::{
    Options,
    answer::{self, Muse},
    faults::Fault,
    prompts::Prompts,
};

/// One understood request.
pub(super) struct Ask<'a> {
    pub body: &'a Value,
    pub fault: &'a Fault,
    pub options: &'a Options,
    /// The number of the call; ids are made from it.
    pub serial: u64,
    /// Seconds since 1970.
    pub unix: u64,
    pub credential: &'a str,
    pub prompts: &'a Prompts,
}

/// A good answer.
pub(super) struct Answer {
    pub model: String,
    pub usage: Usage,
    pub content: Content,
}

pub(super) enum Content {
    Whole(Value),
    /// `error` makes the stream's own error event of an error type.
    Pieces {
        content_type: &'static str,
        pieces: Vec<Piece>,
        error: fn(&str) -> Bytes,
    },
}

/// A part of a stream that is sent as one.
pub(super) struct Piece {
    pub bytes: Bytes,
    /// Output tokens in it: its cost, and its share of the pace.
    pub tokens: u32,
}

/// A request that the provider would refuse.
pub(super) struct Refusal {
    pub status: u16,
    pub message: String,
}

impl Refusal {
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self { status: 400, message: message.into() }
    }
}

/// The model's text or tool call.
pub(super) struct Spoken {
    /// Text, or the arguments of `tool`.
    pub tokens: Vec<String>,
    pub tool: Option<String>,
    /// Cut at the maximum of the request.
    pub truncated: bool,
}

/// The wishes of a request for its answer.
#[derive(Default)]
pub(super) struct Wish<'a> {
    pub most: Option<u64>,
    /// A tool that must be called: its name and the schema of its arguments.
    pub tool: Option<(&'a str, &'a Value)>,
    /// The text must be JSON of this schema.
    pub schema: Option<&'a Value>,
    /// Tells several answers to one prompt apart.
    pub variant: u64,
}

impl Ask<'_> {
    /// The model's name.
    pub(super) fn model(&self) -> Result<&str, Refusal> {
        self.body["model"].as_str().filter(|model| !model.is_empty()).ok_or_else(|| Refusal::bad("you must provide a model parameter"))
    }

    pub(super) fn streams(&self) -> bool {
        self.body["stream"].as_bool().unwrap_or(false)
    }

    /// The answer to `prompt`.
    pub(super) fn speak(&self, prompt: &str, wish: &Wish<'_>) -> Spoken {
        let mut muse = Muse::new(prompt, wish.variant);
        let mut tokens = match (wish.tool, wish.schema) {
            (Some((_, schema)), _) | (None, Some(schema)) => morsels(&muse.value(schema, 6).to_string()),
            (None, None) => {
                let count = self.fault.tokens.unwrap_or(self.options.answer_tokens).min(super::MOST_TOKENS) as usize;
                if self.options.echo { answer::echo(prompt, count) } else { muse.tokens(count) }
            }
        };
        let most = wish.most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let truncated = tokens.len() > most;
        tokens.truncate(most);
        Spoken { tokens, tool: wish.tool.map(|(name, _)| name.to_owned()), truncated }
    }

    /// Groups tokens for sending: text and number of tokens.
    pub(super) fn groups(&self, tokens: &[String]) -> Vec<(String, u32)> {
        let chunk = self.fault.chunk.unwrap_or(self.options.chunk_tokens).max(1) as usize;
        tokens.chunks(chunk).map(|group| (group.concat(), group.len() as u32)).collect()
    }
}

impl Spoken {
    pub(super) fn text(&self) -> String {
        self.tokens.concat()
    }

    pub(super) fn count(&self) -> u64 {
        self.tokens.len() as u64
    }
}

/// One server-sent event, with a name if the API names its events.
pub(super) fn event(name: Option<&str>, data: &Value) -> Bytes {
    Bytes::from(match name {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    })
}

/// Splits text into tokens of four characters, as real models cut JSON text.
fn morsels(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(4).map(|chunk| chunk.iter().collect()).collect()
}
