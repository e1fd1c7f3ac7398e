//! Collapsed forwarding: one fetch, many who wait, and nobody is hurt by another's leaving.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;

use crate::world::{Act, World, answer, finish, reply, start, streamed};

const MANY: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_cost_one_request() {
    let (send, receive) = oneshot::channel();
    let gate = Mutex::new(Some(receive));
    let world = World::new("{match: {path: /**}, cache: {}}", "", move |_| {
        gate.lock().take().map_or_else(|| answer(500, &[], "asked again"), Act::Later)
    })
    .await;
    let body: Bytes = vec![b'x'; 20_000].into();
    let asked = start((0..MANY).map(|_| {
        let client = world.client(&[]);
        async move { client.get("/cold").await.expect("an answer") }
    }));
    world.until_in_flight("inbound", MANY).await;
    assert!(send.send(reply(200, &[("cache-control", "max-age=60")], body.clone())).is_ok(), "the origin waits");
    for one in finish(asked).await {
        assert_eq!((one.status.as_u16(), one.body.len()), (200, body.len()));
        assert_eq!(one.body, body);
    }
    assert_eq!(world.origin.count(), 1);
    world.until_in_flight("inbound", 0).await;
    let count = |result: &str| {
        world.metric(&format!("outrigger_cache_requests_total{{door=\"inbound\",route=\"/**\",result=\"{result}\"}}")) as usize
    };
    assert_eq!((count("miss"), count("coalesced") + count("hit")), (1, MANY - 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_client_leaves_half_way_and_nobody_else_notices() {
    let (response, pieces) = streamed(&[("cache-control", "max-age=60")]);
    let first = Mutex::new(Some(response));
    let world = World::new("{match: {path: /**}, cache: {}}", "", move |_| {
        first.lock().take().map_or_else(|| answer(500, &[], "asked again"), Act::Answer)
    })
    .await;
    pieces.try_send(Ok(Bytes::from_static(b"one "))).expect("read");
    let mut leader = world.client(&[]).open(Method::GET, "/cold", Bytes::new()).await.expect("a head");
    assert_eq!(leader.next().await.expect("a piece").expect("a piece"), "one ");
    let asked = start((1..MANY).map(|_| {
        let client = world.client(&[]);
        async move { client.get("/cold").await.expect("an answer") }
    }));
    world.until_in_flight("inbound", MANY).await;
    drop(leader);
    world.until_in_flight("inbound", MANY - 1).await;
    pieces.try_send(Ok(Bytes::from_static(b"two"))).expect("read");
    drop(pieces);
    for one in finish(asked).await {
        assert_eq!((one.status.as_u16(), one.text().as_str()), (200, "one two"));
    }
    assert_eq!(world.origin.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_what_is_not_for_sharing_goes_alone() {
    let (send, receive) = oneshot::channel();
    let gate = Mutex::new(Some(receive));
    let world = World::new("{match: {path: /**}, cache: {}}", "", move |seen| match gate.lock().take() {
        Some(gate) => Act::Later(gate),
        None => answer(200, &[("cache-control", "private")], format!("yours {}", seen.nth)),
    })
    .await;
    let asked = start((0..20).map(|_| {
        let client = world.client(&[]);
        async move { client.get("/mine").await.expect("an answer").text() }
    }));
    world.until_in_flight("inbound", 20).await;
    assert!(send.send(reply(200, &[("cache-control", "private")], "yours 0")).is_ok());
    let mut bodies = finish(asked).await;
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), 20, "each has an answer of its own");
}

/// The event stream of a chat call, piece by piece.
fn chunk(text: &str) -> String {
    format!("data: {}\n\n", json!({"model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
}

fn last_chunks() -> String {
    let stop = json!({"model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let usage =
        json!({"model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 200, "total_tokens": 210}});
    format!("data: {stop}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_joined_at_every_moment_and_outlives_its_first_client() {
    const CHUNKS: usize = 200;
    let (response, pieces) = streamed(&[("content-type", "text/event-stream")]);
    let first = Mutex::new(Some(response));
    let world = World::new("", "{name: chat, match: {operation: chat}, cache: {ttl: 1h}}", move |_| {
        first.lock().take().map_or_else(|| answer(500, &[], "asked again"), Act::Answer)
    })
    .await;
    let world = Arc::new(world);
    let call = json!({
        "model": "gpt-4o-mini", "stream": true, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "count"}]
    });
    let mut expected = String::new();
    let mut leader = Some(world.open_call(&call, &[("authorization", "Bearer k")]).await);
    let mut joiners = Vec::new();
    for at in 0..CHUNKS {
        // The next one joins once the last one's head has come, so that somebody begins between any two chunks.
        let joiner = world.open_call(&call, &[("authorization", "Bearer k")]).await;
        assert_eq!(joiner.status.as_u16(), 200);
        joiners.push(tokio::spawn(async move { joiner.whole().await.expect("an answer").text() }));
        if at == CHUNKS / 2 {
            leader = None;
        }
        let text = chunk(&format!("{at} "));
        expected.push_str(&text);
        pieces.try_send(Ok(text.into())).expect("somebody reads");
        if let Some(leader) = &mut leader {
            assert!(leader.next().await.expect("a piece").is_some());
        }
    }
    expected.push_str(&last_chunks());
    pieces.try_send(Ok(last_chunks().into())).expect("somebody reads");
    drop(pieces);
    for (at, joiner) in joiners.into_iter().enumerate() {
        assert_eq!(joiner.await.expect("no panic"), expected, "joiner {at}");
    }
    let later = world.call(&call, &[("authorization", "Bearer k")]).await;
    assert_eq!((later.text(), later.header("content-type")), (expected, Some("text/event-stream")));
    assert!(later.header("cache-status").expect("said").contains("hit"));
    assert_eq!(world.origin.count(), 1);
    // All but the first were spared a call of 210 tokens.
    world.until_metric("outrigger_cache_saved_tokens_total{door=\"outbound\",route=\"chat\"}", 210.0 * (CHUNKS + 1) as f64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_breaks_for_all_and_is_not_stored() {
    let (response, pieces) = streamed(&[("content-type", "text/event-stream")]);
    let first = Mutex::new(Some(response));
    let world = World::new("", "{match: {operation: chat}, cache: {ttl: 1h}}", move |_| {
        first
            .lock()
            .take()
            .map_or_else(|| answer(200, &[("content-type", "text/event-stream")], chunk("again") + &last_chunks()), Act::Answer)
    })
    .await;
    let call = json!({"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "count"}]});
    let leader = world.open_call(&call, &[]).await;
    let joiner = world.open_call(&call, &[]).await;
    pieces.try_send(Ok(chunk("one").into())).expect("somebody reads");
    pieces.try_send(Err(std::io::Error::other("broken"))).expect("somebody reads");
    for (who, opened) in [("leader", leader), ("joiner", joiner)] {
        let ended = opened.whole().await;
        let clean = ended.as_ref().is_ok_and(|answer| !answer.text().contains("error"));
        assert!(!clean, "the {who} must notice: {ended:?}");
    }
    assert!(world.call(&call, &[]).await.text().contains("again"));
    assert_eq!(world.origin.count(), 2);
}
