//! `mode: observe` counts what a policy would have done and does nothing; `mode: off` is as if it were not there.

use http::StatusCode;

use crate::world::{Reply, World, chat, ms, run, secs};

fn door(rest: &str) -> String {
    format!("inbound: {{app: 'http://app.test', {rest}}}")
}

#[test]
fn a_limit_counts_refusals_and_refuses_nobody() {
    run(async {
        let world = World::new(&door("limits: [{name: pace, mode: observe, key: client_ip, requests: 3, window: 1m}]")).await;
        for _ in 0..10 {
            let answer = world.client().get("/").await;
            assert_eq!((answer.status, answer.header("ratelimit")), (StatusCode::OK, ""));
        }
        assert_eq!(world.limit("pace"), (3, 0, 7), "what it would have refused is not counted as use");
        let named: Vec<bool> = world.log().await.iter().map(|line| line["would_refuse"] == "pace").collect();
        assert_eq!((named.len(), named.iter().filter(|named| **named).count()), (10, 7), "its name stands in the log");
    });
}

#[test]
fn a_queue_of_a_limit_that_observes_holds_nobody() {
    run(async {
        for (limit, reply) in [("requests: 2, window: 1m", Reply::ok("a")), ("concurrency: 2", Reply::paced(secs(60), &["a", "b"]))] {
            let limits = format!("limits: [{{name: pace, mode: observe, key: client_ip, {limit}, queue: {{max: 5, wait: 30s}}}}]");
            let world = World::new(&door(&limits)).await;
            world.app.always(reply);
            let mut open = Vec::new();
            for _ in 0..5 {
                let begun = tokio::time::Instant::now();
                let answer = world.client().open(http::Request::get("/"), "").await;
                assert!(
                    answer.status == StatusCode::OK && begun.elapsed() < ms(5),
                    "{limit}: {} after {:?}",
                    answer.status,
                    begun.elapsed()
                );
                open.push(answer);
            }
            let counts = world.shared.limits.counts();
            let count = counts.iter().find(|count| &*count.name == "pace").expect("counted");
            assert_eq!((count.refused, count.observed, count.queue), (0, 3, Default::default()), "{limit}");
        }
    });
}

#[test]
fn a_limit_that_observes_does_nothing_else_once_it_is_spent() {
    run(async {
        for act in ["{degrade: {model: gpt-4o-mini}}", "cache_only", "ask"] {
            let world = World::new(&format!(
                "outbound: {{providers: {{openai: {{url: 'http://o.test'}}}},
                  limits: [{{name: budget, mode: observe, key: global, requests: 1, window: 1h, on_limit: {act}}}]}}"
            ))
            .await;
            for _ in 0..3 {
                let answer = world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
                assert!(answer.status == StatusCode::OK && answer.took < secs(60), "{act}: {}", answer.text());
                assert_eq!(answer.header("outrigger-answered-by"), "", "{act}");
            }
            let seen = world.provider("openai").seen();
            assert!(seen.len() == 3 && seen.iter().all(|seen| seen.body.contains(r#""gpt-4o""#)), "{act}");
            assert_eq!(world.limit("budget"), (1, 0, 2), "{act}");
            assert_eq!(world.shared.approvals.list().len(), 0, "{act}");
        }
    });
}

#[test]
fn a_retry_is_counted_and_not_made() {
    run(async {
        let world = World::new(&door("defaults: {retry: {mode: observe, backoff: [1s]}}")).await;
        world.app.script([Reply::status(503)]);
        let answer = world.client().get("/").await;
        assert_eq!((answer.status, world.app.asked()), (StatusCode::SERVICE_UNAVAILABLE, 1));
        assert!(answer.took < ms(5));
        assert_eq!(world.count("outrigger_retries_total", &[("target", "app"), ("reason", "observed")]), 1.0);
    });
}

#[test]
fn a_breaker_changes_its_state_and_stops_nothing() {
    run(async {
        let world = World::new(&door("defaults: {breaker: {mode: observe, consecutive: 2, ratio: 'off'}}")).await;
        world.app.always(Reply::status(503));
        for at in 1..=5 {
            world.client().get("/").await;
            assert_eq!(world.app.asked(), at);
        }
        let snapshot = world.shared.breakers.snapshot(tokio::time::Instant::now());
        assert_eq!((snapshot[0].state.as_str(), snapshot[0].refused), ("open", 3));
    });
}

#[test]
fn bounds_that_would_have_passed_are_counted() {
    run(async {
        let world = World::new(&door("defaults: {timeouts: {mode: observe, response_header: 1s, idle: 1s, total: 2s}}")).await;
        world.app.script([Reply::paced(secs(2), &["a", "b"]).after(secs(5))]);
        let answer = world.client().get("/").await;
        assert_eq!((answer.status, answer.text(), answer.broken), (StatusCode::OK, "ab", false));
        assert_eq!(world.count("outrigger_timeouts_total", &[("bound", "observed_response_header")]), 1.0);
    });
}

#[test]
fn access_lets_everybody_in() {
    run(async {
        let world = World::new(&door("routes: [{match: {path: /**}, access: {mode: observe, deny: [0.0.0.0/0]}}]")).await;
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        assert_eq!(world.count("outrigger_access_observed_total", &[("route", "/**")]), 1.0, "and counts whom it would have refused");
    });
}

#[test]
fn what_is_off_is_not_there() {
    run(async {
        let off = "limits: [{mode: off, key: client_ip, requests: 1, window: 1m}],
  defaults: {retry: {mode: off}, breaker: {mode: off, consecutive: 1}, timeouts: {mode: off, response_header: 1s}}";
        let world = World::new(&door(off)).await;
        world.app.always(Reply::status(503).after(secs(3)));
        for at in 1..=3 {
            assert_eq!(world.client().get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(world.app.asked(), at);
        }
    });
}
