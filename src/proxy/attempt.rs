//! Fallback picks the target, retry paces the tries, breaker and timeout guard each one.
//!
//! Read [`attempt`], then `try_target`. What one try does is in [`super::forward`], what its answer means in `judged`.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header, response};
use tokio::time::Instant;

use super::{
    Proxy,
    exchange::{Exchange, Tries},
    forward::{self, Failed, TryBounds},
    judged::{self, Tried},
    live::{LiveProvider, LiveRoute, Worker},
    model::Plan,
    request,
};
use crate::{
    arrival::{Arrival, Door},
    body::{Body, replay::Replay, upload::Progress},
    config::{Fallback, Mode},
    policy::{
        retry::{self, Next, Outcome, Verdict},
        timeout::Deadline,
    },
    provider,
    reject::{Bound, Fault, Reject},
    telemetry::trace::{ClientStart, Span, Trace},
    upstream::{Connection, Pool},
};

/// Everything that the tries of one request need. Holds nothing of the client, so a task can outlive it.
pub struct Sending {
    pub(super) arrival: Rc<Arrival>,
    worker: Rc<Worker>,
    route_at: usize,
    body: Replay,
    pub(super) upload: Rc<Progress>,
    tries: Rc<Tries>,
    pub(super) plan: Option<Plan>,
    source: request::Source,
    /// The fields, where something was added to what the source gives.
    fixed: Option<Box<HeaderMap>>,
    trace: Option<Trace>,
    pub(super) websocket: bool,
    pub(super) deadline: Deadline,
}

/// What came of it.
pub struct Attempted {
    /// Cleaned; of the target, or of a static answer.
    pub head: response::Parts,
    /// To be passed on.
    pub body: Body,
    /// To be released at the body's end.
    pub connection: Option<Connection>,
}

/// Whose answer it is, if not the first target's: an extension of the answer's head. Such an answer is given and not kept,
/// because the first target's is asked for again once it is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Another target's.
    Target,
    /// Ours, from the configuration.
    Fixed,
}

/// One place to try.
pub(super) struct Aim<'a> {
    pub(super) pool: &'a Rc<Pool>,
    provider: Option<&'a LiveProvider>,
    model: Option<&'a str>,
}

impl Sending {
    /// Prepares the tries of `exchange`.
    pub fn new(exchange: &Exchange, route_at: usize, body: Replay, websocket: bool) -> Self {
        let timeouts = route_of(&exchange.worker, exchange.arrival.door, route_at).and_then(|route| route.policies.timeouts.as_ref());
        Self {
            deadline: crate::policy::timeout::deadline(exchange.arrival.at, timeouts, None),
            plan: exchange.call.as_ref().map(|call| call.plan()),
            source: request::Source::new(exchange, websocket),
            fixed: None,
            trace: exchange.trace.clone(),
            arrival: exchange.arrival.clone(),
            worker: exchange.worker.clone(),
            upload: exchange.upload.clone(),
            tries: exchange.tries.clone(),
            route_at,
            body,
            websocket,
        }
    }

    /// The same request once more, if its body is in memory.
    pub fn again(&self) -> Option<Self> {
        matches!(self.body, Replay::Whole(_)).then(|| Self {
            arrival: self.arrival.clone(),
            worker: self.worker.clone(),
            route_at: self.route_at,
            body: self.body.share(),
            upload: self.upload.clone(),
            tries: self.tries.clone(),
            plan: self.plan.clone(),
            source: self.source.clone(),
            fixed: self.fixed.clone(),
            trace: self.trace.clone(),
            websocket: self.websocket,
            deadline: self.deadline,
        })
    }

    /// For a fetch that belongs to no exchange: its tries are none of the one that it was made from.
    pub fn in_background(mut self) -> Self {
        self.tries = Rc::default();
        self
    }

    /// Whose route it is, and which.
    pub(super) fn place(&self) -> (Rc<Worker>, usize) {
        (self.worker.clone(), self.route_at)
    }

