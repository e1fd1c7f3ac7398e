//! What fields say about framing and the connection, noted while a head is scanned (RFC 9112 sections 3.2, 6, 9; RFC 9110 section 7).

use std::ops::Range;

use super::{
    class,
    head::{Form, Head, Version},
    ids::Id,
    refusal::Refusal,
    scan::Kind,
};

/// Notes what a field says. Its `line` is without its end and begins with `name` bytes of name; `options` counts names in `Connection`.
pub(super) fn note(
    head: &mut Head,
    kind: Kind,
    line: &[u8],
    name: usize,
    id: Id,
    value: Range<usize>,
    options: &mut u16,
) -> Result<(), Refusal> {
    let value = &line[value];
    match id {
        Id::ContentLength => length(head, kind, line, value)?,
        Id::TransferEncoding => coding(head, value)?,
        Id::Host if kind == Kind::Request => host(head, value)?,
        Id::Connection => connection(head, value, options)?,
        Id::Upgrade => head.facts.websocket |= class::has_member(value, b"websocket"),
        Id::Expect => head.facts.expect_continue |= value.eq_ignore_ascii_case(b"100-continue"),
        Id::Te => {
            head.facts.te_trailers |= class::members(value).any(|coding| {
                let name = coding.split(|byte| *byte == b';').next().unwrap_or_default();
                class::trim(name).eq_ignore_ascii_case(b"trailers")
            })
        }
        Id::Other if kind == Kind::Request && is_framing_alias(&line[..name]) => return Err(Refusal::FramingAlias),
        _ => {}
    }
    Ok(())
}

/// Judges the head as a whole, when its empty line has come.
pub(super) fn conclude(head: &Head, kind: Kind) -> Result<(), Refusal> {
    if kind == Kind::Request {
        if !head.lines.seen.has(Id::Host) && head.version == Version::Http11 {
            return Err(Refusal::NoHost);
        }
        if head.facts.chunked && head.facts.length.is_some() {
            return Err(Refusal::LengthAndCoding);
        }
        let has_body = head.facts.chunked || head.facts.length.is_some_and(|length| length > 0);
        // Some clients offer h2c with every request; that is not passed on, so its body is an ordinary one.
        if has_body && head.facts.websocket && head.facts.upgrade {
            return Err(Refusal::UpgradeWithBody);
        }
    }
    Ok(())
}

/// `Content-Length` (RFC 9110 section 8.6, RFC 9112 section 6.3): numbers that are equal count as one. A list of them is taken from a
/// target alone, as the RFC allows.
fn length(head: &mut Head, kind: Kind, line: &[u8], value: &[u8]) -> Result<(), Refusal> {
    if kind == Kind::Request && line.len() > LONGEST_LENGTH_LINE {
        return Err(Refusal::LengthPadded);
    }
    if kind == Kind::Request && value.contains(&b',') {
        return Err(Refusal::LengthList);
    }
    for part in value.split(|byte| *byte == b',') {
        let part = class::trim(part);
        let number = decimal(part).ok_or(Refusal::Length)?;
        let first = head.facts.length.is_none();
        if head.facts.length.is_some_and(|known| known != number) {
            return Err(Refusal::LengthsDiffer);
        }
        head.facts.length = Some(number);
        head.facts.length_is_plain = first && (part.len() == 1 || part.first() != Some(&b'0'));
    }
    Ok(())
}

/// A number of at most 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `Transfer-Encoding` (RFC 9112 section 6.1): one `chunked` and nothing else.
fn coding(head: &mut Head, value: &[u8]) -> Result<(), Refusal> {
    if head.lines.seen.has(Id::TransferEncoding) {
        return Err(Refusal::Coding);
    }
    if head.version == Version::Http10 {
        return Err(Refusal::CodingInOldVersion);
    }
    if !value.eq_ignore_ascii_case(b"chunked") {
        let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let mut codings: Vec<&[u8]> = class::members(value).collect();
        let ends_chunked = codings.pop().is_some_and(is_chunked) && !codings.iter().any(|coding| is_chunked(coding));
        let named = !codings.is_empty() && codings.iter().all(|coding| class::is_token(coding));
        return Err(if ends_chunked && named { Refusal::UnknownCoding } else { Refusal::Coding });
    }
    head.facts.chunked = true;
    Ok(())
}

/// `Host` (RFC 9112 section 3.2): one, and a valid one; beside an absolute target it may be empty, because the target counts.
fn host(head: &Head, value: &[u8]) -> Result<(), Refusal> {
    if head.lines.seen.has(Id::Host) {
        return Err(Refusal::TwoHosts);
    }
    let may_be_empty = head.form == Form::Absolute && head.version == Version::Http11;
    if class::is_host(value) || (may_be_empty && value.is_empty()) { Ok(()) } else { Err(Refusal::Host) }
}

/// `Connection` (RFC 9110 section 7.6.1): what it says of the connection, and the fields it names.
fn connection(head: &mut Head, value: &[u8], options: &mut u16) -> Result<(), Refusal> {
    for option in class::members(value) {
        let is = |token: &[u8]| option.eq_ignore_ascii_case(token);
        match option.len() {
            5 if is(b"close") => head.facts.close = true,
            10 if is(b"keep-alive") => head.facts.keep_alive = true,
            length => {
                head.facts.upgrade |= length == 7 && is(b"upgrade");
                *options += u16::from(!Id::of(option).is_known());
            }
        }
        if *options > MOST_OPTIONS {
            return Err(Refusal::TooManyOptions);
        }
    }
    Ok(())
}

/// Whether CGI, WSGI and PHP make the variable of a framing field of this name: there, all but letters and digits is an underscore.
fn is_framing_alias(name: &[u8]) -> bool {
    let folds = |(byte, ours): (&u8, u8)| byte.eq_ignore_ascii_case(&ours) || (ours == b'-' && !byte.is_ascii_alphanumeric());
    let folds_to = |framing: &str| name.len() == framing.len() && name.iter().zip(framing.bytes()).all(folds);
    matches!(name.first(), Some(b'c' | b'C' | b't' | b'T')) && (folds_to("content-length") || folds_to("transfer-encoding"))
}

/// Long enough for every length that anybody sends in earnest.
const LONGEST_LENGTH_LINE: usize = 96;
/// Unknown names in `Connection`; each costs a comparison with every field.
const MOST_OPTIONS: u16 = 64;
