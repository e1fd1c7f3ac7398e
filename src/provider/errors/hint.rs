//! The wait that a provider asks for, from the header or body field that names it.
//!
//! Classify the error first: a spent quota may carry a `Retry-After` too, and a wait does not help then.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::{
    config::Api,
    http1::Fields,
    provider::json::{self, Text},
    usage::Quota,
};

/// The largest number in a reset header that is read as seconds from now (30 days). A larger number is a point in time.
const LARGEST_RELATIVE: f64 = 2_592_000.0;

/// The wait that the provider asks for. In this order: `retry-after-ms` and `x-ms-retry-after-ms`; `Retry-After` in seconds
/// or as a date (RFC 9110 section 10.2.3); Google's `RetryInfo.retryDelay`; the reset of the rate-limit dimension that is used
/// up, the longest if there are several. The wait is not capped: compare it with the deadline.
pub fn hint(api: Api, headers: &Fields, body: &[u8], now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let millis = |name: &str| text(name)?.parse::<f64>().ok().and_then(|ms| Duration::try_from_secs_f64(ms / 1_000.0).ok());
    millis("retry-after-ms")
        .or_else(|| millis("x-ms-retry-after-ms"))
        .or_else(|| retry_after(text("retry-after")?, now))
        // Gemini has the same member over OpenAI's API.
        .or_else(|| if matches!(api, Api::Gemini | Api::OpenAi) { retry_info(body) } else { None })
        .or_else(|| exhausted(headers, now))
}

/// The credential's quotas of requests and of tokens, as the answer says them (OpenAI's and Anthropic's rate-limit headers).
pub fn quotas(headers: &Fields, now: SystemTime) -> [Option<Quota>; 2] {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    QUOTAS.map(|notations| {
        notations.iter().find_map(|[left, limit, reset]| {
            let left = text(left)?.parse().ok()?;
            // Azure's Responses API sends 0 or -1 for a limit that it does not know.
            let limit = match text(limit).map(str::parse::<i64>) {
                Some(Ok(limit)) => Some(u64::try_from(limit).ok().filter(|limit| *limit > 0)?),
                _ => None,
            };
            Some(Quota { limit, left, reset: text(reset).and_then(|reset| parse_reset(reset, now)) })
        })
    })
}

/// The fields of requests and of tokens: what is left, the size, the reset.
const QUOTAS: [[[&str; 3]; 2]; 2] = [
    [
        ["x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "x-ratelimit-reset-requests"],
        ["anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-reset"],
    ],
    [
        ["x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"],
        ["anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-reset"],
    ],
];

/// The provider's `x-should-retry`; `None`: it is absent or neither true nor false.
pub fn should_retry(headers: &Fields) -> Option<bool> {
    match headers.get("x-should-retry")?.as_bytes() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// Seconds, also fractional, or an HTTP date. A date that has passed is no wait.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    Some(until(httpdate::parse_http_date(text).ok()?, now))
}

/// `error.details[].retryDelay` of google.rpc.RetryInfo: seconds with an `s`.
fn retry_info(body: &[u8]) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Outer {
        error: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        details: Vec<Detail>,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(default, rename = "retryDelay")]
        retry_delay: Text,
    }

    let body = body[..body.len().min(64 * 1024)].trim_ascii();
    let body = body.strip_prefix(b"[").map_or(body, |inner| inner.strip_suffix(b"]").unwrap_or(inner));
    let outer: Outer = json::lenient(body)?;
    outer.error.details.iter().find_map(|detail| go_duration(detail.retry_delay.as_str()))
}

/// The longest reset among the dimensions whose remaining figure is 0.
fn exhausted(headers: &Fields, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let mut longest = None;
    for (name, value) in headers.iter() {
        let name = &*name.lower();
        if value.to_str().ok().map(str::trim) != Some("0") {
            continue;
        }
        let (limit, reset) = if let Some(rest) = name.strip_prefix("x-ratelimit-remaining") {
            (format!("x-ratelimit-limit{rest}"), format!("x-ratelimit-reset{rest}"))
        } else if let Some(stem) = name.strip_suffix("-remaining").filter(|name| name.starts_with("anthropic-")) {
            (format!("{stem}-limit"), format!("{stem}-reset"))
        } else {
            continue;
        };
        // Azure's Responses API sends 0 or -1 for a limit that it does not know.
        if text(&limit).and_then(|limit| limit.parse::<f64>().ok()).is_some_and(|limit| limit <= 0.0) {
            continue;
        }
        longest = longest.max(text(&reset).and_then(|reset| parse_reset(reset, now)));
    }
    longest
}

/// A reset in any of the notations in use: Go's durations, seconds, seconds or milliseconds since 1970, RFC 3339, HTTP date.
pub fn parse_reset(text: &str, now: SystemTime) -> Option<Duration> {
    if let Some(duration) = go_duration(text) {
        return Some(duration);
    }
    if let Ok(number) = text.parse::<f64>() {
        if number < LARGEST_RELATIVE {
            return Duration::try_from_secs_f64(number).ok();
        }
        // Milliseconds since 1970 are above 1e11 since 1973. Seconds since 1970 reach it in the year 5138.
        let seconds = if number >= 1e11 { number / 1_000.0 } else { number };
        return Some(until(UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?, now));
    }
    rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok()).map(|at| until(at, now))
}

/// A duration as Go prints it: `1h2m3.5s`, `6m0s`, `12ms`. Every number has a unit.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[letters..];
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    (!text.is_empty()).then_some(total)
}

