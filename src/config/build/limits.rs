//! Limits: one unit each, a key that exists at the door, and a name that survives reloads.

use std::sync::Arc;

use super::{Build, Door, names, small};
use crate::config::{
    Algorithm, Config, KeyPart, Limit, Unit, Unpriced,
    error::quoted,
    read::Mark,
    scalars::{AlgorithmWord, KeyWord},
    written::{self, Items},
};

impl Build<'_> {
    /// The limits of one place. `trusting`: headers of clients can come from a proxy that is believed.
    pub(super) fn limits(&mut self, door: Door, path: &str, place: &str, written: Items<written::Limit>, trusting: bool) -> Vec<Limit> {
        let mut out = Vec::new();
        for (n, limit) in written.into_iter().enumerate().filter_map(|(n, limit)| Some((n, limit?))) {
            let path = format!("{path}[{n}]");
            if let Some(limit) = self.limit(door, &path, place, limit, trusting) {
                out.push(limit);
            }
        }
        out
    }

    fn limit(&mut self, door: Door, path: &str, place: &str, written: written::Limit, trusting: bool) -> Option<Limit> {
        self.key_fits(door, path, &written, trusting);
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
                if !self.seen.broken(&format!("{path}.burst")) {
                    self.fault(
                        self.seen.value(&format!("{path}.algorithm")),
                        "`algorithm: gcra` needs `burst`, the requests that may come at once",
                    );
                }
                return None;
            }
        };
        let known = !self.seen.broken(&format!("{path}.algorithm"));
        if !matches!(algorithm, Algorithm::Gcra { .. }) && written.burst.is_some() && known {
            self.fault(
                self.seen.key(&format!("{path}.burst")),
                "`burst` is for `algorithm: gcra`; a window admits its whole limit at once",
            );
        }
        if matches!(algorithm, Algorithm::Gcra { .. }) && unit != Unit::Requests {
            let message = "`algorithm: gcra` counts requests only; for tokens and dollars write `sliding` or `fixed`";
            self.fault(self.seen.value(&format!("{path}.algorithm")), message);
        }
        if written.unpriced.is_some() && unit != Unit::NanoUsd {
            self.fault(self.seen.key(&format!("{path}.unpriced")), "`unpriced` is for a `usd` limit");
        }
        if written.unmetered.is_some() && unit == Unit::Requests {
            self.fault(
                self.seen.key(&format!("{path}.unmetered")),
                "`unmetered` is for a limit on `tokens` or `usd`; requests count whatever they cost",
            );
        }
        let mut alert_at: Vec<f64> = written.alert_at.into_iter().flatten().map(|share| share.0.0).collect();
        alert_at.sort_by(f64::total_cmp);
        alert_at.dedup();
        let unpriced =
            written.unpriced.map(|word| word.0).unwrap_or(if unit == Unit::NanoUsd { Unpriced::Refuse } else { Unpriced::Allow });
        let unmetered = written.unmetered.map(|word| word.0).unwrap_or(if unit == Unit::Tokens { Unpriced::Refuse } else { unpriced });
        let mut limit = Limit {
            name: Arc::from(""),
            // `off` is checked like the rest, and then dropped below.
            mode: written.mode.0.meant().unwrap_or_default(),
            key: Self::key_parts(written.key),
            unit,
            amount,
            window: written.window?.0,
            algorithm,
            applies: written.applies.0,
            on_store_error: written.on_store_error.0,
            alert_at,
            unpriced,
            unmetered,
        };
        limit.name = match written.name {
            Some(name) => Arc::from(name.0.0.as_str()),
            None => Arc::from(names::limit(place, &limit).as_str()),
        };
        self.claim_name(path, &limit.name);
        written.mode.0.meant().is_some().then_some(limit)
    }

    fn claim_name(&mut self, path: &str, name: &str) {
        if let Some((_, first)) = self.limit_names.iter().find(|(taken, _)| taken == name) {
            let line = self.seen.value(first).line;
            let (at, message) = if self.seen.written(&format!("{path}.name")) {
                let message = format!("there is already a limit {} at line {line}; names are unique over both doors", quoted(name));
                (self.seen.value(&format!("{path}.name")), message)
            } else {
                (self.seen.value(path), format!("the same limit is already written at line {line}; remove one, or give each a `name`"))
            };
            self.fault(at, message);
        } else {
            self.limit_names.push((name.to_owned(), path.to_owned()));
        }
    }

    fn key_fits(&mut self, door: Door, path: &str, written: &written::Limit, trusting: bool) {
        let parts: Vec<_> = written.key.iter().enumerate().filter_map(|(n, word)| Some((n, word.as_ref()?.0.clone()))).collect();
        for (at, (n, word)) in parts.iter().enumerate() {
            let KeyWord::Part(part) = word else {
                if parts.len() > 1 {
                    self.fault(self.key_place(path, *n), "`global` is one counter for all; it cannot be combined with other key parts");
                }
                continue;
            };
            if parts[..at].iter().any(|(_, other)| other == word) {
                self.fault(self.key_place(path, *n), format!("`{}` is already part of the key", names::key_part(part)));
            }
            match (door, part) {
                (Door::Inbound, KeyPart::Provider | KeyPart::Model) => {
                    let message = format!("an inbound request has no {0}; a limit by {0} is written in `outbound`", names::key_part(part));
                    self.fault(self.key_place(path, *n), message);
                }
                (Door::Inbound, KeyPart::Header(name)) if !trusting => {
                    let message = format!(
                        "any client can write its own `{name}` and so get a counter of its own; key by `client_ip`, or by `caller` with `trusted_proxies`"
                    );
                    self.note(self.key_place(path, *n), message);
                }
                _ => {}
            }
        }
    }

    fn key_place(&self, path: &str, n: usize) -> Mark {
        let item = format!("{path}.key[{n}]");
        if self.seen.written(&item) { self.seen.value(&item) } else { self.seen.value(&format!("{path}.key")) }
    }

    /// A limit on tokens or dollars counts model calls, and they come through the outbound door.
    pub(super) fn spending(&mut self, config: &Config) {
        let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
        let Some(first) = inbound.filter(|limit| limit.unit != Unit::Requests).map(|limit| Arc::clone(&limit.name)).next() else { return };
        let path = self.limit_path(&first);
        if config.outbound.is_some() || self.seen.written("outbound") || self.seen.broken("outbound") {
            let message = format!(
                "limit `{first}` sees the model calls that the app's requests cause, if the app says which: start it under OpenTelemetry \
                 (Python: `opentelemetry-instrument python app.py`), or pass `x-request-id` on to the provider; other calls escape it"
            );
            self.note(self.seen.key(&path), message);
            return;
        }
        let unit = if self.seen.written(&format!("{path}.usd")) { "usd" } else { "tokens" };
        let message = format!(
            "a limit on `{unit}` counts the model calls that a request causes, and without `outbound` none passes here; \
             write `outbound: {{providers: {{openai: {{}}}}}}` and let the app call its provider through it"
        );
        self.fault(self.seen.key(&format!("{path}.{unit}")), message);
    }

    fn limit_path(&self, name: &str) -> String {
        self.limit_names.iter().find(|(taken, _)| taken == name).map(|(_, path)| path.clone()).unwrap_or_default()
    }

    /// GCRA is counted by each process for itself, which matters once replicas share a store.
    pub(super) fn gcra_is_local(&mut self, config: &Config) {
        let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
        let outbound =
            config.outbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
        let local: Vec<Arc<str>> = inbound
            .chain(outbound)
            .filter(|limit| matches!(limit.algorithm, Algorithm::Gcra { .. }))
            .map(|limit| Arc::clone(&limit.name))
            .collect();
        for name in local {
            let path = self.limit_path(&name);
            self.note(
                self.seen.value(&format!("{path}.algorithm")),
                format!("limit `{name}`: gcra is counted by each replica for itself, not in Redis"),
            );
        }
    }
}
