//! `outbound`: the door between the app and its model providers.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;

use super::{SERVER_TIMING, bounds, models, net_list, on_cut, price, provider, route, tls, unattributed};
use crate::config::{
    Auth, Bounds, ClientAuth, DrainBounds, Limit, ListenerTls, Match, Metering, Models, OnCut, Policies, Price, Provider, Route,
    Unattributed,
    build::{Build, Door},
    policy::{Block, Place, Policy, limits},
    scalars::{Host, Nets, W},
    schema::{
        Key, Kind, Table,
        kinds::{ADDRESS, HOST, NETS, TIME_OF},
    },
    written::{Items, Pairs},
};

/// The door between the app and its providers.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Address at which the app connects.
    pub listen: SocketAddr,
    /// TLS with the app. `None`: clear text.
    pub tls: Option<ListenerTls>,
    /// Peers that may use the door. Empty: every peer that can reach it.
    pub allow: Vec<IpNet>,
    /// `Host` values that are believed beside loopback ones: another value may be DNS rebinding.
    pub hosts: Vec<String>,
    /// Providers. The first path segment of a call names one.
    pub providers: Vec<Provider>,
    /// Where a call goes whose path names no provider.
    pub models: Models,
    /// Limits of the whole door.
    pub limits: Vec<Limit>,
    /// Routes in the order of the file, with `defaults` merged in.
    pub routes: Vec<Route>,
    /// Policies of calls that match no route.
    pub fallthrough: Policies,
    /// Ceilings of the listener.
    pub bounds: Bounds,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
    /// How exactly model calls are metered.
    pub metering: Metering,
    /// How a stream is charged whose reader has left.
    pub on_cut: OnCut,
    /// The bounds of `on_cut: drain`.
    pub drain: DrainBounds,
    /// What becomes of a call that no caller is known for.
    pub unattributed: Unattributed,
    /// Longest time between the end of an inbound request and a call that is still charged to it.
    pub join_within: Duration,
    /// Prices that override or extend the built-in table.
    pub prices: Vec<Price>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    listen: W<SocketAddr>,
    tls: Option<tls::WrittenListener>,
    #[serde(default)]
    allow: Items<W<Nets>>,
    #[serde(default)]
    hosts: Items<W<Host>>,
    #[serde(default)]
    providers: Pairs<provider::Written>,
    #[serde(default)]
    models: Pairs<Items<W<models::Aim>>>,
    #[serde(default)]
    default_provider: Items<W<String>>,
    #[serde(default)]
    limits: <Vec<Limit> as Policy>::Written,
    defaults: Block,
    #[serde(default)]
    routes: Items<Block>,
    bounds: bounds::Written,
    server_timing: W<bool>,
    metering: W<Metering>,
    on_cut: W<OnCut>,
    drain: on_cut::Written,
    unattributed: W<Unattributed>,
    join_within: W<Duration>,
    #[serde(default)]
    prices: Items<price::Written>,
    prices_file: Option<W<PathBuf>>,
}

impl Written {
    /// The blocks of policies: `defaults`, then the routes.
    pub(in crate::config) fn blocks(&self) -> impl Iterator<Item = &Block> {
        std::iter::once(&self.defaults).chain(self.routes.iter().flatten())
    }
}

static TABLE: Table = Table::new(
    "outbound",
    "The door between the app and its model providers.",
    &[
        Key::new("listen", ADDRESS, "Where the app connects.").default("127.0.0.1:8081"),
        tls::TLS,
        Key::new(
            "allow",
            Kind::OneOrMany(&NETS),
            "Peers that may use the door; needed when keys are configured and the listener is not on loopback.",
        )
        .eg("[private]"),
        Key::new("hosts", Kind::List(&HOST), "`Host` values that are believed beside loopback ones.").eg("[outrigger.internal]"),
        Key::new(
            "providers",
            Kind::Map { key: &provider::PROVIDER_NAME, of: &Kind::Table(&provider::TABLE) },
            "Providers by name. Known names bring their API and URL.",
        )
        .required()
        .eg("{openai: {}}"),
        models::KEY,
        models::DEFAULT_KEY,
        limits::OUTBOUND,
        Key::new("defaults", Kind::Table(&route::OUTBOUND_DEFAULTS), "Policies of every route.").default("{}"),
        Key::new("routes", Kind::List(&Kind::Table(&route::OUTBOUND_ROUTE)), "Matches with their policies."),
        Key::new("bounds", Kind::Table(&bounds::OUTBOUND), bounds::TEXT).default("{}"),
        SERVER_TIMING,
        price::METERING_KEY,
        on_cut::KEY,
        on_cut::BOUNDS_KEY,
        unattributed::KEY,
        Key::new("join_within", TIME_OF, "A call counts for the inbound request that caused it until this long after that request ended.")
            .within("0", "1d")
            .default("5m"),
        Key::new("prices", Kind::List(&Kind::Table(&price::TABLE)), "Prices that override or extend the built-in table."),
        price::FILE_KEY,
    ],
)
.foreign(&[
    ("auth", "policies of every route are written in `defaults`: `defaults: {auth: {api_keys: {file: keys.json}}}`"),
    ("max_body", "it is written in `bounds: {max_body: ...}`"),
    ("timeouts", "policies of every route are written in `defaults`"),
    ("retry", "policies of every route are written in `defaults`"),
    ("cache", "policies of every route are written in `defaults`"),
    ("breaker", "policies of every route are written in `defaults`"),
    ("app", "it is written in `inbound`"),
]);
/// The row of the door.
pub(in crate::config) const ROW: Key =
    Key::new("outbound", Kind::Table(&TABLE), "The app to model providers. Absent: that door stays closed.")
        .eg("{providers: {openai: {}}}");

