//! Who speaks when: early answers, expectations, upgrades, cancellation, replays.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use outrigger::http1::{Chunks, Piece};

use super::world::{OK, World, ok, until};

#[test]
fn leftovers_of_an_unread_body_are_never_a_request() {
    // 8 (CVE-2025-4366): the proxy answers by itself, the body is in part unread.
    let world = World::with("  bounds: {max_body: 10}\n  limits:\n  - {key: global, requests: 1, window: 1d}\n", ok);
    world.ask("GET /first HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    world.origin.take();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for (why, request) in [
        ("413 by length", format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len())),
        ("413 by length, body to come", format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{smuggled}")),
        ("429, body to come", format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n{smuggled}")),
    ] {
        let mut client = world.client();
        client.send(&request);
        let answer = client.rest();
        assert!(answer.starts_with("HTTP/1.1 4"), "{why}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{why}: {answer}");
        assert_eq!(world.origin.take(), "", "{why}");
    }
    // A body that is all there is skipped, and what follows it is the next request.
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let both = client.rest();
    assert_eq!(both.matches("HTTP/1.1 429 ").count(), 2, "8 a body that was sent whole: {both}");
}

#[test]
fn a_tunnel_begins_with_the_101_and_not_before() {
    // 9 (CVE-2026-2833, RFC 9931): the origin refuses the upgrade; what the client sent ahead is the next request, in its framing.
    let refusing = World::new(|wire| {
        while let Some(head) = wire.request() {
            wire.send(if head.contains("/ws") { b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno" } else { OK });
        }
    });
    let mut client = refusing.client();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.send(format!("{upgrade}GET /next HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert!(client.response().starts_with("HTTP/1.1 403 "));
    assert!(client.response().starts_with("HTTP/1.1 200 "));
    let got = refusing.origin.take();
    assert!(got.contains("GET /next") && got.matches("via: ").count() == 2, "9 both were forwarded as requests: {got}");

    // The origin accepts: what was sent ahead is the tunnel's first bytes, unchanged.
    let accepting = World::new(|wire| {
        wire.head();
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
        wire.until("ahead\r\nX: y\n\n");
        wire.send("bye");
        wire.ended();
    });
    let mut client = accepting.client();
    client.send(format!("{upgrade}ahead\r\nX: y\n\n"));
    assert!(client.until("\r\n\r\n").to_ascii_lowercase().contains("upgrade: websocket"));
    client.until("hello");
    client.until("bye");
    drop(client);
    accepting.nothing_leaks();
}

#[test]
fn no_other_upgrade_than_websocket_passes() {
    // 10 (RFC 9110 7.6.1, h2c smuggling): also with a body, which some clients offer it with.
    let world = World::new(ok);
    let mut client = world.client();
    for body in ["", "hello"] {
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!(client.response().starts_with("HTTP/1.1 200 "));
        let got = world.origin.take().to_ascii_lowercase();
        assert!(!got.contains("h2c") && !got.contains("upgrade") && !got.contains("http2-settings"), "10: {got}");
    }
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.rest();
    assert_eq!(world.origin.take(), "", "10 a preface inside HTTP/1.1");
}

#[test]
fn the_origin_is_asked_before_the_client_is_told_to_go_on() {
    // 29 (RFC 9110 10.1.1): 100 comes from the origin ...
    let world = World::new(|wire| {
        while let Some(head) = wire.head() {
            if head.contains("/no") {
                wire.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            if head.contains("/yes") {
                wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            wire.until("hello");
            wire.send(OK);
        }
    });
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let mut client = world.client();
    client.send(head("/yes"));
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    let got = world.origin.take();
    assert!(got.to_ascii_lowercase().contains("expect: 100-continue") && !got.contains("hello"), "29 the head alone: {got}");
    client.send("hello");
    assert!(client.response().starts_with("HTTP/1.1 200 "));
    // ... and a final answer comes without it.
    client.send(head("/no"));
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 417 ") && !answer.contains("100 Continue"), "29: {answer}");
    // An origin that knows nothing of it gets the body all the same, after a while.
    let mut client = world.client();
    client.send(head("/silent"));
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert!(client.response().starts_with("HTTP/1.1 200 "));
    // HTTP/1.0 cannot expect anything.
    world.origin.take();
    let old = world.ask("POST /old HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert!(old.contains(" 200 ") && !old.contains("100 Continue"), "29: {old}");
    assert!(!world.origin.take().to_ascii_lowercase().contains("expect"), "29");
}

#[test]
fn the_proxys_own_refusal_needs_no_body() {
    // 29, 8: 413 before 100.
    let world = World::with("  bounds: {max_body: 4}\n", ok);
    let answer = world.ask("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 ") && !answer.contains("100 Continue"), "{answer}");
    assert_eq!(world.origin.take(), "");
}

#[test]
fn an_early_answer_is_passed_on_at_once_and_ends_the_upload() {
    // 30 (RFC 9112 9.5).
    let world = World::new(|wire| {
        wire.head();
        wire.until("part");
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
        wire.ended();
    });
    let mut client = world.client();
    client.send("POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\npart");
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no"), "{answer}");
    world.nothing_leaks();
    let mut client = world.client();
    client.send("POST /next HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\npart");
    assert!(client.response().starts_with("HTTP/1.1 413 "));
    assert_eq!(world.origin.got().len(), 2, "30 the half-used connection is not reused: {:?}", world.origin.got());
    assert_eq!(world.origin.got()[0].matches("POST").count(), 1);
}

#[test]
fn a_client_that_leaves_takes_its_request_along() {
    // 31 (pingora 0.7): before the head, and within the body; gently and rudely.
    for (answers, rude) in [(false, false), (false, true), (true, false), (true, true)] {
        let seen = Arc::new(AtomicUsize::new(0));
        let ended = seen.clone();
        let world = World::new(move |wire| {
            wire.head();
            if answers {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart");
            }
            if wire.ended() {
                ended.fetch_add(1, SeqCst);
            }
        });
        let mut client = world.client();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        if answers {
            client.until("part");
        } else {
            world.metric("outrigger_pool_connections{target=\"app\",state=\"active\"}", "1");
        }
        if rude {
            client.reset()
        } else {
            drop(client)
        }
        world.nothing_leaks();
        until(|| seen.load(SeqCst) > 0);
    }
}

/// 31: who has shut down the sending side cannot be told from who has left (as in nginx). What is there already is given.
#[test]
fn a_client_that_half_closes_is_one_that_leaves() {
    let world = World::new(|wire| {
        wire.head();
        wire.ended();
    });
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    world.metric("outrigger_pool_connections{target=\"app\",state=\"active\"}", "1");
    client.finish_sending();
    assert_eq!(client.rest(), "");
    world.nothing_leaks();
}

#[test]
fn only_what_may_be_repeated_is_sent_again() {
    // 42 (RFC 9110 9.2.2): the origin closes a used connection as soon as the second request is there.
    for (method, again) in [("POST", false), ("PATCH", false), ("GET", true), ("DELETE", true)] {
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let world = World::new(move |wire| {
            let first = count.fetch_add(1, SeqCst) == 0;
            if first {
                wire.request();
                wire.send(OK);
                wire.head();
                wire.close();
            } else {
                wire.answer_all(OK);
            }
        });
        let mut client = world.client();
        client.send("GET /warm HTTP/1.1\r\nHost: h\r\n\r\n");
        client.response();
        client.send(format!("{method} /act HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
        let answer = client.response();
        let times: usize = world.origin.got().iter().map(|got| got.matches("/act").count()).sum();
        assert_eq!(times, if again { 2 } else { 1 }, "42 {method}");
        assert!(answer.starts_with(if again { "HTTP/1.1 200 " } else { "HTTP/1.1 502 " }), "42 {method}: {answer}");
    }
}

/// 7, 17: content and end in one packet, of every size around the one from which pieces are not copied; then the same connections again.
#[test]
fn a_large_chunk_that_comes_with_the_end_stays_in_its_framing() {
    for size in [1, 4_096, 4_097, 5_000, 16_000, 40_000] {
        let body = "a".repeat(size);
        let chunks = format!("{size:x}\r\n{body}\r\n0\r\n\r\n");
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        let world = World::new(move |wire| {
            while wire.request().is_some() {
                wire.send(&answer);
            }
        });
        let mut client = world.client();
        for _ in 0..2 {
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"));
            assert!(content(&client.response()) == body, "{size} to the client");
            assert!(content(&world.origin.take()) == body, "{size} to the origin");
        }
    }
}

/// What a strict reader takes a message's chunks for; nothing may follow them.
fn content(message: &str) -> String {
    let (head, chunks) = message.split_once("\r\n\r\n").expect("a head");
    let mut content = Vec::new();
    let end = Chunks::new().read(chunks.as_bytes(), |piece| {
        if let Piece::Content(bytes) = piece {
            content.extend_from_slice(bytes);
        }
    });
    assert_eq!(end, Ok(Some(chunks.len())), "{head}");
    String::from_utf8(content).expect("text")
}

/// 31: the target's answer has begun, and the client leaves within its upload.
#[test]
fn an_upload_that_breaks_off_after_its_answer_has_begun_is_broken_off_at_the_origin() {
    for breaks in ["", "no chunk\r\n"] {
        let seen = Arc::new(AtomicUsize::new(0));
        let ended = seen.clone();
        let world = World::new(move |wire| {
            wire.head();
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
            if wire.ended() {
                ended.fetch_add(1, SeqCst);
            }
        });
        let mut client = world.client();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        client.until("part");
        client.send(breaks);
        if breaks.is_empty() {
            drop(client);
        } else {
            client.rest();
        }
        world.nothing_leaks();
        until(|| seen.load(SeqCst) > 0);
    }
}
