//! Several keys of one provider: one that is spent, refused or throttled rests, and the others serve.

use http::StatusCode;
use outrigger::{cli::mock::hash_credential, policy::breaker::State};
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

/// The keys in the order in which the provider saw them.
fn keys_used(world: &World) -> Vec<&'static str> {
    let known = ["sk-a", "sk-b", "sk-c", "sk-one", "sk-two", "sk-three"];
    let name = |hash: &String| known.into_iter().find(|key| hash_credential(key) == *hash).unwrap_or("(another)");
    used(world).iter().map(name).collect()
}

/// Three keys with names and a breaker; `rest` is what else the defaults have.
async fn three(rest: &str) -> World {
    let keys = "[{key: sk-a, name: team-a}, {key: sk-b, name: team-b}, {key: sk-c, name: team-c}]";
    World::new(&format!("outbound:\n  providers: {{openai: {{url: 'http://o.test', keys: {keys}}}}}\n  defaults: {{{rest}}}")).await
}

#[test]
fn one_of_three_keys_is_spent_and_one_throttled_for_20_s_and_no_client_sees_an_error() {
    run(async {
        let world = three("breaker: {}").await;
        let call = async || assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
        world.provider("openai").script(["quota", "429;retry-after=20"]);
        for _ in 0..12 {
            call().await;
        }
        let keys = keys_used(&world);
        assert_eq!(keys[..2], ["sk-a", "sk-b"], "the first call asks all three");
        assert!(keys[2..].iter().all(|key| *key == "sk-c"), "{keys:?}");
        let rests = |key, reason| world.count("outrigger_key_rests_total", &[("provider", "openai"), ("key", key), ("reason", reason)]);
        assert_eq!((rests("team-a", "quota_spent"), rests("team-b", "throttled")), (1.0, 1.0), "who rested and why");
        assert_eq!(world.count("outrigger_key_tries_total", &[("key", "team-c"), ("outcome", "ok")]), 12.0);
        assert_eq!(world.count("outrigger_retries_total", &[("reason", "another_key")]), 2.0);
        pass(secs(20)).await;
        world.provider("openai").reset();
        for _ in 0..6 {
            call().await;
        }
        let of = |world: &World, key: &str| keys_used(world).iter().filter(|used| **used == key).count();
        assert_eq!((of(&world, "sk-b"), of(&world, "sk-a")), (3, 0), "the throttled key is back after its reset");
        // The quarantine is over, and the key is still spent: it rests for twice as long.
        pass(secs(41)).await;
        world.provider("openai").reset();
        let spent_calls = async |fault: &'static str| {
            for _ in 0..6 {
                let next = if of(&world, "sk-a") == 0 { fault } else { "ok" };
                world.provider("openai").script([next]);
                call().await;
            }
        };
        spent_calls("quota").await;
        assert_eq!(rests("team-a", "quota_spent") + rests("team-b", "quota_spent") + rests("team-c", "quota_spent"), 2.0);
    });
}

#[test]
fn a_spent_key_that_works_again_serves_its_share() {
    run(async {
        let world = three("").await;
        world.provider("openai").script(["quota"]);
        world.caller().call(CHAT, &chat("gpt-4o")).await;
        pass(secs(61)).await;
        world.provider("openai").reset();
        for _ in 0..9 {
            assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
        }
        assert_eq!(keys_used(&world).iter().filter(|key| **key == "sk-a").count(), 3, "{:?}", keys_used(&world));
        let lines = world.log().await;
        assert_eq!((&lines[0]["key"], &lines[0]["thrown_away"]), (&json!("team-b"), &json!(["quota_spent"])), "{}", lines[0]);
    });
}

#[test]
fn where_every_key_rests_the_earliest_reset_decides() {
    run(async {
        let world = three("").await;
        world.provider("openai").script(["quota", "429;retry-after=20", "429;retry-after=90"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "20"), "not the 90 s of the last key");
        pass(secs(5)).await;
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "15"));
        let error = &answer.json()["error"];
        assert_eq!((&error["code"], &error["type"]), (&json!("rate_limit_exceeded"), &json!("requests")), "in the provider's shape");
        assert_eq!(used(&world).len(), 3, "no key is asked that rests");
        assert_eq!(world.count("outrigger_rejects_total", &[("reason", "keys_rest")]), 1.0);
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o-mini")).await.status, StatusCode::OK, "another model has another quota");
        pass(secs(15)).await;
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
    });
}

