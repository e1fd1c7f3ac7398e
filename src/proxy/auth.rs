//! `auth` on the way: a request proves who sends it, before anything is counted, stored or sent for it.

use std::rc::Rc;

use smallvec::SmallVec;

use super::{
    ask::{Ask, Origin},
    exchange::Exchange,
    gate,
    live::LiveRoute,
};
use crate::{
    caller::{Caller, KnownBy, Proof},
    clock::Instant,
    config::{Auth, Mode, ProofKind},
    http1::Fields,
    policy::auth::{self, AtHand, Looked, forward, issuer::Inquiry},
    reject::{ProofFault, Reject, Unproved},
};

/// Lets a request pass that proves what its route asks for.
///
/// # Errors
/// The refusal, where the policy enforces.
pub(super) async fn pass(exchange: &mut Exchange) -> Result<(), Reject> {
    let ask = exchange.ask.clone();
    let Some((route, policy)) = ask.route().and_then(|route| Some((route, route.policies.auth.as_ref()?))) else { return Ok(()) };
    // The proxy's own requests have nobody to prove; what they store is for those who pass here.
    if ask.origin != Origin::Client {
        return Ok(());
    }
    let looked = match look(&ask, route, policy, false) {
        // Rare, and long: it would be memory of every request.
        Looked::NeedsKeys => Box::pin(with_newest_keys(&ask, route, policy)).await,
        Looked::AskService => Box::pin(ask_service(&ask, policy)).await,
        looked => looked,
    };
    match (admit(&ask, policy, looked), policy.mode) {
        (Ok(proof), mode) => {
            // A policy that observes changes nothing: limits, the cache and the books go on as before.
            if let Some(proof) = proof.filter(|_| mode == Mode::Enforce) {
                ask.proved(proof);
            }
            Ok(())
        }
        (Err(refusal), Mode::Enforce) => Err(refusal),
        (Err(refusal), Mode::Observe) => {
            gate::observed(exchange, ask.route_at(), "auth", refusal.detail());
            Ok(())
        }
    }
}

/// The refusal of a request before its body is read: whichever of these routes answers, it proves too little. A request that may yet prove
/// enough is not refused here.
///
/// # Errors
/// The refusal by the first of them.
pub(super) fn before_body<'a>(ask: &Ask, routes: impl Iterator<Item = &'a LiveRoute>) -> Result<(), Reject> {
    let mut refusals = SmallVec::<[Unproved; 1]>::new();
    for route in routes {
        let Some(policy) = route.policies.auth.as_ref().filter(|policy| policy.mode == Mode::Enforce) else { return Ok(()) };
        match look(ask, route, policy, false) {
            Looked::NeedsKeys | Looked::AskService => return Ok(()),
            looked => match auth::admit(policy, looked) {
                Ok(_) => return Ok(()),
                Err(unproved) => refusals.push(unproved),
            },
        }
    }
    refusals.into_iter().next().map_or(Ok(()), |unproved| Err(counted(ask, unproved)))
}

/// Takes the credential out of a request's fields, unless the route passes it on, and adds what the service that decides has said. A policy that
/// observes changes nothing.
pub(super) fn strip(ask: &Ask, fields: &mut Fields) {
    let policy = ask.route().and_then(|route| route.policies.auth.as_ref());
    let Some(policy) = policy.filter(|policy| policy.mode == Mode::Enforce) else { return };
    match policy.pass {
        false => auth::strip(&policy.sources, fields),
        true => auth::strip_said(&policy.sources, fields),
    }
    for (name, value) in ask.proof().into_iter().flat_map(|proof| proof.copied.iter()) {
        fields.append(name.as_str(), value.as_bytes());
    }
}

/// The caller whom a proof of this kind names.
pub(super) fn caller(proof: &Proof, kind: &ProofKind) -> Option<Caller> {
    match kind {
        ProofKind::Any => proof.caller(),
        ProofKind::ApiKey => proof.caller().filter(|_| proof.by == KnownBy::ApiKey),
        ProofKind::Jwt(None) => proof.caller().filter(|_| proof.by == KnownBy::Token),
        ProofKind::Jwt(Some(claim)) => {
            let name =
                proof.claim(claim).filter(|name| proof.by == KnownBy::Token && !name.is_empty() && !name.chars().any(char::is_control))?;
            Some(Caller { name: name.into(), ..proof.caller()? })
        }
    }
}

/// What the request's credentials are worth, by what is known now.
fn look(ask: &Ask, route: &LiveRoute, policy: &Auth, last: bool) -> Looked {
    let shared = &ask.proxy.shared;
    let set = || route.issuer.as_ref()?.set(shared.issuers.errander(), Instant::now());
    let at_hand = AtHand {
        certificate: ask.arrival.certificate.as_ref().map(|certificate| &certificate.name),
        wall: shared.clock.wall(),
        set: &set,
        tokens: Some(&ask.proxy.tokens),
        last,
    };
    auth::look(&policy.sources, &ask.arrival.headers, at_hand)
}

/// As [`look`], once the issuer has been asked for keys that are not known. A question that was under way may have come too early: then one more.
async fn with_newest_keys(ask: &Rc<Ask>, route: &LiveRoute, policy: &Auth) -> Looked {
    let Some(issuer) = &route.issuer else { return look(ask, route, policy, true) };
    for last in [false, true] {
        let asked = issuer.newest(ask.proxy.shared.issuers.errander(), Instant::now()).await;
        match look(ask, route, policy, last && asked == Inquiry::Newest) {
            Looked::NeedsKeys if asked == Inquiry::Away => return Looked::NeedsKeys,
            Looked::NeedsKeys => {}
            looked => return looked,
        }
    }
    Looked::NeedsKeys
}

/// What the service that decides makes of the request. A slowed address asks too: others behind it may be good.
async fn ask_service(ask: &Rc<Ask>, policy: &Auth) -> Looked {
    let (shared, arrival, now) = (&ask.proxy.shared, &ask.arrival, Instant::now());
    let Some(terms) = &policy.sources.forward else { return Looked::Nothing };
    if policy.anonymous && !forward::shows(terms, &arrival.headers) {
        return Looked::Nothing;
    }
    let Some((errand, question)) = forward::question(terms, arrival) else { return Looked::Away };
    if let Some(decision) = shared.rulings.known(&question, now) {
        return decision.into();
    }
    let Some(errander) = shared.issuers.errander() else { return Looked::Away };
    // The errand runs beside the workers: a client that leaves does not break it off.
    let answer = errander.on.spawn((errander.send)(errand)).await;
    let decision = answer.ok().and_then(Result::ok).and_then(|answer| forward::decide(terms, &answer));
    let Some(decision) = decision else { return Looked::Away };
    shared.rulings.keep(question, decision.clone(), terms.cache, Instant::now());
    decision.into()
}

/// What the request has proved.
///
/// # Errors
/// Too little for the route.
fn admit(ask: &Ask, policy: &Auth, looked: Looked) -> Result<Option<Proof>, Reject> {
    auth::admit(policy, looked).map_err(|unproved| match policy.mode {
        Mode::Enforce => counted(ask, unproved),
        Mode::Observe => Reject::Unproved(Box::new(unproved)),
    })
}

/// The refusal, counted for its address. Who has shown too many bad credentials is told to wait.
fn counted(ask: &Ask, unproved: Unproved) -> Reject {
    let is_bad = unproved.fault == ProofFault::Invalid;
    let wait = is_bad.then(|| ask.proxy.shared.slow.failed(ask.arrival.client, Instant::now())).flatten();
    Reject::Unproved(Box::new(wait.map_or(unproved, auth::slowed)))
}
