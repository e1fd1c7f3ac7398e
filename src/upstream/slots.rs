//! How many connections a target may have over all workers, and how many requests may wait for one.
//!
//! A slot belongs to a connection from before it is opened until its socket is closed, as a tunnel too. Requests that find no slot
//! wait in the order in which they came, [`QUEUE`] of them; beyond it they are refused at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may wait at one target, over all workers.
pub const QUEUE: usize = 1024;

/// The places for a target's connections.
#[derive(Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
}

/// A connection's place.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// A request's place among those that wait.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Slots);

impl Slots {
    /// `most` places.
    pub fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(most)), most, waiting: AtomicUsize::new(0) }
    }

    /// How many there are.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Requests that wait, over all workers.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// A free place, if there is one that nobody waits for.
    pub fn take(&self) -> Option<Slot> {
        self.free.clone().try_acquire_owned().ok().map(|permit| Slot { _permit: permit })
    }

    /// Whether none is free.
    pub fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// A place among those that wait; `None`: they are too many.
    pub fn queue(&self) -> Option<Waiting<'_>> {
        let place = self.waiting.fetch_update(Relaxed, Relaxed, |waiting| (waiting < QUEUE).then_some(waiting + 1));
        place.ok().map(|_| Waiting(self))
    }
}

impl Waiting<'_> {
    /// The next place that becomes free.
    pub async fn slot(&self) -> Option<Slot> {
        // Nobody ever closes it.
        self.0.free.clone().acquire_owned().await.ok().map(|permit| Slot { _permit: permit })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// Whether a connection's place is among so many that are wanted; then they are one less.
pub fn is_wanted(wanted: &mut usize) -> bool {
    let is = *wanted > 0;
    *wanted = wanted.saturating_sub(1);
    is
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_place_is_given_once_and_in_order() {
        let slots = Slots::new(1);
        let first = slots.take().expect("free");
        assert!(slots.take().is_none());
        let waiting = slots.queue().expect("room to wait");
        let mut next = Box::pin(waiting.slot());
        assert!(next.as_mut().now_or_never().is_none());
        drop(first);
        assert!(slots.take().is_none(), "who waits comes first");
        let second = next.as_mut().now_or_never().flatten();
        assert!(second.is_some());
        drop(next);
        drop(waiting);
        assert_eq!(slots.waiting(), 0);
        drop(second);
        assert!(slots.take().is_some());
        let many: Vec<_> = std::iter::from_fn(|| slots.queue()).collect();
        assert_eq!((many.len(), slots.waiting()), (QUEUE, QUEUE));
    }
}
