//! Fallback picks the target, retry paces the tries, breaker and timeout guard each one.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header, response};
use tokio::time::Instant;

use super::{
    Proxy,
    exchange::{Exchange, Tries},
    forward::{self, Failed, Responded, TryBounds},
    hold,
    live::{LiveProvider, LiveRoute, Worker},
    model::Plan,
    request,
};
use crate::{
    arrival::{Arrival, Door},
    body::{Body, replay::Replay, upload::Progress},
    clock::Clock,
    config::Fallback,
    policy::{
        breaker::{self, Permit},
        retry::{Outcome, Verdict},
    },
    provider::{self, ErrorClass},
    reject::{Bound, Fault, Reject},
    upstream::{Connection, Pool},
};

/// Everything that the tries of one request need. Holds nothing of the client, so a task can outlive it.
pub struct Sending {
    arrival: Rc<Arrival>,
    worker: Rc<Worker>,
    route_at: usize,
    body: Replay,
    upload: Rc<Progress>,
    tries: Rc<Tries>,
    plan: Option<Plan>,
    /// Fields of the request as any target gets them.
    headers: HeaderMap,
    websocket: bool,
    deadline: Option<(Instant, Duration)>,
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

/// One place to try.
struct Aim<'a> {
    pool: &'a Rc<Pool>,
    provider: Option<&'a LiveProvider>,
    model: Option<&'a str>,
}

/// One try's result, and what it means.
struct Tried {
    answer: Result<Attempted, Reject>,
    outcome: Outcome,
    class: Option<ErrorClass>,
    hint: Option<Duration>,
    /// Nothing was processed: may be sent again at once, once, whatever the policy says.
    free: bool,
}

impl Sending {
    /// Prepares the tries of `exchange`.
    pub fn new(proxy: &Proxy, exchange: &mut Exchange, route_at: usize, body: Replay, websocket: bool) -> Self {
        let plan = exchange.call.as_ref().map(|call| call.plan());
        let headers = request::fields(proxy, exchange, websocket);
        let route = route_of(&exchange.worker, exchange.arrival.door, route_at);
        let total = route.and_then(|route| route.policies.timeouts.as_ref()).and_then(|timeouts| timeouts.total);
        Self {
            deadline: total.map(|total| (exchange.arrival.at + total, total)),
            arrival: exchange.arrival.clone(),
            worker: exchange.worker.clone(),
            upload: exchange.upload.clone(),
            tries: exchange.tries.clone(),
            route_at,
            body,
            plan,
            headers,
            websocket,
        }
    }

    /// Fields that the request to the target must carry beside its own (validators of a stored answer).
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// When the exchange's time is over.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }
}

