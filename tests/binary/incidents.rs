//! Open incidents of a real process that is killed: the next process knows them, tells nobody twice, and tells the end; with a real Redis,
//! two replicas.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use serde_json::Value;

use super::{
    process::{Home, get, until},
    server::Server,
    sink::{Sink, app_until, cli, free, yaml},
};

/// A PagerDuty integration's routing key.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A proxy that watches `app`, and tells a PagerDuty and a channel for all.
fn watching(home: &Home, sink: &Sink, app: std::net::SocketAddr) -> String {
    let http = sink.http;
    yaml(
        app,
        &format!(
            "store: {{state_dir: {}}}\nmonitors: {{app: {{url: 'tcp://{app}', every: 1s, timeout: 500ms}}}}\nalerts:\n  group: 0s\n  \
             rules: {{monitor: {{critical: 0s, recover: 0s}}, no_traffic: off}}\n  channels:\n    \
             oncall: {{pagerduty: {KEY}, pagerduty_url: 'http://127.0.0.1:{http}/pagerduty/v2/enqueue', severity: critical}}\n    \
             team: {{slack: 'http://127.0.0.1:{http}/slack'}}\n",
            home.text("state")
        ),
    )
}

fn event(line: &Value) -> Value {
    serde_json::from_str(line["body"].as_str().expect("text")).expect("JSON")
}

/// What Redis answers to a command, in a line.
fn redis_says(redis: &Server, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port)).expect("connects");
    stream.write_all(format!("{command}\r\n").as_bytes()).expect("asks");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("is answered");
    line.trim_end().to_owned()
}

fn is_open(admin: Option<std::net::SocketAddr>) -> bool {
    get(admin, "/api/alerts").json().expect("JSON")["open"] == 1
}

#[test]
fn an_incident_outlives_kill_9_is_not_told_again_and_its_end_is_told() {
    let Some(mut sink) = Sink::start(None) else { return };
    let app = free();
    let home = Home::new("");
    home.write(&watching(&home, &sink, app));
    let mut proxy = home.start();
    let first = event(&sink.wait_for("/pagerduty/v2/enqueue", "trigger", || {}));
    sink.wait_for("/slack", "CRITICAL", || {});
    let since = get(proxy.admin, "/api/alerts").json().expect("JSON")["incidents"][0]["since"].clone();
    let kept = || fs::read_to_string(home.path("state/notices-0.json")).expect("a file");
    until("it is written that both were told", || {
        let file: Value = serde_json::from_str(&kept()).expect("JSON");
        let told = file["told"].as_object().and_then(|told| told.values().next()).cloned().unwrap_or_default();
        told == serde_json::json!(["oncall", "team"]) && file["parcels"].as_array().is_some_and(Vec::is_empty)
    });
    assert!(!kept().contains(KEY), "no credential is in it");
    proxy.signal("KILL");
    drop(proxy);
    // Still away: the same incident, and nobody hears of it again.
    proxy = home.start();
    until("the monitor has seen it again", || get(proxy.admin, "/api/monitors").text().contains("refused"));
    until("the incident is open", || is_open(proxy.admin));
    let shown = get(proxy.admin, "/api/alerts").json().expect("JSON");
    assert_eq!((&shown["incidents"][0]["since"], &shown["kept"]), (&since, &true.into()), "{shown:#}");
    assert!(cli(&home, &["alerts"]).contains("critical  monitor"));
    proxy.signal("KILL");
    drop(proxy);
    assert_eq!((sink.more("/pagerduty/v2/enqueue", ""), sink.more("/slack", "")), (0, 0), "told once");
    // It came back while nobody looked: the end is told to those who heard of the beginning.
    let listening = app_until(app);
    let proxy = home.start();
    let last = event(&sink.wait_for("/pagerduty/v2/enqueue", "resolve", || {}));
    assert_eq!((&last["dedup_key"], &last["event_action"]), (&first["dedup_key"], &"resolve".into()), "{last:#}");
    sink.wait_for("/slack", "RECOVERED", || {});
    until("nothing is open", || !is_open(proxy.admin));
    let watched = get(proxy.admin, "/api/monitors").json().expect("JSON")["monitors"][0].clone();
    assert_eq!(watched["incidents"], 1, "one incident in the 90 days, over three processes: {watched:#}");
    assert!(watched["down_seconds_7d"].as_f64() > Some(1.0), "{watched:#}");
    assert_eq!((sink.more("/pagerduty/v2/enqueue", ""), sink.more("/slack", "")), (0, 0));
    drop(listening);
}

#[test]
fn a_rule_that_is_gone_after_the_restart_ends_its_incident_and_a_damaged_file_is_said() {
    let Some(mut sink) = Sink::start(None) else { return };
    let app = free();
    let home = Home::new("");
    let whole = watching(&home, &sink, app);
    home.write(&whole);
    let mut proxy = home.start();
    sink.wait_for("/pagerduty/v2/enqueue", "trigger", || {});
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    home.write(&whole.replace("monitor: {critical: 0s, recover: 0s}", "monitor: off"));
    let mut proxy = home.start();
    let over = event(&sink.wait_for("/pagerduty/v2/enqueue", "resolve", || {}));
    assert!(over["payload"]["summary"].as_str().is_some_and(|text| text.ends_with("the rule monitor is gone")), "{over:#}");
    proxy.signal("TERM");
    assert_eq!(proxy.exit(), 0);
    for damaged in ["{\"format\": 1, \"parcels\": [", "{\"format\": 9, \"parcels\": []}"] {
        fs::write(home.path("state/notices-0.json"), damaged).expect("written");
        let mut proxy = home.start();
        assert_eq!(proxy.times_heard("a file of the state is not readable and is left out"), 1, "{damaged}");
        assert!(!is_open(proxy.admin));
        proxy.signal("TERM");
        assert_eq!(proxy.exit(), 0);
    }
}

