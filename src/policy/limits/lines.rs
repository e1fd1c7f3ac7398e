//! The requests that wait for a limit, in the order in which they came, by key.
//!
//! A place in a line is left by `Drop`: a client that goes away gives it up at once. The first of a line is woken when it becomes the
//! first, and when a request in flight of its key ends.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Inner, table::Key};

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Requests that wait in all lines. At 0 no lock is taken.
    waiting: AtomicUsize,
    by_key: Mutex<HashMap<Key, Line>>,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    /// The time at which the request is expected to pass, in microseconds; 0: nobody knows.
    due: u64,
    wake: Arc<Notify>,
}

/// A line as a request finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ahead {
    /// Requests in the line.
    pub(super) count: usize,
    /// The time at which the last request is expected to pass.
    pub(super) last: u64,
    /// The time at which the request `limit` places before a new one is expected to pass; `None`: the line is shorter.
    pub(super) limit_before: Option<u64>,
}

/// A request's place in a line.
#[derive(Debug)]
pub(super) struct Turn {
    inner: Arc<Inner>,
    pub(super) key: Key,
    number: u64,
    wake: Arc<Notify>,
}

impl Lines {
    pub(super) fn is_waiting(&self, key: Key) -> bool {
        self.waiting.load(SeqCst) > 0 && self.by_key.lock().contains_key(&key)
    }

    /// The line of `key`, as a new request under a limit of `limit` finds it.
    pub(super) fn ahead(&self, key: Key, limit: u64) -> Ahead {
        let lines = self.by_key.lock();
        let Some(line) = lines.get(&key) else { return Ahead { count: 0, last: 0, limit_before: None } };
        let count = line.waiters.len();
        let before = usize::try_from(limit).ok().and_then(|limit| count.checked_sub(limit));
        Ahead {
            count,
            last: line.waiters.back().map_or(0, |waiter| waiter.due),
            limit_before: before.and_then(|at| line.waiters.get(at)).map(|waiter| waiter.due),
        }
    }

    pub(super) fn wake_first(&self, key: Key) {
        if self.waiting.load(SeqCst) > 0
            && let Some(line) = self.by_key.lock().get(&key)
        {
            line.wake_first();
        }
    }

    /// Joins the end of a line; `None`: `most` requests wait there.
    pub(super) fn join(inner: &Arc<Inner>, key: Key, most: usize, due: u64) -> Option<Turn> {
        let mut lines = inner.lines.by_key.lock();
        if lines.get(&key).map_or(0, |line| line.waiters.len()) >= most {
            return None;
        }
        let line = lines.entry(key).or_default();
        let (number, wake) = (line.next, Arc::new(Notify::new()));
        line.next += 1;
        line.waiters.push_back(Waiter { number, due, wake: wake.clone() });
        inner.lines.waiting.fetch_add(1, SeqCst);
        Some(Turn { inner: inner.clone(), key, number, wake })
    }
}

impl Line {
    fn wake_first(&self) {
        if let Some(first) = self.waiters.front() {
            first.wake.notify_one();
        }
    }
}

impl Turn {
    /// Whether no request waits before this one.
    pub(super) fn is_first(&self) -> bool {
        self.inner.lines.by_key.lock().get(&self.key).and_then(|line| line.waiters.front()).is_some_and(|first| first.number == self.number)
    }

    /// Waits until something has changed: a wake before the call counts.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.inner.lines.by_key.lock();
        let Some(line) = lines.get_mut(&self.key) else { return };
        let Some(at) = line.waiters.iter().position(|waiter| waiter.number == self.number) else { return };
        line.waiters.remove(at);
        self.inner.lines.waiting.fetch_sub(1, SeqCst);
        match line.waiters.is_empty() {
            true => drop(lines.remove(&self.key)),
            false if at == 0 => line.wake_first(),
            false => {}
        }
    }
}
