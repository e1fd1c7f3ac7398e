//! Warming: the proxy's own requests fill the cache, gently.
//!
//! Each request goes the way of a client's request, from the route to the last byte: it stores the same answer. It takes nothing
//! from a limit. Few are under way at once, and none begins while the door is busy. While the app is not up yet (a sidecar starts
//! before it) warming waits, up to a bound.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use http::{Method, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, sleep_until},
};

use super::{
    Proxy,
    ask::{Ask, Origin},
    exchange::Exchange,
};
use crate::{
    arrival::{Arrival, Door, PeerText},
    body::Body,
    clock::Instant,
    http1::Fields,
    telemetry::metrics::Family,
};

/// Waiting requests at most; further ones are not taken.
pub const WAITING: usize = 10_000;
/// The door counts as busy from this number of other requests in flight.
const BUSY: i64 = 16;
const LOOK: Duration = Duration::from_millis(50);
/// Pauses while the app is not up yet.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The result of a request; a label of `outrigger_cache_warmed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warmed {
    Stored,
    /// The answer was stored already.
    Hit,
    /// The answer is not for the cache.
    NotStored,
    /// No answer, or an error.
    Failed,
}

impl Warmed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Hit => "hit",
            Self::NotStored => "not_stored",
            Self::Failed => "failed",
        }
    }
}

/// Fills the cache: first with the configuration's list, then with the targets that come through `wanted`. Runs until dropped, or
/// until `wanted` is closed.
pub async fn run(proxy: Rc<Proxy>, mut wanted: mpsc::Receiver<Uri>) {
    let first = proxy.worker().live.config.inbound.as_ref().map(|door| door.warm.clone()).unwrap_or_default();
    let running = Rc::new(Cell::new(0_i64));
    let mut patience = Some(Instant::now() + first.wait);
    let mut listed = first.targets.into_iter();
    let mut next_at = Instant::now();
    let mut slots = (0, Arc::new(Semaphore::new(0)));
    loop {
        let target = match listed.next() {
            Some(target) => target,
            None => match wanted.recv().await {
                Some(target) => target,
                None => return,
            },
        };
        // The present configuration: a reload may have changed it.
        let worker = proxy.worker();
        let Some(warm) = worker.live.config.inbound.as_ref().map(|door| &door.warm) else { return };
        let (concurrency, pause, headers) = (warm.concurrency, warm.pause(), Fields::from(&warm.headers));
        drop(worker);
        if slots.0 != concurrency {
            slots = (concurrency, Arc::new(Semaphore::new(concurrency)));
        }
        let Ok(slot) = slots.1.clone().acquire_owned().await else { return };
        sleep_until(next_at).await;
        next_at = Instant::now() + pause;
        while proxy.worker().door(Door::Inbound).inflight.get() - running.get() >= BUSY {
            sleep(LOOK).await;
        }
        if let Some(until) = patience.take() {
            // The first request finds out whether the app is up.
            count(&proxy, patiently(&proxy, &target, &headers, until).await);
            continue;
        }
        let (proxy, under_way) = (proxy.clone(), UnderWay::one(&running));
        tokio::task::spawn_local(async move {
            count(&proxy, ask(&proxy, &target, &headers).await.1);
            drop((under_way, slot));
        });
    }
}

/// Asks until the app gives any answer.
async fn patiently(proxy: &Rc<Proxy>, target: &Uri, headers: &Fields, until: Instant) -> Warmed {
    let mut pause = FIRST_PAUSE;
    loop {
        let (status, outcome) = ask(proxy, target, headers).await;
        let absent = matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        if !absent || Instant::now() + pause > until {
            return outcome;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Makes one request, to the last byte of its answer.
async fn ask(proxy: &Rc<Proxy>, target: &Uri, headers: &Fields) -> (StatusCode, Warmed) {
    let peer = SocketAddr::from(([127, 0, 0, 1], 0));
    // The store keeps answers apart by scheme: a door with TLS is warmed as over TLS.
    let tls = proxy.worker().live.config.inbound.as_ref().is_some_and(|door| door.tls.is_some());
    let arrival = Arrival {
        door: Door::Inbound,
        peer,
        peer_text: PeerText::new(peer),
        tls,
        certificate: None,
        client: peer.ip(),
        trusted: false,
        method: Method::GET,
        uri: target.clone(),
        version: Version::HTTP_11,
        headers: headers.clone(),
        at: Instant::now(),
        interim: None,
    };
    let exchange = Exchange::of(Ask::of(proxy, proxy.worker(), arrival, Origin::Warming));
    let response = Box::pin(Proxy::handle(exchange, Body::Empty, false)).await.into_answer();
    let status = response.status();
    let cache = response.headers().all("cache-status").filter_map(|field| field.to_str().ok());
    let ours = cache.filter_map(|field| field.strip_prefix("outrigger;")).last().unwrap_or_default().to_owned();
    let complete = response.into_body().collect().await.is_ok();
    let outcome = if !complete || status.is_server_error() {
        Warmed::Failed
    } else if ours.contains("stored") {
        Warmed::Stored
    } else if ours.contains("hit") {
        Warmed::Hit
    } else if status.is_client_error() {
        Warmed::Failed
    } else {
        Warmed::NotStored
    };
    if outcome == Warmed::Failed {
        tracing::warn!(%target, %status, "warming: no answer that could be stored");
    }
    (status, outcome)
}

fn count(proxy: &Proxy, outcome: Warmed) {
    proxy.telemetry.metrics.counter(Family::CacheWarmed, &[outcome.as_str()]).inc();
}

/// Counts the proxy's own requests, which do not make a door busy.
struct UnderWay(Rc<Cell<i64>>);

impl UnderWay {
    fn one(running: &Rc<Cell<i64>>) -> Self {
        running.set(running.get() + 1);
        Self(running.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
