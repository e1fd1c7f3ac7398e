//! The numbers of a running process as the rules of alerts see them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::super::{App, audit, certificates};
use crate::{
    alert::{Counts, Facts, Gauge, Route, Standing, Totals},
    clock::{Instant, unix},
    config::{Measure, Severity, human},
    policy::{breaker, limits::Budget},
    store::ledger::{Ledger, Measure as Sum, Question},
    telemetry::metrics::{Family, Kind, Value},
};

/// The families that facts come from.
const FAMILIES: &[Family] = &[
    Family::Requests,
    Family::RequestDuration,
    Family::CacheRequests,
    Family::Cost,
    Family::UnattributedCalls,
    Family::GenAiOperationDuration,
    Family::LogDropped,
    Family::OtlpExports,
];

/// Results of a cache lookup that was answered.
const HITS: [&str; 4] = ["hit", "stale", "coalesced", "revalidated"];

/// One look at the process.
pub(super) fn collect(app: &App, usual: Option<u64>) -> Facts {
    let now = Instant::now();
    let moment = app.shared.clock.moment();
    let (routes, totals) = counted(app);
    let mut facts = Facts {
        wall: unix(moment.wall).as_millis() as u64,
        steady: moment.steady_millis(),
        routes,
        totals,
        usual,
        gauges: Vec::new(),
        standing: Vec::new(),
    };
    gauges(app, now, &mut facts.gauges);
    standing(app, now, &mut facts.standing);
    facts
}

/// What the metrics have counted.
fn counted(app: &App) -> (Vec<Route>, Totals) {
    let mut routes: BTreeMap<(Arc<str>, Arc<str>), Counts> = BTreeMap::new();
    let mut totals = Totals::default();
    for family in app.telemetry.metrics().gather_of(FAMILIES) {
        for (labels, value) in &family.series {
            let label = |at: usize| labels.get(at).map_or("", |label| &**label);
            let owned = |at: usize| labels.get(at).cloned().unwrap_or_default();
            let key = || (owned(0), owned(1));
            match (family.spec.family, value) {
                (Family::Requests, Value::Number(n)) => {
                    routes.entry(key()).or_default().requests += *n as u64;
                    totals.arrivals += if label(0) == "inbound" { *n as u64 } else { 0 };
                }
                (Family::RequestDuration, Value::Histogram { bounds, buckets, .. }) => {
                    let counts = routes.entry(key()).or_default();
                    (counts.bounds, counts.buckets) = (bounds, buckets.clone());
                }
                (Family::CacheRequests, Value::Number(n)) if label(2) != "bypass" => {
                    let counts = routes.entry(key()).or_default();
                    counts.lookups += *n as u64;
                    counts.hits += if HITS.contains(&label(2)) { *n as u64 } else { 0 };
                }
                (Family::Cost, Value::Number(n)) => totals.nano_usd += (n * 1e9).round() as u64,
                (Family::UnattributedCalls, Value::Number(n)) => totals.unattributed += *n as u64,
                (Family::GenAiOperationDuration, Value::Histogram { buckets, .. }) => totals.calls += buckets.iter().sum::<u64>(),
                (Family::LogDropped, Value::Number(n)) => totals.lost += *n as u64,
                (Family::OtlpExports, Value::Number(n)) if label(1) == "dropped" => totals.lost += *n as u64,
                _ => {}
            }
        }
    }
    for (door, name, failed) in app.shared.hits.failed() {
        if let Some(counts) = routes.get_mut(&(Arc::from(door), name)) {
            counts.errors = failed.min(counts.requests);
        }
    }
    totals.lost += app.alerts.courier.lost();
    debug_assert!(matches!(Family::RequestDuration.spec().kind, Kind::Histogram(_)));
    (routes.into_iter().map(|((door, name), counts)| Route { door, name, counts }).collect(), totals)
}

fn gauges(app: &App, now: Instant, out: &mut Vec<Gauge>) {
    let live = app.live();
    let pressure = &app.shared.pressure;
    if let Some(budget) = pressure.budget().filter(|budget| *budget > 0) {
        let value = pressure.resident() as f64 / budget as f64;
        let says = format!("the process holds {} MiB of {} MiB", pressure.resident() >> 20, budget >> 20);
        out.push(Gauge { of: Measure::Memory, subject: "proxy".into(), value, says, ..Gauge::default() });
    }
    app.shared.limits.budgets(now).into_iter().for_each(|budget| of_budget(&budget, out));
    for provider in live.providers.iter().filter(|provider| !provider.keys.is_empty()) {
        let resting = provider.keyring.resting(now);
        let value = resting as f64 / provider.keys.len() as f64;
        let says = format!("{resting} of {} keys of {} rest: refused, spent or throttled", provider.keys.len(), provider.name);
        out.push(Gauge { of: Measure::Keys, subject: provider.name.clone(), value, says, ..Gauge::default() });
    }
    let wall = app.shared.clock.wall();
    for (door, identity) in certificates::all(&live.config) {
        let value = identity.not_after as f64 - unix(wall).as_secs_f64();
        let says = format!("the certificate {} {}", identity.file, certificates::outlook(identity, wall).0);
        out.push(Gauge { of: Measure::Certificate, subject: format!("{door} {}", identity.file).into(), value, says, ..Gauge::default() });
    }
}

