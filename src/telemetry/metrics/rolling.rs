//! The last 24 hours in minute cells: error rate, latency and cache hit rate for `/health`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Minutes that are kept.
const MINUTES: u64 = 24 * 60;

/// One worker's ring. Written by that worker alone; a reader may see the last exchange of a minute late.
#[derive(Debug)]
pub(super) struct Ring {
    cells: Box<[Cell]>,
}

#[derive(Debug, Default)]
struct Cell {
    /// The cell's minute since start, plus one; 0: never used.
    minute: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
    hits: AtomicU64,
    lookups: AtomicU64,
}

/// One ended exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) error: bool,
    pub(super) nanos: u64,
    /// `None` if no cache was asked; otherwise whether it answered.
    pub(super) hit: Option<bool>,
}

/// Sums over the last 24 hours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Exchanges that ended.
    pub requests: u64,
    /// Exchanges with a status of 500 or more, or broken ones.
    pub errors: u64,
    /// Sum of the durations of whole exchanges.
    pub nanos: u64,
    /// Cache lookups that were answered.
    pub hits: u64,
    /// Cache lookups.
    pub lookups: u64,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self { cells: (0..MINUTES).map(|_| Cell::default()).collect() }
    }

    /// Counts an exchange that ended `since_start` after the process began.
    pub(super) fn record(&self, since_start: Duration, ended: Ended) {
        let minute = since_start.as_secs() / 60;
        let cell = &self.cells[(minute % MINUTES) as usize];
        if cell.minute.load(Relaxed) != minute + 1 {
            for number in [&cell.requests, &cell.errors, &cell.nanos, &cell.hits, &cell.lookups] {
                number.store(0, Relaxed);
            }
            cell.minute.store(minute + 1, Relaxed);
        }
        cell.requests.fetch_add(1, Relaxed);
        cell.errors.fetch_add(u64::from(ended.error), Relaxed);
        cell.nanos.fetch_add(ended.nanos, Relaxed);
        if let Some(hit) = ended.hit {
            cell.lookups.fetch_add(1, Relaxed);
            cell.hits.fetch_add(u64::from(hit), Relaxed);
        }
    }

    /// Adds the minutes of the last 24 hours to `window`.
    pub(super) fn add_to(&self, window: &mut Window, since_start: Duration) {
        let newest = since_start.as_secs() / 60 + 1;
        let oldest = newest.saturating_sub(MINUTES - 1).max(1);
        self.cells.iter().filter(|cell| (oldest..=newest).contains(&cell.minute.load(Relaxed))).for_each(|cell| cell.add_to(window));
    }

    /// Adds one of the last 24 hours' minutes, counted from the start, to `window`.
    pub(super) fn add_minute(&self, window: &mut Window, minute: u64) {
        let cell = &self.cells[(minute % MINUTES) as usize];
        if cell.minute.load(Relaxed) == minute + 1 {
            cell.add_to(window);
        }
    }
}

impl Cell {
    fn add_to(&self, window: &mut Window) {
        window.requests += self.requests.load(Relaxed);
        window.errors += self.errors.load(Relaxed);
        window.nanos = window.nanos.saturating_add(self.nanos.load(Relaxed));
        window.hits += self.hits.load(Relaxed);
        window.lookups += self.lookups.load(Relaxed);
    }
}

impl Window {
    /// Share of exchanges that were errors, 0..=1; `None` without any exchange.
    pub fn error_rate(&self) -> Option<f64> {
        share(self.errors, self.requests)
    }

    /// Share of cache lookups that were answered, 0..=1; `None` without any lookup.
    pub fn cache_hit_rate(&self) -> Option<f64> {
        share(self.hits, self.lookups)
    }

    /// Mean whole duration; `None` without any exchange.
    pub fn average_latency(&self) -> Option<Duration> {
        self.nanos.checked_div(self.requests).map(Duration::from_nanos)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(ring: &Ring, since_start: Duration) -> Window {
        let mut window = Window::default();
        ring.add_to(&mut window, since_start);
        window
    }

    #[test]
    fn a_day_later_an_exchange_is_forgotten() {
        let ring = Ring::new();
        ring.record(Duration::ZERO, Ended { error: true, nanos: 4_000, hit: Some(false) });
        ring.record(MINUTE, Ended { error: false, nanos: 2_000, hit: Some(true) });
        let window = at(&ring, MINUTE);
        assert_eq!((window.error_rate(), window.cache_hit_rate()), (Some(0.5), Some(0.5)));
        assert_eq!(window.average_latency(), Some(Duration::from_nanos(3_000)));
        assert_eq!(at(&ring, MINUTE * 1439).requests, 2);
        assert_eq!(at(&ring, MINUTE * 1440).requests, 1);
        assert_eq!(at(&ring, MINUTE * 1441).error_rate(), None);
        let mut second = Window::default();
        ring.add_minute(&mut second, 1);
        ring.add_minute(&mut second, 1441);
        assert_eq!((second.requests, second.errors, second.hits), (1, 0, 1), "one minute alone, and none that is another's");
    }

    #[test]
    fn a_cell_used_again_begins_at_nothing() {
        let ring = Ring::new();
        ring.record(MINUTE, Ended { error: true, nanos: 1, hit: None });
        ring.record(MINUTE * 1441, Ended { error: false, nanos: 1, hit: None });
        assert_eq!(at(&ring, MINUTE * 1441), Window { requests: 1, nanos: 1, ..Window::default() });
    }
}
