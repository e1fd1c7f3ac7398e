//! Metrics: one table of families, and cells per worker that are added up at a scrape or an export.
//!
//! [`Metrics`] is shared; each worker takes a [`WorkerMetrics`] and resolves handles from it once per route, target or
//! door. Counting is then a relaxed addition on a cache line of that worker. A scrape and an OTLP export both read
//! [`Metrics::gather`]; numbers that live elsewhere (cache bytes, breaker states) are asked for through callbacks.

mod cell;
mod family;
mod handles;
mod openmetrics;
mod process;
mod rolling;
mod scrape;
mod shard;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};

pub use cell::{Counter, Exemplar, Gauge, GaugeGuard, Histogram, SpanPoint, nanos};
pub use family::{FAMILIES, Family, Kind, Spec, Unit};
pub use handles::{CacheOutcome, DoorCells, Finished, ModelCall, RequestCells, RouteCells, TargetCells};
pub use rolling::Window;
pub use shard::{MAX_SERIES, MAX_VALUE, OTHER};

use crate::clock::{Clock, Instant};
use rolling::Ring;
use shard::{Cell, Shard};

/// The crate's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, if the build set `OUTRIGGER_COMMIT`.
pub const COMMIT: &str = match option_env!("OUTRIGGER_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// One number a callback gives: label values in the family's order, and the value in the exposed unit.
pub type Reading = (Vec<String>, f64);

type Callback = Box<dyn Fn() -> Vec<Reading> + Send + Sync>;

/// One histogram a callback gives: label values, counts per bucket (one more than the bounds), and the sum in the exposed unit.
pub type Distribution = (Vec<String>, Vec<u64>, f64);

type Distributions = Box<dyn Fn() -> Vec<Distribution> + Send + Sync>;

/// Every number of the process.
pub struct Metrics {
    inner: Arc<Inner>,
    shared: WorkerMetrics,
    registry: prometheus::Registry,
}

struct Inner {
    workers: RwLock<Vec<Arc<Worker>>>,
    callbacks: Mutex<Vec<(Family, Callback)>>,
    distributions: Mutex<Vec<(Family, Distributions)>>,
    clock: Clock,
    started: Instant,
    /// Nanoseconds since 1970 at which counting began.
    started_wall: u64,
}

/// The numbers of one worker.
struct Worker {
    shard: Shard,
    ring: Ring,
}

/// A worker's way to its cells. Cheap to clone; resolve handles once and keep them.
#[derive(Clone)]
pub struct WorkerMetrics {
    worker: Arc<Worker>,
    started: Instant,
}

/// The present state of one family, added up over workers and callbacks.
#[derive(Debug)]
pub struct Snapshot {
    /// Its row.
    pub spec: &'static Spec,
    /// Label values and numbers, in the order of the labels.
    pub series: BTreeMap<Vec<Arc<str>>, Value>,
}

/// The form of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
}

/// The number of one series, in the exposed unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A counter or gauge.
    Number(f64),
    /// Counts per bucket (not cumulative; one more than the bounds) and the sum.
    Histogram {
        /// As in the family's kind, raw unit.
        bounds: &'static [u64],
        /// One per bound and one above.
        buckets: Vec<u64>,
        /// Exposed unit.
        sum: f64,
        /// One per bucket, or none at all: without traces there is none.
        exemplars: Vec<Option<Exemplar>>,
    },
}

impl Metrics {
    /// Begins to count.
    pub fn new(clock: Clock) -> Arc<Self> {
        let started = clock.now();
        let started_wall = nanos(crate::clock::unix(clock.wall()));
        let inner = Arc::new(Inner {
            workers: RwLock::default(),
            callbacks: Mutex::default(),
            distributions: Mutex::default(),
            clock,
            started,
            started_wall,
        });
        let shared = inner.worker();
        let registry = scrape::registry(inner.clone());
        let metrics = Arc::new(Self { inner, shared, registry });
        metrics.shared.gauge(Family::BuildInfo, &[VERSION, COMMIT]).set(1);
        // A series that exists from the first scrape on is not taken for a new one at its first count.
        for spec in
            FAMILIES.iter().filter(|spec| spec.labels.is_empty() && spec.kind == Kind::Counter && spec.name.starts_with("outrigger_"))
        {
            metrics.shared.counter(spec.family, &[]);
        }
        for (family, known) in family::BORN {
            known.iter().for_each(|labels| drop(metrics.shared.counter(*family, labels)));
        }
        metrics
    }

