//! What no answer says the cost of does not pass a limit in dollars or tokens.

use http::{Method, Request, StatusCode};

use crate::world::{Reply, World, json as post, run};

const JSON: &str = "application/json";

#[test]
fn what_no_answer_says_the_cost_of_does_not_pass_a_limit() {
    run(async {
        let limits = |limit: &str| {
            format!(
                "\noutbound:\n  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}\n  limits: [{{name: l, window: 1h, {limit}}}]\n"
            )
        };
        for (limit, batch, unknown) in [
            ("usd: 3", 403, 403),
            ("usd: 3, unpriced: allow", 200, 200),
            ("usd: 3, unmetered: allow", 200, 200),
            ("usd: 3, unpriced: allow, unmetered: refuse", 403, 403),
            ("tokens: 100k, unmetered: allow", 200, 200),
            ("usd: 3, mode: observe", 200, 200),
            ("tokens: 100k", 403, 200),
            ("requests: 100", 200, 200),
        ] {
            let world = World::new(&limits(limit)).await;
            world.app.always(Reply::ok("{\"id\":\"x\"}").header("content-type", JSON));
            for (path, expected) in [
                ("/scripted/v1/batches", batch),
                ("/scripted/v1/messages/batches", batch),
                ("/scripted/v1/videos", batch),
                ("/scripted/v1/containers", batch),
                ("/scripted/v1/rerank", unknown),
                ("/scripted/v1/files", 200),
                ("/scripted/v1/batches/b_1/cancel", 200),
            ] {
                let answer = world.caller().ask(post(path), "{}").await;
                assert_eq!(answer.status.as_u16(), expected, "{limit} {path}: {}", answer.text());
                if expected == 403 {
                    let of = answer.json()["error"].clone();
                    let said = [of["code"].as_str(), of["type"].as_str()];
                    assert!(said.contains(&Some("unmetered")) || said.contains(&Some("permission_error")), "{}", answer.text());
                    assert!(answer.text().contains("unmetered: allow"), "the remedy: {}", answer.text());
                }
            }
            let counted = ["a video", "a container"].map(|work| world.count("outrigger_unmetered_calls_total", &[("work", work)]));
            assert_eq!(counted, if batch == 200 { [1.0, 1.0] } else { [0.0; 2] }, "{limit}");
            for (method, path) in
                [(Method::GET, "/scripted/v1/models"), (Method::GET, "/scripted/v1/batches/b_1"), (Method::DELETE, "/scripted/v1/files/f")]
            {
                let answer = world.caller().ask(Request::builder().method(&method).uri(path), "").await;
                assert_eq!(answer.status, StatusCode::OK, "{limit} {method} {path}: {}", answer.text());
            }
        }
    });
}

/// Work that goes on elsewhere and whose cost no answer over this connection tells. Its control is free.
#[test]
fn batches_and_videos_of_every_provider_do_not_pass_a_limit_in_dollars() {
    run(async {
        let refused = [
            ("openai", "/v1/videos"),
            ("openai", "/v1/videos/v_1/remix"),
            ("openai", "/v1/videos/edits"),
            ("gemini", "/v1beta/models/g:batchGenerateContent"),
            ("gemini", "/v1beta/models/g:asyncBatchEmbedContent"),
            ("gemini", "/v1/projects/p/locations/l/batchPredictionJobs"),
            ("gemini", "/v1beta/models/veo-3.1:predictLongRunning"),
            ("bedrock", "/model-invocation-job"),
            ("bedrock", "/async-invoke"),
        ];
        let control = [
            ("openai", Method::GET, "/v1/videos/v_1/content"),
            ("openai", Method::DELETE, "/v1/videos/v_1"),
            ("gemini", Method::GET, "/v1beta/batches/b_1"),
            ("gemini", Method::POST, "/v1beta/batches/b_1:cancel"),
            ("gemini", Method::PATCH, "/v1beta/batches/b_1:updateGenerateContentBatch"),
            ("gemini", Method::DELETE, "/v1beta/batches/b_1"),
            ("bedrock", Method::GET, "/model-invocation-jobs"),
            ("bedrock", Method::POST, "/model-invocation-job/j_1/stop"),
        ];
        for (word, allowed) in [("refuse", false), ("allow", true)] {
            let world = World::new(&format!(
                "
outbound:
  providers: {{scripted_openai: {{api: openai, url: 'http://o.test'}}, scripted_gemini: {{api: gemini, url: 'http://g.test'}},
              scripted_bedrock: {{api: bedrock, url: 'http://b.test'}}}}
  limits: [{{name: l, usd: 3, window: 1h, unmetered: {word}}}]
"
            ))
            .await;
            world.app.always(Reply::ok("{\"id\":\"x\"}").header("content-type", JSON));
            for (at, path) in refused {
                let answer = world.caller().ask(post(&format!("/scripted_{at}{path}")), "{}").await;
                assert_eq!(answer.status, if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN }, "{path}: {}", answer.text());
                assert!(allowed || answer.text().contains("unmetered: allow"), "the remedy: {}", answer.text());
            }
            assert_eq!(world.count("outrigger_unmetered_calls_total", &[]), if allowed { refused.len() as f64 } else { 0.0 });
            for (at, method, path) in &control {
                let request = Request::builder().method(method).uri(format!("/scripted_{at}{path}")).header("content-type", JSON);
                let answer = world.caller().ask(request, if method == Method::GET { "" } else { "{}" }).await;
                assert_eq!(answer.status, StatusCode::OK, "{method} {path}: {}", answer.text());
            }
        }
    });
}

#[test]
fn what_no_answer_says_the_cost_of_does_not_pass_the_limit_of_its_cause() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  routes: [{name: chat, match: {path: /chat}, limits: [{name: user, key: client_ip, usd: 5, window: 1h}]}]
outbound: {providers: {scripted: {api: openai, url: 'http://s.test'}}}
",
        )
        .await;
        world.client().get("/chat").await;
        let baggage = world.app.only().header("baggage").to_owned();
        for (baggage, expected) in [(&*baggage, 403), ("", 200)] {
            let answer = world.caller().ask(post("/scripted/v1/batches").header("baggage", baggage), "{}").await;
            assert_eq!(answer.status.as_u16(), expected, "`{baggage}`: {}", answer.text());
        }
    });
}

#[test]
fn a_websocket_whose_events_are_unknown_does_not_pass_a_limit_in_dollars() {
    run(async {
        for (limits, expected) in [
            ("", StatusCode::SWITCHING_PROTOCOLS),
            ("  limits: [{usd: 3, window: 1h}]", StatusCode::FORBIDDEN),
            ("  limits: [{tokens: 3, window: 1h}]", StatusCode::FORBIDDEN),
            ("  limits: [{tokens: 3, window: 1h, unmetered: allow}]", StatusCode::SWITCHING_PROTOCOLS),
        ] {
            let world =
                World::new(&format!("\noutbound:\n  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}\n{limits}\n")).await;
            world.app.always(Reply::tunnel());
            let request = Request::get("/scripted/v1/live/sessions?model=gpt-live")
                .header("connection", "upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            assert_eq!(world.caller().open(request, "").await.status, expected, "{limits}");
        }
    });
}
