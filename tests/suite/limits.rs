//! Limits on requests, from outside: what is admitted in any window, what is refused, and whether the refusal tells the truth.

use std::time::Duration;

use futures_util::future::join_all;
use http::{Request, StatusCode};
use tokio::time::Instant;

use crate::world::{Client, World, chat, ms, pass, run, secs};

const BY_CALLER: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id, client_ip]
  limits: [{name: pace, key: caller, requests: 100, window: 1m}]
";

async fn as_user(client: &Client, user: &str) -> StatusCode {
    client.ask(Request::get("/").header("x-user-id", user), "").await.status
}

#[test]
fn of_a_crowd_at_once_exactly_the_limit_gets_in() {
    run(async {
        let world = World::new(BY_CALLER).await;
        let client = world.client().from("10.0.0.1");
        let crowd: Vec<StatusCode> = join_all((0..150).map(|_| as_user(&client, "alice"))).await;
        assert_eq!(crowd.iter().filter(|status| **status == StatusCode::OK).count(), 100);
        assert_eq!(crowd.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count(), 50);
        assert_eq!(as_user(&client, "bob").await, StatusCode::OK, "another caller has its own");
        assert_eq!(world.app.asked(), 101);
        assert_eq!(world.limit("pace"), (101, 50, 0));
    });
}

#[test]
fn no_window_of_a_minute_ever_holds_more_than_the_limit() {
    run(async {
        let world = World::new(BY_CALLER).await;
        let client = world.client().from("10.0.0.1");
        let mut admitted: Vec<Instant> = Vec::new();
        // Bursts just before and after the edges of minutes, and a steady trickle that always asks for more.
        for (pause, burst) in [(59_900, 100), (200, 100), (100, 30), (29_500, 60), (30_100, 90), (59_999, 100), (2, 100), (40_000, 70)] {
            pass(ms(pause)).await;
            for _ in 0..burst {
                if as_user(&client, "alice").await == StatusCode::OK {
                    admitted.push(Instant::now());
                }
            }
        }
        for _ in 0..600 {
            pass(ms(311)).await;
            if as_user(&client, "alice").await == StatusCode::OK {
                admitted.push(Instant::now());
            }
        }
        assert!(admitted.len() >= 450, "only {} were admitted", admitted.len());
        for (at, begin) in admitted.iter().enumerate() {
            let within = admitted[at..].iter().take_while(|other| other.duration_since(*begin) < secs(60)).count();
            assert!(within <= 100, "{within} in the minute from {:?}", begin.duration_since(admitted[0]));
        }
    });
}

#[test]
fn whoever_stays_below_the_limit_is_never_refused() {
    run(async {
        let world = World::new(BY_CALLER).await;
        let client = world.client().from("10.0.0.1");
        for at in 0..95 * 10 {
            pass(Duration::from_secs_f64(60.0 / 95.0)).await;
            assert_eq!(as_user(&client, "alice").await, StatusCode::OK, "request {at}");
        }
    });
}

#[test]
fn whoever_waits_as_long_as_it_is_told_gets_in() {
    run(async {
        let world = World::new(BY_CALLER).await;
        let client = world.client().from("10.0.0.1");
        for round in 0..5 {
            let mut tries = 0;
            let refused = loop {
                tries += 1;
                assert!(tries < 500, "nobody is refused");
                let answer = client.ask(Request::get("/").header("x-user-id", "alice"), "").await;
                if answer.status != StatusCode::OK {
                    break answer;
                }
                pass(ms(100 + 77 * round)).await;
            };
            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
            let wait = refused.retry_after();
            assert!((secs(1)..=secs(60)).contains(&wait), "{wait:?}");
            assert!(refused.header("ratelimit-policy").contains("pace"), "{:?}", refused.headers);
            assert!(refused.header("ratelimit").contains("pace"), "{:?}", refused.headers);
            assert_eq!(refused.json()["reason"], "limited");
            // Not much earlier: it is the first second that passes.
            pass(wait.saturating_sub(secs(3))).await;
            if wait > secs(3) {
                assert_ne!(as_user(&client, "alice").await, StatusCode::OK, "{wait:?} was too long to wait");
            }
            pass(wait.min(secs(3))).await;
            assert_eq!(as_user(&client, "alice").await, StatusCode::OK, "{wait:?} was not enough");
        }
    });
}

#[test]
fn an_invented_user_gains_a_stranger_nothing() {
    run(async {
        let world = World::new(BY_CALLER).await;
        let client = world.client();
        for at in 0..100 {
            assert_eq!(as_user(&client, &format!("user-{at}")).await, StatusCode::OK);
        }
        assert_eq!(as_user(&client, "user-100").await, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(client.ask(Request::get("/").header("x-forwarded-for", "9.9.9.9"), "").await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(world.client().from("203.0.113.8").get("/").await.status, StatusCode::OK, "another address is another caller");
    });
}

#[test]
fn limits_of_the_door_and_of_the_route_both_count_all_or_none() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  limits: [{name: door, key: client_ip, requests: 10, window: 1m}]
  routes:
    - {match: {path: /slow}, limits: [{name: route, key: client_ip, requests: 3, window: 1m}]}
",
        )
        .await;
        let client = world.client();
        let mut slow = Vec::new();
        for _ in 0..6 {
            slow.push(client.get("/slow").await.status.as_u16());
        }
        assert_eq!(slow, [200, 200, 200, 429, 429, 429]);
        // The three that the route refused took nothing from the door.
        for _ in 0..7 {
            assert_eq!(client.get("/").await.status, StatusCode::OK);
        }
        assert_eq!(client.get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
    });
}

