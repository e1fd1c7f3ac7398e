//! Meters an answer while it passes: usage, model, end, errors inside a 200.
//!
//! [`Meter::feed`] never changes, keeps or delays a byte of the answer. A content event without usage costs a few substring
//! searches and no allocation. In a stream later figures replace earlier ones; figures are never added up. An answer of any size
//! is read: a part that cannot be held is condensed as it passes, and usage is found behind any amount of images. Without usage,
//! tokens are estimated from the answer's words ([`text`](super::text)) and from content events, each of which is at least one
//! token. They are marked as estimated, and never exceed the call's own bound ([`Meter::at_most`]).

mod answer;
mod beside;
mod condense;
#[cfg(test)]
mod condense_tests;
mod counts;
mod figures;
mod frames;
#[cfg(test)]
mod hazards;
mod large;
#[cfg(test)]
mod matrix;
mod observed;
mod stream;
#[cfg(test)]
mod tests;
mod tools;
mod whole;

pub use observed::{Finish, News, Observed, Work};

use self::{beside::Beside, figures::Figures, large::LargeEvent};
use super::{
    errors::ErrorClass,
    ratio::Ratio,
    sse,
    text::Spoken,
    tokens::{Kept, Tokenizer},
};
use crate::{
    body::coding::{ContentEncoding, Decoder},
    config::{Api, Operation},
    http1::{Fields, Id},
    usage::{Usage, UsageSource},
};

/// Bytes of the largest event that is held; a larger event is condensed as it passes.
const HELD_EVENT: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The meter of one answer.
#[derive(Debug)]
pub struct Meter {
    decoder: Option<Box<Decoder>>,
    reader: Reader,
    /// Most tokens of output that the call allows.
    most_output: Option<u64>,
    ratio: Option<Ratio>,
}

/// The known wire formats.
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
    /// The head announces events.
    events: bool,
    /// The answer may be sound or plain text.
    any_form: bool,
    /// The event under way, which is too large to be held.
    large: Option<Box<LargeEvent>>,
}

#[derive(Debug)]
enum Form {
    /// The first byte will decide.
    Undecided,
    Events(Box<sse::Splitter>),
    Elements(whole::Elements),
    Frames(Box<frames::Frames>),
    Whole(Box<whole::Whole>),
    /// A body that is not read: another operation, an unknown coding, sound.
    Opaque,
    /// A body that is neither JSON nor a stream, though one of them is due.
    Foreign,
}

/// The findings so far.
#[derive(Debug, Default)]
struct Tally {
    figures: Option<Figures>,
    /// Terms, units and parts beside the figures.
    beside: Beside,
    /// The figures are final, not running ones.
    settled: bool,
    model: Option<String>,
    finish: Option<Finish>,
    error: Option<ErrorClass>,
    terminal: bool,
    /// Content has passed.
    started: bool,
    content_events: u64,
    /// The words of content events.
    spoken: Spoken,
    /// Tokens of output, estimated from a whole answer's words.
    estimated: u64,
    /// The words, if they are to be counted.
    kept: Option<Kept>,
    tool_calls: bool,
    /// A response made in the background, and whether it goes on.
    work: Option<(Box<str>, bool)>,
    flawed: bool,
}

