//! The admin door's view of the process, and the changes it may make.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
};

use serde_json::{Value, json};

use super::{
    App, Phase, alerts, approvals, audit, bans, breakers, cache, certificates, edit, failures, ledger, limits, live, memory, monitors,
    reload, store, targets, terms::applied, warm,
};
use crate::{
    admin::{
        About, Action, Dependency, Health, Operator, Refused, State, View, VisitEnd,
        live::{Minutes, Numbers, PAST},
    },
    arrival::Door,
    clock::Instant,
    config::Limit,
    policy::{breaker, cache::Event},
    proxy::live::{Live, LiveDoor, LiveRoute},
    telemetry::metrics::{Exposition, Family, Reading},
    upstream::{Reached, Target},
};

/// The admin door's view of the process. It does not keep the process alive: an ended process has nothing to show.
pub struct Desk(Weak<App>);

impl Desk {
    /// The desk of `app`.
    pub fn new(app: Weak<App>) -> Arc<Self> {
        Arc::new(Self(app))
    }
}

/// Registers numbers that live in shared state, read at every scrape.
pub fn register(app: &Arc<App>) {
    let metrics = app.telemetry.metrics();
    let asks = |family, read: fn(&App) -> Vec<Reading>| {
        let app = Arc::downgrade(app);
        metrics.register(family, Box::new(move || app.upgrade().map(|app| read(&app)).unwrap_or_default()));
    };
    asks(Family::CauseEntries, |app| {
        let census = app.shared.causes.census();
        let all = [("payee", census.payees), ("running", census.running), ("ended", census.ended), ("name", census.names)];
        all.map(|(kind, n)| (vec![kind.to_owned()], n as f64)).into()
    });
    asks(Family::CauseBytes, |app| vec![(Vec::new(), app.shared.causes.census().bytes as f64)]);
    asks(Family::CauseForgotten, |app| {
        let census = app.shared.causes.census();
        let all = [
            ("payee", census.payees_forgotten),
            ("ended", census.ended_forgotten),
            ("name", census.names_forgotten),
            ("turned_away", census.turned_away),
        ];
        all.map(|(kind, n)| (vec![kind.to_owned()], n as f64)).into()
    });
    asks(Family::BackgroundUnderWay, |app| vec![(Vec::new(), app.shared.works.under_way() as f64)]);
    audit::register(app);
    bans::register(app);
    cache::register(app);
    certificates::register(app);
    ledger::register(app);
    memory::register(app);
    reload::register(app);
    asks(Family::Draining, |app| vec![(Vec::new(), f64::from(u8::from(app.phase() != Phase::Running)))]);
    limits::register(app);
    targets::register(app);
    asks(Family::StoreUp, |app| app.redis.iter().map(|redis| (vec!["redis".to_owned()], f64::from(u8::from(redis.is_up())))).collect());
    asks(Family::StoreErrors, |app| {
        let Some(redis) = &app.redis else { return Vec::new() };
        let lost = [("not_sent", redis.not_sent()), ("settle", app.shared.limits.settlements_lost())];
        redis.errors().into_iter().chain(lost).map(|(operation, n)| (vec!["redis".to_owned(), operation.to_owned()], n as f64)).collect()
    });
    asks(Family::CacheStore, |app| {
        let Some(shared) = app.shared.cache.stats().shared else { return Vec::new() };
        Event::ALL.iter().zip(shared.events).map(|((_, word), n)| (vec![(*word).to_owned()], n as f64)).collect()
    });
    asks(Family::BreakerState, |app| {
        let all = app.shared.breakers.snapshot(Instant::now());
        let live = app.live();
        let routes = [&live.inbound, &live.outbound].into_iter().flatten().flat_map(|door| &door.routes);
        // A target without a breaker has had no call: its breaker, for any model, is closed.
        let untried = live.targets.iter().map(|target| &target.name).filter(|name| all.iter().all(|b| b.name != **name));
        let untried = untried.filter(|_| routes.clone().any(|route| route.policies.breaker.is_some()));
        let known = all.iter().map(|b| (vec![b.name.to_string()], f64::from(b.state as u8)));
        known.chain(untried.map(|name| (vec![name.to_string()], 0.0))).collect()
    });
    asks(Family::BreakerTransitions, |app| {
        let all = app.shared.breakers.snapshot(Instant::now());
        let of = |b: &breaker::Snapshot| {
            let states = breaker::State::ALL.into_iter().zip(b.transitions);
            states.map(|(state, n)| (vec![b.name.to_string(), state.as_str().into()], n as f64)).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    });
}

impl Operator for Desk {
    fn health(&self) -> Health {
        let Some(app) = self.0.upgrade() else {
            return Health { uptime: Default::default(), window: Default::default(), dependencies: Vec::new() };
        };
        let now = Instant::now();
        let metrics = app.telemetry.metrics();
        Health { uptime: metrics.uptime(now), window: metrics.last_day(now), dependencies: dependencies(&app, now) }
    }

    fn ready(&self) -> Result<(), String> {
        match self.0.upgrade().map(|app| app.phase()) {
            Some(Phase::Running) => Ok(()),
            Some(_) => Err("draining".into()),
            None => Err("ended".into()),
        }
    }

    fn metrics(&self, form: Exposition) -> String {
        self.0.upgrade().map(|app| app.telemetry.metrics().render_as(form)).unwrap_or_default()
    }

    fn view(&self, view: View) -> Value {
        let Some(app) = self.0.upgrade() else { return Value::Null };
        let now = Instant::now();
        match view {
            View::Config => {
                json!({"generation": app.live().generation, "file": app.source.file, "config": format!("{:#?}", app.live().config)})
            }
            View::Routes => routes(&app),
            View::Terms => terms(&app),
            View::Limits => limits::view(&app),
            View::Approvals => approvals::view(&app),
            View::Bans => bans::view(&app),
            View::Breakers => breakers::view(&app, now),
            View::Cache => cache::view(&app),
            View::CacheTop(by) => cache::top(&app, by),
            View::Connections => connections(&app),
            View::Spend => spend(&app),
            View::Ledger => ledger::view(&app),
            View::Targets => targets::view(&app),
            View::Alerts => alerts::view(&app),
            View::Monitors => monitors::view(&app),
        }
    }

    fn ask(&self, about: About, words: Vec<(String, String)>) -> Pin<Box<dyn Future<Output = Result<Value, Refused>> + Send + '_>> {
        let app = self.0.upgrade().ok_or_else(|| Refused::Conflict("the process is ending".into()));
        Box::pin(async move {
            match about {
                About::Usage => ledger::ask(app?, words).await,
                About::Errors => failures::ask(app?, words).await,
                About::Observed => failures::observed(&*app?, &words),
                About::History => edit::history(app?).await,
            }
        })
    }

    fn live(&self) -> Numbers {
        self.0.upgrade().map(|app| live::numbers(&app)).unwrap_or_default()
    }

    fn minutes(&self) -> Minutes {
        self.0.upgrade().map(|app| app.telemetry.metrics().minutes(Instant::now(), PAST)).unwrap_or_default()
    }

    fn watch(&self, on: bool) {
        if let Some(app) = self.0.upgrade() {
            app.telemetry.flows().watch(on);
        }
    }

    fn asked(&self, who: &str, what: &str, outcome: VisitEnd) {
        if let Some(app) = self.0.upgrade() {
            audit::asked(&app.shared.audit, who, what, outcome);
        }
    }

    fn act(&self, action: Action) -> Pin<Box<dyn Future<Output = Result<Value, Refused>> + Send + '_>> {
        let app = self.0.upgrade().ok_or_else(|| Refused::Conflict("the process is ending".into()));
        Box::pin(async move { act(app?, action).await })
    }
}

