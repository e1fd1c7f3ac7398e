//! What is found in texts and bodies, and what is not.

use proptest::prelude::*;

use super::{mask::Masked, *};
use crate::config::{FieldPath, Glob, Mode, NameSource, PersonalKind, PersonalPattern, Privacy, PrivacyAction};

pub(super) fn policy() -> Privacy {
    Privacy {
        mode: Mode::Enforce,
        action: PrivacyAction::Placeholder,
        find: PersonalKind::ALL.to_vec(),
        refuse: Vec::new(),
        names: Vec::new(),
        patterns: vec![PersonalPattern {
            name: "badge".into(),
            label: "BADGE".into(),
            regex: regex::Regex::new("E-[0-9]{6}").expect("a pattern"),
        }],
        allow_values: Vec::new(),
        allow_fields: Vec::new(),
        passes_unreadable: false,
    }
}

/// The pieces that are found, each as `kind:text`.
fn found(text: &str) -> Vec<String> {
    detect::detect(&policy(), &[], text, "").into_iter().map(|span| format!("{}:{}", span.kind.as_str(), &text[span.range])).collect()
}

fn masked(body: &str) -> Masked {
    mask(&policy(), &[], body.as_bytes(), None).expect("JSON")
}

#[test]
fn each_kind_is_found_where_it_stands() {
    for (text, expected) in [
        (
            "mail alice.o'neil+x@mail.example.co.uk, or Bob <bob@example.org>.",
            "email:alice.o'neil+x@mail.example.co.uk email:bob@example.org",
        ),
        ("see https://x.example/?mail=a.b%40example.com&x=1", "email:a.b%40example.com"),
        ("müller@bücher.example and ana@例え.テスト", "email:müller@bücher.example email:ana@例え.テスト"),
        ("call +49 (0)30 1234567 or (415) 555-2671, 06 12 34 56 78", "phone:+49 (0)30 1234567 phone:(415) 555-2671 phone:06 12 34 56 78"),
        ("tel: 5552671 and 00 44 20 7946 0958", "phone:5552671 phone:00 44 20 7946 0958"),
        ("415-555-2671x12, 0490 75 40 81 ext. 7", "phone:415-555-2671x12 phone:0490 75 40 81 ext. 7"),
        (
            "card 4111 1111 1111 1111, amex 3782-822463-10005, 5555555555554444",
            "card:4111 1111 1111 1111 card:3782-822463-10005 card:5555555555554444",
        ),
        ("pay DE89 3704 0044 0532 0130 00 or gb82west12345698765432", "iban:DE89 3704 0044 0532 0130 00 iban:gb82west12345698765432"),
        ("from 203.0.113.9:443 and 2001:db8::8a2e:370:7334", "ip:203.0.113.9 ip:2001:db8::8a2e:370:7334"),
        (
            "SSN 536-90-4399; NINO AB 12 34 56 C; DNI 12345678Z; NIE X1234567L",
            "us_ssn:536-90-4399 uk_nino:AB 12 34 56 C es_dni:12345678Z es_dni:X1234567L",
        ),
        ("CF RSSMRA85T10A562S, INSEE 2 55 08 14 168 025 38", "it_codice_fiscale:RSSMRA85T10A562S fr_insee:2 55 08 14 168 025 38"),
        ("BSN 111222333; CPF 111.444.777-35; AHV 756.9217.0769.85", "nl_bsn:111222333 br_cpf:111.444.777-35 ch_ahv:756.9217.0769.85"),
        ("hetu 131052-308T, NRIC S1234567D, id 11010519491231002X", "fi_hetu:131052-308T sg_nric:S1234567D cn_id:11010519491231002X"),
        ("badge E-123456", "pattern:E-123456"),
        ("电话13812345678，邮箱：a@b.cn", "phone:13812345678 email:a@b.cn"),
    ] {
        assert_eq!(found(text).join(" "), expected, "{text}");
    }
}

