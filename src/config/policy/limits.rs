//! `limits`: how much may be asked for, in one unit each. A limit's key exists at its door, and its name survives reloads.

mod checks;
mod meant;
mod rows;
mod written;

use std::{sync::Arc, time::Duration};

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    build::{Build, small},
    error::quoted,
    human,
    key::{self, KeyPart},
    names,
    scalars::W,
    schema::Elsewhere,
    signing_key,
    written::Items,
};

pub use meant::{Algorithm, Applies, AskHook, AskPerson, Degrade, Limit, OnLimit, OnStoreError, Queue, Tier, Tiers, Unit, Unpriced};
pub(in crate::config) use rows::{INBOUND, OUTBOUND};
use written::{AlgorithmWord, OnLimitWord, Written, WrittenAsk, WrittenOnLimit};

impl Policy for Vec<Limit> {
    type Written = Items<Written>;

    const ROWS: Rows = Rows {
        inbound: Some(INBOUND),
        outbound: Some(OUTBOUND),
        defaults: InDefaults::Refused("limits of a whole door are written in the door's own `limits`"),
    };

    const ELSEWHERE: &'static [Elsewhere] = rows::ELSEWHERE;

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
        checks::spending(build, config);
        if config.store.redis.is_some() {
            checks::gcra_is_local(build, config);
        }
    }

    fn told(&self, _: &Config) -> Vec<String> {
        match self.len() {
            0 => Vec::new(),
            1 => vec!["1 limit".to_owned()],
            n => vec![format!("{n} limits")],
        }
    }
}

fn one(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: Written) -> Option<Limit> {
    checks::key_fits(build, place, path, &written);
    let units = [
        (Unit::Requests, written.requests.as_ref().map(|count| count.0.0)),
        (Unit::Tokens, written.tokens.as_ref().map(|count| count.0.0)),
        (Unit::NanoUsd, written.usd.as_ref().map(|usd| usd.0.0)),
        (Unit::Concurrency, written.concurrency.as_ref().map(|count| count.0.0)),
    ];
    let (unit, amount) = units.into_iter().find_map(|(unit, amount)| Some((unit, amount?)))?;
    let algorithm = algorithm(build, path, &written)?;
    checks::terms_fit(build, path, &written, unit, algorithm);
    let tiers = tiers(build, place, path, &written, unit);
    let window = checks::window(build, path, &written, unit)?;
    let queue = queue(build, path, &written, unit);
    let on_limit = on_limit(build, place, path, &written, unit);
    let mut alert_at: Vec<f64> = written.alert_at.into_iter().flatten().map(|share| share.0.0).collect();
    alert_at.sort_by(f64::total_cmp);
    alert_at.dedup();
    let unpriced = written.unpriced.map(|word| word.0).unwrap_or(if unit == Unit::NanoUsd { Unpriced::Refuse } else { Unpriced::Allow });
    let unmetered = written.unmetered.map(|word| word.0).unwrap_or(if unit == Unit::Tokens { Unpriced::Refuse } else { unpriced });
    let mut limit = Limit {
        // A limit that is `off` is checked like any other, and dropped below.
        mode: written.mode.0.meant().unwrap_or_default(),
        key: key::parts(written.key),
        tiers,
        algorithm,
        queue,
        applies: written.applies.0,
        on_store_error: written.on_store_error.0,
        on_limit,
        alert_at,
        unpriced,
        unmetered,
        ..Limit::new("", unit, amount, window)
    };
    limit.name = match written.name {
        Some(name) => Arc::from(name.0.0.as_str()),
        None => Arc::from(generated_name(place.name, &limit).as_str()),
    };
    claim_name(build, path, &limit.name);
    written.mode.0.meant().is_some().then_some(limit)
}

fn algorithm(build: &mut Build<'_>, path: &str, written: &Written) -> Option<Algorithm> {
    Some(match (written.algorithm.0, &written.burst) {
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
    })
}