async fn act(app: Arc<App>, action: Action) -> Result<Value, Refused> {
    match action {
        Action::Reload => match app.reload(true).await {
            Ok(_) => Ok(json!({"reloaded": app.source.file.is_some(), "generation": app.live().generation})),
            Err(mistakes) => Err(Refused::File(mistakes)),
        },
        Action::Drain => {
            app.leave();
            Ok(json!({"draining": true}))
        }
        // A purge may look at every entry.
        Action::Purge { which, soft } => tokio::task::spawn_blocking(move || cache::purge(&app, which, soft))
            .await
            .unwrap_or_else(|error| Err(Refused::Conflict(error.to_string()))),
        Action::Approve { id, yes } => approvals::answer(&app, &id, yes),
        Action::LiftBan(who) => bans::lift(&app, &who),
        Action::TestAlert(name) => alerts::test(app, &name).await,
        Action::Limit { limit, key, order } => limits::by_hand(&app, limit.as_deref(), key.as_deref(), order),
        Action::Warm(paths) => warm::want(&app, &paths),
        Action::OpenBreaker(name) => breakers::steer(&app, &name, breaker::State::Open),
        Action::CloseBreaker(name) => breakers::steer(&app, &name, breaker::State::Closed),
        Action::Plan(change) => edit::plan(app, change).await,
        Action::Change(change, by) => edit::change(app, change, by).await,
        Action::Erase(_) | Action::Snapshot(_) | Action::Restore(_) => ledger::act(app, action).await,
    }
}

