//! Personal data in a text: where each piece lies and what it is. Pure.
//!
//! A kind is found by its form, and by its check digits where it has any; a form that many other numbers have counts only near a word
//! that tells it. Two pieces never overlap: of two that do, the one with the surer form counts.

use std::{net::Ipv6Addr, ops::Range};

use super::{letters, numbers};
use crate::config::{PersonalKind, PersonalPattern, Privacy};

/// Characters before a number in which its words are looked for, and behind it.
const BEFORE: usize = 40;
const BEHIND: usize = 16;
/// Longest parts of an e-mail address (RFC 5321 section 4.5.3.1).
const LONGEST_LOCAL: usize = 64;
const LONGEST_DOMAIN: usize = 255;
/// Shortest part of a name that is looked for.
const SHORTEST_NAME: usize = 3;

/// A piece of personal data in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonalSpan {
    /// Its bytes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: PersonalKind,
    /// The number of the operator's pattern that has found it.
    pub pattern: Option<usize>,
}

/// The pieces found so far, and what is looked for.
pub(super) struct Finds<'a> {
    policy: &'a Privacy,
    /// A text that belongs to this one: the name of its field.
    pub(super) beside: &'a str,
    found: Vec<PersonalSpan>,
}

impl Finds<'_> {
    pub(super) fn wants(&self, kind: PersonalKind) -> bool {
        self.policy.wants(kind)
    }

    pub(super) fn add(&mut self, range: Range<usize>, kind: PersonalKind) {
        self.found.push(PersonalSpan { range, kind, pattern: None });
    }
}

/// A name of the caller's own record, ready to be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerName {
    /// All of it, in small letters.
    whole: String,
    /// Its words, as they are written.
    parts: Vec<String>,
}

impl CallerName {
    /// The name in `value`; `None`: it is too short to be told from other words.
    pub fn of(value: &str) -> Option<Self> {
        let value = value.trim();
        let long = |text: &str| text.chars().count() >= SHORTEST_NAME;
        // One word is looked for in any case. A word of several may be a word of the language, too: `Will`, `May`.
        let words: Vec<&str> = value.split_whitespace().collect();
        let parts = words.iter().filter(|word| words.len() > 1 && long(word)).map(|word| (*word).to_owned()).collect();
        long(value).then(|| Self { whole: value.to_lowercase(), parts })
    }
}

/// Whether a character is part of a word: what stands beside it is no whole number.
pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || ('\u{c0}'..='\u{24f}').contains(&c)
}

/// Whether one of `words` stands near `range`, or in the text `beside`.
pub(super) fn near(text: &str, range: &Range<usize>, words: &[&str], beside: &str) -> bool {
    if words.is_empty() {
        return false;
    }
    let from = text.floor_char_boundary(range.start.saturating_sub(BEFORE));
    let to = text.ceil_char_boundary((range.end + BEHIND).min(text.len()));
    [&text[from..range.start], &text[range.end..to], beside].into_iter().any(|around| {
        let around = around.to_lowercase().replace(['_', '-'], " ");
        words.iter().any(|word| {
            // Scripts without blanks have no ends of words.
            let is_letter = |c: Option<char>| word.is_ascii() && c.is_some_and(char::is_alphabetic);
            let mut found = around.match_indices(word);
            found.any(|(at, _)| !is_letter(around[..at].chars().next_back()) && !is_letter(around[at + word.len()..].chars().next()))
        })
    })
}

/// All personal data in `text`, in order. `beside`: the name of the text's field. `names`: those of the caller.
pub fn detect(policy: &Privacy, names: &[CallerName], text: &str, beside: &str) -> Vec<PersonalSpan> {
    let mut finds = Finds { policy, beside, found: Vec::new() };
    patterns(text, &policy.patterns, &mut finds);
    let bytes = text.as_bytes();
    if policy.wants(PersonalKind::Email) && (memchr::memchr(b'@', bytes).is_some() || memchr::memmem::find(bytes, b"%40").is_some()) {
        emails(text, &mut finds);
    }
    if policy.wants(PersonalKind::Ip) && memchr::memchr(b':', bytes).is_some() {
        ipv6(text, &mut finds);
    }
    if bytes.iter().any(u8::is_ascii_digit) {
        words(text, &mut finds);
    }
    for name in names {
        find_name(text, name, &mut finds);
    }
    let mut found = finds.found;
    if !policy.allow_values.is_empty() {
        found.retain(|span| !policy.allow_values.iter().any(|allowed| allowed.matches(&text[span.range.clone()])));
    }
    apart(found)
}

/// The spans without those that overlap an earlier one of the list: the list begins with the surest.
fn apart(found: Vec<PersonalSpan>) -> Vec<PersonalSpan> {
    if found.len() < 2 {
        return found;
    }
    let mut kept: std::collections::BTreeMap<usize, PersonalSpan> = std::collections::BTreeMap::new();
    for span in found {
        let before = kept.range(..span.range.end).next_back();
        if before.is_none_or(|(_, other)| other.range.end <= span.range.start) && !span.range.is_empty() {
            kept.insert(span.range.start, span);
        }
    }
    kept.into_values().collect()
}

