//! One text for all bodies that ask a provider for the same answer: the body's part of a cache key.
//!
//! Members are sorted by key at every depth and blanks are dropped. Arrays keep their order, numbers their text (`1` and
//! `1.0` may differ at a provider). Strings are compared unescaped. Every member that is not named in [`LEFT_OUT`] counts: an
//! unknown field must never make two different calls share an answer. An absent member differs from one with the default value.

use std::ops::Range;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    facts::{Facts, hosted_tools},
    json,
};
use crate::config::{Api, Operation};

/// Deepest nesting; a deeper body has no canonical text.
const DEEPEST: usize = 128;

/// Top-level members that do not change the answer.
///
/// - `user`, `safety_identifier`, `metadata`: labels for abuse detection and the provider's own records.
/// - `prompt_cache_key`, `prompt_cache_retention`: where the provider keeps its prompt cache.
/// - `stream`, `stream_options`: a stream does not answer a non-stream, but the caller adds the two facts to the key
///   ([`Facts::stream`], [`Facts::include_usage`]): so `false` and absent are the same.
pub const LEFT_OUT: [&str; 7] =
    ["user", "safety_identifier", "metadata", "prompt_cache_key", "prompt_cache_retention", "stream", "stream_options"];

/// The canonical text of a body. `None`: the body is not one JSON object, a key occurs twice (readers differ in which one counts),
/// a string is no Unicode text, or the nesting is deeper than 128.
pub fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    written(body, &LEFT_OUT)
}

/// The canonical text of any JSON object, with all its members; `None` as for [`canonical`].
pub fn canonical_json(body: &[u8]) -> Option<Vec<u8>> {
    written(body, &[])
}

fn written(body: &[u8], left_out: &'static [&'static str]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    // The text is valid JSON from here on: the writer below need not check it.
    let object: &RawValue = serde_json::from_str(text).ok()?;
    let object = object.get();
    if !object.starts_with('{') {
        return None;
    }
    let mut writer = Writer { text: object, at: 0, out: Vec::with_capacity(object.len()), left_out };
    writer.value(0)?;
    Some(writer.out)
}

/// Whether an answer to this call may be stored and given again; the error says why not.
pub fn cacheable(api: Api, operation: Operation, facts: &Facts, body: &[u8]) -> Result<(), &'static str> {
    #[derive(Deserialize)]
    #[serde(field_identifier, rename_all = "snake_case")]
    enum Key {
        Store,
        Background,
        PreviousResponseId,
        Conversation,
        Container,
        McpServers,
        WebSearchOptions,
        Tools,
    }

    let known = match api {
        Api::OpenAi => {
            matches!(operation, Operation::Chat | Operation::Completions | Operation::Responses | Operation::Embeddings)
        }
        Api::Anthropic => matches!(operation, Operation::Messages),
        Api::Gemini | Api::Bedrock => matches!(operation, Operation::Chat | Operation::Embeddings),
        Api::Plain => false,
    };
    if !known {
        return Err("the operation is not cached");
    }
    if facts.n > 1 {
        return Err("several choices are asked for");
    }
    for member in json::members::<Key>(body).ok_or("the body is not a JSON object")? {
        let value = &body[member.value];
        let given = !matches!(value, b"null" | b"false" | b"[]");
        match member.key {
            // The Responses API stores without it too. An app that writes `store: true` wants a record of each call.
            Key::Store if value == b"true" => return Err("store: true"),
            Key::Background if given => return Err("background: true"),
            Key::PreviousResponseId if given => return Err("previous_response_id"),
            Key::Conversation if given => return Err("conversation"),
            Key::Container if given => return Err("container"),
            Key::McpServers if given => return Err("mcp_servers"),
            Key::WebSearchOptions if given => return Err("web_search_options"),
            Key::Tools if hosted_tools(value) => return Err("tools that run at the provider"),
            _ => {}
        }
    }
    Ok(())
}

