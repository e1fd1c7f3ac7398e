//! `limits`: how much may be asked for, in one unit each. A limit's key exists at its door, and its name survives reloads.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;

use super::{InDefaults, NOT_YET, Place, Policy, Rows};
use crate::config::{
    Config,
    build::{Build, Door, small},
    error::quoted,
    human,
    key::{self, KEYS, KeyPart, KeyWord},
    mode::{MODE_KEY, Mode, ModeWord},
    names,
    read::Mark,
    scalars::{Count, Name, Share, Usd, W, words},
    schema::{
        Advice, Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, DOLLARS, NAME, SHARE, TIME_OF},
    },
    written::Items,
};

/// One limit. A limit counts where it is written.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Limit {
    /// As written, or generated from place and terms. Counters live on by it across reloads; it is a label of metrics.
    pub name: Arc<str>,
    pub mode: Mode,
    /// The parts by which counters are kept. Empty: one counter for all.
    pub key: Vec<KeyPart>,
    pub unit: Unit,
    /// The amount per window: requests, tokens or nano-dollars.
    pub amount: u64,
    pub window: Duration,
    pub algorithm: Algorithm,
    /// Whether answers from the cache count too.
    pub applies: Applies,
    pub on_store_error: OnStoreError,
    /// Fractions of `amount` that raise an alert, ascending.
    pub alert_at: Vec<f64>,
    pub unpriced: Unpriced,
    /// What a call whose cost no answer says means to a limit on tokens or dollars.
    pub unmetered: Unpriced,
}

/// The unit of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Unit {
    Requests,
    Tokens,
    /// Nano-dollars: 1 USD = 1_000_000_000.
    NanoUsd,
}

/// How a window is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ring of 32 slots; no window ever has more than the limit.
    Sliding,
    /// Aligned windows.
    Fixed,
    /// Leaky bucket; requests only.
    Gcra {
        /// Requests that may come at once.
        burst: u32,
    },
}

/// Which requests a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Applies {
    All,
    Misses,
}

/// What a limit does while the shared store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OnStoreError {
    Local,
    Allow,
    Deny,
}

/// What a dollar limit does with a call that has no known price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unpriced {
    Allow,
    Refuse,
}

impl Unit {
    /// The unit of a word of [`Self::as_str`].
    pub fn of_word(word: &str) -> Self {
        match word {
            "tokens" => Self::Tokens,
            "usd" => Self::NanoUsd,
            _ => Self::Requests,
        }
    }

    /// The word used in `proxy.yaml`, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::NanoUsd => "usd",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    name: Option<W<Name>>,
    mode: W<ModeWord>,
    key: Items<W<KeyWord>>,
    requests: Option<W<Count>>,
    tokens: Option<W<Count>>,
    usd: Option<W<Usd>>,
    window: Option<W<Duration>>,
    algorithm: W<AlgorithmWord>,
    burst: Option<W<Count>>,
    applies: W<Applies>,
    on_store_error: W<OnStoreError>,
    #[serde(default)]
    alert_at: Items<W<Share>>,
    unpriced: Option<W<Unpriced>>,
    unmetered: Option<W<Unpriced>>,
}

/// The word of `algorithm:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AlgorithmWord {
    Sliding,
    Fixed,
    Gcra,
}

words! {
    AlgorithmWord: "sliding" => Self::Sliding, "fixed" => Self::Fixed, "gcra" => Self::Gcra;
    Applies: "all" => Self::All, "misses" => Self::Misses;
    OnStoreError: "local" => Self::Local, "allow" => Self::Allow, "deny" => Self::Deny;
    Unpriced: "allow" => Self::Allow, "refuse" => Self::Refuse;
}

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
const FOREIGN: [Advice; 3] = [("limit", "write `requests`, `tokens` or `usd`"), ("queue", NOT_YET), ("concurrency", NOT_YET)];
const APPLIES_TEXT: &str = "Whether answers from the cache count too.";

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
.foreign(&FOREIGN);

const INBOUND_KIND: &Kind = &Kind::Table(&INBOUND_LIMIT);
const OUTBOUND_KIND: &Kind = &Kind::Table(&OUTBOUND_LIMIT);
/// The row of a route and of the inbound door.
pub(in crate::config) const INBOUND: Key = Key::new("limits", Kind::List(INBOUND_KIND), TEXT);
/// The row of a route and of the outbound door.
pub(in crate::config) const OUTBOUND: Key = Key::new("limits", Kind::List(OUTBOUND_KIND), TEXT);
const TEXT: &str = "Limits; each counts where it is written.";

