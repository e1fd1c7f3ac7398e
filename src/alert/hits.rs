//! Who was hit lately: the last failures, by caller and route. Only failed exchanges are noted, in bounded memory.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

/// Most failures that are remembered.
const MOST: usize = 1_024;
/// Longest name that is remembered, in bytes.
const LONGEST: usize = 128;

/// The last failures, and how many each route had.
#[derive(Debug, Default)]
pub struct Hits {
    on: AtomicBool,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    last: VecDeque<Struck>,
    failed: HashMap<(&'static str, Arc<str>), u64>,
}

/// Most routes whose failures are counted.
const ROUTES: usize = 4_096;

/// One failed exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Struck {
    /// Steady time of its end, in milliseconds.
    pub at: u64,
    /// `inbound` or `outbound`.
    pub door: &'static str,
    /// The route.
    pub route: Arc<str>,
    /// Who asked; empty: nobody known.
    pub caller: Arc<str>,
    /// What was to serve it; empty: nothing was asked.
    pub target: Arc<str>,
}

/// Names with how often they occur, the most frequent first.
pub type Ranking = Vec<(Arc<str>, u64)>;

impl Hits {
    /// Whether failures are noted from now on.
    pub fn watch(&self, on: bool) {
        if self.on.swap(on, Relaxed) && !on {
            *self.memory.lock() = Memory::default();
        }
    }

    /// Whether anybody wants to know.
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// The failures of each route since failures are noted: door, route, count.
    pub fn failed(&self) -> Vec<(&'static str, Arc<str>, u64)> {
        self.memory.lock().failed.iter().map(|((door, route), n)| (*door, route.clone(), *n)).collect()
    }

    /// Notes a failure. The oldest makes room.
    pub fn note(&self, struck: Struck) {
        let short = |name: Arc<str>| if name.len() <= LONGEST { name } else { shortened(&name).into() };
        let struck = Struck { caller: short(struck.caller), route: short(struck.route), target: short(struck.target), ..struck };
        let mut memory = self.memory.lock();
        let key = (struck.door, struck.route.clone());
        if memory.failed.len() < ROUTES || memory.failed.contains_key(&key) {
            *memory.failed.entry(key).or_default() += 1;
        }
        if memory.last.len() >= MOST {
            memory.last.pop_front();
        }
        memory.last.push_back(struck);
    }

    /// Forgets a caller's name: its failures stay, as those of nobody known. `false`: there is no such caller.
    pub fn erase(&self, caller: &str) -> bool {
        let (mut memory, name, mut erased) = (self.memory.lock(), shortened(caller), false);
        for struck in memory.last.iter_mut().filter(|struck| !name.is_empty() && &*struck.caller == name) {
            struck.caller = Arc::default();
            erased = true;
        }
        erased
    }

    /// The callers and the routes of the failures since `since` that `which` lets through.
    pub fn since(&self, since: u64, which: impl Fn(&Struck) -> bool) -> (Ranking, Ranking) {
        let (mut callers, mut routes) = (HashMap::new(), HashMap::new());
        for struck in self.memory.lock().last.iter().filter(|struck| struck.at >= since && which(struck)) {
            if !struck.caller.is_empty() {
                *callers.entry(struck.caller.clone()).or_default() += 1;
            }
            *routes.entry(Arc::from(format!("{} {}", struck.door, struck.route))).or_default() += 1;
        }
        (ranked(callers), ranked(routes))
    }
}

/// The part of a name that is remembered.
fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST)]
}

fn ranked(counts: HashMap<Arc<str>, u64>) -> Ranking {
    let mut all: Ranking = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_come_first_and_memory_is_bounded() {
        let hits = Hits::default();
        let strike = |at: u64, caller: &str| {
            hits.note(Struck { at, door: "inbound", route: "chat".into(), caller: caller.into(), target: "app".into() });
        };
        for at in 0..2_000 {
            strike(at, if at % 3 == 0 { "ann" } else { "bob" });
        }
        let (callers, routes) = hits.since(1_000, |struck| &*struck.target == "app");
        assert_eq!((&*callers[0].0, callers[0].1, callers.len()), ("bob", 667, 2));
        assert_eq!(routes, [("inbound chat".into(), 1_000)]);
        assert_eq!(hits.memory.lock().last.len(), MOST);
        assert_eq!(hits.failed(), [("inbound", "chat".into(), 2_000)]);
        assert!(hits.since(0, |struck| &*struck.target == "openai").0.is_empty());
    }

    #[test]
    fn an_erased_caller_is_named_by_no_failure_and_its_failures_stay() {
        let hits = Hits::default();
        let long = "é".repeat(LONGEST);
        for caller in ["ann", "bob", "ann", "", &long] {
            hits.note(Struck { at: 1, door: "inbound", route: "chat".into(), caller: caller.into(), target: "app".into() });
        }
        assert!(hits.erase("ann") && !hits.erase("ann") && !hits.erase("an") && !hits.erase(""));
        assert!(hits.erase(&long), "it is remembered in part");
        let (callers, routes) = hits.since(0, |_| true);
        assert_eq!((callers, routes), (vec![("bob".into(), 1)], vec![("inbound chat".into(), 5)]));
    }
}
