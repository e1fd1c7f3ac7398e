//! Notices that wait for delivery: in order for each channel, with growing pauses, for a day, in bounded memory.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::Notice;

/// Most notices that wait, over all channels. The oldest makes room.
pub const MOST: usize = 1_000;
/// How long a notice is tried, in milliseconds: a day.
pub const PATIENCE: u64 = 24 * 3_600_000;
/// The first pause between two tries, in milliseconds; doubled each time.
const FIRST: u64 = 5_000;
/// The longest pause, in milliseconds.
const LONGEST: u64 = 15 * 60_000;

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken.
    Delivered,
    /// It may be taken later; the time that the receiver asks for.
    Later(Option<Duration>, String),
    /// It will never be taken.
    Never(String),
}

/// A notice for one channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Parcel {
    pub(super) notice: Notice,
    pub(super) channel: String,
    /// Tries so far.
    pub(super) tries: u32,
    /// Wall time of the first try, in milliseconds since 1970.
    begun: u64,
    /// Wall time of the next try.
    next: u64,
    #[serde(skip)]
    under_way: bool,
}

/// The notices that wait.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    parcels: Vec<Parcel>,
}

impl Queue {
    /// Puts a notice in line for a channel. Gives the channel of each old one that had to go.
    pub fn push(&mut self, notice: Notice, channel: &str, now: u64) -> Vec<String> {
        self.parcels.push(Parcel { notice, channel: channel.to_owned(), tries: 0, begun: now, next: now, under_way: false });
        let over = self.parcels.len().saturating_sub(MOST);
        self.parcels.drain(..over).map(|parcel| parcel.channel).collect()
    }

    /// The notices of a process before, in front of those of this one.
    pub fn put_before(&mut self, mut earlier: Self) {
        earlier.parcels.append(&mut self.parcels);
        self.parcels = earlier.parcels;
        let over = self.parcels.len().saturating_sub(MOST);
        self.parcels.drain(..over);
    }

    /// The first notice of each channel whose time has come. Each is under way until [`Self::done`].
    pub(super) fn due(&mut self, now: u64) -> Vec<Parcel> {
        let mut seen: Vec<String> = Vec::new();
        let mut due = Vec::new();
        for parcel in &mut self.parcels {
            if seen.contains(&parcel.channel) {
                continue;
            }
            seen.push(parcel.channel.clone());
            if !parcel.under_way && parcel.next <= now {
                parcel.under_way = true;
                due.push(parcel.clone());
            }
        }
        due
    }

    /// A try has ended. `chance` (0..=1) spreads the pauses. Gives whether the notice was given up.
    pub fn done(&mut self, notice: &str, channel: &str, outcome: &Outcome, now: u64, chance: f64) -> bool {
        let Some(at) = self.parcels.iter().position(|parcel| parcel.notice.id == notice && parcel.channel == channel) else { return false };
        let parcel = &mut self.parcels[at];
        parcel.under_way = false;
        parcel.tries = parcel.tries.saturating_add(1);
        match outcome {
            Outcome::Delivered => {
                self.parcels.remove(at);
                false
            }
            Outcome::Later(asked, _) if now.saturating_sub(parcel.begun) < PATIENCE => {
                let pause = (FIRST << parcel.tries.saturating_sub(1).min(16)).min(LONGEST);
                let pause = pause / 2 + (pause as f64 / 2.0 * chance) as u64;
                let asked = asked.map_or(0, |asked| u64::try_from(asked.as_millis()).unwrap_or(u64::MAX).min(PATIENCE));
                parcel.next = now.saturating_add(pause.max(asked));
                false
            }
            Outcome::Later(..) | Outcome::Never(_) => {
                self.parcels.remove(at);
                true
            }
        }
    }

    /// Wall time of the next try of any channel.
    pub fn next(&self) -> Option<u64> {
        let mut seen: Vec<&str> = Vec::new();
        let heads = self.parcels.iter().filter(|parcel| {
            let first = !seen.contains(&parcel.channel.as_str());
            seen.push(&parcel.channel);
            first && !parcel.under_way
        });
        heads.map(|parcel| parcel.next).min()
    }

