//! `auth`: who may come in, by what they can prove.

mod forward;
mod jwks;
mod jwt;
mod keys;
mod scope;

use std::sync::Arc;

use http::HeaderName;
use serde::Deserialize;

pub use forward::ForwardAuth;
pub use jwks::{Jwks, JwsAlgorithm};
pub use jwt::{Jwt, JwtKeys};
pub use keys::{ApiKey, ApiKeys, KeyFile, KeyRow};

use super::{InDefaults, Place, Policy, Rows, policies_of};
use crate::config::{
    Config, Glob, ListenerTls,
    build::{Build, Door},
    mode::{MODE_KEY, Mode, ModeWord},
    scalars::{W, words},
    schema::{
        Elsewhere, Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, GLOB},
    },
    written::Items,
};

/// What a client must prove before its request goes on.
#[derive(Debug, Clone)]
pub struct Auth {
    /// Whether it acts.
    pub mode: Mode,
    /// The ways of proof, in the order in which they are looked for. A route that names none has those of its door.
    pub sources: Arc<AuthSources>,
    /// Whether a request without any credential passes. A bad credential never does.
    pub anonymous: bool,
    /// Scopes that a credential must have, all of them.
    pub scopes: Vec<Box<str>>,
    /// Tiers of which a credential must have one. Empty: any tier, or none.
    pub tiers: Vec<Box<str>>,
    /// Whether the target sees the credential.
    pub pass: bool,
}

/// Ways of proof.
#[derive(Debug, Default)]
pub struct AuthSources {
    /// Keys that `outrigger key` has made.
    pub api_keys: Option<ApiKeys>,
    /// Tokens of an issuer.
    pub jwt: Option<Jwt>,
    /// Names of verified client certificates.
    pub client_cert: Option<Vec<Glob>>,
    /// A service that decides.
    pub forward: Option<ForwardAuth>,
}

/// A way of proof, as a source of the caller's name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ProofKind {
    Any,
    ApiKey,
    /// A token; the claim names the caller. `None`: the one of `auth.jwt.caller`.
    Jwt(Option<Box<str>>),
}

impl Auth {
    /// Whether a request that proves nothing is refused.
    pub fn guards(&self) -> bool {
        self.mode == Mode::Enforce && !self.anonymous
    }
}

impl AuthSources {
    /// Whether a credential of this kind can be shown.
    pub fn has(&self, kind: &ProofKind) -> bool {
        match kind {
            ProofKind::Any => true,
            ProofKind::ApiKey => self.api_keys.is_some(),
            ProofKind::Jwt(_) => self.jwt.is_some(),
        }
    }
}

/// Whether a request without a credential passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::config) enum Anonymous {
    Allow,
    #[default]
    Refuse,
}

words! {
    Anonymous: "allow" => Self::Allow, "refuse" => Self::Refuse;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    mode: W<ModeWord>,
    api_keys: Option<keys::Written>,
    jwt: Option<jwt::Written>,
    client_cert: Option<Items<W<Glob>>>,
    forward: Option<forward::Written>,
    anonymous: W<Anonymous>,
    #[serde(default)]
    scopes: Items<W<scope::Scope>>,
    #[serde(default)]
    tiers: Items<W<scope::Scope>>,
    pass: W<bool>,
}

const ANONYMOUS: Kind = Kind::Scalar(&Scalar::new::<Anonymous>("`allow` or `refuse`", Json::Words(&["allow", "refuse"]), "allow"));

static TABLE: Table = Table::new(
    "auth",
    "Who may come in, by what they can prove. The ways of proof are written in the door's `defaults`; a route that names none of its own has \
     them too, and says what else it asks. The first credential that a request shows decides: a bad one is refused, whatever else it shows.",
    &[
        MODE_KEY,
        keys::KEY,
        jwt::KEY,
        Key::new("client_cert", Kind::OneOrMany(&GLOB), "Names of client certificates, which `tls: {client_ca: FILE}` verifies; `\"*\"` is any.").eg("\"*.clients.example\""),
        forward::KEY,
        Key::new("anonymous", ANONYMOUS, "Whether a request without any credential passes; a bad credential never does.").default("refuse"),
        Key::new("scopes", Kind::OneOrMany(&scope::SCOPE), "Scopes that the credential must have, all of them.").eg("[orders.write]"),
        Key::new("tiers", Kind::OneOrMany(&scope::SCOPE), "Tiers of which the credential must have one.").eg("[gold, partner]"),
        Key::new("pass", BOOL, "Whether the app or the provider sees the credential; without it, it is taken out.").default("false"),
    ],
)
.foreign(&[
    ("scope", "it is written `scopes: [...]`"),
    ("roles", "roles are scopes: `scopes: [...]`"),
    ("api_key", "it is written `api_keys: {file: keys.json}`"),
    ("keys", "it is written `api_keys: {file: keys.json}`"),
]);
const ROW: Key = Key::new("auth", Kind::Table(&TABLE), "Who may come in, by what they can prove.").eg("{api_keys: {file: keys.json}}");

