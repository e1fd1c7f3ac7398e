//! Answers that are one JSON text. They are condensed while they pass: usage is found at any place in an answer of any size.
//! [`Elements`] splits a list that comes in pieces.

use memchr::memmem;

use super::{Tally, Wire, answer::Answer, condense::Condenser, large::Gathered, tools};
use crate::provider::errors::classify_inside;

/// Bytes at the beginning that are read to tell an error from an answer.
const START: usize = 32;

/// An answer under way.
#[derive(Debug)]
pub(super) struct Whole {
    wire: Wire,
    condenser: Condenser,
    start: Vec<u8>,
    looks: Looks,
}

/// The appearance of a beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    Unknown,
    /// An error, which is reported as soon as it is complete.
    Error,
    Answer,
}

impl Whole {
    pub fn new(wire: Wire) -> Self {
        Self { wire, condenser: Condenser::default(), start: Vec::new(), looks: Looks::Unknown }
    }

    /// Whether all of the JSON has come.
    pub fn is_complete(&self) -> bool {
        self.condenser.is_complete()
    }

    /// Whether the text is complete JSON that is not empty.
    pub fn says_something(&self) -> bool {
        self.condenser.is_complete() && !matches!(&self.condenser.condensed().json[..], b"{}" | b"[]" | b"[{}]" | b"null" | b"\"\"")
    }

    pub fn feed(&mut self, piece: &[u8], tally: &mut Tally) {
        self.condenser.feed(piece);
        if self.looks == Looks::Unknown {
            let room = START - self.start.len();
            self.start.extend_from_slice(&piece[..piece.len().min(room)]);
            self.looks = looks(&self.start);
            tally.started |= self.looks == Looks::Answer;
        }
        if self.looks == Looks::Error && self.condenser.is_complete() {
            let json = self.condenser.condensed().json;
            match Answer::read(&json).is_some_and(|answer| answer.is_error()) {
                true => tally.failed(classify_inside(&json)),
                false => tally.started = true,
            }
            self.looks = Looks::Answer;
        }
    }

    /// Reads the kept text.
    pub fn finish(&self, tally: &mut Tally) {
        let condensed = self.condenser.condensed();
        let json = &condensed.json[..];
        tally.tool_calls = tools::asks(self.wire, json) || condensed.dropped && tools::can_ask(self.wire);
        tally.flawed = condensed.flawed;
        tally.terminal = self.condenser.is_complete();
        tally.estimated = condensed.words.tokens();
        let Some(answer) = Answer::read(json) else { return };
        tally.model = answer.model();
        tally.figure(answer.figures_of(self.wire, json));
        tally.beside.read(self.wire, &answer);
        tally.finish = answer.finish(self.wire);
        tally.work = answer.background();
        if answer.is_error() {
            tally.failed(classify_inside(json));
        }
        // The figures of a cut answer may be cut too.
        tally.settled = (tally.figures.is_some() || tally.beside.units.audio_millis > 0) && tally.terminal;
    }
}

/// Judges a beginning. `{"error"`, `{"type":"error"` and `[{"error"`, also indented, begin an error.
fn looks(start: &[u8]) -> Looks {
    if memmem::find(start, b"\"error\"").is_some() {
        return Looks::Error;
    }
    // The first key decides, unless it is `type` or `object`: those name the kind of the rest.
    let first_key = start.split(|byte| *byte == b'"').nth(1).filter(|_| memchr::memchr_iter(b'"', start).count() > 1);
    match first_key {
        Some(key) if !matches!(key, b"type" | b"object") => Looks::Answer,
        _ if start.len() == START => Looks::Answer,
        _ => Looks::Unknown,
    }
}

/// Splits a JSON array that comes in pieces into its elements (Gemini's streams without `alt=sse`).
#[derive(Debug, Default)]
pub(super) struct Elements {
    gathered: Gathered,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Elements {
    /// Gives every object that ends in `piece` to `each`.
    pub fn feed(&mut self, piece: &[u8], mut each: impl FnMut(&[u8], Option<&super::condense::Condensed>)) {
        // The start of the element's bytes in this piece.
        let mut start = (self.depth > 1).then_some(0);
        let mut at = 0;
        while at < piece.len() {
            if self.in_string {
                if std::mem::take(&mut self.escaped) {
                    at += 1;
                    continue;
                }
                let Some(found) = memchr::memchr2(b'"', b'\\', &piece[at..]) else { break };
                at += found;
                match piece[at] {
                    b'"' => self.in_string = false,
                    _ => self.escaped = true,
                }
                at += 1;
                continue;
            }
            match piece[at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth == 2 {
                        start = Some(at);
                    }
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 1
                        && let Some(start) = start.take()
                    {
                        self.gathered.feed(&piece[start..=at]);
                        self.gathered.give(&mut each);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        if let Some(start) = start {
            self.gathered.feed(&piece[start..]);
        }
    }
}
