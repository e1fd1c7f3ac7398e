//! `headers`: the fields of requests and answers, set by hand, and those that make an app's pages safer.

use std::time::Duration;

use http::HeaderName;
use serde::Deserialize;

use super::{InDefaults, Place, Policies, Policy, Rows, policies_of};
use crate::config::{
    Config, KeyPart,
    build::Build,
    error::quoted,
    mode::{MODE_KEY, Mode, ModeWord},
    read::PLACE,
    scalars::{OrOff, W, Word},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, TIME_OR_OFF},
    },
    written::Items,
};

/// The fields of requests and answers.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    /// Whether it acts.
    pub mode: Mode,
    /// Whether answers get the fields that make pages safer, and lose those that tell what the app is made of.
    pub hardens: bool,
    /// Whether cookies get the flags that they lack.
    pub cookies: bool,
    /// The terms of the fields of documents and of TLS; `None`: the app's own are enough.
    pub secure: Option<Secure>,
    /// Changes of the request to the target.
    pub request: FieldEdits,
    /// Changes of the answer to the client.
    pub response: FieldEdits,
}

/// The terms of the fields that make pages safer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secure {
    /// `Content-Security-Policy` of documents that have none; `None`: none is added.
    pub csp: Option<String>,
    /// Whether browsers act on the policy, or only report what it would block.
    pub csp_enforced: bool,
    /// How long a browser asks over TLS alone; `None`: it is not told to. Said over TLS only (RFC 6797 section 7.2).
    pub hsts: Option<Duration>,
}

/// Changes of fields, in this order: remove, set, add.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Names whose fields are removed.
    pub remove: Vec<HeaderName>,
    /// Names that get this one value.
    pub set: Vec<(HeaderName, Template)>,
    /// Names that get one more value.
    pub add: Vec<(HeaderName, Template)>,
}

impl FieldEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A value of a field, with places that each request fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Texts and places, in their order.
    pub parts: Vec<TemplatePart>,
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// A text as written.
    Text(String),
    /// A place.
    Of(Variable),
}

/// What a place of a value is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Variable {
    Caller,
    RequestId,
    ClientIp,
    /// The name in the client's certificate.
    ClientCert,
    Host,
    Route,
    TraceId,
    /// The path and the query that were asked.
    Uri,
    /// The path that was asked.
    Path,
    /// The query that was asked, with its `?`; empty without one.
    Query,
    /// What a last `**` of the route's path stands for, with its slash.
    Rest,
}

/// The names of the places in the file. Others are variables of the environment.
pub(in crate::config) const VARIABLES: [(&str, Variable); 11] = [
    ("caller", Variable::Caller),
    ("request_id", Variable::RequestId),
    ("client_ip", Variable::ClientIp),
    ("client_cert", Variable::ClientCert),
    ("host", Variable::Host),
    ("route", Variable::Route),
    ("trace_id", Variable::TraceId),
    ("uri", Variable::Uri),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("rest", Variable::Rest),
];

impl Word for Template {
    fn word(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        // The reader leaves places between marks: a text such as `$${caller}` is none.
        for (at, piece) in text.split(PLACE).enumerate() {
            let variable = VARIABLES.iter().find(|(name, _)| at % 2 == 1 && *name == piece);
            match variable {
                Some((_, variable)) => parts.push(TemplatePart::Of(*variable)),
                None if piece.chars().any(|c| c.is_control() && c != '\t') || !piece.is_ascii() || at % 2 == 1 => {
                    return Err("has characters that a header value cannot hold".into());
                }
                None if !piece.is_empty() => parts.push(TemplatePart::Text(piece.to_owned())),
                None => {}
            }
        }
        Ok(Self { parts })
    }
}

/// A field that `headers` may change: not one that frames the message or belongs to one hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::config) struct Changeable(HeaderName);

impl Word for Changeable {
    fn word(text: &str) -> Result<Self, String> {
        const OURS: [&str; 16] = [
            "connection",
            "content-length",
            "transfer-encoding",
            "te",
            "trailer",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "host",
            "date",
            "expect",
            "content-encoding",
            "via",
            "baggage",
            "traceparent",
            "tracestate",
        ];
        let name = HeaderName::word(text)?;
        match OURS.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-") {
            true => {
                Err(format!("{} is the proxy's own: it frames the message, belongs to one connection, or carries a trace", quoted(text)))
            }
            false => Ok(Self(name)),
        }
    }
}