    /// Fields that the request to the target must carry beside its own (validators of a stored answer).
    pub fn headers_mut(&mut self, proxy: &Proxy) -> &mut HeaderMap {
        self.fixed.get_or_insert_with(|| Box::new(self.source.fields(proxy)))
    }
}

/// Sends the request until an answer can be kept or nothing is left to try.
pub async fn attempt(proxy: &Rc<Proxy>, mut sending: Sending) -> Result<Attempted, Reject> {
    let worker = sending.worker.clone();
    let Some(route) = route_of(&worker, sending.arrival.door, sending.route_at) else {
        return Err(Reject::Internal("the route is gone".into()));
    };
    let cells = &worker.route(sending.arrival.door, sending.route_at).policies;
    let first = first_aim(&worker, &sending);
    let mut rest = route.fallback.iter();
    let next = next_after(&rest);
    let mut last = try_target(proxy, &mut sending, route, &first, next).await;
    while let Ok(Last { move_on: true, .. }) = &last {
        last = match rest.next() {
            None => break,
            Some(Fallback::Provider { provider, model }) => {
                let provider = &worker.live.providers[*provider];
                cells.fallback(&provider.name);
                let aim = Aim { pool: &worker.pools[provider.target], provider: Some(provider), model: model.as_deref() };
                let next = next_after(&rest);
                let mut last = try_target(proxy, &mut sending, route, &aim, next).await;
                if let Ok(Last { answer: Ok(attempted), .. }) = &mut last {
                    attempted.head.extensions.insert(Instead::Target);
                }
                last
            }
            Some(Fallback::Respond { status, body, content_type }) => {
                cells.fallback("respond");
                Ok(Last { answer: Ok(fixed(*status, body, content_type)), move_on: false })
            }
        };
    }
    let mut answer = last?.answer;
    if let Ok(attempted) = &mut answer
        && sending.plan.is_some()
        && route.policies.retry.as_ref().is_some_and(|retry| retry.mode == Mode::Enforce)
        && !attempted.head.status.is_success()
    {
        // Our policy has run: an SDK that tries again multiplies it.
        attempted.head.headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    answer
}

/// What a target's last try gave, and whether what comes after it may be asked.
struct Last {
    answer: Result<Attempted, Reject>,
    move_on: bool,
}

/// All tries at one target. `Err`: the client is at fault or its time is over; nothing else may be tried.
async fn try_target(proxy: &Rc<Proxy>, sending: &mut Sending, route: &LiveRoute, aim: &Aim<'_>, next: Next) -> Result<Last, Reject> {
    let target = &aim.pool.target;
    let cells = &aim.pool.cells;
    let policy = route.policies.retry.as_ref();
    let model = aim.model.or(sending.plan.as_ref().and_then(|plan| plan.model.as_deref())).map(str::to_owned);
    let guard = route
        .policies
        .breaker
        .as_ref()
        .map(|terms| sending.worker.breaker(&proxy.shared.breakers, terms, route.group.as_deref(), &target.name, model.as_deref()));
    let budget = sending.worker.budget(&proxy.shared.budgets, policy, route.group.as_deref(), &target.name);
    if policy.is_some() {
        budget.deposit(Instant::now());
    }
    let arrival = sending.arrival.clone();
    let repeatable = retry::repeatable(arrival.door, &arrival.method, &arrival.headers, policy);
    let idempotent = retry::repeatable(Door::Inbound, &arrival.method, &arrival.headers, None);
    let mut reconnected = false;
    let mut made = 0;
    loop {
        let permit = match guard.as_ref().map(|breaker| breaker.permit(Instant::now())) {
            None => None,
            Some(Ok(permit)) => Some(permit),
            Some(Err(open)) => {
                let reject = Reject::BreakerOpen { target: target.name.clone(), retry_after: open.retry_after };
                return Ok(Last { answer: Err(reject), move_on: next != Next::Nothing });
            }
        };
        let Some(body) = sending.next_body(aim) else {
            return Err(Reject::Internal("the request's body can be sent only once".into()));
        };
        made += 1;
        let tried = one_try(proxy, sending, route, aim, body, made).await?;
        if let Some(permit) = permit {
            permit.settle(tried.for_breaker(), Instant::now(), &proxy.chance);
        }
        cells.tried(tried.word);
        let replayable = sending.body.can_repeat();
        if let Some(broke) = tried.broke
            && !reconnected
            && replayable
            && retry::safe_reconnect(broke, idempotent)
        {
            reconnected = true;
            made -= 1;
            cells.retried("safe_reconnect");
            continue;
        }
        // The time matters only to a policy or a deadline.
        let timed = policy.is_some() || sending.deadline != Deadline::NONE;
        let now = if timed { Instant::now() } else { arrival.at };
        let standing = retry::Tries { made, repeatable, replayable, left: sending.deadline.left(now), next };
        let judgement = retry::judge(&tried.outcome, &standing, policy, &budget, &proxy.chance, now);
        if judgement.budget_exhausted {
            cells.budget_exhausted.inc();
        }
        if judgement.observed {
            cells.retried("observed");
        }
        match judgement.verdict {
            Verdict::TryAgain { pause } => {
                cells.retried(tried.word);
                drop(tried);
                tokio::time::sleep(pause).await;
                sending.tries.waited.set(sending.tries.waited.get() + pause);
            }
            Verdict::NextTarget => return Ok(Last { answer: tried.answer, move_on: true }),
            Verdict::Keep => return Ok(Last { answer: tried.answer, move_on: false }),
        }
    }
}

/// One try. `Err`: the client's own fault, or its time is over.
async fn one_try(proxy: &Rc<Proxy>, sending: &Sending, route: &LiveRoute, aim: &Aim<'_>, body: Body, nth: u32) -> Result<Tried, Reject> {
    let (target, cells) = (&aim.pool.target, &aim.pool.cells);
    sending.tries.made.set(sending.tries.made.get() + 1);
    sending.tries.target.replace(Some(target.name.clone()));
    let (uri, mut headers) = sending.addressed(proxy, aim)?;
    let mut span = sending.begin_span(proxy, aim, &uri, &mut headers, nth);
    let bounds = TryBounds::new(route.policies.timeouts.as_ref(), sending.deadline);
    let sent = forward::send(aim.pool, &sending.arrival, uri, headers, body, &sending.upload, bounds).await;
    let tried = match sent {
        Err(failed) => sending.failed(aim, failed),
        Ok(responded) => {
            sending.tries.last.set(Some(responded.took));
            sending.tries.waited.set(sending.tries.waited.get() + responded.took);
            cells.duration.observe_duration(responded.took);
            for bound in &responded.overran {
                cells.timed_out(bound);
            }
            judged::understand(proxy, sending, route, aim, responded).await
        }
    };
    if let Some(span) = &mut span {
        match tried.as_ref().map(|tried| &tried.answer) {
            Ok(Ok(attempted)) => span.status(attempted.head.status.as_u16()),
            Ok(Err(reject)) | Err(reject) => span.error(reject.reason()),
        }
    }
    if let (Some(span), Some(tracer)) = (span, &proxy.telemetry.tracer) {
        tracer.end(span, proxy.shared.clock.wall());
    }
    tried
}

impl Sending {
    /// The body for the next try, with the model that the aim asks for.
    fn next_body(&mut self, aim: &Aim<'_>) -> Option<Body> {
        match (&self.body, aim.model) {
            (Replay::Whole(bytes), Some(model)) if self.plan.as_ref().is_some_and(|plan| !plan.model_in_path) => {
                Some(Body::full(provider::with_model(bytes, model).unwrap_or_else(|| bytes.clone())))
            }
            _ => self.body.take(),
        }
    }

    /// URI and fields for this aim.
    fn addressed(&self, proxy: &Proxy, aim: &Aim<'_>) -> Result<(Uri, HeaderMap), Reject> {
        let mut headers = self.fixed.as_deref().cloned().unwrap_or_else(|| self.source.fields(proxy));
        let uri = match (&self.plan, aim.provider) {
            (Some(plan), Some(provider)) => {
                headers.insert(header::HOST, aim.pool.target.authority.clone());
                if aim.model.is_some() {
                    // Another model changes the length.
                    headers.remove(header::CONTENT_LENGTH);
                }
                let own = std::ptr::eq(provider, &self.worker.live.providers[plan.provider_at]);
                request::credential(&mut headers, provider, own, proxy);
                plan.uri(provider, aim.model, own)
            }
            _ => {
                // HTTP/1.0 may come without one; HTTP/1.1, in which it goes on, may not.
                headers.entry(header::HOST).or_insert_with(|| aim.pool.target.authority.clone());
                request::app_uri(&self.arrival.uri, &aim.pool.target.origin.base)
            }
        };
        Ok((uri.map_err(|_| Reject::BadRequest("the request target is not valid for the target's URL".into()))?, headers))
    }

    /// The try's own span; its id leaves in `traceparent`.
    fn begin_span(&self, proxy: &Proxy, aim: &Aim<'_>, uri: &Uri, headers: &mut HeaderMap, nth: u32) -> Option<Span> {
        let trace = self.trace.as_ref()?;
        let context = trace.child(&proxy.chance);
        context.write(headers);
        let origin = &aim.pool.target.origin;
        let start = ClientStart {
            method: &self.arrival.method,
            scheme: if aim.pool.target.tls.is_some() { "https" } else { "http" },
            host: &origin.host,
            port: origin.port,
            path: uri.path(),
            resend: nth - 1,
        };
        Span::client(&context, trace.context.span_id, &start, proxy.shared.clock.wall())
    }

    fn failed(&self, aim: &Aim<'_>, failed: Failed) -> Result<Tried, Reject> {
        let (target, cells) = (&aim.pool.target, &aim.pool.cells);
        match failed {
            Failed::Client(reject) => Err(reject),
            Failed::Timeout(bound, after) => {
                self.tries.waited.set(self.tries.waited.get() + after);
                cells.timed_out(bound.as_str());
                let reject = Reject::Timeout { target: target.name.clone(), bound, after };
                if bound == Bound::Total { Err(reject) } else { Ok(Tried::rejected(reject, Outcome::Timeout(bound))) }
            }
            Failed::Malformed(malformed) => {
                let outcome = Outcome::Fault { fault: Fault::Malformed, may_be_processed: true };
                Ok(Tried::rejected(malformed.into_reject(target), outcome))
            }
            Failed::Send(error) => {
                let outcome = match error.timeout {
                    Some(_) => {
                        cells.timed_out(Bound::Connect.as_str());
                        Outcome::Timeout(Bound::Connect)
                    }
                    None => Outcome::Fault { fault: error.fault, may_be_processed: !error.unsent },
                };
                let unseen = error.unsent && error.timeout.is_none();
                let broke = Some(retry::Broke { fault: error.fault, reused: error.reused, unseen });
                Ok(Tried { broke, ..Tried::rejected(error.into_reject(target), outcome) })
            }
        }
    }
}

fn next_after(rest: &std::slice::Iter<'_, Fallback>) -> Next {
    match rest.as_slice().first() {
        Some(Fallback::Provider { .. }) => Next::Target,
        Some(Fallback::Respond { .. }) => Next::Answer,
        None => Next::Nothing,
    }
}

fn first_aim<'w>(worker: &'w Worker, sending: &Sending) -> Aim<'w> {
    match &sending.plan {
        None => Aim { pool: &worker.pools[0], provider: None, model: None },
        Some(plan) => {
            let provider = &worker.live.providers[plan.provider_at];
            Aim { pool: &worker.pools[provider.target], provider: Some(provider), model: None }
        }
    }
}

fn route_of(worker: &Worker, door: Door, at: usize) -> Option<&LiveRoute> {
    worker.live.door(door).and_then(|door| door.routes.get(at))
}

fn fixed(status: StatusCode, body: &str, content_type: &HeaderValue) -> Attempted {
    let mut response = Response::new(Body::full(body.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
    response.headers_mut().insert("proxy-status", HeaderValue::from_static("outrigger; details=\"fallback\""));
    response.extensions_mut().insert(Instead::Fixed);
    let (head, body) = response.into_parts();
    Attempted { head, body, connection: None }
}
