//! Events of a stream and elements of a list that are too large to be held. They are condensed as they pass.

use super::condense::{Condensed, Condenser};

/// Bytes of the largest JSON text that is held as it is.
const HELD: usize = 64 * 1024;
/// Bytes that are kept of a field's name and of an event's name.
const NAME: usize = 128;

/// A large event: its name and its condensed data are kept. Lines are those of [`sse`](crate::provider::sse).
#[derive(Debug, Default)]
pub(super) struct LargeEvent {
    name: Vec<u8>,
    field: Vec<u8>,
    line: Line,
    data_lines: u32,
    condenser: Condenser,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Field,
    /// After the colon: one space does not belong to the value.
    Space(Value),
    Value(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Data,
    Name,
    Other,
}

impl LargeEvent {
    /// Takes the next part.
    pub fn feed(&mut self, part: &[u8]) {
        let mut rest = part;
        while let Some(&byte) = rest.first() {
            match self.line {
                Line::Field => {
                    match byte {
                        b'\r' | b'\n' => self.field.clear(),
                        b':' => {
                            self.line = Line::Space(self.value());
                            self.field.clear();
                        }
                        _ if self.field.len() < NAME => self.field.push(byte),
                        _ => {}
                    }
                    rest = &rest[1..];
                }
                Line::Space(value) => {
                    self.line = Line::Value(value);
                    rest = if byte == b' ' { &rest[1..] } else { rest };
                }
                Line::Value(value) => {
                    let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    match value {
                        Value::Data => self.condenser.feed(&rest[..end]),
                        Value::Name => self.name.extend_from_slice(&rest[..end.min(NAME.saturating_sub(self.name.len()))]),
                        Value::Other => {}
                    }
                    if end < rest.len() {
                        self.line = Line::Field;
                    }
                    rest = &rest[end..];
                }
            }
        }
    }

    /// The kind of the line's field, whose value begins.
    fn value(&mut self) -> Value {
        let field = self.field.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.field);
        if field == b"data" {
            if self.data_lines > 0 {
                self.condenser.feed(b"\n");
            }
            self.data_lines += 1;
            Value::Data
        } else if field == b"event" {
            self.name.clear();
            Value::Name
        } else {
            Value::Other
        }
    }

    /// The event's name, and its data.
    pub fn take(self) -> (Vec<u8>, Condensed) {
        (self.name, self.condenser.condensed())
    }
}

/// A JSON text. A small text is held as it is, a larger one is condensed.
#[derive(Debug)]
pub(super) enum Gathered {
    Small(Vec<u8>),
    Large(Box<Condenser>),
}

impl Default for Gathered {
    fn default() -> Self {
        Self::Small(Vec::new())
    }
}

impl Gathered {
    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        match self {
            Self::Small(held) if held.len() + piece.len() <= HELD => held.extend_from_slice(piece),
            Self::Small(held) => {
                let mut condenser = Box::<Condenser>::default();
                condenser.feed(held);
                condenser.feed(piece);
                *self = Self::Large(condenser);
            }
            Self::Large(condenser) => condenser.feed(piece),
        }
    }

    /// Gives the text to `each`, then begins the next text.
    pub fn give(&mut self, each: impl FnOnce(&[u8], Option<&Condensed>)) {
        match self {
            Self::Small(held) => {
                each(held, None);
                held.clear();
            }
            Self::Large(condenser) => {
                let condensed = condenser.condensed();
                each(&condensed.json, Some(&condensed));
                *self = Self::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_however_it_is_cut() {
        let image = "A".repeat(100_000);
        for end in ["\n", "\r\n", "\r"] {
            let event = format!(
                "\u{feff}: ping{end}id: 7{end}event: done{end}data:{{\"image\":\"{image}\",{end}data: \"usage\":{{\"n\":1}}}}{end}{end}"
            );
            for size in [1, 2, 7, 1_000, event.len()] {
                let mut large = LargeEvent::default();
                event.as_bytes().chunks(size).for_each(|part| large.feed(part));
                let (name, condensed) = large.take();
                assert_eq!(name, b"done", "{size}");
                let json: serde_json::Value = serde_json::from_slice(&condensed.json).expect("JSON");
                assert_eq!((&json["usage"]["n"], json["image"].as_str().map(str::len)), (&1.into(), Some(2_048)), "{size}");
                assert_eq!(condensed.words.tokens(), 1_000);
            }
        }
    }

    #[test]
    fn small_texts_are_as_they_were_and_large_ones_condensed() {
        let mut gathered = Gathered::default();
        for (text, large) in
            [("{\"a\":1}".to_owned(), false), (format!("{{\"a\":\"{}\"}}", "x ".repeat(HELD)), true), ("[]".to_owned(), false)]
        {
            text.as_bytes().chunks(999).for_each(|piece| gathered.feed(piece));
            gathered.give(|json, condensed| {
                assert_eq!((condensed.is_some(), json == text.as_bytes()), (large, !large));
                assert!(serde_json::from_slice::<serde_json::Value>(json).is_ok());
            });
        }
    }
}
