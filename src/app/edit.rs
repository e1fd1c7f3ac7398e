//! Changes of the configuration through the admin door: planned, applied, undone, and kept as versions.
//!
//! A change is made from the file as it is: a plan names the file's hash, and a file that has changed meanwhile is refused. The new text
//! is checked as a reload would check it before a byte is written. It takes the old file's place whole or not at all, and is put to work
//! the way of SIGHUP. If the reload refuses it all the same, the old text comes back.

mod routes;
mod write;

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::OwnedMutexGuard, task::spawn_blocking};

use super::App;
use crate::{
    admin::{By, Change, Refused},
    clock::unix,
    config::{
        error::Mistakes,
        read::{
            self, Reading,
            edit::{Edit, masked, unified},
        },
    },
    store::versions::{MOST, Version, Versions},
};

/// A change that can be shown, and perhaps made.
struct Planned {
    old: String,
    new: String,
    /// What the change does, in words without values.
    what: String,
    /// The result of the check.
    check: Result<Reading, Mistakes>,
    restart: Option<&'static str>,
    /// What stands in the way of new routes.
    routes: Vec<Value>,
}

/// Says what a change would do.
pub async fn plan(app: Arc<App>, change: Change) -> Result<Value, Refused> {
    let versions = app.versions.clone().lock_owned().await;
    let shown = move || {
        let file = file_of(&app)?;
        let planned = app.plan(&file, &change, &versions)?;
        let (old, new) = (masked(&planned.old), masked(&planned.new));
        let name = Path::new(&file).file_name().map_or(file.clone(), |name| name.to_string_lossy().into_owned());
        let check = match &planned.check {
            Ok(reading) => {
                let notes = reading.notes.iter().map(|note| json!({"line": note.line, "column": note.column, "message": note.message}));
                json!({"ok": true, "mistakes": [], "notes": notes.collect::<Vec<_>>()})
            }
            Err(mistakes) => {
                let mut said = mistakes.to_json();
                said["ok"] = false.into();
                said
            }
        };
        Ok(json!({
            "base": hash(&planned.old), "file": file, "changed": planned.old != planned.new, "what": planned.what,
            "diff": unified(&name, (&planned.old, &old), (&planned.new, &new)), "text": new, "check": check,
            "routes": planned.routes,
            "restart": planned.restart.map(|what| format!("{what} cannot change while running; it needs a restart")),
        }))
    };
    spawn_blocking(shown).await.unwrap_or_else(|error| Err(Refused::Conflict(error.to_string())))
}

/// Makes a change.
pub async fn change(app: Arc<App>, change: Change, by: By) -> Result<Value, Refused> {
    let versions = app.versions.clone().lock_owned().await;
    let file = file_of(&app)?;
    let (this, place) = (app.clone(), file.clone());
    let base = by.base.clone();
    let written = move || {
        let planned = this.plan(&place, &change, &versions)?;
        if base.is_some_and(|base| base != hash(&planned.old)) {
            return Err(Refused::Conflict(format!("{place} has changed since the plan was made; plan again")));
        }
        if let Err(mistakes) = planned.check {
            return Err(Refused::File(mistakes));
        }
        if planned.old == planned.new {
            return Err(Refused::Conflict("nothing would change".to_owned()));
        }
        write::replace(Path::new(&place), &planned.new).map_err(Refused::Conflict)?;
        Ok((planned.old, planned.new, planned.what, versions))
    };
    // Whoever watches the file waits until it is at work, or as it was.
    let mut reloading = app.reloading.lock().await;
    let (old, new, what, versions) = blocking(written).await?;
    if let Err(mistakes) = app.reload_holding(&mut reloading, true).await {
        let (place, fresh) = (file.clone(), hash(&new));
        let undone = blocking(move || match read_file(&place)? {
            // Somebody else's text is not taken away.
            text if hash(&text) != fresh => Ok(()),
            _ => write::replace(Path::new(&place), &old).map_err(Refused::Conflict),
        });
        undone.await?;
        return Err(Refused::File(mistakes));
    }
    drop(reloading);
    let who = by.who.clone();
    let kept = keep(&app, versions, &file, (&old, &new), &what, by).await;
    let version = kept.as_ref().ok().copied();
    tracing::info!(who, what, version, "the configuration was changed through the admin door");
    let trouble = kept.err().inspect(|why| tracing::warn!("the change has no version: {why}"));
    Ok(json!({
        "applied": true, "what": what, "version": version, "trouble": trouble, "generation": app.live().generation, "base": hash(&new),
    }))
}

