//! The composition root: a configuration becomes running workers; reload; shutdown. The only file that knows everything.
//!
//! Workers are threads with a runtime each. The main thread runs what is beside the way of a request: admin door, store,
//! exports, signals, reload.

mod cache;
pub mod certificates;
mod memory;
mod operator;
mod store;
mod warm;

use std::{
    io,
    net::TcpListener,
    num::NonZeroUsize,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::Uri;
pub use operator::Desk;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
};

use crate::{
    admin::{self, Listeners, Settings},
    arrival::Door,
    clock::{Chance, Clock, Instant},
    config::{
        Config,
        error::Mistakes,
        read::{self, Fingerprint, Overrides, Reading},
    },
    listen::{self, Census, Listener, Terminator},
    policy::limits::Limits,
    proxy::{Proxy, Shared, live::Live},
    store::redis::Redis,
    telemetry::{Telemetry, metrics::Family},
    upstream::{Dialer, Resolver},
};

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None`: defaults and `overrides` alone.
    pub file: Option<PathBuf>,
    /// What the command line says.
    pub overrides: Overrides,
}

/// How far the process is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Not ready any more, still accepting; answers close their connections.
    Leaving,
    /// The inbound door is shut; what is in flight is finished. Outbound stays open for the app.
    Closing,
    /// Everything ends now.
    Over,
}

/// Why the process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has mistakes.
    #[error("{0}")]
    Mistakes(#[from] Mistakes),
    /// A policy or target cannot be applied.
    #[error("{0}")]
    Invalid(String),
    /// A listener cannot be bound.
    #[error("cannot listen on {address} ({door}): {error}")]
    Bind {
        /// Where.
        address: std::net::SocketAddr,
        /// For what.
        door: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A thread or runtime cannot be made.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// A running process.
pub struct App {
    source: Source,
    live: Arc<ArcSwap<Live>>,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// What the process says about itself.
    pub telemetry: Arc<Telemetry>,
    /// The store that replicas share, where one is configured.
    pub redis: Option<Arc<Redis>>,
    /// What the two doors speak with clients.
    terminators: [Arc<Terminator>; 2],
    phase: watch::Sender<Phase>,
    /// Requests that fill the cache, to the first worker.
    warm: mpsc::Sender<Uri>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    alive: Arc<AtomicUsize>,
    /// What the file said when it was last looked at, or why it was refused.
    loaded: Mutex<Result<Fingerprint, String>>,
    /// Where the doors listen, as bound (port 0 resolved).
    pub addresses: Addresses,
    _admin: admin::Server,
}

/// Where the doors listen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addresses {
    /// In front of the app.
    pub inbound: Option<std::net::SocketAddr>,
    /// In front of the providers.
    pub outbound: Option<std::net::SocketAddr>,
    /// Health, metrics, API.
    pub admin: Option<std::net::SocketAddr>,
    /// Probes.
    pub probes: Option<std::net::SocketAddr>,
}

impl App {
    /// Starts the workers. Must be called on the side runtime.
    pub async fn start(source: Source, reading: Reading) -> Result<Arc<Self>, StartError> {
        let clock = Clock::system();
        let config = Arc::new(reading.config);
        let telemetry = Telemetry::start(&config.telemetry, clock, &tokio::runtime::Handle::current())
            .map_err(|e| StartError::Invalid(e.to_string()))?;
        let redis = store::start(&config.store).map_err(StartError::Invalid)?;
        let shared = Arc::new(Shared {
            limits: Limits::new(config.store.max_keys, &clock, redis.clone()),
            cache: store::cache(&config.store, redis.as_ref(), clock).map_err(StartError::Invalid)?,
            ..Shared::new(&config, clock)
        });
        let live = Live::new(1, config.clone(), &shared).map_err(StartError::Invalid)?;
        let live = Arc::new(ArcSwap::from_pointee(live));
        let terminators: [Arc<Terminator>; 2] = Default::default();
        certificates::prepare(&config).map_err(StartError::Invalid)?.apply(&terminators);
        certificates::say(&config, clock.wall());
        let count = config.workers.unwrap_or_else(cpu_quota).get();
        let inbound = config.inbound.as_ref().map(|door| bind_all(door.listen, "inbound", count)).transpose()?;
        let outbound = config.outbound.as_ref().map(|door| bind_all(door.listen, "outbound", count)).transpose()?;
        let address = |sockets: &Option<Vec<TcpListener>>| sockets.as_ref().and_then(|s| s.first()).and_then(|s| s.local_addr().ok());
        let listeners = Listeners::bind(&config.admin).await.map_err(|error| StartError::Invalid(error.to_string()))?;
        let mut addresses = Addresses { inbound: address(&inbound), outbound: address(&outbound), ..Addresses::default() };
        let phase = watch::Sender::new(Phase::Running);
        let alive = Arc::new(AtomicUsize::new(count));
        let (mut inbound, mut outbound) = (inbound.unwrap_or_default(), outbound.unwrap_or_default());
        let census: [Arc<Census>; 2] = Default::default();
        let mut workers = Vec::new();
        let (warm, wanted) = mpsc::channel(warm::WAITING);
        let mut wanted = Some(wanted);
        let resolver = Resolver::default();
        for at in 0..count {
            let part = WorkerPart {
                shared: shared.clone(),
                live: live.clone(),
                telemetry: telemetry.clone(),
                inbound: inbound.pop(),
                outbound: outbound.pop(),
                census: census.clone(),
                terminators: terminators.clone(),
                phase: phase.subscribe(),
                alive: alive.clone(),
                resolver: resolver.clone(),
                wanted: wanted.take(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            workers.push(std::thread::Builder::new().name(format!("worker-{at}")).spawn(move || {
                LocalSet::new().block_on(&runtime, part.run());
            })?);
        }
        let app = Arc::new_cyclic(|app| {
            let server = admin::serve(listeners, Settings::new(&config.admin), Desk::new(app.clone()));
            (addresses.admin, addresses.probes) = (server.admin(), server.probes());
            Self {
                source,
                live,
                shared,
                telemetry,
                redis,
                terminators,
                phase,
                warm,
                workers: Mutex::new(workers),
                alive,
                loaded: Mutex::new(Ok(reading.fingerprint)),
                addresses,
                _admin: server,
            }
        });
        operator::register(&app);
        store::say(app.redis.as_ref());
        memory::watch(&app.shared.pressure);
        Ok(app)
    }

    /// Serves until a signal ends it, then drains. Returns when everything is over.
    pub async fn serve(self: Arc<Self>) -> io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut poll = tokio::time::interval(RELOAD_POLL);
        let mut leaving = self.phase.subscribe();
        loop {
            tokio::select! {
                _ = hangup.recv() => self.reload_and_say(true),
                _ = poll.tick() => {
                    self.reload_and_say(false);
                    let now = Instant::now();
                    let join_within = self.live.load().config.outbound.as_ref().map_or(Duration::ZERO, |outbound| outbound.join_within);
                    self.shared.causes.sweep(join_within, now);
                    self.shared.limits.sweep(now);
                    self.shared.cache.sweep(self.shared.clock.wall());
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = leaving.wait_for(|phase| *phase > Phase::Running) => break,
            }
        }
        self.drain().await;
        Ok(())
    }

    /// Readiness has failed or will now: accept for `drain_delay`, finish what is in flight, flush, by the deadline.
    pub async fn drain(&self) {
        let shutdown = self.live.load().config.shutdown.clone();
        let deadline = Instant::now() + shutdown.deadline;
        tracing::info!(delay = ?shutdown.drain_delay, deadline = ?shutdown.deadline, "draining");
        self.advance(Phase::Leaving);
        tokio::time::sleep(shutdown.drain_delay.min(shutdown.deadline)).await;
        self.advance(Phase::Closing);
        let flush = FLUSH.min(shutdown.deadline / 4);
        while self.alive.load(Ordering::Acquire) > 0 && Instant::now() + flush < deadline {
            tokio::time::sleep(POLL).await;
        }
        let cut = self.alive.load(Ordering::Acquire) > 0;
        self.advance(Phase::Over);
        if cut {
            tracing::warn!("the deadline ended exchanges that were still in flight");
        }
        while self.alive.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(200));
        self.telemetry.clone().shutdown(left).await;
    }

    /// Begins to leave, as if a signal had come.
    pub fn leave(&self) {
        self.advance(Phase::Leaving);
    }

    /// Whether new work should come here.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The configuration at work.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Reads the file again; all or nothing. `Ok(false)`: its content has not changed.
    ///
    /// # Errors
    /// Every mistake of the file, or what needs a restart. The running configuration is kept.
    pub fn reload(&self, forced: bool) -> Result<bool, String> {
        let Some(file) = &self.source.file else { return Ok(false) };
        let reading =
            read::load_reading(file, &self.source.overrides, &|name| std::env::var(name).ok()).map_err(|mistakes| mistakes.to_string());
        // A file that was refused is said once, not at every look.
        let seen = reading.as_ref().map(|reading| reading.fingerprint).map_err(Clone::clone);
        let mut loaded = self.loaded.lock();
        if !forced && *loaded == seen {
            return Ok(false);
        }
        *loaded = seen;
        drop(loaded);
        let config = reading?.config;
        let running = self.live.load();
        if let Some(what) = needs_restart(&running.config, &config) {
            return Err(format!("{what} cannot change while running; it needs a restart"));
        }
        let config = Arc::new(config);
        let fresh = Live::new(running.generation + 1, config.clone(), &self.shared)?;
        let doors = certificates::prepare(&config)?;
        // The last thing that can be refused, and it changes nothing then.
        if let (Some(redis), Some(meant)) = (&self.redis, &config.store.redis) {
            redis.renew_tls(&meant.tls).map_err(|why| format!("store.redis_tls: {why}"))?;
        }
        doors.apply(&self.terminators);
        certificates::say(&config, self.shared.clock.wall());
        self.live.store(Arc::new(fresh));
        Ok(true)
    }

    fn reload_and_say(&self, forced: bool) {
        let counter = |outcome| self.telemetry.metrics().shared().counter(Family::ConfigReloads, &[outcome]);
        match self.reload(forced) {
            Ok(false) => {}
            Ok(true) => {
                counter("applied").inc();
                tracing::info!("the configuration was reloaded");
            }
            Err(why) => {
                counter("refused").inc();
                tracing::error!("the configuration was not reloaded, the running one is kept:\n{why}");
            }
        }
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            *phase = (*phase).max(to);
            later
        });
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.advance(Phase::Over);
        for worker in self.workers.lock().drain(..) {
            let _ = worker.join();
        }
    }
}

/// What a worker's thread takes with it.
struct WorkerPart {
    shared: Arc<Shared>,
    live: Arc<ArcSwap<Live>>,
    telemetry: Arc<Telemetry>,
    inbound: Option<TcpListener>,
    outbound: Option<TcpListener>,
    census: [Arc<Census>; 2],
    terminators: [Arc<Terminator>; 2],
    phase: watch::Receiver<Phase>,
    alive: Arc<AtomicUsize>,
    resolver: Resolver,
    /// The first worker fills the cache.
    wanted: Option<mpsc::Receiver<Uri>>,
}

impl WorkerPart {
    async fn run(mut self) {
        let mine = self.telemetry.worker();
        let dialer = Rc::new(Dialer::new(self.resolver.clone(), mine.metrics.clone()));
        let proxy = Proxy::new(self.shared.clone(), self.live.clone(), mine, Chance::system(), dialer);
        tokio::task::spawn_local(proxy.clone().sweep());
        let start = |door: Door, socket: Option<TcpListener>| {
            let at = door as usize;
            let listener = Listener::new(door, proxy.clone(), self.census[at].clone(), self.terminators[at].clone());
            socket.and_then(|socket| start_listener(listener, socket))
        };
        let inbound = start(Door::Inbound, self.inbound.take());
        let outbound = start(Door::Outbound, self.outbound.take());
        if let (Some(wanted), Some(_)) = (self.wanted.take(), &inbound) {
            tokio::task::spawn_local(warm::until(self.phase.clone(), proxy.clone(), wanted));
        }
        if self.phase.wait_for(|phase| *phase >= Phase::Leaving).await.is_ok() {
            if let Some((listener, _)) = &inbound {
                listener.leave();
            }
            let _ = self.phase.wait_for(|phase| *phase >= Phase::Closing).await;
            if let Some((listener, accepting)) = &inbound {
                accepting.abort();
                listener.finish();
            }
            // The app may still call providers while it finishes: outbound closes last.
            self.until_empty(inbound.as_ref().map(|(listener, _)| listener)).await;
            if let Some((listener, accepting)) = &outbound {
                accepting.abort();
                listener.finish();
            }
            self.until_empty(outbound.as_ref().map(|(listener, _)| listener)).await;
        }
        drop(proxy);
        self.alive.fetch_sub(1, Ordering::Release);
    }

    async fn until_empty(&self, listener: Option<&Rc<Listener>>) {
        while listener.is_some_and(|listener| listener.open() > 0) && *self.phase.borrow() < Phase::Over {
            tokio::time::sleep(POLL).await;
        }
    }
}

fn start_listener(listener: Rc<Listener>, socket: TcpListener) -> Option<(Rc<Listener>, tokio::task::JoinHandle<()>)> {
    let socket = tokio::net::TcpListener::from_std(socket).inspect_err(|error| tracing::error!(%error, "cannot listen")).ok()?;
    tokio::task::spawn_local(listener.clone().sweep());
    let accepting = tokio::task::spawn_local(listener.clone().accept(socket));
    Some((listener, accepting))
}

fn bind_all(address: std::net::SocketAddr, door: &'static str, count: usize) -> Result<Vec<TcpListener>, StartError> {
    // Workers share the port; another process must not, or it would silently get a share of the connections.
    if address.port() != 0 {
        TcpListener::bind(address).map_err(|error| StartError::Bind { address, door, error })?;
    }
    let mut address = address;
    let mut sockets = Vec::new();
    for _ in 0..count {
        let socket = listen::bind(address).map_err(|error| StartError::Bind { address, door, error })?;
        // Port 0 is chosen once, by the first.
        address = socket.local_addr()?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// What a running process cannot change.
fn needs_restart(running: &Config, wanted: &Config) -> Option<&'static str> {
    let listen = |config: &Config| (config.inbound.as_ref().map(|d| d.listen), config.outbound.as_ref().map(|d| d.listen));
    let admin = |config: &Config| (config.admin.listen, config.admin.probes, config.admin.socket.clone());
    if listen(running) != listen(wanted) || admin(running) != admin(wanted) {
        return Some("a listener");
    }
    if running.admin.token != wanted.admin.token {
        return Some("the admin token");
    }
    if format!("{:?}", running.telemetry) != format!("{:?}", wanted.telemetry) {
        return Some("telemetry");
    }
    let budgets = |config: &Config| (config.memory_limit, config.body_budget, config.store.max_keys);
    if budgets(running) != budgets(wanted) {
        return Some("a budget of the process");
    }
    if running.workers != wanted.workers {
        return Some("the number of workers");
    }
    let redis = |config: &Config| config.store.redis.as_ref().map(|r| (r.url.clone(), r.namespace.clone(), r.timeout, r.encrypt));
    if redis(running) != redis(wanted) || running.store.memory != wanted.store.memory || running.store.secret != wanted.store.secret {
        return Some("the store");
    }
    None
}

/// Whole processors that the cgroup allows, at least one.
fn cpu_quota() -> NonZeroUsize {
    // The standard library reads the cgroup's quota, rounded down.
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

const RELOAD_POLL: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
/// Kept of the deadline for exporting what is left.
const FLUSH: Duration = Duration::from_secs(2);
