//! The table is sound: every example, default and range is accepted, and everything it allows can be read.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{print::tables, *};
use crate::config::read::{Overrides, parse};

fn env(name: &str) -> Option<String> {
    (name == "AWS_REGION").then(|| "eu-central-1".to_owned())
}

fn load(text: &str) -> Result<String, String> {
    let overrides = Overrides { memory_limit: Some(1 << 30), ..Overrides::default() };
    parse(text, "generated.yaml", &overrides, &env).map(|config| format!("{config:?}")).map_err(|mistakes| mistakes.to_string())
}

/// Keys whose examples contradict each other, or need something that is not beside them; they have tests of their own.
const APART: [(&str, &str); 49] = [
    ("proxy.yaml", "audit"),
    ("inbound route", "app"),
    ("validate", "schema"),
    ("validate", "query"),
    ("validate", "openapi"),
    ("access", "allow_files"),
    ("access", "deny_files"),
    ("access", "countries"),
    ("outbound access", "allow_files"),
    ("outbound access", "deny_files"),
    ("outbound access", "countries"),
    ("inbound route", "auth"),
    ("outbound route", "auth"),
    ("inbound.defaults", "auth"),
    ("outbound.defaults", "auth"),
    ("inbound limit", "concurrency"),
    ("outbound limit", "concurrency"),
    ("inbound limit", "queue"),
    ("outbound limit", "queue"),
    ("inbound limit", "on_limit"),
    ("outbound limit", "on_limit"),
    ("inbound", "tls"),
    ("inbound", "app_balance"),
    ("provider", "balance"),
    ("inbound", "app_tls"),
    ("outbound", "tls"),
    ("provider", "tls"),
    ("inbound limit", "name"),
    ("outbound limit", "name"),
    ("inbound limit", "burst"),
    ("outbound limit", "burst"),
    ("inbound limit", "unpriced"),
    ("outbound limit", "unpriced"),
    ("inbound limit", "unmetered"),
    ("outbound limit", "unmetered"),
    ("inbound", "caller"),
    ("inbound", "app"),
    ("inbound route", "purge"),
    ("inbound route", "respond"),
    ("rewrite", "path"),
    ("inbound cache", "cookies"),
    ("inbound cache", "unsafe"),
    ("inbound cache", "key"),
    ("outbound cache", "share"),
    ("store", "redis"),
    ("store", "namespace"),
    ("outbound match", "provider"),
    ("inbound.warm", "file"),
    ("outbound", "prices_file"),
];

/// A document in which `pick` chose the keys that are not required.
fn document(table: &Table, pick: &mut dyn FnMut() -> bool) -> String {
    let mut out = Vec::new();
    let one_of: BTreeSet<&str> = table.exactly_one.iter().flat_map(|group| group.iter().copied()).collect();
    let mut chosen = BTreeSet::new();
    for group in table.exactly_one {
        let open: Vec<&str> = group.iter().copied().filter(|key| !APART.contains(&(table.name, *key)) && pick()).collect();
        chosen.insert(*open.first().unwrap_or(&group[0]));
    }
    for key in table.keys {
        let first = table.at_least_one.iter().any(|group| group[0] == key.name);
        let apart = APART.contains(&(table.name, key.name));
        let wanted = if one_of.contains(key.name) {
            chosen.contains(key.name)
        } else {
            let needed = table.needs.iter().any(|(a, b)| *b == key.name && chosen.contains(a));
            matches!(key.default, Default::Required)
                || needed
                || first
                || (table.name, key.name) == ("inbound", "app")
                || (!apart && pick())
        };
        // Pairs: the first only where the second is.
        let lonely = table
            .needs
            .iter()
            .any(|(a, b)| *a == key.name && !chosen.contains(a) && (one_of.contains(b) && !chosen.contains(b) || !one_of.contains(b)));
        if wanted && !lonely {
            out.push(format!("{}: {}", key.name, value(key, &key.kind, pick)));
        }
    }
    format!("{{{}}}", out.join(", "))
}

fn value(key: &Key, kind: &Kind, pick: &mut dyn FnMut() -> bool) -> String {
    match kind {
        Kind::Table(table) => document(table, pick),
        Kind::List(Kind::Table(table)) => format!("[{}]", document(table, pick)),
        Kind::Map { key: names, of: Kind::Table(table) } => format!("{{{}: {}}}", names.example, document(table, pick)),
        Kind::Either([Kind::Table(table), ..]) if pick() => document(table, pick),
        _ => key.example(),
    }
}

#[test]
fn everything_the_table_allows_at_once_can_be_read() {
    let text = document(&ROOT, &mut || true);
    load(&text).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_document_of_the_table_can_be_read(picks in prop::collection::vec(any::<bool>(), 1..400)) {
        let mut picks = picks.into_iter().cycle();
        let text = document(&ROOT, &mut || picks.next().unwrap_or(true));
        // A file without any door is refused on purpose.
        let text = if text.contains("inbound:") { text } else { text.replacen('{', "{inbound: {app: 3000}, ", 1) };
        let text = text.replace(", }", "}");
        // So is a limit on what model calls use where none passes.
        let text = if text.contains("outbound:") { text } else { text.replacen('{', "{outbound: {providers: {openai: {}}}, ", 1) };
        if let Err(mistakes) = load(&text) {
            prop_assert!(false, "{text}\n{mistakes}");
        }
    }
}

