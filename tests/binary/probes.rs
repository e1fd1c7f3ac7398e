//! Monitors of a real process: probes over HTTP, TLS and through the outbound door, traffic that comes first, and maintenance.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
};

use outrigger::cli::client::Client;
use serde_json::{Value, json};

use super::{
    origin::{Asked, certificate, now_utc, serve, serve_tls, tls},
    process::{Home, Proxy, block_on, get, until},
    sink::free,
};

/// A monitor of `/api/monitors`.
fn monitor(proxy: &Proxy, name: &str) -> Value {
    let shown = get(proxy.admin, "/api/monitors").json().expect("JSON");
    let found = shown["monitors"].as_array().expect("a list").iter().find(|one| one["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no monitor {name}: {shown:#}"))
}

/// Waits until a monitor has this state, and gives why.
fn becomes(proxy: &Proxy, name: &str, state: &str) -> String {
    until(&format!("{name} is {state}"), || monitor(proxy, name)["state"] == state);
    monitor(proxy, name)["why"].as_str().unwrap_or_default().to_owned()
}

const REST: &str = "admin: {listen: 127.0.0.1:0, probes: 'off', socket: SOCKET}\nshutdown: {drain_delay: 0s, deadline: 10s}\n";

#[test]
fn a_request_is_judged_by_its_conditions() {
    let well = Arc::new(AtomicBool::new(true));
    let seen = well.clone();
    let app = serve(move |asked: &Asked| match asked.line.as_str() {
        "get /health" => (200, json!({"status": if seen.load(SeqCst) { "UP" } else { "DOWN" }, "parts": [{"ok": true}]}).to_string()),
        "post /echo" if asked.head.contains("x-probe: yes") && asked.body == "ping" => (204, String::new()),
        "get /teapot" => (418, String::new()),
        _ => (500, String::new()),
    });
    let home = Home::new(&format!(
        "inbound: {{listen: 127.0.0.1:0, app: 'http://{app}'}}\n{REST}monitors:\n  app: 'off'\n  \
         health: {{url: 'http://{app}/health', every: 1s, conditions: ['[STATUS] == 200', '[BODY].status == UP', '[BODY].parts[0].ok == true', \
         '[IP] == 127.0.0.1', '[RESPONSE_TIME] < 10s']}}\n  \
         echo: {{url: 'http://{app}/echo', every: 1s, method: POST, headers: {{x-probe: 'yes'}}, body: ping}}\n  \
         teapot: {{url: 'http://{app}/teapot', every: 1s}}\n  \
         slow: {{url: 'http://{app}/health', every: 1s, conditions: ['[STATUS] == 200', '[RESPONSE_TIME] < 0ms']}}\n"
    ));
    let proxy = home.start();
    becomes(&proxy, "health", "up");
    becomes(&proxy, "echo", "up");
    assert!(becomes(&proxy, "teapot", "down").contains("418"));
    let why = becomes(&proxy, "slow", "slow");
    assert!(why.contains("[RESPONSE_TIME]") && !why.contains("[STATUS]"), "{why}");
    assert_eq!(monitor(&proxy, "slow")["incidents"], 0, "slow is no incident");
    well.store(false, SeqCst);
    let why = becomes(&proxy, "health", "down");
    assert!(why.contains("[BODY].status == UP") && why.contains("DOWN"), "{why}");
    well.store(true, SeqCst);
    becomes(&proxy, "health", "up");
    assert_eq!(monitor(&proxy, "health")["incidents"], 1);
    // A monitor is up until its second failed check: many checks later it still is.
    assert_eq!(monitor(&proxy, "echo")["incidents"], 0, "method, field and body went along");
}

#[test]
fn a_tls_probe_trusts_the_systems_authorities_and_knows_when_a_certificate_expires() {
    let (long, short, unknown) = (certificate(30), certificate(2), certificate(30));
    let at = |pair: &(String, String)| serve_tls(tls(pair), |_| (200, "{}".into()));
    let (long_at, short_at, unknown_at) = (at(&long), at(&short), at(&unknown));
    let home = Home::new("");
    fs::write(home.path("roots.pem"), format!("{}{}", long.0, short.0)).expect("written");
    let clear = serve(|_| (200, "{}".into()));
    home.write(&format!(
        "inbound: {{listen: 127.0.0.1:0, app: 'http://127.0.0.1:9'}}\n{REST}monitors:\n  app: 'off'\n  \
         handshake: {{url: 'tls://{long_at}', every: 1s, conditions: ['[CONNECTED] == true', '[CERTIFICATE_EXPIRATION] > 48h']}}\n  \
         long: {{url: 'https://{long_at}/', every: 1s, conditions: ['[STATUS] == 200', '[CERTIFICATE_EXPIRATION] > 48h']}}\n  \
         short: {{url: 'https://{short_at}/', every: 1s, conditions: ['[STATUS] == 200', '[CERTIFICATE_EXPIRATION] > 48h']}}\n  \
         short_handshake: {{url: 'tls://{short_at}', every: 1s, conditions: ['[CERTIFICATE_EXPIRATION] > 48h']}}\n  \
         unknown: {{url: 'https://{unknown_at}/', every: 1s}}\n  unknown_handshake: {{url: 'tls://{unknown_at}', every: 1s}}\n  \
         clear: {{url: 'tls://{clear}', every: 1s, timeout: 2s}}\n"
    ));
    let proxy = Proxy::start(&["--config", &home.text("proxy.yaml")], &[("SSL_CERT_FILE", home.text("roots.pem"))]);
    for name in ["handshake", "long"] {
        becomes(&proxy, name, "up");
    }
    for name in ["short", "short_handshake"] {
        let why = becomes(&proxy, name, "down");
        assert!(why.contains("[CERTIFICATE_EXPIRATION] > 48h"), "{name}: {why}");
    }
    for name in ["unknown", "unknown_handshake"] {
        let why = becomes(&proxy, name, "down");
        assert!(why.to_lowercase().contains("certificate"), "{name}: {why}");
    }
    becomes(&proxy, "clear", "down");
    for name in ["handshake", "long"] {
        assert_eq!(monitor(&proxy, name)["incidents"], 0, "{name}");
    }
}

