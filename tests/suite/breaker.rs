//! A target that fails again and again is left alone for a while, then asked by one probe at a time.

use futures_util::future::join_all;
use http::StatusCode;
use outrigger::policy::breaker::State;

use crate::world::{Failing, Reply, World, chat, ms, pass, run, secs};

const CHAT: &str = "/openai/v1/chat/completions";
const APP: &str = "
inbound:
  app: http://app.test
  defaults: {breaker: {consecutive: 5, ratio: 'off', open: {base: 10s, max: 40s, jitter: 0}, half_open: {successes: 2}}}
";

async fn fail(world: &World, times: usize) {
    world.app.always(Reply::status(503));
    for _ in 0..times {
        world.client().get("/").await;
    }
}

#[test]
fn five_failures_open_it_and_then_it_answers_at_once() {
    run(async {
        let world = World::new(APP).await;
        fail(&world, 4).await;
        assert_eq!(world.breaker("app"), Some(State::Closed));
        fail(&world, 1).await;
        assert_eq!(world.breaker("app"), Some(State::Open));
        pass(ms(2_500)).await;
        let answer = world.client().get("/").await;
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("breaker_open")));
        assert_eq!(answer.retry_after(), secs(8), "7.5 s are left");
        assert!(answer.took < ms(1) && answer.header("proxy-status").contains("breaker_open"), "{:?}", answer.headers);
        assert_eq!(world.app.asked(), 5, "the app is left alone");
    });
}

#[test]
fn a_success_in_between_begins_the_count_anew_and_errors_of_the_client_do_not_count() {
    run(async {
        let world = World::new(APP).await;
        fail(&world, 4).await;
        world.app.script([Reply::ok("well")]);
        world.client().get("/").await;
        fail(&world, 4).await;
        world.app.always(Reply::status(404));
        for _ in 0..10 {
            assert_eq!(world.client().get("/").await.status, StatusCode::NOT_FOUND);
        }
        assert_eq!(world.breaker("app"), Some(State::Closed));
    });
}

