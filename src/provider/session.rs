//! What passes over a WebSocket to a model: the responses that the app asks for, and the usage that the provider's events state.
//!
//! OpenAI's Realtime API and the WebSocket mode of its Responses API. A session carries many responses, one after the other. The
//! event that ends a response states its usage. [`FromProvider`] gives each response's events to a [`Meter`] of its own, as the events of a
//! stream. An event costs a few substring searches; JSON is parsed only if it may state usage or a model.
//!
//! Sources: the types `RealtimeServerEvent` and `ResponsesServerEvent` of OpenAI's SDKs.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde::Deserialize;

use super::{
    errors::render::render,
    facts::{self, Facts},
    json,
    meter::{Meter, Observed},
    text,
};
use crate::{
    body::websocket::Part,
    config::{Api, Operation},
    http1::{Fields, Id},
    reject::Reject,
};

/// Bytes of a message that are held. A larger one is metered as it passes; a larger request is estimated from its length.
const HELD: usize = 64 * 1024;
/// Bytes of base64 for a token of sound: 24 kHz of 16 bits are 64,000 bytes a second, and a second is 10 tokens.
const SOUND_BYTES_PER_TOKEN: u64 = 6_400;

/// The protocol of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// `/v1/realtime`.
    Realtime,
    /// `/v1/responses` over a WebSocket.
    Responses,
}

impl Session {
    /// The operation, in the word of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Responses => Operation::Responses.as_str(),
        }
    }
}

/// A response that the app asks for.
#[derive(Debug)]
pub struct Create {
    /// The request's facts, with the tokens of the whole conversation so far.
    pub facts: Facts,
}

/// Reads the app's messages.
#[derive(Debug)]
pub struct FromApp {
    session: Session,
    held: Vec<u8>,
    /// Bytes of the message under way.
    bytes: u64,
    /// Estimated tokens of a Realtime conversation so far.
    context: u64,
}

impl FromApp {
    /// The reader of a session.
    pub fn new(session: Session) -> Self {
        Self { session, held: Vec::new(), bytes: 0, context: 0 }
    }

    /// Takes a part of a message; gives a response that it asks for.
    pub fn feed(&mut self, part: Part<'_>) -> Option<Create> {
        match part {
            Part::Text(bytes) => {
                self.bytes += bytes.len() as u64;
                let room = HELD - self.held.len();
                self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
                None
            }
            Part::End => {
                let create = self.message();
                self.held.clear();
                // An idle session holds no buffer.
                self.held.shrink_to(0);
                self.bytes = 0;
                create
            }
        }
    }

    fn message(&mut self) -> Option<Create> {
        let whole = self.bytes == self.held.len() as u64;
        let kind = kind(&self.held);
        let creates = kind == b"response.create";
        let tokens = match kind {
            b"input_audio_buffer.append" => self.bytes / SOUND_BYTES_PER_TOKEN,
            _ if whole => text::prompt(&self.held),
            _ => facts::by_length(self.bytes),
        };
        if self.session == Session::Realtime {
            self.context = self.context.saturating_add(tokens);
        }
        let known = whole.then(|| facts::read(Api::OpenAi, Operation::Responses, &self.held).ok()).flatten();
        creates.then(|| {
            let facts = known.unwrap_or_else(|| Facts::unread(self.bytes));
            Create { facts: Facts { estimated_input: facts.estimated_input.max(self.context), ..facts } }
        })
    }
}

/// News of the provider's messages.
#[derive(Debug)]
pub enum Told {
    /// A response has ended.
    Ended(Box<Observed>),
    /// A request for a response was refused: nothing was done.
    Refused,
    /// The app's speech was transcribed, by a model of its own.
    Transcribed(Box<Observed>),
}

/// Reads the provider's messages.
#[derive(Debug)]
pub struct FromProvider {
    session: Session,
    headers: Fields,
    /// The meter of the response under way.
    meter: Option<Meter>,
    held: Vec<u8>,
    passing: Passing,
    /// The response under way has ended in the message under way.
    ended: bool,
    model: Option<String>,
    transcriber: Option<String>,
    /// Estimated tokens of the prompt of the response under way.
    pub prompt: u64,
}

/// What becomes of the message under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// The bytes are held: their meaning is not known yet.
    Held,
    /// The bytes go to the meter.
    Metered,
    /// The bytes say nothing of interest.
    Skipped,
}

impl FromProvider {
    /// The reader of a session.
    pub fn new(session: Session) -> Self {
        let headers = Fields::from_iter([(Id::ContentType, "text/event-stream")]);
        Self {
            session,
            headers,
            meter: None,
            held: Vec::new(),
            passing: Passing::Held,
            ended: false,
            model: None,
            transcriber: None,
            prompt: 0,
        }
    }

    /// The session's model, as the provider names it.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The model that transcribes the app's speech, as the provider names it.
    pub fn transcriber(&self) -> Option<&str> {
        self.transcriber.as_deref()
    }

    /// Whether a response is under way.
    pub fn is_under_way(&self) -> bool {
        self.meter.is_some()
    }

    /// Takes a part of a message; gives what the message means.
    pub fn feed(&mut self, part: Part<'_>) -> Option<Told> {
        match (part, self.passing) {
            (Part::Text(bytes), Passing::Held) => {
                let (fits, beyond) = bytes.split_at(bytes.len().min(HELD - self.held.len()));
                self.held.extend_from_slice(fits);
                if !beyond.is_empty() {
                    self.let_pass(beyond);
                }
            }
            (Part::Text(bytes), Passing::Metered) => self.pass(bytes),
            (Part::Text(_), Passing::Skipped) => {}
            (Part::End, passing) => {
                let held = std::mem::take(&mut self.held);
                self.passing = Passing::Held;
                return match passing {
                    Passing::Held => self.message(&held),
                    Passing::Metered => self.end(),
                    Passing::Skipped => None,
                };
            }
        }
        None
    }

