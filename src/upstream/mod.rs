//! One try over the wire: a connection from the worker's own pool, a request, a response head.
//!
//! An error says where the try failed and whether a reused connection was to blame: that decides whether the same request may
//! be sent again.

mod answer;
pub mod connect;
pub mod headers;
mod http2;
pub mod pool;
mod race;
mod slots;
pub mod tls;
mod wire;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use http::{HeaderValue, Method, Uri};

use crate::{
    config::{Origin, Protocol, Scheme, TargetTls},
    http1::Fields,
    reject::{Bound, Fault, Reject},
};

pub use connect::{Dial, Dialer, Stream};
pub use pool::{Connection, Pool, Received};
use slots::Slots;
pub use wire::Tunnel;

/// The head of a request on its way to a target. What it has of the request that came in is lent: nothing of it is copied.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target, in origin-form.
    pub uri: &'a Uri,
    /// The fields.
    pub headers: Fields,
}

/// A target of requests. Shared by all workers; the pools are not.
#[derive(Debug)]
pub struct Target {
    /// Label of metrics and logs: `app`, or the provider's name.
    pub name: Arc<str>,
    /// Scheme, host and port.
    pub origin: Origin,
    /// The `Host` field that it expects.
    pub authority: HeaderValue,
    /// TLS, if the origin's scheme asks for it.
    pub tls: Option<tls::ClientTls>,
    /// The protocol.
    pub protocol: Protocol,
    /// How long an idle connection is kept.
    pub keep_idle: std::time::Duration,
    /// Places for its connections, over all workers.
    slots: Slots,
    /// A hash of the TLS settings: tells different settings apart.
    mark: [u8; 32],
    /// The outcome of the last connection attempt.
    reached: Arc<AtomicU8>,
}

/// The configuration of a target.
#[derive(Debug, Clone, Copy)]
pub struct TargetTerms<'a> {
    /// Scheme, host and port.
    pub origin: &'a Origin,
    /// TLS settings, used if the origin's scheme asks for TLS.
    pub tls: &'a TargetTls,
    /// The protocol.
    pub protocol: Protocol,
    /// How long an idle connection is kept.
    pub keep_idle: std::time::Duration,
    /// Most connections, over all workers.
    pub max_connections: usize,
}

/// The outcome of the last connection attempt to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Not tried yet.
    Untried,
    /// A connection was opened.
    Yes,
    /// The connection attempt failed.
    No,
}

impl Target {
    /// A target; the error names the flaw of its configuration.
    pub fn new(name: Arc<str>, to: TargetTerms<'_>, system: &mut tls::SystemRoots) -> Result<Self, String> {
        let TargetTerms { origin, tls, protocol, keep_idle, max_connections } = to;
        let authority =
            HeaderValue::from_str(&origin.authority()).map_err(|_| format!("`{origin}` has a host that is not valid in HTTP"))?;
        let mark = tls.mark();
        let tls = match origin.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(tls::ClientTls::new(origin, tls, protocol, system)?),
        };
        let slots = Slots::new(max_connections);
        Ok(Self { name, origin: origin.clone(), authority, tls, protocol, keep_idle, slots, mark, reached: Arc::default() })
    }

    /// Whether a connection to `other` serves for this target too: it has the same origin and the same terms.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.name == other.name
            && self.origin == other.origin
            && self.protocol == other.protocol
            && self.mark == other.mark
            && self.slots.most() == other.slots.most()
    }

    /// Takes over the state of the same target from before a reload.
    pub fn known_as(mut self, reached: Arc<AtomicU8>) -> Self {
        self.reached = reached;
        self
    }

    /// The outcome of the last connection attempt.
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
#[derive(Debug, Clone)]
pub struct SendError {
    /// The kind of failure.
    pub fault: Fault,
    /// The failure in words.
    pub detail: String,
    /// The connection had served before: its closing may have crossed the request.
    pub reused: bool,
    /// The target has not processed the request: no byte of it has left, or the target says so.
    pub unsent: bool,
    /// The `connect` bound, if it expired.
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
            Fault::Full => "full",
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
