//! `sentry`: where failures are reported.

use serde::Deserialize;

use crate::config::{
    Secret,
    build::Build,
    scalars::{Share, W, Word},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{SHARE, TEXT},
    },
};

/// Error reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Sentry {
    /// The project's DSN.
    pub dsn: Secret,
    /// The environment.
    pub environment: String,
    /// The release of the app; empty: not said.
    pub release: String,
    /// Share of failures that are reported, 0..=1.
    pub sample: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    dsn: Option<W<DsnWord>>,
    environment: String,
    release: Option<String>,
    sample: W<Share>,
}

/// A DSN.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DsnWord(Secret);

impl Word for DsnWord {
    fn word(text: &str) -> Result<Self, String> {
        match text.parse::<sentry_types::Dsn>() {
            Ok(_) => Ok(Self(Secret::new(text))),
            // The value is a credential: it is not shown.
            Err(_) => Err("is not a DSN; write the one of the project's settings, such as https://KEY@sentry.example/1".into()),
        }
    }
}

const DSN: Kind = Kind::Scalar(&Scalar::new::<DsnWord>("a DSN", Json::Text, "\"${SENTRY_DSN:-}\"").secret());

pub(in crate::config) static TABLE: Table = Table::new(
    "sentry",
    "Reports failures to Sentry, or to what speaks its protocol: answers of 500 and more, broken upstreams, timeouts, faults of the proxy.",
    &[
        Key::new("dsn", DSN, "The project's DSN; without it nothing is reported.").eg("\"${SENTRY_DSN:-}\""),
        Key::new("environment", TEXT, "The environment.").default("production").eg("staging"),
        Key::new("release", TEXT, "The release of the app.").eg("\"${RELEASE:-}\""),
        Key::new("sample", SHARE, "Share of failures that are reported; faults of the proxy always are.")
            .within("0", "1")
            .default("1")
            .eg("0.1"),
    ],
);

pub(in crate::config) fn build(build: &mut Build<'_>, written: Option<Written>) -> Option<Sentry> {
    let written = written?;
    let Some(dsn) = written.dsn else {
        if !build.seen.broken("sentry") {
            build.note(build.seen.key("sentry"), "`sentry` has no `dsn`: nothing is reported");
        }
        return None;
    };
    Some(Sentry {
        dsn: dsn.0.0,
        environment: written.environment,
        release: written.release.unwrap_or_default(),
        sample: written.sample.0.0,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{IN, good, says};

    #[test]
    fn a_dsn_is_read_and_not_shown() {
        let sentry = good(&format!("{IN}sentry: {{dsn: 'https://secretpart@sentry.example/1'}}\n")).sentry.expect("named");
        assert!(!format!("{sentry:?}").contains("secretpart"));
        assert!(good(&format!("{IN}sentry: {{dsn: \"${{EMPTY}}\"}}\n")).sentry.is_none());
        says(&format!("{IN}sentry: {{dsn: 'https://sentry.example/1'}}\n"), "2:15", "is not a DSN");
    }
}
