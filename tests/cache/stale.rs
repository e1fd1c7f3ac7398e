//! Stale answers: while a new one is fetched, and when the origin fails. Responses are born old (`Age`), so nobody waits.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::world::{Act, World, answer, finish, reply, said, start};

const OLD: &[(&str, &str)] = &[("cache-control", "max-age=10"), ("age", "15")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_fetch_is_under_way_all_get_the_old_answer() {
    let (send, receive) = oneshot::channel();
    let gate = Mutex::new(Some(receive));
    let world = World::new("{match: {path: /**}, cache: {stale_while_revalidate: 1m}}", "", move |seen| match seen.nth {
        0 => answer(200, OLD, "old"),
        1 => Act::Later(gate.lock().take().expect("asked once")),
        _ => answer(500, &[], "asked too often"),
    })
    .await;
    assert_eq!(world.get("/page", &[]).await.text(), "old");
    let asked = start((0..50).map(|_| {
        let client = world.client(&[]);
        async move { client.get("/page").await.expect("an answer") }
    }));
    for one in finish(asked).await {
        assert_eq!(one.text(), "old");
        let ttl: i64 = said(&one).strip_prefix("outrigger; hit; ttl=").expect("a hit").parse().expect("a number");
        assert!(ttl < 0, "{ttl}");
        assert!(one.header("age").expect("an age").parse::<u64>().expect("a number") >= 15);
    }
    world.until("a background fetch", |world| world.origin.count() == 2).await;
    assert!(send.send(reply(200, &[("cache-control", "max-age=60")], "new")).is_ok());
    world.until_landed().await;
    assert_eq!(world.get("/page", &[]).await.text(), "new");
    assert_eq!(world.origin.count(), 2);
    world.until_metric("outrigger_cache_requests_total{door=\"inbound\",route=\"/**\",result=\"stale\"}", 50.0).await;
}

#[tokio::test]
async fn when_the_origin_fails_the_old_answer_stands_in_if_it_may() {
    for (policy, own, stands_in) in [
        ("{stale_if_error: 1m}", "max-age=10", true),
        ("{}", "max-age=10, stale-if-error=60", true),
        ("{}", "max-age=10", false),
        ("{stale_if_error: 1m}", "max-age=10, must-revalidate", false),
        ("{stale_if_error: 2s}", "max-age=10", false),
    ] {
        let failing = Arc::new(Mutex::new("ok"));
        let how = failing.clone();
        let world = World::new(&format!("{{match: {{path: /**}}, cache: {policy}}}"), "", move |_| match *how.lock() {
            "ok" => answer(200, &[("cache-control", own), ("age", "15"), ("etag", "\"e\"")], "old"),
            "close" => Act::Close,
            _ => answer(503, &[], "down"),
        })
        .await;
        assert_eq!(world.get("/page", &[]).await.text(), "old");
        for failure in ["close", "503"] {
            *failing.lock() = failure;
            let got = world.get("/page", &[]).await;
            assert_eq!(got.text() == "old", stands_in, "{policy} {own} {failure}: {} {}", got.status, got.text());
            assert_eq!(got.status.is_success(), stands_in);
        }
    }
}

#[tokio::test]
async fn with_the_breaker_open_the_old_answer_stands_in_and_nobody_is_asked() {
    let routes = "{match: {path: /**}, breaker: {consecutive: 1, ratio: off}, cache: {stale_if_error: 1m}}";
    let world = World::new(routes, "", |seen| if seen.nth == 0 { answer(200, OLD, "old") } else { Act::Close }).await;
    world.get("/page", &[]).await;
    assert_eq!(world.get("/page", &[]).await.text(), "old");
    let asked = world.origin.count();
    assert_eq!(world.get("/other", &[]).await.status.as_u16(), 503, "the breaker is open");
    let got = world.get("/page", &[]).await;
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "old"));
    assert!(said(&got).contains("; hit; ttl=-"), "{}", said(&got));
    assert_eq!(world.origin.count(), asked);
}

#[tokio::test]
async fn when_time_is_over_the_old_answer_stands_in() {
    let routes = "{match: {path: /**}, timeouts: {response_header: 20ms}, cache: {stale_if_error: 1m}}";
    let never = Arc::new(Mutex::new(Vec::new()));
    let kept = never.clone();
    let world = World::new(routes, "", move |seen| {
        if seen.nth == 0 {
            return answer(200, OLD, "old");
        }
        let (send, receive) = oneshot::channel();
        kept.lock().push(send);
        Act::Later(receive)
    })
    .await;
    world.get("/page", &[]).await;
    let got = world.get("/page", &[]).await;
    assert_eq!((got.status.as_u16(), got.text().as_str()), (200, "old"));
    drop(never);
}

#[tokio::test]
async fn a_stale_answer_goes_before_a_static_one() {
    let routes = "{match: {path: /**}, cache: {stale_if_error: 1m}, fallback: [{respond: {status: 200, body: resting}}]}";
    let world = World::new(routes, "", |seen| if seen.nth == 0 { answer(200, OLD, "old") } else { Act::Close }).await;
    assert_eq!(world.get("/page", &[]).await.text(), "old");
    assert_eq!(world.get("/page", &[]).await.text(), "old");
    assert_eq!(world.get("/other", &[]).await.text(), "old", "asked for the first time");
}

#[tokio::test]
async fn an_old_answer_is_confirmed_by_its_validator() {
    let world = World::new("{match: {path: /**}, cache: {}}", "", |seen| match seen.header("if-none-match") {
        Some("\"e\"") => answer(304, &[("cache-control", "max-age=60"), ("etag", "\"e\""), ("x-new", "1")], ""),
        _ => answer(200, &[("cache-control", "max-age=10"), ("age", "15"), ("etag", "\"e\"")], "body"),
    })
    .await;
    world.get("/page", &[]).await;
    let confirmed = world.get("/page", &[]).await;
    assert_eq!((confirmed.status.as_u16(), confirmed.text().as_str(), confirmed.header("x-new")), (200, "body", Some("1")));
    assert!(said(&confirmed).starts_with("outrigger; fwd=stale; fwd-status=304"), "{}", said(&confirmed));
    let kept = world.get("/page", &[]).await;
    assert!(said(&kept).contains("; hit"), "{}", said(&kept));
    assert_eq!((world.origin.count(), kept.header("x-new")), (2, Some("1")));
}
