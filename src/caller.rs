//! The caller of a request, and what a client has proved. A [`Caller`] is only made from a source that can be trusted.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

/// A caller, and the source of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name: the key of limits, the name in logs and books.
    pub name: Arc<str>,
    /// The source of the name.
    pub known_by: KnownBy,
    /// The plan or class the caller belongs to, from a verified credential.
    pub tier: Option<Arc<str>>,
    /// Verified statements about the caller, by name.
    pub claims: Option<Arc<[Claim]>>,
}

/// A verified statement about a caller: its name and value.
pub type Claim = (Box<str>, Box<str>);

/// What a request's credential has proved. The credential itself is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The caller whom the credential names; empty: it names nobody.
    pub name: Arc<str>,
    /// The kind of the credential.
    pub by: KnownBy,
    /// The name of the key itself, which stands in messages; other kinds have none.
    pub key: Option<Arc<str>>,
    /// The plan or class the caller belongs to.
    pub tier: Option<Arc<str>>,
    /// What the credential may be used for.
    pub scopes: Arc<[Box<str>]>,
    /// Verified statements about the caller.
    pub claims: Option<Arc<[Claim]>>,
    /// Fields that the target gets, in the words of the service that has decided.
    pub copied: Arc<[(HeaderName, HeaderValue)]>,
}

impl Proof {
    /// The value of a verified statement.
    pub fn claim(&self, name: &str) -> Option<&str> {
        self.claims.iter().flat_map(|claims| claims.iter()).find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// The caller whom the credential names, if it names one.
    pub fn caller(&self) -> Option<Caller> {
        let named = !self.name.is_empty();
        named.then(|| Caller { tier: self.tier.clone(), claims: self.claims.clone(), ..Caller::new(self.name.clone(), self.by) })
    }
}

/// Sources of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KnownBy {
    /// A header field that a trusted proxy has set.
    Header,
    /// A verified client certificate.
    Certificate,
    /// A key that the proxy knows.
    ApiKey,
    /// A token of an issuer.
    Token,
    /// A service that decides.
    Service,
    /// The client's address.
    Address,
    /// The inbound request that caused an outbound call.
    Cause,
    /// `outrigger-caller`, which an app on the same host has set.
    App,
    /// The proxy itself: it refreshes or warms its cache.
    Proxy,
}

/// The name under which the proxy pays for requests that no client sent.
pub const PROXY: &str = "outrigger";

/// The name in the books of calls that cannot be attributed to a caller.
pub const UNATTRIBUTED: &str = "unattributed";

impl Caller {
    /// A caller of this name.
    pub fn new(name: impl Into<Arc<str>>, known_by: KnownBy) -> Self {
        Self { name: name.into(), known_by, tier: None, claims: None }
    }
}

impl KnownBy {
    /// The word used in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Certificate => "certificate",
            Self::ApiKey => "api_key",
            Self::Token => "jwt",
            Self::Service => "service",
            Self::Address => "address",
            Self::Cause => "cause",
            Self::App => "app",
            Self::Proxy => "proxy",
        }
    }
}
