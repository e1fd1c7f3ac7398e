//! Stretches of a file that messages must not show: secrets at their places, and values that look like secrets at other places.

use super::tree::{Mark, Node, Shape};
use crate::config::{
    error::lines,
    schema::{self, Kind},
    secrecy::{is_reference, is_secret_name, is_secret_value},
};

/// Hides the value of a secret key. A reference to a variable or a file is shown.
pub(super) fn secret(node: &Node, masks: &mut Vec<(Mark, Mark)>) {
    let harmless = match &node.shape {
        Shape::Word { text, .. } => is_reference(text),
        Shape::Table(_) => super::walk::file(node).is_some(),
        Shape::List(_) | Shape::Broken => false,
    };
    if !harmless {
        masks.push((node.at, node.end));
    }
}

/// Hides the credentials in a value that `kind` does not allow. Where a secret was expected, all of the value is hidden.
pub(super) fn misplaced(node: &Node, kind: &Kind, name: &str, masks: &mut Vec<(Mark, Mark)>) {
    if may_be_secret(kind) { secret(node, masks) } else { unknown(node, name, masks) }
}

/// Hides the credentials in the value of a key that is unknown or double. Its name and its form tell a credential.
pub(super) fn unknown(node: &Node, name: &str, masks: &mut Vec<(Mark, Mark)>) {
    match &node.shape {
        Shape::Word { text, .. } => {
            if (is_secret_name(name) && !is_reference(text)) || is_secret_value(text) {
                masks.push((node.at, node.end));
            }
        }
        Shape::List(items) => items.iter().for_each(|item| unknown(item, name, masks)),
        Shape::Table(entries) => {
            for (key, value) in entries {
                match &key.shape {
                    Shape::Word { text, .. } if !is_secret_value(text) => {
                        unknown(value, if is_secret_name(name) { name } else { text }, masks)
                    }
                    _ => masks.push((key.at, value.end)),
                }
            }
        }
        Shape::Broken => masks.push((node.at, node.end)),
    }
}

/// Whether the kind is a secret, or may be one.
fn may_be_secret(kind: &Kind) -> bool {
    match kind {
        Kind::Scalar(scalar) => scalar.secret,
        Kind::List(of) | Kind::OneOrMany(of) | Kind::Map { of, .. } => may_be_secret(of),
        Kind::Either(kinds) => kinds.iter().any(may_be_secret),
        Kind::Table(_) => false,
    }
}

/// Hides the likely credentials of a line that could not be parsed: words that look like one. On a line that names a secret, every
/// word that the schema does not know is hidden.
pub(super) fn suspicious(text: &str, at: Mark) -> Vec<(Mark, Mark)> {
    let Some(line) = lines(text).nth((at.line as usize).wrapping_sub(1)) else { return Vec::new() };
    let secret_line =
        ["key", "token", "secret", "redis", "password", "authorization"].iter().any(|word| line.to_lowercase().contains(word));
    let mark = |column: usize| Mark { line: at.line, column: u32::try_from(column + 1).unwrap_or(u32::MAX) };
    let mut out = Vec::new();
    let (mut start, mut word) = (0, String::new());
    for (column, c) in line.chars().chain(std::iter::once(' ')).enumerate() {
        if c.is_alphanumeric() || "-_+=/.@*".contains(c) || (c == ':' && line.contains("://")) {
            if word.is_empty() {
                start = column;
            }
            word.push(c);
            continue;
        }
        let mixed = word.contains(char::is_alphabetic) && word.contains(|c: char| c.is_ascii_digit());
        let long = word.chars().count();
        let looks = (long >= 16 && mixed) || is_secret_value(&word);
        if looks || (secret_line && c != ':' && long >= 6 && !schema::knows(&word)) {
            out.push((mark(start), mark(column)));
        }
        word.clear();
    }
    out
}
