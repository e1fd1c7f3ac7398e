//! Addresses of targets. A name is looked up once at a time in the whole process, on a few threads of its own, and its last
//! good answer outlives an outage of the name server.
//!
//! `getaddrinfo` blocks, and a dead name server makes it block for half a minute. On tokio's own blocking pool such lookups
//! would take the threads of everything else and hold up the end of the runtime. Here they hold up nothing: a thread that hangs
//! is left behind, and literal addresses and `localhost` need no thread.
//!
//! | age of an answer | what a new connection does |
//! |---|---|
//! | up to [`AHEAD`] | takes it |
//! | up to [`FRESH`] | takes it; a lookup begins behind it |
//! | up to [`OUTAGE`] | waits [`PATIENCE`] for a lookup, then takes it |
//! | beyond, or none | waits for a lookup (within `timeouts.connect`) |
//!
//! The system's resolver does not tell how long an answer is good for: [`FRESH`] is short. A failure counts for [`FAILED`] alone.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout_at};

use crate::clock::Instant;

/// A younger answer is taken without a lookup.
pub const AHEAD: Duration = Duration::from_secs(20);
/// An older answer is looked up again before it is taken.
pub const FRESH: Duration = Duration::from_secs(30);
/// Longest wait for a lookup when an old answer is at hand.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// An answer older than this is no longer taken: the address may be another host's by now.
pub const OUTAGE: Duration = Duration::from_secs(3600);
/// How long a failure counts.
pub const FAILED: Duration = Duration::from_secs(1);
/// How long an address that failed is tried last.
const LAME: Duration = Duration::from_secs(60);
/// Lookups under way at once; further names wait for one of them to end.
const THREADS: usize = 8;

/// Looks up the addresses of a name; blocks. One real implementation, others in tests.
pub trait Lookup: Send + Sync + 'static {
    /// The addresses of `host` in the order in which they should be tried (RFC 6724); their ports mean nothing.
    ///
    /// # Errors
    /// Why there is none.
    fn addresses(&self, host: &str) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver: hosts file, name servers, and its other sources.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Lookup for System {
    fn addresses(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        Ok((host, 0).to_socket_addrs()?.collect())
    }
}

/// The process's resolver. Clones share its answers.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    lookup: Box<dyn Lookup>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    names: HashMap<Box<str>, Name>,
    /// Names that wait for a thread. Each is here once: the configuration bounds their number.
    queue: VecDeque<Job>,
    threads: usize,
}

struct Job {
    host: Box<str>,
    asked: Instant,
    /// Dropped at the lookup's end: that wakes the waiting connections.
    ends: watch::Sender<()>,
}

struct Name {
    good: Option<Good>,
    failed: Option<(Instant, Arc<str>)>,
    flight: Option<Flight>,
    /// Addresses that failed or were overtaken, and when.
    lame: Vec<(IpAddr, Instant)>,
    used: Instant,
}

/// Addresses without their port.
type Known = Arc<[SocketAddr]>;

#[derive(Clone)]
struct Good {
    addresses: Known,
    asked: Instant,
    /// None of the addresses could be connected to.
    doubted: bool,
}

#[derive(Clone)]
struct Flight {
    began: Instant,
    ended: watch::Receiver<()>,
}

/// Addresses to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// In the order in which they should be tried, with the port.
    pub addresses: Vec<SocketAddr>,
    /// The source of the addresses.
    pub source: Source,
}

/// The source of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The URL itself, or `localhost`.
    Literal,
    /// An answer that is still good.
    Cached,
    /// A lookup that was waited for.
    LookedUp,
    /// An old answer: there is no newer one.
    Kept,
}

impl Source {
    /// The word used in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Cached => "cached",
            Self::LookedUp => "looked_up",
            Self::Kept => "kept",
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(System)
    }
}

impl Resolver {
    /// A resolver that asks `lookup`.
    pub fn new(lookup: impl Lookup) -> Self {
        Self(Arc::new(Inner { lookup: Box::new(lookup), state: Mutex::default() }))
    }

    /// The addresses of `host`. `again`: the known addresses failed, and the name is looked up whatever their age.
    ///
    /// # Errors
    /// The lookup's error, if no answer is known.
    pub async fn resolve(&self, host: &str, port: u16, again: bool) -> Result<Found, Arc<str>> {
        if let Some(addresses) = without_lookup(host, port) {
            return Ok(Found { addresses, source: Source::Literal });
        }
        let (mut flight, old) = match self.ask(host, port, again) {
            Asked::Known(found) => return found,
            Asked::Wait { flight, old } => (flight, old),
        };
        match &old {
            // The sender sends nothing: its drop at the lookup's end is an error here.
            None => _ = flight.ended.changed().await,
            Some(_) => _ = timeout_at(flight.began + PATIENCE, flight.ended.changed()).await,
        }
        self.outcome(host, port, old)
    }

    /// `address` failed, or another one was faster by the whole attempt delay: it is tried last for a while.
    pub fn lost(&self, host: &str, address: SocketAddr) {
        let now = Instant::now();
        if let Some(name) = self.0.state.lock().names.get_mut(host) {
            name.lame.retain(|(ip, _)| *ip != address.ip());
            name.lame.push((address.ip(), now));
        }
    }

    /// No address of `host` could be connected to: the next connection looks the name up again.
    pub fn doubt(&self, host: &str) {
        if let Some(good) = self.0.state.lock().names.get_mut(host).and_then(|name| name.good.as_mut()) {
            good.doubted = true;
        }
    }

