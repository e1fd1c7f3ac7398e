//! The inbound route of a request: by its path, method, host and fields.

use http::Method;

use super::{gate, live::LiveDoor};
use crate::{arrival::Arrival, reject::Reject, route::Query};

/// The route of a request; of a preflight, also the route that says which pages may send the request behind it. A policy that enforces
/// has the preflight on its own route.
///
/// # Errors
/// The path means two routes.
pub(super) fn inbound(door: &LiveDoor, arrival: &Arrival) -> Result<(usize, Option<usize>), Reject> {
    let asks_pages = |at: &usize| door.routes[*at].policies.cors.is_some();
    let speaker = match door.answers_preflights {
        true => gate::of_preflight(arrival, |method| inbound_at(door, arrival, method), asks_pages)?,
        false => None,
    };
    match speaker.filter(|at| gate::answers(&door.routes[*at].policies)) {
        Some(at) => Ok((at, speaker)),
        None => Ok((inbound_at(door, arrival, &arrival.method)?, speaker)),
    }
}

/// The inbound route of the request, if it had this method.
fn inbound_at(door: &LiveDoor, arrival: &Arrival, method: &Method) -> Result<usize, Reject> {
    let query = Query {
        path: arrival.path(),
        method,
        host: if door.table.names_hosts() { arrival.host() } else { "" },
        headers: &arrival.headers,
        provider: None,
        operation: None,
        model: None,
    };
    Ok(door.table.find_unambiguous(&query)?.copied().unwrap_or(door.fallthrough()))
}
