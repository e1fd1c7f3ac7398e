//! Monitors in a running process: one task on the side runtime checks what is due, and renders the status page.
//!
//! Real traffic comes first: where a target was tried since the last check, its outcomes are the check. Probes fill silence.

mod probe;
mod traffic;

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet};

use super::{App, Phase};
use crate::{
    alert::{Standing, in_window},
    clock::Clock,
    config::{self, Measure, Monitor, Severity},
    fetch::Fetch,
    monitor::{Check, DAY, Days, Event, History, State as Health, Track},
    status::{Row, Site, render},
    store::{kept::Kept, seal::AtRest},
    telemetry::metrics::Family,
};
use traffic::Traffic;

/// Time between two looks at what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two renderings of the page while nothing happens, in milliseconds.
const RENDER: u64 = 10_000;
/// Time between two writings of the history while nothing happens, in milliseconds.
const SAVE: u64 = 60_000;

/// What monitors hold beside the path of requests.
pub struct Monitors {
    tracks: Mutex<BTreeMap<Arc<str>, Track>>,
    kept: Option<Arc<Kept>>,
    /// The status page, which the proxy's doors serve too.
    pub site: Arc<ArcSwap<Site>>,
    /// Wakes the task after a reload.
    pub changed: Arc<Notify>,
}

/// When each monitor is checked next.
#[derive(Default)]
struct Due {
    next: BTreeMap<Arc<str>, u64>,
    under_way: Vec<Arc<str>>,
    traffic: Traffic,
    rendered: u64,
    saved: u64,
}

impl Monitors {
    /// Nothing is checked yet. What a process before has seen is taken from `store.state_dir`.
    pub fn new(config: &config::Config, site: Arc<ArcSwap<Site>>, seal: &AtRest) -> Self {
        let dir = config.store.state_dir.as_deref().filter(|_| config.monitors.is_some());
        let mut tracks = BTreeMap::new();
        let kept = dir.and_then(|dir| {
            let opened = Kept::open::<BTreeMap<String, History>>(dir, "monitors", seal);
            let opened = opened.inspect_err(|error| tracing::error!(%error, "the history of monitors does not outlive a restart"));
            let (kept, held) = opened.ok()?;
            for (name, history) in held.into_iter().flatten() {
                tracks.entry(Arc::from(name)).or_insert_with(|| Track::with(history));
            }
            Some(Arc::new(kept))
        });
        Self { tracks: Mutex::new(tracks), kept, site, changed: Arc::default() }
    }

    /// What is down or slow, for alerts.
    pub fn standing(&self, monitors: &[Monitor]) -> Vec<Standing> {
        let tracks = self.tracks.lock();
        let of = |monitor: &Monitor| {
            let track = tracks.get(&monitor.name)?;
            let most = match track.state() {
                Health::Down => None,
                Health::Slow => Some(Severity::Warning),
                Health::Up | Health::Unknown => return None,
            };
            let says = format!("{} is {}: {}", monitor.name, track.state().as_str(), track.why().unwrap_or("see /api/monitors"));
            Some(Standing { of: Measure::Monitor, subject: monitor.name.clone(), says, most })
        };
        monitors.iter().filter_map(of).collect()
    }

    fn note(&self, monitor: &Monitor, now: u64, check: Check) -> Option<Event> {
        // A pause of three checks, or of a minute, was not watched.
        let gap = u64::try_from(monitor.every.as_millis()).unwrap_or(u64::MAX).saturating_mul(3).max(60_000);
        let mut tracks = self.tracks.lock();
        let track = tracks.entry(monitor.name.clone()).or_default();
        let event = track.note(now, check, monitor.failures, gap);
        match event {
            Some(Event::Opened) => tracing::warn!(monitor = &*monitor.name, why = track.why().unwrap_or_default(), "a monitor is down"),
            Some(Event::Closed) => tracing::info!(monitor = &*monitor.name, "a monitor is up again"),
            None => {}
        }
        event
    }

    /// Renders the page.
    fn render(&self, title: &str, monitors: &[Monitor], now: u64) {
        let tracks = self.tracks.lock();
        let rows: Vec<Row> = monitors
            .iter()
            .filter(|monitor| monitor.public)
            .map(|monitor| {
                let track = tracks.get(&monitor.name).cloned().unwrap_or_default();
                Row { name: monitor.name.to_string(), state: track.state(), history: track.history }
            })
            .collect();
        drop(tracks);
        self.site.store(Arc::new(render(title, &rows, now)));
    }

    /// Writes the history where it outlives the process.
    pub async fn save(&self) {
        let Some(kept) = self.kept.clone() else { return };
        let histories: BTreeMap<String, History> =
            self.tracks.lock().iter().map(|(name, track)| (name.to_string(), track.history.clone())).collect();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || kept.save(&histories)).await {
            tracing::error!(%error, "the history of monitors cannot be written");
        }
    }
}

/// Starts the task; it ends with the process.
pub fn start(app: &Arc<App>, fetch: &Fetch) {
    tokio::spawn(watch(Arc::downgrade(app), app.monitors.changed.clone(), fetch.clone()));
    let weak = Arc::downgrade(app);
    let up = move || {
        let Some(app) = weak.upgrade() else { return Vec::new() };
        let live = app.live();
        let tracks = app.monitors.tracks.lock();
        let of = |monitor: &Monitor| {
            let state = tracks.get(&monitor.name)?.state();
            Some((vec![monitor.name.to_string()], f64::from(u8::from(state != Health::Down))))
        };
        live.config.monitors.iter().flatten().filter_map(of).collect()
    };
    app.telemetry.metrics().register(Family::MonitorUp, Box::new(up));
}

