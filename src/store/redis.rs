//! Redis behind a gate: few verbs, each with a deadline, at most one try, and no queue that grows.
//!
//! One client serves the process. It lives on a thread of its own (`driver`), and workers await its answers: a call costs 2 to
//! 3 microseconds more than with a client per worker, and there is one connection, one state and one bound on memory per
//! sidecar.
//!
//! fred keeps unsent commands, and its watchdog does not fire under load, so a gate stands in front: after [`MISSES`] commands
//! in a row without an answer, further ones fail at once with [`StoreError::Away`]. A probe a second opens the gate again. A
//! client whose probes fail for ten seconds is dropped with everything it holds, and replaced. At most a few commands per
//! second of outage are held.
//!
//! A command without an answer may have run: see [`StoreError::Silent`].

pub mod bans;
mod driver;
mod eviction;
pub mod journal;
mod ledger;
pub mod scripts;
mod subscribe;
mod tls;
mod trouble;
mod url;
mod works;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    interfaces::{ClientLike, EventInterface, KeysInterface, PubsubInterface},
    types::{
        Builder, Expiration, SetOptions, Value,
        config::{Config, Options, ReconnectPolicy, Server},
    },
};
use tokio::{runtime::Handle, sync::watch, time::timeout};

pub use scripts::Script;
pub use subscribe::{Notice, Notices};
pub use works::WorkEnded;

use super::StoreError;
use crate::{
    clock,
    config::{self, Secret},
};
use driver::Driver;
use tls::Tls;

