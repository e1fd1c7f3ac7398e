//! Mistakes in limits, and remarks on them.

use std::{sync::Arc, time::Duration};

use super::{Algorithm, Unit, written::Written};
use crate::config::{
    Config,
    block::provider,
    build::{Build, Door},
    key::{KeyPart, KeyWord},
    policy::Place,
    read::Mark,
};

pub(super) fn key_fits(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: &Written) {
    let parts: Vec<_> = written.key.iter().enumerate().filter_map(|(n, word)| Some((n, word.as_ref()?.0.clone()))).collect();
    for (at, (n, word)) in parts.iter().enumerate() {
        let KeyWord::Part(part) = word else {
            if parts.len() > 1 {
                build.fault(key_place(build, path, *n), "`global` is one counter for all; it cannot be combined with other key parts");
            }
            continue;
        };
        if parts[..at].iter().any(|(_, other)| other == word) {
            build.fault(key_place(build, path, *n), format!("`{}` is already part of the key", part.written()));
        }
        match (place.door, part) {
            (Door::Inbound, KeyPart::Provider | KeyPart::Model) => {
                let message = format!("an inbound request has no {0}; a limit by {0} is written in `outbound`", part.written());
                build.fault(key_place(build, path, *n), message);
            }
            (Door::Inbound, KeyPart::Header(name)) if !place.trusting => {
                let message = format!(
                    "any client can write its own `{name}` and so get a counter of its own; key by `client_ip`, or by `caller` with `trusted_proxies`"
                );
                build.note(key_place(build, path, *n), message);
            }
            _ => {}
        }
    }
}

fn key_place(build: &Build<'_>, path: &str, n: usize) -> Mark {
    let item = format!("{path}.key[{n}]");
    if build.seen.written(&item) { build.seen.value(&item) } else { build.seen.value(&format!("{path}.key")) }
}

/// Limits of the inbound door on tokens or dollars: they count model calls, which pass the outbound door.
pub(super) fn spending(build: &mut Build<'_>, config: &Config) {
    let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let Some(first) =
        inbound.filter(|limit| matches!(limit.unit, Unit::Tokens | Unit::NanoUsd)).map(|limit| Arc::clone(&limit.name)).next()
    else {
        return;
    };
    let path = limit_path(build, &first);
    if config.outbound.is_some() || build.seen.written("outbound") || build.seen.broken("outbound") {
        let message = format!(
            "limit `{first}` sees the model calls that the app's requests cause, if the app says which: start it under OpenTelemetry \
             (Python: `opentelemetry-instrument python app.py`), or pass `x-request-id` on to the provider; other calls escape it"
        );
        build.note(build.seen.key(&path), message);
        return;
    }
    let unit = if build.seen.written(&format!("{path}.usd")) { "usd" } else { "tokens" };
    let message = format!(
        "a limit on `{unit}` counts the model calls that a request causes, and without `outbound` none passes here; \
         write `outbound: {{providers: {{openai: {{}}}}}}` and let the app call its provider through it"
    );
    build.fault(build.seen.key(&format!("{path}.{unit}")), message);
}

pub(super) fn limit_path(build: &Build<'_>, name: &str) -> String {
    build.limit_names.iter().find(|(taken, _)| taken == name).map(|(_, path)| path.clone()).unwrap_or_default()
}

/// Remarks that GCRA and requests in flight are counted by each process for itself: replicas that share a store do not share the count.
pub(super) fn gcra_is_local(build: &mut Build<'_>, config: &Config) {
    let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let outbound = config.outbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let local: Vec<_> = inbound
        .chain(outbound)
        .filter_map(|limit| match (limit.algorithm, limit.unit) {
            (Algorithm::Gcra { .. }, _) => Some((Arc::clone(&limit.name), "algorithm", "gcra is")),
            (_, Unit::Concurrency) => Some((Arc::clone(&limit.name), "concurrency", "requests in flight are")),
            _ => None,
        })
        .collect();
    for (name, key, what) in local {
        let path = limit_path(build, &name);
        build.note(
            build.seen.value(&format!("{path}.{key}")),
            format!("limit `{name}`: {what} counted by each replica for itself, not in Redis"),
        );
    }
}

