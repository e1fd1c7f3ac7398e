//! The rows of limits in the schema, and the words of other products that lead to them.

use super::written::{AlgorithmWord, Amount, OnLimitWord, Source, TierName};
use crate::config::{
    block::alerts::HOOK_URL,
    key::KEYS,
    mode::MODE_KEY,
    policy::limits::{Applies, OnStoreError, Unpriced},
    schema::{
        Advice, Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, DOLLARS, NAME, SECRET, SHARE, TEXT as MODEL_NAME, TIME_OF},
    },
};

/// The name of a tier, on the left of a map.
static TIER_NAME: Scalar = Scalar::new::<TierName>("the name of a tier", Json::Pattern(r"^[^ ].{0,63}$"), "free");
const TIER_AMOUNT: Kind =
    Kind::Scalar(&Scalar::new::<Amount>("an amount or `off`", Json::NumberOr(r"^off$|^[0-9][0-9_]*(\.[0-9]{1,9})?[kKmMgG]?$"), "100"));
const SOURCE: Kind = Kind::Scalar(&Scalar::new::<Source>(
    "the source of a tier",
    Json::Pattern("^(verified|jwt:.+|caller|route|provider|model|header:.+)$"),
    "header:x-plan",
));

const ALGORITHM: Kind =
    Kind::Scalar(&Scalar::new::<AlgorithmWord>("`sliding`, `fixed` or `gcra`", Json::Words(&["sliding", "fixed", "gcra"]), "sliding"));
const APPLIES: Kind = Kind::Scalar(&Scalar::new::<Applies>("`all` or `misses`", Json::Words(&["all", "misses"]), "all"));
const ON_STORE_ERROR: Kind =
    Kind::Scalar(&Scalar::new::<OnStoreError>("`local`, `allow` or `deny`", Json::Words(&["local", "allow", "deny"]), "deny"));
const UNPRICED: Kind = Kind::Scalar(&Scalar::new::<Unpriced>("`allow` or `refuse`", Json::Words(&["allow", "refuse"]), "refuse"));

const NAME_KEY: Key = Key::new("name", NAME, "Label of metrics and of the RateLimit header; counters live on by it across reloads.")
    .says("made from place and terms")
    .eg("per-user");
const LIMIT_KEY: Key =
    Key::new("key", KEYS, "Whose counter: `client_ip` (IPv6: its /64), `caller`, `api_key`, `route`, `provider`, `model`, `header:NAME`, `cookie:NAME`, `query:NAME`, `jwt:CLAIM` (a claim of a verified token), or a list whose combination counts. `global` is one counter for all.")
        .default("global")
        .eg("[caller, route]");
const REQUESTS: Key = Key::new("requests", COUNT_OF, "Requests in a window.").within("1", "1000G").eg("1000");
const TOKENS: Key = Key::new("tokens", COUNT_OF, "Tokens in a window, input and output.").within("1", "1000G").eg("200k");
const USD: Key = Key::new("usd", DOLLARS, "Dollars in a window.").within("0.000001", "1000000000").eg("0.50");
const CONCURRENCY: Key = Key::new(
    "concurrency",
    COUNT_OF,
    "Requests in flight at once, each until the last byte of its answer; counted by each replica for itself.",
)
.within("1", "1M")
.eg("20");
const TIER: Key = Key::new(
    "tier",
    SOURCE,
    "The attribute of the caller that `tiers` go by: `verified` (the tier of the credential that `auth` has verified), `jwt:CLAIM` (a claim of its token), `header:NAME` (inbound, believed only from `trusted_proxies`), `caller`, `route`, and outbound `provider` or `model`.",
)
.eg("header:x-plan");
const TIERS: Key = Key::new(
    "tiers",
    Kind::Map { key: &TIER_NAME, of: &TIER_AMOUNT },
    "Other amounts by tier, in the limit's unit; `off` does not count the tier. Who has none of these has the limit's own amount.",
)
.eg("{free: 100, pro: 1000, staff: off}");
const WINDOW: Key =
    Key::new("window", TIME_OF, "The window.").within("1s", "366d").says("must be written, except with `concurrency`").eg("1m");
