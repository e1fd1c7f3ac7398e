//! The logs of the real process: whoever reads them may be slow, gone, or a full disk, and the proxy serves on.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::any_value::Value,
    logs::v1::LogRecord,
};
use prost::Message;

use super::{
    QUICK, now,
    process::{App, Home, Proxy, Reader, get, metric, outrigger, until},
    yaml,
};

/// Starts a proxy with `home`'s file; `said` reads its standard error.
fn start(home: &Home, said: Reader, stdout: Stdio) -> Proxy {
    let mut command = outrigger();
    command.args(["run", "--config", &home.text("proxy.yaml")]);
    Proxy::start_command(command, said, stdout)
}

const REFUSED: &str = "outrigger_config_reloads_total{outcome=\"refused\"}";
const LOST: &str = "outrigger_log_dropped_total{log=\"process\"}";

/// Files with many mistakes, each time others, so that much is to be said.
fn make_it_talk(home: &Home, proxy: &Proxy, times: usize) {
    for at in 0..times {
        let before = metric(proxy.admin, REFUSED);
        home.write(&(0..90).map(|mistake| format!("wrong-{at}-{mistake}: 1\n")).collect::<String>());
        proxy.signal("HUP");
        until("the file is refused", || metric(proxy.admin, REFUSED) > before);
    }
}

fn serves_and_leaves(proxy: &mut Proxy) {
    assert_eq!(get(proxy.inbound, "/").status.as_u16(), 200);
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(get(proxy.probes, path).status.as_u16(), 200, "{path}");
    }
    assert_eq!(get(proxy.admin, "/health").status.as_u16(), 200);
    let began = now();
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let mut proxy = start(&home, Reader::Stops, Stdio::null());
    make_it_talk(&home, &proxy, 3);
    serves_and_leaves(&mut proxy);
}

#[test]
fn a_reader_of_standard_error_that_leaves_costs_lines_and_they_are_counted() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let mut proxy = start(&home, Reader::Leaves, Stdio::null());
    assert_eq!(metric(proxy.admin, LOST), Some(0.0), "from the start");
    make_it_talk(&home, &proxy, 2);
    until("the lost lines are counted", || metric(proxy.admin, LOST) >= Some(2.0));
    serves_and_leaves(&mut proxy);
}

#[test]
fn a_full_disk_behind_both_logs_stops_nothing() {
    let app = App::start();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("opens"));
    // Nothing can be read of where it listens.
    let free = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let (inbound, admin) = (free(), free());
    let home = Home::new(&format!(
        "inbound: {{listen: '{inbound}', app: 'http://{}'}}\nadmin: {{listen: '{admin}', probes: off, socket: SOCKET}}\n{QUICK}",
        app.address
    ));
    let mut child = outrigger().args(["run", "--config", &home.text("proxy.yaml")]).stdout(full()).stderr(full()).spawn().expect("starts");
    until("it serves", || super::try_get(Some(inbound), "/").is_ok());
    until("both logs count", || {
        let access = metric(Some(admin), "outrigger_log_dropped_total{log=\"access\"}");
        metric(Some(admin), LOST) >= Some(1.0) && access >= Some(1.0)
    });
    assert_eq!(child.try_wait().expect("its status"), None);
    let sent = std::process::Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().expect("kill");
    assert!(sent.success());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn an_access_log_that_nobody_reads_loses_lines_and_no_request() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let (unread, stdout) = std::io::pipe().expect("a pipe");
    let mut proxy = start(&home, Reader::Reads, Stdio::from(stdout));
    let long = format!("/{}", "x".repeat(50_000));
    for _ in 0..120 {
        assert_eq!(get(proxy.inbound, &long).status.as_u16(), 200);
    }
    let dropped = "outrigger_log_dropped_total{log=\"access\"}";
    until("lost lines are counted", || metric(proxy.admin, dropped) > Some(0.0));
    serves_and_leaves(&mut proxy);
    drop(unread);
}

