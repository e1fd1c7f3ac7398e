//! The numbers of the page, read once a second while somebody looks.

use super::App;
use crate::{admin::live::Numbers, clock::Instant, telemetry::metrics::Family};

/// The families that the page shows. Others are not read: reading costs time.
const SHOWN: &[Family] = &[
    Family::Requests,
    Family::RequestDuration,
    Family::OwnDuration,
    Family::UpstreamDuration,
    Family::FirstToken,
    Family::Rejects,
    Family::Inflight,
    Family::Connections,
    Family::Tries,
    Family::Retries,
    Family::KeyRests,
    Family::KeyState,
    Family::Fallbacks,
    Family::Timeouts,
    Family::BreakerState,
    Family::LimitDecisions,
    Family::LimitWaiting,
    Family::LimitHeld,
    Family::CacheBytes,
    Family::CacheEntries,
    Family::CacheBudgetBytes,
    Family::CacheSavedUsd,
    Family::CacheSavedTokens,
    Family::Tokens,
    Family::Cost,
    Family::UnpricedCalls,
    Family::UnattributedCalls,
    Family::StoreUp,
    Family::LedgerUp,
    Family::PoolConnections,
    Family::MemoryBytes,
    Family::Draining,
    Family::ConfigLastReloadSuccessful,
    Family::ProcessCpu,
    Family::ProcessResidentMemory,
];

/// The numbers of now.
pub(super) fn numbers(app: &App) -> Numbers {
    let metrics = app.telemetry.metrics();
    Numbers {
        at: app.shared.clock.unix_millis(),
        uptime: metrics.uptime(Instant::now()),
        generation: app.live().generation,
        families: metrics.gather_of(SHOWN),
        flows: app.telemetry.flows().take(),
    }
}
