//! What a call cost, read from its answer while it passes: usage, model, how it ended, errors inside a 200.
//!
//! [`Meter::feed`] never changes, keeps or delays a byte of the answer; a content event without usage costs a few substring
//! searches and no allocation. Streams: the last usage that is not null wins (OpenAI), later figures overwrite earlier ones
//! (Anthropic), none are ever added up. Where an answer has no usage, tokens are estimated from bytes
//! ([`ASCII_BYTES_PER_TOKEN`](super::facts::ASCII_BYTES_PER_TOKEN)) and from content events, each of which is at least one
//! token, and marked as estimated.

mod answer;
mod counts;
mod gunzip;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod whole;

use std::fmt;

pub use gunzip::Gunzip;

use http::{HeaderMap, header};

use super::{errors::ErrorClass, facts, sse};
use crate::{
    config::{Api, Operation},
    usage::{Usage, UsageSource},
};

/// Largest event that is looked into: the last event of the Responses API repeats the whole answer.
const MAX_EVENT: usize = 4 * 1024 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

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
    /// reason; of an answer that is no stream, its complete JSON.
    pub terminal: bool,
    /// Events that carried content.
    pub content_events: u64,
    /// Tokens of output that passed, by our own count.
    pub estimated_output: u64,
    /// Whether it asks for tool calls.
    pub tool_calls: bool,
    /// The answer was larger than what is looked into; something may have been missed.
    pub flawed: bool,
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

/// Reads one answer.
#[derive(Debug)]
pub struct Meter {
    gunzip: Option<Box<Gunzip>>,
    reader: Reader,
}

/// The wire formats that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    /// OpenAI chat and completions.
    Chat,
    Responses,
    Embeddings,
    /// OpenAI images and audio.
    Media,
    Anthropic,
    Gemini,
    Bedrock,
    Unknown,
}

#[derive(Debug)]
struct Reader {
    wire: Wire,
    form: Form,
    tally: Tally,
    bytes: u64,
}

#[derive(Debug)]
enum Form {
    /// The first byte will tell.
    Undecided,
    Events(Box<sse::Splitter>),
    Elements(whole::Elements),
    Whole(whole::Whole),
    /// Nothing to learn: another coding, another format.
    Opaque,
}

/// What has been learned so far.
#[derive(Debug, Default)]
struct Tally {
    usage: Option<Usage>,
    /// The usage is the final one, not a running figure.
    settled: bool,
    model: Option<String>,
    finish: Option<Finish>,
    error: Option<ErrorClass>,
    terminal: bool,
    /// Content has passed.
    started: bool,
    content_events: u64,
    ascii: u64,
    other: u64,
    /// Tokens of output by another count than that of the events.
    estimated: u64,
    tool_calls: bool,
    flawed: bool,
}

impl Meter {
    /// A meter for the answer with these `headers` to a call of `operation` over `api` (both as
    /// [`Shape`](super::call::Shape) says, not the provider's). Only for successes: what an error status means is
    /// [`classify`](super::errors::classify)'s.
    pub fn new(api: Api, operation: Operation, headers: &HeaderMap) -> Self {
        let wire = match (api, operation) {
            (Api::OpenAi, Operation::Chat | Operation::Completions) => Wire::Chat,
            (Api::OpenAi, Operation::Responses) => Wire::Responses,
            (Api::OpenAi, Operation::Embeddings) => Wire::Embeddings,
            (Api::OpenAi, Operation::Images | Operation::Audio) => Wire::Media,
            (Api::Anthropic, Operation::Messages) => Wire::Anthropic,
            (Api::Gemini, Operation::Chat) => Wire::Gemini,
            (Api::Bedrock, Operation::Chat) => Wire::Bedrock,
            _ => Wire::Unknown,
        };
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).unwrap_or_default().trim();
        let coding = text(header::CONTENT_ENCODING);
        let gzip = coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip");
        let plain = coding.is_empty() || coding.eq_ignore_ascii_case("identity");
        let content_type = text(header::CONTENT_TYPE);
        let form = if wire == Wire::Unknown || !(gzip || plain) {
            Form::Opaque
        } else if content_type.starts_with("text/event-stream") {
            Form::Events(Box::new(sse::Splitter::new(MAX_EVENT)))
        } else if content_type.starts_with("application/vnd.amazon.eventstream") {
            // Binary frames around JSON; the last one has the usage in clear text.
            Form::Whole(whole::Whole::new(wire))
        } else {
            Form::Undecided
        };
        let gunzip = (gzip && !matches!(form, Form::Opaque)).then(|| Box::new(Gunzip::new()));
        Self { gunzip, reader: Reader { wire, form, tally: Tally::default(), bytes: 0 } }
    }

    /// Reads the next piece, as it came from the provider.
    pub fn feed(&mut self, piece: &[u8]) -> News {
        let tally = &self.reader.tally;
        let (started, error, ended) = (tally.started, tally.error, tally.terminal);
        match &mut self.gunzip {
            None => self.reader.feed(piece),
            Some(gunzip) => {
                if !gunzip.feed(piece, |piece| self.reader.feed(piece)) {
                    self.reader.form = Form::Opaque;
                }
            }
        }
        let tally = &self.reader.tally;
        News {
            first_content: !started && tally.started,
            error: if error.is_none() { tally.error } else { None },
            ended: !ended && tally.terminal,
        }
    }

    /// Whether an event of a stream has begun and not ended: an error event must end it first.
    pub fn mid_event(&self) -> bool {
        matches!(&self.reader.form, Form::Events(splitter) if splitter.mid_event())
    }

    /// Whether nothing can be learned from this answer, also not when its content begins: do not wait for it.
    pub fn is_blind(&self) -> bool {
        matches!(self.reader.form, Form::Opaque)
    }

    /// What was learned. `complete`: the answer came to its end. `estimated_input` is used where the provider did not say.
    pub fn finish(mut self, complete: bool, estimated_input: u64) -> Observed {
        self.reader.end(complete);
        let Reader { wire, form, tally, bytes } = self.reader;
        let streamed = matches!(form, Form::Events(_) | Form::Elements(_));
        let seen = tally.ascii.div_ceil(facts::ASCII_BYTES_PER_TOKEN) + tally.other.div_ceil(facts::OTHER_BYTES_PER_TOKEN);
        let estimated_output = seen.max(tally.content_events).max(tally.estimated);
        let (usage, source) = match tally.usage {
            Some(usage) if tally.settled || !streamed => (usage, UsageSource::Provider),
            // Cut: the running figure may be old.
            Some(usage) => (Usage { output: usage.output.max(estimated_output), ..usage }, UsageSource::Estimated),
            None if bytes == 0 || matches!(form, Form::Opaque | Form::Undecided) => (Usage::default(), UsageSource::Missing),
            None if tally.error.is_some() && tally.content_events == 0 => (Usage::default(), UsageSource::Missing),
            None if matches!(wire, Wire::Media | Wire::Bedrock) => (Usage::default(), UsageSource::Missing),
            None => (Usage { input: estimated_input, output: estimated_output, ..Usage::default() }, UsageSource::Estimated),
        };
        Observed {
            usage,
            source,
            model: tally.model,
            finish: tally.finish,
            error: tally.error,
            terminal: tally.terminal,
            content_events: tally.content_events,
            estimated_output,
            tool_calls: tally.tool_calls || tally.finish == Some(Finish::ToolCalls),
            flawed: tally.flawed,
        }
    }
}

