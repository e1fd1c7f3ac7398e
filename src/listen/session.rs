//! A client's connection as the listener sees it: what it is doing, since when, and the end of it.
//!
//! Time bounds cost a request nothing: a connection notes the worker's coarse tick when it changes its state, and one sweep
//! a second ends those that overstay. Bounds therefore hold to within a second. (The cells are atomic only because hyper wants
//! a stream that may be upgraded to be `Send`; nothing here ever leaves its worker.)

use std::{
    cell::RefCell,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{framing::Flaw, interim::Interims};
use crate::body::{Body, BodyError};

/// How often connections are looked at.
pub const SWEEP: Duration = Duration::from_secs(1);

/// One client connection.
#[derive(Debug)]
pub struct Session {
    tick: Arc<AtomicU32>,
    phase: AtomicU8,
    since: AtomicU32,
    /// Writing has been waiting for the client since this tick; 0 is not waiting.
    stalled: AtomicU32,
    bounds: SessionBounds,
    order: AtomicU8,
    waker: AtomicWaker,
    held: OnceLock<super::Held>,
    /// Heads that hyper has handed over.
    heads: AtomicU32,
    /// From this head on nothing is believed; 0: all is well.
    flawed_from: AtomicU32,
    flaw: AtomicU8,
    /// HTTP/2: many requests at once.
    multiplexed: AtomicBool,
    /// Requests in hand.
    inflight: AtomicU32,
    /// Requests that the client took back before there was an answer.
    taken_back: AtomicU32,
    /// What goes out before the answer.
    pub(super) interims: Interims,
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

/// What a connection is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing new.
    GoOn,
    /// Finish the request in hand, take no other.
    Finish,
    /// End now.
    End,
}

// Phases.
/// Nothing of a next head has come.
const IDLE: u8 = 0;
/// A head has begun, or the first one is awaited.
const HEAD: u8 = 1;
/// A request is being answered.
const SERVING: u8 = 2;
/// Tunnelled; bounds of HTTP no longer apply.
const UPGRADED: u8 = 3;

/// All connections of one worker's listener.
#[derive(Debug, Default)]
pub struct Sessions {
    tick: Arc<AtomicU32>,
    all: RefCell<Vec<Weak<Session>>>,
}

impl Sessions {
    /// Notes a new connection.
    pub fn open(&self, bounds: SessionBounds) -> Arc<Session> {
        let session = Arc::new(Session {
            tick: self.tick.clone(),
            phase: AtomicU8::new(HEAD),
            since: AtomicU32::new(self.tick.load(Relaxed)),
            stalled: AtomicU32::new(0),
            bounds,
            order: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            held: OnceLock::new(),
            heads: AtomicU32::new(0),
            flawed_from: AtomicU32::new(0),
            flaw: AtomicU8::new(0),
            multiplexed: AtomicBool::new(false),
            inflight: AtomicU32::new(0),
            taken_back: AtomicU32::new(0),
            interims: Interims::default(),
        });
        self.all.borrow_mut().push(Arc::downgrade(&session));
        session
    }

    /// Moves the coarse clock and ends what overstays. Call every [`SWEEP`].
    pub fn sweep(&self) {
        let tick = self.tick.load(Relaxed).wrapping_add(1).max(1);
        self.tick.store(tick, Relaxed);
        self.each(Session::check);
    }

    /// Tells every connection.
    pub fn tell(&self, order: Order) {
        self.each(|session| session.tell(order));
    }

    /// Tells those that speak HTTP/2.
    pub fn tell_multiplexed(&self, order: Order) {
        self.each(|session| {
            if session.is_multiplexed() {
                session.tell(order);
            }
        });
    }

    /// Connections that are open.
    pub fn count(&self) -> usize {
        self.each(|_| {});
        self.all.borrow().len()
    }

    fn each(&self, visit: impl Fn(&Session)) {
        self.all.borrow_mut().retain(|weak| match weak.upgrade() {
            Some(session) => {
                visit(&session);
                true
            }
            None => false,
        });
    }
}

impl Session {
    /// Keeps what counts the connection until its very end.
    pub(super) fn hold(&self, held: super::Held) {
        let _ = self.held.set(held);
    }

    /// A head is complete; what the raw bytes say against it. The connection serves until the guard is dropped.
    pub fn serving(self: &Arc<Self>) -> (Serving, Option<Flaw>) {
        self.enter(SERVING);
        self.inflight.store(self.inflight.load(Relaxed) + 1, Relaxed);
        (Serving { session: self.clone(), answered: false }, self.next_head())
    }

    /// The connection speaks HTTP/2; nothing is in hand.
    pub fn multiplexes(&self) {
        self.multiplexed.store(true, Relaxed);
        self.enter(IDLE);
    }

    /// Whether the connection speaks HTTP/2.
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    fn next_head(&self) -> Option<Flaw> {
        let heads = self.heads.load(Relaxed).wrapping_add(1);
        self.heads.store(heads, Relaxed);
        let from = self.flawed_from.load(Relaxed);
        if from != 0 && heads >= from { Flaw::from_number(self.flaw.load(Relaxed)) } else { None }
    }

    /// The number of the request in hand, from 1.
    pub fn request(&self) -> u32 {
        self.heads.load(Relaxed)
    }

    /// A coming head, by number, is flawed.
    pub(super) fn distrust(&self, head: u32, flaw: Flaw) {
        self.flaw.store(flaw as u8, Relaxed);
        self.flawed_from.store(head, Relaxed);
    }

    /// Whether a next head has not begun.
    pub(super) fn is_idle(&self) -> bool {
        self.phase.load(Relaxed) == IDLE
    }

    /// Whether bytes are no longer HTTP/1.
    pub(super) fn is_tunnel(&self) -> bool {
        self.phase.load(Relaxed) == UPGRADED
    }

    /// A next head has begun.
    pub(super) fn begins(&self) {
        self.enter(HEAD);
    }

    /// The client takes bytes, or does not.
    pub(super) fn writing(&self, moves: bool) {
        if moves {
            self.stalled.store(0, Relaxed);
        } else if self.stalled.load(Relaxed) == 0 {
            self.stalled.store(self.tick.load(Relaxed).max(1), Relaxed);
        }
    }

    /// Has the connection's task look at it again.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// The answer is a tunnel from here on.
    pub fn upgraded(&self) {
        self.enter(UPGRADED);
    }

    /// What the connection should do; its task is woken when that changes.
    pub fn poll_order(&self, cx: &Context<'_>) -> Order {
        self.waker.register(cx.waker());
        match self.order.load(Relaxed) {
            0 => Order::GoOn,
            1 => Order::Finish,
            _ => Order::End,
        }
    }

    /// Polls until there is something, or `None` as soon as the connection must end.
    pub async fn unless_ordered<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        std::future::poll_fn(|cx| match self.poll_order(cx) {
            Order::GoOn => poll(cx).map(Some),
            Order::Finish | Order::End => Poll::Ready(None),
        })
        .await
    }

    /// Runs what comes before the first request, or `None` as soon as the connection must end.
    pub async fn unless_ended<T>(&self, before: impl Future<Output = T>) -> Option<T> {
        let mut before = pin!(before);
        self.unless_ordered(|cx| before.as_mut().poll(cx)).await
    }

    /// Runs a connection to its end, as ordered; `finish` begins its graceful end.
    pub async fn drive<C: Future<Output = hyper::Result<()>>>(&self, connection: C, finish: impl Fn(Pin<&mut C>)) -> hyper::Result<()> {
        let mut connection = pin!(connection);
        let mut finishing = false;
        std::future::poll_fn(|cx| {
            match self.poll_order(cx) {
                Order::Finish if !finishing => {
                    finishing = true;
                    finish(connection.as_mut());
                }
                Order::GoOn | Order::Finish => {}
                Order::End => return Poll::Ready(Ok(())),
            }
            connection.as_mut().poll(cx)
        })
        .await
    }

    /// Orders can only become stricter.
    pub fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
        self.waker.wake();
    }

    fn enter(&self, phase: u8) {
        self.phase.store(phase, Relaxed);
        self.since.store(self.tick.load(Relaxed), Relaxed);
    }

    fn check(&self) {
        let tick = self.tick.load(Relaxed);
        let spent = tick.wrapping_sub(self.since.load(Relaxed));
        let stalled = self.stalled.load(Relaxed);
        let overstayed = match self.phase.load(Relaxed) {
            // GOAWAY first, so that no request crosses the end.
            IDLE if self.is_multiplexed() && spent > self.bounds.idle && spent <= self.bounds.idle + self.bounds.head => {
                return self.tell(Order::Finish);
            }
            IDLE => spent > self.bounds.idle,
            HEAD => spent > self.bounds.head,
            SERVING => stalled != 0 && tick.wrapping_sub(stalled) > self.bounds.write,
            _ => false,
        };
        if overstayed {
            self.tell(Order::End);
        }
    }
}