/// A Content-Security-Policy: directives of visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Csp(String);

impl Word for Csp {
    fn word(text: &str) -> Result<Self, String> {
        let is_name = |directive: &str| {
            let name = directive.trim().split(' ').next().unwrap_or_default();
            name.is_empty() || name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        };
        match text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && !text.contains(',') && text.split(';').all(is_name) {
            true => Ok(Self(text.to_owned())),
            false => Err("is no Content-Security-Policy; write directives such as `default-src 'self'; object-src 'none'`".into()),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    secure: Option<W<OnOff>>,
    csp: Option<W<OrOff<Csp>>>,
    csp_enforce: Option<W<bool>>,
    hsts: Option<W<OrOff<Duration>>>,
    cookies: Option<W<OnOff>>,
    request: Option<WrittenEdits>,
    response: Option<WrittenEdits>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEdits {
    #[serde(default)]
    set: Vec<(W<Changeable>, Option<W<Template>>)>,
    #[serde(default)]
    add: Vec<(W<Changeable>, Option<W<Template>>)>,
    #[serde(default)]
    remove: Items<W<Changeable>>,
}

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct OnOff(bool);

impl Word for OnOff {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" => Ok(Self(true)),
            "off" | "false" => Ok(Self(false)),
            _ => Err(format!("{} is unknown; write `on` or `off`", quoted(text))),
        }
    }
}

/// The names of the places alone.
pub(super) const NAMES: [&str; VARIABLES.len()] = {
    let mut names = [""; VARIABLES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = VARIABLES[at].0;
        at += 1;
    }
    names
};

static CHANGEABLE: Scalar =
    Scalar::new::<Changeable>("a header name that may be changed", Json::Pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), "x-app");
const NAME: Kind = Kind::Scalar(&CHANGEABLE);
const VALUE: Kind = Kind::Scalar(&Scalar::new::<Template>("a header value", Json::Text, "text").filled(&NAMES));
const ON_OFF: Kind = Kind::Scalar(&Scalar::new::<OnOff>("`on` or `off`", Json::Pattern("^(on|off|true|false)$"), "on"));
const CSP: Kind = Kind::Scalar(&Scalar::new::<OrOff<Csp>>("a Content-Security-Policy or `off`", Json::Text, "\"default-src 'self'\""));

const VALUES: Kind = Kind::Map { key: &CHANGEABLE, of: &VALUE };
const EDITS: &[Key] = &[
    Key::new("set", VALUES, "Names that get this one value; `${caller}`, `${request_id}`, `${client_ip}`, `${client_cert}`, `${host}`, `${route}`, `${trace_id}`, `${uri}`, `${path}`, `${query}` and `${rest}` are filled by each request.")
        .eg("{x-env: prod, x-id: \"${request_id}\"}"),
    Key::new("add", VALUES, "Names that get one more value.").eg("{link: \"</app.css>; rel=preload\"}"),
    Key::new("remove", Kind::OneOrMany(&NAME), "Names whose fields are removed, before anything is set.").eg("[x-debug]"),
];
static REQUEST_TABLE: Table = Table::new("headers.request", "Changes of the request to the target: remove, then set, then add.", EDITS)
    .at_least_one(&[&["set", "add", "remove"]]);
static RESPONSE_TABLE: Table =
    Table::new("headers.response", "Changes of the answer to the client, the proxy's own refusals too: remove, then set, then add.", EDITS)
        .at_least_one(&[&["set", "add", "remove"]]);
const REQUEST: Key = Key::new("request", Kind::Table(&REQUEST_TABLE), "Changes of the request to the target.");
const RESPONSE: Key = Key::new("response", Kind::Table(&RESPONSE_TABLE), "Changes of the answer to the client.");

