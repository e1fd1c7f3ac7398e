//! Amounts, times and windows as a person says them: `$0.06`, `1,000 requests`, `24 h 38 min`, `per day`.

use std::time::Duration;

use super::Unit;

const NANO: u64 = 1_000_000_000;
const CENT: u64 = NANO / 100;

/// Nano-dollars as a decimal number of dollars, exact, without trailing zeros: `25`, `0.5`.
pub fn usd(nano: u64) -> String {
    let text = format!("{}.{:09}", nano / NANO, nano % NANO);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Nano-dollars as an exact price tag, with cents where there are any: `$25`, `$0.50`, `$0.0012`.
pub fn dollars(nano: u64) -> String {
    match nano % NANO {
        0 => format!("${}", nano / NANO),
        part if part % CENT == 0 => format!("${}.{:02}", nano / NANO, part / CENT),
        _ => format!("${}", usd(nano)),
    }
}

/// Nano-dollars cut to cents; below a cent to two digits. Never more than the exact amount: `$12.34`, `$0.0012`, `$0`.
pub fn about_dollars(nano: u64) -> String {
    let digit = match nano {
        CENT.. => CENT,
        0 => return "$0".to_owned(),
        _ => (10_u64.pow(nano.ilog10()) / 10).max(1),
    };
    dollars(nano - nano % digit)
}

/// How much of a unit: `$25`, `1,000 requests`, `1 token`.
pub fn amount(unit: Unit, amount: u64) -> String {
    match unit {
        Unit::NanoUsd => dollars(amount),
        Unit::Requests => counted(amount, "request"),
        Unit::Tokens => counted(amount, "token"),
        Unit::Concurrency => format!("{} in flight", counted(amount, "request")),
    }
}

/// The terms of a limit: `$25 per day`, `1,000 requests per minute`, `5 requests in flight`.
pub fn limit(unit: Unit, of: u64, window: Duration) -> String {
    match unit {
        Unit::Concurrency => amount(unit, of),
        _ => format!("{} {}", amount(unit, of), per(window)),
    }
}

/// How much of a limit: `$0.06 of $25`, `3 of 10 requests`.
pub fn part_of(unit: Unit, part: u64, whole: u64) -> String {
    match unit {
        Unit::NanoUsd => format!("{} of {}", about_dollars(part), dollars(whole)),
        Unit::Requests | Unit::Tokens | Unit::Concurrency => format!("{} of {}", grouped(part), amount(unit, whole)),
    }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// Digits in groups of three: `1,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Units of time with their seconds. A day is a unit only where there are two of them: `24 h 38 min` is read more easily than
/// `1 d 38 min`.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];

/// A time to wait in its two largest units, rounded up: `24 h 38 min`, `3 min 5 s`, `1 s`.
pub fn wait(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let largest = match seconds {
        172_800.. => 0,
        3_600.. => 1,
        60.. => 2,
        _ => 3,
    };
    let (unit, name) = UNITS[largest];
    let Some((next, next_name)) = UNITS.get(largest + 1) else { return format!("{seconds} s") };
    let rest = seconds.div_ceil(*next) * next;
    match rest % unit / next {
        0 => format!("{} {name}", rest / unit),
        left => format!("{} {name} {left} {next_name}", rest / unit),
    }
}

/// A window: `per day`, `per minute`, `per 10 min`.
pub fn per(window: Duration) -> String {
    let exact = |(seconds, word): &(u64, &'static str)| (window == Duration::from_secs(*seconds)).then_some(*word);
    match [(1, "second"), (60, "minute"), (3_600, "hour"), (86_400, "day"), (604_800, "week")].iter().find_map(exact) {
        Some(word) => format!("per {word}"),
        None => format!("per {}", wait(window)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_where_it_is_a_limit_and_short_where_it_is_a_sum() {
        for (nano, exact, tag, about) in [
            (0, "0", "$0", "$0"),
            (1, "0.000000001", "$0.000000001", "$0.000000001"),
            (1_234_567, "0.001234567", "$0.001234567", "$0.0012"),
            (60_000_000, "0.06", "$0.06", "$0.06"),
            (69_999_999, "0.069999999", "$0.069999999", "$0.06"),
            (500_000_000, "0.5", "$0.50", "$0.50"),
            (25_000_000_000, "25", "$25", "$25"),
            (24_999_999_999, "24.999999999", "$24.999999999", "$24.99"),
        ] {
            assert_eq!((usd(nano).as_str(), dollars(nano).as_str(), about_dollars(nano).as_str()), (exact, tag, about), "{nano}");
        }
        assert_eq!(part_of(Unit::NanoUsd, 60_000_000, 25_000_000_000), "$0.06 of $25");
    }

    #[test]
    fn counts_have_groups_and_a_noun() {
        assert_eq!(amount(Unit::Requests, 1), "1 request");
        assert_eq!(amount(Unit::Tokens, 1_234_567), "1,234,567 tokens");
        assert_eq!(part_of(Unit::Requests, 3, 1_000), "3 of 1,000 requests");
    }

    #[test]
    fn a_wait_has_two_units_and_is_never_too_short() {
        for (millis, text) in [
            (0, "0 s"),
            (1, "1 s"),
            (59_001, "1 min"),
            (60_000, "1 min"),
            (185_000, "3 min 5 s"),
            (3_599_001, "1 h"),
            (3_600_001, "1 h 1 min"),
            (88_680_000, "24 h 38 min"),
            (172_800_000, "2 d"),
            (172_800_001, "2 d 1 h"),
        ] {
            assert_eq!(wait(Duration::from_millis(millis)), text, "{millis} ms");
        }
    }

    #[test]
    fn a_window_is_a_word_where_there_is_one() {
        for (seconds, text) in
            [(1, "per second"), (60, "per minute"), (3_600, "per hour"), (86_400, "per day"), (600, "per 10 min"), (2_592_000, "per 30 d")]
        {
            assert_eq!(per(Duration::from_secs(seconds)), text);
        }
    }
}
