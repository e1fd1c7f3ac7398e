//! The cache in the way of a request: answer from it, wait for a fetch that is under way, or fetch for everybody.
//!
//! A fetch that may be stored is a task of its own, so that no client's cancel hurts another; a fetch that nobody waits for any
//! more and that costs money is given up.

use std::{rc::Rc, time::Duration};

use http::{Response, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Proxy,
    attempt::{Attempted, Instead, Sending, attempt},
    cache_key::{Asked, KeyParts, query},
    declared,
    exchange::Exchange,
    live::LiveRoute,
    worth::Judge,
};
use crate::{
    arrival::{Arrival, Door},
    body::{
        Body,
        replay::Replay,
        tap::{End, Observer, Tap, TimeBounds},
    },
    config,
    policy::cache::{Decision, Fill, HitInfo, Lookup, Outcome, Purge, Query, Recorder, flight::FallThrough, status},
    pressure::Level,
    reject::Reject,
    store::memory::Which,
    telemetry::metrics::CacheOutcome,
    upstream::Connection,
};

/// What the cache says to a request.
pub enum Found {
    /// Answer with this.
    Answer(Response<Body>),
    /// Ask upstream; the fill may store what comes.
    Forward(Option<Box<Fill>>),
}

/// Looks a request up, and waits if somebody already fetches what it asks for.
///
/// # Errors
/// `only-if-cached`, and nothing is stored.
pub async fn look_up(
    proxy: &Rc<Proxy>,
    exchange: &mut Exchange,
    route: &LiveRoute,
    route_at: usize,
    body: &mut Replay,
) -> Result<Found, Reject> {
    let Some(policy) = &route.policies.cache else { return Ok(Found::Forward(None)) };
    let declared = Box::pin(declared::read(proxy, exchange, route, body)).await?;
    let parts = match KeyParts::of(&Asked::of(exchange, route, body, declared.as_ref()), policy) {
        Ok(parts) => parts,
        Err(reason) => return Ok(bypass(exchange, route_at, reason)),
    };
    let ttl = if exchange.call.is_some() { asked_ttl(&exchange.arrival)? } else { None };
    let clock = proxy.shared.clock;
    let arrival = exchange.arrival.clone();
    let ask = || parts.query(&arrival, &route.name, |query| proxy.shared.cache.look_up(policy, Query { ttl, ..query }, clock.wall()));
    let mut looked_up = ask();
    if let Lookup::Join(join) = looked_up {
        looked_up = match Box::pin(join.respond(clock)).await {
            Ok((response, info)) => Lookup::Hit(response, info),
            // Whoever fetched has left or failed: one of those who wait fetches, not each of them.
            Err((FallThrough::Failed, _)) => ask(),
            Err((_, fill)) => Lookup::Miss(fill),
        };
    }
    if let Lookup::Miss(fill) | Lookup::Revalidate(fill) = looked_up {
        // Boxed: without a store its size would be carried by every request in flight.
        looked_up = if fill.may_be_shared() { Box::pin(fill.look_shared(clock)).await } else { Lookup::Miss(fill) };
    }
    let found = match looked_up {
        Lookup::Hit(response, info) => answer(exchange, route_at, response, &info),
        Lookup::Stale { response, info, revalidate } => {
            if let Some(fill) = revalidate.filter(|_| may_fill(proxy)) {
                let sending = Sending::new(exchange, route_at, body.share(), false).in_background();
                let bounds = body_bounds(exchange, route);
                tokio::task::spawn_local(refresh(proxy.clone(), sending, fill, bounds));
            }
            answer(exchange, route_at, response, &info)
        }
        Lookup::Join(join) => match Box::pin(join.respond(clock)).await {
            Ok((response, info)) => answer(exchange, route_at, response, &info),
            Err((_, fill)) => forward(proxy, exchange, route_at, fill),
        },
        Lookup::Revalidate(fill) | Lookup::Miss(fill) => forward(proxy, exchange, route_at, fill),
        Lookup::Bypass(reason) => bypass(exchange, route_at, reason),
        Lookup::OnlyIfCached => {
            exchange.cache = CacheOutcome::Miss;
            return Err(Reject::NotCached);
        }
    };
    Ok(found)
}

