//! Policies: what a route can name. A policy that is not named does nothing.

use super::{Key, Kind, Table, kinds::*};
use crate::config::mode::MODE_KEY;

static BUDGET_TABLE: Table = Table::new(
    "retry.budget",
    "How many retries a target may get, so that retries never become the load.",
    &[
        Key::new("ratio", SHARE, "Retries as a share of requests.").within("0", "10").default("0.2"),
        Key::new("min_per_sec", SHARE, "Retries a second that are always allowed.").within("0", "100000").default("3"),
    ],
);

const BACKOFF_TEXT: &str = "A pause is random between 0 and `base` doubled each time, at most `max`; or exactly the pauses of a list.";
static INBOUND_BACKOFF: Table = Table::new(
    "inbound retry.backoff",
    BACKOFF_TEXT,
    &[
        Key::new("base", TIME_OF, "Ceiling of the first pause.").within("1ms", "1h").default("25ms"),
        Key::new("max", TIME_OF, "Ceiling of every pause.").within("1ms", "1h").default("250ms"),
    ],
);
static OUTBOUND_BACKOFF: Table = Table::new(
    "outbound retry.backoff",
    BACKOFF_TEXT,
    &[
        Key::new("base", TIME_OF, "Ceiling of the first pause.").within("1ms", "1h").default("500ms"),
        Key::new("max", TIME_OF, "Ceiling of every pause.").within("1ms", "1h").default("8s"),
    ],
);

const RETRIES: Key = Key::new("max_retries", COUNT_OF, "Tries after the first.").within("0", "10").default("2");
const ON_TEXT: &str = "What is tried again.";
const MAX_HINT: Key = Key::new("max_hint", TIME_OF, "Longest `Retry-After` that is waited for; a longer one goes to the client.")
    .within("0", "1h")
    .default("30s");
const BUDGET: Key = Key::new("budget", Kind::Table(&BUDGET_TABLE), "How many retries a target may get.").default("{}");
const BUFFER_TEXT: &str = "Largest request body that is kept for another try; a larger one is sent once.";
const ANY_TEXT: &str = "Also methods that are not idempotent (POST); a request may then reach its target twice.";

static INBOUND_RETRY: Table = Table::new(
    "inbound retry",
    "Sends a failed request to the app again.",
    &[
        MODE_KEY,
        RETRIES,
        Key::new("on", Kind::OneOrMany(&RETRY_ON), ON_TEXT).default("[connect, reset, 502, 503, 504]"),
        Key::new("backoff", Kind::Either(&[Kind::Table(&INBOUND_BACKOFF), Kind::List(&TIME_OF)]), BACKOFF_TEXT)
            .within("0", "1h")
            .default("{}")
            .eg("[100ms, 1s]"),
        MAX_HINT,
        BUDGET,
        Key::new("replay_buffer", SIZE_OF, BUFFER_TEXT).within("0", "64MiB").default("64KiB"),
        Key::new("any_method", BOOL, ANY_TEXT).default("false"),
    ],
);
static OUTBOUND_RETRY: Table = Table::new(
    "outbound retry",
    "Sends a failed model call again. The official SDKs retry by themselves: this replaces their retries, it is not multiplied by them.",
    &[
        MODE_KEY,
        RETRIES,
        Key::new("on", Kind::OneOrMany(&RETRY_ON), ON_TEXT).default("[connect, reset, 408, 409, 429, 500, 502, 503, 504, 529]"),
        Key::new("backoff", Kind::Either(&[Kind::Table(&OUTBOUND_BACKOFF), Kind::List(&TIME_OF)]), BACKOFF_TEXT)
            .within("0", "1h")
            .default("{}")
            .eg("{base: 500ms, max: 8s}"),
        MAX_HINT,
        BUDGET,
        Key::new("replay_buffer", SIZE_OF, BUFFER_TEXT).within("0", "64MiB").default("1MiB"),
        Key::new("any_method", BOOL, ANY_TEXT).default("true"),
    ],
);
pub(in crate::config) const IN_RETRY: Key = Key::new("retry", Kind::Table(&INBOUND_RETRY), "Sends a failed request again.");
pub(in crate::config) const OUT_RETRY: Key = Key::new("retry", Kind::Table(&OUTBOUND_RETRY), "Sends a failed call again.");

