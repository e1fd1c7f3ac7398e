//! What an operator expects of calls that do not fail, case by case as one would say it.

use http::StatusCode;
use tokio::time::{Instant, timeout};

use crate::world::{Failing, Reply, World, chat, run, secs};

const CHAT: &str = "/openai/v1/chat/completions";

async fn inbound(defaults: &str) -> World {
    World::new(&format!("inbound: {{app: 'http://app.test', defaults: {{{defaults}}}}}")).await
}

async fn outbound(defaults: &str) -> World {
    World::new(&format!("outbound: {{providers: {{openai: {{url: 'http://o.test'}}}}, defaults: {{{defaults}}}}}")).await
}

const SCHEDULE: &str = "retry: {max_retries: 4, backoff: [1s, 2s, 4s, 8s]}";

#[test]
fn a_flaky_endpoint_succeeds_within_its_retries() {
    run(async {
        let world = inbound(SCHEDULE).await;
        world.app.script([Reply::status(503), Reply::status(502), Reply::close(), Reply::ok("at last")]);
        let began = Instant::now();
        let answer = world.client().get("/").await;
        assert_eq!((answer.status, answer.text(), began.elapsed().as_secs()), (StatusCode::OK, "at last", 7), "1 s, 2 s, 4 s");
        let world = outbound(SCHEDULE).await;
        world.provider("openai").script(["503", "500", "reset", "ok"]);
        let began = Instant::now();
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, began.elapsed().as_secs()), (StatusCode::OK, 7));
    });
}

#[test]
fn it_gives_up_after_the_last_try_with_the_last_error() {
    run(async {
        let world = inbound(SCHEDULE).await;
        let failures = ["one", "two", "three", "four", "the last"].map(|text| Reply::status(503).body(text));
        world.app.script(failures);
        let began = Instant::now();
        let answer = world.client().get("/").await;
        assert_eq!((answer.status.as_u16(), answer.text(), began.elapsed().as_secs()), (503, "the last", 15), "1 s, 2 s, 4 s, 8 s");
        assert_eq!(world.app.asked(), 5);
    });
}

#[test]
fn three_failures_open_a_breaker_that_is_set_to_three() {
    run(async {
        let world = inbound("breaker: {consecutive: 3}").await;
        world.app.always(Reply::status(503).body("the app's own"));
        for _ in 0..3 {
            assert_eq!(world.client().get("/").await.text(), "the app's own");
        }
        let refused = world.client().get("/").await;
        assert_eq!((refused.status.as_u16(), refused.json()["reason"].as_str()), (503, Some("breaker_open")));
        assert_eq!(world.app.asked(), 3);
    });
}

#[test]
fn a_refused_connection_is_tried_again_and_400_is_not() {
    run(async {
        let world = inbound("retry: {max_retries: 2, backoff: [1s]}").await;
        world.dials.fail("app", [Failing::Refused, Failing::Refused]);
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        assert_eq!(world.count("outrigger_retries_total", &[("reason", "connect_failed")]), 2.0);
        world.app.script([Reply::status(400)]);
        let asked = world.app.asked();
        assert_eq!((world.client().get("/").await.status.as_u16(), world.app.asked() - asked), (400, 1));
    });
}

#[test]
fn a_timeout_of_30_s_holds_on_every_call() {
    run(async {
        let world = inbound("timeouts: {total: 30s}").await;
        world.app.always(Reply::hang());
        let began = Instant::now();
        assert_eq!((world.client().get("/").await.status.as_u16(), began.elapsed().as_secs()), (504, 30));
        let world = outbound("timeouts: {total: 30s}, retry: {max_retries: 4, backoff: [1s, 2s, 4s, 8s], on: [429, 503, timeout]}").await;
        world.provider("openai").script(["503", "429;retry-after=20", "hang"]);
        let began = Instant::now();
        assert_eq!((world.caller().call(CHAT, &chat("gpt-4o")).await.status.as_u16(), began.elapsed().as_secs()), (504, 30));
    });
}

#[test]
fn no_request_ever_hangs() {
    run(async {
        for fault in
            ["hang", "reset", "close", "garbage", "cut-after=1", "reset-after=1", "end-after=1", "stall-after=1", "slow=10m", "503"]
        {
            for stream in [false, true] {
                let world = outbound("timeouts: {total: 30s, idle: 10s, response_header: 20s}, retry: {max_retries: 2}, breaker: {}").await;
                world.provider("openai").script([fault; 4]);
                let mut call = chat("gpt-4o");
                call["stream"] = stream.into();
                let body = call.to_string();
                let caller = world.caller();
                let asked = timeout(secs(61), caller.ask(crate::world::json(CHAT), body)).await;
                assert!(asked.is_ok(), "{fault}, stream: {stream}");
            }
        }
    });
}
