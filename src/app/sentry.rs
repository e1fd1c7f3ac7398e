//! Error reports of a running process: one task reads the last failures and sends them, within limits.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderValue, Method};
use parking_lot::Mutex;
use serde_json::Value;

use super::{App, Phase};
use crate::{
    clock,
    config::{self, Secret},
    fetch::{Errand, Fetch},
    sentry::{Limits, Panic, Place, dropped, envelope, of_failure, of_panic},
    telemetry::{failures::Filter, metrics::Family},
};

/// Time between two looks at the failures.
const LOOK: Duration = Duration::from_secs(1);
/// Most failures of one look.
const ROWS: &str = "100";
/// Most panics that wait.
const PANICS: usize = 16;

/// Panics that were not reported yet.
static PANICKED: Mutex<Vec<Panic>> = Mutex::new(Vec::new());

/// Notes panics from now on, beside what is done with them anyway.
fn note_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let payload = info.payload();
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| payload.downcast_ref::<String>().cloned());
            let location = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
            // A panic while the list is held would wait for itself.
            if let Some(mut list) = PANICKED.try_lock().filter(|list| list.len() < PANICS) {
                list.push(Panic { message: text.unwrap_or_default(), location });
            }
            before(info);
        }));
    });
}

/// Starts the task; it ends with the process.
pub fn start(app: &Arc<App>, fetch: &Fetch) {
    tokio::spawn(watch(Arc::downgrade(app), fetch.clone()));
}

async fn watch(app: Weak<App>, fetch: Fetch) {
    let (mut limits, mut after) = (Limits::default(), None);
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(held) = app.upgrade().filter(|app| app.phase() == Phase::Running) else { return };
        let config = held.live().config.clone();
        let Some(sentry) = &config.sentry else {
            after = None;
            continue;
        };
        note_panics();
        look(&held, sentry, &config, &fetch, &mut limits, &mut after).await;
    }
}

/// One look: what failed since the last is reported. `after` is the number of the last failure that was seen.
async fn look(
    app: &Arc<App>,
    sentry: &config::Sentry,
    config: &config::Config,
    fetch: &Fetch,
    limits: &mut Limits,
    after: &mut Option<u64>,
) {
    let now = app.shared.clock.unix_millis();
    let place =
        Place { environment: sentry.environment.clone(), release: sentry.release.clone(), service: config.telemetry.service.clone() };
    let count = |outcome: &str, n: u64| app.telemetry.metrics().shared().counter(Family::SentryEvents, &[outcome]).add(n);
    let panics: Vec<Panic> = std::mem::take(&mut *PANICKED.lock());
    let mut events: Vec<_> = panics.iter().map(|panic| of_panic(panic, &place, clock::unguessable_id(), app.shared.clock.wall())).collect();
    for story in stories(app, after, now).await {
        let chance = (clock::unguessable_id() % 1_000_000) as f64 / 1e6;
        match dropped(&story) {
            Some(_) => {}
            None if chance >= sentry.sample && story["reason"] != "internal" => count("sampled_out", 1),
            None => {
                let at =
                    story["timestamp"].as_str().and_then(|text| humantime::parse_rfc3339(text).ok()).unwrap_or(app.shared.clock.wall());
                events.push(of_failure(&story, &place, clock::unguessable_id(), at));
            }
        }
    }
    for event in events {
        if !limits.take(now) {
            count("limited", 1);
            continue;
        }
        let outcome = match envelope(event) {
            Ok(bytes) => send(fetch, &sentry.dsn, bytes, limits, now, app.shared.clock.wall()).await,
            Err(_) => "failed",
        };
        count(outcome, 1);
    }
}

/// The failures since the last look, the oldest first. The first look only notes where the ring stands.
async fn stories(app: &Arc<App>, after: &mut Option<u64>, now: u64) -> Vec<Value> {
    let ring = app.telemetry.failures().clone();
    let from = after.map_or_else(|| "0".to_owned(), |after| after.to_string());
    let asked = tokio::task::spawn_blocking(move || {
        let filter = Filter::read([("after", from.as_str()), ("limit", ROWS)], now).ok()?;
        Some(ring.find(&filter))
    });
    let Ok(Some(found)) = asked.await else { return Vec::new() };
    let newest = found["newest"].as_str().and_then(|text| text.parse().ok());
    let first = after.is_none();
    *after = newest.or(*after);
    let Value::Array(mut stories) = found["failures"].clone() else { return Vec::new() };
    stories.reverse();
    if first { Vec::new() } else { stories }
}

/// Sends an envelope; gives the word of the outcome.
async fn send(fetch: &Fetch, dsn: &Secret, bytes: Vec<u8>, limits: &mut Limits, now: u64, wall: std::time::SystemTime) -> &'static str {
    let Ok(dsn) = dsn.reveal().parse::<sentry_types::Dsn>() else { return "failed" };
    let mut errand = Errand::new(Method::POST, dsn.envelope_api_url().to_string());
    errand.body = bytes.into();
    let agent = concat!("outrigger/", env!("CARGO_PKG_VERSION"));
    let fields = [("x-sentry-auth", dsn.to_auth(Some(agent)).to_string()), ("content-type", "application/x-sentry-envelope".to_owned())];
    for (name, value) in fields {
        if let Ok(value) = HeaderValue::try_from(value) {
            errand.headers.insert(name, value);
        }
    }
    match fetch.send(errand).await {
        Ok(answer) => {
            let named = answer.headers.get("x-sentry-rate-limits").and_then(|value| value.to_str().ok());
            limits.heed(now, answer.status.as_u16(), named, answer.retry_after(wall));
            if answer.status.is_success() { "sent" } else { "refused" }
        }
        Err(error) => {
            tracing::debug!(%error, "an error report was not sent");
            "failed"
        }
    }
}
