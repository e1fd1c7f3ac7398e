//! Answers whose reader has left, read to their end for the exact usage (`on_cut: drain`).
//!
//! An answer is read on within bounds of time, bytes and money; at the first of them it is dropped, and its bill settles as one that was
//! cut. The proxy's own stop ends it, too. The bill charges its payer as ever: whoever has left pays.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::Notify;

use super::reading::Reading;
use crate::{
    body::{Body, BodyError},
    config::{DrainBounds, OnCut},
    proxy::ask::Ask,
    telemetry::metrics::Family,
    usage::{Terms, Usage, UsageSource},
};

/// Answers that a worker reads on at once; further ones settle as cut.
const MOST: usize = 64;

/// A metered answer that is read on if its reader leaves before the end.
pub(in crate::proxy) struct ReadOn {
    answer: Option<LeftAnswer>,
}

/// A metered answer.
struct LeftAnswer {
    body: Body,
    reading: Rc<Reading>,
    ask: Rc<Ask>,
    bounds: DrainBounds,
}

impl ReadOn {
    /// The body of a metered answer, as the configuration wants it.
    pub(in crate::proxy) fn wrap(body: Body, reading: &Rc<Reading>, ask: &Rc<Ask>) -> Body {
        match &ask.worker.live.config.outbound {
            Some(outbound) if outbound.on_cut == OnCut::Drain => {
                let (reading, ask, bounds) = (reading.clone(), ask.clone(), outbound.drain);
                Body::stream(Self { answer: Some(LeftAnswer { body, reading, ask, bounds }) })
            }
            _ => body,
        }
    }
}

impl HttpBody for ReadOn {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.answer {
            Some(answer) => Pin::new(&mut answer.body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| answer.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.as_ref().map(|answer| answer.body.size_hint()).unwrap_or_default()
    }
}

impl Drop for ReadOn {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        let says_more = !answer.body.is_end_stream() && !answer.reading.ended() && !answer.reading.is_blind();
        if says_more && !answer.ask.proxy.stop.is_on() {
            let ask = answer.ask.clone();
            ask.proxy.read_on.put(answer);
        }
    }
}

/// The answers that wait to be read on. Belongs to a worker.
#[derive(Default)]
pub struct Leavings {
    waiting: RefCell<VecDeque<LeftAnswer>>,
    under_way: Rc<Cell<usize>>,
    news: Notify,
}

impl Leavings {
    fn put(&self, answer: LeftAnswer) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() + self.under_way.get() >= MOST {
            drop(waiting);
            return tell(&answer.ask, "too_many");
        }
        waiting.push_back(answer);
        self.news.notify_one();
    }

    /// Waits until there is an answer.
    pub async fn some(&self) {
        self.news.notified().await;
    }

    /// Reads on all that wait, each in a task of its own.
    pub fn begin(&self) {
        loop {
            let Some(answer) = self.waiting.borrow_mut().pop_front() else { return };
            let under_way = self.under_way.clone();
            under_way.set(under_way.get() + 1);
            tokio::task::spawn_local(async move {
                let stop = answer.ask.proxy.stop.clone();
                let ask = answer.ask.clone();
                let result = stop.woken(pin!(answer.read())).await;
                tell(&ask, if stop.is_on() && result != "exact" { "stopped" } else { result });
                under_way.set(under_way.get() - 1);
            });
        }
    }

    /// Settles all that wait as cut. To be called when the worker ends.
    pub fn give_up(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        drop(waiting);
    }
}

impl LeftAnswer {
    /// Reads to the end, or to the first bound; gives the result in the word of the metric.
    async fn read(mut self) -> &'static str {
        let time = self.bounds.time;
        let ended = tokio::time::timeout(time, self.read_all()).await.unwrap_or("time");
        let Self { body, reading, .. } = self;
        // The bill is settled when its body is dropped.
        drop(body);
        match reading.observed() {
            Some(observed) if observed.source == UsageSource::Provider => "exact",
            _ => ended,
        }
    }

    async fn read_all(&mut self) -> &'static str {
        let mut bytes = 0u64;
        while let Some(Ok(frame)) = self.body.frame().await {
            bytes += frame.data_ref().map_or(0, |piece| piece.len() as u64);
            if self.reading.ended() {
                break;
            }
            if bytes > self.bounds.bytes {
                return "size";
            }
            if self.cost() > self.bounds.nano_usd {
                return "usd";
            }
        }
        "unknown"
    }

    /// Nano-dollars of the output so far, by the proxy's own count; 0: the model has no price.
    fn cost(&self) -> u64 {
        let Some(model) = self.ask.call().and_then(|call| call.model.as_deref()) else { return 0 };
        let usage = Usage { output: self.reading.spoken(), ..Usage::default() };
        self.ask.worker.live.prices.cost_under(model, &usage, Terms::default()).unwrap_or(0)
    }
}

/// Counts an answer whose reader has left.
fn tell(ask: &Ask, result: &'static str) {
    let Some(call) = ask.call() else { return };
    ask.proxy.telemetry.metrics.counter(Family::DrainedAnswers, &[&call.provider, result]).inc();
}
