//! Access to the admin door: the `Host` that a request names, and the token that allows changes.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};

use super::Settings;

/// Whether `Host` names this listener: a loopback name or address, or the address of the connection. A page loaded under a
/// foreign name (DNS rebinding) sends that name here.
pub(super) fn believes_host(headers: &HeaderMap, came_to: SocketAddr) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
        return false;
    };
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        let address = address.to_canonical();
        return address.is_loopback() || address == came_to.ip().to_canonical();
    }
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether a browser sends this request for a page of another site: the page cannot read the answer, and can fill the door. A person may
/// still follow a link to the page at `/`. A browser names itself in `Sec-Fetch-Site` (W3C Fetch Metadata, section 2); every
/// `*.localhost` is a name that the door believes, and a site of its own.
pub(super) fn is_for_another_site(headers: &HeaderMap, path: &str) -> bool {
    let is = |name: &str, value: &str| headers.get_all(name).iter().any(|field| field.as_bytes() == value.as_bytes());
    let foreign = is("sec-fetch-site", "cross-site") || is("sec-fetch-site", "same-site");
    foreign && !(path == "/" && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document"))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// Whether the request carries the admin token. The comparison takes constant time over hashes: timing tells neither the bytes
/// nor the length of the token.
pub(super) fn has_token(headers: &HeaderMap, settings: &Settings) -> bool {
    let Some(token) = settings.token.as_ref().map(|token| token.reveal()).filter(|token| !token.is_empty()) else {
        return false;
    };
    let value = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, given)) = value.split_first_chunk::<7>() else {
        return false;
    };
    let (given, token) = (blake3::hash(given), blake3::hash(token.as_bytes()));
    scheme.eq_ignore_ascii_case(b"Bearer ") && aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), token.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_our_own_names_are_believed() {
        let came_to = "10.0.0.7:9901".parse().expect("address");
        for (host, expected) in [
            ("localhost:9901", true),
            ("LOCALHOST.", true),
            ("a.localhost", true),
            ("127.0.0.1", true),
            ("127.9.9.9:1", true),
            ("[::1]:9901", true),
            ("10.0.0.7:9901", true),
            ("metrics.internal:9901", false),
            ("10.0.0.8", false),
            ("evil.example", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
            assert_eq!(believes_host(&headers, came_to), expected, "{host}");
        }
        assert!(!believes_host(&HeaderMap::new(), came_to), "none at all");
        let mut two = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("localhost"))]);
        two.append(header::HOST, HeaderValue::from_static("evil.example"));
        assert!(!believes_host(&two, came_to), "two say nothing");
    }

    #[test]
    fn a_page_of_another_site_gets_nothing_and_a_link_leads_to_the_page() {
        let is_foreign = |site: &'static str, mode: &'static str, dest: &'static str, path| {
            let fields = [("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
            let set = fields.into_iter().filter(|(_, value)| !value.is_empty());
            let field = |(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value));
            is_for_another_site(&set.map(field).collect(), path)
        };
        for (site, mode, dest, path, expected) in [
            ("", "", "", "/api/live", false),
            ("same-origin", "cors", "empty", "/api/live", false),
            ("none", "navigate", "document", "/", false),
            ("none", "navigate", "document", "/metrics", false),
            ("cross-site", "no-cors", "empty", "/api/live", true),
            ("same-site", "no-cors", "empty", "/api/live", true),
            ("cross-site", "navigate", "document", "/", false),
            ("cross-site", "navigate", "document", "/metrics", true),
            ("cross-site", "navigate", "iframe", "/", true),
            ("cross-site", "no-cors", "document", "/", true),
            ("cross-site", "", "", "/", true),
        ] {
            assert_eq!(is_foreign(site, mode, dest, path), expected, "{site} {mode} {dest} {path}");
        }
    }

    #[test]
    fn the_token_must_be_set_and_equal() {
        for (token, given, expected) in [
            (Some("s3cret"), "Bearer s3cret", true),
            (Some("s3cret"), "bearer s3cret", true),
            (Some("s3cret"), "Bearer s3cretx", false),
            (Some("s3cret"), "Basic s3cret", false),
            (Some("s3cret"), "s3cret", false),
            (Some(""), "Bearer ", false),
            (None, "Bearer ", false),
        ] {
            let settings = Settings { token: token.map(Secret::new), ..Settings::default() };
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(given))]);
            assert_eq!(has_token(&headers, &settings), expected, "{given}");
        }
    }
}
