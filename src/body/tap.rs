//! A wrapper that observes a body: every piece, and exactly one end, also when the reader leaves early.
//!
//! The time bounds of a body are here too: only the wrapper sees every piece. The idle timer is armed once and moved only when
//! it fires: a piece costs no timer operation.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{Body, BodyError};

/// Observes a body.
pub trait Observer {
    /// A piece passed.
    fn data(&mut self, piece: &Bytes);
    /// The last piece passed, and the body has ended well: [`Self::data`] and [`Self::end`] at once.
    fn last(&mut self, piece: &Bytes) {
        self.data(piece);
        self.end(End::Complete);
    }
    /// Trailers passed.
    fn trailers(&mut self, _trailers: &HeaderMap) {}
    /// Whether a waiting body must end now, as broken ([`BodyError::Stopping`]).
    fn must_stop(&self) -> bool {
        false
    }
    /// The body has ended. Called exactly once; [`Self::last`] counts.
    fn end(&mut self, end: End<'_>);
    /// Whether the reader has everything it needs: a break is then no failure, and the body ends well.
    fn is_over(&self) -> bool {
        false
    }
    /// An error is about to reach the reader: the last chance to say it in the protocol's own words. The returned piece is sent
    /// first; the body still ends as broken.
    fn last_words(&mut self, _error: &BodyError) -> Option<Bytes> {
        None
    }
}

/// How a body ended.
#[derive(Debug, Clone, Copy)]
pub enum End<'a> {
    /// All of it passed.
    Complete,
    /// It broke.
    Broken(&'a BodyError),
    /// The reader left.
    Abandoned,
}

/// An observed body.
pub struct Tap {
    inner: Body,
    observer: Box<dyn Observer>,
    ended: bool,
    /// The error that comes next. The writer gets one turn before it: hyper (HTTP/2) does not flush the bytes it holds when a
    /// body errs in the same poll.
    broken: Option<(BodyError, bool)>,
    bounds: Option<Pin<Box<Timer>>>,
}

/// Time bounds of an observed body.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeBounds {
    /// Longest pause between two pieces.
    pub idle: Option<Duration>,
    /// The time by which the body must have ended.
    pub deadline: Option<Instant>,
}

struct Timer {
    bounds: TimeBounds,
    /// When the reader began to wait for the missing piece: a slow reader is not the sender's fault.
    waiting: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl Tap {
    /// Observes `inner`, within `bounds`.
    pub fn new(inner: Body, bounds: TimeBounds, observer: Box<dyn Observer>) -> Self {
        let bounds = (bounds.idle.is_some() || bounds.deadline.is_some()).then(|| Box::pin(Timer::new(bounds)));
        Self { inner, observer, ended: false, broken: None, bounds }
    }

    fn end(&mut self, end: End<'_>) {
        if !self.ended {
            self.ended = true;
            self.observer.end(end);
        }
    }
}

impl Tap {
    /// Ends a broken inner body: the observer's last words first, then the error. A body that [`Observer::is_over`] only ends.
    fn break_off(&mut self, error: BodyError, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.observer.is_over() {
            self.inner = Body::Empty;
            self.end(End::Complete);
            return Poll::Ready(None);
        }
        let words = self.observer.last_words(&error);
        self.inner = Body::Empty;
        self.end(End::Broken(&error));
        self.broken = Some((error, false));
        match words.filter(|words| !words.is_empty()) {
            Some(words) => Poll::Ready(Some(Ok(Frame::data(words)))),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl Timer {
    fn new(bounds: TimeBounds) -> Self {
        let far = Instant::now() + Duration::from_secs(86_400);
        let first = bounds.idle.map(|idle| Instant::now() + idle).unwrap_or(far);
        let due = bounds.deadline.map_or(first, |deadline| deadline.min(first));
        Self { bounds, waiting: None, sleep: Box::pin(tokio::time::sleep_until(due)) }
    }

    /// The inner body has no piece yet: checks the time bounds.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        loop {
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if self.bounds.deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(BodyError::Deadline);
            }
            let idle = self.bounds.idle.map(|idle| since + idle);
            match idle {
                Some(due) if due <= now => return Poll::Ready(BodyError::Idle(self.bounds.idle.unwrap_or_default())),
                idle => {
                    let next = idle.into_iter().chain(self.bounds.deadline).min();
                    self.sleep.as_mut().reset(next.unwrap_or(now + Duration::from_secs(86_400)));
                }
            }
        }
    }
}

impl HttpBody for Tap {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match this.broken.take() {
            Some((error, false)) => {
                this.broken = Some((error, true));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some((error, true)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let mut polled = Pin::new(&mut this.inner).poll_frame(cx);
        if let Some(timer) = &mut this.bounds {
            if polled.is_ready() {
                timer.waiting = None;
            } else if let Poll::Ready(error) = timer.poll(cx) {
                polled = Poll::Ready(Some(Err(error)));
            }
        }
        if polled.is_pending() && this.observer.must_stop() {
            polled = Poll::Ready(Some(Err(BodyError::Stopping)));
        }
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.end(End::Complete);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => {
                let ends = this.inner.is_end_stream();
                match (frame.data_ref(), frame.trailers_ref()) {
                    (Some(piece), _) if ends => {
                        this.ended = true;
                        this.observer.last(piece);
                    }
                    (Some(piece), _) => this.observer.data(piece),
                    (None, Some(trailers)) => this.observer.trailers(trailers),
                    (None, None) => {}
                }
                if ends {
                    this.end(End::Complete);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => this.break_off(error, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // A writer does not poll a body beyond its announced length: that is a complete end.
        let end = if self.inner.is_end_stream() { End::Complete } else { End::Abandoned };
        // The inner body ends first: an exchange ends after its costs are settled.
        self.inner = Body::Empty;
        self.end(end);
    }
}
