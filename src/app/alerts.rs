//! Alerts in a running process: one task on the side runtime looks at the numbers, and another delivers what it has to tell.
//!
//! Nothing runs without an `alerts` block, and no request waits for any of it.

mod facts;
mod hit;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{App, Phase};
use crate::{
    admin::Refused,
    alert::{Carry, Change, Dispatch, Engine, Incident, Item, Kind, Notice, Terms, What, runbook},
    clock::{self, Clock},
    config::{self, Alerts, Severity},
    fetch::Fetch,
    notify::{Courier, Replicas, format::alertmanager::RENEW},
    store::{redis::Redis, seal::AtRest},
    telemetry::metrics::Family,
};

/// Most rows of `/api/alerts`.
const SHOWN: usize = 200;
/// Most incidents that are over and remembered.
const OVER: usize = 50;

/// What alerts hold beside the path of requests.
pub struct Watch {
    /// The delivery of notices.
    pub courier: Arc<Courier>,
    /// Incidents that are open, at the last look.
    open: Mutex<Vec<Incident>>,
    /// Incidents that are over, the newest first: those of this process.
    over: Mutex<VecDeque<Incident>>,
    /// Wakes the task after a reload.
    pub changed: Arc<Notify>,
}

/// What one task keeps from look to look.
struct Looking {
    engine: Engine,
    dispatch: Dispatch,
    replicas: Replicas<Redis>,
    usual: facts::Usual,
    terms: Alerts,
    renewed: u64,
    /// Changes that came before the first look, or with a reload.
    early: Vec<Change>,
}

impl Watch {
    /// Nothing is looked at yet. Notices and incidents of the process before are taken from `store.state_dir`, if there are alerts.
    pub fn new(config: &config::Config, fetch: &Fetch, clock: Clock, seal: &AtRest) -> Self {
        let channels = config.alerts.as_ref().map(|alerts| alerts.channels.clone());
        let courier = Courier::new(fetch.clone(), clock, channels, config.store.state_dir.as_deref(), seal);
        Self { courier, open: Mutex::default(), over: Mutex::default(), changed: Arc::new(Notify::new()) }
    }

    /// Remembers the incidents that are over now.
    fn remember(&self, changes: &[Change]) {
        let mut over = self.over.lock();
        for change in changes.iter().filter(|change| change.what == What::Recovered) {
            over.push_front(change.incident.clone());
        }
        over.truncate(OVER);
    }

    /// The incidents that are open.
    pub fn open(&self) -> Vec<Incident> {
        self.open.lock().clone()
    }
}

/// Starts the tasks; they end with the process.
pub fn start(app: &Arc<App>, fetch: &Fetch) {
    tokio::spawn(app.alerts.courier.clone().run());
    tokio::spawn(watch(Arc::downgrade(app), app.alerts.changed.clone()));
    tokio::spawn(beat(Arc::downgrade(app), fetch.clone()));
    register(app);
}

/// Registers the numbers of alerts, read at every scrape.
fn register(app: &Arc<App>) {
    let metrics = app.telemetry.metrics();
    let weak = Arc::downgrade(app);
    let open = move || {
        let Some(app) = weak.upgrade().filter(|app| app.live().config.alerts.is_some()) else { return Vec::new() };
        let open = app.alerts.open.lock();
        let count = |severity: Severity| open.iter().filter(|incident| incident.severity == severity).count();
        Severity::ALL.map(|severity| (vec![severity.as_str().to_owned()], count(severity) as f64)).into()
    };
    metrics.register(Family::AlertsOpen, Box::new(open));
    let courier = app.alerts.courier.clone();
    let notices = move || {
        let of = |state: crate::notify::ChannelState| {
            let rows = [("delivered", state.delivered), ("failed", state.failed), ("lost", state.lost)];
            rows.map(|(outcome, n)| (vec![state.name.clone(), outcome.to_owned()], n as f64))
        };
        courier.channels().into_iter().flat_map(of).collect()
    };
    metrics.register(Family::Notices, Box::new(notices));
    let courier = app.alerts.courier.clone();
    let waiting = move || courier.channels().into_iter().map(|state| (vec![state.name], state.waiting as f64)).collect();
    metrics.register(Family::NoticesWaiting, Box::new(waiting));
}

