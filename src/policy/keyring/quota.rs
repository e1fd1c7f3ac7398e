//! What is left of a key's quota by now, from what the provider last said of it.
//!
//! Providers count in token buckets: what is left grows evenly until the bucket is full at its reset. A try that was sent after the
//! provider spoke is surely not in its figure, and is taken off.

use std::time::Duration;

use crate::{clock::Instant, usage::Quota};

/// A quota that was told with its size and its reset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    limit: f64,
    left: f64,
    told: Instant,
    full: Instant,
    /// Drawn since it was told.
    drawn: f64,
}

impl Bucket {
    /// `None`: too little is known to foretell anything.
    pub(super) fn new(quota: Quota, now: Instant) -> Option<Self> {
        let (limit, reset) = (quota.limit?, quota.reset?);
        let full = now.checked_add(reset)?;
        (limit > 0).then_some(Self { limit: limit as f64, left: quota.left as f64, told: now, full, drawn: 0.0 })
    }

    pub(super) fn draw(&mut self, amount: u64) {
        self.drawn += amount as f64;
    }

    /// The time until `need` is left. Zero: it is left now, or nothing is known any more, or no wait would help.
    pub(super) fn wait(&self, need: u64, now: Instant) -> Duration {
        let need = need as f64;
        if now >= self.full || need > self.limit {
            return Duration::ZERO;
        }
        let per_second = (self.limit - self.left).max(0.0) / self.full.saturating_duration_since(self.told).as_secs_f64();
        let has = (self.left + per_second * now.saturating_duration_since(self.told).as_secs_f64()).min(self.limit) - self.drawn;
        if has >= need {
            return Duration::ZERO;
        }
        let whole = self.full - now;
        Duration::try_from_secs_f64((need - has) / per_second).map_or(whole, |wait| wait.min(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_left_grows_evenly_until_the_reset() {
        let now = Instant::now();
        let told = |limit, left, reset| Bucket::new(Quota { limit: Some(limit), left, reset: Some(SECOND * reset) }, now).expect("told");
        let bucket = told(1_000, 100, 90);
        assert_eq!(bucket.wait(100, now), Duration::ZERO);
        assert_eq!(bucket.wait(300, now), SECOND * 20, "ten a second");
        assert_eq!(bucket.wait(300, now + SECOND * 15), SECOND * 5);
        assert_eq!(bucket.wait(300, now + SECOND * 90), Duration::ZERO, "nothing is known after the reset");
        assert_eq!(bucket.wait(2_000, now), Duration::ZERO, "more than there ever is: the provider says so better");
        let mut drawn = told(1_000, 500, 50);
        drawn.draw(450);
        assert_eq!(drawn.wait(100, now), SECOND * 5);
        let mut untouched = told(10, 10, 6);
        untouched.draw(10);
        assert_eq!(untouched.wait(1, now), SECOND * 6, "the rate is not known: its reset counts");
        assert!(Bucket::new(Quota { limit: None, left: 0, reset: Some(SECOND) }, now).is_none());
        assert!(Bucket::new(Quota { limit: Some(5), left: 0, reset: None }, now).is_none());
        assert!(Bucket::new(Quota { limit: Some(0), left: 0, reset: Some(SECOND) }, now).is_none(), "a limit that is not known");
    }
}
