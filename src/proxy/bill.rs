//! One try's bill: the meter over its answer, and the charge.
//!
//! A [`Bill`] is opened when a try is sent. It is settled exactly once: when the upstream's body ends, breaks or is dropped, or when
//! no answer came. The [`Reading`] tells other parts of the proxy about the answer while it passes.

mod batches;
mod counted;
pub mod forgotten;
mod kept;
pub mod late;
mod of_session;
pub mod read_on;
pub mod reading;
mod watched;
mod works;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;

use late::Late;
use reading::Reading;
use watched::Watched;

use super::{
    ask::Ask,
    ending, enter,
    model::ModelCall,
    payer::{Charge, Payer, Payers},
    pledge::Order,
};
use crate::{
    body::{
        Body, BodyError,
        tap::{End, Observer},
    },
    clock::Instant,
    config::Operation,
    http1::Id,
    message::AnswerHead,
    policy::limits::Lease,
    provider::{self, Billed, Meter, Observed, Ratios, Work, batch},
    telemetry::metrics,
    usage::{Terms, Tier, Usage, UsageSource},
};

/// One try's bill.
pub struct Bill {
    ask: Rc<Ask>,
    payers: Arc<Payers>,
    /// The leader's reservation for this try.
    lease: Option<Lease>,
    provider: Arc<str>,
    /// The model that the try asks for, if the request names one.
    model: Option<Arc<str>>,
    began: Instant,
    first_token: Option<Instant>,
    reading: Rc<Reading>,
    /// Whether all of the request has been sent.
    sent: Rc<Cell<bool>>,
    /// The reader of an upload that may be the requests of a batch.
    upload: Option<Rc<RefCell<Option<batch::Upload>>>>,
    /// The reader of an answer in the life of a batch.
    seen: Option<Box<batches::Seen>>,
    settled: bool,
}

impl Bill {
    /// Opens the bill of a try that is about to be sent to `provider` for `model`.
    pub fn open(ask: Rc<Ask>, payers: Arc<Payers>, lease: Option<Lease>, provider: Arc<str>, model: Option<Arc<str>>) -> Self {
        let began = Instant::now();
        let (reading, sent) = (Rc::default(), Rc::default());
        Self { ask, payers, lease, provider, model, began, first_token: None, reading, sent, upload: None, seen: None, settled: false }
    }

    /// Watches the request's body: a target that was not sent all of it has done no work.
    pub fn watch(&mut self, body: Body) -> Body {
        let uploads = self.ask.call().is_some_and(|call| call.shape.batch == Some(batch::Step::Upload));
        self.upload =
            uploads.then(|| Rc::new(RefCell::new(batch::Upload::new(&self.ask.arrival.headers, self.ask.worker.live.prices.steps()))));
        Body::stream(Watched { inner: body, sent: self.sent.clone(), upload: self.upload.clone() })
    }

    /// The try cost nothing. Gives back its reservation for the next try.
    pub fn void(mut self) -> Option<Lease> {
        self.settled = true;
        self.lease.take()
    }

    /// No answer came, or none that can be read. A provider that was sent all of the request may still have done the work: the try is charged
    /// as estimated. Otherwise gives back the reservation.
    pub fn unanswered(mut self) -> Option<Lease> {
        if !self.sent.get() {
            return self.void();
        }
        self.charge_estimate();
        None
    }

    /// The head of a successful answer has come. Its body is metered from now on.
    pub fn answered(&mut self, head: &AnswerHead) -> Rc<Reading> {
        if let Some(call) = self.ask.call()
            && let Some(operation) = call.shape.metered_as()
        {
            self.reading.meter.replace(Some(self.meter(call, operation, &head.headers)));
            let kind = head.headers.get(Id::ContentType).and_then(|value| value.to_str().ok()).unwrap_or_default();
            self.reading.streams.set(provider::is_stream(kind));
        }
        let steps = self.ask.worker.live.prices.steps();
        self.seen = self.ask.call().and_then(|call| batches::Seen::of(call, &self.ask.arrival.method, head, steps)).map(Box::new);
        self.reading.clone()
    }

