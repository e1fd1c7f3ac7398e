//! Responses: framing is made plain or the answer is 502; a broken body never ends cleanly; 1xx are passed on and never the answer.

use super::world::{Client, OK, PATIENCE, World, ok};

/// What the origin says, and then closes; what the client must and must not see.
struct Answer {
    hazard: &'static str,
    source: &'static str,
    asked: &'static str,
    origin: &'static str,
    sees: &'static [&'static str],
    never: &'static [&'static str],
}

const fn get(
    hazard: &'static str,
    source: &'static str,
    origin: &'static str,
    sees: &'static [&'static str],
    never: &'static [&'static str],
) -> Answer {
    Answer { hazard, source, asked: "GET", origin, sees, never }
}

const BAD: &[&str] = &["http/1.1 502 ", "malformed_response"];

const ANSWERS: &[Answer] = &[
    get(
        "1 CL+TE, chunks shorter",
        "RFC 9112 6.3",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        &["http/1.1 200 ", "transfer-encoding: chunked", "2\r\nok\r\n", "0\r\n\r\n"],
        &["content-length"],
    ),
    get(
        "1 TE+CL, chunks longer",
        "RFC 9112 6.3",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        &["2\r\nok\r\n", "0\r\n\r\n"],
        &["content-length"],
    ),
    get(
        "2 a coding that is lost",
        "RFC 9112 6.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        BAD,
        &["ok\r\n0"],
    ),
    get("2 gzip without chunked", "RFC 9112 6.3", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", BAD, &[]),
    get(
        "2 chunked twice",
        "RFC 9112 7.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        BAD,
        &[],
    ),
    get(
        "3 TE in HTTP/1.0",
        "RFC 9112 6.1",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        &["http/1.1 502 "],
        &[],
    ),
    get(
        "4 CL list, equal",
        "RFC 9112 6.3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        &["content-length: 2\r\n", "\r\n\r\nok"],
        &["2, 2"],
    ),
    get(
        "4 CL twice, equal",
        "RFC 9112 6.3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        &["content-length: 2\r\n", "\r\n\r\nok"],
        &["length: 2\r\ncontent-length"],
    ),
    get(
        "4 CL twice, different",
        "RFC 9112 6.3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        &["http/1.1 502 "],
        &["\r\n\r\nok"],
    ),
    get("4 CL with a sign", "RFC 9112 6.3", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", &["http/1.1 502 "], &["\r\n\r\nok"]),
    get("6 obs-fold", "RFC 9112 5.2", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", BAD, &[]),
    get("6 space before colon", "RFC 9112 5.1", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", BAD, &[]),
    get(
        "5 bare LF in a head",
        "RFC 9112 2.2",
        "HTTP/1.1 200 OK\nX: a\nContent-Length: 2\n\nok",
        &["http/1.1 200 ok\r\n", "x: a\r\n", "content-length: 2\r\n", "\r\n\r\nok"],
        &[],
    ),
    get(
        "5 bare LF in chunks",
        "RFC 9112 7.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        &["http/1.1 200 "],
        &["\r\n0\r\n"],
    ),
    get("5 bare CR", "RFC 9112 2.2", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: x\r\nContent-Length: 2\r\n\r\nok", BAD, &["set-cookie"]),
    get(
        "13 hop-by-hop and what Connection names",
        "RFC 9110 7.6.1",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nX-End: 1\r\nContent-Length: 2\r\n\r\nok",
        &["x-end: 1", "\r\n\r\nok"],
        &["x-hop", "keep-alive", "proxy-connection", "upgrade"],
    ),
    get(
        "13 Connection names what it must not",
        "CVE-2022-31813",
        "HTTP/1.1 200 OK\r\nConnection: Content-Length, Content-Type, Set-Cookie\r\nContent-Type: text/plain\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok",
        &["content-length: 2", "content-type: text/plain", "set-cookie: a=b", "\r\n\r\nok"],
        &[],
    ),
    get(
        "16 what is encoded stays encoded",
        "RFC 9112 11.1",
        "HTTP/1.1 302 Found\r\nLocation: /a%0d%0aSet-Cookie:%20x\r\nContent-Length: 0\r\n\r\n",
        &["location: /a%0d%0aset-cookie:%20x\r\n"],
        &["\nset-cookie"],
    ),
    get(
        "27 204 with a length and a body",
        "RFC 9112 6.3",
        "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        &["http/1.1 204 "],
        &["content-length", "ok\r\n", "\r\n\r\nok"],
    ),
    get(
        "27 304 with a body",
        "RFC 9112 6.3",
        "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 2\r\n\r\nok",
        &["http/1.1 304 ", "etag: \"a\""],
        &["\r\n\r\nok"],
    ),
    Answer {
        hazard: "27 HEAD",
        source: "RFC 9110 9.3.2",
        asked: "HEAD",
        origin: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        sees: &["content-length: 2"],
        never: &["\r\n\r\nok"],
    },
    get(
        "28 a switch nobody asked for",
        "RFC 9110 15.2.2",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw",
        BAD,
        &["101", "raw"],
    ),
    get(
        "38 coded bodies pass as they are",
        "own",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz",
        &["content-encoding: gzip", "\r\n\r\nzzzz"],
        &[],
    ),
    get(
        "41 trailers without TE: trailers",
        "RFC 9110 6.5.1",
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
        &["ok\r\n0\r\n\r\n"],
        &["x-sum: 1"],
    ),
    get(
        "truncated chunks",
        "RFC 9112 8",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        &["http/1.1 200 ", "ok"],
        &["\r\n0\r\n"],
    ),
    get("truncated length", "RFC 9112 8", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", &["content-length: 5", "\r\n\r\nok"], &[]),
    get("close-delimited", "RFC 9112 6.3", "HTTP/1.1 200 OK\r\n\r\nok", &["transfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\n"], &[]),
    get("garbage instead of a status line", "own", "SSH-2.0-OpenSSH\r\n\r\n", BAD, &["ssh"]),
    get("a status below 100", "RFC 9110 15", "HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n", &["http/1.1 502 "], &[]),
    get("an answer in HTTP/2.0 text", "RFC 9112 2.3", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", &["http/1.1 502 "], &[]),
    get("nothing at all", "own", "", &["http/1.1 502 ", "connection_reset"], &[]),
    get(
        "a chunk size that overflows",
        "RUSTSEC-2021-0079",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nfffffffffffffffff1\r\nx",
        &["http/1.1 200 "],
        &["\r\n0\r\n"],
    ),
    get(
        "two answers to one request",
        "CVE-2025-4366",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        &["\r\n\r\nok"],
        &["evil"],
    ),
];

#[test]
fn an_answer_is_plain_or_502_or_visibly_cut() {
    let world = World::new(|wire| {
        while let Some(head) = wire.request() {
            let at: usize = head.split(['/', ' ']).nth(2).and_then(|at| at.parse().ok()).expect("a row");
            wire.send(ANSWERS[at].origin);
            wire.close();
        }
    });
    for (at, row) in ANSWERS.iter().enumerate() {
        let name = format!("{} ({})", row.hazard, row.source);
        let answer = world.ask(format!("{} /{at} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", row.asked)).to_ascii_lowercase();
        assert_eq!(answer.matches("http/1.").count(), 1, "{name}: {answer}");
        for wanted in row.sees {
            assert!(answer.contains(wanted), "{name}: {wanted:?} in {answer}");
        }
        let own = "\r\nconnection: close";
        for never in row.never {
            assert!(!answer.replace(own, "").contains(never), "{name}: {never:?} in {answer}");
        }
    }
    world.nothing_leaks();
}

/// After a reused connection no bytes of one answer may be read as another's.
#[test]
fn what_follows_an_answer_is_never_another_ones_answer() {
    let world = World::new(|wire| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        }
    });
    let mut client = world.client();
    for _ in 0..20 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "17 upstream desync (http1mustdie): {answer}");
    }
}

#[test]
fn a_1xx_is_passed_on_and_is_never_the_answer() {
    let world = World::new(|wire| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n");
            wire.send(OK);
        }
    });
    let mut client = world.client();
    for _ in 0..50 {
        // Two at once: an early answer must not be written into the one before it.
        client.send("GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        for _ in 0..2 {
            assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n", "28 (RFC 9110 15.2)");
            assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", "28 (RFC 9110 15.2)");
            let answer = client.response();
            assert!(
                answer.starts_with("HTTP/1.1 200 ") && !answer.to_ascii_lowercase().contains("link"),
                "28 fields are not merged: {answer}"
            );
        }
    }
    let old = world.ask("GET / HTTP/1.0\r\nHost: h\r\n\r\n");
    assert!(old.starts_with("HTTP/1.1 200 "), "28 HTTP/1.0 knows no 1xx: {old}");
    assert_eq!(old.matches("HTTP/1.").count(), 1, "{old}");
    world.nothing_leaks();
}

/// Our own version, whatever the client's (RFC 9112 2.3); what HTTP/1.0 does not know is not used.
#[test]
fn answers_to_http_1_0_carry_our_own_version() {
    let world = World::new(|wire| {
        while let Some(head) = wire.request() {
            let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nHTTP/1.0 \r\n0\r\n\r\n";
            wire.send(if head.contains("/chunked") { chunked } else { "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.0 " });
        }
    });
    for (path, head) in [("/chunked", ""), ("/", ""), ("/", "Host: h\r\n")] {
        let answer = world.ask(format!("GET {path} HTTP/1.0\r\n{head}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nHTTP/1.0 "), "{answer}");
        assert!(!answer.contains("chunked"), "{answer}");
    }
    let mut client = world.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nHTTP/1.0 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: keep-alive"), "{answer}");
    }
    let refused = world.ask("TRACE / HTTP/1.0\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
}

/// RFC 9110 6.6.1: an answer without a date gets one, refusals and hits too; that of the app stays.
#[test]
fn every_answer_has_one_date() {
    let world = World::with("  bounds: {max_head: 1KiB}\n  routes:\n  - {match: {path: /kept}, cache: {ttl: 60s}}\n", |wire| {
        while let Some(head) = wire.request() {
            wire.send(if head.contains("/dated") {
                "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nok"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            });
        }
    });
    let big = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(2000));
    for (asked, status) in [
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
        ("GET /kept HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
        ("GET /kept HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        (&big, 431),
        ("OPTIONS / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nMax-Forwards: 0\r\n\r\n", 204),
    ] {
        let answer = world.ask(asked).to_ascii_lowercase();
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{asked}: {answer}");
        assert_eq!(answer.matches("\r\ndate: ").count(), 1, "{asked}: {answer}");
    }
    let dated = world.ask("GET /dated HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").to_ascii_lowercase();
    assert_eq!((dated.matches("\r\ndate: ").count(), dated.contains("date: sun, 06 nov 1994")), (1, true), "{dated}");
}

#[test]
fn an_early_hint_arrives_before_the_answer_is_there() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let world = World::new(move |wire| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            wait.lock().expect("lock").recv_timeout(PATIENCE).expect("the client has seen the hint");
            wire.send(OK);
        }
    });
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 103 "));
    go.send(()).expect("waiting");
    assert!(client.response().starts_with("HTTP/1.1 200 "));
}

