//! Numbers in a text: payment cards, telephones, IPv4 addresses, and the national numbers of [`super::ids`].
//!
//! A run is a row of digit groups with a sign or a blank between each two. Every stretch of a run that stands for itself is looked at,
//! the longest first.

use std::{net::Ipv4Addr, ops::Range};

use super::{
    checks::luhn,
    detect::{Finds, is_word, near},
    ids::{FORMS, is_spelt},
};
use crate::config::PersonalKind;

/// Most groups of a number.
const MOST_GROUPS: usize = 9;
/// Most digits of a number: a payment card's.
const MOST_DIGITS: usize = 19;
/// Words of which one stands before a telephone number that is not told by its own spelling.
const PHONE_WORDS: &[&str] = &[
    "phone",
    "telephone",
    "tel",
    "call",
    "mobile",
    "cell",
    "cellphone",
    "fax",
    "whatsapp",
    "sms",
    "handy",
    "telefon",
    "telefonnummer",
    "mobilnummer",
    "handynummer",
    "rufnummer",
    "teléfono",
    "telefono",
    "téléphone",
    "móvil",
    "telefoon",
    "telefone",
    "celular",
    "dial",
    "text me",
    "reach me",
    "ring me",
    "电话",
    "手机",
    "電話",
    "携帯",
    "전화",
];

/// A group of digits in a text, with what stands before it.
#[derive(Clone)]
struct Group {
    range: Range<usize>,
    /// The sign between the group before and this one; a blank for a blank. 0: none is before it.
    before: u8,
    /// Whether a bracket opens before it.
    bracket: bool,
}

/// Finds the numbers of the run that begins at the digit `start`. Returns where the run ends.
pub(super) fn run(text: &str, start: usize, finds: &mut Finds<'_>) -> usize {
    let groups = groups(text, start);
    let end = groups.last().map_or(start + 1, |group| group.range.end);
    let mut at = 0;
    while at < groups.len() {
        let before = groups[at].before;
        // A stretch within a number with hyphens or dots is a part of that number.
        let taken = if at == 0 || matches!(before, b' ' | b'/' | b'+' | b'(') { stretch(text, &groups, at, finds) } else { 0 };
        at += taken.max(1);
    }
    end.max(start + 1)
}

/// The groups of the run that begins at the digit `start`. The last one ends where no letter follows.
fn groups(text: &str, start: usize) -> Vec<Group> {
    let bytes = text.as_bytes();
    let mut groups = Vec::new();
    let (mut at, mut before, mut bracket) = (start, 0, start > 0 && bytes[start - 1] == b'(');
    loop {
        let end = at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if text[end..].chars().next().is_some_and(is_word) && extension(&text[end..]) == 0 {
            return groups;
        }
        groups.push(Group { range: at..end, before, bracket });
        let Some((sign, open, next)) = separator(&text[end..]).map(|(sign, open, len)| (sign, open, end + len)) else { return groups };
        (at, before, bracket) = (next, sign, open);
    }
}

/// What may stand between two groups, if a digit follows: its main sign, whether it opens a bracket, and its length.
fn separator(text: &str) -> Option<(u8, bool, usize)> {
    let (mut sign, mut open, mut len) = (0, false, 0);
    for (count, c) in text.chars().enumerate() {
        let one = match c {
            '0'..='9' => return (count > 0).then_some((sign, open, len)),
            ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}' => b' ',
            '-' | '\u{2010}' | '\u{2011}' | '\u{2013}' => b'-',
            '.' | '/' | ')' | '(' | '+' => c as u8,
            _ => return None,
        };
        // At most three signs, as in `) - `, and no two of a kind beside each other.
        if count == 3 || one == sign {
            return None;
        }
        open |= one == b'(';
        sign = if sign == 0 || sign == b' ' { one } else { sign };
        len += c.len_utf8();
    }
    None
}

/// The longest number that begins with the group at `from`; returns how many groups it has, 0 for none.
fn stretch(text: &str, groups: &[Group], from: usize, finds: &mut Finds<'_>) -> usize {
    let most = (groups.len() - from).min(MOST_GROUPS);
    for count in (1..=most).rev() {
        let part = &groups[from..from + count];
        let follows = groups.get(from + count).map_or(b' ', |group| group.before);
        let digits: usize = part.iter().map(|group| group.range.len()).sum();
        let is_end = matches!(follows, b' ' | b'/' | b'(' | b')' | b'+');
        if digits > MOST_DIGITS || !is_end {
            continue;
        }
        if let Some(kind) = Stretch::of(text, part).kind(finds) {
            let Range { mut start, mut end } = part[0].range.start..part[count - 1].range.end;
            if kind == PersonalKind::Phone {
                (start, end) = (phone_start(text, start), end + extension(&text[end..]));
            }
            finds.add(start..end, kind);
            return count;
        }
    }
    0
}

/// The length of the extension that a telephone number goes on with: `x123`, ` ext. 12`.
fn extension(text: &str) -> usize {
    let rest = text.strip_prefix(' ').unwrap_or(text);
    let Some(rest) = ["ext. ", "ext.", "ext ", "x"].iter().find_map(|word| rest.strip_prefix(word)) else { return 0 };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let ends = !rest[digits..].chars().next().is_some_and(is_word);
    if (1..=6).contains(&digits) && ends { text.len() - rest.len() + digits } else { 0 }
}

/// A number begins with its `+`, and with the bracket before it.
fn phone_start(text: &str, start: usize) -> usize {
    let before = text[..start].trim_end_matches('(');
    let before = if before.len() + 1 >= start { before } else { &text[..start] };
    before.strip_suffix('+').unwrap_or(before).len()
}