/// How long the answer to a model call may be kept, as the app asks with [`TTL`]: seconds, or a duration such as `10m`.
fn asked_ttl(arrival: &Arrival) -> Result<Option<Duration>, Reject> {
    let Some(value) = arrival.headers.get(TTL) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let seconds = || text.parse().ok().map(Duration::from_secs);
    seconds().or_else(|| humantime::parse_duration(text).ok()).map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(32).collect();
        Reject::BadRequest(format!("outrigger-cache-ttl: `{shown}` is not a duration; write seconds, or 90s, 10m, 1h").into())
    })
}

/// Brings a stale answer up to date, from another replica if it has done so already.
async fn refresh(proxy: Rc<Proxy>, sending: Sending, fill: Box<Fill>, bounds: TimeBounds) {
    let fill = match fill.may_be_shared() {
        false => fill,
        true => match fill.look_shared(proxy.shared.clock).await {
            Lookup::Miss(fill) | Lookup::Revalidate(fill) | Lookup::Stale { revalidate: Some(fill), .. } => fill,
            _ => return,
        },
    };
    fetch(proxy, sending, fill, bounds, None).await;
}

/// Fetches with the right to store, in a task that outlives the client if others wait.
///
/// # Errors
/// As [`attempt`], unless a stale answer stands in.
pub async fn fetch_and_fill(
    proxy: &Rc<Proxy>,
    exchange: &mut Exchange,
    route: &LiveRoute,
    route_at: usize,
    sending: Sending,
    fill: Box<Fill>,
) -> Result<Attempted, Reject> {
    let (give, take) = oneshot::channel();
    tokio::task::spawn_local(fetch(proxy.clone(), sending, fill, body_bounds(exchange, route), Some(give)));
    let delivered = take.await.map_err(|_| Reject::Internal("the fetch ended without an answer".into()))??;
    if let Some(info) = &delivered.info {
        note(exchange, route_at, info);
    }
    Ok(delivered.attempted)
}

/// After an answer that the cache did not give: what a successful change makes invalid, the tags that the route purges, and
/// why the cache had no part in it.
pub fn after(proxy: &Proxy, exchange: &Exchange, route: &LiveRoute, head: &mut http::response::Parts) {
    let arrival = &exchange.arrival;
    let now = proxy.shared.clock.wall();
    if let (Some(reason), Some(config::Mode::Enforce)) = (exchange.bypass, route.policies.cache.as_ref().map(|policy| policy.mode)) {
        head.headers.append(CACHE_STATUS, status::bypassed(reason));
    }
    if arrival.door == Door::Inbound && !arrival.method.is_safe() && !exchange.only_reads && exchange.worker.live.caches {
        let query = query(arrival, &route.name, &[], None);
        proxy.shared.cache.invalidate(query, head.status, &head.headers, now);
    }
    if head.status.is_success() || head.status.is_redirection() {
        for tag in &route.policies.purge {
            proxy.shared.cache.purge(&Purge { which: Which::Tag(tag.clone()), soft: false }, now);
        }
    }
}

/// What goes to the client that began a fetch.
struct Delivered {
    attempted: Attempted,
    info: Option<HitInfo>,
}

type Give = oneshot::Sender<Result<Delivered, Reject>>;

