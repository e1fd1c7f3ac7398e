//! The changes to a call: splices that leave every other byte as it came.
//!
//! A body is never parsed and written again: number texts, escapes, key order and unknown fields would change.

use std::ops::Range;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{call::recognise, form, json};
use crate::config::Api;

/// The body with another model: only the value of the top-level `model` changes. If the key occurs twice both values change:
/// no reader may see the old one. The same for the field of a multipart form. `None`: the body is neither, or has no `model` that is a string.
pub fn with_model(body: &Bytes, model: &str) -> Option<Bytes> {
    #[derive(Deserialize)]
    #[serde(field_identifier, rename_all = "snake_case")]
    enum Key {
        Model,
    }

    if body.starts_with(b"--") {
        return form::with_field(body, "model", model).map(Bytes::from);
    }
    let places = json::members::<Key>(body)?.into_iter().map(|member| match member.key {
        Key::Model => member.value,
    });
    let places: Vec<Range<usize>> = places.filter(|place| body[place.start] == b'"').collect();
    let token = serde_json::to_string(model).ok()?;
    if places.is_empty() {
        return None;
    }
    Some(spliced(body, places.into_iter().map(|place| (place, token.as_str()))))
}

/// The body of an OpenAI chat or completions stream with `stream_options.include_usage` set to true; the same bytes if it is true
/// already. `None`: the body is not a JSON object, or `stream_options` is neither an object nor null.
///
/// Only for bodies with `"stream": true`: OpenAI refuses `stream_options` in others.
pub fn with_include_usage(body: &Bytes) -> Option<Bytes> {
    #[derive(Deserialize)]
    #[serde(field_identifier, rename_all = "snake_case")]
    enum Outer {
        StreamOptions,
    }
    #[derive(Deserialize)]
    #[serde(field_identifier, rename_all = "snake_case")]
    enum Inner {
        IncludeUsage,
    }

    const ALONE: &str = r#"{"include_usage":true}"#;
    let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
    let options = json::members::<Outer>(body)?;
    for member in &options {
        let Outer::StreamOptions = member.key;
        let value = &body[member.value.clone()];
        if value == b"null" {
            edits.push((member.value.clone(), ALONE));
            continue;
        }
        let inner = json::members::<Inner>(value)?;
        for flag in &inner {
            let Inner::IncludeUsage = flag.key;
            edits.push((member.value.start + flag.value.start..member.value.start + flag.value.end, "true"));
        }
        if inner.is_empty() {
            let at = member.value.start + 1;
            let text = if is_empty_object(value) { r#""include_usage":true"# } else { r#""include_usage":true,"# };
            edits.push((at..at, text));
        }
    }
    if options.is_empty() {
        let at = memchr::memchr(b'{', body)? + 1;
        let text = if is_empty_object(body.trim_ascii()) {
            r#""stream_options":{"include_usage":true}"#
        } else {
            r#""stream_options":{"include_usage":true},"#
        };
        edits.push((at..at, text));
    }
    if edits.iter().all(|(place, text)| &body[place.clone()] == text.as_bytes()) {
        return Some(body.clone());
    }
    Some(spliced(body, edits))
}

/// The body without `stream_options`, for a server that does not know it. `None`: the body is not a JSON object, or has no such
/// member.
pub fn without_stream_options(body: &Bytes) -> Option<Bytes> {
    #[derive(Deserialize)]
    #[serde(field_identifier, rename_all = "snake_case")]
    enum Key {
        StreamOptions,
    }
    let members = json::members::<Key>(body)?;
    let member = members.first()?;
    let Key::StreamOptions = member.key;
    // Cut from the name's first quote to the comma after the value, or from the comma before the name.
    let name = memchr::memmem::rfind(&body[..member.value.start], b"\"stream_options\"")?;
    let after = member.value.end + body[member.value.end..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let place = match body.get(after) {
        Some(b',') => name..after + 1,
        _ => {
            let before = body[..name].trim_ascii_end();
            if before.ends_with(b",") { before.len() - 1..member.value.end } else { name..member.value.end }
        }
    };
    Some(spliced(body, [(place, "")]))
}

/// The path with another model, for APIs whose paths name the model. `None`: this path names no model.
pub fn with_model_in_path(api: Api, path: &str, model: &str) -> Option<String> {
    /// The characters that RFC 3986 section 3.3 allows in a segment, without `:`: Gemini's verb follows a colon.
    const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

    let old = recognise(api, &http::Method::POST, path).model_in_path?;
    let mut written = false;
    let mut segments: Vec<String> = Vec::new();
    // The search goes from the end: the model stands nearest to it.
    for segment in path.rsplit('/') {
        let decoded = super::call::decoded(segment);
        let rest = decoded.strip_prefix(old.as_str()).filter(|rest| rest.is_empty() || rest.starts_with(':'));
        match rest {
            Some(rest) if !written => {
                written = true;
                segments.push(format!("{}{rest}", utf8_percent_encode(model, SEGMENT)));
            }
            _ => segments.push(segment.to_owned()),
        }
    }
    segments.reverse();
    written.then(|| segments.join("/"))
}

fn is_empty_object(object: &[u8]) -> bool {
    object.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start() == b"}")
}

/// `body` with each range replaced by its text. The ranges are in order and do not overlap.
fn spliced<'a>(body: &[u8], edits: impl IntoIterator<Item = (Range<usize>, &'a str)>) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + 64);
    let mut at = 0;
    for (place, text) in edits {
        out.extend_from_slice(&body[at..place.start]);
        out.extend_from_slice(text.as_bytes());
        at = place.end;
    }
    out.extend_from_slice(&body[at..]);
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn usage(body: &str) -> Option<String> {
        let out = with_include_usage(&Bytes::copy_from_slice(body.as_bytes()))?;
        Some(String::from_utf8(out.to_vec()).expect("text"))
    }

    #[test]
    fn stream_options_can_be_taken_out_again() {
        for (body, without) in [
            (r#"{"stream_options":{"include_usage":true},"a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1 , "stream_options" : {"x":"\"stream_options\""} }"#, r#"{"a":1  }"#),
            (r#"{"stream_options":null}"#, "{}"),
            (r#"{ "a":[1], "stream_options":{}, "b":2}"#, r#"{ "a":[1],  "b":2}"#),
        ] {
            let out = without_stream_options(&Bytes::copy_from_slice(body.as_bytes())).expect(body);
            assert_eq!(std::str::from_utf8(&out).expect("text"), without);
            assert!(serde_json::from_slice::<Value>(&out).is_ok(), "{without}");
        }
        assert_eq!(without_stream_options(&Bytes::from_static(b"{}")), None);
    }

    #[test]
    fn the_model_alone_changes() {
        let body = Bytes::from_static(b"{ \"a\":{\"model\":\"x\"}, \"m\\u006fdel\" :\t\"old\" , \"t\":1.0, \"model\":\"old2\"}\n");
        let out = with_model(&body, "n\"ew").expect("a model");
        assert_eq!(out, &b"{ \"a\":{\"model\":\"x\"}, \"m\\u006fdel\" :\t\"n\\\"ew\" , \"t\":1.0, \"model\":\"n\\\"ew\"}\n"[..]);
        for body in [&b"{}"[..], b"{\"model\":null}", b"nonsense", b"[]"] {
            assert_eq!(with_model(&Bytes::from_static(body), "m"), None);
        }
    }

    #[test]
    fn include_usage_in_every_state() {
        for (body, expected) in [
            (r#"{"a":1}"#, r#"{"stream_options":{"include_usage":true},"a":1}"#),
            ("{ }", r#"{"stream_options":{"include_usage":true} }"#),
            (r#"{"stream_options":null}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{ "x":1}}"#, r#"{"stream_options":{"include_usage":true, "x":1}}"#),
            (r#"{"stream_options":{"include_usage": false}}"#, r#"{"stream_options":{"include_usage": true}}"#),
            (r#"{"stream_options":{"include_usage":true}}"#, r#"{"stream_options":{"include_usage":true}}"#),
        ] {
            assert_eq!(usage(body).as_deref(), Some(expected), "{body}");
        }
        assert_eq!(usage(r#"{"stream_options":"x"}"#), None);
        assert_eq!(usage("x"), None);
    }

    #[test]
    fn the_model_in_a_path() {
        for (api, path, expected) in [
            (Api::Gemini, "/v1beta/models/old:generateContent", Some("/v1beta/models/n%2Few:generateContent")),
            (Api::OpenAi, "/openai/deployments/old/chat/completions", Some("/openai/deployments/n%2Few/chat/completions")),
            (Api::Bedrock, "/model/old%3A0/converse", Some("/model/n%2Few/converse")),
            (Api::OpenAi, "/v1/chat/completions", None),
        ] {
            assert_eq!(with_model_in_path(api, path, "n/ew").as_deref(), expected, "{path}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("(model|stream_options|include_usage|[a-z\"\\\\é]{0,5})", inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_rewritten_model_leaves_the_rest(mut value in any_json(), old in "\\PC{0,6}", new in "\\PC{0,6}", pretty in any::<bool>()) {
            if !value.is_object() { value = json!({"x": value}); }
            value["model"] = Value::from(old.clone());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("json");
            let out = with_model(&Bytes::from(text.clone()), &new).expect("a model");
            let mut expected = value.clone();
            expected["model"] = Value::from(new.clone());
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).expect("json"), expected);
            let back = with_model(&out, &old).expect("a model");
            prop_assert_eq!(back, text, "what was not the model is untouched byte for byte");
        }

        #[test]
        fn include_usage_leaves_the_rest(mut value in any_json(), options in prop::option::of(any_json()), pretty in any::<bool>()) {
            if !value.is_object() { value = json!({"x": value}); }
            match &options {
                Some(options) => value["stream_options"] = options.clone(),
                None => { value.as_object_mut().expect("object").shift_remove("stream_options"); }
            }
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.expect("json");
            let out = with_include_usage(&Bytes::from(text));
            let fits = matches!(options, None | Some(Value::Null | Value::Object(_)));
            prop_assert_eq!(out.is_some(), fits);
            if let Some(out) = out {
                let mut expected = value.clone();
                if !expected["stream_options"].is_object() { expected["stream_options"] = json!({}); }
                expected["stream_options"]["include_usage"] = Value::from(true);
                prop_assert_eq!(serde_json::from_slice::<Value>(&out).expect("json"), expected);
            }
        }

        #[test]
        fn garbage_never_panics(body in "\\PC{0,40}") {
            let body = Bytes::from(body);
            let _ = (with_model(&body, "m"), with_include_usage(&body));
        }
    }
}
