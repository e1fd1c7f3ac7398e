//! `cors`: which pages of other origins may use the app.

use std::time::Duration;

use http::{HeaderName, Method};
use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows};
use crate::config::{
    Config,
    block::route::METHOD,
    build::Build,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{W, Word, token},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, TIME_OF, WEB_ORIGIN},
    },
    web_origin::WebOrigin,
    written::Items,
};

/// Pages of other origins that may use the app (the Fetch standard, section 3.3).
#[derive(Debug, Clone)]
pub struct Cors {
    /// Whether it acts.
    pub mode: Mode,
    /// The origins of the pages.
    pub origins: Vec<WebOrigin>,
    /// The methods that they may use.
    pub methods: Vec<Method>,
    /// The fields that they may send, beside those that every page may. `None`: every field.
    pub headers: Option<Vec<HeaderName>>,
    /// The fields of answers that they may read, beside those that every page may.
    pub expose: Vec<HeaderName>,
    /// Whether they may send cookies and other credentials.
    pub credentials: bool,
    /// How long a browser may remember a preflight's answer.
    pub max_age: Duration,
    /// Whether a page of the public network may use an app of a private one.
    pub private_network: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    #[serde(default)]
    origins: Items<W<WebOrigin>>,
    #[serde(default)]
    methods: Items<W<Method>>,
    #[serde(default)]
    headers: Items<W<FieldOrAny>>,
    #[serde(default)]
    expose: Items<W<FieldOrAny>>,
    credentials: W<bool>,
    max_age: W<Duration>,
    private_network: W<bool>,
}

/// The name of a field, or `*`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) struct FieldOrAny(Option<HeaderName>);

impl Word for FieldOrAny {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            "*" => Ok(Self(None)),
            _ if token(text) => HeaderName::from_bytes(text.as_bytes()).map(|name| Self(Some(name))).map_err(|error| error.to_string()),
            _ => Err(format!("{} is not a header name", quoted(text))),
        }
    }
}

const FIELD_OR_ANY: Kind =
    Kind::Scalar(&Scalar::new::<FieldOrAny>("a header name or `*`", Json::Pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), "content-type"));

static TABLE: Table = Table::new(
    "cors",
    "Which pages of other origins may use the app. The proxy answers preflights by itself, before limits, and owns the answers' \
     `Access-Control-*` fields: those of the app are replaced. Refusals of the proxy can be read by the same pages.",
    &[
        MODE_KEY,
        Key::new(
            "origins",
            Kind::OneOrMany(&WEB_ORIGIN),
            "Origins of pages: `https://app.example`, `https://*.shop.example` (every host below), `http://localhost:*` (every port), \
             `null`, or `*` for everybody.",
        )
        .required()
        .eg("[\"https://app.example\"]"),
        Key::new(
            "methods",
            Kind::OneOrMany(&METHOD),
            "Methods that the pages may use; the default are those of the route's `match`, else the usual six.",
        )
        .eg("[GET, POST]"),
        Key::new("headers", Kind::OneOrMany(&FIELD_OR_ANY), "Fields that the pages may send; the default is every field.")
            .eg("[content-type, authorization]"),
        Key::new("expose", Kind::OneOrMany(&FIELD_OR_ANY), "Fields of answers that the pages may read.").eg("[x-total-count]"),
        Key::new("credentials", BOOL, "Whether the pages may send cookies and other credentials; never with `*`.").default("false"),
        Key::new("max_age", TIME_OF, "How long a browser may remember the answer to a preflight.").within("0s", "1d").default("10m"),
        Key::new("private_network", BOOL, "Whether a page of the public network may use this app of a private one.").default("false"),
    ],
);
const ROW: Key = Key::new("cors", Kind::Table(&TABLE), "Which pages of other origins may use the app.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["cors_policy", "allow_origin", "allow_origins", "allowed_origins", "access_control_allow_origin", "cross_origin"],
    "write `cors: {origins: [\"https://app.example\"]}` in a route or in the door's `defaults`",
)];

/// The methods of most APIs.
const USUAL: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

impl Policy for Option<Cors> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: None, defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("cors");
        let mode = written.mode.0.meant()?;
        let origins: Vec<WebOrigin> = written.origins.into_iter().flatten().map(|origin| origin.0).collect();
        for (at, origin) in origins.iter().enumerate().filter(|(_, origin)| written.credentials.0 && origin.is_everybody()) {
            let message = format!(
                "{} with `credentials: true` would let every page act as whoever is signed in; name the origins, such as \
                 `https://app.example`",
                quoted(&origin.to_string())
            );
            build.fault(build.seen.value(&format!("{here}.origins[{at}]")), message);
        }
        let names = |list: Items<W<FieldOrAny>>| list.into_iter().flatten().map(|name| name.0.0).collect::<Option<Vec<_>>>();
        let methods: Vec<Method> = written.methods.into_iter().flatten().map(|method| method.0).collect();
        let expose = names(written.expose);
        if expose.is_none() {
            build.fault(
                build.seen.value(&format!("{here}.expose")),
                "`*` is no list of fields: a browser that sends credentials takes it for a name; name the fields",
            );
        }
        Some(Cors {
            mode,
            origins,
            methods: match (methods.is_empty(), place.matches.methods.is_empty()) {
                (false, _) => methods,
                (true, false) => place.matches.methods.iter().filter(|method| **method != Method::OPTIONS).cloned().collect(),
                (true, true) => USUAL.to_vec(),
            },
            headers: if written.headers.is_empty() { None } else { names(written.headers) },
            expose: expose.unwrap_or_default(),
            credentials: written.credentials.0,
            max_age: written.max_age.0,
            private_network: written.private_network.0,
        })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        let origins = |cors: &Cors| cors.origins.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        self.iter().map(|cors| format!("cors {}{}", origins(cors), cors.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    fn cors(policy: &str) -> Cors {
        good(&route(policy)).inbound.expect("open").routes.remove(0).policies.cors.expect("named")
    }

    #[test]
    fn the_usual_methods_and_every_field_are_allowed_by_default() {
        let cors = cors("cors: {origins: [\"https://app.example\", \"https://*.shop.example\"]}");
        assert_eq!((cors.methods.len(), cors.headers.as_ref(), cors.credentials, cors.max_age.as_secs()), (6, None, false, 600));
        assert_eq!(cors.origins.len(), 2);
    }

    #[test]
    fn the_methods_of_the_route_are_those_of_its_pages() {
        let config = good("inbound: {app: 3000, routes: [{match: {path: /a, methods: [POST, OPTIONS]}, cors: {origins: \"*\"}}]}\n");
        let cors = config.inbound.expect("open").routes.remove(0).policies.cors.expect("named");
        assert_eq!(cors.methods, [Method::POST]);
    }

    #[test]
    fn what_is_dangerous_in_silence_is_refused() {
        says(&route("cors: {origins: [\"*\"], credentials: true}"), "5:24", "let every page act as whoever is signed in");
        says(&route("cors: {origins: [\"null\"], credentials: true}"), "5:24", "name the origins");
        says(&route("cors: {origins: [\"https://*.com\"], credentials: true}"), "5:24", "name the origins");
        says(&route("cors: {origins: https://a.example/}"), "5:23", "an origin has none; write `https://a.example`");
        says(&route("cors: {origins: https://a.example, expose: \"*\"}"), "5:50", "name the fields");
        says(&route("cors: {}"), "5:7", "origins");
        says(&route("allowed_origins: []"), "5:7", "write `cors:");
    }
}
