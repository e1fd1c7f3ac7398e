//! The fields that name an exchange: the app gets its token, a provider gets neither token nor request id.

use crate::{
    arrival::digits,
    http1::{Fields, Id},
};

/// The field of a request id.
pub const REQUEST_ID: Id = Id::XRequestId;

/// The field in which an app names the caller it asks for; only read from the same host.
pub const CALLER: &str = "outrigger-caller";

const BAGGAGE: Id = Id::Baggage;
const MEMBER: &[u8] = b"outrigger";

/// Digits of a token.
const DIGITS: usize = 32;

/// The length of a number written as a UUID, and the places of its dashes.
const DASHED: usize = 36;
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// The longest run of digits that is searched for a token at every place: two tokens, or a SHA-256.
const LONGEST_RUN: usize = 64;

/// Puts a token into `baggage`: one line; an incoming member of that name is replaced.
pub fn announce(headers: &mut Fields, token: u128) {
    let mut own = [0; MEMBER.len() + 1 + DIGITS];
    own[..MEMBER.len()].copy_from_slice(MEMBER);
    own[MEMBER.len()] = b'=';
    own[MEMBER.len() + 1..].copy_from_slice(&digits(token));
    if headers.has(BAGGAGE) {
        let mut line = foreign_members(headers, own.len() + 1);
        if !line.is_empty() {
            line.extend_from_slice(b",");
        }
        line.extend_from_slice(&own);
        headers.insert(BAGGAGE, line);
    } else {
        headers.append(BAGGAGE, own);
    }
}

/// Removes our member and leaves the others as they were; an empty field goes.
pub fn withdraw(headers: &mut Fields) {
    if !headers.has(BAGGAGE) || members(headers).all(|member| value_of_ours(member).is_none()) {
        return;
    }
    let line = foreign_members(headers, 0);
    if line.is_empty() {
        headers.remove(BAGGAGE);
    } else {
        headers.insert(BAGGAGE, line);
    }
}

/// The caller that the app says it asks for.
pub fn said_caller(headers: &Fields) -> Option<&str> {
    headers.get(CALLER)?.to_str().ok().filter(|caller| !caller.is_empty() && caller.len() <= 256)
}

/// The number in our member of `baggage`.
pub(super) fn announced(headers: &Fields) -> Option<u128> {
    let value = members(headers).find_map(value_of_ours)?;
    number(value.split(|b| *b == b';').next()?.trim_ascii())
}

/// The request id as sent.
pub(super) fn request_id(headers: &Fields) -> Option<&str> {
    headers.get(REQUEST_ID)?.to_str().ok().filter(|id| !id.is_empty())
}

/// A number of 32 digits, also in capitals or written as a UUID: some apps write ids anew.
pub(super) fn number(text: &[u8]) -> Option<u128> {
    match text.len() {
        DIGITS => text.iter().try_fold(0, |number, byte| Some(number << 4 | digit(*byte)?)),
        DASHED => {
            let mut plain = [0; DIGITS];
            let mut at = 0;
            for (place, byte) in text.iter().enumerate() {
                if DASHES.contains(&place) {
                    (*byte == b'-').then_some(())?;
                } else {
                    plain[at] = *byte;
                    at += 1;
                }
            }
            number(&plain)
        }
        _ => None,
    }
}

/// Replaces each number in `text` for which `instead` gives another. `None`: there is none.
pub(super) fn replace_numbers(text: &[u8], instead: impl Fn(u128) -> Option<u128>) -> Option<Vec<u8>> {
    let mut replaced: Option<Vec<u8>> = None;
    let mut put = |from: usize, length: usize| {
        let old = &text[from..from + length];
        let Some(new) = number(old).and_then(&instead) else { return false };
        let out = replaced.get_or_insert_with(|| text.to_vec());
        let mut digits = digits(new).into_iter();
        out[from..from + length].iter_mut().filter(|byte| **byte != b'-').zip(&mut digits).for_each(|(byte, digit)| *byte = digit);
        true
    };
    let mut at = 0;
    while at + DIGITS <= text.len() {
        let run = text[at..].iter().take_while(|byte| digit(**byte).is_some()).count();
        let end = at + run;
        if (DIGITS..=LONGEST_RUN).contains(&run) {
            let mut from = at;
            while from + DIGITS <= end {
                from += if put(from, DIGITS) { DIGITS } else { 1 };
            }
        } else if run >= DASHES[0] && text.get(end) == Some(&b'-') {
            let from = end - DASHES[0];
            if from + DASHED <= text.len() && put(from, DASHED) {
                at = from + DASHED;
                continue;
            }
        }
        at = end + 1;
    }
    replaced
}

