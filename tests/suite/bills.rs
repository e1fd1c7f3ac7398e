//! Who pays for a try, and how much: the sums of limits, spend, metrics and log lines are those of the provider's own books.

use http::{Request, StatusCode};
use outrigger::store::ledger::{Measure, Question};
use serde_json::{Value, json};

use crate::world::{Answer, Opened, Reply, World, chat, json as post, ms, run, secs, settle};

const CHAT: &str = "/openai/v1/chat/completions";

/// Dollars by caller and of all, a cache, and whatever else.
fn door(rest: &str) -> String {
    format!(
        "outbound:
  providers: {{openai: {{url: 'http://o.test'}}, groq: {{url: 'http://g.test', api: openai}}}}
  limits: [{{name: all, key: global, usd: 1000, window: 1d, unpriced: allow}}, {{name: each, key: caller, usd: 1000, window: 1d, unpriced: allow}}]
  {rest}"
    )
}

fn stream(model: &str) -> Value {
    let mut call = chat(model);
    call["stream"] = json!(true);
    call
}

/// A call in the name of `caller`.
fn by(caller: &str) -> http::request::Builder {
    post(CHAT).header("outrigger-caller", caller)
}

async fn ask(world: &World, caller: &str, body: &Value) -> Answer {
    world.caller().ask(by(caller), body.to_string()).await
}

async fn open(world: &World, caller: &str, body: &Value) -> Opened {
    world.caller().open(by(caller), body.to_string()).await
}

/// What a limit says is used, in nano-dollars.
async fn used(world: &World, limit: &str, caller: &str) -> u64 {
    // Of this path nothing is known: it is asked of the limits, and costs nothing.
    let request = Request::post("/openai/v1/something/new").header("outrigger-caller", caller).header("host", "localhost");
    let answer = world.caller().ask(request, "").await;
    let mut states = answer.headers.get_all("ratelimit").iter().flat_map(|field| field.to_str().expect("text").split(", "));
    let state = states.find(|state| state.starts_with(&format!("\"{limit}\""))).expect("the limit's state").to_owned();
    let left: u64 = state.split("r=").nth(1).expect("r").split(';').next().expect("a number").parse().expect("a number");
    1_000_000_000_000 - left
}

/// Checks that all sums are equal, and gives them back in nano-dollars.
async fn sums(world: &World) -> u64 {
    settle().await;
    let limit = used(world, "all", "nobody").await;
    let spent: u64 = world.shared.spend.by_caller().iter().map(|(_, spent)| spent.nano_usd).sum();
    assert_eq!(limit, spent, "the limit and the spend by caller");
    let counted = world.count("outrigger_cost_usd_total", &[]);
    assert!((counted * 1e9 - spent as f64).abs() < 0.5, "metrics say {counted}, the books {spent}");
    let logged: f64 = world.log().await.iter().filter_map(|line| line["cost_usd"].as_f64()).sum();
    assert!((logged * 1e9 - spent as f64).abs() < 0.5, "log lines say {logged}, the books {spent}");
    let total = in_ledger(world, "by=known", "");
    assert_eq!(total, spent, "the ledger and the spend by caller");
    spent
}

/// The ledger's nano-dollars of a name.
fn in_ledger(world: &World, query: &str, name: &str) -> u64 {
    let pairs = format!("from=30d&{query}");
    let pairs = pairs.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()));
    let question = Question::read(pairs, world.shared.clock.unix_millis() + 60_000).expect("a question");
    let answer = world.shared.ledger.ask(&question).expect("an answer");
    let rows = answer.rows.iter().filter(|row| name.is_empty() || row.names.iter().any(|known| **known == *name));
    rows.map(|row| row.sums.get(Measure::NanoUsd)).sum()
}

fn spent_by(world: &World, caller: &str) -> u64 {
    world.shared.spend.by_caller().iter().find(|(name, _)| **name == *caller).map_or(0, |(_, spent)| spent.nano_usd)
}

fn billed(world: &World) -> u64 {
    world.provider("openai").billed().2 + world.provider("groq").billed().2
}

/// What was cut has no figures of the provider's: it is estimated from bytes and events.
fn about(sum: u64, billed: u64) {
    assert!(sum >= billed / 2 && sum <= billed * 2, "{sum} for {billed}");
}

