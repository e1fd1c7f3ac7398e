//! `respond`: an answer of the route's own; the app is not asked.

use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows, policies_of};
use crate::config::{
    Config,
    build::Build,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{Field, W},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{FIELD, TEXT},
    },
};

/// An answer of the route's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAnswer {
    /// Whether it acts.
    pub mode: Mode,
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: String,
    /// Its content type.
    pub content_type: HeaderValue,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    status: W<StatusCode>,
    body: String,
    content_type: W<Field>,
}

const STATUS: Kind = Kind::Scalar(&Scalar::new::<StatusCode>("a status", Json::Number, "404"));

static TABLE: Table = Table::new(
    "respond",
    "Answers by itself; the app is not asked. Limits count the request.",
    &[
        MODE_KEY,
        Key::new("status", STATUS, "The status of the answer.").default("200"),
        Key::new("body", TEXT, "The body of the answer.").default("\"\"").eg("\"User-agent: *\""),
        Key::new("content_type", FIELD, "The content type of the answer.").default("text/plain; charset=utf-8").eg("application/json"),
    ],
);
const ROW: Key = Key::new("respond", Kind::Table(&TABLE), "An answer of the route's own.");

impl Policy for Option<StaticAnswer> {
    type Written = Option<Written>;

    const ROWS: Rows =
        Rows { inbound: Some(ROW), outbound: None, defaults: InDefaults::Refused("the app would never be asked; write it in a route") };

    fn build(_: &mut Build<'_>, _: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        Some(StaticAnswer {
            mode: written.mode.0.meant()?,
            status: written.status.0,
            body: written.body,
            content_type: written.content_type.0.0,
        })
    }

    fn check(build: &mut Build<'_>, config: &Config) {
        for (path, policies) in policies_of(config) {
            if policies.redirect.is_some() && policies.respond.is_some() {
                build.fault(
                    build.seen.key(&format!("{path}.respond")),
                    "the route already leads elsewhere (`redirect`); write one or the other",
                );
            }
        }
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|answer| format!("answers {}{}", answer.status.as_u16(), answer.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    #[test]
    fn a_route_answers_by_itself() {
        let read = |text: &str| good(&route(text)).inbound.expect("open").routes.remove(0).policies.respond.expect("named");
        let robots = read("respond: {body: \"User-agent: *\"}");
        assert_eq!(
            (robots.status, &*robots.body, &robots.content_type.as_bytes()[..10]),
            (StatusCode::OK, "User-agent: *", &b"text/plain"[..])
        );
        assert_eq!(read("respond: {status: 404}").status, StatusCode::NOT_FOUND);
        says(&route("respond: {}, redirect: {to: /b}".replace(", ", "\n      ").as_str()), "5:7", "one or the other");
    }
}
