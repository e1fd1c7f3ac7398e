//! `alerts.rules`: measures with their thresholds. The usual rules stand in one table.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::near_measure;
use crate::config::{
    Glob,
    build::{Build, small},
    error::quoted,
    scalars::{Count, W, Word, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{COUNT_OF, GLOB, TIME_OF},
    },
    written::{Items, Pairs},
};

/// How much an incident matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Told once a day.
    Low,
    /// Told at once, but not in quiet hours.
    Warning,
    /// Told at once.
    Critical,
}

impl Severity {
    /// Every severity, the mildest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Warning, Self::Critical];

    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

words! {
    Severity: "low" => Self::Low, "warning" => Self::Warning, "critical" => Self::Critical;
}

/// The unit of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitOf {
    /// 0..=1.
    Share,
    /// Seconds.
    Time,
    /// A number.
    Number,
}

macro_rules! measures {
    ($($id:ident = $word:literal, $unit:ident, $above:literal, [$low:expr, $warning:expr, $critical:expr], $hold:literal, $doc:literal;)+) => {
        /// What a rule measures.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Measure {
            $(#[doc = $doc] $id,)+
        }

        impl Measure {
            /// Every measure.
            pub const ALL: &[Self] = &[$(Self::$id,)+];

            /// The word used in the file, in notices and as the anchor of its runbook.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$id => $word,)+ }
            }

            /// The unit of its thresholds.
            pub fn unit(self) -> UnitOf {
                match self { $(Self::$id => UnitOf::$unit,)+ }
            }

            /// Whether a high value is the bad one.
            pub fn is_bad_above(self) -> bool {
                match self { $(Self::$id => $above,)+ }
            }

            /// The usual thresholds by severity, and the usual `for` in seconds.
            pub fn usual(self) -> ([Option<f64>; 3], u64) {
                match self { $(Self::$id => ([$low, $warning, $critical], $hold),)+ }
            }

            /// The measure in a sentence.
            pub fn doc(self) -> &'static str {
                match self { $(Self::$id => $doc,)+ }
            }
        }
    };
}

const HOUR: f64 = 3_600.0;
const DAY: f64 = 24.0 * HOUR;

measures! {
    ErrorRate = "error_rate", Share, true, [None, Some(0.05), Some(0.25)], 2, "Share of a route's answers with status 500 or more, or cut.";
    P95 = "p95", Time, true, [None, None, None], 2, "Time in which 95% of a route's answers are complete. No usual threshold: a streamed answer may take a minute.";
    HitRate = "hit_rate", Share, false, [None, None, None], 60, "Share of a route's cache lookups that are answered. No usual threshold.";
    Memory = "memory", Share, true, [None, Some(0.88), Some(0.95)], 2, "Resident memory, as a share of `memory_limit`.";
    Spend = "spend", Share, true, [None, Some(0.8), Some(1.0)], 0, "Use of a limit that has `alert_at`, as a share of its amount.";
    Projection = "projection", Time, false, [None, Some(HOUR), None], 60, "Time until such a limit is spent if its use goes on as lately. Limits with a window of less than four times the threshold are left out.";
    Spike = "spike", Number, true, [None, Some(10.0), None], 30, "Dollars of the last five minutes, as a multiple of the same hour of the days before (from the ledger).";
    Breaker = "breaker", Time, true, [None, Some(0.0), Some(300.0)], 0, "Time for which a breaker has been open or probing.";
    Keys = "keys", Share, true, [None, Some(0.01), Some(1.0)], 2, "Share of a provider's keys that rest, because they were refused, spent or throttled.";
    Unattributed = "unattributed", Share, true, [Some(0.5), None, None], 60, "Share of model calls that no inbound request could be found for.";
    Certificate = "certificate", Time, false, [None, Some(14.0 * DAY), Some(3.0 * DAY)], 0, "Time until a listener's certificate expires.";
    Redis = "redis", Time, true, [None, Some(5.0), Some(600.0)], 0, "Time for which Redis has not answered.";
    Ledger = "ledger", Time, true, [None, Some(5.0), Some(600.0)], 0, "Time for which the ledger cannot be written.";
    Audit = "audit", Time, true, [None, Some(5.0), Some(600.0)], 0, "Time for which the audit log cannot be written, or has been known to be changed.";
    Reload = "reload", Time, true, [None, Some(0.0), None], 0, "Time for which the configuration on disk has been refused.";
    Dropped = "dropped", Number, true, [None, Some(1.0), None], 0, "Log lines, spans and notices that were lost in the last minute.";
    Monitor = "monitor", Time, true, [None, Some(0.0), Some(0.0)], 0, "Time for which a monitor has been down; a slow one is a warning at most.";
    NoTraffic = "no_traffic", Time, true, [None, Some(300.0), None], 0, "Time without a request at the inbound door, if there was one a minute or more in the hour before.";
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertRule {
    /// Its name.
    pub name: Arc<str>,
    /// What it measures.
    pub of: Measure,
    /// The thresholds: low, warning, critical. Shares 0..=1, seconds, or numbers.
    pub thresholds: [Option<f64>; 3],
    /// How long a value must be bad before there is an incident.
    pub hold: Duration,
    /// How long a value must be good before the incident is over.
    pub recover: Duration,
    /// Routes that count, by name; empty: all. Measures without routes: what the measure tells apart.
    pub routes: Vec<Glob>,
    /// Requests below which nothing is concluded from a share.
    pub min_requests: u32,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum WrittenOrOff {
    Off(W<OffWord>),
    On(Written),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    of: Option<W<MeasureWord>>,
    low: Option<W<Threshold>>,
    warning: Option<W<Threshold>>,
    critical: Option<W<Threshold>>,
    r#for: Option<W<Duration>>,
    recover: W<Duration>,
    #[serde(default)]
    routes: Items<W<Glob>>,
    min_requests: W<Count>,
}

/// The word of a rule that is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct OffWord;

impl Word for OffWord {
    fn word(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self) } else { Err(format!("{} is unknown; write `off` or a block of keys", quoted(text))) }
    }
}