const ALGORITHM_KEY: Key = Key::new(
    "algorithm",
    ALGORITHM,
    "`sliding` never admits more than the limit in any window; `fixed` counts aligned windows; `gcra` spreads requests evenly and needs `burst`.",
)
.default("sliding");
const QUEUE: Key = Key::new(
    "queue",
    Kind::Table(&QUEUE_TABLE),
    "Holds requests in line instead of refusing them, in their order by key; a limit on requests or `concurrency` only.",
);
const BURST: Key = Key::new("burst", COUNT_OF, "For `gcra`: requests that may come at once.").within("1", "1M").eg("10");
const ON_ERROR: Key =
    Key::new("on_store_error", ON_STORE_ERROR, "While Redis is away: count here, let through, or refuse.").default("local");
const ALERT_AT: Key =
    Key::new("alert_at", Kind::OneOrMany(&SHARE), "Shares of the limit that raise an alert.").within("0.01", "1").eg("[0.5, 0.8, 1.0]");
const ON_LIMIT: Key = Key::new(
    "on_limit",
    Kind::Either(&ON_LIMIT_KINDS),
    "What a spent limit does: `refuse`; `cache_only` lets stored answers through; `degrade` sends calls to a cheaper model; `ask` holds requests until somebody says yes with `outrigger approve`. Calls that go on are charged.",
)
.default("refuse");
const UNPRICED_KEY: Key =
    Key::new("unpriced", UNPRICED, "What a call means that dollars cannot be counted for: of a model without a known price. `allow` sets `unmetered: allow` too, unless that is written.").says("`refuse` for a `usd` limit, else `allow`");
const UNMETERED_KEY: Key = Key::new("unmetered", UNPRICED, "What work means whose cost no answer says, so that a limit on tokens or dollars cannot count it: a video, a tuning job, a batch whose requests are not known, a WebSocket whose events are not known. `allow` lets it pass uncounted (`outrigger_unmetered_calls_total`).").says("`refuse`; with `unpriced: allow` also `allow`");
const FOREIGN: [Advice; 1] = [("limit", "write `requests`, `tokens`, `usd` or `concurrency`")];
const APPLIES_TEXT: &str = "Whether answers from the cache count too.";

const PAIRS: [(&str, &str); 5] = [("tier", "tiers"), ("tiers", "tier"), ("requests", "window"), ("tokens", "window"), ("usd", "window")];

const ON_LIMIT_WORD: Kind = Kind::Scalar(&Scalar::new::<OnLimitWord>(
    "`refuse`, `cache_only` or `ask`",
    Json::Words(&["refuse", "cache_only", "ask"]),
    "cache_only",
));
static ON_LIMIT_KINDS: [Kind; 2] = [Kind::Table(&ON_LIMIT_TABLE), ON_LIMIT_WORD];
static ON_LIMIT_TABLE: Table = Table::new(
    "on_limit",
    "What a spent limit does, with its terms.",
    &[
        Key::new("degrade", Kind::Table(&DEGRADE_TABLE), "Sends calls to a cheaper model of the same API."),
        Key::new("ask", Kind::Table(&ASK_TABLE), "Holds requests until somebody says yes."),
    ],
)
.exactly_one(&[&["degrade", "ask"]]);
static DEGRADE_TABLE: Table = Table::new(
    "on_limit.degrade",
    "The model that calls go to once the limit is spent. A call that cannot go there is refused.",
    &[
        Key::new("model", MODEL_NAME, "The model.").required().eg("gpt-4o-mini"),
        Key::new("provider", NAME, "Its provider, of the same API; outbound only.").says("the provider that was asked").eg("openai"),
    ],
);
static ASK_TABLE: Table = Table::new(
    "on_limit.ask",
    "Requests that wait for a yes: `outrigger approve`, or POST `/api/approvals/ID` at the admin door.",
    &[
        Key::new("wait", TIME_OF, "The longest that a request is held; then it is refused.").within("1s", "1d").default("10m"),
        Key::new("max", COUNT_OF, "Most requests that are held at once; further ones are refused.").within("1", "10k").default("100"),
        Key::new("webhook", HOOK_URL, "A URL that is told of each held request, by the Standard Webhooks specification. Over https its answer may say `{\"decision\": \"allow\"}` or `refuse`.")
            .eg("\"${ASK_WEBHOOK_URL:-}\""),
        Key::new("secret", SECRET, "Signs the webhook: `whsec_` and base64.").eg("\"${ASK_WEBHOOK_SECRET:-}\""),
    ],
)
.needs(&[("webhook", "secret"), ("secret", "webhook")]);

