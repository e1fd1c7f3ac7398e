//! The two doors: listeners, routes, providers.

use super::{Advice, Key, Kind, Table, join, kinds::*, tls};
use crate::config::policy::{self, limits};

// --- bounds ---------------------------------------------------------------------------------------

const BOUNDS_TEXT: &str = "Ceilings that hold without being named.";
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

static INBOUND_BOUNDS: Table = Table::new(
    "inbound.bounds",
    BOUNDS_TEXT,
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
static OUTBOUND_BOUNDS: Table = Table::new(
    "outbound.bounds",
    BOUNDS_TEXT,
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

// --- inbound --------------------------------------------------------------------------------------

const HEADERS: Key =
    Key::new("headers", Kind::Map { key: &FIELD_NAME, of: &FIELD }, "Headers with exactly this value; `\"*\"` is any value.")
        .eg("{x-beta: \"*\"}");

static INBOUND_MATCH: Table = Table::new(
    "inbound match",
    "Which requests the route is for. All conditions must hold; the most specific route wins, whatever the order of the file.",
    &[
        Key::new("path", PATH_PATTERN, "Whole segments: `*` is one, a last `**` is the rest, also nothing.").eg("/api/products/**"),
        Key::new("methods", Kind::OneOrMany(&METHOD), "Upper-case methods.").eg("[GET, HEAD]"),
        Key::new("hosts", Kind::OneOrMany(&HOST), "Host names without port.").eg("[example.com, \"*.example.com\"]"),
        HEADERS,
    ],
)
.foreign(&[
    ("operation", "operations are for outbound routes"),
    ("models", "models are for outbound routes"),
    ("provider", "providers are for outbound routes"),
]);

static OUTBOUND_MATCH: Table = Table::new(
    "outbound match",
    "Which model calls the route is for. All conditions must hold; the most specific route wins, whatever the order of the file.",
    &[
        Key::new("provider", Kind::OneOrMany(&NAME), "Names from `outbound.providers`.").eg("[openai]"),
        Key::new("operation", Kind::OneOrMany(&OPERATION), "What is asked for, whatever the API calls it.").eg("chat"),
        Key::new("models", Kind::OneOrMany(&MODEL), "Model names; `*` is any run of characters.").eg("[\"gpt-*\"]"),
        HEADERS,
    ],
)
.foreign(&[("path", "outbound routes match operations, not paths"), ("methods", "outbound routes match operations, not methods")]);

const ROUTE_NAME: Key = Key::new("name", NAME, "Label of metrics and logs; unique in its door.").says("made from the match");
const OF_MATCH: [Advice; 4] = [
    ("path", "it is written in `match: {path: ...}`"),
    ("methods", "it is written in `match: {methods: ...}`"),
    ("models", "it is written in `match: {models: ...}`"),
    ("operation", "it is written in `match: {operation: ...}`"),
];
const ROUTE_FOREIGN: [Advice; OF_MATCH.len() + policy::PLANNED.len()] = join(&OF_MATCH, &policy::PLANNED);
const NO_MATCH: [Advice; 1] = [("match", "defaults hold for every route")];
const DEFAULTS_FOREIGN: [Advice; 1 + policy::NOT_IN_DEFAULTS.len()] = join(&NO_MATCH, &policy::NOT_IN_DEFAULTS);

const INBOUND_OWN: [Key; 2] = [
    ROUTE_NAME,
    Key::new("match", Kind::Table(&INBOUND_MATCH), "Which requests it is for; `{}` is all of them.").required().eg("{path: /api/**}"),
];
static INBOUND_ROUTE: Table = Table::new(
    "inbound route",
    "A match with its policies. A block here replaces the block of the same name in `defaults`.",
    &join::<Key, { INBOUND_OWN.len() + policy::INBOUND_ROUTE.len() }>(&INBOUND_OWN, &policy::INBOUND_ROUTE),
)
.foreign(&ROUTE_FOREIGN);
static INBOUND_DEFAULTS: Table =
    Table::new("inbound.defaults", "Policies of every route, and of requests that match none.", &policy::INBOUND_DEFAULTS)
        .foreign(&DEFAULTS_FOREIGN);

const SERVER_TIMING: Key = Key::new(
    "server_timing",
    BOOL,
    "Every answer says in `Server-Timing` what the proxy and the upstream took, what the cache did, and how many tries there were.",
)
.default("false");

static WARM: Table = Table::new(
    "inbound.warm",
    "GET requests that fill the cache after the start, and again with `outrigger warm`. They take nothing from anybody's limits, and wait while the door is busy.",
    &[
        Key::new("paths", Kind::List(&TARGET), "What is asked for, in this order.").eg("[/, \"/products?page=1\"]"),
        Key::new("file", TEXT_FILE, "A file with a path in each line; `#` begins a remark.").eg("/etc/outrigger/warm.txt"),
        Key::new("headers", Kind::Map { key: &FIELD_NAME, of: &FIELD }, "Sent with each; `host` is the name that clients ask for.")
            .required()
            .eg("{host: shop.example, accept-language: en}"),
        Key::new("concurrency", COUNT_OF, "Requests under way at once.").within("1", "64").default("2"),
        Key::new("rate", COUNT_OF, "Requests a second.").within("1", "10k").default("10"),
        Key::new("wait", TIME_OF, "How long the first one is tried again while the app is not up yet.").within("0", "1h").default("60s"),
    ],
)
.at_least_one(&[&["paths", "file"]]);

static INBOUND: Table = Table::new(
    "inbound",
    "The door in front of the app.",
    &[
        Key::new("listen", ADDRESS, "Where clients connect.").default("0.0.0.0:8080"),
        tls::TLS,
        Key::new("app", APP, "The app: a URL, or a port of this machine (at 127.0.0.1 or ::1, whichever answers).")
            .says("required, unless `--app` is given"),
        tls::target_tls("app_tls"),
        tls::protocol("app_protocol"),
        tls::max_connections("app_max_connections"),
        Key::new(
            "trusted_proxies",
            Kind::OneOrMany(&NETS),
            "Peers whose `X-Forwarded-*` and caller headers are believed; nobody else's are.",
        )
        .eg("[private]"),
        Key::new("caller", Kind::OneOrMany(&CALLER), "Who is asking: the first source that can be trusted.")
            .default("client_ip")
            .eg("[header:x-user-id, client_ip]"),
        limits::INBOUND,
        Key::new("defaults", Kind::Table(&INBOUND_DEFAULTS), "Policies of every route.").default("{}"),
        Key::new("routes", Kind::List(&Kind::Table(&INBOUND_ROUTE)), "Matches with their policies."),
        Key::new("warm", Kind::Table(&WARM), "Requests that fill the cache after the start."),
        Key::new("bounds", Kind::Table(&INBOUND_BOUNDS), BOUNDS_TEXT).default("{}"),
        Key::new(
            "strict_paths",
            BOOL,
            "Also refuses legal paths that servers read differently: `//`, backslashes, `.` and `..` segments (escaped or with parameters \
             too), `%2f`, `%5c` and control characters, each of these escaped twice, `%` that begins no escape.",
        )
        .default("false"),
        Key::new(
            "strict_headers",
            BOOL,
            "Also refuses legal fields that servers read differently: names of other than letters, digits and hyphens (`x_user` is \
             `x-user` to many), values of other than ASCII.",
        )
        .default("false"),
        SERVER_TIMING,
    ],
)
.foreign(&[
    ("auth", policy::NOT_YET),
    ("max_body", "it is written in `bounds: {max_body: ...}`"),
    ("timeouts", "policies of every route are written in `defaults`"),
    ("retry", "policies of every route are written in `defaults`"),
    ("cache", "policies of every route are written in `defaults`"),
    ("breaker", "policies of every route are written in `defaults`"),
    ("providers", "it is written in `outbound`"),
]);
pub(super) const INBOUND_KEY: Key =
    Key::new("inbound", Kind::Table(&INBOUND), "Clients to the app. Absent: that door stays closed.").eg("{app: http://127.0.0.1:3000}");

// --- outbound -------------------------------------------------------------------------------------

static PROVIDER: Table = Table::new(
    "provider",
    "One place to send model calls; its name is the first path segment of the app's base URL, such as http://127.0.0.1:8081/openai/v1.",
    &[
        Key::new("api", API, "The wire format.").says("known for known names, else required"),
        Key::new("url", URL, "Base URL; its path is a prefix of every request.").says("known for known names, else required"),
        Key::new("keys", Kind::OneOrMany(&SECRET), "Keys that replace the app's credential; without any, the app's own passes through.")
            .eg("[\"${OPENAI_API_KEY:-}\"]"),
        tls::target_tls("tls"),
        tls::protocol("protocol"),
        tls::max_connections("max_connections"),
    ],
)
.foreign(&[("key", "write `keys`"), ("base_url", "write `url`"), ("models", "models are matched in routes")]);

static PRICE: Table = Table::new(
    "price",
    "What a model costs, in US dollars per million tokens; overrides or extends the built-in table. Rounded up to 0.001.",
    &[
        Key::new("model", MODEL, "Model names; `*` is any run of characters.").required().eg("\"house-*\""),
        Key::new("input", DOLLARS, "Input tokens.").within("0", "1000000").required().eg("0.15"),
        Key::new("output", DOLLARS, "Output tokens.").within("0", "1000000").required().eg("0.60"),
        Key::new("cached_input", DOLLARS, "Input tokens the provider had cached.").within("0", "1000000").says("as `input`").eg("0.075"),
        Key::new("cache_write", DOLLARS, "Input tokens written to the provider's cache.")
            .within("0", "1000000")
            .says("as `input`")
            .eg("0.1875"),
        Key::new("cache_write_1h", DOLLARS, "The same, kept for an hour.").within("0", "1000000").says("as `cache_write`").eg("0.30"),
    ],
);

const OUTBOUND_OWN: [Key; 2] = [
    ROUTE_NAME,
    Key::new("match", Kind::Table(&OUTBOUND_MATCH), "Which calls it is for; `{}` is all of them.").required().eg("{operation: chat}"),
];
static OUTBOUND_ROUTE: Table = Table::new(
    "outbound route",
    "A match with its policies. A block here replaces the block of the same name in `defaults`.",
    &join::<Key, { OUTBOUND_OWN.len() + policy::OUTBOUND_ROUTE.len() }>(&OUTBOUND_OWN, &policy::OUTBOUND_ROUTE),
)
.foreign(&ROUTE_FOREIGN);
static OUTBOUND_DEFAULTS: Table =
    Table::new("outbound.defaults", "Policies of every route, and of calls that match none.", &policy::OUTBOUND_DEFAULTS)
        .foreign(&DEFAULTS_FOREIGN);

static OUTBOUND: Table = Table::new(
    "outbound",
    "The door between the app and its model providers.",
    &[
        Key::new("listen", ADDRESS, "Where the app connects.").default("127.0.0.1:8081"),
        tls::TLS,
        Key::new(
            "allow",
            Kind::OneOrMany(&NETS),
            "Peers that may use the door; needed when keys are configured and the listener is not on loopback.",
        )
        .eg("[private]"),
        Key::new("hosts", Kind::List(&HOST), "`Host` values that are believed beside loopback ones.").eg("[outrigger.internal]"),
        Key::new(
            "providers",
            Kind::Map { key: &PROVIDER_NAME, of: &Kind::Table(&PROVIDER) },
            "Providers by name. Known names bring their API and URL.",
        )
        .required()
        .eg("{openai: {}}"),
        limits::OUTBOUND,
        Key::new("defaults", Kind::Table(&OUTBOUND_DEFAULTS), "Policies of every route.").default("{}"),
        Key::new("routes", Kind::List(&Kind::Table(&OUTBOUND_ROUTE)), "Matches with their policies."),
        Key::new("bounds", Kind::Table(&OUTBOUND_BOUNDS), BOUNDS_TEXT).default("{}"),
        SERVER_TIMING,
        Key::new("metering", METERING, "`exact`: streams are asked for their usage, and what the app did not ask for is taken out again. `as_sent`: calls go out as they came, and a stream without usage is estimated.")
            .default("exact"),
        Key::new("join_within", TIME_OF, "A call counts for the inbound request that caused it until this long after that request ended.")
            .within("0", "1d")
            .default("5m"),
        Key::new("prices", Kind::List(&Kind::Table(&PRICE)), "Prices that override or extend the built-in table."),
    ],
)
.foreign(&[
    ("auth", policy::NOT_YET),
    ("unattributed", policy::NOT_YET),
    ("max_body", "it is written in `bounds: {max_body: ...}`"),
    ("timeouts", "policies of every route are written in `defaults`"),
    ("retry", "policies of every route are written in `defaults`"),
    ("cache", "policies of every route are written in `defaults`"),
    ("breaker", "policies of every route are written in `defaults`"),
    ("app", "it is written in `inbound`"),
]);
pub(super) const OUTBOUND_KEY: Key =
    Key::new("outbound", Kind::Table(&OUTBOUND), "The app to model providers. Absent: that door stays closed.")
        .eg("{providers: {openai: {}}}");
