//! The guards of the tries at one target, and the free tries that need no policy.

use std::{sync::Arc, time::Duration};

use super::{
    Proxy,
    ask::Ask,
    judged::Tried,
    live::{BreakerOf, LiveRoute},
    sending::{Aim, Sending},
};
use crate::{
    arrival::Door,
    clock::Instant,
    config::{self, Mode},
    policy::{
        breaker::{Breaker, Permit},
        retry::{self, Budget, Judgement, Next, Standing},
        timeout::Deadline,
    },
    reject::Reject,
    telemetry::failures::RECONNECT,
};

/// Stands in the place of a route in the name of a member's breaker, where no route has one. It is no name of a route.
const BALANCE: &str = "(balance)";

/// The guards of the tries at one target.
pub(super) struct Guards {
    breaker: Option<Arc<Breaker>>,
    /// Whether the breaker was asked for this try already.
    permitted: bool,
    budget: Arc<Budget>,
    repeatable: bool,
    /// Whether an unanswered request may be sent again without a policy.
    idempotent: bool,
    /// Whether the client repeats a call that was given up.
    repeats: bool,
    /// Whether a policy allows any retry.
    pub(super) retries: bool,
}

impl Guards {
    /// The guards of the tries at `aim`.
    pub(super) fn of(proxy: &Proxy, ask: &Ask, route: &LiveRoute, aim: &Aim<'_>, was_given_up: bool) -> Self {
        let (arrival, target, policy) = (&ask.arrival, aim.name(), route.policies.retry.as_ref());
        let model = aim.model.or_else(|| ask.call().and_then(|call| call.model.as_ref()));
        let group = route.group.as_deref();
        // A target with several members or keys has a breaker for each.
        let pools = aim.among.is_some() || aim.provider.is_some_and(|provider| provider.keyring.is_pool());
        let breaker = route.policies.breaker.as_ref().filter(|_| !pools).map(|terms| {
            let of = BreakerOf { target, key: None, model: model.map(|model| &**model) };
            ask.worker.breaker(&proxy.shared.breakers, terms, group, &of)
        });
        let budget = ask.worker.budget(&proxy.shared.budgets, policy, group, target);
        let repeats = policy.is_some() && ask.door() == Door::Outbound && (retry::is_repeat(&arrival.headers) || was_given_up);
        if policy.is_some() {
            budget.deposit(Instant::now());
            if repeats {
                budget.drawn_by_caller(Instant::now());
            }
        }
        let repeatable = retry::repeatable(arrival.door, &arrival.method, &arrival.headers, policy);
        Self {
            breaker,
            permitted: false,
            budget,
            repeatable,
            idempotent: retry::repeatable(Door::Inbound, &arrival.method, &arrival.headers, None),
            repeats,
            retries: repeatable && policy.is_some_and(|policy| policy.mode == Mode::Enforce && policy.max_retries > 0),
        }
    }

    /// From now on the breaker is that of this key.
    pub(super) fn turn_to_key(&mut self, proxy: &Proxy, ask: &Ask, route: &LiveRoute, aim: &Aim<'_>, key: &str) {
        let Some(terms) = &route.policies.breaker else { return };
        let model = aim.model.or_else(|| ask.call().and_then(|call| call.model.as_ref())).map(|model| &**model);
        let of = BreakerOf { target: &aim.pool.target.name, key: Some(key), model };
        self.breaker = Some(ask.worker.breaker(&proxy.shared.breakers, terms, route.group.as_deref(), &of));
    }

    /// From now on the breaker is that of the aim's member; where the route has none, one with the terms of `health`.
    pub(super) fn turn_to_member(&mut self, proxy: &Proxy, ask: &Ask, route: &LiveRoute, aim: &Aim<'_>, health: &config::Breaker) {
        let target = &*aim.pool.target.name;
        let breakers = &proxy.shared.breakers;
        let pools_keys = aim.provider.is_some_and(|provider| provider.keyring.is_pool());
        self.permitted = false;
        self.breaker = match &route.policies.breaker {
            // Each key there has a breaker of its own.
            Some(_) if pools_keys => None,
            Some(terms) => {
                let model = aim.model.or_else(|| ask.call().and_then(|call| call.model.as_ref())).map(|model| &**model);
                Some(ask.worker.breaker(breakers, terms, route.group.as_deref(), &BreakerOf { target, key: None, model }))
            }
            // A name of its own: a route's breaker on the same member has other terms.
            None => Some(ask.worker.breaker(breakers, health, Some(BALANCE), &BreakerOf { target, key: None, model: None })),
        };
    }

