//! `bounds`: ceilings of a listener, which hold without being named.

use std::time::Duration;

use serde::Deserialize;

use crate::config::{
    build::{small, whole},
    scalars::{Bytes, Count, OrOff, W},
    schema::{
        Key, Table,
        kinds::{COUNT_OF, SIZE_OF, SIZE_OR_OFF, TIME_OF},
    },
};

/// Ceilings of one listener.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Largest request body in bytes, counted as it streams; 413 beyond it. `None`: unlimited.
    pub max_body: Option<u64>,
    /// Largest request head in bytes; 431 beyond it.
    pub max_head: u32,
    /// Most header fields; 431 beyond it.
    pub max_headers: u16,
    /// Time for a complete head.
    pub header_read: Duration,
    /// Longest pause between two pieces of a request body.
    pub body_idle: Duration,
    /// Open connections of the listener.
    pub max_connections: usize,
    /// Open connections from one address (IPv6: /64) that is not a trusted proxy. `None`: unlimited.
    pub max_connections_per_ip: Option<usize>,
    /// Requests in hand of the listener.
    pub max_requests: usize,
    /// Bytes per second below which a client is too slow, at least 1. `None`: no client is too slow.
    pub min_rate: Option<u64>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_body: None,
            max_head: 64 << 10,
            max_headers: 100,
            header_read: Duration::from_secs(10),
            body_idle: Duration::from_secs(60),
            max_connections: 10_000,
            max_connections_per_ip: None,
            max_requests: 10_000,
            min_rate: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    max_body: W<OrOff<Bytes>>,
    max_head: W<Bytes>,
    max_headers: W<Count>,
    header_read: W<Duration>,
    body_idle: W<Duration>,
    max_connections: W<Count>,
    max_connections_per_ip: Option<W<Count>>,
    max_requests: W<Count>,
    min_rate: W<OrOff<Bytes>>,
}

/// The sentence of the blocks and of their rows.
pub(in crate::config) const TEXT: &str = "Ceilings that hold without being named.";
const MAX_HEAD: Key = Key::new("max_head", SIZE_OF, "Largest request head; 431 beyond it.").within("1KiB", "1MiB").default("64KiB");
const MAX_HEADERS: Key = Key::new("max_headers", COUNT_OF, "Most header fields; 431 beyond it.").within("1", "10k").default("100");
const HEADER_READ: Key = Key::new("header_read", TIME_OF, "Time for a complete head.").within("100ms", "1h").default("10s");
const BODY_IDLE: Key = Key::new("body_idle", TIME_OF, "Longest pause between two pieces of a request body; gRPC is free of it.")
    .within("100ms", "1h")
    .default("60s");
const MAX_CONNECTIONS: Key = Key::new("max_connections", COUNT_OF, "Open connections of the listener.").within("1", "10M").default("10k");

const MAX_CONNECTIONS_PER_IP: Key =
    Key::new("max_connections_per_ip", COUNT_OF, "Open connections from one address that is not a trusted proxy.")
        .within("1", "10M")
        .says("unlimited")
        .eg("100");
const MAX_REQUESTS: Key = Key::new(
    "max_requests",
    COUNT_OF,
    "Requests in hand of the listener, HTTP/2 streams included, over all workers; 503 beyond it. A tunnel counts as a connection only.",
)
.within("1", "10M")
.default("10k");
const MIN_RATE: Key = Key::new(
    "min_rate",
    SIZE_OR_OFF,
    "Bytes per second below which a client is too slow: 408 for its request's body, the connection's end for its answers. It may be \
     5s behind; only waiting for the client counts. Over HTTP/2 an answer's rate is that of its connection. Tunnels and gRPC are free of it.",
)
.within("1B", "1GiB")
.default("off")
.eg("1KiB");

pub(in crate::config) static INBOUND: Table = Table::new(
    "inbound.bounds",
    TEXT,
    &[
        Key::new("max_body", SIZE_OR_OFF, "Largest request body, counted as it streams; 413 beyond it.")
            .within("0", "1000TiB")
            .default("1GiB")
            .eg("100MiB"),
        MAX_HEAD,
        MAX_HEADERS,
        HEADER_READ,
        BODY_IDLE,
        MAX_CONNECTIONS,
        MAX_CONNECTIONS_PER_IP,
        MAX_REQUESTS,
        MIN_RATE,
    ],
);
pub(in crate::config) static OUTBOUND: Table = Table::new(
    "outbound.bounds",
    TEXT,
    &[
        Key::new("max_body", SIZE_OR_OFF, "Largest request body; 413 beyond it.").within("0", "1000TiB").default("32MiB").eg("100MiB"),
        MAX_HEAD,
        MAX_HEADERS,
        HEADER_READ,
        BODY_IDLE,
        MAX_CONNECTIONS,
        MAX_CONNECTIONS_PER_IP,
        MAX_REQUESTS,
        MIN_RATE,
    ],
);

pub(in crate::config) fn build(written: &Written) -> Bounds {
    Bounds {
        max_body: written.max_body.0.0.map(|size| size.0),
        max_head: u32::try_from(written.max_head.0.0).unwrap_or(u32::MAX),
        max_headers: u16::try_from(small(&written.max_headers)).unwrap_or(u16::MAX),
        header_read: written.header_read.0,
        body_idle: written.body_idle.0,
        max_connections: whole(&written.max_connections),
        max_connections_per_ip: written.max_connections_per_ip.as_ref().map(whole),
        max_requests: whole(&written.max_requests),
        min_rate: written.min_rate.0.0.map(|size| size.0),
    }
}
