//! A new file while requests are under way: all of it or nothing, and what was counted stays counted.

use std::sync::Arc;

use http::{Request, StatusCode};
use outrigger::{config::RetryBudget, policy::breaker::State};

use crate::world::{Reply, World, chat, ms, pass, run, secs, settle};

fn door(rest: &str) -> String {
    format!("inbound: {{app: 'http://app.test', {rest}}}")
}

#[test]
fn routes_are_swapped_and_limits_go_on_counting() {
    run(async {
        let limits = "limits: [{name: pace, key: client_ip, requests: 5, window: 1m}]";
        let world = World::new(&door(limits)).await;
        let client = world.client();
        for _ in 0..4 {
            assert_eq!(client.get("/").await.status, StatusCode::OK);
        }
        world
            .reload(&door(&format!("{limits}, routes: [{{name: shut, match: {{path: /shut}}, access: {{deny: [0.0.0.0/0]}}}}]")))
            .expect("good");
        assert_eq!(client.get("/shut").await.status, StatusCode::FORBIDDEN);
        assert_eq!(client.get("/").await.status, StatusCode::OK);
        assert_eq!(client.get("/").await.status, StatusCode::TOO_MANY_REQUESTS, "the four before are not forgotten");
        world.reload(&door("caller: [client_ip]")).expect("good");
        assert_eq!(client.get("/shut").await.status, StatusCode::OK);
    });
}

#[test]
fn the_series_of_a_new_route_exist_before_its_first_request() {
    run(async {
        let world = World::new(&door("")).await;
        world.reload(&door("routes: [{name: fresh, match: {path: /a}, cache: {}}]")).expect("good");
        let text = world.metrics();
        for series in ["outrigger_requests_total{door=\"inbound\",route=\"fresh\",code=\"502\"", "outrigger_cache_requests_total{"] {
            let found = text.lines().any(|line| line.starts_with(series) && line.contains("route=\"fresh\"") && line.ends_with(" 0"));
            assert!(found, "{series}\n{text}");
        }
    });
}

#[test]
fn a_breaker_stays_open() {
    run(async {
        let breaker = "defaults: {breaker: {consecutive: 2, ratio: 'off'}}";
        let world = World::new(&door(breaker)).await;
        world.app.always(Reply::status(503));
        world.client().get("/").await;
        world.client().get("/").await;
        world.reload(&door(&format!("{breaker}, routes: [{{match: {{path: /a}}}}]"))).expect("good");
        assert_eq!(world.breaker("app"), Some(State::Open));
        assert_eq!(world.client().get("/").await.json()["reason"], "breaker_open");
        assert_eq!(world.app.asked(), 2);
    });
}

