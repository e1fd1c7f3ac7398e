//! A count of the work under way at one place, shared by all workers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

/// The count.
#[derive(Debug, Clone, Default)]
pub struct Underway(Arc<AtomicU32>);

/// One piece of the work in hand: it counts until it is dropped.
#[derive(Debug)]
#[must_use = "work that is dropped is over"]
pub struct InHand(Underway);

impl Underway {
    /// One more piece of work begins.
    pub fn begin(&self) -> InHand {
        self.0.fetch_add(1, Relaxed);
        InHand(self.clone())
    }

    /// How many pieces are under way.
    pub fn count(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
