//! TLS, towards clients and towards targets.

use super::{Key, Kind, Table, kinds::*};

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
pub(super) const TLS: Key = Key::new("tls", Kind::Table(&LISTENER_TLS), "TLS with clients. Absent: clear text.")
    .eg("{cert: /etc/outrigger/tls.crt, key: /etc/outrigger/tls.key}");

/// Of a target.
pub(super) const fn target_tls(name: &'static str) -> Key {
    Key::new(name, Kind::Table(&TARGET_TLS), "TLS with it, where its URL is https.").eg("{ca: /etc/outrigger/ca.crt}")
}

/// How many connections a target may have.
pub(super) const fn max_connections(name: &'static str) -> Key {
    Key::new(
        name,
        COUNT_OF,
        "Most connections to it, over all workers, tunnels and idle ones included. Up to 1,024 requests wait for one, for \
         `timeouts.connect` at most; beyond it 503.",
    )
    .within("1", "1M")
    .default("10k")
    .eg("200")
}

/// What is spoken with a target.
pub(super) const fn protocol(name: &'static str) -> Key {
    Key::new(name, PROTOCOL, "HTTP version: `auto` is the target's choice over TLS and HTTP/1.1 in clear; gRPC needs HTTP/2.")
        .default("auto")
        .eg("http2")
}
