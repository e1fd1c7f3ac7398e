//! The ledger of a real process: killed at any moment, without room on the disk, and on its way out.

use std::{
    env, fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use outrigger::cli::{
    client::Client,
    mock::{Mock, Options},
};
use serde_json::{Value, json};

use super::{
    QUICK,
    process::{Home, Proxy, Reader, block_on, get, has, outrigger, run, until},
};

/// A provider in a thread of its own; gives its address.
pub fn provider() -> SocketAddr {
    let (send, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        block_on(async move {
            let mock = Mock::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Options::default()).await.expect("a port");
            send.send(mock.addr()).expect("somebody waits");
            mock.run(std::future::pending()).await;
        });
    });
    address.recv().expect("an address")
}

pub fn home(provider: SocketAddr, ledger: &str) -> Home {
    let home = Home::new("");
    home.write(&format!(
        "outbound:\n  listen: 127.0.0.1:0\n  providers: {{openai: {{url: 'http://{provider}'}}}}\n\
         admin: {{listen: 127.0.0.1:0, probes: off, socket: SOCKET}}\nworkers: 1\n\
         store: {{state_dir: {}, ledger: {{{ledger}}}}}\ntelemetry: {{log: off}}\n{QUICK}",
        home.text("state")
    ));
    home
}

/// Makes calls in the name of callers; gives how many were answered.
pub fn call(proxy: &Proxy, callers: impl Iterator<Item = String>) -> u64 {
    call_at(proxy.outbound.expect("open"), callers)
}

/// The same at an outbound door.
pub fn call_at(address: SocketAddr, callers: impl Iterator<Item = String>) -> u64 {
    let body = json!({"model": "gpt-4o", "max_tokens": 5, "messages": [{"role": "user", "content": "say something"}]});
    let mut answered = 0;
    for caller in callers {
        let client = Client::tcp(address).with_header("outrigger-caller", &caller);
        let answer = block_on(client.post("/openai/v1/chat/completions", &body)).expect("an answer");
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        answered += 1;
    }
    answered
}

pub fn page(proxy: &Proxy, path: &str) -> Value {
    get(proxy.admin, path).json().expect("JSON")
}

/// Calls, tokens and nano-dollars of all.
pub fn total(proxy: &Proxy) -> (u64, u64, u64) {
    let total = page(proxy, "/api/usage?from=1h&by=known")["total"].clone();
    let tokens = total["tokens"].as_object().expect("tokens").values().filter_map(Value::as_u64).sum();
    let nano = total["cost_usd"].as_str().expect("dollars").replace('.', "").parse().expect("digits");
    (total["calls"].as_u64().expect("calls"), tokens, nano)
}

/// Waits until this many calls are counted, and all of them are in the file. A client has its answer a moment before its call is counted.
pub fn written(proxy: &Proxy, calls: u64) {
    until("every call is counted", || total(proxy).0 == calls);
    until("everything is written", || {
        let state = page(proxy, "/api/ledger");
        state["waiting"] == 0 && state["commits"].as_u64() > Some(0)
    });
}

