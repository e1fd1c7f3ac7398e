//! Who is hit by an incident: the callers and routes of the failures since it began, and the dollars that this is about.

use std::sync::Arc;

use super::super::App;
use crate::{
    alert::{Hit, Item, Kind, Notice},
    store::ledger::{Ledger, Measure as Sum, Question},
};

/// Most callers and routes of an item.
const NAMED: usize = 5;
/// Failures this long before the beginning count too, in milliseconds: they made the incident.
const BEFORE: u64 = 15_000;

/// Fills in who is hit. The ledger is read on a thread that may block.
pub(super) async fn enrich(app: &Arc<App>, notice: &mut Notice, wall: u64, steady: u64) {
    if !matches!(notice.kind, Kind::Firing | Kind::Reminder) {
        return;
    }
    for item in &mut notice.items {
        let age = wall.saturating_sub(item.since) + BEFORE;
        item.hit = failures(app, item, steady.saturating_sub(age));
    }
    let (ledger, now) = (app.shared.ledger.clone(), wall);
    let about: Vec<(usize, String, String)> =
        notice.items.iter().enumerate().map(|(at, item)| (at, item.rule.clone(), item.subject.clone())).collect();
    let asked = tokio::task::spawn_blocking(move || {
        about.into_iter().filter_map(|one| Some((one.0, money(&ledger, &one.1, &one.2, now)?))).collect::<Vec<_>>()
    });
    for (at, (nano_usd, callers)) in asked.await.unwrap_or_default() {
        let hit = &mut notice.items[at].hit;
        hit.nano_usd = (nano_usd > 0).then_some(nano_usd);
        if hit.callers.is_empty() {
            hit.caller_count = callers.len();
            hit.callers = callers.into_iter().take(NAMED).collect();
        }
    }
}

/// The failed exchanges that an item is about.
fn failures(app: &App, item: &Item, since: u64) -> Hit {
    let route = item.subject.split_once(" route ");
    // A breaker's name may go on with a model or a group.
    let target = item.subject.split(['/', '@']).next().unwrap_or_default();
    let (mut callers, mut routes) = app.shared.hits.since(since, |struck| match route {
        Some((door, name)) => struck.door == door && *struck.route == *name,
        None => *struck.target == *target,
    });
    let caller_count = callers.len();
    callers.truncate(NAMED);
    routes.truncate(NAMED);
    Hit { callers, caller_count, routes, nano_usd: None }
}

/// Nano-dollars, and callers with their calls.
type Money = (u64, Vec<(Arc<str>, u64)>);

/// Nano-dollars of the last hour that an item is about, and the callers who spent them with their calls. `None`: it is about no money.
fn money(ledger: &Ledger, rule: &str, subject: &str, now: u64) -> Option<Money> {
    let filter = match (subject.split_once(" route "), rule) {
        (Some((door, name)), _) => Some((door.to_owned(), name.to_owned())),
        (None, "breaker" | "keys") => Some(("provider".to_owned(), subject.split(['/', '@']).next()?.to_owned())),
        (None, "spend" | "projection" | "spike" | "unattributed") => None,
        _ => return None,
    };
    let words = [("from".to_owned(), "1h".to_owned()), ("by".to_owned(), "caller".to_owned())].into_iter().chain(filter);
    let asked = Question::read(words.map(|(key, value)| (key.into(), value.into())), now).ok()?;
    let answer = ledger.ask(&asked).ok()?;
    let mut callers: Vec<(u64, Arc<str>, u64)> = answer
        .rows
        .iter()
        .filter_map(|row| Some((row.sums.get(Sum::NanoUsd), row.names.first()?.clone(), row.sums.get(Sum::Calls))))
        .filter(|(_, name, _)| !name.is_empty())
        .collect();
    callers.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Some((answer.total.get(Sum::NanoUsd), callers.into_iter().map(|(_, name, calls)| (name, calls)).collect()))
}