/// The versions of the file.
pub async fn history(app: Arc<App>) -> Result<Value, Refused> {
    let versions = app.versions.clone().lock_owned().await;
    blocking(move || {
        let file = file_of(&app)?;
        let now = hash(&read_file(&file)?);
        let all = versions.list(&file).map_err(|error| Refused::Conflict(format!("the versions cannot be read: {error}")))?;
        // The same text may come back by a rollback: the newest of its versions is the one at work.
        let current = all.iter().find(|version| version.hash == now).map(|version| version.version);
        let rows = all.iter().map(|version| {
            let mut row = serde_json::to_value(version).unwrap_or_default();
            row["current"] = (Some(version.version) == current).into();
            row
        });
        let rows: Vec<Value> = rows.collect();
        Ok(json!({"file": file, "base": now, "durable": versions.is_durable(), "most": MOST, "versions": rows}))
    })
    .await
}

impl App {
    /// The text after a change, and what a reload would say of it. Blocks.
    fn plan(&self, file: &str, change: &Change, versions: &Versions) -> Result<Planned, Refused> {
        let old = read_file(file)?;
        let parsed = |text: &str| read::parse_reading(text, file, &self.source.overrides, &|name| std::env::var(name).ok());
        let (new, what) = match change {
            Change::Edits(edits) => {
                let meaning = |text: &str| parsed(text).ok().map(|reading| reading.config);
                let after = |edits: &[Edit]| Edit::all(edits, &old, &meaning);
                let edits = routes::placed(edits, &|edits| meaning(&after(edits).ok()?));
                let new = after(&edits).map_err(Refused::Unclear)?;
                (new, edits.iter().map(Edit::to_string).collect::<Vec<_>>().join("; "))
            }
            Change::Version(number) => {
                let found = versions.get(file, *number).map_err(|error| Refused::Conflict(format!("version {number}: {error}")))?;
                let (_, text) = found.ok_or_else(|| Refused::NotFound(format!("there is no version {number} of {file}")))?;
                (text, format!("back to version {number}"))
            }
        };
        let check = parsed(&new);
        let restart = check.as_ref().ok().and_then(|reading| self.needs_restart(&reading.config));
        let check = check.and_then(|reading| match self.would_take(reading.config.clone()) {
            Ok(()) => Ok(reading),
            Err(why) => Err(self.mistake(why)),
        });
        let routes =
            check.as_ref().map(|reading| routes::in_the_way(parsed(&old).ok().map(|reading| reading.config).as_ref(), &reading.config));
        Ok(Planned { routes: routes.unwrap_or_default(), old, new, what, check, restart })
    }
}

/// Keeps the new text as a version, and before it the old one unless that is a version already. Gives the new version's number.
async fn keep(
    app: &App,
    mut versions: OwnedMutexGuard<Versions>,
    file: &str,
    (old, new): (&str, &str),
    what: &str,
    by: By,
) -> Result<u64, String> {
    let at = i64::try_from(unix(app.shared.clock.wall()).as_millis()).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let at = format!("{:.0}", at.unwrap_or(Timestamp::UNIX_EPOCH));
    let version = |who: &str, what: &str, note: Option<String>, text: &str| Version {
        version: 0,
        file: file.to_owned(),
        at: at.clone(),
        who: who.to_owned(),
        what: what.to_owned(),
        note,
        hash: hash(text),
        bytes: text.len(),
    };
    let before = version("(the file)", "as it was before a change through the admin door", None, old);
    let after = version(&by.who, what, by.note, new);
    let (file, old, new) = (file.to_owned(), old.to_owned(), new.to_owned());
    let kept = spawn_blocking(move || {
        if versions.list(&file)?.first().is_none_or(|last| last.hash != before.hash) {
            versions.keep(before, &old)?;
        }
        versions.keep(after, &new)
    });
    kept.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

fn file_of(app: &App) -> Result<String, Refused> {
    let file =
        app.source.file.as_ref().ok_or_else(|| Refused::Conflict("the proxy runs without a file: there is nothing to change".into()))?;
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.clone());
    Ok(whole.display().to_string())
}

fn read_file(file: &str) -> Result<String, Refused> {
    std::fs::read_to_string(file).map_err(|error| Refused::Conflict(format!("{file} cannot be read: {error}")))
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refused> + Send + 'static) -> Result<T, Refused> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(Refused::Conflict(error.to_string())))
}
