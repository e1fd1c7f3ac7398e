//! What a spent limit does instead of refusing: a cheaper model, stored answers alone, a person's yes.

use http::{Request, StatusCode};
use serde_json::json;

use crate::world::{Answer, World, chat, ms, pass, run, secs, settle};

const CHAT: &str = "/openai/v1/chat/completions";

/// The models that a provider was asked for, in order.
fn models(world: &World, provider: &str) -> Vec<String> {
    let seen = world.provider(provider).seen();
    let model =
        |body: &str| serde_json::from_str::<serde_json::Value>(body).expect("json")["model"].as_str().unwrap_or_default().to_owned();
    seen.iter().map(|seen| model(&seen.body)).collect()
}

fn acted(world: &World, action: &str) -> f64 {
    world.count("outrigger_limit_actions_total", &[("limit", "budget"), ("action", action)])
}

async fn call(world: &World, model: &str) -> Answer {
    world.caller().call(CHAT, &chat(model)).await
}

#[test]
fn calls_go_to_a_cheaper_model_once_the_budget_is_spent_and_are_charged() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}, other: {api: openai, url: 'http://p.test'}}
  limits: [{name: budget, key: global, usd: 0.001, window: 1h, on_limit: {degrade: {model: gpt-4o-mini, provider: other}}}]
  routes: [{name: chat, match: {operation: chat}, cache: {ttl: 1d}}]
",
        )
        .await;
        let first = call(&world, "gpt-4o").await;
        assert_eq!((first.status, first.header("outrigger-answered-by")), (StatusCode::OK, ""));
        let body = json!({"model": "gpt-4o", "max_tokens": 90, "messages": [{"role": "user", "content": "another"}]});
        let second = world.caller().call(CHAT, &body).await;
        assert_eq!((second.status, second.header("outrigger-answered-by")), (StatusCode::OK, "other/gpt-4o-mini"));
        assert_eq!((models(&world, "openai"), models(&world, "other")), (vec!["gpt-4o".to_owned()], vec!["gpt-4o-mini".to_owned()]));
        assert_eq!(acted(&world, "degraded"), 1.0);
        // What a cheaper model says is not kept for the one that was asked.
        assert_eq!(world.caller().call(CHAT, &body).await.status, StatusCode::OK);
        assert_eq!(models(&world, "other").len(), 2);
        let billed: u64 = ["openai", "other"].map(|name| world.provider(name).billed().2).iter().sum();
        let spent: u64 = world.shared.spend.by_caller().iter().map(|(_, spent)| spent.nano_usd).sum();
        assert_eq!(spent, billed, "to the nano-dollar");
        pass(secs(3_600 + 180)).await;
        assert_eq!(world.caller().call(CHAT, &body).await.header("outrigger-answered-by"), "", "a new hour");
        let logged: Vec<(String, String)> = world
            .log()
            .await
            .iter()
            .map(|line| ["asked_model", "model"].map(|name| line[name].as_str().unwrap_or_default().to_owned()).into())
            .collect();
        let pair = |asked: &str, model: &str| (asked.to_owned(), model.to_owned());
        assert_eq!(logged[..2], [pair("", "gpt-4o"), pair("gpt-4o", "gpt-4o-mini")]);
    });
}

#[test]
fn a_call_that_cannot_go_to_the_cheaper_model_is_refused() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}, anthropic: {url: 'http://a.test'}}
  limits: [{name: budget, key: global, requests: 1, window: 1h, on_limit: {degrade: {model: gpt-4o-mini, provider: openai}}},
           {name: most, key: global, requests: 3, window: 1h}]
",
        )
        .await;
        assert_eq!(call(&world, "gpt-4o").await.status, StatusCode::OK);
        let foreign = crate::world::json("/anthropic/v1/messages").header("anthropic-version", "2023-06-01");
        let refused = world.caller().ask(foreign, chat("claude-sonnet-4-5").to_string()).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "it speaks another API");
        assert_eq!(call(&world, "gpt-4o").await.status, StatusCode::OK);
        assert_eq!(call(&world, "gpt-4o-mini").await.status, StatusCode::OK, "what asks for the cheaper model goes on");
        assert_eq!(call(&world, "gpt-4o").await.status, StatusCode::TOO_MANY_REQUESTS, "a limit that refuses has the last word");
        assert_eq!(models(&world, "openai"), ["gpt-4o", "gpt-4o-mini", "gpt-4o-mini"]);
    });
}

#[test]
fn a_user_who_has_spent_it_goes_on_with_a_cheaper_model() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id]
  limits: [{name: budget, key: caller, usd: 0.001, window: 1h, on_limit: {degrade: {model: gpt-4o-mini}}}]
