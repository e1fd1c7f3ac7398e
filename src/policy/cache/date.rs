//! HTTP-date (RFC 9110 section 5.6.7): the three formats, strictly, in any letter case; anything else is no date.

use std::time::SystemTime;

use crate::http1::Value;

/// A date in IMF-fixdate, RFC 850 or asctime format; `None` for anything else.
pub fn parse(value: &[u8]) -> Option<SystemTime> {
    let value = value.trim_ascii();
    if value.is_empty() || value.len() > 40 {
        return None;
    }
    let mut text = String::with_capacity(value.len());
    for &byte in value {
        if !byte.is_ascii_graphic() && byte != b' ' {
            return None;
        }
        // The parser below knows canonical case only: `THU` and `aug` become `Thu` and `Aug`.
        let after_letter = text.ends_with(|last: char| last.is_ascii_alphabetic());
        text.push(char::from(if after_letter { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() }));
    }
    if text.ends_with(" Gmt") {
        text.replace_range(text.len() - 3.., "GMT");
    }
    httpdate::parse_http_date(&text).ok().or_else(|| with_any_weekday(&text))
}

/// A wrong day of the week is ignored: the day is redundant, not ambiguous.
fn with_any_weekday(text: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    let (given, rest) = text.split_at(text.find([',', ' '])?);
    let length = if DAYS.contains(&given) { usize::MAX } else { 3 };
    if length == 3 && !DAYS.iter().any(|day| &day[..3] == given) {
        return None;
    }
    DAYS.iter().find_map(|day| httpdate::parse_http_date(&format!("{}{rest}", &day[..day.len().min(length)])).ok())
}

/// The date of a header field value.
pub fn of(value: Option<Value<'_>>) -> Option<SystemTime> {
    parse(value?.as_bytes())
}

/// The date as a field value in IMF-fixdate; `None` for a year that the format cannot express.
pub fn format(at: SystemTime) -> Option<String> {
    // httpdate panics outside 1970..=9999.
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    if seconds >= 253_402_300_800 {
        return None;
    }
    Some(httpdate::fmt_http_date(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_formats_in_any_case_and_nothing_else() {
        for (text, valid) in [
            ("Thu, 18 Aug 2050 02:01:18 GMT", true),
            ("THU, 18 AUG 2050 02:01:18 gmt", true),
            ("Thursday, 18-Aug-50 02:01:18 GMT", true),
            ("Thu Aug 18 02:01:18 2050", true),
            ("Thu Aug  8 02:01:18 2050", true),
            ("Sun, 21 Nov 2286 04:46:39 GMT", true),
            ("Thu, 18 Aug 2050 02:01:18 UTC", false),
            ("Thu, 18 Aug 2050 02:01:18 AEST", false),
            ("Thu, 18 Aug 50 02:01:18 GMT", false),
            ("Thu 18 Aug 2050 02:01:18 GMT", false),
            ("Thu, 18  Aug  2050 02:01:18 GMT", false),
            ("Thu, 18-Aug-2050 02:01:18 GMT", false),
            ("Thu, 18 Aug 2050 02.01.18 GMT", false),
            ("Thu, 18 Aug 2050 2:01:18 GMT", false),
            ("Day, 18 Aug 2050 02:01:18 GMT", false),
            ("0", false),
            ("", false),
        ] {
            assert_eq!(parse(text.as_bytes()).is_some(), valid, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_date_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..48)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read_back(seconds in 0u64..300_000_000_000) {
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            if let Some(value) = format(at) {
                prop_assert_eq!(parse(value.as_bytes()), Some(at));
            }
        }
    }
}