#[test]
fn what_only_looks_like_it_is_left_alone() {
    for text in [
        "tell me your date: 6/24/1991, 1991-6-24, 24.06.1991; on 2024-01-05 08:30:12, version 1.2.3, order 4111111111111112, 1,234,567.89 EUR",
        "std::vec::Vec, add::bad, a@b, @handle, user@localhost, 50% off",
        "uuid 550e8400-e29b-41d4-a716-446655440000, sha 9f86d081884c7d659a2feaa0c55ad015",
        "127.0.0.1, 10.1.2.3, 192.168.0.1, 0.0.0.0, ::1, 999.1.2.3, 1.2.3.4.5",
        "ISBN 9783161484100, 123456789, 111222333, x4111111111111111x",
        "DE89370400440532013001, AB123456E, 12345678A, id_5555555555554444_x",
        "seeds 1 2 3 4 5 6 7 8 9 10, 3.14159265358979, 1e10",
    ] {
        assert_eq!(found(text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_name_of_the_caller_is_found_in_any_case_and_as_a_whole_word() {
    let names: Vec<CallerName> = ["Zoë May", "o'Brien"].iter().filter_map(|name| CallerName::of(name)).collect();
    let text = "zoë may, ZOË MAY; Zoë and May may go; maybe, O'BRIEN o'brienish";
    let found: Vec<&str> = detect::detect(&policy(), &names, text, "").into_iter().map(|span| &text[span.range]).collect();
    assert_eq!(found, ["zoë may", "ZOË MAY", "Zoë", "May", "O'BRIEN"]);
    assert_eq!(CallerName::of(" al "), None);
}

#[test]
fn a_body_is_spliced_and_every_other_byte_stays() {
    let body = r#"{ "model":"gpt","messages" : [{"role":"user","content":"I am \u0061@b.example, \"a@b.example\" \ud83d\ude00"},
        {"role":"user","content":[{"type":"text","text":"c@d.example"},{"type":"image_url","image_url":{"url":"https://e@f.example/x"}}]}],"n":1}"#;
    let out = masked(body);
    let expected = body.replace(r"\u0061@b.example", "[EMAIL_1]").replace("a@b.example", "[EMAIL_1]").replace("c@d.example", "[EMAIL_2]");
    assert_eq!(out.body.expect("changed"), expected.replace("e@f.example", "[EMAIL_3]"));
    assert_eq!(out.found[&(PersonalKind::Email, None)], 4);
    assert!(masked(r#"{"messages":[{"content":"nothing"}]}"#).body.is_none());
}

#[test]
fn json_in_strings_names_of_members_and_numbers_of_tools_are_read() {
    let body = r#"{"messages":[{"tool_calls":[{"id":"c1","function":{"name":"f","arguments":"{\"to\":\"a@b.example\",\"card\":4111111111111111}"}}]},
        {"content":[{"type":"tool_use","id":"t","input":{"a@b.example":{"ssn":"536904399"},"pan":5555555555554444}}]}],"seed":4111111111111111}"#;
    let out = masked(body).body.expect("changed");
    assert!(out.contains(r#""{\"to\":\"[EMAIL_1]\",\"card\":\"[CARD_1]\"}""#), "{out}");
    assert!(out.contains(r#""input":{"[EMAIL_1]":{"ssn":"[US_SSN_1]"},"pan":"[CARD_2]"}"#), "{out}");
    assert!(out.contains(r#""seed":4111111111111111"#), "a parameter of the call: {out}");
}

#[test]
fn placeholders_are_never_those_that_came_with_the_call_and_keep_their_numbers() {
    let first = masked(r#"{"messages":[{"content":"[EMAIL_1] is a@b.example"}],"system":"s@t.example"}"#).body.expect("changed");
    assert_eq!(first, r#"{"messages":[{"content":"[EMAIL_1] is [EMAIL_3]"}],"system":"[EMAIL_2]"}"#);
    let later =
        masked(r#"{"messages":[{"content":"[EMAIL_1] is a@b.example"},{"content":"n@o.example, a@b.example"}],"system":"s@t.example"}"#);
    assert!(
        later.body.expect("changed").starts_with(r#"{"messages":[{"content":"[EMAIL_1] is [EMAIL_3]"},{"content":"[EMAIL_4], [EMAIL_3]"}"#)
    );
    let tagged =
        |text: &str, key: u8| mask(&policy(), &[], format!(r#"{{"input":"{text}"}}"#).as_bytes(), Some([key; 32])).expect("JSON").body;
    let name =
        |body: Option<String>| body.and_then(|body| body.split(['[', ']']).find(|part| part.starts_with("EMAIL_")).map(str::to_owned));
    assert_eq!(name(tagged("a@b.example", 1)), name(tagged("x a@b.example", 1)), "the provider holds the conversation");
    assert_ne!(name(tagged("a@b.example", 1)), name(tagged("a@b.example", 2)), "of another caller");
}

#[test]
fn lists_of_what_is_allowed_masks_and_refusals_hold() {
    let mut policy = policy();
    policy.allow_values = vec![Glob::new("*@example.com")];
    policy.allow_fields = vec![FieldPath(vec!["metadata".into(), "trace".into()])];
    policy.names = vec![NameSource::Field(FieldPath(vec!["metadata".into(), "user".into()]))];
    policy.action = PrivacyAction::Mask;
    let body = r#"{"metadata":{"trace":"a@b.example","user":"Ann Lee"},"input":"x@example.com, y@b.example, ann lee, Lee"}"#;
    let out = mask(&policy, &[], body.as_bytes(), None).expect("JSON");
    assert_eq!(
        out.body.expect("changed"),
        r#"{"metadata":{"trace":"a@b.example","user":"[NAME]"},"input":"x@example.com, [EMAIL], [NAME], [NAME]"}"#
    );
    policy.refuse = vec![PersonalKind::Card];
    assert!(!mask(&policy, &[], body.as_bytes(), None).expect("JSON").refused);
    assert!(mask(&policy, &[], br#"{"input":"4111111111111111"}"#, None).expect("JSON").refused);
    assert_eq!(scrub(&policy, "/users/a%40b.example/cards/4111111111111111").as_deref(), Some("/users/[EMAIL]/cards/[CARD]"));
    assert_eq!(mask(&policy, &[], b"--form\r\n", None).expect_err("no JSON"), Unmaskable::NotJson);
    assert_eq!(mask(&policy, &[], b"{\"a\":\"\xff\"}", None).expect_err("no text"), Unmaskable::NotText);
}

#[test]
fn base64_is_no_text_and_what_hides_in_a_word_of_the_api_is_not_looked_for() {
    let media = "iVBORw0KGgo".repeat(40);
    let body = format!(
        r#"{{"input":[{{"type":"image","data":"{media}/+4915112345678/aA"}},{{"url":"data:image/png;base64,{media}"}}],"model":"a@b.example"}}"#
    );
    assert!(masked(&body).body.is_none());
}

#[test]
fn a_whole_answer_has_its_values_again_in_texts_in_arguments_and_in_plain_text() {
    let mut policy = policy();
    policy.patterns[0].regex = regex::Regex::new("<[^>]+>").expect("a pattern");
    let body = r#"{"messages":[{"content":"<Jo \"J\" O\\x> a@b.example"}]}"#;
    let vault = mask(&policy, &[], body.as_bytes(), None).expect("JSON").vault;
    let mut restored = 0;
    let answer = r#"{"choices":[{"message":{"content":"hi [BADGE_1], [EMAIL_1] [EMAIL_2]","tool_calls":[{"function":{"arguments":"{\"n\":\"[BADGE_1]\"}"}}]}}]}"#;
    let out = whole(&vault, answer.as_bytes(), &mut restored).expect("changed");
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(value["choices"][0]["message"]["content"], "hi <Jo \"J\" O\\x>, a@b.example [EMAIL_2]");
    let arguments = value["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<serde_json::Value>(arguments).expect("JSON")["n"], "<Jo \"J\" O\\x>");
    assert_eq!(whole(&vault, b"to [EMAIL_1]", &mut restored).as_deref(), Some("to a@b.example"));
    assert_eq!((restored, whole(&vault, b"{\"a\":1}", &mut restored)), (4, None));
}

proptest! {
    /// No text makes a detector panic, spans lie in order and apart, and an echo of the masked text is the text.
    #[test]
    fn any_text_comes_back(parts in prop::collection::vec(prop_oneof![
        "\\PC{0,8}", "[0-9 .@:/+()-]{0,20}", Just("a@b.example".to_owned()), Just("+49 30 1234567".to_owned()), Just("[EMAIL_1]".to_owned()),
        Just("4111 1111 1111 1111".to_owned()), Just("E-123456".to_owned()), Just("\"\\\n".to_owned()), Just("{\"a\":\"c@d.example\"}".to_owned()),
    ], 0..12)) {
        let text = parts.concat();
        let spans = detect::detect(&policy(), &[], &text, "");
        prop_assert!(spans.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        let body = serde_json::json!({"messages": [{"content": text}]}).to_string();
        let masked = mask(&policy(), &[], body.as_bytes(), None).expect("JSON");
        let sent = masked.body.unwrap_or_else(|| body.clone());
        let mut restored = 0;
        let back = whole(&masked.vault, sent.as_bytes(), &mut restored).unwrap_or(sent);
        let back: serde_json::Value = serde_json::from_str(&back).expect("JSON");
        let there: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        // A text that is JSON itself is read as JSON: its values are escaped once more.
        if !text.trim_start().starts_with(['{', '[']) {
            prop_assert_eq!(back, there);
        }
    }
}