/// The worst of all: every key of a limit is worth a warning, both logs are full, and whoever should read them stops or has left.
#[test]
fn warnings_of_limits_stop_nothing_when_nobody_reads_either_log() {
    let limits = "  limits: [{name: each, key: 'header:x-user', requests: 2, window: 1h, alert_at: [0.5, 1.0]}]";
    for reader in [Reader::Stops, Reader::Leaves] {
        let app = App::start();
        let home = Home::new(&(yaml(&app, limits) + QUICK));
        let (unread, stdout) = std::io::pipe().expect("a pipe");
        let mut proxy = start(&home, reader, Stdio::from(stdout));
        let long = format!("/{}", "x".repeat(50_000));
        for user in 0..120 {
            assert_eq!(get_as(&proxy, user, &long), 200);
        }
        until("the access log loses lines", || metric(proxy.admin, "outrigger_log_dropped_total{log=\"access\"}") > Some(0.0));
        make_it_talk(&home, &proxy, 20);
        home.write(&(yaml(&app, limits) + QUICK));
        proxy.signal("HUP");
        for user in 0..200 {
            for expected in if user < 120 { &[200, 429][..] } else { &[200, 200, 429] } {
                assert_eq!(get_as(&proxy, user, "/"), *expected, "{reader:?}, user {user}");
            }
        }
        for share in ["0.5", "1"] {
            let alerts = format!("outrigger_limit_alerts_total{{door=\"inbound\",limit=\"each\",at=\"{share}\"}}");
            assert_eq!(metric(proxy.admin, &alerts), Some(200.0), "{reader:?}: the warnings were due");
        }
        serves_and_leaves(&mut proxy);
        drop(unread);
    }
}

/// The status that a user is answered with.
fn get_as(proxy: &Proxy, user: usize, path: &str) -> u16 {
    let mut client = TcpStream::connect(proxy.inbound.expect("open")).expect("connects");
    write!(client, "GET {path} HTTP/1.1\r\nHost: h\r\nX-User: {user}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn a_panic_with_a_standard_error_that_nobody_reads_ends_its_thread_alone() {
    let (unread, mut stderr) = std::io::pipe().expect("a pipe");
    let own = stderr.try_clone().expect("cloned");
    // Full from its first moment on.
    thread::spawn(move || while stderr.write_all(&[b'x'; 4096]).is_ok() {});
    let mut child = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "logs::a_process_for_the_test_above", "--ignored", "--nocapture"])
        .env("PANICS", "1")
        .stdout(Stdio::null())
        .stderr(own)
        .spawn()
        .expect("runs");
    until("it ends by itself", || child.try_wait().expect("its status").is_some());
    assert_eq!(child.wait().expect("it ended").code(), Some(3));
    drop(unread);
}

#[test]
#[ignore = "the test above runs it in a process of its own"]
fn a_process_for_the_test_above() {
    if std::env::var_os("PANICS").is_none() {
        return;
    }
    outrigger::telemetry::init_process_log(outrigger::config::LogFormat::Json, tracing::Level::INFO);
    let ended = thread::spawn(|| panic!("told to")).join();
    std::process::exit(if ended.is_err() { 3 } else { 4 });
}