async fn fetch(proxy: Rc<Proxy>, mut sending: Sending, mut fill: Box<Fill>, bounds: TimeBounds, give: Option<Give>) {
    let plan = sending.plan.clone();
    let mut judge = Judge::new(&sending);
    let mut give = give;
    let mut again_unconditionally = false;
    loop {
        if fill.is_revalidation() || again_unconditionally {
            fill.request_headers(sending.headers_mut(&proxy));
        }
        let again = sending.again();
        let Some(answer) = unless_deserted(Box::pin(attempt(&proxy, sending)), &mut give, &fill).await else { return };
        let now = proxy.shared.clock.wall();
        let attempted = match answer {
            Ok(attempted) => attempted,
            Err(reject) => {
                let answer = match fill.on_failure(now) {
                    Some((response, info)) => Ok(Delivered { attempted: whole(response), info: Some(info) }),
                    None => Err(reject),
                };
                deliver(give, answer);
                return;
            }
        };
        let Attempted { mut head, body, connection } = attempted;
        let instead = head.extensions.get::<Instead>().copied();
        if instead == Some(Instead::Fixed) {
            // No target could answer: an old answer of its own goes before ours.
            let delivered = match fill.on_failure(now) {
                Some((response, info)) => Delivered { attempted: whole(response), info: Some(info) },
                None => Delivered { attempted: Attempted { head, body, connection }, info: None },
            };
            deliver(give, Ok(delivered));
            return;
        }
        let delivered = match fill.on_head(head.status, &head.headers, now) {
            Decision::NotModified(response, info) | Decision::Stale(response, info) => {
                Delivered { attempted: whole(response), info: Some(info) }
            }
            Decision::PassThrough(member) => {
                if let Some(member) = member {
                    head.headers.append(CACHE_STATUS, member);
                }
                Delivered { attempted: Attempted { head, body, connection }, info: None }
            }
            Decision::Refetch(unconditional) => {
                drop((body, connection));
                let Some(next) = again else {
                    deliver(give, Err(Reject::Internal("the request cannot be sent twice".into())));
                    return;
                };
                (fill, sending) = (unconditional, next);
                again_unconditionally = true;
                continue;
            }
            Decision::Store(recorder) => {
                if let Some(member) = recorder.cache_status().filter(|_| instead.is_none()) {
                    head.headers.append(CACHE_STATUS, member);
                }
                judge.answered(plan.as_ref(), &head);
                match recorder.reader() {
                    None => {
                        let observer = Box::new(Observing { recorder: Some(recorder), judge, proxy: proxy.clone() });
                        let body = Body::Tapped(Box::new(Tap::new(body, TimeBounds::default(), observer)));
                        Delivered { attempted: Attempted { head, body, connection }, info: None }
                    }
                    Some(reader) => {
                        let body_for_client = Body::sized(reader.into_body(), body.size_hint().exact());
                        let delivered = Delivered { attempted: Attempted { head, body: body_for_client, connection: None }, info: None };
                        deliver(give, Ok(delivered));
                        pump(&proxy, body, connection, bounds, recorder, judge).await;
                        return;
                    }
                }
            }
        };
        deliver(give, Ok(delivered));
        return;
    }
}

/// The attempt's answer, or `None` once the only client that wanted it has left.
async fn unless_deserted<T>(attempt: impl Future<Output = T> + Unpin, give: &mut Option<Give>, fill: &Fill) -> Option<T> {
    let Some(give) = give else { return Some(attempt.await) };
    let mut attempt = attempt;
    tokio::select! {
        biased;
        answer = &mut attempt => return Some(answer),
        () = give.closed() => {}
    }
    // Others wait: for as long as any of them does.
    loop {
        if !fill.has_waiters() {
            return None;
        }
        if let Ok(answer) = tokio::time::timeout(LOOK, &mut attempt).await {
            return Some(answer);
        }
    }
}

/// How often a fetch whose client has left looks whether anybody waits for it, and how many looks without a byte it is granted.
const LOOK: Duration = Duration::from_secs(1);
const PATIENCE: u32 = 10;

/// Reads a body for the store and for everybody who waits.
async fn pump(proxy: &Proxy, body: Body, connection: Option<Connection>, bounds: TimeBounds, mut recorder: Recorder, mut judge: Judge) {
    let mut body = Body::Tapped(Box::new(Tap::new(body, bounds, Box::new(Unobserved))));
    let clock = proxy.shared.clock;
    let mut silent = 0;
    loop {
        let frame = match tokio::time::timeout(LOOK, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => {
                judge.count_broken();
                recorder.abandon();
                return;
            }
            Err(_) => {
                // Nothing comes and nobody waits: whoever asks next shall not wait for this.
                silent += 1;
                if !recorder.has_readers() && (judge.is_of_a_model() || silent > PATIENCE) {
                    judge.count_broken();
                    recorder.abandon();
                    return;
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
                    recorder.trailers(trailers);
                }
            }
        }
        // Nobody wants it: what costs money or cannot be stored is not read for nobody.
        if !recorder.has_readers() && (judge.is_of_a_model() || recorder.is_outgrown()) {
            judge.count_broken();
            recorder.abandon();
            return;
        }
        recorder.ready().await;
    }
    if let Some(connection) = connection {
        connection.release(Instant::now());
    }
    let verdict = judge.verdict(proxy);
    judge.count_joined(verdict, recorder.joined());
    let stored = recorder.complete(clock.wall(), verdict);
    judge.count_fill(verdict, stored);
}

