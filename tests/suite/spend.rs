//! Tokens and dollars: what a call may cost is reserved before it goes out, what it did cost is settled when it ends, and the
//! user whose request caused it pays.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::world::{Answer, World, chat, ms, pass, run, secs};

const TOKENS: &str = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  limits: [{name: tokens, key: provider, tokens: 1000, window: 1m}]
";

const SPEND: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id]
  routes:
    - {name: chat, match: {path: /chat}, limits: [{name: user-spend, key: caller, usd: 0.001, window: 1h}]}
outbound:
  providers: {openai: {url: 'http://o.test'}}
";

const CHAT: &str = "/openai/v1/chat/completions";

/// A chat request that may cost this many tokens of output.
fn of(tokens: u64) -> Value {
    json!({"model": "gpt-4o", "max_tokens": tokens, "messages": [{"role": "user", "content": "hi"}]})
}

/// A user's request to the app; gives back the baggage with which the app would call its provider.
async fn arrive(world: &World, user: &str) -> (StatusCode, String) {
    let answer = world.client().from("10.0.0.1").ask(Request::get("/chat").header("x-user-id", user), "").await;
    (answer.status, world.app.seen().last().map_or_else(String::new, |seen| seen.header("baggage").to_owned()))
}

async fn caused(world: &World, baggage: &str, body: &Value) -> Answer {
    world.caller().ask(crate::world::json(CHAT).header("baggage", baggage), body.to_string()).await
}

#[test]
fn what_a_call_may_cost_is_reserved_before_it_goes_out() {
    run(async {
        let world = World::new(TOKENS).await;
        world.provider("openai").script(["slow=10s", "slow=10s", "slow=10s"]);
        let (caller, body) = (world.caller(), of(450));
        let together = futures_util::join!(caller.call(CHAT, &body), caller.call(CHAT, &body), caller.call(CHAT, &body));
        let statuses = [together.0.status, together.1.status, together.2.status];
        assert_eq!(statuses, [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS], "two of 450 and more fit into 1000");
        assert_eq!(world.provider("openai").seen().len(), 2);
        assert_eq!(together.2.header("x-should-retry"), "false");
    });
}

