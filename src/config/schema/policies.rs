//! Policies: what a route can name. A policy that is not named does nothing.

use super::{Key, Kind, Table, kinds::*};

const MODE_KEY: Key =
    Key::new("mode", MODE, "`enforce` acts; `observe` only counts what it would do; `off` is as if the block were not there.")
        .default("enforce");

const TAGS: Kind = Kind::List(&TAG);
const KEYS: Kind = Kind::OneOrMany(&KEY);

// --- access ---------------------------------------------------------------------------------------

static ACCESS_TABLE: Table = Table::new(
    "access",
    "Who may come in, by address; `deny` wins. Beyond a trusted proxy the address is the client's.",
    &[
        MODE_KEY,
        Key::new("allow", Kind::OneOrMany(&NETS), "Only these; without it, everybody who is not denied.").eg("[private]"),
        Key::new("deny", Kind::OneOrMany(&NETS), "Never these.").eg("[192.0.2.0/24]"),
    ],
)
.at_least_one(&[&["allow", "deny"]]);
pub(super) const ACCESS: Key = Key::new("access", Kind::Table(&ACCESS_TABLE), "Who may come in, by address.");

// --- limits ---------------------------------------------------------------------------------------

const LIMIT_NAME: Key = Key::new("name", NAME, "Label of metrics and of the RateLimit header; counters live on by it across reloads.")
    .says("made from place and terms")
    .eg("per-user");
const LIMIT_KEY: Key =
    Key::new("key", KEYS, "Whose counter: `client_ip` (IPv6: its /64), `caller`, `api_key`, `route`, `provider`, `model`, `header:NAME`, `cookie:NAME`, `query:NAME`, or a list whose combination counts. `global` is one counter for all.")
        .default("global")
        .eg("[caller, route]");
const REQUESTS: Key = Key::new("requests", COUNT_OF, "Requests in a window.").within("1", "1000G").eg("1000");
const TOKENS: Key = Key::new("tokens", COUNT_OF, "Tokens in a window, input and output.").within("1", "1000G").eg("200k");
const USD: Key = Key::new("usd", DOLLARS, "Dollars in a window.").within("0.000001", "1000000000").eg("0.50");
const WINDOW: Key = Key::new("window", TIME_OF, "The window.").within("1s", "366d").required().eg("1m");
const ALGORITHM_KEY: Key = Key::new(
    "algorithm",
    ALGORITHM,
    "`sliding` never admits more than the limit in any window; `fixed` counts aligned windows; `gcra` spreads requests evenly and needs `burst`.",
)
.default("sliding");
const BURST: Key = Key::new("burst", COUNT_OF, "For `gcra`: requests that may come at once.").within("1", "1M").eg("10");
const ON_ERROR: Key =
    Key::new("on_store_error", ON_STORE_ERROR, "While Redis is away: count here, let through, or refuse.").default("local");
const ALERT_AT: Key =
    Key::new("alert_at", Kind::OneOrMany(&SHARE), "Shares of the limit that raise an alert.").within("0.01", "1").eg("[0.5, 0.8, 1.0]");
const UNPRICED_KEY: Key =
    Key::new("unpriced", UNPRICED, "What a call means that dollars cannot be counted for: of a model without a known price. `allow` sets `unmetered: allow` too, unless that is written.").says("`refuse` for a `usd` limit, else `allow`");
const UNMETERED_KEY: Key = Key::new("unmetered", UNPRICED, "What work means whose cost no answer says, so that a limit on tokens or dollars cannot count it: a batch, a video, a tuning job, a WebSocket. `allow` lets it pass uncounted (`outrigger_unmetered_calls_total`).").says("`refuse`; with `unpriced: allow` also `allow`");
const APPLIES_TEXT: &str = "Whether answers from the cache count too.";