/// A budget's use, and the time until it is spent.
fn of_budget(budget: &Budget, out: &mut Vec<Gauge>) {
    let who = budget.who.as_deref().unwrap_or("everybody");
    let subject: Arc<str> = format!("{} ({who})", budget.limit).into();
    // One user who uses up what is his is no incident of the service.
    let most = (who.contains("caller") || who.contains("address") || who.contains("client")).then_some(Severity::Low);
    let part = format!("{} {}", human::part_of(budget.unit, budget.used, budget.amount), human::per(budget.window));
    let value = budget.used as f64 / budget.amount.max(1) as f64;
    let says = format!("{who} has used {part} (limit {})", budget.limit);
    out.push(Gauge { of: Measure::Spend, subject: subject.clone(), value, says: says.clone(), most, ..Gauge::default() });
    if let Some(left) = budget.spent_in.filter(|left| !left.is_zero()) {
        let says = format!("{says}; at this rate it is spent in {}", human::wait(left));
        let (value, scope) = (left.as_secs_f64(), budget.window.as_secs_f64());
        out.push(Gauge { of: Measure::Projection, subject, value, scope, says, most });
    }
}

/// Whether a breaker has been open for long past its time, because nobody asks its target any more: a backup, for one.
fn is_forgotten(one: &breaker::Snapshot) -> bool {
    const LONG: Duration = Duration::from_secs(600);
    one.state == breaker::State::Open && !one.forced && one.retry_after == Some(Duration::ZERO) && one.since > LONG
}

fn standing(app: &App, now: Instant, out: &mut Vec<Standing>) {
    let stands = |one: &breaker::Snapshot| one.state != breaker::State::Closed && !is_forgotten(one);
    for one in app.shared.breakers.snapshot(now).into_iter().filter(stands) {
        // What somebody holds open by hand is known.
        let most = one.forced.then_some(Severity::Low);
        let by = if one.forced { "held open by hand" } else { one.state.as_str() };
        out.push(Standing { of: Measure::Breaker, subject: one.name.clone(), says: format!("the breaker of {} is {by}", one.name), most });
    }
    if let Some(monitors) = &app.live().config.monitors {
        out.extend(app.monitors.standing(monitors));
    }
    if let Some(redis) = app.redis.as_ref().filter(|redis| !redis.is_up()) {
        let why = redis.trouble().map(|why| format!(": {why}")).unwrap_or_default();
        let says = format!("Redis does not answer{why}; this replica counts and caches alone");
        out.push(Standing { of: Measure::Redis, subject: "redis".into(), says, most: None });
    }
    if let Some(trouble) = app.shared.ledger.state().trouble {
        let says = format!("the ledger cannot be written: {trouble}");
        out.push(Standing { of: Measure::Ledger, subject: "ledger".into(), says, most: None });
    }
    if let Some(says) = audit::trouble(app) {
        out.push(Standing { of: Measure::Audit, subject: "audit".into(), says, most: None });
    }
    if let Some(why) = &app.last_reload.lock().refused {
        let first = why.lines().next().unwrap_or_default();
        let says = format!("the configuration on disk is refused, the one before serves on: {first}");
        out.push(Standing { of: Measure::Reload, subject: "configuration".into(), says, most: None });
    }
}

/// What an hour like this one usually costs: the mean of the same hour of the last seven days, from the ledger. Asked once an hour.
#[derive(Debug, Default)]
pub(super) struct Usual {
    hour: Option<u64>,
    value: Option<u64>,
}

impl Usual {
    pub(super) fn value(&self) -> Option<u64> {
        self.value
    }

    pub(super) async fn renew(&mut self, app: &Arc<App>) {
        const HOUR: u64 = 3_600_000;
        let hour = app.shared.clock.unix_millis() / HOUR;
        if self.hour == Some(hour) {
            return;
        }
        self.hour = Some(hour);
        let ledger = app.shared.ledger.clone();
        let asked = tokio::task::spawn_blocking(move || usual(&ledger, hour));
        self.value = asked.await.ok().flatten();
    }
}