#[test]
fn a_callers_limit_decides_once_about_a_call_and_the_look_before_it_is_not_counted() {
    run(async {
        let world = World::new(SPEND).await;
        let (_, baggage) = arrive(&world, "alice").await;
        assert_eq!(world.limit("user-spend"), (0, 0, 0), "nothing is asked of it yet");
        assert_eq!(caused(&world, &baggage, &of(20)).await.status, StatusCode::OK);
        assert_eq!(world.limit("user-spend"), (1, 0, 0));
        arrive(&world, "alice").await;
        assert_eq!(world.limit("user-spend"), (1, 0, 0));
        assert_eq!(caused(&world, &baggage, &of(9_000)).await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(world.limit("user-spend"), (1, 1, 0));
    });
}

#[test]
fn a_path_that_a_provider_may_read_as_a_call_that_costs_is_refused() {
    run(async {
        let world = World::new(TOKENS).await;
        for path in [
            "/openai/v1/models/..%2fchat/completions",
            "/openai/v1/files/%2e%2e/chat/completions",
            "/openai/v1/chat/completions/.",
            "/openai/v1/chat/completions/;x",
            "/openai/v1/chat/completions/%2F",
            "/openai/v1/files/..;/chat/completions",
            "/openai/v1/moderations/..%5cchat%5ccompletions",
            "/openai/v1/moderations/%252e%252e/chat/completions",
            "/openai/v1/threads/t_1%2Fruns",
            "/openai/v1/threads/t_1%252Fruns",
            "/openai/v1/chat%252Fcompletions",
        ] {
            let answer = world.caller().call(path, &of(10)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert!(answer.json()["error"]["message"].to_string().contains("means another call"), "{path}: {}", answer.text());
        }
        assert!(world.provider("openai").seen().is_empty());
        for path in ["/openai/v1/models/org%2Fmodel-1.5", "/openai/v1/files/f%20x", "/openai//v1/models/"] {
            world.caller().get(path).await;
            assert_eq!(world.provider("openai").seen().last().map(|seen| format!("/openai{}", seen.path)).as_deref(), Some(path));
        }
    });
}

#[test]
fn what_was_not_used_comes_back_when_the_call_ends() {
    run(async {
        let world = World::new(TOKENS).await;
        for at in 0..5 {
            let answer = world.caller().call(CHAT, &of(800)).await;
            assert_eq!(answer.status, StatusCode::OK, "call {at}: the ones before used about 30 tokens each");
        }
        let (calls, tokens, _) = world.provider("openai").billed();
        assert_eq!(calls, 5);
        assert!(tokens < 200, "{tokens}");
        assert_eq!(world.caller().call(CHAT, &of(1_000 - tokens + 1)).await.status, StatusCode::TOO_MANY_REQUESTS, "but that is used");
    });
}

#[test]
fn a_call_that_failed_costs_nothing_and_one_that_was_cut_costs_what_was_streamed() {
    run(async {
        let world = World::new(TOKENS).await;
        world.provider("openai").script(["500", "429", "503"]);
        for _ in 0..3 {
            assert!(!world.caller().call(CHAT, &of(900)).await.status.is_success());
        }
        assert_eq!(world.caller().call(CHAT, &of(900)).await.status, StatusCode::OK, "all of it is there again");
        world.provider("openai").script(["tokens=300;rate=100;cut-after=200"]);
        let mut body = of(900);
        body["stream"] = json!(true);
        assert!(world.caller().call(CHAT, &body).await.broken);
        assert_eq!(world.caller().call(CHAT, &of(900)).await.status, StatusCode::TOO_MANY_REQUESTS, "200 tokens were streamed");
        assert_eq!(world.caller().call(CHAT, &of(600)).await.status, StatusCode::OK);
    });
}

#[test]
fn a_call_larger_than_the_limit_is_told_that_waiting_does_not_help() {
    run(async {
        let world = World::new(TOKENS).await;
        let answer = world.caller().call(CHAT, &of(5_000)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, ""));
        assert!(answer.text().contains("more than the limit"), "{}", answer.text());
    });
}

#[test]
fn the_user_whose_request_caused_the_calls_pays_for_them() {
    run(async {
        let world = World::new(SPEND).await;
        let (status, alice) = arrive(&world, "alice").await;
        assert_eq!(status, StatusCode::OK);
        let mut made = 0;
        let refused = loop {
            let answer = caused(&world, &alice, &of(40)).await;
            if answer.status != StatusCode::OK {
                break answer;
            }
            made += 1;
            assert!(made < 100, "a tenth of a cent is not without end");
        };
        // 24 tokens of an answer at 10 $ a million are 0.00024 $, and 40 must still fit.
        assert!((2..=4).contains(&made), "{made} calls");
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.json()["error"]["message"].to_string().contains("user-spend"), "{}", refused.text());
        assert_eq!(world.provider("openai").seen().len(), made, "a refused call does not go out");
        let (_, bob) = arrive(&world, "bob").await;
        assert_eq!(caused(&world, &bob, &of(40)).await.status, StatusCode::OK, "bob has his own");
        let (_, _, billed) = world.provider("openai").billed();
        let spent: u64 = world.shared.spend.by_caller().iter().map(|(_, spent)| spent.nano_usd).sum();
        assert_eq!(spent, billed, "our books and the provider's agree to the nano-dollar");
    });
}

#[test]
fn what_a_call_may_cost_is_reserved_for_the_user_who_caused_it() {
    run(async {
        let world = World::new(SPEND).await;
        let (_, alice) = arrive(&world, "alice").await;
        world.provider("openai").script(["slow=10s", "slow=10s"]);
        // Each may cost $0.0008 of $0.001.
        let body = of(80);
        let together = futures_util::join!(caused(&world, &alice, &body), caused(&world, &alice, &body));
        assert_eq!([together.0.status, together.1.status], [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS]);
        assert_eq!(world.provider("openai").seen().len(), 1);
    });
}

