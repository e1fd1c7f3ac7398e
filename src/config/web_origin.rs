//! Web origins as browsers send them (RFC 6454 section 7), and patterns of them.

use std::fmt;

use super::{error::quoted, scalars::Word};

/// A pattern of web origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebOrigin {
    /// `*`: every origin.
    Any,
    /// `null`: a page without an origin of its own, such as a sandboxed frame or a file.
    Null,
    /// A scheme, a host and a port, each of which may be a pattern.
    Of {
        /// In lower case.
        scheme: Box<str>,
        /// The host.
        host: HostPattern,
        /// The port; `None`: every port.
        port: Option<u16>,
    },
}

/// A pattern of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// This host, in lower case.
    Exact(Box<str>),
    /// Every host below this one: `*.shop.example` is `a.shop.example` and `b.a.shop.example`, not `shop.example`.
    Below(Box<str>),
}

/// An origin as a browser has sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent<'a> {
    scheme: &'a str,
    host: &'a str,
    port: u16,
}

impl<'a> Sent<'a> {
    /// The parts of an origin, or of the URL of a page (`Referer`) with `page`; `None`: it is none, such as `null`.
    pub fn read(text: &'a str, page: bool) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let authority = match rest.find(['/', '?', '#']) {
            Some(end) if page => &rest[..end],
            Some(_) => return None,
            None => rest,
        };
        let (host, port) = split_port(authority)?;
        let port = match port {
            Some(port) => port.parse().ok()?,
            None => usual_port(scheme)?,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
        (!host.is_empty() && host.bytes().all(plain)).then_some(Self { scheme, host, port })
    }

    /// Whether the `Host` of a request names this origin's host and port. The scheme does not count: TLS may end before the proxy.
    pub fn is_at(self, host: &str) -> bool {
        let Some((name, port)) = split_port(host) else { return false };
        let port = match port {
            Some(port) => port.parse().ok(),
            None => usual_port(self.scheme),
        };
        self.host.eq_ignore_ascii_case(name) && port == Some(self.port)
    }
}

impl fmt::Display for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

#[cfg(test)]
impl WebOrigin {
    /// The origin of this scheme and host, at the usual port.
    pub fn exactly(scheme: &str, host: &str) -> Self {
        Self::Of { scheme: scheme.into(), host: HostPattern::Exact(host.into()), port: usual_port(scheme) }
    }
}

impl WebOrigin {
    /// Whether the origin that a browser has sent is one of these.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Null => origin == "null",
            Self::Of { scheme, host, port } => Sent::read(origin, false).is_some_and(|sent| {
                sent.scheme.eq_ignore_ascii_case(scheme) && host.matches(sent.host) && port.is_none_or(|port| port == sent.port)
            }),
        }
    }

    /// Whether the pattern takes origins that nobody has named: `*`, `null`, and every host below a top-level domain.
    pub fn is_everybody(&self) -> bool {
        match self {
            Self::Any | Self::Null => true,
            Self::Of { host: HostPattern::Below(name), .. } => !name.contains('.') && **name != *"localhost",
            Self::Of { .. } => false,
        }
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Below(name) => host.len().checked_sub(name.len() + 1).is_some_and(|dot| {
                dot > 0 && host.as_bytes()[dot] == b'.' && host.as_bytes()[dot + 1..].eq_ignore_ascii_case(name.as_bytes())
            }),
        }
    }
}

impl Word for WebOrigin {
    fn word(text: &str) -> Result<Self, String> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let likely =
                if text.contains(['/', ' ', ':']) || text.is_empty() { String::new() } else { format!("; did you mean `https://{text}`?") };
            return Err(format!("{} is no web origin{likely}{FORMS}", quoted(text)));
        };
        if let Some(end) = rest.find(['/', '?', '#']) {
            return Err(format!("{} has a path, and an origin has none; write `{scheme}://{}`", quoted(text), &rest[..end]));
        }
        let wrong = || format!("{} is no web origin{FORMS}", quoted(text));
        let (host, port) = split_port(rest).ok_or_else(wrong)?;
        let port = match port {
            Some("*") => None,
            Some(port) => Some(port.parse().map_err(|_| wrong())?),
            None => Some(usual_port(scheme).ok_or_else(|| format!("{} needs a port: only http and https have a usual one", quoted(text)))?),
        };
        let host = host.to_ascii_lowercase();
        let host = match host.strip_prefix("*.") {
            Some(below) => HostPattern::Below(below.into()),
            None => HostPattern::Exact(host.into()),
        };
        let name = match &host {
            HostPattern::Exact(name) | HostPattern::Below(name) => name,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']');
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) && !scheme.is_empty();
        if name.is_empty() || !name.bytes().all(plain) || !is_scheme {
            return Err(wrong());
        }
        Ok(Self::Of { scheme: scheme.to_ascii_lowercase().into(), host, port })
    }
}

