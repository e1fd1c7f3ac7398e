//! The two doors: listeners, providers, routes with `defaults` merged in.

use std::{net::SocketAddr, sync::Arc};

use super::{Build, Door, names, no_such, small, whole};
use crate::config::{
    Bounds, CallerSource, ClientAuth, Config, Inbound, Match, Origin, Outbound, Policies, Price, Protocol, Provider, Route, Scheme, Strict,
    TargetTls,
    error::{Fault, did_you_mean, nearest, quoted},
    policy::{Block, Place, Policy},
    scalars::{Nets, W, Word},
    secrecy,
    values::Glob,
    written::{self, Items},
};

/// Connections of a target where the file says nothing.
const MAX_CONNECTIONS: usize = 10_000;

impl Build<'_> {
    pub(super) fn inbound(&mut self, written: Option<written::Inbound>) -> Option<Inbound> {
        let app = match &self.overrides.app {
            Some(text) => match Origin::word(text) {
                Ok(app) => Some(app),
                Err(error) => {
                    self.fault(self.seen.value(""), format!("--app: {error}"));
                    None
                }
            },
            None => None,
        };
        let Some(written) = written else {
            return app.map(|app| Inbound {
                listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
                tls: None,
                warm: self.warm(None, &app),
                app,
                app_tls: TargetTls::default(),
                app_protocol: Protocol::Auto,
                app_max_connections: MAX_CONNECTIONS,
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
        let app = app.or_else(|| written.app.map(|app| app.0));
        if app.is_none() && !self.seen.broken("inbound.app") {
            self.fault(
                self.seen.key("inbound"),
                "inbound needs `app`, the URL of your app, such as `app: http://127.0.0.1:3000`; or give `--app`",
            );
        }
        let trusted_proxies = nets(written.trusted_proxies);
        let trusting = !trusted_proxies.is_empty() || self.seen.broken("inbound.trusted_proxies");
        let tls = self.listener_tls("inbound.tls", written.tls);
        let verifies = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) || self.seen.broken("inbound.tls");
        let caller: Vec<CallerSource> = self.callers(written.caller, trusting, verifies);
        let app_tls = self.target_tls("inbound.app_tls", written.app_tls, app.as_ref());
        let every = Match::default();
        let door = Place { door: Door::Inbound, path: "inbound", name: "inbound", matches: &every, providers: &[], trusting };
        let limits = Policy::build(self, &door, written.limits, &Vec::new());
        let fallthrough = Policies::build(self, &Place { path: "inbound.defaults", ..door }, written.defaults, &Policies::default());
        let routes = self.routes(Door::Inbound, written.routes, &fallthrough, &[], trusting);
        let app = app?;
        Some(Inbound {
            listen: written.listen.0,
            tls,
            warm: self.warm(written.warm, &app),
            app,
            app_tls,
            app_protocol: written.app_protocol.0,
            app_max_connections: whole(&written.app_max_connections),
            trusted_proxies,
            caller,
            limits,
            routes,
            fallthrough,
            bounds: bounds(&written.bounds),
            strict: Strict { paths: written.strict_paths.0, headers: written.strict_headers.0 },
            server_timing: written.server_timing.0,
        })
    }

    fn callers(&mut self, written: Items<W<CallerSource>>, trusting: bool, verifies: bool) -> Vec<CallerSource> {
        let mut out = Vec::new();
        for (n, source) in written.into_iter().enumerate().filter_map(|(n, source)| Some((n, source?.0))) {
            if let CallerSource::Header(name) = &source
                && !trusting
            {
                let message = format!(
                    "`{name}` would never be believed: a caller header counts only from `trusted_proxies`, and none are written; \
                     add `trusted_proxies: [private]` if a proxy of yours sets it"
                );
                self.fault(self.seen.value(&format!("inbound.caller[{n}]")), message);
            }
            if source == CallerSource::ClientCert && !verifies {
                let message = "`client_cert` needs `tls: {client_ca: FILE}`: without it no client shows a certificate that is verified";
                self.fault(self.seen.value(&format!("inbound.caller[{n}]")), message);
            }
            out.push(source);
        }
        out
    }

    pub(super) fn outbound(&mut self, written: written::Outbound) -> Outbound {
        let providers = self.providers(written.providers);
        let allow = nets(written.allow);
        let listen = written.listen.0;
        let tls = self.listener_tls("outbound.tls", written.tls);
        // Who must show a certificate of ours is somebody we let in.
        let verified = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some() && tls.client_auth == ClientAuth::Require);
        let guarded = verified || !allow.is_empty() || self.seen.broken("outbound.allow") || self.seen.broken("outbound.tls");
        if !listen.ip().is_loopback() && !guarded {
            if providers.iter().any(|provider| !provider.keys.is_empty()) {
                let message = format!(
                    "`{listen}` is not loopback and provider keys are configured: anyone who reaches it could spend them; \
                     listen on 127.0.0.1:{}, or name who may come in with `allow: [private]`",
                    listen.port()
                );
                self.fault(self.seen.value("outbound.listen"), message);
            } else {
                self.note(
                    self.seen.value("outbound.listen"),
                    format!("`{listen}` is not loopback and `allow` is not written: anyone who reaches it may use it"),
                );
            }
        }
        // Fallbacks of `defaults` hold for every call: every provider must be able to take them.
        let every = Match::default();
        let door =
            Place { door: Door::Outbound, path: "outbound", name: "outbound", matches: &every, providers: &providers, trusting: true };
        let limits = Policy::build(self, &door, written.limits, &Vec::new());
        let fallthrough = Policies::build(self, &Place { path: "outbound.defaults", ..door }, written.defaults, &Policies::default());
        let routes = self.routes(Door::Outbound, written.routes, &fallthrough, &providers, true);
        self.say_strangers();
        Outbound {
            listen,
            tls,
            allow,
            hosts: written.hosts.into_iter().flatten().map(|host| host.0.0.as_str().to_owned()).collect(),
            limits,
            routes,
            fallthrough,
            bounds: bounds(&written.bounds),
            server_timing: written.server_timing.0,
            metering: written.metering.0,
            join_within: written.join_within.0,
            prices: self.prices(written.prices),
            providers,
        }
    }

    fn providers(&mut self, written: written::Pairs<written::Provider>) -> Vec<Provider> {
        let elsewhere = names::KNOWN_PROVIDERS.iter().any(|name| self.seen.is_unknown(name));
        if written.is_empty() && self.seen.written("outbound.providers") && !self.seen.broken("outbound.providers") && !elsewhere {
            self.fault(self.seen.key("outbound.providers"), "outbound needs a provider, such as `providers: {openai: {}}`");
        }
        let mut out = Vec::new();
        for (name, provider) in written {
            let path = format!("outbound.providers.{name}");
            let Some(provider) = provider else {
                continue;
            };
            let known = names::known_provider(&name);
            let api = provider.api.map(|api| api.0).or(known.map(|(api, _)| api));
            let api = if name == "bedrock" { api.or(Some(crate::config::Api::Bedrock)) } else { api };
            let url = provider
                .url
                .map(|url| url.0)
                .or_else(|| known.and_then(|(_, url)| Origin::parse(url).ok()))
                .or_else(|| self.bedrock(&name));
            let mut missing = Vec::new();
            if api.is_none() && !self.seen.broken(&format!("{path}.api")) {
                missing.push("`api`");
            }
            if url.is_none() && !self.seen.broken(&format!("{path}.url")) {
                missing.push("`url`");
            }
            if !missing.is_empty() {
                let at = self.seen.key(&path);
                if name == "bedrock" {
                    self.fault(at, "bedrock needs `url: https://bedrock-runtime.REGION.amazonaws.com`, or AWS_REGION in the environment");
                } else {
                    let hint = did_you_mean(&name, names::KNOWN_PROVIDERS);
                    let hint =
                        if hint.is_empty() { ", such as `{api: openai, url: \"http://models.internal/v1\"}`".to_owned() } else { hint };
                    self.fault(at, format!("{} is not a known provider and needs {}{hint}", quoted(&name), missing.join(" and ")));
                }
            }
            if api.is_none() {
                self.vague.push(name.clone());
            }
            let keys: Vec<_> = provider.keys.into_iter().flatten().map(|key| key.0).collect();
            if let (Some(url), false) = (&url, keys.is_empty())
                && names::is_exposed(url)
            {
                self.note(
                    self.seen.key(&path),
                    format!("the keys of `{name}` travel in the clear: its URL is http and not on this machine"),
                );
            }
            // A provider with a mistake keeps its place, so that routes and fallbacks can still be checked against it.
            let tls = self.target_tls(&format!("{path}.tls"), provider.tls, url.as_ref());
            let placeholder = || Origin { scheme: Scheme::Http, host: String::new(), port: 0, base: String::new() };
            out.push(Provider {
                name: Arc::from(name.as_str()),
                api: api.unwrap_or(crate::config::Api::Plain),
                url: url.unwrap_or_else(placeholder),
                keys,
                tls,
                protocol: provider.protocol.0,
                max_connections: whole(&provider.max_connections),
            });
        }
        out
    }

    /// Bedrock's URL depends on the region. <https://docs.aws.amazon.com/general/latest/gr/bedrock.html>
    fn bedrock(&self, name: &str) -> Option<Origin> {
        let region = (name == "bedrock").then(|| (self.env)("AWS_REGION").or_else(|| (self.env)("AWS_DEFAULT_REGION")))??;
        let plain = !region.is_empty() && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain.then(|| Origin::parse(&format!("https://bedrock-runtime.{region}.amazonaws.com")).ok())?
    }

    fn routes(&mut self, door: Door, written: Items<Block>, defaults: &Policies, providers: &[Provider], trusting: bool) -> Vec<Route> {
        let mut out: Vec<(usize, Route)> = Vec::new();
        for (n, mut block) in written.into_iter().enumerate().filter_map(|(n, block)| Some((n, block?))) {
            let path = format!("{}.routes[{n}]", door.word());
            let matches = self.matches(&path, block.r#match.take().unwrap_or_default(), providers);
            let name: Arc<str> = match block.name.take() {
                Some(name) => Arc::from(name.0.0.as_str()),
                None => Arc::from(names::route(&matches).as_str()),
            };
            let whole_match = self.seen.written(&format!("{path}.match")) && !self.seen.broken(&format!("{path}.match"));
            let twin =
                out.iter().find(|(_, other)| whole_match && same(&other.matches, &matches)).map(|(n, other)| (*n, other.name.clone()));
            if let Some((twin, twin_name)) = twin {
                let first = self.seen.value(&format!("{}.routes[{twin}]", door.word())).line;
                let message =
                    format!("the same match as route `{twin_name}` at line {first}: no request could tell them apart; merge the two");
                self.fault(self.seen.value(&format!("{path}.match")), message);
            } else if let Some((twin, _)) = out
                .iter()
                .find(|(at, other)| other.name == name && self.seen.written(&format!("{}.routes[{at}].match", door.word())) && whole_match)
            {
                let first = self.seen.value(&format!("{}.routes[{twin}]", door.word())).line;
                let at = if self.seen.written(&format!("{path}.name")) { format!("{path}.name") } else { path.clone() };
                self.fault(
                    self.seen.value(&at),
                    format!("there is already a route {} at line {first}; names are unique in a door", quoted(&name)),
                );
            }
            let place = Place { door, path: &path, name: &format!("{}/{name}", door.word()), matches: &matches, providers, trusting };
            let policies = Policies::build(self, &place, block, defaults);
            out.push((n, Route { name, matches, policies }));
        }
        out.into_iter().map(|(_, route)| route).collect()
    }

    fn matches(&mut self, path: &str, written: written::Match, providers: &[Provider]) -> Match {
        let mut names = Vec::new();
        for (n, name) in written.provider.into_iter().enumerate().filter_map(|(n, name)| Some((n, name?.0.0))) {
            match providers.iter().find(|provider| *provider.name == *name) {
                Some(provider) => names.push(Arc::clone(&provider.name)),
                None => self.unknown_provider(&name, &format!("{path}.match.provider[{n}]"), providers),
            }
        }
        Match {
            path: written.path.map(|path| path.0),
            methods: written.methods.into_iter().flatten().map(|method| method.0).collect(),
            hosts: written.hosts.into_iter().flatten().map(|host| host.0.0).collect(),
            headers: written
                .headers
                .into_iter()
                .map(|(name, value)| {
                    let value = value.map(|value| value.0.0).filter(|value| value.as_bytes() != b"*");
                    (name.0.clone(), value.map(|value| secrecy::marked(&name.0, value)))
                })
                .collect(),
            providers: names,
            operations: written.operation.into_iter().flatten().map(|operation| operation.0).collect(),
            models: written.models.into_iter().flatten().map(|model| model.0).collect(),
        }
    }

    /// A name that stands for no provider. Where one of them is wrong, it may be that one.
    pub(in crate::config) fn unknown_provider(&mut self, name: &str, path: &str, providers: &[Provider]) {
        let named = format!("outbound.providers.{name}");
        // A provider that nobody knows is most likely this one, misspelt.
        let slip = nearest(name, self.vague.iter().map(String::as_str)).is_some();
        if providers.is_empty() || self.seen.broken(&named) || slip || self.seen.is_unknown(name) {
            return;
        }
        let at = self.seen.value(path);
        match self.strangers.iter_mut().find(|(known, ..)| known == name) {
            Some((_, _, lines)) => lines.push(at.line),
            None => {
                let message = no_such("provider", name, providers.iter().map(|provider| &*provider.name));
                self.strangers.push((name.to_owned(), Fault::new(at, message), Vec::new()));
            }
        }
    }

    /// Each name is said once, with all its places.
    fn say_strangers(&mut self) {
        for (_, mut fault, lines) in std::mem::take(&mut self.strangers) {
            let others: Vec<String> = lines.iter().filter(|line| **line != fault.at.line).map(ToString::to_string).collect();
            match &others[..] {
                [] => {}
                [line] => fault.message += &format!(" (also at line {line})"),
                lines => fault.message += &format!(" (also at lines {})", lines.join(", ")),
            }
            self.faults.push(fault);
        }
    }

    fn prices(&mut self, written: Items<written::Price>) -> Vec<Price> {
        // Dollars per million tokens to nano-dollars per token: a thousandth of the dollar figure's nano-dollars
        // per thousand; rounded up, so that a limit never admits more than its money.
        let per_token = |usd: W<crate::config::scalars::Usd>| usd.0.0.div_ceil(1_000_000);
        let mut out: Vec<Price> = Vec::new();
        for (n, price) in written.into_iter().enumerate().filter_map(|(n, price)| Some((n, price?))) {
            let (Some(model), Some(input), Some(output)) = (price.model, price.input, price.output) else { continue };
            let model: Glob = model.0;
            if out.iter().any(|other| other.model == model) {
                let at = self.seen.value(&format!("outbound.prices[{n}].model"));
                self.fault(at, format!("there is already a price for {}", quoted(model.as_str())));
            }
            out.push(Price {
                model,
                input: per_token(input),
                output: per_token(output),
                cached_input: price.cached_input.map(per_token),
                cache_write: price.cache_write.map(per_token),
                cache_write_1h: price.cache_write_1h.map(per_token),
            });
        }
        out
    }

    /// Listeners that would take each other's connections, and targets that are the proxy itself.
    pub(super) fn listeners(&mut self, config: &Config) {
        let mut listeners: Vec<(&str, SocketAddr)> = Vec::new();
        listeners.extend(config.inbound.as_ref().map(|door| ("inbound.listen", door.listen)));
        listeners.extend(config.outbound.as_ref().map(|door| ("outbound.listen", door.listen)));
        listeners.extend(config.admin.listen.map(|at| ("admin.listen", at)));
        listeners.extend(config.admin.probes.map(|at| ("admin.probes", at)));
        for (n, (path, at)) in listeners.iter().enumerate() {
            let overlap = |other: &SocketAddr| {
                at.port() != 0
                    && other.port() == at.port()
                    && (other.ip() == at.ip() || other.ip().is_unspecified() || at.ip().is_unspecified())
            };
            if let Some((other, _)) = listeners[..n].iter().find(|(_, other)| overlap(other)) {
                // The one that is written is the one to change.
                let (path, other) = if self.seen.written(path) { (path, other) } else { (other, path) };
                self.fault(self.seen.value(path), format!("{path} and {other} listen on the same port {}", at.port()));
            }
        }
        let is_self = |url: &Origin, listen: SocketAddr| {
            let host = url.host.parse::<std::net::IpAddr>().ok();
            let here =
                url.host == "localhost" || host.is_some_and(|ip| ip == listen.ip() || (ip.is_loopback() && listen.ip().is_unspecified()));
            url.port == listen.port() && (here || host.is_some_and(|ip| ip.is_unspecified()))
        };
        if let Some(door) = &config.inbound
            && is_self(&door.app, door.listen)
        {
            self.fault(self.seen.value("inbound.app"), format!("`{}` is the proxy's own inbound listener; it would call itself", door.app));
        }
        for provider in config.outbound.iter().flat_map(|door| &door.providers) {
            if config.outbound.as_ref().is_some_and(|door| is_self(&provider.url, door.listen)) {
                let at = self.seen.value(&format!("outbound.providers.{}.url", provider.name));
                self.fault(at, format!("`{}` is the proxy's own outbound listener; it would call itself", provider.url));
            }
        }
    }
}

fn bounds(written: &written::Bounds) -> Bounds {
    Bounds {
        max_body: written.max_body.0.0.map(|size| size.0),
        max_head: u32::try_from(written.max_head.0.0).unwrap_or(u32::MAX),
        max_headers: u16::try_from(small(&written.max_headers)).unwrap_or(u16::MAX),
        header_read: written.header_read.0,
        body_idle: written.body_idle.0,
        max_connections: whole(&written.max_connections),
        max_connections_per_ip: written.max_connections_per_ip.as_ref().map(whole),
        max_requests: whole(&written.max_requests),
        min_rate: written.min_rate.0.0.map(|size| size.0),
    }
}

fn nets(written: Items<W<Nets>>) -> Vec<ipnet::IpNet> {
    let mut out: Vec<ipnet::IpNet> = written.into_iter().flatten().flat_map(|nets| nets.0.0).collect();
    out.sort();
    out.dedup();
    out
}

/// Whether two matches are for exactly the same requests, whatever the order of their lists.
fn same(a: &Match, b: &Match) -> bool {
    fn set<T: Clone, K: Ord>(list: &[T], key: impl Fn(&T) -> K) -> Vec<K> {
        let mut keys: Vec<K> = list.iter().map(key).collect();
        keys.sort();
        keys.dedup();
        keys
    }
    a.path == b.path
        && set(&a.methods, |m| m.to_string()) == set(&b.methods, |m| m.to_string())
        && set(&a.hosts, |h| h.as_str().to_owned()) == set(&b.hosts, |h| h.as_str().to_owned())
        && set(&a.headers, |(n, v)| (n.to_string(), v.as_ref().map(|v| v.as_bytes().to_owned())))
            == set(&b.headers, |(n, v)| (n.to_string(), v.as_ref().map(|v| v.as_bytes().to_owned())))
        && set(&a.providers, Arc::clone) == set(&b.providers, Arc::clone)
        && set(&a.operations, |o| *o) == set(&b.operations, |o| *o)
        && set(&a.models, |m| m.as_str().to_owned()) == set(&b.models, |m| m.as_str().to_owned())
}