#[test]
fn trailers_pass_where_they_are_wanted_and_are_never_fields() {
    let world = World::new(|wire| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nTrailer: X-Sum, Connection\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nConnection: x-y\r\nContent-Length: 7\r\n\r\n");
        }
    });
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Up, Connection\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Up: 1\r\nConnection: a\r\nTransfer-Encoding: b\r\n\r\n");
    let (head, body) = (client.until("\r\n\r\n").to_ascii_lowercase(), client.until("\r\n\r\n").to_ascii_lowercase());
    assert!(!head.contains("x-sum: 1") && body.contains("0\r\nx-sum: 1\r\n\r\n"), "41 (RFC 9110 6.5.1): {head}{body}");
    assert!(!body.contains("connection") && !body.contains("content-length"), "41 a trailer that would be a framing field: {body}");
    let got = world.origin.take().to_ascii_lowercase();
    assert!(got.contains("te: trailers") && got.ends_with("0\r\nx-up: 1\r\n\r\n"), "41 request trailers: {got}");
}

/// 43: connections are one pool for each target, never shared between two, even where they are the same host.
#[test]
fn a_connection_serves_one_target_only() {
    let origin = super::world::Origin::start(ok);
    let url = format!("http://{}", origin.address);
    let app = super::world::start(&format!(
        "outbound:\n  listen: 127.0.0.1:0\n  providers:\n    one: {{api: plain, url: \"{url}\", keys: [key-one]}}\n    two: {{api: plain, url: \"{url}\", keys: [key-two]}}\n"
    ));
    let mut client = Client::connect(app.addresses.outbound.expect("open"));
    for _ in 0..3 {
        for provider in ["one", "two"] {
            client.send(format!("GET /{provider}/x HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert!(client.response().starts_with("HTTP/1.1 200 "));
        }
    }
    let got = origin.got();
    assert_eq!(got.len(), 2, "43 (pingora pooling): one connection for each identity");
    for connection in got {
        assert!(connection.contains("key-one") != connection.contains("key-two"), "43: {connection}");
    }
}
