//! The cache on the way of a request: an answer from the store, a wait for a fetch under way, or a fetch for all who wait.
//!
//! A fetch that may be stored is a task of its own: one client's cancel must not hurt another client. A model call's fetch is given
//! up when its last reader leaves: it costs money.

use std::{pin::pin, rc::Rc, time::Duration};

use http::{StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::{
    NOT_CACHED_FOR_MEMORY, Proxy,
    ask::Ask,
    attempt::attempt,
    cache_key::{Asked, KeyParts, query},
    declared,
    delivered::{Delivered, Role},
    demands::Demands,
    enter,
    exchange::Exchange,
    funds::Funds,
    live::LiveRoute,
    payer::{Payer, Payers},
    sending::{Attempted, Sending},
    worth::Judge,
};
use crate::{
    arrival::{Arrival, Door},
    body::{
        Body,
        replay::Replay,
        tap::{End, Observer, Tap, TimeBounds},
    },
    clock::Instant,
    config::Applies,
    http1::{Fields, Id},
    in_place,
    message::{AnswerHead, Instead, Response},
    policy::cache::{CacheQuery, Decision, Fill, Follower, HitInfo, HitKind, Lookup, Purge, Recorder, flight::FallThrough},
    pressure::Level,
    reject::{Bound, Reject},
    store::memory::Which,
    telemetry::metrics::{CacheOutcome, GaugeGuard},
    upstream::Connection,
};

/// The cache's decision about a request.
pub enum Found {
    /// Answer from the cache, within these time bounds.
    Answer(Response<Body>, TimeBounds),
    /// Ask upstream; the fill may store the answer.
    Forward(Option<Box<Fill>>),
}

/// Looks a request up, and waits if a fetch for the same key is under way.
///
/// # Errors
/// `only-if-cached` and no stored answer; the end of the request's time.
pub async fn look_up(proxy: &Rc<Proxy>, exchange: &mut Exchange, route: &LiveRoute, body: &mut Replay) -> Result<Found, Reject> {
    let Some(policy) = &route.policies.cache else { return Ok(Found::Forward(None)) };
    let ask = exchange.ask.clone();
    let declared = match declared::applies(policy, ask.door(), &ask.arrival.method) {
        true => Box::pin(declared::read(proxy, exchange, route, body)).await?,
        false => None,
    };
    let parts = match KeyParts::of(&Asked::of(&ask, route, body, declared.as_ref()), policy) {
        Ok(parts) => parts,
        Err(reason) => return Ok(bypass(exchange, reason)),
    };
    let ttl = if ask.call().is_some() { asked_ttl(&ask.arrival)? } else { None };
    let clock = proxy.shared.clock;
    let look =
        || parts.query(&ask.arrival, &route.name, |query| proxy.shared.cache.look_up(policy, CacheQuery { ttl, ..query }, clock.moment()));
    let mut looked_up = look();
    if let Lookup::Join(join) = looked_up {
        looked_up = match Box::pin(joined(exchange, route, join)).await? {
            Ok(answer) => return Ok(answer),
            // The fetch has failed or was given up: one of the waiting requests fetches next, not each of them.
            Err((FallThrough::Failed, _)) => look(),
            Err((_, fill)) => Lookup::Miss(fill),
        };
    }
    if let Lookup::Miss(fill) | Lookup::Revalidate(fill) = looked_up {
        // Boxed: otherwise every request in flight would carry its size, also without a store.
        looked_up = if fill.may_be_shared() { Box::pin(fill.look_shared(clock)).await } else { Lookup::Miss(fill) };
    }
    Ok(match looked_up {
        Lookup::Hit(response, info) => hit(exchange, response, &info),
        Lookup::Stale { response, info, revalidate } => {
            if let Some(fill) = revalidate {
                refresh(proxy, exchange, body, fill);
            }
            hit(exchange, response, &info)
        }
        Lookup::Join(join) => match Box::pin(joined(exchange, route, join)).await? {
            Ok(answer) => answer,
            Err((_, fill)) => forward(proxy, exchange, fill),
        },
        Lookup::Revalidate(fill) | Lookup::Miss(fill) => forward(proxy, exchange, fill),
        Lookup::Bypass(reason) => bypass(exchange, reason),
        Lookup::OnlyIfCached => {
            exchange.cache.outcome = CacheOutcome::Miss;
            return Err(Reject::NotCached);
        }
    })
}

/// The answer of another request's fetch, within this request's own bounds; or the reason to fetch.
///
/// # Errors
/// The request's time is over, or the fetch has no head within `response_header`.
async fn joined(
    exchange: &mut Exchange,
    route: &LiveRoute,
    join: Box<Follower>,
) -> Result<Result<Found, (FallThrough, Box<Fill>)>, Reject> {
    let ask = exchange.ask.clone();
    let now = Instant::now();
    let head = ask.enforced_timeouts().and_then(|timeouts| timeouts.response_header).map(|after| (after, Bound::ResponseHeader));
    let left = ask.deadline().next(now).map(|(_, bound, left)| (left, bound));
    let carrier = join.carrier();
    let respond = join.respond(ask.proxy.shared.clock);
    let responded = match head.into_iter().chain(left).min_by_key(|(after, _)| *after) {
        None => respond.await,
        Some((after, bound)) => match tokio::time::timeout(after, respond).await {
            Ok(responded) => responded,
            Err(_) => return Err(Reject::Timeout { target: "another request's fetch".into(), bound, after }),
        },
    };
    let (response, info) = match responded {
        Ok(answer) => answer,
        Err(fall_through) => return Ok(Err(fall_through)),
    };
    if let (Some(call), Some(payers)) = (ask.call(), carrier.load::<Payers>()) {
        // A reader may have to pay: the leader may leave.
        let demands = Demands::of(&ask, route);
        exchange.seat = Some(payers.join(Payer::of(&ask, call, demands.own())));
    }
    note(exchange, &info);
    let kind = response.headers().get(Id::ContentType).and_then(|value| value.to_str().ok());
    let bounds = ask.body_bounds(kind.is_some_and(crate::provider::is_stream));
    Ok(Ok(Found::Answer(response, bounds)))
}

/// How long the answer to a model call may be kept, as the app asks with [`TTL`]: seconds, or a duration such as `10m`.
///
/// # Errors
/// The field is neither.
pub fn asked_ttl(arrival: &Arrival) -> Result<Option<Duration>, Reject> {
    let Some(value) = arrival.headers.get(TTL) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let seconds = || text.parse().ok().map(Duration::from_secs);
    seconds().or_else(|| humantime::parse_duration(text).ok()).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        Reject::BadRequest(format!("outrigger-cache-ttl: `{shown}` is not a duration; write seconds, or 90s, 10m, 1h").into())
    })
}

