//! How the keys of issuers are asked for: over the network, on the side runtime, counted.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::{
    fetch::Fetch,
    policy::auth::issuer::Errander,
    proxy::Shared,
    telemetry::{Telemetry, metrics::Family},
};

/// Lets requests ask for the keys of issuers. Must be called on the side runtime.
pub(super) fn employ(shared: &Shared, fetch: &Fetch, telemetry: &Arc<Telemetry>) {
    let telemetry = telemetry.clone();
    let told = move |host: &str, outcome| telemetry.metrics().shared().counter(Family::AuthKeySets, &[host, outcome]).inc();
    shared.issuers.employ(Errander::new(fetch.clone(), Handle::current(), told));
}
