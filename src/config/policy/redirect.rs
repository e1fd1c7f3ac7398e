//! `redirect`: the client is sent elsewhere; the app is not asked.

use http::StatusCode;
use serde::Deserialize;

use super::{InDefaults, Place, Policy, Rows, Template, TemplatePart, Variable, headers};
use crate::config::{
    Config,
    build::Build,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{W, Word},
    schema::{Elsewhere, Json, Key, Kind, Scalar, Table},
};

/// Where a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Whether it acts.
    pub mode: Mode,
    /// The place: a path, or a URL.
    pub to: Template,
    /// The status: 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// A place to be sent to: `/path` or `https://host/path`, with variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Destination(Template);

impl Word for Destination {
    fn word(text: &str) -> Result<Self, String> {
        let template = Template::word(text)?;
        // A host that the client chooses must be the one that it has asked: another variable could be anything.
        let whole = match template.parts.split_first() {
            Some((TemplatePart::Text(first), rest)) => {
                let host = first.strip_prefix("https://").or_else(|| first.strip_prefix("http://"));
                match host {
                    Some(host) if host.contains('/') => true,
                    // The host ends with the text, or goes on with a variable that begins with a slash.
                    Some("") => {
                        matches!(rest, [TemplatePart::Of(Variable::Host)])
                            || matches!(rest, [TemplatePart::Of(Variable::Host), next, ..] if begins_a_path(next))
                    }
                    Some(_) => rest.first().is_none_or(begins_a_path),
                    None => first.starts_with('/') && !first.starts_with("//") && !first.starts_with("/\\"),
                }
            }
            Some((first, _)) => begins_a_path(first),
            None => false,
        };
        match whole && !text.contains([' ', '\t', '<', '>', '"']) {
            true => Ok(Self(template)),
            false => {
                Err(format!("{} is no place; write `/path`, or `https://host/path`; `${{uri}}` is the path with its query", quoted(text)))
            }
        }
    }
}

fn begins_a_path(part: &TemplatePart) -> bool {
    match part {
        TemplatePart::Text(text) => text.starts_with('/') || text.starts_with(':'),
        TemplatePart::Of(variable) => matches!(variable, Variable::Path | Variable::Uri | Variable::Rest),
    }
}

/// A status that sends a client elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Elsewhither(StatusCode);

impl Word for Elsewhither {
    fn word(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(status @ (301 | 302 | 303 | 307 | 308)) => StatusCode::from_u16(status).map(Self).map_err(|_| "is no status".to_owned()),
            _ => Err(format!("{} sends nobody elsewhere; write 301, 302, 303, 307 or 308", quoted(text))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    to: W<Destination>,
    status: W<Elsewhither>,
}

const TO: Kind =
    Kind::Scalar(&Scalar::new::<Destination>("a path or a URL", Json::Text, "\"https://new.example${uri}\"").filled(&headers::NAMES));
const STATUS: Kind = Kind::Scalar(&Scalar::new::<Elsewhither>("301, 302, 303, 307 or 308", Json::Number, "308"));

static TABLE: Table = Table::new(
    "redirect",
    "Sends the client elsewhere; the app is not asked. Limits count the request.",
    &[
        MODE_KEY,
        Key::new(
            "to",
            TO,
            "A path or a URL. `${uri}` is the client's path with its query, `${path}` the path, `${query}` the query with its `?`, `${rest}` what \
             `**` stands for, with its slash, `${host}` the host that was asked.",
        )
        .required()
        .eg("\"https://new.example${uri}\""),
        Key::new("status", STATUS, "301 and 308 are for ever, 302, 303 and 307 for now; 307 and 308 keep the method.").default("308"),
    ],
);
const ROW: Key = Key::new("redirect", Kind::Table(&TABLE), "The client is sent elsewhere.");

const ELSEWHERE: &[Elsewhere] = &[(
    &["redirects", "redirect_to", "redirect_scheme", "redirect_regex", "return"],
    "write `redirect: {to: \"https://new.example${uri}\"}` or `respond: {status: 404}` in a route",
)];

impl Policy for Option<Redirect> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows {
        inbound: Some(ROW),
        outbound: None,
        defaults: InDefaults::Refused("the whole door would lead elsewhere; write it in a route, such as one that matches `path: /**`"),
    };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(_: &mut Build<'_>, _: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        Some(Redirect { mode: written.mode.0.meant()?, to: written.to.0.0, status: written.status.0.0 })
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|redirect| format!("redirect {}{}", redirect.status.as_u16(), redirect.mode.remark())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    #[test]
    fn a_client_is_sent_to_a_path_or_a_url() {
        let read = |to: &str| good(&route(to)).inbound.expect("open").routes.remove(0).policies.redirect.expect("named");
        let plain = read("redirect: {to: /new}");
        assert_eq!((plain.status, plain.to.parts), (StatusCode::PERMANENT_REDIRECT, vec![TemplatePart::Text("/new".into())]));
        assert_eq!(read("redirect: {to: \"https://${host}${uri}\", status: 301}").status, StatusCode::MOVED_PERMANENTLY);
        for fine in [
            "${rest}",
            "https://a.example${rest}${query}",
            "https://a.example",
            "https://a.example:8443${uri}",
            "/b${rest}",
            "https://${host}",
        ] {
            read(&format!("redirect: {{to: \"{fine}\"}}"));
        }
    }

    #[test]
    fn nobody_is_sent_where_the_client_chooses() {
        for open in [
            "https://${caller}",
            "https://a.example${host}",
            "${host}/x",
            "//evil.example",
            "${query}",
            "javascript:x",
            "new",
            "https://a${caller}/x",
        ] {
            says(&route(&format!("redirect: {{to: \"{open}\"}}")), "5:22", &format!("`{open}` is no place"));
        }
        says(&route("redirect: {to: /a, status: 200}"), "5:34", "sends nobody elsewhere");
        says(&route("redirect: {}"), "5:7", "to");
        says(&route("return: {}"), "5:7", "write `redirect:");
    }
}
