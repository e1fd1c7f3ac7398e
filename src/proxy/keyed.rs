//! The key of a try, where a provider has keys: chosen with the permit of its breaker, and judged by the answer.
//!
//! A try with another key after a refused one costs no pause and nothing of the retry budget: the refused try did no work, each key is
//! asked once at most, and a key that rests is not asked. To wait for the first key to work again is a retry like any other.

use std::time::Duration;

use http::StatusCode;

use super::{
    Proxy,
    ask::Ask,
    guards::Guards,
    judged::Tried,
    live::{LiveProvider, LiveRoute},
    sending::Aim,
};
use crate::{
    body::Body,
    clock::Instant,
    config::Api,
    http1::Id,
    policy::{
        breaker::Permit,
        keyring::{KeyChoice, KeyRefusal, RestReason, Wanted},
        retry::{Answer, TryOutcome},
    },
    provider::{ErrorClass, quotas},
    reject::{Reject, ceil_secs},
    telemetry::metrics::Family,
};

/// Longest name of a model that is told apart, in bytes.
const LONGEST_MODEL: usize = 256;

/// The right to one try, and its key.
pub(super) struct Chosen {
    pub(super) permit: Option<Permit>,
    /// The place of the key; `None`: the provider has no keys, or the target is the app.
    pub(super) key: Option<usize>,
}

/// The key for the next try at `aim`, and its breaker's permit.
///
/// # Errors
/// The breaker is open (of several keys: that of every key that does not rest), or every key rests.
pub(super) fn choose(proxy: &Proxy, ask: &Ask, route: &LiveRoute, aim: &Aim<'_>, guards: &mut Guards) -> Result<Chosen, Reject> {
    let pool = aim.provider.filter(|provider| provider.keyring.is_pool());
    let Some(provider) = pool else {
        let permit = guards.permit(&aim.pool.target.name)?;
        let first = aim.provider.filter(|provider| !provider.keys.is_empty()).map(|_| 0);
        ask.tries.key_name.replace(None);
        return Ok(Chosen { permit, key: first });
    };
    let (mut passed, mut open) = (0, None);
    loop {
        let choice = provider.keyring.next(&wanted(ask, aim), passed, Instant::now());
        let place = match choice {
            KeyChoice::Key(place) => place,
            KeyChoice::Rests { wait, why } => return Err(open.unwrap_or_else(|| rests(provider, wait, why))),
            KeyChoice::Nothing => return Err(open.unwrap_or_else(|| Reject::Internal("no key is left".into()))),
        };
        let name = &provider.keys[place].name;
        guards.turn_to_key(proxy, ask, route, aim, name);
        match guards.permit(&aim.pool.target.name) {
            Ok(permit) => {
                ask.tries.key_name.replace(Some(name.clone()));
                return Ok(Chosen { permit, key: Some(place) });
            }
            Err(refused) => {
                passed |= 1 << place;
                open.get_or_insert(refused);
            }
        }
    }
}

/// The try that was not made because every key rests, as the retry policy judges it.
pub(super) fn not_made(reject: Reject) -> Result<Tried, Reject> {
    match reject {
        Reject::KeysRest { wait, throttled, .. } => {
            let status = if throttled { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE };
            let answer = Answer { hint: Some(wait), spent: !throttled, elsewhere: true, ..Answer::new(status) };
            Ok(Tried::rejected(reject, TryOutcome::Answer(answer)))
        }
        other => Err(other),
    }
}

fn rests(provider: &LiveProvider, wait: Duration, why: RestReason) -> Reject {
    Reject::KeysRest { provider: provider.name.clone(), wait, throttled: why == RestReason::Throttled }
}

/// The call's demands on its key.
fn wanted<'a>(ask: &'a Ask, aim: &Aim<'a>) -> Wanted<'a> {
    let call = ask.call();
    let model = aim.model.or_else(|| call.and_then(|call| call.model.as_ref())).map_or("", |model| &**model);
    // A name beyond all names of models is not kept.
    let model = if model.len() <= LONGEST_MODEL { model } else { "" };
    let facts = call.and_then(|call| call.facts.as_ref());
    let tokens = facts.map_or(0, |facts| facts.estimated_input.saturating_add(facts.most_output().unwrap_or(0)));
    Wanted { model, tokens }
}

