//! Values as text on one line of YAML, and trees as JSON of words.

use serde_json::Value;

use crate::config::read::tree::{Node, Shape};

/// A value as YAML on one line, for any place: inside braces too.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => word(text),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", word(key), text(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// A word: as it is where no reader of YAML could misread it, else in double quotes. JSON's escapes are YAML's (YAML 1.2.2 section 7.3.1).
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./+-*".contains(c);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "_/".contains(c));
    // `a:b` is a word; `a: b` and `a:` are not.
    let colons = text.char_indices().all(|(at, c)| c != ':' || text[at + 1..].starts_with(is_plain));
    let well = starts_well && colons && text.chars().all(|c| c == ':' || is_plain(c)) && !is_empty(text);
    if well { text.to_owned() } else { Value::from(text).to_string() }
}

/// Whether a plain word means that nothing is written.
fn is_empty(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// A tree as JSON of words: `5` and `"5"` are the same word; what is empty is null. Of two entries with one key the first counts.
pub(super) fn plain(node: &Node) -> Value {
    match &node.shape {
        _ if node.is_empty() => Value::Null,
        Shape::Word { text, .. } => Value::String(text.clone()),
        Shape::List(items) => items.iter().map(|item| plain(item)).collect(),
        Shape::Table(entries) => {
            let name = |key: &Node| match &key.shape {
                Shape::Word { text, .. } => text.clone(),
                _ => text(&plain(key)),
            };
            Value::Object(entries.iter().rev().map(|(key, value)| (name(key), plain(value))).collect())
        }
        Shape::Broken => Value::Null,
    }
}

/// JSON as JSON of words.
pub(super) fn words(value: &Value) -> Value {
    match value {
        Value::Bool(_) | Value::Number(_) => Value::String(value.to_string()),
        Value::Array(items) => items.iter().map(words).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), words(value))).collect()),
        other => other.clone(),
    }
}
