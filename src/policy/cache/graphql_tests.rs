//! Tokens, operations, and answers with errors.

use proptest::prelude::*;

use super::*;

fn text(source: &str) -> Option<String> {
    Document::read(source).map(|document| document.text)
}

fn chosen(source: &str, name: Option<&str>) -> Option<Kind> {
    Document::read(source)?.operations.chosen(name)
}

#[test]
fn blanks_commas_and_comments_do_not_matter() {
    let plain = text("query A($id: ID!, $n: Int = 3) { user(id: $id, first: $n) { ...F name } } fragment F on User { id }");
    assert!(plain.is_some());
    for same in [
        "query A($id:ID!$n:Int=3){user(id:$id first:$n){...F,name}}fragment F on User{id}",
        "\u{feff}query A( $id : ID ! , , $n : Int = 3 )\r\n{ # who?\n user ( id : $id\tfirst : $n ) { ... F name } }\nfragment F on User { id } # end",
    ] {
        assert_eq!(text(same), plain, "{same}");
    }
}

#[test]
fn strings_are_left_alone() {
    let different = [
        r#"{ a(x: "b  c") }"#,
        r#"{ a(x: "b c") }"#,
        r#"{ a(x: "b, c") }"#,
        r#"{ a(x: "b # c") }"#,
        r#"{ a(x: "b \" c") }"#,
        "{ a(x: \"\"\"b c\"\"\") }",
        "{ a(x: \"\"\"b\n c\"\"\") }",
        "{ a(x: \"\"\"b\n  c\"\"\") }",
        "{ a(x: \"\"\"b \\\"\"\" # c\"\"\") }",
        r#"{ a(x: "") }"#,
        r#"{ a(x: """""") }"#,
        "{ a(x: 1) }",
        "{ a(x: 1.0) }",
        "{ a(x: -1) }",
        "{ ax: a(x: 1) }",
        "{ a(x: 12) }",
        "{ a(x: 1 2) }",
        "{ a x }",
        "{ ax }",
        "{ x a }",
    ];
    for (at, one) in different.iter().enumerate() {
        assert!(text(one).is_some_and(|text| at > 11 || text.contains(&one[7..one.len() - 3])), "{one}: {:?}", text(one));
        for other in &different[at + 1..] {
            assert_ne!(text(one), text(other));
        }
    }
}

#[test]
fn what_is_no_document_is_not_understood() {
    for source in [
        "",
        "# nothing",
        "{",
        "{ a }}",
        "{ a(b: [1) ] }",
        "hello",
        "type A { b: C }",
        "\"about\" query { a }",
        "query",
        "query A",
        "{ a(x: 01) }",
        "{ a(x: 1a) }",
        "{ a(x: 1.) }",
        "{ a(x: .5) }",
        "{ a(x: 1.2.3) }",
        "{ a(x: - 1) }",
        "{ a(x: \"open) }",
        "{ a(x: \"line\n\") }",
        "{ a(x: \"line\r\") }",
        r#"{ a(x: "\x") }"#,
        r#"{ a(x: "\u12") }"#,
        "{ a(x: \"\"\"open) }",
        "{ a .. b }",
        "{ a\u{a0}b }",
        "{ a; b }",
        "{ é }",
    ] {
        assert_eq!(text(source), None, "{source}");
    }
}

#[test]
fn the_chosen_operation_counts() {
    use Kind::{Mutation, Query, Subscription};
    assert_eq!(chosen("{ a }", None), Some(Query));
    assert_eq!(chosen("query { a }", None), Some(Query));
    assert_eq!(chosen("query @live { a }", None), Some(Query));
    assert_eq!(chosen("mutation { a }", None), Some(Mutation));
    assert_eq!(chosen("mutation M { a }", Some("M")), Some(Mutation));
    assert_eq!(chosen("subscription S { a }", None), Some(Subscription));
    assert_eq!(chosen("fragment F on T { mutation } query Q { mutation ...F }", None), Some(Query));
    let both = "query Q { a } mutation M { a }";
    assert_eq!((chosen(both, Some("Q")), chosen(both, Some("M"))), (Some(Query), Some(Mutation)));
    assert_eq!((chosen(both, None), chosen(both, Some("X"))), (None, None), "a server refuses");
    assert_eq!(chosen("query Q { a } mutation Q { a }", Some("Q")), None);
    assert_eq!(chosen("{ a }", Some("Q")), None);
    // Braces of default values and arguments are no selection sets.
    assert_eq!(chosen("query Q($a: In = {b: {c: 1}}) @d(e: {f: 1}) { g } mutation M { a }", Some("M")), Some(Mutation));
    assert_eq!(chosen("{ a(s: \"} mutation M { b\") }", None), Some(Query));
    assert_eq!(chosen("{ a } # } mutation M { b", None), Some(Query));
    assert_eq!(chosen("fragment F on T { a }", None), None);
}

