//! A generation of the configuration comes and the one before goes: what is begun, what is forgotten.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Shared, live::Live};
use crate::telemetry::metrics::{CacheOutcome, Family, MAX_SERIES, Metrics, WorkerMetrics};

/// In metrics of time bounds clients stand among the targets.
const CLIENT: &str = "client";
/// Routes of a door whose series begin at 0.
const ANNOUNCED: usize = MAX_SERIES / 16;

impl Live {
    /// `fresh` is the newest from now on; what belongs to targets that it does not have is forgotten. Gives back the one before.
    pub fn put_to_work(fresh: Arc<Self>, newest: &ArcSwap<Self>, shared: &Shared, metrics: &Metrics) -> Arc<Self> {
        // Breakers and budgets are called by their target, and then perhaps by model and route.
        let is_of_a_target = |name: &str| {
            let target = name.split(['/', '@']).next().unwrap_or_default();
            fresh.targets.iter().any(|known| *known.name == *target)
        };
        // First, so that no request of the generation before can put its terms back.
        shared.breakers.retain(fresh.generation, is_of_a_target);
        shared.budgets.retain(fresh.generation, is_of_a_target);
        metrics.forget("target", |name| name != CLIENT && !is_of_a_target(name));
        fresh.announce(metrics.shared());
        newest.swap(fresh)
    }

    /// Begins the series that rules look at, at 0: an alert sees only what grows in a series that was there before.
    pub fn announce(&self, metrics: &WorkerMetrics) {
        for door in [&self.inbound, &self.outbound].into_iter().flatten() {
            // Where there are very many routes, their series begin with their first request.
            for route in door.routes.iter().take(ANNOUNCED) {
                // A failure is found in no cache: these are what the cache has done for one.
                let outcomes = [CacheOutcome::None, CacheOutcome::Miss, CacheOutcome::Bypass];
                let outcomes = &outcomes[..if route.policies.cache.is_some() { outcomes.len() } else { 1 }];
                for (code, outcome) in ["500", "502", "503", "504"].iter().flat_map(|code| outcomes.iter().map(move |o| (code, o))) {
                    metrics.counter(Family::Requests, &[door.door.as_str(), &route.name, code, outcome.as_str()]);
                }
                for outcome in CacheOutcome::ALL.iter().filter(|_| route.policies.cache.is_some()) {
                    metrics.counter(Family::CacheRequests, &[door.door.as_str(), &route.name, outcome.as_str()]);
                }
            }
        }
        for provider in &self.providers {
            // Which models will be asked for is not known: these have none.
            metrics.counter(Family::UnpricedCalls, &[&provider.name, ""]);
            metrics.counter(Family::UnmeteredCalls, &[&provider.name, ""]);
            metrics.counter(Family::Cost, &["", &provider.name, ""]);
            metrics.histogram(Family::FirstToken, &[&provider.name, ""]);
        }
    }
}