pub(in crate::config) fn build(build: &mut Build<'_>, written: Written) -> Outbound {
    let providers = provider::build(build, written.providers);
    let models = models::build(build, (written.models, written.default_provider), &providers);
    let allow = net_list(written.allow);
    let listen = written.listen.0;
    let tls = tls::listener(build, "outbound.tls", written.tls);
    // Fallbacks of `defaults` hold for every call: every provider must be able to take them.
    let every = Match::default();
    let door = Place {
        door: Door::Outbound,
        path: "outbound",
        name: "outbound",
        matches: &every,
        providers: &providers,
        trusting: true,
        tls: false,
    };
    let mut limits: Vec<Limit> = Policy::build(build, &door, written.limits, &Vec::new());
    let mut fallthrough = Policies::build(build, &Place { path: "outbound.defaults", ..door }, written.defaults, &Policies::default());
    let mut routes = route::build(build, &door, written.routes, &fallthrough);
    let of_routes = routes.iter_mut().map(|route| &mut route.policies).chain([&mut fallthrough]).flat_map(|policies| &mut policies.limits);
    for limit in limits.iter_mut().chain(of_routes) {
        limit.counts_unknown = written.unattributed.0 == Unattributed::Shared;
    }
    provider::say_strangers(build);
    let proves =
        routes.iter().map(|route| &route.policies).chain([&fallthrough]).all(|policies| policies.auth.as_ref().is_some_and(Auth::guards));
    // A required certificate guards the door: its authorities are written in the file.
    let verified = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some() && tls.client_auth == ClientAuth::Require);
    let guarded = verified
        || proves
        || !allow.is_empty()
        || ["allow", "tls", "defaults"].iter().any(|key| build.seen.broken(&format!("outbound.{key}")));
    if !listen.ip().is_loopback() && !guarded {
        say_open(build, listen, providers.iter().any(|provider| !provider.keys.is_empty()));
    }
    Outbound {
        listen,
        tls,
        allow,
        hosts: written.hosts.into_iter().flatten().map(|host| host.0.0.as_str().to_owned()).collect(),
        models,
        limits,
        routes,
        fallthrough,
        bounds: bounds::build(&written.bounds),
        server_timing: written.server_timing.0,
        metering: written.metering.0,
        on_cut: written.on_cut.0,
        drain: on_cut::build(&written.drain),
        unattributed: written.unattributed.0,
        join_within: written.join_within.0,
        prices: price::build(build, written.prices, written.prices_file.as_ref().map(|file| file.0.as_path())),
        providers,
    }
}

/// Says that everybody who reaches the door may use it; a mistake where that spends keys of the file.
fn say_open(build: &mut Build<'_>, listen: SocketAddr, keyed: bool) {
    let at = build.seen.value("outbound.listen");
    if keyed {
        let message = format!(
            "`{listen}` is not loopback and provider keys are configured: anyone who reaches it could spend them; listen on 127.0.0.1:{}, \
             name who may come in with `allow: [private]`, or let every route ask for a key with `defaults: {{auth: {{api_keys: {{file: \
             keys.json}}}}}}`",
            listen.port()
        );
        build.fault(at, message);
    } else {
        let message = format!("`{listen}` is not loopback and neither `allow` nor `auth` is written: anyone who reaches it may use it");
        build.note(at, message);
    }
}
