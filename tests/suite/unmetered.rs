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
