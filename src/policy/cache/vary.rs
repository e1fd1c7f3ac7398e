//! The requests that a stored response answers (RFC 9111 section 4.1): the fields that `Vary` names, normalised where two
//! spellings mean the same. A response with a content coding never answers a client that does not accept the coding, also where
//! `Vary` does not say so (nginx without `gzip_vary`).

use http::{HeaderName, header};

use crate::{
    body::accept::{accepts, thousandths},
    http1::{Fields, Id},
};

/// Fields a response varies on, with the request's normalised values; `None`: the request had no such field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variance {
    /// Sorted by name, each once.
    pub fields: Vec<(HeaderName, Option<Box<[u8]>>)>,
}

/// Most names in `Vary`; a response with more is not stored.
pub const MAX_FIELDS: usize = 16;

impl Variance {
    /// The fields the response varies on, with `request`'s values; `None` if only this very request would match (`*`, a name
    /// that is no field name, too many names).
    pub fn of(response: &Fields, request: &Fields) -> Option<Self> {
        let mut names: Vec<HeaderName> = Vec::new();
        for name in members(response) {
            if name == b"*" {
                return None;
            }
            names.push(HeaderName::from_bytes(name).ok()?);
        }
        if coding(response).is_some() {
            names.push(header::ACCEPT_ENCODING);
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        if names.len() > MAX_FIELDS {
            return None;
        }
        let fields = names.into_iter().map(|name| {
            let value = normalised(&name, request);
            (name, value)
        });
        Some(Self { fields: fields.collect() })
    }

    /// Whether the response is for everyone.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether `request` asks for the same variant. `stored` are the fields of the stored response. A response in the one
    /// language that the request prefers to all others matches, whatever other languages the request accepts. A response in an
    /// accepted coding matches too, if `Vary` does not name `Accept-Encoding`.
    pub fn matches(&self, request: &Fields, stored: &Fields) -> bool {
        self.fields.iter().all(|(name, value)| {
            let asked = normalised(name, request);
            asked == *value
                || match *name {
                    header::ACCEPT_LANGUAGE => speaks(stored, asked.as_deref()),
                    header::ACCEPT_ENCODING => !names(stored, name) && coding(stored).is_some_and(|coding| accepts(request, coding)),
                    _ => false,
                }
        })
    }
}

/// The content coding of a response, if it has one.
fn coding(response: &Fields) -> Option<&[u8]> {
    let mut lines = response.all(Id::ContentEncoding).map(|line| line.as_bytes().trim_ascii());
    lines.find(|line| !line.is_empty() && !line.eq_ignore_ascii_case(b"identity"))
}

/// Whether `Vary` names a field.
fn names(response: &Fields, field: &HeaderName) -> bool {
    members(response).any(|name| name.eq_ignore_ascii_case(field.as_str().as_bytes()))
}

/// The members of `Vary`.
fn members(response: &Fields) -> impl Iterator<Item = &[u8]> {
    let members = response.all(Id::Vary).flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

/// Adds the names in an answer's `Vary` to those of the stored fields: a 304 does not end a response's variance.
pub(super) fn widen(stored: &mut Fields, answer: &Fields) {
    for name in members(answer) {
        let is_named = members(stored).any(|known| known.eq_ignore_ascii_case(name));
        if !is_named {
            stored.append(Id::Vary, name);
        }
    }
}

/// The value of a field: lines joined, white space around commas gone; `Accept-*` lists also in lower case and sorted by
/// preference, because their order means nothing (RFC 9110 section 12.5).
fn normalised(name: &HeaderName, request: &Fields) -> Option<Box<[u8]>> {
    let mut lines = request.all(name).peekable();
    lines.peek()?;
    let members = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if !matches!(*name, header::ACCEPT_LANGUAGE | header::ACCEPT_ENCODING | header::ACCEPT_CHARSET) {
        let members: Vec<&[u8]> = members.collect();
        return Some(members.join(&b',').into());
    }
    let mut weighed: Vec<(u16, Vec<u8>)> = members.filter(|member| !member.is_empty()).map(weigh).collect();
    weighed.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    weighed.dedup();
    let mut out = Vec::new();
    for (quality, token) in weighed {
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(&token);
        if quality != 1000 {
            out.extend_from_slice(format!(";q={quality}").as_bytes());
        }
    }
    Some(out.into())
}

/// A member's quality in thousandths and the rest of it in lower case.
fn weigh(member: &[u8]) -> (u16, Vec<u8>) {
    let lower = member.to_ascii_lowercase();
    let mut parts = lower.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let mut token = parts.next().unwrap_or_default().to_vec();
    let mut quality = 1000;
    for part in parts {
        match part.strip_prefix(b"q=").and_then(thousandths) {
            Some(weight) => quality = weight,
            None => {
                token.push(b';');
                token.extend_from_slice(part);
            }
        }
    }
    (quality, token)
}

/// Whether the stored response is in the one language that is preferred to all others.
fn speaks(stored: &Fields, asked: Option<&[u8]>) -> bool {
    let mut lines = stored.all(header::CONTENT_LANGUAGE);
    let (Some(language), None, Some(asked)) = (lines.next(), lines.next(), asked) else { return false };
    let language = language.as_bytes().trim_ascii();
    // The list is sorted by descending quality: the first member is preferred if the second has another quality.
    let mut members = asked.split(|byte| *byte == b',');
    let quality = |member: &[u8]| member.iter().position(|byte| *byte == b';').map(|at| member[at..].to_vec());
    let Some(first) = members.next() else { return false };
    let tag = first.split(|byte| *byte == b';').next().unwrap_or_default();
    let alone = members.next().is_none_or(|second| quality(second) != quality(first));
    alone && tag != b"*" && quality(first).as_deref() != Some(b";q=0") && tag.eq_ignore_ascii_case(language)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> Fields {
        let mut headers = Fields::new();
        for (name, value) in lines {
            headers.append(*name, value);
        }
        headers
    }

    #[test]
    fn variants_match_by_the_named_fields_only() {
        for (vary, first, second, expected) in [
            ("Foo", vec![("foo", "1")], vec![("foo", "1")], true),
            ("Foo", vec![("foo", "1")], vec![("foo", "2")], false),
            ("Foo", vec![], vec![("foo", "1")], false),
            ("Foo", vec![("foo", "1")], vec![], false),
            ("Foo", vec![], vec![], true),
            ("Foo", vec![("foo", "1"), ("other", "2")], vec![("foo", "1"), ("other", "3")], true),
            ("Foo, Bar", vec![("foo", "1"), ("bar", "abc")], vec![("foo", "1"), ("bar", "abc")], true),
            ("Foo, Bar", vec![("foo", "1"), ("bar", "abc")], vec![("foo", "2"), ("bar", "abc")], false),
            ("Foo, Bar, Baz", vec![("foo", "1"), ("baz", "7")], vec![("foo", "1"), ("baz", "7")], true),
            ("Foo", vec![("foo", "1, 2")], vec![("foo", "1"), ("foo", "2")], true),
            ("Foo", vec![("foo", "1,2")], vec![("foo", " 1, 2 ")], true),
            ("Foo", vec![("foo", "1,2")], vec![("foo", "2,1")], false),
            ("Foo", vec![("foo", "")], vec![], false),
            ("Accept-Language", vec![("accept-language", "en, de")], vec![("accept-language", "de, en")], true),
            ("Accept-Language", vec![("accept-language", "en, de")], vec![("accept-language", "eN ,   De")], true),
            ("Accept-Language", vec![("accept-language", "en, de")], vec![("accept-language", "en;q=0.5, de")], false),
            ("Accept-Language", vec![("accept-language", "en;q=0.5, de")], vec![("accept-language", "de;q=1.0,en; q=0.50")], true),
            ("Accept-Encoding", vec![("accept-encoding", "gzip, br")], vec![("accept-encoding", "br,gzip")], true),
            ("Accept-Encoding", vec![("accept-encoding", "gzip;q=0")], vec![("accept-encoding", "gzip")], false),
        ] {
            let variance = Variance::of(&map(&[("vary", vary)]), &map(&first)).expect("not *");
            assert_eq!(variance.matches(&map(&second), &Fields::new()), expected, "{vary}: {first:?} then {second:?}");
        }
    }

    #[test]
    fn the_preferred_language_alone_decides() {
        let variance = Variance::of(&map(&[("vary", "accept-language")]), &map(&[("accept-language", "en, de")])).expect("not *");
        let stored = map(&[("content-language", "de")]);
        for (asked, expected) in [
            ("fr;q=0.5, de;q=1.0", true),
            ("DE", true),
            ("de, fr", false),
            ("fr, de;q=0.9", false),
            ("de;q=0", false),
            ("*", false),
            ("de-at, de;q=0.8", false),
        ] {
            assert_eq!(variance.matches(&map(&[("accept-language", asked)]), &stored), expected, "{asked}");
        }
    }

    #[test]
    fn a_coding_is_for_those_who_accept_it_whatever_vary_says() {
        let gzip = ("accept-encoding", "gzip");
        for (vary, first, second, expected) in [
            ("", vec![gzip], vec![("accept-encoding", "br, gzip")], true),
            ("", vec![gzip], vec![("accept-encoding", "br")], false),
            ("", vec![gzip], vec![("accept-encoding", "gzip;q=0")], false),
            ("", vec![gzip], vec![], false),
            // An app may give the coding to everyone.
            ("", vec![], vec![], true),
            ("", vec![], vec![gzip], true),
            ("", vec![], vec![("accept-encoding", "br")], false),
            // Another value may choose another answer.
            ("accept-encoding", vec![gzip], vec![("accept-encoding", "br, gzip")], false),
            ("foo", vec![gzip, ("foo", "1")], vec![gzip], false),
        ] {
            let stored = map(&[("vary", vary), ("content-encoding", "gzip")]);
            let variance = Variance::of(&stored, &map(&first)).expect("not *");
            assert_eq!(variance.matches(&map(&second), &stored), expected, "{vary}: {first:?} then {second:?}");
        }
        let plain = map(&[("content-encoding", "identity")]);
        assert!(Variance::of(&plain, &map(&[gzip])).expect("not *").is_empty());
    }

    #[test]
    fn what_has_varied_does_not_cease_to() {
        for (stored, answer, expected) in [
            (vec![("vary", "b")], vec![("vary", "a")], vec![("vary", "b"), ("vary", "a")]),
            (vec![("vary", "A, b")], vec![("vary", "b"), ("vary", "a,c")], vec![("vary", "A, b"), ("vary", "c")]),
            (vec![], vec![("vary", "a")], vec![("vary", "a")]),
            (vec![("vary", "a")], vec![], vec![("vary", "a")]),
            (vec![("vary", "a")], vec![("vary", "*")], vec![("vary", "a"), ("vary", "*")]),
        ] {
            let mut fields = map(&stored);
            widen(&mut fields, &map(&answer));
            assert_eq!(fields, map(&expected), "{stored:?} {answer:?}");
        }
    }

    #[test]
    fn star_matches_nothing() {
        for lines in [
            vec![("vary", "*")],
            vec![("vary", "*, *")],
            vec![("vary", ", *")],
            vec![("vary", ""), ("vary", "*")],
            vec![("vary", "foo, *")],
        ] {
            assert_eq!(Variance::of(&map(&lines), &Fields::new()), None, "{lines:?}");
        }
        assert!(Variance::of(&map(&[("vary", "")]), &Fields::new()).expect("nothing named").is_empty());
    }

    proptest! {
        #[test]
        fn a_request_always_matches_its_own_variant(value in "[ -~]{0,60}", name in "(foo|accept-language|accept-encoding)") {
            let request = map(&[(match name.as_str() { "foo" => "foo", "accept-language" => "accept-language", _ => "accept-encoding" }, &value)]);
            let variance = Variance::of(&map(&[("vary", &name)]), &request).expect("not *");
            prop_assert!(variance.matches(&request, &Fields::new()));
        }
    }
}