/// Nano-dollars of the hour of the day of `hour` (hours since 1970): the mean of the last seven days, as far as the ledger knows them.
fn usual(ledger: &Ledger, hour: u64) -> Option<u64> {
    const HOUR: u64 = 3_600_000;
    let words = [("from", "7d"), ("bucket", "hour")].map(|(key, value)| (key.into(), value.into()));
    let answer = ledger.ask(&Question::read(words.into_iter(), hour * HOUR).ok()?).ok()?;
    let of_day = |minute: u64| minute / 60 % 24;
    let same = answer.rows.iter().filter(|row| of_day(u64::from(row.part.0)) == hour % 24 && u64::from(row.part.0) / 60 < hour);
    let sum: u64 = same.map(|row| row.sums.get(Sum::NanoUsd)).sum();
    // Days of which the ledger knows the whole hour.
    let days = (hour.saturating_sub(u64::from(answer.since).div_ceil(60)) / 24).min(7);
    (days > 0).then(|| sum / days)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        arrival::Door,
        clock::Clock,
        config::Unit,
        store::ledger::{Entry, Outcome, Terms},
        usage::{Usage, UsageSource},
    };

    #[test]
    fn a_budget_is_its_use_and_the_time_that_is_left() {
        let budget = Budget {
            door: Door::Outbound,
            limit: "budget".into(),
            who: None,
            unit: Unit::NanoUsd,
            used: 20_000_000_000,
            amount: 25_000_000_000,
            window: Duration::from_secs(86_400),
            spent_in: Some(Duration::from_secs(1_800)),
        };
        let of = |budget: &Budget| {
            let mut out = Vec::new();
            of_budget(budget, &mut out);
            out
        };
        let gauges = of(&budget);
        assert_eq!((gauges[0].of, gauges[0].value, gauges[0].most), (Measure::Spend, 0.8, None));
        assert_eq!((gauges[1].of, gauges[1].value, gauges[1].scope), (Measure::Projection, 1_800.0, 86_400.0));
        assert!(gauges[1].says.contains("everybody has used") && gauges[1].says.contains("it is spent in 30 min"), "{}", gauges[1].says);
        let own = Budget { who: Some("caller ann".into()), spent_in: Some(Duration::ZERO), ..budget };
        let gauges = of(&own);
        assert_eq!((gauges.len(), gauges[0].most), (1, Some(Severity::Low)), "one user's own limit; spent is spent");
    }

    /// The book of a process that began `age` days before the hour; `spend` gives the nano-dollars of each hour, oldest first. The clock
    /// then stands at the hour.
    async fn book(hour: u64, age: u64, spend: impl Fn(u64) -> u64) -> Ledger {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let terms = Terms {
            dir: None,
            interval: Duration::from_secs(1),
            keep: [days(2), days(60), days(730)],
            callers: 1_000,
            size: 1 << 30,
            grace: Duration::from_secs(3_600),
            patience: Duration::from_millis(10),
        };
        let begin = hour - age * 24;
        let ledger = Ledger::new(terms, Clock::fixed(UNIX_EPOCH + Duration::from_secs(begin * 3_600)));
        let journal = ledger.worker();
        for now in begin..=hour {
            journal.push(Entry {
                minute: u32::try_from(now * 60).expect("a minute"),
                caller: "ann".into(),
                inbound: None,
                outbound: "chat".into(),
                provider: "openai".into(),
                model: "m".into(),
                tier: "",
                outcome: Outcome::Complete,
                known: UsageSource::Provider.into(),
                calls: 1,
                usage: Usage::default(),
                nano_usd: Some(spend(now)),
                saved: (0, 0),
            });
            ledger.commit();
            tokio::time::advance(Duration::from_secs(if now < hour { 3_600 } else { 0 })).await;
        }
        ledger
    }

    #[tokio::test(start_paused = true)]
    async fn the_usual_hour_is_the_mean_of_the_same_hour_of_the_days_before() {
        const HOUR: u64 = 500_002;
        // Day by day more, and much more in the hours beside it and in the present one.
        let spend = |hour: u64| match HOUR - hour {
            0 => 50_000_000,
            back if back % 24 == 0 => back / 24 * 1_000,
            _ => 9_000_000,
        };
        assert_eq!(usual(&book(HOUR, 7, spend).await, HOUR), Some(4_000));
        assert_eq!(usual(&book(HOUR, 30, spend).await, HOUR), Some(4_000), "a week, whatever was before");
        assert_eq!(usual(&book(HOUR, 2, |hour| if hour == HOUR - 24 { 3_000 } else { 0 }).await, HOUR), Some(1_500));
        assert_eq!(usual(&book(HOUR, 0, spend).await, HOUR), None, "nobody knows on the first day");
    }
}
