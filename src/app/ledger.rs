//! The ledger beside the path of requests: its state, its numbers, questions and changes.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::timeout};

use super::App;
use crate::{
    admin::{Action, Dependency, Refused, State},
    config,
    store::{
        ledger::{
            self, AskError, FileError, Question,
            shared::{Lua, Remote},
        },
        redis::{Redis, Script},
    },
    telemetry::metrics::{Family, Reading},
};

/// The Redis of the shared ledger. Its methods block the keeper's thread, or one for questions.
struct Books {
    redis: Arc<Redis>,
    scripts: [Script; 3],
}

impl Remote for Books {
    fn key(&self, rest: &str) -> String {
        self.redis.tagged(rest)
    }

    fn run(&self, script: Lua, keys: Vec<String>, args: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
        let said = self.redis.handle().block_on(self.redis.run(&self.scripts[script as usize], &keys, &args));
        said.map(|words| words.iter().map(|word| word.to_vec()).collect()).map_err(|error| error.to_string())
    }
}

/// Keeps the ledger in Redis, if it is configured so. Must be called before the ledger is kept.
pub fn share(ledger: &ledger::Ledger, config: &config::Store, redis: Option<&Arc<Redis>>) {
    if let Some(redis) = redis.filter(|_| config.ledger.shared) {
        let scripts = [Lua::Push, Lua::Erase, Lua::Read].map(|script| Script::new(script.source()));
        ledger.share(Box::new(Books { redis: redis.clone(), scripts }));
    }
}

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
    let live = app.live();
    let store = &live.config.store;
    match &store.state_dir {
        _ if store.ledger.shared => tracing::info!("the ledger is in Redis: one book for all replicas"),
        None => tracing::info!("the ledger is in memory: a restart begins at zero (store.state_dir makes it durable)"),
        Some(dir) => tracing::info!(dir = %dir.display(), "the ledger is in a file"),
    }
}

/// Registers the ledger's numbers, read at every scrape.
pub fn register(app: &Arc<App>) {
    let metrics = app.telemetry.metrics();
    let asks = |family, read: fn(ledger::State) -> Vec<Reading>| {
        let app = Arc::downgrade(app);
        let state = move || app.upgrade().map(|app| app.shared.ledger.state());
        metrics.register(family, Box::new(move || state().map(read).unwrap_or_default()));
    };
    asks(Family::LedgerUp, |state| vec![(Vec::new(), f64::from(u8::from(state.trouble.is_none() && !state.hangs())))]);
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
    dependency_of(&app.shared.ledger.state())
}

fn dependency_of(state: &ledger::State) -> Dependency {
    let name = "ledger".to_owned();
    let (state, detail) = match (&state.trouble, &state.file) {
        _ if state.hangs() => {
            let busy = state.busy.unwrap_or_default().as_secs();
            (State::Degraded, format!("a write has not ended for {busy}s, the disk may hang: {} sums wait in memory", state.waiting))
        }
        (Some(trouble), _) => (State::Degraded, format!("cannot be written, {} sums wait in memory: {trouble}", state.waiting)),
        (None, Some(file)) if state.others > 0 => {
            (State::Ok, format!("{file}; {} files beside it are held by other processes", state.others))
        }
        (None, Some(file)) => (State::Ok, file.clone()),
        (None, None) if state.shared => (State::Ok, "in Redis, shared by all replicas".to_owned()),
        (None, None) if state.durable => (State::Ok, "being opened".to_owned()),
        (None, None) => (State::Ok, "in memory: a restart begins at zero".to_owned()),
    };
    Dependency { name, state, detail }
}

/// The state for the admin door.
pub fn view(app: &App) -> Value {
    let state = app.shared.ledger.state();
    let names = state.names.iter().map(|(dim, used, beyond)| (dim.as_str().to_owned(), json!({"names": used, "calls_as_other": beyond})));
    json!({
        "durable": state.durable, "file": state.file, "trouble": state.trouble.as_ref().map(ToString::to_string),
        "busy_millis": state.busy.map(|busy| busy.as_millis() as u64),
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
                // All three: a notice to come names who was hit lately.
                let in_errors = (app.telemetry.failures().erase(&name.0) + app.shared.observed.erase(&name.0)) > 0;
                let in_errors = app.shared.hits.erase(&name.0) || in_errors;
                let in_works = app.works.erase(&name.0).map_err(Refused::Conflict)?;
                // Files of processes that live are theirs: this process cannot look into them.
                let others = ledger.state().others;
                let in_audit = app.erase_from_audit(&name.0).map_err(Refused::Conflict)?;
                match in_ledger || in_spend || in_errors || in_works || in_audit {
                    true => {
                        Ok(json!({"erased": true, "ledgers_of_other_processes": others, "each_replica": app.shared.works.is_in_redis()}))
                    }
                    false => Err(Refused::NotFound(
                        "neither the ledger nor the last failures nor the audit log have a caller of this name".to_owned(),
                    )),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn a_disk_that_hangs_is_degraded_and_says_for_how_long() {
        let day = Duration::from_secs(86_400);
        let (interval, grace, patience) = (Duration::from_secs(1), day, Duration::from_secs(5));
        let terms = ledger::Terms { dir: None, interval, keep: [day; 3], callers: 10, size: 1 << 20, grace, patience };
        let state = ledger::Ledger::new(terms, Clock::system()).state();
        assert_eq!(dependency_of(&state).state, State::Ok);
        let brief = ledger::State { busy: Some(Duration::from_millis(300)), ..state.clone() };
        assert_eq!(dependency_of(&brief).state, State::Ok);
        let hangs = dependency_of(&ledger::State { busy: Some(Duration::from_secs(12)), waiting: 7, ..state });
        assert_eq!((hangs.state, hangs.detail.contains("for 12s"), hangs.detail.contains("7 sums")), (State::Degraded, true, true));
    }
}
