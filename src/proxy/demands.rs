//! A request's demands on the limits: those of its own door and, for a model call, those of the inbound route that caused it.

use std::rc::Rc;

use super::{
    Proxy, acts,
    ask::{Ask, Origin},
    exchange::Exchange,
    live::LiveRoute,
    model::ModelCall,
};
use crate::{
    arrival::{Arrival, Door},
    clock::Instant,
    config::{Api, Applies, OnLimit, Unattributed, Unit},
    policy::{
        limits::{Demand, Estimate, KeyFacts, Keyed, Lease, LimitSet, Over, Question},
        preflight,
    },
    provider::{self, Billed, Observed, Shape, batch},
    reject::Reject,
    telemetry::metrics::Family,
    upstream::headers,
};

/// A batch whose requests are not known.
pub(crate) const BATCH: &str = "a batch whose requests are not known (its file did not pass through this proxy, or cannot be read)";

/// The model calls that the limits refuse.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Refuses {
    /// Calls whose cost no answer states.
    pub(crate) unmetered: bool,
    /// Calls that may or may not cost money.
    pub(crate) unknown: bool,
}

/// The refusal of a call whose cost no answer states, if a limit needs the cost. `rest`: path and query after the provider's name.
pub(crate) fn unmetered(arrival: &Arrival, shape: &Shape, rest: &str, refuses: Refuses) -> Option<Reject> {
    match billed(arrival, shape) {
        Billed::Elsewhere(what) if refuses.unmetered => Some(Reject::Unmetered((*what).into())),
        Billed::ByAnswer if refuses.unmetered => {
            shape.silent.map(|silent| Reject::Unmetered(format!("{} ({})", silent.work, silent.remedy).into()))
        }
        // A call of unknown cost may be free.
        Billed::Unknown if refuses.unknown => {
            let path = rest.split('?').next().unwrap_or_default();
            Some(Reject::Unmetered(format!("{} {}", arrival.method, path.chars().take(128).collect::<String>()).into()))
        }
        _ => None,
    }
}

/// How the provider bills the work that a request starts, a WebSocket included.
fn billed<'a>(arrival: &Arrival, shape: &'a Shape) -> &'a Billed {
    // A provider without a model API is not metered: no bill is claimed.
    let opens = shape.api != Api::Plain && headers::wants_websocket(arrival);
    match shape.session {
        _ if !opens => &shape.billed,
        // A session's events are read while they pass.
        Some(_) => &Billed::ByAnswer,
        None => &provider::billed::WEBSOCKET,
    }
}

/// The spent limits that have acted and let the request through.
fn over(ask: &Ask) -> Option<Rc<Over>> {
    ask.over.borrow().clone()
}

/// Limits of the inbound route that caused a call.
fn caused(call: &ModelCall) -> Option<&LimitSet> {
    call.join.sure().and_then(|cause| cause.charge.as_ref()).map(Keyed::set)
}

const UNATTRIBUTED: &str = "no caller is known for this model call, and `outbound.unattributed: refuse` asks for one: pass the x-request-id, the \
                            traceparent or the baggage of the inbound request on, or send outrigger-caller from the app's own host";

/// Whether a call is refused because no caller is known for it. The proxy's own calls have the proxy as their caller.
fn refuses_unattributed(ask: &Ask, call: &ModelCall) -> bool {
    let refuses = ask.worker.live.config.outbound.as_ref().is_some_and(|outbound| outbound.unattributed == Unattributed::Refuse);
    refuses && ask.caller_name().is_none() && call.join.sure().is_none() && ask.origin == Origin::Client
}

/// Whether a limit counts the tokens or dollars of a call.
pub(super) fn spends(ask: &Ask) -> bool {
    let counts = |set: &LimitSet| set.counts(Unit::Tokens) || set.counts(Unit::NanoUsd);
    ask.route().is_some_and(|route| counts(&route.limits)) || ask.call().and_then(caused).is_some_and(counts)
}

/// Whether a limit refuses a call whose cost no answer states.
pub(super) fn refuses_unmetered(ask: &Ask) -> bool {
    let own = ask.route().is_some_and(|route| route.limits.refuses_unmetered());
    own || ask.call().and_then(caused).is_some_and(LimitSet::refuses_unmetered)
}

