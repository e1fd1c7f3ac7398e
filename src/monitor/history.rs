//! Ninety days of a monitor: its incidents, and the stretches of time in which it was watched.

use serde::{Deserialize, Serialize};

/// What is kept, in milliseconds.
pub const KEPT: u64 = 90 * DAY;
/// A day.
pub const DAY: u64 = 86_400_000;
/// Most incidents that are kept; the oldest makes room.
const INCIDENTS: usize = 500;
/// Most stretches of watching that are kept.
const STRETCHES: usize = 1_000;

/// An incident of the past, or the one that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Wall time of its first failed check, in milliseconds since 1970.
    pub from: u64,
    /// Wall time of the check that ended it; `None`: it is open.
    pub to: Option<u64>,
    /// Why, in a sentence.
    pub why: String,
}

/// Ninety days of one monitor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The incidents, the oldest first.
    pub incidents: Vec<Past>,
    /// The stretches in which it was watched.
    watched: Vec<(u64, u64)>,
}

/// Availability over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// Milliseconds in which it was watched.
    pub watched: u64,
    /// Milliseconds of them in which it was down.
    pub down: u64,
}

impl Days {
    /// The share of the watched time in which it was up; `None`: it was not watched.
    pub fn share(&self) -> Option<f64> {
        (self.watched > 0).then(|| 1.0 - self.down as f64 / self.watched as f64)
    }
}

fn overlap(a: (u64, u64), b: (u64, u64)) -> u64 {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

impl History {
    /// A check was made at `now`. A pause longer than `gap` since the one before was not watched. Gives whether there was no such pause.
    pub(super) fn seen(&mut self, now: u64, gap: u64) -> bool {
        let goes_on = match self.watched.last_mut() {
            // A clock that was set back does not watch the same time twice.
            Some((from, to)) if *from <= now && now <= to.saturating_add(gap) => {
                *to = now.max(*to);
                true
            }
            _ => false,
        };
        if !goes_on {
            self.watched.push((now, now));
        }
        let old = now.saturating_sub(KEPT);
        self.watched.retain(|(_, to)| *to >= old);
        self.incidents.retain(|past| past.to.is_none_or(|to| to >= old));
        let over = self.watched.len().saturating_sub(STRETCHES);
        self.watched.drain(..over);
        goes_on
    }

    /// The incident that is open.
    pub fn open(&self) -> Option<&Past> {
        self.incidents.last().filter(|past| past.to.is_none())
    }

    pub(super) fn begin(&mut self, from: u64, why: String) {
        if self.incidents.len() >= INCIDENTS {
            self.incidents.remove(0);
        }
        self.incidents.push(Past { from, to: None, why });
    }

    pub(super) fn end(&mut self, now: u64) {
        if let Some(open) = self.incidents.last_mut().filter(|past| past.to.is_none()) {
            open.to = Some(now.max(open.from));
        }
    }

    /// The availability between two times; an incident that is open lasts until `to`.
    pub fn between(&self, from: u64, to: u64) -> Days {
        let window = (from, to);
        let within = |stretch: (u64, u64)| overlap(stretch, window);
        let watched = self.watched.iter().map(|stretch| within(*stretch)).sum();
        // A stretch in which nobody watched counts neither way.
        let down = self.incidents.iter().flat_map(|past| {
            let incident = (past.from.max(from), past.to.unwrap_or(to).min(to));
            self.watched.iter().map(move |stretch| overlap(*stretch, incident))
        });
        Days { watched, down: down.sum() }
    }

    /// The last `days` days before `now`, the oldest first.
    pub fn days(&self, now: u64, days: u64) -> Vec<Days> {
        (0..days).rev().map(|back| self.between(now.saturating_sub((back + 1) * DAY), now.saturating_sub(back * DAY))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downtime_is_right_to_the_second_and_what_nobody_watched_counts_neither_way() {
        let mut history = History::default();
        let (start, second) = (100 * DAY, 1_000);
        for n in 0..=3_600 {
            history.seen(start + n * second, 30_000);
            if n == 600 {
                history.begin(start + 600 * second, "away".into());
            }
            if n == 723 {
                history.end(start + 723 * second);
            }
        }
        // The process was away for an hour, and then watched for an hour.
        (0..=3_600).for_each(|n| {
            history.seen(start + 7_200_000 + n * second, 30_000);
        });
        let now = start + 10_800_000;
        let week = history.between(now - 7 * DAY, now);
        assert_eq!(week, Days { watched: 7_200_000, down: 123_000 });
        assert_eq!(history.days(now, 2)[1], week);
        assert_eq!(history.between(now - 2 * DAY, now - DAY).share(), None);
        history.seen(now + 2 * KEPT, 30_000);
        assert_eq!((history.incidents.len(), history.watched.len()), (0, 1), "the past is forgotten");
    }

    #[test]
    fn a_clock_that_is_set_back_watches_nothing_twice() {
        let mut history = History::default();
        let start = 100 * DAY;
        (0..=3_600_u64).for_each(|n| {
            history.seen(start + n * 1_000, 30_000);
        });
        (0..=3_600_u64).for_each(|n| {
            history.seen(start + 1_800_000 + n * 1_000, 30_000);
        });
        assert_eq!(history.between(start, start + DAY).watched, 5_400_000);
    }
}
