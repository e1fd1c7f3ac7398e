//! Breakers at the admin door: their states, and an operator's orders.

use std::sync::Arc;

use serde_json::{Value, json};

use super::App;
use crate::{
    admin::Refused,
    clock::Instant,
    config::{Config, Fallback, Mode, Policies, Route},
    policy::breaker::{self, State},
    proxy::live::LiveDoor,
};

/// All breakers as the admin API shows them.
pub fn view(app: &App, now: Instant) -> Value {
    let all = app.shared.breakers.snapshot(now);
    let shown = |b: &breaker::Snapshot| {
        json!({
            "name": &*b.name, "state": b.state.as_str(), "since_seconds": b.since.as_secs_f64(),
            "retry_after_seconds": b.retry_after.map(|wait| wait.as_secs_f64()), "by_hand": b.forced,
            "consecutive_failures": b.in_a_row, "requests": b.requests, "failures": b.failures, "refused": b.refused,
        })
    };
    json!({ "breakers": all.iter().map(shown).collect::<Vec<_>>() })
}

/// The breakers of a target that are open.
pub fn open_of<'a>(all: &'a [breaker::Snapshot], target: &str) -> Vec<&'a str> {
    all.iter().filter(|b| b.state == State::Open && breaker::belongs(&b.name, target)).map(|b| &*b.name).collect()
}

/// Holds open (or closes) every breaker of `name`: a target with all its models, or one model. No call need have been made.
pub fn steer(app: &App, name: &str, to: State) -> Result<Value, Refused> {
    let live = app.live();
    let doors = [&live.inbound, &live.outbound];
    let groups: Vec<Arc<str>> =
        doors.into_iter().flatten().flat_map(|door: &LiveDoor| &door.routes).filter_map(|r| r.group.clone()).collect();
    let modes = check(name, &live.config, &groups)?;
    let (breakers, now) = (&app.shared.breakers, Instant::now());
    let steered = match to {
        State::Open => breakers.hold(name, now),
        State::Closed | State::HalfOpen => breakers.release(name, now),
    };
    let names: Vec<&str> = steered.iter().map(|name| &**name).collect();
    let mut said = json!({"breaker": name, "state": to.as_str(), "by_hand": to == State::Open, "breakers": names});
    if to == State::Open && modes.iter().all(|mode| *mode == Mode::Observe) {
        said["note"] = "the mode of this breaker is `observe`: it counts what it would refuse, and refuses nothing".into();
    }
    Ok(said)
}

/// The modes of the breakers that `name` may mean; an error if it names no target.
fn check(name: &str, config: &Config, groups: &[Arc<str>]) -> Result<Vec<Mode>, Refused> {
    let (place, group) = name.split_once('@').map_or((name, None), |(place, group)| (place, Some(group)));
    let (head, model) = place.split_once('/').map_or((place, None), |(head, model)| (head, Some(model)));
    let (place, key) = head.split_once('#').map_or((head, None), |(target, key)| (target, Some(key)));
    let (target, member) = place.split_once(':').map_or((place, None), |(target, member)| (target, Some(member)));
    let providers = config.outbound.iter().flat_map(|door| &door.providers);
    let apps = config.inbound.iter().flat_map(|door| std::iter::once("app").chain(door.apps.iter().map(|app| &*app.name)));
    let apps: Vec<&str> = apps.collect();
    let targets: Vec<&str> = apps.iter().copied().chain(providers.map(|provider| &*provider.name)).collect();
    if !targets.contains(&target) {
        return Err(Refused::NotFound(format!("no target is called `{target}`; there are: {}", targets.join(", "))));
    }
    let members = members(target, config);
    if let Some(member) = member
        && !members.contains(&member)
    {
        let known = if members.is_empty() { "it has one address".into() } else { format!("there are: {}", members.join(", ")) };
        return Err(Refused::NotFound(format!("`{target}` has no member `{member}`; {known}")));
    }
    if let Some(key) = key {
        let providers = config.outbound.iter().flat_map(|door| &door.providers);
        let keys = providers.filter(|provider| *provider.name == *target && provider.keys.len() > 1).flat_map(|provider| &provider.keys);
        let names: Vec<&str> = keys.map(|key| &*key.name).collect();
        if !names.contains(&key) {
            let known = if names.is_empty() { "it has not several keys".into() } else { format!("there are: {}", names.join(", ")) };
            return Err(Refused::NotFound(format!("`{target}` has no key `{key}` in a pool; {known}")));
        }
    }
    let is_app = apps.contains(&target);
    if model.is_some_and(|model| model.is_empty() || is_app) {
        let why = if is_app { "the app has no models" } else { "no model is named" };
        return Err(Refused::NotFound(format!("there can be no breaker `{name}`: {why}; write `{target}` for all of it")));
    }
    if let Some(group) = group.filter(|group| !groups.iter().any(|known| **known == **group)) {
        let why =
            format!("no route `{group}` has a breaker with terms of its own; without `@{group}` the breakers of all routes are meant");
        return Err(Refused::NotFound(why));
    }
    let mut modes = modes(target, config);
    // A member can be left out without a breaker: that is `balance`.
    modes.extend(if modes.is_empty() && !members.is_empty() { Some(Mode::Enforce) } else { None });
    if modes.is_empty() {
        let door = if is_app { "inbound" } else { "outbound" };
        let why = format!("no route to `{target}` has a breaker, so nothing would be refused: write `breaker: {{}}` in `{door}.defaults`");
        return Err(Refused::Conflict(why));
    }
    Ok(modes)
}

