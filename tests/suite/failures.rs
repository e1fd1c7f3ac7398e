//! The last failures: every kind of exchange that fails is kept with its story, and no secret is in any.

use http::{Request, StatusCode};
use outrigger::telemetry::failures::Filter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{BEGIN, Failing, Reply, World, chat, ms, run, secs, settle};

const CHAT: &str = "/openai/v1/chat/completions";

fn door(rest: &str) -> String {
    format!("inbound: {{app: 'http://app.test', {rest}}}")
}

/// The failures in the ring that a question means, the newest first.
fn failures(world: &World, words: &[(&str, &str)]) -> Vec<Value> {
    let filter = Filter::read(words.iter().copied(), BEGIN * 1000).unwrap_or_else(|why| panic!("{why}"));
    world.failures().find(&filter)["failures"].as_array().expect("a list").clone()
}

/// The steps of a story: target, result, and what followed.
fn steps(story: &Value) -> Value {
    let all = story["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().map(|step| json!([step["target"], step["result"], step["then"]])).collect()
}

#[test]
fn a_good_exchange_leaves_nothing() {
    run(async {
        let world = World::new(&door("defaults: {retry: {}, breaker: {}}")).await;
        for _ in 0..5 {
            assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        }
        assert_eq!(world.failures().kept(), (0, 0));
    });
}

#[test]
fn what_the_app_answered_is_kept_with_its_status() {
    run(async {
        let world = World::new(&door("caller: [client_ip]")).await;
        world.app.script([Reply::status(404), Reply::status(500)]);
        world.client().get("/a?page=2").await;
        world.client().get("/b").await;
        let all = failures(&world, &[]);
        let told: Value = all.iter().map(|story| json!([story["kind"], story["status"], story["path"], story["reason"]])).collect();
        assert_eq!(told, json!([["server_error", 500, "/b", "status_5xx"], ["client_error", 404, "/a?page=2", "status_4xx"]]));
        assert_eq!(steps(&all[0]), json!([["app", "status_5xx", "answered"]]));
        assert_eq!((&all[0]["caller"], &all[0]["target"]), (&json!("203.0.113.7"), &json!("app")));
        assert_eq!((failures(&world, &[("status", "4xx")]).len(), failures(&world, &[("caller", "203.0.113.7")]).len()), (1, 2));
    });
}

#[test]
fn a_refusal_says_which_limit_and_what_the_client_was_told() {
    run(async {
        let world = World::new(&door("limits: [{name: pace, key: client_ip, requests: 1, window: 1m}]")).await;
        world.client().get("/").await;
        world.client().get("/").await;
        let all = failures(&world, &[("reason", "limited")]);
        assert_eq!(all.len(), 1);
        assert_eq!((&all[0]["kind"], &all[0]["limit"], &all[0]["status"]), (&json!("refused"), &json!("pace"), &json!(429)));
        assert!(all[0]["detail"].as_str().is_some_and(|detail| detail.contains("the limit `pace`")), "{}", all[0]);
        assert!(all[0]["retry_after_ms"].as_f64().is_some_and(|wait| wait >= 55_000.0), "{}", all[0]);
        assert_eq!(steps(&all[0]), json!([]), "nothing was sent");
    });
}

#[test]
fn tries_pauses_and_the_breaker_stand_in_the_story_in_order() {
    run(async {
        let rest = "defaults: {retry: {max_retries: 2, backoff: [1s, 2s]}, breaker: {consecutive: 3, ratio: 'off'}}";
        let world = World::new(&door(rest)).await;
        world.app.always(Reply::status(503).after(ms(20)));
        world.client().get("/").await;
        let story = &failures(&world, &[])[0];
        assert_eq!(
            steps(story),
            json!([["app", "status_5xx", "retried"], ["app", "status_5xx", "retried"], ["app", "status_5xx", "answered"]])
        );
        let told = |nth: usize, name: &str| story["steps"][nth][name].clone();
        assert_eq!((told(0, "pause_ms"), told(1, "pause_ms"), told(2, "pause_ms")), (json!(1000), json!(2000), Value::Null));
        let rounded = |nth: usize, name: &str| told(nth, name).as_f64().expect("a number").round();
        assert_eq!((rounded(0, "ms"), rounded(1, "at_ms"), rounded(2, "at_ms")), (20.0, 1020.0, 3040.0));
        assert_eq!((told(1, "breaker"), told(2, "breaker"), told(0, "status")), (json!("closed"), json!("open"), json!(503)));
        world.client().get("/").await;
        let story = &failures(&world, &[])[0];
        assert_eq!((&story["kind"], &story["reason"]), (&json!("refused"), &json!("breaker_open")));
        assert_eq!(steps(story), json!([["app", "breaker_open", "gave_up"]]), "the app was not asked");
    });
}

#[test]
fn a_rescued_request_is_told_with_what_went_wrong_before() {
    run(async {
        let world = World::new(&door("defaults: {retry: {max_retries: 1, backoff: [1s]}}")).await;
        world.app.script([Reply::status(503), Reply::ok("well")]);
        assert_eq!(world.client().get("/").await.text(), "well");
        let all = failures(&world, &[("kind", "rescued")]);
        assert_eq!(steps(&all[0]), json!([["app", "status_5xx", "retried"], ["app", "ok", "answered"]]));
        assert_eq!(all[0]["status"], 200);
    });
}

#[test]
fn connections_that_fail_and_times_that_pass_have_their_reasons() {
    run(async {
        let world = World::new(&door("defaults: {timeouts: {response_header: 1s, idle: 1s}}")).await;
        world.dials.fail("app", [Failing::Refused]);
        world.client().get("/refused").await;
        world.app.script([Reply::ok("late").after(secs(5)), Reply::paced(secs(5), &["a", "b"])]);
        world.client().get("/late").await;
        assert!(world.client().get("/broken").await.broken);
        let all = failures(&world, &[]);
        let told: Value = all.iter().map(|story| json!([story["kind"], story["reason"], steps(story)])).collect();
        assert_eq!(
            told,
            json!([
                ["upstream_broken", "upstream_broken", [["app", "ok", "answered"]]],
                ["timeout", "response_header_timeout", [["app", "response_header_timeout", "gave_up"]]],
                ["refused", "connect_failed", [["app", "connect_failed", "gave_up"]]],
            ])
        );
        assert_eq!(all[1]["steps"][0]["ms"].as_f64().map(f64::round), Some(1000.0));
    });
}

#[test]
fn a_model_call_tells_its_targets_models_and_cost() {
    run(async {
        let world = World::new(
            "outbound:
  providers: {openai: {url: 'http://o.test', keys: [sk-openai-1234567, sk-openai-7654321]}, backup: {api: openai, url: 'http://b.test', keys: [sk-b]}}
  routes:
    - {name: chat, match: {operation: chat}, fallback: [{provider: backup, model: gpt-4o-mini}]}",
        )
        .await;
        world.provider("openai").script(["429", "503"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let story = &failures(&world, &[("door", "outbound")])[0];
        assert_eq!(
            steps(story),
            json!([["openai", "throttled", "free_retry"], ["openai", "overloaded", "next_target"], ["backup", "ok", "answered"]])
        );
        assert_eq!((&story["steps"][0]["why"], &story["steps"][2]["model"]), (&json!("another_key"), &json!("gpt-4o-mini")));
        assert_eq!((&story["kind"], &story["route"], &story["model"]), (&json!("rescued"), &json!("chat"), &json!("gpt-4o-mini")));
        assert!(story["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0) && story["tokens"]["output"].is_u64(), "{story}");
        assert_eq!(failures(&world, &[("target", "backup")]).len(), 1);
    });
}

#[test]
fn clients_that_leave_and_heads_that_cannot_be_read_are_failures_too() {
    run(async {
        let world = World::new(&door("bounds: {max_body: 1KiB}")).await;
        world.app.script([Reply::hang()]);
        let client = world.client();
        let leaving = tokio::task::spawn_local(async move { client.get("/hang").await.status });
        settle().await;
        leaving.abort();
        settle().await;
        assert_eq!(world.client().post("/large", vec![b'x'; 2000]).await.status, StatusCode::PAYLOAD_TOO_LARGE);
        let mut raw = world.client().raw();
        raw.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").await.expect("written");
        raw.read_to_end(&mut Vec::new()).await.expect("read");
        let mut raw = world.client().raw();
        raw.write_all(b"POST /cut HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await.expect("written");
        drop(raw);
        settle().await;
        let told: Value = failures(&world, &[]).iter().map(|story| json!([story["kind"], story["reason"], story["path"]])).collect();
        assert_eq!(
            told,
            json!([
                ["refused", "body_broken", "/cut"],
                ["refused", "bad_request", "/"],
                ["refused", "body_too_large", "/large"],
                ["client_gone", "abandoned", "/hang"],
            ])
        );
    });
}

/// Secrets of every place: query, fields, URL of a target, bodies.
#[test]
fn no_secret_and_no_body_stands_in_a_story() {
    run(async {
        let config = "
inbound: {app: 'http://app.test', caller: ['header:x-user'], trusted_proxies: [203.0.113.0/24]}
outbound: {providers: {openai: {url: 'http://o.test', keys: [sk-hunter2-in-the-file]}}}";
        let world = World::new(config).await;
        world.app.always(Reply::status(500).body("hunter2 in the answer"));
        for name in ["authorization", "cookie", "x-api-key", "proxy-authorization", "x-goog-api-key"] {
            world.client().ask(Request::post("/p?token=hunter2&a=1&sig=hunter2#x").header(name, "hunter2"), "hunter2 in the body").await;
        }
        let mut body = chat("gpt-4o");
        body["messages"][0]["content"] = json!("hunter2 in the prompt");
        for fault in ["401", "400", "503"] {
            world.provider("openai").script([fault]);
            let request = crate::world::json(&format!("{CHAT}?key=hunter2&access_token=hunter2")).header("authorization", "Bearer hunter2");
            world.caller().ask(request, body.to_string()).await;
        }
        let all = failures(&world, &[]);
        assert_eq!(all.len(), 8, "{all:#?}");
        let text = json!(all).to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("/p?token=***&a=1&sig=***") && text.contains("key=***&access_token=***"), "{text}");
    });
}

#[test]
fn a_trace_that_came_with_the_request_finds_it() {
    run(async {
        let world = World::new(&door("")).await;
        world.app.always(Reply::status(502));
        let trace = "0af7651916cd43dd8448eb211c80319c";
        world.client().ask(Request::get("/").header("traceparent", format!("00-{trace}-b7ad6b7169203331-01")), "").await;
        world.client().get("/other").await;
        let found = failures(&world, &[("trace", trace)]);
        assert_eq!((found.len(), &found[0]["trace_id"]), (1, &json!(trace)));
    });
}

#[test]
fn a_ring_that_is_off_keeps_nothing_and_a_full_one_counts() {
    run(async {
        let world = World::new(&(door("") + "\ntelemetry: {errors: {keep: 0}}")).await;
        world.app.always(Reply::status(500));
        world.client().get("/").await;
        assert_eq!(world.failures().kept(), (0, 0));
        let world = World::new(&(door("") + "\ntelemetry: {errors: {keep: 2}}")).await;
        world.app.always(Reply::status(500));
        for _ in 0..5 {
            world.client().get("/").await;
        }
        assert_eq!((world.failures().kept().0, world.count("outrigger_errors_displaced_total", &[])), (2, 3.0));
        assert!(world.count("outrigger_errors_bytes", &[]) > 0.0);
    });
}

#[test]
fn a_version_that_stands_in_both_urls_is_named_with_the_404() {
    run(async {
        let world = World::new("outbound: {providers: {house: {api: openai, url: 'http://h.test/v1'}}}").await;
        world.provider("house").script(["404", "404"]);
        for path in ["/house/v1/chat/completions", "/house/chat/completions"] {
            assert_eq!(world.caller().call(path, &chat("m")).await.status, StatusCode::NOT_FOUND, "{path}");
        }
        let all = failures(&world, &[]);
        let detail = all[1]["detail"].as_str().unwrap_or_else(|| panic!("a hint in {}", all[1]));
        assert!(detail.starts_with("the provider was asked for /v1/v1/chat/completions"), "{detail}");
        assert!(detail.ends_with("end the app's in /house"), "{detail}");
        assert_eq!(all[0]["detail"], Value::Null, "nothing was asked for twice");
    });
}

#[test]
fn a_refused_key_of_the_app_itself_is_told_though_a_fallback_answers() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test'}, other: {api: openai, url: 'http://p.test', keys: [sk-x]}}, \
             defaults: {fallback: [{provider: other}]}}",
        )
        .await;
        world.provider("openai").script(["401"]);
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
        let story = &failures(&world, &[("reason", "bad_key")])[0];
        assert_eq!((&story["kind"], steps(story)[0].clone()), (&json!("rescued"), json!(["openai", "bad_key", "next_target"])));
        assert_eq!(story["steps"][0]["refused_key"], "the app's own", "{story}");
        assert_eq!(story["steps"][1]["refused_key"], Value::Null);
    });
}
