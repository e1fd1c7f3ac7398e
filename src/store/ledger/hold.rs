//! Holding the books: who holds them has the disk, and a disk may hang. Since when they are held is known without them.

use std::{
    ops::{Deref, DerefMut},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use parking_lot::MutexGuard;

use super::{Books, Inner, file::FileError};

/// The books, held.
pub(super) struct Held<'a> {
    books: MutexGuard<'a, Books>,
    inner: &'a Inner,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.inner.held.store(0, Relaxed);
    }
}

impl Deref for Held<'_> {
    type Target = Books;

    fn deref(&self) -> &Books {
        &self.books
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Books {
        &mut self.books
    }
}

impl Inner {
    /// The books, once nobody else holds them.
    pub(super) fn hold(&self) -> Held<'_> {
        self.holding(self.books.lock())
    }

    /// The books, unless somebody else holds them for longer than `within`.
    pub(super) fn hold_within(&self, within: Duration) -> Option<Held<'_>> {
        self.books.try_lock_for(within).map(|books| self.holding(books))
    }

    /// The books for a question or a change.
    ///
    /// # Errors
    /// They are held for long: the disk hangs, or a large file is brought to a new format.
    pub(super) fn hold_patiently(&self) -> Result<Held<'_>, FileError> {
        self.hold_within(self.terms.patience).ok_or_else(|| {
            let busy = self.busy().unwrap_or(self.terms.patience).as_secs();
            FileError::Other(format!("the ledger's file has been busy for {busy}s: the disk may hang; calls are counted meanwhile"))
        })
    }

    fn holding<'a>(&'a self, books: MutexGuard<'a, Books>) -> Held<'a> {
        self.held.store(self.clock.moment().steady_millis() + 1, Relaxed);
        Held { books, inner: self }
    }

    /// For how long the books have been held; `None`: nobody holds them.
    pub(super) fn busy(&self) -> Option<Duration> {
        let since = self.held.load(Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.clock.moment().steady_millis().saturating_sub(since)))
    }
}
