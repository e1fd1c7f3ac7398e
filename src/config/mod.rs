//! The configuration as meant: every name resolved, every number in range, nothing left to check.
//!
//! `read` turns `proxy.yaml` (written shape: `schema`) into these types or into a complete list of
//! mistakes (`error`). Nothing below this module parses configuration, and nothing here behaves.

mod build;
pub mod error;
pub mod human;
mod key;
mod mode;
mod policies;
mod policy;
pub mod read;
mod scalars;
pub mod schema;
mod secrecy;
#[cfg(test)]
mod testing;
pub mod tls;
mod values;
mod written;

use std::{fmt, net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use ipnet::IpNet;

pub use key::KeyPart;
pub use mode::Mode;
pub use policies::{CallerSource, Metering, Price};
pub use policy::*;
pub use tls::{Authorities, ClientAuth, Identity, ListenerTls, Pin, RedisTls, TargetTls, TlsVersion};
pub use values::{Glob, Origin, PathPattern, Scheme, Secret, Segment};

/// One running proxy. Built by [`read`] only.
#[derive(Debug, Clone)]
pub struct Config {
    /// Clients to the app; absent when only `outbound` is wanted.
    pub inbound: Option<Inbound>,
    /// The app to model providers; absent opens nothing.
    pub outbound: Option<Outbound>,
    /// Health, metrics, API.
    pub admin: Admin,
    /// Memory and Redis shared by cache, limits and secrets.
    pub store: Store,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
    /// How the process leaves.
    pub shutdown: Shutdown,
    /// Threads that serve; `None`: as many as the CPU quota allows.
    pub workers: Option<NonZeroUsize>,
    /// Bytes the process may have resident before it sheds load. `None`: it never does.
    pub memory_limit: Option<u64>,
    /// Bytes of request bodies the process may hold at once for policies that read them first.
    pub body_budget: u64,
}

/// The door in front of the app.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// TLS with clients; `None`: clear text.
    pub tls: Option<ListenerTls>,
    /// The one target.
    pub app: Origin,
    /// TLS with the app, where its URL is https.
    pub app_tls: TargetTls,
    /// What is spoken with the app.
    pub app_protocol: Protocol,
    /// Most connections to the app.
    pub app_max_connections: usize,
    /// Peers whose `X-Forwarded-*` and caller headers are believed. Empty: nobody.
    pub trusted_proxies: Vec<IpNet>,
    /// Sources of the caller; the first that can be trusted wins.
    pub caller: Vec<CallerSource>,
    /// Limits of the whole door.
    pub limits: Vec<Limit>,
    /// Routes as written, with `defaults` already merged in; precedence is computed in `route`.
    pub routes: Vec<Route>,
    /// Policies of requests that match no route.
    pub fallthrough: Policies,
    /// Requests that fill the cache after the start.
    pub warm: Warm,
    /// Ceilings that hold without being named.
    pub bounds: Bounds,
    /// What is refused beyond what is ambiguous.
    pub strict: Strict,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
}

/// How the cache is filled before anybody asks.
#[derive(Debug, Clone)]
pub struct Warm {
    /// What is asked for, in this order.
    pub targets: Vec<Uri>,
    /// Sent with each.
    pub headers: HeaderMap,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Requests a second.
    pub rate: u32,
    /// How long the first one is tried again while the app is not up yet.
    pub wait: Duration,
}

impl Default for Warm {
    fn default() -> Self {
        Self { targets: Vec::new(), headers: HeaderMap::new(), concurrency: 2, rate: 10, wait: Duration::from_secs(60) }
    }
}

impl Warm {
    /// Between the beginnings of two requests.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(1) / self.rate.max(1)
    }
}

/// The door between the app and its providers.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Where the app connects.
    pub listen: SocketAddr,
    /// TLS with the app; `None`: clear text.
    pub tls: Option<ListenerTls>,
    /// Peers that may use the door. Empty: anyone who can reach it (loopback unless said otherwise).
    pub allow: Vec<IpNet>,
    /// `Host` values that are believed beside loopback ones (DNS rebinding).
    pub hosts: Vec<String>,
    /// Providers by the first path segment.
    pub providers: Vec<Provider>,
    /// Limits of the whole door.
    pub limits: Vec<Limit>,
    /// Routes as written, with `defaults` already merged in.
    pub routes: Vec<Route>,
    /// Policies of requests that match no route (`defaults`).
    pub fallthrough: Policies,
    /// Ceilings that hold without being named.
    pub bounds: Bounds,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
    /// How exactly model calls are metered.
    pub metering: Metering,
    /// A join to an inbound exchange that ended longer ago than this enforces nothing.
    pub join_within: Duration,
    /// Prices that override or extend the built-in table.
    pub prices: Vec<Price>,
}

/// Legal requests that are refused because servers read them differently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strict {
    /// Paths.
    pub paths: bool,
    /// Names and values of fields.
    pub headers: bool,
}

/// Ceilings of one listener.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Largest request body; a streaming counter, 413 beyond it. `None`: unlimited.
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
    /// Bytes per second below which a client is too slow, at least 1. `None`: no client is.
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

/// One place to send model calls.
#[derive(Debug, Clone)]
pub struct Provider {
    /// First path segment, label of metrics.
    pub name: Arc<str>,
    /// Wire format.
    pub api: Api,
    /// Base URL; its path is a prefix of every request.
    pub url: Origin,
    /// TLS with it, where its URL is https.
    pub tls: TargetTls,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// Most connections to it.
    pub max_connections: usize,
    /// Keys that replace the app's credential. Empty: the app's own passes through.
    pub keys: Vec<Secret>,
}

