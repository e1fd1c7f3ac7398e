//! Cross-site request forgery, refused without tokens. Pure.
//!
//! The decision is that of OWASP's cheat sheet of 2026 and of Go's `http.CrossOriginProtection`: `Sec-Fetch-Site` first, `Origin` against
//! `Host` else, then `Referer`. A request that has none of them was sent by no browser. A word in `Sec-Fetch-Site` that no standard knows
//! decides nothing, but says that a browser has sent it. A WebSocket counts as unsafe: its handshake is a
//! GET with the user's cookies, and no browser asks first.

use http::Method;

use crate::{
    config::Sent,
    http1::{Fields, Id},
};

/// Why the request may not pass; `None`: it may. `hosts`: the names by which the client knows the app. `exempt`: its path is one that
/// every page may ask. `is_trusted`: whether the pages of another origin may do so.
pub fn refusal<'a>(
    is_trusted: impl Fn(&str) -> bool,
    method: &Method,
    headers: &Fields,
    hosts: impl Iterator<Item = &'a str> + Clone,
    websocket: bool,
    exempt: bool,
) -> Option<&'static str> {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) && !websocket;
    if safe || exempt {
        return None;
    }
    let mut origins = headers.all(Id::Origin);
    let origin = origins.next().map(|origin| origin.to_str().unwrap_or("?"));
    if origins.next().is_some() {
        return Some("the request has two origins (csrf)");
    }
    if origin.is_some_and(&is_trusted) {
        return None;
    }
    let is_own = |sent: Option<Sent<'_>>| sent.is_some_and(|sent| hosts.clone().any(|host| sent.is_at(host)));
    let mut sites = headers.all("sec-fetch-site");
    let site = sites.next().map(|site| site.to_str().unwrap_or("?")).map(|site| if sites.next().is_some() { "?" } else { site });
    match site {
        Some("same-origin" | "none") => return None,
        Some("cross-site") => return Some("a page of another site made the browser send this (Sec-Fetch-Site; csrf.trusted_origins)"),
        Some("same-site") => return Some("a page of a sister site made the browser send this (Sec-Fetch-Site; csrf.trusted_origins)"),
        Some(_) | None => {}
    }
    if let Some(origin) = origin {
        let own = is_own(Sent::read(origin, false));
        return (!own).then_some("a page of another origin made the browser send this (Origin; csrf.trusted_origins)");
    }
    let Some(page) = headers.text("referer").and_then(|page| Sent::read(page, true)) else {
        return site.map(|_| "a browser sent this and does not say for which page (Sec-Fetch-Site)");
    };
    let own = is_own(Some(page)) || is_trusted(&page.to_string());
    (!own).then_some("a page of another origin made the browser send this (Referer; csrf.trusted_origins)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WebOrigin;

    fn refused(method: &Method, of: &[(&'static str, &'static str)], websocket: bool) -> bool {
        let trusted = WebOrigin::exactly("https", "login.example");
        let headers: Fields = of.iter().map(|(name, value)| (name, value)).collect();
        refusal(|origin| trusted.matches(origin), method, &headers, ["app.example"].into_iter(), websocket, false).is_some()
    }

    /// Method x Sec-Fetch-Site x Origin, with the Host `app.example`.
    #[test]
    fn the_truth_table() {
        const OWN: Option<&str> = Some("https://app.example");
        const OTHER: Option<&str> = Some("https://evil.example");
        const TRUSTED: Option<&str> = Some("https://login.example");
        for (site, origin, expected) in [
            (None, None, false),
            (None, OWN, false),
            // TLS may end before the proxy: the scheme does not count.
            (None, Some("http://app.example"), false),
            (None, Some("https://app.example:8443"), true),
            (None, OTHER, true),
            (None, TRUSTED, false),
            (None, Some("null"), true),
            (Some("same-origin"), None, false),
            (Some("same-origin"), OWN, false),
            (Some("none"), None, false),
            (Some("same-site"), OTHER, true),
            (Some("same-site"), TRUSTED, false),
            (Some("cross-site"), None, true),
            (Some("cross-site"), OTHER, true),
            (Some("cross-site"), TRUSTED, false),
            (Some("cross-site"), Some("null"), true),
            (Some("new-word"), None, true),
            (Some("new-word"), OTHER, true),
            (Some("new-word"), OWN, false),
        ] {
            let fields: Vec<_> =
                site.map(|site| ("sec-fetch-site", site)).into_iter().chain(origin.map(|origin| ("origin", origin))).collect();
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::from_bytes(b"PURGE").expect("a method")] {
                assert_eq!(refused(&method, &fields, false), expected, "{method} {fields:?}");
            }
            assert_eq!(refused(&Method::GET, &fields, true), expected, "a WebSocket, {fields:?}");
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                assert!(!refused(&method, &fields, false), "{method} {fields:?}");
            }
        }
    }

    #[test]
    fn the_referer_decides_where_nothing_else_is_said() {
        for (referer, expected) in [
            ("https://app.example/form?a=1", false),
            ("https://evil.example/app.example", true),
            ("https://login.example/", false),
            ("about:blank", false),
        ] {
            assert_eq!(refused(&Method::POST, &[("referer", referer)], false), expected, "{referer}");
        }
        assert!(refused(&Method::POST, &[("origin", "https://app.example"), ("origin", "https://evil.example")], false), "two origins");
    }
}
