//! Flows: ended exchanges by caller, route, provider and model, counted while somebody looks.
//!
//! Each worker counts into a table of its own; a reader takes the tables away. While nobody looks, an ended exchange costs one relaxed
//! load. A table holds at most [`MOST`] flows: further ones are counted without caller and model. A reading gives at most [`MOST`] flows of
//! all workers in full: the others are added up by route, target and operation.

use std::{
    cmp::Reverse,
    collections::HashMap,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

use super::metrics::OTHER;
use crate::arrival::Door;

/// Most flows of one worker between two readings, and of a reading. Flows beyond them lose caller and model.
pub const MOST: usize = 2048;

/// The way of an exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The listener.
    pub door: Door,
    /// The caller; `None`: none is known.
    pub caller: Option<Arc<str>>,
    /// Outbound: the inbound route that caused the call, if one is known.
    pub cause: Option<Arc<str>>,
    /// The route.
    pub route: Arc<str>,
    /// The target that was asked last, or would have been: the app or a provider.
    pub target: Option<Arc<str>>,
    /// Outbound: the operation. Empty inbound.
    pub operation: &'static str,
    /// Outbound: the model.
    pub model: Option<Arc<str>>,
    /// Outbound: the place of the configured key that was used last.
    pub key: Option<u16>,
}

/// Sums over the exchanges of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Exchanges that ended.
    pub requests: u64,
    /// Those with a status of 500 or more, or broken ones.
    pub errors: u64,
    /// Those that the proxy refused.
    pub refused: u64,
    /// Those that the cache answered.
    pub cached: u64,
    /// Tokens of their tries.
    pub tokens: u64,
    /// Nano-dollars of their tries.
    pub nano_usd: u64,
    /// Their durations in microseconds.
    pub micros: u64,
}

impl Sums {
    /// Adds other sums.
    pub fn add(&mut self, more: &Self) {
        self.requests += more.requests;
        self.errors += more.errors;
        self.refused += more.refused;
        self.cached += more.cached;
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.nano_usd = self.nano_usd.saturating_add(more.nano_usd);
        self.micros = self.micros.saturating_add(more.micros);
    }
}

type Table = HashMap<Flow, Sums, foldhash::fast::RandomState>;

/// The flows of the process.
#[derive(Debug, Default)]
pub struct Flows {
    watched: Arc<AtomicBool>,
    workers: Mutex<Vec<Arc<Mutex<Table>>>>,
}

/// A worker's table. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerFlows {
    watched: Arc<AtomicBool>,
    table: Arc<Mutex<Table>>,
}

impl Flows {
    /// A table for one more worker.
    pub fn worker(&self) -> WorkerFlows {
        let table = Arc::<Mutex<Table>>::default();
        self.workers.lock().push(table.clone());
        WorkerFlows { watched: self.watched.clone(), table }
    }

    /// Begins to count, or ends and forgets what was counted.
    pub fn watch(&self, on: bool) {
        if self.watched.swap(on, Relaxed) != on {
            drop(self.take());
        }
    }

    /// The flows since the last reading, over all workers. The flows with the most requests keep their callers.
    pub fn take(&self) -> HashMap<Flow, Sums, foldhash::fast::RandomState> {
        let mut all = Table::default();
        for table in self.workers.lock().iter() {
            // The worker waits for the swap alone.
            let counted = mem::take(&mut *table.lock());
            if all.is_empty() {
                all = counted;
                continue;
            }
            counted.into_iter().for_each(|(flow, sums)| all.entry(flow).or_default().add(&sums));
        }
        folded(all)
    }
}

/// At most [`MOST`] flows in full, and the others without what is unbounded in number.
fn folded(all: Table) -> Table {
    if all.len() <= MOST {
        return all;
    }
    let mut rows: Vec<(Flow, Sums)> = all.into_iter().collect();
    rows.select_nth_unstable_by_key(MOST, |(_, sums)| Reverse(sums.requests));
    let mut all = Table::default();
    for (nth, (mut flow, sums)) in rows.into_iter().enumerate() {
        if nth >= MOST {
            let model = flow.model.map(|_| OTHER.into());
            flow = Flow { caller: Some(OTHER.into()), cause: None, model, key: None, ..flow };
        }
        all.entry(flow).or_default().add(&sums);
    }
    all
}

impl WorkerFlows {
    /// Whether flows are counted.
    pub fn are_watched(&self) -> bool {
        self.watched.load(Relaxed)
    }

    /// Counts an exchange that ended. To be called while [`are_watched`](Self::are_watched).
    pub fn add(&self, flow: Flow, sums: &Sums) {
        let mut table = self.table.lock();
        if table.len() < MOST || table.contains_key(&flow) {
            return table.entry(flow).or_default().add(sums);
        }
        let model = flow.model.as_ref().map(|_| OTHER.into());
        table.entry(Flow { caller: Some(OTHER.into()), model, ..flow }).or_default().add(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(caller: &str) -> Flow {
        Flow {
            door: Door::Inbound,
            caller: Some(caller.into()),
            cause: None,
            route: "r".into(),
            target: Some("app".into()),
            operation: "",
            model: None,
            key: None,
        }
    }

    const ONE: Sums = Sums { requests: 1, errors: 0, refused: 1, cached: 0, tokens: 3, nano_usd: 5, micros: 7 };

    #[test]
    fn workers_are_added_up_and_a_reading_takes_all() {
        let flows = Flows::default();
        let workers = [flows.worker(), flows.worker()];
        assert!(!workers[0].are_watched(), "nobody looks at first");
        flows.watch(true);
        for worker in &workers {
            assert!(worker.are_watched());
            worker.add(flow("u"), &ONE);
            worker.add(flow("v"), &ONE);
        }
        let mut twice = ONE;
        twice.add(&ONE);
        let taken = flows.take();
        assert_eq!((taken.len(), taken[&flow("u")], taken[&flow("v")]), (2, twice, twice));
        assert!(flows.take().is_empty());
        workers[0].add(flow("u"), &ONE);
        flows.watch(false);
        assert!(flows.take().is_empty() && !workers[1].are_watched(), "what nobody has looked at is forgotten");
    }

    #[test]
    fn a_reading_of_many_workers_is_bounded_too() {
        let flows = Flows::default();
        flows.watch(true);
        for worker in 0..4 {
            let table = flows.worker();
            for n in 0..MOST {
                table.add(flow(&format!("{worker}-{n}")), &ONE);
            }
            table.add(flow("0-7"), &ONE);
        }
        let taken = flows.take();
        assert!((MOST..=MOST + 1).contains(&taken.len()), "{}", taken.len());
        assert_eq!(taken.values().map(|sums| sums.requests).sum::<u64>(), 4 * (MOST as u64 + 1), "nothing is lost");
        assert!(taken.contains_key(&flow("0-7")), "the busiest keep their names");
    }

    #[test]
    fn flows_beyond_the_bound_are_counted_without_their_caller() {
        let flows = Flows::default();
        let worker = flows.worker();
        flows.watch(true);
        for n in 0..MOST + 10 {
            worker.add(flow(&format!("u{n}")), &ONE);
        }
        worker.add(flow("u0"), &ONE);
        let taken = flows.take();
        assert_eq!(taken.len(), MOST);
        assert_eq!((taken[&flow(OTHER)].requests, taken[&flow("u0")].requests), (11, 2));
    }
}
