//! `monitors`: what is checked, and how.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{
    Quiet,
    alerts::{DAY, Day, TIME_OF_DAY, TimeOfDay, ZONE, Zone},
};
use crate::{
    condition::Condition,
    config::{
        Api, Inbound, Outbound, Scheme, Secret,
        build::{Build, small},
        error::quoted,
        scalars::{Count, Field, W, Word},
        schema::{
            Json, Key, Kind, Scalar, Table,
            kinds::{BOOL, COUNT_OF, FIELD, FIELD_NAME, NAME_OF_MAP, TEXT, TIME_OF},
        },
        secrecy,
        written::{Items, Pairs},
    },
};

/// Something that is checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Monitor {
    /// Its name.
    pub name: Arc<str>,
    /// How it is checked.
    pub probe: Probe,
    /// Time between two checks.
    pub every: Duration,
    /// Time for a check.
    pub timeout: Duration,
    /// What must hold; empty: a connection, and a status below 400 where there is one.
    pub conditions: Vec<Condition>,
    /// Failed checks in a row that open an incident.
    pub failures: u32,
    /// The target whose real traffic proves its health. `None`: only checks do.
    pub passive: Option<Arc<str>>,
    /// Stretches of time in which failures are no incident.
    pub maintenance: Vec<Quiet>,
    /// The time zone of `maintenance`.
    pub tz: TimeZone,
    /// Whether the status page shows it.
    pub public: bool,
}

