//! The policies of a route as meant, in the order in which they run.

use http::HeaderName;

use super::Glob;

/// A source of the caller's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerSource {
    /// A header, believed only from `trusted_proxies` (inbound).
    Header(HeaderName),
    /// The client's address (IPv6: its /64).
    ClientIp,
    /// The client's certificate, verified by the listener's `tls.client_ca`.
    ClientCert,
}

/// How exactly model calls are metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metering {
    /// Streams are asked for their usage; what the app did not ask for is taken out again.
    #[default]
    Exact,
    /// Calls go out as the app sent them: a stream without usage is estimated.
    AsSent,
}

/// A model's price in nano-USD per token (USD 1 per million tokens = 1_000).
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Price {
    pub model: Glob,
    pub input: u64,
    pub output: u64,
    pub cached_input: Option<u64>,
    pub cache_write: Option<u64>,
    pub cache_write_1h: Option<u64>,
}