static INBOUND_TABLE: Table = Table::new(
    "headers",
    "Fields set by hand, and with `secure: on` those that make pages safer: added where the app has set none, never weakened.",
    &[
        MODE_KEY,
        Key::new(
            "secure",
            ON_OFF,
            "`on` adds the fields of deploy/guide/gate.md where the app has none, gives cookies the flags that they lack, and removes `Server` and \
             `X-Powered-By`.",
        )
        .eg("on"),
        Key::new("csp", CSP, "The Content-Security-Policy of documents that have none; with `secure: on` a usual one, else none.")
            .eg("\"default-src 'self'\""),
        Key::new("csp_enforce", BOOL, "Whether browsers act on it; else they only report what it would block.").eg("true"),
        Key::new("hsts", TIME_OR_OFF, "How long browsers ask over TLS alone; said over TLS only. With `secure: on` a year, else never.")
            .within("5m", "800d")
            .eg("off"),
        Key::new("cookies", ON_OFF, "Whether cookies get the flags that they lack; `on` with `secure: on`.").eg("off"),
        REQUEST,
        RESPONSE,
    ],
)
.at_least_one(&[&["secure", "csp", "hsts", "cookies", "request", "response"]]);
static OUTBOUND_TABLE: Table =
    Table::new("outbound headers", "Fields of calls and of their answers, set by hand.", &[MODE_KEY, REQUEST, RESPONSE])
        .at_least_one(&[&["request", "response"]])
        .foreign(&[
            ("cookies", "they are for pages"),
            ("secure", "it is for pages: write it in an inbound route"),
            ("csp", "it is for pages"),
            ("hsts", "it is for pages"),
        ]);
const INBOUND: Key = Key::new("headers", Kind::Table(&INBOUND_TABLE), "Fields of requests and answers.");
const OUTBOUND: Key = Key::new("headers", Kind::Table(&OUTBOUND_TABLE), "Fields of calls and of their answers.");

const ELSEWHERE: &[Elsewhere] = &[
    (
        &[
            "add_header",
            "set_header",
            "proxy_set_header",
            "response_headers",
            "request_headers",
            "more_set_headers",
            "custom_headers",
            "set_headers",
            "add_headers",
            "remove_headers",
            "header_up",
            "header_down",
            "transform",
            "transforms",
        ],
        "write `headers: {response: {set: {x-a: b}}, request: {set: {x-c: d}}}` in a route or in the door's `defaults`",
    ),
    (&["security_headers", "secure_headers", "helmet"], "write `headers: {secure: on}` in a route or in the door's `defaults`"),
];

/// The usual policy. It names no host: what else an app loads shows in the reports.
const USUAL_CSP: &str = "default-src 'self'; img-src 'self' data: https:; font-src 'self' data: https:; style-src 'self' 'unsafe-inline' https:; \
                         object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'";
const YEAR: Duration = Duration::from_secs(365 * 86_400);

impl Policy for Option<Headers> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(INBOUND), outbound: Some(OUTBOUND), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("headers");
        let secure = written.secure.as_ref().is_some_and(|secure| secure.0.0);
        let csp = match written.csp {
            Some(csp) => csp.0.0.map(|csp| csp.0),
            None => secure.then(|| USUAL_CSP.to_owned()),
        };
        let hsts = match written.hsts {
            Some(hsts) => hsts.0.0,
            None => secure.then_some(YEAR),
        };
        let csp_enforced = written.csp_enforce.is_some_and(|enforce| enforce.0);
        if csp_enforced && csp.is_none() {
            build.fault(build.seen.value(&format!("{here}.csp_enforce")), "there is no policy to act on; write `csp:` or `secure: on`");
        }
        if hsts.is_some() && build.seen.written(&format!("{here}.hsts")) && !place.tls && !place.trusting {
            let message =
                "no browser believes HSTS over clear text, and this door has neither `tls` nor `trusted_proxies` that end TLS before it";
            build.fault(build.seen.value(&format!("{here}.hsts")), message);
        }
        let terms = Secure { csp, csp_enforced, hsts };
        let named = secure || terms.csp.is_some() || terms.hsts.is_some();
        Some(Headers {
            mode: written.mode.0.meant()?,
            hardens: secure,
            cookies: written.cookies.map_or(secure, |cookies| cookies.0.0),
            secure: named.then_some(terms),
            request: edits(written.request),
            response: edits(written.response),
        })
    }

    fn check(build: &mut Build<'_>, config: &Config) {
        for (path, policies) in policies_of(config) {
            check_cached(build, &path, policies);
        }
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|headers| format!("headers{}{}", if headers.hardens { " secure" } else { "" }, headers.mode.remark())).collect()
    }
}

