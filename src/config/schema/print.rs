//! The Markdown reference and the JSON Schema, made from the tables.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value, json};

use super::{Default, Json, Key, Kind, ROOT, Scalar, Table};

/// The reference of `proxy.yaml` in Markdown: a table of keys for every block, in the order in which they appear. Stable for a version.
pub fn reference() -> String {
    let mut out = String::from(
        "Durations are written `250ms 2s 1m 1h 1d`, sizes `64KiB 8MiB`, counts `100 200k 2M`, fractions `0.5`. Every value may hold \
         `${NAME}` or `${NAME:-default}` (quote it inside `{}` and `[]`; `$$` is a dollar sign), or be `{file: /run/secrets/x}`; \
         what expands to nothing is absent.\n",
    );
    for table in tables() {
        let _ = write!(out, "\n### `{}`\n\n{}\n\n| key | value | default | what it does |\n|---|---|---|---|\n", table.name, table.doc);
        for key in table.keys {
            let _ = writeln!(out, "| `{}` | {} | {} | {} |", key.name, value_cell(key), default_cell(key), meaning_cell(key));
        }
        for group in table.exactly_one {
            if group.len() > 1 {
                let _ = writeln!(out, "\nExactly one of {} must be written.", list(group));
            }
        }
        for group in table.at_least_one {
            let _ = writeln!(out, "\nAt least one of {} must be written.", list(group));
        }
    }
    out
}

/// The JSON Schema (2020-12) of `proxy.yaml`, for editors. It leaves to `outrigger check` what only the whole file shows, such as names
/// that must exist.
pub fn json_schema() -> Value {
    let mut defs = Map::new();
    defs.insert("expanded".into(), json!({"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}));
    defs.insert(
        "from_file".into(),
        json!({"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"], "additionalProperties": false}),
    );
    for table in tables() {
        defs.insert(definition(table), table_schema(table));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "proxy.yaml",
        "$ref": format!("#/$defs/{}", definition(&ROOT)),
        "$defs": defs,
    })
}

/// Whether a word belongs to the schema: a key, a value of a closed list, a part of an example. Such a word is no secret.
pub(in crate::config) fn knows(word: &str) -> bool {
    fn in_kind(kind: &Kind, word: &str) -> bool {
        match kind {
            Kind::Scalar(scalar) => matches!(scalar.json, Json::Words(words) if words.contains(&word)) || in_text(scalar.example, word),
            Kind::List(of) | Kind::OneOrMany(of) => in_kind(of, word),
            Kind::Map { key, of } => in_text(key.example, word) || in_kind(of, word),
            Kind::Either(kinds) => kinds.iter().any(|kind| in_kind(kind, word)),
            Kind::Table(_) => false,
        }
    }
    // Not `contains`: `key` is part of many a key.
    fn in_text(text: &str, word: &str) -> bool {
        text.split(|c: char| !(c.is_alphanumeric() || "-_./*".contains(c))).any(|part| part == word)
    }
    let documented = |key: &Key| key.name == word || in_text(key.doc, word) || in_text(key.example, word) || in_kind(&key.kind, word);
    tables().into_iter().any(|table| table.keys.iter().any(documented))
}

/// Every table, each once, outer before inner.
pub(in crate::config) fn tables() -> Vec<&'static Table> {
    fn visit(kind: &Kind, seen: &mut BTreeSet<&'static str>, out: &mut Vec<&'static Table>) {
        match kind {
            Kind::Scalar(_) => {}
            Kind::List(of) | Kind::OneOrMany(of) | Kind::Map { of, .. } => visit(of, seen, out),
            Kind::Either(kinds) => kinds.iter().for_each(|kind| visit(kind, seen, out)),
            Kind::Table(table) => {
                if seen.insert(table.name) {
                    out.push(table);
                    table.keys.iter().for_each(|key| visit(&key.kind, seen, out));
                }
            }
        }
    }
    let mut out = Vec::new();
    visit(&Kind::Table(&ROOT), &mut BTreeSet::new(), &mut out);
    out
}

fn value_cell(key: &Key) -> String {
    fn named(kind: &Kind) -> String {
        match kind {
            Kind::Table(table) => format!("block, see `{}`", table.name),
            Kind::List(Kind::Table(table)) => format!("list, see `{}`", table.name),
            Kind::Map { key, of: Kind::Table(table) } => format!("{} to `{}`", key.name, table.name),
            Kind::Map { key, of } => format!("{} to {}", key.name, of.name()),
            Kind::Either(kinds) => kinds.iter().map(named).collect::<Vec<_>>().join(", or "),
            other => match other {
                Kind::Scalar(Scalar { json: Json::Words(words), .. }) => list(words),
                Kind::OneOrMany(Kind::Scalar(Scalar { json: Json::Words(words), .. })) => format!("{}; or a list", list(words)),
                _ => other.name(),
            },
        }
    }
    let mut cell = named(&key.kind);
    if let Some((least, most)) = key.range {
        let _ = write!(cell, ", {least} to {most}");
    }
    cell.replace('|', "\\|")
}