/// A part of a run, as it is judged.
struct Stretch<'a> {
    text: &'a str,
    range: Range<usize>,
    digits: Vec<u8>,
    lengths: Vec<usize>,
    between: Vec<u8>,
    bracket: bool,
}

impl<'a> Stretch<'a> {
    fn of(text: &'a str, part: &[Group]) -> Self {
        let digits = part.iter().flat_map(|group| &text.as_bytes()[group.range.clone()]).map(|byte| byte - b'0');
        Self {
            text,
            range: part[0].range.start..part[part.len() - 1].range.end,
            digits: digits.collect(),
            lengths: part.iter().map(|group| group.range.len()).collect(),
            between: part[1..].iter().map(|group| group.before).collect(),
            bracket: part.iter().any(|group| group.bracket),
        }
    }

    fn kind(&self, finds: &Finds<'_>) -> Option<PersonalKind> {
        if finds.wants(PersonalKind::Ip) && self.is_ip() {
            return Some(PersonalKind::Ip);
        }
        // What has a `+` before it is a telephone number, whatever its digits would be.
        if self.has_plus() && finds.wants(PersonalKind::Phone) && self.is_international() {
            return Some(PersonalKind::Phone);
        }
        if finds.wants(PersonalKind::Card) && self.is_card() {
            return Some(PersonalKind::Card);
        }
        let national = FORMS.iter().find(|form| finds.wants(form.kind) && self.is_of(form, finds)).map(|form| form.kind);
        national.or_else(|| (finds.wants(PersonalKind::Phone) && self.is_phone(finds)).then_some(PersonalKind::Phone))
    }

    fn is_of(&self, form: &super::ids::NumberForm, finds: &Finds<'_>) -> bool {
        let bare = self.lengths.len() == 1 && self.digits.len() == form.length;
        let spelt = is_spelt(form, &self.lengths, &self.between);
        let told = bare && form.bare || spelt && form.spelt;
        (bare || spelt) && (form.check)(&self.digits) && (told || near(self.text, &self.range, form.words, finds.beside))
    }

    /// ISO/IEC 7812: 12 to 19 digits of an industry that issues payment cards, in a row or in fours (American Express: 4, 6, 5).
    fn is_card(&self) -> bool {
        let usual = match self.lengths[..] {
            [_] => true,
            [4, 6, 4 | 5] => true,
            [ref fours @ .., last] => fours.iter().all(|length| *length == 4) && last <= 4,
            [] => false,
        };
        let alike = self.between.windows(2).all(|pair| pair[0] == pair[1]) && self.between.iter().all(|sign| b" -.".contains(sign));
        // Maestro has twelve digits and more; old JCB cards begin with 1800.
        let issued = match self.digits[..] {
            [1, 8, 0, 0, ..] => self.digits.len() == 15,
            [5, 0 | 6..=8, ..] | [6, ..] => true,
            [2..=5, ..] => self.digits.len() > 12,
            _ => false,
        };
        (12..=19).contains(&self.digits.len())
            && issued
            && usual
            && alike
            && luhn(&self.digits)
            && !super::checks::is_monotone(&self.digits)
    }

    /// Four numbers up to 255 with dots. A private, local or unspecified address is nobody's.
    fn is_ip(&self) -> bool {
        self.lengths.len() == 4
            && self.between.iter().all(|sign| *sign == b'.')
            && self.text[self.range.clone()].parse::<Ipv4Addr>().is_ok_and(|ip| {
                !(ip.is_private()
                    || ip.is_loopback()
                    || ip.is_unspecified()
                    || ip.is_link_local()
                    || ip.is_broadcast()
                    || ip.octets()[0] == 0)
            })
    }

    fn has_plus(&self) -> bool {
        self.text[..self.range.start].trim_end_matches('(').ends_with('+')
    }

    /// ITU-T E.164: a country, and up to 15 digits. In North America they are eleven.
    fn is_international(&self) -> bool {
        let most = if self.lengths.len() == 1 { 15 } else { 13 };
        match self.digits[0] {
            0 => false,
            1 => self.digits.len() == 11,
            _ => (8..=most).contains(&self.digits.len()),
        }
    }

    fn is_phone(&self, finds: &Finds<'_>) -> bool {
        let digits = &self.digits[..];
        let is_year = |at: usize| matches!(digits.get(at..at + 2), Some([1, 9] | [2, 0]));
        let is_dated = !self.bracket
            && match self.lengths[..] {
                [4, 1 | 2, 1 | 2, ..] => is_year(0),
                [day @ 1..=2, month @ 1..=2, 4, ..] => is_year(day + month),
                _ => false,
            };
        let exit = digits.starts_with(&[0, 0]) && digits[2..].first().is_some_and(|digit| *digit > 0) && (11..=17).contains(&digits.len());
        if exit || is_north_american(digits, &self.lengths) {
            return true;
        }
        let trunk = digits[0] == 0 && digits.get(1).is_some_and(|digit| *digit > 0);
        let grouped = self.lengths.len() > 1 && self.lengths.iter().all(|length| (2..=8).contains(length));
        if trunk && grouped && (9..=12).contains(&digits.len()) && !is_dated {
            return true;
        }
        (7..=13).contains(&digits.len()) && !is_dated && near(self.text, &self.range, PHONE_WORDS, finds.beside)
    }
}

/// The North American numbering plan: neither the area nor the exchange begins with 0 or 1.
fn is_north_american(digits: &[u8], lengths: &[usize]) -> bool {
    let own = match (lengths, digits) {
        ([3, 3, 4], own) => own,
        ([1, 3, 3, 4], [1, own @ ..]) => own,
        _ => return false,
    };
    own[0] > 1 && own[3] > 1
}
