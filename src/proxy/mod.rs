//! The story: what happens to a request, policy by policy, in order. Read [`Proxy::handle`] and `serve` first, then
//! [`attempt()`].
//!
//! The order is carried by types: only a route has policies, only an admitted request holds a lease, only a miss yields
//! the fill that can store, only a breaker yields the permit that records an outcome.

pub mod ask;
pub mod attempt;
pub mod bill;
pub mod cache_key;
pub(crate) mod cached;
mod credential;
pub mod declared;
mod delivered;
pub(crate) mod demands;
mod dress;
pub mod ending;
pub mod exchange;
pub mod forward;
mod funds;
mod generation;
mod guards;
mod hold;
mod judged;
pub mod live;
pub mod model;
pub mod payer;
mod read_first;
pub mod request;
mod sending;
mod strip;
mod timing;
mod tunnel;
pub mod warm;
mod worth;

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::AtomicU8},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderValue, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use ipnet::IpNet;
use parking_lot::Mutex;

use crate::{
    arrival::{Arrival, Door},
    body::{
        Body,
        replay::Replay,
        room::BodyBudget,
        stop::Stop,
        tap::TimeBounds,
        upload::{Failure, Upload, UploadBounds},
    },
    caller::{Caller, KnownBy},
    cause::{Causes, WorkerCauses},
    clock::{Chance, Clock, Instant, http_date},
    config::{Applies, Bounds, CallerSource, Config, Secret},
    policy::{
        access,
        breaker::Breakers,
        cache::Cache,
        given_up::GivenUp,
        keyring::Keyring,
        limits::{Keyed, Limits},
        retry::Budgets,
    },
    pressure::Pressure,
    provider::Works,
    reject::{Bound, Reject},
    route::Query,
    telemetry::{
        WorkerTelemetry,
        metrics::{CacheOutcome, Finished, Gauge},
    },
    upstream::{Dial, headers},
};
use ask::Ask;
use attempt::attempt;
use cached::Found;
use demands::Demands;
use exchange::Exchange;
use funds::Funds;
use live::{Live, LiveDoor, Worker};
use payer::Pledge;
use sending::{Attempted, Sending};

pub(crate) const NOT_LET_IN: &str = "this address is not let in";
const NOT_CACHED_FOR_MEMORY: &str = "memory";

/// What all workers share and what lives on across reloads.
pub struct Shared {
    /// Wall time.
    pub clock: Clock,
    /// Counters of limits.
    pub limits: Limits,
    /// Stored answers.
    pub cache: Arc<Cache>,
    /// States of breakers.
    pub breakers: Breakers,
    /// Retry budgets.
    pub budgets: Budgets,
    /// Whether targets could be reached, by name and origin; lives on across reloads.
    pub reached: Mutex<HashMap<String, Arc<AtomicU8>>>,
    /// The keys of each provider, by name and a hash of the keys.
    pub keyrings: Mutex<Keyrings>,
    /// Responses that are made in the background, and who pays for them.
    pub works: Works<Pledge>,
    /// Model calls that were given up a moment ago.
    pub given_up: GivenUp,
    /// Inbound exchanges that outbound calls may refer to.
    pub causes: Arc<Causes<Keyed>>,
    /// Dollars by caller.
    pub spend: model::Spend,
    /// Bytes of request bodies that were read before they were sent.
    pub bodies: Arc<BodyBudget>,
    /// How hard memory presses.
    pub pressure: Arc<Pressure>,
    /// Our names in `Via`, by door: an app may well copy what it was asked with into what it asks.
    pub via: [headers::Via; 2],
}

impl Shared {
    /// Nothing counted, nothing open, nothing known; memory alone, no store.
    pub fn new(config: &Config, clock: Clock) -> Self {
        let limits = Limits::new(config.store.max_keys, &clock, None);
        Self::over(config, clock, limits, Cache::configured(&config.store))
    }

    /// As [`Shared::new`], over limits and a cache that may be shared with other replicas.
    pub fn over(config: &Config, clock: Clock, limits: Limits, cache: Arc<Cache>) -> Self {
        Self {
            clock,
            limits,
            cache,
            breakers: Breakers::default(),
            budgets: Budgets::default(),
            reached: Mutex::default(),
            keyrings: Mutex::default(),
            works: Works::default(),
            given_up: GivenUp::default(),
            causes: Causes::new(clock.now()),
            spend: model::Spend::default(),
            bodies: BodyBudget::new(config.body_budget),
            pressure: Arc::new(Pressure::new(config.memory_limit)),
            via: [headers::Via::unique(), headers::Via::unique()],
        }
    }
}

/// By provider and a hash of its keys.
type Keyrings = HashMap<(Arc<str>, [u8; 32]), Arc<Keyring>>;

