//! Streams and tunnels: every piece as it comes, both ways, and no piece held for the next.

use http::{Request, StatusCode};
use http_body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};

use crate::world::{Client, Opened, Reply, World, chat, json, ms, pass, run, secs, settle, upload};

const BOTH: &str = "{inbound: {app: 'http://app.test'}, outbound: {providers: {openai: {url: 'http://o.test'}}}}";

#[test]
fn events_arrive_when_they_are_sent() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.always(Reply::paced(ms(700), &["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"]).header("content-type", "text/event-stream"));
        let began = Instant::now();
        let mut opened = world.client().open(Request::get("/"), "").await;
        assert!(began.elapsed() < ms(5), "the head does not wait for the first event");
        for at in 1..=3 {
            assert_eq!(opened.text().await, format!("data: {at}\n\n"));
            assert_eq!(began.elapsed().as_millis() / 10, 70 * at, "event {at}");
        }
        assert!(opened.next().await.is_none());
    });
}

#[test]
fn tokens_of_a_model_arrive_one_by_one_also_where_policies_judge_the_stream() {
    run(async {
        let judged = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {retry: {}, breaker: {}, timeouts: {first_token: 60s, idle: 10s}, fallback: [{respond: {}}]}
  limits: [{key: provider, tokens: 100k, window: 1m}]
";
        for yaml in [BOTH, judged] {
            let world = World::new(yaml).await;
            world.provider("openai").script(["rate=10;tokens=20"]);
            let mut body = chat("gpt-4o");
            body["stream"] = true.into();
            let began = Instant::now();
            let mut opened = world.caller().open(json("/openai/v1/chat/completions"), body.to_string()).await;
            let mut pieces = 0;
            let mut moments = std::collections::BTreeSet::new();
            while let Some(piece) = opened.next().await {
                assert!(!piece.expect("unbroken").is_empty());
                pieces += 1;
                moments.insert(began.elapsed().as_millis() / 50);
            }
            assert!(pieces >= 20 && moments.len() >= 19, "{pieces} pieces at {} moments", moments.len());
            let took = began.elapsed();
            assert!((ms(1_800)..ms(2_200)).contains(&took), "{took:?}");
        }
    });
}

async fn websocket(client: &Client, path: &str) -> Opened {
    let asked = Request::get(path).header("connection", "keep-alive, Upgrade").header("upgrade", "websocket");
    client.open(asked.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").header("sec-websocket-version", "13"), "").await
}

#[test]
fn a_websocket_carries_bytes_both_ways_for_as_long_as_it_wants() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test', defaults: {timeouts: {idle: 5s, total: 10s, response_header: 5s}, retry: {}, breaker: {}}}",
        )
        .await;
        world.app.script([Reply::tunnel().header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]);
        let opened = websocket(&world.client(), "/live").await;
        assert_eq!(
            (opened.status, &opened.headers["sec-websocket-accept"]),
            (StatusCode::SWITCHING_PROTOCOLS, &"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".parse::<http::HeaderValue>().expect("a value"))
        );
        let seen = world.app.only();
        assert_eq!(
            (seen.header("connection"), seen.header("upgrade"), seen.header("sec-websocket-version")),
            ("upgrade", "websocket", "13")
        );
        let (mut tunnel, connection) = opened.upgraded().await;
        for text in ["first", "second"] {
            pass(secs(300)).await;
            tunnel.write_all(text.as_bytes()).await.expect("open");
            let mut back = vec![0; text.len()];
            timeout(secs(1), tunnel.read_exact(&mut back)).await.expect("at once").expect("open");
            assert_eq!(back, text.as_bytes());
        }
        assert_eq!(world.count("outrigger_inflight_requests", &[("door", "inbound")]), 1.0);
        drop((tunnel, connection));
        settle().await;
        assert_eq!(world.count("outrigger_inflight_requests", &[("door", "inbound")]), 0.0);
        let lines = world.log().await;
        assert_eq!((lines[0]["status"].as_u64(), lines[0]["bytes_out"].as_u64()), (Some(101), Some(11)), "{:#}", lines[0]);
    });
}

