//! Kinds of words that several blocks take, each with its form for editors.

use std::{net::SocketAddr, time::Duration};

use http::HeaderName;

use super::{Json, Kind, Scalar};
use crate::config::{
    Glob, Secret, WebOrigin,
    scalars::{Bytes, Count, Field, Host, Name, Nets, OrOff, Share, Usd},
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
    BOOL = Scalar::new::<bool>("true or false", Json::Bool, "true");
    COUNT_OF = Scalar::new::<Count>("a count", Json::NumberOr(COUNT), "100");
    SIZE_OF = Scalar::new::<Bytes>("a size", Json::NumberOr(SIZE), "8MiB");
    SIZE_OR_OFF = Scalar::new::<OrOff<Bytes>>("a size or `off`", Json::NumberOr(r"^off$|^[0-9.]+ ?[KMGTkmgt]?i?[Bb]?$"), "8MiB");
    TIME_OF = Scalar::new::<Duration>("a duration", Json::Pattern(TIME), "60s");
    TIME_OR_OFF = Scalar::new::<OrOff<Duration>>("a duration or `off`", Json::Pattern(r"^off$|^([0-9]+ ?[A-Za-z]+ ?)+$|^0$"), "60s");
    DOLLARS = Scalar::new::<Usd>("an amount of dollars", Json::NumberOr(MONEY), "0.50");
    SHARE = Scalar::new::<Share>("a fraction", Json::Number, "0.5");
    ADDRESS = Scalar::new::<SocketAddr>("an address to listen on", Json::Pattern(LISTEN), "127.0.0.1:8081");
    NETS = Scalar::new::<Nets>("a CIDR, `private` or `loopback`", Json::Text, "private");
    HOST = Scalar::new::<Host>("a host name", Json::Text, "example.com");
    WEB_ORIGIN = Scalar::new::<WebOrigin>("a web origin", Json::Pattern(r"^(\*|null|[A-Za-z0-9+.-]+://[^/ ]+)$"), "\"https://app.example\"");
    MODEL = Scalar::new::<Glob>("a model name, `*` for any characters", Json::Text, "\"gpt-*\"");
    GLOB = Scalar::new::<Glob>("a name, `*` for any characters", Json::Text, "\"api-*\"");
    FIELD = Scalar::new::<Field>("a header value", Json::Text, "text/plain");
}

/// A name, on the left of a map.
pub(in crate::config) static NAME_OF_MAP: Scalar = Scalar::new::<Name>("a name", Json::Pattern(r"^[A-Za-z0-9_./:+-]{1,64}$"), "my-name");

/// The name of a header, on the left of a map.
pub(in crate::config) static FIELD_NAME: Scalar =
    Scalar::new::<HeaderName>("a header name", Json::Pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"), "x-beta");