    /// How many notices wait for a channel, and the tries of the first.
    pub fn waiting(&self, channel: &str) -> (usize, u32) {
        let mut mine = self.parcels.iter().filter(|parcel| parcel.channel == channel);
        let tries = mine.clone().next().map_or(0, |parcel| parcel.tries);
        (mine.by_ref().count(), tries)
    }

    /// How many notices wait.
    pub fn len(&self) -> usize {
        self.parcels.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty()
    }

    /// Drops the notices of channels that are gone. Gives how many.
    pub fn keep(&mut self, knows: impl Fn(&str) -> bool) -> usize {
        let before = self.parcels.len();
        self.parcels.retain(|parcel| parcel.under_way || knows(&parcel.channel));
        before - self.parcels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::Kind, notify::format::tests::notice};

    fn numbered(n: usize) -> Notice {
        Notice { id: format!("n{n}"), ..notice(Kind::Firing, 1) }
    }

    #[test]
    fn a_receiver_that_is_away_for_a_day_gets_all_in_order() {
        let mut queue = Queue::default();
        (0..3).for_each(|n| assert!(queue.push(numbered(n), "hook", n as u64).is_empty()));
        let away = PATIENCE - 3_600_000;
        let (mut now, mut tries, mut got) = (10, 0, Vec::new());
        while let Some(next) = queue.next() {
            now = now.max(next);
            let due = queue.due(now);
            assert_eq!(due.len(), 1, "one at a time");
            assert!(queue.due(now).is_empty(), "it is under way");
            tries += 1;
            let outcome = if now < away { Outcome::Later(None, "away".into()) } else { Outcome::Delivered };
            assert!(!queue.done(&due[0].notice.id, "hook", &outcome, now, 0.5));
            if outcome == Outcome::Delivered {
                got.push(due[0].notice.id.clone());
            }
        }
        assert_eq!(got, ["n0", "n1", "n2"]);
        assert!((80..200).contains(&tries), "{tries}");
    }

    #[test]
    fn after_a_day_a_notice_is_given_up_and_a_refused_one_at_once() {
        let mut queue = Queue::default();
        queue.push(numbered(0), "a", 0);
        queue.push(numbered(1), "b", 0);
        assert_eq!(queue.due(0).len(), 2);
        assert!(queue.done("n1", "b", &Outcome::Never("410".into()), 1, 0.0));
        assert!(!queue.done("n0", "a", &Outcome::Later(Some(Duration::from_secs(3_600)), "429".into()), 1, 0.0));
        assert_eq!(queue.next(), Some(3_600_001), "as long as the receiver asks for");
        assert_eq!(queue.due(PATIENCE + 1).len(), 1);
        assert!(queue.done("n0", "a", &Outcome::Later(None, "500".into()), PATIENCE + 1, 0.0));
        assert!(queue.is_empty());
    }

    #[test]
    fn the_queue_is_bounded_and_outlives_its_process() {
        let mut queue = Queue::default();
        let dropped: Vec<String> = (0..MOST + 5).flat_map(|n| queue.push(numbered(n), if n < 2 { "old" } else { "a" }, 0)).collect();
        assert_eq!((dropped, queue.len()), (vec!["old".into(), "old".into(), "a".into(), "a".into(), "a".into()], MOST));
        assert_eq!(queue.due(0).len(), 1);
        let text = serde_json::to_string(&queue).expect("writes");
        let mut read: Queue = serde_json::from_str(&text).expect("reads");
        assert_eq!(read.due(0)[0].notice, numbered(5), "what was under way is tried again");
        let mut fresh = Queue::default();
        fresh.push(numbered(9_999), "b", 0);
        fresh.put_before(read);
        assert_eq!((fresh.len(), fresh.waiting("b").0, fresh.waiting("a").0), (MOST, 1, MOST - 1));
        assert_eq!(fresh.keep(|channel| channel == "b"), MOST - 1);
    }
}