    /// Settles by the meter's result.
    fn settle(&mut self, complete: bool) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let ask = self.ask.clone();
        let meter = self.reading.meter.take();
        let (Some(call), Some(meter)) = (ask.call(), meter) else {
            if let (Some(call), Some(seen)) = (ask.call(), self.seen.take()) {
                return batches::settle(self, call, *seen, complete);
            }
            if let Some(Billed::AsForgotten(id)) = ask.call().map(|call| &call.shape.billed) {
                ask.proxy.late.put(Late::deleted(self, id));
            }
            // Nothing is known about the answer: the reservation stays charged.
            if let Some(lease) = self.lease.take() {
                lease.keep();
            }
            return;
        };
        let prompt = self.prompt(call);
        let mut observed = meter.finish(complete, prompt);
        self.count_words(call, &mut observed);
        if let Some(facts) = &call.facts {
            self.ratios().learn(self.asked(call), facts.estimated_input, &observed);
        }
        observed.terms = observed.terms.or(call.facts.as_ref().map_or_else(Terms::default, |facts| facts.terms));
        if call.shape.billed != Billed::ByAnswer || matches!(observed.work, Some(Work::GoesOn(_))) {
            self.settle_work(call, &mut observed);
            let _ = self.reading.observed.set(observed);
            return;
        }
        if let Some(Work::Ended(id)) = &observed.work {
            // A later poll of the work is told the same figures, and must not charge them again.
            ask.proxy.shared.works.charged(&self.provider, id, Instant::now());
        }
        // The length of unread pictures and sound says nothing about tokens.
        let is_telling = call.facts.is_some() || !matches!(call.shape.operation, Operation::Images | Operation::Audio);
        if observed.source == UsageSource::Missing && observed.error.is_none() && is_telling {
            // The work was very likely done. A stream without content has cost its prompt; any other answer is charged as reserved.
            let streamed = self.reading.streams() || call.facts.is_none();
            observed.usage = if streamed { Usage { input: prompt, ..Usage::default() } } else { self.expected(call) };
            observed.units.audio_millis = call.facts.as_ref().map_or(0, |facts| facts.expected_millis);
            observed.source = UsageSource::Estimated;
        }
        let lease = self.lease.take();
        self.conclude(&self.payers, lease, &self.order(call), &observed);
        let _ = self.reading.observed.set(observed);
    }

    /// The ratios that complete calls have taught.
    fn ratios(&self) -> &Ratios {
        &self.ask.proxy.shared.ratios
    }

    /// The model that the try asks for.
    fn asked<'a>(&'a self, call: &'a ModelCall) -> Option<&'a str> {
        self.model.as_deref().or(call.model.as_deref())
    }

    /// Estimated tokens of the prompt. An unread prompt is estimated from its length: it is never free.
    fn prompt(&self, call: &ModelCall) -> u64 {
        let unread = || provider::by_length(self.ask.upload().bytes.get());
        call.facts.as_ref().map_or_else(unread, |facts| self.ratios().of(self.asked(call)).prompt(facts.estimated_input))
    }

    /// The most tokens that the try is expected to use.
    fn expected(&self, call: &ModelCall) -> Usage {
        call.expected(self.ratios(), self.asked(call))
    }

    fn charge_estimate(&mut self) {
        self.settled = true;
        let ask = self.ask.clone();
        let lease = self.lease.take();
        let Some(call) = ask.call().filter(|call| call.shape.billed == Billed::ByAnswer && call.facts.is_some()) else {
            if let Some(lease) = lease {
                lease.keep();
            }
            return;
        };
        let observed = call.expecting(self.ratios(), self.asked(call));
        self.conclude(&self.payers, lease, &self.order(call), &observed);
    }

    /// The order of this call.
    fn order(&self, call: &ModelCall) -> Order {
        let unread = || Usage { input: provider::by_length(self.ask.upload().bytes.get()), ..Usage::default() };
        Order {
            provider: self.provider.clone(),
            model: self.model.clone().or_else(|| call.model.clone()),
            route: self.ask.route_name(),
            inbound: None,
            flavor: call.flavor(),
            operation: call.shape.metered_as().unwrap_or(call.shape.operation).as_str(),
            unattributed: call.join.is_unattributed(),
            expected: call.facts.as_ref().map_or_else(unread, |_| self.expected(call)),
            expected_cost: None,
        }
    }

    /// Writes the charge for `order` into all books: metrics, limits, spend, log.
    fn conclude(&self, payers: &Payers, lease: Option<Lease>, order: &Order, observed: &Observed) {
        self.conclude_at(self.price(order, observed), payers, lease, order, observed);
    }

    /// As [`conclude`](Self::conclude), at this cost.
    fn conclude_at(&self, nano_usd: Option<u64>, payers: &Payers, lease: Option<Lease>, order: &Order, observed: &Observed) {
        self.count(order, observed, nano_usd);
        if observed.source == UsageSource::Missing {
            enter::unknown(&self.ask, payers, order, observed);
        }
        match (lease, observed.source, observed.error) {
            // An error before any content is not billed.
            (Some(lease), UsageSource::Missing, Some(_)) => lease.refund(),
            (Some(lease), UsageSource::Missing, None) => lease.keep(),
            (None, UsageSource::Missing, _) => {}
            (lease, ..) => self.charge(payers, lease, order, observed, nano_usd),
        }
    }

    fn price(&self, order: &Order, observed: &Observed) -> Option<u64> {
        match observed.source {
            UsageSource::Missing => None,
            _ => self.ask.worker.live.prices.charge(order.model.as_deref(), observed),
        }
    }

    /// The price of all that was expected.
    fn price_of_expected(&self, order: &Order, terms: Terms) -> Option<u64> {
        self.ask.worker.live.prices.cost_under(order.model.as_deref()?, &order.expected, terms)
    }

    fn charge(&self, payers: &Payers, lease: Option<Lease>, order: &Order, observed: &Observed, nano_usd: Option<u64>) {
        let Observed { usage, source, model: answering, .. } = observed;
        let model = order.model.clone().unwrap_or_else(|| answering.as_deref().unwrap_or("unknown").into());
        let charge = Charge { usage: *usage, source: *source, nano_usd, provider: order.provider.clone(), model };
        let payer = self.charge_to(payers, lease, order, &charge);
        enter::charged(&self.ask, &payer, order, observed, &charge);
    }

    /// Charges the limits, the spend and the exchange's account; gives the payer.
    fn charge_to(&self, payers: &Payers, lease: Option<Lease>, order: &Order, charge: &Charge) -> Payer {
        let shared = &self.ask.proxy.shared;
        let kept = if lease.is_none() { kept::payers(&self.ask, payers, order) } else { None };
        let (payer, late) = kept.as_deref().unwrap_or(payers).charge(charge, lease, &shared.limits, Instant::now());
        shared.spend.add(payer.name(), charge.nano_usd.unwrap_or(0), charge.usage.total());
        if late {
            ending::charged_late(&self.ask, &payer, order, charge);
        }
        payer
    }

    fn count(&self, order: &Order, observed: &Observed, cost: Option<u64>) {
        if observed.terms.tier == Tier::Other && cost.is_some() {
            // An unknown tier is charged as the dearest known one.
            let model = order.model.as_deref().or(observed.model.as_deref()).unwrap_or("unknown");
            self.ask.proxy.telemetry.metrics.counter(metrics::Family::UnpricedCalls, &[&order.provider, model]).inc();
        }
        self.ask.proxy.telemetry.metrics.model_call(&metrics::ModelCall {
            route: &order.route,
            provider: &order.provider,
            flavor: order.flavor,
            operation: order.operation,
            model: order.model.as_deref().or(observed.model.as_deref()).unwrap_or("unknown"),
            usage: observed.usage,
            source: observed.source,
            cost,
            duration: self.began.elapsed(),
            first_token: self.first_token.map(|at| at.saturating_duration_since(self.began)),
            error: observed.error.map(|class| class.as_str()),
            unattributed: order.unattributed,
            span: self.ask.within(),
        });
    }
}

