//! `alerts`: what is watched, who is told, and when.

pub(in crate::config) mod channels;
pub(in crate::config) mod rules;

use std::time::Duration;

use jiff::{civil::Weekday, tz::TimeZone};
use serde::Deserialize;

pub use channels::{Channel, Mail, MailSecurity, Means};
pub use rules::{AlertRule, Measure, Severity, UnitOf};

use crate::config::{
    Secret,
    build::Build,
    error::{did_you_mean, quoted},
    scalars::{OrOff, W, Word, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{NAME_OF_MAP, TEXT, TIME_OF, TIME_OR_OFF},
    },
    written::{Items, Pairs},
};

/// What is watched, who is told, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Alerts {
    /// Time between two looks.
    pub every: Duration,
    /// Time in which incidents that begin together become one notice.
    pub group: Duration,
    /// Time after which an incident that goes on is told again. `None`: never.
    pub remind: Option<Duration>,
    /// What is watched.
    pub rules: Vec<AlertRule>,
    /// Who is told.
    pub channels: Vec<Channel>,
    /// Times at which only critical incidents are told.
    pub quiet: Vec<Quiet>,
    /// Minute of the day at which low incidents are told, all in one notice. `None`: never.
    pub digest: Option<u16>,
    /// The time zone of `quiet` and `digest`.
    pub tz: TimeZone,
    /// A URL that is asked at each interval while the proxy serves.
    pub heartbeat: Option<(Secret, Duration)>,
    /// The URL before the anchor of a runbook. `None`: a notice says what to do, and has no link.
    pub runbooks: Option<String>,
}

/// A stretch of each day, or of some days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// Minute of the day at which it begins.
    pub from: u16,
    /// Minute of the day at which it ends; it ends on the next day if this is not later.
    pub to: u16,
    /// The days on which it begins; empty: all.
    pub days: Vec<Weekday>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    every: W<Duration>,
    group: W<Duration>,
    remind: W<OrOff<Duration>>,
    #[serde(default)]
    rules: Pairs<rules::WrittenOrOff>,
    #[serde(default)]
    channels: Pairs<channels::Written>,
    #[serde(default)]
    quiet: Items<WrittenQuiet>,
    digest: W<OrOff<TimeOfDay>>,
    tz: W<Zone>,
    heartbeat: Option<WrittenHeartbeat>,
    runbooks: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenQuiet {
    from: W<TimeOfDay>,
    to: W<TimeOfDay>,
    #[serde(default)]
    days: Items<W<Day>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHeartbeat {
    url: W<HookUrl>,
    every: W<Duration>,
}

/// A time of day, as minutes after midnight: `22:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct TimeOfDay(pub(in crate::config) u16);

impl Word for TimeOfDay {
    fn word(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(hour, minute)| Some((hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?)));
        match parts {
            Some((hour @ 0..=23, minute @ 0..=59)) if text.len() <= 5 => Ok(Self(hour * 60 + minute)),
            _ => Err(format!("{} is not a time of day; write \"22:00\", in quotes", quoted(text))),
        }
    }
}

/// A time zone by its name.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) struct Zone(pub(in crate::config) TimeZone);

