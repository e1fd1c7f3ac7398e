//! What `validate` asks, as `outrigger explain` and the admin door tell it.

use super::Terms;
use crate::config::{Glob, Undocumented, Validate};

/// The terms of the policy.
pub(super) fn terms(policy: &Validate) -> Terms {
    let mut terms = Terms::default();
    if !policy.methods.is_empty() {
        terms.add("methods", policy.methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(" "));
    }
    if !policy.content_types.is_empty() {
        terms.add("content types", policy.content_types.iter().map(Glob::as_str).collect::<Vec<_>>().join(" "));
    }
    if let Some(most) = policy.max_body {
        terms.add("max_body", bytesize::ByteSize(most));
    }
    let twice = if policy.duplicate_keys { "" } else { ", no name twice in an object" };
    terms.add("JSON", format!("at most {} levels deep{twice}", policy.max_depth));
    for (word, schema) in [("schema", &policy.schema), ("query", &policy.query)] {
        if schema.is_some() {
            terms.add(word, "is checked");
        }
    }
    if policy.openapi.is_some() {
        let word = if policy.undocumented == Undocumented::Refuse { "are refused" } else { "pass" };
        terms.add("openapi", format!("is checked; paths and methods that it does not have {word}"));
    }
    terms
}
