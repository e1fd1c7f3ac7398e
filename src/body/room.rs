//! Room for the bodies that the process holds in memory: bodies read before they are sent, bodies kept for another try, held
//! beginnings of answers, 1xx answers that clients do not read. They share one budget, in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The budget of the process.
#[derive(Debug)]
pub struct BodyBudget {
    limit: u64,
    used: AtomicU64,
}

impl BodyBudget {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// A room of the budget; it takes no bytes yet.
    pub fn room(self: &Arc<Self>) -> Room {
        Room { budget: self.clone(), taken: 0 }
    }
}

/// Bytes taken of the budget; given back when dropped.
#[derive(Debug)]
pub struct Room {
    budget: Arc<BodyBudget>,
    taken: u64,
}

impl Room {
    /// Takes `bytes` more; gives whether there was room. They count in either case until [`clear`](Self::clear) or the drop.
    pub fn take(&mut self, bytes: u64) -> bool {
        let before = self.budget.used.fetch_add(bytes, Relaxed);
        self.taken += bytes;
        before + bytes <= self.budget.limit
    }

    /// Takes `bytes` more if there is room; gives whether there was.
    pub fn take_if_free(&mut self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.budget.limit);
        let taken = self.budget.used.fetch_update(Relaxed, Relaxed, fits).is_ok();
        self.taken += if taken { bytes } else { 0 };
        taken
    }

    /// Gives all bytes back: they are no longer held.
    pub fn clear(&mut self) {
        self.budget.used.fetch_sub(std::mem::take(&mut self.taken), Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = BodyBudget::new(100);
        let (mut one, mut two) = (budget.room(), budget.room());
        assert!(one.take(60) && !two.take(60));
        assert_eq!(budget.used(), 120, "what is held is counted, with or without room");
        two.clear();
        assert_eq!(budget.used(), 60);
        assert!(two.take(40));
        assert!(!two.take_if_free(1) && budget.used() == 100, "what has no room is not counted");
        one.clear();
        assert!(one.take_if_free(60) && !two.take_if_free(u64::MAX));
        drop((one, two));
        assert_eq!(budget.used(), 0);
    }
}
