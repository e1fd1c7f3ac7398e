//! A request body on its way in: counted, bounded in size and in pauses, never held.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{sync::Notify, time::Sleep};

use super::{Body, BodyError};

/// What is known of an upload while others hold its body.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that have passed.
    pub bytes: Cell<u64>,
    done: Cell<bool>,
    failed: RefCell<Option<Failure>>,
    changed: Notify,
    abandoned: Cell<bool>,
    /// Whoever waits for the next piece.
    reader: RefCell<Option<Waker>>,
}

/// Why an upload ended early; always the client's fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// More than this many bytes.
    TooLarge(u64),
    /// No byte for this long.
    Idle(Duration),
    /// Broken off or malformed.
    Broken(String),
}

/// A counted, bounded request body.
pub struct Upload {
    inner: Body,
    progress: Rc<Progress>,
    max: Option<u64>,
    idle: Option<(Duration, Option<Pin<Box<Sleep>>>)>,
}

impl Progress {
    /// Nothing is left to send.
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

    /// Nobody wants the rest: the exchange has been answered (RFC 9112 section 9.5). What still reads it gets an error.
    pub fn abandon(&self) {
        self.abandoned.set(true);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Marks a request that has no body, or whose body was read before.
    pub fn finish(&self) {
        self.done.set(true);
        self.changed.notify_waiters();
    }
}

impl Upload {
    /// Counts `inner` into `progress`; at most `max` bytes, no pause longer than `idle`.
    pub fn new(inner: Body, progress: Rc<Progress>, max: Option<u64>, idle: Option<Duration>) -> Self {
        Self { inner, progress, max, idle: idle.map(|bound| (bound, None)) }
    }

    fn fail(&mut self, failure: Failure) -> BodyError {
        let error = match &failure {
            Failure::TooLarge(max) => BodyError::TooLarge(*max),
            Failure::Idle(after) => BodyError::Idle(*after),
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
                if let Some((bound, timer)) = &mut this.idle {
                    let bound = *bound;
                    let sleep = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(bound)));
                    if sleep.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Some(Err(this.fail(Failure::Idle(bound)))));
                    }
                }
                Poll::Pending
            }
            Poll::Ready(polled) => {
                this.progress.reader.borrow_mut().take();
                if let Some((_, timer)) = &mut this.idle {
                    *timer = None;
                }
                match polled {
                    None => {
                        this.progress.finish();
                        Poll::Ready(None)
                    }
                    Some(Ok(frame)) => {
                        if let Some(piece) = frame.data_ref() {
                            let bytes = this.progress.bytes.get() + piece.len() as u64;
                            this.progress.bytes.set(bytes);
                            if let Some(max) = this.max
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

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_given_up_after_the_idle_bound() {
        let progress = Rc::new(Progress::default());
        let upload = Upload::new(Body::stream(Never), progress.clone(), None, Some(Duration::from_secs(5)));
        assert!(upload.collect().await.is_err());
        assert_eq!(progress.failure(), Some(Failure::Idle(Duration::from_secs(5))));
        assert!(!progress.is_done());
    }

    #[tokio::test]
    async fn an_upload_that_nobody_wants_ends_at_once() {
        let progress = Rc::new(Progress::default());
        let upload = Upload::new(Body::stream(Never), progress.clone(), None, None);
        let (ended, ()) = futures_util::future::join(upload.collect(), async { progress.abandon() }).await;
        assert!(ended.is_err());
        assert_eq!((progress.failure(), progress.is_done()), (None, false), "the client is not to blame");
    }

    #[tokio::test]
    async fn one_byte_too_many_fails_and_exactly_enough_passes() {
        for (max, ok) in [(4, false), (5, true)] {
            let progress = Rc::new(Progress::default());
            let upload = Upload::new(Body::full("12345"), progress.clone(), Some(max), None);
            assert_eq!(upload.collect().await.is_ok(), ok);
            assert_eq!(progress.is_done(), ok);
        }
    }
}
