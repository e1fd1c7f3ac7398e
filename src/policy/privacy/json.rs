//! The strings of a JSON text by their places, so that a change is a splice and every other byte stays as it came.
//!
//! The walk expects valid JSON: [`is_valid`] asks serde_json first. On anything else it ends early and never panics.

use std::{borrow::Cow, ops::Range};

use serde::de::IgnoredAny;

/// Whether `text` is one JSON value. serde_json bounds its depth to 128.
pub(super) fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether a string holds a JSON object or array, as the arguments of a tool call do.
pub(super) fn is_document(text: &str) -> bool {
    matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'[')) && is_valid(text)
}

/// What stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// The name of a member.
    Key,
    /// A string.
    Text,
    /// A number.
    Number,
}

/// A place in a JSON text.
pub(super) struct JsonSpot<'a> {
    pub(super) leaf: Leaf,
    /// The bytes: without its quotes, for a key and a text.
    pub(super) raw: Range<usize>,
    /// The names of the members that lead to it; lists have no name.
    pub(super) keys: &'a [&'a str],
    /// Equal for the pieces of one text in the events of a stream; see [`walk_events`].
    pub(super) channel: u64,
}

/// Walks over a JSON text and shows every key, string and number to `visit`, in their order.
pub(super) fn walk<'t>(text: &'t str, visit: &mut dyn FnMut(&JsonSpot<'_>)) {
    Walker { text, keys: Vec::new(), channel: 0, channels: false, visit }.value(0, true);
}

/// As [`walk`], with the channels of the events of a stream.
pub(super) fn walk_events<'t>(text: &'t str, visit: &mut dyn FnMut(&JsonSpot<'_>)) {
    Walker { text, keys: Vec::new(), channel: 0, channels: true, visit }.value(0, true);
}

struct Walker<'t, 'v> {
    text: &'t str,
    keys: Vec<&'t str>,
    channel: u64,
    /// Whether channels are told: it costs a look ahead into each object.
    channels: bool,
    visit: &'v mut dyn FnMut(&JsonSpot<'_>),
}

/// Members that tell the pieces of a stream's texts apart.
const NUMBERS: [&str; 6] = ["index", "output_index", "content_index", "summary_index", "contentBlockIndex", "item_id"];

impl<'t> Walker<'t, '_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn blanks(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        at
    }

    fn show(&mut self, leaf: Leaf, raw: Range<usize>) {
        (self.visit)(&JsonSpot { leaf, raw, keys: &self.keys, channel: self.channel });
    }

    /// Walks over the value at `at`; returns where it ends. `first`: it is the whole text.
    fn value(&mut self, at: usize, first: bool) -> usize {
        let at = self.blanks(at);
        match self.byte(at) {
            Some(b'"') => {
                let raw = string(self.text, at);
                let end = raw.end + 1;
                self.show(Leaf::Text, raw);
                end
            }
            Some(b'{') => self.object(at),
            Some(b'[') => self.array(at, first),
            Some(b'-' | b'0'..=b'9') => {
                let end = plain(self.text, at);
                self.show(Leaf::Number, at..end);
                end
            }
            Some(_) => plain(self.text, at).max(at + 1),
            None => self.text.len(),
        }
    }

    fn object(&mut self, start: usize) -> usize {
        let before = self.channel;
        if let Some(numbers) = self.channels.then(|| numbers(self.text, start)).flatten() {
            self.channel = mix(self.channel, numbers);
        }
        let own = self.channel;
        let mut at = self.blanks(start + 1);
        while self.byte(at) == Some(b'"') {
            let raw = string(self.text, at);
            let key = &self.text[raw.clone()];
            at = self.blanks(raw.end + 1) + 1;
            self.show(Leaf::Key, raw);
            self.keys.push(key);
            self.channel = mix(own, hash(key));
            at = self.value(at, false);
            self.keys.pop();
            self.channel = own;
            at = self.blanks(at);
            if self.byte(at) == Some(b',') {
                at = self.blanks(at + 1);
            }
        }
        self.channel = before;
        (at + 1).min(self.text.len())
    }

    /// The items of the whole text are the events of a stream: they do not tell texts apart.
    fn array(&mut self, start: usize, first: bool) -> usize {
        let own = self.channel;
        let mut at = self.blanks(start + 1);
        let mut item: u64 = 0;
        while let Some(byte) = self.byte(at).filter(|byte| *byte != b']') {
            let numbered = self.channels && byte == b'{' && numbers(self.text, at).is_some();
            if !first && !numbered {
                self.channel = mix(own, item);
            }
            at = self.value(at, false);
            self.channel = own;
            item += 1;
            at = self.blanks(at);
            if self.byte(at) == Some(b',') {
                at = self.blanks(at + 1);
            }
        }
        (at + 1).min(self.text.len())
    }
}

