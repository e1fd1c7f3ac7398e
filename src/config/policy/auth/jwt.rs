//! `auth.jwt`: whose tokens count, and what they must say.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;

use super::jwks::{Jwks, JwsAlgorithm};
use crate::config::{
    Origin, Secret,
    build::Build,
    error::quoted,
    scalars::{W, Word},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, NAME_OF_MAP, SECRET, TEXT, TIME_OF},
    },
    values::Scheme,
    written::{Items, Pairs},
};

/// Tokens of an issuer (RFC 7519), as bearer tokens.
#[derive(Debug)]
pub struct Jwt {
    /// Tells these terms from all others of the process: what was verified under others counts for nothing here.
    pub number: u64,
    /// The issuer's keys.
    pub keys: JwtKeys,
    /// Algorithms that count.
    pub algorithms: Vec<JwsAlgorithm>,
    /// Values of `iss`, of which a token has one.
    pub issuers: Vec<Box<str>>,
    /// Values of `aud`, of which a token has one. Empty: tokens for any audience count.
    pub audiences: Vec<Box<str>>,
    /// How far the issuer's clock may differ.
    pub leeway: Duration,
    /// Claims that a token must have; with a value: exactly this one.
    pub require: Vec<(Box<str>, Option<Box<str>>)>,
    /// The claim that names the caller.
    pub caller: Box<str>,
    /// The claim that names the caller's tier.
    pub tier: Option<Box<str>>,
    /// The claim that lists scopes.
    pub scopes: Box<str>,
}

/// The keys that verify a token.
#[derive(Debug)]
pub enum JwtKeys {
    /// A set of public keys at a URL.
    Url {
        /// The URL.
        url: Arc<str>,
        /// Age at which the set is asked for again.
        refresh: Duration,
    },
    /// A set of public keys from a file.
    File(Arc<Jwks>),
    /// A secret that issuer and proxy share.
    Secret(Arc<Jwks>),
}

/// Shortest secret: as many bytes as the shortest hash has (RFC 7518 section 3.2).
const SHORTEST_SECRET: usize = 32;
/// Largest file of keys.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    jwks: Option<W<JwksUrl>>,
    jwks_file: Option<W<PathBuf>>,
    secret: Option<W<Secret>>,
    refresh: W<Duration>,
    #[serde(default)]
    issuer: Items<W<String>>,
    #[serde(default)]
    audience: Items<W<String>>,
    any_audience: W<bool>,
    #[serde(default)]
    algorithms: Items<W<JwsAlgorithm>>,
    leeway: W<Duration>,
    #[serde(default)]
    require: Pairs<W<String>>,
    caller: W<String>,
    tier: Option<W<String>>,
    scopes: W<String>,
}

/// A URL of keys: over TLS, or to this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct JwksUrl(Arc<str>);

impl Word for JwksUrl {
    fn word(text: &str) -> Result<Self, String> {
        let origin = Origin::parse(text.split('?').next().unwrap_or_default())?;
        let here = origin.host == "localhost" || origin.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if origin.scheme == Scheme::Http && !here {
            return Err(format!("{} is not protected on its way: who changes the answer makes tokens; write https://", quoted(text)));
        }
        Ok(Self(text.into()))
    }
}

const URL: Kind = Kind::Scalar(
    &Scalar::new::<JwksUrl>("a URL", Json::Pattern(r"^https?://[^ ]+$"), "\"https://login.example/.well-known/jwks.json\"").no_dollar(),
);
const FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("a file", Json::Text, "jwks.json"));
const ALGORITHM: Kind = Kind::Scalar(&Scalar::new::<JwsAlgorithm>("an algorithm", Json::Words(&JwsAlgorithm::WORDS), "RS256"));
const REQUIRE: Kind = Kind::Map { key: &NAME_OF_MAP, of: &TEXT };

