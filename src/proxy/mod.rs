//! The way of a request, policy by policy, in order. Read [`Proxy::handle`] and `serve` first, then [`attempt()`].
//!
//! Types carry the order: only a route has policies, only an admitted request holds a lease, only a miss yields the fill that
//! can store, only a breaker yields the permit that records an outcome.

pub mod acts;
pub mod apps;
pub mod ask;
pub mod attempt;
mod audited;
mod auth;
mod banned;
pub mod bill;
pub mod book;
mod by_model;
pub mod cache_key;
pub(crate) mod cached;
mod compression;
mod credential;
pub mod declared;
mod delivered;
pub(crate) mod demands;
mod dress;
pub mod ending;
mod enter;
pub mod exchange;
mod falls;
mod fields;
pub mod files;
pub mod forward;
mod funds;
pub mod gate;
mod generation;
mod guards;
mod hold;
mod judged;
mod keyed;
pub mod live;
pub mod members;
pub mod model;
pub mod payer;
pub mod pledge;
pub mod privacy;
mod read_first;
mod report;
pub mod request;
mod restored;
mod route_answer;
mod routed;
mod sending;
mod session;
mod shared;
pub mod spend;
mod status_page;
mod steps;
mod strip;
mod timing;
pub mod tunnel;
mod validated;
pub mod warm;
mod worth;

