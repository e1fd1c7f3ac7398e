//! A target that dies, hangs or never ends: 502 or 504 with a reason, or a body that is visibly cut. Never a hang, never a wrong
//! body, no connection leaked.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, Stdio},
};

use super::world::{Client, OK, World, start, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn an_app_that_is_killed_mid_response_cuts_the_answer_visibly() {
    let mut app = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "faults::an_app_for_the_tests_above", "--ignored", "--nocapture"])
        .env("HAZARD_APP", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs");
    let lines = BufReader::new(app.stdout.take().expect("piped")).lines();
    let port = lines.map_while(Result::ok).find_map(|line| line.split("port ").nth(1).map(str::to_owned)).expect("listening");
    let proxy = start(&format!("inbound:\n  listen: 127.0.0.1:0\n  app: http://127.0.0.1:{port}\n"));
    let mut clients: Vec<Client> = Vec::new();
    for path in ["/length", "/chunks", "/silent"] {
        let mut client = Client::connect(proxy.addresses.inbound.expect("open"));
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        if path != "/silent" {
            client.until("part");
        } else {
            // The app has it when it says so.
            until(|| proxy.telemetry.metrics().render().contains("outrigger_pool_connections{target=\"app\",state=\"active\"} 3"));
        }
        clients.push(client);
    }
    app.kill().expect("SIGKILL");
    app.wait().expect("dead");
    assert_eq!(clients[0].rest(), "", "fewer bytes than announced");
    assert_eq!(clients[1].rest(), "\r\n", "no last chunk");
    let answer = clients[2].response();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connection_reset"), "{answer}");
    let mut after = Client::connect(proxy.addresses.inbound.expect("open"));
    after.send(GET);
    let answer = after.response();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connect_failed"), "{answer}");
    until(|| proxy.telemetry.metrics().render().contains("outrigger_pool_connections{target=\"app\",state=\"active\"} 0"));
}

/// Not a test of its own: a process that can be killed.
#[test]
#[ignore = "not a test: the app process that the SIGKILL test starts by this name and kills"]
fn an_app_for_the_tests_above() {
    if std::env::var_os("HAZARD_APP").is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("port {}", listener.local_addr().expect("bound").port());
    let mut open = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.expect("accepted");
        let mut line = String::new();
        BufReader::new(stream.try_clone().expect("cloned")).read_line(&mut line).expect("read");
        let answer: &[u8] = match line.split(' ').nth(1) {
            Some("/length") => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
            Some("/chunks") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
            _ => b"",
        };
        stream.write_all(answer).expect("sent");
        open.push(stream);
    }
}

#[test]
fn a_target_that_says_nothing_is_504_in_time() {
    let bounds = "  defaults:\n    timeouts: {response_header: 700ms, idle: 100ms}\n";
    let world = World::with(bounds, |wire| {
        let head = wire.request().unwrap_or_default();
        if head.contains("/body") {
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
        }
        wire.ended();
    });
    let mut client = world.client();
    client.send(GET);
    let answer = client.response();
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("response_header_timeout"), "half-open: {answer}");
    let answer = world.ask("GET /body HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.contains("part") && !answer.contains("0\r\n\r\n"), "half-open within the body: {answer}");
    world.nothing_leaks();
}

#[test]
fn resets_at_every_place_are_answered_or_visible() {
    let world = World::new(|wire| {
        let head = wire.request().unwrap_or_default();
        if head.contains("/head") {
            wire.send("HTTP/1.1 200 OK\r\nContent-");
        }
        if head.contains("/body") {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
            wire.until("go");
        }
        wire.reset();
    });
    for path in ["/at-once", "/head"] {
        let mut client = world.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connection_reset"), "{path}: {answer}");
    }
    let mut client = world.client();
    client.send("POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    client.until("part");
    drop(client);
    world.nothing_leaks();
}

#[test]
fn a_head_without_end_from_a_target_is_502() {
    // 37 (pingora MAX_HEADER_SIZE).
    let world = World::new(|wire| {
        let head = wire.request().unwrap_or_default();
        if head.contains("/fields") {
            wire.send("HTTP/1.1 200 OK\r\n");
            for n in 0..200 {
                wire.send(format!("X-{n}: y\r\n"));
            }
            wire.send("Content-Length: 0\r\n\r\n");
        } else {
            wire.send("HTTP/1.1 200 OK\r\nX: ");
            for _ in 0..256 {
                if !wire.try_send([b'a'; 4096]) {
                    return;
                }
            }
            wire.send("\r\nContent-Length: 0\r\n\r\n");
        }
        wire.ended();
    });
    for path in ["/megabyte", "/fields"] {
        let mut client = world.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("malformed_response"), "{path}: {answer}");
    }
    world.nothing_leaks();
}

#[test]
fn an_endless_chunk_ends_with_the_client() {
    let world = World::new(|wire| {
        let head = wire.request().unwrap_or_default();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
        match head.split(' ').nth(1) {
            Some("/data") => {
                wire.send("ffffffffffff\r\n");
                while wire.try_send([b'a'; 4096]) {}
            }
            Some("/size") => while wire.try_send([b'0'; 4096]) {},
            _ => {
                wire.send("5;");
                while wire.try_send([b'x'; 4096]) {}
            }
        }
    });
    let mut client = world.client();
    client.send("GET /data HTTP/1.1\r\nHost: h\r\n\r\n");
    client.until("part\r\n");
    client.until("aaaa");
    drop(client);
    world.nothing_leaks();
    let answer = world.ask("GET /extension HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.contains("part") && !answer.contains("0\r\n\r\n"), "cut: {answer}");
    world.nothing_leaks();
}

#[test]
fn a_connection_that_dies_idle_is_noticed_before_reuse() {
    let world = World::new(|wire| {
        wire.request();
        wire.send(OK);
        wire.close();
    });
    let mut client = world.client();
    for _ in 0..50 {
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
        let answer = client.response();
        assert!(answer.starts_with("HTTP/1.1 200 ") || answer.contains("connection_reset"), "{answer}");
    }
    world.nothing_leaks();
}
