//! Puts the values back in the place of their placeholders: in a whole body, and in texts that come in pieces.
//!
//! A document waits in `Joined` for as long as the end of one of its texts may be the beginning of a placeholder; then it goes on with its
//! changes. A placeholder in pieces gives its value to the first of them and nothing to the others. What turns out to be no placeholder
//! passes as it came.

use std::{collections::VecDeque, ops::Range};

use super::{
    json::{JsonSpot, Leaf, Plain, escape, is_valid, splice, walk_events},
    vault::Vault,
};

/// Members whose strings are JSON by themselves: arguments of tools.
const DOCUMENTS: [&str; 2] = ["arguments", "partial_json"];

/// A change of a document.
type Edit = (Range<usize>, String);

/// A JSON text that waits, or is about to go on.
struct Waiting {
    text: String,
    edits: Vec<Edit>,
}

/// A placeholder that has begun and not ended.
struct Begun {
    channel: u64,
    /// What of it has come.
    text: String,
    /// Its pieces: the number of the document, and the bytes in it.
    pieces: Vec<(u64, Range<usize>)>,
}

/// Documents that may continue each other's texts, in their order.
#[derive(Default)]
pub(super) struct Joined {
    waiting: VecDeque<Waiting>,
    /// The number of the first document that waits.
    first: u64,
    begun: Vec<Begun>,
    /// How many placeholders were replaced.
    pub(super) restored: u64,
}

/// A text of a document: a string, and whether the next document may continue it.
struct Piece<'a> {
    document: u64,
    start: usize,
    plain: Plain<'a>,
    channel: u64,
    continues: bool,
    is_json: bool,
}

impl Joined {
    /// Takes a document that is valid JSON.
    pub(super) fn take(&mut self, vault: &Vault, text: String) {
        let document = self.first + self.waiting.len() as u64;
        let mut edits = Vec::new();
        let mut ends = Vec::new();
        walk_events(&text, &mut |spot| {
            if is_end(spot, &text) {
                ends.push(spot.channel);
            }
            let raw = &text[spot.raw.clone()];
            let continues = spot.leaf == Leaf::Text && continues(spot.keys);
            if spot.leaf == Leaf::Number || !(may_hold(raw) || continues && !self.begun.is_empty()) {
                return;
            }
            let is_json = vault.answers_json || spot.leaf == Leaf::Text && holds_json(spot.keys, &text);
            let piece = Piece { document, start: spot.raw.start, plain: Plain::of(raw), channel: spot.channel, continues, is_json };
            self.piece(vault, &piece, &mut edits);
        });
        self.waiting.push_back(Waiting { text, edits });
        if !ends.is_empty() {
            self.begun.clear();
        }
    }

    /// Takes something that is no JSON: it only keeps its place.
    pub(super) fn pass(&mut self) {
        self.waiting.push_back(Waiting { text: String::new(), edits: Vec::new() });
    }

    /// Finds the placeholders of a text, with what has begun before it.
    fn piece(&mut self, vault: &Vault, piece: &Piece<'_>, edits: &mut Vec<Edit>) {
        let text = &*piece.plain.text;
        let mut from = 0;
        let begun = self.begun.iter().position(|begun| piece.continues && begun.channel == piece.channel);
        if let Some(at) = begun.filter(|_| !text.is_empty()) {
            let mut begun = self.begun.swap_remove(at);
            let before = begun.text.len();
            begun.text.push_str(text);
            match vault.find(&begun.text).filter(|(start, _)| *start == 0) {
                Some((_, number)) => {
                    let (placeholder, value) = vault.entry(number);
                    from = placeholder.len() - before;
                    self.replace(begun.pieces, encoded(value, piece.is_json), edits, piece);
                    edits.push((piece.at(&(0..from)), String::new()));
                    self.restored += 1;
                }
                None if vault.cut(&begun.text) == Some(0) => {
                    begun.pieces.push((piece.document, piece.at(&(0..text.len()))));
                    self.begun.push(begun);
                    return;
                }
                None => {}
            }
        }
        while let Some((start, number)) = vault.find(&text[from..]) {
            let (placeholder, value) = vault.entry(number);
            let range = from + start..from + start + placeholder.len();
            from = range.end;
            edits.push((piece.at(&range), encoded(value, piece.is_json)));
            self.restored += 1;
        }
        if let Some(cut) = vault.cut(&text[from..]).filter(|_| piece.continues) {
            let range = from + cut..text.len();
            let begun =
                Begun { channel: piece.channel, text: text[range.clone()].to_owned(), pieces: vec![(piece.document, piece.at(&range))] };
            self.begun.push(begun);
        }
    }

