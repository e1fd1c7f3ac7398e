//! Parameters of a path, a query, fields and cookies, read as their schemas ask.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Number, Value};

use super::Given;
use crate::{
    config::{Parameter, ParameterPlace, Schema},
    http1::Id,
    reject::Violation,
};

/// Most faults of one parameter.
const MOST: usize = 5;

/// Looks at the parameters that a document describes.
pub(super) fn check(parameters: &[Parameter], of_path: &[(&str, &str)], given: &Given<'_>, faults: &mut Vec<Violation>) {
    if parameters.is_empty() {
        return;
    }
    let query = parameters.iter().any(|parameter| parameter.place == ParameterPlace::Query).then(|| pairs(given.query));
    for parameter in parameters {
        let mut fault = |detail: &str| faults.push(Violation::of_parameter(parameter.place.as_str(), &parameter.name, detail));
        let texts = match parameter.place {
            ParameterPlace::Path => {
                of_path.iter().filter(|(name, _)| *name == parameter.name).map(|(_, value)| decoded(value, false)).collect()
            }
            ParameterPlace::Query => {
                let all = query.iter().flatten().filter(|(name, _)| name.as_deref() == Some(&*parameter.name));
                all.map(|(_, value)| value.clone()).collect()
            }
            ParameterPlace::Header => {
                given.fields.all(parameter.name.as_str()).map(|value| value.to_str().ok().map(|text| text.trim().to_owned())).collect()
            }
            ParameterPlace::Cookie => cookies(given, &parameter.name),
        };
        one(parameter, texts, &mut fault);
    }
}

/// Looks at one parameter; a text is `None` where its bytes are no UTF-8.
fn one(parameter: &Parameter, texts: Vec<Option<String>>, fault: &mut impl FnMut(&str)) {
    let Some(texts) = texts.into_iter().collect::<Option<Vec<String>>>() else { return fault("the value is not UTF-8") };
    if texts.is_empty() {
        if parameter.required {
            fault("it is missing");
        }
        return;
    }
    let Some(schema) = &parameter.schema else { return };
    let each = parameter.list && parameter.split.is_none() && parameter.place == ParameterPlace::Query;
    if texts.len() > 1 && !each && parameter.place != ParameterPlace::Header {
        return fault("it stands more than once: one reader takes the first, another the last");
    }
    let value = if parameter.json {
        match serde_json::from_str(&texts[0]) {
            Ok(value) => value,
            Err(_) => return fault("it is not JSON"),
        }
    } else if parameter.list {
        let items = texts.iter().flat_map(|text| match parameter.split {
            Some(by) => text.split(by).map(str::trim).collect::<Vec<_>>(),
            None => vec![text.as_str()],
        });
        Value::Array(items.map(|item| read_as(item, &parameter.types)).collect())
    } else {
        read_as(&texts[0], &parameter.types)
    };
    for one in schema.faults(&value, MOST) {
        let place = if one.pointer.is_empty() { String::new() } else { format!("{}: ", one.pointer) };
        fault(&format!("{place}{}", one.detail));
    }
}

/// A text as the first of these types that it can be; a text stays one where the types allow it, or where nothing is said.
fn read_as(text: &str, types: &[String]) -> Value {
    let may = |word: &str| types.iter().any(|own| own == word);
    if types.is_empty() || may("string") {
        return text.into();
    }
    let number = || serde_json::from_str::<Number>(text).ok().filter(|number| number.to_string().len() <= 64);
    if (may("integer") || may("number"))
        && let Some(number) = number()
    {
        return Value::Number(number);
    }
    match text {
        "true" | "false" if may("boolean") => Value::Bool(text == "true"),
        "" | "null" if may("null") => Value::Null,
        _ => text.into(),
    }
}

/// Looks at a query by the schema of an object. A value is a number or a boolean where the schema takes no text there; a name that
/// stands more than once is a list.
pub(super) fn by_schema(schema: &Schema, query: &str, faults: &mut Vec<Violation>) {
    let mut texts: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in pairs(query) {
        let (Some(name), Some(value)) = (name, value) else {
            return faults.push(Violation::of_parameter("query", "", "the query is not UTF-8"));
        };
        match texts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => texts.push((name, vec![value])),
        }
    }
    let plain = |text: &String| Value::from(text.as_str());
    let shaped = |read: &dyn Fn(&String) -> Value| -> Map<String, Value> {
        let of = |values: &Vec<String>| match values.as_slice() {
            [value] => read(value),
            values => Value::Array(values.iter().map(read).collect()),
        };
        texts.iter().map(|(name, values)| (name.clone(), of(values))).collect()
    };
    let mut object = shaped(&plain);
    // Where the text is refused and the number is not, the number is meant.
    let wrong: Vec<String> = schema.faults(&Value::Object(object.clone()), usize::MAX).into_iter().map(|fault| fault.pointer).collect();
    let typed = shaped(&|text| read_as(text, &["number", "boolean"].map(str::to_owned)));
    for (name, value) in typed {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        if wrong.iter().any(|place| *place == pointer || place.starts_with(&format!("{pointer}/"))) {
            object.insert(name, value);
        }
    }
    for fault in schema.faults(&Value::Object(object), super::MOST) {
        let name = fault.pointer.trim_start_matches('/').to_owned();
        faults.push(Violation::of_parameter("query", &name, &fault.detail));
    }
}

/// The pairs of a query (WHATWG URL, "application/x-www-form-urlencoded parsing"); `None`: no UTF-8.
fn pairs(query: &str) -> Vec<(Option<String>, Option<String>)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(name, value)| (decoded(name, true), decoded(value, true))).collect()
}

fn decoded(text: &str, plus: bool) -> Option<String> {
    let text: Cow<'_, str> = if plus && text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    percent_decode_str(&text).decode_utf8().ok().map(Cow::into_owned)
}

/// The values of a cookie (RFC 6265 section 4.2.1).
fn cookies(given: &Given<'_>, name: &str) -> Vec<Option<String>> {
    let all = given.fields.all(Id::Cookie).filter_map(|field| field.to_str().ok());
    let pairs = all.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| Some(value.trim_matches('"').to_owned())).collect()
}