const ELSEWHERE: &[Elsewhere] = &[
    (
        &["auth", "authentication", "authn", "authorization", "api_key_auth", "key_auth", "apikey_auth", "virtual_keys", "require_api_key"],
        "write `auth: {api_keys: {file: keys.json}}` in a route or in the door's `defaults`; `outrigger key new` makes the keys",
    ),
    (
        &["basic_auth", "basicauth", "htpasswd", "auth_basic"],
        "write `auth: {api_keys: {file: keys.json, basic: true}}`: a key is the password, its name is the user",
    ),
    (
        &["jwt", "jwks", "oidc", "oauth", "oauth2", "jwt_auth", "bearer"],
        "write `auth: {jwt: {jwks: https://login.example/jwks.json, issuer: https://login.example/, audience: https://shop.example}}`",
    ),
    (
        &["forward_auth", "ext_authz", "auth_request"],
        "write `auth: {forward: {url: \"http://127.0.0.1:4180/check\"}}` in a route or in the door's `defaults`",
    ),
];

impl Policy for Option<Auth> {
    type Written = Option<Written>;

    const ROWS: Rows = Rows { inbound: Some(ROW), outbound: Some(ROW), defaults: InDefaults::Taken };

    const ELSEWHERE: &'static [Elsewhere] = ELSEWHERE;

    fn build(build: &mut Build<'_>, place: &Place<'_>, written: Self::Written, inherited: &Self) -> Self {
        let Some(written) = written else { return inherited.clone() };
        let here = place.key("auth");
        // Built even where the mode is `off`: a mistake in it should not wait for the day on which it is put to work.
        let own = sources(
            build,
            place,
            &here,
            Named { api_keys: written.api_keys, jwt: written.jwt, client_cert: written.client_cert, forward: written.forward },
        );
        let sources = match (own, inherited) {
            (Some(own), _) => Arc::new(own),
            (None, Some(door)) => door.sources.clone(),
            (None, None) => {
                let off = written.mode.0 == ModeWord::Off;
                if !off && !build.seen.broken(&here) && !build.seen.broken(&format!("{}.defaults.auth", place.door.word())) {
                    let message =
                        "`auth` names no way of proof, here or in `defaults`: write `api_keys: {file: keys.json}` `jwt` or `client_cert`";
                    build.fault(build.seen.key(&here), message);
                }
                Arc::default()
            }
        };
        Some(Auth {
            mode: written.mode.0.meant()?,
            sources,
            anonymous: written.anonymous.0 == Anonymous::Allow,
            scopes: scope::texts(written.scopes),
            tiers: scope::texts(written.tiers),
            pass: written.pass.0,
        })
    }

    fn check(build: &mut Build<'_>, config: &Config) {
        let verifies = |tls: Option<&ListenerTls>| tls.is_some_and(|tls| tls.client_ca.is_some());
        let inbound = config.inbound.as_ref().is_some_and(|door| verifies(door.tls.as_ref()));
        let outbound = config.outbound.as_ref().is_some_and(|door| verifies(door.tls.as_ref()));
        for (path, policies) in policies_of(config) {
            let here = format!("{path}.auth.client_cert");
            if build.seen.written(&here) && !(if path.starts_with("inbound") { inbound } else { outbound }) {
                let message =
                    "`client_cert` needs `tls: {client_ca: FILE}` in the door: without it no client shows a certificate that is verified";
                build.fault(build.seen.key(&here), message);
            }
            let Some(auth) = policies.auth.as_ref().filter(|auth| auth.anonymous && (!auth.scopes.is_empty() || !auth.tiers.is_empty()))
            else {
                continue;
            };
            let here = format!("{path}.auth.anonymous");
            if build.seen.written(&here) && auth.mode == Mode::Enforce {
                let message = "a request without a credential has no scope and no tier: with `anonymous: allow` it passes all the same; \
                               leave `anonymous` out here";
                build.fault(build.seen.value(&here), message);
            }
        }
    }

    fn told(&self, _: &Config) -> Vec<String> {
        self.iter().map(|auth| format!("auth{}", auth.mode.remark())).collect()
    }
}

/// The ways of proof that a block names; `None`: none.
fn sources(build: &mut Build<'_>, place: &Place<'_>, here: &str, written: Named) -> Option<AuthSources> {
    let named = written.api_keys.is_some() || written.jwt.is_some() || written.client_cert.is_some() || written.forward.is_some();
    let api_keys = written.api_keys.map(|keys| keys::build(build, &format!("{here}.api_keys"), place.door, keys));
    let jwt = written.jwt.and_then(|jwt| jwt::build(build, &format!("{here}.jwt"), jwt));
    let client_cert = written.client_cert.map(|names| names.into_iter().flatten().map(|name| name.0).collect());
    let forward = written.forward.and_then(forward::build);
    named.then_some(AuthSources { api_keys, jwt, client_cert, forward })
}

/// The ways of proof as written.
struct Named {
    api_keys: Option<keys::Written>,
    jwt: Option<jwt::Written>,
    client_cert: Option<Items<W<Glob>>>,
    forward: Option<forward::Written>,
}

/// The fields in which a door looks for a key.
fn usual_fields(door: Door) -> Vec<HeaderName> {
    let names: &[&'static str] = match door {
        Door::Inbound => &["authorization"],
        // Each provider's SDK sends its key in its own field.
        Door::Outbound => &["authorization", "x-api-key", "api-key", "x-goog-api-key"],
    };
    names.iter().map(|name| HeaderName::from_static(name)).collect()
}

#[cfg(test)]
mod tests;
