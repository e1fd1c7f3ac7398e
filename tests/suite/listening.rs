//! Connections and framing at the inbound door, as RFC 9112 has them, and the ceilings that hold without being named.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, timeout},
};

use crate::world::{Reply, World, ms, run, secs, settle, upload};

const PLAIN: &str = "inbound: {app: 'http://app.test'}";

/// Everything until the proxy closes.
async fn to_the_end(pipe: &mut DuplexStream) -> String {
    let mut text = String::new();
    timeout(secs(3600), pipe.read_to_string(&mut text)).await.expect("closed in time").expect("text");
    text
}

#[test]
fn many_requests_go_over_one_connection_on_each_side() {
    run(async {
        let world = World::new(PLAIN).await;
        let mut connection = world.client().connect().await;
        for _ in 0..5 {
            assert_eq!(connection.get("/").await.expect("open").text(), "hello");
        }
        assert_eq!((world.app.asked(), world.app.connections()), (5, 1));
    });
}

#[test]
fn an_upstream_connection_that_was_idle_for_three_seconds_is_not_used_again() {
    run(async {
        let world = World::new(PLAIN).await;
        world.client().get("/").await;
        crate::world::pass(ms(2_500)).await;
        world.client().get("/").await;
        assert_eq!(world.app.connections(), 1);
        crate::world::pass(ms(3_500)).await;
        world.client().get("/").await;
        assert_eq!(world.app.connections(), 2);
    });
}

#[test]
fn answers_without_a_body_keep_their_fields_and_the_connection() {
    run(async {
        let world = World::new(PLAIN).await;
        let mut connection = world.client().connect().await;
        let head = connection.ask(Request::head("/"), "").await.expect("open");
        assert_eq!((head.header("content-length"), head.text()), ("5", ""));
        world.app.script([Reply::status(204).header("x-a", "1"), Reply::status(304).header("etag", "\"v\""), Reply::ok("last")]);
        let none = connection.get("/").await.expect("open");
        assert_eq!((none.status, none.header("x-a"), none.header("content-length")), (StatusCode::NO_CONTENT, "1", ""));
        let same = connection.get("/").await.expect("open");
        assert_eq!((same.status, same.header("etag"), same.text()), (StatusCode::NOT_MODIFIED, "\"v\"", ""));
        assert_eq!(connection.get("/").await.expect("open").text(), "last");
        assert_eq!(world.app.connections(), 1);
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.always(Reply::paced(ms(1), &["a", "b"]).header("trailer", "x-sum").trailer("x-sum", "2"));
        let (send, body) = upload();
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-up").body(body).expect("a request");
        let client = world.client();
        let (opened, ()) = futures_util::join!(client.send(request), async {
            send.send(Ok(Frame::data(Bytes::from("data")))).await.expect("taken");
            let fields = http::HeaderMap::from_iter([("x-up".parse().expect("name"), "1".parse().expect("value"))]);
            send.send(Ok(Frame::trailers(fields))).await.expect("taken");
            drop(send);
        });
        let answer = opened.whole().await;
        assert_eq!(answer.text(), "ab");
        assert_eq!(answer.trailers.expect("trailers")["x-sum"], "2");
        let seen = world.app.only();
        assert_eq!(&seen.body[..], b"data");
        assert_eq!(seen.trailers.expect("trailers")["x-up"], "1");
    });
}

#[test]
fn pieces_pass_as_they_come_in_both_directions_at_once() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.always(Reply::echo());
        let (send, body) = upload();
        send.send(Ok(Frame::data(Bytes::from("one")))).await.expect("taken");
        let mut opened = world.client().send(Request::post("/").body(body).expect("a request")).await;
        assert_eq!(opened.text().await, "one");
        send.send(Ok(Frame::data(Bytes::from("two")))).await.expect("taken");
        assert_eq!(opened.text().await, "two", "before the upload has ended");
        drop(send);
        assert!(opened.next().await.is_none());
    });
}

#[test]
fn a_client_that_does_not_read_stops_the_app_not_memory() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.always(Reply::endless());
        let mut opened = world.client().open(Request::get("/"), "").await;
        crate::world::pass(secs(10)).await;
        let held = world.app.produced();
        assert!(held < 1 << 20, "{held} bytes are on their way to nobody");
        crate::world::pass(secs(10)).await;
        assert_eq!(world.app.produced(), held);
        for _ in 0..200 {
            opened.next().await.expect("more").expect("unbroken");
        }
        assert!(world.app.produced() > held);
    });
}

#[test]
fn a_client_that_leaves_takes_its_request_from_the_app() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.script([Reply::hang(), Reply::endless()]);
        let client = world.client();
        assert!(timeout(secs(1), client.get("/")).await.is_err());
        settle().await;
        assert_eq!(world.app.abandoned(), 1, "while it waited for the head");
        let opened = client.open(Request::get("/"), "").await;
        drop(opened);
        settle().await;
        assert_eq!(world.app.abandoned(), 2, "in the middle of the body");
        assert_eq!(world.count("outrigger_inflight_requests", &[("door", "inbound")]), 0.0);
    });
}

#[test]
fn a_head_that_does_not_come_to_an_end_ends_the_connection() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', bounds: {header_read: 5s}}").await;
        let mut pipe = world.client().raw();
        let began = Instant::now();
        pipe.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n").await.expect("open");
        to_the_end(&mut pipe).await;
        assert!((secs(5)..=secs(8)).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert_eq!(world.app.asked(), 0);
    });
}

