//! Access to the admin door: the `Host` that a request names, and the tokens of those who may look or change something.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, header};

use crate::config::{Role, Token};

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

/// Who asks, as far as the door knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visitor {
    /// The token's name, or the user at the socket; `None`: nobody in particular.
    pub(super) name: Option<Arc<str>>,
    /// What the visitor may do; `None`: not even look.
    pub(super) role: Option<Role>,
}

impl Visitor {
    /// Whether the visitor may do what `role` may.
    pub(super) fn may(&self, role: Role) -> bool {
        self.role.is_some_and(|own| own >= role)
    }

    /// The visitor in the log of changes.
    pub(super) fn who(&self) -> &str {
        self.name.as_deref().unwrap_or("somebody")
    }
}

/// The tokens of the door, as hashes.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens(Arc<[(Arc<str>, Role, blake3::Hash)]>);

impl Tokens {
    pub(super) fn new(tokens: &[Token]) -> Self {
        let set = tokens.iter().filter(|token| !token.token.reveal().is_empty());
        Self(set.map(|token| (token.name.clone(), token.role, blake3::hash(token.token.reveal().as_bytes()))).collect())
    }

    /// Whether somebody may do what `role` may.
    pub(super) fn any(&self, role: Role) -> bool {
        self.0.iter().any(|(_, own, _)| *own >= role)
    }

    /// Whether looking needs a token: there is a token for those who only look.
    pub(super) fn guard_reading(&self) -> bool {
        self.0.iter().any(|(_, role, _)| *role == Role::Read)
    }

    /// Who sends these fields. The comparison takes constant time over hashes, and looks at every token: timing tells neither the bytes
    /// nor the length nor the place of a token.
    pub(super) fn visitor(&self, headers: &HeaderMap) -> Visitor {
        let value = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
        let given = value.split_first_chunk::<7>().filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer ")).map(|(_, token)| token);
        let given = blake3::hash(given.unwrap_or_default());
        let mut found = Visitor { name: None, role: (!self.guard_reading()).then_some(Role::Read) };
        for (name, role, hash) in self.0.iter() {
            if aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), hash.as_bytes()).is_ok() {
                found = Visitor { name: Some(name.clone()), role: Some(*role) };
            }
        }
        found
    }
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

    fn tokens(all: &[(&str, Role, &str)]) -> Tokens {
        let of = |(name, role, token): &(&str, Role, &str)| Token { name: (*name).into(), role: *role, token: Secret::new(*token) };
        Tokens::new(&all.iter().map(of).collect::<Vec<_>>())
    }

    fn visitor(tokens: &Tokens, given: &'static str) -> (Option<String>, Option<Role>) {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(given))]);
        let Visitor { name, role } = tokens.visitor(&headers);
        (name.map(|name| name.to_string()), role)
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
    fn a_token_must_be_set_and_equal() {
        let one = tokens(&[("admin", Role::Operate, "s3cret")]);
        for (tokens, given, may) in [
            (&one, "Bearer s3cret", true),
            (&one, "bearer s3cret", true),
            (&one, "Bearer s3cretx", false),
            (&one, "Basic s3cret", false),
            (&one, "s3cret", false),
            (&tokens(&[("admin", Role::Operate, "")]), "Bearer ", false),
            (&Tokens::default(), "Bearer ", false),
        ] {
            let (name, role) = visitor(tokens, given);
            assert_eq!((name.is_some(), role), (may, Some(if may { Role::Operate } else { Role::Read })), "{given}");
        }
    }

    #[test]
    fn each_token_has_its_role_and_a_reader_closes_the_door_to_others() {
        let all = tokens(&[("ci", Role::Operate, "one"), ("grafana", Role::Read, "two")]);
        assert_eq!(visitor(&all, "Bearer one"), (Some("ci".into()), Some(Role::Operate)));
        assert_eq!(visitor(&all, "Bearer two"), (Some("grafana".into()), Some(Role::Read)));
        assert_eq!(visitor(&all, "Bearer three"), (None, None));
        assert!(all.guard_reading() && all.any(Role::Operate) && !tokens(&[("g", Role::Read, "t")]).any(Role::Operate));
    }
}
