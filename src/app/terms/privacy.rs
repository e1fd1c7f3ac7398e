//! The terms of `privacy` for a person.

use super::Terms;
use crate::{
    config::{PersonalKind, Privacy},
    policy::privacy::mask,
    proxy::cache_key::Asked,
};

/// What is looked for, and what happens to it; with a call, what is found in it. The values themselves are not told.
pub(super) fn terms(policy: &Privacy, asked: Option<&Asked<'_>>) -> Terms {
    let words = |kinds: &[PersonalKind]| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ");
    let mut terms = Terms::of("action", policy.action.as_str());
    terms.add("find", words(&policy.find));
    if !policy.refuse.is_empty() {
        terms.add("refuse", words(&policy.refuse));
    }
    for pattern in &policy.patterns {
        terms.add("pattern", format!("{} {}", pattern.name, pattern.regex));
    }
    for value in &policy.allow_values {
        terms.add("allowed value", value.as_str());
    }
    for field in &policy.allow_fields {
        terms.add("allowed field", field);
    }
    terms.add("unreadable", if policy.passes_unreadable { "passes" } else { "is refused" });
    if let Some(body) = asked.and_then(|asked| asked.call.as_ref()?.body).filter(|body| !body.is_empty()) {
        match mask(policy, &[], body, None) {
            Err(_) => terms.add("this request", "cannot be read"),
            Ok(masked) if masked.found.is_empty() => terms.add("this request", "has none, its caller's names left out"),
            Ok(masked) => {
                let told = |((kind, pattern), times): (&(PersonalKind, Option<usize>), &u64)| {
                    let name = pattern.and_then(|at| policy.patterns.get(at)).map_or(kind.as_str(), |pattern| &pattern.name);
                    format!("{name} {times}, {}", policy.does(*kind).as_str())
                };
                masked.found.iter().map(told).for_each(|found| terms.add("this request", found));
            }
        }
    }
    terms
}
