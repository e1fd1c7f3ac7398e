//! One worker's series: full label tuples, compared whole. Two series are never taken for one.
//!
//! The table is our own: the prometheus crate's `*Vec` hashes label values one after another without a separator and never
//! compares them. It makes one series of `["ab", "c"]` and `["a", "bc"]`.

use std::{
    borrow::Borrow,
    hash::{Hash, Hasher},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    cell::{Counter, Gauge, Histogram},
    family::{FAMILIES, Family, Kind, is_open},
};

/// Most series of one family and worker; beyond them open labels become [`OTHER`].
pub const MAX_SERIES: usize = 1024;

/// Longest label value in bytes; longer ones are cut.
pub const MAX_VALUE: usize = 128;

/// The value of open labels beyond [`MAX_SERIES`].
pub const OTHER: &str = "other";

/// A series' cell.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

pub(super) type Labels = Box<[Arc<str>]>;
type Series = std::collections::HashMap<Labels, Cell, foldhash::fast::RandomState>;

/// A full tuple of label values, kept or asked for: a series is found without a copy of its labels.
trait Tuple {
    fn len(&self) -> usize;
    fn at(&self, at: usize) -> &str;
}

impl Tuple for Labels {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn at(&self, at: usize) -> &str {
        &self[at]
    }
}

/// The values of a lookup: cut to [`MAX_VALUE`], and empty where one is missing.
struct Asked<'a> {
    values: &'a [&'a str],
    labels: usize,
}

impl Tuple for Asked<'_> {
    fn len(&self) -> usize {
        self.labels
    }

    fn at(&self, at: usize) -> &str {
        cut(self.values.get(at).copied().unwrap_or_default())
    }
}

/// As the hash of a boxed slice of texts: the map asks for the same of both.
impl Hash for dyn Tuple + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.len());
        (0..self.len()).for_each(|at| self.at(at).hash(state));
    }
}

impl PartialEq for dyn Tuple + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && (0..self.len()).all(|at| self.at(at) == other.at(at))
    }
}

impl Eq for dyn Tuple + '_ {}

impl<'a> Borrow<dyn Tuple + 'a> for Labels {
    fn borrow(&self) -> &(dyn Tuple + 'a) {
        self
    }
}

/// Every series of one worker.
#[derive(Debug)]
pub(super) struct Shard {
    families: Vec<Mutex<Series>>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self { families: FAMILIES.iter().map(|_| Mutex::new(Series::default())).collect() }
    }

    /// The cell of exactly these label values, made on first use. Values are cut to [`MAX_VALUE`]; missing ones are empty.
    pub(super) fn cell(&self, family: Family, values: &[&str]) -> Cell {
        let spec = family.spec();
        debug_assert_eq!(values.len(), spec.labels.len(), "{}: one value per label", spec.name);
        let asked = Asked { values, labels: spec.labels.len() };
        let mut series = self.families[family as usize].lock();
        if let Some(cell) = series.get(&asked as &dyn Tuple) {
            return cell.clone();
        }
        let labels: Labels = (0..asked.len()).map(|at| Arc::from(asked.at(at))).collect();
        let labels = if series.len() < MAX_SERIES { labels } else { overflow(spec.labels, labels) };
        let fresh = || match spec.kind {
            Kind::Counter => Cell::Counter(Counter::default()),
            Kind::Gauge => Cell::Gauge(Gauge::default()),
            Kind::Histogram(bounds) => Cell::Histogram(Histogram::new(bounds)),
        };
        series.entry(labels).or_insert_with(fresh).clone()
    }

    /// Every series of the family. A new series waits only as long as the copy takes.
    pub(super) fn all(&self, family: Family) -> Vec<(Labels, Cell)> {
        self.families[family as usize].lock().iter().map(|(labels, cell)| (labels.clone(), cell.clone())).collect()
    }

    /// Forgets the series whose `label` has a value that is gone.
    pub(super) fn forget(&self, label: &str, gone: &impl Fn(&str) -> bool) {
        for (spec, series) in FAMILIES.iter().zip(&self.families) {
            if let Some(at) = spec.labels.iter().position(|name| *name == label) {
                series.lock().retain(|labels, _| !gone(&labels[at]));
            }
        }
    }
}

/// Replaces the open labels, or all labels if none is open.
fn overflow(names: &[&str], labels: Labels) -> Labels {
    let any_open = names.iter().any(|name| is_open(name));
    let replace = |(name, value): (&&str, Arc<str>)| if !any_open || is_open(name) { Arc::from(OTHER) } else { value };
    names.iter().zip(labels).map(replace).collect()
}

fn cut(value: &str) -> &str {
    if value.len() <= MAX_VALUE { value } else { &value[..value.floor_char_boundary(MAX_VALUE)] }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn a_lookup_has_the_hash_of_what_was_kept() {
        let hasher = foldhash::fast::RandomState::default();
        for values in [&["a", "bc"][..], &["ab", "c"], &["", ""], &["a"], &[]] {
            let kept: Labels = values.iter().map(|value| Arc::from(*value)).collect();
            let asked = Asked { values, labels: values.len() };
            assert_eq!(hasher.hash_one(&asked as &dyn Tuple), hasher.hash_one(&kept), "{values:?}");
        }
    }

    #[test]
    fn a_series_is_found_again_without_missing_or_long_values() {
        let shard = Shard::new();
        let long = "x".repeat(MAX_VALUE + 1);
        for values in [&["openai", "gpt"][..], &["openai", &long], &["open", "aigpt"]] {
            for _ in 0..2 {
                let Cell::Counter(counter) = shard.cell(Family::UnpricedCalls, values) else { panic!("no counter") };
                counter.inc();
            }
        }
        let all = shard.all(Family::UnpricedCalls);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|(_, cell)| matches!(cell, Cell::Counter(counter) if counter.get() == 2)));
    }
}