static RATIO_TABLE: Table = Table::new(
    "breaker.ratio",
    "Opens when this share of the requests in a window failed.",
    &[
        Key::new("threshold", SHARE, "Share of failures.").within("0.01", "1").default("0.5"),
        Key::new("window", TIME_OF, "Over which time.").within("1s", "1h").default("10s"),
        Key::new("min_requests", COUNT_OF, "Requests in the window below which nothing is concluded.").within("1", "1M").default("20"),
    ],
);
static OPEN_TABLE: Table = Table::new(
    "breaker.open",
    "How long it stays open: `base`, doubled each time, at most `max`, plus jitter; or what Retry-After asks for.",
    &[
        Key::new("base", TIME_OF, "The first time.").within("1ms", "1h").default("5s"),
        Key::new("max", TIME_OF, "The longest time.").within("1ms", "1d").default("60s"),
        Key::new("jitter", SHARE, "Random addition, as a share.").within("0", "1").default("0.5"),
    ],
);
static HALF_OPEN_TABLE: Table = Table::new(
    "breaker.half_open",
    "One probe at a time goes through.",
    &[Key::new("successes", COUNT_OF, "Probes in a row that close it.").within("1", "100").default("2")],
);
static BREAKER_TABLE: Table = Table::new(
    "breaker",
    "Stops sending to a target that fails, answers at once instead, and probes until it is well. One per target.",
    &[
        MODE_KEY,
        Key::new("consecutive", COUNT_OF, "Failures in a row that open it; 0 looks at `ratio` alone.").within("0", "1M").default("5"),
        Key::new("ratio", Kind::Either(&[Kind::Table(&RATIO_TABLE), OFF]), "Share of failures that opens it, or `off`.")
            .default("{}")
            .eg("{threshold: 0.5, window: 10s, min_requests: 20}"),
        Key::new("open", Kind::Table(&OPEN_TABLE), "How long it stays open.").default("{}").eg("{base: 5s, max: 60s, jitter: 0.5}"),
        Key::new("half_open", Kind::Table(&HALF_OPEN_TABLE), "When it closes again.").default("{}").eg("{successes: 2}"),
    ],
);
pub(in crate::config) const BREAKER: Key = Key::new("breaker", Kind::Table(&BREAKER_TABLE), "Stops sending to a target that fails.");

// --- fallback -------------------------------------------------------------------------------------

static RESPOND_TABLE: Table = Table::new(
    "fallback.respond",
    "A static answer.",
    &[
        Key::new("status", STATUS, "Its status.").default("503"),
        Key::new("body", TEXT, "Its body.").default("\"\"").eg("\"The assistant is resting.\""),
        Key::new("content_type", FIELD, "Its content type.").default("text/plain; charset=utf-8").eg("application/json"),
    ],
);
const RESPOND: Key =
    Key::new("respond", Kind::Table(&RESPOND_TABLE), "A static answer; the last of the list.").eg("{status: 503, body: \"Back soon.\"}");
static INBOUND_FALLBACK: Table =
    Table::new("inbound fallback", "What is answered when the app failed.", &[RESPOND]).exactly_one(&[&["respond"]]).foreign(&[
        ("provider", "providers are for outbound routes; here only `respond` can be written"),
        ("model", "models are for outbound routes; here only `respond` can be written"),
    ]);
static OUTBOUND_FALLBACK: Table = Table::new(
    "outbound fallback",
    "What comes next when a call failed before its first byte went to the app; tried in order.",
    &[
        Key::new("provider", NAME, "A provider of the same API.").eg("openai"),
        Key::new("model", TEXT, "The model to ask instead.").eg("gpt-4o-mini"),
        RESPOND,
    ],
)
.exactly_one(&[&["provider", "respond"]])
.needs(&[("model", "provider")]);
const INBOUND_FALLBACKS: &Kind = &Kind::Table(&INBOUND_FALLBACK);
const OUTBOUND_FALLBACKS: &Kind = &Kind::Table(&OUTBOUND_FALLBACK);
pub(in crate::config) const IN_FALLBACK: Key = Key::new("fallback", Kind::List(INBOUND_FALLBACKS), "What is answered when the app failed.");
pub(in crate::config) const OUT_FALLBACK: Key =
    Key::new("fallback", Kind::List(OUTBOUND_FALLBACKS), "What comes next when the first target failed, in order.");