#[test]
fn a_model_is_called_with_one_token_through_the_outbound_door_and_it_is_in_the_books() {
    let calls = Arc::new(AtomicU64::new(0));
    let broken = Arc::new(AtomicBool::new(false));
    let (count, fails) = (calls.clone(), broken.clone());
    let provider = serve(move |asked: &Asked| {
        let body: Value = serde_json::from_str(&asked.body).expect("JSON");
        assert_eq!((&body["max_tokens"], &body["model"]), (&1.into(), &"gpt-4o-mini".into()));
        assert_eq!(asked.line, "post /v1/chat/completions", "whether the provider's url has the version or not");
        assert!(asked.head.contains("authorization: bearer sk-one"), "with the proxy's own key: {}", asked.head);
        count.fetch_add(1, SeqCst);
        if fails.load(SeqCst) {
            return (500, "{}".into());
        }
        let usage = json!({"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9});
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": "p"}, "finish_reason": "length"});
        (
            200,
            json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini", "choices": [choice], "usage": usage})
                .to_string(),
        )
    });
    let home = Home::new(&format!(
        "outbound:\n  listen: 127.0.0.1:0\n  providers:\n    house: {{api: openai, url: 'http://{provider}/v1', keys: [sk-one]}}\n    \
         plain: {{api: openai, url: 'http://{provider}', keys: [sk-one]}}\n{REST}\
         monitors:\n  house: 'off'\n  plain: {{url: 'model://plain/gpt-4o-mini', every: 1s, passive: false}}\n  model: {{url: 'model://house/gpt-4o-mini', every: 1s, passive: false}}\n"
    ));
    let proxy = home.start();
    becomes(&proxy, "model", "up");
    becomes(&proxy, "plain", "up");
    until("more calls of both", || calls.load(SeqCst) > 5);
    for name in ["model", "plain"] {
        assert_eq!(monitor(&proxy, name)["incidents"], 0, "{name}");
    }
    let rows = || get(proxy.admin, "/api/usage?from=1h&by=model").json().expect("JSON")["rows"].clone();
    until("it is in the books", || rows()[0]["tokens"]["output"].as_u64() > Some(0));
    broken.store(true, SeqCst);
    assert!(becomes(&proxy, "model", "down").contains("500"));
    broken.store(false, SeqCst);
    becomes(&proxy, "model", "up");
}

#[test]
fn traffic_proves_health_and_its_failures_without_a_probe_and_silence_is_probed() {
    let (probes, fails) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, broken) = (probes.clone(), fails.clone());
    let app = serve(move |asked: &Asked| match asked.line.as_str() {
        "get /probe" => {
            count.fetch_add(1, SeqCst);
            (200, String::new())
        }
        _ => (if broken.load(SeqCst) { 500 } else { 200 }, String::new()),
    });
    let home = Home::new(&format!(
        "inbound: {{listen: 127.0.0.1:0, app: 'http://{app}'}}\n{REST}monitors:\n  app: {{url: 'http://{app}/probe', every: 1s}}\n"
    ));
    let proxy = home.start();
    until("silence is probed", || probes.load(SeqCst) > 0);
    let client = Client::tcp(proxy.inbound.expect("open"));
    let ask = || drop(block_on(client.get("/page")).expect("answers"));
    let checked = || monitor(&proxy, "app")["watched_seconds_7d"].as_f64().unwrap_or_default();
    // From the second check with traffic on there is no probe.
    let begun = checked();
    until("two checks with traffic", || {
        ask();
        checked() >= begun + 2.0
    });
    let before = probes.load(SeqCst);
    let begun = checked();
    until("four more", || {
        ask();
        checked() >= begun + 4.0
    });
    assert_eq!(probes.load(SeqCst), before, "traffic is the check");
    // The probe would say that all is well: only the traffic knows.
    fails.store(true, SeqCst);
    until("it is down", || {
        ask();
        monitor(&proxy, "app")["state"] == "down"
    });
    let why = monitor(&proxy, "app")["why"].as_str().map(str::to_owned).expect("a reason");
    assert!(why.contains("requests to it failed"), "{why}");
    assert_eq!(probes.load(SeqCst), before);
    // Silence: the probe closes it.
    becomes(&proxy, "app", "up");
    assert!(probes.load(SeqCst) > before);
}

#[test]
fn nothing_is_checked_in_a_maintenance_window() {
    let away = free();
    let now = now_utc();
    let minute = |hours: i64| now.checked_add(jiff::Span::new().hours(hours)).expect("a time").strftime("%H:%M").to_string();
    let window = |from: i64, to: i64| format!("{{from: '{}', to: '{}'}}", minute(from), minute(to));
    let home = Home::new(&format!(
        "inbound: {{listen: 127.0.0.1:0, app: 'http://{away}'}}\n{REST}monitors:\n  app: 'off'\n  \
         during: {{url: 'tcp://{away}', every: 1s, maintenance: {}}}\n  before: {{url: 'tcp://{away}', every: 1s, maintenance: {}}}\n",
        window(-1, 1),
        window(1, 2),
    ));
    let proxy = home.start();
    becomes(&proxy, "before", "down");
    let during = monitor(&proxy, "during");
    assert_eq!((&during["state"], &during["incidents"], &during["share_7d"]), (&"unknown".into(), &0.into(), &Value::Null), "{during:#}");
}
