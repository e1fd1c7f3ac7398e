//! A JSON Schema, compiled. Nothing is fetched: a reference is found in the document or is a mistake.
//!
//! Patterns run on an engine whose time is linear in the text: strangers choose the text. A pattern that looks ahead or back is a mistake of
//! the file.

use std::fmt;

use jsonschema::{Draft, PatternOptions, Registry, Validator};
use serde_json::{Value, json};

/// A compiled schema.
pub struct Schema(Validator);

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFault {
    /// The place in the value: a JSON Pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong, without the value.
    pub detail: String,
}

impl Schema {
    /// Compiles a schema. Without `$schema` it is of draft 2020-12.
    ///
    /// # Errors
    /// What is wrong with the schema, in words.
    pub fn compile(schema: &Value, formats: bool) -> Result<Self, String> {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex()).should_validate_formats(formats).offline();
        options.build(schema).map(Self).map_err(|error| said(&error))
    }

    /// Compiles the schema at a place of a document.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn at(uri: &str, registry: &Registry<'_>, draft: Draft, formats: bool) -> Result<Self, String> {
        let options = jsonschema::options().with_draft(draft).with_registry(registry);
        let options = options.with_pattern_options(PatternOptions::regex()).should_validate_formats(formats).offline();
        options.build(&json!({"$ref": uri})).map(Self).map_err(|error| said(&error))
    }

    /// What is wrong with a value, at most `most` faults.
    pub fn faults(&self, value: &Value, most: usize) -> Vec<SchemaFault> {
        if self.0.is_valid(value) {
            return Vec::new();
        }
        let faults = self.0.iter_errors(value).take(most);
        let told = faults
            .map(|error| SchemaFault { pointer: error.instance_path().to_string(), detail: error.masked_with("the value").to_string() });
        told.collect()
    }

    /// Whether a value is as the schema says.
    pub fn takes(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }
}

/// A mistake of a schema, with its place.
fn said(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().to_string();
    let text = error.to_string();
    if place.is_empty() { text } else { format!("{text} (at #{place})") }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}