/// Refreshes under way at most, of all workers; further ones are left to later requests. A refresh is counted before the check.
const REFRESHES: i64 = 32;

/// Refreshes a stale answer in the background: from another replica's store if that has a fresh one. A refresh is an exchange of its
/// own, with a log line; the proxy pays.
fn refresh(proxy: &Rc<Proxy>, exchange: &Exchange, body: &Replay, fill: Box<Fill>) {
    let most = exchange.ask.live_door().map_or(REFRESHES, |door| REFRESHES.min(door.bounds.max_requests as i64 / 2).max(1));
    let under_way: GaugeGuard = proxy.shared.refreshes.enter();
    if !may_fill(proxy) || proxy.shared.refreshes.get() > most {
        exchange.ask.cells().policies.filled("refresh put off");
        return;
    }
    let ask = exchange.ask.refreshing();
    let (looks_inside, body) = (exchange.cache.looks_inside, body.share());
    let proxy = proxy.clone();
    tokio::task::spawn_local(async move {
        let fill = match fill.may_be_shared() {
            false => fill,
            true => match fill.look_shared(proxy.shared.clock).await {
                Lookup::Miss(fill) | Lookup::Revalidate(fill) | Lookup::Stale { revalidate: Some(fill), .. } => fill,
                _ => return,
            },
        };
        let mut exchange = Exchange::of(ask.clone());
        let Some(route) = ask.route() else { return };
        let demands = Demands::of(&ask, route);
        if ask.call().is_some()
            && let Err(reject) = demands.admit(&proxy, &mut exchange, Applies::Misses).await
        {
            // The stale answer stands: a limit has no room for a fresh one.
            exchange.refuse(reject);
            return exchange.refreshed(None, true);
        }
        let funds = Funds::of(&mut exchange, &demands);
        let stop = proxy.stop.clone();
        let fetched = stop.woken(pin!(fetch(proxy, Sending::new(ask.clone(), body, false, looks_inside, funds), fill, None))).await;
        exchange.refreshed(fetched.status, fetched.complete);
        drop(under_way);
    });
}

