//! The way from a request to the books: a worker puts each call into its own batch; the books take the batches from time to time.
//!
//! Putting a call takes a lock that nobody else holds for longer than it takes to exchange two pointers.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{Inner, entry::Entry};

/// Calls in a batch at which the keeper is woken.
const WAKE: usize = 1_024;
/// Calls in a batch at which the worker itself adds them up. Nothing is lost, but the worker stops for some milliseconds.
const FULL: usize = 8_192;

/// One worker's batch.
#[derive(Debug)]
pub struct Journal {
    batch: Mutex<Vec<Entry>>,
    ledger: Weak<Inner>,
}

impl Journal {
    pub(super) fn new(ledger: &Arc<Inner>) -> Arc<Self> {
        Arc::new(Self { batch: Mutex::default(), ledger: Arc::downgrade(ledger) })
    }

    /// Puts a call into the batch.
    pub fn push(&self, entry: Entry) {
        let mut batch = self.batch.lock();
        batch.push(entry);
        let count = batch.len();
        if count < WAKE {
            return;
        }
        let full = (count >= FULL).then(|| std::mem::take(&mut *batch));
        drop(batch);
        let Some(ledger) = self.ledger.upgrade() else { return };
        match full {
            Some(batch) => ledger.merge(batch),
            None if count == WAKE => ledger.wake(),
            None => {}
        }
    }

    /// How many calls are in it.
    pub(super) fn len(&self) -> usize {
        self.batch.lock().len()
    }

    pub(super) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.batch.lock())
    }
}
