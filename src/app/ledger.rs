//! The ledger beside the path of requests: its state, its numbers, questions and changes.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::timeout};

use super::App;
use crate::{
    admin::{Action, Dependency, Refused, State},
    store::ledger::{self, AskError, FileError, Question},
    telemetry::metrics::{Family, Reading},
};

impl App {
    /// Writes the ledger for the last time. A disk that hangs does not hold up the end for longer than `within`.
    pub(super) async fn close_ledger(&self, within: Duration) {
        let Some(keeper) = self.keeper.lock().take() else { return };
        if timeout(within, spawn_blocking(move || drop(keeper))).await.is_err() {
            tracing::error!("the ledger's last write has not ended in {within:?}; what was counted since the one before may be lost");
        }
    }
}

/// Reports once where the ledger is.
pub fn say(app: &App) {
    match &app.live().config.store.state_dir {
        None => tracing::info!("the ledger is in memory: a restart begins at zero (store.state_dir makes it durable)"),
        Some(dir) => tracing::info!(dir = %dir.display(), "the ledger is in a file"),
    }
}

/// Registers the ledger's numbers, read at every scrape.
pub fn register(app: &Arc<App>) {
    let metrics = app.telemetry.metrics();
    let asks = |family, read: fn(ledger::State) -> Vec<Reading>| {
        let app = Arc::downgrade(app);
        let state = move || app.upgrade().and_then(|app| app.shared.ledger.state());
        metrics.register(family, Box::new(move || state().map(read).unwrap_or_default()));
    };
    asks(Family::LedgerUp, |state| vec![(Vec::new(), f64::from(u8::from(state.trouble.is_none())))]);
    asks(Family::LedgerCommits, |state| {
        [("ok", state.commits), ("failed", state.failures)].map(|(word, n)| (vec![word.to_owned()], n as f64)).into()
    });
    asks(Family::LedgerWaiting, |state| vec![(Vec::new(), state.waiting as f64)]);
    asks(Family::LedgerFolded, |state| vec![(Vec::new(), state.folded as f64)]);
    asks(Family::LedgerBytes, |state| vec![(Vec::new(), state.size as f64)]);
    asks(Family::LedgerLastCommit, |state| vec![(Vec::new(), state.last_commit_millis as f64 / 1e3)]);
    asks(Family::LedgerNames, |state| state.names.iter().map(|(dim, used, _)| (vec![dim.as_str().to_owned()], *used as f64)).collect());
    asks(Family::LedgerOther, |state| state.names.iter().map(|(dim, _, beyond)| (vec![dim.as_str().to_owned()], *beyond as f64)).collect());
}

/// The ledger's state for `/health`. A ledger that cannot be written serves on. A ledger in memory serves on.
pub fn dependency(app: &App) -> Dependency {
    let name = "ledger".to_owned();
    let Some(state) = app.shared.ledger.state() else {
        return Dependency { name, state: State::Ok, detail: "a commit is being made".to_owned() };
    };
    let (state, detail) = match (&state.trouble, &state.file) {
        (Some(trouble), _) => (State::Degraded, format!("cannot be written, {} sums wait in memory: {trouble}", state.waiting)),
        (None, Some(file)) if state.others > 0 => {
            (State::Ok, format!("{file}; {} files beside it are held by other processes", state.others))
        }
        (None, Some(file)) => (State::Ok, file.clone()),
        (None, None) if state.durable => (State::Ok, "being opened".to_owned()),
        (None, None) => (State::Ok, "in memory: a restart begins at zero".to_owned()),
    };
    Dependency { name, state, detail }
}

/// The state for the admin door.
pub fn view(app: &App) -> Value {
    let Some(state) = app.shared.ledger.state() else { return json!({"busy": true}) };
    let names = state.names.iter().map(|(dim, used, beyond)| (dim.as_str().to_owned(), json!({"names": used, "calls_as_other": beyond})));
    json!({
        "durable": state.durable, "file": state.file, "trouble": state.trouble.as_ref().map(ToString::to_string),
        "waiting": state.waiting, "commits": state.commits, "failures": state.failures, "folded": state.folded, "dropped": state.dropped,
        "bytes": state.size, "last_commit_millis": state.last_commit_millis, "held_by_others": state.others,
        "names": names.collect::<serde_json::Map<_, _>>(),
    })
}

/// Answers a question.
pub async fn ask(app: Arc<App>, words: Vec<(String, String)>) -> Result<Value, Refused> {
    blocking(move || {
        let ledger = &app.shared.ledger;
        let pairs = words.into_iter().map(|(key, value)| (key.into(), value.into()));
        let question = Question::read(pairs, app.shared.clock.unix_millis()).map_err(unclear)?;
        Ok(ledger.ask(&question).map_err(unclear)?.to_json(&question))
    })
    .await
}

/// Makes a change.
pub async fn act(app: Arc<App>, action: Action) -> Result<Value, Refused> {
    blocking(move || {
        let ledger = &app.shared.ledger;
        match action {
            Action::Erase(name) => {
                let in_ledger = ledger.erase(&name.0).map_err(failed)?;
                let in_spend = app.shared.spend.erase(&name.0);
                let in_errors = app.telemetry.failures().erase(&name.0) > 0;
                let in_works = app.shared.works.erase(&name.0);
                app.works.save();
                match in_ledger || in_spend || in_errors || in_works {
                    true => Ok(json!({"erased": true})),
                    false => Err(Refused::NotFound("neither the ledger nor the last failures have a caller of this name".to_owned())),
                }
            }
            Action::Snapshot(to) => Ok(json!({"file": to, "bytes": ledger.snapshot(&to).map_err(failed)?})),
            Action::Restore(from) => Ok(json!({"restored": from, "before": ledger.restore(&from).map_err(failed)?})),
            _ => Err(Refused::Conflict("the ledger knows no such change".to_owned())),
        }
    })
    .await
}

async fn blocking(work: impl FnOnce() -> Result<Value, Refused> + Send + 'static) -> Result<Value, Refused> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Refused::Conflict(error.to_string())))
}

fn failed(error: FileError) -> Refused {
    Refused::Conflict(error.to_string())
}

fn unclear(error: AskError) -> Refused {
    match error {
        AskError::Invalid(why) => Refused::Unclear(why),
        AskError::File(error) => Refused::Conflict(error.to_string()),
    }
}