#[test]
fn a_joined_stream_is_paid_by_who_reads_on_when_its_leader_leaves() {
    for joiners in [1, 5, 50] {
        run(async move {
            let world = World::new(&door("defaults: {cache: {ttl: 1h, share: true}}")).await;
            world.provider("openai").script(["tokens=200;rate=100;chunk=1"]);
            let mut leader = open(&world, "leader", &stream("gpt-4o")).await;
            leader.text().await;
            let mut joined = Vec::new();
            for at in 0..joiners {
                joined.push(open(&world, &format!("joiner-{at}"), &stream("gpt-4o")).await);
            }
            drop(leader);
            for reader in joined {
                let answer = reader.whole().await;
                assert!(!answer.broken && answer.text().ends_with("data: [DONE]\n\n"));
            }
            assert_eq!(world.provider("openai").billed().0, 1, "one call for all of them");
            assert_eq!(sums(&world).await, billed(&world));
            assert_eq!((spent_by(&world, "leader"), spent_by(&world, "joiner-0")), (0, billed(&world)));
            assert_eq!(used(&world, "each", "leader").await, 0, "what was reserved has come back");
            assert_eq!(used(&world, "each", "joiner-0").await, billed(&world));
        });
    }
}

#[test]
fn a_stream_that_nobody_reads_on_is_paid_by_the_last_who_left() {
    run(async {
        let world = World::new(&door("defaults: {cache: {ttl: 1h, share: true}}")).await;
        world.provider("openai").script(["tokens=200;rate=100;chunk=1"]);
        let mut leader = open(&world, "leader", &stream("gpt-4o")).await;
        leader.text().await;
        let mut joiner = open(&world, "joiner", &stream("gpt-4o")).await;
        drop(leader);
        for _ in 0..50 {
            joiner.text().await;
        }
        drop(joiner);
        crate::world::pass(secs(5)).await;
        let sum = sums(&world).await;
        about(sum, billed(&world));
        assert_eq!((spent_by(&world, "leader"), spent_by(&world, "joiner")), (0, sum));
    });
}

#[test]
fn a_leader_alone_that_leaves_pays_for_what_was_streamed() {
    for cache in ["", "defaults: {cache: {ttl: 1h}}"] {
        run(async move {
            let world = World::new(&door(cache)).await;
            world.provider("openai").script(["tokens=200;rate=100;chunk=1"]);
            let mut leader = open(&world, "leader", &stream("gpt-4o")).await;
            for _ in 0..50 {
                leader.text().await;
            }
            drop(leader);
            crate::world::pass(secs(5)).await;
            let sum = sums(&world).await;
            about(sum, billed(&world));
            assert_eq!(spent_by(&world, "leader"), sum);
            if cache.is_empty() {
                let lines: Vec<_> = world.log().await.into_iter().filter(|line| line["model"] == "gpt-4o").collect();
                assert_eq!((lines.len(), &lines[0]["outcome"]), (1, &json!("client_gone")), "one line tells it all: {lines:?}");
            }
        });
    }
}

#[test]
fn each_try_that_was_billed_is_charged_also_when_it_was_thrown_away() {
    for chunks in [0, 1, 50] {
        run(async move {
            let world = World::new(&door("defaults: {retry: {max_retries: 2, backoff: [100ms]}}")).await;
            world.provider("openai").script([&*format!("tokens=100;rate=1000;chunk=1;cut-after={chunks}"), "tokens=20"]);
            let answer = ask(&world, "ann", &stream("gpt-4o")).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.broken, chunks > 1, "after the first content the answer is committed");
            let sum = sums(&world).await;
            about(sum, billed(&world));
            assert_eq!(spent_by(&world, "ann"), sum);
        });
    }
}

#[test]
fn a_call_that_is_given_up_after_it_was_sent_is_charged_as_it_was_reserved() {
    run(async {
        let world = World::new(&door("defaults: {timeouts: {response_header: 2s}}")).await;
        world.dials.fail("openai", [crate::world::Failing::Refused]);
        assert_eq!(ask(&world, "bob", &chat("gpt-4o")).await.status, StatusCode::BAD_GATEWAY);
        world.provider("openai").script(["slow=60s"]);
        let answer = ask(&world, "ann", &chat("gpt-4o")).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        let sum = sums(&world).await;
        assert!(sum > 0, "the provider may have done the work");
        assert_eq!(spent_by(&world, "ann"), sum);
        assert_eq!(spent_by(&world, "bob"), 0, "what was never sent costs nothing");
    });
}

