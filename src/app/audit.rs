//! The audit log beside the path of requests: what the process itself has to tell, and the log's state.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;
use tokio::{task::spawn_blocking, time::timeout};

use super::{App, StartError};
use crate::{
    admin::{Dependency, State, VisitEnd},
    audit::{Audit, AuditTerms, Incident, chain::ChainBounds, dir_in},
    config::Config,
    telemetry::{Telemetry, metrics::Family},
};

/// Most keys of clients that a line names.
const MOST_KEYS: usize = 50;

/// The terms of the log; `None`: there is none.
pub fn terms(config: &Config) -> Option<AuditTerms> {
    let (audit, dir) = (config.audit.as_ref()?, config.store.state_dir.as_ref()?);
    let bounds = ChainBounds { file_size: audit.file_size, files: audit.files };
    Some(AuditTerms { dir: dir_in(dir), key: audit.key.clone(), previous_keys: audit.previous_keys.clone(), bounds })
}

/// Opens the log, if one is configured, and tells it of the start.
///
/// # Errors
/// The log cannot be opened: a proxy that is told to keep one does not start without.
pub fn keep(
    audit: &Arc<Audit>,
    telemetry: &Arc<Telemetry>,
    config: &Config,
    file: Option<&Path>,
) -> Result<Option<JoinHandle<()>>, StartError> {
    let Some(terms) = terms(config) else { return Ok(None) };
    let exporter: Weak<Telemetry> = Arc::downgrade(telemetry);
    let sink = move |line: &crate::audit::WrittenLine| {
        if let Some(telemetry) = exporter.upgrade() {
            telemetry.audited(line.at, &line.text);
        }
    };
    let place = terms.dir.display().to_string();
    let thread = audit.keep(&terms, Box::new(sink));
    let thread = thread.map_err(|error| StartError::Invalid(format!("the audit log in {place} cannot be opened: {error}")))?;
    audit.note(loaded(audit.incident("process.started"), config, None, text_hash(file)).with("version", env!("CARGO_PKG_VERSION")));
    tracing::info!(place, keyed = terms.key.is_some(), "the audit log is kept");
    Ok(Some(thread))
}

/// Tells the log of a reload, and of the keys of clients that came and went with it.
pub fn reloaded(audit: &Audit, before: &Config, (now, generation): (&Config, u64), text: Option<String>) {
    if audit.is_on() {
        audit.note(loaded(audit.incident("config.loaded"), now, Some(before), text).with("generation", generation));
    }
}

/// Tells the log of a configuration that was refused.
pub fn refused(audit: &Audit, why: &str) {
    if audit.is_on() {
        audit.note(audit.incident("config.refused").with("why", why.lines().next().unwrap_or_default()));
    }
}

/// The hash of the file's text, as `GET /api/config/history` names it. Blocks.
pub fn text_hash(file: Option<&Path>) -> Option<String> {
    Some(blake3::hash(&std::fs::read(file?).ok()?).to_hex().to_string())
}

/// A configuration in a line: the hash of its text, and the keys of clients.
fn loaded(mut incident: Incident, config: &Config, before: Option<&Config>, text: Option<String>) -> Incident {
    if let Some(text) = text {
        incident = incident.with("config", text);
    }
    let (keys, known) = (keys(config), before.map(keys));
    incident = incident.with("api_keys", keys.len());
    if let Some(known) = known {
        let names = |of: &BTreeMap<[u8; 32], Arc<str>>, other: &BTreeMap<[u8; 32], Arc<str>>| {
            of.iter().filter(|(hash, _)| !other.contains_key(*hash)).map(|(_, name)| Value::from(&**name)).collect::<Vec<_>>()
        };
        for (word, mut names) in [("keys_new", names(&keys, &known)), ("keys_gone", names(&known, &keys))] {
            if names.len() > MOST_KEYS {
                incident = incident.with(&format!("{word}_further"), names.len() - MOST_KEYS);
                names.truncate(MOST_KEYS);
            }
            if !names.is_empty() {
                incident = incident.with(word, names);
            }
        }
    }
    incident
}

/// Every key of a client, by its hash.
fn keys(config: &Config) -> BTreeMap<[u8; 32], Arc<str>> {
    let inbound = config.inbound.iter().flat_map(|door| &door.routes);
    let routes = inbound.chain(config.outbound.iter().flat_map(|door| &door.routes));
    let auth = routes.filter_map(|route| route.policies.auth.as_ref());
    let all = auth.filter_map(|auth| auth.sources.api_keys.as_ref());
    all.flat_map(|known| known.keys.iter().map(|(hash, key)| (*hash, key.name.clone()))).collect()
}

