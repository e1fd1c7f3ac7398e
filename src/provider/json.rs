//! JSON reading beside serde: the places of an object's top-level members in the bytes, and lenient numbers and texts. Providers
//! and clients add, omit and nullify fields without notice.

use std::{fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A top-level member of an object: its key, and the range of its value in the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member<K> {
    pub key: K,
    pub value: Range<usize>,
}

/// The top-level members whose key `K` knows, in the order of the text, duplicates included. Values are not looked into.
/// `None`: the text is not one valid JSON object.
pub(super) fn members<'a, K: Deserialize<'a>>(text: &'a [u8]) -> Option<Vec<Member<K>>> {
    struct Members<'a, K>(&'a [u8], std::marker::PhantomData<K>);

    impl<'a, K: Deserialize<'a>> Visitor<'a> for Members<'a, K> {
        type Value = Vec<Member<K>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = Vec::new();
            while let Some(Known(key)) = map.next_key::<Known<K>>()? {
                let Some(key) = key else {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                };
                let raw = map.next_value::<&'a RawValue>()?.get();
                // The raw value borrows from the text: its address gives its place.
                let start = (raw.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
                found.push(Member { key, value: start..start + raw.len() });
            }
            Ok(found)
        }
    }

    let mut reader = serde_json::Deserializer::from_slice(text);
    let found = reader.deserialize_map(Members(text, std::marker::PhantomData)).ok()?;
    reader.end().ok()?;
    Some(found)
}

/// A key that `K` knows, or `None` for any other.
struct Known<K>(Option<K>);

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Known<K> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Key<K>(std::marker::PhantomData<K>);

        impl<'de, K: Deserialize<'de>> Visitor<'de> for Key<K> {
            type Value = Option<K>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
                Ok(K::deserialize(serde::de::value::StrDeserializer::<Silent>::new(key)).ok())
            }
        }

        reader.deserialize_str(Key(std::marker::PhantomData)).map(Self)
    }
}

/// An error without words: nobody reads why a key is not known, and words cost more than the rest of the reading.
#[derive(Debug, thiserror::Error)]
#[error("not known")]
struct Silent;

impl serde::de::Error for Silent {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A value as `T`; `None` if it has another shape. Never an error.
pub(super) fn lenient<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Option<T> {
    serde_json::from_slice(raw).ok()
}

/// A count from an integer or a whole float; `None` from any other value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count(pub Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Lax;

        impl<'de> Visitor<'de> for Lax {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_u64<E>(self, n: u64) -> Result<Count, E> {
                Ok(Count(Some(n)))
            }

            fn visit_i64<E>(self, n: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(n).ok()))
            }

            fn visit_f64<E>(self, n: f64) -> Result<Count, E> {
                // A float above 2^53 is no count any more, and the cast would saturate.
                Ok(Count((n.is_finite() && (0.0..=9e15).contains(&n)).then_some(n as u64)))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Count, E> {
                Ok(Count(text.parse().ok()))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
        }

        reader.deserialize_any(Lax)
    }
}

/// A value of the shape `T`, or `None` for any other: one odd value must not hide its neighbours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Perhaps<T>(pub Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Perhaps<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(reader)?.get();
        Ok(Self(serde_json::from_str(raw).ok()))
    }
}

/// A text, a number or a boolean as text; an array, an object or `null` as none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text(pub Option<String>);

impl Text {
    /// The text; empty if there is none.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(reader)?.get();
        Ok(Self(match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).ok(),
            Some(b'[' | b'{' | b'n') | None => None,
            Some(_) => Some(raw.to_owned()),
        }))
    }
}

/// The bytes between the quotes of the string that follows the first `"key":` in `text`; escapes stay as they are.
/// `key` includes its quotes. This is a scan, not a parser: use it if a wrong result only makes an estimate coarser.
pub(super) fn string_after<'a>(text: &'a [u8], key: &memchr::memmem::Finder<'_>) -> Option<&'a [u8]> {
    let mut at = 0;
    while let Some(found) = key.find(&text[at..]) {
        at += found + key.needle().len();
        if let Some(value) = value_at(&text[at..])
            && value.first() == Some(&b'"')
        {
            return Some(until_quote(&value[1..]));
        }
    }
    None
}

/// The text after a key, from the value's first byte on; `None` if no colon follows.
pub(super) fn value_at(text: &[u8]) -> Option<&[u8]> {
    text.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

/// The text up to the first quote that is not escaped, or all of it.
fn until_quote(text: &[u8]) -> &[u8] {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            return &text[..at];
        }
        at = (at + 2).min(text.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Eq)]
    #[serde(field_identifier, rename_all = "snake_case")]
    enum Key {
        Model,
    }

    #[test]
    fn members_tells_where_values_lie() {
        let text = br#" { "a" : {"model":"no"}, "mod\u0065l" : "x" ,"model":[1]} "#;
        let found = members::<Key>(text).expect("an object");
        let values: Vec<_> = found.iter().map(|m| &text[m.value.clone()]).collect();
        assert_eq!(values, [&br#""x""#[..], b"[1]"]);
        for broken in [&b"[]"[..], b"{", b"{} x", b"{\"a\":1,}", b""] {
            assert_eq!(members::<Key>(broken), None);
        }
    }

    #[test]
    fn a_count_is_read_from_anything() {
        for (text, expected) in [
            ("3", Some(3)),
            ("3.0", Some(3)),
            ("\"7\"", Some(7)),
            ("null", None),
            ("-1", None),
            ("[1]", None),
            ("{\"a\":1}", None),
            ("1e300", None),
        ] {
            assert_eq!(lenient::<Count>(text.as_bytes()), Some(Count(expected)), "{text}");
        }
    }

    #[test]
    fn a_string_is_found_after_its_key() {
        let key = memchr::memmem::Finder::new("\"content\"");
        for (text, expected) in [
            (r#"{"content":"a\"b"}"#, Some(&br#"a\"b"#[..])),
            (r#"{"content" : "x"}"#, Some(b"x")),
            (r#"{"content":null,"content":"y"}"#, Some(b"y")),
            (r#"{"content":"cut"#, Some(b"cut")),
            (r#"{"content":"cut\"#, Some(b"cut\\")),
            (r#"{"x":"content"}"#, None),
        ] {
            assert_eq!(string_after(text.as_bytes(), &key), expected, "{text}");
        }
    }
}