/// Copies valid JSON in canonical form. Invalid text gives `None`, never a panic.
struct Writer<'a> {
    text: &'a str,
    at: usize,
    out: Vec<u8>,
    /// Members of the outermost object that are not written.
    left_out: &'static [&'static str],
}

impl<'a> Writer<'a> {
    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => {
                let token = self.string()?;
                self.write_string(token)
            }
            _ => {
                let rest = self.text.get(self.at..)?;
                let len = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                self.out.extend_from_slice(&rest.as_bytes()[..len]);
                self.at += len;
                Some(())
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        self.out.push(b'[');
        let mut first = true;
        while self.peek()? != b']' {
            if !first {
                self.take(b',')?;
                self.out.push(b',');
            }
            first = false;
            self.value(depth + 1)?;
        }
        self.at += 1;
        self.out.push(b']');
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        let start = self.out.len();
        let mut members: Vec<(&'a str, Option<String>, Range<usize>)> = Vec::new();
        while self.peek()? != b'}' {
            if !members.is_empty() {
                self.take(b',')?;
            }
            self.peek()?;
            let token = self.string()?;
            let from = self.out.len();
            // The key is written with its value: sorting then moves whole members.
            self.write_string(token)?;
            self.out.push(b':');
            self.take(b':')?;
            self.value(depth + 1)?;
            members.push((token, unescaped(token)?, from..self.out.len()));
        }
        self.at += 1;
        members.sort_by(|a, b| key(a).cmp(key(b)));
        if members.windows(2).any(|pair| key(&pair[0]) == key(&pair[1])) {
            return None;
        }
        let mut sorted = Vec::with_capacity(self.out.len() - start + members.len() + 2);
        sorted.push(b'{');
        for member in members.iter().filter(|member| depth > 0 || !self.left_out.contains(&key(member))) {
            if sorted.len() > 1 {
                sorted.push(b',');
            }
            sorted.extend_from_slice(&self.out[member.2.clone()]);
        }
        sorted.push(b'}');
        self.out.truncate(start);
        self.out.extend_from_slice(&sorted);
        Some(())
    }

    /// The string token at the current place, quotes included.
    fn string(&mut self) -> Option<&'a str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        loop {
            at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
            if bytes[at] == b'"' {
                self.at = at + 1;
                return self.text.get(start..self.at);
            }
            at += 2;
        }
    }

    fn write_string(&mut self, token: &str) -> Option<()> {
        match unescaped(token)? {
            None => self.out.extend_from_slice(token.as_bytes()),
            Some(text) => serde_json::to_writer(&mut self.out, &text).ok()?,
        }
        Some(())
    }

    /// The next byte that is not blank.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        Some(bytes[self.at])
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
}

fn key<'a>(member: &'a (&str, Option<String>, Range<usize>)) -> &'a str {
    member.1.as_deref().unwrap_or_else(|| &member.0[1..member.0.len() - 1])
}

