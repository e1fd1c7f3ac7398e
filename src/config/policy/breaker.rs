//! `breaker`: a target that fails gets no requests for a while.

use std::time::Duration;

use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    build::{Build, small},
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Count, Share, W, Word},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, SHARE, TIME_OF},
    },
};

/// Circuit breaker.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Breaker {
    pub mode: Mode,
    /// Failures in a row that open it; 0 is off.
    pub consecutive: u32,
    /// Share of failures that opens it.
    pub ratio: Option<BreakerRatio>,
    /// First open time.
    pub open_base: Duration,
    /// Longest open time.
    pub open_max: Duration,
    /// Random addition, 0..=1 of the open time.
    pub jitter: f64,
    /// Successful probes in a row that close it.
    pub successes: u32,
}

/// Share of failures over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct BreakerRatio {
    pub threshold: f64,
    pub window: Duration,
    pub min_requests: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    consecutive: W<Count>,
    ratio: WrittenRatio,
    open: WrittenOpen,
    half_open: WrittenHalfOpen,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WrittenRatio {
    Off(W<OffWord>),
    On { threshold: W<Share>, window: W<Duration>, min_requests: W<Count> },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOpen {
    base: W<Duration>,
    max: W<Duration>,
    jitter: W<Share>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHalfOpen {
    successes: W<Count>,
}

/// The word of `ratio:` where it is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OffWord;

impl Word for OffWord {
    fn word(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self) } else { Err(format!("{} is unknown; write `off` or a block of keys", quoted(text))) }
    }
}

const OFF: Kind = Kind::Scalar(&Scalar::new::<OffWord>("`off`", Json::Words(&["off"]), "off"));

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
static TABLE: Table = Table::new(
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
const ROW: Key = Key::new("breaker", Kind::Table(&TABLE), "Stops sending to a target that fails.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["circuit_breaker", "circuit_breakers", "circuitbreaker", "outlier_detection", "cooldown_time", "allowed_fails", "max_fails"],
    "write `breaker: {}` in a route or in the door's `defaults`",
)];

impl Policy for Option<Breaker> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: Some(ROW), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("breaker");
        let ratio = match &written.ratio {
            WrittenRatio::Off(_) => None,
            WrittenRatio::On { threshold, window, min_requests } => {
                Some(BreakerRatio { threshold: threshold.0.0, window: window.0, min_requests: small(min_requests) })
            }
        };
        let consecutive = small(&written.consecutive);
        if consecutive == 0 && ratio.is_none() {
            build.fault(
                build.seen.key(&here),
                "this breaker can never open: `consecutive` is 0 and `ratio` is off; to have none, write `mode: off`",
            );
        }
        if written.open.base.0 > written.open.max.0 && !build.seen.broken(&format!("{here}.open")) {
            build.fault(build.seen.value(&format!("{here}.open")), "`base` is longer than `max`");
        }
        Some(Breaker {
            mode: written.mode.0.meant()?,
            consecutive,
            ratio,
            open_base: written.open.base.0,
            open_max: written.open.max.0,
            jitter: written.open.jitter.0.0,
            successes: small(&written.half_open.successes),
        })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|breaker| format!("breaker{}", breaker.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{good, route, says};

    #[test]
    fn a_breaker_opens_by_failures_in_a_row_or_by_their_share() {
        let meant = |breaker: &str| {
            let config = good(&route(&format!("breaker: {breaker}")));
            config.inbound.expect("open").routes.remove(0).policies.breaker
        };
        let (usual, without) = (meant("{}").expect("named"), meant("{ratio: off}").expect("named"));
        assert!(usual.consecutive == 5 && usual.ratio.is_some_and(|ratio| ratio.min_requests == 20));
        assert!(without.consecutive == 5 && without.ratio.is_none());
        assert_eq!(meant("{mode: off}"), None);
        says(&route("breaker: {consecutive: 0, ratio: off}"), "5:7", "can never open");
        says(&route("breaker: {open: {base: 9s, max: 1s}}"), "5:23", "longer than `max`");
        says(&route("breaker: {ratio: of}"), "5:24", "write `off` or a block of keys");
        says(&route("breaker:"), "5:7", "`breaker` is empty; write `breaker: {}`");
    }
}