/// RFC 3339, with `Z` or an offset.
fn rfc3339(text: &str) -> Option<SystemTime> {
    if text.ends_with(['Z', 'z']) {
        return humantime::parse_rfc3339(&text.to_ascii_uppercase()).ok();
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let offset_by = Duration::from_secs(hours.parse::<u64>().ok()? * 3_600 + minutes.parse::<u64>().ok()? * 60);
    let at = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    match offset.as_bytes()[0] {
        b'+' => at.checked_sub(offset_by),
        b'-' => at.checked_add(offset_by),
        _ => None,
    }
}

fn until(at: SystemTime, now: SystemTime) -> Duration {
    at.duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn wait(headers: &[(&'static str, &str)]) -> Option<f64> {
        let headers: Fields = headers.iter().map(|(name, value)| (name, value)).collect();
        hint(Api::OpenAi, &headers, b"", now()).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn the_explicit_wait_wins() {
        assert_eq!(wait(&[("retry-after", "7")]), Some(7.0));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(0.5));
        assert_eq!(wait(&[("retry-after", "7"), ("retry-after-ms", "250")]), Some(0.25));
        assert_eq!(wait(&[("x-ms-retry-after-ms", "1500")]), Some(1.5));
        let date = httpdate::fmt_http_date(now() + Duration::from_secs(30));
        assert_eq!(wait(&[("retry-after", &date)]), Some(30.0));
        assert_eq!(wait(&[("retry-after", "-3")]), None);
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn the_reset_of_what_is_used_up() {
        assert_eq!(
            wait(&[
                ("x-ratelimit-remaining-requests", "99"),
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ]),
            Some(360.0)
        );
        assert_eq!(wait(&[("x-ratelimit-remaining-requests", "1"), ("x-ratelimit-reset-requests", "9s")]), None);
        let reset = humantime::format_rfc3339_seconds(now() + Duration::from_secs(12)).to_string();
        assert_eq!(wait(&[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", &reset)]), Some(12.0));
        assert_eq!(
            wait(&[("x-ratelimit-limit-tokens", "-1"), ("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "5s")]),
            None,
            "unknown is not used up"
        );
    }

    #[test]
    fn every_notation_of_a_reset() {
        for (text, seconds) in [
            ("1s", 1.0),
            ("12ms", 0.012),
            ("1h2m3.5s", 3_723.5),
            ("6m0s", 360.0),
            ("2.5", 2.5),
            ("1795000010", 10.0),
            ("1795000010000", 10.0),
            ("1794999990", 0.0),
            ("2026-11-18T09:46:50Z", 0.0),
        ] {
            assert_eq!(parse_reset(text, now()).map(|wait| wait.as_secs_f64()), Some(seconds), "{text}");
        }
        assert_eq!(parse_reset("2126-01-01T00:00:00+02:00", now()), parse_reset("2125-12-31T22:00:00Z", now()));
        for text in ["", "s", "1x", "1h2", "-1s", "99999999999999999999h", "NaN", "inf"] {
            assert_eq!(parse_reset(text, now()), None, "{text}");
        }
    }

    #[test]
    fn google_says_it_in_the_body() {
        let body = br#"{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure"},
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"46.5s"}]}}"#;
        assert_eq!(hint(Api::Gemini, &Fields::new(), body, now()), Some(Duration::from_millis(46_500)));
        assert_eq!(hint(Api::OpenAi, &Fields::new(), &[b"[", &body[..], b"]"].concat(), now()), Some(Duration::from_millis(46_500)));
        assert_eq!(hint(Api::Gemini, &Fields::new(), b"[{\"error\":{}}]", now()), None);
    }

    #[test]
    fn quotas_are_read_as_either_provider_says_them() {
        let of = |pairs: &[(&str, &str)]| {
            let mut headers = Fields::new();
            pairs.iter().for_each(|(name, value)| headers.append(*name, value));
            quotas(&headers, now())
        };
        let left = |left| Some(Quota { limit: None, left, reset: None });
        assert_eq!(of(&[("x-ratelimit-remaining-requests", "99"), ("x-ratelimit-remaining-tokens", " 0")]), [left(99), left(0)]);
        let reset = humantime::format_rfc3339_seconds(now() + Duration::from_secs(12)).to_string();
        let told = of(&[
            ("x-ratelimit-remaining-requests", "3"),
            ("x-ratelimit-limit-requests", "10"),
            ("x-ratelimit-reset-requests", "6m0s"),
            ("anthropic-ratelimit-tokens-remaining", "5000"),
            ("anthropic-ratelimit-tokens-limit", "8000"),
            ("anthropic-ratelimit-tokens-reset", &reset),
        ]);
        let said = |limit, left, secs| Some(Quota { limit: Some(limit), left, reset: Some(Duration::from_secs(secs)) });
        assert_eq!(told, [said(10, 3, 360), said(8_000, 5_000, 12)]);
        assert_eq!(of(&[("x-ratelimit-remaining-requests", "-1")]), [None, None]);
        let unknown = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-limit-tokens", "-1"), ("x-ratelimit-reset-tokens", "1s")];
        assert_eq!(of(&unknown), [None, None], "unknown is not used up");
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "\\PC{0,30}") {
            let _ = (parse_reset(&text, now()), retry_after(&text, now()), rfc3339(&text), retry_info(text.as_bytes()));
        }

        #[test]
        fn a_go_duration_reads_back(h in 0u64..99, m in 0u64..60, ms in 0u64..60_000) {
            let text = format!("{h}h{m}m{}s", ms as f64 / 1e3);
            let read = go_duration(&text).expect("a duration").as_secs_f64();
            prop_assert!((read - (h * 3600 + m * 60) as f64 - ms as f64 / 1e3).abs() < 1e-6);
        }
    }
}