const ELSEWHERE: &[Elsewhere] = &[
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

impl Policy for Vec<Limit> {
    type Written = Items<Written>;

    const ROWS: Rows = Rows {
        inbound: Some(INBOUND),
        outbound: Some(OUTBOUND),
        defaults: InDefaults::Refused("limits of a whole door are written in the door's own `limits`"),
    };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    /// A limit counts where it is written: no place inherits one.
    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, _: &Self) -> Self {
        let list = place.key("limits");
        let mut out = Vec::new();
        for (n, limit) in written.into_iter().enumerate().filter_map(|(n, limit)| Some((n, limit?))) {
            out.extend(one(build, place, &format!("{list}[{n}]"), limit));
        }
        out
    }

    fn check(build: &mut Build<'_>, config: &Config) {
        spending(build, config);
        if config.store.redis.is_some() {
            gcra_is_local(build, config);
        }
    }

    fn told(&self, _: &Config) -> Vec<String> {
        match self.len() {
            0 => Vec::new(),
            1 => vec!["1 limit".to_owned()],
            n => vec![format!("{n} limits")],
        }
    }
}

fn one(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: Written) -> Option<Limit> {
    key_fits(build, place, path, &written);
    let units = [
        (Unit::Requests, written.requests.map(|count| count.0.0)),
        (Unit::Tokens, written.tokens.map(|count| count.0.0)),
        (Unit::NanoUsd, written.usd.map(|usd| usd.0.0)),
    ];
    let (unit, amount) = units.into_iter().find_map(|(unit, amount)| Some((unit, amount?)))?;
    let algorithm = match (written.algorithm.0, &written.burst) {
        (AlgorithmWord::Sliding, _) => Algorithm::Sliding,
        (AlgorithmWord::Fixed, _) => Algorithm::Fixed,
        (AlgorithmWord::Gcra, Some(burst)) => Algorithm::Gcra { burst: small(burst) },
        (AlgorithmWord::Gcra, None) => {
            if !build.seen.broken(&format!("{path}.burst")) {
                build.fault(
                    build.seen.value(&format!("{path}.algorithm")),
                    "`algorithm: gcra` needs `burst`, the requests that may come at once",
                );
            }
            return None;
        }
    };
    let known = !build.seen.broken(&format!("{path}.algorithm"));
    if !matches!(algorithm, Algorithm::Gcra { .. }) && written.burst.is_some() && known {
        build.fault(build.seen.key(&format!("{path}.burst")), "`burst` is for `algorithm: gcra`; a window admits its whole limit at once");
    }
    if matches!(algorithm, Algorithm::Gcra { .. }) && unit != Unit::Requests {
        let message = "`algorithm: gcra` counts requests only; for tokens and dollars write `sliding` or `fixed`";
        build.fault(build.seen.value(&format!("{path}.algorithm")), message);
    }
    if written.unpriced.is_some() && unit != Unit::NanoUsd {
        build.fault(build.seen.key(&format!("{path}.unpriced")), "`unpriced` is for a `usd` limit");
    }
    if written.unmetered.is_some() && unit == Unit::Requests {
        let message = "`unmetered` is for a limit on `tokens` or `usd`; requests count whatever they cost";
        build.fault(build.seen.key(&format!("{path}.unmetered")), message);
    }
    let mut alert_at: Vec<f64> = written.alert_at.into_iter().flatten().map(|share| share.0.0).collect();
    alert_at.sort_by(f64::total_cmp);
    alert_at.dedup();
    let unpriced = written.unpriced.map(|word| word.0).unwrap_or(if unit == Unit::NanoUsd { Unpriced::Refuse } else { Unpriced::Allow });
    let unmetered = written.unmetered.map(|word| word.0).unwrap_or(if unit == Unit::Tokens { Unpriced::Refuse } else { unpriced });
    let mut limit = Limit {
        name: Arc::from(""),
        // A limit that is `off` is checked like any other, and dropped below.
        mode: written.mode.0.meant().unwrap_or_default(),
        key: key::parts(written.key),
        unit,
        amount,
        window: written.window?.0,
        algorithm,
        applies: written.applies.0,
        on_store_error: written.on_store_error.0,
        alert_at,
        unpriced,
        unmetered,
    };
    limit.name = match written.name {
        Some(name) => Arc::from(name.0.0.as_str()),
        None => Arc::from(generated_name(place.name, &limit).as_str()),
    };
    claim_name(build, path, &limit.name);
    written.mode.0.meant().is_some().then_some(limit)
}

fn claim_name(build: &mut Build<'_>, path: &str, name: &str) {
    if let Some((_, first)) = build.limit_names.iter().find(|(taken, _)| taken == name) {
        let line = build.seen.value(first).line;
        let (at, message) = if build.seen.written(&format!("{path}.name")) {
            let message = format!("there is already a limit {} at line {line}; names are unique over both doors", quoted(name));
            (build.seen.value(&format!("{path}.name")), message)
        } else {
            (build.seen.value(path), format!("the same limit is already written at line {line}; remove one, or give each a `name`"))
        };
        build.fault(at, message);
    } else {
        build.limit_names.push((name.to_owned(), path.to_owned()));
    }
}

