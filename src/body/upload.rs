//! A request body on its way in: counted; bounded in size, in pauses and in slowness; never held.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep},
};

use super::{Body, BodyError};
use crate::fields::Claims;

/// The state of an upload, for the parts that do not hold its body.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that have passed.
    pub bytes: Cell<u64>,
    done: Cell<bool>,
    failed: RefCell<Option<Failure>>,
    changed: Notify,
    abandoned: Cell<bool>,
    /// The reader that waits for the next piece.
    reader: RefCell<Option<Waker>>,
}

/// Why an upload ended early; always the client's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// More than this many bytes.
    TooLarge(u64),
    /// No byte for this long.
    Idle(Duration),
    /// Further than this behind the least rate.
    Slow(Duration),
    /// Broken off or malformed.
    Broken(String),
}

/// A counted, bounded request body.
pub struct Upload {
    inner: Body,
    progress: Rc<Progress>,
    bounds: UploadBounds,
    /// Fields that its trailers must not set.
    claims: Option<Arc<Claims>>,
    /// Time that the client may still be behind the least rate, if there is one.
    credit: Duration,
    /// The wait for the missing piece.
    waiting: Option<Waiting>,
}

/// Bounds of a request body. Only waiting for the client counts, not waiting for the reader of the body.
#[derive(Debug, Clone, Copy, Default)]
pub struct UploadBounds {
    /// Most bytes.
    pub max: Option<u64>,
    /// Longest pause.
    pub idle: Option<Duration>,
    /// Fewest bytes per second, at least 1: each byte adds time, and [`GRACE`] is there from the start.
    pub rate: Option<u64>,
}

/// How far a client may be behind the least rate.
pub const GRACE: Duration = Duration::from_secs(5);

struct Waiting {
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl UploadBounds {
    /// How long the client may be silent with this much credit left.
    fn patience(&self, credit: Duration) -> Option<Duration> {
        self.idle.into_iter().chain(self.rate.map(|_| credit)).min()
    }

    /// Most credit: fast bytes pay for no longer a pause than `idle` allows.
    fn most_credit(&self) -> Duration {
        self.idle.unwrap_or(Duration::MAX).max(GRACE)
    }
}

impl Progress {
    /// Whether nothing is left to send.
    pub fn is_done(&self) -> bool {
        self.done.get()
    }

    /// Why the upload ended early, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.failed.borrow().clone()
    }

    /// Whether the client owes the next piece.
    pub fn waits_for_client(&self) -> bool {
        self.reader.borrow().is_some()
    }

    /// Waits until nothing is left to send.
    pub async fn done(&self) {
        while !self.done.get() {
            let changed = self.changed.notified();
            if self.done.get() {
                return;
            }
            changed.await;
        }
    }

