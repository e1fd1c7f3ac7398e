//! Who is hit by an incident: the callers and routes of the failures since it began, and the dollars that this is about.

use std::sync::Arc;

use super::super::App;
use crate::{
    alert::{Hit, Item, Kind, Notice},
    config::Measure,
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
    let live = app.live();
    let rules = live.config.alerts.as_ref().map_or(&[][..], |alerts| &alerts.rules);
    let measure = |item: &Item| rules.iter().find(|rule| *rule.name == *item.rule).map(|rule| rule.of);
    let about: Vec<(usize, Filters)> =
        notice.items.iter().enumerate().filter_map(|(at, item)| Some((at, filters(measure(item)?, &item.subject)?))).collect();
    let asked = tokio::task::spawn_blocking(move || {
        about.into_iter().filter_map(|(at, filters)| Some((at, money(&ledger, filters, now)?))).collect::<Vec<_>>()
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
    let target = item.subject.split(['/', '@', '#']).next().unwrap_or_default();
    let (mut callers, mut routes) = app.shared.hits.since(since, |struck| match route {
        Some((door, name)) => struck.door == door && *struck.route == *name,
        None => is_of(&struck.target, target),
    });
    let caller_count = callers.len();
    callers.truncate(NAMED);
    routes.truncate(NAMED);
    Hit { callers, caller_count, routes, nano_usd: None }
}

/// Whether a target is this one, or one of its addresses (`app:NAME`).
fn is_of(target: &str, subject: &str) -> bool {
    target.strip_prefix(subject).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

/// Nano-dollars, and callers with their calls.
type Money = (u64, Vec<(Arc<str>, u64)>);

/// Conditions of a question to the ledger.
type Filters = Vec<(String, String)>;

/// The part of the ledger that an item is about. `None`: it is about no money.
fn filters(of: Measure, subject: &str) -> Option<Filters> {
    let one = |word: &str, value: &str| (word.to_owned(), value.to_owned());
    match of {
        Measure::Breaker | Measure::Keys => Some(vec![one("provider", subject.split(['/', '@', '#']).next()?)]),
        // `limit (caller ann, provider openai)`: whose budget it is. What the ledger cannot tell apart stays whole.
        Measure::Spend | Measure::Projection => {
            let whose = subject.split_once(" (").map_or("", |(_, whose)| whose.strip_suffix(')').unwrap_or(whose));
            let part = |part: &str| {
                let (word, value) = part.split_once(' ')?;
                ["caller", "provider", "model"].contains(&word).then(|| one(word, value))
            };
            Some(whose.split(", ").filter_map(part).collect())
        }
        Measure::Spike | Measure::Unattributed => Some(Vec::new()),
        _ => subject.split_once(" route ").map(|(door, name)| vec![one(door, name)]),
    }
}

/// Nano-dollars of the last hour that an item is about, and the callers who spent them with their calls.
fn money(ledger: &Ledger, filters: Filters, now: u64) -> Option<Money> {
    let words = [("from".to_owned(), "1h".to_owned()), ("by".to_owned(), "caller".to_owned())].into_iter().chain(filters);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_of_several_addresses_is_hit_where_one_of_them_is() {
        let of_app = ["app", "app:one", "apple", "ap"].map(|target| is_of(target, "app"));
        assert_eq!(of_app, [true, true, false, false]);
        assert!(!is_of("app", "app:one"));
    }

    #[test]
    fn a_budget_is_the_money_of_its_own_users_whatever_the_rule_is_called() {
        let of = |of: Measure, subject: &str| {
            filters(of, subject).map(|filters| filters.iter().map(|(word, value)| format!("{word}={value}")).collect::<Vec<_>>().join("&"))
        };
        assert_eq!(of(Measure::Spend, "plan (caller ann, provider openai)").as_deref(), Some("caller=ann&provider=openai"));
        assert_eq!(of(Measure::Spend, "plan (caller ann, route chat)").as_deref(), Some("caller=ann"));
        assert_eq!(of(Measure::Projection, "budget (everybody)").as_deref(), Some(""));
        assert_eq!(of(Measure::Spend, "inbound (caller ann (b))").as_deref(), Some("caller=ann (b)"));
        assert_eq!(of(Measure::ErrorRate, "outbound route chat").as_deref(), Some("outbound=chat"));
        assert_eq!(of(Measure::Breaker, "openai#team-a/gpt-4o@chat").as_deref(), Some("provider=openai"));
        assert_eq!(of(Measure::Memory, "proxy"), None);
    }
}