fn default_cell(key: &Key) -> String {
    match key.default {
        Default::Absent => "none".into(),
        Default::Required => "**required**".into(),
        Default::Value("{}") => "its own defaults".into(),
        Default::Value(yaml) => format!("`{yaml}`").replace('|', "\\|"),
        Default::Says(text) => text.into(),
    }
}

fn meaning_cell(key: &Key) -> String {
    let cell = if key.example.is_empty() { key.doc.to_owned() } else { format!("{} Example: `{}`", key.doc, key.example) };
    cell.replace('|', "\\|")
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn definition(table: &Table) -> String {
    table.name.replace(' ', "-")
}

fn table_schema(table: &Table) -> Value {
    let mut properties = Map::new();
    for key in table.keys {
        let mut schema = kind_schema(&key.kind, key.range.is_some());
        if let Value::Object(fields) = &mut schema {
            fields.insert("description".into(), json!(key.doc));
            if let Default::Value(yaml) = key.default
                && let Ok(value) = serde_yaml::from_str::<Value>(yaml)
            {
                fields.insert("default".into(), value);
            }
        }
        properties.insert(key.name.into(), schema);
    }
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("description".into(), json!(table.doc));
    schema.insert("properties".into(), Value::Object(properties));
    schema.insert("additionalProperties".into(), json!(false));
    let required: Vec<&str> = table.keys.iter().filter(|key| matches!(key.default, Default::Required)).map(|key| key.name).collect();
    if !required.is_empty() {
        schema.insert("required".into(), json!(required));
    }
    if !table.needs.is_empty() {
        let pairs: Map<String, Value> = table.needs.iter().map(|(key, other)| ((*key).to_owned(), json!([other]))).collect();
        schema.insert("dependentRequired".into(), Value::Object(pairs));
    }
    let groups: Vec<Value> = table
        .exactly_one
        .iter()
        .map(|group| json!({"oneOf": group.iter().map(|key| json!({"required": [key]})).collect::<Vec<_>>()}))
        .collect();
    let any =
        table.at_least_one.iter().map(|group| json!({"anyOf": group.iter().map(|key| json!({"required": [key]})).collect::<Vec<_>>()}));
    let groups: Vec<Value> = groups.into_iter().chain(any).collect();
    if !groups.is_empty() {
        schema.insert("allOf".into(), json!(groups));
    }
    Value::Object(schema)
}

fn kind_schema(kind: &Kind, measured: bool) -> Value {
    match kind {
        Kind::Scalar(scalar) => scalar_schema(scalar, measured),
        Kind::List(of) => json!({"type": ["array", "null"], "items": kind_schema(of, measured)}),
        Kind::OneOrMany(of) => {
            json!({"anyOf": [kind_schema(of, measured), {"type": ["array", "null"], "items": kind_schema(of, measured)}]})
        }
        Kind::Table(table) => json!({"$ref": format!("#/$defs/{}", definition(table))}),
        Kind::Map { key, of } => {
            let names = match key.json {
                Json::Pattern(pattern) => json!({"pattern": pattern}),
                _ => json!({}),
            };
            json!({"type": "object", "propertyNames": names, "additionalProperties": kind_schema(of, measured)})
        }
        Kind::Either(kinds) => json!({"anyOf": kinds.iter().map(|kind| kind_schema(kind, measured)).collect::<Vec<_>>()}),
    }
}

fn scalar_schema(scalar: &Scalar, measured: bool) -> Value {
    let own = match scalar.json {
        // A YAML 0 is a number; the word `0` is a duration.
        Json::Pattern(pattern) if measured => json!({"anyOf": [{"type": "string", "pattern": pattern}, {"const": 0}]}),
        Json::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
        Json::Text => json!({"type": ["string", "number", "boolean"]}),
        Json::Number => json!({"type": "number"}),
        Json::NumberOr(pattern) => json!({"anyOf": [{"type": "number"}, {"type": "string", "pattern": pattern}]}),
        Json::Bool => json!({"type": "boolean"}),
        Json::Words(words) => json!({"enum": words}),
    };
    json!({"anyOf": [own, {"$ref": "#/$defs/expanded"}, {"$ref": "#/$defs/from_file"}, {"type": "null"}]})
}
