//! Warnings that a limit is being used up: `alert_at`, once per key, share and window.
//!
//! Requests are counted as they come. Tokens and dollars are counted when their true cost is known, with the reservations of
//! other calls in flight. A refusal counts as the whole limit: refused calls never bring the use to 100%, so the first of them
//! reaches the share 1. Warnings refuse and delay nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::{
    Rule,
    outlook::{Board, Watched},
    table::Key,
};
use crate::config::{Mode, human};

/// Most keys and shares whose warnings are remembered; beyond it no new warning is given until some are a window old.
const REMEMBERED: usize = 4_096;

/// A share of a limit.
#[derive(Debug)]
pub(super) struct Share {
    /// The share, as written.
    at: Arc<str>,
    /// The use that reaches it.
    amount: u64,
    /// Whether it is all of the limit: a refusal reaches it too.
    whole: bool,
}

impl Share {
    /// The shares of an amount, ascending as `alert_at` is.
    pub(super) fn of(alert_at: &[f64], amount: u64) -> Box<[Self]> {
        let share = |at: &f64| Self { at: at.to_string().into(), amount: ((amount as f64 * at).ceil() as u64).max(1), whole: *at >= 1.0 };
        alert_at.iter().map(share).collect()
    }
}

/// The warnings given.
#[derive(Debug, Default)]
pub(super) struct Alerted(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// The time until which a warning is not repeated, in microseconds.
    told: HashMap<(Key, Arc<str>), u64>,
    /// If all places are taken: the time at which the first of them is free, in microseconds.
    free_at: u64,
    counts: BTreeMap<Arc<str>, u64>,
    board: Board,
}

impl Alerted {
    /// Counts these shares from now on, beginning at 0: the series then shows its first increase.
    pub(super) fn expect(&self, shares: &[Share]) {
        let mut memory = self.0.lock();
        for share in shares {
            memory.counts.entry(share.at.clone()).or_default();
        }
    }

    /// The keys that are watched.
    pub(super) fn board(&self) -> MappedMutexGuard<'_, Board> {
        MutexGuard::map(self.0.lock(), |memory| &mut memory.board)
    }

    /// How often each share was reached, by keys and windows.
    pub(super) fn counts(&self) -> Vec<(Arc<str>, u64)> {
        self.0.lock().counts.iter().map(|(at, count)| (at.clone(), *count)).collect()
    }

    /// Whether this is the first time in the window that the key reached the share.
    fn is_new(&self, key: Key, at: &Arc<str>, window: Duration, now: u64) -> bool {
        let mut memory = self.0.lock();
        if memory.told.len() >= REMEMBERED && memory.free_at <= now {
            memory.told.retain(|_, until| *until > now);
            memory.free_at = memory.told.values().copied().min().unwrap_or_default();
        }
        let known = memory.told.get(&(key, at.clone())).is_some_and(|until| *until > now);
        if known || memory.told.len() >= REMEMBERED {
            return false;
        }
        let window = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        memory.told.insert((key, at.clone()), now.saturating_add(window));
        *memory.counts.entry(at.clone()).or_default() += 1;
        true
    }
}

/// The owner of a use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    /// The counter.
    pub(super) key: Key,
    /// The amount that holds.
    pub(super) level: u16,
    /// The owner in words.
    pub(super) who: Option<&'a str>,
}

/// Warns of the shares between `before` and `used`: the use a moment ago, and the use now.
pub(super) fn watch(rule: &Rule, whose: Whose<'_>, before: u64, used: u64, now: u64) {
    for share in rule.level(whose.level).shares.iter().filter(|share| before < share.amount && share.amount <= used) {
        warn(rule, whose, share, used, now, "");
    }
}

