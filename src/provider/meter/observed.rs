//! What was read from an answer, and why it ended.

use crate::{
    provider::errors::ErrorClass,
    usage::{Usage, UsageSource},
};

/// What was read from an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Tokens, as far as known; see `source`.
    pub usage: Usage,
    /// Where the figures come from. Missing: nothing is known, or nothing was done (an error before any content).
    pub source: UsageSource,
    /// The model that answered, in the provider's words (often with a date).
    pub model: Option<String>,
    /// Why the answer ended.
    pub finish: Option<Finish>,
    /// An error inside a 200.
    pub error: Option<ErrorClass>,
    /// Whether the protocol's own end was seen: `[DONE]`, `message_stop`, a terminal Responses event, Gemini's finish
    /// reason, Bedrock's metadata; of an answer that is no stream, its complete JSON.
    pub terminal: bool,
    /// Whether it came to its end and answers: content, figures or the protocol's own end in a stream, else complete JSON with
    /// something in it. Not: an empty body, an empty stream, a page of HTML, JSON that is cut, an error. Where nothing can be told (another
    /// coding, an operation without a form of its own) it answers.
    pub answered: bool,
    /// Work that goes on behind this answer, or that ended in it.
    pub work: Option<Work>,
    /// Events that carried content.
    pub content_events: u64,
    /// Tokens of output that passed, by our own count.
    pub estimated_output: u64,
    /// Whether it asks for tool calls.
    pub tool_calls: bool,
    /// The answer was larger than what is looked into; something may have been missed.
    pub flawed: bool,
}

/// A response that is made in the background (`background: true`), by its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Work {
    /// It goes on: this answer says nothing of usage, a later one does.
    GoesOn(Box<str>),
    /// It has ended, and this answer says what it used. Every poll says it again.
    Ended(Box<str>),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// It was done.
    Stop,
    /// A bound on tokens or the context was reached.
    Length,
    /// It was withheld or cut because of its content.
    ContentFilter,
    /// It asks for tool calls.
    ToolCalls,
    /// Anything else.
    Other,
}

/// What a piece brought for the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// The first content. Of an answer that is no stream: its first byte, unless it looks like an error.
    pub first_content: bool,
    /// An error inside a 200.
    pub error: Option<ErrorClass>,
    /// The protocol's own end.
    pub ended: bool,
}

impl Finish {
    /// The word used in logs; OpenAI's where it has one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
            Self::ToolCalls => "tool_calls",
            Self::Other => "other",
        }
    }

    pub(super) fn openai(reason: &str) -> Option<Self> {
        Some(match reason {
            "" => return None,
            "stop" => Self::Stop,
            "length" => Self::Length,
            "content_filter" => Self::ContentFilter,
            "tool_calls" | "function_call" => Self::ToolCalls,
            _ => Self::Other,
        })
    }

    pub(super) fn anthropic(reason: &str) -> Option<Self> {
        Some(match reason {
            "" => return None,
            "end_turn" | "stop_sequence" => Self::Stop,
            "max_tokens" | "model_context_window_exceeded" => Self::Length,
            "refusal" | "guardrail_intervened" | "content_filtered" => Self::ContentFilter,
            "tool_use" => Self::ToolCalls,
            _ => Self::Other,
        })
    }

    pub(super) fn gemini(reason: &str) -> Option<Self> {
        Some(match reason {
            "" | "FINISH_REASON_UNSPECIFIED" => return None,
            "STOP" => Self::Stop,
            "MAX_TOKENS" => Self::Length,
            "SAFETY" | "RECITATION" | "PROHIBITED_CONTENT" | "BLOCKLIST" | "SPII" | "IMAGE_SAFETY" => Self::ContentFilter,
            _ => Self::Other,
        })
    }
}
