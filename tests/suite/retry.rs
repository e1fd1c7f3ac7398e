//! Trying again: when it is done, how long after, how often, and when it must not be.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Frame;

use crate::world::{Failing, Reply, World, chat, json, ms, pass, run, secs, upload};

const CHAT: &str = "/openai/v1/chat/completions";

fn outbound(retry: &str) -> String {
    format!("outbound: {{providers: {{openai: {{url: 'http://o.test'}}}}, defaults: {{retry: {retry}}}}}")
}

fn inbound(retry: &str) -> String {
    format!("inbound: {{app: 'http://app.test', defaults: {{retry: {retry}}}}}")
}

#[test]
fn two_failures_and_a_success_are_a_success_after_the_pauses_that_were_asked_for() {
    run(async {
        let world = World::new(&outbound("{max_retries: 2, backoff: [200ms, 400ms]}")).await;
        world.provider("openai").script(["503", "503"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!((ms(600)..ms(610)).contains(&answer.took), "{:?}", answer.took);
        assert_eq!(world.provider("openai").seen().len(), 3);
        assert_eq!(world.count("outrigger_retries_total", &[("target", "openai")]), 2.0);
        assert_eq!(world.count("outrigger_tries_total", &[("target", "openai"), ("outcome", "ok")]), 1.0);
    });
}

#[test]
fn pauses_are_random_below_a_ceiling_that_doubles() {
    run(async {
        let world = World::new(&outbound("{max_retries: 3, backoff: {base: 1s, max: 2s}, budget: {min_per_sec: 1000}}")).await;
        let mut all = Vec::new();
        for _ in 0..20 {
            world.provider("openai").script(["503", "503", "503"]);
            let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.took <= ms(5_010), "{:?}", answer.took);
            all.push(answer.took);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20, "no two clients come back at the same moment");
    });
}

#[test]
fn a_retry_after_is_waited_for_and_one_that_is_too_long_goes_to_the_client() {
    run(async {
        let world = World::new(&outbound("{max_retries: 1, backoff: [10ms], max_hint: 10s}")).await;
        for (fault, wait) in [("429;retry-after=3", 3_000), ("503;retry-after=2", 2_000), ("429;retry-after-ms=250", 250)] {
            world.provider("openai").script([fault]);
            let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
            assert_eq!(answer.status, StatusCode::OK, "{fault}");
            assert!((ms(wait)..ms(wait + wait / 4 + 20)).contains(&answer.took), "{fault}: {:?}", answer.took);
        }
        world.provider("openai").script(["429;retry-after=11"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "11"));
        assert!(answer.took < ms(10));
    });
}

#[test]
fn the_last_answer_is_the_providers_own_and_says_that_the_client_need_not_try() {
    run(async {
        let world = World::new(&outbound("{max_retries: 2, backoff: [10ms]}")).await;
        world.provider("openai").script(["503", "503", "503"]);
        let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!(
            (answer.status, answer.header("x-should-retry"), answer.header("proxy-status")),
            (StatusCode::SERVICE_UNAVAILABLE, "false", "")
        );
        assert!(answer.json()["error"].is_object());
        assert_eq!(world.provider("openai").seen().len(), 3);
    });
}

#[test]
fn what_another_try_cannot_change_is_not_tried_again() {
    run(async {
        let world = World::new(&outbound("{max_retries: 2, backoff: [10ms]}")).await;
        for fault in ["400", "401", "403", "404", "422", "quota", "503;should-retry=false"] {
            world.provider("openai").reset();
            world.provider("openai").script([fault]);
            let answer = world.caller().call(CHAT, &chat("gpt-4o")).await;
            assert!(!answer.status.is_success());
            assert_eq!(world.provider("openai").seen().len(), 1, "{fault}");
        }
    });
}

#[test]
fn inbound_only_what_may_be_repeated_is_repeated() {
    run(async {
        let world = World::new(&inbound("{max_retries: 2, backoff: [5ms]}")).await;
        for (method, tries) in [("GET", 3), ("HEAD", 3), ("PUT", 3), ("DELETE", 3), ("OPTIONS", 3), ("POST", 1), ("PATCH", 1)] {
            let before = world.app.asked();
            world.app.script([Reply::status(503), Reply::status(503)]);
            world.client().ask(Request::builder().method(method).uri("/"), "").await;
            assert_eq!(world.app.asked() - before, tries, "{method}");
            if tries == 1 {
                world.client().get("/").await;
            }
        }
        let before = world.app.asked();
        world.app.script([Reply::status(500), Reply::status(429)]);
        assert_eq!(world.client().get("/").await.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(world.client().get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(world.app.asked() - before, 2, "500 and 429 of the app are its answers");
    });
}

#[test]
fn a_connection_that_cannot_be_made_is_tried_again_whatever_the_method() {
    run(async {
        let world = World::new(&inbound("{max_retries: 2, backoff: [5ms]}")).await;
        world.dials.fail("app", [Failing::Refused, Failing::Refused]);
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        world.dials.fail("app", [Failing::Refused; 3]);
        let answer = world.client().get("/").await;
        assert_eq!(answer.status, StatusCode::OK, "the first connection is kept");
        pass(secs(5)).await;
        let answer = world.client().get("/").await;
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (StatusCode::BAD_GATEWAY, Some("connect_failed")));
    });
}

#[test]
fn retries_never_become_the_load() {
    run(async {
        let world = World::new(&outbound("{max_retries: 5, backoff: [1ms], budget: {ratio: 0.2, min_per_sec: 1}}")).await;
        world.provider("openai").script(std::iter::repeat_n("503", 2_000));
        let mut body = chat("gpt-4o");
        for at in 0..100 {
            body["seed"] = at.into();
            world.caller().call(CHAT, &body).await;
        }
        let tries = world.provider("openai").seen().len().max(world.count("outrigger_tries_total", &[]) as usize);
        assert!((101..=140).contains(&tries), "{tries} tries for 100 calls with a budget of a fifth");
        assert!(world.count("outrigger_retry_budget_exhausted_total", &[("target", "openai")]) > 50.0);
    });
}

#[test]
fn a_client_that_repeats_a_call_that_was_given_up_gets_one_try() {
    run(async {
        let world = World::new(&outbound("{max_retries: 2, backoff: [1ms]}")).await;
        world.provider("openai").script(["503"; 20]);
        let mut tries = Vec::new();
        for (body, header) in
            [(chat("gpt-4o"), "0"), (chat("gpt-4o"), "0"), (chat("gpt-4o"), "0"), (chat("o3"), "0"), (chat("o4-mini"), "1")]
        {
            let before = world.provider("openai").seen().len();
            let request = json(CHAT).header("x-stainless-retry-count", header);
            let answer = world.caller().ask(request, body.to_string()).await;
            assert_eq!(answer.header("x-should-retry"), "false");
            tries.push(world.provider("openai").seen().len() - before);
        }
        assert_eq!(tries, [3, 1, 1, 3, 1], "ours, two repeats, another call, one that says that it is a repeat");
    });
}

#[test]
fn our_own_refusals_after_the_policy_say_that_the_client_need_not_try() {
    run(async {
        let world = World::new(&outbound("{max_retries: 1, backoff: [1ms]}, breaker: {consecutive: 2, ratio: 'off'}")).await;
        world.provider("openai").script(["503", "503"]);
        world.caller().call(CHAT, &chat("gpt-4o")).await;
        let open = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert!(open.header("proxy-status").contains("breaker_open"), "{:?}", open.headers);
        assert_eq!(open.header("x-should-retry"), "false");

        let world = World::new(&outbound("{max_retries: 1, backoff: [1ms]}")).await;
        world.provider("openai").script(["hang", "hang"]);
        let late = world.caller().ask(json(CHAT).header("x-stainless-read-timeout", "2"), chat("gpt-4o").to_string()).await;
        assert!(late.header("proxy-status").contains("caller_timeout"), "{:?}", late.headers);
        assert_eq!((late.status, late.header("x-should-retry")), (StatusCode::GATEWAY_TIMEOUT, "false"));

        let world = World::new(&outbound("{max_retries: 1, backoff: [1ms]}")).await;
        world.dials.fail("openai", [Failing::Refused; 2]);
        let away = world.caller().call(CHAT, &chat("gpt-4o")).await;
        assert_eq!((away.status, away.header("x-should-retry")), (StatusCode::BAD_GATEWAY, "false"));
    });
}

#[test]
fn what_a_client_repeats_by_itself_is_drawn_from_the_budget() {
    run(async {
        let world = World::new(&outbound("{max_retries: 1, backoff: [1ms], budget: {ratio: 0.5, min_per_sec: 0.1}}")).await;
        let mut body = chat("gpt-4o");
        for (repeats, tries) in [(0, 2), (10, 1)] {
            for seed in 0..repeats {
                body["seed"] = seed.into();
                world.caller().ask(json(CHAT).header("x-stainless-retry-count", "1"), body.to_string()).await;
            }
            let before = world.provider("openai").seen().len();
            world.provider("openai").script(["503", "503"]);
            body["seed"] = (1_000 + repeats).into();
            world.caller().call(CHAT, &body).await;
            assert_eq!(world.provider("openai").seen().len() - before, tries, "after {repeats} repeats");
            world.provider("openai").reset();
            pass(secs(10)).await;
        }
    });
}

#[test]
fn a_failure_that_the_policy_does_not_cover_is_left_to_the_sdk() {
    run(async {
        for (retry, faults, expected) in [
            ("{max_retries: 2, backoff: [1ms], on: [503]}", &["500"; 9][..], ""),
            ("{max_retries: 2, backoff: [1ms]}", &["400"; 9], ""),
            ("{max_retries: 0}", &["503"; 9], ""),
            ("{max_retries: 1, backoff: [1ms]}", &["503", "400"], "false"),
        ] {
            let world = World::new(&outbound(retry)).await;
            world.provider("openai").script(faults.iter().copied());
            assert_eq!(world.caller().call(CHAT, &chat("gpt-4o")).await.header("x-should-retry"), expected, "{retry} {faults:?}");
        }
    });
}

#[test]
fn a_body_that_came_in_pieces_is_sent_again_whole() {
    run(async {
        let world = World::new(&outbound("{max_retries: 1, backoff: [5ms]}")).await;
        world.provider("openai").script(["503"]);
        let (send, body) = upload();
        let text = chat("gpt-4o").to_string();
        let (begin, end) = text.split_at(20);
        let request = json(CHAT).body(body).expect("a request");
        let caller = world.caller();
        let (opened, ()) = futures_util::join!(caller.send(request), async {
            send.send(Ok(Frame::data(Bytes::from(begin.to_owned())))).await.expect("taken");
            pass(secs(1)).await;
            send.send(Ok(Frame::data(Bytes::from(end.to_owned())))).await.expect("taken");
            drop(send);
        });
        assert_eq!(opened.status, StatusCode::OK);
        let seen = world.provider("openai").seen();
        assert_eq!((seen[0].body.as_str(), seen[1].body.as_str()), (text.as_str(), text.as_str()));
    });
}

#[test]
fn an_inbound_body_is_kept_up_to_the_buffer_and_sent_once_beyond_it() {
    run(async {
        let world = World::new(&inbound("{max_retries: 1, backoff: [5ms], replay_buffer: 10}")).await;
        world.app.script([Reply::status(503)]);
        let answer = world.client().ask(Request::put("/"), "1234567890").await;
        assert_eq!(answer.status, StatusCode::OK);
        let bodies: Vec<_> = world.app.seen().iter().map(|seen| seen.body.clone()).collect();
        assert_eq!(bodies, ["1234567890", "1234567890"]);
        world.app.script([Reply::status(503)]);
        assert_eq!(world.client().ask(Request::put("/"), "12345678901").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(world.app.asked(), 3);
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_costs_nobody_a_request() {
    run(async {
        // No policy is named: this is what always holds.
        let world = World::new("inbound: {app: 'http://app.test'}").await;
        world.client().get("/").await;
        world.app.script([Reply::close()]);
        assert_eq!(world.client().get("/").await.status, StatusCode::OK, "the close crossed the request");
        assert_eq!(world.app.asked(), 3);
        world.app.script([Reply::close()]);
        let posted = world.client().post("/", "once").await;
        assert_eq!((posted.status, world.app.asked()), (StatusCode::BAD_GATEWAY, 4), "it may have been processed");
        // A first connection that breaks is no idle one.
        world.app.script([Reply::close()]);
        assert_eq!((world.client().get("/").await.status, world.app.asked()), (StatusCode::BAD_GATEWAY, 5));
    });
}

#[test]
fn garbage_and_resets_are_errors_of_the_gateway() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}").await;
        for raw in ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "HTTP/1.1 2"] {
            world.app.raw([raw]);
            let answer = world.client().post("/", "x").await;
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{raw:?}");
            assert!(answer.header("proxy-status").starts_with("outrigger; error="), "{:?}", answer.headers);
        }
    });
}