/// The dependencies of the proxy and their states. An open breaker is a target's trouble; the proxy itself serves on.
fn dependencies(app: &App, now: Instant) -> Vec<Dependency> {
    let live = app.live();
    let snapshot = app.shared.breakers.snapshot(now);
    targets_of(&live, &snapshot)
        .into_iter()
        .chain(redis(app))
        .chain([ledger::dependency(app)])
        .chain(certificates::health(&live.config, app.shared.clock.wall()))
        .chain(limits::health(app))
        .chain(audit::dependency(app))
        .chain(memory::dependency(&app.shared.pressure))
        .chain([reload::dependency(app)])
        .collect()
}

/// The app and the providers.
fn targets_of(live: &Live, snapshot: &[breaker::Snapshot]) -> Vec<Dependency> {
    let of = |target: &Arc<Target>| {
        let open = breakers::open_of(snapshot, &target.name);
        let (state, detail) = match target.reached() {
            _ if !open.is_empty() => (State::Down, format!("breaker open: {}", open.join(", "))),
            Reached::No => (State::Down, format!("{} could not be reached when it was last tried", target.origin)),
            Reached::Yes => (State::Ok, target.origin.to_string()),
            Reached::Untried => (State::Ok, format!("{}, not asked for anything yet", target.origin)),
        };
        Dependency { name: target.name.to_string(), state, detail }
    };
    let mut all: Vec<Dependency> = live.targets.iter().map(of).collect();
    soften(&mut all);
    all
}

/// A member that is down is degraded service while another member of its target serves.
fn soften(all: &mut [Dependency]) {
    let whole = |one: &Dependency| one.name.split_once(':').map(|(whole, _)| whole.to_owned());
    let serve: Vec<String> = all.iter().filter(|one| one.state == State::Ok).filter_map(whole).collect();
    for one in all.iter_mut().filter(|one| one.state == State::Down) {
        if whole(one).is_some_and(|whole| serve.contains(&whole)) {
            one.state = State::Degraded;
        }
    }
}

