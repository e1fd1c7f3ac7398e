//! The app and the providers at the admin door: whether they answer, their breakers, and their keys. A key is known by its place.

use serde_json::{Value, json};

use super::App;
use crate::{
    clock::Instant,
    policy::{breaker, keyring},
    upstream::Reached,
};

/// For `/api/targets`.
pub(super) fn view(app: &App) -> Value {
    let (live, now) = (app.live(), Instant::now());
    let breakers = app.shared.breakers.snapshot(now);
    let shown = |at: usize| {
        let target = &live.targets[at];
        let provider = live.providers.iter().find(|provider| provider.target == at);
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
            let key = |(place, key): (usize, keyring::State)| {
                let [requests, tokens] = key.left;
                json!({"key": place + 1, "rests_seconds": key.rests, "refusals": key.refusals, "requests_left": requests, "tokens_left": tokens})
            };
            keys.map(key).collect::<Vec<_>>()
        });
        json!({
            "name": &*target.name, "origin": target.origin.to_string(), "api": provider.map(|provider| provider.api.to_string()),
            "reached": match target.reached() { Reached::Yes => "yes", Reached::No => "no", Reached::Untried => "untried" },
            "breakers": states, "keys": keys,
        })
    };
    json!({"targets": (0..live.targets.len()).map(shown).collect::<Vec<_>>()})
}