static INBOUND_LIMIT: Table = Table::new(
    "inbound limit",
    "Refuses with 429 and a true `Retry-After`. A `tokens` or `usd` limit here counts what the model calls caused by the request spend.",
    &[
        LIMIT_NAME,
        MODE_KEY,
        LIMIT_KEY,
        REQUESTS,
        TOKENS,
        USD,
        WINDOW,
        ALGORITHM_KEY,
        BURST,
        Key::new("applies", APPLIES, APPLIES_TEXT).default("all"),
        ON_ERROR,
        ALERT_AT,
        UNPRICED_KEY,
        UNMETERED_KEY,
    ],
)
.exactly_one(&[&["requests", "tokens", "usd"]])
.foreign(&[("limit", "write `requests`, `tokens` or `usd`"), ("queue", "not supported yet"), ("concurrency", "not supported yet")]);

static OUTBOUND_LIMIT: Table = Table::new(
    "outbound limit",
    "Refuses in the provider's own words. What a call will cost is reserved before it is sent and settled when it ends.",
    &[
        LIMIT_NAME,
        MODE_KEY,
        LIMIT_KEY,
        REQUESTS,
        TOKENS,
        USD,
        WINDOW,
        ALGORITHM_KEY,
        BURST,
        Key::new("applies", APPLIES, APPLIES_TEXT).default("misses"),
        ON_ERROR,
        ALERT_AT,
        UNPRICED_KEY,
        UNMETERED_KEY,
    ],
)
.exactly_one(&[&["requests", "tokens", "usd"]])
.foreign(&[("limit", "write `requests`, `tokens` or `usd`"), ("queue", "not supported yet"), ("concurrency", "not supported yet")]);

const INBOUND_LIMITS: &Kind = &Kind::Table(&INBOUND_LIMIT);
const OUTBOUND_LIMITS: &Kind = &Kind::Table(&OUTBOUND_LIMIT);
pub(super) const IN_LIMITS: Key = Key::new("limits", Kind::List(INBOUND_LIMITS), "Limits; each counts where it is written.");
pub(super) const OUT_LIMITS: Key = Key::new("limits", Kind::List(OUTBOUND_LIMITS), "Limits; each counts where it is written.");

// --- cache ----------------------------------------------------------------------------------------

static INBOUND_CACHE: Table = Table::new(
    "inbound cache",
    "Keeps answers of the app. Without `ttl` it follows RFC 9111 alone: what the app allows with Cache-Control.",
    &[
        MODE_KEY,
        Key::new("ttl", TIME_OF, "Keep for this long whatever the app says; not answers with Set-Cookie, nor requests with Authorization.")
            .within("1s", "366d"),
        Key::new("stale_while_revalidate", TIME_OF, "Answer from an entry this much too old while a new one is fetched.")
            .within("0", "366d")
            .eg("5m"),
        Key::new("stale_if_error", TIME_OF, "Answer from an entry this much too old when the app fails.").within("0", "366d").eg("1h"),
        Key::new("tags", TAGS, "Names by which entries are purged.").eg("[catalog]"),
        Key::new("key", KEYS, "What else tells entries apart, beside method, host, path, query and Vary.").eg("[header:accept-language]"),
        Key::new("cookies", COOKIES, "Requests with cookies under `ttl`: pass them by the cache, or ignore the cookies.").default("bypass"),
        Key::new(
            "unsafe",
            BOOL,
            "Let `ttl` override Set-Cookie, Authorization and `private`. Only for answers that are the same for everybody.",
        )
        .default("false"),
        Key::new("max_body", SIZE_OF, "Largest answer kept.").within("1", "1GiB").default("1MiB"),
        Key::new(
            "body",
            Kind::Either(&[BODY, Kind::List(&FIELD_OF_JSON)]),
            "Answers POST too, which says that such a POST only reads. Entries are told apart by these fields of its JSON body and by \
             nothing else of it; by `all` of it; or as `graphql`: the query by its tokens, everything beside it as it is, mutations never.",
        )
        .eg("[query, page.size]"),
        Key::new("max_request", SIZE_OF, "Largest body that is read for `body`; a larger one goes to the app uncached, and is counted.")
            .within("1", "32MiB")
            .says("1MiB"),
    ],
)
.needs(&[("max_request", "body")])
.foreign(&[
    ("methods", "they are written in the route's `match`; `body` says what of a POST counts"),
    ("share", "it is for model calls, in outbound routes"),
    ("per", "it is for model calls; here write `key: caller`"),
]);

