//! The record of an exchange that is over, and its sinks.
//!
//! An [`Ending`] is built once. [`Ending::tell`] names every sink; a sink reads the ending and nothing else.

use std::{rc::Rc, time::Duration};

use smallvec::SmallVec;

use super::{
    ask::{Ask, Origin},
    audited, banned, enter,
    exchange::AnswerNotes,
    model::ModelCall,
    payer::{Charge, Charged, Payer},
    pledge::Order,
    privacy::{self, Shown},
    steps,
};
use crate::{
    alert::Struck,
    clock::Instant,
    policy::limits::Lease,
    telemetry::{
        failures::{FailureFacts, FailureKind},
        flows::{Flow, Sums},
        log::{ExchangeOutcome, Record, Tokens},
        metrics::{CacheOutcome, Family, Finished},
        observed::WouldRefuse,
        trace::{GenAi, Span, TraceContext},
    },
    usage::UsageSource,
};

/// An exchange that is over.
pub struct Ending {
    /// The record of the request.
    pub ask: Rc<Ask>,
    /// How the exchange ended.
    pub outcome: ExchangeOutcome,
    /// When the exchange ended.
    pub at: Instant,
    /// The answer that the client got.
    pub answer: AnswerNotes,
    /// The cache's outcome.
    pub cache: CacheOutcome,
    /// Why the cache had no part in the request.
    pub bypass: Option<&'static str>,
    /// The charges of the tries that have ended.
    pub charged: Charged,
}

impl Ending {
    /// Tells all sinks.
    pub fn tell(&self, span: Option<Span>) {
        count(self);
        if self.ask.proxy.telemetry.flows.are_watched() {
            flow(self);
        }
        enter::ended(self);
        if self.ask.proxy.shared.hits.is_on() {
            strike(self);
        }
        audited::note(self);
        banned::count(self);
        if !self.answer.would_because.is_empty() && self.ask.origin == Origin::Client {
            self.record(|record| observed(self, record));
        }
        if let Some(span) = span {
            end_span(self, span);
        }
        let telemetry = &self.ask.proxy.telemetry;
        let failed = if telemetry.failures.is_on() { self.failure() } else { None };
        let has_line = telemetry.log.enabled() && self.has_line();
        if has_line || failed.is_some() {
            self.record(|record| {
                if has_line {
                    telemetry.log.write(record);
                }
                if let Some(kind) = failed {
                    keep(self, record, kind);
                }
            });
        }
    }

    /// The kind of failure that the exchange was; `None`: all went well.
    pub fn failure(&self) -> Option<FailureKind> {
        let answer = &self.answer;
        FailureKind::of(self.outcome, answer.status, answer.reject, &self.ask.tries.steps.borrow())
    }

    /// Whether the access log has a line of the exchange. What is left out is counted.
    fn has_line(&self) -> bool {
        let (ask, answer) = (&self.ask, &self.answer);
        let Some(terms) = ask.route().and_then(|route| route.policies.log.as_ref()) else { return true };
        let is_well = answer.status < 400 && answer.reject.is_none() && self.outcome != ExchangeOutcome::UpstreamBroken;
        let share = terms.share(answer.status, is_well, self.charged.nano_usd.is_some_and(|cost| cost > 0));
        let has = share >= 1.0 || share > 0.0 && ask.proxy.chance.unit() < share;
        if !has {
            ask.cells().policies.log_left_out();
        }
        has
    }

    /// Time from the arrival to the last byte.
    pub fn total(&self) -> Duration {
        self.at.saturating_duration_since(self.ask.arrival.at)
    }

    /// Whether the answer came from the store, or from another request's fetch.
    pub fn is_cached(&self) -> bool {
        self.cache.is_answer()
    }

