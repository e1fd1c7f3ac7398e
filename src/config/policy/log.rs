//! `log`: the exchanges of a route that have a line in the access log.

use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    build::Build,
    error::quoted,
    scalars::{Share, W, Word},
    schema::{Elsewhere, Json, Key, Kind, Scalar, Table, kinds::SHARE},
};

/// Shares of exchanges that have a line.
#[derive(Debug, Clone, PartialEq)]
pub struct LogTerms {
    /// Of exchanges that went well and cost nothing, 0..=1.
    pub sample: f64,
    /// Of answers with these statuses, first and last; the first row that fits decides.
    pub statuses: Vec<(u16, u16, f64)>,
}

impl LogTerms {
    /// The share of exchanges that have a line, among those that ended like this one: with this status (0: none), well or not, charged
    /// or not.
    pub fn share(&self, status: u16, is_well: bool, is_charged: bool) -> f64 {
        let named = self.statuses.iter().find(|(first, last, _)| (*first..=*last).contains(&status));
        match named {
            Some((.., share)) => *share,
            None if is_well && !is_charged => self.sample,
            None => 1.0,
        }
    }
}

/// A status, or the class of one: the first and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Statuses(u16, u16);

impl Word for Statuses {
    fn word(text: &str) -> Result<Self, String> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok()).filter(|class| (1..=5).contains(class));
        let exact = text.parse::<u16>().ok().filter(|status| text.len() == 3 && (100..=599).contains(status));
        match (class, exact) {
            (Some(class), _) => Ok(Self(class * 100, class * 100 + 99)),
            (_, Some(status)) => Ok(Self(status, status)),
            _ => Err(format!("{} is no status; write 404, or 4xx for all of a class", quoted(text))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    sample: W<Share>,
    #[serde(default)]
    statuses: Vec<(W<Statuses>, Option<W<Share>>)>,
}

static STATUSES: Scalar = Scalar::new::<Statuses>("a status or the class of one", Json::Pattern("^[1-5]([0-9]{2}|xx)$"), "4xx");

static TABLE: Table = Table::new(
    "log",
    "Which exchanges have a line in the access log. Without it all have. A failure, a refusal and a call that costs money have theirs \
     whatever `sample` says; metrics, ledger and errors count every exchange anyway.",
    &[
        Key::new("sample", SHARE, "Share of the exchanges that went well and cost nothing; 0 leaves them out.")
            .within("0", "1")
            .default("1"),
        Key::new(
            "statuses",
            Kind::Map { key: &STATUSES, of: &SHARE },
            "Share by status, before everything else; a status comes before its class.",
        )
        .eg("{404: 0, 4xx: 0.1}"),
    ],
);
const ROW: Key = Key::new("log", Kind::Table(&TABLE), "Which exchanges have a line in the access log.").eg("{sample: 0.01}");

const ELSEWHERE: &[Elsewhere] = &[(
    &["log_sample", "log_sampling", "disable_logging", "no_log"],
    "write `log: {sample: 0}` in a route; for all lines of the process `telemetry: {log: off}`",
)];

impl Policy for Option<LogTerms> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: Some(ROW), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(_: &mut Build<'_>, _: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let mut statuses: Vec<(u16, u16, f64)> =
            written.statuses.into_iter().filter_map(|(of, share)| Some((of.0.0, of.0.1, share?.0.0))).collect();
        // What is exact comes first.
        statuses.sort_by_key(|(first, last, _)| last - first);
        Some(LogTerms { sample: written.sample.0.0, statuses })
    }

    fn check(build: &mut Build<'_>, config: &Config) {
        if config.telemetry.log != crate::config::LogFormat::Off || config.telemetry.otlp_logs.access() {
            return;
        }
        let named =
            super::policies_of(config).find(|(path, policies)| policies.log.is_some() && build.seen.written(&format!("{path}.log")));
        if let Some((path, _)) = named {
            let message = "there is no access log: `telemetry.log` is `off` and no collector is sent it; remove one of the two";
            build.fault(build.seen.value(&format!("{path}.log")), message);
        }
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|terms| format!("log {}", terms.sample)).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{good, route, says};

    #[test]
    fn what_is_exact_decides_and_failures_and_charges_have_their_lines() {
        let config = good(&route("log: {sample: 0.25, statuses: {4xx: 0.5, 404: 0}}"));
        let terms = config.inbound.expect("open").routes.remove(0).policies.log.expect("named");
        let share = |status| terms.share(status, status < 400, false);
        assert_eq!((share(200), share(404), share(403), share(500), share(0)), (0.25, 0.0, 0.5, 1.0, 0.25));
        assert_eq!((terms.share(200, true, true), terms.share(200, false, false)), (1.0, 1.0));
    }

    #[test]
    fn what_is_no_share_and_no_status_is_refused() {
        says(&route("log: {sample: 2}"), "5:21", "write 0 to 1");
        says(&route("log: {statuses: {600: 0}}"), "5:24", "no status");
        says(&route("log: {statuses: {20x: 0}}"), "5:24", "4xx for all of a class");
        says(&format!("{}telemetry: {{log: off}}\n", route("log: {sample: 0}")), "5:12", "there is no access log");
        says(&route("no_log: true"), "5:7", "`log: {sample: 0}`");
    }
}
