//! Limits as an operator sees them: their numbers for metrics, and a page.

use std::sync::Arc;

use serde_json::{Value, json};

use super::App;
use crate::{
    admin::{Dependency, LimitOrder, Refused, State},
    clock::Instant,
    config::{Unit, human},
    policy::limits::{Budget, ByHand, Handled, LimitCounts, QueueCounts, Raised},
    telemetry::metrics::{Family, Reading},
};

/// Most budgets in `/health`.
const MOST_TOLD: usize = 16;

/// Registers the numbers of limits, read at every scrape.
pub(super) fn register(app: &Arc<App>) {
    let metrics = app.telemetry.metrics();
    let asks = |family, read: fn(&App) -> Vec<Reading>| {
        let app = Arc::downgrade(app);
        metrics.register(family, Box::new(move || app.upgrade().map(|app| read(&app)).unwrap_or_default()));
    };
    asks(Family::LimitKeys, |app| vec![(Vec::new(), app.shared.limits.keys() as f64)]);
    asks(Family::LimitEvictions, |app| vec![(Vec::new(), app.shared.limits.evictions() as f64)]);
    asks(Family::LimitDecisions, |app| {
        let decisions = |count: &LimitCounts| [("admitted", count.admitted), ("refused", count.refused), ("observed", count.observed)];
        let of = |count: LimitCounts| {
            decisions(&count).map(|(word, n)| (vec![count.door.as_str().to_owned(), count.name.to_string(), word.into()], n as f64))
        };
        app.shared.limits.counts().into_iter().flat_map(of).collect()
    });
    asks(Family::LimitAlerts, |app| {
        let of = |count: LimitCounts| {
            let (door, name) = (count.door.as_str().to_owned(), count.name.to_string());
            count.alerts.into_iter().map(move |(at, n)| (vec![door.clone(), name.clone(), at.to_string()], n as f64)).collect::<Vec<_>>()
        };
        app.shared.limits.counts().into_iter().flat_map(of).collect()
    });
    asks(Family::LimitWaiting, |app| {
        let counts = app.shared.limits.counts().into_iter();
        counts.filter(|count| count.queues).map(|count| (labels(&count, None), count.queue.waiting as f64)).collect()
    });
    asks(Family::LimitQueue, |app| {
        let counts = app.shared.limits.counts().into_iter().filter(|count| count.queues);
        counts.flat_map(|count| outcomes(&count.queue).map(|(word, n)| (labels(&count, Some(word)), n as f64))).collect()
    });
    asks(Family::LimitHeld, |app| vec![(Vec::new(), app.shared.approvals.count() as f64)]);
    asks(Family::LimitSpared, |app| {
        let counts = app.shared.limits.counts().into_iter().filter(|_| app.shared.limits.is_shared());
        counts.map(|count| (labels(&count, None), count.spared as f64)).collect()
    });
}

fn labels(count: &LimitCounts, word: Option<&str>) -> Vec<String> {
    let labels = [count.door.as_str(), &*count.name].into_iter().chain(word);
    labels.map(str::to_owned).collect()
}

