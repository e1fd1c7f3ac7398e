//! Requests in flight, and requests that wait in line for a limit: who gets in, in which order, and who is told to go.

use std::time::UNIX_EPOCH;

use futures_util::future::join_all;
use http::{Request, StatusCode};
use outrigger::policy::limits::QueueCounts;
use tokio::time::{Duration, Instant};

use crate::world::{Answer, BEGIN, Client, Failing, Reply, World, chat, ms, pass, run, secs, settle};

fn door(limit: &str) -> String {
    format!("inbound: {{app: 'http://app.test', limits: [{{name: busy, key: client_ip, {limit}}}]}}")
}

fn queue(world: &World) -> QueueCounts {
    let counts = world.shared.limits.counts();
    counts.iter().find(|count| &*count.name == "busy").expect("counted").queue
}

/// Requests to `/0`, `/1` and so on, begun in this order a millisecond apart; with the time each took.
async fn in_turn(client: &Client, count: usize) -> Vec<(Answer, Duration)> {
    let ask = |at: usize| async move {
        pass(ms(at as u64)).await;
        let begun = Instant::now();
        let answer = client.get(&format!("/{at}")).await;
        (answer, begun.elapsed())
    };
    join_all((0..count).map(ask)).await
}

fn statuses(answers: &[(Answer, Duration)]) -> Vec<u16> {
    answers.iter().map(|(answer, _)| answer.status.as_u16()).collect()
}

#[test]
fn no_more_requests_are_in_flight_than_the_limit_and_each_until_its_last_byte() {
    run(async {
        let world = World::new(&door("concurrency: 2")).await;
        world.app.script([Reply::paced(secs(1), &["a", "b", "c"])]);
        world.app.always(Reply::paced(secs(60), &["a", "b", "c"]));
        let client = world.client();
        let mut first = client.open(Request::get("/"), "").await;
        assert_eq!(first.headers["ratelimit-policy"], r#""busy";q=2;qu="concurrent-requests""#);
        assert_eq!(first.headers["ratelimit"], r#""busy";r=1"#);
        let second = client.open(Request::get("/"), "").await;
        let refused = client.get("/").await;
        assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "1"));
        assert_eq!((refused.json()["reason"].as_str(), refused.header("ratelimit")), (Some("too_many_in_flight"), r#""busy";r=0"#));
        assert!(refused.json()["detail"].as_str().expect("text").contains("2 requests in flight"), "{}", refused.text());
        assert_eq!(world.count("outrigger_rejects_total", &[("reason", "too_many_in_flight")]), 1.0);
        let other = world.client().from("198.51.100.1").open(Request::get("/"), "").await;
        assert_eq!(other.status, StatusCode::OK, "another address");
        while first.next().await.is_some() {}
        settle().await;
        let third = client.open(Request::get("/"), "").await;
        assert_eq!(third.status, StatusCode::OK, "the last byte makes room");
        assert_eq!(client.get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
        drop(second);
        settle().await;
        assert_eq!(client.open(Request::get("/"), "").await.status, StatusCode::OK, "and so does a client that leaves");
        assert_eq!(world.limit("busy"), (5, 2, 0));
    });
}

#[test]
fn a_limit_on_requests_in_flight_that_observes_refuses_nobody() {
    run(async {
        let world = World::new(&door("concurrency: 1, mode: observe")).await;
        world.app.always(Reply::default().after(secs(1)));
        assert_eq!(statuses(&in_turn(&world.client(), 3).await), [200, 200, 200]);
        assert_eq!(world.limit("busy"), (1, 0, 2));
    });
}

#[test]
fn a_request_that_another_limit_refuses_holds_no_place() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test', limits: [{name: busy, key: global, concurrency: 1, queue: {max: 1, wait: 1s}},
              {name: pace, key: client_ip, requests: 1, window: 1h}]}",
        )
        .await;
        let client = world.client();
        assert_eq!(client.get("/").await.status, StatusCode::OK);
        for _ in 0..3 {
            assert_eq!(client.get("/").await.json()["reason"], "limited");
        }
        assert_eq!(client.from("198.51.100.1").get("/").await.status, StatusCode::OK);
        let refused_by_the_other = world.app.asked();
        assert_eq!(refused_by_the_other, 2);
    });
}