/// Counts a call that passes although no answer states its cost, and logs it if a limit would have had to count the cost.
pub fn tell_unmetered(ask: &Ask, call: &ModelCall) {
    match (billed(&ask.arrival, &call.shape), call.shape.silent) {
        (Billed::Elsewhere(what), _) => tell_unmetered_work(ask, what),
        (Billed::ByAnswer, Some(silent)) => tell_unmetered_work(ask, silent.work),
        _ => {}
    }
}

/// Counts work that passes although no answer states its cost, and logs it if a limit would have had to count the cost.
pub(super) fn tell_unmetered_work(ask: &Ask, what: &'static str) {
    let Some(call) = ask.call() else { return };
    ask.proxy.telemetry.metrics.counter(Family::UnmeteredCalls, &[&call.provider, what]).inc();
    let caused = caused(call);
    if ask.route().is_some_and(|route| route.limits.enforces_spend()) || caused.is_some_and(LimitSet::enforces_spend) {
        tracing::warn!(provider = %call.provider, what, "passes the limits on tokens and dollars uncounted, as `unmetered: allow` says");
    }
}

/// The facts of which keys are built.
pub(super) fn facts<'a>(ask: &'a Ask, route: &'a LiveRoute, provider: Option<&'a str>, model: Option<&'a str>) -> KeyFacts<'a> {
    let arrival = &ask.arrival;
    KeyFacts {
        client_ip: arrival.client,
        caller: ask.caller_name(),
        proof: ask.proof(),
        headers: &arrival.headers,
        query: arrival.uri.query(),
        trusted: arrival.trusted,
        route: &route.name,
        provider,
        model,
    }
}

/// A request's demands on the limits at one target, and the keys that it counts under.
pub struct Demands {
    /// Limits of the door and the route; `None`: there are none.
    own: Option<Keyed>,
    tokens: Estimate,
    nano_usd: Estimate,
    unpriced: Option<Reject>,
}

impl Demands {
    /// The demands at the target that was asked for.
    pub fn of(ask: &Ask, route: &LiveRoute) -> Self {
        if let Some(degraded) = ask.degraded.get() {
            let provider = &ask.worker.live.providers[degraded.provider_at].name;
            return Self::with(ask, route, Some(provider), Some(&degraded.model));
        }
        let call = ask.call();
        Self::with(ask, route, call.map(|call| &*call.provider), call.and_then(|call| call.model.as_deref()))
    }

    /// The demands at another target, or at the same one once more.
    pub fn at(ask: &Ask, route: &LiveRoute, provider: &str, model: Option<&str>) -> Self {
        let asked = ask.call().and_then(|call| call.model.as_deref());
        Self::with(ask, route, Some(provider), model.or(asked))
    }

    fn with(ask: &Ask, route: &LiveRoute, provider: Option<&str>, model: Option<&str>) -> Self {
        let arrival = &ask.arrival;
        // Limits count a page's own request, not the browser's preflight before it.
        let preflight = !route.counts_preflights && preflight::is_preflight(&arrival.method, &arrival.headers);
        let own = (!route.limits.is_empty() && ask.origin != Origin::Warming && !preflight)
            .then(|| route.limits.keyed(&facts(ask, route, provider, model)));
        let mut demands = Self { own, tokens: Estimate::Unknown, nano_usd: Estimate::Unknown, unpriced: None };
        let Some(call) = ask.call() else { return demands };
        if call.shape.orders_nothing() && !headers::wants_websocket(arrival) {
            (demands.tokens, demands.nano_usd) = (Estimate::Nothing, Estimate::Nothing);
            return demands;
        }
        if refuses_unattributed(ask, call) {
            demands.unpriced = Some(Reject::Forbidden(UNATTRIBUTED.into()));
            return demands;
        }
        let caused = caused(call);
        let any = |refuses: fn(&LimitSet) -> bool| refuses(&route.limits) || caused.is_some_and(refuses);
        let refuses = Refuses { unmetered: any(LimitSet::refuses_unmetered), unknown: any(LimitSet::refuses_unknown) };
        demands.unpriced = unmetered(arrival, &call.shape, &call.rest, refuses);
        match model {
            // The first reservation comes with the first response; a model without a price is refused before.
            Some(model) if call.shape.session.is_some() && headers::wants_websocket(arrival) => {
                let unpriced = any(LimitSet::refuses_unpriced) && !ask.worker.live.prices.knows(model);
                demands.unpriced = demands.unpriced.or_else(|| unpriced.then(|| Reject::Unpriced(model.into())));
            }
            _ if call.shape.billed == Billed::AsBatch => match &call.batch {
                Some(batch) => demands.expect_batch(ask, any(LimitSet::refuses_unpriced), batch),
                None if refuses.unmetered => demands.unpriced = Some(Reject::Unmetered(BATCH.into())),
                None => {}
            },
            model if call.shape.billed == Billed::ByAnswer && call.facts.is_some() => {
                demands.expect(ask, route, model, &call.expecting(&ask.proxy.shared.ratios, model));
            }
            _ => {}
        }
        demands
    }

