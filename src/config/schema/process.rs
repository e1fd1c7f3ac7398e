//! The file itself and the parts that are about the process: admin, store, telemetry, shutdown.

use super::{
    Key, Kind, Table,
    doors::{INBOUND_KEY, OUTBOUND_KEY},
    kinds::*,
};

static ADMIN: Table = Table::new(
    "admin",
    "Health, metrics and state.",
    &[
        Key::new("listen", ADDRESS_OR_OFF, "Everything; keep it on loopback.").default("127.0.0.1:9901"),
        Key::new("probes", ADDRESS_OR_OFF, "Only /live, /ready and /metrics; may face the network.").default("0.0.0.0:9902"),
        Key::new("token", SECRET, "Bearer token that allows changes and /api/config over TCP; without one, both go only over the socket.")
            .default("\"${OUTRIGGER_ADMIN_TOKEN:-}\"")
            .eg("\"${OUTRIGGER_ADMIN_TOKEN:-}\""),
        Key::new("socket", PATH_OR_OFF, "Unix socket of the command line, readable by its owner alone.")
            .says("outrigger-PORT.sock in `$XDG_RUNTIME_DIR`, else in outrigger-UID/ below `$TMPDIR` or /tmp; PORT is the admin port"),
    ],
);

static REDIS_TLS: Table = Table::new(
    "store.redis_tls",
    "TLS towards Redis (`rediss://`, `rediss-sentinel://`, `rediss-cluster://`). Files are watched; connections made after a change use what they then hold.",
    &[
        Key::new("ca", PEM_FILE, "Certificates of the authorities that sign Redis' certificate; without it, those of the system.")
            .eg("/run/secrets/redis/ca.crt"),
        Key::new("cert", PEM_FILE, "Client certificate with its chain, for a Redis that asks for one; needs `key`.")
            .eg("/run/secrets/redis/tls.crt"),
        Key::new("key", PEM_FILE, "Private key of `cert`.").eg("/run/secrets/redis/tls.key"),
    ],
)
.needs(&[("cert", "key"), ("key", "cert")]);

static STORE: Table = Table::new(
    "store",
    "Shared state of cache and limits.",
    &[
        Key::new("memory", SIZE_OF, "Memory of the cache.")
            .within("1MiB", "1TiB")
            .says("a quarter of the memory limit, at most 256MiB")
            .eg("64MiB"),
        Key::new("redis", REDIS, "Makes Redis the shared memory of all replicas; needs `namespace`."),
        Key::new("redis_tls", Kind::Table(&REDIS_TLS), "Own authority and client certificate towards Redis; needs a `rediss` URL."),
        Key::new("namespace", NAMESPACE, "Prefix of every key in Redis; two apps must not share one.").eg("shop"),
        Key::new("secret", SECRET, "Keys the hashes of cache and limit keys; all replicas need the same.")
            .says("made at start, with Redis once per namespace"),
        Key::new("timeout", TIME_OF, "Deadline of every Redis command.").within("1ms", "10s").default("50ms"),
        Key::new("encrypt", BOOL, "Cached answers are encrypted in Redis, with a key made from `secret`."),
        Key::new("max_keys", COUNT_OF, "Most limit counters held in memory; the least used go first.").within("1k", "100M").default("100k"),
    ],
)
.needs(&[("namespace", "redis"), ("encrypt", "redis"), ("redis_tls", "redis")])
.foreign(&[("state_dir", "not supported yet; the ledger is in memory")]);

static TELEMETRY: Table = Table::new(
    "telemetry",
    "Logs, traces, metrics. Prometheus needs nothing here: /metrics is always there.",
    &[
        Key::new("log", LOG, "Access log, a line per request, to standard output.").default("json"),
        Key::new("otlp", OTLP, "Base URL of an OTLP/HTTP collector for traces and metrics.").eg("\"${OTEL_EXPORTER_OTLP_ENDPOINT:-}\""),
        Key::new("otlp_headers", Kind::Map { key: &FIELD_NAME, of: &SECRET_FIELD }, "Headers of OTLP requests.")
            .eg("{authorization: \"Bearer ${OTLP_TOKEN:-none}\"}"),
        Key::new("sample", SHARE, "Share of new traces that are kept; what comes with a decision keeps it.")
            .within("0", "1")
            .default("1")
            .eg("0.1"),
        Key::new("service", TEXT, "`service.name`.").default("outrigger").eg("shop-proxy"),
        Key::new("interval", TIME_OF, "Pause between two OTLP metric exports.").within("1s", "1h").default("60s").eg("15s"),
    ],
)
.needs(&[("otlp_headers", "otlp")]);

static SHUTDOWN: Table = Table::new(
    "shutdown",
    "How the process leaves after SIGTERM.",
    &[
        Key::new("drain_delay", TIME_OF, "Still accepting, after readiness failed.").within("0", "10m").default("5s"),
        Key::new("deadline", TIME_OF, "Everything is over by then; keep it below the orchestrator's own.")
            .within("100ms", "1h")
            .default("25s"),
    ],
);

/// The file itself.
pub(in crate::config) static ROOT: Table = Table::new(
    "proxy.yaml",
    "Everything is optional but one of the two doors.",
    &[
        INBOUND_KEY,
        OUTBOUND_KEY,
        Key::new("admin", Kind::Table(&ADMIN), "Health, metrics and state.").default("{}"),
        Key::new("store", Kind::Table(&STORE), "Shared state of cache and limits.").default("{}").eg("{memory: 64MiB}"),
        Key::new("telemetry", Kind::Table(&TELEMETRY), "Logs, traces, metrics.").default("{}"),
        Key::new("shutdown", Kind::Table(&SHUTDOWN), "How the process leaves.").default("{}"),
        Key::new("workers", COUNT_OF, "Threads that serve.").within("1", "1024").says("as many as the CPU quota allows").eg("2"),
        Key::new(
            "memory_limit",
            SIZE_OR_OFF,
            "Resident memory of the process. At 90% nothing new is cached and connections end with their answers; at 95% new requests \
             get 503 until it falls again.",
        )
        .within("1MiB", "16TiB")
        .says("the cgroup's limit, if there is one, else `off`")
        .eg("512MiB"),
        Key::new(
            "body_budget",
            SIZE_OF,
            "Memory for request bodies that policies read first, and for 1xx answers that clients do not read; all requests together.",
        )
        .within("1MiB", "1TiB")
        .says("a quarter of the memory limit, at most 256MiB")
        .eg("128MiB"),
    ],
)
.foreign(&[
    ("app", "it is written in `inbound`"),
    ("listen", "it is written in `inbound` or `outbound`"),
    ("providers", "it is written in `outbound`"),
    ("routes", "it is written in `inbound` or `outbound`"),
    ("limits", "it is written in `inbound`, `outbound` or a route"),
    ("redis", "it is written in `store`"),
    ("log", "it is written in `telemetry`"),
]);
