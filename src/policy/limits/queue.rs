//! Waiting in line instead of a refusal: `queue` on a limit holds requests and paces them, in the order in which they came.
//!
//! The order holds per key of the limit that has made a request wait, within this process. A request whose known wait is too long is
//! refused at once. A request that finds the line full is refused at once. A client that goes away leaves its line at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    Gathered, Lease, Limits, Question,
    denial::Denial,
    gather,
    lines::{Lines, Turn},
    rule::Rule,
    table::Meter,
};
use crate::{
    clock::Instant,
    reject::{Limited, Why},
};

/// The shortest pause before the first of a line asks again: the timers of the runtime are no finer.
const PAUSE: u64 = 1_000;

/// The counts of a limit's queue since start.
#[derive(Debug, Default)]
pub(super) struct QueueTally {
    waiting: AtomicU64,
    passed: AtomicU64,
    left: AtomicU64,
    full: AtomicU64,
    too_long: AtomicU64,
    timed_out: AtomicU64,
}

/// The counts of a limit's queue since start, for metrics and the API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Requests that wait now.
    pub waiting: u64,
    /// Requests that went on after a wait.
    pub passed: u64,
    /// Requests whose client went away while they waited.
    pub left: u64,
    /// Requests that were refused at once: the queue was full.
    pub full: u64,
    /// Requests that were refused at once: their wait would have been longer than allowed.
    pub too_long: u64,
    /// Requests that were refused after the longest allowed wait.
    pub timed_out: u64,
}

impl QueueTally {
    pub(super) fn counts(&self) -> QueueCounts {
        let of = |cell: &AtomicU64| cell.load(Relaxed);
        QueueCounts {
            waiting: of(&self.waiting),
            passed: of(&self.passed),
            left: of(&self.left),
            full: of(&self.full),
            too_long: of(&self.too_long),
            timed_out: of(&self.timed_out),
        }
    }
}

/// A wait in line that has ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The limit that made the request wait last.
    pub limit: Arc<str>,
    /// The time in all lines.
    pub time: Duration,
}

/// A request that waits. A drop without `end` counts as a client that has left.
struct Waiting {
    rule: Arc<Rule>,
    turn: Turn,
    deadline: Instant,
    ended: bool,
}

impl Waiting {
    /// Leaves the line, and counts how.
    fn end(mut self, cell: impl FnOnce(&QueueTally) -> &AtomicU64) {
        self.ended = true;
        cell(&self.rule.tally.queue).fetch_add(1, Relaxed);
    }

    /// Waits until the request may ask again; `false`: the longest allowed wait is over. `pause`: microseconds, if known.
    async fn pause(&self, pause: Option<u64>) -> bool {
        let until = match pause.filter(|_| self.turn.is_first()) {
            Some(pause) => self.deadline.min(Instant::now() + Duration::from_micros(pause.max(PAUSE))),
            None => self.deadline,
        };
        let woken = tokio::time::timeout_at(until, self.turn.woken()).await.is_ok();
        woken || until < self.deadline
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.rule.tally.queue.waiting.fetch_sub(1, Relaxed);
        if !self.ended {
            self.rule.tally.queue.left.fetch_add(1, Relaxed);
        }
    }
}

