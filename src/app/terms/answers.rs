//! What becomes of answers and their lines, as `outrigger explain` and the admin door tell it.

use super::Terms;
use crate::config::{Compress, Glob, LogTerms};

/// The terms of `compress`.
pub(super) fn compress(policy: &Compress) -> Terms {
    let mut terms = Terms::default();
    terms.add("codings", policy.codings.iter().map(|coding| coding.as_str()).collect::<Vec<_>>().join(" "));
    terms.add("types", policy.types.iter().map(Glob::as_str).collect::<Vec<_>>().join(" "));
    terms.add("min_size", format!("{} bytes", policy.min_size));
    terms
}

/// The terms of `log`.
pub(super) fn log(policy: &LogTerms) -> Terms {
    let mut terms = Terms::default();
    terms.add("sample", format!("{} of what goes well and costs nothing", policy.sample));
    for (first, last, share) in &policy.statuses {
        let name = if first == last { first.to_string() } else { format!("{}xx", first / 100) };
        terms.add("status", format!("{share} of {name}"));
    }
    terms
}
