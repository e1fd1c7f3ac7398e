//! Several addresses of one target: the choice, a member that fails, a member that comes back.

use http::StatusCode;
use outrigger::policy::breaker::State;
use serde_json::json;

use crate::world::{Failing, Opened, Reply, World, chat, ms, pass, run, secs, settle, upload};

const ONE: &str = "{url: 'http://10.0.0.1:80', name: a}";
const TWO: &str = "{url: 'http://10.0.0.2:80', name: b}";

/// Two members of the app; `balance` is the choice, `rest` is what else the door has.
async fn two(balance: &str, rest: &str) -> World {
    World::new(&format!("inbound:\n  app: [{ONE}, {TWO}]\n  app_balance: {balance}\n  {rest}")).await
}

fn served(world: &World, member: &str) -> usize {
    world.member(member).seen().len()
}

#[test]
fn each_member_serves_in_its_turn_and_by_its_weight() {
    run(async {
        let world = World::new(
            "inbound:\n  app: [{url: 'http://a', name: a, weight: 3}, {url: 'http://b/base', name: b}]\n  app_balance: {choose: in_turn}",
        )
        .await;
        for _ in 0..8 {
            assert_eq!(world.client().get("/x").await.status, StatusCode::OK);
        }
        assert_eq!((served(&world, "a"), served(&world, "b")), (6, 2));
        assert_eq!(world.member("b").seen()[0].target, "/base/x", "each has its own base path");
        assert_eq!(world.count("outrigger_tries_total", &[("target", "app:a"), ("outcome", "ok")]), 6.0);
        let lines = world.log().await;
        assert!(lines.iter().all(|line| ["app:a", "app:b"].contains(&line["target"].as_str().expect("named"))), "{}", lines[0]);
    });
}

#[test]
fn a_member_that_is_down_costs_no_client_a_request_and_is_left_out() {
    run(async {
        let world = two("{choose: in_turn}", "").await;
        world.dials.fail("app:b", [Failing::Refused; 100]);
        for n in 0..20 {
            // A body too: the member that refuses has read nothing of it.
            let answer = if n % 2 == 0 { world.client().get("/").await } else { world.client().post("/", "body").await };
            assert_eq!(answer.status, StatusCode::OK, "{n}");
        }
        assert_eq!(served(&world, "a"), 20);
        assert_eq!(world.breaker("app:b@(balance)"), Some(State::Open));
        let tried = world.count("outrigger_tries_total", &[("target", "app:b"), ("outcome", "connect_failed")]);
        assert_eq!(tried, 3.0, "left out after three failures");
        assert_eq!(world.count("outrigger_retries_total", &[("target", "app:b"), ("reason", "another_member")]), 3.0);
    });
}

#[test]
fn a_body_that_streams_goes_to_another_member_whatever_its_length() {
    run(async {
        let world = two("{choose: in_turn}", "").await;
        world.member("b").always(Reply::echo());
        world.dials.fail("app:a", [Failing::Refused]);
        let (sender, body) = upload();
        let client = world.client();
        let sending = async {
            for _ in 0..40 {
                let piece = bytes::Bytes::from_static(&[b'x'; 8192]);
                sender.send(Ok(http_body::Frame::data(piece))).await.expect("read");
            }
            drop(sender);
        };
        let request = http::Request::post("/").header("host", "shop.test").body(body).expect("a request");
        let (answer, ()) = tokio::join!(async { Opened::whole(client.send(request).await).await }, sending);
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, 40 * 8192));
        assert_eq!(served(&world, "b"), 1);
    });
}

#[test]
fn a_member_that_comes_back_is_asked_again_and_serves_its_share() {
    run(async {
        let world = two("{choose: in_turn, failures: 1, rest: 5s}", "").await;
        world.dials.fail("app:a", [Failing::Refused]);
        for _ in 0..4 {
            world.client().get("/").await;
        }
        assert_eq!((served(&world, "a"), served(&world, "b")), (0, 4));
        pass(secs(7)).await;
        for _ in 0..8 {
            assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        }
        assert_eq!((served(&world, "a"), world.breaker("app:a@(balance)")), (4, Some(State::Closed)));
    });
}

