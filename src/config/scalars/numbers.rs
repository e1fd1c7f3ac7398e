//! Numbers with units: durations, sizes, counts, shares and money. Money never passes through floating point.

use std::time::Duration;

use bytesize::ByteSize;

use super::Word;
use crate::config::error::quoted;

/// Nano-dollars in a dollar.
const NANO: u128 = 1_000_000_000;

impl Word for Duration {
    fn word(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self::ZERO);
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("{} has no unit; did you mean `{text}s`?", quoted(text)));
        }
        humantime::parse_duration(text).map_err(|_| format!("{} is not a duration; write 250ms, 2s, 1m, 1h or 1d", quoted(text)))
    }

    fn measure(&self) -> Option<u128> {
        Some(self.as_nanos())
    }
}

/// A size in bytes: `64KiB`, `8MiB`; `KB` is 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Bytes(pub(in crate::config) u64);

impl Word for Bytes {
    fn word(text: &str) -> Result<Self, String> {
        match text.parse::<ByteSize>() {
            // The library rounds a size that is no number of bytes; such a size is a slip.
            Ok(size) if text.starts_with(|c: char| c.is_ascii_digit()) => Ok(Self(size.as_u64())),
            _ => Err(format!("{} is not a size; write 64KiB, 8MiB or a number of bytes", quoted(text))),
        }
    }

    fn measure(&self) -> Option<u128> {
        Some(self.0.into())
    }
}

/// A count: `100`, `200k`, `2M`, `1.5M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Count(pub(in crate::config) u64);

impl Word for Count {
    fn word(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a count; write a whole number such as 100, 200k or 2M", quoted(text));
        let (number, scale) = match text.char_indices().last() {
            Some((at, 'k' | 'K')) => (&text[..at], 1_000),
            Some((at, 'm' | 'M')) => (&text[..at], 1_000_000),
            Some((at, 'g' | 'G')) => (&text[..at], 1_000_000_000),
            _ => (text, 1),
        };
        let value = decimal(number, scale).ok_or_else(wrong)?;
        u64::try_from(value).map(Self).map_err(|_| wrong())
    }

    fn measure(&self) -> Option<u128> {
        Some(self.0.into())
    }
}

/// An amount of US dollars, in nano-dollars, exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Usd(pub(in crate::config) u64);

impl Word for Usd {
    fn word(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('$').trim_end_matches("USD").trim_end_matches("usd").trim();
        if bare != text && decimal(bare, NANO).is_some() {
            return Err(format!("{} has a currency sign; write `{bare}`", quoted(text)));
        }
        if text.starts_with('-') {
            return Err(format!("{} must not be negative", quoted(text)));
        }
        decimal(text, NANO)
            .and_then(|nano| u64::try_from(nano).ok())
            .map(Self)
            .ok_or_else(|| format!("{} is not an amount of dollars; write 25 or 0.50, with at most nine decimals", quoted(text)))
    }

    fn measure(&self) -> Option<u128> {
        Some(self.0.into())
    }
}

/// A plain fraction: `0.2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::config) struct Share(pub(in crate::config) f64);

impl Word for Share {
    fn word(text: &str) -> Result<Self, String> {
        if let Some(percent) = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok()) {
            return Err(format!("{} is a percentage; write `{}`", quoted(text), percent / 100.0));
        }
        // Through `decimal`, so that `1e9`, `inf` and `NaN` are no fractions.
        match (decimal(text, NANO), text.parse::<f64>()) {
            (Some(_), Ok(value)) => Ok(Self(value)),
            _ => Err(format!("{} is not a number; write a fraction such as 0.2", quoted(text))),
        }
    }

    fn measure(&self) -> Option<u128> {
        // Ranges of fractions are compared in billionths; the value is finite and not negative.
        Some((self.0 * 1e9).round() as u128)
    }
}

/// `digits[.digits]` times `scale`, if that is a whole number; `_` may stand between digits.
fn decimal(text: &str, scale: u128) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || (fraction.is_empty() && text.contains('.')) || !whole.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut value: u128 = 0;
    for digit in whole.chars().filter(|c| *c != '_') {
        value = value.checked_mul(10)?.checked_add(digit.to_digit(10)?.into())?;
    }
    value = value.checked_mul(scale)?;
    let mut unit = scale;
    for digit in fraction.chars() {
        let digit = u128::from(digit.to_digit(10)?);
        if !unit.is_multiple_of(10) && digit != 0 {
            return None;
        }
        unit /= 10;
        value = value.checked_add(unit.checked_mul(digit)?)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in
            [("250ms", 250), ("2s", 2_000), ("1m", 60_000), ("1h", 3_600_000), ("1d", 86_400_000), ("1h 30m", 5_400_000), ("0", 0)]
        {
            assert_eq!(Duration::word(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert!(Duration::word("60").expect_err("no unit").contains("did you mean `60s`"));
        for text in ["", "s", "-1s", "1 fortnight", "1s1"] {
            assert!(Duration::word(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_count_in_1024_with_an_i() {
        for (text, bytes) in [("64KiB", 65_536), ("8MiB", 8 << 20), ("1KB", 1_000), ("10", 10), ("0", 0), ("1GiB", 1 << 30)] {
            assert_eq!(Bytes::word(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "-1", "MiB", "8 apples", "inf", "NaN"] {
            assert!(Bytes::word(text).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_are_whole() {
        for (text, count) in [("100", 100), ("200k", 200_000), ("2M", 2_000_000), ("1.5k", 1_500), ("1_000", 1_000), ("0", 0)] {
            assert_eq!(Count::word(text), Ok(Count(count)), "{text}");
        }
        for text in ["", "k", "1.5", "-1", "1e3", "0.0001k", "99999999999999999999", "1.", ".5k", "_1"] {
            assert!(Count::word(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dollars_are_exact() {
        for (text, nano) in [("25", 25_000_000_000), ("0.50", 500_000_000), ("0.1", 100_000_000), ("0.000000001", 1)] {
            assert_eq!(Usd::word(text), Ok(Usd(nano)), "{text}");
        }
        assert!(Usd::word("$5").expect_err("a sign").contains("write `5`"));
        assert!(Usd::word("5 USD").expect_err("a sign").contains("write `5`"));
        assert!(Usd::word("-1").expect_err("negative").contains("negative"));
        for text in ["", "1e3", "0.0000000001", "a", "99999999999999999999"] {
            assert!(Usd::word(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_fractions() {
        assert_eq!(Share::word("0.2"), Ok(Share(0.2)));
        assert!(Share::word("20%").expect_err("percent").contains("write `0.2`"));
        for text in ["", "inf", "NaN", "1e9", "-1"] {
            assert!(Share::word(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_amount_of_money_reads_back_exactly(nano in 0u64..=u64::MAX) {
            let text = format!("{}.{:09}", u128::from(nano) / NANO, u128::from(nano) % NANO);
            prop_assert_eq!(Usd::word(&text), Ok(Usd(nano)));
        }

        #[test]
        fn no_text_makes_a_number_panic(text in "\\PC{0,24}") {
            let _ = (Duration::word(&text), Bytes::word(&text), Count::word(&text), Usd::word(&text), Share::word(&text));
        }
    }
}
