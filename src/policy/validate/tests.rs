//! Requests against policies, and what is said of them.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::{Given, head, json};
use crate::{
    config::{Mode, OpenApi, Schema, Undocumented, Validate},
    http1::Fields,
    reject::{Invalid, InvalidFault},
};

fn policy() -> Validate {
    Validate {
        mode: Mode::Enforce,
        methods: Vec::new(),
        content_types: Vec::new(),
        max_body: None,
        max_depth: 8,
        duplicate_keys: false,
        schema: None,
        query: None,
        openapi: None,
        undocumented: Undocumented::Refuse,
    }
}

fn schema(value: &Value) -> Option<Arc<Schema>> {
    Some(Arc::new(Schema::compile(value, false).unwrap_or_else(|why| panic!("{why}"))))
}

fn fields(pairs: &[(&'static str, &str)]) -> Fields {
    let mut fields = Fields::default();
    pairs.iter().for_each(|(name, value)| fields.append(*name, *value));
    fields
}

/// What is said of a request with a JSON body; an empty body is none.
fn said(policy: &Validate, method: Method, target: &str, pairs: &[(&'static str, &str)], body: &str) -> Result<(), Invalid> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut fields = fields(pairs);
    if !body.is_empty() && !pairs.iter().any(|(name, _)| *name == "content-type") {
        fields.append("content-type", "application/json; charset=utf-8");
    }
    let given = Given { method: &method, path, query, fields: &fields, has_body: !body.is_empty() };
    match head(policy, &given)? {
        None => Ok(()),
        Some(plan) => plan.check(body.as_bytes()),
    }
}

fn places(said: Result<(), Invalid>) -> Vec<String> {
    match said {
        Ok(()) => Vec::new(),
        Err(invalid) => invalid.errors.iter().map(|error| format!("{} {}", error.part, error.place)).collect(),
    }
}

#[test]
fn a_text_is_json_with_no_name_twice_and_not_too_deep() {
    let read = |text: &str, depth, duplicates| json::read(text.as_bytes(), depth, duplicates);
    assert_eq!(read(r#"{"a":[1,-2,3.5,null,true,"x"]}"#, 2, false), Ok((json!({"a": [1, -2, 3.5, null, true, "x"]}), Vec::new())));
    let (value, doubled) = read(r#"{"a":1,"b":{"c/d":1,"c/d":2,"c/d":3},"a":2,"l":[{"x":1,"x":1}]}"#, 8, false).expect("JSON");
    assert_eq!((value["a"].as_u64(), doubled), (Some(2), vec!["/b/c~1d".to_owned(), "/a".to_owned(), "/l/0/x".to_owned()]));
    assert_eq!(read(r#"{"a":1,"a":2}"#, 8, true).map(|(_, doubled)| doubled), Ok(Vec::new()));
    assert!(read("[[[]]]", 3, false).is_ok() && read("[[[[]]]]", 3, false).is_err_and(|why| why.contains("deeper than 3")));
    for broken in ["", "{", "[1,]", "{\"a\":1}x", "nul", "\u{feff}{}", "{'a':1}", "01", "\"\u{1}\"", "NaN"] {
        assert!(read(broken, 8, false).is_err_and(|why| why.contains("line 1")), "{broken:?}");
    }
    // The deepest that is allowed, of a stranger's choice.
    let deep = "[".repeat(100_000);
    assert!(read(&deep, 127, false).is_err_and(|why| why.contains("deeper than 127")));
}

#[test]
fn method_type_and_size_are_refused_by_themselves() {
    let fault = |policy: &Validate, method, pairs: &[(&'static str, &str)]| {
        said(policy, method, "/a", pairs, "{}").map_err(|invalid| invalid.fault)
    };
    let methods = Validate { methods: vec![Method::GET, Method::POST], ..policy() };
    assert_eq!(fault(&methods, Method::POST, &[]), Ok(()));
    assert_eq!(fault(&methods, Method::PUT, &[]), Err(InvalidFault::Method("GET, POST".to_owned())));
    let with_schema = Validate { schema: schema(&json!({"type": "object"})), ..policy() };
    for (media, expected) in [
        ("application/json", Ok(())),
        ("application/problem+json", Ok(())),
        ("text/plain", Err(InvalidFault::MediaType)),
        ("", Err(InvalidFault::MediaType)),
    ] {
        assert_eq!(fault(&with_schema, Method::POST, &[("content-type", media)]), expected, "{media}");
    }
    let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
    assert_eq!(fault(&policy(), Method::POST, &twice), Err(InvalidFault::MediaType));
    assert_eq!(places(said(&with_schema, Method::POST, "/a", &[], "")), ["body "], "a body that is missing");
    assert_eq!(said(&with_schema, Method::GET, "/a", &[], ""), Ok(()));
    // What is no JSON is not looked into.
    assert_eq!(said(&policy(), Method::POST, "/a", &[("content-type", "text/plain")], "{"), Ok(()));
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_shows_no_value() {
    let item = json!({"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string", "maxLength": 3}, "n": {"type": "integer", "minimum": 1}}});
    let of = json!({"type": "object", "required": ["name"], "properties": {"items": {"type": "array", "items": item}}, "additionalProperties": {"type": "string"}});
    let policy = Validate {
        schema: schema(&of),
        query: schema(&json!({"properties": {"page": {"type": "integer"}}, "additionalProperties": false})),
        ..policy()
    };
    let wrong = said(&policy, Method::POST, "/a?page=secret&x=1", &[], r#"{"items":[{"n":0,"n":0},{"sku":"secret"}],"other":7}"#);
    let invalid = wrong.expect_err("wrong");
    let told = places(Err(invalid.clone()));
    for place in ["query page", "query ", "body /items/0/n", "body /items/0", "body /items/1/sku", "body /other", "body "] {
        assert!(told.iter().any(|own| own == place), "{place}: {told:?}");
    }
    assert!(!invalid.detail().contains("secret"), "{}", invalid.detail());
    assert!(places(said(&policy, Method::POST, "/a?page=7", &[], r#"{"name":"n"}"#)).is_empty());
}

#[test]
fn parameters_are_read_as_the_document_says() {
    let parameter = |name: &str, place: &str, schema: Value, rest: Value| {
        let mut row = json!({"name": name, "in": place, "schema": schema});
        row.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        row
    };
    let integers = json!({"type": "array", "items": {"type": "integer"}});
    let parameters = json!([
        parameter("id", "path", json!({"type": "integer"}), json!({"required": true})),
        parameter("limit", "query", json!({"type": "integer", "maximum": 100}), json!({"required": true})),
        parameter("all", "query", integers.clone(), json!({})),
        parameter("list", "query", integers.clone(), json!({"explode": false})),
        parameter("on", "query", json!({"type": "boolean"}), json!({})),
        parameter("X-Kind", "header", json!({"type": "string", "enum": ["a", "b"]}), json!({})),
        parameter("session", "cookie", json!({"type": "string", "minLength": 4}), json!({})),
        {"name": "filter", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}},
    ]);
    let document = json!({"openapi": "3.1.0", "paths": {"/o/{id}": {"get": {"parameters": parameters}}}});
    let (document, notes) = OpenApi::compile(document, false).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    assert_eq!(notes, Vec::<String>::new());
    let policy = Validate { openapi: Some(Arc::new(document)), ..policy() };
    let good = [("x-kind", "a"), ("cookie", "a=b; session=\"12345\"")];
    let told = |target: &str, pairs: &[(&'static str, &str)]| places(said(&policy, Method::GET, target, pairs, ""));
    assert!(told("/o/7?limit=5&all=1&all=2&list=1,2&on=true&filter=%7B%22a%22%3A1%7D", &good).is_empty());
    for (target, expected) in [
        ("/o/x?limit=5", vec!["path id"]),
        ("/o/7", vec!["query limit"]),
        ("/o/7?limit=101", vec!["query limit"]),
        ("/o/7?limit=5&limit=6", vec!["query limit"]),
        ("/o/7?limit=five", vec!["query limit"]),
        ("/o/7?limit=5&all=1&all=x", vec!["query all"]),
        ("/o/7?limit=5&list=1,x", vec!["query list"]),
        ("/o/7?limit=5&on=yes", vec!["query on"]),
        ("/o/7?limit=5&filter=%7B", vec!["query filter"]),
        ("/o/7?limit=%ff", vec!["query limit"]),
        ("/o/x?limit=y&on=z", vec!["path id", "query limit", "query on"]),
    ] {
        let mut found = told(target, &good);
        found.sort();
        assert_eq!(found, expected, "{target}");
    }
    assert_eq!(told("/o/7?limit=5", &[("x-kind", "c"), ("cookie", "session=1")]), ["header X-Kind", "cookie session"]);
    for (target, expected) in
        [("/o/7/8", InvalidFault::Undocumented), ("/o/%2e%2e", InvalidFault::Undocumented), ("/o/a%2Fb", InvalidFault::Undocumented)]
    {
        assert_eq!(said(&policy, Method::GET, target, &[], "").map_err(|invalid| invalid.fault), Err(expected), "{target}");
    }
    let method = said(&policy, Method::DELETE, "/o/7", &[], "").map_err(|invalid| invalid.fault);
    assert_eq!(method, Err(InvalidFault::Method("GET".to_owned())));
    assert_eq!(said(&policy, Method::OPTIONS, "/o/7", &[], ""), Ok(()));
    let passes = Validate { undocumented: Undocumented::Pass, ..policy };
    assert_eq!(said(&passes, Method::GET, "/nowhere", &[], ""), Ok(()));
}

#[test]
fn a_body_is_of_a_type_that_the_document_has() {
    let content = json!({"application/json": {"schema": {"type": "object"}}, "text/*": {}});
    let document = json!({"openapi": "3.1.0", "paths": {"/o": {"post": {"requestBody": {"required": true, "content": content}}}}});
    let policy = Validate { openapi: Some(Arc::new(OpenApi::compile(document, false).expect("good").0)), ..policy() };
    let fault =
        |media: &str, body: &str| said(&policy, Method::POST, "/o", &[("content-type", media)], body).map_err(|invalid| invalid.fault);
    assert_eq!((fault("application/json", "{}"), fault("text/csv", "a,b")), (Ok(()), Ok(())));
    assert_eq!(fault("application/xml", "<a/>"), Err(InvalidFault::MediaType));
    assert_eq!(fault("application/json", "[]"), Err(InvalidFault::Content));
    assert_eq!(fault("application/json", "{"), Err(InvalidFault::Unreadable));
    assert_eq!(said(&policy, Method::POST, "/o", &[], "").map_err(|invalid| invalid.fault), Err(InvalidFault::Content));
}
