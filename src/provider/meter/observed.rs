//! The meter's result for an answer, and why the answer ended.

use crate::{
    provider::errors::ErrorClass,
    usage::{Part, Terms, Units, Usage, UsageSource},
};

/// The meter's result for an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Tokens by class, as far as known; see `source`.
    pub usage: Usage,
    /// The source of the figures. Missing: none are known, or no work was done (an error before any content).
    pub source: UsageSource,
    /// Units beside tokens, as far as the answer tells.
    pub units: Units,
    /// The terms of the price, as the answer says them.
    pub terms: Terms,
    /// The parts whose sum is `usage`, if some of them have a model of their own; else empty.
    pub parts: Vec<Part>,
    /// The model that answered, in the provider's words (often with a date).
    pub model: Option<String>,
    /// Why the answer ended.
    pub finish: Option<Finish>,
    /// An error inside a 200.
    pub error: Option<ErrorClass>,
    /// Whether the protocol's own end was seen: `[DONE]`, `message_stop`, a terminal Responses event, Gemini's finish
    /// reason, Bedrock's metadata; of an answer that is no stream, its complete JSON.
    pub terminal: bool,
    /// Whether the body came to its end and is an answer: a stream with content, figures or the protocol's own end, or complete JSON
    /// that is not empty. An empty body, an empty stream, a page of HTML, JSON that is cut and an error are no answers. A body that
    /// cannot be read (another coding, an operation without a form of its own) counts as an answer.
    pub answered: bool,
    /// Work that goes on after this answer, or that has ended in it.
    pub work: Option<Work>,
    /// Events that carried content.
    pub content_events: u64,
    /// Tokens of output that passed, by the meter's own count, which no ratio has corrected.
    pub estimated_output: u64,
    /// Tokens of output that passed, by the model's own tokenizer, if the answer did not state its usage and its words were kept.
    pub counted_output: Option<u64>,
    /// Whether the answer asks for tool calls.
    pub tool_calls: bool,
    /// The answer was larger than the meter's room: figures may have been missed.
    pub flawed: bool,
}

/// A response that is made in the background (`background: true`), by its id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Work {
    /// The work goes on: a later answer states its usage.
    GoesOn(Box<str>),
    /// The work has ended, and this answer states its usage. The answer to every poll states it again.
    Ended(Box<str>),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The answer was done.
    Stop,
    /// A bound on tokens or the context was reached.
    Length,
    /// The answer was withheld or cut because of its content.
    ContentFilter,
    /// The answer asks for tool calls.
    ToolCalls,
    /// Any other reason.
    Other,
}

/// The first occurrences in a piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct News {
    /// The first content. For an answer that is no stream: its first bytes, unless they look like an error.
    pub first_content: bool,
    /// An error inside a 200.
    pub error: Option<ErrorClass>,
    /// The protocol's own end.
    pub ended: bool,
}

impl Finish {
    /// The word used in logs; OpenAI's word if it has one.
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
