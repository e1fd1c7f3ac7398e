//! Conditions against answers, their mistakes, and any text at all.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn answer() -> Subject {
    Subject {
        status: Some(200),
        took: Duration::from_millis(120),
        ip: Some("127.0.0.1".into()),
        connected: true,
        certificate: Some(72 * 3_600),
        body: br#"{"status": "UP", "n": 3, "ok": true, "items": [{"id": "a"}, {"id": "b"}], "none": null, "text": "a - b"}"#.to_vec(),
    }
}

#[test]
fn conditions_hold_as_gatus_says() {
    for (text, holds) in [
        ("[STATUS] == 200", true),
        ("[STATUS] != 200", false),
        ("[STATUS] < 300", true),
        ("[STATUS] == any(200, 429)", true),
        ("[STATUS] == any(201, 4*)", false),
        ("[RESPONSE_TIME] < 500", true),
        ("[RESPONSE_TIME] < 100ms", false),
        ("[IP] == pat(127.*)", true),
        ("[CONNECTED] == true", true),
        ("[CERTIFICATE_EXPIRATION] > 48h", true),
        ("[CERTIFICATE_EXPIRATION] > 14d", false),
        ("[BODY].status == UP", true),
        ("[BODY].status == pat(U*)", true),
        ("[BODY].n >= 3", true),
        ("[BODY].ok == true", true),
        ("[BODY].items[1].id == b", true),
        ("[BODY].items[2].id == b", false),
        ("[BODY].items[2].id != b", true),
        ("len([BODY].items) == 2", true),
        ("len([BODY].status) == 2", true),
        ("has([BODY].status) == true", true),
        ("has([BODY].errors) == false", true),
        ("[BODY] == pat(*\"UP\"*)", true),
        ("[BODY].text == a - b", true),
        ("200 == [STATUS]", true),
        ("[BODY].status > 5", false),
    ] {
        let verdict = Condition::parse(text).unwrap_or_else(|why| panic!("{text}: {why}")).judge(&answer());
        assert_eq!(verdict == Verdict::Holds, holds, "{text}: {verdict:?}");
    }
}

#[test]
fn a_broken_condition_shows_what_it_saw() {
    let said = |text: &str| match Condition::parse(text).expect("reads").judge(&answer()) {
        Verdict::Fails(why) => why,
        Verdict::Holds => panic!("{text} holds"),
    };
    assert_eq!(said("[STATUS] == 204"), "[STATUS] == 204 (it is 200)");
    assert_eq!(said("[BODY].missing == x"), "[BODY].missing == x (it is nothing)");
    let away = Condition::parse("[STATUS] == 200").expect("reads").judge(&Subject::default());
    assert_eq!(away, Verdict::Fails("[STATUS] == 200 (it is nothing)".into()));
}

#[test]
fn mistakes_say_what_would_be_right() {
    for (text, part) in [
        ("[STATUS]", "compares nothing"),
        ("[STATUS]==200", "with spaces around it"),
        ("[STATUS] == ", "nothing on one side"),
        ("[STATE] == 200", "is no placeholder; write [STATUS]"),
        ("[BODY]status == 1", "[BODY].status"),
        ("200 == 200", "looks at nothing"),
        ("size([BODY]) == 1", "write len(), has()"),
        ("[STATUS] < any(200)", "cannot compare"),
        ("[STATUS] == any(200,)", "any() takes"),
    ] {
        let why = Condition::parse(text).expect_err(text);
        assert!(why.contains(part), "{text}: {why}");
    }
}

proptest! {
    #[test]
    fn no_text_and_no_body_make_it_panic(text in "\\PC{0,60}", word in "(\\[(STATUS|BODY|IP|CONNECTED)\\]|len\\(|has\\(|any\\(|pat\\(|[.\\[\\]()*, a-z0-9]){0,8} (==|<|>=) \\PC{0,20}", body in prop::collection::vec(any::<u8>(), 0..60)) {
        let subject = Subject { body, ..answer() };
        for text in [text, word] {
            if let Ok(condition) = Condition::parse(&text) {
                let _ = condition.judge(&subject);
                prop_assert_eq!(Condition::parse(condition.as_str()), Ok(condition.clone()));
            }
        }
    }

    #[test]
    fn numbers_compare_as_numbers(value in -1_000_000i64..1_000_000, other in -1_000_000i64..1_000_000) {
        let subject = Subject { body: format!("{{\"n\": {value}}}").into_bytes(), ..Subject::default() };
        for (word, expected) in [("<", value < other), ("<=", value <= other), (">", value > other), (">=", value >= other), ("==", value == other), ("!=", value != other)] {
            let verdict = Condition::parse(&format!("[BODY].n {word} {other}")).expect("reads").judge(&subject);
            prop_assert_eq!(verdict == Verdict::Holds, expected);
        }
    }
}
