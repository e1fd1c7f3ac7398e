//! HTTP/2 in clear text: frames written by hand, and what of them reaches an HTTP/1 origin.

use super::world::{Client, OK, PATIENCE, World, ok, until};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
pub const HEADERS: u8 = 1;
pub const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literal fields without indexing (RFC 7541 section 6.2.2), nothing compressed.
pub fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).ok().filter(|n| *n < 127).expect("short")], text.as_bytes()].concat();
    list.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

pub fn opened(world: &World) -> Client {
    let mut client = world.client();
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    client
}

pub const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/x?y"), (":authority", "h:1")];
pub const POST: [(&str, &str); 4] = [(":method", "POST"), (":scheme", "http"), (":path", "/up"), (":authority", "h")];

/// What came for a stream: an answer's status byte (RFC 7541: 0x88 is 200), its data, or how it was refused.
#[derive(Debug, Default)]
pub struct Outcome {
    pub status: Option<u8>,
    pub data: Vec<u8>,
    pub ended: bool,
    trailers: bool,
    pub refused: bool,
}

pub fn outcome(client: &mut Client, stream: u32) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some((kind, flags, of, payload)) = client.frame() {
        match kind {
            GOAWAY => outcome.refused = true,
            RST_STREAM if of == stream => {
                outcome.refused = true;
                return outcome;
            }
            HEADERS if of == stream => {
                outcome.trailers = outcome.status.is_some();
                outcome.status = outcome.status.or(payload.iter().copied().find(|b| b & 0xe0 != 0x20));
                outcome.ended = flags & END_STREAM != 0;
            }
            DATA if of == stream => {
                outcome.data.extend(payload);
                outcome.ended = flags & END_STREAM != 0;
            }
            _ => {}
        }
        if outcome.ended {
            return outcome;
        }
    }
    outcome
}

#[test]
fn a_request_becomes_an_ordinary_one() {
    let world = World::new(ok);
    let mut client = opened(&world);
    for stream in [1, 3] {
        let list = [&GET[..], &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-forwarded-for", "6.6.6.6")]].concat();
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, stream, &fields(&list)));
        let answer = outcome(&mut client, stream);
        assert!(answer.status == Some(0x88) && answer.data == b"ok" && answer.ended, "{answer:?}");
        let got = world.origin.take();
        assert!(got.starts_with("GET /x?y HTTP/1.1\r\n"), "{got}");
        for wanted in ["host: h:1\r\n", "cookie: a=1; b=2\r\n", "via: 2 ", "x-forwarded-for: 127.0.0.1\r\n"] {
            assert!(got.contains(wanted), "{wanted:?} in {got}");
        }
        assert!(!got.contains("6.6.6.6"), "{got}");
    }
    client.send([frame(HEADERS, END_HEADERS, 5, &fields(&POST)), frame(DATA, 0, 5, b"hel"), frame(DATA, END_STREAM, 5, b"lo")].concat());
    assert_eq!(outcome(&mut client, 5).status, Some(0x88));
    let got = world.origin.take();
    assert!(got.contains("transfer-encoding: chunked") && got.ends_with("0\r\n\r\n"), "{got}");
    drop(client);
    world.nothing_leaks();
}

