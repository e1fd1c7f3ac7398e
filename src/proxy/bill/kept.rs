//! The limits' keys of a payer whom a kept book names: the process that knew the keys has ended.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    policy::limits::KeyFacts,
    proxy::{
        ask::Ask,
        live::LiveDoor,
        payer::{Payer, Payers},
        pledge::Order,
    },
};

/// The payers of `order` with the keys under which limits count it; `None`: no kept book names them, or there are no limits.
///
/// The limits are those of the route that ordered the work and of the inbound route that caused the order. The keys are those of the kept
/// caller, and of the work's provider and model. Headers and addresses of the order are not kept: a limit by them counts under those of the
/// request that has told the work's end.
pub(super) fn payers(ask: &Ask, payers: &Payers, order: &Order) -> Option<Arc<Payers>> {
    let leader = payers.kept_leader()?;
    let (live, arrival) = (&ask.worker.live, &ask.arrival);
    let named = |door: &Option<LiveDoor>, name: &str| {
        let routes = &door.as_ref()?.routes;
        // A route that a new configuration does not have is the one that answers when none matches: the door's own limits count.
        let route = routes.iter().find(|route| *route.name == *name).or_else(|| routes.last())?;
        let facts = KeyFacts {
            client_ip: arrival.client,
            caller: leader.caller.as_deref().filter(|_| !leader.claimed),
            proof: None,
            headers: &arrival.headers,
            query: arrival.uri.query(),
            trusted: arrival.trusted,
            route: &route.name,
            provider: Some(&order.provider),
            model: order.model.as_deref(),
        };
        (!route.limits.is_empty()).then(|| route.limits.keyed(&facts))
    };
    let caused = order.inbound.as_deref().filter(|_| !leader.claimed).and_then(|inbound| named(&live.inbound, inbound));
    let keyed: SmallVec<_> = named(&live.outbound, &order.route).into_iter().chain(caused).collect();
    (!keyed.is_empty()).then(|| Payers::led_by(Payer { keyed, ..leader.clone() }).0)
}