#[test]
fn workers_go_over_together_and_a_request_from_before_brings_no_old_terms_back() {
    run(async {
        let terms =
            |times: u32| door(&format!("defaults: {{breaker: {{consecutive: {times}, ratio: 'off', open: {{base: 60s, jitter: 0}}}}}}"));
        let world = World::new(&terms(5)).await;
        let (here, elsewhere) = (world.client(), world.client_elsewhere());
        world.app.script([Reply::status(503).after(secs(10)), Reply::status(503)]);
        let before = elsewhere.get("/");
        let after = async {
            settle().await;
            world.reload(&terms(1)).expect("good");
            assert_eq!(here.get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(world.breaker("app"), Some(State::Open), "one failure suffices now");
            for client in [&here, &elsewhere] {
                assert_eq!(client.get("/").await.json()["reason"], "breaker_open");
            }
        };
        let (before, ()) = tokio::join!(before, after);
        assert_eq!(before.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((world.breaker("app"), world.app.asked()), (Some(State::Open), 2));
        pass(secs(120)).await;
        assert_eq!(elsewhere.get("/").await.status, StatusCode::OK);
        world.app.always(Reply::status(503));
        here.get("/").await;
        assert_eq!(world.breaker("app"), Some(State::Open), "the terms are still the new ones");
    });
}

#[test]
fn a_file_with_a_mistake_changes_nothing() {
    run(async {
        let world = World::new(&door("routes: [{match: {path: /a}, access: {deny: [0.0.0.0/0]}}]")).await;
        let said = world.reload(&door("routes: [{match: {path: a}}], limitz: []")).expect_err("two mistakes");
        assert!(said.contains("limitz") && said.contains("begin with `/`"), "{said}");
        assert_eq!(world.client().get("/a").await.status, StatusCode::FORBIDDEN);
    });
}

#[test]
fn a_stream_under_way_keeps_the_terms_it_began_with() {
    run(async {
        let world = World::new(&door("defaults: {timeouts: {idle: 10s}}")).await;
        world.app.script([Reply::paced(secs(5), &["a", "b", "c", "d"]), Reply::paced(secs(5), &["a", "b"])]);
        let mut opened = world.client().open(Request::get("/"), "").await;
        assert_eq!(opened.text().await, "a");
        world.reload("inbound: {app: 'http://elsewhere.test', defaults: {timeouts: {idle: 1s}}}").expect("good");
        let rest = opened.whole().await;
        assert_eq!((rest.text(), rest.broken), ("bcd", false));
        let fresh = world.client().get("/").await;
        assert!(fresh.broken && fresh.took < ms(1_100), "{:?}", fresh.took);
        assert_eq!(world.app.seen()[1].header("host"), "shop.example");
    });
}

#[test]
fn connections_to_a_target_that_stays_the_same_are_kept() {
    run(async {
        let world = World::new(&door("caller: [client_ip]")).await;
        world.client().get("/").await;
        world.reload(&door("routes: [{match: {path: /a}}]")).expect("good");
        world.client().get("/").await;
        assert_eq!(world.app.connections(), 1);
        world.reload("inbound: {app: 'http://elsewhere.test'}").expect("good");
        world.client().get("/").await;
        assert_eq!(world.app.connections(), 2, "another place is another connection");
    });
}

#[test]
fn a_target_that_is_gone_leaves_breakers_and_metrics() {
    run(async {
        let providers = |names: &str| format!("outbound: {{providers: {{{names}}}, defaults: {{breaker: {{}}, retry: {{}}}}}}");
        let world = World::new(&providers("openai: {}, house: {api: openai, url: 'http://house.test'}")).await;
        let call = |provider: &str| format!("/{provider}/v1/chat/completions");
        for provider in ["openai", "house"] {
            world.caller().post(&call(provider), chat("m").to_string()).await;
        }
        assert!(world.breaker("house/m").is_some() && world.metrics().contains("target=\"house\""));
        // One answer of the old generation is still under way.
        let mut stream = chat("m");
        stream["stream"] = true.into();
        let mut opened = world.caller().open(Request::post(call("house")), stream.to_string()).await;
        opened.text().await;
        world.reload(&providers("openai: {}")).expect("good");
        assert!(opened.whole().await.text().contains("[DONE]"));
        assert_eq!(world.breaker("house/m"), None);
        let metrics = world.metrics();
        let left: Vec<&str> = metrics.lines().filter(|line| line.contains("target=\"house")).collect();
        assert!(left.is_empty(), "{left:#?}");
        assert!(metrics.contains("target=\"openai\"") && world.breaker("openai/m").is_some());
    });
}

#[test]
fn a_target_that_comes_again_has_a_budget_of_its_own() {
    run(async {
        let providers = |names: &str| format!("outbound: {{providers: {{{names}}}, defaults: {{retry: {{}}}}}}");
        let both = providers("openai: {}, house: {api: openai, url: 'http://house.test'}");
        let world = World::new(&both).await;
        let budgets = |generation: u64| {
            let terms = RetryBudget { ratio: 0.2, min_per_sec: 1.0 };
            ["openai", "house"].map(|name| world.shared.budgets.get(&name.into(), terms, generation, tokio::time::Instant::now()))
        };
        let before = budgets(1);
        world.reload(&providers("openai: {}")).expect("good");
        world.reload(&both).expect("good");
        let after = budgets(3);
        assert_eq!([0, 1].map(|at: usize| Arc::ptr_eq(&before[at], &after[at])), [true, false], "what is drawn lives on with its target");
    });
}

#[test]
fn a_prepared_generation_is_not_at_work_before_it_is_the_newest() {
    run(async {
        let world = World::new(&door("caller: [client_ip]")).await;
        let routes: Vec<String> = (0..100).map(|at| format!("{{match: {{path: /r{at}}}, access: {{deny: [0.0.0.0/0]}}}}")).collect();
        let fresh = world.parse_next(&door(&format!("routes: [{}]", routes.join(", ")))).expect("good");
        world.proxy.prepare(fresh.clone()).await;
        assert_eq!(world.client().get("/r7").await.status, StatusCode::OK);
        world.put_to_work(fresh);
        assert_eq!(world.client().get("/r7").await.status, StatusCode::FORBIDDEN);
        assert_eq!(world.proxy.worker().live.generation, 2);
    });
}
