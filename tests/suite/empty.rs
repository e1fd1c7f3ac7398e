//! A 200 is not yet an answer: an empty stream, an empty body, a page of HTML and JSON that is cut are failed tries, and nothing of
//! them is stored. What comes after the protocol's own end is no failure.

use http::StatusCode;
use outrigger::policy::breaker::State;
use serde_json::{Value, json};

use crate::{
    books::used,
    world::{Answer, Reply, World, chat, ms, run, secs, settle},
};

const CHAT: &str = "/scripted/v1/chat/completions";
const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

const FALLBACK: &str = "
outbound:
  providers:
    scripted: {api: openai, url: 'http://s.test'}
    backup: {api: openai, url: 'http://b.test'}
  routes: [{name: chat, match: {operation: chat}, fallback: [{provider: backup, model: house-1}]}]
";

fn asked(streamed: bool) -> Value {
    let mut body = chat("gpt-4o");
    body["stream"] = json!(streamed);
    body
}

/// Answers that are none, as they come: name, content type, pieces, whether they break off.
fn none() -> Vec<(&'static str, &'static str, Reply)> {
    vec![
        ("no event", SSE, Reply::paced(ms(1), &[])),
        ("no byte", SSE, Reply::ok("")),
        ("comments alone", SSE, Reply::paced(ms(1), &[": keep-alive\n\n", ": keep-alive\n\n"])),
        ("a role and no more", SSE, Reply::paced(ms(1), &["data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"])),
        ("a stream that breaks before content", SSE, Reply::paced(ms(1), &[": ping\n\n"]).breaks()),
        ("an empty body", JSON, Reply::ok("")),
        ("an empty body of no known length", JSON, Reply::paced(ms(1), &[])),
        ("blanks", JSON, Reply::ok(" \n ")),
        ("a page", "text/html", Reply::ok("<html><body>Bad gateway</body></html>")),
        ("a page under a wrong name", JSON, Reply::paced(ms(1), &["<html>", "<body>"])),
        ("an empty object", JSON, Reply::ok("{}")),
        ("JSON that ends early", JSON, Reply::paced(ms(1), &["{\"choices\":[{\"message\"", ":{\"content\":\"Hel"])),
        ("JSON that breaks off", JSON, Reply::paced(ms(1), &["{\"choices\":[{\"message\"", ":{\"content\":\"Hel"]).breaks()),
        ("an error inside a 200", JSON, Reply::ok("{\"error\":{\"type\":\"server_error\",\"message\":\"no\"}}")),
    ]
}

async fn call(world: &World, content_type: &str, reply: Reply) -> Answer {
    world.app.script([reply.header("content-type", content_type)]);
    world.caller().call(CHAT, &asked(content_type == SSE)).await
}

#[test]
fn what_is_no_answer_goes_on_to_the_fallback() {
    run(async {
        for (name, content_type, reply) in none() {
            let world = World::new(FALLBACK).await;
            let answer = call(&world, content_type, reply).await;
            assert_eq!((answer.status, answer.broken), (StatusCode::OK, false), "{name}");
            assert!(answer.text().contains("house-1"), "{name}: {}", answer.text());
            assert_eq!(world.provider("backup").seen().len(), 1, "{name}");
        }
    });
}

#[test]
fn a_page_is_known_by_its_first_piece() {
    run(async {
        let world = World::new(FALLBACK).await;
        let answer = call(&world, "text/html", Reply::paced(ms(1), &["<html>"]).stalls()).await;
        assert!(answer.text().contains("house-1"), "{}", answer.text());
    });
}

/// The budget of the process is full: the right to another try is given up, and not the bound.
#[test]
fn a_beginning_that_there_is_no_room_to_hold_back_is_passed_on() {
    const EVENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    run(async {
        for (full, head_after) in [(false, 20), (true, 10)] {
            let world = World::new(&format!("body_budget: 1MiB{FALLBACK}")).await;
            let comment: &'static str = Box::leak(format!(": {}\n\n", "x".repeat(2_000)).into_boxed_str());
            let mut large = asked(false);
            if full {
                large["user"] = json!("x".repeat((1 << 20) - 1_200));
            }
            let slow = Reply::ok("{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}").header("content-type", JSON).after(secs(100));
            world.app.script([slow, Reply::paced(secs(10), &[comment, EVENT]).header("content-type", SSE)]);
            let caller = world.caller();
            let held = async {
                crate::world::pass(secs(1)).await;
                let began = tokio::time::Instant::now();
                let opened = caller.open(crate::world::json(CHAT), asked(true).to_string()).await;
                (began.elapsed().as_secs(), opened.whole().await)
            };
            let (_, (after, answer)) = futures_util::join!(caller.call(CHAT, &large), held);
            assert_eq!((after, answer.text().ends_with(EVENT)), (head_after, true), "full: {full}: {}", answer.text());
        }
    });
}