/// Fetches with the right to store, in a task that outlives the client if other requests wait.
///
/// # Errors
/// As [`attempt`], unless a stale answer stands in.
pub async fn fetch_and_fill(exchange: &mut Exchange, sending: Sending, fill: Box<Fill>) -> Result<Attempted, Reject> {
    let (give, take) = oneshot::channel();
    if let Some(funds) = &sending.funds {
        fill.carry(funds.payers().clone());
    }
    tokio::task::spawn_local(async move {
        // The spawn boxes the fetch. Its end is told to the waiting requests.
        let stop = sending.ask.proxy.stop.clone();
        let _ = stop.woken(pin!(fetch(sending.ask.proxy.clone(), sending, fill, Some(give)))).await;
    });
    let delivered = take.await.map_err(|_| Reject::Internal("the fetch ended without an answer".into()))??;
    match delivered.role {
        Role::Answered(info) => note(exchange, &info),
        Role::PassedBy(reason) => count_bypass(exchange, reason),
        Role::Fetched => {}
    }
    Ok(delivered.attempted)
}

/// After an answer that is not from the cache: invalidates the keys of a successful change, and purges the route's tags.
pub fn after(proxy: &Proxy, exchange: &Exchange, route: &LiveRoute, head: &AnswerHead) {
    let ask = &*exchange.ask;
    let arrival = &ask.arrival;
    let now = || proxy.shared.clock.moment();
    if arrival.door == Door::Inbound && !arrival.method.is_safe() && !exchange.cache.only_reads && ask.worker.live.caches {
        let query = query(arrival, &route.name, &[], None);
        proxy.shared.cache.invalidate(query, head.status, &head.headers, now());
    }
    if head.status.is_success() || head.status.is_redirection() {
        for tag in &route.policies.purge {
            proxy.shared.cache.purge_soon(&Purge { which: Which::Tag(tag.clone()), soft: false }, now());
        }
    }
}

type Give = oneshot::Sender<Result<Delivered, Reject>>;

/// How a fetch ended.
struct Fetched {
    /// The answer's status, if one came.
    status: Option<StatusCode>,
    /// Whether all of it was read.
    complete: bool,
}

impl Fetched {
    const NOTHING: Self = Self { status: None, complete: false };

    fn with(status: StatusCode) -> Self {
        Self { status: Some(status), complete: true }
    }
}

async fn fetch(proxy: Rc<Proxy>, mut sending: Sending, mut fill: Box<Fill>, mut give: Option<Give>) -> Fetched {
    let ask = sending.ask.clone();
    let mut unconditional = false;
    loop {
        if fill.is_revalidation() || unconditional {
            fill.request_headers(sending.headers_mut());
        }
        let again = sending.again();
        let answer = unless_deserted(in_place::pinned(|| attempt(&proxy, &mut sending)), &mut give, &fill).await;
        let Some(answer) = answer else { return Fetched::NOTHING };
        let now = proxy.shared.clock.moment();
        let attempted = match answer {
            Ok(attempted) => attempted,
            Err(reject) => {
                deliver(give, fill.on_failure(now).map(Delivered::stored).ok_or(reject));
                return Fetched::NOTHING;
            }
        };
        let status = attempted.head.status;
        if attempted.head.instead == Some(Instead::Fixed) {
            // No target could answer: the target's old answer goes before the proxy's own.
            deliver(give, Ok(fill.on_failure(now).map_or_else(|| Delivered { attempted, role: Role::Fetched }, Delivered::stored)));
            return Fetched::NOTHING;
        }
        match fill.on_head(status, &attempted.head.headers, now) {
            Decision::NotModified(response, info) | Decision::Stale(response, info) => {
                deliver(give, Ok(Delivered::stored((response, info))));
            }
            Decision::PassThrough(passed) => {
                let counted = passed.reason.filter(|_| !passed.bypass && passed.member.is_some());
                counted.into_iter().for_each(|reason| ask.cells().policies.filled(reason));
                deliver(give, Ok(Delivered::passed(attempted, passed)));
            }
            Decision::Store(recorder) => return store(&proxy, &ask, attempted, recorder, give).await,
            Decision::Refetch(next_fill) => {
                drop(attempted);
                let Some(mut next) = again else {
                    deliver(give, Err(Reject::Internal("the request cannot be sent twice".into())));
                    return Fetched::NOTHING;
                };
                next.funds = sending.funds.take();
                (fill, sending, unconditional) = (next_fill, next, true);
                continue;
            }
        }
        return Fetched::with(status);
    }
}

