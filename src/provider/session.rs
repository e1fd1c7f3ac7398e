//! What passes over a WebSocket to a model: the responses that the app asks for, and the usage that the provider's events state.
//!
//! OpenAI's Realtime API and the WebSocket mode of its Responses API. A session carries many responses, one after the other. The
//! event that ends a response states its usage. [`FromProvider`] gives each response's events to a [`Meter`] of its own, as the events of a
//! stream. The top-level `type` of an event tells its meaning, wherever it stands; JSON is parsed only if it may state usage or a model.
//!
//! Sources: the types `RealtimeServerEvent` and `ResponsesServerEvent` of OpenAI's SDKs.

use serde::Deserialize;

use super::{
    errors::render::render,
    facts::{self, Facts},
    json,
    meter::{Meter, Observed},
    text,
    top::Top,
};
use crate::{
    body::websocket::Part,
    config::{Api, Operation},
    http1::{Fields, Id},
    reject::Reject,
};

/// Bytes of a message that are held. A larger one is metered as it passes; a larger request is estimated from its length.
const HELD: usize = 64 * 1024;
/// Bytes of a provider's message that are held while its `type` has not come. A larger one says nothing: providers say the type first.
const HELD_UNKNOWN: usize = 1024 * 1024;
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
    /// The app's id of the event. An error names it.
    pub event_id: Option<Box<str>>,
}

/// Reads the app's messages.
#[derive(Debug)]
pub struct FromApp {
    session: Session,
    held: Vec<u8>,
    top: Top,
    /// Bytes of the message under way.
    bytes: u64,
    /// Estimated tokens of a Realtime conversation so far. Of a Responses session: those that no `response.create` has said.
    context: u64,
}

impl FromApp {
    /// The reader of a session.
    pub fn new(session: Session) -> Self {
        Self { session, held: Vec::new(), top: Top::default(), bytes: 0, context: 0 }
    }

    /// Takes a part of a message; gives a response that it asks for.
    pub fn feed(&mut self, part: Part<'_>) -> Option<Create> {
        match part {
            Part::Text(bytes) => {
                self.bytes += bytes.len() as u64;
                self.top.feed(bytes);
                let room = HELD - self.held.len();
                self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
                None
            }
            Part::End => {
                let create = self.message();
                self.held.clear();
                // An idle session holds no buffer.
                self.held.shrink_to(0);
                self.top.reset();
                self.bytes = 0;
                create
            }
        }
    }

    /// Estimated tokens of the prompt of a response that begins although no `response.create` is open: the provider has begun it by itself,
    /// or the app has asked in a way that is not known.
    pub fn unasked(&mut self) -> u64 {
        match self.session {
            Session::Realtime => self.context,
            Session::Responses => std::mem::take(&mut self.context),
        }
    }

    /// Adds an answer of the model to the conversation: the next response reads it.
    pub fn answered(&mut self, tokens: u64) {
        if self.session == Session::Realtime {
            self.context = self.context.saturating_add(tokens);
        }
    }

    fn message(&mut self) -> Option<Create> {
        let whole = self.bytes == self.held.len() as u64;
        let kind = self.top.kind();
        if kind != "response.create" {
            let tokens = match (kind, self.session) {
                ("input_audio_buffer.append", _) => self.bytes / SOUND_BYTES_PER_TOKEN,
                (_, Session::Realtime) if whole => text::prompt(&self.held),
                _ => facts::by_length(self.bytes),
            };
            self.context = self.context.saturating_add(tokens);
            return None;
        }
        let known = whole.then(|| facts::read(Api::OpenAi, Operation::Responses, &self.held).ok()).flatten();
        let unread = || Facts { model: self.top.model().map(str::to_owned), ..Facts::unread(self.bytes) };
        let mut facts = known.unwrap_or_else(unread);
        if self.session == Session::Realtime {
            self.context = self.context.saturating_add(facts.estimated_input);
            facts.estimated_input = self.context;
        }
        Some(Create { facts, event_id: self.top.event_id().map(Box::from) })
    }
}

/// News of the provider's messages.
#[derive(Debug)]
pub enum Told {
    /// A response has ended.
    Ended(Box<Observed>),
    /// An event of the app was refused, or a response has failed.
    Failed(ErrorEvent),
    /// The app's speech was transcribed, by a model of its own.
    Transcribed(Box<Observed>),
}

/// An `error` event.
#[derive(Debug)]
pub struct ErrorEvent {
    /// The app's id of the event that is at fault, if the provider names it.
    pub of: Option<Box<str>>,
    /// Whether the error is a refusal of what was asked, not a failure of the provider.
    pub refuses: bool,
    /// Whether the error refuses a response because another one is under way.
    pub is_busy: bool,
    event: Box<[u8]>,
}

impl ErrorEvent {
    /// Reads an `error` event. Sources: `RealtimeErrorEvent` (its `error.event_id` is the app's) and the errors of the WebSocket mode, which
    /// have a `status`.
    fn of(event: &[u8]) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Event {
            status: json::Count,
            error: json::Perhaps<Error>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Error {
            #[serde(rename = "type")]
            kind: json::Text,
            code: json::Text,
            event_id: json::Text,
        }
        let said: Event = json::lenient(event).unwrap_or_default();
        let error = said.error.0.unwrap_or_default();
        let refuses = matches!(said.status.0, Some(400..=428)) || error.kind.as_str() == "invalid_request_error";
        Self {
            of: Some(error.event_id.as_str()).filter(|id| !id.is_empty()).map(Box::from),
            refuses,
            is_busy: error.code.as_str() == "conversation_already_has_active_response",
            event: event.into(),
        }
    }
}

