//! Takes the personal data out of a JSON body: every string, every name of a member, and long numbers in the arguments of tools.
//!
//! Strings that hold JSON themselves are read as JSON. What no text is passes: models, roles, signatures, and base64.

use std::{collections::BTreeMap, ops::Range};

use super::{
    detect::{CallerName, PersonalSpan, detect},
    json::{JsonSpot, Leaf, Plain, escape, is_document, is_valid, splice, walk},
    vault::Vault,
};
use crate::config::{NameSource, PersonalKind, Privacy, PrivacyAction};

/// What was found in a body.
#[derive(Debug)]
pub struct Masked {
    /// The body that may leave; `None`: nothing was found that is replaced.
    pub body: Option<String>,
    /// The values behind its placeholders.
    pub vault: Vault,
    /// How often each kind was found: with the number of the pattern that has found it.
    pub found: BTreeMap<(PersonalKind, Option<usize>), u64>,
    /// Whether one was found for which the call is refused.
    pub refused: bool,
}

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmaskable {
    /// It is not UTF-8.
    NotText,
    /// It is not JSON.
    NotJson,
}

/// Texts that a conversation grows by. Their values are named last, so that the others keep their names.
const GROWING: [&str; 4] = ["messages", "contents", "input", "prompt"];
/// Members whose strings are words of the API or signatures of the provider.
const WORDS: [&str; 7] = ["model", "type", "role", "signature", "thoughtSignature", "thought_signature", "encrypted_content"];
/// Members below which names and numbers are the tool's own.
const FREE: [&str; 5] = ["input", "args", "arguments", "response", "json"];
/// Shortest base64 that is taken for an image, a sound or a document.
const SHORTEST_MEDIA: usize = 256;
/// Digits of the shortest number in the arguments of a tool that is looked at.
const SHORTEST_NUMBER: usize = 9;

/// Takes the personal data out of `body`. `names`: those of the caller. `key`: see [`Vault::new`].
///
/// # Errors
/// The body is no JSON.
pub fn mask(policy: &Privacy, names: &[CallerName], body: &[u8], key: Option<[u8; 32]>) -> Result<Masked, Unmaskable> {
    let text = std::str::from_utf8(body).map_err(|_| Unmaskable::NotText)?;
    if !is_valid(text) {
        return Err(Unmaskable::NotJson);
    }
    let own = own_names(policy, text);
    let names: Vec<CallerName> = names.iter().cloned().chain(own).collect();
    let vault = Vault::new(text, key);
    let mut masking = Masking { policy, names: &names, masked: Masked { body: None, vault, found: BTreeMap::new(), refused: false } };
    let mut edits = Vec::new();
    for growing in [false, true] {
        walk(text, &mut |spot| {
            if spot.keys.first().is_some_and(|key| GROWING.contains(key)) == growing {
                masking.leaf(text, spot, false, &mut edits);
            }
        });
    }
    let mut masked = masking.masked;
    masked.vault.answers_json = !masked.vault.is_empty() && asks_json(text);
    masked.body = (!edits.is_empty()).then(|| splice(text, &mut edits));
    Ok(masked)
}

/// Personal data in a text that is no body: a path, a line of a log. Values are replaced by the names of their kinds.
pub fn scrub(policy: &Privacy, text: &str) -> Option<String> {
    let spans = detect(policy, &[], text, "");
    let mut edits: Vec<_> = spans.iter().map(|span| (span.range.clone(), format!("[{}]", label(policy, span)))).collect();
    (!edits.is_empty()).then(|| splice(text, &mut edits))
}

/// The names that the body itself tells.
fn own_names(policy: &Privacy, text: &str) -> Vec<CallerName> {
    let fields: Vec<&[String]> =
        policy.names.iter().filter_map(|source| if let NameSource::Field(path) = source { Some(&path.0[..]) } else { None }).collect();
    let mut names = Vec::new();
    if !fields.is_empty() {
        walk(text, &mut |spot| {
            if spot.leaf == Leaf::Text && fields.iter().any(|field| field.iter().eq(spot.keys)) {
                names.extend(CallerName::of(&Plain::of(&text[spot.raw.clone()]).text));
            }
        });
    }
    names
}

