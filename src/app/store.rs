//! The stores: memory alone, or memory with the Redis that all replicas share behind it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

use super::App;
use crate::{
    clock::Clock,
    config::{self, Config},
    policy::cache::Cache,
    store::redis::Redis,
};

/// How long Redis may be away before a warning.
const PATIENCE: Duration = Duration::from_secs(3);

/// Begins to connect, if Redis is configured. An absent Redis joins later. Work behind requests runs on the current runtime.
///
/// # Errors
/// The URL is not valid.
pub fn start(config: &config::Store) -> Result<Option<Arc<Redis>>, String> {
    let start = |redis| Redis::start(redis, config.secret.as_ref(), &Handle::current()).map_err(|why| format!("store.redis: {why}"));
    config.redis.as_ref().map(start).transpose()
}

/// The cache in memory, with Redis behind it if one is configured.
///
/// # Errors
/// Redis' client cannot be made.
pub fn cache(config: &config::Store, redis: Option<&Arc<Redis>>, clock: Clock) -> Result<Arc<Cache>, String> {
    redis.map_or_else(|| Ok(Cache::configured(config)), |redis| Cache::with_redis(config, redis, clock))
}

/// Reports once what a restart forgets; after that, when Redis goes and comes.
pub fn say(app: &Arc<App>) {
    let Some(redis) = &app.redis else {
        tracing::info!("limits, cached answers and breakers are kept in memory alone: a restart begins at zero");
        return;
    };
    tracing::info!("limits, cached answers and who pays for background work are shared through Redis; breakers are kept in memory alone");
    tokio::spawn(say_changes(redis.clone(), Arc::downgrade(app)));
}

/// What Redis forgets under its own rules although somebody pays by it; `None`: it evicts nothing, or it holds cached answers alone.
pub fn forgets(redis: &Redis, config: &Config) -> Option<String> {
    let policy = redis.evicts()?;
    let inbound = config.inbound.iter().map(|door| (&door.limits, &door.routes));
    let mut doors = inbound.chain(config.outbound.iter().map(|door| (&door.limits, &door.routes)));
    let counts = doors.any(|(limits, routes)| !limits.is_empty() || routes.iter().any(|route| !route.policies.limits.is_empty()));
    let what = match (counts, config.store.ledger.shared) {
        (true, true) => "the counters of limits and the shared ledger: limits then admit too much, and sums are lost",
        (true, false) => "the counters of limits: limits then admit too much",
        (false, true) => "the shared ledger: sums are lost",
        (false, false) => return None,
    };
    Some(format!("Redis may evict (maxmemory-policy {policy}) {what}; set `maxmemory-policy noeviction`"))
}

fn say_forgetting(redis: &Redis, app: &Weak<App>) {
    if let Some(why) = app.upgrade().and_then(|app| forgets(redis, &app.live().config)) {
        tracing::warn!("{why}");
    }
}

/// Reports each reason of an outage once.
async fn say_changes(redis: Arc<Redis>, app: Weak<App>) {
    let mut up = redis.watch();
    // The state at the start is no change, but an absent Redis should not go unnoticed.
    match timeout(PATIENCE, up.wait_for(|up| *up)).await.is_ok() {
        true => say_forgetting(&redis, &app),
        false => say_away(&redis),
    }
    let mut said = redis.trouble();
    up.mark_unchanged();
    loop {
        match timeout(PATIENCE, up.changed()).await {
            Ok(Ok(())) if *up.borrow_and_update() => {
                said = None;
                tracing::info!("Redis answers: limits, cached answers and who pays for background work are shared");
                say_forgetting(&redis, &app);
            }
            Ok(Ok(())) => say_away(&redis),
            Ok(Err(_)) => return,
            // The reason is often known only a little later.
            Err(_) => {
                let why = redis.trouble();
                if !redis.is_up() && why.is_some() && why != said {
                    say_away(&redis);
                    said = why;
                }
            }
        }
    }
}

fn say_away(redis: &Redis) {
    let why = redis.trouble().map(|why| format!(" ({why})")).unwrap_or_default();
    tracing::warn!(
        "Redis does not answer{why}: limits are counted, answers cached and background work charged by this replica alone until it does"
    );
}
