//! A client's connection as the listener sees it: its phase, the time since when, and its end.
//!
//! Time bounds cost a request nothing: a connection notes the worker's coarse tick at each change of phase, and one sweep a
//! second ends connections that overstay. Bounds therefore hold to within a second.

use std::{
    cell::{Cell, OnceCell, RefCell},
    future::Future,
    ops::DerefMut,
    pin::{Pin, pin},
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};

/// Time between two sweeps.
pub const SWEEP: Duration = Duration::from_secs(1);

/// One client connection.
#[derive(Debug)]
pub struct Session {
    tick: Rc<Cell<u32>>,
    phase: Cell<u8>,
    since: Cell<u32>,
    /// The tick since which writing waits for the client; 0: it does not wait.
    stalled: Cell<u32>,
    /// The client's credit in bytes against the least rate: taken bytes raise it, waiting lowers it.
    credit: Cell<u64>,
    bounds: SessionBounds,
    order: Cell<u8>,
    waker: RefCell<Option<Waker>>,
    held: OnceCell<super::Held>,
    /// Requests since the beginning.
    requests: Cell<u32>,
    /// The connection speaks HTTP/2: many requests at once.
    multiplexed: Cell<bool>,
    /// Requests in hand.
    inflight: Cell<u32>,
    /// Requests that the client took back before there was an answer.
    taken_back: Cell<u32>,
}

/// Bounds of a connection, in sweeps.
#[derive(Debug, Clone, Copy)]
pub struct SessionBounds {
    /// Until a request head is whole.
    pub head: u32,
    /// Without a request.
    pub idle: u32,
    /// Without the client taking a byte that waits for it.
    pub write: u32,
    /// Fewest bytes that the client must take between two sweeps while some wait; 0: any number.
    pub rate: u64,
}

/// The bound that a connection broke.
pub type Overstayed = &'static str;

/// Most bytes of an answer that sockets hold (Linux: `tcp_wmem`): bytes written beyond it were taken.
const IN_SOCKETS: u64 = 4 << 20;
/// Sweeps that a client may be behind the least rate.
const GRACE: u64 = crate::body::upload::GRACE.as_secs();

/// An order to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// No new order.
    GoOn,
    /// Finish the request in hand, take no other.
    Finish,
    /// End at once.
    End,
}

