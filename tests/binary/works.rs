//! Work in the background outlives the proxy: after a kill and after an orderly end the one who ordered it pays, once.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use outrigger::cli::client::Client;
use serde_json::{Value, json};

use super::{
    QUICK,
    process::{Home, Proxy, block_on, get, until},
};

/// A provider whose responses go on in the background, and have ended when somebody asks; gives its address.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let response = |status: &str, usage: Value| json!({"id": "resp_1", "object": "response", "background": true, "model": "o3-deep-research", "status": status, "output": [], "usage": usage});
    let queued = response("queued", Value::Null);
    let done = response("completed", json!({"input_tokens": 1_000, "output_tokens": 50_000, "total_tokens": 51_000}));
    thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { continue };
            let (mut seen, mut piece) = (Vec::new(), [0; 4_096]);
            let is_whole = |seen: &[u8]| {
                let text = String::from_utf8_lossy(seen).to_ascii_lowercase();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
                body.len() >= length.unwrap_or(0)
            };
            while !is_whole(&seen) {
                match socket.read(&mut piece) {
                    Ok(read) if read > 0 => seen.extend_from_slice(&piece[..read]),
                    _ => break,
                }
            }
            let said = if seen.starts_with(b"POST") { &queued } else { &done }.to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", said.len());
            let _ = socket.write_all(format!("{head}{said}").as_bytes());
        }
    });
    address
}

/// Nano-dollars by caller.
fn costs(proxy: &Proxy) -> Vec<(String, u64)> {
    let page: Value = get(proxy.admin, "/api/usage?from=1h&by=caller").json().expect("JSON");
    let cost = |row: &Value| row["cost_usd"].as_str().unwrap_or("0").replace('.', "").parse().expect("digits");
    let rows = page["rows"].as_array().expect("rows").iter();
    rows.map(|row| (row["caller"].as_str().unwrap_or_default().to_owned(), cost(row))).filter(|(_, cost)| *cost > 0).collect()
}

/// A proxy's home with such a provider.
fn home() -> Home {
    let home = Home::new("");
    home.write(&format!(
        "outbound:\n  listen: 127.0.0.1:0\n  providers: {{house: {{api: openai, url: 'http://{}'}}}}\n\
         admin: {{listen: 127.0.0.1:0, probes: off, socket: SOCKET}}\nworkers: 1\n\
         store: {{state_dir: {}, ledger: {{interval: 100ms}}}}\ntelemetry: {{log: off}}\n{QUICK}",
        provider(),
        home.text("state")
    ));
    home
}

/// Orders the work, or asks how it is.
fn ask(proxy: &Proxy, caller: &str, orders: bool) {
    let client = Client::tcp(proxy.outbound.expect("open")).with_header("outrigger-caller", caller);
    let body = json!({"model": "o3-deep-research", "input": "hi", "background": true, "max_output_tokens": 100});
    let answer = match orders {
        true => block_on(client.post("/house/v1/responses", &body)),
        false => block_on(client.get("/house/v1/responses/resp_1")),
    };
    assert_eq!(answer.expect("an answer").status.as_u16(), 200);
}

#[test]
fn who_ordered_work_pays_for_it_after_a_restart_and_once() {
    let home = home();
    let kept = |text: &str| fs::read_to_string(home.path("state/works-0.json")).is_ok_and(|kept| kept.contains(text));
    let proxy = home.start();
    ask(&proxy, "anna", true);
    until("who pays is written", || kept("anna"));
    assert_eq!(costs(&proxy), []);
    // Killed with SIGKILL.
    drop(proxy);
    let mut proxy = home.start();
    let once = vec![("anna".to_owned(), 2_010_000_000)];
    ask(&proxy, "bert", false);
    until("it is charged", || costs(&proxy) == once);
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    assert!(kept("resp_1") && !kept("anna"), "what is paid has no payer any more");
    let proxy = home.start();
    ask(&proxy, "bert", false);
    ask(&proxy, "carl", false);
    until("everything is counted", || get(proxy.admin, "/api/ledger").json().is_ok_and(|state: Value| state["waiting"] == 0));
    assert_eq!(costs(&proxy), once);
    drop(proxy);
    fs::write(home.path("state/works-0.json"), "torn").expect("written");
    let proxy = home.start();
    assert!(home.path("state/works-0.unreadable").exists(), "put aside");
    ask(&proxy, "dora", false);
    until("who asks pays", || costs(&proxy).len() == 2);
}

/// The kill comes after the charge is known and before the file of works says that the work is paid.
#[test]
fn no_kill_between_the_ledger_and_the_works_charges_twice() {
    let home = home();
    let once = vec![("anna".to_owned(), 2_010_000_000)];
    let kept = |text: &str| fs::read_to_string(home.path("state/works-0.json")).is_ok_and(|kept| kept.contains(text));
    let state = |proxy: &Proxy| get(proxy.admin, "/api/ledger").json().expect("JSON");
    let proxy = home.start();
    ask(&proxy, "anna", true);
    until("who pays is written", || kept("anna"));
    until("the order is counted", || state(&proxy)["waiting"] == 0);
    let before = state(&proxy)["commits"].as_u64();
    // A directory in the place of the new file: the works cannot be written, the ledger could.
    fs::create_dir(home.path("state/works-0.new")).expect("made");
    ask(&proxy, "anna", false);
    until("the ledger has the charge, or waits for the works", || {
        let state = state(&proxy);
        state["failures"].as_u64() > Some(0) || state["commits"].as_u64() > before && state["waiting"] == 0
    });
    assert!(kept("anna"), "the file says that the work is open");
    // Killed with SIGKILL.
    drop(proxy);
    fs::remove_dir(home.path("state/works-0.new")).expect("removed");
    let proxy = home.start();
    ask(&proxy, "anna", false);
    until("it is charged", || !costs(&proxy).is_empty());
    until("everything is written", || state(&proxy)["waiting"] == 0);
    assert_eq!(costs(&proxy), once);
    drop(proxy);

    // The disk works again while the process lives: the charge is written, once.
    fs::remove_file(home.path("state/works-0.json")).expect("removed");
    let proxy = home.start();
    ask(&proxy, "anna", true);
    until("who pays is written", || kept("anna"));
    fs::create_dir(home.path("state/works-0.new")).expect("made");
    ask(&proxy, "anna", false);
    until("the ledger waits for the works", || state(&proxy)["trouble"].as_str().is_some_and(|why| why.contains("waits for another file")));
    fs::remove_dir(home.path("state/works-0.new")).expect("removed");
    until("both are written", || state(&proxy)["trouble"].is_null() && state(&proxy)["waiting"] == 0 && !kept("anna"));
    assert_eq!(costs(&proxy), [("anna".to_owned(), 2 * 2_010_000_000)], "two works");
}
