//! The change from one generation of the configuration to the next: the state that begins, and the state that is forgotten.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{
    Shared,
    live::{Live, LiveRoute},
};
use crate::{
    arrival::Door,
    config::Mode,
    reject::GatePolicy,
    telemetry::metrics::{CacheOutcome, Family, MAX_SERIES, Metrics, WorkerMetrics},
};

/// The clients' label among the targets, in metrics of time bounds.
const CLIENT: &str = "client";
/// Routes of a door whose series begin at 0; those of further routes begin with their first request.
const ANNOUNCED: usize = MAX_SERIES / 16;

impl Live {
    /// Makes `fresh` the newest generation, and forgets the state of targets that it does not have. Gives back the one before.
    pub fn put_to_work(fresh: Arc<Self>, newest: &ArcSwap<Self>, shared: &Shared, metrics: &Metrics) -> Arc<Self> {
        // The name of a breaker or budget is its target's, perhaps followed by model and route.
        let target_of = |name: &str| name.split(['#', '/', '@']).next().unwrap_or_default().to_owned();
        let is_one = |target: &str| fresh.targets.iter().any(|known| *known.name == *target);
        let is_of_a_target = |name: &str| {
            let target = target_of(name);
            is_one(&target) || fresh.wholes().any(|whole| **whole == *target)
        };
        // Before the swap: no request of the generation before may put its terms back.
        shared.breakers.retain(fresh.generation, |name| is_one(&target_of(name)), is_of_a_target);
        shared.budgets.retain(fresh.generation, is_of_a_target);
        metrics.forget("target", |name| name != CLIENT && !is_of_a_target(name));
        fresh.announce(metrics.shared());
        newest.swap(fresh)
    }

    /// Begins the series of the alert rules at 0: an alert sees growth only in a series that exists before.
    pub fn announce(&self, metrics: &WorkerMetrics) {
        for door in [&self.inbound, &self.outbound].into_iter().flatten() {
            // Not all of very many routes: the series of one door must leave room for others.
            for route in door.routes.iter().take(ANNOUNCED) {
                // A failed request was no hit: it has one of these outcomes.
                let outcomes = [CacheOutcome::None, CacheOutcome::Miss, CacheOutcome::Bypass];
                let outcomes = &outcomes[..if route.policies.cache.is_some() { outcomes.len() } else { 1 }];
                for (code, outcome) in ["500", "502", "503", "504"].iter().flat_map(|code| outcomes.iter().map(move |o| (code, o))) {
                    metrics.counter(Family::Requests, &[door.door.as_str(), &route.name, code, outcome.as_str()]);
                }
                gate(metrics, door.door, route);
                for outcome in CacheOutcome::ALL.iter().filter(|_| route.policies.cache.is_some()) {
                    metrics.counter(Family::CacheRequests, &[door.door.as_str(), &route.name, outcome.as_str()]);
                }
            }
        }
        for provider in &self.providers {
            // The models are not known in advance: this series names none.
            metrics.counter(Family::UnpricedCalls, &[&provider.name, ""]);
            metrics.counter(Family::UnmeteredCalls, &[&provider.name, ""]);
            metrics.counter(Family::Cost, &["", &provider.name, ""]);
            metrics.histogram(Family::FirstToken, &[&provider.name, ""]);
        }
    }
}

/// The series of `cors`, `csrf`, `validate` and `privacy` on a route.
fn gate(metrics: &WorkerMetrics, door: Door, route: &LiveRoute) {
    let privacy = route.policies.privacy.as_ref();
    let modes = [
        (GatePolicy::Privacy.as_str(), GatePolicy::Privacy.reason(), privacy.map(|privacy| privacy.mode)),
        (
            GatePolicy::Unreadable.as_str(),
            GatePolicy::Unreadable.reason(),
            privacy.filter(|privacy| !privacy.passes_unreadable).map(|privacy| privacy.mode),
        ),
        (GatePolicy::Cors.as_str(), GatePolicy::Cors.reason(), route.policies.cors.as_ref().map(|cors| cors.mode)),
        (GatePolicy::Csrf.as_str(), GatePolicy::Csrf.reason(), route.policies.csrf.as_ref().map(|csrf| csrf.mode)),
        (
            GatePolicy::Attacks.as_str(),
            GatePolicy::Attacks.reason(),
            route.policies.access.as_ref().and_then(|access| access.attacks.as_ref()).map(|attacks| attacks.mode),
        ),
        (
            GatePolicy::Bans.as_str(),
            GatePolicy::Bans.reason(),
            route.policies.access.as_ref().and_then(|access| access.bans.as_ref()).map(|bans| bans.mode),
        ),
        ("validate", "invalid_content", route.policies.validate.as_ref().map(|validate| validate.mode)),
    ];
    for (policy, reason, mode) in modes {
        match mode {
            Some(Mode::Enforce) => drop(metrics.counter(Family::Rejects, &[door.as_str(), &route.name, reason])),
            Some(Mode::Observe) => drop(metrics.counter(Family::GateObserved, &[door.as_str(), &route.name, policy])),
            None => {}
        }
    }
}
