//! `Server-Timing` (W3C Server Timing, section 2): the times of an answer, for its client.

use std::{fmt::Write as _, time::Duration};

use http::HeaderValue;

use crate::telemetry::metrics::CacheOutcome;

/// The field's value: the proxy's own time, the upstream's with the number of tries, and the cache's outcome.
///
/// `own` and `waited` are up to the head of the answer. Without a try the value names no upstream.
pub fn server_timing(own: Duration, waited: Duration, tries: u32, cache: CacheOutcome) -> Option<HeaderValue> {
    let mut text = String::with_capacity(80);
    let written = write!(text, "outrigger;dur={}", Millis(own)).and_then(|()| {
        if tries > 0 {
            write!(text, ", upstream;dur={}, tries;desc={tries}", Millis(waited))?;
        }
        if cache != CacheOutcome::None { write!(text, ", cache;desc={}", cache.as_str()) } else { Ok(()) }
    });
    written.ok().and_then(|()| HeaderValue::try_from(text).ok())
}

/// Milliseconds with three decimals.
struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_a_token_with_tokens_for_values() {
        let token = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        for (tries, cache, expected) in [
            (0, CacheOutcome::Hit, "outrigger;dur=0.042, cache;desc=hit"),
            (2, CacheOutcome::None, "outrigger;dur=0.042, upstream;dur=1500.000, tries;desc=2"),
            (1, CacheOutcome::ObservedHit, "outrigger;dur=0.042, upstream;dur=1500.000, tries;desc=1, cache;desc=observed_hit"),
        ] {
            let value = server_timing(Duration::from_micros(42), Duration::from_millis(1500), tries, cache).expect("a value");
            let text = value.to_str().expect("text");
            assert_eq!(text, expected);
            for metric in text.split(", ") {
                let (name, parameter) = metric.split_once(';').expect("a parameter");
                let (key, value) = parameter.split_once('=').expect("a value");
                assert!(token(name) && matches!(key, "dur" | "desc") && token(value), "{metric}");
            }
        }
    }
}