#[test]
fn a_process_that_is_killed_loses_at_most_the_interval_and_no_sum_is_wrong() {
    // More of them by hand: OUTRIGGER_KILLS=100.
    let kills: u64 = env::var("OUTRIGGER_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6);
    let home = home(provider(), "interval: 100ms");
    let names = |count: u64| (0..count).map(|n| format!("u-{}", n % 3));
    let (mut safe, mut made, mut one) = (0, 0, None);
    for round in 0..kills {
        let proxy = home.start();
        let (calls, tokens, nano) = total(&proxy);
        assert!((safe..=made).contains(&calls), "round {round}: {calls} calls of {safe} written and {made} made");
        if let Some((one_tokens, one_nano)) = one {
            assert_eq!((tokens, nano), (calls * one_tokens, calls * one_nano), "round {round}: every call is whole");
        }
        made = calls + call(&proxy, names(2 + round % 5));
        written(&proxy, made);
        let (calls, tokens, nano) = total(&proxy);
        assert_eq!(calls, made);
        one = Some((tokens / calls, nano / calls));
        safe = made;
        made += call(&proxy, names(round * 7 % 11));
        // Dropped, it is killed with SIGKILL: here and there in the middle of a commit.
    }
    // In order, nothing is lost.
    let mut proxy = home.start();
    let before = total(&proxy).0;
    let more = call(&proxy, names(5));
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    assert_eq!(total(&home.start()).0, before + more);
}

#[test]
fn without_room_on_the_disk_calls_are_answered_and_counted_once() {
    if !has("prlimit") {
        return;
    }
    let home = home(provider(), "interval: 100ms, callers: 10k");
    let mut command = std::process::Command::new("sh");
    // A limit of the size of files stands for a full disk: a write fails, and the process is told.
    let limited = "trap '' XFSZ; ulimit -S -f 400; exec \"$0\" \"$@\"";
    command.env_clear().args(["-c", limited]).arg(outrigger().get_program());
    command.args(["run", "--config", &home.text("proxy.yaml")]);
    let proxy = Proxy::start_command(command, Reader::Reads, Stdio::piped());
    let mut made = 0;
    let state = |proxy: &Proxy| page(proxy, "/health")["dependencies"]["ledger"]["state"].clone();
    let long = "x".repeat(200);
    until("the disk is full", || {
        made += call(&proxy, (0..50).map(|n| format!("{long}-{}", made + n)));
        state(&proxy) == "degraded"
    });
    made += call(&proxy, (0..20).map(|n| format!("later-{n}")));
    until("what waits is in the answer", || total(&proxy).0 == made);
    let lifted = std::process::Command::new("prlimit").args(["--pid", &proxy.pid().to_string(), "--fsize=unlimited"]).status();
    assert!(lifted.expect("prlimit").success());
    until("the ledger is well again", || state(&proxy) == "ok");
    written(&proxy, made);
    drop(proxy);
    assert_eq!(total(&home.start()).0, made, "once, and after a kill");
}

/// The validator of `tests/focus.txt`, and the directory that it must be run in. Said aloud where there is none.
fn validator() -> Option<(PathBuf, PathBuf)> {
    let tools = env::var_os("OUTRIGGER_TOOLS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools"), PathBuf::from);
    let lib = fs::read_dir(tools.join("focus/lib")).ok().and_then(|mut dir| Some(dir.next()?.ok()?.path().join("site-packages")));
    let found = lib.map(|lib| (tools.join("focus/bin/focus-validator"), lib)).filter(|(tool, _)| tool.is_file());
    if found.is_none() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: focus-validator is missing (Python 3.12 or newer); run tests/tools.sh first");
    }
    found
}

/// What the validator finds wrong with rows, by the names of its rules.
fn faults((tool, lib): &(PathBuf, PathBuf), rows: &Path) -> Vec<String> {
    let args = ["--validate-version", "1.2.0.1", "--block-download", "--output-type", "console", "--data-file"];
    // It looks for its lists from where it is run.
    let out = std::process::Command::new(tool).args(args).arg(rows).current_dir(lib).output().expect("run");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(text.contains(": PASS"), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let fault = |line: &str| line.split_once(": FAIL").and_then(|(rule, _)| Some(rule.rsplit(' ').next()?.to_owned()));
    text.lines().filter_map(fault).collect()
}

#[test]
fn focus_rows_pass_the_validator() {
    let Some(validator) = validator() else { return };
    let home = home(provider(), "interval: 100ms");
    let proxy = home.start();
    let calls = call(&proxy, (0..3).map(|n| format!("u-{n}")));
    written(&proxy, calls);
    let rows = home.path("focus.csv");
    let socket = home.text("admin.sock");
    // Of two rules, one is that the invoice must be named and the other that it must not: one of them fails whatever is written.
    for (invoice, failed) in [("", "InvoiceId-C-005-C"), ("INV-7", "InvoiceId-C-004-C")] {
        let mut words = vec!["usage", "--since", "1h", "--format", "focus", "--account", "acme", "--socket", &socket];
        if !invoice.is_empty() {
            words.extend(["--invoice", invoice]);
        }
        let (code, text, said) = run(&words);
        assert_eq!((code, text.lines().count()), (Some(0), 4), "{said}");
        fs::write(&rows, text).expect("written");
        assert_eq!(faults(&validator, &rows), [failed]);
    }
}
