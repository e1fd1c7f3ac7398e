//! A worker's connections to one target. No lock: a pool never leaves its thread.
//!
//! Idle connections are a stack, so that the warmest is used first and the coldest age out. A connection's own task
//! watches its socket while it is idle, so a close by the target is seen before reuse.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use http::{Request, response::Parts};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{
    Dial, SendError, Target,
    interim::{Ear, Heard},
};
use crate::{arrival::Informed, body::Body, reject::Fault, telemetry::metrics::TargetCells};

/// A worker's connections to one target.
pub struct Pool {
    /// What they lead to.
    pub target: Arc<Target>,
    dial: Rc<dyn Dial>,
    idle: RefCell<Vec<Idle>>,
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
    pub body: Incoming,
    /// Give it back with [`Connection::release`] at the body's end; dropping it closes.
    pub connection: Connection,
}

/// A connection in use.
pub struct Connection {
    sender: Option<SendRequest<Body>>,
    ear: Arc<Ear>,
    pool: Rc<Pool>,
}

impl Pool {
    /// An empty pool.
    pub fn new(target: Arc<Target>, dial: Rc<dyn Dial>, cells: Rc<TargetCells>) -> Self {
        Self { target, dial, idle: RefCell::default(), cells }
    }

    /// Sends `request` over an idle or a new connection and waits for the response head.
    ///
    /// A request that hyper hands back unsent because an idle connection was just closed goes out once more over
    /// another one: nothing of it had left. 1xx answers go to `interim`.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<Body>,
        connect: Option<Duration>,
        now: Instant,
        interim: Option<&Informed>,
    ) -> Result<Received, SendError> {
        loop {
            let (mut connection, reused) = match self.check_out(now) {
                Some(connection) => (connection, true),
                None => (self.open(connect).await?, false),
            };
            let Some(sender) = connection.sender.as_mut() else {
                return Err(broken("the connection is gone", reused));
            };
            connection.ear.listen(interim.cloned());
            match sender.try_send_request(request).await {
                Ok(response) => {
                    connection.ear.stop();
                    let (head, body) = response.into_parts();
                    return Ok(Received { head, body, connection });
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if reused => request = unsent,
                    Some(_) => return Err(SendError { unsent: true, ..broken("closed before the request was sent", reused) }),
                    None => return Err(explain(failed.error(), reused)),
                },
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
    }

    fn check_out(self: &Rc<Self>, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(top) = idle.pop() {
            self.cells.idle.dec();
            if top.sender.is_ready() && now.duration_since(top.since) < self.target.keep_idle {
                self.cells.active.inc();
                return Some(Connection { sender: Some(top.sender), ear: top.ear, pool: self.clone() });
            }
        }
        None
    }

    async fn open(self: &Rc<Self>, connect: Option<Duration>) -> Result<Connection, SendError> {
        let ear = Arc::new(Ear::default());
        let dialled = async {
            let stream = self.dial.dial(&self.target).await?;
            let handshake = http1::Builder::new().handshake::<_, Body>(TokioIo::new(Heard::new(stream, ear.clone())));
            let (sender, connection) = handshake.await.map_err(|e| explain(&e, false))?;
            Ok((sender, connection))
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
        match opened {
            Ok((sender, connection)) => {
                self.cells.connected("ok");
                // The task ends with its connection, which ends when the sender is dropped.
                tokio::task::spawn_local(async move {
                    if let Err(error) = connection.with_upgrades().await {
                        tracing::debug!(%error, "upstream connection ended");
                    }
                });
                self.cells.active.inc();
                Ok(Connection { sender: Some(sender), ear, pool: self.clone() })
            }
            Err(error) => {
                self.cells.connected(error.word());
                Err(error)
            }
        }
    }
}

impl Connection {
    /// The response has ended well: the connection may serve again, unless it is closing or still busy with an upload.
    pub fn release(mut self, now: Instant) {
        if let Some(sender) = self.sender.take() {
            self.pool.cells.active.dec();
            if sender.is_ready() {
                self.pool.cells.idle.inc();
                self.pool.idle.borrow_mut().push(Idle { sender, ear: self.ear.clone(), since: now });
            }
        }
    }
}

impl Drop for Connection {
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

fn explain(error: &hyper::Error, reused: bool) -> SendError {
    let body = error.is_user();
    let fault = if error.is_parse() { Fault::Malformed } else { Fault::Reset };
    let mut detail = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    SendError { fault, detail, reused, unsent: false, body, timeout: None }
}