fn key_fits(build: &mut Build<'_>, place: &Place<'_>, path: &str, written: &Written) {
    let parts: Vec<_> = written.key.iter().enumerate().filter_map(|(n, word)| Some((n, word.as_ref()?.0.clone()))).collect();
    for (at, (n, word)) in parts.iter().enumerate() {
        let KeyWord::Part(part) = word else {
            if parts.len() > 1 {
                build.fault(key_place(build, path, *n), "`global` is one counter for all; it cannot be combined with other key parts");
            }
            continue;
        };
        if parts[..at].iter().any(|(_, other)| other == word) {
            build.fault(key_place(build, path, *n), format!("`{}` is already part of the key", part.written()));
        }
        match (place.door, part) {
            (Door::Inbound, KeyPart::Provider | KeyPart::Model) => {
                let message = format!("an inbound request has no {0}; a limit by {0} is written in `outbound`", part.written());
                build.fault(key_place(build, path, *n), message);
            }
            (Door::Inbound, KeyPart::Header(name)) if !place.trusting => {
                let message = format!(
                    "any client can write its own `{name}` and so get a counter of its own; key by `client_ip`, or by `caller` with `trusted_proxies`"
                );
                build.note(key_place(build, path, *n), message);
            }
            _ => {}
        }
    }
}

fn key_place(build: &Build<'_>, path: &str, n: usize) -> Mark {
    let item = format!("{path}.key[{n}]");
    if build.seen.written(&item) { build.seen.value(&item) } else { build.seen.value(&format!("{path}.key")) }
}

/// Limits of the inbound door on tokens or dollars: they count model calls, which pass the outbound door.
fn spending(build: &mut Build<'_>, config: &Config) {
    let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let Some(first) = inbound.filter(|limit| limit.unit != Unit::Requests).map(|limit| Arc::clone(&limit.name)).next() else { return };
    let path = limit_path(build, &first);
    if config.outbound.is_some() || build.seen.written("outbound") || build.seen.broken("outbound") {
        let message = format!(
            "limit `{first}` sees the model calls that the app's requests cause, if the app says which: start it under OpenTelemetry \
             (Python: `opentelemetry-instrument python app.py`), or pass `x-request-id` on to the provider; other calls escape it"
        );
        build.note(build.seen.key(&path), message);
        return;
    }
    let unit = if build.seen.written(&format!("{path}.usd")) { "usd" } else { "tokens" };
    let message = format!(
        "a limit on `{unit}` counts the model calls that a request causes, and without `outbound` none passes here; \
         write `outbound: {{providers: {{openai: {{}}}}}}` and let the app call its provider through it"
    );
    build.fault(build.seen.key(&format!("{path}.{unit}")), message);
}

fn limit_path(build: &Build<'_>, name: &str) -> String {
    build.limit_names.iter().find(|(taken, _)| taken == name).map(|(_, path)| path.clone()).unwrap_or_default()
}

/// Remarks that GCRA is counted by each process for itself: replicas that share a store do not share the count.
fn gcra_is_local(build: &mut Build<'_>, config: &Config) {
    let inbound = config.inbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let outbound = config.outbound.iter().flat_map(|door| door.limits.iter().chain(door.routes.iter().flat_map(|r| &r.policies.limits)));
    let local: Vec<Arc<str>> = inbound
        .chain(outbound)
        .filter(|limit| matches!(limit.algorithm, Algorithm::Gcra { .. }))
        .map(|limit| Arc::clone(&limit.name))
        .collect();
    for name in local {
        let path = limit_path(build, &name);
        build.note(
            build.seen.value(&format!("{path}.algorithm")),
            format!("limit `{name}`: gcra is counted by each replica for itself, not in Redis"),
        );
    }
}

/// The name of a limit that has none: place and terms. The same terms at the same place are the same limit.
fn generated_name(place: &str, limit: &Limit) -> String {
    let key = if limit.key.is_empty() { "global".to_owned() } else { limit.key.iter().map(KeyPart::written).collect::<Vec<_>>().join("+") };
    let amount = match limit.unit {
        Unit::NanoUsd => human::usd(limit.amount),
        Unit::Requests | Unit::Tokens => limit.amount.to_string(),
    };
    let window = humantime::format_duration(limit.window).to_string().replace(' ', "");
    let algorithm = match limit.algorithm {
        Algorithm::Sliding => String::new(),
        Algorithm::Fixed => "/fixed".to_owned(),
        Algorithm::Gcra { burst } => format!("/gcra{burst}"),
    };
    names::bounded(format!("{place}/{key}/{amount}-{}/{window}{algorithm}", limit.unit.as_str()))
}

#[cfg(test)]
mod tests;