/// A measure, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct MeasureWord(Measure);

impl Word for MeasureWord {
    fn word(text: &str) -> Result<Self, String> {
        measure(text).map(Self).ok_or_else(|| format!("{} is no measure{}", quoted(text), near_measure(text)))
    }
}

fn measure(text: &str) -> Option<Measure> {
    Measure::ALL.iter().find(|measure| measure.as_str() == text).copied()
}

/// A threshold: a number, a share (`5%`) or a duration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::config) enum Threshold {
    Number(f64),
    Percent(f64),
    Time(f64),
}

impl Word for Threshold {
    fn word(text: &str) -> Result<Self, String> {
        let wrong = || format!("{} is not a threshold; write a number, a share such as 5%, or a duration such as 2s", quoted(text));
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        if let Some(share) = text.strip_suffix('%') {
            return number(share).map(|share| Self::Percent(share / 100.0)).ok_or_else(wrong);
        }
        match number(text) {
            Some(number) => Ok(Self::Number(number)),
            None => Duration::word(text).map(|time| Self::Time(time.as_secs_f64())).map_err(|_| wrong()),
        }
    }
}

impl Threshold {
    /// The value in the measure's unit; the error says what would be right.
    fn of(self, unit: UnitOf) -> Result<f64, &'static str> {
        match (unit, self) {
            (UnitOf::Share, Self::Percent(share) | Self::Number(share)) if share <= 1.0 => Ok(share),
            (UnitOf::Share, _) => Err("is not what this measure is in: write a share, such as 5% or 0.05"),
            (UnitOf::Time, Self::Time(seconds)) => Ok(seconds),
            (UnitOf::Time, Self::Number(0.0)) => Ok(0.0),
            (UnitOf::Time, _) => Err("is not what this measure is in: write a duration, such as 2s"),
            (UnitOf::Number, Self::Number(number)) => Ok(number),
            (UnitOf::Number, _) => Err("is not what this measure is in: write a number, such as 10"),
        }
    }
}

const MEASURE: Kind = Kind::Scalar(&Scalar::new::<MeasureWord>(
    "a measure",
    Json::Words(&[
        "error_rate",
        "p95",
        "hit_rate",
        "memory",
        "spend",
        "projection",
        "spike",
        "breaker",
        "keys",
        "unattributed",
        "certificate",
        "redis",
        "ledger",
        "audit",
        "reload",
        "dropped",
        "monitor",
        "no_traffic",
    ]),
    "error_rate",
));
const THRESHOLD: Kind =
    Kind::Scalar(&Scalar::new::<Threshold>("a threshold", Json::NumberOr(r"^[0-9.]+%?$|^([0-9]+ ?[A-Za-z]+ ?)+$"), "5%"));
const OFF: Kind = Kind::Scalar(&Scalar::new::<OffWord>("`off`", Json::Words(&["off"]), "off"));

static TABLE: Table = Table::new(
    "alerts.rules",
    "A measure with its thresholds. What is written replaces the usual thresholds of the measure.",
    &[
        Key::new("of", MEASURE, "What is measured.").says("the rule's name").eg("p95"),
        Key::new("low", THRESHOLD, "From here on it is told once a day.").eg("1%"),
        Key::new("warning", THRESHOLD, "From here on it is told at once, but not in quiet hours.").eg("5%"),
        Key::new("critical", THRESHOLD, "From here on it is told at once, always.").eg("25%"),
        Key::new("for", TIME_OF, "How long it must be so before anybody is told.").within("0", "1d").says("by measure, mostly 2s").eg("30s"),
        Key::new("recover", TIME_OF, "How long it must be well before the incident is over; doubled, at most to 16 min, each time it comes back.")
            .within("0", "1d")
            .default("30s"),
        Key::new("routes", Kind::List(&GLOB), "Routes that count, by name; without it, all. Measures without routes: limits, providers and the like.")
            .eg("[chat, \"api-*\"]"),
        Key::new("min_requests", COUNT_OF, "Requests below which nothing is concluded from a share. The last 10 s count, or the last minute or 5 min where there were too few.")
            .within("1", "1M")
            .default("20"),
    ],
);

