//! `telemetry`: logs, traces, metrics.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::errors::{self, FailureBounds};
use crate::config::{
    Origin,
    build::Build,
    scalars::{Field, Share, W, Word, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{FIELD_NAME, SHARE, TEXT, TIME_OF},
    },
};

/// Logs, traces, metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Format of the access log.
    pub log: LogFormat,
    /// Base URL of an OTLP/HTTP collector; `/v1/traces`, `/v1/metrics` and `/v1/logs` are appended.
    pub otlp: Option<String>,
    /// Logs that go to the collector.
    pub otlp_logs: SentLogs,
    /// Headers of OTLP requests.
    pub otlp_headers: Vec<(HeaderName, HeaderValue)>,
    /// Share of new traces that are sampled, 0..=1. A trace that comes with a decision keeps it.
    pub sample: f64,
    /// `service.name`.
    pub service: String,
    /// Pause between two metric exports.
    pub otlp_interval: Duration,
    /// The last failures that are kept.
    pub errors: FailureBounds,
}

/// The logs that go to the OTLP collector, beside their own outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentLogs {
    /// None.
    Off,
    /// The process log: what the proxy says of itself.
    Process,
    /// The access log: a line per exchange.
    Access,
    /// Both.
    All,
}

impl SentLogs {
    /// Whether the process log goes.
    pub fn process(self) -> bool {
        matches!(self, Self::Process | Self::All)
    }

    /// Whether the access log goes.
    pub fn access(self) -> bool {
        matches!(self, Self::Access | Self::All)
    }
}

/// Access log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogFormat {
    Json,
    Text,
    Off,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    log: W<LogFormat>,
    otlp: Option<W<OtlpUrl>>,
    otlp_logs: Option<W<SentLogs>>,
    #[serde(default)]
    otlp_headers: Vec<(W<HeaderName>, Option<W<Field>>)>,
    sample: W<Share>,
    service: String,
    interval: W<Duration>,
    errors: errors::Written,
}

/// Base URL of an OTLP/HTTP collector, without a trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OtlpUrl(String);

impl Word for OtlpUrl {
    fn word(text: &str) -> Result<Self, String> {
        let origin = Origin::parse(text)?;
        if ["/v1/traces", "/v1/metrics", "/v1/logs"].iter().any(|signal| origin.base.ends_with(signal)) {
            return Err("is the URL of one signal; write the collector's base URL, such as http://collector:4318".into());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

words! {
    SentLogs: "off" => Self::Off, "process" => Self::Process, "access" => Self::Access, "all" => Self::All;
    LogFormat: "json" => Self::Json, "text" => Self::Text, "off" => Self::Off;
}

const LOG: Kind = Kind::Scalar(&Scalar::new::<LogFormat>("`json`, `text` or `off`", Json::Words(&["json", "text", "off"]), "text"));
const OTLP: Kind =
    Kind::Scalar(&Scalar::new::<OtlpUrl>("a URL", Json::Pattern(r"^https?://[^ ]+$"), "\"http://collector:4318\"").no_dollar());
const SENT_LOGS: Kind =
    Kind::Scalar(&Scalar::new::<SentLogs>("`off`, `process`, `access` or `all`", Json::Words(&["off", "process", "access", "all"]), "all"));
const SECRET_FIELD: Kind = Kind::Scalar(&Scalar::new::<Field>("a header value", Json::Text, "\"${OTLP_TOKEN:-none}\"").secret());

pub(in crate::config) static TABLE: Table = Table::new(
    "telemetry",
    "Logs, traces, metrics. Prometheus needs nothing here: /metrics is always there.",
    &[
        Key::new("log", LOG, "Access log, a line per request, to standard output.").default("json"),
        Key::new("otlp", OTLP, "Base URL of an OTLP/HTTP collector for traces and metrics.").eg("\"${OTEL_EXPORTER_OTLP_ENDPOINT:-}\""),
        Key::new(
            "otlp_logs",
            SENT_LOGS,
            "Logs that go to the collector of `otlp` too: what the proxy says of itself, a line per request, or both. Without it none goes.",
        )
        .eg("all"),
        Key::new("otlp_headers", Kind::Map { key: &FIELD_NAME, of: &SECRET_FIELD }, "Headers of OTLP requests.")
            .eg("{authorization: \"Bearer ${OTLP_TOKEN:-none}\"}"),
        Key::new("sample", SHARE, "Share of new traces that are kept; what comes with a decision keeps it.")
            .within("0", "1")
            .default("1")
            .eg("0.1"),
        Key::new("service", TEXT, "`service.name`.").default("outrigger").eg("shop-proxy"),
        Key::new("interval", TIME_OF, "Pause between two OTLP metric exports.").within("1s", "1h").default("60s").eg("15s"),
        Key::new("errors", Kind::Table(&errors::TABLE), "The last failures that are kept for the admin door.").default("{}"),
    ],
)
.needs(&[("otlp_headers", "otlp"), ("otlp_logs", "otlp")]);

/// Port at which collectors listen for OTLP over gRPC.
const OTLP_GRPC: u16 = 4317;

pub(in crate::config) fn build(build: &mut Build<'_>, written: Written) -> Telemetry {
    let otlp_headers = written
        .otlp_headers
        .into_iter()
        .filter_map(|(name, value)| {
            let mut value = value?.0.0;
            value.set_sensitive(true);
            Some((name.0, value))
        })
        .collect();
    if written.otlp.as_ref().is_some_and(|url| Origin::parse(&url.0.0).is_ok_and(|origin| origin.port == OTLP_GRPC)) {
        let message = "port 4317 is the collector's for OTLP over gRPC, and this is OTLP over HTTP; write its other port, usually 4318";
        build.fault(build.seen.value("telemetry.otlp"), message);
    }
    Telemetry {
        log: written.log.0,
        otlp: written.otlp.map(|url| url.0.0),
        otlp_logs: written.otlp_logs.map_or(SentLogs::Off, |sent| sent.0),
        otlp_headers,
        sample: written.sample.0.0,
        service: written.service,
        otlp_interval: written.interval.0,
        errors: errors::build(&written.errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalars::tests::refused;

    #[test]
    fn a_collector_is_written_by_its_base_url() {
        assert_eq!(OtlpUrl::word("http://c:4318/"), Ok(OtlpUrl("http://c:4318".into())));
        for signal in ["traces", "metrics", "logs"] {
            refused::<OtlpUrl>(&format!("http://c:4318/v1/{signal}"), "base URL");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_url_panic(text in "\\PC{0,40}") {
            let _ = OtlpUrl::word(&text);
        }
    }
}
