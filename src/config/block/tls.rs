//! TLS of listeners, of targets and of Redis. Files are read at load and proved to belong together: a listener or target that cannot
//! work is a mistake in the file.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::Deserialize;

use crate::config::{
    Authorities, Identity, Origin, Pin, Scheme,
    build::Build,
    error::quoted,
    scalars::{RedisUrl, W, Word, words},
    schema::{
        Json, Key, Kind, Scalar, Table,
        kinds::{BOOL, TEXT},
    },
    tls,
    written::Items,
};

/// TLS of a listener.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Certificates. A client gets the first whose names cover the name it asks for (SNI), else the first of all.
    pub identities: Vec<Identity>,
    /// Authorities of clients' certificates. `None`: clients are not asked for a certificate.
    pub client_ca: Option<Authorities>,
    /// What happens to a client without a certificate.
    pub client_auth: ClientAuth,
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// TLS towards a target.
#[derive(Debug, Clone)]
pub struct TargetTls {
    /// Authorities of the target's certificate, beside or instead of the system's.
    pub ca: Authorities,
    /// Whether the system's authorities count too.
    pub system_roots: bool,
    /// Certificate of the proxy, for a target that asks for one.
    pub identity: Option<Identity>,
    /// Keys: the target's certificate must hold one of them. Beside pins, authorities count only where they are written too.
    pub pins: Vec<Pin>,
    /// The name that the target's certificate must have. `None`: the URL's host.
    pub server_name: Option<ServerName<'static>>,
    /// Oldest version that is spoken.
    pub min_version: TlsVersion,
}

impl Default for TargetTls {
    fn default() -> Self {
        let (ca, min_version) = (Authorities::default(), TlsVersion::Tls12);
        Self { ca, system_roots: true, identity: None, pins: Vec::new(), server_name: None, min_version }
    }
}

impl TargetTls {
    /// A mark of these settings. A connection that was made under another mark is not reused.
    pub fn mark(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        self.ca.0.iter().for_each(|ca| part(ca));
        part(&[u8::from(self.system_roots), self.min_version as u8]);
        self.pins.iter().for_each(|pin| part(&pin.0));
        self.identity.iter().for_each(|identity| identity.certified.cert.iter().for_each(|cert| part(cert)));
        part(self.server_name.as_ref().map(|name| name.to_str()).unwrap_or_default().as_bytes());
        *hash.finalize().as_bytes()
    }
}