    /// Demands room for an answer like this.
    pub fn expect(&mut self, ask: &Ask, route: &LiveRoute, model: Option<&str>, answer: &Observed) {
        let caused = ask.call().and_then(caused);
        self.tokens = answer.usage.total().into();
        if route.limits.counts(Unit::NanoUsd) || caused.is_some_and(|set| set.counts(Unit::NanoUsd)) {
            let model = model.unwrap_or_default();
            let prices = &ask.worker.live.prices;
            match prices.charge(Some(model), answer) {
                Some(_) if prices.is_free(model) => self.nano_usd = Estimate::Nothing,
                Some(cost) => self.nano_usd = cost.into(),
                None if route.limits.refuses_unpriced() || caused.is_some_and(LimitSet::refuses_unpriced) => {
                    self.unpriced = Some(Reject::Unpriced(model.into()));
                }
                None => {}
            }
        }
    }

    /// Demands room for a batch, at the batch price.
    fn expect_batch(&mut self, ask: &Ask, refuses_unpriced: bool, batch: &batch::Expected) {
        self.tokens = batch.usage().total().into();
        match batch.cost(&ask.worker.live.prices) {
            Ok(nano_usd) => self.nano_usd = nano_usd.into(),
            Err(model) if refuses_unpriced => self.unpriced = Some(Reject::Unpriced(model.into())),
            Err(_) => {}
        }
    }

    /// The keys of the request's own limits.
    pub fn own(&self) -> Option<&Keyed> {
        self.own.as_ref()
    }

    /// The keys that outbound calls reserve against, if a limit counts tokens or dollars.
    pub fn spendable(&self) -> Option<&Keyed> {
        self.own.as_ref().filter(|keyed| keyed.set().counts(Unit::Tokens) || keyed.set().counts(Unit::NanoUsd))
    }

    /// Takes the demand at `stage` from all limits at once, or from none.
    ///
    /// # Errors
    /// A limit has no room, or the model has no price and needs one.
    pub async fn admit(&self, proxy: &Rc<Proxy>, exchange: &mut Exchange, stage: Applies) -> Result<(), Reject> {
        if !self.asks(&exchange.ask, stage) {
            return Ok(());
        }
        match self.ask_limits(proxy, exchange, stage).await {
            Err(Reject::Limited(limited)) if limited.act != OnLimit::Refuse => Box::pin(acts::act(proxy, exchange, stage, limited)).await,
            done => done,
        }
    }

    /// Whether a limit is asked at `stage`, or refuses without being asked.
    fn asks(&self, ask: &Ask, stage: Applies) -> bool {
        let caused = || self.unpriced.is_some() || ask.call().and_then(caused).is_some();
        self.own.as_ref().is_some_and(|keyed| keyed.set().applies(stage)) || stage == Applies::Misses && caused()
    }

    /// The dollars that the call is expected to cost; `None`: nobody knows.
    pub(super) fn expected_nano_usd(&self) -> Option<u64> {
        if let Estimate::About(nano_usd) = self.nano_usd { Some(nano_usd) } else { None }
    }

