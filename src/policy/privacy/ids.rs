//! National numbers that are digits alone: how each is written, its check digits, and the words that tell it where its digits do not.
//!
//! A number with a weak check (one digit in ten or eleven passes by chance) counts only in its own spelling, or near one of its words.
//! Each rule is that of the office that gives the number; the tests have a valid number of each, and the same one spoilt.

use super::checks::{is_day, is_monotone, luhn, mod_11_10, number, verhoeff, weighed};
use crate::config::PersonalKind::{self, *};

/// How a number is written and checked.
pub(super) struct NumberForm {
    pub(super) kind: PersonalKind,
    /// Lengths of its groups of digits, and the bytes that may stand between all of them.
    pub(super) spellings: &'static [(&'static [usize], &'static str)],
    /// The number of its digits in a row.
    pub(super) length: usize,
    pub(super) check: fn(&[u8]) -> bool,
    /// Whether its own spelling tells it.
    pub(super) spelt: bool,
    /// Whether its digits in a row tell it.
    pub(super) bare: bool,
    /// Words, one of which stands near it otherwise. In small letters.
    pub(super) words: &'static [&'static str],
}

/// All forms. Of two that fit, the first counts.
pub(super) const FORMS: &[NumberForm] = &[
    NumberForm {
        kind: UsSsn,
        spellings: &[(&[3, 2, 4], "- ")],
        length: 9,
        check: us_ssn,
        spelt: true,
        bare: false,
        words: &["ssn", "social security", "itin", "taxpayer"],
    },
    NumberForm {
        kind: CaSin,
        spellings: &[(&[3, 3, 3], "- ")],
        length: 9,
        check: |d| luhn(d) && d[0] != 0 && d[0] != 8,
        spelt: false,
        bare: false,
        words: &["social insurance", "canadian sin", "sin number", "sin:", "numéro d'assurance sociale", "nas:"],
    },
    NumberForm {
        kind: UkNhs,
        spellings: &[(&[3, 3, 4], "- ")],
        length: 10,
        check: |d| (11 - weighed(d, &[10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11) % 11 == u32::from(d[9]),
        spelt: false,
        bare: false,
        words: &["nhs"],
    },
    NumberForm {
        kind: DeSteuerId,
        spellings: &[(&[2, 3, 3, 3], " ")],
        length: 11,
        check: de_steuer_id,
        spelt: true,
        bare: true,
        words: &[],
    },
    NumberForm {
        kind: FrInsee,
        spellings: &[(&[1, 2, 2, 2, 3, 3, 2], " .-"), (&[13, 2], " -"), (&[1, 2, 2, 5, 3, 2], " ")],
        length: 15,
        check: |d| matches!(d[0], 1 | 2 | 7 | 8) && number(&d[13..]) == 97 - number(&d[..13]) % 97,
        spelt: true,
        bare: true,
        words: &[],
    },
    NumberForm {
        kind: NlBsn,
        spellings: &[(&[4, 2, 3], ". "), (&[3, 3, 3], ". ")],
        length: 9,
        check: |d| {
            let sum = weighed(d, &[9, 8, 7, 6, 5, 4, 3, 2]);
            sum % 11 == u32::from(d[8]) && !is_monotone(d)
        },
        spelt: false,
        bare: false,
        words: &["bsn", "burgerservicenummer", "sofinummer", "sofi nummer"],
    },
    NumberForm {
        kind: PlPesel,
        spellings: &[],
        length: 11,
        check: |d| {
            let sum = weighed(d, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
            (10 - sum % 10) % 10 == u32::from(d[10]) && is_day(number(&d[4..6]), number(&d[2..4]) % 20)
        },
        spelt: true,
        bare: true,
        words: &[],
    },
    NumberForm {
        kind: PtNif,
        spellings: &[(&[3, 3, 3], " .")],
        length: 9,
        check: |d| {
            let rest = 11 - weighed(d, &[9, 8, 7, 6, 5, 4, 3, 2]) % 11;
            (if rest > 9 { 0 } else { rest }) == u32::from(d[8])
        },
        spelt: false,
        bare: false,
        words: &["nif", "contribuinte"],
    },
    NumberForm { kind: BeRrn, spellings: &[(&[2, 2, 2, 3, 2], ".- ")], length: 11, check: be_rrn, spelt: true, bare: true, words: &[] },
    NumberForm {
        kind: ChAhv,
        spellings: &[(&[3, 4, 4, 2], ". ")],
        length: 13,
        check: |d| d.starts_with(&[7, 5, 6]) && weighed(d, &[1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1]).is_multiple_of(10),
        spelt: true,
        bare: true,
        words: &[],
    },
    NumberForm {
        kind: SePersonnummer,
        spellings: &[(&[6, 4], "-+"), (&[8, 4], "-+")],
        length: 12,
        check: |d| {
            let d = &d[d.len() - 10..];
            luhn(d) && is_day(number(&d[4..6]) % 60, number(&d[2..4]))
        },
        spelt: true,
        bare: true,
        words: &["personnummer", "samordningsnummer"],
    },
    NumberForm {
        kind: NoFnr,
        spellings: &[(&[6, 5], " ")],
        length: 11,
        check: |d| {
            weighed(d, &[3, 7, 6, 1, 8, 9, 4, 5, 2, 1]).is_multiple_of(11)
                && weighed(d, &[5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]).is_multiple_of(11)
                && is_day(number(&d[..2]) % 40, number(&d[2..4]) % 40)
        },
        spelt: true,
        bare: true,
        words: &[],
    },
    NumberForm {
        kind: DkCpr,
        spellings: &[(&[6, 4], "-")],
        length: 10,
        check: |d| is_day(number(&d[..2]), number(&d[2..4])),
        spelt: false,
        bare: false,
        words: &["cpr", "personnummer"],
    },
    NumberForm { kind: TrTckn, spellings: &[], length: 11, check: tr_tckn, spelt: true, bare: true, words: &[] },
    NumberForm {
        kind: InAadhaar,
        spellings: &[(&[4, 4, 4], " -")],
        length: 12,
        check: |d| d[0] > 1 && verhoeff(d),
        spelt: true,
        bare: false,
        words: &["aadhaar", "aadhar", "uidai"],
    },
    NumberForm { kind: BrCpf, spellings: &[(&[3, 3, 3, 2], ".-")], length: 11, check: br_cpf, spelt: true, bare: true, words: &[] },
    NumberForm {
        kind: KrRrn,
        spellings: &[(&[6, 7], "-")],
        length: 13,
        check: |d| {
            let sum = weighed(d, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
            (11 - sum % 11) % 10 == u32::from(d[12]) && is_day(number(&d[4..6]), number(&d[2..4]))
        },
        spelt: true,
        bare: true,
        words: &[],
    },
    NumberForm {
        kind: ZaId,
        spellings: &[(&[6, 4, 3], " "), (&[6, 4, 2, 1], " ")],
        length: 13,
        check: |d| luhn(d) && d[10] < 2 && is_day(number(&d[4..6]), number(&d[2..4])),
        spelt: true,
        bare: true,
        words: &[],
    },
];

/// The areas that the administration has never given, and its groups without a number.
fn us_ssn(d: &[u8]) -> bool {
    let area = number(&d[..3]);
    // 9xx is the tax number of who has no social security number; its groups are 50 to 99.
    let given = area != 0 && area != 666 && (area < 900 || number(&d[3..5]) >= 50);
    given && number(&d[3..5]) != 0 && number(&d[5..]) != 0 && !is_monotone(d)
}

/// Of the first ten digits one stands twice or three times, and the number does not begin with 0.
fn de_steuer_id(d: &[u8]) -> bool {
    let mut counts = [0_u8; 10];
    for digit in &d[..10] {
        counts[usize::from(*digit)] += 1;
    }
    let repeated: Vec<u8> = counts.into_iter().filter(|count| *count > 1).collect();
    d[0] != 0 && matches!(repeated[..], [2 | 3]) && mod_11_10(d)
}

/// Who is born after 1999 has a 2 before the number that is checked.
fn be_rrn(d: &[u8]) -> bool {
    let (birth, check) = (number(&d[..9]), number(&d[9..]));
    let passes = |number: u64| 97 - number % 97 == check;
    (passes(birth) || passes(2_000_000_000 + birth)) && is_day(number(&d[4..6]), number(&d[2..4]) % 20)
}

fn tr_tckn(d: &[u8]) -> bool {
    let odd: u32 = [0, 2, 4, 6, 8].iter().map(|at| u32::from(d[*at])).sum();
    let even: u32 = [1, 3, 5, 7].iter().map(|at| u32::from(d[*at])).sum();
    d[0] != 0 && (odd * 7 + 100 - even) % 10 == u32::from(d[9]) && (odd + even + u32::from(d[9])) % 10 == u32::from(d[10])
}

fn br_cpf(d: &[u8]) -> bool {
    let check = |count: usize| {
        let weights: Vec<u32> = (2..=count as u32 + 1).rev().collect();
        weighed(&d[..count], &weights) * 10 % 11 % 10 == u32::from(d[count])
    };
    check(9) && check(10) && !is_monotone(d)
}

/// Whether the digits, in groups of `lengths` with the byte `between` each two, are a number of `form` in its own spelling.
pub(super) fn is_spelt(form: &NumberForm, lengths: &[usize], between: &[u8]) -> bool {
    form.spellings.iter().any(|(groups, signs)| *groups == lengths && between.iter().all(|sign| signs.as_bytes().contains(sign)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_valid_example_and_a_spoilt_one_is_none() {
        for (kind, right) in [
            (UsSsn, "536904399"),
            (CaSin, "130692544"),
            (UkNhs, "9434765919"),
            (DeSteuerId, "86095742719"),
            (DeSteuerId, "65929970489"),
            (FrInsee, "255081416802538"),
            (NlBsn, "111222333"),
            (PlPesel, "44051401359"),
            (PtNif, "123456789"),
            (BeRrn, "85073003328"),
            (ChAhv, "7569217076985"),
            (SePersonnummer, "198112189876"),
            (NoFnr, "01010750160"),
            (TrTckn, "10000000146"),
            (InAadhaar, "234123412346"),
            (BrCpf, "11144477735"),
            (ZaId, "8001015009087"),
        ] {
            let form = FORMS.iter().find(|form| form.kind == kind).expect("a form");
            let right: Vec<u8> = right.bytes().map(|byte| byte - b'0').collect();
            assert_eq!(right.len(), form.length, "{kind:?}");
            assert!((form.check)(&right), "{kind:?} {right:?}");
            if kind != UsSsn {
                let mut wrong = right;
                *wrong.last_mut().expect("a digit") = (wrong.last().expect("a digit") + 1) % 10;
                assert!(!(form.check)(&wrong), "{kind:?} {wrong:?}");
            }
        }
        for wrong in ["000123456", "666123456", "900123456", "123004567", "123450000", "111111111"] {
            let digits: Vec<u8> = wrong.bytes().map(|byte| byte - b'0').collect();
            assert!(!us_ssn(&digits), "{wrong}");
        }
    }
}
