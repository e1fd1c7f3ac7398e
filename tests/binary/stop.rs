//! How the real process leaves: in time, whatever hangs, and not without a word to whoever is still being answered.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{
    now,
    process::{App, Home, Proxy, Reader, block_on, get, has, metric, outrigger, run, try_get, until},
    yaml,
};

/// A provider that streams one event and then nothing more.
struct Provider {
    address: SocketAddr,
    streaming: Receiver<()>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, streaming) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tell = tell.clone();
                thread::spawn(move || {
                    let mut stream = stream;
                    let mut lines = BufReader::new(stream.try_clone().expect("a handle")).lines().map_while(Result::ok);
                    while lines.next().is_some_and(|line| !line.is_empty()) {}
                    let event = r#"data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"word"}}]}"#;
                    let event = format!("{event}\n\n");
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                    write!(stream, "{head}{:x}\r\n{event}\r\n", event.len()).expect("taken");
                    let _ = tell.send(());
                    // Until the proxy goes.
                    let _ = stream.read(&mut [0]);
                });
            }
        });
        Self { address, streaming }
    }

    fn home(&self, policies: &str) -> Home {
        Home::new(&format!(
            "outbound:\n  listen: 127.0.0.1:0\n  providers: {{openai: {{url: 'http://{}'}}}}\n  defaults: {{{policies}}}\n\
             admin: {{listen: 127.0.0.1:0, probes: off, socket: SOCKET}}\nshutdown: {{drain_delay: 0s, deadline: 2s}}\n",
            self.address
        ))
    }

    fn until_it_streams(&self) {
        self.streaming.recv_timeout(Duration::from_secs(30)).expect("it is asked");
    }
}

/// Asks for a stream over a connection of its own.
fn ask(proxy: &Proxy) -> TcpStream {
    let mut client = TcpStream::connect(proxy.outbound.expect("open")).expect("connects");
    let head = "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{CALL}", CALL.len()).expect("sent");
    client
}

/// All that still comes.
fn rest(mut client: TcpStream) -> String {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the end");
    String::from_utf8(answer).expect("UTF-8")
}

const CALL: &str = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;

#[test]
fn a_stream_that_is_cut_at_the_deadline_says_so_and_the_log_does_not_blame_the_client() {
    let provider = Provider::start();
    let home = provider.home("");
    let mut proxy = home.start();
    let client = ask(&proxy);
    provider.until_it_streams();
    let began = now();
    proxy.signal("TERM");
    let answer = rest(client);
    assert!(answer.contains("\"word\"") && answer.contains("data: {\"error\":{\"message\":\"the proxy is shutting down"), "{answer}");
    assert!(!answer.contains("[DONE]") && !answer.ends_with("0\r\n\r\n"), "it must not look complete: {answer}");
    let line = proxy.logged();
    assert_eq!((line["outcome"].as_str(), line["status"].as_u64()), (Some("stopped"), Some(200)), "{line:#}");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn everybody_who_reads_a_shared_stream_is_told() {
    let provider = Provider::start();
    let home = provider.home("cache: {ttl: 1h}");
    let mut proxy = home.start();
    let first = ask(&proxy);
    provider.until_it_streams();
    let second = ask(&proxy);
    let in_hand = "outrigger_inflight_requests{door=\"outbound\"}";
    until("both are served", || metric(proxy.admin, in_hand) == Some(2.0));
    proxy.signal("TERM");
    for client in [first, second] {
        let answer = rest(client);
        assert!(answer.contains("\"word\"") && answer.contains("the proxy is shutting down"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "it must not look complete: {answer}");
        assert_eq!(proxy.logged()["outcome"], "stopped");
    }
    assert_eq!(proxy.exit(), 0);
    assert!(provider.streaming.try_recv().is_err(), "the provider was asked once");
}

#[test]
fn a_stream_over_http2_is_told_too() {
    let provider = Provider::start();
    let home = provider.home("");
    let mut proxy = home.start();
    let outbound = proxy.outbound.expect("open");
    let (asked, answer) = channel();
    thread::spawn(move || {
        block_on(async move {
            let tcp = tokio::net::TcpStream::connect(outbound).await.expect("connects");
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.expect("a handshake");
            tokio::spawn(connection);
            let request = http::Request::post("http://localhost/openai/v1/chat/completions").body(Full::new(Bytes::from(CALL)));
            let mut body = sender.send_request(request.expect("a request")).await.expect("a head").into_body();
            let mut text = String::new();
            let end = loop {
                match body.frame().await {
                    Some(Ok(frame)) => text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default())),
                    Some(Err(error)) => break Some(error.to_string()),
                    None => break None,
                }
            };
            let _ = asked.send((text, end));
        });
    });
    provider.until_it_streams();
    proxy.signal("TERM");
    let (text, end) = answer.recv_timeout(Duration::from_secs(30)).expect("an end");
    assert!(text.contains("\"word\"") && text.contains("the proxy is shutting down"), "{text}");
    assert!(end.is_some(), "it must not end well");
    assert_eq!(proxy.logged()["outcome"], "stopped");
    assert_eq!(proxy.exit(), 0);
}