#[test]
fn what_is_no_answer_is_tried_again_and_counts_against_the_breaker() {
    run(async {
        let yaml = "
outbound:
  providers: {scripted: {api: openai, url: 'http://s.test'}}
  defaults: {retry: {max_retries: 1}, breaker: {consecutive: 2}}
";
        for (name, kind, reply) in none() {
            let world = World::new(yaml).await;
            let reply = reply.header("content-type", kind);
            world.app.script([reply.clone()]);
            let content_type = kind;
            let good = if content_type == SSE {
                Reply::ok("data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
            } else {
                Reply::ok("{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}")
            };
            let content_type = if content_type == SSE { SSE } else { JSON };
            world.app.script([good.header("content-type", content_type)]);
            let answer = world.caller().call(CHAT, &asked(content_type == SSE)).await;
            assert!(answer.text().contains("hi") && world.app.asked() == 2, "{name}: {}", answer.text());
            assert_eq!(world.breaker("scripted/gpt-4o"), Some(State::Closed), "{name}: one of two in a row");
            world.app.script([reply.clone(), reply]);
            world.caller().call(CHAT, &asked(content_type == SSE)).await;
            assert_eq!(world.breaker("scripted/gpt-4o"), Some(State::Open), "{name}");
        }
    });
}

#[test]
fn without_a_policy_it_passes_as_it_came() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {scripted: {api: openai, url: 'http://s.test'}}
",
        )
        .await;
        for (name, content_type, reply) in none() {
            let answer = call(&world, content_type, reply).await;
            assert_eq!(answer.status, StatusCode::OK, "{name}");
            assert_eq!(world.app.seen().len(), 1, "{name}: once");
            world.app.forget();
        }
    });
}

#[test]
fn nothing_that_is_no_answer_is_stored() {
    run(async {
        for policies in ["cache: {ttl: 1h}", "cache: {ttl: 1h}, breaker: {}"] {
            let yaml = format!(
                "
outbound:
  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}
  defaults: {{{policies}}}
"
            );
            for (name, content_type, reply) in none() {
                let world = World::new(&yaml).await;
                world.app.always(reply.header("content-type", content_type));
                for _ in 0..2 {
                    let answer = world.caller().call(CHAT, &asked(content_type == SSE)).await;
                    assert!(!answer.header("cache-status").contains("stored"), "{name}: {}", answer.header("cache-status"));
                    settle().await;
                }
                assert_eq!(world.app.asked(), 2, "{name}: asked again");
                assert_eq!(world.count("outrigger_cache_fills_total", &[("result", "stored")]), 0.0, "{name}\n{}", world.metrics());
            }
        }
    });
}

#[test]
fn a_break_behind_the_protocols_own_end_is_no_failure_and_nothing_is_added() {
    run(async {
        const WHOLE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        for reply in
            [Reply::paced(ms(1), &[WHOLE]).breaks(), Reply::paced(ms(1), &["data: [DONE]\n\n"]), Reply::paced(ms(1), &[WHOLE, ": bye\n\n"])]
        {
            let world = World::new(FALLBACK).await;
            let answer = call(&world, SSE, reply).await;
            assert!(answer.text().contains("[DONE]") && !answer.text().contains("error"), "{}", answer.text());
            assert!(!answer.broken && world.provider("backup").seen().is_empty());
            let lines = world.log().await;
            assert_eq!((lines.len(), lines[0]["outcome"].as_str()), (1, Some("complete")), "{lines:#?}");
        }
        let world = World::new(FALLBACK).await;
        let answer = call(&world, SSE, Reply::paced(ms(1), &["data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n"]).breaks()).await;
        assert!(answer.text().contains("upstream_error"), "a break before it is one: {}", answer.text());
    });
}

