//! A world: a scripted app, scripted providers, the proxy between them and its clients, in one process and in memory.
//!
//! Everything runs on one thread whose clock is paused: it jumps to the next timer when nobody has anything to do. So a
//! test may let an hour pass, none sleeps, and none has a port. What is not here is the process around the proxy
//! (threads, signals, sockets); that is `tests/binary.rs`.

mod client;
mod origin;
mod provider;

use std::{
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use outrigger::{
    arrival::Door,
    clock::{Chance, Clock},
    config::{
        Config,
        read::{self, Overrides},
    },
    listen::Listener,
    policy::breaker::State,
    proxy::{Proxy, Shared, live::Live},
    resolve::Resolver,
    telemetry::{Telemetry, failures::Failures},
};
use parking_lot::Mutex;
use tokio::task::LocalSet;

pub use client::{Answer, Client, Opened, json, upload};
pub use origin::{Origin, Reply, Seen};
pub use provider::{Dials, Failing, Provider};

/// The wall time at which every world begins; a whole minute and hour.
pub const BEGIN: u64 = 1_800_000_000;

/// Runs a test in its world's runtime.
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test)
}

/// Lets this much time pass; everything that is due in it happens.
pub async fn pass(time: Duration) {
    // Not a wait: the clock is paused, and jumps.
    tokio::time::timeout(time, std::future::pending::<()>()).await.expect_err("time passes");
}

/// Lets everybody who can go on without a timer do so.
pub async fn settle() {
    pass(Duration::from_millis(1)).await;
}

/// Seconds, as they are written most.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A small chat request; Anthropic reads it too.
pub fn chat(model: &str) -> serde_json::Value {
    serde_json::json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "say something"}]})
}

/// The proxy and all its neighbours.
pub struct World {
    /// The app behind the inbound door.
    pub app: Origin,
    /// How connections to targets are made, or fail.
    pub dials: Dials,
    /// What all workers would share.
    pub shared: Arc<Shared>,
    /// The proxy itself.
    pub proxy: Rc<Proxy>,
    live: Arc<ArcSwap<Live>>,
    telemetry: Arc<Telemetry>,
    log: Lines,
    inbound: Rc<Listener>,
    outbound: Rc<Listener>,
}

impl World {
    /// The world of this proxy.yaml. Providers are mocks, one for each that is configured; one whose name begins with `scripted` is
    /// the app, which answers as it is told.
    pub async fn new(yaml: &str) -> Self {
        let config = Arc::new(parse(yaml).unwrap_or_else(|mistakes| panic!("{mistakes}")));
        let clock = Clock::fixed(SystemTime::UNIX_EPOCH + secs(BEGIN));
        let shared = Arc::new(Shared::new(&config, clock));
        let log = Lines::default();
        let side = tokio::runtime::Handle::current();
        let telemetry =
            Telemetry::start_into(&config.telemetry, clock, &side, &Resolver::default(), Box::new(log.clone())).expect("telemetry starts");
        let live = Live::new(1, config.clone(), &shared).unwrap_or_else(|error| panic!("{error}"));
        let live = Arc::new(ArcSwap::from_pointee(live));
        let app = Origin::default();
        let names = config.outbound.iter().flat_map(|outbound| &outbound.providers).flat_map(|provider| match &provider.members {
            None => vec![provider.name.to_string()],
            Some(members) => members.list.iter().map(|member| format!("{}:{}", provider.name, member.name)).collect(),
        });
        let names = names.filter(|name| !name.starts_with("scripted"));
        let dials = Dials::new(app.clone(), names);
        let proxy = Proxy::new(shared.clone(), live.clone(), telemetry.worker(), Chance::seeded(7), Rc::new(dials.clone()));
        let inbound = Listener::new(Door::Inbound, proxy.clone(), Default::default(), Default::default());
        let outbound = Listener::new(Door::Outbound, proxy.clone(), Default::default(), Default::default());
        tokio::task::spawn_local(proxy.clone().sweep());
        tokio::task::spawn_local(inbound.clone().sweep());
        tokio::task::spawn_local(outbound.clone().sweep());
        Self { app, dials, shared, proxy, live, telemetry, log, inbound, outbound }
    }