impl Word for Zone {
    fn word(text: &str) -> Result<Self, String> {
        let zone = if text == "UTC" { Ok(TimeZone::UTC) } else { TimeZone::get(text) };
        zone.map(Self).map_err(|_| format!("{} is no time zone; write its IANA name, such as Europe/Berlin, or UTC", quoted(text)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Day(pub(in crate::config) Weekday);

words! {
    Day: "mon" => Self(Weekday::Monday), "tue" => Self(Weekday::Tuesday), "wed" => Self(Weekday::Wednesday),
        "thu" => Self(Weekday::Thursday), "fri" => Self(Weekday::Friday), "sat" => Self(Weekday::Saturday), "sun" => Self(Weekday::Sunday);
}

/// A URL that is a credential itself, with path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct HookUrl(pub(in crate::config) Secret);

impl Word for HookUrl {
    fn word(text: &str) -> Result<Self, String> {
        let uri = text.parse::<http::Uri>().ok();
        let good = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
        });
        match good {
            true => Ok(Self(Secret::new(text))),
            // The value is a credential: it is not shown.
            false => Err("is not a URL; write https://host/path, without a user".into()),
        }
    }
}

pub(in crate::config) const HOOK_URL: Kind =
    Kind::Scalar(&Scalar::new::<HookUrl>("a URL", Json::Text, "\"${SLACK_WEBHOOK_URL:-}\"").secret());
pub(in crate::config) const TIME_OF_DAY: Kind =
    Kind::Scalar(&Scalar::new::<TimeOfDay>("a time of day", Json::Pattern("^[0-9]{1,2}:[0-9]{2}$"), "\"22:00\""));
const TIME_OF_DAY_OR_OFF: Kind =
    Kind::Scalar(&Scalar::new::<OrOff<TimeOfDay>>("a time of day or `off`", Json::Pattern("^off$|^[0-9]{1,2}:[0-9]{2}$"), "\"09:00\""));
pub(in crate::config) const DAY: Kind =
    Kind::Scalar(&Scalar::new::<Day>("a day of the week", Json::Words(&["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), "sat"));
pub(in crate::config) const ZONE: Kind = Kind::Scalar(&Scalar::new::<Zone>("a time zone", Json::Text, "Europe/Berlin"));

static QUIET: Table = Table::new(
    "alerts.quiet",
    "A stretch of the day in which only critical incidents are told. What is still open at its end is told then.",
    &[
        Key::new("from", TIME_OF_DAY, "When it begins.").required().eg("\"22:00\""),
        Key::new("to", TIME_OF_DAY, "When it ends; on the next day if this is not later.").required().eg("\"07:00\""),
        Key::new("days", Kind::List(&DAY), "The days on which it begins; without it, all.").eg("[sat, sun]"),
    ],
);
static HEARTBEAT: Table = Table::new(
    "alerts.heartbeat",
    "A URL that is asked while the proxy serves: who watches it learns that the proxy is gone.",
    &[
        Key::new("url", HOOK_URL, "The URL; GET.").required().eg("\"https://heartbeat.example/ping\""),
        Key::new("every", TIME_OF, "Time between two requests.").within("5s", "1d").default("1m"),
    ],
);

pub(in crate::config) static TABLE: Table = Table::new(
    "alerts",
    "Tells somebody when it matters. With this block the usual rules hold; `rules` changes or adds some.",
    &[
        Key::new("every", TIME_OF, "Time between two looks at the numbers.").within("1s", "1m").default("1s"),
        Key::new("group", TIME_OF, "Incidents that begin within this time become one notice.").within("0", "5m").default("2s"),
        Key::new("remind", TIME_OR_OFF, "An incident that goes on is told again after this time.").within("1m", "30d").default("4h"),
        Key::new(
            "rules",
            Kind::Map { key: &NAME_OF_MAP, of: &rules::RULE_OR_OFF },
            "Names to rules. The name of a measure stands for its usual rule; `off` ends it.",
        )
        .eg("{p95: {warning: 5s}, memory: off}"),
        Key::new("channels", Kind::Map { key: &NAME_OF_MAP, of: &Kind::Table(&channels::TABLE) }, "Names to those who are told.")
            .eg("{team: {slack: \"${SLACK_WEBHOOK_URL:-}\"}}"),
        Key::new("quiet", Kind::OneOrMany(&Kind::Table(&QUIET)), "Stretches of the day in which only critical incidents are told.")
            .eg("{from: \"22:00\", to: \"07:00\"}"),
        Key::new("digest", TIME_OF_DAY_OR_OFF, "When low incidents of the last day are told, all in one notice.")
            .default("\"09:00\"")
            .eg("\"09:00\""),
        Key::new("tz", ZONE, "The time zone of `quiet` and `digest`.").default("UTC").eg("Europe/Berlin"),
        Key::new("heartbeat", Kind::Table(&HEARTBEAT), "A URL that is asked while the proxy serves."),
        Key::new("runbooks", TEXT, "Your runbook's URL: a notice, which says what to do anyway, then has a link to `URL#measure`.")
            .eg("\"https://wiki.example/outrigger/alerts\""),
    ],
);

pub(in crate::config) fn build(build: &mut Build<'_>, written: Option<Written>) -> Option<Alerts> {
    let written = written?;
    let channels: Vec<Channel> = written.channels.into_iter().filter_map(|(name, one)| channels::build(build, &name, one?)).collect();
    if channels.is_empty() && written.heartbeat.is_none() && !build.seen.broken("alerts") {
        let message = "nobody is told: there is no channel; incidents stand in the log, in the metrics and in `outrigger alerts` alone";
        build.note(build.seen.key("alerts"), message);
    }
    if written.runbooks.as_deref().is_some_and(|url| HookUrl::word(url).is_err()) {
        let message = "is not a URL, so nobody who is told could open it; write https://host/path";
        build.fault(build.seen.value("alerts.runbooks"), message);
    }
    let quiet = written.quiet.into_iter().flatten();
    Some(Alerts {
        every: written.every.0,
        group: written.group.0,
        remind: written.remind.0.0,
        rules: rules::build(build, written.rules),
        channels,
        quiet: quiet
            .map(|quiet| Quiet {
                from: quiet.from.0.0,
                to: quiet.to.0.0,
                days: quiet.days.into_iter().flatten().map(|day| day.0.0).collect(),
            })
            .collect(),
        digest: written.digest.0.0.map(|at| at.0),
        tz: written.tz.0.0,
        heartbeat: written.heartbeat.map(|beat| (beat.url.0.0, beat.every.0)),
        runbooks: written.runbooks,
    })
}

/// `; did you mean ...?` over the names of measures.
fn near_measure(text: &str) -> String {
    did_you_mean(text, Measure::ALL.iter().map(|measure| measure.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        scalars::tests::refused,
        testing::{IN, good, says},
    };

    fn alerts(text: &str) -> Alerts {
        good(&format!("{IN}alerts: {text}\n")).alerts.expect("named")
    }

    #[test]
    fn an_empty_block_has_the_usual_rules_and_a_named_rule_changes_one() {
        let usual = alerts("{}");
        let rule = |alerts: &Alerts, name: &str| alerts.rules.iter().find(|rule| &*rule.name == name).cloned();
        let errors = rule(&usual, "error_rate").expect("usual");
        assert_eq!(errors.thresholds, [None, Some(0.05), Some(0.25)]);
        assert!(rule(&usual, "p95").is_none(), "no time is right for every app");
        let own =
            alerts("{rules: {error_rate: {critical: 50%}, p95: {warning: 2s, routes: [chat]}, memory: off, slow: {of: p95, low: 1s}}}");
        assert_eq!(rule(&own, "error_rate").expect("changed").thresholds, [None, None, Some(0.5)]);
        assert_eq!(rule(&own, "p95").expect("named").thresholds, [None, Some(2.0), None]);
        assert!(rule(&own, "memory").is_none() && rule(&own, "slow").is_some());
    }

    #[test]
    fn a_channel_is_one_of_its_kinds_and_its_credential_is_not_shown() {
        let all = alerts(
            "{channels: {a: {slack: 'https://hooks.slack.com/services/T/B/secretpart', severity: critical}, \
             b: {webhook: 'http://h/x', secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'}, \
             c: {email: {server: 'smtp://u:secretpart@m:25', from: a@example.com, to: [b@example.com]}}}}",
        );
        assert_eq!(all.channels.len(), 3);
        assert!(!format!("{all:?}").contains("secretpart"), "{all:?}");
        says(&format!("{IN}alerts: {{channels: {{a: {{severity: low}}}}}}\n"), "2:21", "`slack`");
        says(&format!("{IN}alerts: {{channels: {{a: {{webhook: 'http://h', secret: abc}}}}}}\n"), "2:54", "whsec_");
        says(&format!("{IN}alerts: {{channels: {{a: {{slack: 'hooks.slack.com/x'}}}}}}\n"), "2:32", "is not a URL");
        says(&format!("{IN}alerts: {{runbooks: docs/alerts.md}}\n"), "2:20", "is not a URL");
        assert_eq!(alerts("{}").runbooks, None);
    }

    #[test]
    fn a_threshold_has_the_unit_of_its_measure() {
        says(&format!("{IN}alerts: {{rules: {{error_rate: {{warning: 5s}}}}}}\n"), "2:40", "a share");
        says(&format!("{IN}alerts: {{rules: {{p95: {{warning: 5}}}}}}\n"), "2:33", "a duration");
        says(&format!("{IN}alerts: {{rules: {{eror_rate: {{warning: 5%}}}}}}\n"), "2:18", "did you mean `error_rate`?");
        says(&format!("{IN}alerts: {{rules: {{p95: {{warning: 5s, critical: 2s}}}}}}\n"), "2:33", "before `critical`");
    }

    #[test]
    fn times_of_day_and_zones_are_read() {
        assert_eq!(TimeOfDay::word("22:30"), Ok(TimeOfDay(22 * 60 + 30)));
        refused::<TimeOfDay>("24:00", "is not a time of day");
        refused::<Zone>("Mars/Base", "no time zone");
        let quiet = alerts("{tz: Europe/Berlin, quiet: {from: \"22:00\", to: \"07:00\", days: [sat]}}").quiet;
        assert_eq!(quiet, [Quiet { from: 1320, to: 420, days: vec![Weekday::Saturday] }]);
    }
}