    fn ask(&self, host: &str, port: u16, again: bool) -> Asked {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        if !state.names.contains_key(host) {
            state.names.retain(|_, name| name.flight.is_some() || now.duration_since(name.used) < OUTAGE);
            state.names.insert(host.into(), Name { good: None, failed: None, flight: None, lame: Vec::new(), used: now });
        }
        let Some(name) = state.names.get_mut(host) else { return Asked::Known(Err("the name was forgotten".into())) };
        name.used = now;
        name.lame.retain(|(_, at)| now.duration_since(*at) < LAME);
        name.good.take_if(|good| now.duration_since(good.asked) > OUTAGE);
        let just_failed = name.failed.as_ref().filter(|(at, _)| now.duration_since(*at) < FAILED).map(|(_, why)| why.clone());
        let known = name.good.clone();
        let found = |source| known.as_ref().map(|good| Found { addresses: name.order(&good.addresses, port), source });
        let age = known.as_ref().map(|good| now.duration_since(good.asked));
        let doubted = again || known.as_ref().is_some_and(|good| good.doubted);
        if let (Some(why), None) = (&just_failed, &known) {
            return Asked::Known(Err(why.clone()));
        }
        if age.is_some_and(|age| age < FRESH) && !doubted {
            let due = age.is_some_and(|age| age > AHEAD) && name.flight.is_none() && just_failed.is_none();
            let known = found(Source::Cached);
            if due {
                self.begin(&mut state, host, now);
            }
            return match known {
                Some(found) => Asked::Known(Ok(found)),
                None => Asked::Known(Err("no answer".into())),
            };
        }
        if just_failed.is_some()
            && let Some(found) = found(Source::Kept)
        {
            return Asked::Known(Ok(found));
        }
        let old = known.map(|good| good.addresses);
        let flight = match name.flight.clone() {
            Some(flight) => flight,
            None => self.begin(&mut state, host, now),
        };
        Asked::Wait { flight, old }
    }

    /// Begins a lookup. The caller holds the lock: a name has one lookup at a time.
    fn begin(&self, state: &mut State, host: &str, now: Instant) -> Flight {
        let (ends, ended) = watch::channel(());
        let flight = Flight { began: now, ended };
        if let Some(name) = state.names.get_mut(host) {
            name.flight = Some(flight.clone());
        }
        state.queue.push_back(Job { host: host.into(), asked: now, ends });
        if state.threads < THREADS {
            let inner = self.0.clone();
            match std::thread::Builder::new().name("resolver".into()).spawn(move || inner.work()) {
                Ok(_) => state.threads += 1,
                // Running threads serve the queue; without any, the job has failed before it began.
                Err(error) if state.threads == 0 => {
                    for job in std::mem::take(&mut state.queue) {
                        state.ended(job, Err(io::Error::new(error.kind(), "no thread for a lookup")));
                    }
                }
                Err(_) => {}
            }
        }
        flight
    }

    /// The answer after a wait; `old` was known before it.
    fn outcome(&self, host: &str, port: u16, old: Option<Known>) -> Result<Found, Arc<str>> {
        let state = self.0.state.lock();
        let Some(name) = state.names.get(host) else { return Err("the name was forgotten".into()) };
        if let Some(good) = &name.good {
            let is_old = old.is_some_and(|old| Arc::ptr_eq(&old, &good.addresses));
            let source = if is_old { Source::Kept } else { Source::LookedUp };
            return Ok(Found { addresses: name.order(&good.addresses, port), source });
        }
        Err(name.failed.as_ref().map_or_else(|| "the lookup broke off".into(), |(_, why)| why.clone()))
    }
}

enum Asked {
    Known(Result<Found, Arc<str>>),
    Wait {
        flight: Flight,
        /// The answer known meanwhile.
        old: Option<Known>,
    },
}

impl Inner {
    /// A thread's life: it takes names until the queue is empty.
    fn work(&self) {
        loop {
            let job = {
                let mut state = self.state.lock();
                match state.queue.pop_front() {
                    Some(job) => job,
                    None => {
                        state.threads -= 1;
                        return;
                    }
                }
            };
            let found = catch_unwind(AssertUnwindSafe(|| self.lookup.addresses(&job.host)))
                .unwrap_or_else(|_| Err(io::Error::other("the lookup panicked")));
            self.state.lock().ended(job, found);
        }
    }
}

impl State {
    fn ended(&mut self, job: Job, found: io::Result<Vec<SocketAddr>>) {
        let Job { host, asked, ends } = job;
        let Some(name) = self.names.get_mut(&host) else { return };
        name.flight = None;
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                if name.failed.take().is_some() {
                    tracing::info!(host = &*host, "the name resolves again");
                }
                name.good = Some(Good { addresses: addresses.into(), asked, doubted: false });
            }
            nothing => {
                let why = nothing.err().map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
                // One warning per outage, not one per lookup.
                if name.failed.is_none() && name.good.is_some() {
                    tracing::warn!(host = &*host, why, "a name does not resolve any more; its last addresses are kept for an hour");
                }
                name.failed = Some((asked.max(Instant::now()), why.into()));
            }
        }
        drop(ends);
    }
}

impl Name {
    /// The addresses with their port, in the resolver's order; those that failed lately come last.
    fn order(&self, addresses: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
        let with_port = |address: &SocketAddr| {
            let mut address = *address;
            address.set_port(port);
            address
        };
        let is_lame = |address: &SocketAddr| self.lame.iter().any(|(ip, _)| *ip == address.ip());
        let mut ordered: Vec<SocketAddr> = addresses.iter().map(with_port).collect();
        ordered.sort_by_key(is_lame);
        ordered.dedup();
        ordered
    }
}

/// A literal address, or the two of `localhost` (RFC 6761 section 6.3).
fn without_lookup(host: &str, port: u16) -> Option<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(vec![SocketAddr::new(ip, port)]);
    }
    let local = host.trim_end_matches('.').eq_ignore_ascii_case("localhost");
    local.then(|| vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)])
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
