//! `inbound`: the door between clients and the app.

use std::net::SocketAddr;

use http::HeaderName;
use ipnet::IpNet;
use serde::Deserialize;

use super::{SERVER_TIMING, apps, bounds, members, net_list, route, target, tls, warm};
use crate::config::{
    Bounds, KeyPart, Limit, ListenerTls, Match, Members, NamedApp, Origin, Policies, ProofKind, Protocol, Route, TargetTls, Warm,
    build::{Build, Door, whole},
    policy::{Block, Place, Policy, limits},
    scalars::{Count, Nets, W, Word, unknown},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{ADDRESS, BOOL, NETS},
    },
    written::{Items, Pairs},
};

/// The door in front of the app.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// Address at which clients connect.
    pub listen: SocketAddr,
    /// TLS with clients. `None`: clear text.
    pub tls: Option<ListenerTls>,
    /// The app of every route that names no other; the first address, if it has several.
    pub app: Origin,
    /// The addresses of the app, if it has several.
    pub members: Option<Members>,
    /// TLS with the app. It has an effect where the URL is https.
    pub app_tls: TargetTls,
    /// Version of HTTP that is spoken with the app.
    pub app_protocol: Protocol,
    /// Most connections to the app, over all workers.
    pub app_max_connections: usize,
    /// Further apps, by name.
    pub apps: Vec<NamedApp>,
    /// Peers whose `X-Forwarded-*` and caller headers are believed. Empty: no peer.
    pub trusted_proxies: Vec<IpNet>,
    /// Sources of the caller, in order: the first that can be trusted wins.
    pub caller: Vec<CallerSource>,
    /// Limits of the whole door.
    pub limits: Vec<Limit>,
    /// Routes in the order of the file, with `defaults` merged in. The module `route` computes their precedence.
    pub routes: Vec<Route>,
    /// Policies of requests that match no route.
    pub fallthrough: Policies,
    /// Requests that fill the cache after the start.
    pub warm: Warm,
    /// Ceilings of the listener.
    pub bounds: Bounds,
    /// Legal requests that are refused too.
    pub strict: Strict,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
}

impl Inbound {
    /// Headers that name a caller or a caller's tier. Only `trusted_proxies` may set them.
    pub fn believed(&self) -> impl Iterator<Item = &HeaderName> {
        let callers = self.caller.iter().filter_map(|source| if let CallerSource::Header(name) = source { Some(name) } else { None });
        let limits = self.limits.iter().chain(self.routes.iter().flat_map(|route| &route.policies.limits));
        let tiers = limits.filter_map(|limit| match &limit.tiers.as_ref()?.source {
            KeyPart::Header(name) => Some(name),
            _ => None,
        });
        callers.chain(tiers)
    }

    /// Fields that only a service that decides may set (`auth.forward.copy`), on whatever route. `authorization` and `cookie` are a client's own on
    /// other routes.
    pub fn decided(&self) -> impl Iterator<Item = &HeaderName> {
        let auths =
            self.routes.iter().map(|route| &route.policies).chain([&self.fallthrough]).filter_map(|policies| policies.auth.as_ref());
        let copied = auths.filter_map(|auth| auth.sources.forward.as_ref()).flat_map(|forward| &forward.copy);
        copied.filter(|name| **name != http::header::AUTHORIZATION && **name != http::header::COOKIE)
    }
}

/// Legal requests that are refused: servers read them differently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strict {
    /// Whether such paths are refused.
    pub paths: bool,
    /// Whether such names and values of fields are refused.
    pub headers: bool,
}

/// A source of the caller's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerSource {
    /// A header. Only `trusted_proxies` are believed (inbound).
    Header(HeaderName),
    /// The client's address (IPv6: its /64).
    ClientIp,
    /// The client's certificate. The listener's `tls.client_ca` verifies it.
    ClientCert,
    /// What `auth` has verified.
    Auth(ProofKind),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    listen: W<SocketAddr>,
    tls: Option<tls::WrittenListener>,
    #[serde(default)]
    app: Items<members::Written>,
    app_balance: Option<members::WrittenBalance>,
    app_tls: Option<tls::WrittenTarget>,
    app_protocol: W<Protocol>,
    app_max_connections: W<Count>,
    #[serde(default)]
    apps: Pairs<apps::Written>,
    #[serde(default)]
    trusted_proxies: Items<W<Nets>>,
    #[serde(default)]
    caller: Items<W<CallerSource>>,
    #[serde(default)]
    limits: <Vec<Limit> as Policy>::Written,
    defaults: Block,
    #[serde(default)]
    routes: Items<Block>,
    warm: Option<warm::Written>,
    bounds: bounds::Written,
    strict_paths: W<bool>,
    strict_headers: W<bool>,
    server_timing: W<bool>,
}

impl Written {
    /// The blocks of policies: `defaults`, then the routes.
    pub(in crate::config) fn blocks(&self) -> impl Iterator<Item = &Block> {
        std::iter::once(&self.defaults).chain(self.routes.iter().flatten())
    }
}

