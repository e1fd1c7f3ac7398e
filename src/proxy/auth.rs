//! `auth` on the way: a request proves who sends it, before anything is counted, stored or sent for it.

use super::{
    ask::{Ask, Origin},
    exchange::Exchange,
    gate,
};
use crate::{
    caller::{KnownBy, Proof},
    config::{Auth, Mode, ProofKind},
    http1::Fields,
    policy::auth,
    reject::Reject,
};

/// Lets a request pass that proves what its route asks for.
///
/// # Errors
/// The refusal, where the policy enforces.
pub(super) fn pass(exchange: &mut Exchange, policy: Option<&Auth>) -> Result<(), Reject> {
    let Some(policy) = policy else { return Ok(()) };
    let ask = &exchange.ask;
    // The proxy's own requests have nobody to prove; what they store is for those who pass here.
    if ask.origin != Origin::Client {
        return Ok(());
    }
    match (check(ask, policy), policy.mode) {
        (Ok(proof), _) => {
            if let Some(proof) = proof {
                ask.proved(proof);
            }
            Ok(())
        }
        (Err(refusal), Mode::Enforce) => Err(refusal),
        (Err(_), Mode::Observe) => {
            gate::observed(exchange, exchange.ask.route_at(), "auth");
            Ok(())
        }
    }
}

/// Takes the credential out of a request's fields, unless the route passes it on. A policy that observes changes nothing.
pub(super) fn strip(ask: &Ask, fields: &mut Fields) {
    let policy = ask.route().and_then(|route| route.policies.auth.as_ref());
    if let Some(policy) = policy.filter(|policy| policy.mode == Mode::Enforce && !policy.pass) {
        auth::strip(&policy.sources, fields);
    }
}

/// Whether the proof is of this kind.
pub(super) fn is(proof: &Proof, kind: ProofKind) -> bool {
    match kind {
        ProofKind::Any => true,
        ProofKind::ApiKey => proof.by == KnownBy::ApiKey,
    }
}

/// What the request has proved.
///
/// # Errors
/// Too little for the route.
fn check(ask: &Ask, policy: &Auth) -> Result<Option<Proof>, Reject> {
    let looked = auth::look(&policy.sources, &ask.arrival.headers, ask.proxy.shared.clock.wall());
    auth::admit(policy, looked).map_err(|unproved| Reject::Unproved(Box::new(unproved)))
}
