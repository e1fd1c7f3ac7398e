//! The composition root: turns a configuration into running workers; reload; shutdown. Only this file knows every part.
//!
//! Workers are threads with a runtime each. The main thread runs the work outside the path of requests: admin door, store,
//! exports, signals, reload.

mod alerts;
mod approvals;
mod audit;
mod auth;
mod bans;
mod breakers;
mod cache;
pub mod certificates;
mod edit;
mod failures;
mod leave;
mod ledger;
mod limits;
mod live;
mod memory;
mod monitors;
mod operator;
mod reload;
mod sentry;
mod store;
mod targets;
pub mod terms;
mod warm;
mod worker;
mod works;

use std::{
    io,
    net::TcpListener,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::Uri;
pub use operator::Desk;
use parking_lot::Mutex;
use reload::{LastReload, Reloading};
use tokio::sync::{mpsc, watch};
use worker::WorkerPart;

use crate::{
    admin::{self, Listeners, Settings},
    clock::Clock,
    config::{
        error::Mistakes,
        read::{Overrides, Reading},
    },
    fetch::Fetch,
    listen::{self, Census, Terminator},
    policy::{bans::Bans, limits::Limits},
    proxy::{Shared, book::Book, files::Files, live::Live},
    resolve::Resolver,
    status,
    store::{ledger::Keeper, redis::Redis, seal::AtRest, versions::Versions},
    telemetry::Telemetry,
};

/// The source of the configuration.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None`: defaults and `overrides` alone.
    pub file: Option<PathBuf>,
    /// The command line's settings.
    pub overrides: Overrides,
}

/// The stage of the process's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Not ready any more, still accepting; answers close their connections.
    Leaving,
    /// The inbound door is shut; requests in flight are finished. Outbound stays open for the app.
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
        /// The door.
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
    /// The state that all workers share.
    pub shared: Arc<Shared>,
    /// Metrics, logs and traces of the process.
    pub telemetry: Arc<Telemetry>,
    /// The store that replicas share, if one is configured.
    pub redis: Option<Arc<Redis>>,
    /// The TLS settings of the two doors.
    terminators: [Arc<Terminator>; 2],
    phase: watch::Sender<Phase>,
    /// Sends requests that fill the cache to the first worker.
    warm: mpsc::Sender<Uri>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    alive: Arc<AtomicUsize>,
    /// The generation that workers prepare now.
    next: watch::Sender<Option<Arc<Live>>>,
    reloading: tokio::sync::Mutex<Reloading>,
    last_reload: Mutex<LastReload>,
    /// Earlier versions of the file; one change at a time holds them.
    versions: Arc<tokio::sync::Mutex<Versions>>,
    /// The bound addresses of the doors (port 0 resolved).
    pub addresses: Addresses,
    /// The admin door; `None` at the end of the process.
    admin: Mutex<Option<admin::Server>>,
    /// Alerts and their delivery.
    alerts: alerts::Watch,
    /// Error reports.
    reports: sentry::Reports,
    /// What is checked, and what was found out.
    monitors: monitors::Monitors,
    /// The ledger's thread; `None` at the end of the process.
    keeper: Mutex<Option<Keeper>>,
    /// The audit log's thread; `None`: there is no log, or the process ends.
    auditor: Mutex<Option<JoinHandle<()>>>,
    /// Keeps who pays for works that go on.
    works: Arc<works::WorksKeeper>,
}

/// The addresses of the doors.
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
    /// The status page.
    pub status: Option<std::net::SocketAddr>,
}