/// A try that may have been billed is charged, and said to be estimated; an error is not.
#[test]
fn what_is_no_answer_is_charged_as_estimated_and_all_books_agree() {
    run(async {
        for (policies, tries) in [("", 1), ("defaults: {retry: {max_retries: 1, backoff: [10ms]}}", 2)] {
            let yaml = format!(
                "
outbound:
  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}
  limits:
    - {{name: money, key: global, usd: 1000, window: 1d, unpriced: allow}}
    - {{name: words, key: global, tokens: 100m, window: 1d}}
  {policies}
"
            );
            for (name, kind, reply) in none() {
                let world = World::new(&yaml.replace("100m", "100000000")).await;
                world.app.script(vec![reply.header("content-type", kind); tries]);
                world.caller().call(CHAT, &asked(kind == SSE)).await;
                settle().await;
                assert_eq!(world.app.asked(), tries, "{name}");
                let all = world.shared.spend.by_caller();
                let (money, words) = all.iter().fold((0, 0), |sum, (_, spent)| (sum.0 + spent.nano_usd, sum.1 + spent.tokens));
                let is_error = name == "an error inside a 200";
                assert_eq!((money == 0, words == 0), (is_error, is_error), "{name}");
                assert_eq!(used(&world, "scripted", "money", "nobody").await, money, "{name}");
                assert_eq!(used(&world, "scripted", "words", "nobody").await, words, "{name}");
                assert_eq!(world.count("outrigger_tokens_total", &[("source", "estimated")]), words as f64, "{name}");
                assert_eq!(world.count("outrigger_tokens_total", &[]), words as f64, "{name}: none is said to be the provider's");
                assert!((world.count("outrigger_cost_usd_total", &[]) * 1e9 - money as f64).abs() < 0.5, "{name}");
                let lines = world.log().await;
                let line = lines.iter().find(|line| line["operation"] == "chat").expect("a line");
                let told = line["cost_usd"].as_f64().map_or(0, |cost| (cost * 1e9).round() as u64);
                assert_eq!((told, line["tokens"]["source"].as_str()), (money, (!is_error).then_some("estimated")), "{name}: {line:#}");
            }
        }
    });
}

/// Without a policy that reads it, the length of the prompt is all that is known.
#[test]
fn what_is_no_answer_costs_its_prompt_where_nobody_read_it() {
    run(async {
        let world = World::new("outbound: {providers: {scripted: {api: anthropic, url: 'http://s.test'}}}").await;
        for (kind, body) in [(JSON, ""), ("text/html", "<html>"), (SSE, "")] {
            world.app.script([Reply::ok(body).header("content-type", kind)]);
            let prompt =
                json!({"model": "claude-opus-4-1", "max_tokens": 9, "messages": [{"role": "user", "content": "word ".repeat(800)}]});
            let before = world.count("outrigger_tokens_total", &[("source", "estimated"), ("class", "input")]);
            world.caller().call("/scripted/v1/messages", &prompt).await;
            settle().await;
            let tokens = world.count("outrigger_tokens_total", &[("source", "estimated"), ("class", "input")]) - before;
            assert!((900.0..1_200.0).contains(&tokens), "{kind}: {tokens}");
        }
    });
}

/// A provider that keeps a long call alive with blanks, or one that sends slowly, is not waited for to its end.
#[test]
fn a_slow_answer_is_passed_on_as_it_comes() {
    run(async {
        let world = World::new(FALLBACK).await;
        let pieces = [" ", " ", "{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}"];
        world.app.script([Reply::paced(secs(10), &pieces).header("content-type", JSON)]);
        let began = tokio::time::Instant::now();
        let mut opened = world.caller().open(crate::world::json(CHAT), asked(false).to_string()).await;
        assert!(began.elapsed() < secs(3), "{:?}", began.elapsed());
        assert_eq!(opened.next().await.expect("a piece").expect("a piece"), " ");
        assert!(began.elapsed() < secs(11), "{:?}", began.elapsed());
        assert!(opened.whole().await.text().contains("hi"));
        assert!(world.provider("backup").seen().is_empty());
    });
}
