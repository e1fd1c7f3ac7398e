//! `retry`: a failed request is sent again.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    build::{Build, small},
    error::{did_you_mean, quoted},
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Bytes, Count, Share, W, Word},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, COUNT_OF, SHARE, SIZE_OF, TIME_OF},
    },
    written::Items,
};

/// Retries.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Retry {
    pub mode: Mode,
    /// Tries after the first.
    pub max_retries: u32,
    /// Outcomes that are tried again.
    pub on: Vec<RetryOn>,
    pub backoff: Backoff,
    /// Longest `Retry-After` that is waited for. A longer one passes to the client.
    pub max_hint: Duration,
    pub budget: RetryBudget,
    /// Largest body that is kept for another try, in bytes.
    pub replay_buffer: u64,
    /// Whether methods that are not idempotent are tried again too.
    pub any_method: bool,
}

/// An outcome that can be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum RetryOn {
    Connect,
    Reset,
    Timeout,
    Status(StatusCode),
}

/// Pauses between tries.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// Full jitter: uniform in `0..=min(max, base * 2^n)`.
    FullJitter {
        /// Ceiling of the first pause.
        base: Duration,
        /// Ceiling of every pause.
        max: Duration,
    },
    /// Exactly these pauses; the last repeats.
    Schedule(Vec<Duration>),
}

/// How many retries a target may get: a share of its requests, and so many a second in any case.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct RetryBudget {
    pub ratio: f64,
    pub min_per_sec: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    max_retries: W<Count>,
    on: Items<W<RetryOn>>,
    backoff: WrittenBackoff,
    max_hint: W<Duration>,
    budget: WrittenBudget,
    replay_buffer: W<Bytes>,
    any_method: W<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenBackoff {
    Jitter { base: W<Duration>, max: W<Duration> },
    Schedule(Items<W<Duration>>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBudget {
    ratio: W<Share>,
    min_per_sec: W<Share>,
}

impl Word for RetryOn {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            "connect" => Ok(Self::Connect),
            "reset" => Ok(Self::Reset),
            "timeout" => Ok(Self::Timeout),
            _ if text.starts_with(|c: char| c.is_ascii_digit()) => match text.parse::<u16>() {
                Ok(code @ 400..=599) => StatusCode::from_u16(code).map(Self::Status).map_err(|error| error.to_string()),
                _ => Err(format!("{} is not a status that can be retried; write one from 400 to 599", quoted(text))),
            },
            _ => {
                let hint = did_you_mean(text, ["connect", "reset", "timeout"]);
                let hint = if hint.is_empty() { "; write `connect`, `reset`, `timeout` or a status".into() } else { hint };
                Err(format!("{} is unknown{hint}", quoted(text)))
            }
        }
    }
}

const RETRY_ON: Kind = Kind::Scalar(&Scalar::new::<RetryOn>(
    "`connect`, `reset`, `timeout` or a status",
    Json::NumberOr("^(connect|reset|timeout|[45][0-9]{2})$"),
    "503",
));

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
const INBOUND: Key = Key::new("retry", Kind::Table(&INBOUND_RETRY), "Sends a failed request again.");
const OUTBOUND: Key = Key::new("retry", Kind::Table(&OUTBOUND_RETRY), "Sends a failed call again.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["retries", "num_retries", "retry_policy", "retry_on", "max_retry", "proxy_next_upstream", "attempts"],
    "write `retry: {max_retries: 2}` in a route or in the door's `defaults`",
)];

impl Policy for Option<Retry> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(INBOUND), outbound: Some(OUTBOUND), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("retry");
        let backoff = match written.backoff {
            WrittenBackoff::Jitter { base, max } => {
                if base.0 > max.0 && !build.seen.broken(&format!("{here}.backoff")) {
                    build.fault(build.seen.value(&format!("{here}.backoff")), "`base` is longer than `max`");
                }
                Backoff::FullJitter { base: base.0, max: max.0 }
            }
            WrittenBackoff::Schedule(pauses) => {
                let pauses: Vec<Duration> = pauses.into_iter().flatten().map(|pause| pause.0).collect();
                if pauses.is_empty() && !build.seen.broken(&format!("{here}.backoff")) {
                    build.fault(build.seen.value(&format!("{here}.backoff")), "a schedule needs a pause, such as `[100ms, 1s]`");
                }
                Backoff::Schedule(pauses)
            }
        };
        Some(Retry {
            mode: written.mode.0.meant()?,
            max_retries: small(&written.max_retries),
            on: {
                let mut on = Vec::new();
                for word in written.on.into_iter().flatten() {
                    if !on.contains(&word.0) {
                        on.push(word.0);
                    }
                }
                on
            },
            backoff,
            max_hint: written.max_hint.0,
            budget: RetryBudget { ratio: written.budget.ratio.0.0, min_per_sec: written.budget.min_per_sec.0.0 },
            replay_buffer: written.replay_buffer.0.0,
            any_method: written.any_method.0,
        })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|retry| format!("retry {}{}", retry.max_retries, retry.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        scalars::tests::refused,
        testing::{good, route, says},
    };

    #[test]
    fn backoff_is_a_block_or_a_list() {
        let meant = |backoff: &str| {
            let config = good(&route(&format!("retry: {{backoff: {backoff}}}")));
            config.inbound.expect("open").routes.remove(0).policies.retry.expect("named").backoff
        };
        let (base, max) = (Duration::from_millis(25), Duration::from_secs(2));
        assert_eq!(meant("{max: 2s}"), Backoff::FullJitter { base, max });
        assert_eq!(meant("[100ms, 1s]"), Backoff::Schedule(vec![Duration::from_millis(100), Duration::from_secs(1)]));
        says(&route("retry: {backoff: {base: 9s, max: 1s}}"), "5:24", "longer than `max`");
        says(&route("retry: {backoff: []}"), "5:24", "needs a pause");
    }

    #[test]
    fn an_outcome_is_a_word_or_a_status_and_counts_once() {
        let config = good(&route("retry: {on: [503, connect, 503]}"));
        let on = config.inbound.expect("open").routes.remove(0).policies.retry.expect("named").on;
        assert_eq!(on, [RetryOn::Status(StatusCode::SERVICE_UNAVAILABLE), RetryOn::Connect]);
        refused::<RetryOn>("200", "400 to 599");
        refused::<RetryOn>("timout", "did you mean `timeout`");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_an_outcome_panic(text in "\\PC{0,40}") {
            let _ = RetryOn::word(&text);
        }
    }
}
