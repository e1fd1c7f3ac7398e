//! A worker's connections to one target. No lock: a pool never leaves its thread.
//!
//! Idle HTTP/1.1 connections are a stack: the warmest is used first and the coldest age out. Each is checked before its use: a
//! close by the target is noticed. HTTP/2 connections are in `http2`.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::Request;
use hyper::client::conn::TrySendError;
use tokio::{sync::Notify, time::Instant};

use super::{
    Dial, Outgoing, SendError, Stream, Target, answer,
    http2::{self, Channels, Seat},
    slots::{self, Slot},
    wire::{self, Tunnel, Wire},
};
use crate::{
    arrival::Informed,
    body::Body,
    config::Protocol,
    http1::{Fields, Id},
    message::AnswerHead,
    reject::Fault,
    telemetry::metrics::TargetCells,
    underway::InHand,
};

/// A worker's connections to one target.
pub struct Pool {
    /// The target of the connections.
    pub target: Arc<Target>,
    dial: Rc<dyn Dial>,
    idle: RefCell<Vec<Idle>>,
    channels: Channels,
    freed: Rc<Freed>,
    /// The counts of this target on this worker.
    pub cells: Rc<TargetCells>,
}

struct Idle {
    wire: wire::Shared,
    since: Instant,
}

/// Wakes requests of this worker that wait for a connection when one is free again.
#[derive(Default)]
pub struct Freed {
    waiting: Cell<usize>,
    free: Notify,
}

impl Freed {
    /// A connection, or a stream of one, is free.
    pub fn tell(&self) {
        if self.waiting.get() > 0 {
            self.free.notify_one();
        }
    }

    /// Counts a request that waits.
    fn enter(self: &Rc<Self>) -> Waits {
        self.waiting.set(self.waiting.get() + 1);
        Waits(self.clone())
    }
}