static TABLE: Table = Table::new(
    "auth.jwt",
    "Tokens of an issuer (JWT), shown as `Authorization: Bearer TOKEN`. Signature, `iss`, `aud` and `exp` are always checked.",
    &[
        Key::new(
            "jwks",
            URL,
            "Where the issuer publishes its keys. They are asked for again when a token names a key that is not known, at most \
                 every 30 s; during an outage the last ones count.",
        ),
        Key::new("jwks_file", FILE, "A file with the issuer's keys; it is read again when it changes.").eg("jwks.json"),
        Key::new("secret", SECRET, "A secret that the issuer shares (HS256, HS384, HS512), of 32 bytes and more."),
        Key::new("refresh", TIME_OF, "The age at which the keys at `jwks` are asked for again.").within("1m", "1d").default("10m"),
        Key::new("issuer", Kind::OneOrMany(&TEXT), "The value of `iss`, or values of which a token has one.")
            .required()
            .eg("\"https://login.example/\""),
        Key::new("audience", Kind::OneOrMany(&TEXT), "The value of `aud`, or values of which a token has one: whom tokens are for.")
            .eg("\"https://shop.example\""),
        Key::new("any_audience", BOOL, "Whether tokens count that the issuer made for any other app.").default("false"),
        Key::new("algorithms", Kind::OneOrMany(&ALGORITHM), "Algorithms that count.")
            .says("those of public keys: RS, PS and ES with 256, 384 and 512, and EdDSA; with `secret` the three of HS"),
        Key::new("leeway", TIME_OF, "How far the issuer's clock may differ.").within("0s", "10m").default("30s"),
        Key::new("require", REQUIRE, "Claims that a token must have, each with its value; `\"*\"` is any value.")
            .eg("{email_verified: \"true\"}"),
        Key::new("caller", TEXT, "The claim that names the caller.").default("sub"),
        Key::new("tier", TEXT, "The claim that names the caller's tier.").eg("plan"),
        Key::new("scopes", TEXT, "The claim that lists scopes, in a list or between blanks; `a.b` looks into `a`.").default("scope"),
    ],
)
.exactly_one(&[&["jwks", "jwks_file", "secret"]])
.foreign(&[
    ("jwks_url", "it is written `jwks`"),
    ("jwks_uri", "it is written `jwks`"),
    ("aud", "it is written `audience`"),
    ("iss", "it is written `issuer`"),
]);

pub(super) const KEY: Key = Key::new("jwt", Kind::Table(&TABLE), "Tokens of an issuer (JWT).")
    .eg("{jwks: \"https://login.example/jwks.json\", issuer: \"https://login.example/\", audience: \"https://shop.example\"}");

pub(super) fn build(build: &mut Build<'_>, here: &str, written: Written) -> Option<Jwt> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    let texts = |list: Items<W<String>>| list.into_iter().flatten().map(|text| Box::from(text.0)).collect::<Vec<Box<str>>>();
    let audiences = texts(written.audience);
    if audiences.is_empty() && !written.any_audience.0 && !build.seen.broken(here) {
        let message = "without `audience` a token that the issuer made for another app gets in here: write `audience: https://this.app`, \
                       or `any_audience: true`";
        build.fault(build.seen.key(here), message);
    }
    let shared = written.secret.is_some();
    let algorithms = algorithms(build, here, written.algorithms, shared);
    let keys = match (written.jwks, written.jwks_file, written.secret) {
        (Some(url), ..) => JwtKeys::Url { url: url.0.0, refresh: written.refresh.0 },
        (_, Some(file), _) => JwtKeys::File(Arc::new(read(build, &format!("{here}.jwks_file"), &file.0)?)),
        (.., Some(secret)) => {
            if secret.0.reveal().len() < SHORTEST_SECRET {
                let message = format!("has fewer than {SHORTEST_SECRET} bytes: who has one token can guess it");
                build.fault(build.seen.value(&format!("{here}.secret")), message);
            }
            JwtKeys::Secret(Arc::new(Jwks::of_secret(secret.0.reveal().as_bytes())))
        }
        _ => return None,
    };
    let value = |text: String| (text != "*").then(|| Box::from(text));
    Some(Jwt {
        number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        keys,
        algorithms,
        issuers: texts(written.issuer),
        audiences,
        leeway: written.leeway.0,
        require: written.require.into_iter().filter_map(|(name, text)| Some((Box::from(&*name), value(text?.0)))).collect(),
        caller: written.caller.0.into(),
        tier: written.tier.map(|claim| claim.0.into()),
        scopes: written.scopes.0.into(),
    })
}

/// The algorithms that count: those of public keys, or those of a secret, never both.
fn algorithms(build: &mut Build<'_>, here: &str, written: Items<W<JwsAlgorithm>>, shared: bool) -> Vec<JwsAlgorithm> {
    let mut all = Vec::new();
    for (n, algorithm) in written.into_iter().enumerate().filter_map(|(n, one)| Some((n, one?.0))) {
        if algorithm.is_shared() != shared {
            let message = match shared {
                false => format!(
                    "`{}` takes a secret, and the keys are public: who knows them makes tokens; write RS256, ES256 or EdDSA",
                    algorithm.word()
                ),
                true => {
                    format!("`{}` takes a public key, and a `secret` is written; write HS256, or `jwks` for its keys", algorithm.word())
                }
            };
            build.fault(build.seen.value(&format!("{here}.algorithms[{n}]")), message);
        }
        all.push(algorithm);
    }
    if all.is_empty() { JwsAlgorithm::ALL.into_iter().filter(|one| one.is_shared() == shared).collect() } else { all }
}

fn read(build: &mut Build<'_>, here: &str, file: &std::path::Path) -> Option<Jwks> {
    let shown = build.files.path(file).display().to_string();
    let read = build.files.read(file, MAX_FILE).and_then(|bytes| Jwks::parse(&bytes).map_err(|why| format!("`{shown}`: {why}")));
    read.map_err(|why| build.fault(build.seen.value(here), why)).ok()
}
