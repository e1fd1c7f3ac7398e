//! `store.ledger`: for how long the ledger keeps what, and what a crash may cost it.

use std::{path::Path, time::Duration};

use serde::Deserialize;

use crate::config::{
    build::{Build, whole},
    scalars::{Bytes, Count, W},
    schema::{
        Key, Table,
        kinds::{BOOL, COUNT_OF, SIZE_OF, TIME_OF},
    },
};

/// The ledger's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Time between commits: the most that a crash loses.
    pub interval: Duration,
    /// For how long minutes are kept.
    pub minutes: Duration,
    /// For how long hours are kept.
    pub hours: Duration,
    /// For how long days are kept.
    pub days: Duration,
    /// Most callers that are told apart.
    pub callers: usize,
    /// Most bytes of rows.
    pub size: u64,
    /// Whether the ledger is in Redis, one book for all replicas.
    pub shared: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    interval: W<Duration>,
    minutes: W<Duration>,
    hours: W<Duration>,
    days: W<Duration>,
    callers: W<Count>,
    size: Option<W<Bytes>>,
    shared: Option<W<bool>>,
}

/// Bytes of rows in a file.
const IN_FILE: u64 = 1 << 30;
/// Bytes of rows in memory.
const IN_MEMORY: u64 = 16 << 20;

pub(in crate::config) static TABLE: Table = Table::new(
    "store.ledger",
    "The books of model calls: sums by caller, route, provider and model.",
    &[
        Key::new("interval", TIME_OF, "Time between writes; `kill -9` loses at most what was counted in it.")
            .within("100ms", "1m")
            .default("1s"),
        Key::new("minutes", TIME_OF, "For how long sums of minutes are kept.").within("1h", "90d").default("2d"),
        Key::new("hours", TIME_OF, "For how long sums of hours are kept.").within("1d", "3650d").default("60d"),
        Key::new("days", TIME_OF, "For how long sums of days (UTC) are kept.").within("1d", "36500d").default("730d"),
        Key::new("callers", COUNT_OF, "Most callers that are told apart; further ones count as `other`.").within("1", "1M").default("10k"),
        Key::new("size", SIZE_OF, "Most bytes of sums. Beyond it the oldest minutes go first, then hours, then days.")
            .within("1MiB", "1TiB")
            .says("1GiB in `state_dir` or Redis, 16MiB in memory")
            .eg("1GiB"),
        Key::new("shared", BOOL, "The ledger is in Redis: one book for all replicas. Needs `redis`.")
            .says("true with `redis` and without `state_dir`")
            .eg("false"),
    ],
);

pub(in crate::config) fn build(build: &mut Build<'_>, written: &Written, dir: Option<&Path>, has_redis: bool) -> Ledger {
    let (minutes, hours, days) = (written.minutes.0, written.hours.0, written.days.0);
    for (key, finer, coarser, what) in [("minutes", minutes, hours, "hours"), ("hours", hours, days, "days")] {
        if finer > coarser {
            let at = if build.seen.written(&format!("store.ledger.{key}")) { key } else { what };
            let message = format!("`{key}` cannot be kept for longer than `{what}`: the sums of {what} are made from them");
            build.fault(build.seen.value(&format!("store.ledger.{at}")), message);
        }
    }
    let shared = written.shared.as_ref().map_or(has_redis && dir.is_none(), |shared| shared.0);
    if shared && !has_redis {
        let message = "`shared` needs `store.redis`: the ledger of all replicas is there";
        build.fault(build.seen.value("store.ledger.shared"), message);
    }
    let usual = if dir.is_some() || shared { IN_FILE } else { IN_MEMORY };
    Ledger {
        interval: written.interval.0,
        minutes,
        hours,
        days,
        callers: whole(&written.callers),
        size: written.size.as_ref().map_or(usual, |size| size.0.0),
        shared,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{IN, good, says};

    #[test]
    fn a_ledger_is_in_memory_unless_there_is_a_directory() {
        let store = good(IN).store;
        assert_eq!((store.state_dir, store.ledger.size, store.ledger.callers), (None, 16 << 20, 10_000));
        let store = good(&format!("{IN}store: {{state_dir: /var/lib/outrigger, ledger: {{callers: 50}}}}\n")).store;
        assert!(store.state_dir.is_some() && store.ledger.size == 1 << 30 && store.ledger.callers == 50);
    }

    #[test]
    fn a_ledger_is_shared_where_there_is_a_redis_and_no_directory() {
        let redis = "redis: \"redis://r:6379\", namespace: shop";
        let shared = |store: &str| good(&format!("{IN}store: {{{store}}}\n")).store.ledger.shared;
        assert!(shared(redis) && !shared("max_keys: 5k"));
        assert!(!shared(&format!("{redis}, state_dir: /s")) && shared(&format!("{redis}, state_dir: /s, ledger: {{shared: true}}")));
        assert!(!shared(&format!("{redis}, ledger: {{shared: false}}")));
        says(&format!("{IN}store: {{ledger: {{shared: true}}}}\n"), "2:26", "`shared` needs `store.redis`");
    }

    #[test]
    fn what_is_finer_is_not_kept_for_longer() {
        says(&format!("{IN}store: {{ledger: {{minutes: 90d}}}}\n"), "2:27", "`minutes` cannot be kept for longer than `hours`");
        says(&format!("{IN}store: {{ledger: {{days: 10d}}}}\n"), "2:24", "`hours` cannot be kept for longer than `days`");
        says(&format!("{IN}store: {{state_dir: relative}}\n"), "2:20", "not an absolute path");
    }
}