#[test]
fn calls_in_flight_are_counted_by_provider_until_the_providers_last_byte() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test'}, other: {api: openai, url: 'http://p.test'}},
              limits: [{name: busy, key: provider, concurrency: 1}],
              routes: [{match: {operation: chat}, fallback: [{provider: other}]}]}",
        )
        .await;
        world.provider("openai").script(["hang"]);
        let call = || async { world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await.status };
        let begun = world.caller();
        let first = tokio::task::spawn_local(async move { begun.call("/openai/v1/chat/completions", &chat("gpt-4o")).await.status });
        settle().await;
        assert_eq!(call().await, StatusCode::TOO_MANY_REQUESTS);
        first.abort();
        settle().await;
        assert_eq!(call().await, StatusCode::OK);
        // The fallback's provider has places of its own.
        world.provider("openai").script(["503", "503"]);
        assert_eq!(call().await, StatusCode::OK);
        assert_eq!(call().await, StatusCode::OK);
    });
}

#[test]
fn requests_wait_in_their_order_for_those_in_flight() {
    run(async {
        let world = World::new(&door("concurrency: 1, queue: {max: 3, wait: 1m}")).await;
        world.app.always(Reply::default().after(secs(10)));
        let answers = in_turn(&world.client(), 5).await;
        assert_eq!(statuses(&answers), [200, 200, 200, 200, 429]);
        let seconds: Vec<u64> = answers.iter().map(|(_, took)| took.as_secs_f64().round() as u64).collect();
        assert_eq!(seconds, [10, 20, 30, 40, 0], "one after the other, and who finds the line full is told at once");
        let order: Vec<String> = world.app.seen().into_iter().map(|seen| seen.target).collect();
        assert_eq!(order, ["/0", "/1", "/2", "/3"]);
        assert_eq!(
            (answers[4].0.json()["reason"].as_str(), queue(&world)),
            (Some("queue_full"), QueueCounts { passed: 3, full: 1, ..Default::default() })
        );
        assert_eq!(world.count("outrigger_limit_wait_seconds_count", &[("limit", "busy")]), 3.0);
        let waits = world.count("outrigger_limit_wait_seconds_sum", &[("limit", "busy")]);
        assert!((59.9..60.1).contains(&waits), "{waits}");
        assert_eq!(world.limit("busy"), (4, 1, 0), "who waits is not refused");
    });
}

#[test]
fn who_leaves_gives_up_its_place_in_line_at_once() {
    run(async {
        let world = World::new(&door("concurrency: 1, queue: {max: 5, wait: 1m}")).await;
        world.app.always(Reply::default().after(secs(10)));
        let spawn = |path: &'static str| {
            let client = world.client();
            tokio::task::spawn_local(async move { client.get(path).await.status })
        };
        let first = spawn("/first");
        settle().await;
        let second = spawn("/second");
        settle().await;
        let third = spawn("/third");
        settle().await;
        assert_eq!(queue(&world).waiting, 2);
        second.abort();
        settle().await;
        assert_eq!((queue(&world).waiting, queue(&world).left), (1, 1));
        assert_eq!((first.await.expect("answered"), third.await.expect("answered")), (StatusCode::OK, StatusCode::OK));
        let order: Vec<String> = world.app.seen().into_iter().map(|seen| seen.target).collect();
        assert_eq!(order, ["/first", "/third"], "the app never hears of who has left");
    });
}

#[test]
fn who_has_waited_as_long_as_is_allowed_is_refused() {
    run(async {
        let world = World::new(&door("concurrency: 1, queue: {max: 5, wait: 3s}")).await;
        world.app.always(Reply::default().after(secs(10)));
        let answers = in_turn(&world.client(), 2).await;
        assert_eq!(statuses(&answers), [200, 429]);
        assert_eq!(answers[1].0.json()["reason"], "queue_too_long");
        assert!((secs(3)..ms(3_010)).contains(&answers[1].1), "{:?}", answers[1].1);
        assert_eq!(queue(&world).timed_out, 1);
    });
}