    /// The exchange has been answered and needs no more of the body (RFC 9112 section 9.5). A present reader gets an error.
    pub fn abandon(&self) {
        self.abandoned.set(true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Nothing is left to send.
    fn finish(&self) {
        self.done.set(true);
        self.changed.notify_waiters();
    }

    /// The progress of requests that have no body: done. All of a thread share it.
    pub fn nothing() -> Rc<Self> {
        thread_local! {
            static NOTHING: Rc<Progress> = Rc::new(Progress { done: Cell::new(true), ..Progress::default() });
        }
        NOTHING.with(Rc::clone)
    }
}

impl Upload {
    /// Counts `inner` into `progress`, within `bounds`.
    pub fn new(inner: Body, progress: Rc<Progress>, bounds: UploadBounds) -> Self {
        Self { inner, progress, bounds, claims: None, credit: GRACE, waiting: None }
    }

    /// Removes trailers that not every sender may set.
    pub fn scrubbed(self, claims: Arc<Claims>) -> Self {
        Self { claims: Some(claims), ..self }
    }

    /// The awaited piece has come: settles the credit.
    fn paid(&mut self, bytes: usize) {
        let waited = self.waiting.take().map(|waiting| waiting.since);
        let Some(rate) = self.bounds.rate else { return };
        if let Some(since) = waited {
            self.credit = self.credit.saturating_sub(since.elapsed());
        }
        let bought = Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.credit = (self.credit + bought).min(self.bounds.most_credit());
    }

    /// Whether the client has owed a piece for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Option<Failure> {
        let patience = self.bounds.patience(self.credit)?;
        let waiting = self.waiting.get_or_insert_with(|| Waiting { since: Instant::now(), timer: Box::pin(tokio::time::sleep(patience)) });
        if waiting.timer.as_mut().poll(cx).is_pending() {
            return None;
        }
        Some(if self.bounds.idle == Some(patience) { Failure::Idle(patience) } else { Failure::Slow(GRACE) })
    }

    fn fail(&mut self, failure: Failure) -> BodyError {
        let error = match &failure {
            Failure::TooLarge(max) => BodyError::TooLarge(*max),
            Failure::Idle(after) | Failure::Slow(after) => BodyError::Idle(*after),
            Failure::Broken(why) => BodyError::Fill(why.clone()),
        };
        *self.progress.failed.borrow_mut() = Some(failure);
        self.inner = Body::Empty;
        error
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.progress.abandoned.get() && !this.progress.done.get() {
            this.inner = Body::Empty;
            return Poll::Ready(Some(Err(BodyError::Fill("the answer came before the end of the request".into()))));
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => {
                let mut reader = this.progress.reader.borrow_mut();
                if reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
                    *reader = Some(cx.waker().clone());
                }
                drop(reader);
                match this.poll_overdue(cx) {
                    Some(failure) => Poll::Ready(Some(Err(this.fail(failure)))),
                    None => Poll::Pending,
                }
            }
            Poll::Ready(polled) => {
                this.progress.reader.borrow_mut().take();
                let bytes = match &polled {
                    Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                    _ => 0,
                };
                this.paid(bytes);
                match polled {
                    None => {
                        this.progress.finish();
                        Poll::Ready(None)
                    }
                    Some(Ok(mut frame)) => {
                        if let (Some(claims), Some(trailers)) = (&this.claims, frame.trailers_mut()) {
                            claims.scrub(trailers);
                        }
                        if let Some(piece) = frame.data_ref() {
                            let bytes = this.progress.bytes.get() + piece.len() as u64;
                            this.progress.bytes.set(bytes);
                            if let Some(max) = this.bounds.max
                                && bytes > max
                            {
                                return Poll::Ready(Some(Err(this.fail(Failure::TooLarge(max)))));
                            }
                        }
                        if this.inner.is_end_stream() {
                            this.progress.finish();
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => {
                        let failure = Failure::Broken(error.to_string());
                        Poll::Ready(Some(Err(this.fail(failure))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    struct Never;

    impl HttpBody for Never {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    fn idle(seconds: u64) -> UploadBounds {
        UploadBounds { idle: Some(Duration::from_secs(seconds)), ..UploadBounds::default() }
    }

    /// A client that sends these pieces, each after as many seconds.
    fn paced(pieces: &[(u64, usize)]) -> Body {
        let pieces = Vec::from(pieces).into_iter();
        let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
            let (after, bytes) = pieces.next()?;
            tokio::time::sleep(Duration::from_secs(after)).await;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::from(vec![0; bytes]))), pieces))
        });
        Body::stream(http_body_util::StreamBody::new(stream))
    }

    async fn ends(pieces: &[(u64, usize)], bounds: UploadBounds) -> (u64, Option<Failure>) {
        let progress = Rc::new(Progress::default());
        let _ = Upload::new(paced(pieces), progress.clone(), bounds).collect().await;
        (progress.bytes.get(), progress.failure())
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_a_little_behind_its_least_rate_and_no_more() {
        let bounds = UploadBounds { rate: Some(100), ..idle(60) };
        // Exactly the rate for an hour, and a pause that the grace covers.
        assert_eq!(ends(&[(1, 100); 3600], bounds).await, (360_000, None));
        assert_eq!(ends(&[(0, 1), (4, 1), (0, 1)], bounds).await, (3, None));
        // Half the rate: five seconds behind after ten.
        assert_eq!(ends(&[(1, 50); 3600], bounds).await, (450, Some(Failure::Slow(GRACE))));
        assert_eq!(ends(&[(6, 1)], bounds).await, (0, Some(Failure::Slow(GRACE))));
        // Fast bytes pay for a later pause, but for none longer than `idle`.
        assert_eq!(ends(&[(0, 10_000), (50, 1)], bounds).await, (10_001, None));
        assert_eq!(ends(&[(0, 1_000_000), (61, 1)], bounds).await, (1_000_000, Some(Failure::Idle(Duration::from_secs(60)))));
        let trickle: Vec<(u64, usize)> = [(0, 1_000_000)].into_iter().chain([(1, 1); 3600]).collect();
        let (bytes, failure) = ends(&trickle, bounds).await;
        assert_eq!(failure, Some(Failure::Slow(GRACE)));
        assert!((1_000_055..1_000_065).contains(&bytes), "no credit is for ever: {bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_whoever_takes_the_body_is_not_the_clients_fault() {
        let progress = Rc::new(Progress::default());
        let bounds = UploadBounds { rate: Some(100), ..idle(60) };
        let mut upload = Upload::new(paced(&[(1, 1), (1, 1), (1, 1)]), progress.clone(), bounds);
        while let Some(piece) = upload.frame().await {
            assert!(piece.is_ok());
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        assert_eq!(progress.failure(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up_after_the_idle_bound() {
        let progress = Rc::new(Progress::default());
        let upload = Upload::new(Body::stream(Never), progress.clone(), idle(5));
        assert!(upload.collect().await.is_err());
        assert_eq!(progress.failure(), Some(Failure::Idle(Duration::from_secs(5))));
        assert!(!progress.is_done());
    }

    #[tokio::test]
    async fn an_upload_that_nobody_wants_ends_at_once() {
        let progress = Rc::new(Progress::default());
        let upload = Upload::new(Body::stream(Never), progress.clone(), UploadBounds::default());
        let (ended, ()) = futures_util::future::join(upload.collect(), async { progress.abandon() }).await;
        assert!(ended.is_err());
        assert_eq!((progress.failure(), progress.is_done()), (None, false), "the client is not to blame");
    }

    #[tokio::test]
    async fn one_byte_too_many_fails_and_exactly_enough_passes() {
        for (max, ok) in [(4, false), (5, true)] {
            let progress = Rc::new(Progress::default());
            let upload = Upload::new(Body::full("12345"), progress.clone(), UploadBounds { max: Some(max), ..UploadBounds::default() });
            assert_eq!(upload.collect().await.is_ok(), ok);
            assert_eq!(progress.is_done(), ok);
        }
    }
}
