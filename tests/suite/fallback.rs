//! What answers when the first target does not: another model, another provider, a fixed answer. Before the first byte to the
//! client; after it the stream ends with the protocol's own error.

use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Answer, Failing, Reply, World, chat, ms, run};

const CHAT: &str = "/openai/v1/chat/completions";
const CHAIN: &str = "
outbound:
  providers:
    openai: {url: 'http://o.test', keys: [sk-openai]}
    backup: {api: openai, url: 'http://b.test', keys: [sk-backup]}
    anthropic: {url: 'http://a.test'}
  routes:
    - name: chat
      match: {operation: chat}
      fallback:
        - {provider: openai, model: gpt-4o-mini}
        - {provider: backup, model: house-1}
        - {respond: {status: 503, body: '{\"resting\": true}', content_type: application/json}}
    - {name: claude, match: {provider: anthropic}, fallback: [{provider: anthropic, model: claude-haiku-4-5}]}
";

fn streamed(model: &str) -> Value {
    let mut body = chat(model);
    body["stream"] = json!(true);
    body
}

async fn claude(world: &World, body: &Value) -> Answer {
    world.caller().ask(crate::world::json("/anthropic/v1/messages").header("anthropic-version", "2023-06-01"), body.to_string()).await
}

fn model_of(body: &str) -> String {
    serde_json::from_str::<Value>(body).expect("JSON")["model"].as_str().expect("a model").to_owned()
}

