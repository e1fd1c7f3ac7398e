//! Numbers with letters in them: IBAN and the national numbers that begin or end with letters.

use std::ops::Range;

use super::{
    checks::{iban, is_day, number},
    detect::{Finds, is_word},
};
use crate::config::PersonalKind::{self, *};

/// Length of an IBAN by country, from the registry of ISO 13616 (SWIFT).
const IBANS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 \
    FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 \
    LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 \
    SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30";

/// A number by the classes of its characters: `A` a letter, `9` a digit, `*` either, `?` a blank, a dot or a hyphen that may stand there,
/// `S` a hyphen or `+`; and its check over the characters that count, in capitals.
struct LetterForm {
    kind: PersonalKind,
    shape: &'static str,
    check: fn(&[u8]) -> bool,
}

const FORMS: &[LetterForm] = &[
    LetterForm { kind: UkNino, shape: "AA?99?99?99?A", check: uk_nino },
    LetterForm { kind: EsDni, shape: "99?999?999?A", check: |c| es_letter(number(&digits(&c[..8])), c[8]) },
    LetterForm { kind: EsDni, shape: "A?9999999?A", check: es_nie },
    LetterForm { kind: ItCodiceFiscale, shape: "AAAAAA?**A**?A***A", check: it_codice_fiscale },
    LetterForm { kind: FiHetu, shape: "999999S999*", check: fi_hetu },
    LetterForm { kind: FiHetu, shape: "999999A999*", check: fi_hetu },
    LetterForm { kind: InPan, shape: "AAAAA9999A", check: |c| c[3] == b'P' },
    LetterForm { kind: MxCurp, shape: "AAAA999999AAAAAA*9", check: mx_curp },
    LetterForm { kind: CnId, shape: "99999999999999999*", check: cn_id },
    LetterForm { kind: SgNric, shape: "A9999999A", check: sg_nric },
];

/// Finds what begins at the start of a word; returns where it ends.
pub(super) fn word(text: &str, start: usize, finds: &mut Finds<'_>) -> Option<usize> {
    let bytes = text.as_bytes();
    if finds.wants(Iban)
        && let Some(range) = iban_at(text, start)
    {
        finds.add(range.clone(), Iban);
        return Some(range.end);
    }
    for form in FORMS {
        if finds.wants(form.kind)
            && let Some((counted, end)) = shaped(bytes, start, form.shape)
            && !text[end..].chars().next().is_some_and(is_word)
            && (form.check)(&counted)
        {
            finds.add(start..end, form.kind);
            return Some(end);
        }
    }
    None
}

/// The characters that count, in capitals, and the end; `None`: the text has another shape.
fn shaped(text: &[u8], start: usize, shape: &str) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut counted) = (start, Vec::new());
    for class in shape.bytes() {
        let byte = text.get(at).copied();
        if class == b'?' {
            at += usize::from(byte.is_some_and(|byte| b" .-".contains(&byte)));
            continue;
        }
        let byte = byte.filter(|byte| match class {
            b'A' => byte.is_ascii_alphabetic(),
            b'9' => byte.is_ascii_digit(),
            b'S' => b"-+".contains(byte),
            _ => byte.is_ascii_alphanumeric(),
        })?;
        if counted.is_empty() {
            counted.reserve(shape.len());
        }
        counted.push(byte.to_ascii_uppercase());
        at += 1;
    }
    Some((counted, at))
}

/// The account that begins at `start`: in a row, or in groups with one blank or hyphen between them.
fn iban_at(text: &str, start: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let [a, b, c, d, ..] = bytes.get(start..)? else { return None };
    if !(a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return None;
    }
    let country = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
    let row = IBANS.split_ascii_whitespace().find(|row| row.as_bytes().starts_with(&country))?;
    let length: usize = row[2..].parse().ok()?;
    let (mut at, mut account) = (start, Vec::with_capacity(length));
    while account.len() < length {
        match *bytes.get(at)? {
            byte if byte.is_ascii_alphanumeric() => account.push(byte),
            b' ' | b'-' if bytes.get(at + 1).is_some_and(u8::is_ascii_alphanumeric) => {}
            _ => return None,
        }
        at += 1;
    }
    (iban(&account) && !text[at..].chars().next().is_some_and(is_word)).then_some(start..at)
}