/// Commands in a row without an answer that shut the gate.
pub const MISSES: u32 = 5;
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Failed probes in a row after which the client is replaced.
const PROBES_TO_REPLACE: u32 = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The kind of a command; label of `outrigger_store_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Eval,
    Get,
    Set,
    Delete,
    Publish,
    Subscribe,
    Probe,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] = [Self::Eval, Self::Get, Self::Set, Self::Delete, Self::Publish, Self::Subscribe, Self::Probe];

    /// The word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eval => "eval",
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Probe => "probe",
        }
    }
}

/// A Redis that may be away. Shared by all workers.
pub struct Redis {
    namespace: Arc<str>,
    timeout: Duration,
    fred: Config,
    /// `None` if the URL does not ask for TLS.
    tls: Option<Arc<Tls>>,
    trouble: ArcSwapOption<String>,
    evicts: ArcSwapOption<String>,
    /// The thread of the connection.
    driver: Driver,
    /// The runtime for work behind requests.
    behind: Handle,
    client: ArcSwapOption<WithOptions<Client>>,
    up: watch::Sender<bool>,
    open: AtomicBool,
    /// The first attempt to connect is under way.
    joining: AtomicBool,
    misses: AtomicU32,
    errors: [AtomicU64; Operation::ALL.len()],
    not_sent: AtomicU64,
    secret: ArcSwapOption<[u8; 32]>,
    /// The secret comes from the configuration; the one in Redis does not matter.
    secret_is_given: bool,
}

impl Redis {
    /// Starts to connect, on a thread of its own, and returns at once. Redis may be away and join later. The connection ends
    /// when the last `Arc` is dropped. `behind` runs the work behind requests. The error says what is wrong with the URL.
    pub fn start(config: &config::Redis, secret: Option<&Secret>, behind: &Handle) -> Result<Arc<Self>, String> {
        let tls = url::asks_for_tls(config.url.reveal()).then(|| Tls::new(&config.tls)).transpose()?;
        let this = Arc::new(Self {
            namespace: config.namespace.clone(),
            timeout: config.timeout,
            fred: url::parse(config.url.reveal(), tls.as_ref())?,
            tls,
            trouble: ArcSwapOption::empty(),
            evicts: ArcSwapOption::empty(),
            driver: Driver::start().map_err(|error| format!("no thread for it: {error}"))?,
            behind: behind.clone(),
            client: ArcSwapOption::empty(),
            up: watch::Sender::new(false),
            open: AtomicBool::new(false),
            joining: AtomicBool::new(true),
            misses: AtomicU32::new(0),
            errors: [const { AtomicU64::new(0) }; Operation::ALL.len()],
            not_sent: AtomicU64::new(0),
            secret: ArcSwapOption::from(secret.map(|secret| Arc::new(secret.hash_key()))),
            secret_is_given: secret.is_some(),
        });
        this.driver.handle().spawn(keep(Arc::downgrade(&this)));
        Ok(this)
    }

    /// The runtime for work behind a request. The connection has another, which nothing else may use.
    pub fn handle(&self) -> &Handle {
        &self.behind
    }

    /// A key of this deployment.
    pub fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.namespace)
    }

    /// A key on the same cluster node as all others made here: one script may use several of them.
    pub fn tagged(&self, rest: &str) -> String {
        format!("{{{}}}:{rest}", self.namespace)
    }

    /// The secret of keyed hashes, the same for all replicas: configured, or drawn once per namespace. `None` until Redis has given it.
    pub fn secret(&self) -> Option<Arc<[u8; 32]>> {
        self.secret.load_full()
    }

    /// Whether the gate is open: commands are sent.
    pub fn is_up(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Whether Redis is up or may be in a moment: the first attempt to connect has not ended.
    pub fn may_be_up(&self) -> bool {
        self.is_up() || self.joining.load(Relaxed)
    }

    /// Whether Redis is up. Waits for the end of the first attempt to connect: two seconds and twice the deadline at most.
    pub async fn joined(&self) -> bool {
        let mut ended = self.up.subscribe();
        while self.joining.load(Relaxed) {
            if ended.changed().await.is_err() {
                break;
            }
        }
        self.is_up()
    }

    /// Tells when [`Self::is_up`] changes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Why Redis does not answer and what would help, as far as known; `None` while it answers.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    /// Other authorities and another client certificate, for connections from now on.
    ///
    /// # Errors
    /// They cannot be used; the old ones are kept.
    pub fn renew_tls(&self, tls: &config::RedisTls) -> Result<(), String> {
        self.tls.as_ref().map_or(Ok(()), |held| held.renew(tls))
    }

    /// Commands that failed, by operation, since start.
    pub fn errors(&self) -> [(&'static str, u64); Operation::ALL.len()] {
        Operation::ALL.map(|operation| (operation.as_str(), self.errors[operation as usize].load(Relaxed)))
    }

    /// Commands that were not sent: Redis is away.
    pub fn not_sent(&self) -> u64 {
        self.not_sent.load(Relaxed)
    }

    /// Runs a script that answers with whole numbers. All `keys` must be [`tagged`](Self::tagged).
    pub async fn eval(&self, script: &Script, keys: &[String], args: &[i64]) -> Result<Vec<i64>, StoreError> {
        let client = self.client()?;
        let work = scripts::send(&client, script, keys, args.iter().map(|arg| Value::Integer(*arg)));
        self.finish(Operation::Eval, work).await
    }

    /// The value under `key`.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let client = self.client()?;
        self.finish(Operation::Get, client.get(key)).await
    }

    /// Stores a value for `ttl` (at least a millisecond).
    pub async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        let client = self.client()?;
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1);
        self.finish(Operation::Set, client.set(key, value, Some(Expiration::PX(ttl)), None, false)).await
    }

    /// Stores a value for `ttl` (at least a millisecond) unless there is one. Gives whether it was stored.
    pub async fn set_new(&self, key: &str, value: Bytes, ttl: Duration) -> Result<bool, StoreError> {
        let client = self.client()?;
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1);
        let set = client.set::<Option<String>, _, _>(key, value, Some(Expiration::PX(ttl)), Some(SetOptions::NX), false);
        Ok(self.finish(Operation::Set, set).await?.is_some())
    }

    /// Removes keys, one command each (they may lie on different nodes); gives the number of keys that existed.
    pub async fn delete(&self, keys: &[String]) -> Result<u64, StoreError> {
        let client = self.client()?;
        let mut gone = 0;
        for key in keys {
            gone += self.finish(Operation::Delete, client.del::<u64, _>(key.as_str())).await?;
        }
        Ok(gone)
    }

    /// Sends a message to all replicas that listen on `channel`.
    pub async fn publish(&self, channel: &str, message: Bytes) -> Result<(), StoreError> {
        let client = self.client()?;
        let channel = self.key(channel);
        self.finish(Operation::Publish, client.publish::<i64, _, _>(channel, message)).await.map(|_| ())
    }

    /// The messages that replicas publish on `channel`, from now on. The subscription outlives every outage; a [`Notice::Gap`]
    /// marks a place where messages may be missing.
    pub fn subscribe(self: &Arc<Self>, channel: &str) -> Result<Notices, StoreError> {
        subscribe::open(self, self.key(channel))
    }

    /// Asks whether Redis answers, even with the gate shut. Needs only the right to read one key.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let client = self.client.load_full().ok_or(StoreError::Away)?;
        let key = self.tagged("secret");
        let held: Option<Bytes> = self.finish(Operation::Probe, client.get(key.as_str())).await?;
        if self.secret_is_given {
            return Ok(());
        }
        let held = match held {
            Some(held) => held,
            None => {
                // This process's secret, if it has one (Redis was emptied), otherwise a new one; the first replica to write wins.
                let ours = self.secret().map_or_else(clock::secret_bytes, |ours| *ours);
                let offer = Bytes::copy_from_slice(&ours);
                let _: Option<Bytes> =
                    self.finish(Operation::Probe, client.set(key.as_str(), offer, None, Some(SetOptions::NX), false)).await?;
                let held: Option<Bytes> = self.finish(Operation::Probe, client.get(key.as_str())).await?;
                held.unwrap_or_default()
            }
        };
        let Ok(held) = <[u8; 32]>::try_from(&*held) else {
            return Err(StoreError::Refused(format!("`{key}` does not hold a secret of 32 bytes; delete it")));
        };
        if self.secret.load().as_deref() != Some(&held) {
            self.secret.store(Some(Arc::new(held)));
        }
        Ok(())
    }

    fn client(&self) -> Result<Arc<WithOptions<Client>>, StoreError> {
        let client = if self.is_up() { self.client.load_full() } else { None };
        client.ok_or_else(|| {
            self.not_sent.fetch_add(1, Relaxed);
            StoreError::Away
        })
    }

    /// Waits for an answer until the deadline, and counts answers and misses for the gate.
    fn finish<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, fred::error::Error>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        self.finish_within(self.timeout, operation, work)
    }

    fn finish_within<T>(
        &self,
        deadline: Duration,
        operation: Operation,
        work: impl Future<Output = Result<T, fred::error::Error>>,
    ) -> impl Future<Output = Result<T, StoreError>> {
        // Boxed at once: a command of the library is 20 KB, and every future that may send one would contain it.
        let work = Box::pin(work);
        async move {
            let error = match timeout(deadline, work).await {
                Ok(Ok(value)) => {
                    if self.misses.load(Relaxed) != 0 {
                        self.misses.store(0, Relaxed);
                    }
                    return Ok(value);
                }
                Ok(Err(error)) if answered(&error) => StoreError::Refused(error.details().to_owned()),
                Ok(Err(error)) => StoreError::Silent(error.details().to_owned()),
                Err(_) => StoreError::Silent(format!("not within {deadline:?}")),
            };
            self.errors[operation as usize].fetch_add(1, Relaxed);
            if matches!(error, StoreError::Silent(_)) && self.misses.fetch_add(1, Relaxed) + 1 >= MISSES {
                self.turn(false);
            }
            Err(error)
        }
    }

    fn blame(&self, why: String) {
        if self.trouble.load().as_deref() != Some(&why) {
            self.trouble.store(Some(Arc::new(why)));
        }
    }

    fn turn(&self, up: bool) {
        if up && self.trouble.load().is_some() {
            self.trouble.store(None);
        }
        if self.open.swap(up, Relaxed) != up {
            self.up.send_replace(up);
        }
    }

    /// A client with every bound set.
    fn build(&self) -> Result<Client, fred::error::Error> {
        self.builder().build()
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::from_config(self.fred.clone());
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = self.timeout;
            performance.broadcast_channel_capacity = 1_024;
        });
        builder.with_connection_config(|connection| {
            connection.connection_timeout = CONNECT_TIMEOUT;
            connection.internal_command_timeout = CONNECT_TIMEOUT;
            connection.max_command_attempts = 1; // a script that is replayed counts twice
            connection.max_command_buffer_len = 10_000;
            connection.unresponsive.max_timeout = Some(Duration::from_secs(2));
            connection.unresponsive.interval = Duration::from_millis(500);
            connection.reconnect_on_auth_error = true;
        });
        builder.set_policy(ReconnectPolicy::new_exponential(0, 100, 1_000, 2));
        builder
    }

    fn options(&self) -> Options {
        Options { max_attempts: Some(1), timeout: Some(self.timeout), fail_fast: true, ..Options::default() }
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("namespace", &self.namespace).field("up", &self.is_up()).finish_non_exhaustive()
    }
}

/// Connects, probes, and replaces a client that does not come back, as long as the store is held.
async fn keep(store: Weak<Redis>) {
    let mut failed = 0;
    let mut client: Option<(Client, BroadcastReceiver)> = None;
    loop {
        let Some(this) = store.upgrade() else { break };
        if client.is_none()
            && let Ok(new) = this.build()
        {
            let errors = new.error_rx();
            new.connect();
            this.client.store(Some(Arc::new(new.with_options(&this.options()))));
            failed = 0;
            // The first connection is worth a short wait; a store that is away must not hold up the start.
            let _ = timeout(CONNECT_TIMEOUT, new.wait_for_connect()).await;
            client = Some((new, errors));
        }
        let probed = this.ping().await;
        let said = client.as_mut().and_then(|(_, errors)| newest(errors));
        match &probed {
            Ok(()) => {
                failed = 0;
                this.misses.store(0, Relaxed);
                if let (false, Some(client)) = (this.is_up(), this.client.load_full()) {
                    this.learn_eviction(&client).await;
                }
                this.turn(true);
            }
            Err(StoreError::Refused(why)) => {
                // Redis answers, but refuses (no permission, still loading): commands would fail too.
                failed = 0;
                this.turn(false);
                this.blame(trouble::advice(why));
            }
            Err(_) => failed += 1,
        }
        if this.joining.swap(false, Relaxed) {
            // Whoever waits for the end of the first attempt looks again.
            this.up.send_replace(this.is_up());
        }
        if let (Some(why), Err(StoreError::Silent(_))) = (said, &probed) {
            this.blame(trouble::advice(&why));
        }
        if failed >= PROBES_TO_REPLACE
            && let Some((old, _)) = client.take()
        {
            this.client.store(None);
            let _ = timeout(CONNECT_TIMEOUT, old.quit()).await;
            continue;
        }
        drop(this);
        tokio::time::sleep(PROBE_EVERY).await;
    }
    if let Some((client, _)) = client {
        let _ = timeout(CONNECT_TIMEOUT, client.quit()).await;
    }
}

type BroadcastReceiver = tokio::sync::broadcast::Receiver<(fred::error::Error, Option<Server>)>;

/// The newest of the unread errors.
fn newest(errors: &mut BroadcastReceiver) -> Option<String> {
    use tokio::sync::broadcast::error::TryRecvError;
    let mut last = None;
    loop {
        match errors.try_recv() {
            Ok((error, _)) => last = Some(error.details().to_owned()),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return last,
        }
    }
}

/// Whether the error is Redis's own answer, such as `ERR`, `NOSCRIPT` or `READONLY`: the connection works.
fn answered(error: &fred::error::Error) -> bool {
    use fred::error::ErrorKind::{Auth, Cluster, InvalidArgument, InvalidCommand, NotFound, Parse, Unknown};
    matches!(error.kind(), Auth | Cluster | InvalidArgument | InvalidCommand | NotFound | Parse | Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_redis_that_is_not_there_costs_nothing_and_is_told() {
        let config = config::Redis {
            url: Secret::new("redis://127.0.0.1:1"),
            namespace: "t".into(),
            timeout: Duration::from_millis(50),
            encrypt: false,
            tls: config::RedisTls::default(),
        };
        let store = Redis::start(&config, None, &Handle::current()).expect("a good URL");
        assert_eq!(store.get("x").await, Err(StoreError::Away));
        assert!(!store.is_up() && store.secret().is_none());
        assert_eq!(store.not_sent(), 1);
        assert_eq!(store.tagged("l"), "{t}:l");
    }
}
