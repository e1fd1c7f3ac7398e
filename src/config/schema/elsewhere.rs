//! Words of other products that lead to no policy, each with the advice for who writes it. Words that lead to a policy stand with it.

use super::Elsewhere;
use crate::config::policy;

/// The words with their advice. A word is looked up whatever its case, with `-` for `_`.
const WORDS: &[Elsewhere] = &[
    (
        &[
            "upstreams",
            "upstream",
            "backend",
            "backends",
            "target",
            "targets",
            "origin",
            "origins",
            "server",
            "servers",
            "cluster",
            "clusters",
            "service",
            "services",
            "proxy_pass",
            "reverse_proxy",
            "endpoint",
            "endpoints",
        ],
        "the app is written in `inbound: {app: http://127.0.0.1:3000}`, model providers in `outbound: {providers: {openai: {}}}`",
    ),
    (
        &["model_list", "deployments", "litellm_params", "llm", "llms"],
        "providers are written in `outbound: {providers: {openai: {}}}`; the app names the model in its call",
    ),
    (
        &["load_balancing", "load_balancer", "lb_policy", "routing_strategy", "weight", "weights", "round_robin", "strategy"],
        "one app stands behind `inbound`; several keys of a provider take turns, other targets are a `fallback`",
    ),
    (
        &["log_level", "loglevel", "logging", "log_format", "logger", "access_log", "error_log", "verbosity", "verbose", "debug"],
        "the process log's level is `outrigger run --log-level debug` (or OUTRIGGER_LOG), the access log is `telemetry: {log: json}`",
    ),
    (
        &["tracing", "trace", "traces", "opentelemetry", "otel", "zipkin", "jaeger", "datadog"],
        "write `telemetry: {otlp: \"http://collector:4318\"}`",
    ),
    (&["metrics", "prometheus", "stats", "statsd"], "metrics are always at /metrics of `admin: {listen, probes}`"),
    (
        &["health_check", "health_checks", "healthcheck", "healthchecks", "active_health_checks", "readiness", "liveness", "health"],
        "/live and /ready are always at `admin: {probes}`; targets are watched by their answers: write `breaker: {}`",
    ),
    (&["port", "bind", "address", "addr", "listeners", "entrypoints", "host_port", "expose"], "write `listen: 127.0.0.1:8081` in the door"),
    (
        &["ssl", "https", "certificate", "certificates", "certs", "ssl_certificate", "cert_file", "key_file"],
        "write `tls: {cert: tls.crt, key: tls.key}` in the door",
    ),
    (
        &["api_key", "apikey", "api_keys", "api_token", "secret_key", "credentials", "openai_api_key", "anthropic_api_key"],
        "write `keys: [\"${OPENAI_API_KEY}\"]` in the provider",
    ),
    (&["api_base", "base_url", "api_url", "openai_base_url"], "write `url` in the provider"),
    (
        &["trusted_ips", "trust_proxy", "set_real_ip_from", "xff_num_trusted_hops", "forwarded_headers"],
        "write `trusted_proxies: [private]` in `inbound`",
    ),
    (&["static", "static_files", "root", "file_server"], "files are the app's to serve; `cache: {}` keeps them"),
    (&["websocket", "websockets", "upgrade"], "WebSockets pass without a word"),
    (&["http2", "grpc", "h2c"], "HTTP/2 and gRPC pass without a word; towards a target write `app_protocol: http2` or `protocol: http2`"),
    (
        &["middlewares", "middleware", "plugins", "plugin", "filters", "handlers", "policies"],
        "policies are written by name in a route or in the door's `defaults`: access, cors, auth, csrf, validate, headers, limits, redirect, respond, cache, rewrite, timeouts, retry, breaker, fallback, compress, log",
    ),
    (
        &["global", "settings", "config", "general_settings", "litellm_settings", "router_settings", "http", "spec"],
        "there is no such block: `inbound`, `outbound`, `admin`, `store`, `telemetry` and `shutdown` stand at the top of the file",
    ),
    (
        &["max_connections", "client_max_body_size", "max_request_size", "body_limit", "max_body_size"],
        "ceilings are written in the door's `bounds`: max_body, max_head, max_connections, max_requests",
    ),
    (
        &["threads", "worker_processes", "num_workers", "concurrency"],
        "threads are `workers` at the top of the file; requests in hand are `bounds: {max_requests: ...}`",
    ),
    (
        &["grace_period", "graceful_shutdown", "shutdown_timeout", "drain_timeout", "lameduck"],
        "write `shutdown: {drain_delay: 5s, deadline: 25s}`",
    ),
    (
        &["include", "includes", "import", "imports", "extends"],
        "a proxy.yaml is one file; `${NAME}` and `{file: /run/secrets/x}` bring in values",
    ),
    (&["environment", "env", "environment_variables", "variables"], "values take variables where they stand: `\"${NAME:-default}\"`"),
];

fn all() -> impl Iterator<Item = &'static Elsewhere> {
    WORDS.iter().chain(policy::ELSEWHERE.iter().copied().flatten())
}

/// The advice for a word of another product.
pub(in crate::config) fn instead_of(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    all().find(|(words, _)| words.contains(&name.as_str())).map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_word_points_one_way_and_a_way_that_is_good() {
        let mut seen = HashSet::new();
        for (words, instead) in all() {
            for word in *words {
                assert!(seen.insert(*word), "{word} twice");
                assert_eq!(word.to_ascii_lowercase().replace('-', "_"), *word);
            }
            // What is shown as YAML is YAML.
            for part in instead.split('`').skip(1).step_by(2).filter(|part| part.contains(": ")) {
                serde_yaml::from_str::<serde_yaml::Value>(&part.replace(", probes", "")).unwrap_or_else(|error| panic!("{part}: {error}"));
            }
        }
        assert!(instead_of("Rate-Limit").is_some_and(|text| text.contains("limits")) && instead_of("inbound").is_none());
    }
}