#[test]
fn where_every_member_is_left_out_they_are_all_asked_unless_the_route_has_a_breaker() {
    run(async {
        for (rest, status) in [("", StatusCode::OK), ("defaults: {breaker: {consecutive: 1}}", StatusCode::SERVICE_UNAVAILABLE)] {
            let world = two("{failures: 1}", rest).await;
            world.dials.fail("app:a", [Failing::Refused]);
            world.dials.fail("app:b", [Failing::Refused]);
            let first = world.client().get("/").await;
            assert_eq!(first.status, StatusCode::BAD_GATEWAY, "neither was reached: {rest}");
            let name = |member: &str| if rest.is_empty() { format!("app:{member}@(balance)") } else { format!("app:{member}") };
            assert_eq!(["a", "b"].map(|member| world.breaker(&name(member))), [Some(State::Open); 2], "{rest}");
            let second = world.client().get("/").await;
            assert_eq!(second.status, status, "{rest}: {}", second.text());
            if status == StatusCode::SERVICE_UNAVAILABLE {
                assert!(second.text().contains("app:") || second.text().contains("app"), "{}", second.text());
                assert!(second.retry_after() <= secs(8));
            }
        }
    });
}

#[test]
fn a_retry_avoids_the_member_that_has_failed() {
    run(async {
        let world = two("{choose: in_turn}", "defaults: {retry: {max_retries: 1, backoff: [10ms]}}").await;
        world.member("a").always(Reply::status(503));
        for _ in 0..10 {
            assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        }
        assert_eq!(world.breaker("app:a@(balance)"), Some(State::Open), "three answers of 503");
        assert_eq!(served(&world, "a"), 3);
    });
}

#[test]
fn a_request_that_may_have_been_processed_goes_to_no_other_member() {
    run(async {
        let world = two("{choose: in_turn}", "").await;
        world.member("a").always(Reply::close());
        assert_eq!(world.client().post("/", "pay").await.status, StatusCode::BAD_GATEWAY);
        assert_eq!((served(&world, "a"), served(&world, "b")), (1, 0));
    });
}

#[test]
fn work_under_way_counts_until_the_answer_has_ended() {
    run(async {
        let world = two("{}", "").await;
        let slow = || Reply::paced(secs(60), &["one", "two"]);
        for member in ["a", "b"] {
            world.member(member).always(slow());
        }
        let client = world.client();
        let mut open = Vec::new();
        for _ in 0..20 {
            open.push(client.open(http::Request::get("/").header("host", "shop.test"), "").await);
            settle().await;
        }
        let (a, b) = (served(&world, "a"), served(&world, "b"));
        assert!(a.abs_diff(b) <= 4, "by work under way: {a} and {b}");
        drop(open);
        pass(ms(10)).await;
        let states: Vec<_> = world.shared.members.lock().values().map(|member| member.underway()).collect();
        assert_eq!(states, [0, 0], "all of it is over");
    });
}

#[test]
fn a_sticky_caller_stays_with_its_member_while_it_serves() {
    run(async {
        let world = two("{choose: sticky, key: 'header:x-session'}", "").await;
        let ask = async |session: &str| {
            let answer = world.client().ask(http::Request::get("/").header("host", "h").header("x-session", session), "").await;
            assert_eq!(answer.status, StatusCode::OK);
        };
        for n in 0..20 {
            for _ in 0..3 {
                ask(&n.to_string()).await;
            }
        }
        let of = |member: &str| {
            let seen = world.member(member).seen();
            seen.iter().map(|seen| seen.header("x-session").to_owned()).collect::<std::collections::HashSet<_>>()
        };
        assert!(of("a").is_disjoint(&of("b")), "each session at one member");
        assert!(of("a").len() > 3 && of("b").len() > 3);
        let moved = of("a");
        world.dials.fail("app:a", [Failing::Refused; 100]);
        // Connections to it that are open are closed by it.
        pass(secs(5)).await;
        for session in &moved {
            ask(session).await;
        }
        assert!(moved.is_subset(&of("b")), "another member serves them meanwhile");
    });
}