/// A request in hand. Its end, whatever it is, makes the connection idle again if it was the last.
#[derive(Debug)]
pub struct Serving {
    session: Arc<Session>,
    answered: bool,
}

/// Requests of a connection that may be taken back before it is closed; beyond that, as many as were answered.
const MAX_TAKEN_BACK: u32 = 100;

impl Drop for Serving {
    fn drop(&mut self) {
        let session = &*self.session;
        let left = session.inflight.load(Relaxed).saturating_sub(1);
        session.inflight.store(left, Relaxed);
        if left == 0 && session.phase.load(Relaxed) == SERVING {
            session.enter(IDLE);
        }
        if !self.answered {
            let taken_back = session.taken_back.load(Relaxed) + 1;
            session.taken_back.store(taken_back, Relaxed);
            // Opening streams and resetting them costs a client nothing and us a try each (CVE-2023-44487).
            if session.is_multiplexed() && taken_back > MAX_TAKEN_BACK && taken_back > session.heads.load(Relaxed) / 2 {
                session.tell(Order::End);
            }
        }
    }
}

/// A response body, and the request that it ends.
pub struct Outgoing {
    body: Body,
    _serving: Serving,
}

impl Outgoing {
    /// The body of the answer to a request in hand.
    pub fn new(body: Body, mut serving: Serving) -> Self {
        serving.answered = true;
        Self { body, _serving: serving }
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

    #[test]
    fn a_client_that_takes_nothing_is_ended() {
        let sessions = Sessions::default();
        let (slow, quick) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
        let _requests = [&slow, &quick].map(|session| {
            session.writing(false);
            session.serving()
        });
        for _ in 0..4 {
            assert!(!ended(&slow));
            sessions.sweep();
            quick.writing(true);
        }
        sessions.sweep();
        assert!(ended(&slow) && !ended(&quick));
    }

    #[test]
    fn a_client_that_takes_its_requests_back_is_ended() {
        let sessions = Sessions::default();
        let (hostile, honest) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
        for session in [&hostile, &honest] {
            session.multiplexes();
        }
        for _ in 0..150 {
            assert!(!ended(&honest));
            drop(hostile.serving());
            drop(honest.serving());
            (0..2).for_each(|_| drop(Outgoing::new(Body::Empty, honest.serving().0)));
        }
        assert!(ended(&hostile) && !ended(&honest));
    }

    #[test]
    fn an_idle_http2_connection_is_told_before_it_ends() {
        let sessions = Sessions::default();
        let session = sessions.open(BOUNDS);
        session.multiplexes();
        let order = || session.poll_order(&Context::from_waker(std::task::Waker::noop()));
        let orders: Vec<Order> = (0..8)
            .map(|_| {
                sessions.sweep();
                order()
            })
            .collect();
        use Order::{End, Finish, GoOn};
        assert_eq!(orders, [GoOn, GoOn, GoOn, GoOn, GoOn, Finish, Finish, End]);
    }

    #[test]
    fn a_flaw_counts_from_its_head_on() {
        let session = Sessions::default().open(BOUNDS);
        session.distrust(2, Flaw::BareLf);
        assert_eq!([session.serving().1, session.serving().1, session.serving().1], [None, Some(Flaw::BareLf), Some(Flaw::BareLf)]);
    }

    const BOUNDS: SessionBounds = SessionBounds { head: 2, idle: 5, write: 3 };

    fn ended(session: &Session) -> bool {
        session.poll_order(&Context::from_waker(std::task::Waker::noop())) == Order::End
    }

    #[test]
    fn a_head_that_does_not_end_ends_the_connection() {
        let sessions = Sessions::default();
        let (slow, busy) = (sessions.open(BOUNDS), sessions.open(BOUNDS));
        let _request = busy.serving();
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
        let (serving, _) = idle.serving();
        drop(Outgoing::new(Body::Empty, serving));
        tunnel.upgraded();
        for _ in 0..5 {
            sessions.sweep();
            assert!(!ended(&idle));
        }
        sessions.sweep();
        assert!(ended(&idle) && !ended(&tunnel));
    }
}