#[test]
fn a_wait_is_not_longer_than_the_caller_waits() {
    run(async {
        let text = door("requests: 1, window: 10s, algorithm: fixed, queue: {max: 5, wait: 1m}");
        let world = World::new(&text.replace("limits:", "defaults: {timeouts: {total: 5s}}, limits:")).await;
        let answers = in_turn(&world.client(), 2).await;
        assert_eq!(statuses(&answers), [200, 429]);
        assert!(answers[1].1 < ms(10), "known up front: {:?}", answers[1].1);
    });
}

#[test]
fn a_queue_paces_requests_over_windows_and_refuses_at_once_what_would_wait_too_long() {
    run(async {
        let world = World::new(&door("requests: 2, window: 10s, algorithm: fixed, queue: {max: 10, wait: 15s}")).await;
        let answers = in_turn(&world.client(), 6).await;
        assert_eq!(statuses(&answers), [200, 200, 200, 200, 429, 429]);
        for (at, (answer, took)) in answers.iter().enumerate() {
            match at {
                0 | 1 | 4 | 5 => assert!(*took < ms(20), "{at}: {took:?}"),
                _ => assert!((ms(9_980)..ms(10_020)).contains(took), "{at}: {took:?}"),
            }
            if at > 3 {
                assert_eq!(answer.json()["reason"], "queue_too_long");
                assert_eq!(answer.retry_after(), secs(20), "the third window from now");
            }
        }
        assert_eq!((queue(&world).too_long, queue(&world).passed), (2, 2));
    });
}

#[test]
fn a_sliding_window_with_a_queue_is_never_above_its_limit_and_nobody_overtakes() {
    run(async {
        let world = World::new(&door("requests: 5, window: 31s, queue: {max: 100, wait: 10m}")).await;
        let answers = in_turn(&world.client(), 40).await;
        assert!(answers.iter().all(|(answer, _)| answer.status == StatusCode::OK));
        let order: Vec<String> = world.app.seen().into_iter().map(|seen| seen.target).collect();
        assert_eq!(order, (0..40).map(|at| format!("/{at}")).collect::<Vec<_>>());
        let times: Vec<Duration> = answers.iter().enumerate().map(|(at, (_, took))| ms(at as u64) + *took).collect();
        for (at, begin) in times.iter().enumerate() {
            let within = times[at..].iter().take_while(|time| **time - *begin < secs(31)).count();
            assert!(within <= 5, "{within} from {begin:?}");
        }
        // 35 wait for seven more windows, each at most 32/31 of its length.
        assert!(times[39] <= secs(7 * 32 + 1), "{:?}", times[39]);
    });
}

#[test]
fn a_leaky_bucket_with_a_queue_spreads_requests_evenly() {
    run(async {
        let world = World::new(&door("requests: 60, window: 1m, algorithm: gcra, burst: 1, queue: {max: 3, wait: 1m}")).await;
        let answers = in_turn(&world.client(), 5).await;
        assert_eq!(statuses(&answers), [200, 200, 200, 200, 429]);
        let times: Vec<u64> = answers.iter().enumerate().map(|(at, (_, took))| (at as u128 + took.as_millis()) as u64).collect();
        for (at, time) in times[..4].iter().enumerate() {
            assert!((at as u64 * 1_000..at as u64 * 1_000 + 10).contains(time), "{times:?}");
        }
    });
}

#[test]
fn a_second_line_begins_where_the_first_one_has_ended() {
    run(async {
        let limit = |name: &str, more: &str| format!("{{name: {name}, key: global, requests: 1, {more}}}");
        let first = limit("first", "window: 3s, queue: {max: 9, wait: 10s}");
        let second = limit("second", "window: 5s, applies: misses, queue: {max: 9, wait: 2500ms}");
        let world = World::new(&format!("inbound: {{app: 'http://app.test', limits: [{first}, {second}]}}")).await;
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        world.dials.fail("app", [Failing::Refused; 2]);
        let last = world.client().get("/").await;
        // Three seconds in the first line, two in the second, whose bound is two and a half. The answer is the proxy's own, and so is its Date.
        assert_eq!(last.status, StatusCode::BAD_GATEWAY, "{}", last.text());
        assert!((secs(4)..secs(6)).contains(&last.took), "{:?}", last.took);
        let date = httpdate::parse_http_date(last.header("date")).expect("a date");
        assert_eq!(date.duration_since(UNIX_EPOCH).expect("after").as_secs(), BEGIN + last.took.as_secs());
    });
}
