//! The table of every metric family: name, kind, unit, labels, help. Only families of this table can be counted.
//!
//! Names without a dot are scraped by Prometheus and exported over OTLP; names with a dot are OpenTelemetry's own
//! (GenAI semantic conventions v1.41.1) and go over OTLP alone: no number is counted twice by a scrape.

/// How a family's numbers behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bounds (inclusive), ascending, in the family's raw unit.
    Histogram(&'static [u64]),
}

/// The meaning of one raw integer in the exposed number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The number itself.
    One,
    /// A billionth of the exposed unit: nanoseconds as seconds, nano-dollars as dollars.
    Nano,
}

impl Unit {
    /// Raw units in one exposed unit.
    pub fn per_unit(self) -> f64 {
        match self {
            Self::One => 1.0,
            Self::Nano => 1e9,
        }
    }

    /// The exposed number nearest to a raw one. Up to 8 million dollars it prints as the exact decimal. Beyond that, two
    /// amounts a nano-dollar apart may be one float, and Prometheus reads floats.
    pub fn exposed(self, raw: i128) -> f64 {
        const EXACT: u128 = 1 << 53;
        match self {
            Self::Nano if raw.unsigned_abs() > EXACT => {
                let (sign, raw) = (if raw < 0 { "-" } else { "" }, raw.unsigned_abs());
                format!("{sign}{}.{:09}", raw / 1_000_000_000, raw % 1_000_000_000).parse().unwrap_or(f64::MAX)
            }
            _ => raw as f64 / self.per_unit(),
        }
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Spec {
    /// Which.
    pub family: Family,
    /// As exposed.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The meaning of a raw integer.
    pub unit: Unit,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One line for a person.
    pub help: &'static str,
}

impl Spec {
    /// Whether the family is scraped by Prometheus.
    pub fn scraped(&self) -> bool {
        !self.name.contains('.')
    }

    /// The OTLP name and unit: a collector's Prometheus translation turns them back into [`Spec::name`].
    pub fn otlp(&self) -> (String, &'static str) {
        if !self.scraped() {
            return (self.name.to_owned(), if self.unit == Unit::Nano { "s" } else { "{token}" });
        }
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let (name, unit) = if let Some(name) = name.strip_suffix("_seconds") {
            (name, "s")
        } else if let Some(name) = name.strip_suffix("_bytes") {
            (name, "By")
        } else if name.ends_with("_usd") {
            (name, "{USD}")
        } else {
            (name, "")
        };
        (name.replacen('_', ".", 1), unit)
    }
}

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;
const US: u64 = 1_000;

/// Half a millisecond (a cache hit) to ten minutes (a reasoning model).
const EXCHANGE: &[u64] = &[
    MS / 2,
    MS,
    5 * MS / 2,
    5 * MS,
    10 * MS,
    25 * MS,
    50 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    S,
    5 * S / 2,
    5 * S,
    10 * S,
    30 * S,
    60 * S,
    120 * S,
    300 * S,
    600 * S,
];

/// Ten microseconds to a second: the proxy's own time.
const OWN: &[u64] =
    &[10 * US, 25 * US, 50 * US, 100 * US, 250 * US, 500 * US, MS, 5 * MS / 2, 5 * MS, 10 * MS, 25 * MS, 100 * MS, 250 * MS, S];

/// A second to a month: the ages that `store::memory` counts by.
const AGES: &[u64] = &[S, 10 * S, 60 * S, 300 * S, 1800 * S, 3600 * S, 6 * 3600 * S, 86_400 * S, 7 * 86_400 * S, 30 * 86_400 * S];

const FIRST_TOKEN: &[u64] =
    &[10 * MS, 25 * MS, 50 * MS, 100 * MS, 250 * MS, 500 * MS, 750 * MS, S, 5 * S / 2, 5 * S, 15 * S / 2, 10 * S, 30 * S, 60 * S, 120 * S];

/// Advised for `gen_ai.client.operation.duration` (GenAI semantic conventions, metrics).
const GEN_AI_DURATION: &[u64] = &[
    10 * MS,
    20 * MS,
    40 * MS,
    80 * MS,
    160 * MS,
    320 * MS,
    640 * MS,
    1280 * MS,
    2560 * MS,
    5120 * MS,
    10_240 * MS,
    20_480 * MS,
    40_960 * MS,
    81_920 * MS,
];

/// Advised for `gen_ai.client.token.usage` (GenAI semantic conventions, metrics).
const GEN_AI_TOKENS: &[u64] = &[1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];

macro_rules! families {
    ($($id:ident = $kind:expr, $unit:ident, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        /// A metric family.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Family {
            $(#[doc = $help] $id,)*
        }

        /// Every family, in the order of [`Family`].
        pub const FAMILIES: &[Spec] = &[
            $(Spec { family: Family::$id, name: $name, kind: $kind, unit: Unit::$unit, labels: &[$($label),*], help: $help },)*
        ];
    };
}

use Kind::{Counter, Gauge, Histogram};

families! {
    Requests = Counter, One, "outrigger_requests_total", ["door", "route", "code", "cache"], "Requests by status sent to the client and by what the cache did.";
    RequestDuration = Histogram(EXCHANGE), Nano, "outrigger_request_duration_seconds", ["door", "route"], "From the complete request head to the last byte of the answer.";
    OwnDuration = Histogram(OWN), Nano, "outrigger_own_duration_seconds", ["door", "route"], "The proxy's own time until the response head: without the upstream and without waiting for the client.";
    UpstreamDuration = Histogram(EXCHANGE), Nano, "outrigger_upstream_duration_seconds", ["target"], "One try, from sending to the response head.";
    FirstToken = Histogram(FIRST_TOKEN), Nano, "outrigger_first_token_seconds", ["provider", "model"], "Streamed model calls, from sending to the first event with content.";
    Rejects = Counter, One, "outrigger_rejects_total", ["door", "route", "reason"], "Answers that the proxy gave by itself, by reason.";
    Inflight = Gauge, One, "outrigger_inflight_requests", ["door"], "Requests that have begun and not ended.";
    Tries = Counter, One, "outrigger_tries_total", ["target", "outcome"], "Sendings to a target, by how they ended.";
    Retries = Counter, One, "outrigger_retries_total", ["target", "reason"], "Tries after the first, by why the one before failed.";
    KeyRests = Counter, One, "outrigger_key_rests_total", ["provider", "key", "reason"], "Times that a configured key was put to rest: throttled, quota_spent, bad_key.";
    KeyState = Gauge, One, "outrigger_key_state", ["provider", "key"], "Configured key: 0 works, 1 throttled (for a model or all), 2 in quarantine: spent or refused.";
    KeyTries = Counter, One, "outrigger_key_tries_total", ["provider", "key", "outcome"], "Tries by key, of providers with several keys, by outcome as in outrigger_tries_total.";
    RetryBudgetExhausted = Counter, One, "outrigger_retry_budget_exhausted_total", ["target"], "Retries not made because the target's retry budget was spent.";
    Fallbacks = Counter, One, "outrigger_fallbacks_total", ["door", "route", "to"], "Requests that went on to a later target or a static answer.";
    Timeouts = Counter, One, "outrigger_timeouts_total", ["target", "bound"], "Time bounds that passed.";
    BreakerState = Gauge, One, "outrigger_breaker_state", ["target"], "Circuit breaker: 0 closed, 1 half open, 2 open.";
    BreakerTransitions = Counter, One, "outrigger_breaker_transitions_total", ["target", "to"], "Circuit breaker changes, by new state.";
    LimitDecisions = Counter, One, "outrigger_limit_decisions_total", ["door", "limit", "decision"], "Requests looked at by a limit: admitted, refused, or observed (would have been refused).";
    LimitWaiting = Gauge, One, "outrigger_limit_waiting_requests", ["door", "limit"], "Requests that wait in the queue of a limit.";
    LimitWait = Histogram(EXCHANGE), Nano, "outrigger_limit_wait_seconds", ["door", "limit"], "Time in the queue of a limit, of requests that went on.";
    LimitQueue = Counter, One, "outrigger_limit_queue_total", ["door", "limit", "outcome"], "Requests that met the queue of a limit: passed, left (the client went away), full, too_long (refused at once), timed_out (refused after the wait).";
    LimitSpared = Counter, One, "outrigger_limit_store_spared_total", ["door", "limit"], "Refusals from memory by what the store had said before: it was not asked again.";
    LimitActions = Counter, One, "outrigger_limit_actions_total", ["door", "limit", "action"], "What spent limits did instead of refusing (on_limit): cache_only, degraded; asked, then approved, declined, unanswered or not_held.";
    LimitPleas = Counter, One, "outrigger_limit_webhooks_total", ["door", "limit", "outcome"], "Webhooks of on_limit: ask: delivered, failed (a try), lost (given up: the request waits for the admin door's answer); allow, refuse (the webhook's own answer decided), disbelieved (anybody on the way could have written it).";
    LimitHeld = Gauge, One, "outrigger_limit_held_requests", [], "Requests that wait for a person's yes (on_limit: ask).";
    LimitKeys = Gauge, One, "outrigger_limit_keys", [], "Limit keys held in memory.";
    LimitEvictions = Counter, One, "outrigger_limit_evictions_total", [], "Limit keys forgotten because memory for them was full.";
    LimitAlerts = Counter, One, "outrigger_limit_alerts_total", ["door", "limit", "at"], "Keys of a limit whose use has passed a share of it (alert_at), once per window.";
    CacheRequests = Counter, One, "outrigger_cache_requests_total", ["door", "route", "result"], "Requests on routes with a cache, by result.";
    AccessObserved = Counter, One, "outrigger_access_observed_total", ["door", "route"], "Requests that `access` would have refused, had it not only observed.";
    GateObserved = Counter, One, "outrigger_gate_observed_total", ["door", "route", "policy"], "Requests and answers that a policy would have refused or changed, had it not only observed: `attacks`, `bans`, `cors` (preflights), `auth`, `csrf`, `validate`, `headers`, `compress`, `privacy`.";
    Compressed = Counter, One, "outrigger_compressed_total", ["door", "route", "result"], "Answers that `compress` looked after: by coding, kept (coded before), or why they went out as they are: no_gain, busy (memory, or too many encoders at work).";
    PrivacyFound = Counter, One, "outrigger_privacy_found_total", ["door", "route", "kind", "action"], "Personal data that `privacy` has found in model calls, by kind and what became of it: placeholder, mask, refuse, observed.";
    PrivacyUnread = Counter, One, "outrigger_privacy_unread_total", ["door", "route", "reason"], "Requests that `privacy` could not read, by reason. They are refused, or pass where `unreadable: pass` is set.";
    PrivacyRestored = Counter, One, "outrigger_privacy_restored_total", ["door", "route"], "Placeholders of `privacy` that answers have got their values back for.";
    PrivacyUnrestored = Counter, One, "outrigger_privacy_unrestored_total", ["door", "route", "reason"], "Answers that went out with the placeholders they may have, by reason: binary stream, content coding, too large.";
    Bans = Gauge, One, "outrigger_banned_clients", ["mode"], "Clients that are out by `access.bans`: enforce, or observe (they would be).";
    BansMade = Counter, One, "outrigger_bans_total", ["event"], "Bans of `access.bans`: made, observed (would have been made), lifted by hand, forgotten (there were too many).";
    AuthKeySets = Counter, One, "outrigger_auth_key_sets_total", ["issuer", "outcome"], "Questions for the keys of an issuer of tokens: ok, failed (the last ones count).";
    CacheBypasses = Counter, One, "outrigger_cache_bypasses_total", ["door", "route", "reason"], "Requests in which the route's cache had no part, by reason.";
    CacheFills = Counter, One, "outrigger_cache_fills_total", ["door", "route", "result"], "Answers that were fetched to be kept: stored, or why not.";
    CacheEvictionAge = Histogram(AGES), Nano, "outrigger_cache_eviction_age_seconds", ["reason"], "Age of entries that left the cache, by reason.";
    CacheBytes = Gauge, One, "outrigger_cache_bytes", [], "Bytes held by the cache in memory.";
    CacheEntries = Gauge, One, "outrigger_cache_entries", [], "Entries held by the cache in memory.";
    CacheBudgetBytes = Gauge, One, "outrigger_cache_budget_bytes", [], "Bytes the cache may hold in memory.";
    CacheEvictions = Counter, One, "outrigger_cache_evictions_total", ["reason"], "Entries that left the cache, by reason.";
    CacheSavedTokens = Counter, One, "outrigger_cache_saved_tokens_total", ["door", "route"], "Tokens of model calls that the cache answered.";
    CacheSavedUsd = Counter, Nano, "outrigger_cache_saved_usd_total", ["door", "route"], "Dollars that model calls answered by the cache would have cost.";
    CacheStore = Counter, One, "outrigger_cache_store_total", ["event"], "What the cache's shared store was asked and told: hit, miss, purged, unreadable; stored, dropped, too_large.";
    CacheWarmed = Counter, One, "outrigger_cache_warmed_total", ["outcome"], "Requests of our own that fill the cache: stored, hit, not_stored, failed.";
    CacheRefreshes = Counter, One, "outrigger_cache_refreshes_total", ["door", "route", "result"], "Refreshes of stale answers in the background, by result.";
    StoreUp = Gauge, One, "outrigger_store_up", ["store"], "Whether the store answers: 1 or 0.";
    StoreErrors = Counter, One, "outrigger_store_errors_total", ["store", "operation"], "Store operations that failed or took too long.";
    PoolConnections = Gauge, One, "outrigger_pool_connections", ["target", "state"], "Upstream connections, idle or active.";
    PoolConnects = Counter, One, "outrigger_pool_connects_total", ["target", "outcome"], "Upstream connections opened or not, by outcome; full: there were max_connections of them.";
    PoolWaiting = Gauge, One, "outrigger_pool_waiting_requests", ["target"], "Requests that wait because the target has as many connections as it may (max_connections).";
    DnsAnswers = Counter, One, "outrigger_dns_answers_total", ["outcome"], "Names of targets asked for a new connection: cached, looked_up, kept (the resolver failed or hung, its last good answer was used), failed.";
    Tokens = Counter, One, "outrigger_tokens_total", ["route", "provider", "model", "class", "source"], "Tokens of model calls, in classes that do not overlap, by where the number comes from.";
    Cost = Counter, Nano, "outrigger_cost_usd_total", ["route", "provider", "model"], "Dollars of model calls.";
    UnpricedCalls = Counter, One, "outrigger_unpriced_calls_total", ["provider", "model"], "Model calls whose model, or whose tier, has no known price.";
    UnmeteredCalls = Counter, One, "outrigger_unmetered_calls_total", ["provider", "work"], "Work that was let through although no answer says what it costs: a batch, a video, a WebSocket.";
    DrainedAnswers = Counter, One, "outrigger_drained_answers_total", ["provider", "result"], "Answers that were read on after their reader had left (on_cut: drain): exact (the usage was stated), unknown (the end came without it), time, size, usd (a bound was reached), too_many (64 a worker), stopped.";
    CauseEntries = Gauge, One, "outrigger_cause_entries", ["kind"], "What calls can be joined to: payee, running exchange, ended exchange, name (given request id, trace id).";
    CauseBytes = Gauge, One, "outrigger_cause_bytes", [], "Bytes of all that calls can be joined to.";
    CauseForgotten = Counter, One, "outrigger_cause_forgotten_total", ["kind"], "Forgotten before its time because memory for it was full: payee, ended, name; turned_away: a request whose payee found no room.";
    BackgroundUnderWay = Gauge, One, "outrigger_background_responses", [], "Responses that a provider makes in the background and whose end nobody has asked for yet.";
    BackgroundForgotten = Counter, One, "outrigger_background_forgotten_total", [], "Background responses (after a day) and batches (after 30 days, or the oldest of very many) that were forgotten before an answer told what they used: they are charged what was reserved for them.";
    BackgroundSaves = Counter, One, "outrigger_background_saves_total", ["result"], "Writes of the book of background responses and batches into state_dir: ok, failed (the next write is made within seconds).";
    EscapedCalls = Counter, One, "outrigger_escaped_calls_total", [], "Model calls that no inbound limit in dollars or tokens could see, because no inbound request could be found for them.";
    UnattributedCalls = Counter, One, "outrigger_unattributed_calls_total", [], "Model calls that no inbound request could be found for.";
    LedgerUp = Gauge, One, "outrigger_ledger_up", [], "Whether the ledger can be written: 1 or 0 (what is counted waits in memory).";
    LedgerCommits = Counter, One, "outrigger_ledger_commits_total", ["outcome"], "Writes of the ledger: ok, failed (tried again).";
    LedgerWaiting = Gauge, One, "outrigger_ledger_waiting_sums", [], "Sums that wait to be written.";
    LedgerFolded = Counter, One, "outrigger_ledger_folded_calls_total", [], "Calls that were added up without their caller, because too many sums wait or the ledger in Redis is full.";
    LedgerBytes = Gauge, One, "outrigger_ledger_bytes", [], "Size of the ledger's file, or of the ledger in memory.";
    LedgerLastCommit = Gauge, One, "outrigger_ledger_last_commit_timestamp_seconds", [], "When the ledger was last written, in seconds since 1970.";
    LedgerNames = Gauge, One, "outrigger_ledger_names", ["dimension"], "Names that the ledger tells apart.";
    LedgerOther = Counter, One, "outrigger_ledger_other_calls_total", ["dimension"], "Calls that count as `other`, because there are too many names.";
    AuditUp = Gauge, One, "outrigger_audit_up", [], "Whether the audit log can be written, and was whole when it was last opened: 1 or 0.";
    AuditLines = Counter, One, "outrigger_audit_lines_total", [], "Lines of the audit log.";
    AuditLost = Counter, One, "outrigger_audit_lost_total", [], "Incidents that have no line in the audit log: it could not be written for too long.";
    AuditWaiting = Gauge, One, "outrigger_audit_waiting_incidents", [], "Incidents that wait for their line in the audit log.";
    Connections = Gauge, One, "outrigger_connections", ["door"], "Open client connections.";
    AcceptErrors = Counter, One, "outrigger_accept_errors_total", ["door"], "Connections that could not be accepted (out of descriptors, for one).";
    TlsHandshakes = Counter, One, "outrigger_tls_handshakes_total", ["door", "outcome"], "Handshakes with clients: ok, failed, timeout, or clear_text (the client did not speak TLS).";
    TlsCertificateExpiry = Gauge, One, "outrigger_tls_certificate_expiry_timestamp_seconds", ["door", "file"], "When a listener's certificate runs out, in seconds since 1970.";
    MemoryBytes = Gauge, One, "outrigger_memory_bytes", ["kind"], "Memory: rss is what the process holds, budget what it may (memory_limit), cache and bodies are parts of it.";
    ConfigReloads = Counter, One, "outrigger_config_reloads_total", ["outcome"], "Reloads of the configuration, by outcome.";
    ConfigLastReloadSuccessful = Gauge, One, "outrigger_config_last_reload_successful", [], "Whether what was last read of the configuration is at work: 1 or 0 (it was refused, the one before serves on).";
    ConfigLastReloadSuccess = Gauge, One, "outrigger_config_last_reload_success_timestamp_seconds", [], "When the configuration at work was read, in seconds since 1970.";
    Draining = Gauge, One, "outrigger_draining", [], "Whether the proxy is leaving: 1 or 0.";
    LogLeftOut = Counter, One, "outrigger_log_left_out_total", ["door", "route"], "Exchanges without a line in the access log, because `log` of their route leaves them out.";
    LogDropped = Counter, One, "outrigger_log_dropped_total", ["log"], "Lines of the access log and of the process log that were lost: their reader is too slow or gone, or a disk is full.";
    ErrorsBytes = Gauge, One, "outrigger_errors_bytes", [], "Bytes of the last failures, kept for /api/errors (telemetry.errors).";
    ErrorsDisplaced = Counter, One, "outrigger_errors_displaced_total", [], "Failures that newer ones have displaced from /api/errors.";
    OtlpExports = Counter, One, "outrigger_otlp_exports_total", ["signal", "outcome"], "OTLP exports by signal: ok, error; and spans and log lines dropped.";
    AlertsOpen = Gauge, One, "outrigger_alerts_open", ["severity"], "Incidents that are open, by severity.";
    Notices = Counter, One, "outrigger_notices_total", ["channel", "outcome"], "Notices of alerts: delivered, failed (a try), lost (given up).";
    NoticesWaiting = Gauge, One, "outrigger_notices_waiting", ["channel"], "Notices of alerts that wait for their channel.";
    MonitorUp = Gauge, One, "outrigger_monitor_up", ["monitor"], "Whether a monitor is up: 1 or 0 (an incident is open).";
    SentryEvents = Counter, One, "outrigger_sentry_events_total", ["outcome"], "Error reports: sent, refused, failed, limited (by the receiver or by our own bound), sampled_out.";
    BuildInfo = Gauge, One, "outrigger_build_info", ["version", "commit"], "Always 1.";
    ProcessCpu = Counter, One, "process_cpu_seconds_total", [], "User and system CPU time spent, in seconds.";
    ProcessResidentMemory = Gauge, One, "process_resident_memory_bytes", [], "Resident memory size in bytes.";
    ProcessOpenFds = Gauge, One, "process_open_fds", [], "Open file descriptors.";
    ProcessMaxFds = Gauge, One, "process_max_fds", [], "Most file descriptors that may be open.";
    ProcessStartTime = Gauge, One, "process_start_time_seconds", [], "Start time of the process since 1970, in seconds.";
    ProcessThreads = Gauge, One, "process_threads", [], "Threads of the process.";
    GenAiTokenUsage = Histogram(GEN_AI_TOKENS), One, "gen_ai.client.token.usage", ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.token.type"], "Input and output tokens used.";
    GenAiOperationDuration = Histogram(GEN_AI_DURATION), Nano, "gen_ai.client.operation.duration", ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "error.type"], "Duration of a model call.";
    GenAiFirstChunk = Histogram(GEN_AI_DURATION), Nano, "gen_ai.client.operation.time_to_first_chunk", ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"], "Time to the first chunk of a streamed model call.";
}

/// Series that exist at 0 from the start: their labels are known then. An alert on `increase()` sees growth within a series
/// only, and a series born at 1 has not grown.
pub(super) const BORN: &[(Family, &[&[&str]])] = &[
    (Family::AcceptErrors, &[&["inbound"], &["outbound"]]),
    (Family::ConfigReloads, &[&["applied"], &["refused"]]),
    (Family::LogDropped, &[&["access"], &["process"]]),
    (Family::SentryEvents, &[&["sent"], &["refused"], &["failed"], &["limited"], &["sampled_out"]]),
    (
        Family::OtlpExports,
        &[
            &["traces", "ok"],
            &["traces", "error"],
            &["traces", "dropped"],
            &["metrics", "ok"],
            &["metrics", "error"],
            &["logs", "ok"],
            &["logs", "error"],
            &["logs", "dropped"],
        ],
    ),
];

impl Family {
    /// Its row.
    pub fn spec(self) -> &'static Spec {
        &FAMILIES[self as usize]
    }
}

/// Whether values of this label come from clients: their number has no bound of its own.
pub fn is_open(label: &str) -> bool {
    matches!(label, "model" | "gen_ai.request.model" | "code")
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES, Family, Kind};