/// Looks at the numbers for as long as the process serves.
async fn watch(app: Weak<App>, changed: Arc<Notify>) {
    let mut looking: Option<Looking> = None;
    loop {
        let Some(held) = app.upgrade().filter(|app| app.phase() == Phase::Running) else { return };
        let config = held.live().config.clone();
        held.shared.hits.watch(config.alerts.is_some());
        let every = match &config.alerts {
            None => {
                if let Some(looking) = looking.take() {
                    // The channels went with the block: they hear that nobody watches any more.
                    held.alerts.courier.set_channels(Vec::new());
                    held.alerts.courier.post(&[], Carry::default());
                    looking.replicas.leave().await;
                }
                held.alerts.open.lock().clear();
                None
            }
            Some(alerts) => {
                let mut now = match looking.take() {
                    Some(looking) => looking,
                    None => Looking::begin(&held, alerts).await,
                };
                now.look(&held, alerts).await;
                looking = Some(now);
                Some(alerts.every)
            }
        };
        drop(held);
        match every {
            Some(every) => drop(tokio::time::timeout(every, changed.notified()).await),
            None => changed.notified().await,
        }
    }
}

impl Looking {
    /// Goes on where the process before has ended.
    async fn begin(app: &App, alerts: &Alerts) -> Self {
        // The block may have come with a reload.
        app.alerts.courier.set_channels(alerts.channels.clone());
        let mut looking = Self {
            engine: Engine::new(alerts.rules.clone()),
            dispatch: Dispatch::new(Self::dispatch_terms(app, alerts)),
            replicas: Replicas::new(app.redis.clone()),
            usual: facts::Usual::default(),
            terms: alerts.clone(),
            renewed: 0,
            early: Vec::new(),
        };
        let moment = app.shared.clock.moment();
        let (steady, wall) = (moment.steady_millis(), clock::unix(moment.wall).as_millis() as u64);
        let mut carry = app.alerts.courier.carry();
        carry.open = looking.replicas.resume(steady, carry.open).await;
        if !carry.open.is_empty() {
            tracing::info!(incidents = carry.open.len(), "incidents of the process before are open: they are looked at again");
        }
        let open = carry.open.iter().map(|one| one.incident.clone()).collect();
        looking.dispatch.resume(wall, carry);
        looking.early = looking.engine.resume(open, (steady, wall));
        looking
    }

    fn dispatch_terms(app: &App, alerts: &Alerts) -> Terms {
        let instance = format!("{:08x}", clock::unguessable_id() as u32);
        Terms::of(alerts, &app.live().config.telemetry.service, &instance)
    }

    /// Takes over changed terms.
    fn follow(&mut self, app: &App, alerts: &Alerts) {
        if self.terms == *alerts {
            return;
        }
        let now = app.shared.clock.unix_millis();
        self.early.extend(self.engine.set_rules(alerts.rules.clone(), now));
        self.dispatch.set_terms(Self::dispatch_terms(app, alerts));
        app.alerts.courier.set_channels(alerts.channels.clone());
        self.terms = alerts.clone();
    }

    /// One look.
    async fn look(&mut self, app: &Arc<App>, alerts: &Alerts) {
        self.follow(app, alerts);
        self.usual.renew(app).await;
        let facts = facts::collect(app, self.usual.value());
        let mut changes = std::mem::take(&mut self.early);
        changes.extend(self.engine.step(&facts));
        changes.iter().for_each(say);
        app.alerts.remember(&changes);
        *app.alerts.open.lock() = self.engine.open().into_iter().cloned().collect();
        let mut changes = self.replicas.agree(facts.steady, changes).await;
        // What another replica has seen, and nobody sees any more, is over now.
        let over = changes.iter_mut().filter(|change| change.what == What::Recovered);
        over.for_each(|change| change.incident.until = change.incident.until.or(Some(facts.wall)));
        let changed = !changes.is_empty();
        let mut notices = self.dispatch.step(facts.wall, changes);
        self.replicas.post(&mut notices).await;
        for notice in &mut notices {
            hit::enrich(app, notice, facts.wall, facts.steady).await;
        }
        if changed || !notices.is_empty() {
            app.alerts.courier.post(&notices, self.dispatch.carry());
        }
        if facts.steady.saturating_sub(self.renewed) >= RENEW {
            self.renewed = facts.steady;
            self.renew(app, facts.wall);
        }
    }

    /// Repeats to Alertmanagers what goes on and was told: what waits for the morning, or for the digest, is no alert.
    fn renew(&self, app: &App, wall: u64) {
        let items: Vec<Item> = self.dispatch.told().map(|incident| Item::of(incident, self.terms.runbooks.as_deref())).collect();
        let Some(worst) = items.iter().map(|item| item.severity).max() else { return };
        let service = app.live().config.telemetry.service.clone();
        let notice = Notice { id: String::new(), kind: Kind::Reminder, severity: worst, at: wall, service, items, more: 0 };
        let courier = app.alerts.courier.clone();
        tokio::spawn(async move { courier.renew(&notice).await });
    }
}

