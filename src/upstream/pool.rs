//! A worker's connections to one target. No lock: a pool never leaves its thread.
//!
//! Idle HTTP/1 connections are a stack, so that the warmest is used first and the coldest age out. A connection's own task
//! watches its socket while it is idle, so a close by the target is seen before reuse. HTTP/2 connections are in `http2`.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, header, response::Parts};
use http_body::Body as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{
    Dial, SendError, Stream, Target,
    http2::{self, Channels, Seat},
    interim::{Ear, Heard},
};
use crate::{arrival::Informed, body::Body, config::Protocol, reject::Fault, telemetry::metrics::TargetCells};

/// A worker's connections to one target.
pub struct Pool {
    /// What they lead to.
    pub target: Arc<Target>,
    dial: Rc<dyn Dial>,
    idle: RefCell<Vec<Idle>>,
    channels: Channels,
    /// What this target counts on this worker.
    pub cells: Rc<TargetCells>,
}

struct Idle {
    sender: SendRequest<Body>,
    ear: Arc<Ear>,
    since: Instant,
}

/// A response head, its body, and the connection that must be given back when the body has ended.
pub struct Received {
    /// As the target sent it.
    pub head: Parts,
    /// As it comes.
    pub body: Body,
    /// Give it back with [`Connection::release`] at the body's end; dropping it closes.
    pub connection: Connection,
}

/// A connection in use: one of its own, or a stream of one that others use too.
pub enum Connection {
    /// HTTP/1.
    Own(Own),
    /// HTTP/2.
    Stream(Seat),
}

/// An HTTP/1 connection in use.
pub struct Own {
    sender: Option<SendRequest<Body>>,
    ear: Arc<Ear>,
    pool: Rc<Pool>,
}

/// How often a request waits for a connection that others opened before it opens one for itself.
const MAX_WAITS: u32 = 8;

impl Pool {
    /// An empty pool.
    pub fn new(target: Arc<Target>, dial: Rc<dyn Dial>, cells: Rc<TargetCells>) -> Self {
        Self { target, dial, idle: RefCell::default(), channels: Channels::default(), cells }
    }

