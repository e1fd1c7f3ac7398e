//! A target, which is the app or a provider: its version of HTTP and its connections.

use crate::config::{
    scalars::words,
    schema::{Json, Key, Kind, Scalar, kinds::COUNT_OF},
};

/// The version of HTTP towards a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Over TLS the target's choice (ALPN), in clear text HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone; in clear text with prior knowledge.
    Http2,
}

words! {
    Protocol: "auto" => Self::Auto, "http1" => Self::Http1, "http2" => Self::Http2;
}

const PROTOCOL: Kind =
    Kind::Scalar(&Scalar::new::<Protocol>("`auto`, `http1` or `http2`", Json::Words(&["auto", "http1", "http2"]), "http2"));

/// Connections of a target where the file says nothing.
pub(in crate::config) const MAX_CONNECTIONS: usize = 10_000;

/// The row of a target's connections.
pub(in crate::config) const fn max_connections(name: &'static str) -> Key {
    Key::new(
        name,
        COUNT_OF,
        "Most connections to it, over all workers, tunnels and idle ones included. Up to 1,024 requests wait for one, for \
         `timeouts.connect` at most; beyond it 503.",
    )
    .within("1", "1M")
    .default("10k")
    .eg("200")
}

/// The row of a target's version of HTTP.
pub(in crate::config) const fn protocol(name: &'static str) -> Key {
    Key::new(name, PROTOCOL, "HTTP version: `auto` is the target's choice over TLS and HTTP/1.1 in clear; gRPC needs HTTP/2.")
        .default("auto")
        .eg("http2")
}