    /// Gives back or keeps the request's own reservation. The tries' bills settle the tries' reservations.
    pub fn settle(&self, lease: Lease) {
        let answer = &self.answer;
        let asked = self.ask.tries.made.get() > 0;
        if self.ask.call().is_none() {
            // Inbound every request counts, however it ended.
            lease.keep();
        } else if self.is_cached() {
            // The request stays counted in limits that count every request; its tokens and dollars are given back.
            drop(lease);
        } else if (1..400).contains(&answer.status) || asked && (answer.status == 0 || answer.timed_out) {
            // The provider has very likely billed a call whose client hung up or ran out of time.
            lease.keep();
        } else {
            lease.refund();
        }
    }
}

/// Metrics of the route.
fn count(ending: &Ending) {
    let (ask, answer) = (&ending.ask, &ending.answer);
    if ask.live_door().is_none() {
        return;
    }
    if ask.origin == Origin::Refresh {
        let result = match ending.outcome {
            ExchangeOutcome::Complete => "done",
            ExchangeOutcome::Rejected => "refused",
            _ => "failed",
        };
        ask.proxy.telemetry.metrics.counter(Family::CacheRefreshes, &[ask.door().as_str(), ask.route_text(), result]).inc();
        return;
    }
    ask.cells().requests.finish(&Finished {
        code: answer.status,
        cache: ending.cache,
        total: ending.total(),
        own: answer.own,
        reject: answer.reject,
        broken: ending.outcome == ExchangeOutcome::UpstreamBroken,
        at: ending.at,
        span: ask.trace().and_then(|trace| trace.within(|| ask.at + ending.total())),
    });
}

/// Keeps what policies that observe would have refused, and why.
fn observed(ending: &Ending, record: &Record<'_>) {
    let clean = |(policy, why): &WouldRefuse| (policy.clone(), privacy::scrubbed(&ending.ask, why).map_or_else(|| why.clone(), Into::into));
    ending.ask.proxy.shared.observed.keep(record, ending.answer.would_because.iter().map(clean).collect());
}

/// The flow of the exchange, for the page. The proxy's own refreshes are no flow.
fn flow(ending: &Ending) {
    let (ask, answer, charged) = (&*ending.ask, &ending.answer, &ending.charged);
    if ask.origin == Origin::Refresh {
        return;
    }
    let call = ask.call();
    let asked = || ask.tries.target.borrow().clone();
    let flow = Flow {
        door: ask.door(),
        caller: ask.caller().map(|caller| &caller.name).or_else(|| call?.join.recorded_caller()).cloned(),
        cause: call.and_then(|call| call.join.cause()).map(|cause| cause.route.clone()),
        route: ask.route_name(),
        target: charged.provider.clone().or_else(asked).or_else(|| call.map(|call| call.provider.clone())),
        operation: call.map(|call| call.shape.operation.as_str()).unwrap_or_default(),
        model: charged.model.clone().or_else(|| call?.model.clone()),
        key: ask.tries.key.get(),
    };
    let broken = ending.outcome == ExchangeOutcome::UpstreamBroken;
    let sums = Sums {
        requests: 1,
        errors: u64::from(answer.status >= 500 || broken),
        refused: u64::from(answer.reject.is_some()),
        cached: u64::from(ending.is_cached()),
        tokens: charged.usage.total_input().saturating_add(charged.usage.total_output()),
        nano_usd: charged.nano_usd.unwrap_or_default(),
        micros: u64::try_from(ending.total().as_micros()).unwrap_or(u64::MAX),
    };
    ask.proxy.telemetry.flows.add(flow, &sums);
}

/// A failed exchange, for alerts: who was hit by it.
fn strike(ending: &Ending) {
    let (ask, answer) = (&ending.ask, &ending.answer);
    let failed = answer.status >= 500 || ending.outcome == ExchangeOutcome::UpstreamBroken;
    if !failed || ask.live_door().is_none() || ask.origin == Origin::Refresh {
        return;
    }
    ask.proxy.shared.hits.note(Struck {
        at: ask.proxy.shared.clock.moment().steady_millis(),
        door: ask.door().as_str(),
        route: ask.route_text().into(),
        caller: ask.caller_name().unwrap_or_default().into(),
        target: ask.tries.target.borrow().as_deref().unwrap_or_default().into(),
    });
}

