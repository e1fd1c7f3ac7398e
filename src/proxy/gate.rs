//! The gate of a route: addresses (`access`), pages of other origins (`cors`), credentials (`auth`), and what pages make a browser send
//! (`csrf`).
//!
//! Each step either acts or, where its policy only observes, notes what it would have refused: in the log, and in the metric.

use http::{Method, StatusCode, header};

use super::{ask::Ask, auth, banned, exchange::Exchange};
use crate::{
    arrival::Arrival,
    body::Body,
    config::{Attacks, Cors, Csrf, Mode, Policies},
    http1::{Fields, Id},
    message::Response,
    policy::{access, attacks, cors, csrf, preflight},
    reject::{GatePolicy, Reject},
    route::careless_readings,
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
    // A page that `cors` lets act with the user's credentials may do so here, too.
    let pages = policies.cors.as_ref().filter(|cors| cors.credentials && cors.mode == Mode::Enforce);
    let is_trusted =
        |origin: &str| policy.trusted.iter().any(|trusted| trusted.matches(origin)) || pages.is_some_and(|cors| cors::allows(cors, origin));
    let forwarded = arrival.header(Id::XForwardedHost).filter(|_| arrival.trusted).into_iter().flat_map(|hosts| hosts.split(','));
    let hosts = arrival.header(Id::Host).into_iter().chain(forwarded.map(str::trim));
    let exempt = is_exempt(policy, arrival);
    let refusal = csrf::refusal(is_trusted, &arrival.method, &arrival.headers, hosts, headers::wants_websocket(arrival), exempt);
    refusal.map_or(Ok(()), |why| Err(Reject::Gate { policy: GatePolicy::Csrf, why: why.into() }))
}

/// Whether every reading of the path is exempt: an app that reads it otherwise must not be asked through a path that is.
fn is_exempt(policy: &Csrf, arrival: &Arrival) -> bool {
    let exempt = |path: &str| policy.exempt.iter().any(|pattern| pattern.matches(path));
    !policy.exempt.is_empty() && exempt(arrival.path()) && careless_readings(arrival.path()).iter().all(|reading| exempt(reading))
}

/// Lets a request through the gate of its route; the answer, if it is a preflight. `speaker`: the route that says which pages may send the
/// request behind a preflight.
///
/// # Errors
/// The refusal of a policy that enforces.
pub async fn pass(
    exchange: &mut Exchange,
    policies: &Policies,
    speaker: Option<(usize, &Policies)>,
) -> Result<Option<Response<Body>>, Reject> {
    banned::address(exchange, policies)?;
    // The address before every other step: who is not let in uses up no limit, and learns nothing.
    if let Some(why) = access::turns_away(policies.access.as_ref(), &exchange.ask.arrival) {
        return Err(Reject::Forbidden(why.into()));
    }
    if let Some(why) = access::would_refuse(policies.access.as_ref(), &exchange.ask.arrival) {
        exchange.ask.cells().policies.access_observed();
        name_in(exchange, "access", why.into());
    }
    if let Some(terms) = policies.access.as_ref().and_then(|access| access.attacks.as_ref()) {
        attacked(exchange, terms)?;
    }
    if let Some((at, pages)) = speaker {
        let arrival = &exchange.ask.arrival;
        match (preflight_fields(pages, arrival), answers(pages)) {
            (Some(Ok(fields)), true) => {
                let mut response = Response::new(Body::Empty);
                *response.status_mut() = StatusCode::NO_CONTENT;
                *response.headers_mut() = fields;
                return Ok(Some(response));
            }
            (Some(Err(refusal)), true) => return Err(refusal),
            (Some(Err(refusal)), false) => observed(exchange, at, GatePolicy::Cors.as_str(), refusal.detail()),
            (Some(Ok(_)) | None, _) => {}
        }
    }
    // After the preflights, which carry no credential.
    if policies.auth.is_some() {
        auth::pass(exchange).await?;
    }
    match (check_origin(policies, &exchange.ask.arrival), policies.csrf.as_ref().map(|csrf| csrf.mode)) {
        (Err(refusal), Some(Mode::Enforce)) => return Err(refusal),
        (Err(refusal), _) => observed(exchange, exchange.ask.route_at(), GatePolicy::Csrf.as_str(), refusal.detail()),
        (Ok(()), _) => {}
    }
    Ok(None)
}

/// The refusal of a request that looks like an attack, whatever the mode; `None`: it looks like none.
pub fn attack(terms: &Attacks, arrival: &Arrival) -> Option<Reject> {
    let kind = attacks::find(&terms.kinds, arrival.path(), arrival.uri.query())?;
    let why = format!("the request looks like an attack: {} (access.attacks)", kind.as_str());
    Some(Reject::Gate { policy: GatePolicy::Attacks, why: why.into() })
}

/// Turns away a request that looks like an attack, or notes it.
fn attacked(exchange: &mut Exchange, terms: &Attacks) -> Result<(), Reject> {
    match (attack(terms, &exchange.ask.arrival), terms.mode) {
        (None, _) => Ok(()),
        (Some(refusal), Mode::Enforce) => Err(refusal),
        (Some(refusal), Mode::Observe) => {
            observed(exchange, exchange.ask.route_at(), GatePolicy::Attacks.as_str(), refusal.detail());
            Ok(())
        }
    }
}

/// Whether the route's policy answers preflights, and does not only observe.
pub fn answers(policies: &Policies) -> bool {
    policies.cors.as_ref().is_some_and(|cors| cors.mode == Mode::Enforce)
}

/// Counts an answer that a page reads now and could not read if `cors` did not only observe.
pub fn watch_answer(ask: &Ask, answer: &Fields) {
    let Some(policy) = ask.route().and_then(|route| route.policies.cors.as_ref()).filter(|policy| policy.mode == Mode::Observe) else {
        return;
    };
    // A preflight is counted by its own rules.
    let preflight = preflight::is_preflight(&ask.arrival.method, &ask.arrival.headers);
    let reads = !preflight && answer.has(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    if reads && ask.arrival.header(Id::Origin).is_some_and(|origin| !cors::allows(policy, origin)) {
        ask.cells().policies.gate_observed(GatePolicy::Cors.as_str());
    }
}

/// The policy for pages that dresses the answers of `ask`.
pub fn dressing(ask: &Ask) -> Option<&Cors> {
    ask.route()?.policies.cors.as_ref().filter(|policy| policy.mode == Mode::Enforce)
}

/// Notes that a policy of the route at `at` would have refused the request, and why.
pub(super) fn observed(exchange: &mut Exchange, at: usize, policy: &'static str, why: impl Into<Box<str>>) {
    exchange.ask.worker.route(exchange.ask.door(), at).policies.gate_observed(policy);
    name_in(exchange, policy, why.into());
}

/// Adds a policy to the names of those that would have refused.
fn name_in(exchange: &mut Exchange, policy: &'static str, why: Box<str>) {
    let names = &mut exchange.answer.would_refuse;
    if !names.is_empty() {
        names.push(' ');
    }
    names.push_str(policy);
    exchange.answer.would_because.push((policy.into(), why));
}