/// Whether the request asks for texts that are JSON: a value in such a text has escapes of its own.
fn asks_json(text: &str) -> bool {
    let mut asks = false;
    walk(text, &mut |spot| {
        let value = &text[spot.raw.clone()];
        asks |= spot.leaf == Leaf::Text
            && match spot.keys {
                [.., "response_format" | "format", "type"] => value.starts_with("json"),
                [.., "responseMimeType" | "response_mime_type"] => value == "application/json",
                _ => false,
            };
    });
    asks
}

fn label<'a>(policy: &'a Privacy, span: &PersonalSpan) -> &'a str {
    span.pattern.map_or_else(|| span.kind.label(), |at| &policy.patterns[at].label)
}

struct Masking<'a> {
    policy: &'a Privacy,
    names: &'a [CallerName],
    masked: Masked,
}

impl Masking<'_> {
    /// Looks at a leaf, and notes how it changes. `nested`: the text is a string of another.
    fn leaf(&mut self, text: &str, spot: &JsonSpot<'_>, nested: bool, edits: &mut Vec<(Range<usize>, String)>) {
        if !nested
            && self
                .policy
                .allow_fields
                .iter()
                .any(|field| spot.keys.len() >= field.0.len() && field.0.iter().eq(&spot.keys[..field.0.len()]))
        {
            return;
        }
        let raw = &text[spot.raw.clone()];
        let free = nested || spot.keys.iter().skip(1).rev().skip(1).any(|key| FREE.contains(key));
        let beside = spot.keys.last().copied().unwrap_or_default();
        match spot.leaf {
            Leaf::Number if free && raw.len() >= SHORTEST_NUMBER && raw.bytes().all(|byte| byte.is_ascii_digit()) => {
                if let Some(new) = self.replaced(raw, beside, true) {
                    edits.push((spot.raw.clone(), format!("\"{new}\"")));
                }
            }
            Leaf::Number => {}
            Leaf::Text if !free && WORDS.contains(&beside) || is_media(raw) => {}
            Leaf::Text | Leaf::Key => {
                let plain = Plain::of(raw);
                if spot.leaf == Leaf::Text && is_document(&plain.text) {
                    let mut inner = Vec::new();
                    walk(&plain.text, &mut |spot| self.leaf(&plain.text, spot, true, &mut inner));
                    if !inner.is_empty() {
                        edits.push((spot.raw.clone(), escape(&splice(&plain.text, &mut inner)).into_owned()));
                    }
                    return;
                }
                let beside = if spot.leaf == Leaf::Key { "" } else { beside };
                for span in detect(self.policy, self.names, &plain.text, beside) {
                    if let Some(new) = self.count(&plain.text, &span, spot.leaf == Leaf::Key) {
                        let range = plain.raw(&span.range);
                        edits.push((spot.raw.start + range.start..spot.raw.start + range.end, new));
                    }
                }
            }
        }
    }

    /// The text with its values replaced; `None`: it has none.
    fn replaced(&mut self, text: &str, beside: &str, numbered: bool) -> Option<String> {
        let spans = detect(self.policy, self.names, text, beside);
        let mut edits: Vec<_> = spans.iter().filter_map(|span| Some((span.range.clone(), self.count(text, span, numbered)?))).collect();
        (!edits.is_empty()).then(|| splice(text, &mut edits))
    }

    /// Counts a value; gives what goes out in its place. `apart`: two values must stay two.
    fn count(&mut self, text: &str, span: &PersonalSpan, apart: bool) -> Option<String> {
        *self.masked.found.entry((span.kind, span.pattern)).or_default() += 1;
        let label = label(self.policy, span);
        match self.policy.does(span.kind) {
            PrivacyAction::Refuse => {
                self.masked.refused = true;
                None
            }
            PrivacyAction::Mask if !apart => Some(format!("[{label}]")),
            PrivacyAction::Mask | PrivacyAction::Placeholder => {
                Some(self.masked.vault.placeholder(label, &text[span.range.clone()]).to_owned())
            }
        }
    }
}

/// Whether a string is an image, a sound or a document: base64 of some length, alone or in a `data:` URL.
fn is_media(raw: &str) -> bool {
    let data = match raw.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((kind, data)) if kind.len() < 100 => data,
        _ => raw,
    };
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(byte);
    data.len() >= SHORTEST_MEDIA
        && data.bytes().any(|byte| byte.is_ascii_lowercase())
        && data.bytes().any(|byte| byte.is_ascii_uppercase())
        && data.as_bytes().iter().all(is_base64)
}