/// The numbers by which an object tells its place in a stream.
fn numbers(text: &str, start: usize) -> Option<u64> {
    let bytes = text.as_bytes();
    let blanks = |mut at: usize| {
        while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        at
    };
    let mut found = None;
    let mut at = blanks(start + 1);
    while bytes.get(at) == Some(&b'"') {
        let raw = string(text, at);
        let value = blanks(blanks(raw.end + 1) + 1);
        let end = skip(text, value);
        if NUMBERS.contains(&&text[raw.clone()]) {
            let own = mix(hash(&text[raw]), hash(&text[value.min(end)..end]));
            found = Some(found.unwrap_or(0) ^ own);
        }
        at = blanks(end);
        if bytes.get(at) == Some(&b',') {
            at = blanks(at + 1);
        }
    }
    found
}

/// The end of the value at `at`, not looked into.
fn skip(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'"') => (string(text, at).end + 1).min(text.len()),
        Some(b'{' | b'[') => {
            let (mut depth, mut at) = (0_usize, at);
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => at = string(text, at).end,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return at.min(text.len());
                }
            }
            text.len()
        }
        Some(_) => plain(text, at).max(at + 1),
        None => text.len(),
    }
}

/// The end of a number or a literal.
fn plain(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    at + rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len())
}

/// The bytes of the string whose quote is at `at`, without its quotes.
fn string(text: &str, at: usize) -> Range<usize> {
    let bytes = text.as_bytes();
    let start = at + 1;
    let mut at = start;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if bytes[at] == b'"' {
            return start..at;
        }
        at += 2;
    }
    start.min(text.len())..text.len()
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn mix(a: u64, b: u64) -> u64 {
    (a.rotate_left(5) ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (b >> 7)
}

/// A string without its escapes, with the way back to its bytes.
pub(super) struct Plain<'a> {
    pub(super) text: Cow<'a, str>,
    /// For each byte of the text and its end: the byte of the string. `None`: the string has no escapes.
    places: Option<Vec<u32>>,
}

impl<'a> Plain<'a> {
    /// The text of a string. A half of a surrogate pair that stands alone is one unknown character.
    pub(super) fn of(raw: &'a str) -> Self {
        if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
            return Self { text: raw.into(), places: None };
        }
        let (mut text, mut places) = (String::with_capacity(raw.len()), Vec::with_capacity(raw.len() + 1));
        let mut at = 0;
        while let Some(c) = raw[at..].chars().next() {
            let (c, len) = if c == '\\' { escaped(&raw[at..]) } else { (c, c.len_utf8()) };
            text.push(c);
            places.resize(text.len(), at as u32);
            at += len;
        }
        places.push(at as u32);
        Self { text: text.into(), places: Some(places) }
    }

    /// The bytes of the string that a part of the text comes from.
    pub(super) fn raw(&self, part: &Range<usize>) -> Range<usize> {
        match &self.places {
            None => part.clone(),
            Some(places) => places[part.start] as usize..places[part.end] as usize,
        }
    }
}

