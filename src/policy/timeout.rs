//! Time bounds: the deadline of a whole exchange, the nearest of several bounds, and what the caller itself is willing to wait.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::{sleep_until, timeout_at};

use crate::{
    clock::Instant,
    config::{Mode, Timeouts},
    reject::Bound,
};

/// The end of an exchange, over all its tries; or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deadline(Option<End>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// No end.
    pub const NONE: Self = Self(None);

    /// `total` after `start`; `None`: no end.
    pub fn after(start: Instant, total: Option<Duration>) -> Self {
        Self(total.map(|after| End { at: start + after, after }))
    }

    /// The earlier of the two.
    pub fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Self(Some(if two.at < one.at { two } else { one })),
            (one, two) => Self(one.or(two)),
        }
    }

    /// What is left of it; `None`: there is no end.
    pub fn left(self, now: Instant) -> Option<Duration> {
        self.0.map(|end| end.at.saturating_duration_since(now))
    }

    /// Waits for `pause`, unless the deadline would pass meanwhile: then it says so at once.
    pub async fn pause(self, pause: Duration, now: Instant) -> Result<(), Passed> {
        match self.0 {
            Some(end) if now + pause >= end.at => Err(Passed { bound: Bound::Total, after: end.after }),
            _ => {
                sleep_until(now + pause).await;
                Ok(())
            }
        }
    }
}

/// A bound that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Which.
    pub bound: Bound,
    /// How long it was.
    pub after: Duration,
}

/// The nearest of several bounds; or none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Nearest(Option<(Instant, Passed)>);

impl Nearest {
    /// Begins with the deadline.
    pub fn of(deadline: Deadline) -> Self {
        Self(deadline.0.map(|end| (end.at, Passed { bound: Bound::Total, after: end.after })))
    }

    /// Adds a bound that began at `start`. Of two that end together the one added last is named, which is the more exact one.
    pub fn and(self, bound: Bound, start: Instant, after: Option<Duration>) -> Self {
        let Some(after) = after else { return self };
        let at = start + after;
        match self.0 {
            Some((nearest, _)) if nearest < at => self,
            _ => Self(Some((at, Passed { bound, after }))),
        }
    }

    /// Runs `work` until it is done or the bound has passed. A bound that only observes is told to `observed` when it passes, and
    /// the work goes on.
    pub async fn hold<T>(self, mode: Mode, observed: impl FnOnce(Passed), work: impl Future<Output = T>) -> Result<T, Passed> {
        let Some((at, passed)) = self.0 else { return Ok(work.await) };
        if mode == Mode::Enforce {
            return timeout_at(at, work).await.map_err(|_| passed);
        }
        let mut work = std::pin::pin!(work);
        match timeout_at(at, &mut work).await {
            Ok(done) => Ok(done),
            Err(_) => {
                observed(passed);
                Ok(work.await)
            }
        }
    }
}

/// The deadline of an exchange that came at `start`: `total`, and what the caller is willing to wait. A policy that only observes
/// leaves the caller's.
pub fn deadline(start: Instant, policy: Option<&Timeouts>, caller: Option<Duration>) -> Deadline {
    let total = policy.filter(|policy| policy.mode == Mode::Enforce).and_then(|policy| policy.total);
    Deadline::after(start, total).earlier(Deadline::after(start, caller))
}

/// How long the caller is willing to wait, if it says so: `x-stainless-read-timeout` and `x-stainless-timeout` (OpenAI's and
/// Anthropic's SDKs) and `x-server-timeout` (Google's) in seconds, `grpc-timeout` in its own form. The shortest of them.
pub fn caller_deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    ["x-stainless-read-timeout", "x-stainless-timeout", "x-server-timeout"]
        .into_iter()
        .filter_map(|name| seconds(text(name)?))
        .chain(text("grpc-timeout").and_then(grpc))
        .min()
}

/// Seconds, perhaps with a fraction; zero, words (`NOT_GIVEN`) and more than a year say nothing.
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
    use std::future::pending;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_nearest_bound_passes_first_and_says_its_name() {
        let start = Instant::now();
        let deadline = Deadline::after(start, Some(30 * SECOND));
        let nearest = Nearest::of(deadline)
            .and(Bound::ResponseHeader, start, Some(10 * SECOND))
            .and(Bound::PerTry, start, Some(20 * SECOND))
            .and(Bound::FirstToken, start, None);
        let passed = nearest.hold(Mode::Enforce, |_| {}, pending::<()>()).await.expect_err("nothing comes");
        assert_eq!(passed, Passed { bound: Bound::ResponseHeader, after: 10 * SECOND });
        assert_eq!(start.elapsed(), 10 * SECOND);
        let late = Nearest::of(deadline).and(Bound::ResponseHeader, Instant::now(), Some(25 * SECOND));
        let passed = late.hold(Mode::Enforce, |_| {}, pending::<()>()).await.expect_err("nothing comes");
        assert_eq!((passed.bound, start.elapsed()), (Bound::Total, 30 * SECOND));
        assert_eq!(Nearest::default().hold(Mode::Enforce, |_| {}, async { 7 }).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_that_observes_is_told_and_waits() {
        let start = Instant::now();
        let mut told = None;
        let nearest = Nearest::default().and(Bound::PerTry, start, Some(SECOND));
        let done = nearest.hold(Mode::Observe, |passed| told = Some(passed.bound), sleep(3 * SECOND)).await;
        assert_eq!((done, told, start.elapsed()), (Ok(()), Some(Bound::PerTry), 3 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_goes_over_the_deadline() {
        let start = Instant::now();
        let deadline = Deadline::after(start, Some(5 * SECOND));
        assert!(deadline.pause(3 * SECOND, start).await.is_ok());
        assert_eq!(start.elapsed(), 3 * SECOND);
        assert_eq!(deadline.left(Instant::now()), Some(2 * SECOND));
        assert_eq!(deadline.pause(2 * SECOND, Instant::now()).await.expect_err("too long").bound, Bound::Total);
        assert_eq!(start.elapsed(), 3 * SECOND, "it is said at once");
        assert!(Deadline::NONE.pause(9 * SECOND, Instant::now()).await.is_ok());
    }

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
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, value.parse().expect("value"));
            }
            assert_eq!(caller_deadline(&headers), expected.map(Duration::from_micros), "{fields:?}");
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
    }
}