/// Gives an answer that may be stored to its client, to the waiting requests and to the store. The body is read once.
async fn store(proxy: &Rc<Proxy>, ask: &Rc<Ask>, attempted: Attempted, recorder: Recorder, give: Option<Give>) -> Fetched {
    let status = attempted.head.status;
    let instead = attempted.head.instead.is_some();
    let mut judge = Judge::new(ask);
    judge.answered(attempted.reading.clone(), &attempted.head);
    let Delivered { attempted, .. } = Delivered::fresh(attempted, recorder.cache_status().filter(|_| !instead));
    let Some(reader) = recorder.reader() else {
        let observer = Box::new(Observing { recorder: Some(recorder), judge, proxy: proxy.clone() });
        let body = Body::Tapped(Box::new(Tap::new(attempted.body, TimeBounds::default(), observer)));
        deliver(give, Ok(Delivered { attempted: Attempted { body, ..attempted }, role: Role::Fetched }));
        return Fetched::with(status);
    };
    let Attempted { head, body, connection, bounds, reading } = attempted;
    let for_client = Body::sized(reader.into_body(), body.size_hint().exact());
    let attempted = Attempted { head, body: for_client, connection: None, bounds: TimeBounds::default(), reading };
    deliver(give, Ok(Delivered { attempted, role: Role::Fetched }));
    let complete = pump(proxy, body, connection, bounds, recorder, judge).await;
    Fetched { status: Some(status), complete }
}

/// The attempt's answer; `None` once its client and all waiting requests have left.
async fn unless_deserted<T>(attempt: impl Future<Output = T> + Unpin, give: &mut Option<Give>, fill: &Fill) -> Option<T> {
    let Some(give) = give else { return Some(attempt.await) };
    let mut attempt = attempt;
    tokio::select! {
        biased;
        answer = &mut attempt => return Some(answer),
        () = give.closed() => {}
    }
    // The client has left. The attempt goes on for as long as another request waits.
    loop {
        if !fill.has_waiters() {
            return None;
        }
        if let Ok(answer) = tokio::time::timeout(LOOK, &mut attempt).await {
            return Some(answer);
        }
    }
}

/// How often a fetch whose client has left looks for waiting requests. After [`PATIENCE`] looks without a byte a fetch without
/// readers is abandoned.
const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: u32 = 10;