/// Lets a refused key rest, ends the quarantine of an accepted one, and notes what the provider says of its quota. The answer of a try
/// whose key is refused says when the first key works again.
pub(super) fn judge(ask: &Ask, aim: &Aim<'_>, key: Option<usize>, mut tried: Tried) -> Tried {
    let (Some(provider), Some(place)) = (aim.provider, key) else {
        say_of_own_key(ask, aim, &tried);
        return tried;
    };
    let (ring, now) = (&provider.keyring, Instant::now());
    let wanted = wanted(ask, aim);
    if let Ok(attempted) = &tried.answer
        && (ring.is_pool() || ask.proxy.telemetry.flows.are_watched())
    {
        ring.told(place, wanted.model, quotas(&attempted.head.headers, ask.proxy.shared.clock.wall()), now);
    }
    let metrics = &ask.proxy.telemetry.metrics;
    let name = &provider.keys[place].name;
    if ring.is_pool() {
        metrics.counter(Family::KeyTries, &[&provider.name, name, tried.word]).inc();
    }
    let Some(refusal) = refusal(provider, &tried, wanted.model) else {
        if tried.word == "ok" && ring.accepted(place, wanted.model, ask.tries.began.get().unwrap_or(now)) {
            tracing::info!(provider = %provider.name, key = %name, "a configured key works again");
        }
        return tried;
    };
    let (rest, another) = ring.refused(place, &refusal, &wanted, now);
    metrics.counter(Family::KeyRests, &[&provider.name, name, refusal.why.as_str()]).inc();
    if refusal.why != RestReason::Throttled {
        tracing::warn!(provider = %provider.name, key = %name, reason = refusal.why.as_str(), ?rest, "a configured key rests");
    }
    tried.another_key = another;
    match ring.next_reset(&wanted, now).filter(|_| ring.is_pool() && !another) {
        Some(wait) => waits(tried, provider, &refusal, wait),
        None => tried,
    }
}

/// Says that a provider has refused the credential of the app: a fallback would hide it.
fn say_of_own_key(ask: &Ask, aim: &Aim<'_>, tried: &Tried) {
    if let (Some(provider), Some(ErrorClass::BadKey)) = (aim.provider, tried.class) {
        let route = &*ask.route_name();
        tracing::warn!(
            provider = %provider.name, route, reason = tried.word,
            "{} refuses the credential that the app itself sends: no key is configured for this provider", provider.name
        );
    }
}

/// Whether the call asked for what such a key may not do, or named an organisation or a project of its own: the key serves other calls.
fn is_about_the_call(tried: &Tried) -> bool {
    const SAID: [&[u8]; 3] = [b"issing scopes", b"mismatched_organization", b"mismatched_project"];
    let Ok(attempted) = &tried.answer else { return false };
    matches!(&attempted.body, Body::Full(bytes) if SAID.iter().any(|said| memchr::memmem::find(bytes, said).is_some()))
}

/// The refusal of a key; `None`: the answer does not speak against it.
fn refusal<'m>(provider: &LiveProvider, tried: &Tried, model: &'m str) -> Option<KeyRefusal<'m>> {
    let status = tried.answer.as_ref().map_or(0, |attempted| attempted.head.status.as_u16());
    let (why, of_model) = match tried.class? {
        ErrorClass::Throttled => (RestReason::Throttled, true),
        // Gemini's daily quotas are those of a model.
        ErrorClass::QuotaSpent => (RestReason::Spent, provider.api == Api::Gemini && status == 429),
        ErrorClass::BadKey if is_about_the_call(tried) => return None,
        // A key that is known and not allowed: not this model.
        ErrorClass::BadKey => (RestReason::Refused, status == 403),
        _ => return None,
    };
    Some(KeyRefusal { why, wait: tried.hint(), model: of_model.then_some(model) })
}

/// The last key was refused, and a throttled one works again after `wait`: that time counts, not what the last key was told.
fn waits(mut tried: Tried, provider: &LiveProvider, refusal: &KeyRefusal<'_>, wait: Duration) -> Tried {
    let hint = tried.hint();
    if refusal.why != RestReason::Throttled {
        let reject = rests(provider, wait, RestReason::Throttled);
        let answer = Answer { hint: Some(wait), elsewhere: true, ..Answer::new(StatusCode::TOO_MANY_REQUESTS) };
        return Tried { answer: Err(reject), outcome: TryOutcome::Answer(answer), ..tried };
    }
    if let (TryOutcome::Answer(answer), Ok(attempted)) = (&mut tried.outcome, &mut tried.answer)
        && hint.is_none_or(|hint| wait < hint)
    {
        answer.hint = Some(wait);
        for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
            attempted.head.headers.remove(name);
        }
        attempted.head.headers.insert_number(Id::RetryAfter, ceil_secs(wait));
    }
    tried
}