fn patterns(text: &str, patterns: &[PersonalPattern], finds: &mut Finds<'_>) {
    for (at, pattern) in patterns.iter().enumerate() {
        let found = pattern.regex.find_iter(text).map(|found| PersonalSpan {
            range: found.range(),
            kind: PersonalKind::Pattern,
            pattern: Some(at),
        });
        finds.found.extend(found.filter(|span| !span.range.is_empty()));
    }
}

/// Looks at the start of every word.
fn words(text: &str, finds: &mut Finds<'_>) {
    let (mut at, mut after_word) = (0, false);
    while let Some(c) = text[at..].chars().next() {
        let word = is_word(c);
        let end = match (word && !after_word && c != '_', c.is_ascii_digit()) {
            (false, _) => None,
            (true, true) => letters::word(text, at, finds).or_else(|| Some(numbers::run(text, at, finds))),
            (true, false) => letters::word(text, at, finds),
        };
        // What a run ends with may be the start of a longer word.
        after_word = word;
        at = end.unwrap_or(at + c.len_utf8());
    }
}

fn emails(text: &str, finds: &mut Finds<'_>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|byte| matches!(byte, b'@' | b'%')) {
        let sign = at + found;
        let width = if bytes[sign] == b'@' { 1 } else { 3 };
        at = sign + 1;
        if width == 3 && !bytes[sign..].starts_with(b"%40") {
            continue;
        }
        let is_local = |c: char| c.is_alphanumeric() || "._+-'!#$&*/=?^{|}~`".contains(c);
        let start = text[..sign].char_indices().rev().take(LONGEST_LOCAL).take_while(|(_, c)| is_local(*c)).last().map(|(at, _)| at);
        let Some(start) = start else { continue };
        // Signs that may stand in an address stand before one more often: quotes, slashes, `mailto=`.
        let local = text[start..sign].rsplit(['/', '=', '?', '&', '|', '`']).next().unwrap_or_default();
        let local = local.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '_' && c != '+');
        if let Some(end) = domain_end(text, sign + width)
            && !local.is_empty()
            && !local.ends_with('.')
        {
            finds.add(sign - local.len()..end, PersonalKind::Email);
            at = end;
        }
    }
}

/// The end of a domain with at least one dot and a top-level domain of letters.
fn domain_end(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start..];
    let is_domain = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    let length =
        rest.char_indices().take(LONGEST_DOMAIN).find(|(_, c)| !is_domain(*c)).map_or(rest.len().min(LONGEST_DOMAIN), |(at, _)| at);
    let mut domain = rest[..rest.floor_char_boundary(length)].trim_end_matches(['.', '-']);
    loop {
        let (before, top) = domain.rsplit_once('.')?;
        let labels = before.split('.').all(|label| !label.is_empty() && !label.starts_with('-'));
        let is_top = top.chars().count() >= 2 && (top.chars().all(char::is_alphabetic) || top.starts_with("xn--"));
        if labels && is_top {
            return Some(start + domain.len());
        }
        // `a@b.com.5`: the address ends before what is no domain.
        domain = before.trim_end_matches(['.', '-']);
    }
}

/// RFC 4291 section 2.2. An address has a digit and three colons at least: names of code with `::` have not.
fn ipv6(text: &str, finds: &mut Finds<'_>) {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let mut start = 0;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if is_part(c) {
            continue;
        }
        let word = text[start..at].trim_end_matches('.');
        let stands_alone = !is_word(c) && !text[..start].chars().next_back().is_some_and(is_word);
        let colons = word.bytes().filter(|byte| *byte == b':').count();
        if stands_alone
            && colons >= 3
            && word.bytes().any(|byte| byte.is_ascii_digit())
            && word.parse::<Ipv6Addr>().is_ok_and(|ip| !ip.is_loopback() && !ip.is_unspecified())
        {
            finds.add(start..start + word.len(), PersonalKind::Ip);
        }
        start = at + c.len_utf8();
    }
}

fn find_name(text: &str, name: &CallerName, finds: &mut Finds<'_>) {
    let is_alone = |range: &Range<usize>| {
        let beside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !beside(text[..range.start].chars().next_back()) && !beside(text[range.end..].chars().next())
    };
    for (start, first) in text.char_indices() {
        // Small letters may have another length: the name is compared letter by letter.
        if !first.to_lowercase().eq(name.whole.chars().take(first.to_lowercase().count())) {
            continue;
        }
        let mut wanted = name.whole.chars().peekable();
        let mut end = start;
        for c in text[start..].chars() {
            if wanted.peek().is_none() || !c.to_lowercase().all(|small| wanted.next() == Some(small)) {
                break;
            }
            end += c.len_utf8();
        }
        let range = start..end;
        if wanted.next().is_none() && text[range.clone()].to_lowercase() == name.whole && is_alone(&range) {
            finds.add(range, PersonalKind::Name);
        }
    }
    for part in &name.parts {
        for (start, _) in text.match_indices(part.as_str()) {
            let range = start..start + part.len();
            if is_alone(&range) {
                finds.add(range, PersonalKind::Name);
            }
        }
    }
}