    /// As [`admit`](Self::admit), but a spent limit always refuses.
    pub(super) async fn ask_limits(&self, proxy: &Proxy, exchange: &mut Exchange, stage: Applies) -> Result<(), Reject> {
        let ask = exchange.ask.clone();
        let over = over(&ask);
        let over = over.as_deref();
        let own = self.own.as_ref().filter(|keyed| keyed.set().applies(stage)).map(|keyed| Question {
            keyed,
            demand: Demand {
                over,
                ..match ask.door() {
                    Door::Inbound => Demand::arrival(stage),
                    Door::Outbound => Demand::call(stage, self.tokens, self.nano_usd),
                }
            },
        });
        let caused = match stage {
            Applies::Misses => self.caused(&ask, over)?,
            Applies::All => None,
        };
        if own.is_none() && caused.is_none() {
            return Ok(());
        }
        let questions: smallvec::SmallVec<[Question<'_>; 2]> = own.into_iter().chain(caused).collect();
        // The time of the arrival serves where nothing can have waited: it saves a clock read.
        let at_once = ask.door() == Door::Inbound && stage == Applies::All && ask.tries.waited.get().is_zero();
        let now = if at_once { ask.arrival.at } else { Instant::now() };
        let until = ask.deadline().next(now).map(|(at, ..)| at);
        let limits = &proxy.shared.limits;
        let (lease, waited) = match limits.admit_at_once(&questions, now) {
            Some(admitted) => (admitted.map_err(Reject::Limited)?, None),
            None => Box::pin(limits.admit_in_line(&questions, now, until)).await.map_err(Reject::Limited)?,
        };
        if let Some(waited) = waited {
            // Time in line is not the proxy's own.
            ask.tries.wait(waited.time);
            let labels = [ask.door().as_str(), &*waited.limit];
            proxy.telemetry.metrics.histogram(Family::LimitWait, &labels).observe_duration(waited.time);
        }
        for name in lease.would_refuse() {
            let names = &mut exchange.answer.would_refuse;
            if !names.is_empty() {
                names.push(' ');
            }
            names.push_str(name);
            exchange.answer.would_because.push((name.to_string().into(), "this limit is spent".into()));
        }
        match &mut exchange.lease {
            Some(held) => held.join(lease),
            held => *held = Some(lease),
        }
        Ok(())
    }

    /// Reserves tokens and dollars for one more try at the same target.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub async fn reserve_again(&self, ask: &Ask) -> Result<Lease, Reject> {
        self.reserve(ask, Demand::again(self.tokens, self.nano_usd), over(ask).as_deref()).await
    }

    /// Reserves tokens and dollars for a response of a session. The session itself has its place among the requests in flight, for which
    /// it has waited in line when it was opened: a response takes no other.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub async fn reserve_response(&self, ask: &Ask) -> Result<Lease, Reject> {
        let demand = Demand { flies: false, ..Demand::again(self.tokens, self.nano_usd) };
        self.reserve(ask, demand, over(ask).as_deref()).await
    }

    /// Looks whether one more response of a session may be asked for. Nothing is held for it.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub async fn look_again(&self, ask: &Ask) -> Result<(), Reject> {
        let demand = Demand { flies: false, again: true, ..Demand::again(self.tokens, self.nano_usd) };
        self.reserve(ask, demand, over(ask).as_deref()).await.map(Lease::keep)
    }

    /// Reserves for a try at another target: tokens, dollars, and requests if a limit counts them by provider or model.
    ///
    /// # Errors
    /// As [`admit`](Self::admit).
    pub async fn reserve_moved(&self, ask: &Ask) -> Result<Lease, Reject> {
        // Another target is not the cheaper one that a spent limit has chosen.
        let over = over(ask).map(|over| over.elsewhere());
        self.reserve(ask, Demand::moved(self.tokens, self.nano_usd), over.as_ref()).await
    }

    async fn reserve(&self, ask: &Ask, demand: Demand<'_>, over: Option<&Over>) -> Result<Lease, Reject> {
        let demand = Demand { over, ..demand };
        let own = self.own.as_ref().map(|keyed| Question { keyed, demand });
        let questions: smallvec::SmallVec<[Question<'_>; 2]> = own.into_iter().chain(self.caused(ask, over)?).collect();
        ask.proxy.shared.limits.admit_shared(&questions, Instant::now()).await.map_err(Reject::Limited)
    }

    /// The demand on the limits of the inbound route that caused the call.
    fn caused<'a>(&self, ask: &'a Ask, over: Option<&'a Over>) -> Result<Option<Question<'a>>, Reject> {
        if let Some(unpriced) = &self.unpriced {
            return Err(unpriced.clone());
        }
        let keyed = ask.call().and_then(|call| call.join.sure()).and_then(|cause| cause.charge.as_ref());
        let demand = Demand { over, ..Demand::caused(self.tokens, self.nano_usd) };
        Ok(keyed.map(|keyed| Question { keyed, demand }))
    }
}