/// How something is checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// A request; the URL may hold a credential.
    Http {
        /// The method.
        method: Method,
        /// The URL.
        url: Secret,
        /// Fields of the request.
        headers: HeaderMap,
        /// The body.
        body: String,
    },
    /// A connection, with TLS or without.
    Connect {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Whether TLS must come about too.
        tls: bool,
    },
    /// A small model call through the outbound door, with its keys, limits and books.
    Model {
        /// The provider.
        provider: Arc<str>,
        /// Its wire format.
        api: Api,
        /// Whether a call brings the version of the API. It does not where the provider's URL ends in one.
        versioned: bool,
        /// The model.
        model: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum WrittenOrOff {
    Off(W<super::alerts::rules::OffWord>),
    On(Box<Written>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    url: W<ProbeUrl>,
    method: W<MethodWord>,
    #[serde(default)]
    headers: Vec<(W<HeaderName>, Option<W<Field>>)>,
    body: Option<String>,
    every: W<Duration>,
    timeout: W<Duration>,
    #[serde(default)]
    conditions: Items<W<Condition>>,
    failures: W<Count>,
    passive: W<bool>,
    #[serde(default)]
    maintenance: Items<WrittenWindow>,
    tz: W<Zone>,
    public: W<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWindow {
    from: W<TimeOfDay>,
    to: W<TimeOfDay>,
    #[serde(default)]
    days: Items<W<Day>>,
}

/// A URL to check: `http`, `https`, `tcp`, `tls` or `model`.
#[derive(Debug, Clone, PartialEq)]
enum ProbeUrl {
    Http(String),
    Connect { host: String, port: u16, tls: bool },
    Model { provider: String, model: String },
}

impl Word for ProbeUrl {
    fn word(text: &str) -> Result<Self, String> {
        let wrong = || {
            "is not a URL that can be checked; write https://host/path, tcp://host:port, tls://host:port or model://provider/model"
                .to_owned()
        };
        if let Some((provider, model)) = text.strip_prefix("model://").and_then(|rest| rest.split_once('/')) {
            let model = model.to_owned();
            return if provider.is_empty() || model.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Model { provider: provider.to_owned(), model })
            };
        }
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("a URL with user information is refused; put the credential in `headers`".into());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        match (uri.scheme_str(), authority.port_u16()) {
            (Some("http" | "https"), _) => Ok(Self::Http(text.to_owned())),
            (Some("tcp"), Some(port)) => Ok(Self::Connect { host, port, tls: false }),
            (Some("tls"), port) => Ok(Self::Connect { host, port: port.unwrap_or(443), tls: true }),
            _ => Err(wrong()),
        }
    }
}

impl Word for Condition {
    fn word(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// A method of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MethodWord(Method);

impl Word for MethodWord {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            "GET" | "HEAD" | "POST" | "PUT" | "OPTIONS" => text.parse().map(Self).map_err(|_| "is no method".to_owned()),
            _ => Err(format!("{} is no method of a check; write GET, HEAD, POST, PUT or OPTIONS", quoted(text))),
        }
    }
}

const PROBE_URL: Kind = Kind::Scalar(&Scalar::new::<ProbeUrl>("a URL to check", Json::Text, "\"https://shop.example/health\"").secret());
const CONDITION: Kind = Kind::Scalar(&Scalar::new::<Condition>("a condition", Json::Text, "\"[STATUS] == 200\""));
const METHOD: Kind = Kind::Scalar(&Scalar::new::<MethodWord>("a method", Json::Words(&["GET", "HEAD", "POST", "PUT", "OPTIONS"]), "GET"));
const OFF: Kind = Kind::Scalar(&Scalar::new::<super::alerts::rules::OffWord>("`off`", Json::Words(&["off"]), "off"));

static WINDOW: Table = Table::new(
    "monitors.maintenance",
    "A stretch of the day in which a failure is no incident.",
    &[
        Key::new("from", TIME_OF_DAY, "When it begins.").required().eg("\"03:00\""),
        Key::new("to", TIME_OF_DAY, "When it ends; on the next day if this is not later.").required().eg("\"04:00\""),
        Key::new("days", Kind::List(&DAY), "The days on which it begins; without it, all.").eg("[sun]"),
    ],
);

static TABLE: Table = Table::new(
    "monitors",
    "Something that is checked. Real traffic proves its health first; a check is made where there was none.",
    &[
        Key::new("url", PROBE_URL, "What is asked: http, https, tcp, tls, or model://PROVIDER/MODEL: a call of one token through the outbound door, with its keys, and charged in its books.")
            .required()
            .eg("\"https://shop.example/health\""),
        Key::new("method", METHOD, "The method.").default("GET"),
        Key::new("headers", Kind::Map { key: &FIELD_NAME, of: &FIELD }, "Fields of the request.").eg("{accept: application/json}"),
        Key::new("body", TEXT, "The body of the request.").eg("\"{}\""),
        Key::new("every", TIME_OF, "Time between two checks.").within("1s", "1d").default("30s"),
        Key::new("timeout", TIME_OF, "Time for a check.").within("10ms", "5m").default("10s"),
        Key::new("conditions", Kind::List(&CONDITION), "What must hold, in the words of Gatus.")
            .says("a connection, and a status below 400")
            .eg("[\"[STATUS] == 200\", \"[RESPONSE_TIME] < 500\", \"[BODY].status == UP\"]"),
        Key::new("failures", COUNT_OF, "Failed checks in a row that open an incident.").within("1", "100").default("2"),
        Key::new("passive", BOOL, "Real traffic to the same app or provider counts as a check.").default("true"),
        Key::new("maintenance", Kind::OneOrMany(&Kind::Table(&WINDOW)), "Stretches of the day in which a failure is no incident.")
            .eg("{from: \"03:00\", to: \"04:00\", days: [sun]}"),
        Key::new("tz", ZONE, "The time zone of `maintenance`.").default("UTC").eg("Europe/Berlin"),
        Key::new("public", BOOL, "The status page shows it.").default("true"),
    ],
);

pub(super) const MONITOR_OR_OFF: Kind = Kind::Either(&[Kind::Table(&TABLE), OFF]);

/// The row of `monitors`.
pub(super) const ROW: Key = Key::new(
    "monitors",
    Kind::Map { key: &NAME_OF_MAP, of: &MONITOR_OR_OFF },
    "Names to what is checked. With this block `app` and every provider are checked too; `off` ends that.",
)
.eg("{shop: {url: \"https://shop.example/health\"}}");

/// The monitors: those that are written, then the app and the providers. `None`: there is no such block.
pub(in crate::config) fn build(
    build: &mut Build<'_>,
    written: Option<Pairs<WrittenOrOff>>,
    inbound: Option<&Inbound>,
    outbound: Option<&Outbound>,
) -> Option<Vec<Monitor>> {
    let written = written?;
    let own: Vec<(Arc<str>, &crate::config::Origin)> = inbound
        .into_iter()
        .flat_map(|door| {
            let named = door.apps.iter().map(|app| (app.name.clone(), &app.url, app.members.as_ref()));
            std::iter::once((Arc::from("app"), &door.app, door.members.as_ref())).chain(named)
        })
        .chain(
            outbound
                .into_iter()
                .flat_map(|door| &door.providers)
                .map(|provider| (provider.name.clone(), &provider.url, provider.members.as_ref())),
        )
        .flat_map(|(name, url, members)| match members {
            None => vec![(name, url)],
            Some(members) => members.list.iter().map(|member| (format!("{name}:{}", member.name).into(), &member.url)).collect(),
        })
        .collect();
    let named: Vec<String> = written.iter().map(|(name, _)| name.clone()).collect();
    let mut monitors = Vec::new();
    for (name, one) in written {
        let Some(WrittenOrOff::On(one)) = one else { continue };
        monitors.extend(monitor(build, &name, *one, &own, outbound));
    }
    let is_named =
        |name: &str| named.iter().any(|other| other == name || name.strip_prefix(&**other).is_some_and(|rest| rest.starts_with(':')));
    for (name, origin) in own.iter().filter(|(name, _)| !is_named(name)) {
        let probe = Probe::Connect { host: origin.host.clone(), port: origin.port, tls: origin.scheme == Scheme::Https };
        monitors.push(Monitor { passive: Some(name.clone()), ..Monitor::of(name.clone(), probe) });
    }
    Some(monitors)
}

impl Monitor {
    /// With the usual terms.
    fn of(name: Arc<str>, probe: Probe) -> Self {
        Self {
            name,
            probe,
            every: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            conditions: Vec::new(),
            failures: 2,
            passive: None,
            maintenance: Vec::new(),
            tz: TimeZone::UTC,
            public: true,
        }
    }
}

fn monitor(
    build: &mut Build<'_>,
    name: &str,
    one: Written,
    own: &[(Arc<str>, &crate::config::Origin)],
    outbound: Option<&Outbound>,
) -> Option<Monitor> {
    let path = format!("monitors.{name}");
    let mut headers = HeaderMap::new();
    for (field, value) in one.headers.into_iter().filter_map(|(field, value)| Some((field.0, value?.0.0))) {
        let value = secrecy::marked(&field, value);
        headers.append(field, value);
    }
    let probe = match one.url.0 {
        ProbeUrl::Http(url) => Probe::Http { method: one.method.0.0, url: Secret::new(url), headers, body: one.body.unwrap_or_default() },
        ProbeUrl::Connect { host, port, tls } => Probe::Connect { host, port, tls },
        ProbeUrl::Model { provider, model } => {
            let place = build.seen.value(&format!("{path}.url"));
            match outbound.and_then(|door| door.providers.iter().find(|known| *known.name == *provider)) {
                Some(known) if matches!(known.api, Api::OpenAi | Api::Anthropic | Api::Gemini) => {
                    Probe::Model { provider: known.name.clone(), api: known.api, versioned: known.version().is_none(), model }
                }
                Some(known) => {
                    build.fault(
                        place,
                        format!(
                            "model calls in the API of {} ({}) are not made by monitors; check it by tls://",
                            quoted(&provider),
                            known.api
                        ),
                    );
                    return None;
                }
                None => {
                    build.fault(place, format!("there is no provider {} to call", quoted(&provider)));
                    return None;
                }
            }
        }
    };
    let conditions: Vec<Condition> = one.conditions.into_iter().flatten().map(|condition| condition.0).collect();
    if matches!(probe, Probe::Connect { .. })
        && let Some((n, condition)) = conditions.iter().enumerate().find(|(_, condition)| condition.needs_http())
    {
        let message =
            format!("`{}` needs an answer of HTTP, and this is only connected to; write an http:// or https:// URL", condition.as_str());
        build.fault(build.seen.value(&format!("{path}.conditions[{n}]")), message);
    }
    // A target of several addresses has a count for each; its own name means all of them.
    let is_own = |known: &str| known.strip_prefix(&*name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    let passive = one.passive.0 && own.iter().any(|(known, _)| is_own(known));
    let windows = one.maintenance.into_iter().flatten();
    let window = |window: WrittenWindow| Quiet {
        from: window.from.0.0,
        to: window.to.0.0,
        days: window.days.into_iter().flatten().map(|day| day.0.0).collect(),
    };
    Some(Monitor {
        every: one.every.0,
        timeout: one.timeout.0,
        conditions,
        failures: small(&one.failures),
        passive: passive.then(|| Arc::from(&*name)),
        maintenance: windows.map(window).collect(),
        tz: one.tz.0.0,
        public: one.public.0,
        ..Monitor::of(name.into(), probe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{IN, OUT, good, says};

    fn monitors(text: &str) -> Vec<Monitor> {
        good(&format!("{IN}{OUT}monitors: {text}\n")).monitors.expect("named")
    }

    #[test]
    fn the_app_and_the_providers_are_checked_without_being_named() {
        let all = monitors("{}");
        let of = |name: &str| all.iter().find(|one| &*one.name == name).expect("there");
        assert_eq!(of("app").probe, Probe::Connect { host: "127.0.0.1".into(), port: 3000, tls: false });
        assert_eq!((of("openai").passive.as_deref(), of("app").every), (Some("openai"), Duration::from_secs(30)));
        assert_eq!(monitors("{app: off, openai: off}"), []);
        // The app has two addresses: a monitor of that name has the traffic of both for a proof, and stands for both.
        let several = |text: &str| {
            let app = "inbound: {app: [{url: 'http://127.0.0.1:3000', name: one}, {url: 'http://127.0.0.1:3001', name: two}]}";
            good(&format!("{app}\nmonitors: {text}\n")).monitors.expect("named")
        };
        let passive = |text: &str| several(text).into_iter().map(|one| (one.name, one.passive)).collect::<Vec<_>>();
        let pair = |name: &str| (Arc::<str>::from(name), Some(Arc::<str>::from(name)));
        assert_eq!(passive("{app: {url: 'tcp://127.0.0.1:3000'}}"), [pair("app")]);
        assert_eq!(passive("{app: {url: 'tcp://127.0.0.1:3000', passive: false}}"), [("app".into(), None)]);
        assert_eq!(passive("{}"), [pair("app:one"), pair("app:two")]);
        assert!(good(IN).monitors.is_none());
    }

    #[test]
    fn a_monitor_is_a_url_a_connection_or_a_model_call() {
        let all = monitors(
            "{shop: {url: 'https://shop.example/health?key=secretpart', conditions: ['[STATUS] == 200']}, db: {url: 'tcp://db:5432'}, \
             openai: {url: 'model://openai/org/m'}}",
        );
        assert!(!format!("{all:?}").contains("secretpart"));
        assert_eq!((all.len(), all[0].passive.is_none(), all[2].passive.as_deref()), (4, true, Some("openai")));
        assert!(matches!(&all[2].probe, Probe::Model { model, .. } if model == "org/m"));
        says(&format!("{IN}monitors: {{x: {{}}}}\n"), "2:12", "url");
        says(&format!("{IN}monitors: {{x: {{url: 'ftp://h'}}}}\n"), "2:21", "tcp://host:port");
        says(&format!("{IN}monitors: {{x: {{url: 'tcp://h:1', conditions: ['[STATUS] == 1']}}}}\n"), "2:47", "needs an answer of HTTP");
        says(&format!("{IN}monitors: {{x: {{url: 'http://h', conditions: ['[STATE] == 1']}}}}\n"), "2:46", "is no placeholder");
        says(&format!("{IN}monitors: {{x: {{url: 'model://openai/m'}}}}\n"), "2:21", "there is no provider");
    }
}
