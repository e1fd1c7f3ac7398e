//! Fallback picks the target, retry paces the tries, breaker and timeout guard each one.
//!
//! Read [`attempt`], then `try_target`. `request` builds the request of one try, [`super::forward`] sends it, `judged` judges its
//! answer, [`super::bill`] charges it.

use std::{rc::Rc, sync::atomic::Ordering::Relaxed};

use http::{HeaderValue, StatusCode};

use super::{
    Proxy,
    ask::{Ask, Fallen},
    bill::Bill,
    falls::{self, Onward},
    forward::{self, Failed, TryBounds},
    guards::{FreeTries, Guards},
    judged::{self, Tried},
    keyed::{self, Chosen},
    live::{LiveRoute, Worker},
    members::{self, MemberTries},
    request,
    sending::{Aim, Attempted, Sending, call_id},
    steps,
};
use crate::{
    arrival::Door,
    body::{Body, tap::TimeBounds},
    clock::Instant,
    config::{Fallback, FallsOn},
    http1::Id,
    message::{Instead, Response},
    policy::{
        balance::Begun,
        breaker::{self, Permit},
        retry::{self, Judgement, TryOutcome, Verdict},
    },
    reject::{Bound, Fault, Reject},
    telemetry::{
        failures::{RECONNECT, Then},
        metrics::TargetCells,
    },
};

/// Sends the request until an answer can be kept or no target is left to try.
///
/// # Errors
/// No target gave an answer, or the client's time is over.
pub async fn attempt(proxy: &Rc<Proxy>, sending: &mut Sending) -> Result<Attempted, Reject> {
    let answer = try_targets(proxy, sending).await;
    let failed = answer.as_ref().map_or(true, |attempted| !attempted.head.status.is_success());
    if failed
        && sending.ask.tries.policy_ran.get()
        && let Some(call) = call_id(&sending.ask, &sending.body)
    {
        proxy.shared.given_up.remember(call, Instant::now());
    }
    answer
}

/// Tries the target that was asked for, then those of the fallback.
async fn try_targets(proxy: &Rc<Proxy>, sending: &mut Sending) -> Result<Attempted, Reject> {
    let ask = sending.ask.clone();
    let worker = &ask.worker;
    let route = ask.route().ok_or_else(|| Reject::Internal("the route is gone".into()))?;
    let first = first_aim(worker, &ask);
    let steps = ask.then(route);
    let mut rest = &steps[..];
    let mut last = try_target(proxy, sending, route, &first, rest).await?;
    if let (Some(degraded), Ok(attempted)) = (ask.degraded.get(), &mut last.answer) {
        attempted.head.instead = Some(Instead::Target);
        let to = first.name().clone();
        ask.tries.fallback.replace(Some(Fallen { to, model: Some(degraded.model.clone()) }));
    }
    while let Some(onward) = last.move_on {
        let Some((step, after)) = rest.get(onward.skip..).and_then(<[_]>::split_first) else { break };
        rest = after;
        last = match step {
            Fallback::Provider { provider, model, .. } => {
                let provider = &worker.live.providers[*provider];
                let aim = Aim::at(worker, provider, model.as_ref());
                fall_back(proxy, sending, route, &aim, (rest, onward.failure)).await?
            }
            Fallback::Respond { status, body, content_type, .. } => {
                ask.cells().policies.fallback("respond");
                ask.tries.fallback.replace(Some(Fallen { to: "respond".into(), model: None }));
                Last { answer: Ok(static_answer(*status, body, content_type)), move_on: None }
            }
        };
    }
    last.answer
}

/// The result of a target's last try, and the way on if a step of the fallback follows.
struct Last {
    answer: Result<Attempted, Reject>,
    move_on: Option<Onward>,
}

/// Tries the next target of a fallback. It gets a reservation of its own first: its key, model and price are others. `failure`: what
/// has led here.
async fn fall_back(
    proxy: &Rc<Proxy>,
    sending: &mut Sending,
    route: &LiveRoute,
    aim: &Aim<'_>,
    (rest, failure): (&[Fallback], FallsOn),
) -> Result<Last, Reject> {
    let ask = sending.ask.clone();
    if let (Some(funds), Some(provider)) = (&mut sending.funds, aim.provider)
        && let Err(reject) = funds.move_to(&ask, route, provider, aim.model.map(|model| &**model)).await
    {
        let (next, move_on) = falls::onward(rest, Some(failure));
        steps::passed_over(&ask, aim, None, &reject, next);
        return Ok(Last { answer: Err(reject), move_on });
    }
    let name = aim.name();
    ask.cells().policies.fallback(name);
    let mut last = try_target(proxy, sending, route, aim, rest).await?;
    if let Ok(attempted) = &mut last.answer {
        attempted.head.instead = Some(Instead::Target);
        if last.move_on.is_none() {
            ask.tries.fallback.replace(Some(Fallen { to: name.clone(), model: aim.model.cloned() }));
        }
    }
    Ok(last)
}