/// Versions of HTTP towards a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Over TLS what the target prefers (ALPN), in clear text HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone; in clear text with prior knowledge.
    Http2,
}

/// Wire formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Api {
    OpenAi,
    Anthropic,
    Gemini,
    Bedrock,
    /// Passed through, nothing understood.
    Plain,
}

/// What a model call asks for, whatever the API calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Operation {
    Chat,
    Responses,
    Messages,
    Completions,
    Embeddings,
    Images,
    Audio,
    Models,
    /// Anything else a provider offers.
    Other,
}

/// A named match with its policies.
#[derive(Debug, Clone)]
pub struct Route {
    /// As written, or made from the match; unique per door; label of metrics.
    pub name: Arc<str>,
    /// What it answers.
    pub matches: Match,
    /// What is done.
    pub policies: Policies,
}

/// Conditions of a route; empty lists mean "any". Path and methods are for inbound, the rest for outbound too.
#[derive(Debug, Clone, Default)]
pub struct Match {
    /// `/api/**`.
    pub path: Option<PathPattern>,
    /// Upper-case methods.
    pub methods: Vec<Method>,
    /// Host names without port, lower case.
    pub hosts: Vec<Glob>,
    /// Header present, or present with exactly this value.
    pub headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Outbound: provider names.
    pub providers: Vec<Arc<str>>,
    /// Outbound: operations.
    pub operations: Vec<Operation>,
    /// Outbound: model globs (`gpt-*`).
    pub models: Vec<Glob>,
}

/// The admin door.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Health, metrics, API; loopback by default. `None`: closed.
    pub listen: Option<SocketAddr>,
    /// `/live`, `/ready`, `/metrics` alone. `None`: closed.
    pub probes: Option<SocketAddr>,
    /// Bearer token that allows changes over TCP. `None`: only over the socket.
    pub token: Option<Secret>,
    /// 0600 unix socket of the command line. `None`: none.
    pub socket: Option<PathBuf>,
    /// Whether the socket is where it usually is: its directory is then made, for this user alone.
    pub socket_is_usual: bool,
}

/// Shared state.
#[derive(Debug, Clone)]
pub struct Store {
    /// Bytes of the memory tier.
    pub memory: u64,
    /// Redis, shared by replicas.
    pub redis: Option<Redis>,
    /// Secret of cache and limit keys; else generated (once per namespace with Redis).
    pub secret: Option<Secret>,
    /// Most limit keys held in memory.
    pub max_keys: usize,
}

impl Store {
    /// The key of the hashes that name cache entries and limit counters: the same for every process with the same secret, be it
    /// with Redis or alone. `None`: there is no secret in the file; a process makes one, with Redis once per namespace.
    pub fn hash_key(&self) -> Option<[u8; 32]> {
        self.secret.as_ref().map(Secret::hash_key)
    }
}

/// Redis.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`; may hold a password.
    pub url: Secret,
    /// Prefix and hash tag of every key.
    pub namespace: Arc<str>,
    /// Deadline of every command.
    pub timeout: Duration,
    /// Cached answers are encrypted with a key made from [`Store::secret`], which is then given.
    pub encrypt: bool,
    /// Where the URL asks for TLS.
    pub tls: RedisTls,
}

/// Logs, traces, metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Access log.
    pub log: LogFormat,
    /// Base URL of an OTLP/HTTP collector; `/v1/traces` and `/v1/metrics` are appended.
    pub otlp: Option<String>,
    /// Headers of OTLP requests.
    pub otlp_headers: Vec<(HeaderName, HeaderValue)>,
    /// Share of new traces that are sampled, 0..=1; an incoming decision is kept.
    pub sample: f64,
    /// `service.name`.
    pub service: String,
    /// Pause between two metric exports.
    pub otlp_interval: Duration,
}

/// Access log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogFormat {
    Json,
    Text,
    Off,
}

/// How the process leaves.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Still accepting, after readiness failed.
    pub drain_delay: Duration,
    /// Everything is over by then.
    pub deadline: Duration,
}

/// The admin door's usual port.
pub const ADMIN_PORT: u16 = 9901;

/// Where the socket of the admin door at `port` is, unless the file says another place: proxy and command line agree on it.
/// A place of this user alone: `$XDG_RUNTIME_DIR`, else a directory below that of temporary files.
pub fn usual_socket(port: u16, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let own = || temporary(env).join(format!("outrigger-{}", rustix::process::geteuid().as_raw()));
    absolute(env("XDG_RUNTIME_DIR")).unwrap_or_else(own).join(format!("outrigger-{port}.sock"))
}

/// The directory of temporary files.
pub fn temporary(env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    absolute(env("TMPDIR")).unwrap_or_else(|| PathBuf::from("/tmp"))
}

fn absolute(dir: Option<String>) -> Option<PathBuf> {
    dir.map(PathBuf::from).filter(|dir| dir.is_absolute())
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Plain => "plain",
        })
    }
}

impl Operation {
    /// Every operation with the word used in `proxy.yaml`, metrics and logs.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Chat, "chat"),
        (Self::Responses, "responses"),
        (Self::Messages, "messages"),
        (Self::Completions, "completions"),
        (Self::Embeddings, "embeddings"),
        (Self::Images, "images"),
        (Self::Audio, "audio"),
        (Self::Models, "models"),
        (Self::Other, "other"),
    ];

    /// The word used in `proxy.yaml`, metrics and logs.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("other", |(_, word)| word)
    }
}