impl Limits {
    /// As [`Self::admit_shared`]. A request that limits with a `queue` refuse waits in line instead, not beyond `until`.
    ///
    /// # Errors
    /// A limit without a queue refuses, the queue is full, or the wait is or would be too long.
    pub async fn admit_in_line(
        &self,
        asks: &[Question<'_>],
        now: Instant,
        until: Option<Instant>,
    ) -> Result<(Lease, Option<Waited>), Box<Limited>> {
        match asks.iter().any(|ask| ask.keyed.set.queues()) {
            false => Ok((self.admit_shared(asks, now).await?, None)),
            // Boxed: every request in flight would carry the future's size even without a queue.
            true => Box::pin(self.wait(asks, now, until)).await,
        }
    }

    async fn wait(&self, asks: &[Question<'_>], began: Instant, until: Option<Instant>) -> Result<(Lease, Option<Waited>), Box<Limited>> {
        let mut now = began;
        let mut waiting: Option<Waiting> = None;
        loop {
            // Nobody overtakes: a request that finds others waiting goes to the end of their line.
            let found = if waiting.is_none() { self.occupied(asks, now) } else { None };
            let denial = match found {
                Some(denial) => denial,
                None => match self.decide(asks, now).await {
                    Err(denial) => denial,
                    Ok(lease) => {
                        let waited = waiting.map(|waiting| {
                            let limit = waiting.rule.name.clone();
                            waiting.end(|tally| &tally.passed);
                            Waited { limit, time: now.saturating_duration_since(began) }
                        });
                        return Ok((lease, waited));
                    }
                },
            };
            let Some(at) = denial.in_line() else {
                if let Some(waiting) = waiting {
                    waiting.end(|tally| &tally.timed_out);
                }
                return Err(denial.refuse());
            };
            let item = &denial.items[at];
            if waiting.as_ref().is_none_or(|waiting| waiting.turn.key != item.key) {
                if let Some(mut elsewhere) = waiting.take() {
                    elsewhere.ended = true;
                }
                let joined = self.join(&denial, at, began, now, until)?;
                // A request may have ended since this one asked.
                let again = matches!(item.meter, Meter::Flight) && joined.turn.is_first();
                waiting = Some(joined);
                if again {
                    continue;
                }
            }
            let (pause, flies) = (item.answer.wait, matches!(item.meter, Meter::Flight));
            if let Some(place) = &waiting
                && !place.pause(pause.filter(|_| !flies)).await
            {
                if let Some(waiting) = waiting {
                    waiting.end(|tally| &tally.timed_out);
                }
                return Err(denial.refuse_at_queue(at, Why::QueueTooLong, None));
            }
            now = Instant::now();
        }
    }

    /// The denial by a limit whose line has requests in it already. No counter is asked.
    fn occupied<'a>(&self, asks: &'a [Question<'_>], now: Instant) -> Option<Box<Denial<'a>>> {
        let (mut rules, mut items) = Gathered::default();
        gather(asks, &mut rules, &mut items);
        let mut found = false;
        for (asked, item) in rules.iter().zip(&mut items) {
            if asked.rule.queue.is_some() && !item.observe && self.inner.lines.is_waiting(item.key) {
                found = true;
                item.answer.refused = true;
                (item.answer.used, item.answer.wait) = (item.limit, Some(0));
            }
        }
        found.then(|| Box::new(Denial { rules, items, now: self.inner.micros(now), without_store: None }))
    }

    /// Joins the line of the limit at `at`.
    ///
    /// # Errors
    /// The queue is full, or the wait is known to be longer than allowed.
    fn join(&self, denial: &Denial<'_>, at: usize, began: Instant, now: Instant, until: Option<Instant>) -> Result<Waiting, Box<Limited>> {
        let (rule, item) = (denial.rules[at].rule, &denial.items[at]);
        let Some(queue) = rule.queue else { return Err(denial.refuse()) };
        let deadline = until.map_or(began + queue.wait, |until| until.min(began + queue.wait));
        let due = self.due(denial, at);
        let wait = due.saturating_sub(denial.now);
        if wait > micros(deadline.saturating_duration_since(now)) {
            rule.tally.queue.too_long.fetch_add(1, Relaxed);
            return Err(denial.refuse_at_queue(at, Why::QueueTooLong, Some(Duration::from_micros(wait))));
        }
        let Some(turn) = Lines::join(&self.inner, item.key, queue.max as usize, due) else {
            rule.tally.queue.full.fetch_add(1, Relaxed);
            let wait = (wait > 0).then(|| Duration::from_micros(wait));
            return Err(denial.refuse_at_queue(at, Why::QueueFull, wait));
        };
        rule.tally.queue.waiting.fetch_add(1, Relaxed);
        Ok(Waiting { rule: rule.clone(), turn, deadline, ended: false })
    }

    /// The time at which a request at the end of the line would pass, in microseconds, if no request leaves the line; 0: nobody knows.
    fn due(&self, denial: &Denial<'_>, at: usize) -> u64 {
        let item = &denial.items[at];
        let ahead = self.inner.lines.ahead(item.key, item.limit);
        let count = ahead.count as u64;
        match item.meter {
            Meter::Flight => 0,
            Meter::Pace(pace) => {
                let first = self.inner.table.first_fit(denial.now, item.key, item.meter, item.limit, 1).unwrap_or(0);
                denial.now + first + count * pace.interval_micros()
            }
            Meter::Window(shape) => {
                let own = match ahead.limit_before {
                    // The request a whole limit before this one must have left the window.
                    Some(due) => shape.end(shape.slot(due.max(denial.now))),
                    None => denial.now + self.inner.table.first_fit(denial.now, item.key, item.meter, item.limit, count + 1).unwrap_or(0),
                };
                // Redis knows of the requests at other replicas.
                own.max(denial.now + item.answer.wait.unwrap_or(0)).max(ahead.last)
            }
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
