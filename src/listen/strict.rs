//! A request over HTTP/2 is understood in only one way, or refused (RFC 9112 sections 3, 6; RFC 9110 sections 7.2, 7.8).
//!
//! The h2 crate has parsed the head; this module refuses heads that the crate accepts and a proxy must not. A legal head passes
//! untouched. HTTP/1.1 heads are checked in [`crate::http1`]; the rules for them here are the second opinion of tests.

use http::{Method, Uri, Version};

use crate::{
    fields::{claims::folds_to, content_length, has_token},
    http1::{Fields, Id, Name},
    reject::Reject,
};

/// Refuses a head that two parsers could read differently.
pub fn check(method: &Method, uri: &Uri, version: Version, headers: &Fields) -> Result<(), Reject> {
    if method == Method::CONNECT || method == Method::TRACE {
        return Err(Reject::MethodNotAllowed);
    }
    target(method, uri)?;
    host(version, uri, headers)?;
    framing(version, headers)?;
    Ok(())
}

fn target(method: &Method, uri: &Uri) -> Result<(), Reject> {
    match (uri.scheme_str(), uri.authority()) {
        (None, Some(_)) => return bad("the request target is an authority; only CONNECT may send one"),
        (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
            return bad("the request target carries user information");
        }
        (Some("http" | "https"), _) | (None, None) => {}
        (Some(_), _) => return bad("the request target has a scheme other than http and https"),
    }
    if uri.path() == "*" && method != Method::OPTIONS {
        return bad("the request target `*` goes with OPTIONS only");
    }
    if uri.path() != "*" && !uri.path().starts_with('/') {
        return bad("the request target does not begin with a slash");
    }
    Ok(())
}

fn host(version: Version, uri: &Uri, headers: &Fields) -> Result<(), Reject> {
    let mut hosts = headers.all(Id::Host);
    let first = hosts.next();
    if hosts.next().is_some() {
        return bad("more than one Host field");
    }
    match first {
        None if version == Version::HTTP_11 => bad("no Host field"),
        None => Ok(()),
        Some(host) if uri.authority().is_some() && version == Version::HTTP_11 => {
            // Absolute form: the target's authority replaces Host, but Host must still be valid.
            if is_host(host.as_bytes()) || host.is_empty() { Ok(()) } else { bad("the Host field is not a host") }
        }
        Some(host) if is_host(host.as_bytes()) => Ok(()),
        Some(_) => bad("the Host field is not a host"),
    }
}

fn framing(version: Version, headers: &Fields) -> Result<(), Reject> {
    let mut codings = headers.all(Id::TransferEncoding);
    let chunked = match codings.next() {
        None => false,
        Some(first) => {
            if codings.next().is_some() || !first.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return bad("a Transfer-Encoding other than one `chunked`");
            }
            if version == Version::HTTP_10 {
                return bad("Transfer-Encoding in HTTP/1.0");
            }
            true
        }
    };
    let length = content_length(headers).map_err(|why| Reject::BadRequest(why.into()))?;
    if chunked && length.is_some() {
        return bad("both Content-Length and Transfer-Encoding");
    }
    if headers.names().any(is_alias_of_framing) {
        return bad("a field name that some servers read as a framing field");
    }
    // Another upgrade is not passed on: its body is an ordinary one (some clients offer h2c with every request).
    let upgrades =
        headers.has(Id::Upgrade) && has_token(headers, Id::Upgrade, "websocket") && has_token(headers, Id::Connection, "upgrade");
    if upgrades && (chunked || length.is_some_and(|n| n > 0)) {
        return bad("an upgrade with a body");
    }
    Ok(())
}

/// Whether a name is another spelling of a framing field to CGI, WSGI and PHP.
fn is_alias_of_framing(name: Name<'_>) -> bool {
    let alias = |of: Id| name.id() != of && folds_to(name.as_str(), of.name());
    alias(Id::ContentLength) || alias(Id::TransferEncoding)
}

/// Whether the value is `host[:port]` (RFC 3986), without user information.
fn is_host(value: &[u8]) -> bool {
    let (name, port) = match value {
        [b'[', ..] => match value.iter().position(|b| *b == b']') {
            Some(end) => (&value[1..end], &value[end + 1..]),
            None => return false,
        },
        _ => match value.iter().position(|b| *b == b':') {
            Some(colon) => (&value[..colon], &value[colon..]),
            None => (value, &value[value.len()..]),
        },
    };
    let bracketed = value.first() == Some(&b'[');
    let name_ok = !name.is_empty()
        && name.iter().all(|b| match b {
            b':' => bracketed,
            b'%' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => true,
            b => b.is_ascii_alphanumeric(),
        });
    let port_ok = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    name_ok && port_ok
}

fn bad<T>(why: &'static str) -> Result<T, Reject> {
    Err(Reject::BadRequest(why.into()))
}

#[cfg(test)]
mod tests {

    use super::*;

    fn verdict(method: Method, uri: &str, version: Version, fields: &[(&str, &str)]) -> bool {
        let mut headers = Fields::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        check(&method, &uri.parse().expect("uri"), version, &headers).is_ok()
    }

    #[test]
    fn what_is_legal_passes() {
        let v11 = Version::HTTP_11;
        assert!(verdict(Method::GET, "/a?b", v11, &[("host", "a.example:80")]));
        assert!(verdict(Method::GET, "http://a/", v11, &[("host", "b")]));
        assert!(verdict(Method::OPTIONS, "*", v11, &[("host", "a")]));
        assert!(verdict(Method::GET, "/", Version::HTTP_10, &[]));
        assert!(verdict(Method::POST, "/", v11, &[("host", "[::1]:80"), ("content-length", "005")]));
        assert!(verdict(Method::POST, "/", v11, &[("host", "a"), ("transfer-encoding", "Chunked")]));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        let v11 = Version::HTTP_11;
        for (uri, fields) in [
            ("/", &[][..]),
            ("/", &[("host", "a"), ("host", "a")]),
            ("/", &[("host", "")]),
            ("/", &[("host", "u@h")]),
            ("/", &[("host", "a,b")]),
            ("/", &[("host", "a b")]),
            ("http://u:p@h/", &[("host", "h")]),
            ("ftp://h/", &[("host", "h")]),
            ("*", &[("host", "h")]),
            ("/", &[("host", "h"), ("content-length", "1"), ("transfer-encoding", "chunked")]),
            ("/", &[("host", "h"), ("transfer-encoding", "gzip, chunked")]),
            ("/", &[("host", "h"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]),
            ("/", &[("host", "h"), ("content-length", "1, 2")]),
            ("/", &[("host", "h"), ("content_length", "1")]),
            ("/", &[("host", "h"), ("content.length", "1")]),
            ("/", &[("host", "h"), ("transfer_encoding", "chunked")]),
            ("/", &[("host", "h"), ("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "3")]),
        ] {
            assert!(!verdict(Method::GET, uri, v11, fields), "{uri} {fields:?}");
        }
        assert!(!verdict(Method::TRACE, "/", v11, &[("host", "h")]));
        assert!(!verdict(Method::POST, "/", Version::HTTP_10, &[("transfer-encoding", "chunked")]));
    }
}
