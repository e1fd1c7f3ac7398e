//! `limits`: how much may be asked for, one unit each. A limit's key exists at its door, and its name survives reloads.

use std::sync::Arc;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Algorithm, Config, KeyPart, Limit, Unit, Unpriced,
    build::{Build, Door, names, small},
    error::quoted,
    key::{self, KeyWord},
    read::Mark,
    scalars::AlgorithmWord,
    schema,
    written::{self, Items},
};

impl Policy for Vec<Limit> {
    type Written = Items<written::Limit>;

    const ROWS: Rows = Rows {
        inbound: Some(schema::IN_LIMITS),
        outbound: Some(schema::OUT_LIMITS),
        defaults: InDefaults::Refused("limits of a whole door are written in the door's own `limits`"),
    };

    /// A limit counts where it is written: no place inherits one.
    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, _: &Self) -> Self {
        let list = place.key("limits");
        let mut out = Vec::new();
        for (n, limit) in written.into_iter().enumerate().filter_map(|(n, limit)| Some((n, limit?))) {
            out.extend(one(build, place, &format!("{list}[{n}]"), limit));
        }
        out
    }

    fn check(build: &mut Build<'_>, config: &Config) {
        spending(build, config);
        if config.store.redis.is_some() {
            gcra_is_local(build, config);
        }
    }
}

fn one(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: written::Limit) -> Option<Limit> {
    key_fits(build, place, path, &written);
    let units = [
        (Unit::Requests, written.requests.map(|count| count.0.0)),
        (Unit::Tokens, written.tokens.map(|count| count.0.0)),
        (Unit::NanoUsd, written.usd.map(|usd| usd.0.0)),
    ];
    let (unit, amount) = units.into_iter().find_map(|(unit, amount)| Some((unit, amount?)))?;
    let algorithm = match (written.algorithm.0, &written.burst) {
        (AlgorithmWord::Sliding, _) => Algorithm::Sliding,
        (AlgorithmWord::Fixed, _) => Algorithm::Fixed,
        (AlgorithmWord::Gcra, Some(burst)) => Algorithm::Gcra { burst: small(burst) },
        (AlgorithmWord::Gcra, None) => {
            if !build.seen.broken(&format!("{path}.burst")) {
                build.fault(
                    build.seen.value(&format!("{path}.algorithm")),
                    "`algorithm: gcra` needs `burst`, the requests that may come at once",
                );
            }
            return None;
        }
    };
    let known = !build.seen.broken(&format!("{path}.algorithm"));
    if !matches!(algorithm, Algorithm::Gcra { .. }) && written.burst.is_some() && known {
        build.fault(build.seen.key(&format!("{path}.burst")), "`burst` is for `algorithm: gcra`; a window admits its whole limit at once");
    }
    if matches!(algorithm, Algorithm::Gcra { .. }) && unit != Unit::Requests {
        let message = "`algorithm: gcra` counts requests only; for tokens and dollars write `sliding` or `fixed`";
        build.fault(build.seen.value(&format!("{path}.algorithm")), message);
    }
    if written.unpriced.is_some() && unit != Unit::NanoUsd {
        build.fault(build.seen.key(&format!("{path}.unpriced")), "`unpriced` is for a `usd` limit");
    }
    let mut alert_at: Vec<f64> = written.alert_at.into_iter().flatten().map(|share| share.0.0).collect();
    alert_at.sort_by(f64::total_cmp);
    alert_at.dedup();
    let unpriced = written.unpriced.map(|word| word.0).unwrap_or(if unit == Unit::NanoUsd { Unpriced::Refuse } else { Unpriced::Allow });
    let mut limit = Limit {
        name: Arc::from(""),
        // `off` is checked like the rest, and then dropped below.
        mode: written.mode.0.meant().unwrap_or_default(),
        key: key::parts(written.key),
        unit,
        amount,
        window: written.window?.0,
        algorithm,
        applies: written.applies.0,
        on_store_error: written.on_store_error.0,
        alert_at,
        unpriced,
    };
    limit.name = match written.name {
        Some(name) => Arc::from(name.0.0.as_str()),
        None => Arc::from(names::limit(place.name, &limit).as_str()),
    };
    claim_name(build, path, &limit.name);
    written.mode.0.meant().is_some().then_some(limit)
}

fn claim_name(build: &mut Build<'_>, path: &str, name: &str) {
    if let Some((_, first)) = build.limit_names.iter().find(|(taken, _)| taken == name) {
        let line = build.seen.value(first).line;
        let (at, message) = if build.seen.written(&format!("{path}.name")) {
            let message = format!("there is already a limit {} at line {line}; names are unique over both doors", quoted(name));
            (build.seen.value(&format!("{path}.name")), message)
        } else {
            (build.seen.value(path), format!("the same limit is already written at line {line}; remove one, or give each a `name`"))
        };
        build.fault(at, message);
    } else {
        build.limit_names.push((name.to_owned(), path.to_owned()));
    }
}

fn key_fits(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: &written::Limit) {
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

/// A limit on tokens or dollars counts model calls, and they come through the outbound door.
fn spending(build: &mut Build<'_>, config: &Config) {
    let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let Some(first) = inbound.filter(|limit| limit.unit != Unit::Requests).map(|limit| Arc::clone(&limit.name)).next() else { return };
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

fn limit_path(build: &Build<'_>, name: &str) -> String {
    build.limit_names.iter().find(|(taken, _)| taken == name).map(|(_, path)| path.clone()).unwrap_or_default()
}

/// GCRA is counted by each process for itself, which matters once replicas share a store.
fn gcra_is_local(build: &mut Build<'_>, config: &Config) {
    let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let outbound = config.outbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let local: Vec<Arc<str>> = inbound
        .chain(outbound)
        .filter(|limit| matches!(limit.algorithm, Algorithm::Gcra { .. }))
        .map(|limit| Arc::clone(&limit.name))
        .collect();
    for name in local {
        let path = limit_path(build, &name);
        build.note(
            build.seen.value(&format!("{path}.algorithm")),
            format!("limit `{name}`: gcra is counted by each replica for itself, not in Redis"),
        );
    }
}
