//! Requests that two parsers could read differently are refused and the connection is closed; what is legal arrives as it was
//! sent, but for what belongs to one hop.

use super::world::{World, ok, until};

/// A request that is refused before any target hears of it.
struct Refused {
    hazard: &'static str,
    source: &'static str,
    send: &'static [u8],
    status: u16,
}

const fn refused(hazard: &'static str, source: &'static str, send: &'static [u8], status: u16) -> Refused {
    Refused { hazard, source, send, status }
}

const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

const REFUSED: &[Refused] = &[
    refused("1 CL+TE", "RFC 9112 6.3", b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    refused("1 TE+CL", "RFC 9112 6.3", b"POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n", 400),
    refused("2 TE.TE twice", "RUSTSEC-2026-0034", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    refused("2 TE.TE identity", "RUSTSEC-2026-0034", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    refused("2 a coding before chunked", "RFC 9112 6.1", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    refused("2 chunked not last", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    refused("2 xchunked", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    refused("2 space before colon", "RFC 9112 5.1", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    refused("2 vertical tab", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    refused("3 TE in HTTP/1.0", "RFC 9112 6.1", b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    refused("4 CL with a sign", "CVE-2021-32715", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", 400),
    refused("4 CL list", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\nhello", 400),
    refused("4 CL list, different", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 6\r\n\r\nhello", 400),
    refused("4 two CLs, different", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    refused("4 CL hexadecimal", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\nhello", 400),
    refused("4 CL beyond 64 bits", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551621\r\n\r\nhello", 400),
    refused("4 CL empty", "RFC 9112 6.3", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", 400),
    refused("4 CL padded beyond reason", "own", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length:                                                                                                       5\r\n\r\nhello", 400),
    refused("5 bare LF", "RFC 9112 2.2", b"GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
    refused("5 bare LF at the head's end", "RFC 9112 2.2", b"GET / HTTP/1.1\r\nHost: h\r\n\n", 400),
    refused("5 bare CR in a value", "RFC 9112 2.2", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", 400),
    refused("5 NUL in a value", "RFC 9110 5.5", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
    refused("6 obs-fold", "RFC 9112 5.2", b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
    refused("6 whitespace after the start-line", "RFC 9112 2.2", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    refused("6 no colon", "RFC 9112 5", b"GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n", 400),
    refused("11 WebSocket with a length", "CVE-2026-58055", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello", 400),
    refused("11 WebSocket with chunks", "CVE-2026-58055", b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    refused("12 CONNECT", "GHSA-3ccp-42pg-hgv6", b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 405),
    refused("12 CONNECT with a body", "GHSA-3ccp-42pg-hgv6", b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nContent-Length: 5\r\n\r\nhello", 405),
    refused("18 user information", "RFC 9110 4.2.4", b"GET http://u:p@h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("18 another scheme", "RFC 9110 7.4", b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("18 authority-form", "RFC 9112 3.2.3", b"GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("18 asterisk-form", "RFC 9112 3.2.4", b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("18 fragment", "RFC 9112 3.2", b"GET /a#/../b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("19 no Host", "RFC 9112 3.2", b"GET / HTTP/1.1\r\nX: y\r\n\r\n", 400),
    refused("19 two Hosts", "RFC 9112 3.2", b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
    refused("19 empty Host", "RFC 9110 7.2", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    refused("19 Host with a path", "RFC 9110 7.2", b"GET / HTTP/1.1\r\nHost: h/evil\r\n\r\n", 400),
    refused("19 Host with user information", "RFC 9110 7.2", b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", 400),
    refused("19 Host list", "RFC 9110 7.2", b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    refused("20 dot segments into another route", "Traefik sanitizePath", b"GET /public/../admin/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("20 encoded dot segments into another route", "Traefik sanitizePath", b"GET /public/%2e%2e/admin/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("20 encoded slash into another route", "Traefik encodedCharacters", b"GET /public/..%2fadmin/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("20 backslash into another route", "Traefik encodedCharacters", b"GET /public\\..\\admin\\x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("20 parameter into another route", "web cache deception", b"GET /admin;x/y HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("20 doubled slash into another route", "Traefik sanitizePath", b"GET //admin/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("21 Content_Length", "Envoy headers_with_underscores", b"POST / HTTP/1.1\r\nHost: h\r\nContent_Length: 5\r\n\r\n", 400),
    refused("21 Transfer_Encoding", "Envoy headers_with_underscores", b"POST / HTTP/1.1\r\nHost: h\r\nTransfer_Encoding: chunked\r\n\r\n", 400),
    refused("40 TRACE", "RFC 9110 9.3.8", b"TRACE / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 405),
    refused("HTTP/0.9", "RFC 9112 2.3", b"GET /\r\n\r\n", 400),
    refused("HTTP/1.2", "RFC 9112 2.3", b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 400),
    refused("HTTP/2.0 in text", "RFC 9112 2.3", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    refused("two spaces", "RFC 9112 3", b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    refused("space in the target", "RFC 9112 3.2", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
];

#[test]
fn what_is_ambiguous_is_refused_and_nothing_after_it_is_a_request() {
    let world = World::with("  routes:\n  - match: {path: /admin/**}\n    access: {deny: [192.0.2.0/24]}\n", ok);
    for row in REFUSED {
        let name = format!("{} ({})", row.hazard, row.source);
        let answer = world.ask([row.send, SMUGGLED].concat());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {} ", row.status)) && answer.to_ascii_lowercase().contains("\r\ndate: "),
            "{name}: {answer}"
        );
        assert_eq!(answer.lines().filter(|line| line.starts_with("HTTP/1.")).count(), 1, "{name}: {answer}");
        assert_eq!(world.origin.take(), "", "{name}: nothing reaches the origin");
    }
    world.nothing_leaks();
}

#[test]
fn what_cannot_be_read_is_counted_too() {
    let world = World::new(ok);
    for head in ["GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", "nonsense\r\n\r\n"] {
        world.ask(head);
    }
    let counted = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("outrigger_rejects_total{") && line.contains("reason=\"bad_request\""));
        line.and_then(|line| line.rsplit(' ').next()).map(str::to_owned)
    };
    until(|| counted(&world.app.telemetry.metrics().render()).as_deref() == Some("2"));
}

/// The same flaw in a later request of a connection: the first one is answered, the flawed one is not forwarded.
#[test]
fn a_flaw_in_a_later_request_is_seen_too() {
    let world = World::new(ok);
    for (flawed, why) in [
        (&b"POST /flawed HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..], "1 CL+TE"),
        (b"GET /flawed HTTP/1.1\nHost: h\r\n\r\n", "5 bare LF"),
    ] {
        for first in [
            &b"GET /first HTTP/1.1\r\nHost: h\r\n\r\n"[..],
            b"POST /first HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n\r\n\n\r\n",
            b"POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n\r\n\n\r\n\r\n0\r\nX: y\r\n\r\n",
        ] {
            let answer = world.ask([first, flawed, SMUGGLED].concat());
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.matches("HTTP/1.1 400 ").count() == 1, "{why}: {answer}");
            let got = world.origin.take();
            assert!(got.contains("/first") && !got.contains("/flawed") && !got.contains("/smuggled"), "{why}: {got}");
        }
    }
}

/// A body that breaks after its head has gone out: the client's fault, 400, never 502, and the origin never sees it complete.
#[test]
fn a_broken_body_is_the_clients_fault() {
    let world = World::new(|wire| {
        wire.request();
        wire.ended();
    });
    for (hazard, source, body) in [
        ("7 chunk size overflow", "RUSTSEC-2021-0079", &b"10000000000000001\r\nx"[..]),
        ("7 chunk size with 0x", "RFC 9112 7.1", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("7 chunk size negative", "RFC 9112 7.1", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("5 bare LF after a chunk size", "RFC 9112 2.2", b"5\nhello\r\n0\r\n\r\n"),
        ("5 bare LF in a chunk extension", "RFC 9112 7.1.1", b"5;a\nhello\r\n0\r\n\r\n"),
        ("5 bare LF after the last chunk", "RFC 9112 7.1", b"5\r\nhello\r\n0\r\n\n"),
        ("5 bare LF instead of the last chunk's end", "RFC 9112 7.1", b"5\r\nhello\r\n0\n\r\n"),
        ("5 bare LF in a trailer", "RFC 9112 7.1.2", b"5\r\nhello\r\n0\r\nX: y\n\r\n"),
        ("5 bare LF at the trailers' end", "RFC 9112 7.1.2", b"5\r\nhello\r\n0\r\nX: y\r\n\n"),
        ("5 bare LF throughout the trailers", "RFC 9112 7.1.2", b"5\r\nhello\r\n0\r\nX: y\n\n"),
        ("7 last chunk with a sign", "RFC 9112 7.1", b"5\r\nhello\r\n-0\r\n\r\n"),
        ("7 chunk longer than its size", "RFC 9112 7.1", b"3\r\nhello\r\n0\r\n\r\n"),
        ("7 endless extension", "RFC 9112 7.1.1", &[b'5', b';'].iter().chain(&[b'a'; 20_000]).copied().collect::<Vec<_>>()),
    ] {
        let name = format!("{hazard} ({source})");
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = world.ask([&head[..], body, SMUGGLED].concat());
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("body_broken"), "{name}: {answer}");
        assert_eq!(answer.lines().filter(|line| line.starts_with("HTTP/1.")).count(), 1, "{name}: {answer}");
        let got = world.origin.take();
        assert!(!got.ends_with("0\r\n\r\n") && !got.contains("/smuggled"), "{name}: {got:?}");
    }
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
    client.finish_sending();
    client.rest();
    world.nothing_leaks();
    let metrics = world.app.telemetry.metrics().render();
    assert!(!metrics.contains("outrigger_tries_total{target=\"app\""), "no try is counted against the target: {metrics}");
}

#[test]
fn a_chunked_body_passes_whatever_the_method() {
    // 23 (legal traffic passes untouched): hyper leaves a body without length out after GET and HEAD unless its coding is written.
    let world = World::new(ok);
    for method in ["GET", "HEAD", "OPTIONS", "POST"] {
        let mut client = world.client();
        client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 200 "), "{method}");
        let got = world.origin.take();
        assert!(got.starts_with(method) && got.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{got}");
    }
    // None where there is none.
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    client.response();
    let got = world.origin.take();
    assert!(!got.contains("transfer-encoding") && !got.contains("content-length"), "{got}");
}
