//! Nothing is without a bound: heads, bodies, time, connections.

use super::{
    http2::{END_HEADERS, END_STREAM, GET, HEADERS, fields, frame, opened, outcome},
    world::{OK, Origin, World, ok, start, until},
};

#[test]
fn a_head_is_bounded_in_bytes_fields_and_target() {
    // 37 (pingora MAX_HEADER_SIZE).
    let world = World::with("  bounds: {max_head: 16KiB, max_headers: 50}\n", ok);
    let long = "a".repeat(20_000);
    let many: String = (0..60).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (why, request, status) in [
        ("value", format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), 431),
        ("fields", format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"), 431),
        ("target", format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(70_000)), 414),
    ] {
        let answer = world.ask(&request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) || (status == 414 && answer.starts_with("HTTP/1.1 431 ")),
            "{why}: {answer}"
        );
        assert_eq!(world.origin.take(), "", "{why}");
    }
    let mut client = world.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "a".repeat(10_000)));
    assert!(client.response().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_head_that_never_ends_is_no_memory() {
    // 36, 37: one field without end.
    let world = World::with("  bounds: {max_head: 16KiB}\n", ok);
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
    let sent = (0..100_000).take_while(|_| client.try_send([b'a'; 4096])).count();
    assert!(sent < 20_000, "the proxy must stop reading");
}

#[test]
fn a_body_is_counted_as_it_streams() {
    let world = World::with("  bounds: {max_body: 1KiB}\n", |wire| {
        wire.request();
        wire.ended();
    });
    let answer = world.ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "by its length: {answer}");
    assert_eq!(world.origin.take(), "");
    let mut client = world.client();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("64\r\n{}\r\n", "a".repeat(100));
    client.send(&chunk);
    until(|| world.origin.got().concat().contains("aaa"));
    client.send(chunk.repeat(20));
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body_too_large"), "mid-stream: {answer}");
    let got = world.origin.take();
    assert!(got.starts_with("POST") && !got.ends_with("0\r\n\r\n"), "the origin sees a broken body: {got}");
    world.nothing_leaks();
}

#[test]
fn a_slow_head_and_a_slow_body_are_ended() {
    // 36 (slowloris).
    let world = World::with("  bounds: {header_read: 1s, body_idle: 200ms}\n", |wire| {
        wire.request();
        wire.ended();
    });
    let mut silent = world.client();
    let mut slow_head = world.client();
    slow_head.send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
    let mut slow_body = world.client();
    slow_body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
    let answer = slow_body.rest();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_idle_timeout"), "{answer}");
    let answer = slow_head.rest();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    silent.rest();
    world.metric("outrigger_connections{door=\"inbound\"}", "0");
    world.nothing_leaks();
}

#[test]
fn a_full_house_says_so() {
    // Issue 3, bounds: 503 with a reason rather than a silent close.
    let world = World::with("  bounds: {max_connections: 2}\n", ok);
    let mut first = world.client();
    let second = world.client();
    first.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    first.response();
    world.metric("outrigger_connections{door=\"inbound\"}", "2");
    let answer = world.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"overloaded\"") && answer.contains("max_connections"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("\r\ndate: ").count(), 1, "{answer}");
    drop(second);
    world.metric("outrigger_connections{door=\"inbound\"}", "1");
    let mut third = world.client();
    third.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(third.response().starts_with("HTTP/1.1 200 "));
}