/// The character of the escape that `raw` begins with, and its length.
fn escaped(raw: &str) -> (char, usize) {
    let hex =
        |at: usize| raw.get(at..at + 6).filter(|part| part.starts_with("\\u")).and_then(|part| u32::from_str_radix(&part[2..], 16).ok());
    let simple = match raw.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => {
            let (Some(first), second) = (hex(0), hex(6)) else { return (char::REPLACEMENT_CHARACTER, 2) };
            return match (first, second) {
                (0xd800..0xdc00, Some(low @ 0xdc00..0xe000)) => {
                    let code = 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                _ => (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
            };
        }
        Some(byte) if byte.is_ascii() => char::from(*byte),
        _ => return (char::REPLACEMENT_CHARACTER, 1),
    };
    (simple, 2)
}

/// A text as it stands between the quotes of a string.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        return text.into();
    }
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned().into()
}

/// `text` with each of `edits` in the place of its bytes. The edits may come in any order; they do not overlap.
pub(super) fn splice(text: &str, edits: &mut [(Range<usize>, String)]) -> String {
    edits.sort_unstable_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(&text[at..range.start]);
        out.push_str(new);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spots(text: &str) -> Vec<(Leaf, String, String)> {
        let mut found = Vec::new();
        walk(text, &mut |spot| found.push((spot.leaf, spot.keys.join("."), text[spot.raw.clone()].to_owned())));
        found
    }

    fn channels(text: &str, wanted: &str) -> Vec<u64> {
        let mut found = Vec::new();
        walk_events(text, &mut |spot| {
            if spot.leaf == Leaf::Text && spot.keys.last() == Some(&wanted) {
                found.push(spot.channel);
            }
        });
        found
    }

    #[test]
    fn every_leaf_is_shown_with_its_way() {
        let found = spots(r#" { "a" : [ {"b":"x\"y"}, 12 , true ] , "c":{}, "d":[] ,"e":"z"} "#);
        let expected = [
            (Leaf::Key, "", "a"),
            (Leaf::Key, "a", "b"),
            (Leaf::Text, "a.b", r#"x\"y"#),
            (Leaf::Number, "a", "12"),
            (Leaf::Key, "", "c"),
            (Leaf::Key, "", "d"),
            (Leaf::Key, "", "e"),
            (Leaf::Text, "e", "z"),
        ];
        assert_eq!(found, expected.map(|(leaf, keys, raw)| (leaf, keys.to_owned(), raw.to_owned())));
    }

    #[test]
    fn texts_of_a_stream_are_told_apart_by_their_numbers() {
        let one = channels(r#"{"choices":[{"index":0,"delta":{"content":"a"}},{"delta":{"content":"b"},"index":1}]}"#, "content");
        let other = channels(r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#, "content");
        assert!(one[0] != one[1] && one[1] == other[0]);
        let items = channels(r#"[{"parts":[{"text":"a"},{"text":"b"}]},{"parts":[{"text":"c"}]}]"#, "text");
        assert!(items[0] != items[1] && items[0] == items[2]);
    }

    #[test]
    fn escapes_lead_back_to_their_bytes() {
        let raw = r"a\n\u00e9\ud83d\ude00b\ud800c\\";
        let plain = Plain::of(raw);
        assert_eq!(plain.text, "a\né😀b\u{fffd}c\\");
        let at = plain.text.find('b').expect("there");
        assert_eq!(&raw[plain.raw(&(at..at + 1))], "b");
        assert_eq!(plain.raw(&(0..plain.text.len())), 0..raw.len());
        assert_eq!(escape("a\"b\\\n"), r#"a\"b\\\n"#);
    }

    proptest! {
        #[test]
        fn any_text_is_walked_without_a_panic(text in "[\\[\\]{}\",:a-c\\\\0-9é u-]{0,60}") {
            let mut last = 0;
            walk_events(&text, &mut |spot| {
                assert!(spot.raw.start >= last && spot.raw.end <= text.len());
                last = spot.raw.start;
                let _ = Plain::of(&text[spot.raw.clone()]).text.len();
            });
        }
    }
}