impl Word for CallerSource {
    fn word(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "client_ip" => Ok(Self::ClientIp),
            _ if text == "client_cert" => Ok(Self::ClientCert),
            _ if text == "auth" => Ok(Self::Auth(ProofKind::Any)),
            _ if text == "api_key" => Ok(Self::Auth(ProofKind::ApiKey)),
            Some(("header", name)) => HeaderName::word(name).map(Self::Header),
            Some(("jwt", claim)) if !claim.is_empty() => Ok(Self::Auth(ProofKind::Jwt(Some(claim.into())))),
            _ if text == "jwt" => Ok(Self::Auth(ProofKind::Jwt(None))),
            _ => Err(unknown(text, &["client_ip", "client_cert", "auth", "api_key", "jwt", "jwt:CLAIM", "header:NAME"])),
        }
    }
}

const CALLER: Kind = Kind::Scalar(&Scalar::new::<CallerSource>(
    "`client_ip`, `client_cert`, `auth`, `api_key`, `jwt`, `jwt:CLAIM` or `header:NAME`",
    Json::Pattern("^(client_ip|client_cert|auth|api_key|jwt|jwt:.+|header:.+)$"),
    "client_ip",
));

static TABLE: Table = Table::new(
    "inbound",
    "The door in front of the app.",
    &[
        Key::new("listen", ADDRESS, "Where clients connect.").default("0.0.0.0:8080"),
        tls::TLS,
        Key::new(
            "app",
            members::ADDRESSES,
            "The app: a URL, or a port of this machine (at 127.0.0.1 or ::1, whichever answers). A list: several instances of it.",
        )
        .says("required, unless `--app` is given")
        .eg("http://127.0.0.1:3000"),
        members::balance("app_balance"),
        tls::target_tls("app_tls"),
        target::protocol("app_protocol"),
        target::max_connections("app_max_connections"),
        apps::ROW,
        Key::new(
            "trusted_proxies",
            Kind::OneOrMany(&NETS),
            "Peers whose `X-Forwarded-*` and caller headers are believed; nobody else's are.",
        )
        .eg("[private]"),
        Key::new(
            "caller",
            Kind::OneOrMany(&CALLER),
            "Who is asking: the first source that can be trusted. `auth` is whoever `auth` has verified.",
        )
        .says("`client_ip`; with `auth`, whoever it has verified comes first")
        .eg("[header:x-user-id, client_ip]"),
        limits::INBOUND,
        Key::new("defaults", Kind::Table(&route::INBOUND_DEFAULTS), "Policies of every route.").default("{}"),
        Key::new("routes", Kind::List(&Kind::Table(&route::INBOUND_ROUTE)), "Matches with their policies."),
        Key::new("warm", Kind::Table(&warm::TABLE), "Requests that fill the cache after the start."),
        Key::new("bounds", Kind::Table(&bounds::INBOUND), bounds::TEXT).default("{}"),
        Key::new(
            "strict_paths",
            BOOL,
            "Also refuses legal paths that servers read differently: `//`, backslashes, `.` and `..` segments (escaped or with parameters \
             too), `%2f`, `%5c` and control characters, each of these escaped twice, `%` that begins no escape.",
        )
        .default("false"),
        Key::new(
            "strict_headers",
            BOOL,
            "Also refuses legal fields that servers read differently: names of other than letters, digits and hyphens (`x_user` is \
             `x-user` to many), values of other than ASCII.",
        )
        .default("false"),
        SERVER_TIMING,
    ],
)
.foreign(&[
    ("auth", "policies of every route are written in `defaults`: `defaults: {auth: {api_keys: {file: keys.json}}}`"),
    ("max_body", "it is written in `bounds: {max_body: ...}`"),
    ("timeouts", "policies of every route are written in `defaults`"),
    ("retry", "policies of every route are written in `defaults`"),
    ("cache", "policies of every route are written in `defaults`"),
    ("breaker", "policies of every route are written in `defaults`"),
    ("providers", "it is written in `outbound`"),
]);
/// The row of the door.
pub(in crate::config) const ROW: Key =
    Key::new("inbound", Kind::Table(&TABLE), "Clients to the app. Absent: that door stays closed.").eg("{app: http://127.0.0.1:3000}");