/// TLS towards Redis.
#[derive(Debug, Clone, Default)]
pub struct RedisTls {
    /// Authorities of Redis' certificate. `None`: the system's.
    pub ca: Option<Authorities>,
    /// Certificate of the proxy, for a Redis that asks for one.
    pub identity: Option<Identity>,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// The handshake of a client without a certificate fails.
    #[default]
    Require,
    /// A client may come without a certificate. A certificate that is shown must be good.
    Request,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum TlsVersion {
    #[default]
    Tls12,
    Tls13,
}

impl TlsVersion {
    /// This version and the later ones.
    pub fn and_later(self) -> &'static [&'static rustls::SupportedProtocolVersion] {
        static BOTH: [&rustls::SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Self::Tls12 => &BOTH,
            Self::Tls13 => &BOTH[..1],
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WrittenListener {
    cert: Option<W<PathBuf>>,
    key: Option<W<PathBuf>>,
    #[serde(default)]
    more: Items<Pair>,
    client_ca: Option<W<PathBuf>>,
    client_auth: W<ClientAuth>,
    min_version: W<TlsVersion>,
}

/// A certificate and its key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    cert: Option<W<PathBuf>>,
    key: Option<W<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WrittenTarget {
    ca: Option<W<PathBuf>>,
    system_roots: Option<W<bool>>,
    #[serde(default)]
    pin: Items<W<Pin>>,
    cert: Option<W<PathBuf>>,
    key: Option<W<PathBuf>>,
    server_name: Option<W<String>>,
    min_version: W<TlsVersion>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct WrittenRedis {
    ca: Option<W<PathBuf>>,
    cert: Option<W<PathBuf>>,
    key: Option<W<PathBuf>>,
}

impl Word for Pin {
    fn word(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

words! {
    ClientAuth: "require" => Self::Require, "request" => Self::Request;
    TlsVersion: "1.2" => Self::Tls12, "1.3" => Self::Tls13;
}

const PIN: Kind = Kind::Scalar(&Scalar::new::<Pin>(
    "a pin",
    Json::Pattern(r"^sha256/[A-Za-z0-9+/=]+$"),
    "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
));
const PEM_FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("the path of a PEM file", Json::Text, "/run/secrets/redis/ca.crt"));
const FILE: Kind = Kind::Scalar(&Scalar::new::<PathBuf>("a file", Json::Text, "/etc/outrigger/tls.crt"));
const CLIENT_AUTH: Kind =
    Kind::Scalar(&Scalar::new::<ClientAuth>("`require` or `request`", Json::Words(&["require", "request"]), "request"));
const TLS_VERSION: Kind = Kind::Scalar(&Scalar::new::<TlsVersion>("`1.2` or `1.3`", Json::NumberOr("^1[.][23]$"), "1.3"));

const CERT: Key = Key::new("cert", FILE, "PEM file: the certificate, then its intermediates.").eg("/etc/outrigger/tls.crt");
const PRIVATE_KEY: Key = Key::new("key", FILE, "PEM file: the certificate's private key, not encrypted.").eg("/etc/outrigger/tls.key");
const MIN_VERSION: Key = Key::new("min_version", TLS_VERSION, "Oldest version that is spoken.").default("1.2").eg("1.3");

static MORE: Table = Table::new(
    "tls.more",
    "A further certificate, shown to clients that ask for one of its names (SNI).",
    &[CERT.required(), PRIVATE_KEY.required()],
);

static LISTENER_TLS: Table = Table::new(
    "tls",
    "TLS of a listener, with HTTP/2 and HTTP/1.1 (ALPN). Files are watched: new content serves new connections, open ones stay.",
    &[
        CERT.required(),
        PRIVATE_KEY.required(),
        Key::new("more", Kind::List(&Kind::Table(&MORE)), "Further certificates. Clients that ask for an unknown name get the first."),
        Key::new("client_ca", FILE, "PEM file: authorities of clients' certificates (mTLS); the certificate's name can be the `caller`.")
            .eg("/etc/outrigger/clients.crt"),
        Key::new("client_auth", CLIENT_AUTH, "Whether clients must show a certificate.").default("require").eg("request"),
        MIN_VERSION,
    ],
);

static TARGET_TLS: Table = Table::new(
    "target tls",
    "TLS towards an https target. Its certificate is always verified: by authorities and name, or by its key.",
    &[
        Key::new("ca", FILE, "PEM file: authorities of the target's certificate, instead of the system's.").eg("/etc/outrigger/ca.crt"),
        Key::new("system_roots", BOOL, "The system's authorities count beside `ca`.").says("false where `ca` or `pin` is written").eg("true"),
        Key::new(
            "pin",
            Kind::OneOrMany(&PIN),
            "Keys of which the target's certificate must hold one, instead of being signed by an authority: for self-signed ones. Names and \
             dates do not count then. With `ca` or `system_roots: true` beside it, both must hold.",
        )
        .eg("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        CERT,
        PRIVATE_KEY,
        Key::new("server_name", TEXT, "The name that the target's certificate must be for.").says("the URL's host").eg("models.internal"),
        MIN_VERSION,
    ],
)
.needs(&[("cert", "key"), ("key", "cert")])
.foreign(&[
    ("insecure", "there is no way to leave out verification; write the target's authority in `ca`, or the `pin` of its key"),
    ("insecure_skip_verify", "there is no way to leave out verification; write the target's authority in `ca`, or the `pin` of its key"),
    ("verify", "verification is always on; write the target's authority in `ca`, or the `pin` of its key"),
    ("fingerprint", "write `pin`"),
    ("pins", "write `pin`"),
]);

/// Of a listener.
pub(in crate::config) const TLS: Key = Key::new("tls", Kind::Table(&LISTENER_TLS), "TLS with clients. Absent: clear text.")
    .eg("{cert: /etc/outrigger/tls.crt, key: /etc/outrigger/tls.key}");

/// Of a target.
pub(in crate::config) const fn target_tls(name: &'static str) -> Key {
    Key::new(name, Kind::Table(&TARGET_TLS), "TLS with it, where its URL is https.").eg("{ca: /etc/outrigger/ca.crt}")
}

pub(in crate::config) static REDIS: Table = Table::new(
    "store.redis_tls",
    "TLS towards Redis (`rediss://`, `rediss-sentinel://`, `rediss-cluster://`). Files are watched; connections made after a change use what they then hold.",
    &[
        Key::new("ca", PEM_FILE, "Certificates of the authorities that sign Redis' certificate; without it, those of the system.")
            .eg("/run/secrets/redis/ca.crt"),
        Key::new("cert", PEM_FILE, "Client certificate with its chain, for a Redis that asks for one; needs `key`.")
            .eg("/run/secrets/redis/tls.crt"),
        Key::new("key", PEM_FILE, "Private key of `cert`.").eg("/run/secrets/redis/tls.key"),
    ],
)
.needs(&[("cert", "key"), ("key", "cert")]);

/// Largest PEM file, in bytes. The roots of a whole system are a quarter of it.
const MAX_PEM: u64 = 1 << 20;

type File = Option<W<PathBuf>>;

/// The `tls` block of the listener at `path`.
pub(in crate::config) fn listener(build: &mut Build<'_>, path: &str, written: Option<WrittenListener>) -> Option<ListenerTls> {
    let written = written?;
    let mut identities = Vec::new();
    identities.extend(identity(build, path, written.cert, written.key));
    for (n, pair) in written.more.into_iter().enumerate().filter_map(|(n, pair)| Some((n, pair?))) {
        identities.extend(identity(build, &format!("{path}.more[{n}]"), pair.cert, pair.key));
    }
    let client_auth = &format!("{path}.client_auth");
    if written.client_ca.is_none() && build.seen.written(client_auth) && !build.seen.broken(&format!("{path}.client_ca")) {
        let message = "`client_auth` needs `client_ca`, the file with the authorities of clients' certificates";
        build.fault(build.seen.key(client_auth), message);
    }
    Some(ListenerTls {
        identities,
        client_ca: written.client_ca.and_then(|file| authorities(build, &format!("{path}.client_ca"), &file.0)),
        client_auth: written.client_auth.0,
        min_version: written.min_version.0,
    })
}

/// The block at `path` with the TLS of the target at `url`.
pub(in crate::config) fn target(build: &mut Build<'_>, path: &str, written: Option<WrittenTarget>, url: Option<&Origin>) -> TargetTls {
    let Some(written) = written else { return TargetTls::default() };
    if let Some(url) = url.filter(|url| url.scheme == Scheme::Http) {
        let message = format!("`{url}` is not https, so none of this would apply; write the URL with https://");
        build.fault(build.seen.key(path), message);
    }
    let ca = written.ca.and_then(|file| authorities(build, &format!("{path}.ca"), &file.0));
    let server_name = written.server_name.and_then(|name| match ServerName::try_from(name.0.clone()) {
        Ok(good) => Some(good),
        Err(_) => {
            let message = format!("{} is not a host name or address", quoted(&name.0));
            build.fault(build.seen.value(&format!("{path}.server_name")), message);
            None
        }
    });
    let pins: Vec<_> = written.pin.into_iter().flatten().map(|pin| pin.0).collect();
    let roots = &format!("{path}.system_roots");
    let instead = ca.is_some() || !pins.is_empty() || build.seen.broken(&format!("{path}.ca")) || build.seen.broken(&format!("{path}.pin"));
    if build.seen.written(roots) && !instead {
        build.fault(build.seen.key(roots), "`system_roots` needs `ca` or `pin`: without them the system's authorities count anyway");
    }
    TargetTls {
        system_roots: written.system_roots.map_or(ca.is_none() && pins.is_empty(), |on| on.0),
        pins,
        ca: ca.unwrap_or_default(),
        identity: identity(build, path, written.cert, written.key),
        server_name,
        min_version: written.min_version.0,
    }
}

/// `store.redis_tls`.
pub(in crate::config) fn redis(build: &mut Build<'_>, written: WrittenRedis, url: Option<&W<RedisUrl>>) -> RedisTls {
    let path = "store.redis_tls";
    if let Some(url) = url
        && !url.0.0.reveal().starts_with("rediss")
    {
        let message = "`redis_tls` means nothing without TLS: begin the URL with `rediss://`, `rediss-sentinel://` or `rediss-cluster://`";
        build.fault(build.seen.key(path), message);
    }
    let ca = written.ca.and_then(|file| authorities(build, &format!("{path}.ca"), &file.0));
    RedisTls { ca, identity: identity(build, path, written.cert, written.key) }
}

fn identity(build: &mut Build<'_>, path: &str, cert: File, key: File) -> Option<Identity> {
    // The walk has reported what is missing.
    let (cert, key) = (cert?.0, key?.0);
    let chain = pem(build, &format!("{path}.cert"), &cert);
    let secret = pem(build, &format!("{path}.key"), &key);
    let read = Identity::read(&build.files.path(&cert), &chain?, &build.files.path(&key), &secret?);
    read.map_err(|message| build.fault(build.seen.value(&format!("{path}.cert")), message)).ok()
}

fn authorities(build: &mut Build<'_>, path: &str, file: &Path) -> Option<Authorities> {
    let text = pem(build, path, file)?;
    let read = tls::certificates(&build.files.path(file), &text).map(Authorities);
    read.map_err(|message| build.fault(build.seen.value(path), message)).ok()
}

fn pem(build: &mut Build<'_>, path: &str, file: &Path) -> Option<Vec<u8>> {
    build.files.read(file, MAX_PEM).map_err(|message| build.fault(build.seen.value(path), message)).ok()
}
