//! A client's connection as the listener sees it: what it is doing, since when, and the end of it.
//!
//! Time bounds cost a request nothing: a connection notes the worker's coarse tick when it changes its state, and one sweep
//! a second ends those that overstay. Bounds therefore hold to within a second.

use std::{
    cell::{Cell, RefCell},
    io,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::{Body, BodyError};

/// How often connections are looked at.
pub const SWEEP: Duration = Duration::from_secs(1);

/// One client connection.
#[derive(Debug)]
pub struct Session {
    tick: Rc<Cell<u32>>,
    phase: Cell<Phase>,
    since: Cell<u32>,
    /// Writing has been waiting for the client since this tick; 0 is not waiting.
    stalled: Cell<u32>,
    bounds: SessionBounds,
    ended: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Sweeps a connection may spend in a state.
#[derive(Debug, Clone, Copy)]
pub struct SessionBounds {
    /// For a whole request head.
    pub head: u32,
    /// Idle between requests.
    pub idle: u32,
    /// Without taking a byte of what is being sent.
    pub write: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of a first or next head has come.
    Idle,
    /// A head has begun.
    Head,
    /// A request is being answered.
    Serving,
    /// Tunnelled; bounds of HTTP no longer apply.
    Upgraded,
}

/// All connections of one worker's listener.
#[derive(Debug, Default)]
pub struct Sessions {
    tick: Rc<Cell<u32>>,
    all: RefCell<Vec<Weak<Session>>>,
}

impl Sessions {
    /// Notes a new connection.
    pub fn open(&self, bounds: SessionBounds) -> Rc<Session> {
        let session = Rc::new(Session {
            tick: self.tick.clone(),
            phase: Cell::new(Phase::Head),
            since: Cell::new(self.tick.get()),
            stalled: Cell::new(0),
            bounds,
            ended: Cell::new(false),
            waker: RefCell::default(),
        });
        self.all.borrow_mut().push(Rc::downgrade(&session));
        session
    }

    /// Moves the coarse clock and ends what overstays. Call every [`SWEEP`].
    pub fn sweep(&self) {
        self.tick.set(self.tick.get().wrapping_add(1).max(1));
        self.all.borrow_mut().retain(|weak| match weak.upgrade() {
            Some(session) => {
                session.check();
                true
            }
            None => false,
        });
    }
}

impl Session {
    /// A head is complete.
    pub fn serving(&self) {
        self.enter(Phase::Serving);
    }

    /// The answer is a tunnel from here on.
    pub fn upgraded(&self) {
        self.enter(Phase::Upgraded);
    }

    /// Whether nothing is being answered: the connection can be closed without harm.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase.get(), Phase::Idle | Phase::Head)
    }

    /// Ready when the connection must end; else the task is woken when that changes.
    pub fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        if self.ended.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.tick.get());
    }

    fn check(&self) {
        let spent = self.tick.get().wrapping_sub(self.since.get());
        let overstayed = match self.phase.get() {
            Phase::Idle => spent > self.bounds.idle,
            Phase::Head => spent > self.bounds.head,
            Phase::Serving => {
                let stalled = self.stalled.get();
                stalled != 0 && self.tick.get().wrapping_sub(stalled) > self.bounds.write
            }
            Phase::Upgraded => false,
        };
        if overstayed {
            self.ended.set(true);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

/// A client's byte stream, observed.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    session: Rc<Session>,
}

impl<S> Watched<S> {
    /// Reports what passes on `stream` to `session`.
    pub fn new(stream: S, session: Rc<Session>) -> Self {
        Self { stream, session }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.session.phase.get() == Phase::Idle && buf.filled().len() > before {
            self.session.enter(Phase::Head);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.session.stalled.set(0);
        } else if self.session.stalled.get() == 0 {
            self.session.stalled.set(self.session.tick.get().max(1));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A response body whose end, whatever it is, makes the connection idle again.
pub struct Outgoing {
    body: Body,
    session: Rc<Session>,
}

impl Outgoing {
    /// The body of an answer on `session`.
    pub fn new(body: Body, session: Rc<Session>) -> Self {
        Self { body, session }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if self.session.phase.get() == Phase::Serving {
            self.session.enter(Phase::Idle);
        }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: SessionBounds = SessionBounds { head: 2, idle: 5, write: 3 };

    fn ended(session: &Session) -> bool {
        session.poll_ended(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_head_that_does_not_end_ends_the_connection() {
        let sessions = Sessions::default();
        let (slow, busy) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
        busy.serving();
        for _ in 0..3 {
            assert!(!ended(&slow));
            sessions.sweep();
        }
        assert!(ended(&slow) && !ended(&busy));
    }

    #[test]
    fn an_idle_connection_ends_later_and_a_tunnel_never() {
        let sessions = Sessions::default();
        let (idle, tunnel) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
        idle.serving();
        drop(Outgoing::new(Body::Empty, idle.clone()));
        tunnel.upgraded();
        for _ in 0..5 {
            sessions.sweep();
            assert!(!ended(&idle));
        }
        sessions.sweep();
        assert!(ended(&idle) && !ended(&tunnel));
    }
}