impl Meter {
    /// A meter for the answer with these `headers` to a call of `operation` over `api` (both are those of
    /// [`Shape`](super::call::Shape), not the provider's). For successes alone: [`classify`](super::errors::classify) reads an
    /// error status.
    pub fn new(api: Api, operation: Operation, headers: &Fields) -> Self {
        let wire = Wire::of(api, operation);
        let codings = ContentEncoding::of(headers);
        let content_type = headers.get(Id::ContentType).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
        let is = |kind: &str| content_type.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
        let form = if wire == Wire::Unknown || matches!(codings, ContentEncoding::Unknown(_)) {
            Form::Opaque
        } else if is("application/vnd.amazon.eventstream") {
            Form::Frames(Box::default())
        } else {
            Form::Undecided
        };
        let decoder = match codings {
            ContentEncoding::Known(codings) if !matches!(form, Form::Opaque) => Some(Box::new(Decoder::new(&codings))),
            _ => None,
        };
        let mut tally = Tally::default();
        if wire == Wire::Bedrock && !matches!(form, Form::Frames(_)) {
            tally.figure(counted(headers));
        }
        let reader =
            Reader { wire, form, tally, bytes: 0, events: is("text/event-stream"), any_form: operation == Operation::Audio, large: None };
        // Vectors are no tokens.
        let most_output = (operation == Operation::Embeddings).then_some(0);
        Self { decoder, reader, most_output, ratio: None }
    }

    /// Sets the call's bound on its output, over all choices: no estimate exceeds it.
    pub fn at_most(mut self, most_output: Option<u64>) -> Self {
        self.most_output = most_output.or(self.most_output);
        self
    }

    /// Sets the model's learned ratios: the ratios correct estimates of words.
    pub fn spoken_as(mut self, ratio: Ratio) -> Self {
        self.ratio = Some(ratio);
        self
    }

    /// Keeps the words of a stream, to count them by the model's own tokenizer if the stream is cut.
    pub fn counted_by(mut self, tokenizer: Option<Tokenizer>) -> Self {
        self.reader.tally.kept = tokenizer.map(Kept::new);
        self
    }

