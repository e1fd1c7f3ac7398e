//! Counts of the last five minutes: every second of the last ten, then one of every ten seconds.

use std::collections::VecDeque;

/// The windows of a rule, in milliseconds, the shortest first.
pub(super) const WINDOWS: [u64; 3] = [10_000, 60_000, 300_000];
/// Counts older than this are forgotten, one aside.
const KEPT: u64 = WINDOWS[2];
/// Counts younger than this are all kept.
const FINE: u64 = 12_000;
/// Beyond it one is kept in this time.
const COARSE: u64 = 10_000;

/// Counts since the start, by the time of the look.
#[derive(Debug, Clone)]
pub(super) struct Trail<T>(VecDeque<(u64, T)>);

impl<T> Default for Trail<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Trail<T> {
    /// Notes the counts at `now`.
    pub(super) fn push(&mut self, now: u64, counts: T) {
        self.0.push_back((now, counts));
        while self.0.len() > 2 && self.0[1].0 + KEPT <= now {
            self.0.pop_front();
        }
        // The one that leaves the fine part stays if the one before it is far enough away.
        let edge = self.0.iter().position(|(at, _)| *at + FINE > now).unwrap_or(0);
        if edge >= 2 && self.0[edge - 1].0 < self.0[edge - 2].0 + COARSE {
            self.0.remove(edge - 1);
        }
    }

    /// The newest counts.
    pub(super) fn last(&self) -> Option<&T> {
        self.0.back().map(|(_, counts)| counts)
    }

    /// The counts at the beginning of a window that ends now, and its true length; the oldest ones if the trail is shorter.
    pub(super) fn before(&self, window: u64) -> Option<(&T, u64)> {
        let now = self.0.back()?.0;
        let begun = self.0.iter().rev().find(|(at, _)| *at + window <= now).or(self.0.front())?;
        Some((&begun.1, now - begun.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_length_and_the_trail_is_short() {
        let mut trail = Trail::default();
        for second in 0..2_000_u64 {
            trail.push(second * 1_000, second);
            let long = trail.before(300_000).expect("has one").1;
            assert!(long == second * 1_000 || (300_000..=311_000).contains(&long), "{second}: {long}");
            let short = trail.before(10_000).expect("has one").1;
            assert_eq!(short, (second * 1_000).min(10_000));
            let minute = trail.before(60_000).expect("has one").1;
            assert!(minute == second * 1_000 || (60_000..=71_000).contains(&minute), "{second}: {minute}");
            assert!(trail.0.len() < 50, "{}", trail.0.len());
        }
        assert_eq!(trail.last(), Some(&1_999));
    }
}