    /// Gives a message that is too large to be held to the meter: its held beginning, and the bytes behind it.
    fn let_pass(&mut self, beyond: &[u8]) {
        let held = std::mem::take(&mut self.held);
        self.passing = match response_event(kind(&held)) {
            Some(name) => {
                self.begin(name);
                self.pass(&held);
                self.pass(beyond);
                Passing::Metered
            }
            None => Passing::Skipped,
        };
    }

    /// The response that was under way when the connection ended.
    pub fn finish(&mut self) -> Option<Observed> {
        Some(self.meter.take()?.finish(false, self.prompt))
    }

    fn message(&mut self, message: &[u8]) -> Option<Told> {
        match kind(message) {
            b"session.created" | b"session.updated" | b"transcription_session.created" | b"transcription_session.updated" => {
                self.learn(message);
                None
            }
            b"conversation.item.input_audio_transcription.completed" => {
                let mut meter = Meter::new(Api::OpenAi, Operation::Audio, &self.headers);
                feed_event(&mut meter, b"transcript.text.done", message);
                let observed = meter.finish(true, 0);
                Some(Told::Transcribed(Box::new(Observed { model: self.transcriber.clone(), ..observed })))
            }
            b"error" if self.meter.is_none() => Some(Told::Refused),
            b"error" if self.session == Session::Responses => {
                if let Some(meter) = &mut self.meter {
                    feed_event(meter, b"error", message);
                }
                self.finish().map(|observed| Told::Ended(Box::new(observed)))
            }
            name => {
                let name = response_event(name)?;
                self.begin(name);
                self.pass(message);
                self.end()
            }
        }
    }

    fn begin(&mut self, name: &[u8]) {
        let headers = &self.headers;
        let meter = self.meter.get_or_insert_with(|| Meter::new(Api::OpenAi, Operation::Responses, headers));
        for piece in [b"event: ", name, b"\ndata: "] {
            self.ended |= meter.feed(piece).ended;
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        if let Some(meter) = &mut self.meter {
            feed_line(meter, bytes);
        }
    }

    fn end(&mut self) -> Option<Told> {
        let ended = self.meter.as_mut()?.feed(b"\n\n").ended;
        if !(ended || std::mem::take(&mut self.ended)) {
            return None;
        }
        self.ended = false;
        let mut observed = self.meter.take()?.finish(true, self.prompt);
        observed.model = observed.model.or_else(|| self.model.clone());
        Some(Told::Ended(Box::new(observed)))
    }

    fn learn(&mut self, message: &[u8]) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Named {
            model: json::Text,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Input {
            transcription: json::Perhaps<Named>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Audio {
            input: json::Perhaps<Input>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Of {
            model: json::Text,
            input_audio_transcription: json::Perhaps<Named>,
            audio: json::Perhaps<Audio>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Message {
            session: json::Perhaps<Of>,
        }
        let Some(session) = json::lenient::<Message>(message).and_then(|message| message.session.0) else { return };
        let some = |text: &json::Text| Some(text.as_str().to_owned()).filter(|text| !text.is_empty());
        self.model = some(&session.model).or(self.model.take());
        let nested = session.audio.0.and_then(|audio| audio.input.0).and_then(|input| input.transcription.0);
        self.transcriber = session.input_audio_transcription.0.or(nested).and_then(|named| some(&named.model)).or(self.transcriber.take());
    }
}

/// Gives a message to a meter as one event of a stream.
fn feed_event(meter: &mut Meter, name: &[u8], message: &[u8]) {
    for piece in [b"event: ", name, b"\ndata: "] {
        meter.feed(piece);
    }
    feed_line(meter, message);
    meter.feed(b"\n\n");
}

/// Gives JSON to a meter as a part of one line: a line end between two tokens of JSON is a blank.
fn feed_line(meter: &mut Meter, mut bytes: &[u8]) {
    while let Some(at) = memchr::memchr2(b'\n', b'\r', bytes) {
        meter.feed(&bytes[..at]);
        meter.feed(b" ");
        bytes = &bytes[at + 1..];
    }
    meter.feed(bytes);
}

/// The event's name for the meter of the Responses API; `None`: the event says nothing of a response's usage.
fn response_event(kind: &[u8]) -> Option<&[u8]> {
    match kind {
        b"response.done" => Some(b"response.completed"),
        b"response.output_audio.delta" => Some(b"response.audio.delta"),
        // The app's own words.
        b"response.create" | b"response.cancel" => None,
        _ if kind.starts_with(b"response.") => Some(kind),
        _ => None,
    }
}

/// The message's `type`; empty if the held bytes have none.
fn kind(message: &[u8]) -> &[u8] {
    static KIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"type\""));
    let kind = json::string_after(message, &KIND).unwrap_or_default();
    if kind.len() > 100 || memmem::find(kind, b"\n").is_some() { b"" } else { kind }
}

/// The proxy's last words to the app: an `error` event of the protocol.
pub fn last_words(reject: &Reject, request_id: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(&render(Api::OpenAi, reject, request_id).1).unwrap_or_default();
    event["type"] = "error".into();
    event["event_id"] = format!("outrigger_{request_id}").into();
    event["status"] = reject.status().as_u16().into();
    event.to_string()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
