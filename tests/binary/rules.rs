//! Rules of alerts in a real process: cache hits, unattributed calls, a budget and its projection, a breaker, keys, a certificate, a
//! refused file, lost lines of the log.

use std::fs;

use outrigger::cli::client::Client;
use serde_json::{Value, json};

use super::{
    origin::{certificate, serve},
    process::{Home, Proxy, block_on, get, until},
};

/// The open incident of a rule.
fn incident(proxy: &Proxy, rule: &str) -> Option<Value> {
    let shown = get(proxy.admin, "/api/alerts").json().expect("JSON");
    shown["incidents"].as_array().expect("a list").iter().find(|one| one["rule"] == rule).cloned()
}

/// Waits until an incident of the rule is open. Meanwhile `do_this` goes on.
fn opens(proxy: &Proxy, rule: &str, mut do_this: impl FnMut()) -> Value {
    let mut found = None;
    until(rule, || {
        do_this();
        found = incident(proxy, rule);
        found.is_some()
    });
    found.expect("found")
}

/// Waits until no incident of the rule is open.
fn ends(proxy: &Proxy, rule: &str, mut do_this: impl FnMut()) {
    until(rule, || {
        do_this();
        incident(proxy, rule).is_none()
    });
}

/// A chat answer with this many tokens in and out.
fn answer(tokens: u64) -> Value {
    json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens},
    })
}

fn call(proxy: &Proxy, provider: &str) -> u16 {
    let body = json!({"model": "gpt-4o-mini", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let path = format!("/{provider}/chat/completions");
    block_on(Client::tcp(proxy.outbound.expect("open")).post(&path, &body)).expect("answers").status.as_u16()
}

/// Quick terms for a rule.
fn quick(rule: &str, thresholds: &str) -> String {
    format!("    {rule}: {{{thresholds}, for: 0s, recover: 0s, min_requests: 5}}\n")
}

#[test]
fn hits_calls_budgets_breakers_and_keys_are_watched() {
    let app = serve(|_| (200, "hello".into()));
    let good = serve(|_| (200, answer(1_000).to_string()));
    let broken = serve(|_| (500, "{}".into()));
    let refusing =
        serve(|_| (401, json!({"error": {"message": "no", "type": "invalid_request_error", "code": "invalid_api_key"}}).to_string()));
    let rules = [
        quick("hit_rate", "warning: 50%"),
        quick("unattributed", "low: 50%"),
        quick("spend", "warning: 80%"),
        quick("projection", "warning: 15m"),
    ];
    let home = Home::new(&format!(
        "inbound:\n  listen: 127.0.0.1:0\n  app: http://{app}\n  routes: [{{name: shelf, match: {{path: /**}}, cache: {{ttl: 1h}}}}]\n\
         outbound:\n  listen: 127.0.0.1:0\n  providers:\n    good: {{api: openai, url: 'http://{good}/v1'}}\n    \
         broken: {{api: openai, url: 'http://{broken}/v1'}}\n    refusing: {{api: openai, url: 'http://{refusing}/v1', keys: [sk-one]}}\n  \
         limits: [{{name: budget, key: provider, usd: 0.02, window: 1h, alert_at: [0.5]}}]\n  \
         routes: [{{match: {{operation: chat}}, breaker: {{consecutive: 3}}}}]\n\
         admin: {{listen: 127.0.0.1:0, probes: 'off', socket: SOCKET}}\nshutdown: {{drain_delay: 0s, deadline: 10s}}\n\
         alerts:\n  rules:\n    no_traffic: off\n{}",
        rules.concat()
    ));
    let proxy = home.start();
    let inbound = Client::tcp(proxy.inbound.expect("open"));
    let mut page = 0;
    let hit_rate = opens(&proxy, "hit_rate", || {
        page += 1;
        block_on(inbound.get(&format!("/{page}"))).expect("answers");
    });
    assert_eq!((&hit_rate["subject"], &hit_rate["severity"]), (&"inbound route shelf".into(), &"warning".into()), "{hit_rate:#}");
    ends(&proxy, "hit_rate", || drop(block_on(inbound.get("/1")).expect("answers")));

    // Each call costs 0.00075 dollars: 22 of them are four fifths of the limit.
    let mut calls = 0;
    let spend = opens(&proxy, "spend", || {
        if calls < 22 {
            assert_eq!(call(&proxy, "good"), 200);
            calls += 1;
        }
    });
    assert!(spend["says"].as_str().is_some_and(|says| says.contains("limit budget")), "{spend:#}");
    let unattributed = opens(&proxy, "unattributed", || {});
    assert_eq!(unattributed["severity"], "low");
    let projection = opens(&proxy, "projection", || {});
    assert!(projection["says"].as_str().is_some_and(|says| says.contains("at this rate it is spent in")), "{projection:#}");

    let breaker = opens(&proxy, "breaker", || {
        call(&proxy, "broken");
    });
    assert!(breaker["subject"].as_str().is_some_and(|name| name.contains("broken")), "{breaker:#}");
    let keys = opens(&proxy, "keys", || {
        call(&proxy, "refusing");
    });
    assert_eq!((&keys["subject"], &keys["severity"]), (&"refusing".into(), &"critical".into()), "the only key rests: {keys:#}");
}

#[test]
fn a_certificate_that_expires_and_a_file_that_is_refused_are_incidents_until_they_are_mended() {
    let home = Home::new("");
    let put = |days: i64| {
        let (cert, key) = certificate(days);
        fs::write(home.path("key.pem"), key).expect("written");
        fs::write(home.path("cert.pem"), cert).expect("written");
    };
    put(2);
    let whole = format!(
        "inbound:\n  listen: 127.0.0.1:0\n  app: http://127.0.0.1:9\n  tls: {{cert: '{}', key: '{}'}}\n\
         admin: {{listen: 127.0.0.1:0, probes: 'off', socket: SOCKET}}\nshutdown: {{drain_delay: 0s, deadline: 10s}}\n\
         alerts: {{rules: {{certificate: {{warning: 14d, critical: 3d, recover: 0s}}, reload: {{warning: 0s, recover: 0s}}}}}}\n",
        home.text("cert.pem"),
        home.text("key.pem")
    );
    home.write(&whole);
    let proxy = home.start();
    let expires = opens(&proxy, "certificate", || {});
    assert_eq!(expires["severity"], "critical", "{expires:#}");
    assert!(expires["subject"].as_str().is_some_and(|subject| subject.starts_with("inbound ")), "{expires:#}");
    put(90);
    ends(&proxy, "certificate", || proxy.signal("HUP"));
    home.write(&whole.replace("listen: 127.0.0.1:0\n", "lisen: 127.0.0.1:0\n"));
    let refused = opens(&proxy, "reload", || proxy.signal("HUP"));
    assert!(refused["says"].as_str().is_some_and(|says| says.contains("lisen")), "{refused:#}");
    home.write(&whole);
    ends(&proxy, "reload", || proxy.signal("HUP"));
}
