//! Tests of the estimates of texts.

use proptest::prelude::*;

use super::*;
use crate::provider::text_corpus::CORPUS;

fn tokens(raw: &str) -> u64 {
    let mut spoken = Spoken::default();
    spoken.string(raw.as_bytes());
    spoken.tokens()
}

#[test]
fn an_escape_counts_as_what_it_stands_for() {
    for (raw, plain) in [
        (r#"say \"hi\" twice"#, "say 'hi' twice"),
        (r"a\nb\tc\\d", "a\nb\tc|d"),
        (r"\u0061\u002B\u003c", "a+<"),
        (r"\u8a9e\u8A9E", "語語"),
        (r"\u00e9", "é"),
        (r"\ud83d\ude00", "😀"),
        (r"a\/b", "a/b"),
    ] {
        assert_eq!(tokens(raw), tokens(plain), "{raw}");
    }
}

#[test]
fn base64_is_an_image_wherever_it_stands() {
    let data = "iVBORw0KGgo+/8".repeat(10_000);
    let dotnet = data.replace('+', r"\u002B").replace('/', r"\/");
    let lines: String = data.as_bytes().chunks(76).map(|line| format!("{}\\r\\n", std::str::from_utf8(line).expect("ASCII"))).collect();
    for raw in [
        data.clone(),
        format!("data:image/png;base64,{data}"),
        format!("Here it is: ![a cat](data:image/png;base64,{data}) Do you like it?"),
        dotnet,
        lines,
        data.replace('+', "-").replace('/', "_"),
    ] {
        assert!((1_000..1_030).contains(&tokens(&raw)), "{}: {}", &raw[..40], tokens(&raw));
    }
    let two = format!("{data} and {data}");
    assert!((2_000..2_010).contains(&tokens(&two)));
}

#[test]
fn text_is_text_even_without_blanks() {
    for (raw, least) in [
        ("word\\n".repeat(2_000), 4_000),
        ("12.5,abc,".repeat(2_000), 10_800),
        ("語".repeat(2_000), 2_000),
        (r"\u8a9e".repeat(2_000), 2_000),
        ("word ".repeat(2_000), 2_000),
        ("a".repeat(2_000), 660),
    ] {
        let tokens = tokens(&raw);
        assert!((least..least + 110).contains(&tokens), "{}: {tokens}", &raw[..9]);
    }
}

/// Counted with `o200k_base`.
#[test]
fn within_a_tenth_of_a_tokenizer() {
    for (text, tokens_of_it) in CORPUS {
        let json = serde_json::to_string(text).expect("a text");
        let seen = tokens(&json[1..json.len() - 1]);
        let off = seen.abs_diff(*tokens_of_it) * 100 / tokens_of_it;
        assert!(off <= 10, "{seen} for {tokens_of_it}: {}", text.chars().take(40).collect::<String>());
    }
}

#[test]
fn the_json_around_a_prompt_is_no_prompt() {
    let words = "word ".repeat(1_000);
    let text = format!(r#"{{"model":"gpt-4o","stream":true,"messages":[{{"role":"user","content":"{words}"}}]}}"#);
    assert_eq!(prompt(text.as_bytes()), 1_000 + AROUND);
    let image = format!(r#"{{"content":"look: data:image/png;base64,{} there"}}"#, "A".repeat(1_000_000));
    assert!((1_000..1_020).contains(&prompt(image.as_bytes())), "{}", prompt(image.as_bytes()));
    let tokens = format!(r#"{{"input":[{}1],"model":"m"}}"#, "1234, ".repeat(499));
    assert_eq!(prompt(tokens.as_bytes()), 500, "tokens are counted one by one");
    let tool = r#"{"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]}"#;
    assert!((3..8).contains(&prompt(tool.as_bytes())), "{}", prompt(tool.as_bytes()));
    for cut in [&b"{\"messages\":\"wor"[..], b"\"", b"{\"a\":\"\\", b""] {
        let _ = prompt(cut);
    }
}

#[test]
fn small_letters_are_the_small_letters() {
    for byte in 0..=255u8 {
        for at in 0..8 {
            let mut word = *b"abcmyzaz";
            word[at] = byte;
            let marked = not_small(u64::from_le_bytes(word)) >> (8 * at) & 0x80 != 0;
            assert_eq!(marked, !byte.is_ascii_lowercase(), "{byte} at {at}");
            assert_eq!(not_small(u64::from_le_bytes(word)).count_ones(), u32::from(marked), "{byte} at {at}: the others are small");
        }
    }
}

proptest! {
    #[test]
    fn cutting_changes_nothing(
        parts in prop::collection::vec(prop::sample::select(vec!["A", "word ", "extraordinarily", r"\n", r"\u8a9e", r"\/", "é", "=", r"\\", r#"\""#]), 0..40),
        data in 0usize..5_000,
        at in any::<prop::sample::Index>(),
        size in 1usize..100,
    ) {
        let mut parts = parts;
        let data = "iVBORw0K".repeat(data / 8);
        parts.insert(at.index(parts.len() + 1), &data);
        let raw = parts.concat() + ".";
        let told = |size: usize| {
            let mut spoken = Spoken::default();
            raw.as_bytes().chunks(size).for_each(|piece| spoken.feed(piece));
            spoken.tokens()
        };
        let mut each = Spoken::default();
        raw.bytes().for_each(|byte| each.byte(byte));
        prop_assert_eq!((told(size), told(size)), (told(raw.len()), each.tokens()));
        let _ = prompt(raw.as_bytes());
    }
}