/// Tells the log what was asked at the admin door.
pub fn asked(audit: &Audit, who: &str, what: &str, outcome: VisitEnd) {
    match outcome {
        VisitEnd::Done => audit.note(audit.incident(event(what)).with("by", who).with("what", what)),
        VisitEnd::Refused => audit.note(audit.incident("admin.refused").with("by", who).with("what", what)),
        VisitEnd::Shown => audit.visited("admin.shown", "confidential", who, what),
        VisitEnd::Forbidden => audit.visited("admin.forbidden", "role", who, what),
    }
}

/// The word of a change, from the words of the admin door.
fn event(what: &str) -> &'static str {
    let words: [(&str, &str); 8] = [
        ("Reload", "config.reload_asked"),
        ("Drain", "process.drained"),
        ("Purge", "cache.purged"),
        ("Approve", "limit.decided"),
        ("Change", "config.changed"),
        ("Erase", "caller.erase_asked"),
        ("Restore", "ledger.restored"),
        ("LiftBan", "ban.lifted"),
    ];
    words.into_iter().find(|(word, _)| what.starts_with(word)).map_or("admin.acted", |(_, event)| event)
}

/// The log's state for `/health`; `None`: there is none.
pub fn dependency(app: &App) -> Option<Dependency> {
    let audit = &app.shared.audit;
    if !audit.is_on() {
        return None;
    }
    let state = audit.state();
    let (state, detail) = match (&state.trouble, &state.damaged) {
        (Some(why), _) => (State::Degraded, format!("cannot be written, {} incidents wait, {} are lost: {why}", state.waiting, state.lost)),
        (None, Some(what)) => (State::Degraded, what.clone()),
        (None, None) => (State::Ok, format!("{} lines since the start", state.written)),
    };
    Some(Dependency { name: "audit".to_owned(), state, detail })
}

/// What stands against the log, for alerts.
pub fn trouble(app: &App) -> Option<String> {
    let state = app.shared.audit.state();
    state
        .trouble
        .map(|why| format!("the audit log cannot be written: {why}"))
        .or(state.damaged.map(|what| format!("the audit log: {what}")))
}

/// Registers the numbers of the log.
pub fn register(app: &Arc<App>) {
    let asks = |family, read: fn(&Audit) -> f64| {
        let app_seen = Arc::downgrade(app);
        let on = move || app_seen.upgrade().filter(|app| app.shared.audit.is_on());
        app.telemetry
            .metrics()
            .register(family, Box::new(move || on().map(|app| (Vec::new(), read(&app.shared.audit))).into_iter().collect()));
    };
    asks(Family::AuditUp, |audit| f64::from(u8::from(audit.state().trouble.is_none() && audit.state().damaged.is_none())));
    asks(Family::AuditLines, |audit| audit.state().written as f64);
    asks(Family::AuditLost, |audit| audit.state().lost as f64);
    asks(Family::AuditWaiting, |audit| audit.state().waiting as f64);
}

impl App {
    /// Writes what waits, with a last line. A disk that hangs does not hold up the end for longer than `within`.
    pub(super) async fn close_audit(&self, within: Duration) {
        let Some(thread) = self.auditor.lock().take() else { return };
        let audit = &self.shared.audit;
        audit.note(audit.incident("process.ended"));
        audit.end();
        if timeout(within, spawn_blocking(move || drop(thread.join()))).await.is_err() {
            tracing::error!("the audit log's last write has not ended in {within:?}; its last lines may be lost");
        }
    }

    /// Takes a caller out of the log's names. Blocks.
    ///
    /// # Errors
    /// The disk fails, in words.
    pub(super) fn erase_from_audit(&self, name: &str) -> Result<bool, String> {
        let erased = self.shared.audit.erase(name).map_err(|error| format!("the audit log's names: {error}"))?;
        Ok(erased > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{Action, Erased, Purge};

    /// The admin door tells changes in the words of [`Action`].
    #[test]
    fn a_change_has_the_word_of_its_kind() {
        for (action, word) in [
            (Action::Reload, "config.reload_asked"),
            (Action::Drain, "process.drained"),
            (Action::Purge { which: Purge::All(true), soft: false }, "cache.purged"),
            (Action::Approve { id: "a".into(), yes: true }, "limit.decided"),
            (Action::Erase(Erased("u-17".into())), "caller.erase_asked"),
            (Action::Restore("x".into()), "ledger.restored"),
            (Action::LiftBan("192.0.2.1".into()), "ban.lifted"),
            (Action::OpenBreaker("app".into()), "admin.acted"),
        ] {
            let what = format!("{action:?}");
            assert_eq!(event(&what), word, "{what}");
            assert!(!what.contains("u-17"), "a name that is erased is not told");
        }
    }
}
