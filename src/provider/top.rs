//! Reads a few top-level members of a JSON object while the object passes. Nothing but their values is held.
//!
//! A member deeper in the object, or inside a text, is not taken for a top-level one. If a key occurs twice the last one counts, as at the
//! providers. The text is not checked to be JSON: the provider does that.

use memchr::memchr2;

/// The members that are read.
const KEYS: [&str; 3] = ["type", "event_id", "model"];
const TYPE: usize = 0;
const EVENT_ID: usize = 1;
const MODEL: usize = 2;
/// Bytes of the longest text that is held. A longer value counts as absent; a longer key is none of [`KEYS`].
const LONGEST: usize = 512;

/// The reader of one object.
#[derive(Debug, Default)]
pub(super) struct Top {
    depth: u32,
    /// The object is no object, or has ended.
    over: bool,
    /// Whether a value comes next, not a key.
    at_value: bool,
    /// The key of the value that comes next, if it is known.
    key: Option<usize>,
    in_text: bool,
    escaped: bool,
    /// Whether the text under way is held.
    holds: bool,
    held: Vec<u8>,
    values: [Option<String>; KEYS.len()],
}

impl Top {
    /// Reads the next bytes of the object.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while at < bytes.len() && !self.over {
            if self.in_text {
                at = self.text(bytes, at);
            } else {
                self.sign(bytes[at]);
                at += 1;
            }
        }
    }

    /// The object has ended: the next bytes begin another one. The memory of long values is given back.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The member `type`; empty if there is none.
    pub fn kind(&self) -> &str {
        self.values[TYPE].as_deref().unwrap_or_default()
    }

    /// The member `event_id`.
    pub fn event_id(&self) -> Option<&str> {
        self.values[EVENT_ID].as_deref().filter(|id| !id.is_empty())
    }

    /// The member `model`.
    pub fn model(&self) -> Option<&str> {
        self.values[MODEL].as_deref().filter(|model| !model.is_empty())
    }

    /// Reads on in a text; gives the place behind the bytes that were read.
    fn text(&mut self, bytes: &[u8], at: usize) -> usize {
        if std::mem::take(&mut self.escaped) {
            self.hold(&bytes[at..=at]);
            return at + 1;
        }
        let Some(length) = memchr2(b'"', b'\\', &bytes[at..]) else {
            self.hold(&bytes[at..]);
            return bytes.len();
        };
        let end = at + length;
        self.hold(&bytes[at..end]);
        if bytes[end] == b'\\' {
            self.escaped = true;
            self.hold(b"\\");
        } else {
            self.in_text = false;
            self.text_ends();
        }
        end + 1
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.holds &= self.held.len() + bytes.len() <= LONGEST;
        if self.holds {
            self.held.extend_from_slice(bytes);
        }
    }

    fn text_ends(&mut self) {
        if self.depth != 1 {
            return;
        }
        let text = std::mem::take(&mut self.holds).then(|| plain(&self.held)).flatten();
        match (self.at_value, self.key.take()) {
            (false, _) => {
                self.key = text.and_then(|text| KEYS.iter().position(|key| *key == text));
                if let Some(key) = self.key {
                    // A value that is no text counts as absent.
                    self.values[key] = None;
                }
            }
            (true, Some(key)) => self.values[key] = text,
            (true, None) => {}
        }
    }

    /// Reads a byte outside of texts.
    fn sign(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_text = true;
                self.holds = self.depth == 1 && (!self.at_value || self.key.is_some());
                self.held.clear();
            }
            b'{' | b'[' => {
                self.over = self.depth == 0 && byte == b'[';
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.over = self.depth == 0;
            }
            b':' if self.depth == 1 => self.at_value = true,
            b',' if self.depth == 1 => (self.at_value, self.key) = (false, None),
            _ => {}
        }
    }
}

/// The text that stands between quotes.
fn plain(raw: &[u8]) -> Option<String> {
    if memchr::memchr(b'\\', raw).is_none() {
        return String::from_utf8(raw.to_vec()).ok();
    }
    serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &[u8], size: usize) -> Top {
        let mut top = Top::default();
        text.chunks(size).for_each(|piece| top.feed(piece));
        top
    }

    #[test]
    fn the_top_level_member_counts_wherever_it_stands() {
        let long = "x".repeat(LONGEST + 1);
        for (text, kind) in [
            (r#"{"type":"a"}"#.to_owned(), "a"),
            (r#"{"response":{"type":"b"},"type":"a"}"#.to_owned(), "a"),
            (r#"{"item":[{"type":"b"}],"n":1.5e3,"no":null, "type" : "a" , "x":{"type":"c"}}"#.to_owned(), "a"),
            (r#"{"say":"\"type\":\"b\"","type":"a"}"#.to_owned(), "a"),
            (r#"{"type":"b","type":"a"}"#.to_owned(), "a"),
            (r#"{"type":"b","type":7}"#.to_owned(), ""),
            (r#"{"type":["b"]}"#.to_owned(), ""),
            (r#"{"\u0074ype":"\u0061"}"#.to_owned(), "a"),
            (r#"["type","b"]"#.to_owned(), ""),
            (r#"{"key":"type","other":"b"}"#.to_owned(), ""),
            (format!(r#"{{"{long}":"b","say":"{long}","type":"a"}}"#), "a"),
            (format!(r#"{{"type":"{long}"}}"#), ""),
            (r#"{"type":"a"}{"type":"b"}"#.to_owned(), "a"),
            (r#"{"type":"a"#.to_owned(), ""),
        ] {
            for size in [1, 3, text.len()] {
                assert_eq!(read(text.as_bytes(), size).kind(), kind, "{text}");
            }
        }
        let top = read(br#"{"event_id":"e","response":{"event_id":"f","model":"n"},"model":"m"}"#, 5);
        assert_eq!((top.event_id(), top.model(), top.kind()), (Some("e"), Some("m"), ""));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop_oneof![Just("type".to_owned()), "[a-c\"\\\\{}:,\\[ ]{0,6}"].prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let key = prop_oneof![Just("type".to_owned()), Just("model".to_owned()), "[a-c\"\\\\:]{0,3}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_a_parser_reads(value in value(), size in 1usize..20) {
            let said = |key: &str| value.as_object().and_then(|object| object.get(key)).and_then(Value::as_str).unwrap_or_default();
            let top = read(value.to_string().as_bytes(), size);
            prop_assert_eq!((top.kind(), top.model().unwrap_or_default()), (said("type"), said("model")));
        }

        #[test]
        fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..20) {
            read(&text, size);
        }
    }
}
