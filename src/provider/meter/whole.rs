//! Answers that are one JSON text, kept as far as their usage can be found: all of it up to a bound, or, for large ones, the
//! beginning and the end.

use memchr::memmem;

use super::{Tally, Wire, answer::Answer, counts, tools};
use crate::provider::{errors::classify_inside, facts};

/// Bytes kept of an answer whose text may hold `"usage"` anywhere.
const KEPT: usize = 8 * 1024 * 1024;
/// Bytes kept at either end where usage stands at the beginning or at the end (embeddings, images), and of what is too large.
const END: usize = 64 * 1024;

/// An answer under way.
#[derive(Debug)]
pub(super) struct Whole {
    wire: Wire,
    head: Vec<u8>,
    most: usize,
    /// The last bytes beyond the head; at least `END` of them once there are so many, at most twice that.
    tail: Vec<u8>,
    seen: u64,
    /// The beginning looks like an error, which is said as soon as it is complete.
    suspect: bool,
}

impl Whole {
    pub fn new(wire: Wire) -> Self {
        let most = match wire {
            Wire::Embeddings | Wire::Media | Wire::Bedrock => END,
            _ => KEPT,
        };
        Self { wire, head: Vec::new(), most, tail: Vec::new(), seen: 0, suspect: false }
    }

    pub fn feed(&mut self, piece: &[u8], tally: &mut Tally) {
        let first = self.seen == 0;
        self.seen += piece.len() as u64;
        let (head, rest) = piece.split_at(piece.len().min(self.most - self.head.len()));
        self.head.extend_from_slice(head);
        if !rest.is_empty() {
            self.tail.extend_from_slice(&rest[rest.len().saturating_sub(END)..]);
            if self.tail.len() > 2 * END {
                self.tail.drain(..self.tail.len() - END);
            }
        }
        if first {
            // `{"error"`, `{"type":"error"`, `[{"error"`, also indented.
            self.suspect = memmem::find(&self.head[..self.head.len().min(32)], b"\"error\"").is_some();
            tally.started |= !self.suspect;
        }
        if self.suspect && self.head.ends_with(b"}") && self.head.len() <= END {
            if is_error(&self.head) {
                tally.failed(classify_inside(&self.head));
                self.suspect = false;
            }
        } else if self.suspect && self.head.len() > END {
            self.suspect = false;
            tally.started = true;
        }
    }

    /// Reads what was kept. `complete`: the answer came to its end.
    pub fn finish(&self, tally: &mut Tally, complete: bool) {
        let wire = self.wire;
        tally.tool_calls = tools::asks(wire, &self.head) || tools::asks(wire, &self.tail);
        tally.flawed = self.seen > self.head.len() as u64 && self.most == KEPT;
        if let Some(answer) = Answer::read(&self.head) {
            tally.terminal = complete;
            tally.model = answer.model();
            tally.usage = answer.usage(wire);
            tally.finish = answer.finish(wire);
            if is_error(&self.head) {
                tally.failed(classify_inside(&self.head));
            } else if tally.usage.is_none() && matches!(wire, Wire::Chat | Wire::Responses | Wire::Anthropic | Wire::Gemini) {
                // Too high by the JSON around the text, which is the safe side of a limit.
                tally.estimated = facts::estimate(&self.head);
            }
        } else {
            tally.usage = last_usage(wire, &self.tail).or_else(|| last_usage(wire, &self.head));
            tally.model = model(&self.head).or_else(|| model(&self.tail));
            tally.terminal = complete && tally.usage.is_some();
            tally.estimated = if matches!(wire, Wire::Embeddings | Wire::Media | Wire::Bedrock) {
                0
            } else {
                self.seen.div_ceil(facts::ASCII_BYTES_PER_TOKEN)
            };
        }
        tally.settled = tally.usage.is_some();
    }
}

fn is_error(json: &[u8]) -> bool {
    Answer::read(json).is_some_and(|answer| answer.is_error())
}

/// The last usage object in a piece of JSON text.
fn last_usage(wire: Wire, text: &[u8]) -> Option<crate::usage::Usage> {
    let mut end = text.len();
    while let Some(at) = memmem::rfind(&text[..end], b"\"usage\"") {
        if let Some(value) = crate::provider::json::value_at(&text[at + 7..])
            && let Some(len) = object_len(value)
            && let Some(usage) = counts::read(wire, &value[..len])
        {
            return Some(usage);
        }
        end = at;
    }
    None
}

/// Bytes of the JSON object that `text` begins with.
fn object_len(text: &[u8]) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_slice(text.strip_prefix(b"{").map(|_| text)?).into_iter::<serde::de::IgnoredAny>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

fn model(text: &[u8]) -> Option<String> {
    let raw = crate::provider::json::string_after(text, &memmem::Finder::new("\"model\""))?;
    std::str::from_utf8(raw).ok().filter(|model| !model.contains('\\') && model.len() <= 256).map(str::to_owned)
}

/// Splits a JSON array that comes in pieces into its elements (Gemini's streams without `alt=sse`).
#[derive(Debug, Default)]
pub(super) struct Elements {
    held: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    dropped: bool,
}

impl Elements {
    /// Gives every object that ends in `piece` to `each`; one larger than `max` is dropped.
    pub fn feed(&mut self, piece: &[u8], max: usize, mut each: impl FnMut(&[u8])) {
        for &byte in piece {
            let inside = self.depth > 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            if inside || self.depth > 1 {
                self.dropped |= self.held.len() >= max;
                if !self.dropped {
                    self.held.push(byte);
                }
                if self.depth == 1 {
                    if !std::mem::take(&mut self.dropped) {
                        each(&self.held);
                    }
                    self.held.clear();
                }
            }
        }
    }
}
