//! `store`: the shared state of cache and limits.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::Deserialize;

use super::ledger::{self, Ledger};
use crate::config::{
    RedisTls, Secret,
    build::{Build, quarter, whole},
    error::quoted,
    scalars::{Bytes, Count, RedisUrl, W, Word},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, COUNT_OF, SECRET, SIZE_OF, TIME_OF},
    },
};

/// Shared state.
#[derive(Debug, Clone)]
pub struct Store {
    /// Bytes of the memory tier.
    pub memory: u64,
    /// Redis, shared by replicas.
    pub redis: Option<Redis>,
    /// Secret of cache and limit keys. `None`: a process makes one, with Redis once per namespace.
    pub secret: Option<Secret>,
    /// Most limit keys held in memory.
    pub max_keys: usize,
    /// The directory of files that outlive the process. `None`: the ledger is in memory.
    pub state_dir: Option<PathBuf>,
    /// The terms of the ledger.
    pub ledger: Ledger,
}

impl Store {
    /// The key of the hashes that name cache entries and limit counters. Every process with the same secret has the same key, with
    /// Redis and without. `None`: the file has no secret; a process makes one, with Redis once per namespace.
    pub fn hash_key(&self) -> Option<[u8; 32]> {
        self.secret.as_ref().map(Secret::hash_key)
    }
}

/// Redis.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`; may hold a password.
    pub url: Secret,
    /// Prefix and hash tag of every key.
    pub namespace: Arc<str>,
    /// Deadline of every command.
    pub timeout: Duration,
    /// Whether cached answers are encrypted, with a key made from [`Store::secret`]. The secret is then written.
    pub encrypt: bool,
    /// TLS with Redis. It has an effect where the URL asks for TLS.
    pub tls: RedisTls,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    memory: Option<W<Bytes>>,
    redis: Option<W<RedisUrl>>,
    redis_tls: Option<super::tls::WrittenRedis>,
    namespace: Option<W<Namespace>>,
    secret: Option<W<Secret>>,
    timeout: W<Duration>,
    encrypt: Option<W<bool>>,
    max_keys: W<Count>,
    state_dir: Option<W<PathBuf>>,
    ledger: ledger::Written,
}

/// Namespace in Redis: stands inside `{}` in every key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Namespace(String);

impl Word for Namespace {
    fn word(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.len() <= 64 && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{} is not a namespace; use up to 64 letters, digits and - _ .", quoted(text)))
        }
    }
}

const REDIS: Kind = Kind::Scalar(&Scalar::new::<RedisUrl>("a Redis URL", Json::Text, "\"redis://redis:6379\"").secret());
const PATH_OF: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("an absolute path", Json::Text, "/var/lib/outrigger"));
const NAMESPACE: Kind = Kind::Scalar(&Scalar::new::<Namespace>("a namespace", Json::Pattern("^[A-Za-z0-9_.-]{1,64}$"), "shop"));

pub(in crate::config) static TABLE: Table = Table::new(
    "store",
    "Shared state of cache and limits.",
    &[
        Key::new("memory", SIZE_OF, "Memory of the cache.")
            .within("1MiB", "1TiB")
            .says("a quarter of the memory limit, at most 256MiB")
            .eg("64MiB"),
        Key::new("redis", REDIS, "Makes Redis the shared memory of all replicas; needs `namespace`."),
        Key::new("redis_tls", Kind::Table(&super::tls::REDIS), "Own authority and client certificate towards Redis; needs a `rediss` URL."),
        Key::new("namespace", NAMESPACE, "Prefix of every key in Redis; two apps must not share one.").eg("shop"),
        Key::new("secret", SECRET, "Keys the hashes of cache and limit keys; all replicas need the same.")
            .says("made at start, with Redis once per namespace"),
        Key::new("timeout", TIME_OF, "Deadline of every Redis command.").within("1ms", "10s").default("50ms"),
        Key::new("encrypt", BOOL, "Cached answers are encrypted in Redis, with a key made from `secret`."),
        Key::new("max_keys", COUNT_OF, "Most limit counters held in memory; the least used go first.").within("1k", "100M").default("100k"),
        Key::new(
            "state_dir",
            PATH_OF,
            "Directory of the ledger's file, and of who pays for background work: the books survive a restart. Without it they are in memory, and a restart begins at zero.",
        )
        .eg("/var/lib/outrigger"),
        Key::new("ledger", Kind::Table(&ledger::TABLE), "The books of model calls.").default("{}").eg("{interval: 1s, callers: 10k}"),
    ],
)
.needs(&[("namespace", "redis"), ("encrypt", "redis"), ("redis_tls", "redis")]);

pub(in crate::config) fn build(build: &mut Build<'_>, written: Written, memory_limit: Option<u64>) -> Store {
    let timeout = written.timeout.0;
    let namespace = written.namespace.map(|word| word.0.0);
    let encrypt = written.encrypt.is_some_and(|on| on.0);
    if encrypt && written.secret.is_none() && !build.seen.broken("store.secret") {
        let message = "`encrypt` needs `secret`: without one the key would lie in Redis beside what it encrypts";
        build.fault(build.seen.key("store.encrypt"), message);
    }
    let tls = written.redis_tls.map(|tls| super::tls::redis(build, tls, written.redis.as_ref())).unwrap_or_default();
    let redis = match (written.redis, namespace) {
        (Some(url), Some(namespace)) => Some(Redis { url: url.0.0, namespace: Arc::from(namespace.as_str()), timeout, encrypt, tls }),
        (Some(_), None) => {
            if !build.seen.broken("store.namespace") {
                let message = "`redis` needs `namespace`, such as `namespace: shop`: without one, two apps on the same Redis would share counters and answers";
                build.fault(build.seen.key("store.redis"), message);
            }
            None
        }
        (None, _) => None,
    };
    let state_dir = written.state_dir.map(|dir| dir.0);
    if let Some(dir) = state_dir.as_ref().filter(|dir| !dir.is_absolute()) {
        let message = format!("`{}` is not an absolute path: where it is would depend on where the proxy was started", dir.display());
        build.fault(build.seen.value("store.state_dir"), message);
    }
    let ledger = ledger::build(build, &written.ledger, state_dir.as_deref(), redis.is_some());
    Store {
        memory: written.memory.map_or_else(|| quarter(memory_limit), |size| size.0.0),
        redis,
        secret: written.secret.map(|secret| secret.0),
        max_keys: whole(&written.max_keys),
        state_dir,
        ledger,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{IN, good, says};

    #[test]
    fn redis_needs_a_namespace_and_what_belongs_to_it_needs_redis() {
        assert!(good(&format!("{IN}store: {{redis: \"redis://r:6379\", namespace: shop}}\n")).store.redis.is_some());
        says(&format!("{IN}store: {{redis: \"redis://r:6379\"}}\n"), "2:9", "needs `namespace`");
        says(&format!("{IN}store: {{redis: \"redis://r:6379\", namespace: a b}}\n"), "2:45", "is not a namespace");
        says(&format!("{IN}store: {{namespace: shop}}\n"), "2:9", "no meaning without `redis`");
    }
}