#[test]
fn a_backup_serves_where_no_other_member_does() {
    run(async {
        let world = World::new("inbound: {app: [{url: 'http://a', name: a}, {url: 'http://b', name: b, backup: true}]}").await;
        world.client().get("/").await;
        assert_eq!((served(&world, "a"), served(&world, "b")), (1, 0));
        world.dials.fail("app:a", [Failing::Refused; 100]);
        pass(secs(5)).await;
        for _ in 0..5 {
            assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        }
        assert_eq!(served(&world, "b"), 5);
    });
}

#[test]
fn a_member_is_taken_out_by_hand_and_back() {
    run(async {
        let world = two("{choose: in_turn}", "").await;
        world.client().get("/").await;
        let now = tokio::time::Instant::now();
        assert_eq!(world.shared.breakers.hold("app:a", now), ["app:a@(balance)".into()]);
        for _ in 0..6 {
            world.client().get("/").await;
        }
        let before = served(&world, "a");
        assert!(before <= 1 && served(&world, "b") >= 6);
        world.shared.breakers.release("app:a", now);
        for _ in 0..6 {
            world.client().get("/").await;
        }
        assert_eq!(served(&world, "a"), before + 3);
    });
}

#[test]
fn a_reload_keeps_what_is_known_of_a_member_and_takes_in_another() {
    run(async {
        let world = two("{choose: in_turn, failures: 1}", "").await;
        world.dials.fail("app:b", [Failing::Refused]);
        for _ in 0..3 {
            world.client().get("/").await;
        }
        assert_eq!(world.breaker("app:b@(balance)"), Some(State::Open));
        let three = "{url: 'http://10.0.0.3:80', name: c}";
        world.reload(&format!("inbound:\n  app: [{ONE}, {TWO}, {three}]\n  app_balance: {{choose: in_turn, failures: 1}}")).expect("valid");
        for _ in 0..4 {
            assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        }
        assert_eq!((served(&world, "b"), world.breaker("app:b@(balance)")), (0, Some(State::Open)));
        assert!(served(&world, "c") >= 1);
        world.reload("inbound: {app: 'http://10.0.0.1'}").expect("valid");
        assert_eq!(world.breaker("app:b@(balance)"), None, "it is forgotten with its target");
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
    });
}

