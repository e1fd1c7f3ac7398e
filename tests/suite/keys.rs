//! Several keys of one provider: one that is spent, refused or throttled rests, and the others serve.

use http::StatusCode;
use serde_json::json;

use crate::world::{Reply, World, chat, pass, run, secs, settle};

const CHAT: &str = "/openai/v1/chat/completions";

/// Two keys; `rest` is what else the door has.
async fn world(rest: &str) -> World {
    World::new(&format!("outbound:\n  providers: {{openai: {{url: 'http://o.test', keys: [sk-one, sk-two]}}}}\n  {rest}")).await
}

/// Credentials in the order in which the provider saw them.
fn used(world: &World) -> Vec<String> {
    world.provider("openai").seen().iter().map(|seen| seen.header("authorization").unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_refused_key_rests_and_no_caller_notices() {
    run(async {
        for fault in ["quota", "401"] {
            let world = world("defaults: {retry: {max_retries: 1, backoff: [10ms]}}").await;
            world.provider("openai").script([fault]);
            for _ in 0..10 {
                assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK, "{fault}");
            }
            let used = used(&world);
            assert_eq!(used.iter().filter(|key| **key == used[0]).count(), 1, "{fault}: {used:?}");
            assert_eq!(world.count("outrigger_key_rests_total", &[("provider", "openai")]), 1.0);
            pass(secs(61)).await;
            world.provider("openai").reset();
            for _ in 0..4 {
                world.caller().call(CHAT, &chat("gpt-4o")).await;
            }
            let keys: std::collections::HashSet<_> = self::used(&world).into_iter().collect();
            assert_eq!(keys.len(), 2, "{fault}: it is asked again after its rest");
        }
    });
}

#[test]
fn where_every_key_is_refused_the_provider_says_why() {
    run(async {
        let world = world("defaults: {retry: {max_retries: 3, backoff: [10ms]}}").await;
        world.provider("openai").script(["401"; 9]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(used(&world).len(), 2, "each key once");
    });
}

#[test]
fn a_whole_answer_that_is_stored_is_logged_as_complete() {
    run(async {
        let world = World::new(
            "{inbound: {app: 'http://app.test', routes: [{match: {path: /c/**}, cache: {ttl: 60s}}]},
              outbound: {providers: {openai: {url: 'http://o.test'}}, defaults: {cache: {ttl: 1h}}}}",
        )
        .await;
        for at in 0..5 {
            world.client().get(&format!("/c/{at}")).await;
            let mut call = chat("gpt-4o");
            call["seed"] = json!(at);
            world.caller().call(CHAT, &call).await;
        }
        settle().await;
        for line in world.log().await {
            assert_eq!((&line["outcome"], &line["cache"]), (&json!("complete"), &json!("miss")), "{line}");
        }
    });
}

#[test]
fn a_whole_answer_that_others_wait_for_is_logged_as_complete() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', routes: [{match: {path: /**}, cache: {ttl: 60s}}]}").await;
        world.app.script([Reply::ok("slow").after(secs(1))]);
        let (one, two) = (world.client(), world.client());
        futures_util::join!(one.get("/a"), two.get("/a"));
        let lines = world.log().await;
        let mut told: Vec<_> =
            lines.iter().map(|line| [&line["cache"], &line["outcome"]].map(|word| word.as_str().unwrap_or_default())).collect();
        told.sort();
        assert_eq!(told, [["coalesced", "complete"], ["miss", "complete"]], "{lines:#?}");
    });
}
