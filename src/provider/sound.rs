//! Calls whose answers are sound, or tell about sound, and what such an answer says of its cost. Pure.
//!
//! Source: OpenAI's API reference, audio: `usage` is in JSON answers and in the last event of streams; text, SRT, VTT and plain sound have
//! none. A translation in JSON has no `usage`; in `verbose_json` it has its `duration`, which is what is billed.

use super::Facts;

/// What a call does with sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// It makes sound of text.
    Speaks,
    /// It writes down what is said.
    Transcribes,
    /// It writes down what is said, in English.
    Translates,
}

/// An answer that does not say what it has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent {
    /// The work, in words.
    pub work: &'static str,
    /// How to ask for an answer that says it.
    pub remedy: &'static str,
}

const SPEECH: Silent = Silent { work: "speech as plain sound", remedy: "with `stream_format: sse` the answer says it" };
const TRANSCRIPT: Silent = Silent { work: "a transcript as plain text", remedy: "with `response_format: json` the answer says it" };
const TRANSLATION: Silent =
    Silent { work: "a translation without its length", remedy: "with `response_format: verbose_json` the answer says it" };

impl Sound {
    /// Whether the answer that a body asks for is silent about its cost.
    pub fn silent(self, facts: &Facts) -> Option<Silent> {
        let format = facts.format.as_deref().unwrap_or_default();
        match self {
            Self::Speaks if format != "sse" => Some(SPEECH),
            Self::Transcribes if matches!(format, "text" | "srt" | "vtt") => Some(TRANSCRIPT),
            Self::Translates if format != "verbose_json" => Some(TRANSLATION),
            _ => None,
        }
    }
}
