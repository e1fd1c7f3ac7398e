//! The URIs that a successful unsafe method invalidates (RFC 9111 section 4.4): its own, and those of `Location` and
//! `Content-Location` on the same host.

use http::{Method, StatusCode, Uri};

use crate::http1::{Fields, Id};

/// Whether a response to `method` invalidates anything: the method may change something, and it succeeded.
pub fn invalidates(method: &Method, status: StatusCode) -> bool {
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT);
    !safe && (status.is_success() || status.is_redirection())
}

/// Paths and queries on `host` that the response makes invalid, the request's own first.
pub fn targets(host: &str, path_and_query: &str, response: &Fields) -> Vec<String> {
    let mut found = vec![path_and_query.to_owned()];
    for name in [Id::Location, Id::ContentLocation] {
        if let Some(target) = reference(host, path_and_query, response, name)
            && !found.contains(&target)
        {
            found.push(target);
        }
    }
    found
}

fn reference(host: &str, base: &str, response: &Fields, name: Id) -> Option<String> {
    let text = response.get(name)?.to_str().ok()?;
    let text = text.split('#').next().unwrap_or_default();
    let absolute = match text.find("://") {
        Some(at) if text[..at].bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) => {
            Some(&text[at + 3..])
        }
        _ => text.strip_prefix("//"),
    };
    if let Some(rest) = absolute {
        // The scheme is not compared: a TLS terminator in front makes it differ, and invalidating too much is safe.
        let uri: Uri = format!("http://{rest}").parse().ok()?;
        let same = without_port(uri.authority()?.as_str()).eq_ignore_ascii_case(without_port(host));
        return same.then(|| uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string));
    }
    let path = base.split('?').next().unwrap_or_default();
    match text.as_bytes().first() {
        None => Some(base.to_owned()),
        Some(b'/') => Some(text.to_owned()),
        Some(b'?') => Some(format!("{path}{text}")),
        Some(_) => Some(merged(path, text)),
    }
}

fn without_port(authority: &str) -> &str {
    authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80")).unwrap_or(authority)
}

/// A relative reference resolved against the directory of `path` (RFC 3986 section 5.2), without dot segments.
fn merged(path: &str, reference: &str) -> String {
    let (relative, query) = reference.split_at(reference.find('?').unwrap_or(reference.len()));
    let directory = path.rfind('/').map_or("", |at| &path[..=at]);
    let mut segments: Vec<&str> = directory.split('/').filter(|segment| !segment.is_empty()).collect();
    for segment in relative.split('/') {
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    format!("/{}{query}", segments.join("/"))
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_unsafe_methods_that_succeed_invalidate() {
        let search = Method::from_bytes(b"M-SEARCH").expect("a token");
        for (method, status, expected) in [
            (Method::POST, 200, true),
            (Method::PUT, 204, true),
            (Method::DELETE, 303, true),
            (search, 200, true),
            (Method::POST, 500, false),
            (Method::POST, 404, false),
            (Method::GET, 200, false),
            (Method::OPTIONS, 200, false),
        ] {
            let status = StatusCode::from_u16(status).expect("status");
            assert_eq!(invalidates(&method, status), expected, "{method} {status}");
        }
    }

    #[test]
    fn locations_of_the_same_host_are_found() {
        for (location, expected) in [
            ("/b", Some("/b")),
            ("/b?x=1#frag", Some("/b?x=1")),
            ("http://a.example/b", Some("/b")),
            ("https://A.example:443/b", Some("/b")),
            ("//a.example/b", Some("/b")),
            ("http://a.example", Some("/")),
            ("http://other.example/b", None),
            ("//other.example/b", None),
            ("c", Some("/dir/c")),
            ("../c?y", Some("/c?y")),
            ("?z=1", Some("/dir/self?z=1")),
        ] {
            let mut headers = Fields::new();
            headers.insert(Id::Location, location);
            let mut all = vec!["/dir/self".to_owned()];
            all.extend(expected.map(str::to_owned));
            assert_eq!(targets("a.example", "/dir/self", &headers), all, "{location}");
        }
    }

    proptest! {
        #[test]
        fn no_reference_panics(text in "[ -~]{0,40}", base in "/[ -~]{0,20}|") {
            let mut headers = Fields::new();
            headers.insert(Id::Location, &text);
            prop_assert!(!targets("a.example", &base, &headers).is_empty());
        }
    }
}
