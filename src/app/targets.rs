//! The app and the providers at the admin door: whether they answer, their breakers, and their keys by name.

use std::sync::Arc;

use serde_json::{Value, json};

use super::App;
use crate::{
    clock::Instant,
    config::ProviderKey,
    policy::{
        breaker,
        keyring::{KeySnapshot, RestReason},
    },
    proxy::live::LiveProvider,
    telemetry::metrics::{Family, Reading},
    upstream::Reached,
};

/// Registers the states of keys, read at every scrape.
pub(super) fn register(app: &Arc<App>) {
    let app_of = Arc::downgrade(app);
    let read = move || app_of.upgrade().map(|app| keys(&app)).unwrap_or_default();
    app.telemetry.metrics().register(Family::KeyState, Box::new(read));
}

fn keys(app: &App) -> Vec<Reading> {
    let (live, now) = (app.live(), Instant::now());
    let of = |provider: &LiveProvider| {
        let states = provider.keyring.states(now).into_iter().zip(&provider.keys);
        let read = |(state, key): (KeySnapshot, &ProviderKey)| {
            let value = match state.rest {
                Some((_, RestReason::Throttled)) => 1.0,
                Some(_) => 2.0,
                None => 0.0,
            };
            (vec![provider.name.to_string(), key.name.to_string()], value)
        };
        states.map(read).collect::<Vec<_>>()
    };
    live.providers.iter().flat_map(of).collect()
}

/// For `/api/targets`.
pub(super) fn view(app: &App) -> Value {
    let (live, now) = (app.live(), Instant::now());
    let breakers = app.shared.breakers.snapshot(now);
    let shown = |at: usize| {
        let target = &live.targets[at];
        let provider = live.provider_at(at);
        let member = live.members().find_map(|members| members.state(at));
        let of_target = breakers.iter().filter(|b| breaker::belongs(&b.name, &target.name));
        let states: Vec<Value> = of_target
            .map(|b| {
                let wait = b.retry_after.map(|wait| wait.as_secs_f64());
                json!({"name": &*b.name, "state": b.state.as_str(), "since_seconds": b.since.as_secs_f64(), "retry_after_seconds": wait,
                       "by_hand": b.forced, "requests": b.requests, "failures": b.failures, "refused": b.refused})
            })
            .collect();
        let keys = provider.map(|provider| {
            let keys = provider.keyring.states(now).into_iter().enumerate();
            let key = |(place, key): (usize, KeySnapshot)| {
                let ([requests, tokens], known) = (key.left, provider.keys.get(place));
                json!({"key": place + 1, "name": known.map(|known| &*known.name), "weight": known.map(|known| known.weight),
                       "rests_seconds": key.rest.map(|(seconds, _)| seconds), "why": key.rest.map(|(_, why)| why.as_str()), "model": key.model,
                       "refusals": key.refusals, "requests_left": requests, "tokens_left": tokens})
            };
            keys.map(key).collect::<Vec<_>>()
        });
        json!({
            "name": &*target.name, "origin": target.origin.to_string(), "api": provider.map(|provider| provider.api.to_string()),
            "reached": match target.reached() { Reached::Yes => "yes", Reached::No => "no", Reached::Untried => "untried" },
            "breakers": states, "keys": keys, "underway": member.map(|member| member.underway()),
            "latency_seconds": member.map(|member| member.latency(now)),
        })
    };
    json!({"targets": (0..live.targets.len()).map(shown).collect::<Vec<_>>()})
}