    /// The permit of the member's breaker, once for all the keys that may be chosen there. `force`: whatever the breaker says.
    ///
    /// # Errors
    /// The breaker is open.
    pub(super) fn permit_once(&mut self, target: &Arc<str>, force: bool) -> Result<Option<Permit>, Reject> {
        let permit = if force { None } else { self.permit(target)? };
        self.permitted = true;
        Ok(permit)
    }

    /// The breaker's permit for a try; `None`: there is no breaker.
    ///
    /// # Errors
    /// The breaker is open.
    pub(super) fn permit(&self, target: &Arc<str>) -> Result<Option<Permit>, Reject> {
        let permit = self.breaker.as_ref().filter(|_| !self.permitted).map(|breaker| breaker.permit(Instant::now())).transpose();
        permit.map_err(|open| Reject::BreakerOpen { target: target.clone(), retry_after: open.retry_after })
    }

    /// The breaker's state; `None`: there is no breaker.
    pub(super) fn breaker_state(&self) -> Option<&'static str> {
        self.breaker.as_ref().map(|breaker| breaker.state().as_str())
    }

    /// The time until the breaker's next probe; `None`: it is not open.
    pub(super) fn rests(&self, now: Instant) -> Option<Duration> {
        self.breaker.as_ref()?.rests(now)
    }

    /// The retry policy's judgement of a try.
    pub(super) fn judge(&self, proxy: &Proxy, sending: &Sending, route: &LiveRoute, tried: &Tried, made: u32, next: Next) -> Judgement {
        let (ask, policy) = (&sending.ask, route.policies.retry.as_ref());
        // Only a policy or a deadline needs the time: it costs a clock read.
        let timed = policy.is_some() || ask.deadline() != Deadline::NONE;
        let now = if timed { Instant::now() } else { ask.arrival.at };
        let standing = Standing {
            made,
            repeatable: self.repeatable,
            replayable: sending.body.can_repeat(),
            left: ask.deadline().left(now),
            next,
            repeats: self.repeats,
        };
        retry::judge(&tried.outcome, &standing, policy, &self.budget, &proxy.chance, now)
    }
}

/// Tries that need no policy: the target has done no work, or another key may do better at once.
pub(super) struct FreeTries {
    reconnected: bool,
    keys: usize,
    members: usize,
}

impl FreeTries {
    /// The free tries at `aim`, before the first try.
    pub(super) fn at(aim: &Aim<'_>) -> Self {
        let keys = aim.provider.map_or(0, |provider| provider.keys.len().saturating_sub(1));
        Self { reconnected: false, keys, members: aim.among.map_or(0, |among| among.others()) }
    }

    /// Whether the connection was closed while it was idle, so that the same request is sent once more over another one.
    pub(super) fn reconnects(&self, tried: &Tried, guards: &Guards) -> bool {
        !self.reconnected && tried.broke.is_some_and(|broke| retry::safe_reconnect(broke, guards.idempotent))
    }

    /// The reason of a free try after this one; `None`: no free try follows.
    pub(super) fn next(&mut self, sending: &mut Sending, tried: &Tried, guards: &Guards) -> Option<&'static str> {
        if !sending.body.can_repeat() {
            return None;
        }
        if tried.refuses_usage && sending.forget_usage() {
            return Some("stream_options");
        }
        if tried.another_key && self.keys > 0 {
            self.keys -= 1;
            return Some("another_key");
        }
        if self.reconnects(tried, guards) {
            self.reconnected = true;
            return Some(RECONNECT);
        }
        if tried.another_member && self.members > 0 {
            self.members -= 1;
            return Some("another_member");
        }
        None
    }
}