/// Answers once the test says so.
fn held() -> (std::sync::mpsc::Sender<()>, impl Fn(&mut super::world::Wire) + Send + Sync + 'static) {
    let (go, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    (go, move |wire: &mut super::world::Wire| {
        while wire.request().is_some() {
            let _ = wait.lock().expect("lock").recv();
            wire.send(OK);
        }
    })
}

#[test]
fn more_requests_than_may_be_in_hand_are_refused_and_the_connection_goes_on() {
    // Issue 3, bounds: over HTTP/1 connections and HTTP/2 streams alike.
    let (go, script) = held();
    let world = World::with("  bounds: {max_requests: 2}\n", script);
    let mut first = world.client();
    first.send("GET /first HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut streams = opened(&world);
    streams.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(&GET)));
    until(|| world.origin.got().len() == 2);
    // A third, as a stream and by itself.
    streams.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, &fields(&GET)));
    let refused = outcome(&mut streams, 3);
    assert!(String::from_utf8_lossy(&refused.data).contains("max_requests") && refused.ended, "{refused:?}");
    let mut third = world.client();
    third.send("GET /third HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = third.response();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"overloaded\"") && answer.contains("max_requests"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n") && answer.contains("proxy-status: outrigger; error="), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
    assert!(!world.origin.got().concat().contains("/third"));
    world.metric("outrigger_rejects_total{door=\"inbound\",route=\"default\",reason=\"overloaded\"}", "2");
    // Places come back.
    go.send(()).expect("heard");
    go.send(()).expect("heard");
    assert!(first.response().starts_with("HTTP/1.1 200 "));
    assert_eq!(outcome(&mut streams, 1).status, Some(0x88));
    go.send(()).expect("heard");
    third.send("GET /third HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(third.response().starts_with("HTTP/1.1 200 "));
    world.nothing_leaks();
}

#[test]
fn the_outbound_door_says_it_in_the_providers_words() {
    let (go, script) = held();
    let origin = Origin::start(script);
    let app = start(&format!(
        "outbound:\n  listen: 127.0.0.1:0\n  bounds: {{max_requests: 1}}\n  providers: {{openai: {{url: \"http://{}/v1\"}}}}\n",
        origin.address
    ));
    let door = app.addresses.outbound.expect("open");
    let mut first = super::world::Client::connect(door);
    first.send("GET /openai/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(|| origin.got().len() == 1);
    let mut second = super::world::Client::connect(door);
    second.send("POST /openai/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
    let answer = second.response();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("{\"error\":{\"message\":") && answer.contains("\"code\":\"overloaded\""), "{answer}");
    go.send(()).expect("heard");
    assert!(first.response().starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_body_that_trickles_is_ended_and_grpc_may_wait() {
    // 36 (slow body): five seconds behind its least rate, which no pause of body_idle would end.
    let world = World::with("  bounds: {min_rate: 1KiB, body_idle: 300ms}\n", |wire| {
        wire.request();
        wire.ended();
    });
    let mut grpc = world.client();
    grpc.send("POST /grpc HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc+proto\r\nContent-Length: 1000\r\n\r\nhello");
    let mut slow = world.client();
    slow.send("POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n");
    // A byte whenever the last one has arrived and a moment has passed: no pause is ever too long.
    let began = outrigger::clock::Instant::now();
    let answer = slow.trickle(std::time::Duration::from_millis(50));
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body_too_slow") && answer.contains("min_rate"), "{answer}");
    assert!((4..9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    // More than ten times body_idle has passed.
    world.metric("outrigger_inflight_requests{door=\"inbound\"}", "1");
    assert!(world.origin.got().iter().any(|got| got.contains("POST /grpc ") && got.ends_with("hello")));
    drop(grpc);
    world.nothing_leaks();
}

#[test]
fn a_reader_behind_the_least_rate_is_ended_long_before_it_is_idle_for_too_long() {
    // 36 (slow read): a byte now and then keeps no connection.
    let world = World::with("  bounds: {min_rate: 1GiB}\n", |wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".to_vec(), vec![b'a'; 0x10000], b"\r\n".to_vec()].concat();
        while wire.try_send(&chunk) {}
    });
    let mut slow = world.client();
    slow.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    slow.until("a");
    world.metric("outrigger_timeouts_total{target=\"client\",bound=\"min_rate\"}", "1");
    world.metric("outrigger_connections{door=\"inbound\"}", "0");
    world.nothing_leaks();
}

#[test]
fn one_address_cannot_take_the_whole_house() {
    let world = World::with("  bounds: {max_connections_per_ip: 1}\n", ok);
    let mut first = world.client();
    first.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    first.response();
    let answer = world.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("max_connections_per_ip"), "{answer}");
    // A trusted proxy brings many clients.
    let trusting = World::with("  trusted_proxies: [127.0.0.0/8]\n  bounds: {max_connections_per_ip: 1}\n", ok);
    let mut both = [trusting.client(), trusting.client()];
    for client in &mut both {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(client.response().starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn a_slow_reader_holds_back_the_origin_and_not_memory() {
    // 36 (slow read): nothing reads; the origin can send no more than what sockets and one buffer hold.
    let (told, sent) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let world = World::new(move |wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.patience(std::time::Duration::from_millis(500));
        let chunk = [b"10000\r\n".to_vec(), vec![b'a'; 0x10000], b"\r\n".to_vec()].concat();
        let blocked = (0..4096).take_while(|_| wire.try_send(&chunk)).count();
        told.lock().expect("lock").send(blocked).expect("heard");
    });
    let mut client = world.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let chunks = sent.recv_timeout(super::world::PATIENCE).expect("the origin is held back");
    assert!(chunks < 1024, "{chunks} chunks of 64 KiB went out");
    drop(client);
    world.nothing_leaks();
    let _ = OK;
}

#[test]
fn a_process_beyond_its_memory_refuses_and_says_so() {
    // Issue 3, bounds: shedding rather than collapse. The real process, which is larger than this from its first request on.
    let world = World::with("memory_limit: 1MiB\n", ok);
    let ask = || world.ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    until(|| ask().starts_with("HTTP/1.1 503 "));
    let answer = ask();
    assert!(answer.contains("\"overloaded\"") && answer.contains("memory_limit") && answer.contains("connection: close\r\n"), "{answer}");
    world.metric("outrigger_memory_bytes{kind=\"budget\"}", "1048576");
}