pub(in crate::config) fn build(build: &mut Build<'_>, written: Option<Written>) -> Option<Inbound> {
    let app = match &build.overrides.app {
        Some(text) => match Origin::word(text) {
            Ok(app) => Some(app),
            Err(error) => {
                build.fault(build.seen.value(""), format!("--app: {error}"));
                None
            }
        },
        None => None,
    };
    let Some(written) = written else {
        return app.map(|app| Inbound {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            tls: None,
            warm: warm::build(build, None, &app),
            app,
            members: None,
            app_tls: TargetTls::default(),
            app_protocol: Protocol::Auto,
            app_max_connections: target::MAX_CONNECTIONS,
            apps: Vec::new(),
            trusted_proxies: Vec::new(),
            caller: vec![CallerSource::ClientIp],
            limits: Vec::new(),
            routes: Vec::new(),
            fallthrough: Policies::default(),
            bounds: Bounds { max_body: Some(1 << 30), ..Bounds::default() },
            strict: Strict::default(),
            server_timing: false,
        });
    };
    let asked = members::Asked { urls: "inbound.app", balance: "inbound.app_balance", inbound: true };
    let (listed, several) = members::build(build, &asked, written.app, written.app_balance);
    let (app, members) = match app {
        Some(app) => (Some(app), None),
        None => (listed, several),
    };
    if app.is_none() && !build.seen.broken("inbound.app") {
        build.fault(
            build.seen.key("inbound"),
            "inbound needs `app`, the URL of your app, such as `app: http://127.0.0.1:3000`; or give `--app`",
        );
    }
    let trusted_proxies = net_list(written.trusted_proxies);
    let trusting = !trusted_proxies.is_empty() || build.seen.broken("inbound.trusted_proxies");
    let tls = tls::listener(build, "inbound.tls", written.tls);
    let verifies = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) || build.seen.broken("inbound.tls");
    let app_tls = tls::target(build, "inbound.app_tls", written.app_tls, app.as_ref());
    let apps = apps::build(build, written.apps);
    let every = Match::default();
    let ends_tls = tls.is_some() || build.seen.broken("inbound.tls");
    let door = Place { door: Door::Inbound, path: "inbound", name: "inbound", matches: &every, providers: &[], trusting, tls: ends_tls };
    let limits = Policy::build(build, &door, written.limits, &Vec::new());
    let fallthrough = Policies::build(build, &Place { path: "inbound.defaults", ..door }, written.defaults, &Policies::default());
    let routes = route::build(build, &door, written.routes, &fallthrough);
    let named: Vec<&Policies> = routes.iter().map(|route| &route.policies).chain([&fallthrough]).collect();
    let caller = callers(build, written.caller, &Believed { trusting, verifies, policies: &named });
    let app = app?;
    Some(Inbound {
        listen: written.listen.0,
        tls,
        warm: warm::build(build, written.warm, &app),
        app,
        members,
        app_tls,
        app_protocol: written.app_protocol.0,
        app_max_connections: whole(&written.app_max_connections),
        apps,
        trusted_proxies,
        caller,
        limits,
        routes,
        fallthrough,
        bounds: bounds::build(&written.bounds),
        strict: Strict { paths: written.strict_paths.0, headers: written.strict_headers.0 },
        server_timing: written.server_timing.0,
    })
}

/// What the door can verify.
struct Believed<'a> {
    /// Whether it believes the headers of some proxy.
    trusting: bool,
    /// Whether clients show certificates.
    verifies: bool,
    /// The policies of all its routes.
    policies: &'a [&'a Policies],
}

fn callers(build: &mut Build<'_>, written: Items<W<CallerSource>>, believed: &Believed<'_>) -> Vec<CallerSource> {
    let proves =
        |kind: &ProofKind| believed.policies.iter().any(|policies| policies.auth.as_ref().is_some_and(|auth| auth.sources.has(kind)));
    let mut out = Vec::new();
    for (n, source) in written.into_iter().enumerate().filter_map(|(n, source)| Some((n, source?.0))) {
        let message = match &source {
            CallerSource::Header(name) if !believed.trusting => format!(
                "`{name}` would never be believed: a caller header counts only from `trusted_proxies`, and none are written; \
                 add `trusted_proxies: [private]` if a proxy of yours sets it"
            ),
            CallerSource::ClientCert if !believed.verifies => {
                "`client_cert` needs `tls: {client_ca: FILE}`: without it no client shows a certificate that is verified".into()
            }
            CallerSource::Auth(kind) if !proves(kind) && !build.seen.broken("inbound.defaults.auth") => {
                let needed = match kind {
                    ProofKind::ApiKey => "auth: {api_keys: {file: keys.json}}",
                    ProofKind::Jwt(_) => "auth: {jwt: {...}}",
                    ProofKind::Any => "auth: {...}",
                };
                format!("nothing verifies it: no route of this door has `{needed}`; write it in `defaults`")
            }
            _ => String::new(),
        };
        if !message.is_empty() {
            build.fault(build.seen.value(&format!("inbound.caller[{n}]")), message);
        }
        out.push(source);
    }
    if !build.seen.written("inbound.caller") {
        out.extend(proves(&ProofKind::Any).then_some(CallerSource::Auth(ProofKind::Any)));
        out.push(CallerSource::ClientIp);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalars::tests::refused;

    #[test]
    fn a_caller_is_a_word_or_a_header() {
        assert_eq!(CallerSource::word("client_ip"), Ok(CallerSource::ClientIp));
        assert_eq!(CallerSource::word("jwt:org.id"), Ok(CallerSource::Auth(ProofKind::Jwt(Some("org.id".into())))));
        assert_eq!(CallerSource::word("api_key"), Ok(CallerSource::Auth(ProofKind::ApiKey)));
        refused::<CallerSource>("apikey", "did you mean `api_key`");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_caller_panic(text in "\\PC{0,40}") {
            let _ = CallerSource::word(&text);
        }
    }
}
