//! Time bounds: the deadline of a whole exchange, and the caller's own.

use std::time::Duration;

use crate::{
    arrival::Door,
    clock::Instant,
    config::{Mode, Timeouts},
    http1::Fields,
    reject::Bound,
};

/// Extra time given to a caller beyond its own deadline.
const CALLER_GRACE: Duration = Duration::from_secs(1);

/// The end of an exchange, over all its tries; or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadline(Option<End>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    at: Instant,
    after: Duration,
    bound: Bound,
}

impl Deadline {
    /// No end.
    pub const NONE: Self = Self(None);

    /// `after` the `start`, with `bound` as the reason; `None`: no end.
    pub fn after(start: Instant, after: Option<Duration>, bound: Bound) -> Self {
        Self(after.map(|after| End { at: start + after, after, bound }))
    }

    /// The earlier of the two.
    pub fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(if two.at < one.at { two } else { one })),
            (one, two) => Self(one.or(two)),
        }
    }

    /// The instant at which the exchange is given up, its bound, and the time left. A caller's clock began before ours. The
    /// caller hangs up first and learns of its own timeout; only a caller that stays gets an answer.
    pub fn next(self, now: Instant) -> Option<(Instant, Bound, Duration)> {
        self.0.map(|end| {
            let at = if end.bound == Bound::Caller { end.at + CALLER_GRACE } else { end.at };
            (at, end.bound, at.saturating_duration_since(now))
        })
    }

    /// The time left; `None`: there is no end.
    pub fn left(self, now: Instant) -> Option<Duration> {
        self.0.map(|end| end.at.saturating_duration_since(now))
    }
}

/// The deadline of an exchange that came at `start`: `total`, and the caller's own deadline. A policy that only observes leaves
/// the caller's.
pub fn deadline(start: Instant, policy: Option<&Timeouts>, caller: Option<Duration>) -> Deadline {
    let total = policy.filter(|policy| policy.mode == Mode::Enforce).and_then(|policy| policy.total);
    Deadline::after(start, total, Bound::Total).earlier(Deadline::after(start, caller, Bound::Caller))
}

/// The caller's own deadline, if the request states one. At both doors `grpc-timeout`; at the outbound one, in seconds,
/// `x-stainless-read-timeout` and `x-stainless-timeout` (OpenAI's and Anthropic's SDKs) and `x-server-timeout` (Google's). The
/// shortest of them counts.
pub fn caller_deadline(headers: &Fields, door: Door) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let sdks: &[&str] = match door {
        Door::Inbound => &[],
        Door::Outbound => &["x-stainless-read-timeout", "x-stainless-timeout", "x-server-timeout"],
    };
    sdks.iter().filter_map(|name| seconds(text(name)?)).chain(text("grpc-timeout").and_then(grpc)).min()
}

/// Seconds, perhaps with a fraction; `None` for zero, words (`NOT_GIVEN`) and more than a year.
fn seconds(text: &str) -> Option<Duration> {
    const YEAR: f64 = 366.0 * 24.0 * 3_600.0;
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= YEAR)?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// At most eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let known = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| known)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_callers_own_deadline_in_every_form() {
        for (fields, expected) in [
            (&[("x-stainless-read-timeout", "600")][..], Some(600_000_000)),
            (&[("x-stainless-timeout", "NOT_GIVEN")], None),
            (&[("x-stainless-timeout", "1.5")], Some(1_500_000)),
            (&[("x-server-timeout", "30"), ("x-stainless-timeout", "10")], Some(10_000_000)),
            (&[("x-server-timeout", "0")], None),
            (&[("x-server-timeout", "nan")], None),
            (&[("x-server-timeout", "1e300")], None),
            (&[("grpc-timeout", "250m")], Some(250_000)),
            (&[("grpc-timeout", "1H")], Some(3_600_000_000)),
            (&[("grpc-timeout", "123456789S")], None),
            (&[("grpc-timeout", "S")], None),
            (&[("grpc-timeout", "+5S")], None),
            (&[], None),
        ] {
            let mut headers = Fields::new();
            for (name, value) in fields {
                headers.insert(*name, value);
            }
            assert_eq!(caller_deadline(&headers, Door::Outbound), expected.map(Duration::from_micros), "{fields:?}");
        }
    }

    #[test]
    fn the_earlier_end_holds_and_an_observed_total_does_not() {
        let start = Instant::now();
        let policy = Timeouts { total: Some(10 * SECOND), ..Timeouts::default() };
        assert_eq!(deadline(start, Some(&policy), Some(60 * SECOND)).left(start), Some(10 * SECOND));
        assert_eq!(deadline(start, Some(&policy), Some(5 * SECOND)).left(start), Some(5 * SECOND));
        assert_eq!(deadline(start, Some(&Timeouts { mode: Mode::Observe, ..policy }), None).left(start), None);
        assert_eq!(deadline(start, None, None), Deadline::NONE);
        let whose = |caller| deadline(start, Some(&policy), caller).next(start).map(|(_, bound, _)| bound);
        assert_eq!((whose(None), whose(Some(5 * SECOND))), (Some(Bound::Total), Some(Bound::Caller)));
    }
}
