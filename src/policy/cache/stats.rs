//! The operator's side of the cache: its numbers, and purges.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{HitInfo, HitKind, SharedStats, entry::Savings, key::Key};
use crate::store::memory::{self, Which};

/// An order to purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Which entries.
    pub which: Which<Key>,
    /// Mark them stale instead of removing them.
    pub soft: bool,
}

/// The cache's contents, and its counts since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The memory tier.
    pub memory: memory::Stats,
    /// Fetches that can be joined now.
    pub flights: usize,
    /// Keys held for observe mode.
    pub observed_keys: usize,
    /// Answers by [`HitKind`]: hit, stale, coalesced, revalidated.
    pub answers: [u64; 4],
    /// Tokens that hits and joined fetches saved.
    pub saved_tokens: u64,
    /// Nano-dollars that hits and joined fetches saved.
    pub saved_nano_usd: u64,
    /// The counts of the Redis tier, if there is one.
    pub shared: Option<SharedStats>,
}

/// The cache's counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    answers: [AtomicU64; 4],
    saved_tokens: AtomicU64,
    saved_nano_usd: AtomicU64,
}

impl Counts {
    /// Counts an answer. A revalidated answer saves nothing: the origin was asked again, and a provider bills that.
    pub(super) fn answered(&self, info: &HitInfo) {
        self.answers[info.outcome as usize].fetch_add(1, Relaxed);
        if matches!(info.outcome, HitKind::Hit | HitKind::Stale) {
            self.saved(info.savings, 1);
        }
    }

    /// Counts `savings` as made `times` times.
    pub(super) fn saved(&self, savings: Option<Savings>, times: u64) {
        if let Some(savings) = savings {
            self.saved_tokens.fetch_add(savings.usage.total().saturating_mul(times), Relaxed);
            self.saved_nano_usd.fetch_add(savings.nano_usd.saturating_mul(times), Relaxed);
        }
    }

    /// Answers by outcome.
    pub(super) fn answers(&self) -> [u64; 4] {
        std::array::from_fn(|at| self.answers[at].load(Relaxed))
    }

    /// Tokens and nano-dollars.
    pub(super) fn all_saved(&self) -> (u64, u64) {
        (self.saved_tokens.load(Relaxed), self.saved_nano_usd.load(Relaxed))
    }
}