/// Warns of the whole limit: a request was refused, or would have been by a limit that observes.
pub(super) fn refused(rule: &Rule, whose: Whose<'_>, used: u64, now: u64) {
    let state = match rule.mode {
        Mode::Enforce => ", which refuses now",
        Mode::Observe => ", which would refuse now",
    };
    rule.level(whose.level).shares.iter().filter(|share| share.whole).for_each(|share| warn(rule, whose, share, used, now, state));
}

fn warn(rule: &Rule, whose: Whose<'_>, share: &Share, used: u64, now: u64, state: &str) {
    if !rule.tally.alerted.is_new(whose.key, &share.at, rule.window, now) {
        return;
    }
    rule.tally.alerted.board().add(Watched { key: whose.key, level: whose.level, who: whose.who.map(Arc::from) });
    let who = whose.who.unwrap_or("everybody");
    let amount = rule.level(whose.level).amount.unwrap_or(u64::MAX);
    tracing::warn!(
        limit = &*rule.name,
        door = rule.door.as_str(),
        unit = rule.unit.as_str(),
        key = format_args!("{:016x}", whose.key[0]),
        who,
        share = &*share.at,
        used,
        amount,
        "{}{}",
        sentence(rule, who, used, amount, state),
        ahead(rule, whose.key, amount, now)
    );
}

/// The text `: at this rate it is spent in 3 h 20 min`. Empty: the budget is spent already, or will not be spent in its window.
fn ahead(rule: &Rule, key: Key, amount: u64, now: u64) -> String {
    match rule.inner.table.outlook(now, key, &rule.meter, amount) {
        (used, Some(wait)) if used < amount => format!(": at this rate it is spent in {}", human::wait(Duration::from_micros(wait))),
        _ => String::new(),
    }
}

/// `caller ann has used $20.04 of $25 per day (limit budget)`
fn sentence(rule: &Rule, who: &str, used: u64, amount: u64, state: &str) -> String {
    let part = human::part_of(rule.unit, used, amount);
    format!("{who} has used {part} {} (limit {}{state})", human::per(rule.window), rule.name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http1::Fields;
    use crate::{
        arrival::Door,
        clock::Clock,
        config,
        policy::limits::{KeyFacts, Limits},
    };

    #[test]
    fn where_all_places_are_taken_a_warning_waits_for_the_first_that_is_free() {
        let (alerted, at) = (Alerted::default(), Arc::from("0.8"));
        let is_new = |key, seconds: u64| alerted.is_new([key, key], &at, Duration::from_secs(10), seconds * 1_000_000);
        for key in 0..REMEMBERED as u64 {
            assert!(is_new(key, u64::from(key > 0)));
        }
        assert!(!is_new(0, 5), "known");
        assert!((5..10).all(|seconds| !is_new(u64::MAX, seconds)), "no room");
        assert_eq!(alerted.0.lock().free_at, 10_000_000, "until then nothing is searched");
        assert!(is_new(u64::MAX, 10));
    }

    #[test]
    fn an_alert_is_a_sentence_for_people() {
        let limits = Limits::new(10, &Clock::system(), None);
        let limit = config::Limit {
            key: vec![config::KeyPart::Caller, config::KeyPart::Provider],
            alert_at: vec![1.0],
            ..config::Limit::new("budget", config::Unit::NanoUsd, 25_000_000_000, Duration::from_secs(86_400))
        };
        let set = limits.set(Door::Outbound, [&limit]);
        let facts = KeyFacts {
            client_ip: [127, 0, 0, 1].into(),
            caller: Some("ann"),
            proof: None,
            headers: &Fields::new(),
            query: None,
            trusted: false,
            route: "r",
            provider: Some("openai"),
            model: None,
        };
        let who: Option<Arc<str>> = set.keyed(&facts).keys[0].as_ref().and_then(|keys| keys.who.clone());
        assert_eq!(
            sentence(&set.0[0], &who.expect("named"), 24_940_000_000, 25_000_000_000, ", which refuses now"),
            "caller ann, provider openai has used $24.94 of $25 per day (limit budget, which refuses now)"
        );
    }
}