#[test]
fn a_request_that_has_no_answer_at_the_deadline_gets_one() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + "shutdown: {drain_delay: 0s, deadline: 2s}\n"));
    let mut proxy = home.start();
    let inbound = proxy.inbound;
    let held = thread::spawn(move || get(inbound, "/hold"));
    app.wait_for("/hold");
    let began = now();
    proxy.signal("TERM");
    proxy.wait_for("deadline ends exchanges");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let answer = held.join().expect("the client ends");
    assert_eq!((answer.status.as_u16(), answer.json().expect("JSON")["reason"].as_str()), (503, Some("stopping")));
    let line = proxy.logged();
    assert_eq!((line["path"].as_str(), line["outcome"].as_str()), (Some("/hold"), Some("rejected")), "it is in the log: {line:#}");
    assert_eq!(line["reason"], "stopping");
}

#[test]
fn ctrl_c_with_nothing_in_hand_leaves_at_once() {
    let app = App::start();
    let home = Home::new(&yaml(&app, ""));
    let mut proxy = home.start();
    assert_eq!(get(proxy.inbound, "/").status.as_u16(), 200);
    let began = now();
    proxy.signal("INT");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed() < Duration::from_secs(2), "the default delay is 5 s: {:?}", began.elapsed());
}

#[test]
fn a_second_signal_always_leaves_at_once() {
    for (first, second) in [("INT", "INT"), ("TERM", "TERM"), ("TERM", "INT"), ("INT", "TERM")] {
        let app = App::start();
        let home = Home::new(&(yaml(&app, "") + "shutdown: {drain_delay: 20s, deadline: 60s}\n"));
        let mut proxy = home.start();
        let inbound = proxy.inbound;
        let held = thread::spawn(move || try_get(inbound, "/hold").map(|answer| answer.status.as_u16()));
        app.wait_for("/hold");
        let began = now();
        proxy.signal(first);
        proxy.wait_for("draining");
        proxy.signal(second);
        proxy.wait_for("second signal");
        assert_eq!(proxy.exit(), 0);
        assert!(began.elapsed() < Duration::from_secs(3), "{first} {second}: {:?}", began.elapsed());
        assert_eq!(held.join().expect("the client ends").ok(), Some(503), "{first} {second}");
    }
}

#[test]
fn a_signal_after_an_order_to_drain_is_the_first_one() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + "shutdown: {drain_delay: 0s, deadline: 20s}\n"));
    let mut proxy = home.start();
    let inbound = proxy.inbound;
    let held = thread::spawn(move || get(inbound, "/hold").status.as_u16());
    app.wait_for("/hold");
    assert_eq!(run(&["drain", "--socket", &home.text("admin.sock")]).0, Some(0));
    proxy.wait_for("draining");
    proxy.signal("TERM");
    assert_eq!(get(proxy.outbound, "/nobody").status.as_u16(), 404, "what is in flight is still waited for");
    app.let_go();
    assert_eq!(held.join().expect("the client ends"), 200);
    assert_eq!(proxy.exit(), 0);
}

#[test]
fn ctrl_c_cuts_the_delay_of_a_drain_short() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + "shutdown: {drain_delay: 20s, deadline: 60s}\n"));
    let mut proxy = home.start();
    assert_eq!(run(&["drain", "--socket", &home.text("admin.sock")]).0, Some(0));
    proxy.wait_for("draining");
    let began = now();
    proxy.signal("INT");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A library whose `getaddrinfo` never answers for one host.
const HANGS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (node && strcmp(node, "hangs.test") == 0) { write(2, "looking\n", 8); for (;;) sleep(60); }
    if (!real) real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, res);
}
"#;

#[test]
fn a_resolver_that_hangs_does_not_hold_up_the_end() {
    if !has("cc") {
        return;
    }
    let home = Home::new(
        "inbound: {listen: 127.0.0.1:0, app: 'http://hangs.test:80'}\nadmin: {listen: 127.0.0.1:0, probes: off, socket: SOCKET}\n\
         telemetry: {otlp: 'http://hangs.test:4318'}\nshutdown: {drain_delay: 0s, deadline: 2s}\n",
    );
    fs::write(home.path("hangs.c"), HANGS).expect("written");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o", &home.text("hangs.so"), &home.text("hangs.c"), "-ldl"]).status().expect("cc");
    assert!(built.success());
    let mut command = outrigger();
    command.env("LD_PRELOAD", home.path("hangs.so")).args(["run", "--config", &home.text("proxy.yaml")]);
    let mut proxy = Proxy::start_command(command, Reader::Reads, Stdio::piped());
    let inbound = proxy.inbound;
    let held = thread::spawn(move || try_get(inbound, "/").map(|answer| answer.status.as_u16()));
    proxy.wait_for("looking");
    let began = now();
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed() < Duration::from_secs(3), "the deadline is 2 s: {:?}", began.elapsed());
    assert_eq!(held.join().expect("the client ends").ok(), Some(503));
    assert_eq!(proxy.logged()["reason"], "stopping");
}