    /// Sends `request` over an idle or a new connection and waits for the response head; `upgrade` asks for a connection of its own.
    ///
    /// A request that hyper hands back unsent because an idle connection was just closed goes out once more over
    /// another one: nothing of it had left. 1xx answers go to `interim`.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<Body>,
        connect: Option<Duration>,
        now: Instant,
        interim: Option<&Informed>,
        upgrade: bool,
    ) -> Result<Received, SendError> {
        let own = upgrade || !http2::can_carry(&request);
        let mut waits = 0;
        loop {
            let (connection, reused) = match self.check_out(now, own) {
                Some(ready) => ready,
                // A new connection's streams may all be taken by those who waited too: then for another one.
                None if !own && self.channels.are_expected(&self.target) && waits < MAX_WAITS => {
                    waits += 1;
                    Box::pin(self.join(connect)).await?;
                    continue;
                }
                None => (self.open(connect, own).await?, false),
            };
            let failed = match connection {
                Connection::Own(mut own) => {
                    let Some(sender) = own.sender.as_mut() else { return Err(broken("the connection is gone", reused)) };
                    own.ear.listen(interim.cloned());
                    announce_body(&mut request);
                    match sender.try_send_request(request).await {
                        Ok(response) => {
                            own.ear.stop();
                            let (head, body) = response.into_parts();
                            return Ok(Received { head, body: Body::Incoming(body), connection: Connection::Own(own) });
                        }
                        Err(failed) => failed,
                    }
                }
                Connection::Stream(seat) => {
                    http2::convert(&mut request, &self.target, interim);
                    // Boxed: the futures of HTTP/1 requests need not be larger for it.
                    match Box::pin(async move { seat.sender().try_send_request(request).await.map(|response| (response, seat)) }).await {
                        Ok((response, seat)) => {
                            let (head, body) = response.into_parts();
                            return Ok(Received { head, body: Body::Http2(body), connection: Connection::Stream(seat) });
                        }
                        Err(failed) => failed,
                    }
                }
            };
            let mut failed = failed;
            match failed.take_message() {
                Some(unsent) if reused => {
                    request = unsent;
                    http2::revert(&mut request);
                }
                Some(_) => return Err(SendError { unsent: true, ..broken("closed before the request was sent", reused) }),
                None => return Err(explain(failed.error(), reused)),
            }
        }
    }

    /// Drops connections that were idle for too long or were closed. Called about once a second.
    pub fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|c| {
            let keep = !c.sender.is_closed() && now.duration_since(c.since) < self.target.keep_idle;
            if !keep {
                self.cells.idle.dec();
            }
            keep
        });
        drop(idle);
        self.channels.sweep(now, self.target.keep_idle);
    }

    /// A connection that is open, and whether it has served before.
    fn check_out(self: &Rc<Self>, now: Instant, own: bool) -> Option<(Connection, bool)> {
        if !own && let Some(seat) = self.channels.reserve() {
            let reused = seat.begin();
            return Some((Connection::Stream(seat), reused));
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(top) = idle.pop() {
            self.cells.idle.dec();
            if top.sender.is_ready() && now.duration_since(top.since) < self.target.keep_idle {
                self.cells.active.inc();
                return Some((Connection::Own(Own { sender: Some(top.sender), ear: top.ear, pool: self.clone() }), true));
            }
        }
        None
    }

    /// Waits for a connection that all may use; opens it, in a task of its own, if nobody else does.
    async fn join(self: &Rc<Self>, connect: Option<Duration>) -> Result<(), SendError> {
        let opening = match self.channels.opening() {
            Ok(known) => known,
            Err(mine) => {
                let pool = self.clone();
                tokio::task::spawn_local(async move {
                    let ended = pool.open(connect, false).await;
                    // Released first: it is the first to be taken by those who wait.
                    let error = ended.map(|connection| connection.release(Instant::now())).err();
                    pool.channels.opened(error);
                });
                mine
            }
        };
        opening.ended().await
    }

    async fn open(self: &Rc<Self>, connect: Option<Duration>, own: bool) -> Result<Connection, SendError> {
        let dialled = async {
            let stream = self.dial.dial(&self.target, own).await?;
            if !own && self.agreed_on_http2(&stream)? {
                self.channels.learn(true);
                Box::pin(self.channels.start(stream, &self.cells)).await.map_err(unstarted)?;
                return match self.channels.reserve() {
                    Some(seat) => Ok(Connection::Stream(seat)),
                    None => Err(SendError { unsent: true, ..broken("closed at once", false) }),
                };
            }
            if !own {
                self.channels.learn(false);
            }
            let ear = Arc::new(Ear::default());
            let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake::<_, Body>(TokioIo::new(Heard::new(stream, ear.clone())));
            let (sender, connection) = handshake.await.map_err(|e| explain(&e, false))?;
            // The task ends with its connection, which ends when the sender is dropped.
            tokio::task::spawn_local(async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "upstream connection ended");
                }
            });
            self.cells.active.inc();
            Ok(Connection::Own(Own { sender: Some(sender), ear, pool: self.clone() }))
        };
        let opened = match connect {
            None => dialled.await,
            Some(bound) => match tokio::time::timeout(bound, dialled).await {
                Ok(opened) => opened,
                Err(_) => {
                    Err(SendError { timeout: Some(bound), unsent: true, ..broken(&format!("no connection within {bound:?}"), false) })
                }
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

/// hyper leaves out a body of unknown length after GET and HEAD, silently, unless its coding is written.
fn announce_body(request: &mut Request<Body>) {
    let bodiless = matches!(*request.method(), Method::GET | Method::HEAD);
    if bodiless && !request.body().is_end_stream() && !request.headers().contains_key(header::CONTENT_LENGTH) {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// What a connection reads ahead of a client that does not take it, and the longest response head.
const BUFFER: usize = 64 << 10;

impl Connection {
    /// The response has ended well: the connection may serve again, unless it is closing or still busy with an upload.
    pub fn release(self, now: Instant) {
        let Self::Own(mut own) = self else { return };
        if let Some(sender) = own.sender.take() {
            own.pool.cells.active.dec();
            if sender.is_ready() {
                own.pool.cells.idle.inc();
                own.pool.idle.borrow_mut().push(Idle { sender, ear: own.ear.clone(), since: now });
            }
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.sender.is_some() {
            self.ear.stop();
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
    SendError { fault: Fault::Reset, detail: detail.into(), reused, unsent: false, body: false, timeout: None }
}

/// No request has been sent yet.
fn unstarted(why: http2::Unstarted) -> SendError {
    let error = match why {
        http2::Unstarted::Broken(error) => explain(&error, false),
        http2::Unstarted::Closed => broken("closed before HTTP/2 began", false),
        http2::Unstarted::Silent => {
            SendError { fault: Fault::Malformed, ..broken("the target says nothing: it does not speak HTTP/2", false) }
        }
    };
    SendError { unsent: true, body: false, ..error }
}

fn explain(error: &hyper::Error, reused: bool) -> SendError {
    let body = error.is_user();
    let mut fault = if error.is_parse() { Fault::Malformed } else { Fault::Reset };
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
    SendError { fault, detail, reused, unsent, body, timeout: None }
}
