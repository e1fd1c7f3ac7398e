//! Check digits of the numbers that [`super::detect`] knows, and the days in them. Pure; digits are values 0 to 9.

/// ISO/IEC 7812-1, annex B: payment cards and some national numbers.
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(*digit) << (at % 2);
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The sum of the digits, each with its weight. Digits beyond the weights do not count.
pub fn weighed(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// The number that the digits write.
pub fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
}

/// ISO/IEC 7064 MOD 97-10 over letters and digits, as an IBAN has it (ISO 13616-1): the first four characters go last.
pub fn iban(text: &[u8]) -> bool {
    let value = |sum: u32, byte: &u8| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97,
    };
    text.len() > 4 && text[4..].iter().chain(&text[..4]).fold(0, value) == 1
}

/// ISO/IEC 7064 MOD 11,10: the last digit checks the others.
pub fn mod_11_10(digits: &[u8]) -> bool {
    let Some((check, others)) = digits.split_last() else { return false };
    let product = others.iter().fold(10, |product: u32, digit| {
        let sum = (product + u32::from(*digit)) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(*check)
}

/// The algorithm of J. Verhoeff (1969), as India's Aadhaar has it.
pub fn verhoeff(digits: &[u8]) -> bool {
    const TIMES: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const SWAP: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let swapped = |digit: u8, times: usize| (0..times % 8).fold(digit, |digit, _| SWAP[usize::from(digit)]);
    let all = digits.iter().rev().enumerate();
    all.fold(0, |check: u8, (at, digit)| TIMES[usize::from(check)][usize::from(swapped(*digit, at))]) == 0
}

/// Whether `day` and `month` may stand in a date. The year is not looked at: 29 February passes.
pub fn is_day(day: u64, month: u64) -> bool {
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 29,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Whether all digits are the same one.
pub fn is_monotone(digits: &[u8]) -> bool {
    digits.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().map(|byte| byte - b'0').collect()
    }

    /// Each number is right, and wrong with any one digit changed: that is what a check digit is for.
    fn guards(right: &str, check: fn(&[u8]) -> bool) {
        let right = digits(right);
        assert!(check(&right), "{right:?}");
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] = (wrong[at] + 1) % 10;
            assert!(!check(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn check_digits_guard_every_digit() {
        // The vendors' test numbers; examples of the German tax office and of Verhoeff's paper.
        for card in ["4111111111111111", "378282246310005", "79927398713"] {
            guards(card, luhn);
        }
        guards("86095742719", mod_11_10);
        guards("2363", verhoeff);
        guards("123451", verhoeff);
    }

    #[test]
    fn an_iban_is_checked_whole() {
        for right in ["GB82WEST12345698765432", "DE89370400440532013000", "de89370400440532013000"] {
            assert!(iban(right.as_bytes()), "{right}");
        }
        for wrong in ["GB82WEST12345698765423", "DE88370400440532013000", "DE8", ""] {
            assert!(!iban(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn days_are_those_of_a_calendar() {
        assert!(is_day(31, 1) && is_day(29, 2) && !is_day(31, 4) && !is_day(0, 1) && !is_day(1, 13));
        assert!(is_monotone(&[1, 1, 1]) && !is_monotone(&[1, 2]));
    }
}