#[test]
fn one_probe_at_a_time_and_two_successes_close_it() {
    run(async {
        let world = World::new(APP).await;
        fail(&world, 5).await;
        pass(secs(10)).await;
        world.app.always(Reply::ok("well").after(secs(1)));
        let client = world.client();
        let crowd = join_all((0..10).map(|_| client.get("/"))).await;
        assert_eq!(crowd.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
        assert_eq!((world.app.asked(), world.breaker("app")), (6, Some(State::HalfOpen)));
        assert_eq!(client.get("/").await.status, StatusCode::OK);
        assert_eq!(world.breaker("app"), Some(State::Closed));
        let crowd = join_all((0..10).map(|_| client.get("/"))).await;
        assert!(crowd.iter().all(|answer| answer.status == StatusCode::OK));
    });
}

#[test]
fn a_probe_that_fails_doubles_the_time() {
    run(async {
        let world = World::new(APP).await;
        fail(&world, 5).await;
        for wait in [10, 20, 40, 40] {
            pass(secs(wait) - ms(100)).await;
            assert_eq!(world.client().get("/").await.json()["reason"], "breaker_open", "before {wait} s");
            pass(ms(200)).await;
            let asked = world.app.asked();
            assert_eq!(world.client().get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(world.app.asked(), asked + 1, "after {wait} s");
        }
    });
}

#[test]
fn a_client_that_leaves_says_nothing_about_the_app() {
    run(async {
        let world = World::new(APP).await;
        fail(&world, 5).await;
        pass(secs(10)).await;
        world.app.always(Reply::hang());
        assert!(tokio::time::timeout(secs(1), world.client().get("/")).await.is_err());
        pass(ms(1)).await;
        world.app.always(Reply::ok("well"));
        assert_eq!(world.client().get("/").await.status, StatusCode::OK, "the probe's place is free again");
    });
}

#[test]
fn connections_that_fail_and_bounds_that_pass_count() {
    run(async {
        let yaml = "
inbound:
  app: http://app.test
  defaults: {timeouts: {response_header: 1s}, breaker: {consecutive: 4, ratio: 'off'}}
";
        let world = World::new(yaml).await;
        world.dials.fail("app", [Failing::Refused, Failing::Refused]);
        world.app.always(Reply::hang());
        for expected in [502, 502, 504, 504, 503] {
            assert_eq!(world.client().get("/").await.status.as_u16(), expected);
        }
    });
}

#[test]
fn half_of_many_failing_opens_it_too() {
    run(async {
        let yaml = "
inbound:
  app: http://app.test
  defaults: {breaker: {consecutive: 0, ratio: {threshold: 0.5, window: 10s, min_requests: 20}}}
";
        let world = World::new(yaml).await;
        for at in 0..19 {
            world.app.script([if at % 2 == 0 { Reply::status(503) } else { Reply::ok("well") }]);
            world.client().get("/").await;
        }
        assert_eq!(world.breaker("app"), Some(State::Closed), "nineteen are not enough to conclude from");
        fail(&world, 1).await;
        assert_eq!(world.breaker("app"), Some(State::Open));
    });
}

#[test]
fn each_model_of_a_provider_has_its_own() {
    run(async {
        let yaml = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {breaker: {consecutive: 3, ratio: 'off'}}
  routes: [{match: {models: ['*']}}]
";
        let world = World::new(yaml).await;
        world.provider("openai").script(["500", "503", "529", "401", "400", "ok"]);
        for _ in 0..3 {
            world.caller().call(CHAT, &chat("gpt-4o")).await;
        }
        let open = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(open.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(open.json()["error"]["message"].to_string().contains("circuit breaker"), "{}", open.text());
        assert!(open.text().contains("next probe in"), "{}", open.text());
        assert_eq!(open.header("retry-after"), "", "an SDK would sleep that long");
        for expected in [401, 400, 200] {
            assert_eq!(world.caller().call(CHAT, &chat("gpt-4o-mini")).await.status.as_u16(), expected, "another model goes on");
        }
        assert_eq!((world.breaker("openai/gpt-4o"), world.breaker("openai/gpt-4o-mini")), (Some(State::Open), Some(State::Closed)));
    });
}

#[test]
fn a_fallback_has_the_breaker_of_the_model_that_it_asks() {
    run(async {
        let yaml = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {breaker: {consecutive: 2, ratio: 'off'}}
  routes: [{match: {operation: chat}, fallback: [{provider: openai, model: gpt-4o-mini}]}]
";
        let world = World::new(yaml).await;
        world.provider("openai").script(["503", "ok", "503", "ok"]);
        for _ in 0..3 {
            assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.status, StatusCode::OK);
        }
        assert_eq!((world.breaker("openai/gpt-4o"), world.breaker("openai/gpt-4o-mini")), (Some(State::Open), Some(State::Closed)));
        assert_eq!(world.provider("openai").seen().len(), 5, "the third call went to the other model at once");
    });
}

#[test]
fn a_provider_is_held_open_by_hand_before_any_call_and_the_app_is_told_the_truth() {
    run(async {
        let world = World::new(
            "{outbound: {providers: {openai: {url: 'http://o.test'}, groq: {url: 'http://g.test'}}, defaults: {breaker: {}},
              routes: [{match: {operation: chat, models: [b]}, fallback: [{provider: groq, model: m}]}]}}",
        )
        .await;
        let now = tokio::time::Instant::now();
        world.shared.breakers.hold("openai", now);
        for model in ["a", "a", "c"] {
            let refused = world.caller().call(CHAT, &chat(model)).await;
            assert_eq!((refused.status, refused.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, ""), "nobody knows when");
            let said = refused.json()["error"]["message"].to_string();
            assert!(said.contains("openai is held open by hand") && !said.contains("failures"), "{said}");
        }
        assert_eq!(world.caller().call(CHAT, &chat("b")).await.status, StatusCode::OK, "what comes next takes over");
        assert_eq!((world.provider("openai").seen().len(), world.provider("groq").seen().len()), (0, 1));
        world.shared.breakers.release("openai", now);
        for model in ["a", "b", "c", "d"] {
            assert_eq!(world.caller().call(CHAT, &chat(model)).await.status, StatusCode::OK, "{model}");
        }
    });
}