#[test]
fn addresses_of_one_ipv6_network_are_one_client() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', limits: [{key: client_ip, requests: 2, window: 1m}]}").await;
        let from = |address| world.client().from(address);
        assert_eq!(from("2001:db8:1:2::1").get("/").await.status, StatusCode::OK);
        assert_eq!(from("2001:db8:1:2::2").get("/").await.status, StatusCode::OK);
        assert_eq!(from("2001:db8:1:2:ffff::3").get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(from("2001:db8:1:3::1").get("/").await.status, StatusCode::OK);
    });
}

#[test]
fn a_provider_limit_refuses_in_the_providers_own_words() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}, anthropic: {url: 'http://a.test'}}
  limits: [{name: pace, key: provider, requests: 1, window: 1m}]
",
        )
        .await;
        let body = chat("gpt-4o");
        assert_eq!(world.caller().call("/openai/v1/chat/completions", &body).await.status, StatusCode::OK);
        let openai = world.caller().call("/openai/v1/chat/completions", &body).await;
        assert_eq!((openai.status, openai.header("x-should-retry")), (StatusCode::TOO_MANY_REQUESTS, "false"));
        assert!(openai.json()["error"]["message"].is_string(), "{}", openai.text());
        assert!(openai.retry_after() <= secs(62));
        let ask = || crate::world::json("/anthropic/v1/messages").header("anthropic-version", "2023-06-01");
        assert_eq!(world.caller().ask(ask(), body.to_string()).await.status, StatusCode::OK);
        let anthropic = world.caller().ask(ask(), body.to_string()).await;
        assert_eq!(anthropic.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            (anthropic.json()["type"].as_str(), anthropic.json()["error"]["type"].as_str()),
            (Some("error"), Some("rate_limit_error"))
        );
        assert_eq!(world.provider("openai").seen().len(), 1);
    });
}

#[test]
fn a_call_that_runs_out_of_time_counts_and_one_that_the_provider_refused_does_not() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test'}}, limits: [{key: global, requests: 1, window: 1h}],
              defaults: {timeouts: {response_header: 1s}}}",
        )
        .await;
        world.provider("openai").script(["503", "hang"]);
        for expected in [503, 504, 429] {
            assert_eq!(world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await.status.as_u16(), expected);
        }
    });
}

#[test]
fn gcra_lets_a_burst_in_and_then_spreads() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test', limits: [{key: client_ip, requests: 60, window: 1m, algorithm: gcra, burst: 5}]}",
        )
        .await;
        let client = world.client();
        let mut at_once = 0;
        while client.get("/").await.status == StatusCode::OK {
            at_once += 1;
            assert!(at_once <= 5, "nobody is refused");
        }
        assert_eq!(at_once, 5);
        pass(ms(1_001)).await;
        assert_eq!(client.get("/").await.status, StatusCode::OK);
        assert_eq!(client.get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
    });
}

#[test]
fn a_browsers_preflights_use_up_no_limit_and_a_refusal_can_be_read_by_the_page() {
    run(async {
        const PAGE: &str = "https://shop.example";
        let limit = "limits: [{name: pace, key: client_ip, requests: 3, window: 1h}]";
        let routes = "routes: [{name: asked, match: {path: /asked, methods: [OPTIONS]}}]";
        let world = World::new(&format!("inbound: {{app: 'http://app.test', {limit}, {routes}}}")).await;
        let client = world.client();
        let preflight = |path| {
            let request = Request::options(path).header("origin", PAGE).header("access-control-request-method", "POST");
            let client = &client;
            async move { client.ask(request, "").await }
        };
        let call = || client.ask(Request::post("/chat").header("origin", PAGE), "{}");
        for _ in 0..3 {
            assert_eq!(preflight("/chat").await.status, StatusCode::OK);
            assert_eq!(call().await.status, StatusCode::OK);
        }
        assert_eq!(world.limit("pace"), (3, 0, 0));
        let refused = call().await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (StatusCode::TOO_MANY_REQUESTS, PAGE));
        assert!(refused.header("access-control-expose-headers").contains("retry-after"));
        assert_eq!(refused.header("access-control-allow-credentials"), "");
        assert_eq!(client.post("/chat", "{}").await.header("access-control-allow-origin"), "", "no page asked");
        assert_eq!(preflight("/chat").await.status, StatusCode::OK, "so that the page gets to see the refusal");
        assert_eq!(preflight("/asked").await.status, StatusCode::TOO_MANY_REQUESTS, "a route that names OPTIONS counts them");
        assert_eq!(client.ask(Request::options("/chat"), "").await.status, StatusCode::TOO_MANY_REQUESTS, "any other OPTIONS counts");
    });
}