/// The act of the spent limit. An act that cannot be is reported.
fn on_limit(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: &Written, unit: Unit) -> OnLimit {
    let at = |build: &Build<'_>| build.seen.key(&format!("{path}.on_limit"));
    let act = match &written.on_limit {
        WrittenOnLimit::Word(W(OnLimitWord::Refuse)) => OnLimit::Refuse,
        WrittenOnLimit::Word(W(OnLimitWord::CacheOnly)) => OnLimit::CacheOnly,
        WrittenOnLimit::Word(W(OnLimitWord::Ask)) => OnLimit::Ask(AskPerson { wait: Duration::from_secs(600), max: 100, webhook: None }),
        WrittenOnLimit::Act { degrade: Some(degrade), .. } => {
            let provider = degrade.provider.as_ref().map(|name| name.0.0.as_str());
            checks::degrades(build, place, path, provider, unit);
            match &degrade.model {
                Some(model) => OnLimit::Degrade(Degrade { provider: provider.map(Arc::from), model: model.as_str().into() }),
                None => OnLimit::Refuse,
            }
        }
        WrittenOnLimit::Act { ask: Some(ask), .. } => {
            OnLimit::Ask(AskPerson { wait: ask.wait.0, max: small(&ask.max), webhook: hook(build, path, ask) })
        }
        WrittenOnLimit::Act { .. } => OnLimit::Refuse,
    };
    if act != OnLimit::Refuse && written.queue.is_some() {
        build.fault(at(build), "`queue` holds requests until there is room; `on_limit` is for a limit without one");
    }
    if act != OnLimit::Refuse && unit == Unit::Concurrency {
        build.fault(at(build), "`on_limit` is for what a window counts; requests in flight are refused, or wait in a `queue`");
    }
    act
}

/// The webhook that is told of held requests. A secret that signs nothing is reported, and so is a webhook whose answer is not believed.
fn hook(build: &mut Build<'_>, path: &str, ask: &WrittenAsk) -> Option<Arc<AskHook>> {
    let (url, secret) = (ask.webhook.as_ref()?.0.0.clone(), ask.secret.as_ref()?.0.clone());
    if let Err(why) = signing_key(&secret) {
        build.fault(build.seen.value(&format!("{path}.on_limit.ask.secret")), why);
    }
    let decides = of_this_machine_or_tls(url.reveal());
    if !decides {
        let message = "whoever stands between could write the webhook's answer: without https it decides nothing, and a yes comes through the \
                       admin door alone";
        build.note(build.seen.value(&format!("{path}.on_limit.ask.webhook")), message);
    }
    Some(Arc::new(AskHook { url, secret, decides }))
}

/// Whether nobody but the server of this URL can write its answers.
fn of_this_machine_or_tls(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_local = host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("https") || is_local
}

fn queue(build: &mut Build<'_>, path: &str, written: &Written, unit: Unit) -> Option<Queue> {
    let queue = written.queue.as_ref()?;
    if matches!(unit, Unit::Tokens | Unit::NanoUsd) {
        let message = "a queue holds requests until there is room, which for tokens and dollars nobody knows; write it on a limit on `requests` \
                       or `concurrency`";
        build.fault(build.seen.key(&format!("{path}.queue")), message);
    }
    Some(Queue { max: small(queue.max.as_ref()?), wait: queue.wait.as_ref()?.0 })
}

/// The tiers. A wrong tier is reported and left out.
fn tiers(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: &Written, unit: Unit) -> Option<Tiers> {
    let source = written.tier.as_ref()?.0.0.clone();
    checks::source_fits(build, place, path, &source);
    let mut all = Vec::new();
    for (name, amount) in &written.tiers {
        let (name, Some(amount)) = (&name.0.0, amount) else { continue };
        match amount.0.of(unit) {
            Ok(amount) => all.push(Tier { name: name.as_str().into(), amount }),
            Err(error) => build.fault(build.seen.value(&format!("{path}.tiers.{name}")), error),
        }
    }
    Some(Tiers { source, all })
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

/// The name of a limit that has none: place and terms. The same terms at the same place are the same limit.
fn generated_name(place: &str, limit: &Limit) -> String {
    let key = if limit.key.is_empty() { "global".to_owned() } else { limit.key.iter().map(KeyPart::written).collect::<Vec<_>>().join("+") };
    let amount = match limit.unit {
        Unit::NanoUsd => human::usd(limit.amount),
        Unit::Requests | Unit::Tokens | Unit::Concurrency => limit.amount.to_string(),
    };
    if limit.unit == Unit::Concurrency {
        return names::bounded(format!("{place}/{key}/{amount}-concurrency"));
    }
    let window = humantime::format_duration(limit.window).to_string().replace(' ', "");
    let algorithm = match limit.algorithm {
        Algorithm::Sliding => String::new(),
        Algorithm::Fixed => "/fixed".to_owned(),
        Algorithm::Gcra { burst } => format!("/gcra{burst}"),
    };
    names::bounded(format!("{place}/{key}/{amount}-{}/{window}{algorithm}", limit.unit.as_str()))
}

#[cfg(test)]
mod tests;