async fn watch(app: Weak<App>, changed: Arc<Notify>, fetch: Fetch) {
    let mut due = Due::default();
    let mut checks: JoinSet<(Monitor, Check)> = JoinSet::new();
    loop {
        let Some(held) = app.upgrade().filter(|app| app.phase() == Phase::Running) else { return };
        let config = held.live().config.clone();
        let Some(monitors) = &config.monitors else {
            drop(held);
            changed.notified().await;
            continue;
        };
        begin(&held, monitors, &mut due, &mut checks, &fetch);
        let mut happened = false;
        while let Some(done) = checks.try_join_next() {
            happened |= settle(&held, monitors, &mut due, done.ok());
        }
        after(&held, &config, monitors, &mut due, happened).await;
        drop(held);
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
            // A check that ends is told at once.
            Some(done) = checks.join_next(), if !checks.is_empty() => {
                let Some(held) = app.upgrade() else { return };
                let happened = settle(&held, monitors, &mut due, done.ok());
                after(&held, &config, monitors, &mut due, happened).await;
            }
        }
    }
}

/// Begins the checks that are due.
fn begin(app: &Arc<App>, monitors: &[Monitor], due: &mut Due, checks: &mut JoinSet<(Monitor, Check)>, fetch: &Fetch) {
    let (wall, steady) = times(&app.shared.clock);
    due.traffic.look(app.telemetry.metrics());
    due.next.retain(|name, _| monitors.iter().any(|monitor| monitor.name == *name));
    for monitor in monitors {
        let at = due.next.get(&monitor.name).copied().unwrap_or_default();
        if at > steady || due.under_way.contains(&monitor.name) {
            continue;
        }
        due.next.insert(monitor.name.clone(), steady + u64::try_from(monitor.every.as_millis()).unwrap_or(u64::MAX));
        if in_window(&monitor.maintenance, &monitor.tz, wall) {
            continue;
        }
        let proof = monitor.passive.as_ref().and_then(|target| due.traffic.take(target));
        if let Some(check) = proof {
            checks.spawn(std::future::ready((monitor.clone(), check)));
        } else {
            let (fetch, monitor, outbound) = (fetch.clone(), monitor.clone(), app.addresses.outbound);
            checks.spawn(async move {
                let check = probe::check(&fetch, &monitor, outbound, wall).await;
                (monitor, check)
            });
        }
        due.under_way.push(monitor.name.clone());
    }
}

/// Takes a result. Gives whether an incident began or ended.
fn settle(app: &App, monitors: &[Monitor], due: &mut Due, done: Option<(Monitor, Check)>) -> bool {
    let Some((monitor, check)) = done else {
        // A check has panicked; which one is not known. All are due again.
        due.under_way.clear();
        return false;
    };
    due.under_way.retain(|name| *name != monitor.name);
    let known = monitors.iter().any(|other| other.name == monitor.name);
    known && app.monitors.note(&monitor, times(&app.shared.clock).0, check).is_some()
}

async fn after(app: &App, config: &config::Config, monitors: &[Monitor], due: &mut Due, happened: bool) {
    let (wall, steady) = times(&app.shared.clock);
    if config.status_page.is_some() && (happened || due.rendered == 0 || steady.saturating_sub(due.rendered) >= RENDER) {
        due.rendered = steady.max(1);
        let title = config.status_page.as_ref().map_or("Status", |page| &page.title);
        app.monitors.render(title, monitors, wall);
    }
    if happened || steady.saturating_sub(due.saved) >= SAVE {
        due.saved = steady;
        app.monitors.save().await;
    }
}

fn times(clock: &Clock) -> (u64, u64) {
    let moment = clock.moment();
    (crate::clock::unix(moment.wall).as_millis() as u64, moment.steady_millis())
}

/// Days of a monitor in `/api/monitors`.
const DAYS: u64 = 90;
/// Most incidents of a monitor in `/api/monitors`.
const SHOWN: usize = 20;

/// The monitors, for `/api/monitors`.
pub fn view(app: &App) -> Value {
    let live = app.live();
    let now = app.shared.clock.unix_millis();
    let tracks = app.monitors.tracks.lock();
    let time = |millis: u64| humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(millis)).to_string();
    let of = |monitor: &Monitor| {
        let track = tracks.get(&monitor.name).cloned().unwrap_or_default();
        let history = &track.history;
        let week = history.between(now.saturating_sub(7 * DAY), now);
        let past = history.incidents.iter().rev().take(SHOWN);
        let past = past.map(|past| json!({"from": time(past.from), "to": past.to.map(time), "why": past.why}));
        json!({
            "name": &*monitor.name, "state": track.state().as_str(), "why": track.why(), "since": history.open().map(|past| time(past.from)),
            "share_7d": week.share(), "down_seconds_7d": week.down as f64 / 1e3, "watched_seconds_7d": week.watched as f64 / 1e3,
            "incidents": history.incidents.len(), "days": history.days(now, DAYS).iter().map(Days::share).collect::<Vec<_>>(),
            "past": past.collect::<Vec<_>>(),
        })
    };
    json!({"monitors": live.config.monitors.as_ref().map(|all| all.iter().map(of).collect::<Vec<_>>())})
}
