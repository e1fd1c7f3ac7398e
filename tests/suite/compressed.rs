//! `compress`: answers that go to the client in a coding which the app did not give them.

use std::time::Duration;

use bytes::Bytes;
use flate2::read::{GzDecoder, MultiGzDecoder};
use http::{Request, StatusCode, header};
use std::io::Read;

use crate::world::{Answer, Reply, World, run};

const YAML: &str = "
inbound:
  app: http://app.test
  limits: [{name: pace, key: client_ip, requests: 1000, window: 1h}]
  defaults: {compress: {}}
  routes:
    - {name: kept, match: {path: /kept/**}, cache: {ttl: 10m}}
    - {name: events, match: {path: /events}, compress: {types: [usual, text/event-stream]}}
    - {name: watched, match: {path: /watched}, compress: {mode: observe}}
    - {name: plain, match: {path: /plain}, compress: {mode: off}}
";

fn text() -> Vec<u8> {
    (0..4_000).map(|n| format!("<li>line {n}</li>\n")).collect::<String>().into_bytes()
}

fn page() -> Reply {
    Reply::ok("").bytes(text()).header("content-type", "text/html").header("etag", "\"v1\"").header("accept-ranges", "bytes")
}

async fn ask(world: &World, path: &str, codings: &str) -> Answer {
    world.client().ask(Request::get(path).header("accept-encoding", codings), "").await
}

fn decoded(answer: &Answer) -> Vec<u8> {
    let mut text = Vec::new();
    match answer.header("content-encoding") {
        "gzip" => MultiGzDecoder::new(&answer.body[..]).read_to_end(&mut text).map(|_| ()).expect("gzip"),
        "zstd" => text = zstd::decode_all(&answer.body[..]).expect("zstd"),
        "br" => brotli::BrotliDecompress(&mut &answer.body[..], &mut text).expect("br"),
        _ => text = answer.body.to_vec(),
    }
    text
}

#[test]
fn a_client_gets_the_coding_that_it_likes_best_and_the_same_text() {
    run(async {
        let world = World::new(YAML).await;
        world.app.always(page());
        for (codings, expected) in [("gzip, br, zstd", "zstd"), ("gzip, br", "br"), ("gzip", "gzip"), ("gzip;q=0", ""), ("identity", "")] {
            let answer = ask(&world, "/", codings).await;
            assert_eq!((answer.header("content-encoding"), answer.header("vary")), (expected, "accept-encoding"), "{codings}");
            assert_eq!(decoded(&answer), text(), "{codings}");
            let coded = !expected.is_empty();
            assert_eq!(answer.header("etag"), if coded { "W/\"v1\"" } else { "\"v1\"" });
            assert_eq!((answer.header("accept-ranges").is_empty(), answer.body.len() < text().len()), (coded, coded));
        }
        assert_eq!(world.count("outrigger_compressed_total", &[("result", "br")]), 1.0);
        let head = world.client().ask(Request::head("/").header("accept-encoding", "gzip"), "").await;
        assert_eq!((head.header("content-encoding"), head.header("content-length")), ("gzip", ""));
    });
}

#[test]
fn a_kept_answer_is_coded_once_for_each_coding() {
    run(async {
        let world = World::new(YAML).await;
        world.app.always(page());
        let first = ask(&world, "/kept/a", "gzip").await;
        for _ in 0..3 {
            let again = ask(&world, "/kept/a", "gzip").await;
            assert!(again.header("cache-status").contains("hit"), "{}", again.header("cache-status"));
            assert_eq!((again.header("content-encoding"), decoded(&again)), ("gzip", decoded(&first)));
        }
        assert_eq!(decoded(&ask(&world, "/kept/a", "br").await), text());
        assert_eq!(decoded(&ask(&world, "/kept/a", "").await), text());
        let count = |result: &str| world.count("outrigger_compressed_total", &[("route", "kept"), ("result", result)]);
        assert_eq!((world.app.asked(), count("gzip"), count("kept"), count("br")), (1, 2.0, 2.0, 1.0));
        // A client that has the coded page is told that it is still the same.
        let request = Request::get("/kept/a").header("accept-encoding", "gzip").header("if-none-match", "W/\"v1\"");
        let unchanged = world.client().ask(request, "").await;
        assert_eq!((unchanged.status, unchanged.header("vary"), unchanged.body.len()), (StatusCode::NOT_MODIFIED, "accept-encoding", 0));
    });
}

#[test]
fn a_part_of_a_kept_file_stays_a_part_of_the_file() {
    run(async {
        let world = World::new(YAML).await;
        world.app.always(page());
        ask(&world, "/kept/a", "gzip").await;
        let request = Request::get("/kept/a").header("accept-encoding", "gzip").header("range", "bytes=0-9");
        let part = world.client().ask(request, "").await;
        assert_eq!((part.status, part.header("content-encoding")), (StatusCode::PARTIAL_CONTENT, ""));
        assert_eq!(part.body, text()[..10]);
    });
}

#[test]
fn events_come_one_by_one_also_when_they_are_compressed() {
    run(async {
        let world = World::new(YAML).await;
        let pieces: &[&str] = &["data: one\n\n", "data: two\n\n", "data: three\n\n"];
        world.app.always(Reply::paced(Duration::from_secs(5), pieces).header("content-type", "text/event-stream"));
        let mut opened = world.client().open(Request::get("/events").header("accept-encoding", "gzip"), "").await;
        assert_eq!(opened.headers[header::CONTENT_ENCODING], "gzip");
        let (mut bytes, mut seen) = (Vec::<u8>::new(), String::new());
        for expected in ["data: one\n\n", "data: one\n\ndata: two\n\n"] {
            while seen != expected {
                bytes.extend(opened.next().await.expect("goes on").expect("whole"));
                seen = at_hand(&bytes);
                assert!(expected.starts_with(&seen), "{seen} came before {expected}");
            }
        }
        while let Some(piece) = opened.next().await {
            bytes.extend(piece.expect("whole"));
        }
        assert_eq!(at_hand(&bytes), pieces.concat());
        // Usual types are no streams.
        let plain = ask(&world, "/other", "gzip").await;
        assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", ""));
    });
}

/// The text of the bytes so far.
fn at_hand(bytes: &[u8]) -> String {
    let (mut text, mut decoder) = (Vec::new(), GzDecoder::new(bytes));
    let mut buffer = [0; 64];
    while let Ok(read @ 1..) = decoder.read(&mut buffer) {
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn what_must_not_be_changed_is_not_changed() {
    run(async {
        let world = World::new(YAML).await;
        for reply in [
            page().header("cache-control", "no-transform"),
            page().header("content-encoding", "br"),
            page().header("content-digest", "sha-256=:x:"),
            Reply::ok("short").header("content-type", "text/html"),
            Reply::ok("").bytes(text()).header("content-type", "image/png"),
        ] {
            world.app.script([reply.clone(), reply]);
            let direct = ask(&world, "/plain", "gzip").await;
            let answer = ask(&world, "/", "gzip").await;
            assert_eq!(answer.body, direct.body);
            assert_eq!(answer.header("content-encoding"), direct.header("content-encoding"));
            assert_eq!(answer.header("vary"), "");
        }
        world.app.always(page());
        let watched = ask(&world, "/watched", "gzip").await;
        assert_eq!((watched.header("content-encoding"), watched.header("vary"), watched.body.len()), ("", "", text().len()));
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "watched"), ("policy", "compress")]), 1.0);
    });
}

#[test]
fn a_broken_answer_breaks_and_never_ends_well() {
    run(async {
        let world = World::new(YAML).await;
        world
            .app
            .always(Reply::paced(Duration::from_millis(5), &["<li>one</li>", "<li>two</li>"]).header("content-type", "text/html").breaks());
        let mut opened = world.client().open(Request::get("/").header("accept-encoding", "gzip"), "").await;
        let mut end = None;
        while let Some(piece) = opened.next().await {
            end = Some(piece);
        }
        let last: Option<Result<Bytes, _>> = end;
        assert!(last.is_some_and(|last| last.is_err()), "the client sees that the answer is cut");
    });
}

#[test]
fn encoders_are_bounded_and_what_comes_beyond_goes_out_as_it_is() {
    run(async {
        let world = World::new(YAML).await;
        world.app.always(Reply::endless().header("content-type", "text/event-stream"));
        let open = async || world.client().open(Request::get("/events").header("accept-encoding", "gzip"), "").await;
        let mut streams = Vec::new();
        for _ in 0..64 {
            streams.push(open().await);
        }
        assert!(streams.iter().all(|stream| stream.headers.contains_key(header::CONTENT_ENCODING)));
        let beyond = open().await;
        assert_eq!(
            (beyond.headers.get(header::CONTENT_ENCODING), &beyond.headers[header::VARY]),
            (None, &"accept-encoding".parse().unwrap())
        );
        assert_eq!(world.count("outrigger_compressed_total", &[("result", "busy")]), 1.0);
        drop(streams);
        crate::world::settle().await;
        assert!(open().await.headers.contains_key(header::CONTENT_ENCODING), "there is room again");
    });
}
