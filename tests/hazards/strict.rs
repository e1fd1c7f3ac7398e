//! Rows 20 and 21: what is legal and read differently by servers passes as it was sent, and is refused where `strict_paths` or
//! `strict_headers` ask for it.

use super::world::{World, ok};

/// Paths that are legal and that servers read differently (sources: Traefik's encoded characters, Envoy's path normalisation,
/// RFC 3986 5.2.4).
const PATHS: &[(&str, &str)] = &[
    ("empty segment", "/a//b"),
    ("empty segment first", "//a"),
    ("dot segment", "/a/./b"),
    ("dot segments", "/a/../b"),
    ("dot segments at the end", "/a/.."),
    ("escaped dot segments", "/a/%2e%2E/b"),
    ("half escaped dot segments", "/a/.%2e/b"),
    ("dot segments with parameters", "/a/..;x=1/b"),
    ("dot segments with escaped parameters", "/a/..%3bx/b"),
    ("parameters alone", "/a/;x/b"),
    ("backslash", "/a\\b"),
    ("escaped slash", "/a%2fb"),
    ("escaped slash, upper case", "/a%2Fb"),
    ("escaped backslash", "/a%5cb"),
    ("escaped NUL", "/a%00"),
    ("escaped CR LF", "/a%0d%0aX:%20y"),
    ("escaped DEL", "/a%7f"),
    ("slash escaped twice", "/a%252fb"),
    ("dots escaped twice", "/%252e%252e/b"),
    ("NUL escaped twice", "/a%2500"),
    ("no escape", "/a%zz"),
    ("half an escape", "/a%2"),
];

/// What every server reads alike passes even so.
const PLAIN: &[&str] = &["/", "/a/b/", "/a%20b", "/caf%C3%A9", "/a;v=1/b", "/100%25", "/.well-known/x", "/a..b", "/x?p=/../%2f%00//"];

/// Fields that are legal and that servers read differently (sources: Traefik's underscoreHeadersStrategy, Envoy's
/// headers_with_underscores_action, RFC 9110 5.5).
const FIELDS: &[(&str, &[u8])] = &[
    ("underscores", b"x_user_id: root"),
    ("one underscore", b"X-User_Id: root"),
    ("dots", b"x.user.id: root"),
    ("other signs", b"x~user: root"),
    ("UTF-8", b"x-name: caf\xc3\xa9"),
    ("Latin-1", b"x-name: caf\xe9"),
];

fn request(path: &str, field: &[u8]) -> Vec<u8> {
    [b"GET ", path.as_bytes(), b" HTTP/1.1\r\nHost: h\r\n", field, b"\r\n\r\n"].concat()
}

#[test]
fn what_servers_read_differently_passes_as_it_was_sent() {
    // 20, 21: legal traffic passes untouched.
    let world = World::new(ok);
    let mut client = world.client();
    for (why, path) in PATHS.iter().copied().chain(PLAIN.iter().map(|path| ("plain", *path))) {
        client.send(request(path, b"x-plain: 1"));
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 200 "), "20 {why}: {answer}");
        let got = world.origin.take();
        assert!(got.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "20 {why}: {got}");
    }
    for (why, field) in FIELDS {
        client.send(request("/", field));
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 200 "), "21 {why}: {answer}");
        let sent = String::from_utf8_lossy(field);
        let got = world.origin.take();
        assert!(got.to_lowercase().contains(&format!("\r\n{}\r\n", sent.to_lowercase())), "21 {why}: {got}");
    }
}

#[test]
fn strict_paths_refuses_what_servers_read_differently() {
    let world = World::with("  strict_paths: true\n", ok);
    for (why, path) in PATHS {
        let answer = world.ask([request(path, b"x-plain: 1"), request("/smuggled", b"x-plain: 1")].concat());
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("strict_paths"), "20 {why}: {answer}");
        assert_eq!(world.origin.take(), "", "20 {why}");
    }
    let mut client = world.client();
    for path in PLAIN {
        client.send(request(path, FIELDS[0].1));
        assert!(client.response().starts_with("HTTP/1.1 200 "), "20 {path}");
        assert!(world.origin.take().starts_with(&format!("GET {path} HTTP/1.1\r\n")), "20 {path}");
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.response().starts_with("HTTP/1.1 200 "));
}

#[test]
fn strict_headers_refuses_what_servers_read_differently() {
    let world = World::with("  strict_headers: true\n", ok);
    for (why, field) in FIELDS {
        let answer = world.ask(request("/", field));
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("strict_headers"), "21 {why}: {answer}");
        assert_eq!(world.origin.take(), "", "21 {why}");
    }
    let mut client = world.client();
    client.send(request("/a//b", b"X-User-Id: a \t\"b\"\r\nCookie: a=1; b=2"));
    assert!(client.response().starts_with("HTTP/1.1 200 "));
}

/// 21: these two are refused whatever is configured, because what they alias is framing.
#[test]
fn aliases_of_framing_fields_are_always_refused() {
    let world = World::new(ok);
    for name in ["Content_Length", "content_length", "Content.Length", "Transfer_Encoding", "Transfer~Encoding"] {
        let answer = world.ask(format!("POST / HTTP/1.1\r\nHost: h\r\n{name}: 5\r\nContent-Length: 0\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400 "), "21 {name}: {answer}");
        assert_eq!(world.origin.take(), "", "21 {name}");
    }
}