/// The server span.
fn end_span(ending: &Ending, mut span: Span) {
    let (ask, answer) = (&ending.ask, &ending.answer);
    let Some(tracer) = &ask.proxy.telemetry.tracer else { return };
    span.route(ask.door().as_str(), ask.route_text());
    if answer.status != 0 {
        span.status(answer.status);
    }
    if let Some(reason) = answer.reject {
        span.error(reason);
    }
    span.set("outrigger.request_id", ask.request_id().to_string());
    span.set("outrigger.cache", ending.cache.as_str());
    span.set("outrigger.tries", i64::from(ask.tries.made.get()));
    if let Some(call) = ask.call() {
        describe(ending, call, &mut span);
    }
    tracer.end(span, ask.proxy.shared.clock.wall());
}

fn describe(ending: &Ending, call: &ModelCall, span: &mut Span) {
    let model = call.model.as_deref().unwrap_or_default();
    span.model_call(&GenAi {
        operation: call.shape.operation.as_str(),
        flavor: call.flavor(),
        request_model: if model.is_empty() { ending.charged.model.as_deref().unwrap_or_default() } else { model },
        response_model: ending.charged.model.as_deref().unwrap_or(model),
        stream: ending.answer.streams.unwrap_or(call.streams),
        response_id: "",
    });
    if let Some(tokens) = tokens(&ending.charged) {
        span.usage(&tokens.usage);
    }
    if let Some(cost) = ending.charged.nano_usd {
        span.cost(cost);
    }
}

fn tokens(charged: &Charged) -> Option<Tokens> {
    (charged.source != UsageSource::Missing).then_some(Tokens { usage: charged.usage, source: charged.source })
}

/// Keeps the story of a failure for the admin door.
fn keep(ending: &Ending, record: &Record<'_>, kind: FailureKind) {
    let (ask, said) = (&ending.ask, ending.answer.said.as_deref());
    let clean = said.and_then(|said| privacy::scrubbed(ask, &said.detail));
    let came_with = || TraceContext::from_headers(&ask.arrival.headers).map(|context| u128::from_be_bytes(context.trace_id.to_bytes()));
    ask.proxy.telemetry.failures.keep(
        record,
        &FailureFacts {
            kind,
            reason: ending.answer.reject,
            said: clean.as_deref().or(said.map(|said| &*said.detail)).unwrap_or_default(),
            retry_after: said.and_then(|said| said.retry_after),
            cache_bypass: ending.bypass.unwrap_or_default(),
            steps: &steps::of(ending),
            trace_id: if ask.trace().is_none() { came_with() } else { None },
        },
    );
}

