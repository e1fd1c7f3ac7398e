//! The content codings that a client accepts (RFC 9110 section 12.5.3). Every part that chooses, narrows or remembers a coding
//! reads `Accept-Encoding` here.

use crate::http1::{Fields, Id};

/// Whether a client with these request fields accepts an answer in `coding` (the value of `Content-Encoding`).
///
/// A request without `Accept-Encoding` accepts no coding: the RFC allows any, but many such clients can decode none. If a
/// coding is named twice, the refusal counts. An unreadable weight is a refusal.
pub fn accepts(request: &Fields, coding: &[u8]) -> bool {
    coding.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|one| !one.is_empty()).all(|one| accepts_one(request, one))
}

fn accepts_one(request: &Fields, coding: &[u8]) -> bool {
    weight(request, coding).map_or(coding.eq_ignore_ascii_case(b"identity"), |weight| weight > 0)
}

/// The weight in thousandths that the client gives a coding, by its name or by `*`; `None`: it names neither. The smaller of two counts,
/// and an unreadable one is 0.
pub fn weight(request: &Fields, coding: &[u8]) -> Option<u16> {
    let (named, any) = said(request, coding);
    named.or(any)
}

/// The weight of a coding that the client calls by its name.
pub fn named(request: &Fields, coding: &[u8]) -> Option<u16> {
    said(request, coding).0
}

/// The weights of a coding and of `*`.
fn said(request: &Fields, coding: &[u8]) -> (Option<u16>, Option<u16>) {
    let (mut named, mut any) = (None, None);
    for member in request.all(Id::AcceptEncoding).flat_map(|line| line.as_bytes().split(|byte| *byte == b',')) {
        let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let token = parts.next().unwrap_or_default();
        let said = if token == b"*" {
            &mut any
        } else if is_same(token, coding) {
            &mut named
        } else {
            continue;
        };
        let of_part = |part: &[u8]| {
            let (name, weight) = part.split_at_checked(2)?;
            name.eq_ignore_ascii_case(b"q=").then(|| thousandths(weight)).flatten()
        };
        let weight = parts.map(|part| of_part(part).unwrap_or(0)).min().unwrap_or(1000);
        *said = Some(said.unwrap_or(1000).min(weight));
    }
    (named, any)
}

/// Whether two coding names are the same: they have no case, and `gzip` and `compress` each have an old name (RFC 9110 section 8.4.1).
fn is_same(a: &[u8], b: &[u8]) -> bool {
    without_x(a).eq_ignore_ascii_case(without_x(b))
}

fn without_x(coding: &[u8]) -> &[u8] {
    match coding {
        [b'x' | b'X', b'-', name @ ..] if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"compress") => name,
        _ => coding,
    }
}

/// A weight (RFC 9110 section 12.4.2) in thousandths; `None` if it is not valid.
pub fn thousandths(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text.split_first()? {
        (digit @ b'0'..=b'1', []) => (u16::from(digit - b'0'), &[][..]),
        (digit @ b'0'..=b'1', [b'.', fraction @ ..]) if fraction.len() <= 3 => (u16::from(digit - b'0'), fraction),
        _ => return None,
    };
    let mut value = whole * 1000;
    for (digit, place) in fraction.iter().zip([100, 10, 1]) {
        value += digit.is_ascii_digit().then(|| u16::from(digit - b'0') * place)?;
    }
    (value <= 1000).then_some(value)
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    fn asks(lines: &[&str]) -> Fields {
        let mut headers = Fields::new();
        for line in lines {
            headers.append(Id::AcceptEncoding, line);
        }
        headers
    }

    #[test]
    fn a_coding_is_accepted_by_name_and_weight() {
        for (asked, coding, expected) in [
            (&[][..], "gzip", false),
            (&[], "identity", true),
            (&[""], "gzip", false),
            (&["gzip"], "gzip", true),
            (&["GZip"], "gzip", true),
            (&["gzip"], "x-gzip", true),
            (&["x-gzip"], "gzip", true),
            (&["x-br"], "br", false),
            (&["gzip"], "br", false),
            (&["gzip, deflate, br"], "br", true),
            (&["gzip", "br"], "br", true),
            (&["gzip;q=0"], "gzip", false),
            (&["gzip; q=0.000"], "gzip", false),
            (&["gzip ;Q=0"], "gzip", false),
            (&["gzip;q=0.001"], "gzip", true),
            (&["gzip;q=1.000"], "gzip", true),
            (&["gzip;q=2"], "gzip", false),
            (&["gzip;q=x"], "gzip", false),
            (&["gzip;q"], "gzip", false),
            (&["gzipped"], "gzip", false),
            (&["identity, notgzip"], "gzip", false),
            (&["*"], "gzip", true),
            (&["*;q=0"], "gzip", false),
            (&["*;q=0"], "identity", false),
            (&["*;q=0, identity"], "identity", true),
            (&["identity;q=0"], "identity", false),
            (&["br"], "identity", true),
            (&["*, gzip;q=0"], "gzip", false),
            (&["*;q=0, gzip"], "gzip", true),
            (&["gzip, gzip;q=0"], "gzip", false),
            (&["gzip, br"], "gzip, br", true),
            (&["gzip"], "gzip, br", false),
            (&[], "", true),
        ] {
            assert_eq!(accepts(&asks(asked), coding.as_bytes()), expected, "{asked:?} {coding}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics_and_a_refusal_is_heard(line in "[ -~]{0,40}") {
            accepts(&asks(&[&line]), b"gzip");
            prop_assert!(!accepts(&asks(&[&line, "gzip;q=0"]), b"gzip"));
        }
    }
}