const FORMS: &str = "; write `https://app.example`, `https://*.shop.example`, `http://localhost:*`, `null` or `*`";

impl fmt::Display for WebOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Null => f.write_str("null"),
            Self::Of { scheme, host, port } => {
                match host {
                    HostPattern::Exact(name) => write!(f, "{scheme}://{name}")?,
                    HostPattern::Below(name) => write!(f, "{scheme}://*.{name}")?,
                }
                match port {
                    None => f.write_str(":*"),
                    Some(port) if usual_port(scheme) == Some(*port) => Ok(()),
                    Some(port) => write!(f, ":{port}"),
                }
            }
        }
    }
}

/// Host and port of an authority without user information; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let after_host = if authority.starts_with('[') { authority.find(']')? + 1 } else { authority.find(':').unwrap_or(authority.len()) };
    let (host, port) = authority.split_at(after_host);
    match port.strip_prefix(':') {
        Some(port) => (!port.is_empty()).then_some((host, Some(port))),
        None => port.is_empty().then_some((host, None)),
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") => Some(443),
        _ if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("ws") => Some(80),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> WebOrigin {
        WebOrigin::word(text).expect("an origin")
    }

    #[test]
    fn patterns_take_what_they_name_and_nothing_beside_it() {
        for (written, origin, expected) in [
            ("https://app.example", "https://app.example", true),
            ("https://app.example", "https://APP.example:443", true),
            ("https://app.example", "http://app.example", false),
            ("https://app.example", "https://app.example:8443", false),
            ("https://app.example", "https://app.example.evil.test", false),
            ("https://*.shop.example", "https://a.shop.example", true),
            ("https://*.shop.example", "https://b.a.shop.example", true),
            ("https://*.shop.example", "https://shop.example", false),
            ("https://*.shop.example", "https://evilshop.example", false),
            ("https://*.shop.example", "https://evil.test/.shop.example", false),
            ("https://*.shop.example", "https://evil.test#.shop.example", false),
            ("https://*.shop.example", "https://u@a.shop.example", false),
            ("https://*.shop.example", "https://.shop.example", false),
            ("http://localhost:*", "http://localhost:5173", true),
            ("http://localhost:*", "http://localhost", true),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("null", "null", true),
            ("https://app.example", "null", false),
            ("*", "https://anybody.test", true),
            ("app-scheme://host:1", "app-scheme://host:1", true),
        ] {
            assert_eq!(pattern(written).matches(origin), expected, "{written} {origin}");
        }
    }

    #[test]
    fn what_is_no_origin_is_told_what_would_be_right() {
        for (written, said) in [
            ("app.example", "did you mean `https://app.example`?"),
            ("https://app.example/", "has a path, and an origin has none; write `https://app.example`"),
            ("https://a b", "is no web origin"),
            ("https://", "is no web origin"),
            ("https://a:99999", "is no web origin"),
            ("https://u@a", "is no web origin"),
            ("custom://a", "needs a port"),
        ] {
            let error = WebOrigin::word(written).expect_err("refused");
            assert!(error.contains(said), "{written}: {error}");
        }
    }

    #[test]
    fn a_host_is_the_origins_own_with_the_usual_port_or_without() {
        for (origin, host, expected) in [
            ("https://a.example", "a.example", true),
            ("https://a.example", "A.example:443", true),
            ("https://a.example", "a.example:80", false),
            ("http://a.example:8080", "a.example:8080", true),
            ("http://a.example:8080", "a.example", false),
            ("https://[::1]:8443", "[::1]:8443", true),
            ("https://b.example", "a.example", false),
        ] {
            assert_eq!(Sent::read(origin, false).expect("an origin").is_at(host), expected, "{origin} {host}");
        }
        assert!(Sent::read("https://a.example/path?q", true).expect("a page").is_at("a.example"));
        assert_eq!(Sent::read("null", false), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(scheme in "https?", below: bool, name in "[a-z]{1,8}(\\.[a-z]{1,5}){0,2}", port in prop::option::of(1u16..)) {
            let host = if below { HostPattern::Below(name.into()) } else { HostPattern::Exact(name.into()) };
            let origin = WebOrigin::Of { scheme: scheme.into(), host, port };
            prop_assert_eq!(pattern(&origin.to_string()), origin);
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = WebOrigin::word(&text);
            let _ = Sent::read(&text, true).map(|sent| sent.is_at(&text));
        }
    }
}