    /// Gives `value` to the first of the pieces and nothing to the others. The document under way has its `edits` apart.
    fn replace(&mut self, pieces: Vec<(u64, Range<usize>)>, value: String, edits: &mut Vec<Edit>, now: &Piece<'_>) {
        let mut value = Some(value);
        for (document, range) in pieces {
            let new = value.take().unwrap_or_default();
            match document == now.document {
                true => edits.push((range, new)),
                false => {
                    if let Some(waiting) = self.waiting.get_mut((document - self.first) as usize) {
                        waiting.edits.push((range, new));
                    }
                }
            }
        }
    }

    /// Takes out the next document that no placeholder holds back, with its changes; `all`: whatever holds it back.
    pub(super) fn next(&mut self, all: bool) -> Option<Restored> {
        if all {
            self.begun.clear();
        }
        let held = self.begun.iter().flat_map(|begun| begun.pieces.first()).map(|(document, _)| *document).min();
        if held.is_some_and(|held| held <= self.first) {
            return None;
        }
        let mut next = self.waiting.pop_front()?;
        self.first += 1;
        Some(if next.edits.is_empty() { Restored::AsItCame } else { Restored::Changed(splice(&next.text, &mut next.edits)) })
    }
}

/// A document that goes on.
pub(super) enum Restored {
    /// Nothing was replaced.
    AsItCame,
    /// The text with its values.
    Changed(String),
}

impl Piece<'_> {
    fn at(&self, part: &Range<usize>) -> Range<usize> {
        let raw = self.plain.raw(part);
        self.start + raw.start..self.start + raw.end
    }
}

/// Whether a string may hold a placeholder, also one whose bracket is escaped.
fn may_hold(raw: &str) -> bool {
    memchr::memchr2(b'[', b'\\', raw.as_bytes()).is_some()
}

/// Whether the next event may continue a string: the pieces of the providers' streams.
fn continues(keys: &[&str]) -> bool {
    match keys {
        ["choices", "text"] => true,
        [.., "parts", "text"] => true,
        [first @ .., last] => *last == "delta" || first.contains(&"delta"),
        [] => false,
    }
}

/// Whether a leaf tells that texts have ended. What has begun and not ended is then no placeholder.
fn is_end(spot: &JsonSpot<'_>, text: &str) -> bool {
    let value = &text[spot.raw.clone()];
    spot.leaf == Leaf::Text
        && match spot.keys {
            ["type"] => {
                value.ends_with(".done") || value.ends_with(".completed") || value == "content_block_stop" || value == "message_stop"
            }
            ["choices", "finish_reason"] | ["candidates", "finishReason"] => true,
            _ => false,
        }
}

fn holds_json(keys: &[&str], text: &str) -> bool {
    match keys {
        [.., last] if DOCUMENTS.contains(last) => true,
        ["delta"] => text.contains("function_call_arguments") || text.contains("mcp_call_arguments"),
        [.., "toolUse", "input"] => true,
        _ => false,
    }
}

/// A value as it stands in a string. A string that is JSON has strings of its own.
fn encoded(value: &str, is_json: bool) -> String {
    match is_json {
        true => escape(&escape(value)).into_owned(),
        false => escape(value).into_owned(),
    }
}

/// A whole body with its values; `None`: nothing is replaced. A body that is no JSON is a text. `restored` counts the replaced.
pub fn whole(vault: &Vault, body: &[u8], restored: &mut u64) -> Option<String> {
    if vault.is_empty() || memchr::memchr(b'[', body).is_none() && memchr::memmem::find(body, b"\\u005").is_none() {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    if !is_valid(text) {
        return plain(vault, text, restored);
    }
    let mut joined = Joined::default();
    joined.take(vault, text.to_owned());
    *restored += joined.restored;
    match joined.next(true) {
        Some(Restored::Changed(text)) => Some(text),
        _ => None,
    }
}

fn plain(vault: &Vault, text: &str, restored: &mut u64) -> Option<String> {
    let (mut edits, mut from) = (Vec::new(), 0);
    while let Some((start, number)) = vault.find(&text[from..]) {
        let (placeholder, value) = vault.entry(number);
        let range = from + start..from + start + placeholder.len();
        from = range.end;
        edits.push((range, value.to_owned()));
    }
    *restored += edits.len() as u64;
    (!edits.is_empty()).then(|| splice(text, &mut edits))
}