pub(in crate::config) const RULE_OR_OFF: Kind = Kind::Either(&[Kind::Table(&TABLE), OFF]);

/// The rules as meant: the usual ones as changed, then the others.
pub(super) fn build(build: &mut Build<'_>, written: Pairs<WrittenOrOff>) -> Vec<AlertRule> {
    let mut rules = Vec::new();
    for usual in Measure::ALL {
        if !written.iter().any(|(name, _)| name == usual.as_str()) {
            rules.extend(AlertRule::usual(*usual));
        }
    }
    for (name, one) in written {
        let path = format!("alerts.rules.{name}");
        let one = match one {
            None => continue,
            Some(WrittenOrOff::Off(_)) => {
                if measure(&name).is_none() {
                    let message = format!("there is no usual rule {}{}", quoted(&name), near_measure(&name));
                    build.fault(build.seen.key(&path), message);
                }
                continue;
            }
            Some(WrittenOrOff::On(one)) => one,
        };
        let Some(of) = one.of.as_ref().map(|of| of.0.0).or_else(|| measure(&name)) else {
            let hint = near_measure(&name);
            let hint = if hint.is_empty() { "; write `of:` in it".to_owned() } else { hint };
            build.fault(build.seen.key(&path), format!("{} is no measure{hint}", quoted(&name)));
            continue;
        };
        rules.extend(rule(build, &name, of, one, &path));
    }
    rules
}

fn rule(build: &mut Build<'_>, name: &str, of: Measure, one: Written, path: &str) -> Option<AlertRule> {
    let (usual, hold) = of.usual();
    let mut thresholds = [None; 3];
    let mut any = false;
    for ((slot, threshold), word) in thresholds.iter_mut().zip([one.low, one.warning, one.critical]).zip(["low", "warning", "critical"]) {
        let Some(threshold) = threshold else { continue };
        any = true;
        match threshold.0.of(of.unit()) {
            Ok(value) => *slot = Some(value),
            Err(why) => build.fault(build.seen.value(&format!("{path}.{word}")), format!("{why} ({})", of.as_str())),
        }
    }
    if !any {
        thresholds = usual;
    }
    let set: Vec<(usize, f64)> = thresholds.iter().enumerate().filter_map(|(at, value)| Some((at, (*value)?))).collect();
    for pair in set.windows(2) {
        let ordered = if of.is_bad_above() { pair[0].1 <= pair[1].1 } else { pair[0].1 >= pair[1].1 };
        if !ordered {
            let [first, second] = [pair[0].0, pair[1].0].map(|at| Severity::ALL[at].as_str());
            let place = build.seen.value(&format!("{path}.{first}"));
            build.fault(place, format!("`{first}` must be reached before `{second}`"));
        }
    }
    if set.is_empty() && !any && !build.seen.broken(path) {
        let message = format!("`{name}` has no threshold, and {} has no usual one; write `warning` or `critical`", of.as_str());
        build.fault(build.seen.key(path), message);
    }
    Some(AlertRule {
        name: name.into(),
        of,
        thresholds,
        hold: one.r#for.map_or(Duration::from_secs(hold), |time| time.0),
        recover: one.recover.0,
        routes: one.routes.into_iter().flatten().map(|glob| glob.0).collect(),
        min_requests: small(&one.min_requests),
    })
}

impl AlertRule {
    /// The usual rule of a measure; `None`: it has no usual thresholds.
    pub fn usual(of: Measure) -> Option<Self> {
        let (thresholds, hold) = of.usual();
        thresholds.iter().any(Option::is_some).then(|| Self {
            name: of.as_str().into(),
            of,
            thresholds,
            hold: Duration::from_secs(hold),
            recover: Duration::from_secs(30),
            routes: Vec::new(),
            min_requests: 20,
        })
    }

    /// Whether the rule looks at this subject.
    pub fn covers(&self, subject: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|route| route.matches(subject))
    }

    /// The severity of a value; `None`: it is good.
    pub fn severity(&self, value: f64) -> Option<Severity> {
        let reached = |threshold: f64| if self.of.is_bad_above() { value >= threshold } else { value <= threshold };
        Severity::ALL.into_iter().zip(self.thresholds).rev().find(|(_, at)| at.is_some_and(reached)).map(|(severity, _)| severity)
    }
}
