//! Requests that wait for a person's yes: as the admin door shows them, and as a webhook is told of them.
//!
//! A webhook that fails changes nothing for the request: the admin door can still answer, and without an answer in time the request
//! is refused.

use std::sync::{Arc, Weak};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::App;
use crate::{
    admin::Refused,
    clock::unguessable_id,
    config::human,
    fetch::Fetch,
    notify::letter::{Fate, Letter, post},
    policy::limits::Plea,
    telemetry::metrics::Family,
};

/// Webhooks that are posted at once.
const AT_ONCE: usize = 32;
/// Letters under way at most, those that wait for a turn or a retry too.
const LETTERS: usize = 1_024;

/// The held requests, for `/api/approvals`.
pub(super) fn view(app: &App) -> Value {
    let held = app.shared.approvals.list().into_iter().map(|(id, about, since)| {
        json!({
            "id": id, "limit": &*about.limit, "caller": about.caller.as_deref(), "what": about.what,
            "expected_usd": about.nano_usd.map(human::usd), "since": humantime::format_rfc3339_seconds(since).to_string(),
        })
    });
    json!({"held": held.collect::<Vec<_>>()})
}

/// Answers a held request.
pub(super) fn answer(app: &App, id: &str, yes: bool) -> Result<Value, Refused> {
    match app.shared.approvals.answer(id, yes) {
        true => Ok(json!({"id": id, "approved": yes})),
        false => Err(Refused::NotFound(format!("no request is held as `{id}`: it was answered, its client has left, or its time is over"))),
    }
}

/// Tells webhooks of held requests until the process ends.
pub(super) fn start(app: &Arc<App>, fetch: &Fetch) {
    let Some(mut pleas) = app.shared.approvals.pleas() else { return };
    let (app, fetch, room) = (Arc::downgrade(app), fetch.clone(), Arc::new(Semaphore::new(AT_ONCE)));
    let places = Arc::new(Semaphore::new(LETTERS));
    tokio::spawn(async move {
        while let Some(plea) = pleas.recv().await {
            // Beyond these the channel fills, and who holds the request hears that nobody is told.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let told = tell(app.clone(), fetch.clone(), room.clone(), plea);
            tokio::spawn(async move {
                told.await;
                drop(place);
            });
        }
    });
}

/// Tells one webhook of one held request, and acts on its decision.
async fn tell(app: Weak<App>, fetch: Fetch, room: Arc<Semaphore>, plea: Plea) {
    let Some((body, clock)) = app.upgrade().map(|app| (body(&app, &plea), app.shared.clock)) else { return };
    let letter = Letter { hook: plea.hook.clone(), id: format!("ask_{:032x}", unguessable_id()), body };
    // The process may end while a letter is on its way: nothing here keeps it alive.
    let count = |outcome: &str| {
        if let Some(app) = app.upgrade() {
            app.telemetry.metrics().shared().counter(Family::LimitPleas, &[plea.about.door.as_str(), &plea.about.limit, outcome]).inc();
        }
    };
    let wanted = || app.upgrade().is_some_and(|app| app.shared.approvals.holds(&plea.id));
    let send = |errand| {
        let (room, fetch) = (room.clone(), fetch.clone());
        async move {
            let _turn = room.acquire().await;
            // The turn may have come late: a letter of a request that has left takes nobody's.
            if !wanted() {
                return Err("nobody waits for the answer any more".to_owned());
            }
            fetch.send(errand).await.map_err(|error| error.to_string())
        }
    };
    let failed = |why: &str| {
        count("failed");
        tracing::warn!(id = plea.id, limit = &*plea.about.limit, "the webhook was not told of a held request: {why}");
    };
    let fate = post(&letter, plea.wait, clock, send, wanted, failed).await;
    match fate {
        Fate::Unwanted => {}
        Fate::Refused(why) | Fate::Late(why) => {
            count("lost");
            tracing::error!(
                id = plea.id,
                "the webhook is not told of a held request, which waits for the admin door's answer alone: {why}"
            );
        }
        Fate::Taken(None) => count("delivered"),
        Fate::Taken(Some(yes)) if plea.hook.decides => {
            count("delivered");
            if app.upgrade().is_some_and(|app| app.shared.approvals.answer(&plea.id, yes)) {
                let word = if yes { "allow" } else { "refuse" };
                count(word);
                tracing::info!(id = plea.id, limit = &*plea.about.limit, decision = word, "the webhook has decided about a held request");
            }
        }
        Fate::Taken(Some(_)) => {
            count("delivered");
            count("disbelieved");
            tracing::warn!(id = plea.id, "the webhook's decision came neither over TLS nor from this machine: it decides nothing");
        }
    }
}

/// The message (Standard Webhooks: `type`, `timestamp`, `data`).
fn body(app: &App, plea: &Plea) -> Value {
    let about = &plea.about;
    let time = |at| humantime::format_rfc3339_seconds(at).to_string();
    let live = app.live();
    json!({
        "type": "limit.ask",
        "timestamp": time(plea.since),
        "data": {
            "id": plea.id,
            "service": live.config.telemetry.service,
            "door": about.door.as_str(),
            "route": &*about.route,
            "limit": &*about.limit,
            "terms": about.terms,
            "caller": about.caller.as_deref(),
            "what": about.what,
            "provider": about.model.as_ref().map(|(provider, _)| &**provider),
            "model": about.model.as_ref().and_then(|(_, model)| model.as_deref()),
            "expected_usd": about.nano_usd.map(human::usd),
            "until": time(plea.since.checked_add(plea.wait).unwrap_or(plea.since)),
            "answer": {
                "admin": app.addresses.admin.map(|address| format!("http://{address}")),
                "allow": format!("POST /api/approvals/{}", plea.id),
                "refuse": format!("POST /api/approvals/{}/decline", plea.id),
                "command": format!("outrigger approve {}", plea.id),
                "decision": plea.hook.decides,
            },
        },
    })
}