/// The text of an escaped string token; `Some(None)`: the token has no escape. `None`: the text is no Unicode text.
fn unescaped(token: &str) -> Option<Option<String>> {
    if !token.contains('\\') {
        return Some(None);
    }
    serde_json::from_str(token).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::provider::facts::read;

    fn text(body: &str) -> Option<String> {
        canonical(body.as_bytes()).map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn blanks_order_and_escapes_do_not_matter() {
        let expected = Some(r#"{"a":[3,1.0,{"x":null,"y":true}],"b":"é\n/","n":1e5}"#.to_owned());
        assert_eq!(text(" {\"n\":1e5,\"b\":\"\\u00e9\\u000a\\/\" ,\n\"\\u0061\": [ 3 ,1.0, {\"y\":true,\"x\":null} ] } "), expected);
        assert_eq!(text(r#"{"b":"é\n/","a":[3,1.0,{"x":null,"y":true}],"n":1e5}"#), expected);
    }

    #[test]
    fn anything_else_matters() {
        let different = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":null}"#,
            "{}",
            r#"{"a":{"user":1}}"#,
            r#"{"a":{}}"#,
            r#"{"a":"x "}"#,
            r#"{"a":"x"}"#,
        ];
        for (at, one) in different.iter().enumerate() {
            for other in &different[at + 1..] {
                assert_ne!(text(one), text(other));
            }
        }
    }

    #[test]
    fn labels_and_stream_are_left_out_at_the_top_only() {
        assert_eq!(text(r#"{"user":"u","metadata":{"a":1},"stream":true,"x":1}"#).as_deref(), Some(r#"{"x":1}"#));
        assert_eq!(text(r#"{"x":{"stream":true}}"#).as_deref(), Some(r#"{"x":{"stream":true}}"#));
    }

    #[test]
    fn what_has_no_one_meaning_has_no_canonical_text() {
        for body in ["[]", "1", "", "{", r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"{"a":"\ud800"}"#, "{} {}"] {
            assert_eq!(text(body), None, "{body}");
        }
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(text(&nested(100)).is_some());
        assert_eq!(text(&nested(200)), None);
        assert_eq!(text(&nested(1_000_000)), None, "without overflowing the stack");
    }

    #[test]
    fn what_must_not_be_kept() {
        let may = |operation, body: &str| {
            let facts = read(Api::OpenAi, operation, body.as_bytes()).expect("readable");
            cacheable(Api::OpenAi, operation, &facts, body.as_bytes())
        };
        assert_eq!(may(Operation::Chat, r#"{"tools":[{"type":"function"}],"store":false,"background":null}"#), Ok(()));
        assert_eq!(may(Operation::Responses, "{}"), Ok(()));
        for body in [
            r#"{"store":true}"#,
            r#"{"background":true}"#,
            r#"{"previous_response_id":"r"}"#,
            r#"{"conversation":{"id":"c"}}"#,
            r#"{"n":2}"#,
            r#"{"tools":[{"type":"web_search"}]}"#,
        ] {
            assert!(may(Operation::Responses, body).is_err(), "{body}");
        }
        assert!(may(Operation::Images, "{}").is_err());
        assert!(cacheable(Api::Plain, Operation::Chat, &Facts::default(), b"{}").is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "(\\PC|[\n\t\"\\\\]){0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("[a-e\"\\\\é]{0,3}", inner), 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(members) => Value::Object(members.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect::<Map<_, _>>()),
            Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
            other => other.clone(),
        }
    }

    /// Every character of every string as an escape.
    fn escaped(value: &Value) -> String {
        let string = |text: &str| format!("\"{}\"", text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>());
        match value {
            Value::Object(members) => {
                format!(
                    "{{ {} }}",
                    members.iter().map(|(k, v)| format!("{} :\t{}", string(k), escaped(v))).collect::<Vec<_>>().join(" ,\n")
                )
            }
            Value::Array(items) => format!("[ {} ]", items.iter().map(escaped).collect::<Vec<_>>().join(" , ")),
            Value::String(text) => string(text),
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn spelling_does_not_matter_and_meaning_is_kept(value in any_json()) {
            let value = serde_json::json!({"x": value});
            let one = canonical(value.to_string().as_bytes()).expect("canonical");
            prop_assert_eq!(&one, &canonical(serde_json::to_string_pretty(&reversed(&value)).expect("json").as_bytes()).expect("canonical"));
            prop_assert_eq!(&one, &canonical(escaped(&value).as_bytes()).expect("canonical"));
            prop_assert_eq!(&one, &canonical(&one).expect("a fixed point"));
            // Through text once: reading a float is not exact to the last bit.
            let value: Value = serde_json::from_str(&value.to_string()).expect("json");
            prop_assert_eq!(serde_json::from_slice::<Value>(&one).expect("json"), value);
        }

        #[test]
        fn different_values_differ(one in any_json(), other in any_json()) {
            let text = |value: &Value| canonical(serde_json::json!({"x": value}).to_string().as_bytes()).expect("canonical");
            // -0.0 and 0.0 are equal as values and differ as texts, as they should.
            prop_assert!(one == other || text(&one) != text(&other));
        }

        #[test]
        fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = canonical(&body);
        }
    }
}