impl Ending {
    /// Tells `sink` the exchange as a line of the access log has it.
    pub fn record(&self, sink: impl FnOnce(&Record<'_>)) {
        let ending = self;
        let (ask, answer) = (&*ending.ask, &ending.answer);
        let call = ask.call();
        let (target, key) = (ask.tries.target.borrow(), ask.tries.key_name.borrow());
        let fallback = ask.tries.fallback.borrow();
        let asked_model = call.and_then(|call| call.model.as_deref()).unwrap_or_default();
        let fallen = fallback.as_ref().and_then(|fallen| fallen.model.as_deref());
        let model = fallen.or(if asked_model.is_empty() { ending.charged.model.as_deref() } else { None }).unwrap_or(asked_model);
        let thrown_away: SmallVec<[&str; 4]> =
            ask.tries.steps.borrow().iter().filter(|step| step.is_thrown_away()).map(|step| step.result).collect();
        let hint = if answer.status == 404 { call.and_then(|call| call.doubled(&ask.worker.live)) } else { None };
        let detail = answer.detail.as_deref().or(hint.as_deref()).unwrap_or_default();
        sink(&Record {
            trace_id: ask.trace().map(|trace| trace.context.trace_id),
            span_id: ask.trace().map(|trace| trace.context.span_id),
            caller: ask.caller_name().unwrap_or_default(),
            status: answer.status,
            reason: answer.reject,
            detail,
            limit: answer.limit.as_deref().unwrap_or_default(),
            would_refuse: &answer.would_refuse,
            cache: if ask.origin == Origin::Refresh { "refresh" } else { ending.cache.as_str() },
            target: target.as_deref().unwrap_or_default(),
            key: key.as_deref().unwrap_or_default(),
            tries: ask.tries.made.get(),
            thrown_away: &thrown_away,
            fallback: fallback.as_ref().map(|fallen| &*fallen.to).unwrap_or_default(),
            total: ending.total(),
            upstream: ask.tries.last.get(),
            first_byte: answer.first_byte,
            first_token: ask.tries.first_token.get(),
            bytes_in: answer.bytes_in + ask.upload().bytes.get(),
            bytes_out: answer.bytes_out,
            // As for the model: the provider that was paid, also if another was asked.
            provider: ending.charged.provider.as_deref().or(call.map(|call| &*call.provider)).unwrap_or_default(),
            model,
            asked_model: call.and_then(ModelCall::alias).unwrap_or(if model == asked_model { "" } else { asked_model }),
            stream: call.map(|call| answer.streams.unwrap_or(call.streams)),
            tokens: tokens(&ending.charged),
            cost: ending.charged.nano_usd,
            outcome: ending.outcome,
            ..asked(ask, &Shown::of(ask), ask.route_text(), &mut Default::default())
        });
    }
}

/// Logs a charge that came after its payer's exchange was over: the lines must add up to the books.
pub(super) fn charged_late(ask: &Ask, payer: &Payer, order: &Order, charge: &Charge) {
    if !ask.proxy.telemetry.log.enabled() {
        return;
    }
    let mut room = [0; 32];
    let cause = payer.cause.as_ref().and_then(|cause| cause.request_id.as_ref());
    ask.proxy.telemetry.log.write(&Record {
        caller: payer.name(),
        cause: cause.map(|id| id.text(&mut room)).unwrap_or_default(),
        operation: order.operation,
        provider: &charge.provider,
        model: &charge.model,
        tokens: Some(Tokens { usage: charge.usage, source: charge.source }),
        cost: charge.nano_usd,
        outcome: ExchangeOutcome::ChargedLate,
        ..asked(ask, &Shown::of(ask), &order.route, &mut Default::default())
    });
}

/// The part of a log line that the request alone determines. The digits of its ids go into `room`.
fn asked<'a>(ask: &'a Ask, shown: &'a Shown, route: &'a str, room: &'a mut [[u8; 32]; 3]) -> Record<'a> {
    let arrival = &ask.arrival;
    let call = ask.call();
    let cause = call.and_then(|call| call.join.cause()?.request_id.as_ref());
    let [own, causes, sent] = room;
    Record {
        at: ask.at,
        request_id: ask.request_id().text(own),
        trace_id: None,
        span_id: None,
        door: arrival.door,
        route,
        caller: "",
        client: arrival.client,
        method: &arrival.method,
        host: arrival.host(),
        path: shown.path(ask),
        query: shown.query(ask),
        status: 0,
        reason: None,
        detail: "",
        limit: "",
        would_refuse: "",
        cache: "none",
        target: "",
        key: "",
        tries: 0,
        thrown_away: &[],
        fallback: "",
        total: Duration::ZERO,
        upstream: None,
        first_byte: None,
        first_token: None,
        bytes_in: 0,
        bytes_out: 0,
        provider: "",
        operation: call.map(|call| call.shape.operation.as_str()).unwrap_or_default(),
        model: "",
        asked_model: "",
        stream: None,
        tokens: None,
        cost: None,
        cause: cause.map(|id| id.text(causes)).unwrap_or_default(),
        sent_request_id: ask.sent_id.get().map(|id| id.text(sent)).unwrap_or_default(),
        outcome: ExchangeOutcome::Complete,
    }
}