/// The names of a target's members; none: it has one address.
fn members<'a>(target: &str, config: &'a Config) -> Vec<&'a str> {
    let app = config.inbound.iter().filter(|_| target == "app").filter_map(|door| door.members.as_ref());
    let providers = config.outbound.iter().flat_map(|door| &door.providers).filter(|provider| *provider.name == *target);
    let named = config.inbound.iter().flat_map(|door| &door.apps).filter(|app| *app.name == *target).filter_map(|app| app.members.as_ref());
    let all = app.chain(named).chain(providers.filter_map(|provider| provider.members.as_ref()));
    all.flat_map(|members| members.list.iter().map(|member| &*member.name)).collect()
}

/// The modes of the breakers of all routes that may lead to a target.
fn modes(target: &str, config: &Config) -> Vec<Mode> {
    let mode = |policies: &Policies| policies.breaker.as_ref().map(|breaker| breaker.mode);
    let is_app = target == "app" || config.inbound.iter().flat_map(|door| &door.apps).any(|app| *app.name == *target);
    let (routes, fallthrough) = match (is_app, &config.inbound, &config.outbound) {
        (true, Some(door), _) => (&door.routes, &door.fallthrough),
        (_, _, Some(door)) => (&door.routes, &door.fallthrough),
        _ => return Vec::new(),
    };
    let leads = |route: &&Route| {
        let named = |one: &Fallback| match one {
            Fallback::Provider { provider, .. } => {
                config.outbound.as_ref().and_then(|door| door.providers.get(*provider)).is_some_and(|provider| *provider.name == *target)
            }
            Fallback::Respond { .. } => false,
        };
        let providers = &route.matches.providers;
        if is_app {
            return route.policies.app.as_deref().unwrap_or("app") == target;
        }
        providers.is_empty() || providers.iter().any(|name| **name == *target) || route.policies.fallback.iter().any(named)
    };
    routes
        .iter()
        .filter(leads)
        .map(|route| &route.policies)
        .chain((target == "app" || !is_app).then_some(fallthrough))
        .filter_map(mode)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::{self, Overrides};

    fn checked(name: &str) -> Result<Vec<Mode>, Refused> {
        let text = "{inbound: {app: 3000}, outbound: {providers: {openai: {keys: [a, {key: b, name: team-b}]}, groq: {}, anthropic: {}, house: {api: openai, url: [http://a, {url: http://b, name: eu}]}}, routes: [{match: {provider: openai}, \
                    breaker: {mode: observe}, fallback: [{provider: groq, model: m}]}]}}";
        let config = read::parse(text, "proxy.yaml", &Overrides::default(), &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        check(name, &config, &["chat".into()])
    }

    #[test]
    fn a_name_that_means_nothing_is_refused_with_what_would_be_right() {
        for name in ["openai", "openai/gpt-4o", "openai/org/model", "openai@chat", "openai#1", "openai#team-b/gpt-4o", "groq", "groq/m"] {
            assert_eq!(checked(name), Ok(vec![Mode::Observe]), "{name}");
        }
        for name in ["house", "house:eu", "house:a:80", "house:eu/gpt-4o"] {
            assert_eq!(checked(name), Ok(vec![Mode::Enforce]), "{name}: a member can always be left out");
        }
        for (name, why) in [
            ("opnai", "there are: app, openai, groq, anthropic, house"),
            ("house:us", "`house` has no member `us`; there are: a:80, eu"),
            ("groq:eu", "it has one address"),
            ("openai/", "write `openai` for all of it"),
            ("openai#3", "there are: 1, team-b"),
            ("groq#1", "it has not several keys"),
            ("app/gpt-4o", "the app has no models"),
            ("openai@other", "no route `other`"),
            ("app", "write `breaker: {}` in `inbound.defaults`"),
            ("anthropic", "write `breaker: {}` in `outbound.defaults`"),
        ] {
            let (Refused::NotFound(said) | Refused::Conflict(said)) = checked(name).expect_err(name) else { panic!("{name}") };
            assert!(said.contains(why), "{name}: {said}");
        }
    }
}
