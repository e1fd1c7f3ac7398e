//! Mistakes that follow from a syntax error further down: a wrong indentation makes a key unknown long before the parser stops.

use super::tree::Mark;
use crate::config::error::{Fault, lines};

/// Whether a mistake of the walk follows from one of these syntax errors.
pub(super) fn follows(fault: &Fault, syntax: &[Fault], text: &str) -> bool {
    let lines: Vec<&str> = lines(text).collect();
    syntax.iter().filter(|error| error.message.starts_with(NOT_YAML)).any(|error| leads_to(fault.at, error, &lines))
}

fn leads_to(fault: Mark, error: &Fault, lines: &[&str]) -> bool {
    let (from, to) = (fault.line as usize, error.at.line as usize);
    if from == to {
        return true;
    }
    // Everything that was read is indented, and then something is not: the block's head is missing.
    if error.message.contains(FURTHER_LEFT) {
        return true;
    }
    // Blank lines and remarks have no indentation.
    let indent = |line: usize| {
        let line = lines.get(line.wrapping_sub(1))?;
        let inner = line.trim_start_matches(' ');
        (!inner.is_empty() && !inner.starts_with('#')).then(|| line.len() - inner.len())
    };
    let Some(own) = indent(from) else { return false };
    let between = || (from + 1..to).filter_map(indent);
    if from > to || between().any(|other| other < own) {
        return false;
    }
    match indent(to) {
        // A text that goes on in the next line was meant to end.
        _ if between().next().is_none() => true,
        // The error stands within the block that begins here.
        Some(end) if end > own => between().all(|other| other > own),
        // The block that begins here ends with the error.
        Some(end) if end < own => (1..from).rev().find_map(indent).is_none_or(|before| before < own),
        _ => false,
    }
}

/// How the parser's own errors begin; tags and unquoted variables lead to nothing.
const NOT_YAML: &str = "not YAML";
/// Part of what the parser says where a line stands further left than the first key of the file.
const FURTHER_LEFT: &str = "<document start>";
