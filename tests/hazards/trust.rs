//! What is legal arrives raw; what belongs to one hop, or only a trusted peer may say, does not.

use super::world::{World, ok};

/// A request that passes, what the origin must get and what it must not.
struct Passes {
    hazard: &'static str,
    source: &'static str,
    send: &'static str,
    arrives: &'static [&'static str],
    never: &'static [&'static str],
}

const fn passes(
    hazard: &'static str,
    source: &'static str,
    send: &'static str,
    arrives: &'static [&'static str],
    never: &'static [&'static str],
) -> Passes {
    Passes { hazard, source, send, arrives, never }
}

const PASSES: &[Passes] = &[
    passes(
        "4 CL with zeros",
        "RFC 9112 6.3",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 005\r\n\r\nhello",
        &["content-length: 5\r\n", "\r\n\r\nhello"],
        &["content-length: 005"],
    ),
    passes(
        "4 CL twice, equal",
        "RFC 9112 6.3",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        &["\r\n\r\nhello"],
        &["length: 5\r\ncontent-length"],
    ),
    passes(
        "2 Chunked in any case",
        "RFC 9112 7",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &["transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"],
        &["content-length"],
    ),
    passes(
        "7 chunk extensions end here",
        "RFC 9112 7.1.1",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0;last\r\n\r\n",
        &["5\r\nhello\r\n0\r\n\r\n"],
        &["a=", "last"],
    ),
    passes(
        "8 an empty line before a request",
        "RFC 9112 2.2",
        "\r\nGET /after HTTP/1.1\r\nHost: h\r\n\r\n",
        &["get /after http/1.1\r\n"],
        &[],
    ),
    passes(
        "13 hop-by-hop fields",
        "RFC 9110 7.6.1",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: foo\r\nX-End: 1\r\n\r\n",
        &["x-end: 1"],
        &["x-hop", "keep-alive", "proxy-connection", "te:", "upgrade", "connection:"],
    ),
    passes(
        "14 Connection cannot remove what we add",
        "CVE-2024-45410",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Forwarded-For, X-Forwarded-Proto, Via, X-Request-Id, Baggage\r\n\r\n",
        &["x-forwarded-for: 127.0.0.1\r\n", "x-forwarded-proto: http\r\n", "via: 1.1 ", "x-request-id: "],
        &[],
    ),
    passes(
        "14 Connection cannot remove identity",
        "CVE-2022-31813",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Authorization, Cookie, Host\r\nAuthorization: k\r\nCookie: c=1\r\n\r\n",
        &["authorization: k", "cookie: c=1", "host: h"],
        &[],
    ),
    passes(
        "16 escapes stay escapes",
        "CRLF desync",
        "GET /a%0d%0aX:%20y?q=%00%0a HTTP/1.1\r\nHost: h\r\n\r\n",
        &["get /a%0d%0ax:%20y?q=%00%0a http/1.1\r\n"],
        &["\nx: y"],
    ),
    passes(
        "18 absolute-form",
        "RFC 9112 3.2.2",
        "GET http://other:81/a?b HTTP/1.1\r\nHost: h\r\n\r\n",
        &["get /a?b http/1.1\r\n", "host: other:81\r\n", "x-forwarded-host: other:81\r\n"],
        &["host: h\r\n"],
    ),
    passes(
        "20 raw bytes of a path that means the same route",
        "own",
        "GET /a/../b//c;d/%2F%5C/. HTTP/1.1\r\nHost: h\r\n\r\n",
        &["get /a/../b//c;d/%2f%5c/. http/1.1\r\n"],
        &[],
    ),
    passes("21 other underscores", "own", "GET / HTTP/1.1\r\nHost: h\r\nX_Tenant: 1\r\n\r\n", &["x_tenant: 1"], &[]),
    passes(
        "23 the query as it is",
        "own",
        "GET /?b=2&a=1;c=%26&b HTTP/1.1\r\nHost: h\r\n\r\n",
        &["get /?b=2&a=1;c=%26&b http/1.1\r\n"],
        &[],
    ),
    passes(
        "39 claims of a stranger",
        "Envoy headers, CVE-2024-52003",
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n",
        &["x-forwarded-for: 127.0.0.1\r\n", "x-forwarded-proto: http\r\n", "x-forwarded-host: h\r\n"],
        &["6.6.6.6", "https", "evil", "prefix", "x-forwarded-port", "x-real-ip", "\r\nforwarded:"],
    ),
    passes(
        "39 whatever else a proxy may have forwarded",
        "oauth2-proxy headers",
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-User: root\r\nX-Forwarded-Email: root@h\r\nX-Forwarded-Client-Cert: Hash=1\r\n\r\n",
        &[],
        &["root", "hash"],
    ),
    passes(
        "21 other spellings of what is ours",
        "CGI 4.1.18 (RFC 3875), WSGI (PEP 3333), PHP",
        "GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded_For: 6.6.6.6\r\nx.forwarded.proto: https\r\nX-Forwarded_Host: evil\r\nX_Real_IP: 6.6.6.6\r\n\
         X_Request_Id: 6.6.6.6\r\nOutrigger_Caller: mallory\r\nx~forwarded~user: root\r\n\r\n",
        &["x-forwarded-for: 127.0.0.1\r\n", "x-forwarded-proto: http\r\n", "x-forwarded-host: h\r\n"],
        &["6.6.6.6", "https", "evil", "mallory", "root"],
    ),
    passes(
        "39 names of our own",
        "own",
        "GET / HTTP/1.1\r\nHost: h\r\nOutrigger-Caller: mallory\r\nBaggage: outrigger=mallory,a=b\r\n\r\n",
        &["a=b"],
        &["mallory"],
    ),
    passes("obs-text in a value", "RFC 9110 5.5", "GET / HTTP/1.1\r\nHost: h\r\nX: \u{e9}\r\n\r\n", &["x: \u{e9}\r\n"], &[]),
    passes(
        "40 Via of others",
        "RFC 9110 7.6.3",
        "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.0 fred, 1.1 outrigger\r\n\r\n",
        &["via: 1.0 fred, 1.1 outrigger, 1.1 "],
        &[],
    ),
    passes(
        "40 Max-Forwards of OPTIONS",
        "RFC 9110 7.6.2",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 3\r\n\r\n",
        &["options * http/1.1\r\n", "max-forwards: 2\r\n"],
        &[],
    ),
];