    #[test]
    fn the_table_is_in_order_and_names_are_unique() {
        let mut names = std::collections::HashSet::new();
        for (at, spec) in FAMILIES.iter().enumerate() {
            assert_eq!(spec.family as usize, at);
            // OpenMetrics names a counter's family without `_total`.
            let family = if spec.kind == Kind::Counter { spec.name.trim_end_matches("_total") } else { spec.name };
            assert!(names.insert(family), "{} twice", spec.name);
            assert_eq!(spec.kind == Kind::Counter, spec.name.ends_with("_total"), "{}", spec.name);
            if let Kind::Histogram(bounds) = spec.kind {
                assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{}: bounds ascend", spec.name);
            }
        }
    }

    #[test]
    fn an_otlp_name_loses_what_the_translation_to_prometheus_adds() {
        let of = |family: Family| family.spec().otlp();
        assert_eq!(of(Family::Requests), ("outrigger.requests".into(), ""));
        assert_eq!(of(Family::RequestDuration), ("outrigger.request_duration".into(), "s"));
        assert_eq!(of(Family::CacheBytes), ("outrigger.cache".into(), "By"));
        assert_eq!(of(Family::Cost), ("outrigger.cost_usd".into(), "{USD}"));
        assert_eq!(of(Family::GenAiTokenUsage), ("gen_ai.client.token.usage".into(), "{token}"));
    }
}
