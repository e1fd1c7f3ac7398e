//! How an answer came from the store, and its savings.

use std::time::Duration;

use super::entry::{Entry, Savings};
use crate::clock::Moment;

/// How an answer came from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HitKind {
    /// Fresh, or stale with the client's consent.
    Hit,
    /// Stale: a refresh is under way, or the origin failed.
    Stale,
    /// From another request's fetch.
    Coalesced,
    /// Confirmed by the origin.
    Revalidated,
}

impl HitKind {
    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Coalesced => "coalesced",
            Self::Revalidated => "revalidated",
        }
    }
}

/// The facts of an answer from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HitInfo {
    /// How it came.
    pub outcome: HitKind,
    /// Its age.
    pub age: Duration,
    /// Seconds of lifetime left; negative once stale.
    pub ttl: i64,
    /// Its savings; unknown for a coalesced answer, whose fetch is still under way and counts at its end.
    pub savings: Option<Savings>,
    /// The number of the kept content; `None`: it is not kept yet.
    pub content: Option<u64>,
}

impl HitInfo {
    pub(super) fn of(entry: &Entry, outcome: HitKind, now: Moment) -> Self {
        let age = entry.fresh.age(now);
        Self { outcome, age, ttl: entry.ttl_at(age), savings: entry.savings, content: Some(entry.content) }
    }
}
