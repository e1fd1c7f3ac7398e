//! Warnings that a limit is being used up: `alert_at`, once per key, share and window.
//!
//! Requests are counted as they come; tokens and dollars when their true cost is known, with what other calls in flight
//! have reserved. Nothing is refused or delayed here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Rule, table::Key};
use crate::config;

/// Most keys and shares whose warnings are remembered; beyond it nothing more is warned of until some are a window old.
const REMEMBERED: usize = 4_096;

/// A share of a limit.
#[derive(Debug)]
pub(super) struct Share {
    /// As written.
    at: Arc<str>,
    /// The use that reaches it.
    amount: u64,
}

impl Share {
    /// The shares of a limit, ascending.
    pub(super) fn of(limit: &config::Limit) -> Box<[Self]> {
        let share = |at: &f64| Self { at: at.to_string().into(), amount: ((limit.amount as f64 * at).ceil() as u64).max(1) };
        limit.alert_at.iter().map(share).collect()
    }
}

/// What was warned of.
#[derive(Debug, Default)]
pub(super) struct Alerted(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Until when it is not said again, in microseconds.
    told: HashMap<(Key, Arc<str>), u64>,
    counts: BTreeMap<Arc<str>, u64>,
}

impl Alerted {
    /// How often each share was reached, by keys and windows.
    pub(super) fn counts(&self) -> Vec<(Arc<str>, u64)> {
        self.0.lock().counts.iter().map(|(at, count)| (at.clone(), *count)).collect()
    }
}

/// The use of `key` is `used` now and was `before` a moment ago: warns of the shares between.
pub(super) fn watch(rule: &Rule, key: Key, before: u64, used: u64, now: u64) {
    for share in rule.shares.iter().filter(|share| before < share.amount && share.amount <= used) {
        let mut memory = rule.tally.alerted.0.lock();
        if memory.told.len() >= REMEMBERED {
            memory.told.retain(|_, until| *until > now);
        }
        let known = memory.told.get(&(key, share.at.clone())).is_some_and(|until| *until > now);
        if known || memory.told.len() >= REMEMBERED {
            continue;
        }
        let window = u64::try_from(rule.window.as_micros()).unwrap_or(u64::MAX);
        memory.told.insert((key, share.at.clone()), now.saturating_add(window));
        *memory.counts.entry(share.at.clone()).or_default() += 1;
        drop(memory);
        tracing::warn!(
            limit = &*rule.name,
            door = rule.door.as_str(),
            unit = rule.unit.as_str(),
            key = format_args!("{:016x}", key[0]),
            share = &*share.at,
            used,
            amount = rule.amount,
            "a limit is used up to the share that alert_at names"
        );
    }
}
