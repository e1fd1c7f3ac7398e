//! What is remembered where: memory alone, or behind it the Redis that all replicas share.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    clock::{self, Clock},
    config,
    policy::cache::Cache,
    store::redis::Redis,
};

/// The largest body that is stored is this fraction of the memory tier.
const LARGEST_SHARE: u64 = 8;

/// Begins to connect on the current runtime, where Redis is configured. One that is away joins later.
///
/// # Errors
/// The URL is none.
pub fn start(config: &config::Store) -> Result<Option<Arc<Redis>>, String> {
    let start = |redis| Redis::start(redis, config.secret.as_ref(), &Handle::current()).map_err(|why| format!("store.redis: {why}"));
    config.redis.as_ref().map(start).transpose()
}

/// The cache, in memory and behind it in Redis where there is one.
///
/// # Errors
/// Redis' client cannot be made.
pub fn cache(config: &config::Store, redis: Option<&Arc<Redis>>, clock: Clock) -> Result<Arc<Cache>, String> {
    let (memory, largest) = (config.memory, config.memory / LARGEST_SHARE);
    let secret = match &config.secret {
        Some(secret) => *blake3::hash(secret.reveal().as_bytes()).as_bytes(),
        None => clock::secret_bytes(),
    };
    let Some(redis) = redis else { return Ok(Cache::new(memory, largest, secret)) };
    let encrypt = config.redis.as_ref().is_some_and(|redis| redis.encrypt);
    Cache::with_redis(memory, largest, secret, redis, config.secret.as_ref().filter(|_| encrypt), clock)
}

/// Says once what a restart forgets, and from then on when Redis goes and comes.
pub fn say(redis: Option<&Arc<Redis>>) {
    let Some(redis) = redis else {
        tracing::info!("limits, cached answers, breakers and spend by caller are kept in memory alone: a restart begins at zero");
        return;
    };
    tracing::info!("limits and cached answers are shared through Redis; breakers and spend by caller are kept in memory alone");
    let mut up = redis.watch();
    tokio::spawn(async move {
        // The state at the start is no change, but an absent Redis should not go unnoticed.
        let patience = tokio::time::timeout(std::time::Duration::from_secs(3), up.wait_for(|up| *up));
        if patience.await.is_err() {
            tracing::warn!("Redis does not answer: limits are counted and answers cached by this replica alone until it does");
        }
        up.mark_unchanged();
        while up.changed().await.is_ok() {
            match *up.borrow_and_update() {
                true => tracing::info!("Redis answers: limits and cached answers are shared"),
                false => tracing::warn!("Redis does not answer: limits are counted and answers cached by this replica alone"),
            }
        }
    });
}