#[test]
fn defaults_written_out_change_nothing() {
    fn full(table: &Table) -> String {
        let mut out = Vec::new();
        for key in table.keys {
            let value = match (key.default, &key.kind) {
                (_, Kind::Table(table)) | (_, Kind::Either([Kind::Table(table), ..])) if matches!(key.default, Default::Value("{}")) => {
                    full(table)
                }
                (Default::Value(yaml), _) => yaml.to_owned(),
                _ => continue,
            };
            out.push(format!("{}: {value}", key.name));
        }
        format!("{{{}}}", out.join(", "))
    }
    let find = |name: &str| tables().into_iter().find(|table| table.name == name).expect(name);
    let policy = |name: &str, bare: bool, more: &str| {
        let written = if bare { "{}".to_owned() } else { full(find(name)) };
        written.replacen('{', &format!("{{{more}"), 1).replace(", }", "}")
    };
    let file = |bare: bool| {
        let part = |name: &str| if bare { "{}".to_owned() } else { full(find(name)) };
        format!(
            "inbound:\n  app: 3000\n  bounds: {}\n  limits: [{}]\n  defaults: {{timeouts: {}, retry: {}, breaker: {}, cache: {}, fallback: [{{respond: {}}}]}}\n\
             outbound:\n  providers: {{openai: {{}}}}\n  bounds: {}\n  limits: [{}]\n  defaults: {{timeouts: {}, retry: {}, breaker: {}, cache: {}}}\n\
             admin: {}\nstore: {}\ntelemetry: {}\nshutdown: {}\n",
            part("inbound.bounds"),
            policy("inbound limit", bare, "requests: 1, window: 1m, "),
            part("timeouts"),
            part("inbound retry"),
            part("breaker"),
            part("inbound cache"),
            part("fallback.respond"),
            part("outbound.bounds"),
            policy("outbound limit", bare, "requests: 1, window: 1m, "),
            part("timeouts"),
            part("outbound retry"),
            part("breaker"),
            policy("outbound cache", bare, "ttl: 1h, "),
            part("admin"),
            part("store"),
            part("telemetry"),
            part("shutdown"),
        )
    };
    let (bare, written) = (load(&file(true)).expect("bare"), load(&file(false)).unwrap_or_else(|m| panic!("{}\n{m}", file(false))));
    assert_eq!(bare, written);
}

#[test]
fn every_scalar_accepts_its_example_and_its_range() {
    fn scalars(kind: &Kind, out: &mut Vec<&'static Scalar>) {
        match kind {
            Kind::Scalar(scalar) => out.push(scalar),
            Kind::List(of) | Kind::OneOrMany(of) | Kind::Map { of, .. } => scalars(of, out),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| scalars(kind, out)),
            Kind::Table(_) => {}
        }
    }
    for table in tables() {
        for key in table.keys {
            assert!(key.doc.ends_with('.'), "{}.{}: {}", table.name, key.name, key.doc);
            let mut kinds = Vec::new();
            scalars(&key.kind, &mut kinds);
            for scalar in kinds {
                let example = scalar.example.trim_matches('"');
                if !example.contains("${") {
                    assert!((scalar.check)(example).is_ok(), "{}: {example}", scalar.name);
                }
                if let Some((least, most)) = key.range {
                    let measure =
                        |text| (scalar.check)(text).ok().flatten().unwrap_or_else(|| panic!("{}.{}: {text}", table.name, key.name));
                    assert!(measure(least) < measure(most), "{}.{}", table.name, key.name);
                }
            }
        }
    }
}

#[test]
fn groups_and_pairs_name_keys_that_exist() {
    let mut names = BTreeSet::new();
    for table in tables() {
        assert!(names.insert(table.name));
        let mut keys = BTreeSet::new();
        assert!(table.keys.iter().all(|key| keys.insert(key.name)), "{}", table.name);
        for name in table.exactly_one.iter().copied().flatten().chain(table.needs.iter().flat_map(|(a, b)| [a, b])) {
            assert!(keys.contains(name), "{}: {name}", table.name);
        }
        for (name, _) in table.foreign {
            assert!(!keys.contains(name), "{}: {name} is known, not foreign", table.name);
        }
    }
}

#[test]
fn the_reference_is_stable_and_complete() {
    let text = reference();
    assert_eq!(text, reference());
    for table in tables() {
        assert!(text.contains(&format!("\n### `{}`\n", table.name)), "{}", table.name);
        for key in table.keys {
            assert!(text.contains(&format!("| `{}` | ", key.name)), "{}.{}", table.name, key.name);
        }
    }
    // Every row has its four cells: no stray bar.
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
    }
    assert!(text.contains("| `max_retries` | a count, 0 to 10 | `2` | Tries after the first. |"), "{text}");
}

#[test]
fn the_json_schema_refers_only_to_what_it_defines() {
    fn visit(value: &serde_json::Value, defs: &serde_json::Map<String, serde_json::Value>) {
        match value {
            serde_json::Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(|target| target.as_str()) {
                    assert!(defs.contains_key(target.trim_start_matches("#/$defs/")), "{target}");
                }
                fields.values().for_each(|value| visit(value, defs));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| visit(item, defs)),
            _ => {}
        }
    }
    let schema = json_schema();
    let defs = schema["$defs"].as_object().expect("definitions");
    visit(&schema, defs);
    assert_eq!(defs.len(), tables().len() + 2);
    assert_eq!(defs["inbound-limit"]["dependentRequired"]["usd"], serde_json::json!(["window"]));
    assert_eq!(defs["outbound"]["properties"]["join_within"]["default"], "5m");
    assert_eq!(defs["telemetry"]["properties"]["log"]["anyOf"][0]["enum"][0], "json");
}