#[test]
fn a_user_who_has_spent_it_is_refused_at_the_door_until_the_hour_is_over() {
    run(async {
        let world = World::new(SPEND).await;
        let (_, alice) = arrive(&world, "alice").await;
        // Embedded data is estimated at a flat number of tokens; where it was more, the difference is a debt above the limit.
        let data = json!({"model": "gpt-4o-mini", "max_tokens": 1, "messages": [{"role": "user", "content": "QUJD".repeat(5_000)}]});
        for _ in 0..2 {
            assert_eq!(caused(&world, &alice, &data).await.status, StatusCode::OK);
        }
        let asked = world.app.asked();
        let mut refused = 0;
        for _ in 0..20 {
            caused(&world, &alice, &of(3)).await;
            refused += usize::from(arrive(&world, "alice").await.0 == StatusCode::TOO_MANY_REQUESTS);
        }
        assert!(refused > 0, "{} requests passed after all was spent", world.app.asked() - asked);
        assert_eq!(arrive(&world, "bob").await.0, StatusCode::OK);
        pass(secs(3_600 + 120)).await;
        assert_eq!(arrive(&world, "alice").await.0, StatusCode::OK);
    });
}

#[test]
fn a_call_that_nobody_caused_is_nobodys_and_a_forged_cause_is_none() {
    run(async {
        let world = World::new(SPEND).await;
        let (_, alice) = arrive(&world, "alice").await;
        let forged = format!("outrigger={:032x}", 7);
        for baggage in ["", &forged, "a=b"] {
            for _ in 0..6 {
                assert_eq!(caused(&world, baggage, &of(40)).await.status, StatusCode::OK, "no limit of a user applies");
            }
        }
        assert_eq!(world.count("outrigger_unattributed_calls_total", &[]), 18.0);
        assert_eq!(world.count("outrigger_escaped_calls_total", &[]), 18.0, "no limit of a user has seen them");
        assert_eq!(caused(&world, &alice, &of(40)).await.status, StatusCode::OK);
        assert_eq!(world.count("outrigger_unattributed_calls_total", &[]), 18.0);
    });
}

#[test]
fn a_cause_that_is_long_over_enforces_nothing() {
    run(async {
        let world = World::new(SPEND).await;
        let (_, alice) = arrive(&world, "alice").await;
        pass(secs(301)).await;
        for _ in 0..8 {
            assert_eq!(caused(&world, &alice, &of(40)).await.status, StatusCode::OK);
        }
        assert_eq!(arrive(&world, "alice").await.0, StatusCode::OK);
    });
}

#[test]
fn a_model_without_a_price_is_refused_where_dollars_are_limited() {
    run(async {
        let world =
            World::new("{outbound: {providers: {openai: {url: 'http://o.test'}}, limits: [{name: budget, usd: 1, window: 1d}]}}").await;
        let answer = world.caller().call(CHAT, &chat("nobody-knows-me")).await;
        assert!(answer.status.is_client_error(), "{} {}", answer.status, answer.text());
        assert!(answer.text().contains("nobody-knows-me"), "{}", answer.text());
        assert!(world.provider("openai").seen().is_empty());
        assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
        pass(ms(1)).await;
    });
}

#[test]
fn what_cannot_add_to_a_limit_is_not_refused_by_it_once_it_is_spent() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  prices: [{model: house, input: 0, output: 0}, {model: gpt-4o, input: 0, output: 1}]
  limits: [{name: budget, key: provider, usd: 0.00001, window: 1d, unpriced: allow}]
",
        )
        .await;
        let client = world.caller();
        assert_eq!(client.call(CHAT, &of(10)).await.status, StatusCode::OK, "ten tokens of output are the whole limit");
        assert_eq!(client.call(CHAT, &of(1)).await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(client.get("/openai/v1/models").await.status, StatusCode::OK, "a list costs nothing");
        assert_eq!(client.call(CHAT, &chat("house")).await.status, StatusCode::OK, "a model priced 0 costs nothing");
        assert_eq!(
            client.call("/openai/v1/unknown/operation", &of(1)).await.status,
            StatusCode::TOO_MANY_REQUESTS,
            "what is not known may"
        );
        let opening = Request::get("/openai/v1/realtime").header("connection", "upgrade").header("upgrade", "websocket");
        assert_eq!(client.ask(opening, "").await.status, StatusCode::TOO_MANY_REQUESTS, "a session over WebSocket costs");
    });
}
