//! One worker: a thread with a runtime of its own, a proxy, and a listener of each door.

use std::{
    future::{Future, poll_fn},
    io,
    net::TcpListener,
    pin::pin,
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
use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
};

use super::{Phase, warm};
use crate::{
    arrival::Door,
    body::stop::Stop,
    clock::{Chance, Instant},
    listen::{Census, Listener, Terminator},
    proxy::{Proxy, Shared, live::Live},
    resolve::Resolver,
    telemetry::Telemetry,
    upstream::Dialer,
};

/// How often an ending worker looks whether its connections have ended.
pub(super) const POLL: Duration = Duration::from_millis(20);
/// Time to tell clients that their answers are cut.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The parts that a worker's thread takes with it.
pub(super) struct WorkerPart {
    pub(super) shared: Arc<Shared>,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) inbound: Option<TcpListener>,
    pub(super) outbound: Option<TcpListener>,
    pub(super) census: [Arc<Census>; 2],
    pub(super) terminators: [Arc<Terminator>; 2],
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) resolver: Resolver,
    /// The generation that comes next.
    pub(super) next: watch::Receiver<Option<Arc<Live>>>,
    /// Gets the numbers of prepared generations.
    pub(super) prepared: mpsc::Sender<u64>,
    /// Paths to fill the cache with; the first worker has them.
    pub(super) wanted: Option<mpsc::Receiver<Uri>>,
}

/// Counts a worker until its end, whatever the end is.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl WorkerPart {
    /// Starts the thread; `alive` counts it until all its exchanges are logged.
    pub(super) fn start(self, name: String, alive: Arc<AtomicUsize>) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let alive = Alive(alive);
        std::thread::Builder::new().name(name).spawn(move || {
            let tasks = LocalSet::new();
            // A task of its own: what `block_on` runs itself is polled once more whenever any task is woken.
            let ended = tasks.block_on(&runtime, async move { tokio::task::spawn_local(self.run()).await });
            if let Err(error) = ended
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
            // Exchanges still in hand end here, and are logged.
            drop(tasks);
            drop(alive);
            // A plain drop would wait for a name lookup that is under way.
            runtime.shutdown_background();
        })
    }

    async fn run(mut self) {
        let mine = self.telemetry.worker();
        let dialer = Rc::new(Dialer::new(self.resolver.clone(), mine.metrics.clone()));
        let proxy = Proxy::new(self.shared.clone(), self.live.clone(), mine, Chance::system(), dialer);
        tokio::task::spawn_local(proxy.clone().sweep());
        tokio::task::spawn_local(prepare(proxy.clone(), self.next.clone(), self.prepared.clone()));
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
        if self.phase.wait_for(|phase| *phase >= Phase::Leaving).await.is_err() {
            return;
        }
        if let Some((listener, _)) = &inbound {
            listener.leave();
        }
        let _ = self.phase.wait_for(|phase| *phase >= Phase::Closing).await;
        // The app may still call providers while it finishes: outbound closes last.
        for (listener, accepting) in [&inbound, &outbound].into_iter().flatten() {
            accepting.abort();
            listener.finish();
            self.until_empty(listener).await;
        }
        cut(&proxy.stop, [&inbound, &outbound].into_iter().flatten().map(|(listener, _)| &**listener)).await;
        proxy.charge_what_waits();
    }

    async fn until_empty(&self, listener: &Listener) {
        while listener.open() > 0 && *self.phase.borrow() < Phase::Over {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Prepares each new generation, until no more can come.
async fn prepare(proxy: Rc<Proxy>, mut next: watch::Receiver<Option<Arc<Live>>>, prepared: mpsc::Sender<u64>) {
    while next.changed().await.is_ok() {
        let Some(live) = next.borrow_and_update().clone() else { continue };
        let generation = live.generation;
        let longest = longest_turn(proxy.prepare(live)).await;
        tracing::debug!(generation, longest_us = longest.as_micros() as u64, "a worker has prepared a configuration");
        // A late worker is not waited for.
        let _ = prepared.try_send(generation);
    }
}

/// Runs `work`; gives the longest time that it held up the worker's requests in one turn.
async fn longest_turn(work: impl Future<Output = ()>) -> Duration {
    let (mut work, mut longest) = (pin!(work), Duration::ZERO);
    poll_fn(|cx| {
        let began = Instant::now();
        let done = work.as_mut().poll(cx);
        longest = longest.max(began.elapsed());
        done
    })
    .await;
    longest
}

/// Ends the exchanges still in hand, and gives them a moment for last words: first bodies from targets, then answers to clients.
async fn cut<'a>(stop: &Stop, listeners: impl Iterator<Item = &'a Listener> + Clone) {
    for patience in [LAST_WORDS / 3, LAST_WORDS] {
        stop.advance();
        listeners.clone().for_each(Listener::look_at_stop);
        let until = Instant::now() + patience;
        while listeners.clone().any(|listener| listener.open() > 0) && Instant::now() < until {
            tokio::time::sleep(POLL / 4).await;
        }
    }
}

fn start_listener(listener: Rc<Listener>, socket: TcpListener) -> Option<(Rc<Listener>, tokio::task::JoinHandle<()>)> {
    let socket = tokio::net::TcpListener::from_std(socket).inspect_err(|error| tracing::error!(%error, "cannot listen")).ok()?;
    tokio::task::spawn_local(listener.clone().sweep());
    let accepting = tokio::task::spawn_local(listener.clone().accept(socket));
    Some((listener, accepting))
}
