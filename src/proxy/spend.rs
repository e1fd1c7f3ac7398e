//! What each caller has spent since the start, in memory. The ledger knows more, and for longer.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::telemetry::metrics;

/// Dollars by caller since the start, in memory. The number of callers is bounded.
#[derive(Debug, Default)]
pub struct Spend(Mutex<HashMap<Box<str>, Spent>>);

/// The usage of one caller's calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Model calls.
    pub calls: u64,
    /// Nano-dollars.
    pub nano_usd: u64,
    /// Tokens of all classes.
    pub tokens: u64,
}

const MAX_CALLERS: usize = 10_000;

impl Spend {
    pub(super) fn add(&self, caller: &str, nano_usd: u64, tokens: u64) {
        let mut callers = self.0.lock();
        let name = if callers.len() < MAX_CALLERS || callers.contains_key(caller) { caller } else { metrics::OTHER };
        let spent = callers.entry(name.into()).or_default();
        spent.calls += 1;
        spent.nano_usd = spent.nano_usd.saturating_add(nano_usd);
        spent.tokens = spent.tokens.saturating_add(tokens);
    }

    /// Forgets a caller's name; what it spent counts as [`metrics::OTHER`]. `false`: there is no such caller.
    pub fn erase(&self, caller: &str) -> bool {
        let mut callers = self.0.lock();
        let Some(spent) = callers.remove(caller) else { return false };
        let other = callers.entry(metrics::OTHER.into()).or_default();
        other.calls += spent.calls;
        other.nano_usd = other.nano_usd.saturating_add(spent.nano_usd);
        other.tokens = other.tokens.saturating_add(spent.tokens);
        true
    }

    /// All callers, the largest spenders first.
    pub fn by_caller(&self) -> Vec<(Box<str>, Spent)> {
        let mut all: Vec<_> = self.0.lock().iter().map(|(caller, spent)| (caller.clone(), *spent)).collect();
        all.sort_by(|a, b| b.1.nano_usd.cmp(&a.1.nano_usd).then_with(|| a.0.cmp(&b.0)));
        all
    }
}
