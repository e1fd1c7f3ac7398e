//! Error reports of a running process: one task reads the last failures and sends them, within limits.
//!
//! With `sentry` in the file at the start nothing is missed, from the first request to the last one of the drain.

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use http::{HeaderValue, Method};
use parking_lot::Mutex;
use serde_json::Value;

use super::{App, Phase};
use crate::{
    clock::{self, Clock},
    config::{self, Secret},
    fetch::{Errand, Fetch},
    sentry::{Limits, Panic, Place, dropped, envelope, of_failure, of_panic},
    telemetry::{
        failures::{Failures, Filter},
        metrics::{Family, Metrics},
    },
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

/// The reports of a process: what was reported, and what may be.
pub struct Reports {
    fetch: Fetch,
    /// One look at a time.
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    limits: Limits,
    /// The number of the last failure that was seen; `None`: the ring was not looked at yet.
    after: Option<u64>,
}

/// What a look is about.
struct About<'a> {
    sentry: &'a config::Sentry,
    service: &'a str,
    failures: &'a Arc<Failures>,
    metrics: &'a Metrics,
    clock: Clock,
}

impl Reports {
    /// Nothing is reported yet. With `sentry` at the start, all that fails from the first request on is reported, panics too.
    pub fn new(fetch: &Fetch, sentry: Option<&config::Sentry>) -> Self {
        let after = sentry.map(|_| 0);
        sentry.into_iter().for_each(|_| note_panics());
        Self { fetch: fetch.clone(), state: tokio::sync::Mutex::new(State { limits: Limits::default(), after }) }
    }

    /// One look: what failed since the last is reported.
    async fn look(&self, about: &About<'_>) {
        let mut state = self.state.lock().await;
        let wall = about.clock.wall();
        let now = about.clock.unix_millis();
        let place = Place {
            environment: about.sentry.environment.clone(),
            release: about.sentry.release.clone(),
            service: about.service.to_owned(),
        };
        let count = |outcome: &str, n: u64| about.metrics.shared().counter(Family::SentryEvents, &[outcome]).add(n);
        let panics: Vec<Panic> = std::mem::take(&mut *PANICKED.lock());
        let mut events: Vec<_> = panics.iter().map(|panic| of_panic(panic, &place, clock::unguessable_id(), wall)).collect();
        let (stories, more) = stories(about.failures, &mut state.after, now).await;
        count("limited", more);
        for story in stories {
            let chance = (clock::unguessable_id() % 1_000_000) as f64 / 1e6;
            match dropped(&story) {
                Some(_) => {}
                None if chance >= about.sentry.sample && story["reason"] != "internal" => count("sampled_out", 1),
                None => {
                    let at = story["timestamp"].as_str().and_then(|text| humantime::parse_rfc3339(text).ok()).unwrap_or(wall);
                    events.push(of_failure(&story, &place, clock::unguessable_id(), at));
                }
            }
        }
        for event in events {
            if !state.limits.take(now) {
                count("limited", 1);
                continue;
            }
            let outcome = match envelope(event) {
                Ok(bytes) => send(&self.fetch, &about.sentry.dsn, bytes, &mut state.limits, now, wall).await,
                Err(_) => "failed",
            };
            count(outcome, 1);
        }
    }
}

/// Starts the task; it ends with the process.
pub fn start(app: &Arc<App>) {
    tokio::spawn(watch(Arc::downgrade(app)));
}

async fn watch(app: Weak<App>) {
    loop {
        tokio::time::sleep(LOOK).await;
        // What fails while the process leaves is reported too.
        let Some(held) = app.upgrade().filter(|app| app.phase() < Phase::Over) else { return };
        held.report().await;
    }
}

impl App {
    /// Reports what failed since the last time.
    pub(super) async fn report(&self) {
        let config = self.live().config.clone();
        let Some(sentry) = &config.sentry else {
            self.reports.state.lock().await.after = None;
            return;
        };
        note_panics();
        let about = About {
            sentry,
            service: &config.telemetry.service,
            failures: self.telemetry.failures(),
            metrics: self.telemetry.metrics(),
            clock: self.shared.clock,
        };
        self.reports.look(&about).await;
    }
}

/// The failures since the last look, the oldest first, and how many more there were. The first look only notes where the ring stands.
async fn stories(ring: &Arc<Failures>, after: &mut Option<u64>, now: u64) -> (Vec<Value>, u64) {
    let ring = ring.clone();
    let from = after.map_or_else(|| "0".to_owned(), |after| after.to_string());
    let asked = tokio::task::spawn_blocking(move || {
        let filter = Filter::read([("after", from.as_str()), ("limit", ROWS)], now).ok()?;
        Some(ring.find(&filter))
    });
    let Ok(Some(found)) = asked.await else { return (Vec::new(), 0) };
    let newest: Option<u64> = found["newest"].as_str().and_then(|text| text.parse().ok());
    let Value::Array(mut stories) = found["failures"].clone() else { return (Vec::new(), 0) };
    let Some(last) = std::mem::replace(after, newest.or(*after).or(Some(0))) else { return (Vec::new(), 0) };
    stories.reverse();
    let more = newest.map_or(0, |newest| newest.saturating_sub(last)).saturating_sub(stories.len() as u64);
    (stories, more)
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