#[test]
fn what_would_be_injected_into_http1_is_refused() {
    // 15 (RFC 9113 8.2.1, 8.2.2, 8.3.1), 12, 18, 19.
    let world = World::new(ok);
    let with = |name: &'static str, value: &'static str| [&GET[..], &[(name, value)]].concat();
    let instead = |at: usize, value: &'static str| {
        let mut list = GET.to_vec();
        list[at].1 = value;
        list
    };
    for (hazard, list) in [
        ("15 CRLF in a value", with("x", "a\r\nTransfer-Encoding: chunked")),
        ("15 LF in a value", with("x", "a\nb")),
        ("15 NUL in a value", with("x", "a\0b")),
        ("15 CRLF in a name", with("x: a\r\ny", "b")),
        ("15 colon in a name", with("x:y", "b")),
        ("15 upper case in a name", with("Transfer-Encoding", "chunked")),
        ("15 a framing field", with("transfer-encoding", "chunked")),
        ("15 Connection", with("connection", "x")),
        ("15 Upgrade", with("upgrade", "h2c")),
        ("15 TE", with("te", "gzip")),
        ("15 space in the path", instead(2, "/ HTTP/1.1\r\nHost: evil")),
        ("15 no slash", instead(2, "x")),
        ("15 space in the method", instead(0, "GET / HTTP/1.1\r\nX:")),
        ("15 a pseudo field after others", [&[("x", "y")][..], &GET[..]].concat()),
        ("15 a pseudo field twice", with(":path", "/other")),
        ("15 length without data", with("content-length", "5")),
        ("12 CONNECT", vec![(":method", "CONNECT"), (":authority", "h:80")]),
        ("18 user information", instead(3, "u@h")),
        ("19 Host differs", with("host", "other")),
        ("19 no authority", GET[..3].to_vec()),
        ("21 an alias of a framing field", with("content_length", "5")),
    ] {
        let mut client = opened(&world);
        client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&list)));
        let answer = outcome(&mut client, 1);
        assert!(answer.refused || answer.status.is_some_and(|status| status != 0x88), "{hazard}: {answer:?}");
        drop(client);
        assert_eq!(world.origin.take(), "", "{hazard}");
    }
    world.nothing_leaks();
}

#[test]
fn a_body_that_differs_from_its_length_is_never_complete() {
    // 15 (pingora 0.5 content-length underflow).
    let world = World::new(|wire| {
        wire.request();
        wire.send(OK);
        wire.ended();
    });
    for data in ["hello", "hello and a request"] {
        let mut client = opened(&world);
        let list = [&POST[..], &[("content-length", "10")]].concat();
        client.send([frame(HEADERS, END_HEADERS, 1, &fields(&list)), frame(DATA, END_STREAM, 1, data.as_bytes())].concat());
        let answer = outcome(&mut client, 1);
        assert!(answer.status != Some(0x88), "{data}: {answer:?}");
        let got = world.origin.take();
        assert!(!got.contains("request"), "{got}");
    }
    world.nothing_leaks();
}

#[test]
fn a_request_that_was_taken_back_is_never_complete() {
    // 31: a reset with NO_ERROR after a piece of the body, too, which hyper takes for the body's end.
    let (told, whole) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let world = World::new(move |wire| {
        let whole = wire.request().is_some();
        told.lock().expect("lock").send(whole).expect("heard");
    });
    for code in [0_u8, 2, 8] {
        let mut client = opened(&world);
        client.send(frame(HEADERS, END_HEADERS, 1, &fields(&POST)));
        until(|| world.origin.got().concat().contains("\r\n\r\n"));
        client.send([frame(DATA, 0, 1, b"half"), frame(RST_STREAM, 0, 1, &[0, 0, 0, code])].concat());
        assert_eq!(whole.recv_timeout(PATIENCE), Ok(false), "code {code}");
        assert!(world.origin.take().starts_with("POST /up "), "code {code}");
        world.nothing_leaks();
    }
}

#[test]
fn a_body_of_any_method_passes() {
    // 23 (legal traffic passes untouched): hyper leaves it out after GET and HEAD unless its coding is written.
    let world = World::new(ok);
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        let mut client = opened(&world);
        let list = [&[(":method", method)][..], &GET[1..]].concat();
        client.send([frame(HEADERS, END_HEADERS, 1, &fields(&list)), frame(DATA, END_STREAM, 1, b"hello")].concat());
        assert_eq!(outcome(&mut client, 1).status, Some(0x88), "{method}");
        let got = world.origin.take();
        assert!(got.starts_with(method) && got.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{got}");
    }
    world.nothing_leaks();
}