#[test]
fn endpoints_of_a_provider_are_members_and_share_its_keys() {
    run(async {
        let world = World::new(
            "outbound:\n  providers:\n    openai: {url: [{url: 'http://eu', name: eu}, {url: 'http://us', name: us, backup: true}], \
             keys: [k1, k2]}\n  defaults: {breaker: {consecutive: 2}, retry: {max_retries: 2, backoff: [10ms]}}",
        )
        .await;
        let call = async || world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        for _ in 0..4 {
            let answer = call().await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        assert_eq!(world.provider("openai:eu").seen().len(), 4);
        assert!(world.breaker("openai:eu#1/gpt-4o").is_some() && world.breaker("openai:eu#2/gpt-4o").is_some(), "one for each key there");
        world.provider("openai:eu").script(["503"; 40]);
        for _ in 0..6 {
            assert_eq!(call().await.status, StatusCode::OK, "the other region serves");
        }
        assert!(world.provider("openai:us").seen().len() >= 6);
        let now = tokio::time::Instant::now();
        assert_eq!(world.shared.breakers.hold("openai", now).len(), 4, "a whole target with its members and keys");
        let line = world.log().await.pop().expect("a line");
        assert_eq!((&line["target"], &line["provider"]), (&json!("openai:us"), &json!("openai")), "{line}");
    });
}

#[test]
fn what_a_person_holds_open_stays_out_and_a_whole_target_can_be_held() {
    run(async {
        let world = two("{choose: in_turn, failures: 1}", "").await;
        let now = tokio::time::Instant::now();
        world.client().get("/").await;
        world.client().get("/").await;
        world.shared.breakers.hold("app:a", now);
        world.member("b").always(Reply::status(503));
        let before = served(&world, "a");
        for _ in 0..4 {
            assert_eq!(world.client().get("/").await.status, StatusCode::SERVICE_UNAVAILABLE);
        }
        assert_eq!(served(&world, "a"), before, "it is under maintenance, whatever the other one does");
        world.shared.breakers.hold("app", now);
        let before = (served(&world, "a"), served(&world, "b"));
        let refused = world.client().get("/").await;
        assert_eq!((refused.status, (served(&world, "a"), served(&world, "b"))), (StatusCode::SERVICE_UNAVAILABLE, before));
        assert!(refused.text().contains("breaker_open"), "{}", refused.text());
    });
}

#[test]
fn a_member_without_a_breaker_and_one_with_a_breaker_of_its_route_are_told_apart() {
    run(async {
        let routes = "routes: [{match: {path: /guarded}, breaker: {consecutive: 9}}]";
        let world = two("{choose: in_turn, failures: 1}", routes).await;
        for path in ["/guarded", "/guarded", "/", "/"] {
            world.client().get(path).await;
        }
        world.member("a").always(Reply::status(503));
        for _ in 0..2 {
            world.client().get("/").await;
        }
        assert_eq!((world.breaker("app:a@(balance)"), world.breaker("app:a")), (Some(State::Open), Some(State::Closed)));
        assert_eq!(world.shared.breakers.hold("app:a", tokio::time::Instant::now()).len(), 2, "an order by hand means both");
    });
}

#[test]
fn a_connection_that_was_closed_while_idle_does_not_move_a_sticky_request() {
    run(async {
        let world = two("{choose: sticky, key: 'header:x-session', failures: 1}", "").await;
        let ask = async || world.client().ask(http::Request::get("/").header("host", "h").header("x-session", "7"), "").await;
        assert_eq!(ask().await.status, StatusCode::OK);
        let mine = if served(&world, "a") == 1 { "a" } else { "b" };
        world.member(mine).script([Reply::close()]);
        assert_eq!(ask().await.status, StatusCode::OK, "sent once more over another connection");
        assert_eq!(served(&world, mine), 3, "to the same member");
        assert_ne!(world.breaker(&format!("app:{mine}@(balance)")), Some(State::Open));
    });
}

#[test]
fn a_member_that_is_left_out_takes_no_key() {
    run(async {
        let url = "[{url: 'http://o1', name: near}, {url: 'http://o2', name: far, backup: true}]";
        let world = World::new(&format!(
            "outbound:\n  providers:\n    openai: {{url: {url}, balance: {{failures: 1, rest: 1h, longest_rest: 1h}}, keys: [k1, k2]}}"
        ))
        .await;
        let call = async || world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await.status;
        world.dials.fail("openai:near", [Failing::Refused; 9]);
        assert_eq!(call().await, StatusCode::OK, "the other region serves");
        world.provider("openai:far").script(["quota", "429;retry-after=600"]);
        call().await;
        // One key rests for ten minutes, the other one is tried again after its quarantine: at the member that serves.
        pass(secs(62)).await;
        for _ in 0..3 {
            assert_eq!(call().await, StatusCode::OK);
        }
    });
}

#[test]
fn a_provider_that_is_overloaded_in_its_own_words_is_left_out_without_any_policy() {
    run(async {
        let url = "[{url: 'http://o1', name: one}, {url: 'http://o2', name: two, backup: true}]";
        let world = World::new(&format!("outbound: {{providers: {{openai: {{url: {url}, balance: {{failures: 2}}}}}}}}")).await;
        world.provider("openai:one").script(["500"; 9]);
        for _ in 0..5 {
            world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        }
        assert_eq!((world.provider("openai:one").seen().len(), world.provider("openai:two").seen().len()), (2, 3));
    });
}

#[test]
fn from_one_address_to_several_the_breaker_of_the_one_is_forgotten() {
    run(async {
        let world = World::new("inbound: {app: 'http://10.0.0.1', defaults: {breaker: {consecutive: 1}}}").await;
        world.app.always(Reply::status(503));
        world.client().get("/").await;
        assert_eq!(world.breaker("app"), Some(State::Open));
        world.reload(&format!("inbound: {{app: [{ONE}, {TWO}], defaults: {{breaker: {{consecutive: 1}}}}}}")).expect("valid");
        assert_eq!(world.breaker("app"), None);
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
    });
}
