//! Rows 22 to 27, as far as they are about a cache: one answer is never another one's, and what is for one is kept for nobody.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::world::{Wire, World};

/// Answers each request with its number, and with the fields that `fields` gives for its head.
fn numbered(fields: fn(&str) -> &'static str) -> impl Fn(&mut Wire) + Send + Sync + 'static {
    let count = AtomicUsize::new(0);
    move |wire| {
        while let Some(head) = wire.request() {
            let body = format!("number {}", count.fetch_add(1, SeqCst));
            let status = if head.starts_with("POST /fails") { "500 Oops" } else { "200 OK" };
            wire.send(format!("HTTP/1.1 {status}\r\n{}Content-Length: {}\r\n\r\n{body}", fields(&head), body.len()));
        }
    }
}

const CACHED: &str = "  defaults: {cache: {}}\n";
const FORCED: &str = "  defaults: {cache: {ttl: 60s}}\n";

/// The body that answers this request line and these fields.
fn ask(world: &World, line: &str, fields: &str) -> String {
    let mut client = world.client();
    client.send(format!("{line} HTTP/1.1\r\n{fields}\r\n"));
    let answer = client.response();
    assert!(answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.1 500 "), "{line}: {answer}");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

fn get(world: &World, target: &str) -> String {
    ask(world, &format!("GET {target}"), "Host: h\r\n")
}

#[test]
fn a_key_is_the_whole_request_target_and_host() {
    // 22 (CVE-2026-2836): neither another host nor another query is the same thing.
    let world = World::with(CACHED, numbered(|_| "Cache-Control: max-age=60\r\nVary: X-Lang\r\n"));
    let first = get(&world, "/a?x=1");
    assert_eq!(get(&world, "/a?x=1"), first, "22 it is stored");
    for (why, line, fields) in [
        ("another host", "GET /a?x=1", "Host: other\r\n"),
        ("another port", "GET /a?x=1", "Host: h:81\r\n"),
        ("another authority", "GET http://third/a?x=1", "Host: h\r\n"),
        ("another query", "GET /a?x=2", "Host: h\r\n"),
        ("no query", "GET /a", "Host: h\r\n"),
        ("an empty query", "GET /a?", "Host: h\r\n"),
        ("another path", "GET /A?x=1", "Host: h\r\n"),
        ("what Vary names", "GET /a?x=1", "Host: h\r\nX-Lang: de\r\n"),
    ] {
        assert_ne!(ask(&world, line, fields), first, "22 {why}");
    }
    // What a stranger claims is in no key, and so reaches no origin either.
    assert_eq!(ask(&world, "GET /a?x=1", "Host: h\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: evil\r\n"), first);
    assert_ne!(ask(&world, "GET /b", "Host: h\r\nX-Forwarded-Host: evil\r\nForwarded: host=evil\r\nX-Forwarded-Prefix: /evil\r\n"), first);
    assert!(!world.origin.take().contains("evil"), "22 poisoning");
}

#[test]
fn queries_are_keys_as_they_are_and_a_get_with_a_body_is_no_key() {
    // 23 (parameter cloaking, fat GET).
    let world = World::with(FORCED, numbered(|_| ""));
    let mut all: Vec<String> = ["/a?x=1&y=2", "/a?y=2&x=1", "/a?x=1;y=2", "/a?x=1&y=2&", "/a?x=1&x=1&y=2", "/a?x=%31&y=2"]
        .map(|target| get(&world, target))
        .into();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6, "23 each is its own: {all:?}");
    let fat = |body: &str| {
        let mut client = world.client();
        client.send(format!("GET /fat HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        client.response()
    };
    let poisoned = fat("x=evil");
    assert_ne!(fat("x=evil"), poisoned, "23 it is not stored");
    let plain = get(&world, "/fat");
    assert!(!poisoned.ends_with(&plain));
    assert_ne!(fat("x=evil").rsplit("\r\n").next(), Some(&*plain), "23 nor answered from the store");
}

#[test]
fn a_forced_lifetime_keeps_nothing_that_is_for_one() {
    // 24 (web cache deception), 25 (RFC 9111 3, 3.5).
    let fields = |head: &str| match head.split(' ').nth(1) {
        Some("/cookie") => "Set-Cookie: session=1\r\n",
        Some("/private") => "Cache-Control: private\r\n",
        Some("/no-store") => "Cache-Control: no-store\r\n",
        Some("/vary") => "Vary: *\r\n",
        _ => "",
    };
    let world = World::with(FORCED, numbered(fields));
    assert_eq!(get(&world, "/plain"), get(&world, "/plain"), "24 others are kept");
    for target in ["/cookie", "/private", "/no-store", "/vary"] {
        assert_ne!(get(&world, target), get(&world, target), "24 {target}");
    }
    for (why, field) in [("a credential", "Authorization: Bearer a\r\n"), ("a cookie", "Cookie: session=1\r\n")] {
        let mine = ask(&world, "GET /mine", &format!("Host: h\r\n{field}"));
        assert_ne!(get(&world, "/mine"), mine, "24 {why}");
    }
}

#[test]
fn a_name_that_looks_static_is_no_reason_to_keep_an_answer() {
    // 24, 20 (web cache deception): what decides is what the origin says, never how the path ends.
    let world = World::with(CACHED, numbered(|_| "Content-Type: text/html\r\n"));
    for target in ["/account/x.css", "/account;x.js", "/account%2fx.png", "/account%0a.css", "/account?x.css"] {
        assert_ne!(get(&world, target), get(&world, target), "24 {target}");
    }
    // A route with a forced lifetime is not entered by another reading of a path.
    let routed = World::with("  routes:\n  - match: {path: /static/**}\n    cache: {ttl: 60s}\n", numbered(|_| ""));
    for target in ["/static/..%2faccount", "/static/%2e%2e/account", "/static/..;/account", "/account/..%2fstatic/x"] {
        let mut client = routed.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(client.rest().starts_with("HTTP/1.1 400 "), "24 {target}");
    }
    assert_eq!(routed.origin.take(), "");
}

#[test]
fn what_the_origin_forbids_is_not_kept() {
    // 25 (RFC 9111 3, 3.5, 4.1, 5.2.2).
    let fields = |head: &str| match head.split(' ').nth(1) {
        Some("/no-store") => "Cache-Control: no-store, max-age=60\r\n",
        Some("/private") => "Cache-Control: private, max-age=60\r\n",
        Some("/vary") => "Cache-Control: max-age=60\r\nVary: *\r\n",
        Some("/understand") => "Cache-Control: must-understand, no-store, max-age=60\r\n",
        Some("/public") => "Cache-Control: public, max-age=60\r\n",
        _ => "Cache-Control: max-age=60\r\n",
    };
    let world = World::with(CACHED, numbered(fields));
    for target in ["/no-store", "/private", "/vary"] {
        assert_ne!(get(&world, target), get(&world, target), "25 {target}");
    }
    assert_eq!(get(&world, "/understand"), get(&world, "/understand"), "25 a status that is understood");
    let with = |target: &str| ask(&world, &format!("GET {target}"), "Host: h\r\nAuthorization: Bearer a\r\n");
    let mine = with("/mine");
    assert!(with("/mine") != mine && get(&world, "/mine") != mine, "25 a credential's answer is nobody else's");
    assert_eq!(with("/public"), get(&world, "/public"), "25 unless it is public");
}

#[test]
fn a_change_makes_invalid_what_it_changes_and_nothing_else() {
    // 26 (RFC 9111 4.4): the target after a success, and a Location of the same origin.
    let fields = |head: &str| match head.split(' ').nth(1) {
        Some("/elsewhere") => "Location: http://other/a\r\n",
        Some("/moves") => "Location: /a\r\n",
        _ => "Cache-Control: max-age=60\r\n",
    };
    let world = World::with(CACHED, numbered(fields));
    let post = |target: &str| ask(&world, &format!("POST {target}"), "Host: h\r\nContent-Length: 0\r\n");
    let first = get(&world, "/a");
    for target in ["/b", "/fails", "/elsewhere", "/a?other"] {
        post(target);
        assert_eq!(get(&world, "/a"), first, "26 {target} changes something else");
    }
    let fails = get(&world, "/fails");
    post("/fails");
    assert_eq!(get(&world, "/fails"), fails, "26 a failure changes nothing");
    post("/moves");
    let second = get(&world, "/a");
    assert_ne!(second, first, "26 Location");
    post("/a");
    assert_ne!(get(&world, "/a"), second, "26 the target itself");
}

#[test]
fn a_304_is_said_to_those_who_asked_for_it() {
    // 27 (pingora 0.8): the origin's 304 to our validator is not the client's, the client's own is.
    let world = World::with(CACHED, |wire| {
        while let Some(head) = wire.request() {
            if head.to_ascii_lowercase().contains("if-none-match: \"v\"") {
                wire.send("HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\nCache-Control: max-age=0\r\nContent-Length: 2\r\n\r\n");
            } else {
                wire.send("HTTP/1.1 200 OK\r\nETag: \"v\"\r\nCache-Control: max-age=0\r\nContent-Length: 2\r\n\r\nok");
            }
        }
    });
    assert_eq!(get(&world, "/"), "ok");
    assert_eq!(get(&world, "/"), "ok", "27 a validated answer is whole");
    assert!(world.origin.take().to_ascii_lowercase().contains("if-none-match: \"v\""));
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"v\"\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.until("\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 304 "), "27: {answer}");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "), "27 no body follows a 304");
}