impl Reader {
    fn feed(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let piece = if matches!(self.form, Form::Undecided) { self.decide(piece) } else { piece };
        let (wire, tally) = (self.wire, &mut self.tally);
        match &mut self.form {
            Form::Events(splitter) => splitter.feed(piece, |event| take(wire, tally, &event)),
            Form::Elements(elements) => elements.feed(piece, MAX_EVENT, |element| {
                tally.tool_calls = tally.tool_calls || tools::asks(wire, element);
                stream::gemini(tally, element);
            }),
            Form::Whole(whole) => whole.feed(piece, tally),
            Form::Opaque | Form::Undecided => {}
        }
    }

    /// Tells the form by the first byte that says anything: compatible servers are careless with `Content-Type`. Gives the piece from
    /// there on: blanks and byte order marks before it count for nothing, wherever they are cut.
    fn decide<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let says = |byte: &u8| !byte.is_ascii_whitespace() && !BYTE_ORDER_MARK.contains(byte);
        let piece = &piece[piece.iter().position(says).unwrap_or(piece.len())..];
        self.form = match piece.first() {
            None => return piece,
            Some(b'[') if self.wire == Wire::Gemini => Form::Elements(whole::Elements::default()),
            Some(b'{' | b'[') => Form::Whole(whole::Whole::new(self.wire)),
            Some(b':' | b'd' | b'e' | b'i' | b'r') => Form::Events(Box::new(sse::Splitter::new(MAX_EVENT))),
            Some(_) => Form::Opaque,
        };
        piece
    }

    fn end(&mut self, complete: bool) {
        let (wire, tally) = (self.wire, &mut self.tally);
        match &mut self.form {
            Form::Events(splitter) => splitter.finish(|event| take(wire, tally, &event)),
            Form::Whole(whole) => whole.finish(tally, complete),
            Form::Elements(_) | Form::Opaque | Form::Undecided => {}
        }
    }
}

fn take(wire: Wire, tally: &mut Tally, event: &sse::Event<'_>) {
    tally.flawed |= event.end == sse::End::Oversized;
    if let Some(data) = event.data {
        tally.tool_calls = tally.tool_calls || tools::asks(wire, data);
        stream::event(wire, tally, event.name, data);
    }
}

impl Tally {
    fn content(&mut self, text: &[u8]) {
        self.started = true;
        self.content_events += 1;
        let other = text.iter().filter(|byte| !byte.is_ascii()).count();
        self.other += other as u64;
        self.ascii += (text.len() - other) as u64;
    }

    /// The first error is the one that counts.
    fn failed(&mut self, class: ErrorClass) {
        self.error.get_or_insert(class);
    }
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

    fn openai(reason: &str) -> Option<Self> {
        Some(match reason {
            "" => return None,
            "stop" => Self::Stop,
            "length" => Self::Length,
            "content_filter" => Self::ContentFilter,
            "tool_calls" | "function_call" => Self::ToolCalls,
            _ => Self::Other,
        })
    }

    fn anthropic(reason: &str) -> Option<Self> {
        Some(match reason {
            "" => return None,
            "end_turn" | "stop_sequence" => Self::Stop,
            "max_tokens" | "model_context_window_exceeded" => Self::Length,
            "refusal" | "guardrail_intervened" | "content_filtered" => Self::ContentFilter,
            "tool_use" => Self::ToolCalls,
            _ => Self::Other,
        })
    }

    fn gemini(reason: &str) -> Option<Self> {
        Some(match reason {
            "" | "FINISH_REASON_UNSPECIFIED" => return None,
            "STOP" => Self::Stop,
            "MAX_TOKENS" => Self::Length,
            "SAFETY" | "RECITATION" | "PROHIBITED_CONTENT" | "BLOCKLIST" | "SPII" | "IMAGE_SAFETY" => Self::ContentFilter,
            _ => Self::Other,
        })
    }
}

impl fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gunzip")
    }
}
