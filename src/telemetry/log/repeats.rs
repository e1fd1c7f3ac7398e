//! Equal warnings are one line and then a count: a fault that repeats a thousand times a second must not fill a disk.
//!
//! The first of equal warnings is written. Its repeats within [`WINDOW`] are counted; at the end of the window one line gives
//! the count. One place in the code writes at most [`DISTINCT`] different warnings in a window: the others are counted
//! together.

use std::{collections::HashMap, time::Duration};

use tracing::callsite::Identifier;

use super::event::Said;
use crate::clock::Instant;

/// How long equal warnings are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Most different warnings of one place within a window.
pub(super) const DISTINCT: usize = 32;

/// The warnings of the last window.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    places: HashMap<Identifier, Place>,
    /// When the first window is over.
    due: Option<Instant>,
    /// Warnings that have become known so far.
    first_said: u64,
}

/// Warnings of one place in the code.
#[derive(Debug, Default)]
struct Place {
    known: Vec<Known>,
    /// Warnings beyond [`DISTINCT`], counted together; the last one stands for all.
    others: Option<Known>,
}

#[derive(Debug)]
struct Known {
    said: Said,
    until: Instant,
    /// Its order among all warnings: two warnings may have one time.
    nth: u64,
    more: u64,
}

impl Repeats {
    /// Whether `said` is to be written now; otherwise it is counted.
    pub(super) fn is_new(&mut self, from: Identifier, said: &Said, now: Instant) -> bool {
        let until = now + WINDOW;
        let place = self.places.entry(from).or_default();
        if let Some(known) = place.known.iter_mut().find(|known| known.said == *said) {
            known.more += 1;
            return false;
        }
        self.due = Some(self.due.map_or(until, |due| due.min(until)));
        self.first_said += 1;
        let nth = self.first_said;
        if place.known.len() < DISTINCT {
            place.known.push(Known { said: said.clone(), until, nth, more: 0 });
            return true;
        }
        let others = place.others.get_or_insert_with(|| Known { said: said.clone(), until, nth, more: 0 });
        others.more += 1;
        others.said = said.clone();
        false
    }

    /// Whether a window is over.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The warnings that each place has written first.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<(Identifier, Said)> {
        self.places.iter().filter_map(|(from, place)| Some((from.clone(), place.known.first()?.said.clone()))).collect()
    }

    /// The windows that are over at `now` (`None`: all of them): for each a warning, and the text behind its message. A
    /// repeated warning gets a new window; any other is forgotten.
    pub(super) fn over(&mut self, now: Option<Instant>) -> Vec<(Said, String)> {
        let mut lines = Vec::new();
        let mut due: Option<Instant> = None;
        let is_over = |known: &Known| now.is_none_or(|now| known.until <= now);
        let mut keep = |known: &mut Known, others: &str| {
            if is_over(known) {
                if known.more == 0 {
                    return false;
                }
                lines.push((
                    (known.until, known.nth),
                    known.said.clone(),
                    format!(" (and {} {others} in the last {} s)", known.more, WINDOW.as_secs()),
                ));
                known.more = 0;
                known.until = now.unwrap_or(known.until) + WINDOW;
            }
            due = Some(due.map_or(known.until, |due| due.min(known.until)));
            true
        };
        self.places.retain(|_, place| {
            place.known.retain_mut(|known| keep(known, "more"));
            place.others.take_if(|others| !keep(others, "others like it"));
            !place.known.is_empty() || place.others.is_some()
        });
        self.due = due;
        lines.sort_by_key(|(order, ..)| *order);
        lines.into_iter().map(|(_, said, more)| (said, more)).collect()
    }
}
