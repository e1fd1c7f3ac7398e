//! Who sends a request, as the file and the request decide it.

use std::{net::IpAddr, sync::Arc};

use crate::{
    arrival::{Arrival, Door},
    caller::{Caller, Proof},
    cause,
    clock::Clock,
    config::{Config, Policies},
    policy::auth::{self, AtHand},
    proxy::caller,
};

/// What the request's credential proves on a route with these policies.
pub(super) fn proof(policies: &Policies, arrival: &Arrival) -> Option<Proof> {
    let policy = policies.auth.as_ref()?;
    let looked = auth::look(&policy.sources, &arrival.headers, AtHand::alone(Clock::system().wall()));
    auth::admit(policy, looked).ok().flatten()
}

/// The caller's name. `from`: the address of the peer.
pub(super) fn name(config: &Config, arrival: &Arrival, proof: Option<&Proof>, from: IpAddr) -> Option<Arc<str>> {
    let caller = match arrival.door {
        Door::Inbound => config.inbound.as_ref().and_then(|inbound| caller(&inbound.caller, arrival, proof)),
        Door::Outbound => {
            let said = from.is_loopback().then(|| cause::said_caller(&arrival.headers).map(Arc::<str>::from)).flatten();
            return said.or_else(|| proof.map(|proof| proof.name.clone()));
        }
    };
    caller.map(|caller: Caller| caller.name)
}
