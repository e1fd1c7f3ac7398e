//! What is read of schemas and documents, and what is said of their mistakes.

use std::fs;

use http::Method;
use serde_json::{Value, json};

use super::{Found, OpenApi, Schema};
use crate::config::testing::{good, route, says};

fn document(rest: &Value) -> Value {
    let mut document = json!({"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "servers": [{"url": "https://api.example/v1/"}]});
    document.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
    document
}

fn compiled(rest: &Value) -> (OpenApi, Vec<String>) {
    OpenApi::compile(document(rest), false).unwrap_or_else(|wrong| panic!("{wrong:#?}"))
}

fn wrong(rest: &Value) -> Vec<String> {
    OpenApi::compile(document(rest), false).expect_err("wrong")
}

#[test]
fn a_path_is_found_below_the_servers_and_fixed_segments_come_first() {
    let get = |name: &str| json!({"get": {"parameters": [{"name": name, "in": "query"}]}});
    let (document, _) = compiled(&json!({"paths": {
        "/orders/{id}": get("by_id"), "/orders/mine": get("mine"), "/orders/{id}.json": get("file"), "/{a}-{b}/x": get("two"), "/": get("root"),
    }}));
    let found = |method: Method, path: &str| match document.find(&method, path) {
        Found::Operation(operation, values) => {
            let values: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{} {}", operation.parameters[0].name, values.join(","))
        }
        Found::OtherMethods(methods) => format!("{methods:?}"),
        Found::Nothing => "nothing".to_owned(),
    };
    for (path, expected) in [
        ("/v1/orders/7", "by_id id=7"),
        ("/v1/orders/mine", "mine "),
        ("/v1/orders/7.json", "file id=7"),
        ("/v1/1-2/x", "two "),
        ("/v1/", "root "),
        ("/v1/orders/", "nothing"),
        ("/orders/7", "nothing"),
        ("/v1/orders/7/8", "nothing"),
        ("/v12/orders/7", "nothing"),
    ] {
        assert_eq!(found(Method::GET, path), expected, "{path}");
    }
    assert_eq!((found(Method::HEAD, "/v1/orders/7"), found(Method::PUT, "/v1/orders/7")), ("by_id id=7".to_owned(), "[GET]".to_owned()));
}

#[test]
fn the_words_of_the_older_version_are_understood() {
    let schema = json!({"type": "object", "required": ["id", "name"], "properties": {
        "id": {"type": "string", "readOnly": true}, "name": {"type": "string", "nullable": true},
        "kind": {"$ref": "#/components/schemas/Kind"}, "size": {"type": "integer", "minimum": 0, "exclusiveMinimum": true},
    }});
    let body = json!({"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}});
    let (document, _) = compiled(&json!({
        "paths": {"/orders/{id}": {"$ref": "#/components/pathItems/orders"}},
        "components": {
            "pathItems": {"orders": {"post": {"requestBody": {"$ref": "#/components/requestBodies/Order"}}}},
            "requestBodies": {"Order": body},
            "schemas": {"Order": schema, "Kind": {"type": "string", "enum": ["a", "b"], "nullable": true}},
        },
    }));
    let Found::Operation(operation, _) = document.find(&Method::POST, "/v1/orders/1") else { panic!("not found") };
    let takes = |value: Value| {
        let schema = operation.body.as_ref().expect("described").contents[0].1.as_ref().expect("a schema");
        schema.takes(&value)
    };
    assert!(takes(json!({"name": null, "kind": null})) && takes(json!({"name": "n", "kind": "a", "size": 1})));
    for refused in [json!({}), json!({"name": 1}), json!({"name": "n", "kind": "c"}), json!({"name": "n", "size": 0})] {
        assert!(!takes(refused.clone()), "{refused}");
    }
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let post = |schema: Value| json!({"paths": {"/a": {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}}});
    assert!(
        wrong(&post(json!({"$ref": "other.yaml#/X"})))[0].contains("other.yaml"),
        "{:?}",
        wrong(&post(json!({"$ref": "other.yaml#/X"})))
    );
    assert!(!wrong(&post(json!({"type": "strin"}))).is_empty());
    assert!(wrong(&post(json!({"type": "string", "pattern": "(?=x)"})))[0].contains("pattern"), "a pattern that looks ahead");
    assert!(
        wrong(&json!({"paths": {"/a": {"get": {"parameters": [{"$ref": "#/components/parameters/X"}]}}}}))[0].contains("leads nowhere")
    );
    assert!(wrong(&json!({}))[0].contains("no `paths`"));
    let swagger = OpenApi::compile(json!({"swagger": "2.0", "paths": {}}), false).expect_err("old");
    assert!(swagger[0].contains("Swagger 2.0"));
    let (_, notes) = compiled(&json!({"paths": {"/a": {
        "get": {"parameters": [{"name": "f", "in": "query", "style": "deepObject", "schema": {"type": "object"}}]},
        "post": {"requestBody": {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    }}}));
    assert!(notes.len() == 2 && notes.iter().all(|note| note.contains("is not looked at")), "{notes:?}");
}

#[test]
fn nothing_is_fetched() {
    for schema in
        [json!({"$ref": "http://127.0.0.1:1/x.json"}), json!({"$ref": "file:///etc/passwd"}), json!({"$schema": "http://127.0.0.1:1/x"})]
    {
        assert!(Schema::compile(&schema, false).is_err(), "{schema}");
    }
}

#[test]
fn files_of_the_policy_are_read_and_their_mistakes_are_mistakes_of_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).expect("written");
        dir.path().join(name).display().to_string()
    };
    let (json, yaml, bad) =
        (file("a.json", r#"{"type": "object"}"#), file("a.yaml", "type: object\n"), file("b.json", r#"{"type": "objec"}"#));
    let config = good(&route(&format!("validate: {{schema: {json}, query: {yaml}, methods: [GET, POST], max_body: 1KiB}}")));
    let validate = config.inbound.expect("open").routes.remove(0).policies.validate.expect("named");
    assert!(validate.schema.is_some() && validate.query.is_some() && validate.max_body == Some(1024) && validate.max_depth == 64);
    says(&route(&format!("validate: {{schema: {bad}}}")), "5:26", "objec");
    says(&route("validate: {schema: nowhere.json}"), "5:26", "cannot read");
    says(&route("validate: {undocumented: pass}"), "5:18", "no meaning without `openapi`");
    says(&route("openapi: a.yaml"), "5:7", "write `validate: {openapi: openapi.yaml}`");
}
