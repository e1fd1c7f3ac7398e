//! How budgets stand: their use, and the time at which they will be spent.
//!
//! Watched keys are keys of limits with `alert_at`: the only key of a limit without `key`, and keys that have reached a share. With
//! Redis the use is the part that this process has seen.

use std::{sync::Arc, time::Duration};

use super::{Limits, rule::Rule, table::Key};
use crate::{arrival::Door, clock::Instant, config::Unit};

/// Most keys of a limit that are watched.
const WATCHED: usize = 256;

/// A key of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The limit's door.
    pub door: Door,
    /// The limit's name.
    pub limit: Arc<str>,
    /// The owner of the counter in words; `None`: everybody.
    pub who: Option<Arc<str>>,
    /// The unit.
    pub unit: Unit,
    /// The amount used in the present window.
    pub used: u64,
    /// The amount per window.
    pub amount: u64,
    /// The window.
    pub window: Duration,
    /// The time until the budget is spent if the use goes on as lately; `None`: the budget will not be spent in this window.
    pub spent_in: Option<Duration>,
}

impl Budget {
    /// Those with the largest share used first.
    pub(super) fn sort(budgets: &mut [Self]) {
        let share = |budget: &Self| u128::from(budget.used) * 1_000_000 / u128::from(budget.amount.max(1));
        budgets.sort_by(|a, b| share(b).cmp(&share(a)).then_with(|| (&a.limit, &a.who).cmp(&(&b.limit, &b.who))));
    }
}

/// A key that is watched.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) key: Key,
    pub(super) level: u16,
    pub(super) who: Option<Arc<str>>,
}

/// The keys of a limit that are watched. The oldest makes room for a new one.
#[derive(Debug, Default)]
pub(super) struct Board(Vec<Watched>);

impl Board {
    /// Watches a key from now on.
    pub(super) fn add(&mut self, watched: Watched) {
        self.0.retain(|other| other.key != watched.key);
        if self.0.len() >= WATCHED {
            self.0.remove(0);
        }
        self.0.push(watched);
    }
}

impl Rule {
    fn budgets(&self, now: u64) -> Vec<Budget> {
        let board = self.tally.alerted.board().0.clone();
        let of = |watched: Watched| {
            self.level(watched.level).amount?;
            let amount = self.amount(watched.level, watched.key);
            let (used, spent_in) = self.inner.table.outlook(now, watched.key, &self.meter, amount);
            (used > 0).then_some(Budget {
                door: self.door,
                limit: self.name.clone(),
                who: watched.who,
                unit: self.unit,
                used,
                amount,
                window: self.window,
                spent_in: spent_in.map(Duration::from_micros),
            })
        };
        board.into_iter().filter_map(of).collect()
    }
}

impl Limits {
    /// The budgets that are watched, those with the largest share used first.
    pub fn budgets(&self, now: Instant) -> Vec<Budget> {
        let now = self.inner.micros(now);
        let rules = self.rules();
        let mut budgets: Vec<Budget> = rules.iter().filter(|rule| rule.warns).flat_map(|rule| rule.budgets(now)).collect();
        Budget::sort(&mut budgets);
        budgets
    }

    /// The newest limit of each name.
    pub(super) fn rules(&self) -> Vec<Arc<Rule>> {
        self.tallies.lock().values().filter_map(|tally| tally.rule.lock().upgrade()).collect()
    }
}
