//! What the cache did is said with one word, in the metric, in the log and in `Cache-Status`; and of the door that it was done at.

use http::{Method, Request, header};

use serde_json::Value;

use crate::world::{Reply, World, json, run, settle};

/// A call that is to be answered from the cache.
fn cold() -> Value {
    serde_json::json!({"model": "m", "temperature": 0, "messages": []})
}

/// A route of either door under one name.
const BOTH: &str = "
inbound: {app: 'http://app.test', limits: [{name: many, key: client_ip, requests: 900, window: 1h}], routes: [
  {name: same, match: {path: /kept/**}, cache: {ttl: 60s}},
  {name: own, match: {path: /own/**}, cache: {}},
  {name: watched, match: {path: /watched/**}, cache: {ttl: 60s, mode: observe}},
  {name: posted, match: {path: /posted/**}, cache: {ttl: 60s, body: [q]}}]}
outbound: {providers: {scripted: {api: openai, url: 'http://s.test'}}, routes: [
  {name: same, match: {operation: chat}, cache: {ttl: 60s, max_temperature: 0.5}}]}
";

/// What is asked, and what must be said of it.
struct Case {
    what: &'static str,
    path: &'static str,
    method: Method,
    fields: &'static [(&'static str, &'static str)],
    body: &'static str,
    /// Fields of the app's answer.
    answer: &'static [(&'static str, &'static str)],
    /// Status of the app's answer.
    status: u16,
    /// What metric and log say.
    word: &'static str,
    /// What `Cache-Status` says.
    member: &'static str,
    /// The reason that is counted, if it went past the cache.
    bypassed: &'static str,
}

const GET: Case = Case {
    what: "",
    path: "/kept/a",
    method: Method::GET,
    fields: &[],
    body: "",
    answer: &[],
    status: 200,
    word: "miss",
    member: "outrigger; fwd=uri-miss; fwd-status=200; stored",
    bypassed: "",
};

const COOKIE: &[(&str, &str)] = &[("cookie", "a=b")];
const LOGIN: &[(&str, &str)] = &[("authorization", "Bearer x")];
const KEPT: &[(&str, &str)] = &[("cache-control", "public, max-age=60")];

fn cases() -> Vec<Case> {
    const PAST: &str = "bypass";
    let cookie = "outrigger; fwd=bypass; fwd-status=200; detail=\"cookie\"";
    let login = "outrigger; fwd=bypass; fwd-status=200; detail=\"authorization\"";
    vec![
        Case { what: "a miss", ..GET },
        Case {
            what: "no-store",
            fields: &[("cache-control", "no-store")],
            word: PAST,
            member: "outrigger; fwd=bypass; detail=\"request no-store\"",
            bypassed: "request no-store",
            ..GET
        },
        Case { what: "an unsafe method", method: Method::DELETE, word: PAST, member: "outrigger; fwd=method", bypassed: "method", ..GET },
        Case {
            what: "a body",
            body: "x",
            word: PAST,
            member: "outrigger; fwd=bypass; detail=\"request body\"",
            bypassed: "request body",
            ..GET
        },
        Case { what: "a cookie", fields: COOKIE, word: PAST, member: cookie, bypassed: "cookie", ..GET },
        Case { what: "a cookie, HEAD", method: Method::HEAD, fields: COOKIE, word: PAST, member: cookie, bypassed: "cookie", ..GET },
        Case { what: "a cookie, but the app says that all may have it", fields: COOKIE, answer: KEPT, ..GET },
        Case { what: "credentials", fields: LOGIN, word: PAST, member: login, bypassed: "authorization", ..GET },
        Case { what: "credentials, but the app says that all may have it", fields: LOGIN, answer: KEPT, ..GET },
        Case {
            what: "credentials, without a ttl",
            path: "/own/a",
            fields: LOGIN,
            answer: &[("cache-control", "max-age=60")],
            word: PAST,
            member: login,
            bypassed: "authorization",
            ..GET
        },
        Case {
            what: "the answer is private",
            answer: &[("cache-control", "private")],
            member: "outrigger; fwd=uri-miss; fwd-status=200; detail=\"private\"",
            ..GET
        },
        Case {
            what: "a part was asked for",
            fields: &[("range", "bytes=0-1")],
            status: 206,
            member: "outrigger; fwd=uri-miss; fwd-status=206; detail=\"status\"",
            ..GET
        },
        Case { what: "a new answer was asked for", fields: &[("cache-control", "no-cache")], ..GET },
        Case { what: "HEAD", method: Method::HEAD, member: "outrigger; fwd=uri-miss; fwd-status=200", ..GET },
        Case { what: "only watched", path: "/watched/a", member: "", ..GET },
        Case { what: "only watched, a cookie", path: "/watched/a", fields: COOKIE, word: PAST, member: "", bypassed: "cookie", ..GET },
        Case {
            what: "only watched, no-store",
            path: "/watched/a",
            fields: &[("cache-control", "no-store")],
            word: PAST,
            member: "",
            bypassed: "request no-store",
            ..GET
        },
        Case {
            what: "no declared body",
            path: "/posted/a",
            method: Method::PUT,
            word: PAST,
            member: "outrigger; fwd=method",
            bypassed: "method",
            ..GET
        },
        Case { what: "a route without a cache", path: "/other", word: "none", member: "", ..GET },
    ]
}

#[test]
fn metric_log_and_field_say_one_word() {
    for case in cases() {
        run(async {
            let world = World::new(BOTH).await;
            let mut reply = Reply::status(case.status).body("x");
            for (name, value) in case.answer {
                reply = reply.header(name, value);
            }
            world.app.always(reply);
            let mut asked = Request::builder().method(case.method.clone()).uri(case.path);
            for (name, value) in case.fields {
                asked = asked.header(*name, *value);
            }
            let answer = world.client().ask(asked, case.body).await;
            settle().await;
            let what = case.what;
            assert_eq!(answer.header("cache-status"), case.member, "{what}");
            let result = |word| world.count("outrigger_cache_requests_total", &[("door", "inbound"), ("result", word)]);
            let all = world.count("outrigger_cache_requests_total", &[]);
            assert_eq!((result(case.word), all), if case.word == "none" { (0.0, 0.0) } else { (1.0, 1.0) }, "{what}\n{}", world.metrics());
            assert_eq!(world.count("outrigger_requests_total", &[("cache", case.word)]), 1.0, "{what}");
            let bypasses = world.count("outrigger_cache_bypasses_total", &[("reason", case.bypassed)]);
            let wanted = f64::from(u8::from(!case.bypassed.is_empty()));
            assert_eq!((bypasses, world.count("outrigger_cache_bypasses_total", &[])), (wanted, wanted), "{what}");
            let line = &world.log().await[0]["cache"];
            assert_eq!(line.as_str().unwrap_or("none"), case.word, "{what}");
        });
    }
}

#[test]
fn a_later_word_is_the_same_in_all_three_as_well() {
    run(async {
        let world = World::new(BOTH).await;
        let client = world.client();
        let mut words = Vec::new();
        for (fields, word, member) in [
            (&[][..], "miss", "outrigger; fwd=uri-miss; fwd-status=200; stored"),
            (&[], "hit", "outrigger; hit; ttl=59"),
            (COOKIE, "bypass", "outrigger; fwd=bypass; fwd-status=200; detail=\"cookie\""),
            (&[("range", "bytes=0-0")], "hit", "outrigger; hit; ttl=59"),
            (&[("cache-control", "only-if-cached")], "hit", "outrigger; hit; ttl=59"),
        ] {
            world.app.always(Reply::ok("x"));
            let asked = fields.iter().fold(Request::get("/kept/a"), |asked, (name, value)| asked.header(*name, *value));
            let answer = client.ask(asked, "").await;
            settle().await;
            assert_eq!(answer.header("cache-status"), member, "{fields:?}");
            words.push(word);
        }
        let log = world.log().await;
        assert_eq!(log.iter().map(|line| line["cache"].as_str().expect("a word")).collect::<Vec<_>>(), words);
    });
}

#[test]
fn model_calls_that_pass_the_cache_by_say_so() {
    run(async {
        let world = World::new(BOTH).await;
        let hot = serde_json::json!({"model": "m", "temperature": 1, "messages": []});
        let no_store = json("/scripted/v1/chat/completions").header(header::CACHE_CONTROL, "no-store");
        let zero = json("/scripted/v1/chat/completions").header("outrigger-cache-ttl", "0");
        let asked = [
            (json("/scripted/v1/chat/completions"), hot, "temperature above max_temperature"),
            (no_store, cold(), "request no-store"),
            (zero, cold(), "request outrigger-cache-ttl 0"),
        ];
        let n = asked.len();
        for (asked, body, reason) in asked {
            world.app.always(Reply::ok("{}").header("content-type", "application/json"));
            let answer = world.caller().ask(asked, body.to_string()).await;
            settle().await;
            assert_eq!(answer.header("cache-status"), format!("outrigger; fwd=bypass; detail=\"{reason}\""));
            assert_eq!(world.count("outrigger_cache_bypasses_total", &[("door", "outbound"), ("reason", reason)]), 1.0, "{reason}");
        }
        let of = |door, word| world.count("outrigger_cache_requests_total", &[("door", door), ("result", word)]);
        assert_eq!((of("outbound", "bypass"), of("outbound", "miss"), of("inbound", "bypass")), (n as f64, 0.0, 0.0));
        assert!(world.log().await.iter().all(|line| line["cache"] == "bypass"));
    });
}

#[test]
fn routes_of_one_name_are_told_apart_by_their_door() {
    run(async {
        let world = World::new(BOTH).await;
        for _ in 0..2 {
            world.client().get("/kept/a").await;
            settle().await;
        }
        world.app.always(Reply::ok("{}").header("content-type", "application/json"));
        world.caller().call("/scripted/v1/chat/completions", &cold()).await;
        settle().await;
        let of = |door, word| world.count("outrigger_cache_requests_total", &[("door", door), ("route", "same"), ("result", word)]);
        assert_eq!([of("inbound", "hit"), of("inbound", "miss"), of("outbound", "hit"), of("outbound", "miss")], [1.0, 1.0, 0.0, 1.0]);
        let stored = |door| world.count("outrigger_cache_fills_total", &[("door", door), ("route", "same"), ("result", "stored")]);
        assert_eq!((stored("inbound"), stored("outbound")), (1.0, 0.0));
        assert_eq!(
            world.log().await.iter().map(|line| line["door"].as_str().expect("a door")).collect::<Vec<_>>(),
            ["inbound", "inbound", "outbound"]
        );
    });
}

/// Routes of the outbound door alone have tokens and a cost: `route` needs no door there.
const OUTBOUND_ONLY: [&str; 2] = ["outrigger_tokens_total", "outrigger_cost_usd_total"];

#[test]
fn every_family_by_route_or_limit_is_by_door_as_well() {
    for spec in outrigger::telemetry::metrics::FAMILIES {
        if spec.labels.iter().any(|label| ["route", "limit"].contains(label)) && !OUTBOUND_ONLY.contains(&spec.name) {
            assert_eq!(spec.labels[0], "door", "{}", spec.name);
        }
    }
}
