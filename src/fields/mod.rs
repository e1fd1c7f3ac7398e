//! Readers of header fields that several modules need: each exists once, and no two can disagree.

pub mod claims;

use crate::http1::{Fields, Id, Named};

pub use claims::Claims;

/// The one length that all `Content-Length` lines and list members agree on (RFC 9110 section 8.6); `None`: there is no such field.
///
/// # Errors
/// The flaw of the value.
pub fn content_length(fields: &Fields) -> Result<Option<u64>, &'static str> {
    let mut lines = fields.all(Id::ContentLength);
    match (lines.next(), lines.next()) {
        (None, _) => return Ok(None),
        (Some(only), None) if let Some(length) = plain(only.as_bytes()) => return Ok(Some(length)),
        _ => {}
    }
    let mut length = None;
    for value in fields.all(Id::ContentLength) {
        for part in value.as_bytes().split(|b| *b == b',') {
            let number = digits(part.trim_ascii())?;
            if length.is_some_and(|known| known != number) {
                return Err("two different Content-Lengths");
            }
            length = Some(number);
        }
    }
    Ok(length)
}

/// The number that is written as a length usually is: in at most 19 digits.
fn plain(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

/// A number of decimal digits alone.
fn digits(text: &[u8]) -> Result<u64, &'static str> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err("a Content-Length that is not a number");
    }
    let add = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    text.iter().try_fold(0, add).ok_or("a Content-Length beyond 64 bits")
}

/// Whether a request with these fields announces a body.
pub fn announce_body(fields: &Fields) -> bool {
    fields.has(Id::TransferEncoding) || !matches!(content_length(fields), Ok(None | Some(0)))
}

/// Whether a list-valued field has `token`, in any case.
pub fn has_token(fields: &Fields, name: impl Named, token: &str) -> bool {
    members(fields, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

/// The members of a list-valued field, over all its lines.
pub fn members<'f, N: Named + 'f>(fields: &'f Fields, name: N) -> impl Iterator<Item = &'f [u8]> {
    fields.all(name).flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> Fields {
        let mut map = Fields::new();
        for (name, value) in list {
            map.append(*name, value);
        }
        map
    }

    #[test]
    fn a_body_is_announced_by_a_length_or_a_coding() {
        for (list, announced) in [
            (&[][..], false),
            (&[("content-length", "0")], false),
            (&[("content-length", "00")], false),
            (&[("content-length", "1")], true),
            (&[("content-length", "x")], true),
            (&[("transfer-encoding", "chunked")], true),
        ] {
            assert_eq!(announce_body(&fields(list)), announced, "{list:?}");
        }
    }

    #[test]
    fn a_length_alone_and_as_a_list_of_itself_is_the_same_number() {
        for text in ["0", "7", "007", "1024", "9999999999999999999", "18446744073709551615", "18446744073709551616", "1 2", "+1", "", "x"] {
            let alone = content_length(&fields(&[("content-length", text)]));
            assert_eq!(alone.ok(), digits(text.as_bytes()).ok().map(Some), "{text}");
        }
    }

    proptest! {
        /// A list means the same in one line and in several (RFC 9110 section 5.3).
        #[test]
        fn lines_of_a_list_may_be_joined(lines in proptest::collection::vec("[0-9a, ]{0,4}", 0..4)) {
            let several: Fields = lines.iter().map(|line| (Id::ContentLength, line)).collect();
            let mut one = Fields::new();
            if !lines.is_empty() {
                one.insert(Id::ContentLength, lines.join(", "));
            }
            prop_assert_eq!(content_length(&several).ok(), content_length(&one).ok());
            prop_assert_eq!(has_token(&several, Id::ContentLength, "a"), has_token(&one, Id::ContentLength, "a"));
        }
    }
}
