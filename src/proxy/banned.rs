//! Bans on the way of a request: who is out is turned away, and every refusal is counted.

use super::{
    ask::{Ask, Origin},
    ending::Ending,
    exchange::Exchange,
    gate,
};
use crate::{
    caller::KnownBy,
    clock::Instant,
    config::{self, Mode, Policies},
    policy::bans::Offence,
    reject::{GatePolicy, Reject},
};

/// Lets a request pass whose address is not out.
///
/// # Errors
/// The address is out.
pub(super) fn address(exchange: &mut Exchange, policies: &Policies) -> Result<(), Reject> {
    let Some(terms) = terms(policies) else { return Ok(()) };
    let out = exchange.ask.proxy.shared.bans.address_is_out(terms, exchange.ask.arrival.client, Instant::now());
    turn_away(exchange, out.map(|(mode, _)| mode))
}

/// Lets a request pass whose caller is not out.
///
/// # Errors
/// The caller is out.
pub(super) fn caller(exchange: &mut Exchange, policies: &Policies) -> Result<(), Reject> {
    let Some(terms) = terms(policies) else { return Ok(()) };
    let ask = &exchange.ask;
    let out = named(ask).and_then(|name| ask.proxy.shared.bans.caller_is_out(terms, name, Instant::now()));
    let mode = out.map(|(mode, _)| mode);
    turn_away(exchange, mode)
}

fn turn_away(exchange: &mut Exchange, out: Option<Mode>) -> Result<(), Reject> {
    match out {
        None => Ok(()),
        Some(Mode::Enforce) => Err(Reject::Gate { policy: GatePolicy::Bans, why: OUT.into() }),
        Some(Mode::Observe) => {
            gate::observed(exchange, exchange.ask.route_at(), GatePolicy::Bans.as_str(), OUT);
            Ok(())
        }
    }
}

const OUT: &str = "too many requests of this client were refused; it stays out for a while (access.bans)";

/// Counts the exchange, if it is one that counts.
pub(super) fn count(ending: &Ending) {
    let ask = &ending.ask;
    let Some(terms) = ask.route().and_then(|route| terms(&route.policies)).filter(|_| ask.origin == Origin::Client) else { return };
    if !(400..500).contains(&ending.answer.status) {
        return;
    }
    let offence = Offence {
        status: ending.answer.status,
        reason: ending.answer.reject,
        address: ask.arrival.client,
        caller: named(ask),
        route: &ask.route_name(),
    };
    ask.proxy.shared.bans.count(terms, &offence, ending.at);
}

/// Whether a route has bans.
pub(super) fn are_named(policies: &Policies) -> bool {
    terms(policies).is_some()
}

fn terms(policies: &Policies) -> Option<&config::Bans> {
    policies.access.as_ref()?.bans.as_ref()
}

/// The caller, if more than the address says who it is.
fn named(ask: &Ask) -> Option<&std::sync::Arc<str>> {
    ask.caller().filter(|caller| caller.known_by != KnownBy::Address).map(|caller| &caller.name)
}