impl Shared {
    /// The keyring of a provider: it lives on across reloads while the keys stay the same.
    fn keyring(&self, provider: &Arc<str>, keys: &[Secret]) -> Arc<Keyring> {
        let mut hasher = blake3::Hasher::new();
        for key in keys {
            hasher.update(&(key.reveal().len() as u64).to_le_bytes());
            hasher.update(key.reveal().as_bytes());
        }
        let mut keyrings = self.keyrings.lock();
        keyrings.retain(|(name, _), ring| name != provider || Arc::strong_count(ring) > 1);
        let known = keyrings.entry((provider.clone(), *hasher.finalize().as_bytes()));
        known.or_insert_with(|| Arc::new(Keyring::new(keys.len(), self.clock.now()))).clone()
    }
}

/// One worker's proxy: both doors.
pub struct Proxy {
    /// What all workers share.
    pub shared: Arc<Shared>,
    live: Arc<ArcSwap<Live>>,
    worker: RefCell<Rc<Worker>>,
    /// The worker's view of the generation that comes next.
    prepared: RefCell<Option<Rc<Worker>>>,
    /// Views that requests may still hold.
    retired: RefCell<Vec<Rc<Worker>>>,
    /// The worker's share of what the process says about itself.
    pub telemetry: WorkerTelemetry,
    /// Jitter and sampling.
    pub chance: Chance,
    /// The end of everything under way.
    pub stop: Rc<Stop>,
    dial: Rc<dyn Dial>,
    /// The worker's way of beginning exchanges that calls may refer to.
    causes: WorkerCauses<Keyed>,
    /// Refreshes of stale answers under way.
    refreshes: Gauge,
}

impl Proxy {
    /// A worker's proxy over the configuration in `live`.
    pub fn new(shared: Arc<Shared>, live: Arc<ArcSwap<Live>>, telemetry: WorkerTelemetry, chance: Chance, dial: Rc<dyn Dial>) -> Rc<Self> {
        let worker = Worker::new(live.load_full(), &telemetry.metrics, &dial, None);
        let causes = shared.causes.worker();
        Rc::new(Self {
            shared,
            worker: RefCell::new(Rc::new(worker)),
            prepared: RefCell::default(),
            retired: RefCell::default(),
            live,
            telemetry,
            chance,
            stop: Rc::default(),
            dial,
            causes,
            refreshes: Gauge::default(),
        })
    }

    /// Answers one request. It never fails: a refusal is an answer too.
    pub async fn handle(mut exchange: Box<Exchange>, body: Body, upgrade: Option<OnUpgrade>) -> Response<Body> {
        let proxy = exchange.ask.proxy.clone();
        let served = proxy.stop.unless_on(proxy.serve(&mut exchange, body, upgrade)).await;
        match served.unwrap_or(Err(Reject::Stopping)) {
            Ok(Served::Response(response, bounds)) => exchange.end_with(response, bounds),
            Ok(Served::Tunnel(response, client, upstream)) => {
                exchange.switching();
                tokio::task::spawn_local(tunnel::run(client, upstream, exchange));
                response
            }
            Err(reject) => Self::refuse(exchange, reject),
        }
    }

    /// Answers a request that is refused.
    pub fn refuse(mut exchange: Box<Exchange>, reject: Reject) -> Response<Body> {
        let response = exchange.refuse(reject);
        exchange.end_with(response, TimeBounds::default())
    }

    /// Counts a request of which not even the head could be read; it has been refused with `code`.
    pub fn unreadable(&self, door: Door, code: StatusCode) {
        let worker = self.worker();
        let Some(live) = worker.live.door(door) else { return };
        worker.route(door, live.fallthrough()).requests.finish(&Finished {
            code: code.as_u16(),
            cache: CacheOutcome::None,
            total: Duration::ZERO,
            own: None,
            reject: Some(Reject::BadRequest("".into()).reason()),
            broken: false,
            at: Instant::now(),
        });
    }