struct Waits(Rc<Freed>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

/// A response head, its body, and the connection that must be given back when the body has ended.
pub struct Received {
    /// The head as the target sent it.
    pub head: AnswerHead,
    /// The body as it comes.
    pub body: Body,
    /// Give it back with [`Connection::release`] at the body's end; dropping it closes.
    pub connection: Connection,
}

/// A connection in use: a whole HTTP/1.1 connection, or a stream of an HTTP/2 connection.
pub enum Connection {
    /// HTTP/1.1.
    Own(Own),
    /// HTTP/2.
    Stream(Seat),
}

/// Sends a request over a stream of an HTTP/2 connection.
async fn over_stream(seat: Seat, request: Request<Body>) -> Result<Received, TrySendError<Request<Body>>> {
    let response = seat.sender().try_send_request(request).await?;
    let (parts, body) = response.into_parts();
    let head = AnswerHead { status: parts.status, headers: Fields::from(&parts.headers), ..AnswerHead::default() };
    Ok(Received { head, body: Body::Http2(body), connection: Connection::Stream(seat) })
}

/// An HTTP/1.1 connection in use.
pub struct Own {
    wire: Option<wire::Shared>,
    pool: Rc<Pool>,
    work: Option<InHand>,
}

/// The bound on getting a connection, the wait for a slot included.
#[derive(Clone, Copy)]
struct Within {
    until: Instant,
    bound: Duration,
}

/// How often a request waits for a connection that another request opens before it opens its own.
const MAX_WAITS: u32 = 8;

impl Pool {
    /// An empty pool.
    pub fn new(target: Arc<Target>, dial: Rc<dyn Dial>, cells: Rc<TargetCells>) -> Self {
        Self { target, dial, idle: RefCell::default(), channels: Channels::default(), freed: Rc::default(), cells }
    }

    /// Sends a request over an idle or a new connection and waits for the response head; `upgrade` asks for a connection of its own.
    ///
    /// A request that an HTTP/2 connection hands back unsent, because it was just closed, is sent once more over another
    /// connection: no byte of it had left. 1xx answers go to `interim`.
    pub async fn send(
        self: &Rc<Self>,
        mut head: Outgoing<'_>,
        mut body: Body,
        connect: Option<Duration>,
        now: Instant,
        interim: Option<&Informed>,
        upgrade: bool,
    ) -> Result<Received, SendError> {
        let own = upgrade || !http2::can_carry(&head);
        let within = connect.map(|bound| Within { until: now + bound, bound });
        // Requests that wait already come first.
        let mut queues = self.freed.waiting.get() > 0;
        let mut waits = 0;
        loop {
            let ready = if queues { None } else { self.check_out(now, own) };
            queues = false;
            let (connection, reused) = match ready {
                Some(ready) => ready,
                // All streams of a new connection may go to other requests that waited: then the next connection is tried.
                None if !own && self.channels.are_expected(&self.target) && waits < MAX_WAITS => {
                    waits += 1;
                    Box::pin(self.join(within)).await?;
                    continue;
                }
                None => match self.room(within).await? {
                    Some(slot) => (self.open(slot, within, own).await?, false),
                    None => continue,
                },
            };
            let sent = match connection {
                Connection::Own(own) => return over_own(own, head, body, interim, reused).await,
                Connection::Stream(seat) => {
                    let request = http2::request(&head, body, &self.target, interim);
                    // Boxed: the futures of HTTP/1.1 requests need not be larger for it.
                    Box::pin(over_stream(seat, request)).await
                }
            };
            let mut failed = match sent {
                Ok(received) => return Ok(received),
                Err(failed) => failed,
            };
            match failed.take_message() {
                Some(unsent) if reused => {
                    body = unsent.into_body();
                    // The client was told to go on.
                    head.headers.remove(Id::Expect);
                }
                Some(_) => return Err(SendError { unsent: true, ..broken("closed before the request was sent", reused) }),
                None => return Err(explain(failed.error(), reused)),
            }
        }
    }

    /// Drops connections that are closed or were idle for too long, and as many more as other workers wait for. Called about once a second.
    pub fn sweep(&self, now: Instant) {
        let mut wanted = self.target.slots.waiting().saturating_sub(self.freed.waiting.get());
        let mut idle = self.idle.borrow_mut();
        idle.retain(|c| {
            let open = now.duration_since(c.since) < self.target.keep_idle && c.wire.borrow_mut().is_fresh();
            let keep = open && !slots::is_wanted(&mut wanted);
            if !keep {
                self.cells.idle.dec();
            }
            keep
        });
        drop(idle);
        self.channels.sweep(now, self.target.keep_idle, &mut wanted);
    }

    /// An open connection, and whether it has served before.
    fn check_out(self: &Rc<Self>, now: Instant, own: bool) -> Option<(Connection, bool)> {
        if !own && let Some(seat) = self.channels.reserve() {
            let reused = seat.begin();
            return Some((Connection::Stream(seat), reused));
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(top) = idle.pop() {
            self.cells.idle.dec();
            if now.duration_since(top.since) < self.target.keep_idle && top.wire.borrow_mut().is_fresh() {
                self.cells.active.inc();
                return Some((Connection::Own(Own { wire: Some(top.wire), pool: self.clone(), work: None }), true));
            }
        }
        None
    }

    /// A slot for a new connection, at once or after a wait; `None`: a connection has become free meanwhile.
    async fn room(&self, within: Option<Within>) -> Result<Option<Slot>, SendError> {
        match self.target.slots.take() {
            Some(slot) => Ok(Some(slot)),
            None => Box::pin(self.wait_for_room(within)).await,
        }
    }

    async fn wait_for_room(&self, within: Option<Within>) -> Result<Option<Slot>, SendError> {
        let slots = &self.target.slots;
        let Some(place) = slots.queue() else { return Err(self.full(&format!("{} requests wait for one", slots::QUEUE))) };
        let (_counted, _waits) = (self.cells.waiting.enter(), self.freed.enter());
        let free = async {
            tokio::select! {
                biased;
                () = self.freed.free.notified() => None,
                slot = place.slot() => slot,
            }
        };
        match within {
            None => Ok(free.await),
            Some(Within { until, bound }) => {
                tokio::time::timeout_at(until, free).await.map_err(|_| self.full(&format!("none became free within {bound:?}")))
            }
        }
    }

    /// Waits for a connection that all requests may use; opens it, in a task of its own, if no other request does.
    async fn join(self: &Rc<Self>, within: Option<Within>) -> Result<(), SendError> {
        let (opening, opener) = self.channels.opening();
        if let Some(opener) = opener {
            let pool = self.clone();
            tokio::task::spawn_local(async move {
                // The connection may serve requests that came later: it has its own bound.
                let within = within.map(|Within { bound, .. }| Within { until: Instant::now() + bound, bound });
                let ended = async {
                    match pool.room(within).await? {
                        Some(slot) => pool.open(slot, within, false).await.map(Some),
                        None => Ok(None),
                    }
                };
                let ended = ended.await;
                // Released before the waiting requests wake: it is the first that they find.
                let error = ended.map(|connection| connection.map(|connection| connection.release(Instant::now()))).err();
                opener.ended(error);
            });
        }
        let Some(Within { until, bound }) = within else { return opening.ended().await };
        match tokio::time::timeout_at(until, opening.ended()).await {
            Ok(ended) => ended,
            Err(_) if self.target.slots.are_taken() => Err(self.full(&format!("none became free within {bound:?}"))),
            Err(_) => Err(late(bound)),
        }
    }

    /// No connection may be opened, and none became free.
    fn full(&self, why: &str) -> SendError {
        self.cells.connected("full");
        let most = self.target.slots.most();
        let detail = format!("there are {most} connections, as many as there may be (max_connections), and {why}");
        SendError { fault: Fault::Full, unsent: true, ..broken(&detail, false) }
    }

    async fn open(self: &Rc<Self>, slot: Slot, within: Option<Within>, own: bool) -> Result<Connection, SendError> {
        let dialled = async {
            let stream = self.dial.dial(&self.target, own).await?;
            if !own && self.agreed_on_http2(&stream)? {
                self.channels.learn(true);
                Box::pin(self.channels.start(stream, slot, &self.cells, &self.freed)).await.map_err(unstarted)?;
                return match self.channels.reserve() {
                    Some(seat) => Ok(Connection::Stream(seat)),
                    None => Err(SendError { unsent: true, ..broken("closed at once", false) }),
                };
            }
            if !own {
                self.channels.learn(false);
            }
            self.cells.active.inc();
            Ok(Connection::Own(Own { wire: Some(Wire::new(stream, Some(slot))), pool: self.clone(), work: None }))
        };
        let opened = match within {
            None => dialled.await,
            Some(Within { until, bound }) => match tokio::time::timeout_at(until, dialled).await {
                Ok(opened) => opened,
                Err(_) => Err(late(bound)),
            },
        };
        self.cells.connected(opened.as_ref().err().map_or("ok", SendError::word));
        self.target.note(opened.is_ok());
        opened
    }

    fn agreed_on_http2(&self, stream: &Stream) -> Result<bool, SendError> {
        match (self.target.protocol, &self.target.tls) {
            (Protocol::Http1, _) | (Protocol::Auto, None) => Ok(false),
            (Protocol::Http2, None) => Ok(true),
            (Protocol::Auto, Some(_)) => Ok(stream.alpn() == Some(b"h2")),
            (Protocol::Http2, Some(_)) if stream.alpn() == Some(b"h2") => Ok(true),
            (Protocol::Http2, Some(_)) => {
                let detail = format!("{} does not offer HTTP/2 (ALPN)", self.target.origin.host);
                Err(SendError { fault: Fault::Tls, detail, unsent: true, ..broken("", false) })
            }
        }
    }
}

impl Connection {
    /// The connection carries `work`, which is over when the connection is released or dropped, or its tunnel ends.
    pub fn carry(&mut self, work: InHand) {
        match self {
            Self::Own(own) => own.work = Some(work),
            Self::Stream(seat) => seat.carry(work),
        }
    }

    /// The response has ended well: the connection may serve again, unless it is closing or still busy with an upload.
    pub fn release(self, now: Instant) {
        let Self::Own(mut own) = self else { return };
        // Requests of other workers wait for its slot: they cannot use the connection itself.
        let wanted_elsewhere = own.pool.target.slots.waiting() > own.pool.freed.waiting.get();
        if own.wire.as_ref().is_some_and(|wire| wire.borrow().rests)
            && !wanted_elsewhere
            && let Some(wire) = own.wire.take()
        {
            let pool = &own.pool;
            pool.cells.active.dec();
            pool.cells.idle.inc();
            pool.idle.borrow_mut().push(Idle { wire, since: now });
            pool.freed.tell();
        }
    }

    /// The connection as a tunnel; `None`: it is an HTTP/2 stream, or still in use.
    pub fn into_tunnel(self) -> Option<Tunnel> {
        let Self::Own(mut own) = self else { return None };
        let wire = own.wire.take()?;
        own.pool.cells.active.dec();
        Tunnel::of(wire, own.work.take())
    }
}

/// Sends a request over an HTTP/1.1 connection of its own.
async fn over_own(own: Own, head: Outgoing<'_>, body: Body, interim: Option<&Informed>, reused: bool) -> Result<Received, SendError> {
    let Some(wire) = own.wire.as_ref() else { return Err(broken("the connection is gone", reused)) };
    match answer::ask(wire, &head, body, interim).await {
        Ok((head, body)) => Ok(Received { head, body, connection: Connection::Own(own) }),
        Err(lost) => {
            let unsent = !wire.borrow().has_sent();
            Err(SendError { fault: lost.fault, detail: lost.detail, reused, unsent, timeout: None })
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.borrow_mut().leave();
            self.pool.cells.active.dec();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for _ in self.idle.borrow().iter() {
            self.cells.idle.dec();
        }
    }
}

fn broken(detail: &str, reused: bool) -> SendError {
    SendError { fault: Fault::Reset, detail: detail.into(), reused, unsent: false, timeout: None }
}

/// The bound expired without a connection.
fn late(bound: Duration) -> SendError {
    SendError { timeout: Some(bound), unsent: true, ..broken(&format!("no connection within {bound:?}"), false) }
}

/// The connection did not start, and the request was not sent.
fn unstarted(why: http2::Unstarted) -> SendError {
    let error = match why {
        http2::Unstarted::Broken(error) => explain(&error, false),
        http2::Unstarted::Closed => broken("closed before HTTP/2 began", false),
        http2::Unstarted::Silent => {
            SendError { fault: Fault::Malformed, ..broken("the target says nothing: it does not speak HTTP/2", false) }
        }
    };
    SendError { unsent: true, ..error }
}

fn explain(error: &hyper::Error, reused: bool) -> SendError {
    let mut fault = Fault::Reset;
    let (mut unsent, mut reused) = (false, reused);
    let mut detail = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        unsent |= http2::is_refused(cause);
        reused &= !http2::is_answer(cause) || unsent;
        if http2::is_malformed(cause) {
            fault = Fault::Malformed;
        }
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    SendError { fault, detail, reused, unsent, timeout: None }
}
