//! Parts of a stored complete response (RFC 9110 section 14, RFC 9111 section 3.3): one range or suffix, `If-Range`, 416.

use super::{date, validate};
use crate::http1::{Fields, Id};

/// The part of a stored response of known length that a request's `Range` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All of it: no range, one that is not understood, several, or a condition that fails.
    Whole,
    /// These bytes, first and last, both inside.
    Bytes(u64, u64),
    /// None of it: 416.
    Unsatisfiable,
}

/// The part of `len` bytes with the fields `stored` that a GET with the fields `request` asks for. `dated`: `Last-Modified` names these
/// bytes and no others.
pub fn part(request: &Fields, stored: &Fields, dated: bool, len: u64) -> Part {
    let mut lines = request.all(Id::Range);
    let (Some(range), None) = (lines.next(), lines.next()) else { return Part::Whole };
    if !if_range_holds(request, stored, dated) {
        return Part::Whole;
    }
    match parse(range.as_bytes()) {
        None => Part::Whole,
        Some(Spec::Suffix(0)) => Part::Unsatisfiable,
        Some(_) if len == 0 => Part::Unsatisfiable,
        Some(Spec::Suffix(count)) => Part::Bytes(len - count.min(len), len - 1),
        Some(Spec::From(first, _)) if first >= len => Part::Unsatisfiable,
        Some(Spec::From(first, last)) => Part::Bytes(first, last.unwrap_or(u64::MAX).min(len - 1)),
    }
}

/// `If-Range` (RFC 9110 section 13.1.5): strong comparison, or exactly the stored date where that is a strong validator.
fn if_range_holds(request: &Fields, stored: &Fields, dated: bool) -> bool {
    let Some(condition) = request.get(Id::IfRange) else { return true };
    let condition = condition.as_bytes().trim_ascii();
    if condition.starts_with(b"\"") || condition.starts_with(b"W/") {
        return stored.get(Id::Etag).is_some_and(|etag| validate::same_strongly(etag.as_bytes(), condition));
    }
    match (date::parse(condition), date::of(stored.get(Id::LastModified))) {
        (Some(asked), Some(modified)) => dated && asked == modified,
        _ => false,
    }
}

enum Spec {
    From(u64, Option<u64>),
    Suffix(u64),
}

fn parse(value: &[u8]) -> Option<Spec> {
    let value = value.trim_ascii();
    let unit = value.get(..6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let spec = value[6..].trim_ascii();
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => number(last).map(Spec::Suffix),
        (false, true) => number(first).map(|first| Spec::From(first, None)),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From(first, Some(last)))
        }
    }
}

/// Digits only; a number too large for us is as large as can be.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    fn asked(range: &str, condition: Option<&str>) -> Fields {
        let mut headers = Fields::new();
        headers.insert(Id::Range, range);
        if let Some(condition) = condition {
            headers.insert(Id::IfRange, condition);
        }
        headers
    }

    #[test]
    fn one_range_of_eleven_bytes() {
        for (range, expected) in [
            ("bytes=0-1", Part::Bytes(0, 1)),
            ("bytes=1-", Part::Bytes(1, 10)),
            ("bytes=-1", Part::Bytes(10, 10)),
            ("bytes=-99", Part::Bytes(0, 10)),
            ("Bytes= 5-99 ", Part::Bytes(5, 10)),
            ("bytes=10-10", Part::Bytes(10, 10)),
            ("bytes=0-99999999999999999999999", Part::Bytes(0, 10)),
            ("bytes=11-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=3-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(part(&asked(range, None), &Fields::new(), false, 11), expected, "{range}");
        }
        assert_eq!(part(&Fields::new(), &Fields::new(), false, 11), Part::Whole);
        assert_eq!(part(&asked("bytes=0-", None), &Fields::new(), false, 0), Part::Unsatisfiable);
    }

    #[test]
    fn if_range_compares_strongly() {
        const DATE: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
        for (dated, condition, holds) in [
            (false, "\"a\"", true),
            (false, "\"b\"", false),
            (false, "W/\"a\"", false),
            (true, DATE, true),
            (false, DATE, false),
            (true, "Thu, 02 Jan 2020 00:00:00 GMT", false),
            (true, "junk", false),
        ] {
            let mut stored = Fields::new();
            stored.insert(Id::Etag, "\"a\"");
            stored.insert(Id::LastModified, DATE);
            let expected = if holds { Part::Bytes(0, 1) } else { Part::Whole };
            assert_eq!(part(&asked("bytes=0-1", Some(condition)), &stored, dated, 11), expected, "{condition}");
            stored.insert(Id::Etag, "W/\"a\"");
            let expected = if holds && dated { Part::Bytes(0, 1) } else { Part::Whole };
            assert_eq!(part(&asked("bytes=0-1", Some(condition)), &stored, dated, 11), expected, "{condition}, weak");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_always_inside(range in "(bytes=)?[0-9,\\- ]{0,30}", len in any::<u64>()) {
            if let Part::Bytes(first, last) = part(&asked(&range, None), &Fields::new(), false, len) {
                prop_assert!(first <= last && last < len);
            }
        }
    }
}
