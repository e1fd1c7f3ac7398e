//! `inbound.apps`: further apps behind the door, by name; routes choose one with `app`.

use std::sync::Arc;

use serde::Deserialize;

use super::{members, target, tls};
use crate::config::{
    Members, Origin, Protocol, Provider, TargetTls,
    build::{Build, whole},
    error::quoted,
    scalars::{Count, W, Word},
    schema::{Json, Key, Kind, Scalar, Table},
    written::{Items, Pairs},
};

/// One of several apps behind the inbound door.
#[derive(Debug, Clone)]
pub struct NamedApp {
    /// Its name; label of metrics.
    pub name: Arc<str>,
    /// Its URL; of several addresses the first.
    pub url: Origin,
    /// The addresses, if there are several.
    pub members: Option<Members>,
    /// TLS with it. It has an effect where the URL is https.
    pub tls: TargetTls,
    /// Version of HTTP that is spoken with it.
    pub protocol: Protocol,
    /// Most connections to it, over all workers.
    pub max_connections: usize,
}

/// An app as written: a URL, or a block.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(in crate::config) enum Written {
    Plain(W<Origin>),
    Full(Box<Full>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Full {
    #[serde(default)]
    url: Items<members::Written>,
    balance: Option<members::WrittenBalance>,
    tls: Option<tls::WrittenTarget>,
    protocol: W<Protocol>,
    max_connections: W<Count>,
}

/// Name of an app. It stands in names of breakers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct AppName(pub(in crate::config) String);

impl Word for AppName {
    fn word(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        match text {
            "app" => Err("`app` is the name of `inbound.app`; choose another".to_owned()),
            _ if (1..=64).contains(&text.len()) && text.chars().all(plain) => Ok(Self(text.to_owned())),
            _ => Err(format!("{} is not a name of an app; use lower-case letters, digits, - and _", quoted(text))),
        }
    }
}

const PATTERN: Json = Json::Pattern("^[a-z0-9_-]{1,64}$");
static NAME_OF_MAP: Scalar = Scalar::new::<AppName>("a name of an app", PATTERN, "web");
/// The name of an app in a route.
pub(in crate::config) const APP_NAME: Kind = Kind::Scalar(&Scalar::new::<AppName>("a name of an app", PATTERN, "web"));

static TABLE: Table = Table::new(
    "inbound.apps",
    "An app behind the door.",
    &[
        Key::new("url", members::ADDRESSES, "Its URL, or a port of this machine. A list: several instances of it, each with its `weight`.")
            .required()
            .eg("http://127.0.0.1:4000"),
        members::balance("balance"),
        tls::target_tls("tls"),
        target::protocol("protocol"),
        target::max_connections("max_connections"),
    ],
);
const APP: Kind = Kind::Either(&[members::APP, Kind::Table(&TABLE)]);

/// The row of the apps.
pub(in crate::config) const ROW: Key = Key::new(
    "apps",
    Kind::Map { key: &NAME_OF_MAP, of: &APP },
    "Further apps behind this door, by name: a route chooses one with `app: NAME`; `app` is for all others.",
)
.eg("{web: http://127.0.0.1:4000}");

/// The apps as meant.
pub(in crate::config) fn build(build: &mut Build<'_>, written: Pairs<Written>) -> Vec<NamedApp> {
    let mut apps = Vec::new();
    for (name, one) in written.into_iter().filter_map(|(name, one)| Some((name, one?))) {
        let path = format!("inbound.apps.{name}");
        let name: Arc<str> = name.into();
        let app = match one {
            Written::Plain(W(url)) => NamedApp {
                name,
                url,
                members: None,
                tls: TargetTls::default(),
                protocol: Protocol::Auto,
                max_connections: target::MAX_CONNECTIONS,
            },
            Written::Full(full) => {
                let asked = members::Asked { urls: &format!("{path}.url"), balance: &format!("{path}.balance"), inbound: true };
                let (url, members) = members::build(build, &asked, full.url, full.balance);
                let tls = tls::target(build, &format!("{path}.tls"), full.tls, url.as_ref());
                let Some(url) = url else { continue };
                NamedApp { name, url, members, tls, protocol: full.protocol.0, max_connections: whole(&full.max_connections) }
            }
        };
        apps.push(app);
    }
    apps
}

/// Reports apps whose names providers have too: metrics and breakers go by the name.
pub(in crate::config) fn check(build: &mut Build<'_>, apps: &[NamedApp], providers: &[Provider]) {
    for app in apps.iter().filter(|app| providers.iter().any(|provider| provider.name == app.name)) {
        let message = format!("there is a provider called {} too; metrics and breakers go by the name", quoted(&app.name));
        build.fault(build.seen.key(&format!("inbound.apps.{}", app.name)), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        scalars::tests::refused,
        testing::{good, says},
    };

    #[test]
    fn an_app_is_a_url_or_a_block() {
        let text = "inbound: {app: 3000, apps: {api: http://api.internal/v1, web: {url: [4000, {url: 4001, weight: 9}], protocol: http1, \
                    max_connections: 5}}, routes: [{match: {hosts: web.example}, app: web}]}\n";
        let inbound = good(text).inbound.expect("open");
        let [api, web] = &inbound.apps[..] else { panic!("two apps: {:?}", inbound.apps) };
        assert_eq!((&*api.name, api.url.to_string().as_str(), api.members.is_none()), ("api", "http://api.internal/v1", true));
        assert_eq!(
            (web.members.as_ref().map(|members| members.list.len()), web.max_connections, web.protocol),
            (Some(2), 5, Protocol::Http1)
        );
        assert_eq!(inbound.routes[0].policies.app.as_deref(), Some("web"));
    }

    #[test]
    fn what_cannot_work_is_told() {
        refused::<AppName>("app", "inbound.app");
        refused::<AppName>("Web", "lower-case");
        says("inbound: {app: 3000, routes: [{match: {}, app: web}]}\n", "1:48", "there is no app `web`; write it under `inbound.apps`");
        says("inbound: {app: 3000, apps: {web: 4000}, routes: [{match: {}, app: wbe}]}\n", "1:67", "did you mean `web`");
        says("inbound: {app: 3000, apps: {openai: 4000}}\noutbound: {providers: {openai: {}}}\n", "1:29", "a provider called `openai`");
        says("inbound: {app: 3000, listen: 127.0.0.1:80, apps: {web: http://127.0.0.1:80}}\n", "1:56", "own inbound listener");
    }
}