#[test]
fn where_the_last_key_is_spent_the_throttled_one_is_waited_for() {
    run(async {
        let world = three("retry: {max_retries: 1, backoff: [10ms]}").await;
        world.provider("openai").script(["429;retry-after=3", "quota", "401"]);
        let began = tokio::time::Instant::now();
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, began.elapsed().as_secs()), (StatusCode::OK, 3));
        assert_eq!(keys_used(&world), ["sk-a", "sk-b", "sk-c", "sk-a"]);
    });
}

#[test]
fn a_call_that_finds_every_key_throttled_waits_within_its_retry_policy() {
    run(async {
        let world = three("retry: {max_retries: 1, backoff: [10ms], max_hint: 5s}").await;
        world.provider("openai").script(["429;retry-after=20"; 3]);
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::TOO_MANY_REQUESTS);
        pass(secs(16)).await;
        let began = tokio::time::Instant::now();
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, began.elapsed().as_secs()), (StatusCode::OK, 4), "less than `max_hint`");
        assert_eq!(world.count("outrigger_retries_total", &[("reason", "keys_rest")]), 1.0);
    });
}

#[test]
fn where_all_keys_are_spent_a_sdk_is_told_not_to_wait_and_a_fallback_is_taken() {
    run(async {
        let yaml = |rest: &str| {
            format!(
                "outbound:\n  providers: {{openai: {{url: 'http://o.test', keys: [a, b]}}, groq: {{url: 'http://g.test'}}}}\n  \
                 routes: [{{match: {{provider: openai}}, retry: {{max_retries: 1, backoff: [10ms]}}{rest}}}]"
            )
        };
        let world = World::new(&yaml("")).await;
        world.provider("openai").script(["quota", "quota"]);
        world.caller().call(CHAT, &chat("gpt-4o")).await;
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "60"));
        assert_eq!(answer.header("x-should-retry"), "false");
        pass(secs(61)).await;
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK, "somebody has paid the bill");

        let world = World::new(&yaml(", fallback: [{provider: groq, model: m}]")).await;
        world.provider("openai").script(["quota", "quota"]);
        for _ in 0..3 {
            assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
        }
        assert_eq!((used(&world).len(), world.provider("groq").seen().len()), (2, 3));
    });
}

#[test]
fn a_key_without_room_for_the_call_stands_back_before_the_provider_says_429() {
    run(async {
        let keys = "[{key: sk-a, name: a}, {key: sk-b, name: b}]";
        let yaml = format!("outbound: {{providers: {{scripted: {{api: openai, url: 'http://o.test', keys: {keys}}}}}}}");
        let world = World::new(&yaml).await;
        let told = |left: &str| {
            let reply = Reply::ok("{}").header("x-ratelimit-limit-tokens", "100000").header("x-ratelimit-remaining-tokens", left);
            reply.header("x-ratelimit-reset-tokens", "6m0s")
        };
        world.app.script([told("20"), told("90000")]);
        for _ in 0..6 {
            world.caller().call("/scripted/v1/chat/completions", &chat("gpt-4o")).await;
        }
        let keys: Vec<_> = world.app.seen().iter().map(|seen| seen.header("authorization").to_owned()).collect();
        assert_eq!(keys, ["Bearer sk-a", "Bearer sk-b", "Bearer sk-b", "Bearer sk-b", "Bearer sk-b", "Bearer sk-b"]);
        assert_eq!(world.count("outrigger_key_rests_total", &[]), 0.0, "no 429 was needed");
    });
}