/// The process log hears of each change, whoever else does.
fn say(change: &Change) {
    let Incident { rule, subject, severity, says, .. } = &change.incident;
    let (rule, subject, severity) = (&**rule, &**subject, severity.as_str());
    match change.what {
        What::Recovered => {
            let lasted = change.incident.until.unwrap_or_default().saturating_sub(change.incident.since) / 1_000;
            tracing::info!(rule, subject, severity, seconds = lasted, "an incident is over");
        }
        What::Opened => tracing::warn!(rule, subject, severity, "an incident begins: {says}"),
        _ => tracing::warn!(rule, subject, severity, "an incident is worse: {says}"),
    }
}

/// Asks the heartbeat's URL while the process serves.
async fn beat(app: Weak<App>, fetch: Fetch) {
    const IDLE: Duration = Duration::from_secs(60);
    let mut failing = false;
    loop {
        let Some(held) = app.upgrade().filter(|app| app.phase() == Phase::Running) else { return };
        let heartbeat = held.live().config.alerts.as_ref().and_then(|alerts| alerts.heartbeat.clone());
        drop(held);
        let Some((url, every)) = heartbeat else {
            tokio::time::sleep(IDLE).await;
            continue;
        };
        let asked = fetch.send(crate::fetch::Errand::new(http::Method::GET, url.reveal())).await;
        let trouble = match asked {
            Ok(answer) if answer.status.is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status)),
            Err(error) => Some(error.to_string()),
        };
        match (&trouble, failing) {
            (Some(why), false) => tracing::warn!("the heartbeat is not heard: {why}"),
            (None, true) => tracing::info!("the heartbeat is heard again"),
            _ => {}
        }
        failing = trouble.is_some();
        tokio::time::sleep(every).await;
    }
}

/// The alerts, for `/api/alerts`.
pub fn view(app: &App) -> Value {
    let live = app.live();
    let Some(alerts) = &live.config.alerts else { return json!({"on": false}) };
    let time = |millis: u64| humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(millis)).to_string();
    let open = app.alerts.open();
    let row = |incident: &Incident| {
        json!({
            "id": incident.id, "rule": &*incident.rule, "subject": &*incident.subject, "severity": incident.severity.as_str(),
            "since": time(incident.since), "until": incident.until.map(time), "says": incident.says,
            "what_to_do": runbook::advice(incident.of.as_str()),
            "runbook": alerts.runbooks.as_ref().map(|url| format!("{url}#{}", incident.of.as_str())),
        })
    };
    let incidents = open.iter().take(SHOWN).map(row);
    let recent: Vec<Value> = app.alerts.over.lock().iter().map(row).collect();
    let channels = app.alerts.courier.channels().into_iter().map(|state| {
        json!({
            "name": state.name, "means": state.means, "delivered": state.delivered, "failed": state.failed, "lost": state.lost,
            "waiting": state.waiting, "trouble": state.trouble, "delivered_at": state.delivered_at.map(time),
            "failed_at": state.failed_at.map(time),
        })
    });
    let rules = alerts.rules.iter().map(|rule| {
        json!({
            "name": &*rule.name, "of": rule.of.as_str(), "low": rule.thresholds[0], "warning": rule.thresholds[1],
            "critical": rule.thresholds[2], "for_seconds": rule.hold.as_secs_f64(),
        })
    });
    json!({
        "on": true, "incidents": incidents.collect::<Vec<_>>(), "recent": recent, "open": open.len(), "channels": channels.collect::<Vec<_>>(),
        "rules": rules.collect::<Vec<_>>(), "kept": app.alerts.courier.is_durable(),
    })
}

/// Sends a test to one channel.
pub async fn test(app: Arc<App>, name: &str) -> Result<Value, Refused> {
    let live = app.live();
    let Some(alerts) = &live.config.alerts else {
        return Err(Refused::NotFound("there are no alerts: write `alerts` with a channel".to_owned()));
    };
    let notice = Notice::test(app.shared.clock.unix_millis(), &live.config.telemetry.service, alerts.runbooks.as_deref());
    match app.alerts.courier.try_now(name, &notice).await {
        Ok(means) => Ok(json!({"channel": name, "means": means, "delivered": true})),
        Err(why) => Err(Refused::Conflict(why)),
    }
}