fn digit(byte: u8) -> Option<u128> {
    (byte as char).to_digit(16).map(u128::from)
}

fn members(headers: &Fields) -> impl Iterator<Item = &[u8]> {
    headers.all(BAGGAGE).flat_map(|line| line.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

fn value_of_ours(member: &[u8]) -> Option<&[u8]> {
    let equals = member.iter().position(|b| *b == b'=')?;
    (member[..equals].trim_ascii() == MEMBER).then(|| member[equals + 1..].trim_ascii())
}

fn foreign_members(headers: &Fields, more: usize) -> Vec<u8> {
    let room = headers.all(BAGGAGE).map(|line| line.len() + 1).sum::<usize>() + more;
    let mut line = Vec::with_capacity(room);
    for member in members(headers).filter(|m| value_of_ours(m).is_none()) {
        if !line.is_empty() {
            line.extend_from_slice(b",");
        }
        line.extend_from_slice(member);
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_token_is_one_member_of_one_line_and_goes_again() {
        let mut headers = Fields::new();
        announce(&mut headers, 1);
        assert_eq!(&headers["baggage"], "outrigger=00000000000000000000000000000001");
        withdraw(&mut headers);
        assert!(headers.is_empty());
        headers.append("baggage", "a=1;p=2, outrigger=00000000000000000000000000000009");
        headers.append("baggage", " b=2 ,");
        announce(&mut headers, 0xab);
        assert_eq!(headers.all("baggage").count(), 1);
        assert_eq!(&headers["baggage"], "a=1;p=2,b=2,outrigger=000000000000000000000000000000ab");
        assert_eq!(announced(&headers), Some(0xab));
        withdraw(&mut headers);
        assert_eq!((&headers["baggage"], announced(&headers)), ("a=1;p=2,b=2", None));
        headers.insert("baggage", "a = 1 , b");
        withdraw(&mut headers);
        assert_eq!(&headers["baggage"], "a = 1 , b", "where nothing is ours nothing changes");
    }

    #[test]
    fn a_number_is_read_in_every_form_that_apps_write() {
        let number_is = |text: &str| number(text.as_bytes());
        assert_eq!(number_is("0123456789abcdef0123456789abcdef"), Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(number_is("0123456789ABCDEF0123456789ABCDEF"), Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(number_is("01234567-89ab-cdef-0123-456789abcdef"), Some(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        for no in ["", "0", "+123456789abcdef0123456789abcdef", "0123456789abcdef-0123456789abcdef---", "0123456789abcdef0123456789abcdeg"]
        {
            assert_eq!(number_is(no), None, "{no}");
        }
    }

    #[test]
    fn a_caller_is_said_in_a_text_of_some_length() {
        let said = |text: &str| {
            let headers = Fields::from_iter([(CALLER, text)]);
            said_caller(&headers).map(str::to_owned)
        };
        assert_eq!((said("ann").as_deref(), said(""), said(&"a".repeat(257))), (Some("ann"), None, None));
    }

    const NEW: u128 = 0xffff_eeee_dddd_cccc_bbbb_aaaa_9999_8888;

    #[test]
    fn a_number_is_replaced_wherever_it_stands() {
        let old = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        let replaced = |text: &str| {
            replace_numbers(text.as_bytes(), |number| (number == old).then_some(NEW)).map(|text| String::from_utf8(text).expect("text"))
        };
        let (plain, new) = ("0123456789abcdef0123456789abcdef", "ffffeeeeddddccccbbbbaaaa99998888");
        assert_eq!(replaced(plain).as_deref(), Some(new));
        assert_eq!(replaced(&plain.to_uppercase()).as_deref(), Some(new));
        assert_eq!(replaced("01234567-89ab-cdef-0123-456789abcdef").as_deref(), Some("ffffeeee-dddd-cccc-bbbb-aaaa99998888"));
        for (before, after) in [("", "x"), ("req_", "_1"), ("id", "e"), ("00-", "-0000000000000001-01"), ("a=1, b=", ";c"), (plain, "")] {
            let after_all = |middle: &str| format!("{before}{middle}{after}");
            let expected = after_all(new).replace(plain, new);
            assert_eq!(replaced(&after_all(plain)), Some(expected));
        }
        for no in ["application/json", &plain[1..], "00000000-89ab-cdef-0123-456789abcdef", &"a".repeat(5000)] {
            assert_eq!(replaced(no), None, "{no}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_searched_without_harm(text in "[0-9a-f-]{0,140}", every in any::<bool>()) {
            if let Some(replaced) = replace_numbers(text.as_bytes(), |_| every.then_some(NEW)) {
                prop_assert_eq!(replaced.len(), text.len());
            }
        }
    }
}
