//! One try's bill: the one meter over its answer, and the charge that follows from it.
//!
//! A [`Bill`] is opened when a try is sent and settled exactly once: when the upstream's body ends, breaks or is dropped,
//! whoever reads it, or when no answer came. [`Reading`] is what others may know of the answer while it passes.

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

use super::{
    ask::Ask,
    ending,
    model::ModelCall,
    payer::{Charge, Payers, Pledge},
};
use crate::{
    body::{
        Body, BodyError,
        tap::{End, Observer},
    },
    clock::Instant,
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
            self.settle_work(call, &observed);
            let _ = self.reading.observed.set(observed);
            return;
        }
        if let Some(Work::Ended(id)) = &observed.work {
            // Whoever asks about it later is told the same figures.
            let _ = ask.proxy.shared.works.end(&self.provider, id, Instant::now());
        }
        if observed.source == UsageSource::Missing
            && observed.error.is_none()
            && let Some(facts) = &call.facts
        {
            // The work was very likely done: a stream without content has cost its prompt, anything else what was reserved.
            let prompt = Usage { input: facts.estimated_input, ..Usage::default() };
            observed.usage = if self.reading.streams() { prompt } else { call.estimate() };
            observed.source = UsageSource::Estimated;
        }
        self.count(call, &observed);
        if observed.source == UsageSource::Missing {
            match (self.lease.take(), observed.error) {
                // An error before any content is not billed.
                (Some(lease), Some(_)) => lease.refund(),
                (Some(lease), None) => lease.keep(),
                (None, _) => {}
            }
        } else {
            let answering = observed.model.as_deref();
            self.charge(call, observed.usage, observed.source, answering);
        }
        let _ = self.reading.observed.set(observed);
    }

    /// Settles an answer of which the work goes on, or is only asked about. What it used is charged once: to the one who began it,
    /// when the first answer says it.
    fn settle_work(&mut self, call: &ModelCall, observed: &Observed) {
        let works = &self.ask.proxy.shared.works;
        let now = Instant::now();
        let due = match &observed.work {
            Some(Work::GoesOn(id)) if call.shape.billed == Billed::ByAnswer => {
                let pledge = Pledge { payers: self.payers.clone(), lease: self.lease.take(), model: self.asked(call).map(Arc::from) };
                for forgotten in works.begin(&self.provider, id, pledge, now) {
                    tracing::warn!(provider = %self.provider, "a background response is forgotten: what was reserved for it stays charged");
                    self.ask.proxy.telemetry.metrics.counter(metrics::Family::BackgroundForgotten, &[]).inc();
                    forgotten.stand();
                }
                return;
            }
            Some(Work::Ended(id)) => works.end(&self.provider, id, now),
            _ => Due::Nothing,
        };
        match due {
            Due::From(pledge) => {
                if let Some(own) = self.lease.take() {
                    own.keep();
                }
                (self.payers, self.lease, self.model) = (pledge.payers, pledge.lease, pledge.model);
            }
            Due::FromWhoAsks => {}
            Due::Nothing => {
                if let Some(lease) = self.lease.take() {
                    lease.keep();
                }
                return;
            }
        }
        self.count(call, observed);
        self.charge(call, observed.usage, observed.source, observed.model.as_deref());
    }

    fn charge_estimate(&mut self) {
        self.settled = true;
        let ask = self.ask.clone();
        let Some(call) = ask.call().filter(|call| call.shape.billed == Billed::ByAnswer && call.facts.is_some()) else {
            if let Some(lease) = self.lease.take() {
                lease.keep();
            }
            return;
        };
        let observed = Observed { usage: call.estimate(), source: UsageSource::Estimated, ..Observed::default() };
        self.count(call, &observed);
        self.charge(call, observed.usage, observed.source, None);
    }

    fn charge(&mut self, call: &ModelCall, usage: Usage, source: UsageSource, answering: Option<&str>) {
        let ask = self.ask.clone();
        let asked = self.asked(call);
        let nano_usd = self.price(asked, answering, &usage);
        let model = asked.or(answering).unwrap_or("unknown").into();
        let charge = Charge { usage, source, nano_usd, provider: self.provider.clone(), model };
        let shared = &ask.proxy.shared;
        let (payer, late) = self.payers.charge(&charge, self.lease.take(), &shared.limits, Instant::now());
        shared.spend.add(payer.name(), nano_usd.unwrap_or(0), usage.total());
        if late {
            ending::charged_late(&ask, &payer, &charge);
        }
    }

    /// The model that was asked for at this target.
    fn asked<'a>(&'a self, call: &'a ModelCall) -> Option<&'a str> {
        self.model.as_deref().or(call.model.as_deref())
    }

    fn price(&self, asked: Option<&str>, answering: Option<&str>, usage: &Usage) -> Option<u64> {
        self.ask.worker.live.prices.cost_of(asked, answering, usage)
    }

    fn count(&self, call: &ModelCall, observed: &Observed) {
        let answering = observed.model.as_deref();
        let asked = self.asked(call);
        let cost = match observed.source {
            UsageSource::Missing => None,
            _ => self.price(asked, answering, &observed.usage),
        };
        self.ask.proxy.telemetry.metrics.model_call(&metrics::ModelCall {
            route: &self.ask.route_name(),
            provider: &self.provider,
            flavor: call.flavor(),
            operation: call.shape.metered_as().unwrap_or(call.shape.operation).as_str(),
            model: asked.or(answering).unwrap_or("unknown"),
            usage: observed.usage,
            source: observed.source,
            cost,
            duration: self.began.elapsed(),
            first_token: self.first_token.map(|at| at.saturating_duration_since(self.began)),
            error: observed.error.map(|class| class.as_str()),
            unattributed: call.join.is_unattributed(),
        });
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