#[test]
fn a_websocket_that_the_app_declines_is_an_answer() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.script([Reply::status(403).body("not you")]);
        let answer = websocket(&world.client(), "/live").await.whole().await;
        assert_eq!((answer.status, answer.text()), (StatusCode::FORBIDDEN, "not you"));
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_no_answer() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.raw(["HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"]);
        assert_eq!(world.client().post("/", "x").await.status, StatusCode::BAD_GATEWAY);
    });
}

#[test]
fn a_body_that_breaks_does_not_look_whole() {
    run(async {
        let world = World::new(BOTH).await;
        world.app.script([Reply::paced(ms(5), &["a", "b"]).breaks()]);
        let answer = world.client().get("/").await;
        assert_eq!((answer.text(), answer.broken), ("ab", true));
        assert_eq!(world.log().await[0]["outcome"], "upstream_broken");
    });
}

#[test]
fn an_app_that_hangs_up_stops_the_model() {
    run(async {
        let world = World::new(BOTH).await;
        world.provider("openai").script(["rate=1;tokens=1000"]);
        let mut body = chat("gpt-4o");
        (body["stream"], body["max_tokens"]) = (true.into(), 1000.into());
        let mut opened = world.caller().open(json("/openai/v1/chat/completions"), body.to_string()).await;
        opened.text().await;
        drop(opened);
        pass(secs(5)).await;
        assert_eq!(world.provider("openai").abandoned(), 1);
        assert!(world.provider("openai").billed().1 < 30);
    });
}

/// Workers stop one after the other: who reads a stream that another worker fetches is cut by that one's stop.
#[test]
fn a_shared_stream_that_another_worker_ends_is_ended_by_the_proxy() {
    run(async {
        let world = World::new("outbound: {providers: {openai: {url: 'http://o.test'}}, defaults: {cache: {ttl: 1h, share: true}}}").await;
        world.provider("openai").script(["stall-after=3"]);
        let mut call = chat("gpt-4o");
        call["stream"] = serde_json::json!(true);
        let ask = async |caller: Client| {
            let mut opened = caller.open(json("/openai/v1/chat/completions"), call.to_string()).await;
            opened.text().await;
            opened
        };
        let readers = [ask(world.caller()).await, ask(world.caller_elsewhere()).await];
        world.proxy.stop.advance();
        for reader in readers {
            let answer = reader.whole().await;
            assert!(answer.broken && answer.text().contains("the proxy is shutting down"), "{}", answer.text());
        }
        let outcomes: Vec<_> = world.log().await.iter().map(|line| line["outcome"].clone()).collect();
        assert_eq!(outcomes, ["stopped", "stopped"]);
        assert_eq!(world.provider("openai").seen().len(), 1);
    });
}

/// Both halves stream at once through narrow pipes: none of them may wait for the other, nor take its place in a queue.
#[test]
fn an_answer_that_is_made_of_the_upload_streams_with_it() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}").await;
        world.app.always(Reply::echo());
        let (pieces, body) = upload();
        const PIECES: usize = 300;
        let sends = async {
            for at in 0..PIECES {
                // Of all sizes, more than a pipe holds.
                pieces.send(Ok(Frame::data(vec![b'x'; 1 + at * 131 % 40_000].into()))).await.expect("read");
            }
            drop(pieces);
        };
        let reads = async { world.client().send(Request::post("/echo").body(body).expect("a request")).await.whole().await };
        let (answer, ()) = tokio::join!(reads, sends);
        let wanted: usize = (0..PIECES).map(|at| 1 + at * 131 % 40_000).sum();
        assert_eq!((answer.broken, answer.body.len()), (false, wanted));
    });
}
