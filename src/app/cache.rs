//! The operator's view of the cache: its contents, its savings, its evictions; and purges.

use std::sync::{Arc, Weak};

use serde_json::{Map, Value, json};

use super::App;
use crate::{
    admin::{self, Refused},
    clock::Clock,
    config::error::{Mistake, did_you_mean},
    policy::cache::{
        Cache, Purge,
        top::{By, Row, Saved},
    },
    store::memory::{Reason, Which},
    telemetry::metrics::{Family, Reading},
};

/// Registers the cache's numbers, read at every scrape.
pub fn register(app: &Arc<App>) {
    let metrics = app.telemetry.metrics();
    let asks = |family, read: fn(&App) -> Vec<Reading>| {
        let app = Arc::downgrade(app);
        metrics.register(family, Box::new(move || app.upgrade().map(|app| read(&app)).unwrap_or_default()));
    };
    asks(Family::CacheBytes, |app| {
        let memory = app.shared.cache.stats().memory;
        vec![(Vec::new(), (memory.bytes + memory.in_flight) as f64)]
    });
    asks(Family::CacheEntries, |app| vec![(Vec::new(), app.shared.cache.stats().memory.entries as f64)]);
    asks(Family::CacheBudgetBytes, |app| vec![(Vec::new(), app.shared.cache.stats().memory.budget as f64)]);
    asks(Family::CacheEvictions, |app| {
        let evicted = app.shared.cache.stats().memory.evicted;
        Reason::ALL.iter().zip(evicted).map(|((_, word), (count, _))| (vec![(*word).into()], count as f64)).collect()
    });
    let weak = Arc::downgrade(app);
    let ages = move || {
        let Some(app) = weak.upgrade() else { return Vec::new() };
        let memory = app.shared.cache.stats().memory;
        let all = Reason::ALL.iter().zip(memory.evicted).zip(memory.ages);
        all.map(|(((_, word), (_, sum)), counts)| (vec![(*word).into()], counts.to_vec(), sum.as_secs_f64())).collect()
    };
    metrics.register_histogram(Family::CacheEvictionAge, Box::new(ages));
}

/// For `/api/cache/top`: at most fifty keys, those that saved most by `by` first.
pub fn top(app: &App, by: &str) -> Value {
    let (by, word) = By::ALL.into_iter().find(|(_, word)| *word == by).unwrap_or(By::ALL[0]);
    let row = |row: &Row| {
        let Saved { requests, millis, tokens, nano_usd } = row.saved;
        let seconds = millis as f64 / 1e3;
        json!({
            "what": &*row.what, "route": &*row.route, "key": row.key.to_string(),
            "saved": {"requests": requests, "seconds": seconds, "tokens": tokens, "usd": usd(nano_usd)},
        })
    };
    let rows: Vec<Value> = app.shared.cache.top().rows(by, TOP).iter().map(row).collect();
    json!({"by": word, "keys": rows})
}

/// Most keys that are shown.
const TOP: usize = 50;

fn usd(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

/// For `/api/cache`.
pub fn view(app: &App) -> Value {
    let stats = app.shared.cache.stats();
    let evicted = |((_, word), (count, ages)): (&(Reason, &str), (u64, std::time::Duration))| {
        let mean_age = (count > 0).then(|| ages.as_secs_f64() / count as f64);
        ((*word).to_owned(), json!({"count": count, "mean_age_seconds": mean_age}))
    };
    let evictions: Map<String, Value> = Reason::ALL.iter().zip(stats.memory.evicted).map(evicted).collect();
    let [hit, stale, coalesced, revalidated] = stats.answers;
    json!({
        "memory": {
            "entries": stats.memory.entries, "bytes": stats.memory.bytes, "in_flight_bytes": stats.memory.in_flight,
            "budget_bytes": stats.memory.budget, "tag_pairs": stats.memory.tag_pairs, "stored": stats.memory.stored,
        },
        "evictions": evictions,
        "answers": {"hit": hit, "stale": stale, "coalesced": coalesced, "revalidated": revalidated},
        "fetches_in_flight": stats.flights,
        "observed_keys": stats.observed_keys,
        "saved": {"tokens": stats.saved_tokens, "usd": usd(stats.saved_nano_usd)},
    })
}

/// Drops entries, or marks them stale.
///
/// # Errors
/// The key is not valid, or there is no such route and nothing of it.
pub fn purge(app: &App, which: admin::Purge, soft: bool) -> Result<Value, Refused> {
    let unknown = match &which {
        admin::Purge::Route(route) => no_such_route(app, route),
        _ => None,
    };
    let which = match which {
        admin::Purge::Tag(tag) => Which::Tag(tag.into()),
        admin::Purge::Key(key) => {
            let wrong = |why| Refused::Invalid(vec![Mistake::of_value(Some(&key), format!("`{key}`: {why}"))]);
            Which::Key(key.parse().map_err(wrong)?)
        }
        admin::Purge::Route(route) => Which::Route(route.into()),
        admin::Purge::Prefix(prefix) => Which::Prefix(prefix),
        admin::Purge::All(_) => Which::All,
    };
    let purged = app.shared.cache.purge(&Purge { which, soft }, app.shared.clock.moment());
    match unknown.filter(|_| purged == 0) {
        Some(why) => Err(Refused::NotFound(why)),
        None => Ok(json!({"purged": purged, "soft": soft})),
    }
}

/// What to say of a route that the configuration does not have. Entries of one that a reload took away may be there all the same.
fn no_such_route(app: &App, name: &str) -> Option<String> {
    let live = app.live();
    let routes = [&live.inbound, &live.outbound].into_iter().flatten().flat_map(|door| &door.routes);
    let cached: Vec<&str> = routes.clone().filter(|route| route.policies.cache.is_some()).map(|route| &*route.name).collect();
    if routes.clone().any(|route| *route.name == *name) {
        return None;
    }
    let all = if cached.is_empty() { "no route has a cache".to_owned() } else { format!("those with a cache: {}", cached.join(", ")) };
    Some(format!("there is no route `{name}`{}; {all}", did_you_mean(name, cached.iter().copied())))
}

/// Removes from memory the entries that purges have left there, on a thread that may block. Ends after the cache does.
pub async fn finish_purges(cache: Weak<Cache>, clock: Clock) {
    while let Some(alive) = cache.upgrade() {
        let waits = alive.until_purges_wait();
        if tokio::time::timeout(LOOK, waits).await.is_ok() {
            // The panic hook reports a panic; lookups pass over entries that it has left.
            let _ = tokio::task::spawn_blocking(move || alive.finish_purges(clock.moment())).await;
        }
    }
}

/// How long the cache is held while no purge waits.
const LOOK: std::time::Duration = std::time::Duration::from_secs(10);
