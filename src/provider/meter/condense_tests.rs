//! Tests of the kept part of large texts, for all cuts, and of its size.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::condense::*;

fn condensed(text: &[u8], size: usize) -> (Condensed, Condenser) {
    let mut condenser = Condenser::default();
    text.chunks(size).for_each(|piece| condenser.feed(piece));
    (condenser.condensed(), condenser)
}

fn read(text: &str) -> Json {
    let (kept, condenser) = condensed(text.as_bytes(), 7);
    assert!(condenser.is_complete(), "{text}");
    serde_json::from_slice(&kept.json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&kept.json)))
}

#[test]
fn a_small_text_stays_as_it_is() {
    for text in [
        r#"{"a":[1,2.5,-3e9,true,false,null,"x",{"b":[]},{}],"c":{"d":"e\"f\\"},"é":"語"}"#,
        r#" [ { "error" : { "code" : 429 } } ] "#,
        r#""text""#,
        "{}",
        "[]",
    ] {
        assert_eq!(read(text), serde_json::from_str::<Json>(text).expect("JSON"), "{text}");
    }
}

#[test]
fn long_strings_and_lists_of_numbers_are_cut_and_what_follows_is_found() {
    let image = "A".repeat(12 << 20);
    let vector = vec!["0.0123"; 200_000].join(",");
    let text =
        format!(r#"{{"candidates":[{{"data":"{image}","v":[{vector}]}}],"usageMetadata":{{"totalTokenCount":3,"by":[{{"n":1}}]}}}}"#);
    let (kept, condenser) = condensed(text.as_bytes(), 16_384);
    assert!(condenser.is_complete() && !kept.flawed);
    assert!(condenser.held() < 16_384, "{}", condenser.held());
    let json: Json = serde_json::from_slice(&kept.json).expect("JSON");
    assert_eq!(json["usageMetadata"], json!({"totalTokenCount": 3, "by": [{"n": 1}]}));
    assert_eq!(json["candidates"][0]["v"].as_array().map(Vec::len), Some(SCALARS as usize));
    assert_eq!(kept.words.tokens(), 1_000, "one image");
}

#[test]
fn beyond_the_bound_only_what_is_essential_is_kept() {
    let token = r#"{"token":"x","logprob":-0.5,"top_logprobs":[{"token":"y","logprob":-1}]}"#;
    let logprobs = vec![token; 40_000].join(",");
    let text = format!(
        r#"{{"id":"1","choices":[{{"logprobs":{{"content":[{logprobs}]}},"message":{{"content":"hi there"}},"finish_reason":"stop"}}],"model":"m","other":[1],"usage":{{"prompt_tokens":7,"details":{{"cached":1}}}}}}"#
    );
    let (kept, condenser) = condensed(text.as_bytes(), 16_384);
    assert!(condenser.held() < 3 * (MOST + RESERVE), "{}", condenser.held());
    let json: Json = serde_json::from_slice(&kept.json).expect("JSON");
    assert_eq!(json["usage"], json!({"prompt_tokens": 7, "details": {"cached": 1}}));
    assert_eq!((&json["model"], &json["choices"][0]["finish_reason"], &json["other"]), (&json!("m"), &json!("stop"), &Json::Null));
    assert!(!kept.flawed);
    assert_eq!(kept.words.tokens(), 2, "log probabilities are no words");
}

#[test]
fn nothing_holds_more_than_the_bound() {
    let many = r#"{"usage":{"a":1}},"#.repeat(100_000);
    let (kept, condenser) = condensed(format!("[{many}1]").as_bytes(), 16_384);
    assert!(condenser.is_complete() && kept.dropped);
    assert!(condenser.held() < 3 * (MOST + RESERVE), "{}", condenser.held());
    assert!(serde_json::from_slice::<Json>(&kept.json).is_ok());
    let keys = format!("{{\"{}\":1,\"usage\":2}}", "k".repeat(1 << 20));
    assert_eq!(read(&keys), json!({"usage": 2}));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let (kept, condenser) = condensed(deep.as_bytes(), 100);
    assert!(condenser.is_complete() && kept.json.len() == 2 * DEEPEST);
    let usages = format!("{{{}\"model\":\"m\"}}", r#""usage":{"a":1},"#.repeat(100_000));
    let (kept, condenser) = condensed(usages.as_bytes(), 1_000);
    assert!(kept.flawed && condenser.held() < 3 * (MOST + RESERVE));
}

#[test]
fn what_is_no_json_is_told() {
    for text in ["<html>", "data: x", "{]", "[}", "{\"a\" 1}", "{,}", "[1 2]", "x", "]", "{\"a\":}"] {
        let (_, condenser) = condensed(text.as_bytes(), 3);
        assert!(condenser.is_broken(), "{text}");
    }
    for text in ["", "  ", "{\"a\":1", "[", "\"x", "{\"a\":1,"] {
        let (_, condenser) = condensed(text.as_bytes(), 3);
        assert!(!condenser.is_broken() && !condenser.is_complete(), "{text}");
    }
}

proptest! {
    #[test]
    fn cut_anywhere_it_is_still_json(
        words in prop::collection::vec(prop::sample::select(vec!["語", r"\u8a9e", r"\\", r#"\""#, r"\n", "a", "éa"]), 0..12),
        long in prop::bool::ANY,
        at in any::<prop::sample::Index>(),
        size in 1usize..50,
    ) {
        let words = if long { words.concat().repeat(400) } else { words.concat() };
        let text = format!(r#"{{"choices":[{{"text":"{words}","n":[1,2,{{"x":true}}]}}],"usage":{{"total_tokens":12}}}}"#);
        let (whole, _) = condensed(text.as_bytes(), text.len());
        let (pieces, _) = condensed(text.as_bytes(), size);
        prop_assert_eq!(&whole.json, &pieces.json);
        prop_assert_eq!(whole.words.tokens(), pieces.words.tokens());
        prop_assert!(serde_json::from_slice::<Json>(&whole.json).is_ok());
        let cut = &text.as_bytes()[..at.index(text.len() - 1) + 1];
        let (cut, _) = condensed(cut, size);
        prop_assert!(serde_json::from_slice::<Json>(&cut.json).is_ok(), "{}", String::from_utf8_lossy(&cut.json));
    }

    #[test]
    fn garbage_never_panics(text in prop::collection::vec(prop::sample::select(b"{}[]\",:\\u1a \xc3\xe8n".to_vec()), 0..200), size in 1usize..20) {
        let (whole, _) = condensed(&text, text.len().max(1));
        let (pieces, _) = condensed(&text, size);
        prop_assert_eq!(whole.json, pieces.json);
    }
}