/// Makes all tries at one target. `Err`: the client is at fault or its time is over; no further target may be tried.
async fn try_target(proxy: &Rc<Proxy>, sending: &mut Sending, route: &LiveRoute, aim: &Aim<'_>, rest: &[Fallback]) -> Result<Last, Reject> {
    let ask = sending.ask.clone();
    let (mut aim, mut members) = (*aim, MemberTries::default());
    let mut guards = Guards::of(proxy, &ask, route, &aim, sending.was_given_up);
    // From the second try on, an end from outside (the caller's time, a limit) comes after the policy has begun its work.
    ask.tries.policy_ran.set(guards.retries && ask.tries.made.get() > 0);
    let mut free = FreeTries::at(&aim);
    let mut made = 0;
    loop {
        made += 1;
        let Chosen { permit, key } = match members::choose(proxy, &ask, route, &mut aim, &mut guards, &mut members) {
            Ok(chosen) => chosen,
            Err(reject) => match not_tried(proxy, sending, route, &aim, &guards, (reject, made, rest)).await {
                Some(last) => return Ok(last),
                None => continue,
            },
        };
        let Some(body) = sending.next_body(&aim) else {
            return Err(Reject::Internal("the request's body can be sent only once".into()));
        };
        let own = OneTry { body, key, nth: made, work: members.begin(&aim) };
        let tried = one_try(proxy, sending, route, &aim, own).await;
        let mut tried = tried.inspect_err(|reject| steps::ended(&ask, &aim, &guards, reject))?;
        let reconnects = sending.body.can_repeat() && free.reconnects(&tried, &guards);
        members::judge(&ask, &aim, &mut members, &mut tried, reconnects);
        let cells = &aim.pool.cells;
        let again = free.next(sending, &tried, &guards);
        settle(proxy, &ask, &aim, &guards, permit, (&tried, again, &members));
        cells.tried(tried.word);
        if let Some(why) = again {
            made -= 1;
            cells.retried(why);
            steps::tried(&ask, &aim, &guards, &tried, Then::Free(why));
            continue;
        }
        let (next, onward) = falls::onward(rest, falls::failure(&tried));
        falls::mark(&mut tried, onward);
        let judgement = guards.judge(proxy, sending, route, &tried, made, next);
        ask.tries.policy_ran.set(judgement.ran);
        count(cells, &judgement);
        match judgement.verdict {
            Verdict::TryAgain { pause } if may_pay_again(sending, &ask, route, &aim).await => {
                cells.retried(tried.word);
                steps::tried(&ask, &aim, &guards, &tried, Then::Retried(pause));
                drop(tried);
                tokio::time::sleep(pause).await;
                ask.tries.wait(pause);
            }
            Verdict::NextTarget => {
                steps::tried(&ask, &aim, &guards, &tried, Then::NextTarget);
                return Ok(Last { answer: tried.answer, move_on: onward });
            }
            Verdict::TryAgain { .. } | Verdict::Keep => {
                steps::kept(&ask, &aim, &guards, &tried);
                return Ok(Last { answer: tried.answer, move_on: None });
            }
        }
    }
}

/// Judges a target that cannot be tried now: its breaker is open, or its keys rest. `None`: a key works again now, after a pause.
async fn not_tried(
    proxy: &Rc<Proxy>,
    sending: &Sending,
    route: &LiveRoute,
    aim: &Aim<'_>,
    guards: &Guards,
    (reject, made, rest): (Reject, u32, &[Fallback]),
) -> Option<Last> {
    let ask = &sending.ask;
    let (next, onward) = falls::onward(rest, falls::of_reject(&reject));
    let (reject, ran) = match keyed::not_made(reject) {
        Err(reject) => (reject, guards.retries),
        Ok(rested) => {
            let judgement = guards.judge(proxy, sending, route, &rested, made, next);
            count(&aim.pool.cells, &judgement);
            if let (Verdict::TryAgain { pause }, Err(reject)) = (judgement.verdict, &rested.answer) {
                aim.pool.cells.retried(rested.word);
                steps::waited(ask, aim, guards, reject, pause);
                tokio::time::sleep(pause).await;
                ask.tries.wait(pause);
                return None;
            }
            (rested.answer.err()?, judgement.ran)
        }
    };
    ask.tries.policy_ran.set(ran);
    steps::passed_over(ask, aim, Some(guards), &reject, next);
    Some(Last { answer: Err(reject), move_on: onward })
}