#[test]
fn a_persisted_query_is_believed_only_with_its_own_hash() {
    let persisted = Persisted::default();
    let (query, mutation) = ("{ a }", "mutation { a }");
    let hash = |text: &str| {
        let mut hash = [0; 32];
        hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref());
        hash
    };
    let document = Document::read(query).expect("a document");
    assert!(!persisted.learn(hash(mutation), query, &document), "that is another text's hash");
    assert!(persisted.known(&hash(mutation)).is_none() && persisted.known(&hash(query)).is_none());
    assert!(persisted.learn(hash(query), query, &document));
    assert_eq!(persisted.known(&hash(query)).expect("known").chosen(None), Some(Kind::Query));
}

#[test]
fn an_answer_with_errors_is_not_clean() {
    for (clean, answer) in [
        (true, r#"{"data":{"errors":["mine"]}}"#),
        (true, r#" {"data":{"a":"\"errors\":[1]"},"extensions":{"errors":1}} "#),
        (true, r#"{"errors":null,"data":{}}"#),
        (true, r#"{"data":{},"errors" : [ ] }"#),
        (true, r#"{"data":"errors"}"#),
        (true, "{}"),
        (false, r#"{"errors":[{"message":"no"}]}"#),
        (false, r#"{"data":{},"errors" : [ {}]}"#),
        (false, r#"{"data":{},"errors":{}}"#),
        (false, r#"{"data":{},"errors":"x"}"#),
        (false, r#"{"data":{},"\u0065rrors":[1]}"#),
        (false, r#"{"errors":[],"errors":[1]}"#),
        (false, r#"{"data":{}"#),
        (false, r#"{"data":"open}"#),
        (false, r#"[{"data":{}}]"#),
        (false, r#"{"data":{}}{"errors":[1]}"#),
        (false, "<html>"),
        (false, ""),
    ] {
        for size in [1, 3, answer.len().max(1)] {
            let mut inspector = Inspector::default();
            answer.as_bytes().chunks(size).for_each(|piece| inspector.feed(piece));
            assert_eq!(inspector.is_clean(), clean, "{answer} in pieces of {size}");
        }
    }
}

/// Tokens of every kind.
fn any_token() -> impl Strategy<Value = String> {
    prop_oneof![
        "[_A-Za-z][_0-9A-Za-z]{0,4}",
        Just("query".to_owned()),
        "-?(0|[1-9][0-9]{0,2})(\\.[0-9]{1,2})?([eE][+-]?[0-9])?",
        "[!$&():=@\\[\\]{|}]",
        Just("...".to_owned()),
        "\"([a-c ,#é]|\\\\\"|\\\\u00e9|\\\\\\\\){0,5}\"",
        "\"\"\"([a-c ,#\n]|\"a|\\\\\"\"\"){0,5}\"\"\"",
    ]
}

/// Text between two tokens that has no meaning.
fn any_blank() -> impl Strategy<Value = String> {
    "([ \t\n\r,\u{feff}]|#[a-z\"{ ]{0,4}\n){1,3}"
}

proptest! {
    #[test]
    fn blanks_between_tokens_say_nothing_and_no_token_is_lost(parts in prop::collection::vec((any_token(), any_blank()), 0..20)) {
        let source: String = parts.iter().map(|(token, blank)| format!("{token}{blank}")).collect();
        let expected: Vec<&str> = parts.iter().map(|(token, _)| token.as_str()).collect();
        prop_assert_eq!(tokens(&source), Some(expected));
    }

    /// The text is a function of the tokens, and the tokens can be read from it again: two documents share a text only if they
    /// share their tokens.
    #[test]
    fn normalised_texts_keep_their_tokens(parts in prop::collection::vec((any_token(), "([ ,\n]|#x\n)?"), 0..12)) {
        let source: String = parts.iter().map(|(token, blank)| format!("{token}{blank}")).collect();
        for source in [source.clone(), format!("{{{source}}}")] {
            if let Some(found) = tokens(&source) {
                let text = joined(&found);
                prop_assert_eq!(tokens(&text), Some(found));
            }
        }
    }

    #[test]
    fn two_documents_share_a_text_only_with_their_tokens(
        one in prop::collection::vec("[ab1-3 ,\n\"#(){}.:$]|\"\"\"", 0..12), other in prop::collection::vec("[ab1-3 ,\n\"#(){}.:$]|\"\"\"", 0..12),
    ) {
        let (one, other) = (format!("{{{}}}", one.concat()), format!("{{{}}}", other.concat()));
        if let (Some(a), Some(b)) = (text(&one), text(&other)) {
            prop_assert_eq!(a == b, tokens(&one) == tokens(&other));
        }
    }

    #[test]
    fn nothing_panics(source in "\\PC{0,40}", answer in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Document::read(&source);
        let mut inspector = Inspector::default();
        inspector.feed(&answer);
        let _ = inspector.is_clean();
    }
}