/// The window; zero for requests in flight. `None`: the window is missing.
pub(super) fn window(build: &mut Build<'_>, path: &str, written: &Written, unit: Unit) -> Option<Duration> {
    match (&written.window, unit) {
        (window, Unit::Concurrency) => {
            let without = [
                ("window", window.is_some()),
                ("alert_at", !written.alert_at.is_empty()),
                ("algorithm", build.seen.written(&format!("{path}.algorithm"))),
            ];
            for (key, _) in without.iter().filter(|(_, is_written)| *is_written) {
                let message = format!("`{key}` has no meaning beside `concurrency`, which counts the requests in flight at this moment");
                build.fault(build.seen.key(&format!("{path}.{key}")), message);
            }
            Some(Duration::ZERO)
        }
        (window, _) => window.as_ref().map(|window| window.0),
    }
}

/// Finds terms that have no meaning beside others.
pub(super) fn terms_fit(build: &mut Build<'_>, path: &str, written: &Written, unit: Unit, algorithm: Algorithm) {
    let gcra = matches!(algorithm, Algorithm::Gcra { .. });
    let known = !build.seen.broken(&format!("{path}.algorithm"));
    if !gcra && written.burst.is_some() && known {
        build.fault(build.seen.key(&format!("{path}.burst")), "`burst` is for `algorithm: gcra`; a window admits its whole limit at once");
    }
    if gcra && unit != Unit::Requests {
        let message = "`algorithm: gcra` counts requests only; for tokens and dollars write `sliding` or `fixed`";
        build.fault(build.seen.value(&format!("{path}.algorithm")), message);
    }
    if gcra && written.tier.is_some() {
        let message = "`algorithm: gcra` has one pace for all; write `sliding` or `fixed` where amounts go by tier";
        build.fault(build.seen.value(&format!("{path}.algorithm")), message);
    }
    if written.unpriced.is_some() && unit != Unit::NanoUsd {
        build.fault(build.seen.key(&format!("{path}.unpriced")), "`unpriced` is for a `usd` limit");
    }
    if written.unmetered.is_some() && matches!(unit, Unit::Requests | Unit::Concurrency) {
        let message = "`unmetered` is for a limit on `tokens` or `usd`; requests count whatever they cost";
        build.fault(build.seen.key(&format!("{path}.unmetered")), message);
    }
}

/// Finds a cheaper model that no call can go to.
pub(super) fn degrades(build: &mut Build<'_>, place: &Place<'_>, path: &str, provider: Option<&str>, unit: Unit) {
    let at = format!("{path}.on_limit.degrade");
    match (place.door, provider) {
        (Door::Inbound, Some(_)) => {
            let message = "the providers of an inbound limit's calls are chosen by the app; leave `provider` out: the call stays at the one that it asks";
            build.fault(build.seen.key(&format!("{at}.provider")), message);
        }
        (Door::Inbound, None) if !matches!(unit, Unit::Tokens | Unit::NanoUsd) => {
            let message =
                "an inbound request has no model; `degrade` on an inbound limit is for `tokens` or `usd`, which its model calls use";
            build.fault(build.seen.key(&at), message);
        }
        (Door::Outbound, Some(name)) if place.providers.iter().all(|provider| *provider.name != *name) => {
            provider::unknown(build, name, &format!("{at}.provider"), place.providers);
        }
        _ => {}
    }
}

/// Finds a source of tiers that its door does not have, or that any client could set.
pub(super) fn source_fits(build: &mut Build<'_>, place: &Place<'_>, path: &str, source: &KeyPart) {
    let at = build.seen.value(&format!("{path}.tier"));
    match (place.door, source) {
        (Door::Inbound, KeyPart::Header(name)) if !place.trusting => {
            let message = format!(
                "`{name}` would never be believed: a tier counts only from `trusted_proxies`, and none are written; \
                 add `trusted_proxies: [private]` if a proxy of yours sets it"
            );
            build.fault(at, message);
        }
        (Door::Inbound, KeyPart::Provider | KeyPart::Model) => {
            let message = format!("an inbound request has no {0}; tiers by {0} are written in `outbound`", source.written());
            build.fault(at, message);
        }
        (Door::Outbound, KeyPart::Header(_)) => {
            let message = "the tier of a caller is known at the inbound door; write the limit in `inbound`, where a limit on `tokens` or `usd` \
                           counts what the caller's model calls use";
            build.fault(at, message);
        }
        _ => {}
    }
}
