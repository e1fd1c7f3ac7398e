//! A document made ready for requests: what JSON Schema does not know is written in its words.

use serde_json::{Map, Value, json};

/// Goes through the whole document. `is_old`: it is of version 3.0, whose schemas have `nullable`.
///
/// Members of `properties` may have any name, and examples any content: a rule acts on an object that has the form of a schema with the word,
/// and changes nothing that validates less.
pub(super) fn for_requests(document: &mut Value, is_old: bool) {
    match document {
        Value::Array(items) => items.iter_mut().for_each(|item| for_requests(item, is_old)),
        Value::Object(members) => {
            if is_old && members.get("nullable") == Some(&Value::Bool(true)) {
                nullable(members);
            }
            unasked(members);
            for (name, member) in members.iter_mut() {
                if !matches!(name.as_str(), "example" | "examples" | "default" | "enum" | "const") {
                    for_requests(member, is_old);
                }
            }
        }
        _ => {}
    }
}

/// References that lead to other documents, each with its place.
pub(super) fn foreign(value: &Value, place: &str, out: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(nth, item)| foreign(item, &format!("{place}/{nth}"), out)),
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| !matches!(name.as_str(), "example" | "examples")) {
                match member {
                    Value::String(target) if name == "$ref" && !target.starts_with('#') => {
                        out.push(format!("#{place}: `{target}` leads to another document: bundle it first"));
                    }
                    member => foreign(member, &format!("{place}/{}", super::escaped(name)), out),
                }
            }
        }
        _ => {}
    }
}

/// `null` is a value, too (OpenAPI 3.0.3, "nullable"). Without a type beside it the word has no effect.
fn nullable(schema: &mut Map<String, Value>) {
    let Some(Value::String(word)) = schema.get("type") else { return };
    let types = json!([word, "null"]);
    schema.insert("type".to_owned(), types);
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

/// A member that is `readOnly` is in answers alone: a request need not have it.
fn unasked(schema: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = schema.get("properties") else { return };
    let read_only = |name: &str| properties.get(name).is_some_and(|property| property.get("readOnly") == Some(&Value::Bool(true)));
    let Some(Value::Array(required)) = schema.get("required") else { return };
    let asked: Vec<Value> = required.iter().filter(|name| !name.as_str().is_some_and(read_only)).cloned().collect();
    if asked.len() < required.len() {
        // Draft 4 has no empty list.
        match asked.is_empty() {
            true => drop(schema.shift_remove("required")),
            false => drop(schema.insert("required".to_owned(), asked.into())),
        }
    }
}