#[test]
fn floods_end_the_connection() {
    let world = World::new(|wire| while wire.request().is_some() {});
    // 32 (CVE-2023-44487): open and reset.
    let mut client = opened(&world);
    let list = fields(&GET);
    let sent = (0..20_000u32).take_while(|n| {
        let stream = 2 * n + 1;
        client.try_send([frame(HEADERS, END_STREAM | END_HEADERS, stream, &list), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
    });
    let sent = sent.count();
    client.rest();
    drop(client);
    world.nothing_leaks();
    let tries = world.origin.take().matches("GET ").count();
    assert!(tries < 1000, "32: {tries} tries for {sent} requests");
    // 33 (CVE-2025-8671): make the server reset.
    let mut client = opened(&world);
    for n in 0..1000u32 {
        let stream = 2 * n + 1;
        client.send([frame(HEADERS, END_HEADERS, stream, &fields(&POST)), frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 0])].concat());
    }
    client.rest();
    drop(client);
    world.nothing_leaks();
    // 34 (RUSTSEC-2024-0332): a head that never ends.
    let mut client = opened(&world);
    client.send(frame(HEADERS, END_STREAM, 1, &list));
    let filler = frame(CONTINUATION, 0, 1, &fields(&[("x", "0123456789012345678901234567890123456789")]).repeat(100));
    let sent = (0..20_000).take_while(|_| client.try_send(&filler)).count();
    client.rest();
    assert!(sent < 20_000, "34: the connection must end");
    world.nothing_leaks();
}

#[test]
fn streams_that_are_reset_behind_a_closed_window_are_forgotten() {
    // 35 (RUSTSEC-2024-0003): answers that may not be sent, and are then not wanted, leave nothing behind.
    let body = "a".repeat(100_000);
    let world = World::new(move |wire| {
        while wire.request().is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
    });
    let mut client = world.client();
    // SETTINGS_INITIAL_WINDOW_SIZE: 0
    client.send([PREFACE, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat());
    for batch in 0..10u32 {
        let streams: Vec<u32> = (0..50).map(|n| 2 * (50 * batch + n) + 1).collect();
        for stream in &streams {
            client.send(frame(HEADERS, END_STREAM | END_HEADERS, *stream, &fields(&GET)));
        }
        let mut answered = 0;
        while answered < streams.len() {
            let (kind, _, _, _) = client.frame().expect("35 the connection goes on");
            assert_ne!(kind, DATA, "35 the window is closed");
            answered += usize::from(kind == HEADERS);
        }
        for stream in &streams {
            client.send(frame(RST_STREAM, 0, *stream, &[0, 0, 0, 8]));
        }
        world.nothing_leaks();
    }
}

#[test]
fn a_response_is_passed_with_its_trailers_and_without_what_belongs_to_http1() {
    // 13, 28, 41.
    let world = World::new(|wire| {
        while wire.request().is_some() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n");
        }
    });
    let mut client = opened(&world);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&[&GET[..], &[("te", "trailers")]].concat())));
    let answer = outcome(&mut client, 1);
    assert!(answer.status == Some(0x88) && answer.data == b"ok" && answer.ended && answer.trailers, "{answer:?}");
}

#[test]
fn a_drain_says_goaway_and_finishes_what_is_in_hand() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let world = World::new(move |wire| {
        while wire.request().is_some() {
            wait.lock().expect("lock").recv_timeout(PATIENCE).expect("told");
            wire.send(OK);
        }
    });
    let mut client = opened(&world);
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&GET)));
    until(|| world.origin.got().concat().contains("GET /x"));
    world.app.leave();
    while let Some((kind, ..)) = client.frame() {
        if kind == GOAWAY {
            break;
        }
    }
    go.send(()).expect("waiting");
    let answer = outcome(&mut client, 1);
    assert!(answer.status == Some(0x88) && answer.data == b"ok", "{answer:?}");
    while client.frame().is_some() {}
    world.nothing_leaks();
}

#[test]
fn a_preface_that_is_not_one_is_http1_or_nothing() {
    let world = World::new(ok);
    for (bytes, status) in [("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", 505), ("PRI * HTTP/1.1\r\nHost: h\r\n\r\n", 400)] {
        let answer = world.ask(bytes);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let mut client = world.client();
    for piece in ["P", "OST / HTTP/1.1\r\nHo", "st: h\r\nContent-Length: 2\r\n\r\nhi"] {
        client.send(piece);
    }
    assert!(client.response().starts_with("HTTP/1.1 200 "));
    assert_eq!(world.origin.take().matches("POST / HTTP/1.1").count(), 1);
}