const BY_PLAN: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id, client_ip]
  limits: [{name: plan, key: caller, requests: 5, tier: header:x-plan, tiers: {free: 100, pro: 1000, staff: off}, window: 1h}]
";

async fn on_plan(client: &Client, user: &str, plan: &str) -> crate::world::Answer {
    client.ask(Request::get("/").header("x-user-id", user).header("x-plan", plan), "").await
}

#[test]
fn the_free_plan_has_100_an_hour_and_a_paid_one_more() {
    run(async {
        let world = World::new(BY_PLAN).await;
        let client = world.client().from("10.0.0.1");
        for at in 0..100 {
            let answer = on_plan(&client, "alice", "free").await;
            assert_eq!(answer.status, StatusCode::OK, "request {at}");
            assert_eq!(answer.header("ratelimit-policy"), r#""plan";q=100;w=3600;qu="requests""#);
        }
        let refused = on_plan(&client, "alice", "free").await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(refused.json()["detail"].as_str().expect("text").contains("100 requests per hour (tier free)"), "{}", refused.text());
        // An upgrade takes effect at once, and what was used stays used.
        let paid = on_plan(&client, "alice", "pro").await;
        assert_eq!(paid.status, StatusCode::OK);
        assert!(paid.header("ratelimit").contains("r=899"), "{}", paid.header("ratelimit"));
        for _ in 0..200 {
            assert_eq!(on_plan(&client, "boss", "staff").await.status, StatusCode::OK, "not counted");
        }
        assert_eq!(on_plan(&client, "boss", "staff").await.header("ratelimit"), "");
        for expected in [200, 200, 200, 200, 200, 429] {
            assert_eq!(on_plan(&client, "carol", "gold").await.status.as_u16(), expected, "an unknown plan has the limit's own amount");
        }
    });
}

#[test]
fn nobody_but_a_trusted_proxy_names_a_plan() {
    run(async {
        let world = World::new(BY_PLAN).await;
        let stranger = world.client();
        for expected in [200, 200, 200, 200, 200, 429] {
            assert_eq!(on_plan(&stranger, "alice", "pro").await.status.as_u16(), expected);
        }
        assert!(world.app.seen().iter().all(|seen| seen.header("x-plan").is_empty()), "the app is not fooled either");
        // Two plans in one request are none.
        let client = world.client().from("10.0.0.1");
        let twice = || Request::get("/").header("x-user-id", "bob").header("x-plan", "pro").header("x-plan", "free");
        for expected in [200, 200, 200, 200, 200, 429] {
            assert_eq!(client.ask(twice(), "").await.status.as_u16(), expected);
        }
    });
}

#[test]
fn a_key_of_several_parts_counts_each_combination() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  limits: [{name: each, key: [caller, model], requests: 1, tier: model, tiers: {gpt-4o: 2}, window: 1m}]
",
        )
        .await;
        let call = |user: &'static str, model: &'static str| {
            let request = crate::world::json("/openai/v1/chat/completions").header("outrigger-caller", user);
            let client = world.caller();
            async move { client.ask(request, chat(model).to_string()).await.status.as_u16() }
        };
        for (user, model, expected) in [
            ("ann", "gpt-4o", 200),
            ("ann", "gpt-4o", 200),
            ("ann", "gpt-4o", 429),
            ("bob", "gpt-4o", 200),
            ("ann", "gpt-4o-mini", 200),
            ("ann", "gpt-4o-mini", 429),
        ] {
            assert_eq!(call(user, model).await, expected, "{user} {model}");
        }
    });
}

#[test]
fn a_model_call_is_counted_by_the_tier_of_the_request_that_caused_it() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id]
  limits: [{name: plan, key: caller, tokens: 100, tier: header:x-plan, tiers: {pro: 100k}, window: 1h}]
outbound: {providers: {openai: {url: 'http://o.test'}}}
",
        )
        .await;
        let client = world.client().from("10.0.0.1");
        let mut answers = Vec::new();
        for (user, plan) in [("alice", "pro"), ("bob", "free")] {
            assert_eq!(on_plan(&client, user, plan).await.status, StatusCode::OK);
            let baggage = world.app.seen().last().expect("asked").header("baggage").to_owned();
            for _ in 0..5 {
                // What the call itself says of a plan is nothing to us.
                let call = crate::world::json("/openai/v1/chat/completions").header("baggage", &baggage).header("x-plan", "pro");
                answers.push(world.caller().ask(call, chat("gpt-4o").to_string()).await.status.as_u16());
            }
        }
        assert_eq!(answers[..5], [200; 5], "alice has paid for more");
        assert_eq!((answers[5], answers[9]), (200, 429), "bob has the limit's own amount: {answers:?}");
    });
}
