//! One try's bill: the one meter over its answer, and the charge that follows from it.
//!
//! A [`Bill`] is opened when a try is sent and settled exactly once: when the upstream's body ends, breaks or is dropped,
//! whoever reads it, or when no answer came. [`Reading`] is what others may know of the answer while it passes.

pub mod late;

use std::{
    cell::{Cell, OnceCell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{header, response};
use http_body::{Body as HttpBody, Frame, SizeHint};

use late::Late;

use super::{
    ask::Ask,
    book::Owed,
    demands::Demands,
    ending,
    model::ModelCall,
    payer::{Charge, Payer, Payers},
    pledge::{Order, Pledge},
};
use crate::{
    body::{
        Body, BodyError,
        tap::{End, Observer},
    },
    clock::Instant,
    config::Operation,
    policy::limits::Lease,
    provider::{self, Billed, Due, ErrorClass, Facts, Meter, Observed, Work},
    telemetry::metrics,
    usage::{Usage, UsageSource},
};

/// One try's bill.
pub struct Bill {
    ask: Rc<Ask>,
    payers: Arc<Payers>,
    /// What the leader has reserved for this try.
    lease: Option<Lease>,
    provider: Arc<str>,
    /// The model that is asked for, if the request names one.
    model: Option<Arc<str>>,
    began: Instant,
    first_token: Option<Instant>,
    reading: Rc<Reading>,
    /// Whether the target has been sent all of the request.
    sent: Rc<Cell<bool>>,
    settled: bool,
}

/// What is known of an answer while it passes.
#[derive(Debug, Default)]
pub struct Reading {
    meter: RefCell<Option<Meter>>,
    streams: Cell<bool>,
    started: Cell<bool>,
    ended: Cell<bool>,
    error: Cell<Option<ErrorClass>>,
    observed: OnceCell<Observed>,
}

impl Reading {
    /// Whether the answer is a stream of events.
    pub fn streams(&self) -> bool {
        self.streams.get()
    }

    /// Whether content has passed.
    pub fn started(&self) -> bool {
        self.started.get()
    }

    /// Whether the protocol's own end has passed.
    pub fn ended(&self) -> bool {
        self.ended.get()
    }

    /// An error inside of a 200.
    pub fn error(&self) -> Option<ErrorClass> {
        self.error.get()
    }

    /// Whether nothing can be learned from the answer.
    pub fn is_blind(&self) -> bool {
        self.meter.borrow().as_ref().is_none_or(Meter::is_blind)
    }

    /// Whether what comes is no answer, or has ended and was none; unknown for as long as it may become one.
    pub fn is_no_answer(&self) -> bool {
        match self.observed.get() {
            Some(observed) => !observed.answered,
            None => self.meter.borrow().as_ref().is_some_and(Meter::is_foreign),
        }
    }

    /// What was learned; `None` before the body has ended.
    pub fn observed(&self) -> Option<&Observed> {
        self.observed.get()
    }

    fn feed(&self, piece: &[u8]) -> bool {
        let mut meter = self.meter.borrow_mut();
        let Some(news) = meter.as_mut().map(|meter| meter.feed(piece)) else { return false };
        self.started.set(self.started.get() || news.first_content);
        self.ended.set(self.ended.get() || news.ended);
        self.error.set(self.error.get().or(news.error));
        news.first_content
    }
}

impl Bill {
    /// Opens the bill of a try that is about to be sent to `provider` for `model`.
    pub fn open(ask: Rc<Ask>, payers: Arc<Payers>, lease: Option<Lease>, provider: Arc<str>, model: Option<Arc<str>>) -> Self {
        let began = Instant::now();
        Self { ask, payers, lease, provider, model, began, first_token: None, reading: Rc::default(), sent: Rc::default(), settled: false }
    }

    /// The request's body, watched: a target that has not been sent all of it has done no work.
    pub fn watch(&self, body: Body) -> Body {
        Body::stream(Watched { inner: body, sent: self.sent.clone() })
    }

    /// The try cost nothing: gives back what was reserved for it, for the next one.
    pub fn void(mut self) -> Option<Lease> {
        self.settled = true;
        self.lease.take()
    }

    /// No answer came in time: a provider that was sent all of the request may have done the work all the same. Else gives back what
    /// was reserved.
    pub fn unanswered(mut self) -> Option<Lease> {
        if !self.sent.get() {
            return self.void();
        }
        self.charge_estimate();
        None
    }

    /// The head of a successful answer has come: its body is metered from here on.
    pub fn answered(&mut self, head: &response::Parts) -> Rc<Reading> {
        if let Some(call) = self.ask.call()
            && let Some(operation) = call.shape.metered_as()
        {
            let most_output = call.facts.as_ref().and_then(Facts::most_output);
            let meter = Meter::new(call.shape.api, operation, &head.headers).at_most(most_output);
            self.reading.meter.replace(Some(meter));
            let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            self.reading.streams.set(provider::is_stream(kind));
        }
        self.reading.clone()
    }

    /// Settles by what the meter has seen.
    fn settle(&mut self, complete: bool) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let ask = self.ask.clone();
        let meter = self.reading.meter.take();
        let (Some(call), Some(meter)) = (ask.call(), meter) else {
            // An answer that nothing is known of: what was reserved stays charged.
            if let Some(lease) = self.lease.take() {
                lease.keep();
            }
            return;
        };
        // A prompt that nobody read is estimated from its length; it is never free.
        let unread = || provider::by_length(ask.upload.bytes.get());
        let mut observed = meter.finish(complete, call.facts.as_ref().map_or_else(unread, |facts| facts.estimated_input));
        if call.shape.billed != Billed::ByAnswer || matches!(observed.work, Some(Work::GoesOn(_))) {
            self.settle_work(call, &mut observed);
            let _ = self.reading.observed.set(observed);
            return;
        }
        if let Some(Work::Ended(id)) = &observed.work {
            // Whoever asks about it later is told the same figures.
            ask.proxy.shared.works.charged(&self.provider, id, Instant::now());
        }
        // Of pictures and sound that nobody read, the length says nothing of tokens.
        let is_telling = call.facts.is_some() || !matches!(call.shape.operation, Operation::Images | Operation::Audio);
        if observed.source == UsageSource::Missing && observed.error.is_none() && is_telling {
            // The work was very likely done: a stream without content has cost its prompt, anything else what was reserved.
            let prompt = Usage { input: call.facts.as_ref().map_or_else(unread, |facts| facts.estimated_input), ..Usage::default() };
            observed.usage = if self.reading.streams() || call.facts.is_none() { prompt } else { call.estimate() };
            observed.source = UsageSource::Estimated;
        }
        let lease = self.lease.take();
        self.conclude(&self.payers, lease, &self.order(call), &observed);
        let _ = self.reading.observed.set(observed);
    }

    /// Settles an answer of which the work goes on, or is only asked about. What it used is charged once: to the one who began it,
    /// when the first answer says it.
    fn settle_work(&mut self, call: &ModelCall, observed: &mut Observed) {
        let ask = self.ask.clone();
        let works = &ask.proxy.shared.works;
        let now = Instant::now();
        match &observed.work {
            Some(Work::GoesOn(id)) if call.shape.billed == Billed::ByAnswer => {
                let pledge = Pledge { payers: self.payers.clone(), lease: self.lease.take(), order: self.order(call), id: id.clone() };
                match works.begin(id, pledge, now) {
                    Ok(forgotten) => forgotten.into_iter().for_each(|pledge| self.forget(pledge)),
                    // Its payer has promised before: a call that was repeated is the same work.
                    Err(known) => known.lease.map_or((), Lease::refund),
                }
            }
            // The replicas' book is asked behind the request.
            Some(Work::Ended(_)) if works.is_shared() => ask.proxy.late.put(Late::of(self, observed)),
            Some(Work::Ended(id)) => {
                let owed = works.end_here(&self.provider, id, now);
                self.settle_owed(call, observed, owed);
            }
            _ => self.settle_owed(call, observed, Owed::Charged(None)),
        }
    }

    /// Charges the end of a work to whom it is owed.
    fn settle_owed(&mut self, call: &ModelCall, observed: &mut Observed, owed: Owed) {
        // A poll has reserved nothing but itself.
        if let Some(own) = self.lease.take() {
            own.keep();
        }
        match owed {
            Owed::Here(Due::From(Pledge { payers, lease, order, .. })) => {
                without_figures(observed, &order);
                self.conclude(&payers, lease, &order, observed);
            }
            Owed::Abroad(said) => {
                let order = Order {
                    model: said.model.as_deref().map(Arc::from),
                    route: said.route.as_str().into(),
                    unattributed: said.unattributed,
                    expected: said.expected(),
                    ..self.order(call)
                };
                without_figures(observed, &order);
                let payers = Payers::led_by(Payer::named(said.caller.map(Arc::from))).0;
                let lease = self.ask.proxy.shared.limits.lease_abroad(said.reserved);
                self.conclude(&payers, Some(lease), &order, observed);
            }
            Owed::Here(Due::FromWhoAsks) => self.conclude(&self.who_asks(call, observed), None, &self.order(call), observed),
            Owed::Charged(Some(Pledge { lease: Some(lease), order, .. })) => {
                without_figures(observed, &order);
                let nano_usd = self.price(&order, observed).unwrap_or(0);
                lease.settle_here(observed.usage.total(), nano_usd, Instant::now());
            }
            Owed::Here(Due::Nothing) | Owed::Charged(_) => {}
        }
    }

    /// The same bill once more, with what is reserved for it: this one is left empty.
    fn apart(&mut self) -> Self {
        let mut apart = self.beside();
        apart.lease = self.lease.take();
        apart
    }

    /// The same bill once more, settled.
    fn beside(&self) -> Self {
        let (ask, payers, provider, model) = (self.ask.clone(), self.payers.clone(), self.provider.clone(), self.model.clone());
        let (began, first_token) = (self.began, self.first_token);
        Self { ask, payers, lease: None, provider, model, began, first_token, reading: Rc::default(), sent: Rc::default(), settled: true }
    }

    /// The one who asks about a work of which it is not known who began it, and the limits as they are keyed for its model.
    fn who_asks(&self, call: &ModelCall, observed: &Observed) -> Arc<Payers> {
        let route = self.ask.route();
        let demands = route.map(|route| Demands::at(&self.ask, route, &self.provider, observed.model.as_deref()));
        Payers::led_by(Payer::of(&self.ask, call, demands.as_ref().and_then(Demands::own))).0
    }

    /// Nobody will say any more what a work has used: it is charged as it was reserved.
    fn forget(&self, pledge: Pledge) {
        tracing::warn!(provider = %pledge.order.provider, "a background response is forgotten: it is charged what was reserved for it");
        self.ask.proxy.telemetry.metrics.counter(metrics::Family::BackgroundForgotten, &[]).inc();
        let late = Late::forgotten(self, pledge);
        if self.ask.proxy.shared.works.is_shared() {
            self.ask.proxy.late.put(late);
        }
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
        let observed = Observed { usage: call.estimate(), source: UsageSource::Estimated, ..Observed::default() };
        self.conclude(&self.payers, lease, &self.order(call), &observed);
    }

    /// What this call orders.
    fn order(&self, call: &ModelCall) -> Order {
        let unread = || Usage { input: provider::by_length(self.ask.upload.bytes.get()), ..Usage::default() };
        Order {
            provider: self.provider.clone(),
            model: self.model.clone().or_else(|| call.model.clone()),
            route: self.ask.route_name(),
            flavor: call.flavor(),
            operation: call.shape.metered_as().unwrap_or(call.shape.operation).as_str(),
            unattributed: call.join.is_unattributed(),
            expected: call.facts.as_ref().map_or_else(unread, |_| call.estimate()),
        }
    }

    /// Writes what `order` came to into all books: metrics, limits, spend, log.
    fn conclude(&self, payers: &Payers, lease: Option<Lease>, order: &Order, observed: &Observed) {
        let nano_usd = self.price(order, observed);
        self.count(order, observed, nano_usd);
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
            _ => self.ask.worker.live.prices.cost_of(order.model.as_deref(), observed.model.as_deref(), &observed.usage),
        }
    }

    fn charge(&self, payers: &Payers, lease: Option<Lease>, order: &Order, observed: &Observed, nano_usd: Option<u64>) {
        let Observed { usage, source, model: answering, .. } = observed;
        let model = order.model.clone().unwrap_or_else(|| answering.as_deref().unwrap_or("unknown").into());
        let charge = Charge { usage: *usage, source: *source, nano_usd, provider: order.provider.clone(), model };
        let shared = &self.ask.proxy.shared;
        let (payer, late) = payers.charge(&charge, lease, &shared.limits, Instant::now());
        shared.spend.add(payer.name(), nano_usd.unwrap_or(0), usage.total());
        if late {
            ending::charged_late(&self.ask, &payer, order, &charge);
        }
    }

    fn count(&self, order: &Order, observed: &Observed, cost: Option<u64>) {
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
        });
    }
}

/// A work that has ended without figures has read its prompt, and said what is in its answer.
fn without_figures(observed: &mut Observed, order: &Order) {
    if observed.source != UsageSource::Provider && observed.error.is_none() {
        let output = observed.usage.output.min(order.expected.output);
        observed.usage = Usage { input: order.expected.input, output, ..Usage::default() };
        observed.source = UsageSource::Estimated;
    }
}

impl Observer for Bill {
    fn data(&mut self, piece: &Bytes) {
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

    /// Behind the protocol's own end nothing of a stream can break.
    fn is_over(&self) -> bool {
        self.reading.streams() && self.reading.meter.borrow().as_ref().is_some_and(Meter::has_ended)
    }

    /// A stream breaks: the provider's own error event says so, because no SDK notices a clean early end.
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
        if self.reading.meter.borrow().is_some() {
            self.settle(false);
        } else if self.sent.get() {
            self.charge_estimate();
        } else if let Some(lease) = self.lease.take() {
            lease.refund();
        }
    }
}

/// A request's body that tells when all of it was taken.
struct Watched {
    inner: Body,
    sent: Rc<Cell<bool>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || matches!(polled, Poll::Ready(Some(Ok(_)))) && self.inner.is_end_stream() {
            self.sent.set(true);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