use std::{cell::RefCell, pin::pin, rc::Rc, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::StatusCode;
use ipnet::IpNet;

use crate::{
    arrival::{Arrival, Door},
    body::{
        Body,
        replay::Replay,
        stop::Stop,
        tap::TimeBounds,
        upload::{Failure, Upload, UploadBounds},
    },
    caller::{Caller, KnownBy, Proof},
    cause::{Join, WorkerCauses},
    clock::{Chance, Instant},
    config::{Applies, Bounds, CallerSource},
    in_place,
    message::Response,
    policy::{auth::VerifiedTokens, limits::Keyed},
    reject::{Bound, Reject},
    store::ledger::Journal,
    telemetry::WorkerTelemetry,
    upstream::{Connection, Dial, Tunnel, headers},
};
use ask::Ask;
use attempt::attempt;
use bill::{late::Lates, read_on::Leavings};
use cached::Found;
use demands::Demands;
use exchange::Exchange;
use funds::Funds;
use live::{Live, LiveDoor, LiveRoute, Worker};
use sending::{Attempted, Sending};
pub use shared::Shared;

pub(crate) const NOT_LET_IN: &str = "this address is not let in";
const NOT_CACHED_FOR_MEMORY: &str = "memory";
/// Time between two looks for works that are too old.
const WORKS: Duration = Duration::from_secs(60);

/// One worker's proxy: both doors.
pub struct Proxy {
    /// The state that all workers share.
    pub shared: Arc<Shared>,
    live: Arc<ArcSwap<Live>>,
    worker: RefCell<Rc<Worker>>,
    /// The worker's view of the generation that comes next.
    prepared: RefCell<Option<Rc<Worker>>>,
    /// Views that requests may still hold.
    retired: RefCell<Vec<Rc<Worker>>>,
    /// The worker's share of the process's telemetry.
    pub telemetry: WorkerTelemetry,
    /// Jitter and sampling.
    pub chance: Chance,
    /// Ends everything that is under way.
    pub stop: Rc<Stop>,
    dial: Rc<dyn Dial>,
    /// The worker's causes: exchanges that outbound calls may refer to.
    causes: WorkerCauses<Keyed>,
    /// Ended works, until [`sweep`](Self::sweep) asks the replicas' book about them.
    late: Lates,
    /// Answers whose readers have left.
    read_on: Leavings,
    /// The worker's batch of entries for the ledger.
    journal: Arc<Journal>,
    /// Tokens that the worker has verified.
    tokens: RefCell<VerifiedTokens>,
}

impl Proxy {
    /// A worker's proxy over the configuration in `live`.
    pub fn new(shared: Arc<Shared>, live: Arc<ArcSwap<Live>>, telemetry: WorkerTelemetry, chance: Chance, dial: Rc<dyn Dial>) -> Rc<Self> {
        let worker = Worker::new(live.load_full(), &telemetry.metrics, &dial, None);
        let causes = shared.causes.worker();
        Rc::new(Self {
            late: Lates::default(),
            read_on: Leavings::default(),
            journal: shared.ledger.worker(),
            tokens: RefCell::default(),
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
        })
    }

    /// Answers one request. This never fails: a refusal is an answer too.
    /// `upgradable`: the request's connection can become a tunnel.
    pub async fn handle(mut exchange: Box<Exchange>, body: Body, upgradable: bool) -> Handled {
        let proxy = exchange.ask.proxy.clone();
        let served = proxy.stop.unless_on(pin!(proxy.serve(&mut exchange, body, upgradable))).await;
        match served.unwrap_or(Err(Reject::Stopping)) {
            Ok(Served::Response(response, bounds)) => Handled::Answer(exchange.end_with(response, bounds)),
            Ok(Served::Tunnel(response, upstream)) => {
                exchange.switching();
                exchange.held.watch = session::Watch::of(&exchange.ask, response.headers());
                Handled::Tunnel(response, upstream, exchange)
            }
            Err(reject) => Handled::Answer(Self::refuse(exchange, reject)),
        }
    }

    /// Answers a request that is refused.
    pub fn refuse(mut exchange: Box<Exchange>, reject: Reject) -> Response<Body> {
        let response = exchange.refuse(reject);
        exchange.end_with(response, TimeBounds::default())
    }

    /// The policies, in their order.
    async fn serve(self: &Rc<Self>, exchange: &mut Exchange, body: Body, upgradable: bool) -> Result<Served, Reject> {
        let ask = exchange.ask.clone();
        let arrival = &ask.arrival;
        let door = ask.live_door().ok_or_else(|| Reject::NotFound("this door is not open".into()))?;
        // These checks need no route: a loop must not be counted twice, and a web page must not reach a key.
        if self.shared.via[arrival.door as usize].is_in(&arrival.headers) {
            return Err(Reject::Loop);
        }
        guard_outbound(&door.allow, door.hosts.as_deref(), arrival)?;
        if let Some(answer) = self.own_answer(door, arrival) {
            return Ok(answer);
        }
        // The body's bounds before the route: routing may read the body.
        let body = self.bound_upload(&ask, door, body)?;
        // Route before every policy: the route has the policies. Outbound the model decides too, so the body may be read first.
        let mut speaker = None;
        let body = match arrival.door {
            Door::Inbound => {
                let (at, pages) = routed::inbound(door, arrival)?;
                ask.routed(at);
                speaker = pages.map(|at| (at, &door.routes[at].policies));
                Replay::new(body)
            }
            Door::Outbound => in_place::pinned(|| model::understand(self, exchange, door, body)).await?,
        };
        let route = ask.route().ok_or_else(|| Reject::Internal("the route is gone".into()))?;

        // The gate and `validate` before every policy that counts: what they refuse uses up no limit, and preflights are the browser's own.
        if let Some(response) = gate::pass(exchange, &route.policies, speaker).await? {
            return Ok(Served::Response(response, TimeBounds::default()));
        }
        let mut body = validated::pass(exchange, door, body).await?;
        // The caller before the limits: limits are keyed by the caller.
        ask.named(self.identify(&ask, door));
        banned::caller(exchange, &route.policies)?;
        exchange.trace(door);
        body = privacy::guard(exchange, route, body).await?;
        let demands = Demands::of(&ask, route);
        // Limits on all requests before the cache: a hit counts too.
        demands.admit(self, exchange, Applies::All).await?;
        // The route's own answer and the cache before limits that count misses: a hit costs the target nothing.
        let fill = match self.answered_here(exchange, route, &mut body).await? {
            Found::Answer(response, bounds) => return Ok(Served::Response(response, bounds)),
            Found::Forward(fill) => acts::unless_spent(exchange).map(|()| fill)?,
        };
        // Cause after the cache: only a request that goes on to the app can cause calls.
        exchange.caused_from_now(demands.spendable());
        demands.admit(self, exchange, Applies::Misses).await?;

        // Tries last: fallback, retry, breaker and timeouts guard a request that is sent.
        let mut sending = self.sending(exchange, route, &demands, body, upgradable);
        let attempted = match fill {
            None => attempt(self, &mut sending).await?,
            Some(fill) => in_place::pinned(|| cached::fetch_and_fill(exchange, sending, fill)).await?,
        };
        // Invalidation after the answer: only a change that succeeded makes a stored answer invalid.
        cached::after(self, exchange, route, &attempted.head);
        let attempted = if report::is_asked(&ask) { Box::pin(report::onto(&ask, attempted)).await } else { attempted };
        attempted.into_served(exchange)
    }

    /// The request for its tries: its body is kept for those after the first one.
    fn sending(&self, exchange: &mut Exchange, route: &LiveRoute, demands: &Demands, body: Replay, upgradable: bool) -> Sending {
        let ask = exchange.ask.clone();
        let most = route.policies.retry.as_ref().map_or(0, |retry| retry.replay_buffer);
        let room = || self.shared.bodies.room();
        // Another member is asked where one was not reached: that needs the beginning alone.
        let body = if ask.has_members() { body.keeping_begin(most.max(members::KEPT), room) } else { body.keeping(most, room) };
        let websocket = upgradable && headers::wants_websocket(&ask.arrival);
        let funds = Funds::of(exchange, demands);
        Sending::new(ask, body, websocket, exchange.cache.looks_inside, funds)
    }

    /// The answer that needs no target: the route's own, else one from the cache.
    async fn answered_here(self: &Rc<Self>, exchange: &mut Exchange, route: &LiveRoute, body: &mut Replay) -> Result<Found, Reject> {
        match route_answer::of(exchange, route).or_else(|| by_model::answer(exchange)) {
            Some(response) => Ok(Found::Answer(response, TimeBounds::default())),
            None => cached::look_up(self, exchange, route, body).await,
        }
    }

    /// The answer to a request that is for the proxy: with `Max-Forwards: 0`, or for the status page. The page comes before every policy: it is
    /// public, and there while the app is not.
    fn own_answer(&self, door: &LiveDoor, arrival: &Arrival) -> Option<Served> {
        if headers::max_forwards(arrival) == Some(0) {
            return Some(Served::nothing());
        }
        status_page::answer(door, arrival, || self.shared.status.load()).map(|page| Served::Response(page, TimeBounds::default()))
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

    /// Prepares the worker's view of `live` beside the requests. Requests use the view as soon as `live` is the newest.
    pub async fn prepare(&self, live: Arc<Live>) {
        let earlier = self.worker();
        let prepared = Worker::prepare(live, &self.telemetry.metrics, &self.dial, earlier).await;
        self.prepared.replace(Some(Rc::new(prepared)));
    }

    /// Frees views that no request holds any more.
    async fn free_retired(&self) {
        let free: Vec<_> = self.retired.borrow_mut().extract_if(.., |worker| Rc::strong_count(worker) == 1).collect();
        for worker in free.into_iter().filter_map(Rc::into_inner) {
            worker.retire().await;
        }
    }

    /// The bounds of a door; the default bounds if the door is not open.
    pub fn bounds(&self, door: Door) -> Bounds {
        self.worker().live.door(door).map(|door| door.bounds.clone()).unwrap_or_default()
    }

    /// Once a second: closes upstream connections that were idle for too long, frees old views, forgets old causes. Once a minute: forgets old
    /// works. In between: asks the replicas' book about ended works, and charges them. Runs until dropped.
    pub async fn sweep(self: Rc<Self>) {
        let mut every = tokio::time::interval(Duration::from_secs(1));
        let mut works_at = Instant::now() + WORKS;
        loop {
            let now = tokio::select! {
                now = every.tick() => now,
                () = self.late.some() => {
                    self.late.settle().await;
                    continue;
                }
                () = self.read_on.some() => {
                    self.read_on.begin();
                    continue;
                }
            };
            for pool in &self.worker().pools {
                pool.sweep(now);
            }
            self.free_retired().await;
            self.causes.sweep(now);
            if now >= works_at {
                works_at = now + WORKS;
                bill::forgotten::sweep(&self, now);
            }
        }
    }

    /// Makes the charges that wait for the replicas' book. To be called when the worker ends: each waits with its exchange, and would be lost.
    pub fn charge_what_waits(&self) {
        self.read_on.give_up();
        self.late.give_up();
    }

    fn bound_upload(&self, ask: &Ask, door: &LiveDoor, body: Body) -> Result<Body, Reject> {
        if matches!(body, Body::Empty) {
            return Ok(body);
        }
        if let (Some(max), Some(announced)) = (door.bounds.max_body, body.exact_len())
            && announced > max
        {
            return Err(Reject::BodyTooLarge(max));
        }
        let bounds = match ask.arrival.is_grpc() {
            // Both halves of a gRPC call stream: a long silence of one is in order.
            true => UploadBounds { max: door.bounds.max_body, ..UploadBounds::default() },
            false => UploadBounds { max: door.bounds.max_body, idle: Some(door.bounds.body_idle), rate: door.bounds.min_rate },
        };
        Ok(Body::stream(Upload::new(body, ask.uploads(), bounds).scrubbed(door.claims.clone())))
    }

    /// The caller, from the first source that can be trusted.
    fn identify(&self, ask: &Ask, door: &LiveDoor) -> Option<Caller> {
        match ask.call() {
            Some(call) => match (&call.join, ask.proof().and_then(Proof::caller)) {
                // What an app only says does not outdo what its key proves.
                (Join::Said(_), Some(proved)) => Some(proved),
                // The app's own user before the app, which shows the key.
                (_, proved) => call.caller().or(proved),
            },
            None => caller(&door.caller, &ask.arrival, ask.proof()),
        }
    }
}

/// The caller at the inbound door, from the first of `sources` that can be trusted. `proof`: what `auth` has verified.
pub fn caller(sources: &[CallerSource], arrival: &Arrival, proof: Option<&Proof>) -> Option<Caller> {
    sources.iter().find_map(|source| {
        let (name, known_by): (Arc<str>, _) = match source {
            CallerSource::Header(name) if arrival.trusted => {
                (arrival.header(name).filter(|value| !value.is_empty())?.into(), KnownBy::Header)
            }
            CallerSource::Header(_) => return None,
            CallerSource::ClientCert => (arrival.certificate.as_ref()?.name.clone(), KnownBy::Certificate),
            CallerSource::Auth(kind) => return proof.and_then(|proof| auth::caller(proof, kind)),
            CallerSource::ClientIp if arrival.client == arrival.peer.ip().to_canonical() => {
                (arrival.peer_text.text.clone(), KnownBy::Address)
            }
            CallerSource::ClientIp => (arrival.client.to_string().into(), KnownBy::Address),
        };
        Some(Caller::new(name, known_by))
    })
}

impl Attempted {
    /// The part for the client: an answer, or the two ends of a tunnel.
    ///
    /// # Errors
    /// A 101 whose connection cannot become a tunnel: the client must not take it for one.
    fn into_served(self, exchange: &mut Exchange) -> Result<Served, Reject> {
        let Self { head, body, connection, bounds, .. } = self;
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            exchange.connection = connection;
            return Ok(Served::Response(Response::from_parts(head, body), bounds));
        }
        match connection.and_then(Connection::into_tunnel) {
            Some(upstream) => {
                exchange.held.opening = (!matches!(body, Body::Empty)).then(|| Box::new(body));
                Ok(Served::Tunnel(Response::from_parts(head, Body::Empty), upstream))
            }
            None => Err(Reject::Internal("the target's connection cannot become a tunnel".into())),
        }
    }
}

impl Served {
    /// The answer to a request whose recipient is the proxy (`Max-Forwards: 0`, RFC 9110 section 7.6.2).
    fn nothing() -> Self {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        Self::Response(response, TimeBounds::default())
    }
}

/// The result of a request.
pub enum Handled {
    /// An answer.
    Answer(Response<Body>),
    /// A 101, the target's connection, and the exchange that ends with the tunnel.
    Tunnel(Response<Body>, Tunnel, Box<Exchange>),
}

impl Handled {
    /// The answer, for a connection that cannot become a tunnel.
    pub fn into_answer(self) -> Response<Body> {
        match self {
            Self::Answer(response) | Self::Tunnel(response, ..) => response,
        }
    }
}

/// The result of the policies, when none refuses.
pub enum Served {
    /// An answer and the time bounds of its body.
    Response(Response<Body>, TimeBounds),
    /// A 101, and the target's connection.
    Tunnel(Response<Body>, Tunnel),
}

/// A door that holds keys serves its own app alone. `allow` checks the address. `hosts` checks the name: otherwise a web page could
/// make a browser use the door (DNS rebinding). `hosts` lists the names that are believed; `None`: the door holds no keys.
///
/// # Errors
/// The address is not in `allow`, or the name is not in `hosts`.
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

/// The refusal for a client that failed while it sent its body.
pub fn client_failure(failure: Failure) -> Reject {
    match failure {
        Failure::TooLarge(max) => Reject::BodyTooLarge(max),
        Failure::Slow(after) => Reject::Timeout { target: "client".into(), bound: Bound::BodyRate, after },
        Failure::Idle(after) => Reject::Timeout { target: "client".into(), bound: Bound::BodyIdle, after },
        Failure::Broken(why) => Reject::BodyBroken(why.into()),
    }
}