impl Observer for Bill {
    fn data(&mut self, piece: &Bytes) {
        if let Some(seen) = &mut self.seen {
            seen.feed(piece);
        }
        if self.reading.feed(piece) && self.reading.streams() {
            let now = Instant::now();
            self.first_token = Some(now);
            self.ask.tries.first_token.set(Some(now.saturating_duration_since(self.ask.arrival.at)));
        }
    }

    fn end(&mut self, end: End<'_>) {
        self.settle(matches!(end, End::Complete));
    }

    fn must_stop(&self) -> bool {
        self.ask.proxy.stop.is_on()
    }

    /// A stream is over at the protocol's own end: a later break does no harm.
    fn is_over(&self) -> bool {
        self.reading.streams() && self.reading.meter.borrow().as_ref().is_some_and(Meter::has_ended)
    }

    /// A broken stream ends with the provider's own error event: no SDK notices a clean early end.
    fn last_words(&mut self, error: &BodyError) -> Option<Bytes> {
        let call = self.ask.call()?;
        let mid_event = self.reading.meter.borrow().as_ref().filter(|_| self.reading.streams())?.mid_event();
        Some(provider::stream_error(call.shape.api, call.shape.operation, &error.to_string(), mid_event))
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if self.reading.meter.borrow().is_some() || self.seen.is_some() {
            self.settle(false);
        } else if self.sent.get() {
            self.charge_estimate();
        } else if let Some(lease) = self.lease.take() {
            lease.refund();
        }
    }
}