    /// The policies, in their order.
    async fn serve(self: &Rc<Self>, exchange: &mut Exchange, body: Body, upgrade: Option<OnUpgrade>) -> Result<Served, Reject> {
        let ask = exchange.ask.clone();
        let arrival = &ask.arrival;
        let door = ask.live_door().ok_or_else(|| Reject::NotFound("this door is not open".into()))?;
        // First what needs no route: a loop must not be counted twice, and a page in a browser must not reach a key.
        if self.shared.via[arrival.door as usize].is_in(&arrival.headers) {
            return Err(Reject::Loop);
        }
        guard_outbound(&door.allow, door.hosts.as_deref(), arrival)?;
        if headers::max_forwards(arrival) == Some(0) {
            return Ok(Served::nothing());
        }
        let body = self.bound_upload(&ask, door, body)?;

        // Route: by path; outbound then by operation and model, for which the body may have to be read.
        let mut body = match arrival.door {
            Door::Inbound => {
                ask.routed(route_inbound(door, arrival)?);
                Replay::new(body)
            }
            Door::Outbound => Box::pin(model::understand(self, exchange, door, body)).await?,
        };
        let route = ask.route().ok_or_else(|| Reject::Internal("the route is gone".into()))?;

        // Access before everything that counts: who is not let in uses up nobody's limit.
        if !access::lets_in(route.policies.access.as_ref(), arrival.client) {
            return Err(Reject::Forbidden(NOT_LET_IN.into()));
        }
        if access::would_refuse(route.policies.access.as_ref(), arrival.client) {
            ask.cells().policies.access_observed();
        }
        // The caller before the limits: they are keyed by it.
        ask.named(self.identify(&ask, door));
        exchange.trace(door);
        let demands = Demands::of(&ask, route);
        // Limits that count every request before the cache: a hit counts too.
        demands.admit(self, exchange, Applies::All).await?;
        // Cache before limits that count misses: a hit costs the target nothing.
        let fill = match cached::look_up(self, exchange, route, &mut body).await? {
            Found::Answer(response, bounds) => return Ok(Served::Response(response, bounds)),
            Found::Forward(fill) => fill,
        };
        // Cause after the cache: only what goes on to the app can cause calls.
        exchange.caused_from_now(demands.spendable());
        demands.admit(self, exchange, Applies::Misses).await?;

        // Tries last: fallback, retry, breaker and timeouts guard what is sent.
        let websocket = upgrade.is_some() && headers::wants_websocket(arrival);
        let kept = route.policies.retry.as_ref().map_or(0, |retry| retry.replay_buffer);
        let body = body.keeping(kept, || self.shared.bodies.room());
        let funds = Funds::of(exchange, &demands);
        let mut sending = Sending::new(ask.clone(), body, websocket, exchange.cache.looks_inside, funds);
        let attempted = match fill {
            None => attempt(self, &mut sending).await?,
            Some(fill) => Box::pin(cached::fetch_and_fill(exchange, sending, fill)).await?,
        };
        // Invalidation after the answer: only a change that succeeded makes anything invalid.
        cached::after(self, exchange, route, &attempted.head);
        Ok(attempted.into_served(exchange, upgrade))
    }

    /// The worker's view of the newest configuration.
    pub fn worker(&self) -> Rc<Worker> {
        let newest = self.live.load();
        let known = self.worker.borrow();
        if Arc::ptr_eq(&newest, &known.live) {
            return known.clone();
        }
        let prepared = self.prepared.take().filter(|prepared| Arc::ptr_eq(&prepared.live, &newest));
        let fresh =
            prepared.unwrap_or_else(|| Rc::new(Worker::new(Arc::clone(&newest), &self.telemetry.metrics, &self.dial, Some(&known))));
        drop(known);
        let before = self.worker.replace(fresh.clone());
        self.retired.borrow_mut().push(before);
        fresh
    }

    /// Prepares the worker's view of `live`, off the way of requests; they have it as soon as it is the newest.
    pub async fn prepare(&self, live: Arc<Live>) {
        let earlier = self.worker();
        let prepared = Worker::prepare(live, &self.telemetry.metrics, &self.dial, earlier).await;
        self.prepared.replace(Some(Rc::new(prepared)));
    }

    /// Frees views that nobody holds any more.
    async fn free_retired(&self) {
        let free: Vec<_> = self.retired.borrow_mut().extract_if(.., |worker| Rc::strong_count(worker) == 1).collect();
        for worker in free.into_iter().filter_map(Rc::into_inner) {
            worker.retire().await;
        }
    }

    /// Ceilings of a door.
    pub fn bounds(&self, door: Door) -> Bounds {
        self.worker().live.door(door).map(|door| door.bounds.clone()).unwrap_or_default()
    }