    /// A client from elsewhere, at the inbound door.
    pub fn client(&self) -> Client {
        Client::new(self.inbound.clone(), "203.0.113.7")
    }

    /// A client whose connections another worker serves.
    pub fn client_elsewhere(&self) -> Client {
        self.elsewhere(Door::Inbound, "203.0.113.8")
    }

    /// The app, where another worker serves its connections.
    pub fn caller_elsewhere(&self) -> Client {
        self.elsewhere(Door::Outbound, "127.0.0.1")
    }

    fn elsewhere(&self, door: Door, peer: &str) -> Client {
        let proxy =
            Proxy::new(self.shared.clone(), self.live.clone(), self.telemetry.worker(), Chance::seeded(8), Rc::new(self.dials.clone()));
        tokio::task::spawn_local(proxy.clone().sweep());
        Client::new(Listener::new(door, proxy, Default::default(), Default::default()), peer)
    }

    /// The app as a client of its providers, at the outbound door.
    pub fn caller(&self) -> Client {
        Client::new(self.outbound.clone(), "127.0.0.1")
    }

    /// One member of the app, which answers as it is told.
    pub fn member(&self, name: &str) -> Origin {
        self.dials.member(&format!("app:{name}"))
    }

    /// A provider's mock.
    pub fn provider(&self, name: &str) -> Provider {
        self.dials.provider(name)
    }

    /// Reads another proxy.yaml, as the process does: all or nothing.
    ///
    /// # Errors
    /// The file's mistakes; then the running configuration is kept.
    pub fn reload(&self, yaml: &str) -> Result<(), String> {
        let fresh = self.parse_next(yaml)?;
        self.put_to_work(fresh);
        Ok(())
    }

    /// The next generation, from another proxy.yaml; nothing changes yet.
    ///
    /// # Errors
    /// The file's mistakes.
    pub fn parse_next(&self, yaml: &str) -> Result<Arc<Live>, String> {
        Ok(Arc::new(Live::new(self.live.load().generation + 1, Arc::new(parse(yaml)?), &self.shared)?))
    }

    /// Makes a generation the newest.
    pub fn put_to_work(&self, fresh: Arc<Live>) {
        Live::put_to_work(fresh, &self.live, &self.shared, self.telemetry.metrics());
    }

    /// The last failures.
    pub fn failures(&self) -> &Arc<Failures> {
        self.telemetry.failures()
    }

    /// Everything that Prometheus would scrape.
    pub fn metrics(&self) -> String {
        self.telemetry.metrics().render()
    }

    /// The sum of a family's series that have all these labels. 0 where there is none.
    pub fn count(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &str| labels.iter().all(|(name, value)| series.contains(&format!("{name}=\"{value}\"")));
        let text = self.metrics();
        let rows = text.lines().filter_map(|line| line.rsplit_once(' '));
        rows.filter(|(series, _)| series.split('{').next() == Some(family) && has(series))
            .map(|(_, n)| n.parse::<f64>().expect("a number"))
            .sum()
    }

    /// The state of a breaker; `None`: there is none of that name.
    pub fn breaker(&self, name: &str) -> Option<State> {
        self.shared.breakers.find(name).map(|breaker| breaker.state())
    }

    /// (admitted, refused, observed) of a limit.
    pub fn limit(&self, name: &str) -> (u64, u64, u64) {
        let counts = self.shared.limits.counts();
        let count = counts.iter().find(|count| &*count.name == name).unwrap_or_else(|| panic!("no limit {name}"));
        (count.admitted, count.refused, count.observed)
    }

    /// The access log so far, as JSON; nothing is written after it.
    pub async fn log(&self) -> Vec<serde_json::Value> {
        settle().await;
        self.telemetry.clone().shutdown(secs(3600)).await;
        let bytes = self.log.0.lock();
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).expect("JSON")).collect()
    }
}

/// A proxy.yaml without any environment.
fn parse(yaml: &str) -> Result<Config, String> {
    let overrides = Overrides { app: None, memory_limit: Some(512 << 20) };
    read::parse(yaml, "proxy.yaml", &overrides, &|_| None).map_err(|mistakes| mistakes.to_string())
}

/// Where the access log goes.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