fn deliver(give: Option<Give>, answer: Result<Delivered, Reject>) {
    if let Some(give) = give {
        // A client that has left does not mind.
        let _ = give.send(answer);
    }
}

fn whole(response: Response<Body>) -> Attempted {
    let (head, body) = response.into_parts();
    Attempted { head, body, connection: None }
}

fn answer(exchange: &mut Exchange, route_at: usize, response: Response<Body>, info: &HitInfo) -> Found {
    note(exchange, route_at, info);
    Found::Answer(response)
}

fn bypass(exchange: &mut Exchange, route_at: usize, reason: &'static str) -> Found {
    exchange.cache = CacheOutcome::Bypass;
    exchange.bypass = Some(reason);
    exchange.worker.route(exchange.arrival.door, route_at).policies.bypassed(reason);
    Found::Forward(None)
}

/// Whether there is memory for what would be stored.
fn may_fill(proxy: &Proxy) -> bool {
    proxy.shared.pressure.level() == Level::Easy
}

fn forward(proxy: &Proxy, exchange: &mut Exchange, route_at: usize, fill: Box<Fill>) -> Found {
    if !may_fill(proxy) {
        // Whoever waits for this fill is told by its drop, and asks for itself.
        return bypass(exchange, route_at, "memory");
    }
    exchange.cache = if fill.observed_hit() { CacheOutcome::ObservedHit } else { CacheOutcome::Miss };
    Found::Forward(Some(fill))
}

/// Writes down how the cache answered, and what that saved.
fn note(exchange: &mut Exchange, route_at: usize, info: &HitInfo) {
    exchange.cache = match info.outcome {
        Outcome::Hit => CacheOutcome::Hit,
        Outcome::Stale => CacheOutcome::Stale,
        Outcome::Coalesced => CacheOutcome::Coalesced,
        Outcome::Revalidated => CacheOutcome::Revalidated,
    };
    if let Some(call) = &mut exchange.call {
        call.cached = true;
    }
    if let (Some(savings), Outcome::Hit | Outcome::Stale) = (info.savings, info.outcome) {
        let cells = &exchange.worker.route(exchange.arrival.door, route_at).policies;
        cells.saved_tokens.add(savings.usage.total());
        cells.saved_nano_usd.add(savings.nano_usd);
    }
}

fn body_bounds(exchange: &Exchange, route: &LiveRoute) -> TimeBounds {
    let timeouts = route.policies.timeouts.as_ref().filter(|timeouts| timeouts.mode == config::Mode::Enforce);
    let deadline = timeouts.and_then(|timeouts| timeouts.total).map(|total| exchange.arrival.at + total);
    TimeBounds { idle: timeouts.and_then(|timeouts| timeouts.idle), deadline: deadline.filter(|_| exchange.call.is_none()) }
}

/// A request field of the app's, at the outbound door.
const TTL: header::HeaderName = header::HeaderName::from_static("outrigger-cache-ttl");

const CACHE_STATUS: header::HeaderName = header::HeaderName::from_static("cache-status");

/// For bodies whose time bounds matter and nothing else.
struct Unobserved;

impl Observer for Unobserved {
    fn data(&mut self, _: &bytes::Bytes) {}
    fn end(&mut self, _: End<'_>) {}
}

/// Observe mode: the key is kept once the answer has passed.
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
            recorder.complete(self.proxy.shared.clock.wall(), verdict);
        }
    }
}