/// Redis away is degraded service, never an outage.
fn redis(app: &App) -> Option<Dependency> {
    let redis = app.redis.as_ref()?;
    let shared = app.shared.cache.stats().shared;
    let unsaid = shared.map_or(0, |shared| shared.unsaid);
    let why = redis.trouble().map(|why| format!(" ({why})")).unwrap_or_default();
    let (state, detail) = match (redis.is_up(), unsaid) {
        (false, 0) => (
            State::Degraded,
            format!("no answer: limits are counted, answers cached and background work charged by this replica alone{why}"),
        ),
        (false, n) => (State::Degraded, format!("no answer: this replica is alone, and {n} purges wait to be told to the others{why}")),
        (true, _) if shared.is_some_and(|shared| !shared.ready) => {
            (State::Degraded, "answers, but purges of the other replicas are still being caught up with; limits are shared".to_owned())
        }
        (true, _) => match store::forgets(redis, &app.live().config) {
            Some(why) => (State::Degraded, why),
            None => (State::Ok, "limits and cached answers are shared".to_owned()),
        },
    };
    Some(Dependency { name: "redis".to_owned(), state, detail })
}

fn routes(app: &App) -> Value {
    let live = app.live();
    let door = |door: &Option<LiveDoor>| {
        door.as_ref().map(|door| {
            let mut routes: Vec<Value> = door.table.rows().map(|(_, at)| door.routes[*at].describe()).collect();
            routes.extend(door.routes.last().map(LiveRoute::describe));
            routes
        })
    };
    json!({"inbound": door(&live.inbound), "outbound": door(&live.outbound)})
}

/// The policies of every route with their numbers.
fn terms(app: &App) -> Value {
    let live = app.live();
    let config = &live.config;
    let door = |door: &Option<LiveDoor>, limits: &[Limit]| {
        door.as_ref().map(|door| {
            let route = |route: &LiveRoute| json!({"name": &*route.name, "policies": applied(door.door, limits, &route.policies, &[], None, config)});
            door.routes.iter().map(route).collect::<Vec<_>>()
        })
    };
    let of_door = (config.inbound.as_ref().map(|door| &door.limits[..]), config.outbound.as_ref().map(|door| &door.limits[..]));
    json!({"inbound": door(&live.inbound, of_door.0.unwrap_or_default()), "outbound": door(&live.outbound, of_door.1.unwrap_or_default())})
}

fn connections(app: &App) -> Value {
    use crate::telemetry::metrics::{Family, Value as Number};
    let mut rows = Vec::new();
    for snapshot in app.telemetry.metrics().gather() {
        if matches!(snapshot.spec.family, Family::Connections | Family::PoolConnections) {
            for (labels, value) in &snapshot.series {
                if let Number::Number(number) = value {
                    let labels: Vec<&str> = labels.iter().map(|label| &**label).collect();
                    rows.push(json!({"what": snapshot.spec.name, "labels": labels, "count": number}));
                }
            }
        }
    }
    json!({"connections": rows, "inbound": app.live().door(Door::Inbound).map(|d| d.port)})
}

fn spend(app: &App) -> Value {
    let callers: Vec<Value> = app
        .shared
        .spend
        .by_caller()
        .into_iter()
        .map(|(caller, spent)| {
            let cost = format!("{}.{:09}", spent.nano_usd / 1_000_000_000, spent.nano_usd % 1_000_000_000);
            json!({"caller": &*caller, "calls": spent.calls, "tokens": spent.tokens, "cost_usd": cost})
        })
        .collect();
    json!({ "callers": callers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_down_where_none_of_its_members_serves() {
        let shown = |states: &[(&str, State)]| {
            let one = |(name, state): &(&str, State)| Dependency { name: (*name).to_owned(), state: *state, detail: String::new() };
            let mut all: Vec<Dependency> = states.iter().map(one).collect();
            soften(&mut all);
            all.into_iter().map(|one| one.state).collect::<Vec<_>>()
        };
        use State::{Degraded, Down, Ok};
        assert_eq!(shown(&[("app:a", Down), ("app:b", Ok), ("openai", Down)]), [Degraded, Ok, Down]);
        assert_eq!(shown(&[("app:a", Down), ("app:b", Down), ("openai", Ok)]), [Down, Down, Ok]);
    }
}