// Phases.
/// No byte of a next head has come.
const IDLE: u8 = 0;
/// A head has begun, or the first one is awaited.
const HEAD: u8 = 1;
/// A request is being answered.
const SERVING: u8 = 2;
/// A tunnel; bounds of HTTP no longer apply.
const UPGRADED: u8 = 3;

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
            phase: Cell::new(HEAD),
            since: Cell::new(self.tick.get()),
            stalled: Cell::new(0),
            credit: Cell::new(bounds.rate.saturating_mul(GRACE)),
            bounds,
            order: Cell::new(0),
            waker: RefCell::default(),
            held: OnceCell::new(),
            requests: Cell::new(0),
            multiplexed: Cell::new(false),
            inflight: Cell::new(0),
            taken_back: Cell::new(0),
        });
        self.all.borrow_mut().push(Rc::downgrade(&session));
        session
    }

    /// Moves the coarse clock and ends connections that overstay; `ended` gets the bound. Call every [`SWEEP`].
    pub fn sweep(&self, ended: impl Fn(Overstayed)) {
        let tick = self.tick.get().wrapping_add(1).max(1);
        self.tick.set(tick);
        self.each(|session| {
            if let Some(why) = session.check() {
                ended(why);
            }
        });
    }

    /// Gives every connection an order.
    pub fn tell(&self, order: Order) {
        self.each(|session| session.tell(order));
    }

    /// Gives the connections that speak HTTP/2 an order.
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
    /// Holds the counts of the connection until its very end.
    pub(super) fn hold(&self, held: super::Held) {
        let _ = self.held.set(held);
    }

    /// A head is complete. The connection serves until the guard is dropped.
    pub fn serving(self: &Rc<Self>) -> Serving {
        self.enter(SERVING);
        self.inflight.set(self.inflight.get() + 1);
        self.requests.set(self.requests.get().wrapping_add(1));
        Serving { session: self.clone(), answered: false, place: None }
    }

    /// The connection speaks HTTP/2; no request is in hand.
    pub fn multiplexes(&self) {
        self.multiplexed.set(true);
        self.enter(IDLE);
    }

    /// Whether the connection speaks HTTP/2.
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    /// Whether no next head has begun.
    pub(super) fn is_idle(&self) -> bool {
        self.phase.get() == IDLE
    }

    /// A next head has begun.
    pub(super) fn begins(&self) {
        self.enter(HEAD);
    }

    /// The client took this many bytes; `None`: it takes none now.
    pub(super) fn writing(&self, taken: Option<usize>) {
        if let Some(taken) = taken {
            self.stalled.set(0);
            if self.bounds.rate != 0 {
                let most = self.bounds.rate.saturating_mul(GRACE).saturating_add(IN_SOCKETS);
                let credit = self.credit.get();
                if credit != u64::MAX {
                    self.credit.set(credit.saturating_add(taken as u64).min(most));
                }
            }
        } else if self.stalled.get() == 0 {
            self.stalled.set(self.tick.get().max(1));
        }
    }

    /// Lifts the least rate for the client: one of its calls streams both ways.
    pub(super) fn unhurried(&self) {
        self.credit.set(u64::MAX);
    }

    /// Wakes the connection's task: it looks at the connection again.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The answer is a tunnel from here on.
    pub fn upgraded(&self) {
        self.enter(UPGRADED);
    }

    /// The present order; the task is woken when the order changes.
    pub fn poll_order(&self, cx: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        match self.order.get() {
            0 => Order::GoOn,
            1 => Order::Finish,
            _ => Order::End,
        }
    }

    /// Polls until there is a value, or gives `None` as soon as the connection must end.
    pub async fn unless_ordered<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        std::future::poll_fn(|cx| match self.poll_order(cx) {
            Order::GoOn => poll(cx).map(Some),
            Order::Finish | Order::End => Poll::Ready(None),
        })
        .await
    }

    /// Runs `work`, or gives `None` as soon as the connection must end at once.
    pub async fn unless_at_end<T>(&self, mut work: Pin<impl DerefMut<Target: Future<Output = T>>>) -> Option<T> {
        std::future::poll_fn(|cx| match self.poll_order(cx) {
            Order::End => Poll::Ready(None),
            Order::GoOn | Order::Finish => work.as_mut().poll(cx).map(Some),
        })
        .await
    }

    /// Runs the work before the first request, or gives `None` as soon as the connection must end.
    pub async fn unless_ended<T>(&self, before: impl Future<Output = T>) -> Option<T> {
        let mut before = pin!(before);
        self.unless_ordered(|cx| before.as_mut().poll(cx)).await
    }

    /// Runs an HTTP/2 connection to its end, as ordered; `finish` begins its graceful end.
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

    /// Gives the connection an order. Orders can only become stricter.
    pub fn tell(&self, order: Order) {
        self.order.set(self.order.get().max(order as u8));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn enter(&self, phase: u8) {
        self.phase.set(phase);
        self.since.set(self.tick.get());
    }

    /// Ends the connection if it has overstayed; gives the bound.
    fn check(&self) -> Option<Overstayed> {
        if self.order.get() == Order::End as u8 {
            return None;
        }
        let tick = self.tick.get();
        let spent = tick.wrapping_sub(self.since.get());
        let stalled = self.stalled.get();
        let overstayed = match self.phase.get() {
            // GOAWAY goes out first: no request may cross the end.
            IDLE if self.is_multiplexed() && spent > self.bounds.idle && spent <= self.bounds.idle + self.bounds.head => {
                self.tell(Order::Finish);
                None
            }
            IDLE => {
                // An idle end is normal: no bound was broken.
                if spent > self.bounds.idle {
                    self.tell(Order::End);
                }
                None
            }
            HEAD => (spent > self.bounds.head).then_some("header_read"),
            SERVING if stalled != 0 => {
                let still = tick.wrapping_sub(stalled) > self.bounds.write;
                if still { Some("write_idle") } else { self.is_behind().then_some("min_rate") }
            }
            _ => None,
        };
        if overstayed.is_some() {
            self.tell(Order::End);
        }
        overstayed
    }

    /// Bytes have waited for the client since the last sweep: takes their cost from its credit. Gives whether the credit is used up.
    fn is_behind(&self) -> bool {
        let (credit, rate) = (self.credit.get(), self.bounds.rate);
        if rate == 0 || credit == u64::MAX {
            return false;
        }
        self.credit.set(credit.saturating_sub(rate));
        credit < rate
    }
}

/// A request in hand. At the end of the last one, whatever the end is, the connection is idle again.
pub struct Serving {
    session: Rc<Session>,
    answered: bool,
    /// The request's place among those in hand of the door.
    pub(super) place: Option<super::Place>,
}

/// Requests that a client may take back before its connection is closed; beyond that, half of its requests.
const MAX_TAKEN_BACK: u32 = 100;

impl Drop for Serving {
    fn drop(&mut self) {
        let session = &*self.session;
        let left = session.inflight.get().saturating_sub(1);
        session.inflight.set(left);
        if left == 0 && session.phase.get() == SERVING {
            session.enter(IDLE);
        }
        if !self.answered {
            let taken_back = session.taken_back.get() + 1;
            session.taken_back.set(taken_back);
            // Opening and resetting streams costs a client nothing, and costs the proxy a try each (CVE-2023-44487).
            if session.is_multiplexed() && taken_back > MAX_TAKEN_BACK && taken_back > session.requests.get() / 2 {
                session.tell(Order::End);
            }
        }
    }
}

/// A response body; its end is the end of the request.
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
#[path = "session_tests.rs"]
mod tests;