fn outcomes(queue: &QueueCounts) -> [(&'static str, u64); 5] {
    let QueueCounts { passed, left, full, too_long, timed_out, .. } = *queue;
    [("passed", passed), ("left", left), ("full", full), ("too_long", too_long), ("timed_out", timed_out)]
}

fn queue(counts: &QueueCounts) -> Value {
    let mut page: serde_json::Map<_, _> = outcomes(counts).into_iter().map(|(word, n)| (word.to_owned(), n.into())).collect();
    page.insert("waiting".into(), counts.waiting.into());
    page.into()
}

/// The limits, for `/api/limits`.
pub(super) fn view(app: &App) -> Value {
    let limits = &app.shared.limits;
    let counts: Vec<Value> = limits
        .counts()
        .iter()
        .map(|count| {
            json!({
                "door": count.door.as_str(), "name": &*count.name, "admitted": count.admitted, "refused": count.refused,
                "observed": count.observed, "skipped": count.skipped, "store_away": count.store_away,
                "store_spared": count.spared, "queue": queue(&count.queue),
            })
        })
        .collect();
    let now = Instant::now();
    let shown = |budgets: Vec<Budget>| budgets.iter().map(|budget| shown(app, budget)).collect::<Vec<_>>();
    let (budgets, near) = (shown(limits.budgets(now)), shown(limits.near(now)));
    let raised: Vec<Value> = limits.raised(now).iter().map(raised).collect();
    json!({"limits": counts, "budgets": budgets, "near": near, "raised": raised, "keys": limits.keys(), "evictions": limits.evictions(), "shared": limits.is_shared()})
}

fn raised(raised: &Raised) -> Value {
    json!({
        "door": raised.door.as_str(), "limit": &*raised.limit, "who": raised.who.as_deref(), "times": f64::from(raised.percent) / 100.0,
        "left_seconds": raised.left.as_secs_f64(),
    })
}

/// Obeys an operator's order for limits.
pub(super) fn by_hand(app: &App, limit: Option<&str>, key: Option<&str>, order: LimitOrder) -> Result<Value, Refused> {
    let order = match order {
        LimitOrder::Reset => ByHand::Reset,
        LimitOrder::Raise { percent, time } => ByHand::Raise { percent, time },
    };
    let done = app.shared.limits.by_hand(limit, key, order, Instant::now()).map_err(Refused::Conflict)?;
    let told = |one: &Handled| json!({"door": one.door.as_str(), "limit": &*one.limit, "counted": one.counted});
    Ok(json!({"done": done.iter().map(told).collect::<Vec<_>>()}))
}

fn shown(app: &App, budget: &Budget) -> Value {
    let spent_at = budget.spent_in.and_then(|wait| app.shared.clock.wall().checked_add(wait));
    json!({
        "door": budget.door.as_str(), "limit": &*budget.limit, "who": budget.who.as_deref(), "unit": budget.unit.as_str(),
        "used": amount(budget.unit, budget.used), "amount": amount(budget.unit, budget.amount),
        "text": text(budget), "spent": budget.spent_in.is_some_and(|wait| wait.is_zero()),
        "spent_at": spent_at.map(|at| humantime::format_rfc3339_seconds(at).to_string()),
    })
}

/// The use in words: `$0.06 of $25 per day`, `2 of 3 requests in flight`, `4 of 10 requests at once`.
fn text(budget: &Budget) -> String {
    let part = human::part_of(budget.unit, budget.used, budget.amount);
    match (budget.unit, budget.window.is_zero()) {
        (Unit::Concurrency, _) => part,
        (_, true) => format!("{part} at once"),
        _ => format!("{part} {}", human::per(budget.window)),
    }
}

/// Dollars as an exact decimal text, other amounts as a number.
fn amount(unit: Unit, amount: u64) -> Value {
    if unit == Unit::NanoUsd { human::usd(amount).into() } else { amount.into() }
}

/// The budgets that are spent or will be spent in their window, for `/health`.
pub(super) fn health(app: &App) -> Vec<Dependency> {
    let budgets = app.shared.limits.budgets(Instant::now());
    let told = |budget: &Budget| {
        let wait = budget.spent_in?;
        let at = app.shared.clock.wall().checked_add(wait)?;
        let who = budget.who.as_deref().unwrap_or("everybody");
        let used = format!("{} {} used by {who}", human::part_of(budget.unit, budget.used, budget.amount), human::per(budget.window));
        let detail = match wait.is_zero() {
            true => format!("spent: {used}"),
            false => format!("{used}; at this rate it is spent at {}", humantime::format_rfc3339_seconds(at)),
        };
        Some(Dependency { name: format!("limit {} ({who})", budget.limit), state: State::Ok, detail })
    };
    budgets.iter().filter_map(told).take(MOST_TOLD).collect()
}
