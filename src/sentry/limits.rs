//! When nothing may be sent: `X-Sentry-Rate-Limits`, `Retry-After`, and a bound of our own.

use std::{collections::VecDeque, time::Duration};

/// Most reports of a minute.
pub const PER_MINUTE: usize = 60;
/// The pause after a refusal that names none (Sentry's own default).
const PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that is believed.
const LONGEST: u64 = 86_400_000;

/// What may be sent.
#[derive(Debug, Default)]
pub struct Limits {
    until: u64,
    sent: VecDeque<u64>,
}

impl Limits {
    /// Whether a report may be sent at `now` (milliseconds); it then counts.
    pub fn take(&mut self, now: u64) -> bool {
        self.sent.retain(|at| at + 60_000 > now);
        let may = now >= self.until && self.sent.len() < PER_MINUTE;
        if may {
            self.sent.push_back(now);
        }
        may
    }

    /// Heeds an answer. `limits` is `X-Sentry-Rate-Limits`, `retry_after` the wait of `Retry-After`.
    pub fn heed(&mut self, now: u64, status: u16, limits: Option<&str>, retry_after: Option<Duration>) {
        let named = limits.and_then(of_header);
        let pause = match (named, status) {
            (Some(pause), _) => pause,
            (None, 429) if limits.is_none() => retry_after.unwrap_or(PAUSE),
            _ => return,
        };
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).min(LONGEST);
        self.until = self.until.max(now.saturating_add(millis));
    }
}

/// The longest pause of `60:error;default:organization, 2700::key` that is about errors; no category means all.
fn of_header(text: &str) -> Option<Duration> {
    let one = |limit: &str| {
        let mut parts = limit.trim().split(':');
        let seconds: u64 = parts.next()?.trim().parse().ok()?;
        let categories = parts.next().unwrap_or_default();
        let ours = categories.is_empty() || categories.split(';').any(|category| matches!(category.trim(), "error" | "default"));
        ours.then(|| Duration::from_secs(seconds))
    };
    text.split(',').filter_map(one).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receivers_limits_are_heeded_and_there_is_one_of_our_own() {
        let mut limits = Limits::default();
        assert!(limits.take(0));
        limits.heed(0, 200, Some("60:transaction:key"), None);
        assert!(limits.take(1), "that is about something else");
        limits.heed(1, 200, Some("5:transaction:key, 10:error;session:organization"), None);
        assert!(!limits.take(9_000) && limits.take(10_001));
        limits.heed(10_001, 429, None, Some(Duration::from_secs(3)));
        assert!(!limits.take(13_000) && limits.take(13_001));
        limits.heed(13_001, 429, None, None);
        assert!(!limits.take(73_000) && limits.take(73_001));
        limits.heed(73_001, 429, Some("2700::key"), Some(Duration::from_secs(1)));
        assert!(!limits.take(2_000_000));
        let mut limits = Limits::default();
        assert_eq!((0..1_000).filter(|n| limits.take(*n)).count(), PER_MINUTE);
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[0-9a-z:;, ]{0,60}") {
            Limits::default().heed(0, 429, Some(&text), None);
        }
    }
}
