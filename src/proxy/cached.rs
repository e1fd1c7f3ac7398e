//! The cache in the way of a request: answer from it, wait for a fetch that is under way, or fetch for everybody.
//!
//! A fetch that may be stored is a task of its own, so that no client's cancel hurts another; a fetch that nobody waits for any
//! more and that costs money is given up.

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::oneshot;

use super::{
    Proxy,
    attempt::{Attempted, Sending, attempt},
    exchange::Exchange,
    live::LiveRoute,
    model::{ModelCall, Plan},
};
use crate::{
    arrival::{Arrival, Door},
    body::{
        Body,
        replay::Replay,
        tap::{End, Observer, Tap, TimeBounds},
    },
    config::{self, KeyPart},
    policy::{
        cache::{Decision, Fill, HitInfo, Lookup, ModelKey, Outcome, Purge, Query, Recorder, Verdict, entry::Savings, flight::FallThrough},
        limits::keys::credential,
    },
    provider::{self, Finish, Meter},
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
    body: &Replay,
) -> Result<Found, Reject> {
    let Some(policy) = &route.policies.cache else { return Ok(Found::Forward(None)) };
    let parts = match KeyParts::of(exchange, route, policy, body) {
        Ok(parts) => parts,
        Err(reason) => {
            tracing::trace!(reason, "the cache has no part in this call");
            exchange.cache = CacheOutcome::Bypass;
            return Ok(Found::Forward(None));
        }
    };
    let clock = proxy.shared.clock;
    let arrival = exchange.arrival.clone();
    let ask = || parts.query(&arrival, route, |query| proxy.shared.cache.look_up(policy, query, clock.wall()));
    let mut looked_up = ask();
    if let Lookup::Join(join) = looked_up {
        looked_up = match join.respond(clock).await {
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
            if let Some(fill) = revalidate {
                let sending = Sending::new(proxy, exchange, route_at, body.share(), false);
                let bounds = body_bounds(exchange, route);
                tokio::task::spawn_local(refresh(proxy.clone(), sending, fill, bounds));
            }
            answer(exchange, route_at, response, &info)
        }
        Lookup::Join(join) => match join.respond(clock).await {
            Ok((response, info)) => answer(exchange, route_at, response, &info),
            Err((_, fill)) => forward(exchange, fill),
        },
        Lookup::Revalidate(fill) | Lookup::Miss(fill) => forward(exchange, fill),
        Lookup::Bypass(_) => {
            exchange.cache = CacheOutcome::Bypass;
            Found::Forward(None)
        }
        Lookup::OnlyIfCached => {
            exchange.cache = CacheOutcome::Miss;
            return Err(Reject::NotCached);
        }
    };
    Ok(found)
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

/// After an answer that the cache did not give: what a successful change makes invalid, and the tags that the route purges.
pub fn after(proxy: &Proxy, exchange: &Exchange, route: &LiveRoute, head: &http::response::Parts) {
    let arrival = &exchange.arrival;
    let now = proxy.shared.clock.wall();
    if arrival.door == Door::Inbound && !arrival.method.is_safe() && exchange.worker.live.caches {
        let query = query(arrival, route, &[], None);
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
    let mut give = give;
    loop {
        fill.request_headers(sending.headers_mut());
        let again = sending.again();
        let Some(answer) = unless_deserted(attempt(&proxy, sending), &mut give, &fill).await else { return };
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
                continue;
            }
            Decision::Store(recorder) => {
                if let Some(member) = recorder.cache_status() {
                    head.headers.append(CACHE_STATUS, member);
                }
                let meter = plan.as_ref().map(|plan| (Meter::new(plan.api, plan.operation, &head.headers), plan.clone()));
                match recorder.reader() {
                    None => {
                        let observer = Box::new(Observing { recorder: Some(recorder), meter, proxy: proxy.clone() });
                        let body = Body::Tapped(Box::new(Tap::new(body, TimeBounds::default(), observer)));
                        Delivered { attempted: Attempted { head, body, connection }, info: None }
                    }
                    Some(reader) => {
                        let body_for_client = Body::sized(reader.into_body(), body.size_hint().exact());
                        let delivered = Delivered { attempted: Attempted { head, body: body_for_client, connection: None }, info: None };
                        deliver(give, Ok(delivered));
                        pump(&proxy, body, connection, bounds, recorder, meter).await;
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
async fn unless_deserted<T>(attempt: impl Future<Output = T>, give: &mut Option<Give>, fill: &Fill) -> Option<T> {
    let Some(give) = give else { return Some(attempt.await) };
    tokio::pin!(attempt);
    tokio::select! {
        biased;
        answer = &mut attempt => return Some(answer),
        () = give.closed() => {}
    }
    if fill.has_waiters() { Some(attempt.await) } else { None }
}

/// Reads a body for the store and for everybody who waits.
async fn pump(
    proxy: &Proxy,
    body: Body,
    connection: Option<Connection>,
    bounds: TimeBounds,
    mut recorder: Recorder,
    mut meter: Option<(Meter, Plan)>,
) {
    let mut body = Body::Tapped(Box::new(Tap::new(body, bounds, Box::new(Unobserved))));
    let clock = proxy.shared.clock;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            recorder.abandon();
            return;
        };
        match frame.into_data() {
            Ok(piece) => {
                if let Some((meter, _)) = &mut meter {
                    meter.feed(&piece);
                }
                recorder.data(&piece, clock.now());
            }
            Err(frame) => {
                if let Some(trailers) = frame.trailers_ref() {
                    recorder.trailers(trailers);
                }
            }
        }
        // Nobody wants it: what costs money or cannot be stored is not read for nobody.
        if !recorder.has_readers() && (meter.is_some() || recorder.is_outgrown()) {
            recorder.abandon();
            return;
        }
        recorder.ready().await;
    }
    if let Some(connection) = connection {
        connection.release();
    }
    let verdict = verdict(proxy, meter);
    recorder.complete(clock.wall(), verdict);
}

/// Whether a model's complete answer may answer others: not if it is an error in disguise, cut short, filtered, or has no end.
fn verdict(proxy: &Proxy, meter: Option<(Meter, Plan)>) -> Verdict {
    let Some((meter, plan)) = meter else { return Verdict::Store(None) };
    let observed = meter.finish(true, 0);
    if observed.error.is_some() {
        return Verdict::Discard("error inside a success");
    }
    if matches!(observed.finish, Some(Finish::Length | Finish::ContentFilter)) {
        return Verdict::Discard("cut or filtered");
    }
    if !observed.terminal && !matches!(plan.operation, config::Operation::Embeddings) {
        return Verdict::Discard("no end was seen");
    }
    let live = proxy.worker();
    let model = observed.model.as_deref().or(plan.model.as_deref()).unwrap_or_default();
    let nano_usd = live.live.prices.cost(model, &observed.usage).unwrap_or(0);
    Verdict::Store(Some(Savings { usage: observed.usage, nano_usd }))
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

fn forward(exchange: &mut Exchange, fill: Box<Fill>) -> Found {
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

/// What a key is made of beside the URI.
struct KeyParts {
    extra: Vec<(String, String)>,
    model: Option<ModelParts>,
}

struct ModelParts {
    provider: Arc<str>,
    operation: &'static str,
    headers: Vec<(&'static str, String)>,
    tenant: Vec<u8>,
    body: Vec<u8>,
    path: String,
}

impl KeyParts {
    fn of(exchange: &Exchange, route: &LiveRoute, policy: &config::Cache, body: &Replay) -> Result<Self, &'static str> {
        let arrival = &exchange.arrival;
        let part = |part: &KeyPart| part_of(part, exchange, route);
        let extra = policy.key.iter().map(part).collect();
        let model = match exchange.call.as_deref() {
            Some(call) if call.shape.reads_body => Some(ModelParts::of(call, arrival, policy, exchange.caller.as_deref(), body)?),
            _ => None,
        };
        Ok(Self { extra, model })
    }

    fn query<T>(&self, arrival: &Arrival, route: &LiveRoute, with: impl FnOnce(Query<'_>) -> T) -> T {
        let extra: Vec<(&str, &str)> = self.extra.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        match &self.model {
            None => with(query(arrival, route, &extra, None)),
            Some(model) => {
                let headers: Vec<(&str, &str)> = model.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let key = ModelKey {
                    provider: &model.provider,
                    operation: model.operation,
                    headers: &headers,
                    tenant: &model.tenant,
                    body: &model.body,
                };
                with(Query { path_and_query: &model.path, ..query(arrival, route, &extra, Some(key)) })
            }
        }
    }
}

impl ModelParts {
    fn of(call: &ModelCall, arrival: &Arrival, policy: &config::Cache, caller: Option<&str>, body: &Replay) -> Result<Self, &'static str> {
        let (Replay::Whole(bytes), Some(facts)) = (body, &call.facts) else { return Err("the body was not read") };
        provider::cacheable(call.shape.api, call.shape.operation, facts, bytes)?;
        let canonical = provider::canonical(bytes).ok_or("the body is not one plain JSON object")?;
        let mut headers: Vec<(&'static str, String)> =
            KEY_HEADERS.into_iter().filter_map(|name| Some((name, joined(&arrival.headers, name)?))).collect();
        // A stream does not answer a call that wanted none, nor one without usage a call that wanted it.
        headers.push(("stream", format!("{}/{}", call.streams, facts.include_usage)));
        let gzip = arrival.headers.get(header::ACCEPT_ENCODING).is_some_and(|v| memchr::memmem::find(v.as_bytes(), b"gzip").is_some());
        headers.push(("gzip", gzip.to_string()));
        let mut tenant = Vec::new();
        if !policy.share {
            tenant.extend_from_slice(credential(&arrival.headers, arrival.uri.query()).unwrap_or_default());
            if policy.per_caller {
                tenant.push(0);
                tenant.extend_from_slice(caller.unwrap_or_default().as_bytes());
            }
        }
        let path = call.rest.split_once("key=").map_or(call.rest.as_str(), |(before, _)| before).to_owned();
        Ok(Self { provider: call.provider.clone(), operation: call.shape.operation.as_str(), headers, tenant, body: canonical, path })
    }
}

/// Request fields that change what a provider answers.
const KEY_HEADERS: [&str; 6] =
    ["anthropic-beta", "anthropic-version", "openai-beta", "openai-organization", "openai-project", "x-goog-user-project"];
const CACHE_STATUS: header::HeaderName = header::HeaderName::from_static("cache-status");

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn query<'a>(arrival: &'a Arrival, route: &'a LiveRoute, extra: &'a [(&'a str, &'a str)], model: Option<ModelKey<'a>>) -> Query<'a> {
    let claimed = arrival.trusted.then(|| arrival.header("x-forwarded-proto")).flatten();
    Query {
        route: &route.name,
        method: &arrival.method,
        scheme: claimed.unwrap_or(if arrival.tls { "https" } else { "http" }),
        host: arrival.header(header::HOST).unwrap_or_default(),
        path_and_query: arrival.uri.path_and_query().map_or("/", |path| path.as_str()),
        headers: &arrival.headers,
        extra,
        model,
    }
}

fn part_of(part: &KeyPart, exchange: &Exchange, route: &LiveRoute) -> (String, String) {
    use crate::policy::limits::keys;
    let arrival = &exchange.arrival;
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    match part {
        KeyPart::ClientIp => ("client_ip".into(), arrival.client.to_string()),
        KeyPart::Caller => ("caller".into(), exchange.caller.as_deref().unwrap_or_default().to_owned()),
        KeyPart::Header(name) => (format!("header:{name}"), joined(&arrival.headers, name.as_str()).unwrap_or_default()),
        KeyPart::Cookie(name) => (format!("cookie:{name}"), text(keys::cookie(&arrival.headers, name))),
        KeyPart::Query(name) => (format!("query:{name}"), text(arrival.uri.query().and_then(|query| keys::parameter(query, name)))),
        KeyPart::ApiKey => ("api_key".into(), text(credential(&arrival.headers, arrival.uri.query()))),
        KeyPart::Route => ("route".into(), route.name.to_string()),
        KeyPart::Provider => ("provider".into(), exchange.call.as_ref().map(|call| call.provider.to_string()).unwrap_or_default()),
        KeyPart::Model => ("model".into(), exchange.call.as_ref().and_then(|call| call.model.as_deref()).unwrap_or_default().to_owned()),
    }
}

/// For bodies whose time bounds matter and nothing else.
struct Unobserved;

impl Observer for Unobserved {
    fn data(&mut self, _: &bytes::Bytes) {}
    fn end(&mut self, _: End<'_>) {}
}

/// Observe mode: the key is kept once the answer has passed.
struct Observing {
    recorder: Option<Recorder>,
    meter: Option<(Meter, Plan)>,
    proxy: Rc<Proxy>,
}

impl Observer for Observing {
    fn data(&mut self, piece: &bytes::Bytes) {
        if let Some((meter, _)) = &mut self.meter {
            meter.feed(piece);
        }
    }

    fn end(&mut self, end: End<'_>) {
        if let (Some(recorder), End::Complete) = (self.recorder.take(), end) {
            let verdict = verdict(&self.proxy, self.meter.take());
            recorder.complete(self.proxy.shared.clock.wall(), verdict);
        }
    }
}
