//! The refusals of the proxy, as far as the file and the request decide them.

use http::Uri;

use crate::{
    arrival::{Arrival, Door},
    clock::Clock,
    config::{Auth, Config, Limit, Mode, Policies, Unit, Unpriced},
    http1::Id,
    listen::narrow,
    policy::{
        access,
        auth::{self, AtHand, Looked},
    },
    provider::{Billed, Prices, batch, expected_usage},
    proxy::{
        cache_key::{Asked, AskedCall},
        cached::asked_ttl,
        demands::{BATCH, Refuses, unmetered},
        gate, guard_outbound, privacy, request,
    },
    reject::Reject,
};

/// Makes the checks that come before the route.
///
/// # Errors
/// The refusal.
pub fn before_route(arrival: &Arrival, config: &Config) -> Result<(), Reject> {
    match (arrival.door, &config.inbound, &config.outbound) {
        (Door::Inbound, Some(inbound), _) => {
            if inbound.strict.paths {
                narrow::path(arrival.path())?;
            }
            if inbound.strict.headers {
                narrow::fields(&arrival.headers)?;
            }
            Ok(())
        }
        (Door::Outbound, _, Some(outbound)) => {
            let keyed = outbound.providers.iter().any(|provider| !provider.keys.is_empty());
            guard_outbound(&outbound.allow, keyed.then_some(&outbound.hosts[..]), arrival)
        }
        _ => Ok(()),
    }
}

/// The refusal by the route's policies or the target's URL, in the order of the proxy. `preflight`: the route answers this preflight.
pub fn after_route(asked: &Asked<'_>, of_door: &[Limit], policies: &Policies, preflight: bool, config: &Config) -> Option<Reject> {
    if let Some(why) = access::turns_away(policies.access.as_ref(), asked.arrival) {
        return Some(Reject::Forbidden(why.into()));
    }
    let attacks = policies.access.as_ref().and_then(|access| access.attacks.as_ref()).filter(|attacks| attacks.mode == Mode::Enforce);
    if let Some(refusal) = attacks.and_then(|terms| gate::attack(terms, asked.arrival)) {
        return Some(refusal);
    }
    if let Some(refusal) = gate(policies, preflight, asked.arrival) {
        return Some(refusal);
    }
    let body = asked.call.as_ref().and_then(|call| call.body);
    if let Some(refusal) = policies.privacy.as_ref().and_then(|policy| privacy::refusal(policy, asked.arrival, body)) {
        return Some(refusal);
    }
    match (&asked.call, &config.inbound, &config.outbound) {
        (None, Some(inbound), _) => {
            let rewrite = policies.rewrite.as_ref().filter(|policy| policy.mode == Mode::Enforce);
            request::app_uri(&asked.arrival.uri, &super::target::app(policies, inbound).base, rewrite).err()
        }
        (Some(call), _, Some(outbound)) => {
            if let (true, Err(reject)) = (policies.cache.is_some(), asked_ttl(asked.arrival)) {
                return Some(reject);
            }
            let limits = || of_door.iter().chain(&policies.limits);
            let prices = Prices::new(&outbound.prices);
            unbilled(asked.arrival, call, limits, &prices).or_else(|| {
                let base = &outbound.providers.iter().find(|provider| provider.name == *call.provider)?.url.base;
                request::below(base, call.rest.split('?').next().unwrap_or_default(), "").err()
            })
        }
        _ => None,
    }
}

/// The refusal by the gate, of policies that enforce.
fn gate(policies: &Policies, preflight: bool, arrival: &Arrival) -> Option<Reject> {
    if preflight {
        return gate::preflight_fields(policies, arrival)?.err();
    }
    // The keys of an issuer are not at hand: the running proxy asks for them.
    let admits = |policy: &Auth| match auth::look(&policy.sources, &arrival.headers, AtHand::alone(Clock::system().wall())) {
        Looked::NeedsKeys | Looked::AskService => Ok(None),
        looked => auth::admit(policy, looked),
    };
    let proves = policies.auth.as_ref().filter(|policy| policy.mode == Mode::Enforce);
    if let Some(Err(unproved)) = proves.map(admits) {
        return Some(Reject::Unproved(Box::new(unproved)));
    }
    let enforces = policies.csrf.as_ref().is_some_and(|csrf| csrf.mode == Mode::Enforce);
    enforces.then(|| gate::check_origin(policies, arrival).err()).flatten()
}

/// A path or a URL. A word alone would parse as a host.
///
/// # Errors
/// The text is neither.
pub(super) fn url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|error| format!("`{text}` is not a URL: {error}"))?;
    match url.scheme().is_some() || text.starts_with('/') || text == "*" {
        true => Ok(url),
        false => Err(format!("`{text}` is neither a path nor a URL: a path begins with `/`")),
    }
}

/// The refusal of a call without a known cost, if a limit counts dollars.
fn unbilled<'a, L: Iterator<Item = &'a Limit>>(
    arrival: &Arrival,
    call: &AskedCall<'_>,
    limits: impl Fn() -> L,
    prices: &Prices,
) -> Option<Reject> {
    let enforced = |unit: Unit| limits().filter(move |limit| limit.unit == unit && limit.mode == Mode::Enforce);
    let unpriced = enforced(Unit::NanoUsd).any(|limit| limit.unpriced == Unpriced::Refuse);
    let refuses = |unit| enforced(unit).any(|limit| limit.unmetered == Unpriced::Refuse);
    let unknown = refuses(Unit::NanoUsd);
    let refuses = Refuses { unmetered: unknown || refuses(Unit::Tokens), unknown };
    if call.shape.is_free() && !arrival.headers.has(Id::Upgrade) {
        return None;
    }
    if let Some(reject) = unmetered(arrival, call.shape, call.rest, refuses) {
        return Some(reject);
    }
    if call.shape.billed == Billed::AsBatch {
        return match call.body.and_then(|body| batch::Expected::of_messages(body, prices.steps())) {
            // Only the running proxy knows the files that have passed through it.
            None => refuses.unmetered.then(|| Reject::Unmetered(BATCH.into())),
            Some(batch) => batch.cost(prices).err().filter(|_| unpriced).map(|model| Reject::Unpriced(model.into())),
        };
    }
    let facts = call.facts.filter(|_| unpriced && call.shape.billed == Billed::ByAnswer)?;
    let model = call.model.unwrap_or_default();
    prices.cost(model, &expected_usage(call.shape.operation, facts)).is_none().then(|| Reject::Unpriced(model.into()))
}