/// Counts the retries that were not made.
fn count(cells: &TargetCells, judgement: &Judgement) {
    if judgement.budget_exhausted {
        cells.budget_exhausted.inc();
    }
    if judgement.observed {
        cells.retried("observed");
    }
}

/// Tells the breaker how a try ended. `again`: the reason of the free try that follows.
fn settle(
    proxy: &Proxy,
    ask: &Ask,
    aim: &Aim<'_>,
    guards: &Guards,
    permit: Option<Permit>,
    (tried, again, members): (&Tried, Option<&'static str>, &MemberTries),
) {
    // A connection that was closed while idle says nothing about the target's health.
    let vote = if again == Some(RECONNECT) { breaker::Outcome::Cancelled } else { tried.for_breaker() };
    if let Some(state) = permit.and_then(|permit| permit.settle(vote, Instant::now(), &proxy.chance)) {
        members::turned(aim, members, state);
        turned(ask, state, &aim.pool.target.name, guards, tried.word);
    }
}

/// Says in the process's log that a breaker has opened or closed; `word` says how the try ended that has done it. A breaker opens for
/// seconds at least: that bounds the lines.
fn turned(ask: &Ask, state: breaker::State, target: &str, guards: &Guards, word: &'static str) {
    match state {
        breaker::State::Open => {
            let rests = guards.rests(Instant::now()).unwrap_or_default();
            let until = humantime::format_rfc3339_millis(ask.proxy.shared.clock.wall() + rests).to_string();
            tracing::warn!(target, reason = word, until, "the circuit breaker of {target} has opened after a try that ended in `{word}`");
        }
        _ => tracing::warn!(target, reason = word, "the circuit breaker of {target} has closed: its target works again"),
    }
}

/// Whether the limits have room for one more try at the same target.
async fn may_pay_again(sending: &mut Sending, ask: &Ask, route: &LiveRoute, aim: &Aim<'_>) -> bool {
    match (&mut sending.funds, aim.provider) {
        (Some(funds), Some(provider)) => funds.again(ask, route, provider, aim.model.map(|model| &**model)).await.is_ok(),
        _ => true,
    }
}

/// What one try has of its own.
struct OneTry {
    body: Body,
    key: Option<usize>,
    /// Its number at its target, from 1.
    nth: u32,
    /// Counts at the member that is asked, until the exchange with it is over.
    work: Option<Begun>,
}

/// Makes one try. `Err`: the client is at fault or its time is over.
async fn one_try(proxy: &Rc<Proxy>, sending: &mut Sending, route: &LiveRoute, aim: &Aim<'_>, own: OneTry) -> Result<Tried, Reject> {
    let OneTry { body, key, nth, work } = own;
    let ask = sending.ask.clone();
    let now = Instant::now();
    ask.tries.begin(&aim.pool.target.name, now);
    ask.tries.key.set(key.and_then(|key| u16::try_from(key).ok()));
    let (uri, mut headers) = request::addressed(&ask, sending, aim, key)?;
    let mut span = request::begin_span(&ask, aim, &uri, &mut headers, nth);
    let mut bill = match (&mut sending.funds, aim.provider) {
        (Some(funds), Some(provider)) => Some(funds.open_bill(&ask, provider, aim.model)),
        _ => None,
    };
    let body = match &mut bill {
        Some(bill) if !matches!(body, Body::Empty) => bill.watch(body),
        _ => body,
    };
    let bounds = TryBounds::new(route.policies.timeouts.as_ref(), ask.deadline(), now);
    let tried = match forward::send(aim.pool, &ask.arrival, &uri, headers, body, ask.upload(), bounds).await {
        Err(failed) => without_answer(sending, &ask, aim, bill, failed),
        Ok(mut responded) => {
            if let Some(begun) = work {
                responded.connection.carry(begun.work);
            }
            ask.tries.last.set(Some(responded.took));
            ask.tries.wait(responded.took);
            aim.pool.cells.duration.observe_duration_within(responded.took, ask.within());
            for bound in &responded.overran {
                aim.pool.cells.timed_out(bound);
            }
            judged::understand(proxy, sending, route, aim, bill, responded).await
        }
    };
    let tried = match aim.provider {
        // The app has no keys, and is asked for no usage.
        None => tried,
        Some(_) => tried.map(|tried| {
            let refuses_usage = refuses_usage(&ask, aim, &tried);
            Tried { refuses_usage, ..keyed::judge(&ask, aim, key, tried) }
        }),
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

/// Whether the target refused the call because of the `stream_options` that the proxy has added. The target is not sent them again.
fn refuses_usage(ask: &Ask, aim: &Aim<'_>, tried: &Tried) -> bool {
    let (Some(provider), Ok(attempted)) = (aim.provider, &tried.answer) else { return false };
    let asks = ask.call().is_some_and(|call| call.asks_usage);
    let Body::Full(bytes) = &attempted.body else { return false };
    let refuses = asks
        && matches!(attempted.head.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
        && memchr::memmem::find(bytes, b"stream_options").is_some();
    if refuses {
        provider.refuses_usage.store(true, Relaxed);
    }
    refuses
}

/// Whether a target that was sent all of the request may have done the work: it was too slow, it broke off, or it gave an answer that
/// cannot be read. A kept connection whose close has crossed the request has done nothing, as far as the free retry goes by it.
fn may_be_billed(ask: &Ask, failed: &Failed) -> bool {
    match failed {
        Failed::Client(_) => false,
        Failed::Timeout(..) | Failed::Malformed(_) => true,
        Failed::Send(error) => {
            let idempotent = retry::repeatable(Door::Inbound, &ask.arrival.method, &ask.arrival.headers, None);
            let broke = retry::Broke { fault: error.fault, reused: error.reused, unseen: false };
            !error.unsent && !retry::safe_reconnect(broke, idempotent)
        }
    }
}

/// Judges a try that got no head, after it has settled the try's bill.
fn without_answer(sending: &mut Sending, ask: &Ask, aim: &Aim<'_>, bill: Option<Bill>, failed: Failed) -> Result<Tried, Reject> {
    if let (Some(bill), Some(funds)) = (bill, &mut sending.funds) {
        funds.put_back(if may_be_billed(ask, &failed) { bill.unanswered() } else { bill.void() });
    }
    let (target, cells) = (&aim.pool.target, &aim.pool.cells);
    match failed {
        Failed::Client(reject) => Err(reject),
        Failed::Timeout(bound, after) => {
            ask.tries.wait(after);
            cells.timed_out(bound.as_str());
            let reject = Reject::Timeout { target: target.name.clone(), bound, after };
            if bound.ends_all() { Err(reject) } else { Ok(Tried::rejected(reject, TryOutcome::Timeout(bound))) }
        }
        Failed::Malformed(malformed) => {
            let outcome = TryOutcome::Fault { fault: Fault::Malformed, may_be_processed: true };
            Ok(Tried::rejected(malformed.into_reject(target), outcome))
        }
        Failed::Send(error) => {
            let outcome = match error.timeout {
                Some(_) => {
                    cells.timed_out(Bound::Connect.as_str());
                    TryOutcome::Timeout(Bound::Connect)
                }
                None => TryOutcome::Fault { fault: error.fault, may_be_processed: !error.unsent },
            };
            let unseen = error.unsent && error.timeout.is_none();
            let broke = Some(retry::Broke { fault: error.fault, reused: error.reused, unseen });
            Ok(Tried { broke, ..Tried::rejected(error.into_reject(target), outcome) })
        }
    }
}

fn first_aim<'w>(worker: &'w Worker, ask: &'w Ask) -> Aim<'w> {
    if let Some(degraded) = ask.degraded.get() {
        let provider = &worker.live.providers[degraded.provider_at];
        return Aim::at(worker, provider, Some(&degraded.model));
    }
    match ask.call() {
        None => Aim::at_app(worker, ask.route().map_or(0, |route| route.app)),
        Some(call) => Aim::at(worker, &worker.live.providers[call.provider_at], None),
    }
}

fn static_answer(status: StatusCode, body: &str, content_type: &HeaderValue) -> Attempted {
    let mut response = Response::new(Body::full(body.to_owned()));
    *response.status_mut() = status;
    response.headers_mut().insert(Id::ContentType, content_type.clone());
    response.headers_mut().insert("proxy-status", "outrigger; details=\"fallback\"");
    response.head_mut().instead = Some(Instead::Fixed);
    let (head, body) = response.into_parts();
    Attempted { head, body, connection: None, bounds: TimeBounds::default(), reading: None }
}