outbound: {providers: {openai: {url: 'http://o.test'}}}
",
        )
        .await;
        let arrive = || async {
            let answer = world.client().from("10.0.0.1").ask(Request::get("/chat").header("x-user-id", "alice"), "").await;
            assert_eq!(answer.status, StatusCode::OK, "the act is on the calls");
            world.app.seen().last().expect("asked").header("baggage").to_owned()
        };
        for _ in 0..4 {
            let baggage = arrive().await;
            let answer = world.caller().ask(crate::world::json(CHAT).header("baggage", baggage), chat("gpt-4o").to_string()).await;
            assert_eq!(answer.status, StatusCode::OK);
        }
        let asked = models(&world, "openai");
        assert_eq!((asked[0].as_str(), asked[3].as_str()), ("gpt-4o", "gpt-4o-mini"), "{asked:?}");
        assert!(acted(&world, "degraded") >= 1.0);
    });
}

#[test]
fn only_stored_answers_pass_once_the_limit_is_spent() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  limits: [{name: budget, key: client_ip, requests: 2, window: 1h, on_limit: cache_only}]
  routes: [{match: {path: /kept/*}, cache: {ttl: 1d}}]
",
        )
        .await;
        let client = world.client();
        assert_eq!(client.get("/kept/a").await.status, StatusCode::OK);
        assert_eq!(client.get("/kept/b").await.status, StatusCode::OK);
        for _ in 0..3 {
            let hit = client.get("/kept/a").await;
            assert!(hit.status == StatusCode::OK && hit.header("cache-status").contains("hit"), "{:?}", hit.headers);
        }
        let missed = client.get("/kept/c").await;
        assert_eq!((missed.status, missed.json()["reason"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some("limited")));
        assert_eq!(client.get("/other").await.status, StatusCode::TOO_MANY_REQUESTS, "a route without a cache");
        assert_eq!((world.app.asked(), acted(&world, "cache_only"), world.limit("budget")), (2, 4.0, (2, 2, 0)));
    });
}

#[test]
fn stored_answers_that_pass_a_spent_limit_count_in_the_others() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  limits: [{name: budget, key: client_ip, requests: 1, window: 1h, on_limit: cache_only}, {name: flood, key: client_ip, requests: 4, window: 1m}]
  routes: [{match: {path: /kept/*}, cache: {ttl: 1d}}]
",
        )
        .await;
        let client = world.client();
        assert_eq!(client.get("/kept/a").await.status, StatusCode::OK);
        for _ in 0..2 {
            assert_eq!(client.get("/kept/a").await.status, StatusCode::OK);
        }
        assert_eq!(client.get("/kept/b").await.status, StatusCode::TOO_MANY_REQUESTS, "not stored");
        let hit = client.get("/kept/a").await;
        assert_eq!((hit.status, world.limit("flood"), world.app.asked()), (StatusCode::TOO_MANY_REQUESTS, (4, 1, 0), 1), "{}", hit.text());
        assert!(hit.text().contains("`flood`"), "{}", hit.text());
        assert_eq!(world.limit("budget"), (1, 2, 0), "what passes a spent limit is not counted in it");
    });
}

#[test]
fn a_yes_is_for_one_limit_and_the_others_still_ask() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test', limits: [{name: one, key: client_ip, requests: 1, window: 1h, on_limit: ask},
              {name: two, key: client_ip, requests: 1, window: 2h, on_limit: ask}]}",
        )
        .await;
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        for (answers, status) in [(vec![true, false], 429), (vec![true, true], 200)] {
            let client = world.client();
            let asked = tokio::task::spawn_local(async move { client.get("/").await });
            let mut limits = Vec::new();
            for yes in answers {
                settle().await;
                let (id, about, _) = world.shared.approvals.list().pop().expect("held");
                limits.push(about.limit.to_string());
                assert!(world.shared.approvals.answer(&id, yes));
            }
            assert_eq!((asked.await.expect("answered").status.as_u16(), limits.join(" ")), (status, "two one".to_owned()));
        }
        assert_eq!((world.limit("one").0, world.app.asked()), (2, 2));
    });
}

#[test]
fn a_cheaper_model_is_the_act_of_the_limits_that_name_it() {
    run(async {
        for (second, calls) in [("gpt-4o-mini", vec!["gpt-4o", "gpt-4o-mini"]), ("gpt-4.1-nano", vec!["gpt-4o"])] {
            let world = World::new(&format!(
                "
outbound:
  providers: {{openai: {{url: 'http://o.test'}}}}
  limits: [{{name: one, key: global, requests: 1, window: 1h, on_limit: {{degrade: {{model: gpt-4o-mini}}}}}},
           {{name: two, key: global, requests: 1, window: 2h, on_limit: {{degrade: {{model: {second}}}}}}}]
"
            ))
            .await;
            call(&world, "gpt-4o").await;
            let status = call(&world, "gpt-4o").await.status;
            assert_eq!((status == StatusCode::OK, models(&world, "openai").join(" ")), (calls.len() == 2, calls.join(" ")), "{second}");
        }
    });
}

#[test]
fn a_request_waits_for_a_yes() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test', limits: [{name: budget, key: client_ip, requests: 1, window: 1h,
              on_limit: {ask: {wait: 1m, max: 2}}}]}",
        )
        .await;
        assert_eq!(world.client().get("/").await.status, StatusCode::OK);
        let spawn = |path: &'static str| {
            let client = world.client();
            tokio::task::spawn_local(async move { client.get(path).await })
        };
        let held = || world.shared.approvals.list();
        let (first, second) = (spawn("/first"), spawn("/second"));
        settle().await;
        assert_eq!(held().len(), 2);
        assert_eq!(world.app.asked(), 1);
        let third = world.client().get("/third").await;
        assert_eq!((third.status, third.json()["reason"].as_str()), (StatusCode::TOO_MANY_REQUESTS, Some("not_approved")), "too many wait");
        let id = |what: &str| held().into_iter().find(|(_, about, _)| about.what == what).expect("held").0;
        assert!(world.shared.approvals.answer(&id("GET /first"), true));
        assert_eq!(first.await.expect("answered").status, StatusCode::OK);
        assert!(world.shared.approvals.answer(&id("GET /second"), false));
        assert_eq!(second.await.expect("answered").json()["reason"], "not_approved");

        let leaves = spawn("/leaves");
        settle().await;
        leaves.abort();
        settle().await;
        assert_eq!(held(), [], "a client that goes away is forgotten");

        let late = world.client().get("/late").await;
        assert_eq!(late.status, StatusCode::TOO_MANY_REQUESTS);
        assert!((secs(60)..secs(60) + ms(10)).contains(&late.took), "{:?}", late.took);
        let counts = ["asked", "approved", "declined", "unanswered", "not_held"].map(|action| acted(&world, action));
        assert_eq!(counts, [4.0, 1.0, 1.0, 1.0, 1.0]);
    });
}

#[test]
fn a_model_call_that_waits_for_a_yes_is_told_with_its_cost_and_is_charged() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test'}}, limits: [{name: budget, key: global, usd: 0.0005, window: 1h, on_limit: ask}]}",
        )
        .await;
        let caller = world.caller();
        let pending = tokio::task::spawn_local(async move { caller.call(CHAT, &chat("gpt-4o")).await });
        settle().await;
        let (id, about, _) = world.shared.approvals.list().pop().expect("held");
        assert_eq!((&*about.limit, about.what.as_str()), ("budget", "openai gpt-4o"));
        assert!(about.nano_usd.is_some_and(|cost| cost > 500_000), "{about:?}");
        pass(secs(300)).await;
        assert!(world.shared.approvals.answer(&id, true));
        assert_eq!(pending.await.expect("answered").status, StatusCode::OK);
        assert_eq!(world.limit("budget"), (1, 0, 0));
        let spent: u64 = world.shared.spend.by_caller().iter().map(|(_, spent)| spent.nano_usd).sum();
        assert_eq!(spent, world.provider("openai").billed().2);
    });
}

#[test]
fn a_webhook_is_told_of_a_held_request_and_the_request_waits_whether_it_is_or_not() {
    run(async {
        let world = World::new(
            "outbound:
  providers: {openai: {url: 'http://o.test'}}
  limits: [{name: budget, key: global, usd: 0.0005, window: 1h, on_limit: {ask: {wait: 1m, webhook: 'https://yes.test/ask',
            secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw}}}]
  routes: [{name: talk, match: {operation: chat}}]
",
        )
        .await;
        let caller = world.caller();
        let hold = || {
            let caller = caller.clone();
            tokio::task::spawn_local(async move { caller.call(CHAT, &chat("gpt-4o")).await })
        };
        let lost = || world.count("outrigger_limit_webhooks_total", &[("limit", "budget"), ("outcome", "lost")]);
        let untold = hold();
        settle().await;
        assert_eq!((world.shared.approvals.count(), lost()), (1, 1.0), "nobody posts: it waits, and that is counted");
        let (id, ..) = world.shared.approvals.list().pop().expect("held");
        assert!(world.shared.approvals.answer(&id, true));
        assert_eq!(untold.await.expect("answered").status, StatusCode::OK);

        let mut pleas = world.shared.approvals.pleas().expect("nobody has them");
        assert!(world.shared.approvals.pleas().is_none(), "one has them");
        let told = hold();
        settle().await;
        let plea = pleas.try_recv().expect("a plea");
        let about = &plea.about;
        assert_eq!((&*about.limit, &*about.route, about.terms.as_str()), ("budget", "talk", "$0.0005 per hour"));
        assert_eq!(about.model, Some(("openai".into(), Some("gpt-4o".into()))));
        assert_eq!((plea.wait, plea.hook.decides, world.shared.approvals.holds(&plea.id)), (secs(60), true, true));
        pass(secs(61)).await;
        assert_eq!(told.await.expect("answered").json()["error"]["type"], "insufficient_quota", "nobody has said yes");
        assert_eq!((world.shared.approvals.holds(&plea.id), lost()), (false, 1.0));
    });
}
