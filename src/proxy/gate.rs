//! The gate of a route: addresses (`access`), pages of other origins (`cors`), and what they make a browser send (`csrf`).
//!
//! Each step either acts or, where its policy only observes, notes what it would have refused: in the log, and in the metric.

use http::{Method, StatusCode};

use super::{NOT_LET_IN, ask::Ask, exchange::Exchange};
use crate::{
    arrival::Arrival,
    body::Body,
    config::{Cors, Csrf, Mode, Policies},
    http1::{Fields, Id},
    message::Response,
    policy::{access, cors, csrf, preflight},
    reject::{GatePolicy, Reject},
    route::liberal_readings,
    upstream::headers,
};

/// The route of a preflight: that of the request which comes after it, if that route says who may ask. `find`: the route by a method.
/// `asks_pages`: whether a route has such a policy.
///
/// # Errors
/// The path means two routes.
pub fn of_preflight<R>(
    arrival: &Arrival,
    find: impl FnOnce(&Method) -> Result<R, Reject>,
    asks_pages: impl FnOnce(&R) -> bool,
) -> Result<Option<R>, Reject> {
    if !preflight::is_preflight(&arrival.method, &arrival.headers) {
        return Ok(None);
    }
    let Some(method) = cors::asked_method(&arrival.headers) else { return Ok(None) };
    find(&method).map(|route| asks_pages(&route).then_some(route))
}

/// The answer to a preflight; `None`: the request is none, or the app answers.
///
/// # Errors
/// The page may not send its request.
pub fn preflight_fields(policies: &Policies, arrival: &Arrival) -> Option<Result<Fields, Reject>> {
    let policy = policies.cors.as_ref().filter(|_| preflight::is_preflight(&arrival.method, &arrival.headers))?;
    Some(cors::preflight(policy, &arrival.headers).map_err(|why| Reject::Gate { policy: GatePolicy::Cors, why: why.into() }))
}

/// The refusal of what a page of another origin made a browser send.
///
/// # Errors
/// The request is such a one.
pub fn check_origin(policies: &Policies, arrival: &Arrival) -> Result<(), Reject> {
    let Some(policy) = &policies.csrf else { return Ok(()) };
    let forwarded = arrival.header(Id::XForwardedHost).filter(|_| arrival.trusted);
    let hosts = arrival.header(Id::Host).into_iter().chain(forwarded);
    let refusal =
        csrf::refusal(policy, &arrival.method, &arrival.headers, hosts, headers::wants_websocket(arrival), is_exempt(policy, arrival));
    refusal.map_or(Ok(()), |why| Err(Reject::Gate { policy: GatePolicy::Csrf, why: why.into() }))
}

/// Whether every reading of the path is exempt: an app that reads it otherwise must not be asked through a path that is.
fn is_exempt(policy: &Csrf, arrival: &Arrival) -> bool {
    let exempt = |path: &str| policy.exempt.iter().any(|pattern| pattern.matches(path));
    !policy.exempt.is_empty() && exempt(arrival.path()) && liberal_readings(arrival.path()).all(|reading| exempt(&reading))
}

/// Lets a request through the gate of its route; the answer, if it is a preflight.
///
/// # Errors
/// The refusal of a policy that enforces.
pub fn pass(exchange: &mut Exchange, policies: &Policies) -> Result<Option<Response<Body>>, Reject> {
    let arrival = &exchange.ask.arrival;
    // The address before every other step: who is not let in uses up no limit, and learns nothing.
    if !access::lets_in(policies.access.as_ref(), arrival.client) {
        return Err(Reject::Forbidden(NOT_LET_IN.into()));
    }
    if access::would_refuse(policies.access.as_ref(), arrival.client) {
        exchange.ask.cells().policies.access_observed();
    }
    let enforces = |mode: Option<Mode>| mode == Some(Mode::Enforce);
    match (preflight_fields(policies, arrival), enforces(policies.cors.as_ref().map(|cors| cors.mode))) {
        (Some(Ok(fields)), true) => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = fields;
            return Ok(Some(response));
        }
        (Some(Err(refusal)), true) => return Err(refusal),
        (Some(Err(_)), false) => observed(exchange, GatePolicy::Cors),
        (Some(Ok(_)) | None, _) => {}
    }
    match (check_origin(policies, &exchange.ask.arrival), enforces(policies.csrf.as_ref().map(|csrf| csrf.mode))) {
        (Err(refusal), true) => return Err(refusal),
        (Err(_), false) => observed(exchange, GatePolicy::Csrf),
        (Ok(()), _) => {}
    }
    Ok(None)
}

/// The policy for pages that dresses the answers of `ask`.
pub fn dressing(ask: &Ask) -> Option<&Cors> {
    ask.route()?.policies.cors.as_ref().filter(|policy| policy.mode == Mode::Enforce)
}

fn observed(exchange: &mut Exchange, policy: GatePolicy) {
    exchange.ask.cells().policies.gate_observed(policy.as_str());
    let names = &mut exchange.answer.would_refuse;
    if !names.is_empty() {
        names.push(' ');
    }
    names.push_str(policy.as_str());
}