    /// Cells for one more worker.
    pub fn worker(&self) -> WorkerMetrics {
        self.inner.worker()
    }

    /// Cells of no worker: for shared policies, stores and side tasks.
    pub fn shared(&self) -> &WorkerMetrics {
        &self.shared
    }

    /// Asks `read` for the family's numbers at every scrape. Equal label values from several callbacks are added up.
    /// `read` runs on the side runtime and must not block.
    pub fn register(&self, family: Family, read: Box<dyn Fn() -> Vec<Reading> + Send + Sync>) {
        self.inner.callbacks.lock().push((family, read));
    }

    /// As [`Self::register`], for a histogram whose buckets are counted elsewhere, by the bounds of its family.
    pub fn register_histogram(&self, family: Family, read: Box<dyn Fn() -> Vec<Distribution> + Send + Sync>) {
        self.inner.distributions.lock().push((family, read));
    }

    /// Forgets the series whose `label` has a value that is gone. A handle that is still held counts into nothing.
    pub fn forget(&self, label: &str, gone: impl Fn(&str) -> bool) {
        for worker in self.inner.workers.read().iter() {
            worker.shard.forget(label, &gone);
        }
    }

    /// Every family that has a series, in the table's order.
    pub fn gather(&self) -> Vec<Snapshot> {
        self.inner.gather(&|_| true)
    }

    /// The families among `which` that have a series, in the table's order.
    pub fn gather_of(&self, which: &[Family]) -> Vec<Snapshot> {
        self.inner.gather(&|family| which.contains(&family))
    }

    /// The scrape: Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        scrape::render(&self.registry)
    }

    /// The scrape in the form that was asked for.
    pub fn render_as(&self, form: Exposition) -> String {
        match form {
            Exposition::Text => self.render(),
            Exposition::OpenMetrics => openmetrics::render(&self.gather()),
        }
    }

    /// The last 24 hours, over all workers.
    pub fn last_day(&self, now: Instant) -> Window {
        let mut window = Window::default();
        for worker in self.inner.workers.read().iter() {
            worker.ring.add_to(&mut window, now.duration_since(self.inner.started));
        }
        window
    }

    /// The last `count` whole minutes and the present one, over all workers, oldest first: when each began, as seconds after counting
    /// began, and its sums. Minutes before counting began are left out.
    pub fn minutes(&self, now: Instant, count: u64) -> Vec<(u64, Window)> {
        let newest = now.duration_since(self.inner.started).as_secs() / 60;
        let workers = self.inner.workers.read();
        (newest.saturating_sub(count)..=newest)
            .map(|minute| {
                let mut window = Window::default();
                workers.iter().for_each(|worker| worker.ring.add_minute(&mut window, minute));
                (minute * 60, window)
            })
            .collect()
    }

    /// Time since counting began.
    pub fn uptime(&self, now: Instant) -> Duration {
        now.duration_since(self.inner.started)
    }

    /// When counting began, and now, in nanoseconds since 1970.
    pub fn span_nanos(&self) -> (u64, u64) {
        (self.inner.started_wall, nanos(crate::clock::unix(self.inner.clock.wall())))
    }
}

impl Inner {
    fn worker(&self) -> WorkerMetrics {
        let worker = Arc::new(Worker { shard: Shard::new(), ring: Ring::new() });
        self.workers.write().push(worker.clone());
        WorkerMetrics { worker, started: self.started }
    }