#[test]
fn each_key_has_a_breaker_and_an_open_one_sends_the_call_to_another_key() {
    run(async {
        let world = three("breaker: {consecutive: 2}").await;
        let call = async || world.caller().call(CHAT, &chat("gpt-4o")).await.status;
        world.provider("openai").script(["503", "ok", "ok", "503"]);
        let statuses = [call().await, call().await, call().await, call().await].map(|status| status.as_u16());
        assert_eq!(statuses, [503, 200, 200, 503]);
        assert_eq!(world.breaker("openai#team-a/gpt-4o"), Some(State::Open));
        assert_eq!(world.breaker("openai#team-b/gpt-4o"), Some(State::Closed));
        for _ in 0..4 {
            assert_eq!(call().await, StatusCode::OK);
        }
        assert_eq!(keys_used(&world).iter().filter(|key| **key == "sk-a").count(), 2);
        assert_eq!(world.shared.breakers.hold("openai/gpt-4o", tokio::time::Instant::now()).len(), 3, "a model with all its keys");
        assert_eq!(call().await, StatusCode::SERVICE_UNAVAILABLE);
    });
}

#[test]
fn the_state_of_a_key_lives_on_where_others_come_and_go() {
    run(async {
        let with = |keys: &str| format!("outbound: {{providers: {{openai: {{url: 'http://o.test', keys: {keys}}}}}}}");
        let world = World::new(&with("[sk-one, sk-two]")).await;
        world.provider("openai").script(["quota"]);
        world.caller().call(CHAT, &chat("gpt-4o")).await;
        world.reload(&with("[sk-three, {key: sk-one, name: old}, {key: sk-two, weight: 3}]")).expect("good");
        world.provider("openai").reset();
        for _ in 0..8 {
            world.caller().call(CHAT, &chat("gpt-4o")).await;
        }
        let keys = keys_used(&world);
        assert!(!keys.contains(&"sk-one"), "{keys:?}");
        assert_eq!(keys.iter().filter(|key| **key == "sk-two").count(), 6, "three to one: {keys:?}");
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

#[test]
fn the_breaker_of_a_key_and_an_order_by_hand_outlive_a_reload() {
    run(async {
        let with = |retries: u32| {
            let keys = "[{key: sk-a, name: team-a}, {key: sk-b, name: team-b}]";
            let defaults = format!("{{breaker: {{consecutive: 1}}, retry: {{max_retries: {retries}, backoff: [10ms]}}}}");
            format!("outbound:\n  providers: {{openai: {{url: 'http://o.test', keys: {keys}}}}}\n  defaults: {defaults}")
        };
        let world = World::new(&with(0)).await;
        world.provider("openai").script(["503"]);
        world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(world.breaker("openai#team-a/gpt-4o"), Some(State::Open));
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
        assert_eq!(world.shared.breakers.hold("openai#team-b", tokio::time::Instant::now()).len(), 1);
        world.reload(&with(1)).expect("taken");
        assert_eq!(world.breaker("openai#team-a/gpt-4o"), Some(State::Open));
        let refused = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "one key is open, the other is held open by hand");
    });
}

#[test]
fn what_is_wrong_with_one_call_rests_no_key() {
    run(async {
        let yaml = "outbound: {providers: {scripted: {api: openai, url: 'http://o.test', keys: [sk-a, sk-b]}}}";
        let world = World::new(yaml).await;
        let said = |status, body| Reply::status(status).header("content-type", "application/json").body(body);
        for reply in [
            said(
                401,
                r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.read","type":"invalid_request_error","code":null}}"#,
            ),
            said(401, r#"{"error":{"message":"No such organization","type":"invalid_request_error","code":"mismatched_organization"}}"#),
            said(403, r#"{"error":{"code":403,"message":"The model requires moderation on this provider. Your input was flagged"}}"#),
        ] {
            world.app.forget();
            let status = reply_status(&world, reply).await;
            assert_eq!(world.app.asked(), 1, "no other key is asked: it is the call");
            assert!(status.is_client_error());
        }
        assert_eq!(world.count("outrigger_key_rests_total", &[]), 0.0);
        world.app.always(Reply::ok("{}"));
        for _ in 0..4 {
            world.caller().call("/scripted/v1/chat/completions", &chat("m")).await;
        }
        let used: std::collections::HashSet<String> = world.app.seen().iter().map(|seen| seen.header("authorization").to_owned()).collect();
        assert_eq!(used.len(), 2, "both keys serve");
    });
}

async fn reply_status(world: &World, reply: Reply) -> StatusCode {
    world.app.script([reply]);
    world.caller().call("/scripted/v1/chat/completions", &chat("m")).await.status
}