fn digits(text: &[u8]) -> Vec<u8> {
    text.iter().map(|byte| byte.wrapping_sub(b'0')).collect()
}

/// HM Revenue & Customs: letters that are never given, and the suffix A to D.
fn uk_nino(c: &[u8]) -> bool {
    let never = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];
    !b"DFIQUV".contains(&c[0])
        && !b"DFIQUVO".contains(&c[1])
        && !never.iter().any(|pair| c.starts_with(*pair))
        && (b'A'..=b'D').contains(&c[8])
}

fn es_letter(number: u64, letter: u8) -> bool {
    b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize] == letter
}

fn es_nie(c: &[u8]) -> bool {
    (b'X'..=b'Z').contains(&c[0]) && es_letter(u64::from(c[0] - b'X') * 10_000_000 + number(&digits(&c[1..8])), c[8])
}

/// Decree 345 of 1976: characters at odd and even places have values of their own. Digits may be letters where two persons had the same
/// number.
fn it_codice_fiscale(c: &[u8]) -> bool {
    const ODD: [u32; 26] = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let place = |byte: u8| if byte.is_ascii_digit() { usize::from(byte - b'0') } else { usize::from(byte - b'A') };
    let is_digit = |at: usize| c[at].is_ascii_digit() || b"LMNPQRSTUV".contains(&c[at]);
    let value = |(at, byte): (usize, &u8)| if at % 2 == 0 { ODD[place(*byte)] } else { place(*byte) as u32 };
    let sum: u32 = c[..15].iter().enumerate().map(value).sum();
    [6, 7, 9, 10, 12, 13, 14].into_iter().all(is_digit) && b"ABCDEHLMPRST".contains(&c[8]) && c[15] == b'A' + (sum % 26) as u8
}

fn fi_hetu(c: &[u8]) -> bool {
    let d = digits(&[&c[..6], &c[7..10]].concat());
    b"-+ABCDEFYXWVU".contains(&c[6])
        && is_day(number(&d[..2]), number(&d[2..4]))
        && b"0123456789ABCDEFHJKLMNPRSTUVWXY"[(number(&d) % 31) as usize] == c[10]
}

fn mx_curp(c: &[u8]) -> bool {
    let value = |byte: u8| match byte {
        b'0'..=b'9' => u32::from(byte - b'0'),
        // Ñ stands between N and O.
        b'A'..=b'N' => u32::from(byte - b'A') + 10,
        _ => u32::from(byte - b'A') + 11,
    };
    let sum: u32 = c[..17].iter().enumerate().map(|(at, byte)| value(*byte) * (18 - at as u32)).sum();
    let d = digits(&c[4..10]);
    b"HMX".contains(&c[10]) && is_day(number(&d[4..]), number(&d[2..4])) && (10 - sum % 10) % 10 == u32::from(c[17] - b'0')
}

/// GB 11643: ISO/IEC 7064 MOD 11-2, with X for ten.
fn cn_id(c: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let d = digits(&c[..17]);
    let sum: u32 = super::checks::weighed(&d, &WEIGHTS);
    (1900..2100).contains(&number(&d[6..10]))
        && is_day(number(&d[12..14]), number(&d[10..12]))
        && b"10X98765432"[(sum % 11) as usize] == c[17]
}

fn sg_nric(c: &[u8]) -> bool {
    let d = digits(&c[1..8]);
    let sum = super::checks::weighed(&d, &[2, 7, 6, 5, 4, 3, 2]);
    let (more, letters) = match c[0] {
        b'S' => (0, b"JZIHGFEDCBA"),
        b'T' => (4, b"JZIHGFEDCBA"),
        b'F' => (0, b"XWUTRQPNMLK"),
        b'G' => (4, b"XWUTRQPNMLK"),
        _ => return false,
    };
    letters[((sum + more) % 11) as usize] == c[8]
}
