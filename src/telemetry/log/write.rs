//! The parts of a line of the log as bytes: escaped text, numbers, addresses, times.

use std::{cell::Cell, net::IpAddr, time::SystemTime};

use crate::clock::unix;

/// Escapes the characters of RFC 8259 section 7; the input is UTF-8.
pub(in crate::telemetry) fn escape(out: &mut Vec<u8>, value: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if is_plain(value) {
        return out.extend_from_slice(value);
    }
    let mut done = 0;
    for (at, byte) in value.iter().enumerate() {
        let short = match byte {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x00..=0x1f | 0x7f => 0,
            _ => continue,
        };
        out.extend_from_slice(&value[done..at]);
        done = at + 1;
        if short == 0 {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.extend_from_slice(&[b'\\', short]);
        }
    }
    out.extend_from_slice(&value[done..]);
}

/// Whether nothing in `value` is escaped. Eight bytes at once, with the usual bit tricks: a byte below a space, a quotation mark, a
/// backslash and DEL each leave a mark.
fn is_plain(value: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let is = |word: u64, byte: u8| {
        let differs = word ^ (ONES * u64::from(byte));
        differs.wrapping_sub(ONES) & !differs
    };
    let (words, rest) = value.as_chunks::<8>();
    let marks = words.iter().fold(0, |marks, word| {
        let word = u64::from_ne_bytes(*word);
        marks | (word.wrapping_sub(ONES * 0x20) & !word) | is(word, b'"') | is(word, b'\\') | is(word, 0x7f)
    });
    marks & HIGHS == 0 && !rest.iter().any(|byte| matches!(byte, b'"' | b'\\' | 0x00..=0x1f | 0x7f))
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// An address; IPv6 as in RFC 5952.
pub(super) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                decimal(out, u64::from(octet), 0);
            }
        }
        // The standard library writes IPv6: the short form of RFC 5952 is rare and not worth writing again. A Vec never fails.
        IpAddr::V6(v6) => {
            let _ = std::io::Write::write_fmt(out, format_args!("{v6}"));
        }
    }
}

/// `value / 10^places` as a decimal number without trailing zeros.
pub(in crate::telemetry) fn decimal(out: &mut Vec<u8>, value: u64, places: usize) {
    if value < 100 && places == 0 {
        let pair = &PAIRS[value as usize];
        return out.extend_from_slice(if value < 10 { &pair[1..] } else { pair });
    }
    let mut digits = [b'0'; 32];
    let mut at = digits.len();
    let mut rest = value;
    while rest >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest > 0 {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    let at = at.min(digits.len() - places - 1);
    let (whole, fraction) = digits[at..].split_at(digits.len() - at - places);
    out.extend_from_slice(whole);
    let significant = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    if significant > 0 {
        out.push(b'.');
        out.extend_from_slice(&fraction[..significant]);
    }
}

/// The two digits of each number below 100.
static PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < 100 {
        pairs[at] = [b'0' + (at / 10) as u8, b'0' + (at % 10) as u8];
        at += 1;
    }
    pairs
};

thread_local! {
    /// The last second written, and its text up to the point.
    static SECOND: Cell<(u64, [u8; SECOND_LEN])> = const { Cell::new((u64::MAX, [b'0'; SECOND_LEN])) };
}

/// Bytes of `2026-11-30T12:34:56.`.
const SECOND_LEN: usize = 20;

/// RFC 3339 in UTC with milliseconds. Each thread formats a second once.
pub(super) fn timestamp(out: &mut Vec<u8>, at: SystemTime) {
    let since = unix(at);
    let (known, mut text) = SECOND.get();
    if known != since.as_secs() {
        text = second_text(since.as_secs());
        SECOND.set((since.as_secs(), text));
    }
    out.extend_from_slice(&text);
    let millis = since.subsec_millis();
    out.extend_from_slice(&[b'0' + (millis / 100) as u8, b'0' + (millis / 10 % 10) as u8, b'0' + (millis % 10) as u8, b'Z']);
}

/// A second since 1970, up to the point. Days to a date: Howard Hinnant, "chrono-compatible low-level date algorithms". Years behind
/// 9999 come out as the last four digits.
fn second_text(second: u64) -> [u8; SECOND_LEN] {
    let (days, second) = (second / 86_400, second % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = [b'0'; SECOND_LEN];
    let mut at = 0;
    for (value, width, after) in
        [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T'), (second / 3600, 2, b':'), (second / 60 % 60, 2, b':'), (second % 60, 2, b'.')]
    {
        let mut rest = value;
        for place in text[at..at + width].iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        text[at + width] = after;
        at += width + 1;
    }
    text
}