#[test]
fn another_model_answers_and_then_another_provider_with_its_own_key() {
    run(async {
        let world = World::new(CHAIN).await;
        world.provider("openai").script(["503"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(
            (answer.status, answer.json()["model"].as_str().map(|model| model.starts_with("gpt-4o-mini"))),
            (StatusCode::OK, Some(true))
        );
        world.provider("openai").script(["503", "429"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let asked: Vec<_> = world.provider("openai").seen().iter().map(|seen| model_of(&seen.body)).collect();
        assert_eq!(asked, ["gpt-4o", "gpt-4o-mini", "gpt-4o", "gpt-4o-mini"]);
        let backup = &world.provider("backup").seen()[0];
        assert_eq!((model_of(&backup.body).as_str(), backup.header("host")), ("house-1", Some("b.test")));
        assert_eq!(backup.header("authorization"), Some(&*outrigger::cli::mock::hash_credential("sk-backup")));
        let rest: Value = serde_json::from_str(&backup.body).expect("JSON");
        assert_eq!(rest["messages"], chat("x")["messages"], "all but the model is what the app said");
        assert_eq!(world.count("outrigger_fallbacks_total", &[("route", "chat"), ("to", "backup")]), 1.0);
    });
}

#[test]
fn a_fixed_answer_comes_last() {
    run(async {
        let world = World::new(CHAIN).await;
        world.provider("openai").script(["503", "reset"]);
        world.dials.fail("backup", [Failing::Refused]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(
            (answer.status, answer.text(), answer.header("content-type")),
            (StatusCode::SERVICE_UNAVAILABLE, "{\"resting\": true}", "application/json")
        );
        assert!(answer.header("proxy-status").contains("fallback"));
        let line = world.log().await.pop().expect("a line");
        assert_eq!((&line["fallback"], &line["status"]), (&json!("respond"), &json!(503)), "{line:#}");
        assert_eq!(line["thrown_away"], json!(["overloaded", "connection_reset", "connect_failed"]), "{line:#}");
    });
}

#[test]
fn what_the_client_did_wrong_is_its_own_affair() {
    run(async {
        let world = World::new(CHAIN).await;
        world.provider("openai").script(["400"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, world.provider("openai").seen().len()), (StatusCode::BAD_REQUEST, 1));
    });
}

#[test]
fn context_too_long_goes_to_a_longer_model_and_filtered_does_not() {
    run(async {
        let world = World::new(
            "
outbound:
  providers:
    scripted: {api: openai, url: 'http://s.test'}
    openai: {url: 'http://o.test'}
    backup: {api: openai, url: 'http://b.test'}
  routes:
    - match: {provider: scripted}
      fallback:
        - {provider: openai, model: gpt-long, on: context_too_long}
        - {provider: backup, model: house-1, on: [overloaded, connect]}
",
        )
        .await;
        let error = |status, body| Reply::status(status).header("content-type", "application/json").body(body);
        let cases = [
            (error(400, r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#), 200, (1, 0)),
            (error(400, r#"{"error":{"message":"m","code":"content_filter"}}"#), 400, (0, 0)),
            (error(400, r#"{"error":{"message":"m","code":"unknown_parameter"}}"#), 400, (0, 0)),
            (error(503, "{}"), 200, (0, 1)),
            (error(429, "{}"), 429, (0, 0)),
            (error(500, "{}"), 500, (0, 0)),
        ];
        for (reply, status, asked) in cases {
            let (openai, backup) = (world.provider("openai"), world.provider("backup"));
            openai.reset();
            backup.reset();
            world.app.script([reply]);
            let answer = world.caller().call("/scripted/v1/chat/completions", &chat("gpt-4o")).await;
            assert_eq!((answer.status.as_u16(), (openai.seen().len(), backup.seen().len())), (status, asked), "{}", answer.text());
        }
        // A step that is for this failure may be any but the next one, and what fails there is judged anew.
        world.provider("openai").script(["503"]);
        world.provider("backup").reset();
        world.app.script([error(400, r#"{"error":{"message":"m","code":"context_length_exceeded"}}"#)]);
        let answer = world.caller().call("/scripted/v1/chat/completions", &chat("gpt-4o")).await;
        assert_eq!((answer.status, world.provider("backup").seen().len()), (StatusCode::OK, 1));
    });
}

#[test]
fn a_spent_quota_or_a_bad_key_goes_elsewhere_at_once() {
    run(async {
        let world = World::new(CHAIN).await;
        for fault in ["quota", "401"] {
            world.provider("openai").script([fault]);
            let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
            assert_eq!(answer.status, StatusCode::OK, "{fault}: {}", answer.text());
            assert!(answer.took < ms(10));
        }
    });
}

#[test]
fn the_app_can_have_a_fixed_answer_too() {
    run(async {
        let world =
            World::new("inbound: {app: 'http://app.test', defaults: {fallback: [{respond: {status: 200, body: 'back soon'}}]}}").await;
        world.app.script([Reply::status(503), Reply::status(500).body("trace"), Reply::status(404).body("its own")]);
        let answer = world.client().get("/").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "back soon"));
        assert_eq!(world.client().get("/").await.text(), "back soon");
        assert_eq!(world.client().get("/").await.text(), "its own");
        crate::world::pass(crate::world::secs(5)).await;
        world.dials.fail("app", [Failing::Refused]);
        assert_eq!(world.client().get("/").await.text(), "back soon");
    });
}

#[test]
fn an_error_inside_a_stream_before_its_first_content_falls_over() {
    run(async {
        let world = World::new(CHAIN).await;
        world.provider("openai").script(["error-in-stream=server_error;after=0"]);
        let answer = world.caller().call(CHAT, &streamed("gpt-4o")).await;
        assert_eq!((answer.status, answer.broken), (StatusCode::OK, false));
        assert!(answer.text().contains("gpt-4o-mini") && answer.text().contains("[DONE]"), "{}", answer.text());
        assert!(!answer.text().contains("server_error"), "{}", answer.text());

        world.provider("anthropic").script(["error-in-stream=overloaded_error;after=0"]);
        let answer = claude(&world, &streamed("claude-sonnet-4-5")).await;
        assert!(answer.text().contains("claude-haiku-4-5") && !answer.text().contains("overloaded"), "{}", answer.text());
        assert!(answer.text().contains("message_stop"));
    });
}

#[test]
fn a_stream_that_breaks_before_its_first_content_falls_over() {
    run(async {
        let world = World::new(CHAIN).await;
        world.provider("openai").script(["cut-after=0"]);
        let answer = world.caller().call(CHAT, &streamed("gpt-4o")).await;
        assert!(answer.text().contains("gpt-4o-mini") && answer.text().contains("[DONE]") && !answer.broken, "{}", answer.text());
    });
}

#[test]
fn after_the_first_content_no_two_models_are_spliced_and_no_broken_stream_ends_cleanly() {
    run(async {
        let world = World::new(CHAIN).await;
        for fault in ["cut-after=4", "reset-after=4"] {
            world.provider("openai").script([fault]);
            let answer = world.caller().call(CHAT, &streamed("gpt-4o")).await;
            let last: Value = serde_json::from_str(answer.text().trim_end().rsplit("data: ").next().expect("an event")).expect("JSON");
            assert!(last["error"]["message"].is_string(), "{fault}: {}", answer.text());
            assert!(!answer.text().contains("[DONE]") && !answer.text().contains("gpt-4o-mini"), "{}", answer.text());
            assert!(answer.broken, "{fault}: a clean end is noticed by no SDK");

            world.provider("anthropic").script([fault]);
            let answer = claude(&world, &streamed("claude-sonnet-4-5")).await;
            assert!(answer.text().contains("event: error\ndata: {\"type\":\"error\""), "{fault}: {}", answer.text());
            assert!(!answer.text().contains("message_stop") && answer.broken);
        }
        assert_eq!(world.provider("openai").seen().len() + world.provider("anthropic").seen().len(), 4);
    });
}

#[test]
fn an_error_inside_a_stream_after_its_first_content_passes_as_it_is() {
    run(async {
        let world = World::new(CHAIN).await;
        world.provider("openai").script(["error-in-stream=server_error;after=5"]);
        let answer = world.caller().call(CHAT, &streamed("gpt-4o")).await;
        assert_eq!(answer.text().matches("\"error\"").count(), 1, "{}", answer.text());
        assert!(!answer.text().contains("gpt-4o-mini") && !answer.text().contains("[DONE]"));
        assert_eq!(world.provider("openai").seen().len(), 1);
    });
}

#[test]
fn retries_come_before_fallbacks_and_an_open_breaker_goes_straight_on() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}, backup: {api: openai, url: 'http://b.test'}}
  defaults:
    retry: {max_retries: 1, backoff: [50ms], budget: {min_per_sec: 100}}
    breaker: {consecutive: 4, ratio: 'off'}
    fallback: [{provider: backup}]
",
        )
        .await;
        world.provider("openai").script(["503"; 4]);
        for (count, asked) in [(1, 2), (2, 4), (3, 4)] {
            assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
            assert_eq!((world.provider("backup").seen().len(), world.provider("openai").seen().len()), (count, asked));
        }
        assert_eq!(model_of(&world.provider("backup").seen()[0].body), "gpt-4o", "no other model was asked for");
    });
}

/// What says who makes a call was meant for the provider that was asked, and for nobody else.
#[test]
fn another_owner_gets_the_call_and_nothing_of_who_makes_it() {
    run(async {
        const AWS: &str = "/aws/model/anthropic.claude-3/invoke";
        let world = World::new(
            "outbound:
  providers:
    openai: {url: 'http://o.test'}
    backup: {api: openai, url: 'http://b.test'}
    aws: {api: bedrock, url: 'http://a.test'}
    spare: {api: bedrock, url: 'http://s.test'}
  routes:
  - {match: {provider: openai}, fallback: [{provider: openai, model: gpt-4o-mini}, {provider: backup}]}
  - {match: {provider: aws}, fallback: [{provider: spare}]}
",
        )
        .await;
        let theirs = [
            ("authorization", "Bearer sk-app"),
            ("cookie", "session=1"),
            ("openai-organization", "org-1"),
            ("openai-project", "proj-1"),
            ("x-amz-security-token", "token"),
            ("x-amz-date", "20270101T000000Z"),
            ("x-amz-content-sha256", "e3b0"),
            ("helicone-auth", "Bearer h"),
            ("baggage", "user=1"),
        ];
        let everybodys = [("openai-beta", "assistants=v2"), ("user-agent", "OpenAI/Python 3.57"), ("x-stainless-lang", "python")];
        for (path, asked, other) in [(CHAT, "openai", "backup"), (AWS, "aws", "spare")] {
            world.provider(asked).script(["503", "503"]);
            let fields = theirs.iter().chain(&everybodys);
            let call = fields.fold(crate::world::json(path), |call, (name, value)| call.header(*name, *value)).header("host", "localhost");
            world.caller().ask(call, chat("gpt-4o").to_string()).await;
            let (at_home, abroad) = (world.provider(asked).seen(), world.provider(other).seen());
            assert!(!at_home.is_empty() && abroad.len() == 1, "{other} was asked");
            for (name, _) in theirs {
                assert!(at_home.iter().all(|seen| seen.header(name).is_some()), "{name} reaches {asked}");
                assert_eq!(abroad[0].header(name), None, "{name} at {other}");
            }
            for (name, value) in everybodys {
                assert_eq!(abroad[0].header(name), Some(value), "{name} at {other}");
            }
        }
    });
}