#[test]
fn what_is_legal_arrives_as_it_was_sent() {
    let world = World::new(ok);
    for row in PASSES {
        let name = format!("{} ({})", row.hazard, row.source);
        let mut client = world.client();
        client.send(row.send);
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{name}: {answer}");
        let got = world.origin.take().to_ascii_lowercase();
        for wanted in row.arrives {
            assert!(got.contains(wanted), "{name}: {wanted:?} in {got}");
        }
        for never in row.never {
            assert!(!got.contains(never), "{name}: {never:?} in {got}");
        }
    }
}

#[test]
fn a_trusted_peer_is_believed_from_the_right() {
    // 39 (Envoy headers.rst).
    let world = World::with("  trusted_proxies: [127.0.0.0/8]\n  limits:\n  - {key: client_ip, requests: 1, window: 1d}\n", ok);
    let ask = |list: &str| {
        world.ask(format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Forwarded-For: {list}\r\nX-Forwarded-Proto: https\r\nX-Forwarded-User: alice\r\nX_Forwarded_User: mallory\r\n\r\n"))
    };
    assert!(ask("6.6.6.6, 1.2.3.4").starts_with("HTTP/1.1 200 "));
    let got = world.origin.take().to_ascii_lowercase();
    assert!(got.contains("x-forwarded-for: 6.6.6.6, 1.2.3.4, 127.0.0.1\r\n") && got.contains("x-forwarded-proto: https\r\n"), "{got}");
    assert!(got.contains("x-forwarded-user: alice\r\n") && !got.contains("mallory"), "21 but in its own spelling alone: {got}");
    assert!(ask("7.7.7.7, 1.2.3.4").starts_with("HTTP/1.1 429 "), "39 what a client writes before its own address changes nothing");
    assert!(ask("1.2.3.4, 5.6.7.8").starts_with("HTTP/1.1 200 "), "39 another client");
}

#[test]
fn a_caller_header_is_believed_from_nobody_else_and_in_one_spelling() {
    // 21, 39: an app that gets the field takes it for the gateway's word.
    for (trusted, believed) in [("192.0.2.0/24", false), ("127.0.0.0/8", true)] {
        let world = World::with(&format!("  trusted_proxies: [{trusted}]\n  caller: [header:x-user-id]\n"), ok);
        world.ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-User-Id: alice\r\nX_User_Id: mallory\r\nx.user-id: mallory\r\n\r\n");
        let got = world.origin.take().to_ascii_lowercase();
        assert_eq!((got.contains("x-user-id: alice\r\n"), got.contains("mallory")), (believed, false), "{trusted}: {got}");
    }
}

#[test]
fn trailers_claim_nothing() {
    // 21, 41 (RFC 9110 6.5.1): some apps merge them into the head.
    let world = World::with("  trusted_proxies: [127.0.0.0/8]\n  caller: [header:x-user-id]\n", ok);
    let mut client = world.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Forwarded-For, X_Forwarded_For, X-User-Id, X-Request-Id, \
         Via, Outrigger-Caller, Baggage\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Forwarded-For: mallory\r\nX_Forwarded_For: mallory\r\n\
         X-User-Id: mallory\r\nX-Request-Id: mallory\r\nVia: mallory\r\nOutrigger-Caller: mallory\r\nBaggage: mallory=1\r\n\r\n",
    );
    assert!(client.response().starts_with("HTTP/1.1 200 "));
    let got = world.origin.take().to_ascii_lowercase();
    assert!(got.ends_with("0\r\nx-sum: 1\r\n\r\n") && !got.contains("mallory"), "{got}");
}

#[test]
fn a_request_that_comes_back_is_a_loop() {
    // 40 (RFC 9110 7.6.3).
    let world = World::new(ok);
    world.ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let got = world.origin.take();
    let via = got.lines().find_map(|line| line.strip_prefix("via: ")).expect("Via").to_owned();
    let answer = world.ask(format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nVia: 1.1 a, {via}, 1.1 b\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 508 ") && answer.contains("loop"), "{answer}");
    assert_eq!(world.origin.take(), "");
}

#[test]
fn the_last_forward_is_answered_here() {
    // 40 (RFC 9110 7.6.2).
    let world = World::new(ok);
    let answer = world.ask("OPTIONS / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nMax-Forwards: 0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(world.origin.take(), "");
}