#[test]
fn a_start_that_fails_with_nobody_to_tell_fails_with_1_and_in_time() {
    let home = Home::new("wrong: 1\n");
    let full = File::options().write(true).open("/dev/full").expect("opens");
    let status = outrigger().args(["run", "--config", &home.text("proxy.yaml")]).stderr(full).status().expect("runs");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn equal_refusals_are_said_once() {
    let app = App::start();
    let home = Home::new(&(yaml(&app, "") + QUICK));
    let mut proxy = start(&home, Reader::Reads, Stdio::null());
    home.write("wrong: 1\n");
    for times in 1..=5 {
        proxy.signal("HUP");
        until("the file is refused", || metric(proxy.admin, REFUSED) >= Some(f64::from(times)));
    }
    proxy.signal("TERM");
    // The end says what was counted until then.
    let count = proxy.wait_for("more in the last 60 s");
    assert!(count["message"].as_str().expect("text").contains("was not reloaded"), "{count}");
    assert_eq!(proxy.times_heard("was not reloaded"), 2, "one line and a count");
    assert_eq!(proxy.exit(), 0);
}

/// The path and the message of every export.
type Exported = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector of OTLP over HTTP: it takes everything, and keeps the path and the message of every export.
struct Collector {
    address: SocketAddr,
    seen: Exported,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Exported::default();
        let kept = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || {
                    while let Some(export) = take(&stream) {
                        kept.lock().expect("unpoisoned").push(export)
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn messages<M: Message + Default>(&self, path: &str) -> Vec<M> {
        let seen = self.seen.lock().expect("unpoisoned");
        seen.iter().filter(|(at, _)| at == path).map(|(_, body)| M::decode(&body[..]).expect("decodes")).collect()
    }

    fn lines(&self) -> Vec<LogRecord> {
        let requests = self.messages::<ExportLogsServiceRequest>("/v1/logs").into_iter();
        requests.flat_map(|request| request.resource_logs).flat_map(|of| of.scope_logs).flat_map(|of| of.log_records).collect()
    }
}

/// Reads one export and answers it; `None`: the connection has ended.
fn take(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut message = Vec::new();
    GzDecoder::new(&body[..]).read_to_end(&mut message).expect("gzip");
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()?;
    Some((first.split(' ').nth(1)?.to_owned(), message))
}

fn said(line: &LogRecord) -> String {
    match line.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_logs_reach_a_collector_and_an_exchange_names_its_trace() {
    let app = App::start();
    let collector = Collector::start();
    let telemetry = format!("telemetry: {{log: off, otlp: 'http://{}', otlp_logs: all}}\n", collector.address);
    let home = Home::new(&(yaml(&app, "") + QUICK + &telemetry));
    let mut proxy = start(&home, Reader::Reads, Stdio::null());
    assert_eq!(get(proxy.inbound, "/seen?token=secret").status.as_u16(), 200);
    make_it_talk(&home, &proxy, 1);
    serves_and_leaves(&mut proxy);
    let lines = collector.lines();
    let exchange = lines.iter().find(|line| said(line).contains("/seen")).expect("the exchange");
    assert_eq!(said(exchange), "GET /seen?token=*** 200");
    assert_eq!((exchange.severity_text.as_str(), exchange.event_name.as_str()), ("INFO", "outrigger.exchange"));
    let spans: Vec<_> = collector
        .messages::<ExportTraceServiceRequest>("/v1/traces")
        .into_iter()
        .flat_map(|request| request.resource_spans)
        .flat_map(|of| of.scope_spans)
        .flat_map(|of| of.spans)
        .collect();
    let is_of =
        |span: &&opentelemetry_proto::tonic::trace::v1::Span| span.trace_id == exchange.trace_id && span.span_id == exchange.span_id;
    assert!(spans.iter().any(|span| is_of(&span)), "the span of the exchange is there too");
    let refused = lines.iter().find(|line| said(line).contains("wrong-0-0")).expect("what the process log said");
    assert!(refused.severity_number >= 13 && refused.trace_id.is_empty(), "{refused:?}");
}

#[test]
fn a_breaker_that_opens_is_told_with_its_target_its_reason_and_its_time() {
    // Nobody listens there.
    let file = "inbound: {listen: 127.0.0.1:0, app: 'http://127.0.0.1:1', defaults: {breaker: {consecutive: 2, ratio: 'off'}}}\n";
    let home = Home::new(&format!("{file}admin: {{listen: 127.0.0.1:0, probes: off, socket: SOCKET}}\n{QUICK}"));
    let mut proxy = start(&home, Reader::Reads, Stdio::null());
    for _ in 0..4 {
        get(proxy.inbound, "/");
    }
    let line = proxy.wait_for("the circuit breaker of app has opened");
    assert_eq!((&line["target"], &line["level"]), (&"app".into(), &"WARN".into()), "{line}");
    assert!(line["reason"].is_string() && line["until"].as_str().is_some_and(|until| until.ends_with('Z')), "{line}");
    assert_eq!(proxy.times_heard("has opened"), 1, "once, though more requests were refused");
}