static OUTBOUND_CACHE: Table = Table::new(
    "outbound cache",
    "Keeps answers of models to identical calls, streams included. Entries are apart by the credential the app sent.",
    &[
        MODE_KEY,
        Key::new("ttl", TIME_OF, "How long an answer is kept.").within("1s", "366d").required().eg("1h"),
        Key::new("stale_if_error", TIME_OF, "Answer from an entry this much too old when the provider fails.").within("0", "366d").eg("1h"),
        Key::new("tags", TAGS, "Names by which entries are purged.").eg("[answers]"),
        Key::new("key", KEYS, "What else tells calls apart.").eg("[route]"),
        Key::new("share", BOOL, "One cache for all credentials. Only if every tenant may see every answer.").default("false"),
        Key::new("per", PER, "`caller` keeps the entries of the app's users apart too.").default("tenant"),
        Key::new(
            "replay",
            REPLAY,
            "How a recorded stream is given again: at once, or with the pauses between its pieces (a minute in all at most, longer ones faster).",
        )
        .default("immediate"),
        Key::new("tool_calls", TOOL_CALLS, "Answers that ask for tool calls: an app that gets one again acts again.").default("skip"),
        Key::new(
            "max_temperature",
            SHARE,
            "Calls with a higher temperature are not answered from the cache; one that names none is taken for 1, the providers' default.",
        )
        .within("0", "2")
        .eg("0.3"),
        Key::new("max_body", SIZE_OF, "Largest answer kept.").within("1", "1GiB").default("8MiB"),
    ],
)
.foreign(&[("paced", "write `replay: original`"), ("semantic", "not supported yet")]);

pub(super) const IN_CACHE: Key = Key::new("cache", Kind::Table(&INBOUND_CACHE), "Keeps answers of the app.");
pub(super) const OUT_CACHE: Key = Key::new("cache", Kind::Table(&OUTBOUND_CACHE), "Keeps answers to identical model calls.");
pub(super) const PURGE: Key = Key::new("purge", TAGS, "Tags whose entries are dropped after a success of this route.").eg("[catalog]");

// --- timeouts, retry, breaker -----------------------------------------------------------------------

static TIMEOUTS_TABLE: Table = Table::new(
    "timeouts",
    "Time bounds. What is not written is unbounded, `connect` aside, which is 5s even without this block; streams never end by an \
     accident of a total.",
    &[
        MODE_KEY,
        Key::new("connect", TIME_OR_OFF, "To an open connection, TLS included: every address of the target's name is tried within it.")
            .within("1ms", "1h")
            .default("5s"),
        Key::new("response_header", TIME_OR_OFF, "From the request fully sent to the head of the response.").within("1ms", "1d").eg("10m"),
        Key::new("first_token", TIME_OR_OFF, "Streams only: to the first event.").within("1ms", "1d").eg("120s"),
        Key::new("idle", TIME_OR_OFF, "Between two pieces of a response body.").within("1ms", "1d").eg("60s"),
        Key::new("per_try", TIME_OR_OFF, "One try, to the head of the response.").within("1ms", "1d").eg("30s"),
        Key::new("total", TIME_OR_OFF, "All tries together; streams: to the head of the response.").within("1ms", "1d").eg("2m"),
    ],
)
.foreign(&[("body_idle", "it is written in the door's `bounds`"), ("header_read", "it is written in the door's `bounds`")]);
pub(super) const TIMEOUTS: Key = Key::new("timeouts", Kind::Table(&TIMEOUTS_TABLE), "Time bounds.");

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
pub(super) const IN_RETRY: Key = Key::new("retry", Kind::Table(&INBOUND_RETRY), "Sends a failed request again.");
pub(super) const OUT_RETRY: Key = Key::new("retry", Kind::Table(&OUTBOUND_RETRY), "Sends a failed call again.");

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
pub(super) const BREAKER: Key = Key::new("breaker", Kind::Table(&BREAKER_TABLE), "Stops sending to a target that fails.");

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
pub(super) const IN_FALLBACK: Key = Key::new("fallback", Kind::List(INBOUND_FALLBACKS), "What is answered when the app failed.");
pub(super) const OUT_FALLBACK: Key =
    Key::new("fallback", Kind::List(OUTBOUND_FALLBACKS), "What comes next when the first target failed, in order.");