static QUEUE_TABLE: Table = Table::new(
    "queue",
    "Requests that wait for a limit, within this process. A wait that is known to be longer than allowed is refused at once; a client that goes away leaves the line.",
    &[
        Key::new("max", COUNT_OF, "Most requests in one line; further ones are refused.").within("1", "100k").required().eg("100"),
        Key::new("wait", TIME_OF, "The longest that a request waits.").within("1ms", "1h").required().eg("10s"),
    ],
);

static INBOUND_LIMIT: Table = Table::new(
    "inbound limit",
    "Refuses with 429 and a true `Retry-After`. A `tokens` or `usd` limit here counts what the model calls caused by the request spend.",
    &[
        NAME_KEY,
        MODE_KEY,
        LIMIT_KEY,
        REQUESTS,
        TOKENS,
        USD,
        CONCURRENCY,
        TIER,
        TIERS,
        WINDOW,
        ALGORITHM_KEY,
        BURST,
        QUEUE,
        Key::new("applies", APPLIES, APPLIES_TEXT).default("all"),
        ON_ERROR,
        ON_LIMIT,
        ALERT_AT,
        UNPRICED_KEY,
        UNMETERED_KEY,
    ],
)
.exactly_one(&[&["requests", "tokens", "usd", "concurrency"]])
.needs(&PAIRS)
.foreign(&FOREIGN);

static OUTBOUND_LIMIT: Table = Table::new(
    "outbound limit",
    "Refuses in the provider's own words. What a call will cost is reserved before it is sent and settled when it ends.",
    &[
        NAME_KEY,
        MODE_KEY,
        LIMIT_KEY,
        REQUESTS,
        TOKENS,
        USD,
        CONCURRENCY,
        TIER,
        TIERS,
        WINDOW,
        ALGORITHM_KEY,
        BURST,
        QUEUE,
        Key::new("applies", APPLIES, APPLIES_TEXT).default("misses"),
        ON_ERROR,
        ON_LIMIT,
        ALERT_AT,
        UNPRICED_KEY,
        UNMETERED_KEY,
    ],
)
.exactly_one(&[&["requests", "tokens", "usd", "concurrency"]])
.needs(&PAIRS)
.foreign(&FOREIGN);

const INBOUND_KIND: &Kind = &Kind::Table(&INBOUND_LIMIT);
const OUTBOUND_KIND: &Kind = &Kind::Table(&OUTBOUND_LIMIT);
/// The row of a route and of the inbound door.
pub(in crate::config) const INBOUND: Key = Key::new("limits", Kind::List(INBOUND_KIND), TEXT);
/// The row of a route and of the outbound door.
pub(in crate::config) const OUTBOUND: Key = Key::new("limits", Kind::List(OUTBOUND_KIND), TEXT);
const TEXT: &str = "Limits; each counts where it is written.";

pub(super) const ELSEWHERE: &[Elsewhere] = &[
    (
        &[
            "rate_limit",
            "rate_limits",
            "ratelimit",
            "rate_limiting",
            "rate_limiter",
            "limit_req",
            "throttle",
            "throttling",
            "rpm",
            "tpm",
            "quota",
            "quotas",
        ],
        "write `limits: [{key: client_ip, requests: 100, window: 1m}]` in the door or in a route",
    ),
    (
        &["budget", "budgets", "max_budget", "budget_duration", "spend_limit", "cost_limit"],
        "write `limits: [{key: provider, usd: 25, window: 1d}]` in the door or in a route",
    ),
];