/// Sends the request until an answer can be kept or nothing is left to try.
pub async fn attempt(proxy: &Rc<Proxy>, mut sending: Sending) -> Result<Attempted, Reject> {
    let worker = sending.worker.clone();
    let Some(route) = route_of(&worker, sending.arrival.door, sending.route_at) else {
        return Err(Reject::Internal("the route is gone".into()));
    };
    let cells = &worker.route(sending.arrival.door, sending.route_at).policies;
    let began = Instant::now();
    let first = first_aim(&worker, &sending);
    let mut last = try_target(proxy, &mut sending, route, &first).await;
    for fallback in &route.fallback {
        if !last.as_ref().is_ok_and(|l| l.next_target) {
            break;
        }
        match fallback {
            Fallback::Provider { provider, model } => {
                let provider = &worker.live.providers[*provider];
                cells.fallback(&provider.name);
                let aim = Aim { pool: &worker.pools[provider.target], provider: Some(provider), model: model.as_deref() };
                last = try_target(proxy, &mut sending, route, &aim).await;
            }
            Fallback::Respond { status, body, content_type } => {
                cells.fallback("respond");
                last = Ok(Last { answer: Ok(fixed(*status, body, content_type)), next_target: false });
            }
        }
    }
    sending.tries.waited.set(sending.tries.waited.get() + began.elapsed());
    let mut answer = last?.answer;
    if let Ok(attempted) = &mut answer
        && sending.plan.is_some()
        && route.policies.retry.is_some()
        && !attempted.head.status.is_success()
    {
        // Our policy has run: an SDK that tries again multiplies it.
        attempted.head.headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    answer
}

/// What a target's last try gave, and whether the next target may be asked.
struct Last {
    answer: Result<Attempted, Reject>,
    next_target: bool,
}

/// All tries at one target. `Err`: the client is at fault or its time is over; nothing else may be tried.
async fn try_target(proxy: &Rc<Proxy>, sending: &mut Sending, route: &LiveRoute, aim: &Aim<'_>) -> Result<Last, Reject> {
    let target = &aim.pool.target;
    let cells = &aim.pool.cells;
    let policy = route.policies.retry.as_ref();
    let model = aim.model.or(sending.plan.as_ref().and_then(|plan| plan.model.as_deref()));
    let guard = route.policies.breaker.as_ref().map(|terms| sending.worker.breaker(&proxy.shared.breakers, terms, &target.name, model));
    let mut retries = policy.map(|_| crate::policy::retry::Retries);
    let mut free = true;
    loop {
        let permit = match guard.as_ref().map(|breaker| breaker.permit(Instant::now())) {
            None => None,
            Some(Ok(permit)) => Some(permit),
            Some(Err(open)) => {
                let reject = Reject::BreakerOpen { target: target.name.clone(), retry_after: open.retry_after };
                return Ok(Last { answer: Err(reject), next_target: true });
            }
        };
        let Some(body) = sending.next_body(aim) else {
            return Err(Reject::Internal("the request's body can be sent only once".into()));
        };
        let tried = one_try(proxy, sending, route, aim, body).await?;
        settle(permit, &tried, proxy);
        cells.tried(tried.outcome.as_str());
        let repeatable = sending.body.can_repeat();
        if tried.free && std::mem::take(&mut free) && repeatable {
            cells.retried("safe_reconnect");
            continue;
        }
        let verdict = match &mut retries {
            Some(retries) if repeatable => retries.judge(&tried.outcome, tried.hint, sending.deadline.map(|(at, _)| at), Instant::now(), &proxy.chance),
            _ => Verdict::Keep,
        };
        match verdict {
            Verdict::TryAgain { pause } => {
                cells.retried(tried.outcome.as_str());
                drop(tried);
                tokio::time::sleep(pause).await;
            }
            Verdict::BudgetSpent | Verdict::Keep => {
                if verdict == Verdict::BudgetSpent {
                    cells.budget_exhausted.inc();
                }
                let failed = tried.outcome.is_failure() || tried.class.is_some_and(|class| class.retryable() || class.is_about_the_key());
                return Ok(Last { answer: tried.answer, next_target: failed && repeatable });
            }
        }
    }
}

/// One try. `Err`: the client's own fault, or its time is over.
async fn one_try(proxy: &Rc<Proxy>, sending: &Sending, route: &LiveRoute, aim: &Aim<'_>, body: Body) -> Result<Tried, Reject> {
    let target = &aim.pool.target;
    sending.tries.made.set(sending.tries.made.get() + 1);
    sending.tries.target.replace(Some(target.name.clone()));
    let (uri, headers) = sending.addressed(proxy, aim)?;
    let bounds = TryBounds::new(route.policies.timeouts.as_ref(), sending.deadline);
    let sent = forward::send(aim.pool, &sending.arrival.method, uri, headers, body, &sending.upload, bounds).await;
    let responded = match sent {
        Ok(responded) => responded,
        Err(failed) => return sending.failed(aim, failed),
    };
    sending.tries.last.set(Some(responded.took));
    aim.pool.cells.duration.observe_duration(responded.took);
    if responded.head.status == StatusCode::SWITCHING_PROTOCOLS && !sending.websocket {
        let why = "a switch of protocols that nobody asked for";
        return Ok(Tried::rejected(crate::upstream::headers::Malformed(why).into_reject(target), Outcome::Fault(Fault::Malformed)));
    }
    match &sending.plan {
        Some(plan) if route.judges_answers() => understood(&proxy.shared.clock, plan, sending, route, responded, aim).await,
        _ => Ok(plain(responded)),
    }
}

/// An answer that is judged by its status alone.
fn plain(responded: Responded) -> Tried {
    let Responded { head, body, connection, .. } = responded;
    let outcome = Outcome::Status(head.status);
    let hint = retry_after(&head.headers);
    Tried {
        outcome,
        hint,
        class: None,
        free: false,
        answer: Ok(Attempted { head, body: Body::Incoming(body), connection: Some(connection) }),
    }
}

/// An answer of a provider, understood: an error by its body, a stream by its first event with content.
async fn understood(clock: &Clock, plan: &Plan, sending: &Sending, route: &LiveRoute, responded: Responded, aim: &Aim<'_>) -> Result<Tried, Reject> {
    let status = responded.head.status;
    if status.is_client_error() || status.is_server_error() {
        let Responded { head, body, connection, .. } = responded;
        let (body, connection) = hold::error_body(body, connection).await;
        let bytes = match &body {
            Body::Full(bytes) => bytes.clone(),
            _ => Bytes::new(),
        };
        let class = provider::classify(plan.api, status, &head.headers, &bytes);
        let hint = provider::hint(plan.api, &head.headers, &bytes, clock.wall());
        let outcome = if class.retryable() { Outcome::Status(status) } else { Outcome::Final(status) };
        return Ok(Tried { outcome, hint, class: Some(class), free: false, answer: Ok(Attempted { head, body, connection }) });
    }
    let bound = route.policies.timeouts.as_ref().and_then(|timeouts| timeouts.first_token);
    match hold::until_content(plan, responded, bound, sending.deadline).await {
        hold::Held::Content(attempted) => {
            Ok(Tried { outcome: Outcome::Status(status), hint: None, class: None, free: false, answer: Ok(attempted) })
        }
        hold::Held::Error(attempted, class) => {
            let outcome = if class.retryable() { Outcome::InStream } else { Outcome::Final(status) };
            Ok(Tried { outcome, hint: None, class: Some(class), free: false, answer: Ok(attempted) })
        }
        hold::Held::Timeout(bound, after) => {
            aim.pool.cells.timed_out(bound.as_str());
            Ok(Tried::rejected(Reject::Timeout { target: aim.pool.target.name.clone(), bound, after }, Outcome::Timeout(bound)))
        }
    }
}

impl Tried {
    fn rejected(reject: Reject, outcome: Outcome) -> Self {
        Self { answer: Err(reject), outcome, class: None, hint: None, free: false }
    }
}

impl Sending {
    /// The body for the next try, with the model that the aim asks for.
    fn next_body(&mut self, aim: &Aim<'_>) -> Option<Body> {
        match (&self.body, aim.model) {
            (Replay::Whole(bytes), Some(model)) if self.plan.as_ref().is_some_and(|plan| !plan.model_in_path) => {
                Some(Body::full(provider::with_model(bytes, model).unwrap_or_else(|| bytes.clone())))
            }
            _ => self.body.next(),
        }
    }

    /// URI and fields for this aim.
    fn addressed(&self, proxy: &Proxy, aim: &Aim<'_>) -> Result<(Uri, HeaderMap), Reject> {
        let mut headers = self.headers.clone();
        let uri = match (&self.plan, aim.provider) {
            (Some(plan), Some(provider)) => {
                headers.insert(header::HOST, aim.pool.target.authority.clone());
                if aim.model.is_some() {
                    // Another model changes the length.
                    headers.remove(header::CONTENT_LENGTH);
                }
                request::credential(&mut headers, provider, proxy);
                plan.uri(provider, aim.model)
            }
            _ => request::app_uri(&self.arrival.uri, &aim.pool.target.origin.base),
        };
        Ok((uri.map_err(|_| Reject::BadRequest("the request target is not valid for the target's URL".into()))?, headers))
    }

    fn failed(&self, aim: &Aim<'_>, failed: Failed) -> Result<Tried, Reject> {
        let target = &aim.pool.target;
        match failed {
            Failed::Client(reject) => Err(reject),
            Failed::Timeout(Bound::Total, after) => {
                aim.pool.cells.timed_out(Bound::Total.as_str());
                Err(Reject::Timeout { target: target.name.clone(), bound: Bound::Total, after })
            }
            Failed::Timeout(bound, after) => {
                aim.pool.cells.timed_out(bound.as_str());
                Ok(Tried::rejected(Reject::Timeout { target: target.name.clone(), bound, after }, Outcome::Timeout(bound)))
            }
            Failed::Malformed(malformed) => Ok(Tried::rejected(malformed.into_reject(target), Outcome::Fault(Fault::Malformed))),
            Failed::Send(error) => {
                // The connection had served before and was closed without a byte: the close and the request crossed.
                let crossed = error.reused && error.fault == Fault::Reset && is_idempotent(&self.arrival.method);
                let outcome = match error.timeout {
                    Some(_) => Outcome::Timeout(Bound::Connect),
                    None => Outcome::Fault(error.fault),
                };
                if error.timeout.is_some() {
                    aim.pool.cells.timed_out(Bound::Connect.as_str());
                }
                Ok(Tried { free: crossed, ..Tried::rejected(error.into_reject(target), outcome) })
            }
        }
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
    let (head, body) = response.into_parts();
    Attempted { head, body, connection: None }
}

fn settle(permit: Option<Permit>, tried: &Tried, proxy: &Proxy) {
    let Some(permit) = permit else { return };
    let hint = tried.hint;
    let outcome = match (&tried.outcome, tried.class) {
        (Outcome::Status(StatusCode::TOO_MANY_REQUESTS), _) => breaker::Outcome::Throttled { retry_after: hint },
        (_, Some(class)) if class.counts_for_breaker() => breaker::Outcome::Failure { retry_after: hint },
        (_, Some(_)) => breaker::Outcome::Success,
        (outcome, None) if outcome.is_failure() => breaker::Outcome::Failure { retry_after: hint },
        (_, None) => breaker::Outcome::Success,
    };
    permit.settle(outcome, Instant::now(), &proxy.chance);
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// RFC 9110 section 9.2.2.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}