#[test]
fn without_a_directory_it_is_said_that_a_restart_forgets() {
    let home = Home::new(&yaml(free(), "alerts: {}\n"));
    let proxy = home.start();
    assert_eq!(proxy.times_heard("a restart forgets them"), 1);
    until("it is said", || cli(&home, &["alerts"]).contains("store.state_dir"));
}

#[test]
fn with_redis_a_replica_that_is_killed_and_comes_back_tells_nothing_twice() {
    let (Some(mut sink), Some(redis)) = (Sink::start(None), Server::start()) else { return };
    let app = free();
    let homes = [Home::new(""), Home::new("")];
    for home in &homes {
        let store = format!("store: {{redis: '{}', namespace: test, state_dir: ", redis.url());
        home.write(&watching(home, &sink, app).replace("store: {state_dir: ", &store));
    }
    let kept = |home: &Home| {
        let text = fs::read_to_string(home.path("state/notices-0.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or_default()
    };
    let open = |home: &Home| kept(home)["carry"]["open"].as_array().map(Vec::len);
    let mut proxies = [homes[0].start(), homes[1].start()];
    let first = event(&sink.wait_for("/pagerduty/v2/enqueue", "trigger", || {}));
    until("both have written that it is open", || homes.iter().all(|home| open(home) == Some(1)));
    until("it stands in the book that the replicas share", || redis_says(&redis, "HLEN {test}:alert:book") == ":1");
    let telling = || homes.iter().position(|home| kept(home)["told"].as_object().is_some_and(|told| !told.is_empty()));
    let teller = telling().expect("one of them has told");
    proxies[teller].signal("KILL");
    proxies[teller] = homes[teller].start();
    until("the incident is open again", || is_open(proxies[teller].admin));
    let listening = app_until(app);
    let last = event(&sink.wait_for("/pagerduty/v2/enqueue", "resolve", || {}));
    assert_eq!(last["dedup_key"], first["dedup_key"]);
    until("both have ended it", || homes.iter().all(|home| open(home) == Some(0)));
    let (begun, over) = (sink.more("/pagerduty/v2/enqueue", "trigger"), sink.more("/pagerduty/v2/enqueue", "resolve"));
    assert_eq!((begun, over), (0, 0), "one beginning and one end");
    assert_eq!(redis_says(&redis, "EXISTS {test}:alert:book"), ":0", "its end is told");
    drop(listening);
}

#[test]
fn what_a_reload_takes_away_leaves_nothing_open() {
    let Some(mut sink) = Sink::start(None) else { return };
    let home = Home::new("");
    let whole = watching(&home, &sink, free());
    home.write(&whole);
    let proxy = home.start();
    let first = event(&sink.wait_for("/pagerduty/v2/enqueue", "trigger", || {}));
    sink.wait_for("/slack", "CRITICAL", || {});
    // The channel goes: its incident is over there, and goes on for the other one.
    let without: String = whole.lines().filter(|line| !line.contains("oncall")).map(|line| format!("{line}\n")).collect();
    assert!(without.len() < whole.len());
    home.write(&without);
    proxy.signal("HUP");
    let last = event(&sink.wait_for("/pagerduty/v2/enqueue", "resolve", || {}));
    assert_eq!(last["dedup_key"], first["dedup_key"]);
    assert!(last["payload"]["summary"].as_str().is_some_and(|text| text.contains("no longer watched")), "{last:#}");
    assert!(is_open(proxy.admin));
    // The block goes, in what would be quiet hours if there were any.
    let (before, _) = without.split_once("alerts:").expect("a block");
    home.write(before);
    proxy.signal("HUP");
    sink.wait_for("/slack", "no longer watched", || {});
    until("no alerts are on", || get(proxy.admin, "/api/alerts").json().expect("JSON")["on"] == false);
    until("nothing is kept", || {
        let file: Value = serde_json::from_str(&fs::read_to_string(home.path("state/notices-0.json")).expect("a file")).expect("JSON");
        file["told"] == serde_json::json!({}) && file["carry"]["open"] == serde_json::json!([]) && file["parcels"] == serde_json::json!([])
    });
    // It comes back, and is told anew.
    home.write(&whole);
    proxy.signal("HUP");
    let again = event(&sink.wait_for("/pagerduty/v2/enqueue", "trigger", || {}));
    assert_eq!(again["dedup_key"], first["dedup_key"]);
}

#[test]
fn pagerduty_hears_of_each_incident_of_a_storm_and_of_each_end() {
    const STORM: usize = 45;
    let Some(mut sink) = Sink::start(None) else { return };
    let (home, app) = (Home::new(""), free());
    let monitors: Vec<String> = (0..STORM).map(|n| format!("m{n}: {{url: 'tcp://{app}', every: 1s, timeout: 500ms}}")).collect();
    let whole = watching(&home, &sink, app);
    home.write(&whole.replace("monitors: {app:", &format!("monitors: {{{}, app:", monitors.join(", "))));
    let _proxy = home.start();
    let mut heard = |action: &str| -> std::collections::BTreeSet<String> {
        let events = (0..=STORM).map(|_| event(&sink.wait_for("/pagerduty/v2/enqueue", action, || {})));
        events.map(|event| event["dedup_key"].as_str().expect("a key").to_owned()).collect()
    };
    let begun = heard("trigger");
    assert_eq!(begun.len(), STORM + 1, "each has its own");
    let listening = app_until(app);
    assert_eq!(heard("resolve"), begun);
    drop(listening);
}