impl App {
    /// Starts the workers. Must be called on the side runtime.
    pub async fn start(source: Source, reading: Reading) -> Result<Arc<Self>, StartError> {
        let clock = Clock::system();
        let config = Arc::new(reading.config);
        memory::raise_descriptors(&config);
        let resolver = Resolver::default();
        let telemetry = Telemetry::start(&config.telemetry, clock, &tokio::runtime::Handle::current(), &resolver)
            .map_err(|e| StartError::Invalid(e.to_string()))?;
        let redis = store::start(&config.store).map_err(StartError::Invalid)?;
        let limits = Limits::new(config.store.max_keys, &clock, redis.clone());
        let cache = store::cache(&config.store, redis.as_ref(), clock).map_err(StartError::Invalid)?;
        let base = Shared::over(&config, clock, limits, cache);
        let shared = Arc::new(Shared {
            bans: Bans::new(clock, redis.clone(), base.audit.clone()),
            works: Book::new(redis.clone()),
            files: Files::new(redis.clone()),
            ..base
        });
        ledger::share(&shared.ledger, &config.store, redis.as_ref());
        let keeper = shared.ledger.keep()?;
        let auditor = audit::keep(&shared.audit, &telemetry, &config, source.file.as_deref())?;
        let at_rest = AtRest::new(&config.store.encryption_keys).map_err(StartError::Invalid)?;
        let works = works::WorksKeeper::start(config.store.state_dir.as_deref(), at_rest.clone(), &shared, &telemetry);
        works.stand_before(&shared.ledger);
        let live = Live::new(1, config.clone(), &shared).map_err(StartError::Invalid)?;
        live.announce(telemetry.metrics().shared());
        let live = Arc::new(ArcSwap::from_pointee(live));
        let terminators: [Arc<Terminator>; 2] = Default::default();
        certificates::prepare(&config).map_err(StartError::Invalid)?.apply(&terminators);
        certificates::say(&config, clock.wall());
        let count = config.workers.unwrap_or_else(cpu_quota).get();
        let inbound = config.inbound.as_ref().map(|door| bind_all(door.listen, "inbound", count)).transpose()?;
        let outbound = config.outbound.as_ref().map(|door| bind_all(door.listen, "outbound", count)).transpose()?;
        let address = |sockets: &Option<Vec<TcpListener>>| sockets.as_ref().and_then(|s| s.first()).and_then(|s| s.local_addr().ok());
        let listeners = Listeners::bind(&config.admin).await.map_err(|error| StartError::Invalid(error.to_string()))?;
        if let Some(why) = &listeners.no_socket {
            tracing::warn!("{why}; `outrigger drain`, `reload` and the like will not find this proxy");
        }
        let mut addresses = Addresses { inbound: address(&inbound), outbound: address(&outbound), ..Addresses::default() };
        let phase = watch::Sender::new(Phase::Running);
        let alive = Arc::new(AtomicUsize::new(count));
        let (mut inbound, mut outbound) = (inbound.unwrap_or_default(), outbound.unwrap_or_default());
        let census: [Arc<Census>; 2] = Default::default();
        let (next, (ready, prepared)) = (watch::Sender::new(None), mpsc::channel(2 * count));
        let fetch = Fetch::new(resolver.clone());
        // Before the first request can fail.
        let reports = sentry::Reports::new(&fetch, config.sentry.as_ref());
        let mut workers = Vec::new();
        let (warm, wanted) = mpsc::channel(warm::WAITING);
        let mut wanted = Some(wanted);
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
                resolver: resolver.clone(),
                next: next.subscribe(),
                prepared: ready.clone(),
                wanted: wanted.take(),
            };
            workers.push(part.start(format!("worker-{at}"), alive.clone())?);
        }
        auth::employ(&shared, &fetch, &telemetry);
        let watched = alerts::Watch::new(&config, &fetch, clock, &at_rest);
        let checked = monitors::Monitors::new(&config, shared.status.clone(), &at_rest);
        if let Some(listen) = config.status_page.as_ref().and_then(|page| page.listen) {
            let listener = status::bind(listen).await;
            let listener = listener.map_err(|error| StartError::Bind { address: listen, door: "status_page", error })?;
            addresses.status = listener.local_addr().ok();
            tokio::spawn(status::serve(listener, checked.site.clone()));
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
                next,
                reloading: tokio::sync::Mutex::new(Reloading { watched: reading.watched, prepared, old: Vec::new() }),
                last_reload: Mutex::new(LastReload::started(clock.wall())),
                versions: Arc::new(tokio::sync::Mutex::new(Versions::new(config.store.state_dir.as_deref(), at_rest.clone()))),
                addresses,
                admin: Mutex::new(Some(server)),
                alerts: watched,
                reports,
                monitors: checked,
                keeper: Mutex::new(Some(keeper)),
                works,
                auditor: Mutex::new(auditor),
            }
        });
        operator::register(&app);
        alerts::start(&app, &fetch);
        monitors::start(&app, &fetch);
        sentry::start(&app);
        approvals::start(&app, &fetch);
        store::say(&app);
        ledger::say(&app);
        tokio::spawn(cache::finish_purges(Arc::downgrade(&app.shared.cache), clock));
        memory::watch(&app.shared.pressure);
        Ok(app)
    }

    /// Begins to leave, as if a signal had come.
    pub fn leave(&self) {
        self.advance(Phase::Leaving);
    }

    /// The stage: whether new work should come here.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The configuration at work.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
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
        let workers: Vec<JoinHandle<()>> = self.workers.lock().drain(..).collect();
        // A worker that hangs does not hold up the end.
        for _ in 0..JOIN_LOOKS {
            if workers.iter().all(JoinHandle::is_finished) {
                break;
            }
            std::thread::sleep(JOIN_LOOK);
        }
        workers.into_iter().filter(JoinHandle::is_finished).for_each(|worker| drop(worker.join()));
    }
}

fn bind_all(address: std::net::SocketAddr, door: &'static str, count: usize) -> Result<Vec<TcpListener>, StartError> {
    listen::bind::all(address, count).map_err(|error| StartError::Bind { address, door, error })
}

/// Whole processors that the cgroup allows, at least one.
fn cpu_quota() -> NonZeroUsize {
    // The standard library reads the cgroup's quota, rounded down.
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// How many times an ending process looks whether its workers have ended.
const JOIN_LOOKS: u32 = 200;
const JOIN_LOOK: Duration = Duration::from_millis(5);