/// Reads a body for the store and for all readers; says whether all of it came.
async fn pump(
    proxy: &Proxy,
    body: Body,
    connection: Option<Connection>,
    bounds: TimeBounds,
    mut recorder: Recorder,
    mut judge: Judge,
) -> bool {
    let mut body = Body::Tapped(Box::new(Tap::new(body, bounds, Box::new(Unobserved))));
    let clock = proxy.shared.clock;
    let mut silent = 0;
    loop {
        let frame = match tokio::time::timeout(LOOK, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => {
                judge.count_broken();
                recorder.broke(&error);
                return false;
            }
            Err(_) => {
                // No byte comes and no reader waits: the next request must not wait for this fetch.
                silent += 1;
                if !recorder.has_readers() && (judge.needs_readers() || silent > PATIENCE) {
                    judge.count_broken();
                    recorder.abandon();
                    return false;
                }
                continue;
            }
        };
        silent = 0;
        match frame.into_data() {
            Ok(piece) => {
                judge.feed(&piece);
                recorder.data(&piece, clock.now());
            }
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    recorder.trailers(&Fields::from(trailers));
                }
            }
        }
        // No reader is left: a body that costs money or cannot be stored is not read on.
        if !recorder.has_readers() && (judge.needs_readers() || recorder.is_outgrown()) {
            judge.count_broken();
            recorder.abandon();
            return false;
        }
        recorder.ready().await;
    }
    if let Some(connection) = connection {
        connection.release(Instant::now());
    }
    let verdict = judge.verdict(proxy);
    judge.count_joined(verdict, recorder.joined());
    let stored = recorder.complete(clock.moment(), verdict);
    judge.count_fill(verdict, stored);
    true
}

fn deliver(give: Option<Give>, answer: Result<Delivered, Reject>) {
    if let Some(give) = give {
        // The error means that the client has left.
        let _ = give.send(answer);
    }
}

fn hit(exchange: &mut Exchange, response: Response<Body>, info: &HitInfo) -> Found {
    note(exchange, info);
    Found::Answer(response, TimeBounds::default())
}

fn bypass(exchange: &mut Exchange, reason: &'static str) -> Found {
    exchange.cache.bypass = Some(reason);
    count_bypass(exchange, reason);
    Found::Forward(None)
}

fn count_bypass(exchange: &mut Exchange, reason: &'static str) {
    exchange.cache.outcome = CacheOutcome::Bypass;
    exchange.ask.cells().policies.bypassed(reason);
}

/// Whether there is memory for one more stored answer.
fn may_fill(proxy: &Proxy) -> bool {
    proxy.shared.pressure.level() == Level::Easy
}

fn forward(proxy: &Proxy, exchange: &mut Exchange, fill: Box<Fill>) -> Found {
    if !may_fill(proxy) {
        // The fill's drop tells the waiting requests. They fetch for themselves.
        return bypass(exchange, NOT_CACHED_FOR_MEMORY);
    }
    exchange.cache.outcome = if fill.observed_hit() { CacheOutcome::ObservedHit } else { CacheOutcome::Miss };
    Found::Forward(Some(fill))
}

/// Records the cache's outcome, and the tokens and dollars saved.
fn note(exchange: &mut Exchange, info: &HitInfo) {
    exchange.cache.content = info.content;
    exchange.cache.outcome = match info.outcome {
        HitKind::Hit => CacheOutcome::Hit,
        HitKind::Stale => CacheOutcome::Stale,
        HitKind::Coalesced => CacheOutcome::Coalesced,
        HitKind::Revalidated => CacheOutcome::Revalidated,
    };
    if let (Some(savings), HitKind::Hit | HitKind::Stale) = (info.savings, info.outcome) {
        let cells = &exchange.ask.cells().policies;
        cells.saved_tokens.add(savings.usage.total());
        cells.saved_nano_usd.add(savings.nano_usd);
        enter::saved(&exchange.ask, &savings);
    }
}

/// The app's request field at the outbound door: how long the answer may be kept.
const TTL: header::HeaderName = header::HeaderName::from_static("outrigger-cache-ttl");

/// The observer of a body that needs time bounds alone.
struct Unobserved;

impl Observer for Unobserved {
    fn data(&mut self, _: &bytes::Bytes) {}
    fn end(&mut self, _: End<'_>) {}
}

/// Observe mode: the key alone is kept, once the answer has passed.
struct Observing {
    recorder: Option<Recorder>,
    judge: Judge,
    proxy: Rc<Proxy>,
}

impl Observer for Observing {
    fn data(&mut self, piece: &bytes::Bytes) {
        self.judge.feed(piece);
    }

    fn end(&mut self, end: End<'_>) {
        if let (Some(recorder), End::Complete) = (self.recorder.take(), end) {
            let verdict = self.judge.verdict(&self.proxy);
            recorder.complete(self.proxy.shared.clock.moment(), verdict);
        }
    }
}
