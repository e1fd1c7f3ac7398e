//! A refusal that is not told yet: the request may wait in line instead.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use super::{Items, Rules, table::Meter, told};
use crate::{
    http1::Fields,
    reject::{Limited, Why},
};

/// The wait told to a client that is refused because the store is away: the store alone knows the true wait.
const STORE_AWAY: Duration = Duration::from_secs(1);

/// The questions of a request. At least one answer is no.
#[derive(Debug)]
pub(super) struct Denial<'a> {
    pub(super) rules: Rules<'a>,
    pub(super) items: Items<'a>,
    /// Microseconds since 1970.
    pub(super) now: u64,
    /// The limit that refuses because the store is away.
    pub(super) without_store: Option<usize>,
}

impl<'a> Denial<'a> {
    /// The limit whose line the request may join: the one with the longest wait. `None`: a limit without a queue refuses.
    pub(super) fn in_line(&self) -> Option<usize> {
        if self.without_store.is_some() {
            return None;
        }
        let mut longest: Option<(usize, u64)> = None;
        for (at, (asked, item)) in self.rules.iter().zip(&self.items).enumerate() {
            if !item.answer.refused || item.observe {
                continue;
            }
            asked.rule.queue?;
            // Nobody knows when a request in flight ends.
            let wait = if matches!(item.meter, Meter::Flight) { u64::MAX } else { item.answer.wait? };
            if longest.is_none_or(|(_, known)| wait > known) {
                longest = Some((at, wait));
            }
        }
        longest.map(|(at, _)| at)
    }

    /// The refusal, counted.
    pub(super) fn refuse(&self) -> Box<Limited> {
        match self.without_store {
            None => told::refusal(&self.rules, &self.items, self.now),
            Some(at) => {
                self.rules[at].rule.tally.refused.fetch_add(1, Relaxed);
                told::limited(&self.rules[at], Some(STORE_AWAY), 0, Fields::new())
            }
        }
    }

    /// The refusal by the queue of a limit, counted. `wait`: the time that the client would have to wait, if known.
    pub(super) fn refuse_at_queue(&self, at: usize, why: Why, wait: Option<Duration>) -> Box<Limited> {
        let mut limited = self.refuse();
        limited.limit = self.rules[at].rule.name.clone();
        limited.why = why;
        limited.retry_after = wait.or(limited.retry_after).or(Some(STORE_AWAY));
        limited
    }
}
