//! Words of the file: how a scalar is read. A word that only one block takes is read in the file of the block.
//!
//! The walk checks a scalar with the same function with which serde builds it: a value that is accepted has a meaning. Errors say what
//! would be right.

mod numbers;
mod words;

use std::{fmt, marker::PhantomData, net::SocketAddr, path::PathBuf};

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::{
    error::quoted,
    values::{Glob, Origin, Secret},
};

pub(super) use numbers::{Bytes, Count, Share, Usd};
pub(super) use words::{no_jwt, one_of, token, unknown, words};

/// A value that is written as one word.
pub(super) trait Word: Sized {
    /// Reads the word; the error says what would be right.
    fn word(text: &str) -> Result<Self, String>;

    /// The amount in the kind's smallest unit. `None`: the kind has no range.
    fn measure(&self) -> Option<u128> {
        None
    }
}

/// A value as written; serde reads it through [`Word`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct W<T>(pub(super) T);

impl<'de, T: Word> Deserialize<'de> for W<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit<T>(PhantomData<T>);
        impl<T: Word> de::Visitor<'_> for Visit<T> {
            type Value = W<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<W<T>, E> {
                T::word(text).map(W).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visit(PhantomData))
    }
}

/// `off`, or a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OrOff<T>(pub(super) Option<T>);

impl<T: Word> Word for OrOff<T> {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => T::word(text).map(|value| Self(Some(value))).map_err(|error| match error.strip_suffix('?') {
                Some(question) => format!("{question}, or `off`?"),
                None => format!("{error}, or `off`"),
            }),
        }
    }

    fn measure(&self) -> Option<u128> {
        self.0.as_ref().and_then(Word::measure)
    }
}

impl Word for String {
    fn word(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Word for Secret {
    fn word(text: &str) -> Result<Self, String> {
        // A secret goes into a header field, which takes no control characters. A line break in a key is a copying slip.
        if text.chars().any(char::is_control) {
            Err("has a line break or another control character inside".into())
        } else {
            Ok(Self::new(text))
        }
    }
}

/// A URL of Redis; may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RedisUrl(pub(super) Secret);

impl Word for RedisUrl {
    fn word(text: &str) -> Result<Self, String> {
        const SCHEMES: [&str; 8] =
            ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel", "redis+unix", "unix"];
        match text.split_once("://") {
            Some((scheme, rest)) if SCHEMES.contains(&scheme) && !rest.is_empty() && !text.contains(char::is_whitespace) => {
                Ok(Self(Secret::new(text)))
            }
            _ => Err("is not a Redis URL; write redis://host:6379, rediss://…, redis-cluster://… or redis-sentinel://…".into()),
        }
    }
}

/// Name of a route or limit: it becomes a label of metrics and a header value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl Word for Name {
    fn word(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+".contains(c);
        if text.len() <= 64 && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{} is not a name; use up to 64 letters, digits and - _ . / : +", quoted(text)))
        }
    }
}

impl Word for SocketAddr {
    fn word(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
            let likely = match port {
                Some(port) if text.starts_with("localhost") => format!("; did you mean `127.0.0.1:{port}`?"),
                Some(port) => format!("; did you mean `0.0.0.0:{port}` (all interfaces) or `127.0.0.1:{port}` (this machine)?"),
                None => "; write address:port, such as `127.0.0.1:8081`".into(),
            };
            format!("{} is not an address to listen on{likely}", quoted(text))
        })
    }
}

impl Word for Origin {
    /// Reads a URL, or a port of this machine: the loopback address at which a program listens.
    fn word(text: &str) -> Result<Self, String> {
        match text.parse::<u16>() {
            Ok(port) if port > 0 => Self::parse(&format!("http://localhost:{port}")),
            _ => Self::parse(text).map_err(|error| match Self::parse(&format!("http://{text}")) {
                Ok(likely) if !text.contains("://") && text.contains([':', '.']) => format!("{error}; did you mean `{likely}`?"),
                _ => error,
            }),
        }
    }
}

/// One word of a CIDR list; `private` and `loopback` stand for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nets(pub(super) Vec<IpNet>);

/// RFC 1918, RFC 6598 (shared, used inside clusters), RFC 4193, and loopback: a proxy on this machine is as private.
const PRIVATE: [&str; 7] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "127.0.0.0/8", "::1/128"];
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];

impl Word for Nets {
    fn word(text: &str) -> Result<Self, String> {
        let list = match text {
            "private" => &PRIVATE[..],
            "loopback" => &LOOPBACK[..],
            _ => {
                if let Ok(net) = text.parse::<IpNet>() {
                    return if net.trunc() == net {
                        Ok(Self(vec![net]))
                    } else {
                        Err(format!("{} has bits beyond its prefix; did you mean `{}`?", quoted(text), net.trunc()))
                    };
                }
                if let Ok(address) = text.parse::<std::net::IpAddr>() {
                    return Ok(Self(vec![IpNet::from(address)]));
                }
                let hint = super::error::did_you_mean(text, ["private", "loopback"]);
                let hint = if hint.is_empty() { "; write 10.0.0.0/8, an address, `private` or `loopback`".into() } else { hint };
                return Err(format!("{} is not a CIDR{hint}", quoted(text)));
            }
        };
        Ok(Self(list.iter().filter_map(|net| net.parse().ok()).collect()))
    }
}

/// A host name, `*` for any run of characters; without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host(pub(super) Glob);

impl Word for Host {
    fn word(text: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.*:".contains(c);
        if text.contains("://") || text.contains('/') || !text.chars().all(plain) {
            return Err(format!("{} is not a host name; write example.com or *.example.com", quoted(text)));
        }
        if text.matches(':').count() == 1 {
            return Err(format!("{} has a port; hosts are compared without", quoted(text)));
        }
        Ok(Self(Glob::new(text.to_ascii_lowercase())))
    }
}

impl Word for Glob {
    fn word(text: &str) -> Result<Self, String> {
        Ok(Self::new(text))
    }
}

impl Word for HeaderName {
    fn word(text: &str) -> Result<Self, String> {
        Self::from_bytes(text.as_bytes()).map_err(|_| format!("{} is not a header name; write letters, digits and `-`", quoted(text)))
    }
}

/// A header value, which may hold a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field(pub(super) HeaderValue);

impl Word for Field {
    fn word(text: &str) -> Result<Self, String> {
        HeaderValue::from_str(text).map(Self).map_err(|_| "has characters that a header value cannot hold".into())
    }
}

impl Word for StatusCode {
    fn word(text: &str) -> Result<Self, String> {
        match text.parse::<u16>() {
            Ok(code @ 200..=599) => Self::from_u16(code).map_err(|error| error.to_string()),
            _ => Err(format!("{} is not a status; write a number from 200 to 599", quoted(text))),
        }
    }
}

impl Word for PathBuf {
    fn word(text: &str) -> Result<Self, String> {
        if text.contains('\0') { Err("is not a path".into()) } else { Ok(Self::from(text)) }
    }
}

impl Word for bool {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("{} is neither `true` nor `false`", quoted(text))),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