/// Reads the provider's messages.
#[derive(Debug)]
pub struct FromProvider {
    headers: Fields,
    /// The meter of the response under way.
    meter: Option<Meter>,
    held: Vec<u8>,
    top: Top,
    passing: Passing,
    /// The response under way has ended in the message under way.
    ended: bool,
    model: Option<String>,
    transcriber: Option<String>,
    /// Estimated tokens of the prompt of the response under way.
    prompt: u64,
}

/// Gives the estimated tokens of the prompt of a response that begins. Called once for each response, before anything else of it is told.
pub type Begins<'a> = &'a mut dyn FnMut() -> u64;

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

impl Default for FromProvider {
    fn default() -> Self {
        Self {
            headers: Fields::from_iter([(Id::ContentType, "text/event-stream")]),
            meter: None,
            held: Vec::new(),
            top: Top::default(),
            passing: Passing::Held,
            ended: false,
            model: None,
            transcriber: None,
            prompt: 0,
        }
    }
}

impl FromProvider {
    /// The reader of a session of either protocol.
    pub fn new() -> Self {
        Self::default()
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
    pub fn feed(&mut self, part: Part<'_>, begins: Begins<'_>) -> Option<Told> {
        match (part, self.passing) {
            (Part::Text(bytes), Passing::Held) => {
                self.top.feed(bytes);
                let most = if self.top.kind().is_empty() { HELD_UNKNOWN } else { HELD };
                let (fits, beyond) = bytes.split_at(bytes.len().min(most.saturating_sub(self.held.len())));
                self.held.extend_from_slice(fits);
                if !beyond.is_empty() {
                    self.let_pass(beyond, begins);
                }
            }
            (Part::Text(bytes), Passing::Metered) => self.pass(bytes),
            (Part::Text(_), Passing::Skipped) => {}
            (Part::End, passing) => {
                let held = std::mem::take(&mut self.held);
                let top = std::mem::take(&mut self.top);
                self.passing = Passing::Held;
                return match passing {
                    Passing::Held => self.message(top.kind(), &held, begins),
                    Passing::Metered => self.end(),
                    Passing::Skipped => None,
                };
            }
        }
        None
    }

    /// Gives a message that is too large to be held to the meter: its held beginning, and the bytes behind it.
    fn let_pass(&mut self, beyond: &[u8], begins: Begins<'_>) {
        let held = std::mem::take(&mut self.held);
        let top = std::mem::take(&mut self.top);
        self.passing = match response_event(top.kind()) {
            Some(name) => {
                self.begin(name, begins);
                self.pass(&held);
                self.pass(beyond);
                Passing::Metered
            }
            None => Passing::Skipped,
        };
    }

    /// The response under way has failed, as the error says.
    pub fn fail(&mut self, failed: &ErrorEvent) -> Option<Observed> {
        feed_event(self.meter.as_mut()?, "error", &failed.event);
        self.finish()
    }

    /// The response that was under way when the connection ended.
    pub fn finish(&mut self) -> Option<Observed> {
        Some(self.meter.take()?.finish(false, self.prompt))
    }

    fn message(&mut self, kind: &str, message: &[u8], begins: Begins<'_>) -> Option<Told> {
        match kind {
            "session.created" | "session.updated" | "transcription_session.created" | "transcription_session.updated" => {
                self.learn(message);
                None
            }
            "conversation.item.input_audio_transcription.completed" => {
                let mut meter = Meter::new(Api::OpenAi, Operation::Audio, &self.headers);
                feed_event(&mut meter, "transcript.text.done", message);
                let observed = meter.finish(true, 0);
                Some(Told::Transcribed(Box::new(Observed { model: self.transcriber.clone(), ..observed })))
            }
            "error" => Some(Told::Failed(ErrorEvent::of(message))),
            name => {
                let name = response_event(name)?;
                self.begin(name, begins);
                self.pass(message);
                self.end()
            }
        }
    }

    fn begin(&mut self, name: &str, begins: Begins<'_>) {
        let headers = &self.headers;
        let prompt = &mut self.prompt;
        let meter = self.meter.get_or_insert_with(|| {
            *prompt = begins();
            Meter::new(Api::OpenAi, Operation::Responses, headers)
        });
        for piece in ["event: ", name, "\ndata: "] {
            self.ended |= meter.feed(piece.as_bytes()).ended;
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
fn feed_event(meter: &mut Meter, name: &str, message: &[u8]) {
    for piece in ["event: ", name, "\ndata: "] {
        meter.feed(piece.as_bytes());
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
fn response_event(kind: &str) -> Option<&str> {
    match kind {
        "response.done" => Some("response.completed"),
        "response.output_audio.delta" => Some("response.audio.delta"),
        // The app's own words.
        "response.create" | "response.cancel" => None,
        // A line end would end the event.
        _ if kind.starts_with("response.") && !kind.contains(['\r', '\n']) => Some(kind),
        _ => None,
    }
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
