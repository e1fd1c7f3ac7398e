//! Edits in the layouts that people write, and random edits of every shipped configuration.

use std::{fs, path::Path as FilePath};

use proptest::{prelude::*, sample::Index};
use serde_json::json;

use super::*;
use crate::config::read::{Overrides, parse};

const FILE: &str = "\
# the proxy of the shop
inbound:
  app: http://127.0.0.1:3000   # the app
  limits: [{name: pace, key: client_ip, requests: 10, window: 1m}]

  routes:
    # everybody reads these
    - match: {path: /api/products/**}   # no methods
      cache: {ttl: 60s, tags: [catalog]}
    - name: chat
      match: {path: /chat}
      retry:
        max_retries: 1   # SDKs retry too
        backoff: {base: 500ms, max: 8s}

outbound:
  listen: 127.0.0.1:8081
  providers: {openai: {}}
  defaults: {breaker: {}, cache: }
";

fn edited(edit: Edit) -> Result<String, String> {
    let overrides = Overrides { app: None, memory_limit: Some(512 << 20) };
    // A block that is empty is a mistake of the file, and a place for a value.
    Edit::all(&[edit], &FILE.replace(", cache: }", "}"), &|text| parse(text, "proxy.yaml", &overrides, &|_| None).ok())
}

/// The lines that an edit took out and put in.
fn lines(result: Result<String, EditError>) -> Vec<String> {
    let fresh = result.unwrap_or_else(|why| panic!("{why}"));
    let diff = unified("f", (FILE, FILE), (&fresh, &fresh));
    diff.lines().skip(2).filter(|line| line.starts_with(['+', '-'])).map(str::to_owned).collect()
}

#[test]
fn a_value_moves_and_its_line_keeps_the_rest() {
    for (path, value, expected) in [
        (
            "inbound.app",
            json!("http://127.0.0.1:4000"),
            &["-  app: http://127.0.0.1:3000   # the app", "+  app: http://127.0.0.1:4000   # the app"] as &[&str],
        ),
        (
            "inbound.limits[name=pace].requests",
            json!(20),
            &[
                "-  limits: [{name: pace, key: client_ip, requests: 10, window: 1m}]",
                "+  limits: [{name: pace, key: client_ip, requests: 20, window: 1m}]",
            ],
        ),
        (
            "inbound.routes[0].cache.mode",
            json!("observe"),
            &["-      cache: {ttl: 60s, tags: [catalog]}", "+      cache: {ttl: 60s, tags: [catalog], mode: observe}"],
        ),
        (
            "inbound.routes[1].retry.max_retries",
            json!(2),
            &["-        max_retries: 1   # SDKs retry too", "+        max_retries: 2   # SDKs retry too"],
        ),
        ("inbound.routes[name=chat].retry.mode", json!("observe"), &["+        mode: observe"]),
        ("inbound.routes[1].timeouts.total", json!("5s"), &["+      timeouts: {total: 5s}"]),
        ("inbound.routes[0].timeouts.total", json!("5s"), &["+      timeouts: {total: 5s}"]),
        (
            "outbound.defaults.cache.ttl",
            json!("1h"),
            &["-  defaults: {breaker: {}, cache: }", "+  defaults: {breaker: {}, cache: {ttl: 1h} }"],
        ),
        (
            "outbound.defaults.breaker.mode",
            json!("off"),
            &["-  defaults: {breaker: {}, cache: }", "+  defaults: {breaker: {mode: off}, cache: }"],
        ),
        ("telemetry.log", json!("text"), &["+telemetry: {log: text}"]),
        (
            "outbound.providers.openai.keys",
            json!(["${OPENAI_API_KEY:-}", "a: b", "true", ""]),
            &["-  providers: {openai: {}}", "+  providers: {openai: {keys: [\"${OPENAI_API_KEY:-}\", \"a: b\", true, \"\"]}}"],
        ),
    ] {
        assert_eq!(lines(set(FILE, path, &value)), expected, "{path}");
    }
    // A whole block on several lines gives its place to one line; the comment on the block's own line stays.
    assert_eq!(
        lines(set(FILE, "inbound.routes[1].retry", &json!({"max_retries": 3}))),
        [
            "-      retry:",
            "-        max_retries: 1   # SDKs retry too",
            "-        backoff: {base: 500ms, max: 8s}",
            "+      retry: {max_retries: 3}"
        ]
    );
}

#[test]
fn an_item_comes_and_goes() {
    let route = json!({"match": {"path": "/new", "methods": ["GET"]}, "cache": {"ttl": "5s"}});
    let block = ["+    - match: {path: /new, methods: [GET]}", "+      cache: {ttl: 5s}"];
    assert_eq!(lines(append(FILE, "inbound.routes", &route, None)), block);
    assert_eq!(lines(append(FILE, "inbound.routes", &route, Some(1))), block);
    assert_eq!(lines(append(FILE, "inbound.routes", &route, Some(0))), block);
    assert_eq!(lines(append(FILE, "outbound.routes", &json!({"match": {}}), None)), ["+  routes: [{match: {}}]"]);
    assert_eq!(
        lines(append(FILE, "inbound.routes[0].cache.tags", &json!("more"), Some(0))),
        ["-      cache: {ttl: 60s, tags: [catalog]}", "+      cache: {ttl: 60s, tags: [more, catalog]}"]
    );
    assert_eq!(
        lines(remove(FILE, "inbound.routes[0]")),
        ["-    - match: {path: /api/products/**}   # no methods", "-      cache: {ttl: 60s, tags: [catalog]}"]
    );
    assert_eq!(lines(remove(FILE, "inbound.routes[1].retry.max_retries")), ["-        max_retries: 1   # SDKs retry too"]);
    assert_eq!(
        lines(remove(FILE, "inbound.limits[0].key")),
        ["-  limits: [{name: pace, key: client_ip, requests: 10, window: 1m}]", "+  limits: [{name: pace, requests: 10, window: 1m}]"]
    );
    assert_eq!(lines(remove(FILE, "outbound.defaults.cache")), ["-  defaults: {breaker: {}, cache: }", "+  defaults: {breaker: {} }"]);
    assert_eq!(
        lines(remove(FILE, "inbound.routes[1].name")),
        ["-    - name: chat", "-      match: {path: /chat}", "+    - match: {path: /chat}"]
    );
}

#[test]
fn what_cannot_be_done_is_said_with_its_place() {
    let why = |result: Result<String, EditError>| result.expect_err("refused").to_string();
    for (said, part) in [
        (why(set(FILE, "inbound.routes[7].cache", &json!({}))), "no such item"),
        (why(set(FILE, "inbound.app.port", &json!(1))), "no block of keys"),
        (why(set(FILE, "inbound..app", &json!(1))), "is no path"),
        (why(set(FILE, "inbound.routes[name=x].cache", &json!({}))), "`name: x`"),
        (why(set(FILE, "inbound.app", &Value::Null)), "use `remove`"),
        (why(append(FILE, "inbound.app", &json!(1), None)), "no list"),
        (why(append(FILE, "inbound.routes", &json!({}), Some(9))), "no place 9"),
        (why(remove(FILE, "inbound.routes[0].retry")), "is not written"),
        (why(set("a: &x {b: 1}\nc: *x\n", "c.b", &json!(2))), "by hand"),
        (why(set("a: [1\n", "a", &json!(2))), "mend it first"),
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn names_of_routes_policies_and_limits_lead_to_their_blocks() {
    let said = |edit: Value| edited(serde_json::from_value(edit).expect("an edit"));
    let moved = said(json!({"op": "mode", "door": "inbound", "route": "chat", "policy": "retry", "mode": "observe"})).expect("made");
    assert!(moved.contains("        backoff: {base: 500ms, max: 8s}\n        mode: observe\n"), "{moved}");
    let moved =
        said(json!({"op": "mode", "door": "inbound", "route": "/api/products/**", "policy": "cache", "mode": "off"})).expect("made");
    assert!(moved.contains("tags: [catalog], mode: off}"), "{moved}");
    let moved = said(json!({"op": "mode", "door": "outbound", "route": "default", "policy": "breaker", "mode": "observe"})).expect("made");
    assert!(moved.contains("breaker: {mode: observe}"), "{moved}");
    let moved = said(json!({"op": "limit", "door": "inbound", "limit": "pace", "requests": "2k", "window": "1h"})).expect("made");
    assert!(moved.contains("requests: 2k, window: 1h}"), "{moved}");
    for (edit, part) in [
        (json!({"op": "mode", "door": "inbound", "route": "chatt", "policy": "retry", "mode": "off"}), "it has /api/products/**, chat"),
        (json!({"op": "mode", "door": "inbound", "route": "chat", "policy": "cache", "mode": "off"}), "is not written"),
        (json!({"op": "mode", "door": "inbound", "route": "chat", "policy": "retry", "mode": "on"}), "enforce, observe or off"),
        (json!({"op": "limit", "door": "inbound", "limit": "pace", "usd": 1}), "does not count usd"),
        (json!({"op": "limit", "door": "inbound", "limit": "speed", "requests": 1}), "it has `pace`"),
    ] {
        let why = said(edit).expect_err("refused");
        assert!(why.starts_with("edits[0] (") && why.contains(part), "{why}");
    }
    assert!(serde_json::from_value::<Edit>(json!({"op": "set", "path": "a", "value": 1, "more": 2})).is_err());
}

#[test]
fn an_edit_is_told_without_its_value() {
    let edit = Edit::Set { path: "admin.token".into(), value: json!("hunter2") };
    assert_eq!((edit.to_string(), format!("{edit:?}")), ("set admin.token".into(), "set admin.token".into()));
}

/// Every configuration that is shipped or tested.
fn corpus() -> Vec<String> {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = vec![fs::read_to_string(root.join("proxy.yaml")).expect("shipped"), FILE.to_owned(), FILE.replace('\n', "\r\n")];
    for entry in fs::read_dir(root.join("tests/configs/good")).expect("a folder") {
        texts.push(fs::read_to_string(entry.expect("an entry").path()).expect("text"));
    }
    texts
}

/// Every path in a tree.
fn paths(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let plain = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                let here = match (plain, path.is_empty()) {
                    (true, true) => key.clone(),
                    (true, false) => format!("{path}.{key}"),
                    (false, _) => format!("{path}[{}]", Value::from(key.as_str())),
                };
                out.push(here.clone());
                paths(value, &here, out);
            }
        }
        Value::Array(items) => {
            for (nth, item) in items.iter().enumerate() {
                let here = format!("{path}[{nth}]");
                out.push(here.clone());
                paths(item, &here, out);
            }
        }
        _ => {}
    }
}

/// Lines of the old text that are not in the new one, in order.
fn lost(old: &str, new: &str) -> Vec<String> {
    let diff = unified("f", (old, old), (new, new));
    diff.lines().skip(2).filter(|line| line.starts_with('-')).map(|line| line[1..].trim().to_owned()).collect()
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z0-9 :#{}\\[\\],&*!|>'\"%@`~\\\\$é-]{0,12}".prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(json!({"a": [1, "x: y"], "b": {"c": "#"}})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// What an edit sets is there, and every other line is as it was.
    #[test]
    fn a_random_value_changes_its_own_lines_alone(file in any::<Index>(), place in any::<Index>(), given in any_value()) {
        let corpus = corpus();
        let text = file.get(&corpus);
        let tree = flow::plain(&readable(text).expect("YAML"));
        let mut all = Vec::new();
        paths(&tree, "", &mut all);
        let path = place.get(&all);
        let was = value(text, path);
        let fresh = set(text, path, &given).unwrap_or_else(|why| panic!("{path}: {why}"));
        prop_assert_eq!(value(&fresh, path), Some(flow::words(&given)), "{}", path);
        // A word stands on one line; a block may stand on many.
        if matches!(was, Some(Value::String(_))) {
            prop_assert!(lost(text, &fresh).len() <= 1, "{path}: {:?}", lost(text, &fresh));
            prop_assert_eq!(text.lines().count(), fresh.lines().count());
        }
        let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        let inside = was.is_some_and(|was| was.is_object() || was.is_array());
        prop_assert!(inside || comments(text) == comments(&fresh), "{path}");
    }

    /// A new key takes nothing away, but the line that it stands in.
    #[test]
    fn a_new_key_takes_no_line_away(file in any::<Index>(), place in any::<Index>()) {
        let corpus = corpus();
        let text = file.get(&corpus);
        let tree = flow::plain(&readable(text).expect("YAML"));
        let mut all = vec![String::new()];
        paths(&tree, "", &mut all);
        all.retain(|path| path.is_empty() || value(text, path).is_some_and(|value| value.is_object()));
        let block = place.get(&all);
        let path = if block.is_empty() { "fresh".to_owned() } else { format!("{block}.fresh") };
        let fresh = set(text, &path, &json!({"x": [1]})).unwrap_or_else(|why| panic!("{path}: {why}"));
        prop_assert_eq!(value(&fresh, &path), Some(json!({"x": ["1"]})));
        prop_assert!(lost(text, &fresh).len() <= 1, "{path}: {:?}", lost(text, &fresh));
        // And it goes again without a trace.
        let back = remove(&fresh, &path).unwrap_or_else(|why| panic!("{path}: {why}"));
        prop_assert_eq!(flow::plain(&readable(&back).expect("YAML")), tree);
    }

    /// What is removed is gone, and no other line is.
    #[test]
    fn what_is_removed_takes_its_own_lines_alone(file in any::<Index>(), place in any::<Index>()) {
        let corpus = corpus();
        let text = file.get(&corpus);
        let mut all = Vec::new();
        paths(&flow::plain(&readable(text).expect("YAML")), "", &mut all);
        let path = place.get(&all);
        match remove(text, path) {
            Ok(fresh) => {
                let is_item = path.ends_with(']') && !path.ends_with("\"]");
                prop_assert!(is_item || value(&fresh, path).is_none(), "{}", path);
                prop_assert!(value(text, path).is_some_and(|value| value.is_object() || value.is_array()) || lost(text, &fresh).len() <= 2);
            }
            Err(why) => prop_assert!(matches!(why, EditError::Layout(..)), "{path}: {why}"),
        }
    }

    #[test]
    fn no_path_panics(path in "[a-z.\\[\\]\"=0-9]{0,12}") {
        let _ = set(FILE, &path, &json!(1));
        let _ = remove(FILE, &path);
        let _ = append(FILE, &path, &json!(1), Some(0));
    }
}
