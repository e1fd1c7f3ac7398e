//! Who waits for whom, and for how long: bodies that need not be read, fetches that are shared, refreshes that nobody waits for.

use http::{Request, StatusCode};
use serde_json::json;

use crate::world::{Reply, World, chat, json as post, pass, run, secs, settle, upload};

#[test]
fn an_address_that_is_not_let_in_is_refused_before_its_body_is_read() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test'}}, defaults: {access: {deny: [127.0.0.0/8]}}, routes: [{match: {models: ['gpt-*']}}]}",
        )
        .await;
        let (_sending, body) = upload();
        let request = post("/openai/v1/chat/completions").body(body).expect("a request");
        let answer = world.caller().send(request).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "nothing of the body was sent");
        assert_eq!(world.shared.bodies.used(), 0);
    });
}

#[test]
fn a_route_of_a_model_that_lets_in_is_asked_once_the_model_is_known() {
    run(async {
        let world = World::new(
            "outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {access: {deny: [127.0.0.0/8]}}
  routes: [{match: {models: ['gpt-*']}, access: {allow: [127.0.0.0/8]}}]",
        )
        .await;
        for (model, expected) in [("gpt-4o", 200), ("o3", 403)] {
            assert_eq!(world.caller().call("/openai/v1/chat/completions", &chat(model)).await.status.as_u16(), expected, "{model}");
        }
    });
}

#[test]
fn who_joins_a_fetch_keeps_to_its_own_bounds() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', routes: [{match: {path: /**}, cache: {ttl: 60s}}]}").await;
        world.app.script([Reply::ok("slow").after(secs(5))]);
        let (one, two) = (world.client(), world.client());
        let hasty = Request::get("/a").header("grpc-timeout", "500m");
        let (leader, joiner) = futures_util::join!(one.get("/a"), two.ask(hasty, ""));
        assert_eq!((leader.status, joiner.status), (StatusCode::OK, StatusCode::GATEWAY_TIMEOUT));
        assert!(joiner.took < secs(2), "{:?}: half a second, and a second for its clock", joiner.took);
        assert_eq!(world.app.asked(), 1);
    });
}

#[test]
fn refreshes_are_few_at_once_and_each_has_a_line_of_its_own() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test', bounds: {max_requests: 20}, routes: [{match: {path: /**}, cache: {ttl: 1s, stale_while_revalidate: 1h}}]}",
        )
        .await;
        let clients = [world.client(), world.client_elsewhere()];
        for at in 0..400 {
            clients[at % 2].get(&format!("/{at}")).await;
        }
        pass(secs(5)).await;
        world.app.always(Reply::ok("fresh").after(secs(1)));
        let before = world.app.asked();
        for at in 0..400 {
            assert!(clients[at % 2].get(&format!("/{at}")).await.header("cache-status").contains("hit"));
        }
        assert_eq!(world.app.asked() - before, 10, "half of what the door may have in hand, of both workers together");
        pass(secs(3)).await;
        assert_eq!(world.count("outrigger_cache_refreshes_total", &[("result", "done")]), 10.0);
        let lines = world.log().await;
        let refreshes: Vec<_> = lines.iter().filter(|line| line["cache"] == "refresh").collect();
        assert_eq!(refreshes.len(), 10);
        assert_eq!(
            (&refreshes[0]["caller"], &refreshes[0]["outcome"], &refreshes[0]["status"]),
            (&json!("outrigger"), &json!("complete"), &json!(200))
        );
        assert_eq!(world.count("outrigger_requests_total", &[]), 800.0, "a refresh is nobody's request");
    });
}

#[test]
fn a_free_reconnect_says_nothing_of_the_targets_health() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', defaults: {breaker: {consecutive: 1, ratio: 'off'}}}").await;
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        world.app.script([Reply::close(), Reply::ok("again")]);
        let answer = world.client().get("/").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "again"));
        assert_eq!(world.count("outrigger_retries_total", &[("reason", "safe_reconnect")]), 1.0);
        assert_eq!(world.breaker("app"), Some(outrigger::policy::breaker::State::Closed));
    });
}

#[test]
fn every_answer_tells_the_id_under_which_the_log_has_it() {
    run(async {
        let world = World::new(
            "{inbound: {app: 'http://app.test', limits: [{key: client_ip, requests: 1, window: 1m}]}, outbound: {providers: {openai: {url: 'http://o.test'}}}}",
        )
        .await;
        let mut ids = vec![world.client().get("/").await.header("x-request-id").to_owned()];
        let limited = world.client().get("/").await;
        let unknown = world.caller().ask(Request::get("/nobody/v1/x"), "").await;
        let ambiguous = world.caller().ask(Request::get("/openai/v1/a/../models"), "").await;
        for (refused, place) in [(&limited, "/request_id"), (&unknown, "/request_id"), (&ambiguous, "/error/request_id")] {
            ids.push(refused.header("x-request-id").to_owned());
            assert_eq!(refused.json().pointer(place), Some(&json!(refused.header("x-request-id"))), "{}", refused.text());
        }
        settle().await;
        let logged: Vec<String> = world.log().await.iter().map(|line| line["request_id"].as_str().expect("an id").to_owned()).collect();
        assert_eq!(ids, logged);
        assert!(ids.iter().all(|id| !id.is_empty()));
    });
}

#[test]
fn a_refusal_has_the_id_where_the_providers_sdk_looks_for_it() {
    run(async {
        let world = World::new(
            "outbound: {providers: {anthropic: {url: 'http://a.test'}, bedrock: {url: 'http://b.test', api: bedrock}}, limits: [{key: global, requests: 1, window: 1h}]}",
        )
        .await;
        world.caller().ask(Request::get("/anthropic/v1/models"), "").await;
        for (path, field, place) in [
            ("/anthropic/v1/messages", "request-id", "/request_id"),
            ("/bedrock/model/m/converse", "x-amzn-requestid", "/requestId"),
            ("/anthropic/v1/a/../messages", "request-id", "/request_id"),
        ] {
            let refused = world.caller().ask(post(path), "{}").await;
            assert!(refused.status.is_client_error(), "{path}: {}", refused.status);
            let id = refused.header("x-request-id");
            assert_eq!((refused.header(field), refused.json().pointer(place)), (id, Some(&json!(id))), "{path}: {}", refused.text());
        }
    });
}
