//! The bound on a target's connections over all workers, and on the requests that wait for one.
//!
//! A slot belongs to a connection from before it is opened until its socket is closed, as a tunnel too. Requests without a slot
//! wait in the order in which they came, at most [`QUEUE`] of them; further ones are refused at once.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may wait at one target, over all workers.
pub const QUEUE: usize = 1024;

/// The slots of a target's connections.
#[derive(Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    most: usize,
    waiting: AtomicUsize,
}

/// A connection's slot.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// A request's place in the queue for a slot.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Slots);

impl Slots {
    /// `most` slots, at least one.
    pub fn new(most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(most)), most, waiting: AtomicUsize::new(0) }
    }

    /// The number of slots.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Requests that wait, over all workers.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// A free slot, if no request waits for it.
    pub fn take(&self) -> Option<Slot> {
        self.free.clone().try_acquire_owned().ok().map(|permit| Slot { _permit: permit })
    }

    /// Whether no slot is free.
    pub fn are_taken(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// A place in the queue; `None`: the queue is full.
    pub fn queue(&self) -> Option<Waiting<'_>> {
        let place = self.waiting.fetch_update(Relaxed, Relaxed, |waiting| (waiting < QUEUE).then_some(waiting + 1));
        place.ok().map(|_| Waiting(self))
    }
}

impl Waiting<'_> {
    /// The next slot that becomes free.
    pub async fn slot(&self) -> Option<Slot> {
        // The semaphore is never closed.
        self.0.free.clone().acquire_owned().await.ok().map(|permit| Slot { _permit: permit })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// Whether a slot is still wanted; if so, counts `wanted` down by one.
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
