//! The tier's counts since the start: variants stored, and variants that left, by reason and age.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{Reason, Stored};
use crate::clock::Moment;

/// Seconds by which ages at eviction are counted.
pub const AGES: [u64; 10] = [1, 10, 60, 300, 1_800, 3_600, 21_600, 86_400, 604_800, 2_592_000];

#[derive(Default)]
pub(super) struct Counters {
    stored: AtomicU64,
    left: [Left; 6],
}

#[derive(Default)]
struct Left {
    count: AtomicU64,
    age_millis: AtomicU64,
    ages: [AtomicU64; AGES.len() + 1],
}

impl Counters {
    pub fn left(&self, reason: Reason, what: &impl Stored, now: Moment) {
        let age = now.since(what.stored_at());
        let left = &self.left[reason.index()];
        left.age_millis.fetch_add(age.as_millis() as u64, Relaxed);
        left.ages[AGES.partition_point(|bound| Duration::from_secs(*bound) < age)].fetch_add(1, Relaxed);
        self.refused(reason);
    }

    pub fn refused(&self, reason: Reason) {
        self.left[reason.index()].count.fetch_add(1, Relaxed);
    }

    pub fn stored_more(&self, count: u64) {
        self.stored.fetch_add(count, Relaxed);
    }

    pub fn stored(&self) -> u64 {
        self.stored.load(Relaxed)
    }

    pub fn evicted(&self) -> [(u64, Duration); 6] {
        self.left.each_ref().map(|left| (left.count.load(Relaxed), Duration::from_millis(left.age_millis.load(Relaxed))))
    }

    pub fn ages(&self) -> [[u64; AGES.len() + 1]; 6] {
        self.left.each_ref().map(|left| left.ages.each_ref().map(|count| count.load(Relaxed)))
    }
}