#[test]
fn a_call_that_is_given_up_before_it_was_sent_costs_nothing() {
    run(async {
        let world = World::new(&door("defaults: {timeouts: {per_try: 2s, connect: 1m}}")).await;
        world.dials.fail("openai", [crate::world::Failing::Hang]);
        assert_eq!(ask(&world, "ann", &chat("gpt-4o")).await.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!((sums(&world).await, used(&world, "each", "ann").await), (0, 0));
    });
}

#[test]
fn whoever_leaves_before_the_answer_to_what_was_sent_pays_as_it_was_reserved() {
    run(async {
        let world = World::new(&door("")).await;
        world.provider("openai").script(["slow=60s"]);
        tokio::time::timeout(secs(5), ask(&world, "ann", &chat("gpt-4o"))).await.expect_err("it leaves");
        let sum = sums(&world).await;
        assert!(sum > 0, "the provider may have done the work");
        assert_eq!((spent_by(&world, "ann"), used(&world, "each", "ann").await), (sum, sum));
    });
}

#[test]
fn a_fallback_is_reserved_and_charged_where_it_answers() {
    run(async {
        let world = World::new(
            "outbound:
  providers: {openai: {url: 'http://o.test'}, groq: {url: 'http://g.test', api: openai}}
  limits:
    - {name: by-provider, key: provider, usd: 1, window: 1d, unpriced: allow}
    - {name: by-model, key: model, usd: 1, window: 1d, unpriced: allow}
    - {name: calls, key: provider, requests: 100, window: 1d}
  routes:
    - {match: {operation: chat}, fallback: [{provider: groq, model: gpt-4o}]}",
        )
        .await;
        world.provider("openai").script(["503", "503", "503"]);
        for _ in 0..3 {
            let answer = ask(&world, "ann", &chat("gpt-4o-mini")).await;
            assert_eq!((answer.status, answer.header("outrigger-answered-by")), (StatusCode::OK, "groq/gpt-4o"));
        }
        settle().await;
        let (calls, _, billed) = world.provider("groq").billed();
        assert_eq!((calls, world.provider("openai").billed().2), (3, 0));
        let states = async |provider: &str| {
            let request = Request::post(format!("/{provider}/v1/something/new")).header("host", "localhost");
            let answer = world.caller().ask(request, "").await;
            let text: Vec<&str> = answer.headers.get_all("ratelimit").iter().map(|field| field.to_str().expect("text")).collect();
            text.join(", ")
        };
        let remaining = |states: &str, limit: &str| -> u64 {
            let state = states.split(", ").find(|state| state.starts_with(&format!("\"{limit}\""))).expect("a state").to_owned();
            state.split("r=").nth(1).expect("r").split(';').next().expect("r").parse().expect("a number")
        };
        let (asked, answered) = (states("openai").await, states("groq").await);
        assert_eq!(remaining(&asked, "by-provider"), 1_000_000_000, "nothing of the first one's budget is used: {asked}");
        assert_eq!(remaining(&answered, "by-provider"), 1_000_000_000 - billed, "{answered}");
        assert_eq!((remaining(&asked, "calls"), remaining(&answered, "calls")), (99, 96), "this look counts one");
        assert!((world.count("outrigger_cost_usd_total", &[("provider", "groq"), ("model", "gpt-4o")]) * 1e9 - billed as f64).abs() < 0.5);
        assert_eq!(world.count("outrigger_cost_usd_total", &[("provider", "openai")]), 0.0);
        let lines = world.log().await;
        let line = lines.iter().find(|line| line["fallback"] == "groq").expect("the log tells the fallback");
        assert_eq!(
            (&line["model"], &line["asked_model"], &line["thrown_away"]),
            (&json!("gpt-4o"), &json!("gpt-4o-mini"), &json!(["overloaded"]))
        );
    });
}

#[test]
fn a_fallback_that_a_limit_has_no_room_for_is_passed_over() {
    run(async {
        let world = World::new(
            "outbound:
  providers: {openai: {url: 'http://o.test'}, groq: {url: 'http://g.test', api: openai}}
  limits: [{name: budget, key: global, usd: 0.25, window: 1h}]
  routes:
    - {match: {operation: chat}, fallback: [{provider: groq, model: gpt-4o}]}",
        )
        .await;
        world.provider("openai").script(["503"; 8]);
        world.provider("groq").script(["slow=1s"; 8]);
        let mut body = chat("gpt-4o-mini");
        body["max_tokens"] = json!(10_000);
        let caller = world.caller();
        let calls = (0..8).map(|_| caller.call(CHAT, &body));
        let answers = futures_util::future::join_all(calls).await;
        let passed = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
        assert_eq!(passed, 2, "each reserves $0.10 of $0.25 before it goes out");
        assert!(answers.iter().all(|answer| [200, 429].contains(&answer.status.as_u16())), "the limit says why");
        assert_eq!(world.provider("groq").seen().len(), 2);
        let lines = world.log().await;
        let passed_over = lines.iter().filter(|line| line["status"] == 429 && line["thrown_away"] == json!(["overloaded", "limited"]));
        assert_eq!(passed_over.count(), 6, "{lines:#?}");
    });
}

#[test]
fn a_usage_chunk_that_nobody_asked_for_is_never_seen_from_the_cache_neither() {
    run(async {
        let world = World::new(
            "
inbound:
  app: http://app.test
  routes:
    - {name: chat, match: {path: /chat}, limits: [{name: user, key: client_ip, usd: 5, window: 1h}]}
outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {cache: {ttl: 1h, share: true}}",
        )
        .await;
        world.client().get("/chat").await;
        let baggage = world.app.seen().last().expect("asked").header("baggage").to_owned();
        let counted = world.caller().ask(post(CHAT).header("baggage", &baggage), stream("gpt-4o").to_string()).await;
        settle().await;
        let uncounted = ask(&world, "ann", &stream("gpt-4o")).await;
        assert!(uncounted.header("cache-status").contains("; hit"), "{:?}", uncounted.headers);
        for answer in [&counted, &uncounted] {
            assert!(!answer.text().contains("\"usage\":{"), "{}", answer.text());
            assert!(!answer.text().contains("\"choices\":[]"), "{}", answer.text());
        }
        assert_eq!(counted.body, uncounted.body);
    });
}

#[test]
fn a_stream_with_its_usage_is_another_answer_than_one_without() {
    run(async {
        let world = World::new(&door("defaults: {cache: {ttl: 1h, share: true}}")).await;
        let mut with = stream("gpt-4o");
        with["stream_options"] = json!({"include_usage": true});
        for (call, fetched) in [(&stream("gpt-4o"), 1), (&with, 2), (&stream("gpt-4o"), 2), (&with, 2)] {
            let answer = ask(&world, "ann", call).await;
            settle().await;
            assert_eq!(answer.text().contains("\"choices\":[],"), *call == with, "{}", answer.text());
            assert_eq!(world.provider("openai").seen().len(), fetched);
        }
    });
}

/// A server that says how long its stream is.
#[test]
fn a_stream_of_known_length_is_whole_without_its_usage() {
    run(async {
        let world = World::new("outbound: {providers: {scripted: {api: openai, url: 'http://s.test'}}}").await;
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n\
                    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\ndata: [DONE]\n\n";
        world.app.script([Reply::ok(text).header("content-type", "text/event-stream")]);
        let answer = world.caller().call("/scripted/v1/chat/completions", &stream("gpt-4o")).await;
        assert!(!answer.broken && answer.text().ends_with("[DONE]\n\n") && !answer.text().contains("usage"), "{}", answer.text());
    });
}

#[test]
fn a_caller_that_will_not_wait_longer_ends_the_tries() {
    run(async {
        let world = World::new(&door("defaults: {retry: {max_retries: 5, backoff: [1s]}}")).await;
        world.provider("openai").script(["503"; 6]);
        let request = by("ann").header("x-stainless-read-timeout", "2.5");
        let answer = world.caller().ask(request, chat("gpt-4o").to_string()).await;
        assert!(answer.took < ms(2_500), "{:?}: no pause goes past what the caller waits", answer.took);
        assert_eq!(world.provider("openai").seen().len(), 3);
    });
}