    fn gather(&self, wanted: &dyn Fn(Family) -> bool) -> Vec<Snapshot> {
        let mut all: Vec<Snapshot> = FAMILIES.iter().map(|spec| Snapshot { spec, series: BTreeMap::new() }).collect();
        let workers = self.workers.read();
        for snapshot in all.iter_mut().filter(|snapshot| wanted(snapshot.spec.family)) {
            // Whole numbers are added up as integers: dollars counted at several workers lose nothing.
            let mut sums: BTreeMap<Vec<Arc<str>>, i128> = BTreeMap::new();
            for (labels, cell) in workers.iter().flat_map(|worker| worker.shard.all(snapshot.spec.family)) {
                match cell {
                    Cell::Counter(counter) => *sums.entry(labels.into_vec()).or_default() += i128::from(counter.get()),
                    Cell::Gauge(gauge) => *sums.entry(labels.into_vec()).or_default() += i128::from(gauge.get()),
                    Cell::Histogram(histogram) => add(&mut snapshot.series, labels.into_vec(), read(snapshot.spec, &histogram)),
                }
            }
            let unit = snapshot.spec.unit;
            snapshot.series.extend(sums.into_iter().map(|(labels, sum)| (labels, Value::Number(unit.exposed(sum)))));
        }
        drop(workers);
        let process = process::read().into_iter().map(|(family, value)| (family, vec![(Vec::new(), value)]));
        let called: Vec<_> =
            self.callbacks.lock().iter().filter(|(family, _)| wanted(*family)).map(|(family, read)| (*family, read())).collect();
        for (family, readings) in process.filter(|(family, _)| wanted(*family)).chain(called) {
            let snapshot = &mut all[family as usize];
            for (labels, value) in readings {
                debug_assert_eq!(labels.len(), snapshot.spec.labels.len(), "{}", snapshot.spec.name);
                let mut labels: Vec<Arc<str>> = labels.into_iter().map(Arc::from).collect();
                labels.resize(snapshot.spec.labels.len(), Arc::from(""));
                add(&mut snapshot.series, labels, Value::Number(value));
            }
        }
        for (family, read) in self.distributions.lock().iter().filter(|(family, _)| wanted(*family)) {
            let snapshot = &mut all[*family as usize];
            let Kind::Histogram(bounds) = snapshot.spec.kind else { continue };
            for (labels, buckets, sum) in read() {
                debug_assert_eq!((labels.len(), buckets.len()), (snapshot.spec.labels.len(), bounds.len() + 1), "{}", snapshot.spec.name);
                add(
                    &mut snapshot.series,
                    labels.into_iter().map(Arc::from).collect(),
                    Value::Histogram { bounds, buckets, sum, exemplars: Vec::new() },
                );
            }
        }
        all.retain(|snapshot| !snapshot.series.is_empty());
        all
    }
}

impl WorkerMetrics {
    /// The counter of exactly these label values. Costs a lock and a hash: resolve it once for frequent counts.
    pub fn counter(&self, family: Family, values: &[&str]) -> Counter {
        match self.worker.shard.cell(family, values) {
            Cell::Counter(counter) => counter,
            cell => mismatch(family, &cell),
        }
    }

    /// The gauge of exactly these label values; the exposed value is the sum over workers.
    pub fn gauge(&self, family: Family, values: &[&str]) -> Gauge {
        match self.worker.shard.cell(family, values) {
            Cell::Gauge(gauge) => gauge,
            cell => mismatch(family, &cell),
        }
    }

    /// The histogram of exactly these label values.
    pub fn histogram(&self, family: Family, values: &[&str]) -> Histogram {
        match self.worker.shard.cell(family, values) {
            Cell::Histogram(histogram) => histogram,
            cell => {
                mismatch::<()>(family, &cell);
                Histogram::new(&[])
            }
        }
    }
}

/// A handle of the wrong kind counts into nothing. Tests find such a handle.
fn mismatch<T: Default>(family: Family, cell: &Cell) -> T {
    debug_assert!(false, "{} is not a {cell:?}", family.spec().name);
    T::default()
}

fn read(spec: &Spec, histogram: &Histogram) -> Value {
    let (buckets, sum) = histogram.read();
    let bounds = if let Kind::Histogram(bounds) = spec.kind { bounds } else { &[] };
    Value::Histogram { bounds, buckets, sum: sum as f64 / spec.unit.per_unit(), exemplars: histogram.exemplars() }
}

fn add(series: &mut BTreeMap<Vec<Arc<str>>, Value>, labels: Vec<Arc<str>>, value: Value) {
    use std::collections::btree_map::Entry;
    match series.entry(labels) {
        Entry::Vacant(entry) => {
            entry.insert(value);
        }
        Entry::Occupied(mut entry) => match (entry.get_mut(), value) {
            (Value::Number(sum), Value::Number(more)) => *sum += more,
            (Value::Histogram { buckets, sum, exemplars, .. }, Value::Histogram { buckets: more, sum: extra, exemplars: others, .. }) => {
                newest(exemplars, others);
                for (bucket, more) in buckets.iter_mut().zip(more) {
                    *bucket += more;
                }
                *sum += extra;
            }
            _ => {}
        },
    }
}

/// Keeps the newer exemplar of each bucket.
fn newest(exemplars: &mut Vec<Option<Exemplar>>, others: Vec<Option<Exemplar>>) {
    if exemplars.is_empty() {
        *exemplars = others;
        return;
    }
    for (own, other) in exemplars.iter_mut().zip(others) {
        *own = (*own).into_iter().chain(other).max_by_key(|exemplar| exemplar.span.at);
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("workers", &self.inner.workers.read().len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerMetrics").finish_non_exhaustive()
    }
}