/// A kept answer must not tell one client what the app was told of another.
fn check_cached(build: &mut Build<'_>, path: &str, policies: &Policies) {
    let (Some(headers), Some(cache)) = (&policies.headers, &policies.cache) else { return };
    if cache.mode == Mode::Observe {
        return;
    }
    let told = headers.request.set.iter().chain(&headers.request.add).flat_map(|(_, value)| &value.parts);
    for variable in told.filter_map(|part| if let TemplatePart::Of(variable) = part { Some(*variable) } else { None }) {
        let (needs, word) = match variable {
            Variable::Caller | Variable::ClientCert => (KeyPart::Caller, "caller"),
            Variable::ClientIp => (KeyPart::ClientIp, "client_ip"),
            Variable::RequestId | Variable::TraceId | Variable::Host | Variable::Route => continue,
            Variable::Uri | Variable::Path | Variable::Query | Variable::Rest => continue,
        };
        if !cache.key.contains(&needs) {
            let message = format!(
                "the app is told who asks, and the route's cache would give one client's answer to others: write `key: [{word}]` in the cache"
            );
            build.fault(build.seen.key(&format!("{path}.headers")), message);
            return;
        }
    }
}

fn edits(written: Option<WrittenEdits>) -> FieldEdits {
    let Some(written) = written else { return FieldEdits::default() };
    // A value that expands to nothing sets nothing, and nobody else's value may stand in its place.
    let nothing = written.set.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.0.0.clone()).collect::<Vec<_>>();
    let remove = written.remove.into_iter().flatten().map(|name| name.0.0).chain(nothing).collect();
    let values =
        |list: Vec<(W<Changeable>, Option<W<Template>>)>| list.into_iter().filter_map(|(name, value)| Some((name.0.0, value?.0))).collect();
    FieldEdits { remove, set: values(written.set), add: values(written.add) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{good, route, says};

    fn headers(policy: &str) -> Headers {
        good(&route(policy)).inbound.expect("open").routes.remove(0).policies.headers.expect("named")
    }

    #[test]
    fn one_line_makes_pages_safer() {
        let headers = headers("headers: {secure: on}");
        let secure = headers.secure.expect("named");
        assert!(headers.hardens && secure.csp.is_some_and(|csp| csp.contains("default-src 'self'")) && !secure.csp_enforced);
        assert_eq!(secure.hsts, Some(YEAR));
        assert!(headers.request.is_empty() && headers.response.is_empty());
    }

    #[test]
    fn values_have_places_that_each_request_fills_and_variables_of_the_environment() {
        let headers = headers("headers: {request: {set: {x-user: \"u=${caller};p=${PORT}\", x-plain: a}, remove: x-debug}}");
        let (name, value) = &headers.request.set[0];
        assert_eq!(name.as_str(), "x-user");
        assert_eq!(
            value.parts,
            [TemplatePart::Text("u=".into()), TemplatePart::Of(Variable::Caller), TemplatePart::Text(";p=3100".into())]
        );
        assert_eq!((headers.request.set.len(), headers.request.remove.len()), (2, 1));
    }

    #[test]
    fn a_value_that_expands_to_nothing_leaves_nobody_elses_in_its_place() {
        let headers = headers("headers: {request: {set: {x-a: \"${EMPTY}\", x-b: \"$${caller}\"}}}");
        assert_eq!(headers.request.remove, ["x-a"]);
        assert_eq!(headers.request.set[0].1.parts, [TemplatePart::Text("${caller}".into())], "two dollars are one, and no place");
    }

    #[test]
    fn a_cache_must_know_what_the_app_is_told_of_its_client() {
        let policies = |key: &str| {
            let set = "headers: {request: {set: {x-caller: \"${caller}\"}}}";
            format!("inbound: {{app: 3000, routes: [{{match: {{path: /a}}, {set}, cache: {{ttl: 1m{key}}}}}]}}\n")
        };
        says(&policies(""), "1:51", "write `key: [caller]` in the cache");
        good(&policies(", key: [caller]"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        says(&route("headers: {request: {set: {content-length: 5}}}"), "5:33", "frames the message");
        says(&route("headers: {request: {set: {baggage: a=b}}}"), "5:33", "carries a trace");
        says(&route("headers: {csp_enforce: true, secure: off}"), "5:30", "no policy to act on");
        says(&route("headers: {hsts: 365d}"), "5:23", "over clear text");
        says(&route("headers: {csp: \"DEFAULT self\"}"), "5:22", "Content-Security-Policy");
        says(&route("headers: {}"), "5:7", "secure");
        says(&route("helmet: {}"), "5:7", "headers: {secure: on}");
    }
}
