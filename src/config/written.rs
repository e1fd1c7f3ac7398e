//! `proxy.yaml` as written: what serde builds from the checked tree, before names are resolved.
//!
//! A key with a default in the schema is always there; everything else is an `Option`. A list's item is `None`
//! where the walk has already reported it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::{HeaderName, Method, StatusCode};
use serde::Deserialize;

use super::{
    Api, Applies, CallerSource, ClientAuth, Cookies, FieldPath, Glob, LogFormat, Metering, OnStoreError, Operation, Origin, PathPattern,
    Pin, Protocol, RetryOn, Secret, TlsVersion, Unpriced,
    scalars::{
        AlgorithmWord, BodyWord, Bytes, Count, Field, Host, KeyWord, ModeWord, Name, Namespace, Nets, OffWord, OrOff, OtlpUrl, Per,
        RedisUrl, ReplayWord, Share, Target, ToolCallsWord, Usd, W,
    },
};

/// A list whose broken items keep their place.
pub(super) type Items<T> = Vec<Option<T>>;
/// Names to values, in the order of the file.
pub(super) type Pairs<T> = Vec<(String, Option<T>)>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Root {
    pub(super) inbound: Option<Inbound>,
    pub(super) outbound: Option<Outbound>,
    pub(super) admin: Admin,
    pub(super) store: Store,
    pub(super) telemetry: Telemetry,
    pub(super) shutdown: Shutdown,
    pub(super) workers: Option<W<Count>>,
    pub(super) memory_limit: Option<W<OrOff<Bytes>>>,
    pub(super) body_budget: Option<W<Bytes>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inbound {
    pub(super) listen: W<SocketAddr>,
    pub(super) tls: Option<ListenerTls>,
    pub(super) app: Option<W<Origin>>,
    pub(super) app_tls: Option<TargetTls>,
    pub(super) app_protocol: W<Protocol>,
    pub(super) app_max_connections: W<Count>,
    #[serde(default)]
    pub(super) trusted_proxies: Items<W<Nets>>,
    pub(super) caller: Items<W<CallerSource>>,
    #[serde(default)]
    pub(super) limits: Items<Limit>,
    pub(super) defaults: Block,
    #[serde(default)]
    pub(super) routes: Items<Block>,
    pub(super) warm: Option<Warm>,
    pub(super) bounds: Bounds,
    pub(super) strict_paths: W<bool>,
    pub(super) strict_headers: W<bool>,
    pub(super) server_timing: W<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Warm {
    #[serde(default)]
    pub(super) paths: Items<W<Target>>,
    pub(super) file: Option<W<PathBuf>>,
    #[serde(default)]
    pub(super) headers: Vec<(W<HeaderName>, Option<W<Field>>)>,
    pub(super) concurrency: W<Count>,
    pub(super) rate: W<Count>,
    pub(super) wait: W<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Outbound {
    pub(super) listen: W<SocketAddr>,
    pub(super) tls: Option<ListenerTls>,
    #[serde(default)]
    pub(super) allow: Items<W<Nets>>,
    #[serde(default)]
    pub(super) hosts: Items<W<Host>>,
    #[serde(default)]
    pub(super) providers: Pairs<Provider>,
    #[serde(default)]
    pub(super) limits: Items<Limit>,
    pub(super) defaults: Block,
    #[serde(default)]
    pub(super) routes: Items<Block>,
    pub(super) bounds: Bounds,
    pub(super) server_timing: W<bool>,
    pub(super) metering: W<Metering>,
    pub(super) join_within: W<Duration>,
    #[serde(default)]
    pub(super) prices: Items<Price>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bounds {
    pub(super) max_body: W<OrOff<Bytes>>,
    pub(super) max_head: W<Bytes>,
    pub(super) max_headers: W<Count>,
    pub(super) header_read: W<Duration>,
    pub(super) body_idle: W<Duration>,
    pub(super) max_connections: W<Count>,
    pub(super) max_connections_per_ip: Option<W<Count>>,
    pub(super) max_requests: W<Count>,
    pub(super) min_rate: W<OrOff<Bytes>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    pub(super) api: Option<W<Api>>,
    pub(super) url: Option<W<Origin>>,
    #[serde(default)]
    pub(super) keys: Items<W<Secret>>,
    pub(super) tls: Option<TargetTls>,
    pub(super) protocol: W<Protocol>,
    pub(super) max_connections: W<Count>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTls {
    pub(super) cert: Option<W<PathBuf>>,
    pub(super) key: Option<W<PathBuf>>,
    #[serde(default)]
    pub(super) more: Items<Pair>,
    pub(super) client_ca: Option<W<PathBuf>>,
    pub(super) client_auth: W<ClientAuth>,
    pub(super) min_version: W<TlsVersion>,
}

/// A certificate and its key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    pub(super) cert: Option<W<PathBuf>>,
    pub(super) key: Option<W<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetTls {
    pub(super) ca: Option<W<PathBuf>>,
    pub(super) system_roots: Option<W<bool>>,
    #[serde(default)]
    pub(super) pin: Items<W<Pin>>,
    pub(super) cert: Option<W<PathBuf>>,
    pub(super) key: Option<W<PathBuf>>,
    pub(super) server_name: Option<W<String>>,
    pub(super) min_version: W<TlsVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub(super) model: Option<W<Glob>>,
    pub(super) input: Option<W<Usd>>,
    pub(super) output: Option<W<Usd>>,
    pub(super) cached_input: Option<W<Usd>>,
    pub(super) cache_write: Option<W<Usd>>,
    pub(super) cache_write_1h: Option<W<Usd>>,
}

/// A route, or a door's defaults; which keys may stand in which is the schema's business.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Block {
    pub(super) name: Option<W<Name>>,
    pub(super) r#match: Option<Match>,
    pub(super) access: Option<Access>,
    pub(super) limits: Items<Limit>,
    pub(super) cache: Option<Cache>,
    pub(super) purge: Items<W<Name>>,
    pub(super) timeouts: Option<Timeouts>,
    pub(super) retry: Option<Retry>,
    pub(super) breaker: Option<Breaker>,
    pub(super) fallback: Items<Fallback>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Match {
    pub(super) path: Option<W<PathPattern>>,
    pub(super) methods: Items<W<Method>>,
    pub(super) hosts: Items<W<Host>>,
    pub(super) headers: Vec<(W<HeaderName>, Option<W<Field>>)>,
    pub(super) provider: Items<W<Name>>,
    pub(super) operation: Items<W<Operation>>,
    pub(super) models: Items<W<Glob>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Access {
    pub(super) mode: W<ModeWord>,
    #[serde(default)]
    pub(super) allow: Items<W<Nets>>,
    #[serde(default)]
    pub(super) deny: Items<W<Nets>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    pub(super) name: Option<W<Name>>,
    pub(super) mode: W<ModeWord>,
    pub(super) key: Items<W<KeyWord>>,
    pub(super) requests: Option<W<Count>>,
    pub(super) tokens: Option<W<Count>>,
    pub(super) usd: Option<W<Usd>>,
    pub(super) window: Option<W<Duration>>,
    pub(super) algorithm: W<AlgorithmWord>,
    pub(super) burst: Option<W<Count>>,
    pub(super) applies: W<Applies>,
    pub(super) on_store_error: W<OnStoreError>,
    #[serde(default)]
    pub(super) alert_at: Items<W<Share>>,
    pub(super) unpriced: Option<W<Unpriced>>,
    pub(super) unmetered: Option<W<Unpriced>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cache {
    pub(super) mode: W<ModeWord>,
    pub(super) ttl: Option<W<Duration>>,
    pub(super) stale_while_revalidate: Option<W<Duration>>,
    pub(super) stale_if_error: Option<W<Duration>>,
    #[serde(default)]
    pub(super) tags: Items<W<Name>>,
    #[serde(default)]
    pub(super) key: Items<W<KeyWord>>,
    pub(super) cookies: Option<W<Cookies>>,
    pub(super) r#unsafe: Option<W<bool>>,
    pub(super) max_body: W<Bytes>,
    pub(super) share: Option<W<bool>>,
    pub(super) per: Option<W<Per>>,
    pub(super) replay: Option<W<ReplayWord>>,
    pub(super) tool_calls: Option<W<ToolCallsWord>>,
    pub(super) max_temperature: Option<W<Share>>,
    pub(super) body: Option<CacheBody>,
    pub(super) max_request: Option<W<Bytes>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum CacheBody {
    Word(W<BodyWord>),
    Fields(Items<W<FieldPath>>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timeouts {
    pub(super) mode: W<ModeWord>,
    pub(super) connect: W<OrOff<Duration>>,
    pub(super) response_header: Option<W<OrOff<Duration>>>,
    pub(super) first_token: Option<W<OrOff<Duration>>>,
    pub(super) idle: Option<W<OrOff<Duration>>>,
    pub(super) total: Option<W<OrOff<Duration>>>,
    pub(super) per_try: Option<W<OrOff<Duration>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    pub(super) mode: W<ModeWord>,
    pub(super) max_retries: W<Count>,
    pub(super) on: Items<W<RetryOn>>,
    pub(super) backoff: Backoff,
    pub(super) max_hint: W<Duration>,
    pub(super) budget: Budget,
    pub(super) replay_buffer: W<Bytes>,
    pub(super) any_method: W<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Backoff {
    Jitter { base: W<Duration>, max: W<Duration> },
    Schedule(Items<W<Duration>>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    pub(super) ratio: W<Share>,
    pub(super) min_per_sec: W<Share>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Breaker {
    pub(super) mode: W<ModeWord>,
    pub(super) consecutive: W<Count>,
    pub(super) ratio: Ratio,
    pub(super) open: Open,
    pub(super) half_open: HalfOpen,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Ratio {
    Off(W<OffWord>),
    On { threshold: W<Share>, window: W<Duration>, min_requests: W<Count> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    pub(super) base: W<Duration>,
    pub(super) max: W<Duration>,
    pub(super) jitter: W<Share>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HalfOpen {
    pub(super) successes: W<Count>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fallback {
    pub(super) provider: Option<W<Name>>,
    pub(super) model: Option<String>,
    pub(super) respond: Option<Respond>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Respond {
    pub(super) status: W<StatusCode>,
    pub(super) body: String,
    pub(super) content_type: W<Field>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: W<OrOff<SocketAddr>>,
    pub(super) probes: W<OrOff<SocketAddr>>,
    pub(super) token: Option<W<Secret>>,
    pub(super) socket: Option<W<OrOff<PathBuf>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub(super) memory: Option<W<Bytes>>,
    pub(super) redis: Option<W<RedisUrl>>,
    pub(super) redis_tls: Option<RedisTls>,
    pub(super) namespace: Option<W<Namespace>>,
    pub(super) secret: Option<W<Secret>>,
    pub(super) timeout: W<Duration>,
    pub(super) encrypt: Option<W<bool>>,
    pub(super) max_keys: W<Count>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RedisTls {
    pub(super) ca: Option<W<PathBuf>>,
    pub(super) cert: Option<W<PathBuf>>,
    pub(super) key: Option<W<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Telemetry {
    pub(super) log: W<LogFormat>,
    pub(super) otlp: Option<W<OtlpUrl>>,
    #[serde(default)]
    pub(super) otlp_headers: Vec<(W<HeaderName>, Option<W<Field>>)>,
    pub(super) sample: W<Share>,
    pub(super) service: String,
    pub(super) interval: W<Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shutdown {
    pub(super) drain_delay: W<Duration>,
    pub(super) deadline: W<Duration>,
}
