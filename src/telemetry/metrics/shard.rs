//! One worker's series: full label tuples, compared whole. Two series are never taken for one.
//!
//! The table is our own: the prometheus crate's `*Vec` hashes label values one after another without a separator and never
//! compares them. It makes one series of `["ab", "c"]` and `["a", "bc"]`.

use std::sync::Arc;

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
        let labels: Labels = (0..spec.labels.len()).map(|at| Arc::from(cut(values.get(at).copied().unwrap_or_default()))).collect();
        let mut series = self.families[family as usize].lock();
        if let Some(cell) = series.get(&labels) {
            return cell.clone();
        }
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
