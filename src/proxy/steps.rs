//! The steps of an exchange's tries, for the story of an exchange that fails. A try that goes well is not noted.

use std::time::Duration;

use super::{
    ask::{Ask, TryLog},
    ending::Ending,
    guards::Guards,
    judged::Tried,
    sending::Aim,
};
use crate::{
    clock::Instant,
    policy::retry::Next,
    provider::ErrorClass,
    reject::Reject,
    telemetry::failures::{Then, TryStep},
};

/// How a try ends whose key is not accepted.
const BAD_KEY: &str = ErrorClass::BadKey.as_str();
/// Most steps of one exchange.
const MOST: usize = 16;

impl TryLog {
    fn note(&self, step: TryStep) {
        let mut steps = self.steps.borrow_mut();
        if steps.len() < MOST {
            steps.push(step);
        }
    }
}

/// Notes a try and what follows it.
pub(super) fn tried(ask: &Ask, aim: &Aim<'_>, guards: &Guards, tried: &Tried, then: Then) {
    let status = tried.answer.as_ref().map_or(0, |attempted| attempted.head.status.as_u16());
    ask.tries.note(TryStep { status, breaker: guards.breaker_state(), ..step(ask, aim, tried.word, then) });
}

/// Notes the try whose answer is kept, unless the try went well.
pub(super) fn kept(ask: &Ask, aim: &Aim<'_>, guards: &Guards, last: &Tried) {
    if last.word != "ok" {
        tried(ask, aim, guards, last, if last.answer.is_ok() { Then::Answered } else { Then::GaveUp });
    }
}

/// Notes a try that ends the exchange, after which no target may be tried: the client is at fault, or its time is over.
pub(super) fn ended(ask: &Ask, aim: &Aim<'_>, guards: &Guards, reject: &Reject) {
    ask.tries.policy_ran.set(guards.retries);
    ask.tries.note(TryStep { breaker: guards.breaker_state(), ..step(ask, aim, reject.reason(), Then::GaveUp) });
}

/// Notes a target that was not asked. `next`: what follows.
pub(super) fn passed_over(ask: &Ask, aim: &Aim<'_>, guards: Option<&Guards>, reject: &Reject, next: Next) {
    let then = if next == Next::Nothing { Then::GaveUp } else { Then::NextTarget };
    let now = Instant::now();
    let at = now.saturating_duration_since(ask.arrival.at);
    let breaker = guards.and_then(Guards::breaker_state);
    ask.tries.note(TryStep { at, took: Default::default(), is_try: false, breaker, ..step(ask, aim, reject.reason(), then) });
}

/// Notes a target whose keys rest: it is asked after a pause.
pub(super) fn waited(ask: &Ask, aim: &Aim<'_>, guards: &Guards, reject: &Reject, pause: Duration) {
    let at = Instant::now().saturating_duration_since(ask.arrival.at);
    let step = step(ask, aim, reject.reason(), Then::Retried(pause));
    ask.tries.note(TryStep { at, took: Duration::ZERO, is_try: false, breaker: guards.breaker_state(), ..step });
}

/// A step that began with the last try and ends now.
fn step(ask: &Ask, aim: &Aim<'_>, result: &'static str, then: Then) -> TryStep {
    let began = ask.tries.began.get().unwrap_or(ask.arrival.at);
    TryStep {
        at: began.saturating_duration_since(ask.arrival.at),
        target: aim.pool.target.name.clone(),
        model: aim.model.cloned(),
        result,
        status: 0,
        took: began.elapsed(),
        then,
        breaker: None,
        is_try: true,
        own_key: result == BAD_KEY && aim.provider.is_some_and(|provider| provider.keys.is_empty()),
    }
}

/// The steps of an exchange that is over. The last try is added if it was not noted: it went well, or nobody waited for its end.
pub(super) fn of(ending: &Ending) -> Vec<TryStep> {
    let (ask, tries) = (&ending.ask, &ending.ask.tries);
    let mut steps = tries.steps.borrow().clone();
    let noted = steps.iter().filter(|step| step.is_try).count();
    let target = tries.target.borrow();
    if let (Some(target), Some(began)) = (&*target, tries.began.get())
        && noted < tries.made.get() as usize
        && steps.len() < MOST
    {
        let (answered, took) = match tries.last.get() {
            Some(took) if ending.answer.status != 0 => (true, took),
            _ => (false, ending.at.saturating_duration_since(began)),
        };
        steps.push(TryStep {
            at: began.saturating_duration_since(ask.arrival.at),
            target: target.clone(),
            model: tries.fallback.borrow().as_ref().and_then(|fallen| fallen.model.clone()),
            result: if answered { "ok" } else { "abandoned" },
            status: if answered { ending.answer.status } else { 0 },
            took,
            then: if answered { Then::Answered } else { Then::GaveUp },
            breaker: None,
            is_try: true,
            own_key: false,
        });
    }
    steps
}
