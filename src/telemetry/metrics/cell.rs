//! The cells that numbers are counted in: relaxed atomics behind an `Arc`, resolved once and cheap to clone.
//!
//! A cell belongs to one worker: workers do not contend for its cache line. A scrape adds the workers up.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use opentelemetry::{SpanId, TraceId};
use parking_lot::Mutex;

/// A value alone on its cache line: two cells made one after another may belong to two workers.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line<T>(T);

/// A number that only grows, in the family's raw unit.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<Line<AtomicU64>>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more, in the family's raw unit (dollars: nano-dollars).
    pub fn add(&self, n: u64) {
        self.0.0.fetch_add(n, Relaxed);
    }

    /// The number so far.
    pub fn get(&self) -> u64 {
        self.0.0.load(Relaxed)
    }
}

/// A number that goes up and down. The exposed value is the sum over the workers.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<Line<AtomicI64>>);

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.0.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.0.fetch_sub(1, Relaxed);
    }

    /// Exactly `value`.
    pub fn set(&self, value: i64) {
        self.0.0.store(value, Relaxed);
    }

    /// The value of this cell.
    pub fn get(&self) -> i64 {
        self.0.0.load(Relaxed)
    }

    /// One more until the guard is dropped.
    pub fn enter(&self) -> GaugeGuard {
        self.inc();
        GaugeGuard(self.clone())
    }
}

/// Takes one off its gauge when dropped.
#[derive(Debug)]
pub struct GaugeGuard(Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A sampled span in which a value was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanPoint {
    /// Its trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// When the value was measured.
    pub at: SystemTime,
}

/// A value of a histogram, and the span that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// In the family's raw unit.
    pub value: u64,
    /// Its span.
    pub span: SpanPoint,
}

/// Counts by fixed bounds, with an exact integer sum.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
#[repr(align(64))]
struct Inner {
    bounds: &'static [u64],
    /// One per bound, and one for everything above the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    /// The newest exemplar of each bucket; made with the first one: without traces there is none.
    exemplars: OnceLock<Box<[Mutex<Option<Exemplar>>]>>,
}

impl Histogram {
    /// Empty, with these upper bounds (inclusive, ascending).
    pub fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds, buckets, sum: AtomicU64::new(0), exemplars: OnceLock::new() }))
    }

    /// One value in the family's raw unit. Two relaxed additions.
    pub fn observe(&self, value: u64) {
        self.observe_within(value, None);
    }

    /// As [`Self::observe`], and keeps the span as the bucket's exemplar.
    pub fn observe_within(&self, value: u64, span: Option<SpanPoint>) {
        let at = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.buckets[at].fetch_add(1, Relaxed);
        self.0.sum.fetch_add(value, Relaxed);
        if let Some(span) = span {
            let slots = self.0.exemplars.get_or_init(|| self.0.buckets.iter().map(|_| Mutex::new(None)).collect());
            // A scrape reads this one now: the next value will do as well.
            if let Some(mut slot) = slots[at].try_lock() {
                *slot = Some(Exemplar { value, span });
            }
        }
    }

    /// One duration; the family must be in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(nanos(duration));
    }

    /// As [`Self::observe_duration`], and keeps the span as the bucket's exemplar.
    pub fn observe_duration_within(&self, duration: Duration, span: Option<SpanPoint>) {
        self.observe_within(nanos(duration), span);
    }

    /// The newest exemplar of each bucket; empty if there never was one.
    pub fn exemplars(&self) -> Vec<Option<Exemplar>> {
        self.0.exemplars.get().map(|slots| slots.iter().map(|slot| *slot.lock()).collect()).unwrap_or_default()
    }

    /// Counts per bucket (not cumulative) and the sum, both raw.
    pub fn read(&self) -> (Vec<u64>, u64) {
        (self.0.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(), self.0.sum.load(Relaxed))
    }
}

/// Whole nanoseconds; centuries saturate.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::new(&[10, 100]);
        for value in [0, 10, 11, 100, 101, 5000] {
            histogram.observe(value);
        }
        assert_eq!(histogram.read(), (vec![2, 2, 2], 5222));
    }

    #[test]
    fn a_guard_gives_back_what_it_took() {
        let gauge = Gauge::default();
        let guard = gauge.enter();
        assert_eq!(gauge.get(), 1);
        drop(guard);
        assert_eq!(gauge.get(), 0);
    }
}
