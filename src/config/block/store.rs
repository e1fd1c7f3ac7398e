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
    written::Items,
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
    /// Keys of cached answers in Redis and of files in `state_dir`: the first seals, all open.
    pub encryption_keys: Vec<Secret>,
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
    #[serde(default)]
    encryption_keys: Items<W<Secret>>,
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
        Key::new(
            "encryption_keys",
            Kind::OneOrMany(&SECRET),
            "Encrypts cached answers in Redis, and files in `state_dir` but those of the ledger and of the audit log. The first key seals, every key \
             opens: to change it, write the new one first and leave the old one behind it for a while.",
        )
        .eg("[\"${OUTRIGGER_KEY:-0123456789abcdef}\"]"),
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
    let encryption_keys = keys(build, written.encryption_keys);
    if !encryption_keys.is_empty() && redis.is_none() && state_dir.is_none() {
        let message = "`encryption_keys` has nothing to encrypt: without `redis` and `state_dir` all is in memory";
        build.note(build.seen.key("store.encryption_keys"), message);
    }
    let ledger = ledger::build(build, &written.ledger, state_dir.as_deref(), redis.is_some());
    Store {
        memory: written.memory.map_or_else(|| quarter(memory_limit), |size| size.0.0),
        redis,
        secret: written.secret.map(|secret| secret.0),
        encryption_keys,
        max_keys: whole(&written.max_keys),
        state_dir,
        ledger,
    }
}

/// Fewest characters of a key: it must not be guessed.
const SHORTEST: usize = 16;

/// The keys as meant. An empty one is an absent one: so the old key can leave through its variable.
fn keys(build: &mut Build<'_>, written: Items<W<Secret>>) -> Vec<Secret> {
    let mut keys: Vec<Secret> = Vec::new();
    for (nth, key) in written.into_iter().enumerate().filter_map(|(nth, key)| Some((nth, key?.0))) {
        // The only item of a list may stand without one.
        let nth = format!("store.encryption_keys[{nth}]");
        let at = build.seen.value(if build.seen.written(&nth) { &nth } else { "store.encryption_keys" });
        if key.reveal().is_empty() {
            continue;
        }
        if key.reveal().len() < SHORTEST {
            let message = format!("the key has fewer than {SHORTEST} characters: it could be guessed (`openssl rand -hex 32` makes one)");
            build.fault(at, message);
        }
        if keys.contains(&key) {
            build.fault(at, "this key is written twice");
        }
        keys.push(key);
    }
    keys
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{IN, good, says};

    #[test]
    fn keys_are_long_different_and_of_use() {
        let store = |terms: &str| format!("{IN}store: {{state_dir: /tmp/x, encryption_keys: {terms}}}\n");
        let two = good(&store("[0123456789abcdef, fedcba9876543210, '${EMPTY}']")).store.encryption_keys;
        assert!(two.len() == 2 && !format!("{two:?}").contains("0123456789"));
        assert_eq!(good(&store("0123456789abcdef")).store.encryption_keys.len(), 1);
        says(&store("[short]"), "2:46", "fewer than 16 characters");
        says(&store("[0123456789abcdef, 0123456789abcdef]"), "2:64", "written twice");
    }

    #[test]
    fn redis_needs_a_namespace_and_what_belongs_to_it_needs_redis() {
        assert!(good(&format!("{IN}store: {{redis: \"redis://r:6379\", namespace: shop}}\n")).store.redis.is_some());
        says(&format!("{IN}store: {{redis: \"redis://r:6379\"}}\n"), "2:9", "needs `namespace`");
        says(&format!("{IN}store: {{redis: \"redis://r:6379\", namespace: a b}}\n"), "2:45", "is not a namespace");
        says(&format!("{IN}store: {{namespace: shop}}\n"), "2:9", "no meaning without `redis`");
    }
}
