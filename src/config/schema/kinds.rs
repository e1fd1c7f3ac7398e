//! The kinds of words, with what an editor can know of them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::{HeaderName, Method};

use super::{Json, Kind, Scalar};
use crate::config::{
    Api, CallerSource, ClientAuth, Glob, LogFormat, Metering, Operation, Origin, PathPattern, Pin, Protocol, Secret, TlsVersion,
    scalars::{Bytes, Count, Field, Host, Name, Namespace, Nets, OrOff, OtlpUrl, ProviderName, RedisUrl, Share, Target, Usd},
};

const TIME: &str = r"^([0-9]+ ?[A-Za-z]+ ?)+$|^0$";
const SIZE: &str = r"^[0-9.]+ ?[KMGTkmgt]?i?[Bb]?$";
const COUNT: &str = r"^[0-9][0-9_]*(\.[0-9]+)?[kKmMgG]?$";
const MONEY: &str = r"^[0-9][0-9_]*(\.[0-9]{1,9})?$";
const LISTEN: &str = r"^.+:[0-9]+$";

macro_rules! scalars {
    ($($upper:ident = $scalar:expr;)+) => {$(
        pub(in crate::config) const $upper: Kind = {
            static SCALAR: Scalar = $scalar;
            Kind::Scalar(&SCALAR)
        };
    )+};
}

scalars! {
    TEXT = Scalar::new::<String>("a text", Json::Text, "text");
    TAG = Scalar::new::<Name>("a tag", Json::Text, "catalog");
    NAME = Scalar::new::<Name>("a name", Json::Pattern(r"^[A-Za-z0-9_./:+-]{1,64}$"), "my-name");
    SECRET = Scalar::new::<Secret>("a secret", Json::Text, "\"${SECRET:-}\"").secret();
    REDIS = Scalar::new::<RedisUrl>("a Redis URL", Json::Text, "\"redis://redis:6379\"").secret();
    BOOL = Scalar::new::<bool>("true or false", Json::Bool, "true");
    COUNT_OF = Scalar::new::<Count>("a count", Json::NumberOr(COUNT), "100");
    SIZE_OF = Scalar::new::<Bytes>("a size", Json::NumberOr(SIZE), "8MiB");
    SIZE_OR_OFF = Scalar::new::<OrOff<Bytes>>("a size or `off`", Json::NumberOr(r"^off$|^[0-9.]+ ?[KMGTkmgt]?i?[Bb]?$"), "8MiB");
    TIME_OF = Scalar::new::<Duration>("a duration", Json::Pattern(TIME), "60s");
    TIME_OR_OFF = Scalar::new::<OrOff<Duration>>("a duration or `off`", Json::Pattern(r"^off$|^([0-9]+ ?[A-Za-z]+ ?)+$|^0$"), "60s");
    DOLLARS = Scalar::new::<Usd>("an amount of dollars", Json::NumberOr(MONEY), "0.50");
    SHARE = Scalar::new::<Share>("a fraction", Json::Number, "0.5");
    ADDRESS = Scalar::new::<SocketAddr>("an address to listen on", Json::Pattern(LISTEN), "127.0.0.1:8081");
    ADDRESS_OR_OFF = Scalar::new::<OrOff<SocketAddr>>("an address to listen on or `off`", Json::Pattern(r"^off$|^.+:[0-9]+$"), "127.0.0.1:9901");
    PIN = Scalar::new::<Pin>("a pin", Json::Pattern(r"^sha256/[A-Za-z0-9+/=]+$"), "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    PEM_FILE = Scalar::new::<PathBuf>("the path of a PEM file", Json::Text, "/run/secrets/redis/ca.crt");
    PATH_OR_OFF = Scalar::new::<OrOff<PathBuf>>("a path or `off`", Json::Text, "/run/outrigger.sock");
    URL = Scalar::new::<Origin>("a URL", Json::Pattern(r"^https?://[^ ]+$"), "\"http://models.internal/v1\"").no_dollar();
    APP = Scalar::new::<Origin>("a URL or a port of this machine", Json::NumberOr(r"^https?://[^ ]+$|^[0-9]+$"), "http://127.0.0.1:3000").no_dollar();
    OTLP = Scalar::new::<OtlpUrl>("a URL", Json::Pattern(r"^https?://[^ ]+$"), "\"http://collector:4318\"").no_dollar();
    NETS = Scalar::new::<Nets>("a CIDR, `private` or `loopback`", Json::Text, "private");
    PATH_PATTERN = Scalar::new::<PathPattern>("a path pattern", Json::Pattern(r"^/[^?# ]*$"), "/api/**");
    TARGET = Scalar::new::<Target>("a path", Json::Pattern(r"^/[^# ]*$"), "/products");
    TEXT_FILE = Scalar::new::<PathBuf>("the path of a file", Json::Text, "/etc/outrigger/warm.txt");
    HOST = Scalar::new::<Host>("a host name", Json::Text, "example.com");
    MODEL = Scalar::new::<Glob>("a model name, `*` for any characters", Json::Text, "\"gpt-*\"");
    METHOD = Scalar::new::<Method>("a method", Json::Pattern("^[A-Z-]+$"), "GET");
    FIELD = Scalar::new::<Field>("a header value", Json::Text, "text/plain");
    SECRET_FIELD = Scalar::new::<Field>("a header value", Json::Text, "\"${OTLP_TOKEN:-none}\"").secret();
    NAMESPACE = Scalar::new::<Namespace>("a namespace", Json::Pattern("^[A-Za-z0-9_.-]{1,64}$"), "shop");
    API = Scalar::new::<Api>("an API", Json::Words(&["openai", "anthropic", "gemini", "bedrock", "plain"]), "openai");
    OPERATION = Scalar::new::<Operation>(
        "an operation",
        Json::Words(&["chat", "responses", "messages", "completions", "embeddings", "images", "audio", "models", "other"]),
        "chat"
    );
    METERING = Scalar::new::<Metering>("`exact` or `as_sent`", Json::Words(&["exact", "as_sent"]), "exact");
    LOG = Scalar::new::<LogFormat>("`json`, `text` or `off`", Json::Words(&["json", "text", "off"]), "text");
    CALLER = Scalar::new::<CallerSource>(
        "`client_ip`, `client_cert` or `header:NAME`",
        Json::Pattern("^(client_ip|client_cert|header:.+)$"),
        "client_ip"
    );
    FILE = Scalar::new::<PathBuf>("a file", Json::Text, "/etc/outrigger/tls.crt");
    PROTOCOL = Scalar::new::<Protocol>("`auto`, `http1` or `http2`", Json::Words(&["auto", "http1", "http2"]), "http2");
    CLIENT_AUTH = Scalar::new::<ClientAuth>("`require` or `request`", Json::Words(&["require", "request"]), "request");
    TLS_VERSION = Scalar::new::<TlsVersion>("`1.2` or `1.3`", Json::NumberOr("^1[.][23]$"), "1.3");
}

/// Names on the left of a map.
pub(in crate::config) static PROVIDER_NAME: Scalar =
    Scalar::new::<ProviderName>("a provider name", Json::Pattern("^[a-z0-9_-]{1,64}$"), "openai");
/// Names on the left of a map.
pub(in crate::config) static FIELD_NAME: Scalar =
    Scalar::new::<HeaderName>("a header name", Json::Pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), "x-beta");