    /// Reads the next piece, as it came from the provider.
    pub fn feed(&mut self, piece: &[u8]) -> News {
        let tally = &self.reader.tally;
        let (started, error, ended) = (tally.started, tally.error, tally.terminal);
        match &mut self.decoder {
            None => self.reader.feed(piece),
            Some(decoder) => {
                let take = &mut |piece: &[u8]| {
                    self.reader.feed(piece);
                    true
                };
                if decoder.feed(piece, take).is_err() {
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

    /// Tokens of output that have passed, estimated from words and events.
    pub fn spoken(&self) -> u64 {
        let tally = &self.reader.tally;
        tally.spoken.tokens().max(tally.content_events)
    }

    /// Whether an event of the stream has begun and not ended: an error event must end it first.
    pub fn mid_event(&self) -> bool {
        matches!(&self.reader.form, Form::Events(splitter) if splitter.mid_event())
    }

    /// Whether the protocol's own end has passed: later bytes are no part of the answer, and none may be added.
    pub fn has_ended(&self) -> bool {
        match &self.reader.form {
            Form::Whole(whole) => whole.is_complete(),
            _ => self.reader.tally.terminal,
        }
    }

    /// Whether the meter can learn nothing from this answer, not even when its content begins: do not wait for content.
    pub fn is_blind(&self) -> bool {
        matches!(self.reader.form, Form::Opaque | Form::Foreign)
    }

    /// Whether the body is surely no answer: a page, for example, where JSON or a stream is due.
    pub fn is_foreign(&self) -> bool {
        matches!(self.reader.form, Form::Foreign)
    }

    /// The result. `complete`: the answer came to its end. `estimated_input` counts if the provider gave no figures.
    pub fn finish(mut self, complete: bool, estimated_input: u64) -> Observed {
        self.reader.end();
        let answered = self.reader.answers() && (complete || self.reader.tally.terminal);
        let Reader { wire, form, tally, bytes, .. } = self.reader;
        let words = tally.spoken.tokens().max(tally.estimated);
        let bounded = |tokens: u64| self.most_output.map_or(tokens, |most| tokens.min(most));
        let own_count = bounded(words.max(tally.content_events));
        let estimated_output = bounded(self.ratio.map_or(words, |ratio| ratio.answer(words)).max(tally.content_events));
        let figures = tally.figures.map(|figures| figures.usage(wire));
        let estimate = Usage { input: estimated_input, output: estimated_output, ..Usage::default() };
        let (usage, source) = match figures {
            Some(usage) if tally.settled => (usage, UsageSource::Provider),
            // The answer was cut: the running figure may be old.
            Some(usage) => (Usage { output: usage.output.max(estimated_output), ..usage }, UsageSource::Estimated),
            None if bytes == 0 || matches!(form, Form::Opaque | Form::Foreign | Form::Undecided) => {
                (Usage::default(), UsageSource::Missing)
            }
            None if tally.error.is_some() && tally.content_events == 0 => (Usage::default(), UsageSource::Missing),
            // Billed by time.
            None if tally.settled => (Usage::default(), UsageSource::Provider),
            None if wire == Wire::Media => (Usage::default(), UsageSource::Missing),
            // The work goes on: a later answer states its usage.
            None if matches!(tally.work, Some((_, true))) => (Usage::default(), UsageSource::Missing),
            None => (estimate, UsageSource::Estimated),
        };
        let (terms, units) = (tally.beside.terms, tally.beside.units);
        let (usage, parts) = match source {
            UsageSource::Missing => (usage, Vec::new()),
            _ => tally.beside.assemble(usage),
        };
        Observed {
            usage,
            source,
            units,
            terms,
            parts,
            model: tally.model,
            finish: tally.finish,
            error: tally.error,
            terminal: tally.terminal,
            answered,
            work: tally.work.map(|(id, goes_on)| if goes_on { Work::GoesOn(id) } else { Work::Ended(id) }),
            content_events: tally.content_events,
            estimated_output: own_count,
            counted_output: if source == UsageSource::Estimated && figures.is_none() { tally.kept.and_then(Kept::count) } else { None },
            tool_calls: tally.tool_calls || tally.finish == Some(Finish::ToolCalls),
            flawed: tally.flawed,
        }
    }
}

impl Wire {
    fn of(api: Api, operation: Operation) -> Self {
        match (api, operation) {
            (Api::OpenAi, Operation::Chat | Operation::Completions) => Self::Chat,
            (Api::OpenAi, Operation::Responses) => Self::Responses,
            (Api::OpenAi, Operation::Embeddings) => Self::Embeddings,
            (Api::OpenAi, Operation::Images | Operation::Audio) => Self::Media,
            (Api::Anthropic, Operation::Messages) => Self::Anthropic,
            (Api::Gemini, Operation::Chat | Operation::Embeddings) => Self::Gemini,
            (Api::Bedrock, Operation::Chat | Operation::Embeddings) => Self::Bedrock,
            _ => Self::Unknown,
        }
    }
}

/// InvokeModel's figures in header fields; every model's answers have them.
fn counted(headers: &Fields) -> Option<Figures> {
    let count = |name: &str| headers.get(&*format!("x-amzn-bedrock-{name}-token-count"))?.to_str().ok()?.trim().parse().ok();
    Figures::counted(count("input"), count("output"), count("cache-read-input"), count("cache-write-input"))
}

impl Reader {
    fn feed(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let piece = if matches!(self.form, Form::Undecided) { self.decide(piece) } else { piece };
        let (wire, tally, large) = (self.wire, &mut self.tally, &mut self.large);
        match &mut self.form {
            Form::Events(splitter) => splitter.feed(piece, |event| take(wire, tally, large, &event)),
            Form::Elements(elements) => elements.feed(piece, |element, condensed| {
                tally.tool_calls = tally.tool_calls || tools::asks(wire, element);
                tally.flawed |= condensed.is_some_and(|condensed| condensed.flawed);
                stream::gemini(tally, element, condensed);
            }),
            Form::Frames(frames) => {
                let fits = frames.feed(piece, |kind, data, condensed| {
                    tally.tool_calls = tally.tool_calls || tools::asks(wire, data);
                    stream::bedrock(tally, kind, data, condensed);
                });
                if !fits {
                    self.form = Form::Foreign;
                }
            }
            Form::Whole(whole) => whole.feed(piece, tally),
            Form::Opaque | Form::Foreign | Form::Undecided => {}
        }
    }

    /// Decides the form by the first byte that is no blank and no byte order mark: compatible servers are careless with `Content-Type`.
    /// Gives the piece from that byte on. Blanks and byte order marks may be cut at any place.
    fn decide<'p>(&mut self, piece: &'p [u8]) -> &'p [u8] {
        let says = |byte: &u8| !byte.is_ascii_whitespace() && !BYTE_ORDER_MARK.contains(byte);
        let piece = &piece[piece.iter().position(says).unwrap_or(piece.len())..];
        let events = || Form::Events(Box::new(sse::Splitter::new(HELD_EVENT)));
        self.form = match piece.first() {
            None => return piece,
            Some(b'[') if self.wire == Wire::Gemini => Form::Elements(whole::Elements::default()),
            Some(b'{' | b'[') => Form::Whole(Box::new(whole::Whole::new(self.wire))),
            Some(_) if self.events => events(),
            Some(_) if self.any_form => Form::Opaque,
            Some(b':' | b'd' | b'e' | b'i' | b'r') => events(),
            Some(_) => Form::Foreign,
        };
        piece
    }

    fn end(&mut self) {
        let (wire, tally, large) = (self.wire, &mut self.tally, &mut self.large);
        match &mut self.form {
            Form::Events(splitter) => {
                splitter.finish(|event| take(wire, tally, large, &event));
                if let Some(large) = large.take() {
                    take_large(wire, tally, *large);
                }
            }
            Form::Whole(whole) => whole.finish(tally),
            Form::Elements(_) | Form::Frames(_) | Form::Opaque | Form::Foreign | Form::Undecided => {}
        }
    }

    /// Whether the body is an answer; see [`Observed::answered`].
    fn answers(&self) -> bool {
        let tally = &self.tally;
        let says = match &self.form {
            Form::Opaque => self.wire == Wire::Unknown || self.bytes > 0,
            Form::Undecided | Form::Foreign => false,
            Form::Whole(whole) => whole.says_something(),
            Form::Events(_) | Form::Elements(_) | Form::Frames(_) => {
                tally.started || tally.terminal || tally.finish.is_some() || tally.figures.is_some() || tally.work.is_some()
            }
        };
        says && tally.error.is_none()
    }
}

fn take(wire: Wire, tally: &mut Tally, large: &mut Option<Box<LargeEvent>>, event: &sse::Event<'_>) {
    if !event.part.is_empty() {
        large.get_or_insert_default().feed(event.part);
    }
    if event.end == sse::End::Oversized
        && let Some(large) = large.take()
    {
        take_large(wire, tally, *large);
    }
    if let Some(data) = event.data {
        tally.tool_calls = tally.tool_calls || tools::asks(wire, data);
        stream::event(wire, tally, event.name, data, None);
    }
}

fn take_large(wire: Wire, tally: &mut Tally, large: LargeEvent) {
    let (name, data) = large.take();
    tally.flawed |= data.flawed;
    tally.tool_calls = tally.tool_calls || tools::asks(wire, &data.json) || data.dropped && tools::can_ask(wire);
    stream::event(wire, tally, &name, &data.json, Some(&data));
}

impl Tally {
    /// Counts a content event. With `large`, `text` is the kept part of a large event.
    fn content(&mut self, text: &[u8], large: Option<&condense::Condensed>) {
        self.started = true;
        self.content_events += 1;
        if let Some(kept) = &mut self.kept {
            kept.take(text, large.is_none());
        }
        match large {
            None => self.spoken.string(text),
            Some(large) => self.spoken.add(large.words),
        }
    }

    /// Lays later figures over those so far.
    fn figure(&mut self, later: Option<Figures>) {
        if let Some(later) = later {
            self.figures.get_or_insert_default().overlay(later);
        }
    }

    /// Notes an error. The first one counts.
    fn failed(&mut self, class: ErrorClass) {
        self.error.get_or_insert(class);
    }
}
