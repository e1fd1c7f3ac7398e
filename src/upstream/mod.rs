//! One try over the wire: a connection from the worker's own pool, a request, a response head.
//!
//! An error says where it happened and whether a reused connection was to blame, because that decides whether the
//! same request may be sent again.

pub mod connect;
pub mod headers;
pub mod interim;
pub mod pool;
pub mod tls;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use http::HeaderValue;

use crate::{
    config::Origin,
    reject::{Bound, Fault, Reject},
};

pub use connect::{Dial, Dialer, Stream};
pub use pool::{Connection, Pool, Received};

/// One place a request can be sent. Shared by all workers; the pools are not.
#[derive(Debug)]
pub struct Target {
    /// Label of metrics and logs: `app`, or the provider's name.
    pub name: Arc<str>,
    /// Where it is.
    pub origin: Origin,
    /// The `Host` field it expects.
    pub authority: HeaderValue,
    /// TLS, if the origin's scheme asks for it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// How long an idle connection is kept.
    pub keep_idle: std::time::Duration,
    /// How the last connection attempt ended.
    reached: Arc<AtomicU8>,
}

/// Whether a target could be reached when it was last tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Not tried yet.
    Untried,
    /// A connection was opened.
    Yes,
    /// None could be opened.
    No,
}

impl Target {
    /// A target; the error says what is wrong with the origin.
    pub fn new(
        name: Arc<str>,
        origin: Origin,
        tls: Option<Arc<rustls::ClientConfig>>,
        keep_idle: std::time::Duration,
    ) -> Result<Self, String> {
        let authority =
            HeaderValue::from_str(&origin.authority()).map_err(|_| format!("`{origin}` has a host that is not valid in HTTP"))?;
        Ok(Self { name, origin, authority, tls, keep_idle, reached: Arc::default() })
    }

    /// Takes over what is known of the same target from before a reload.
    pub fn known_as(mut self, reached: Arc<AtomicU8>) -> Self {
        self.reached = reached;
        self
    }

    /// Whether it could be reached when it was last tried.
    pub fn reached(&self) -> Reached {
        match self.reached.load(Relaxed) {
            0 => Reached::Untried,
            1 => Reached::Yes,
            _ => Reached::No,
        }
    }

    fn note(&self, opened: bool) {
        self.reached.store(if opened { 1 } else { 2 }, Relaxed);
    }
}

/// Why a try gave no response head.
#[derive(Debug)]
pub struct SendError {
    /// What went wrong.
    pub fault: Fault,
    /// In words.
    pub detail: String,
    /// The connection had served before: its closing may have crossed the request.
    pub reused: bool,
    /// No byte of the request has left.
    pub unsent: bool,
    /// The client's body is at fault, not the target.
    pub body: bool,
    /// The `connect` bound that passed, if that was it.
    pub timeout: Option<std::time::Duration>,
}

impl SendError {
    /// One word for metrics.
    pub fn word(&self) -> &'static str {
        match self.fault {
            _ if self.timeout.is_some() => "timeout",
            Fault::Dns => "dns",
            Fault::Refused => "refused",
            Fault::Tls => "tls",
            Fault::Reset => "reset",
            Fault::Malformed => "malformed",
        }
    }

    /// The answer to the client, if nothing else helps.
    pub fn into_reject(self, target: &Target) -> Reject {
        if let Some(after) = self.timeout {
            return Reject::Timeout { target: target.name.clone(), bound: Bound::Connect, after };
        }
        Reject::Connect { target: target.name.clone(), why: self.fault, detail: self.detail }
    }
}
