//! The file itself: its form as written and its rows. Its meaning is [`Config`](crate::config::Config), which `build` makes.

use serde::Deserialize;

use super::{admin, alerts, audit, inbound, monitors, outbound, sentry, shutdown, status_page, store, telemetry};
use crate::config::{
    scalars::{Bytes, Count, OrOff, W},
    schema::{
        Key, Kind, Table,
        kinds::{COUNT_OF, SIZE_OF, SIZE_OR_OFF},
    },
    written::Pairs,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    pub(in crate::config) inbound: Option<inbound::Written>,
    pub(in crate::config) outbound: Option<outbound::Written>,
    pub(in crate::config) admin: admin::Written,
    pub(in crate::config) store: store::Written,
    pub(in crate::config) telemetry: telemetry::Written,
    pub(in crate::config) shutdown: shutdown::Written,
    pub(in crate::config) alerts: Option<alerts::Written>,
    pub(in crate::config) audit: Option<audit::Written>,
    pub(in crate::config) monitors: Option<Pairs<monitors::WrittenOrOff>>,
    pub(in crate::config) status_page: Option<status_page::Written>,
    pub(in crate::config) sentry: Option<sentry::Written>,
    pub(in crate::config) workers: Option<W<Count>>,
    pub(in crate::config) memory_limit: Option<W<OrOff<Bytes>>>,
    pub(in crate::config) body_budget: Option<W<Bytes>>,
}

/// The file itself.
pub(in crate::config) static TABLE: Table = Table::new(
    "proxy.yaml",
    "Everything is optional but one of the two doors.",
    &[
        inbound::ROW,
        outbound::ROW,
        Key::new("admin", Kind::Table(&admin::TABLE), "Health, metrics and state.").default("{}"),
        Key::new("store", Kind::Table(&store::TABLE), "Shared state of cache and limits.").default("{}").eg("{memory: 64MiB}"),
        Key::new("telemetry", Kind::Table(&telemetry::TABLE), "Logs, traces, metrics.").default("{}"),
        Key::new("alerts", Kind::Table(&alerts::TABLE), "Tells somebody when it matters.").eg("{}"),
        Key::new("audit", Kind::Table(&audit::TABLE), "A log of what matters for security, which shows when it was changed.").eg("{}"),
        monitors::ROW,
        Key::new("status_page", Kind::Table(&status_page::TABLE), "A public page of what `monitors` found out.")
            .eg("{listen: 0.0.0.0:9903}"),
        Key::new("sentry", Kind::Table(&sentry::TABLE), "Reports failures to Sentry.").eg("{dsn: \"${SENTRY_DSN:-}\"}"),
        Key::new("shutdown", Kind::Table(&shutdown::TABLE), "How the process leaves.").default("{}"),
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