    /// Closes upstream connections that were idle for too long, and lets payees go that were not seen for long. Runs until dropped.
    pub async fn sweep(self: Rc<Self>) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        loop {
            let now = every.tick().await;
            for pool in &self.worker().pools {
                pool.sweep(now);
            }
            self.free_retired().await;
            self.causes.sweep(now);
        }
    }

    fn bound_upload(&self, ask: &Ask, door: &LiveDoor, body: Body) -> Result<Body, Reject> {
        if matches!(body, Body::Empty) {
            ask.upload.finish();
            return Ok(body);
        }
        if let (Some(max), Some(announced)) = (door.bounds.max_body, body.exact_len())
            && announced > max
        {
            return Err(Reject::BodyTooLarge(max));
        }
        let bounds = match ask.arrival.is_grpc() {
            // Both halves stream, and one that is silent for long is in order.
            true => UploadBounds { max: door.bounds.max_body, ..UploadBounds::default() },
            false => UploadBounds { max: door.bounds.max_body, idle: Some(door.bounds.body_idle), rate: door.bounds.min_rate },
        };
        Ok(Body::stream(Upload::new(body, ask.upload.clone(), bounds).scrubbed(door.claims.clone())))
    }

    /// Who is asking: the first source that can be trusted.
    fn identify(&self, ask: &Ask, door: &LiveDoor) -> Option<Caller> {
        match ask.call() {
            Some(call) => call.caller(),
            None => caller(&door.caller, &ask.arrival),
        }
    }

    /// The present second as a `Date` field.
    pub fn date(&self) -> HeaderValue {
        http_date(self.shared.clock.wall())
    }
}

/// Who is asking at the inbound door: the first of `sources` that can be trusted.
pub fn caller(sources: &[CallerSource], arrival: &Arrival) -> Option<Caller> {
    sources.iter().find_map(|source| {
        let (name, known_by): (Arc<str>, _) = match source {
            CallerSource::Header(name) if arrival.trusted => {
                (arrival.header(name).filter(|value| !value.is_empty())?.into(), KnownBy::Header)
            }
            CallerSource::Header(_) => return None,
            CallerSource::ClientCert => (arrival.certificate.as_ref()?.name.clone(), KnownBy::Certificate),
            CallerSource::ClientIp if arrival.client == arrival.peer.ip().to_canonical() => {
                (arrival.peer_text.text.clone(), KnownBy::Address)
            }
            CallerSource::ClientIp => (arrival.client.to_string().into(), KnownBy::Address),
        };
        Some(Caller::new(name, known_by))
    })
}

impl Attempted {
    /// What goes to the client: an answer, or the two ends of a tunnel.
    fn into_served(self, exchange: &mut Exchange, upgrade: Option<OnUpgrade>) -> Served {
        let Self { mut head, body, connection, bounds, .. } = self;
        let tunnel = head.extensions.remove::<OnUpgrade>();
        if head.status == StatusCode::SWITCHING_PROTOCOLS
            && let (Some(client), Some(upstream)) = (upgrade, tunnel)
        {
            return Served::Tunnel(Response::from_parts(head, Body::Empty), client, upstream);
        }
        exchange.connection = connection;
        Served::Response(Response::from_parts(head, body), bounds)
    }
}

impl Served {
    /// The answer to a request that may go no further: the proxy is its recipient.
    fn nothing() -> Self {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        Self::Response(response, TimeBounds::default())
    }
}

/// What the story ends with.
pub enum Served {
    /// An answer and the time bounds of its body.
    Response(Response<Body>, TimeBounds),
    /// A 101, and the two connections that it joins.
    Tunnel(Response<Body>, OnUpgrade, OnUpgrade),
}

/// A door that holds keys serves its own app alone: by address, and by name, so that a web page cannot make a browser use it
/// (DNS rebinding). `hosts`: the names that are believed; none where it holds no keys.
///
/// # Errors
/// The address or the name is not one of those.
pub fn guard_outbound(allow: &[IpNet], hosts: Option<&[String]>, arrival: &Arrival) -> Result<(), Reject> {
    if !allow.is_empty() && !allow.iter().any(|net| net.contains(&arrival.client)) {
        return Err(Reject::Forbidden("this address may not use the outbound door (outbound.allow)".into()));
    }
    let Some(known) = hosts else { return Ok(()) };
    let host = arrival.host().trim_start_matches('[').trim_end_matches(']');
    let loopback = host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if loopback || known.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(Reject::Misdirected(format!("this door holds keys and does not answer to the name `{host}`; list it under outbound.hosts").into()))
}

fn route_inbound(door: &LiveDoor, arrival: &Arrival) -> Result<usize, Reject> {
    let query = Query {
        path: arrival.path(),
        method: &arrival.method,
        host: arrival.host(),
        headers: &arrival.headers,
        provider: None,
        operation: None,
        model: None,
    };
    Ok(door.table.find_unambiguous(&query)?.copied().unwrap_or(door.fallthrough()))
}

/// What the client did wrong while sending its body.
pub fn client_failure(failure: Failure) -> Reject {
    match failure {
        Failure::TooLarge(max) => Reject::BodyTooLarge(max),
        Failure::Slow(after) => Reject::Timeout { target: "client".into(), bound: Bound::BodyRate, after },
        Failure::Idle(after) => Reject::Timeout { target: "client".into(), bound: Bound::BodyIdle, after },
        Failure::Broken(why) => Reject::BodyBroken(why.into()),
    }
}