#[test]
fn a_connection_that_is_idle_for_too_long_is_closed() {
    run(async {
        let world = World::new(PLAIN).await;
        let mut connection = world.client().connect().await;
        connection.get("/").await.expect("open");
        crate::world::pass(secs(70)).await;
        connection.get("/").await.expect("still open");
        crate::world::pass(secs(80)).await;
        assert!(connection.get("/").await.is_err());
    });
}

#[test]
fn a_head_beyond_the_bounds_is_refused_with_431() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', bounds: {max_head: 8KiB, max_headers: 20}}").await;
        let long = world.client().ask(Request::get("/").header("x-long", "x".repeat(9_000)), "").await;
        assert_eq!(long.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        let mut many = Request::get("/");
        for at in 0..21 {
            many = many.header(format!("x-{at}"), "1");
        }
        assert_eq!(world.client().ask(many, "").await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(world.app.asked(), 0);
    });
}

#[test]
fn a_body_beyond_the_bound_is_refused_announced_or_not() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', bounds: {max_body: 10}}").await;
        let announced = world.client().post("/", "12345678901").await;
        assert_eq!((announced.status, world.app.asked()), (StatusCode::PAYLOAD_TOO_LARGE, 0));
        let (send, body) = upload();
        let client = world.client();
        let request = Request::post("/").body(body).expect("a request");
        let (chunked, _) = futures_util::join!(client.send(request), async {
            send.send(Ok(Frame::data(Bytes::from("123456")))).await?;
            send.send(Ok(Frame::data(Bytes::from("789012")))).await
        });
        assert_eq!(chunked.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(world.client().post("/", "1234567890").await.status, StatusCode::OK);
    });
}

#[test]
fn a_body_that_stops_coming_is_given_up_and_the_app_is_not_to_blame() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', bounds: {body_idle: 3s}}").await;
        let (send, body) = upload();
        send.send(Ok(Frame::data(Bytes::from("begin")))).await.expect("taken");
        let began = Instant::now();
        let opened = world.client().send(Request::post("/").body(body).expect("a request")).await;
        assert_eq!((opened.status, began.elapsed().as_secs()), (StatusCode::REQUEST_TIMEOUT, 3));
        assert_eq!(opened.headers["connection"], "close");
        assert_eq!(
            world.count("outrigger_rejects_total", &[("door", "inbound"), ("reason", "body_idle_timeout")]),
            1.0,
            "{}",
            world.metrics()
        );
    });
}

#[test]
fn requests_that_were_sent_ahead_are_answered_in_order() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.script([Reply::ok("first").after(secs(2)), Reply::ok("second")]);
        let mut pipe = world.client().raw();
        pipe.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("open");
        let text = to_the_end(&mut pipe).await;
        let (first, second) = (text.find("first").expect("first"), text.find("second").expect("second"));
        assert!(first < second);
        assert_eq!(world.app.seen().iter().map(|seen| seen.target.clone()).collect::<Vec<_>>(), ["/1", "/2"]);
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    run(async {
        let world = World::new(PLAIN).await;
        let mut pipe = world.client().raw();
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
        pipe.write_all(head).await.expect("open");
        let mut begin = [0; 25];
        timeout(secs(60), pipe.read_exact(&mut begin)).await.expect("in time").expect("open");
        assert_eq!(&begin, b"HTTP/1.1 100 Continue\r\n\r\n");
        pipe.write_all(b"data").await.expect("open");
        assert!(to_the_end(&mut pipe).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(&world.app.only().body[..], b"data");
    });
}

#[test]
fn what_could_be_understood_in_two_ways_does_not_reach_the_app() {
    run(async {
        let world = World::new(PLAIN).await;
        for head in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\ndata",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        ] {
            let mut pipe = world.client().raw();
            pipe.write_all(head.as_bytes()).await.expect("open");
            let text = to_the_end(&mut pipe).await;
            assert!(text.starts_with("HTTP/1.1 400 "), "{head:?} was answered {text:?}");
        }
        assert_eq!(world.app.asked(), 0);
    });
}

#[test]
fn both_a_length_and_chunks_are_refused_and_the_connection_ends() {
    run(async {
        let world = World::new(PLAIN).await;
        let mut pipe = world.client().raw();
        let both = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        pipe.write_all(format!("{both}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.expect("open");
        let text = to_the_end(&mut pipe).await;
        assert!(
            text.starts_with("HTTP/1.1 400 ") && text.contains("connection: close") && text.matches("HTTP/1.1 ").count() == 1,
            "{text}"
        );
        assert!(world.app.seen().is_empty());
    });
}

#[test]
fn an_answer_before_the_upload_has_ended_reaches_the_client() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.script([Reply::status(403).body("enough").early()]);
        let (send, body) = upload();
        send.send(Ok(Frame::data(Bytes::from("begin")))).await.expect("taken");
        let opened = world.client().send(Request::post("/").body(body).expect("a request")).await;
        assert_eq!(opened.status, StatusCode::FORBIDDEN);
        assert_eq!(opened.whole().await.text(), "enough");
        assert_eq!(world.client().get("/").await.text(), "hello", "the connection with the rest of the upload is not used again");
        assert_eq!(world.app.connections(), 2);
    });
}
