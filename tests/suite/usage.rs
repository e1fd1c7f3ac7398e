//! What calls used and cost: seen in passing, the same however the answer came, and the same as in the provider's own books.

use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Failing, Reply, World, chat, json as post, run, settle};

const YAML: &str = "
outbound:
  providers: {openai: {url: 'http://o.test'}, anthropic: {url: 'http://a.test'}, gemini: {url: 'http://g.test'}}
";

/// A path, its body, and the provider behind it.
fn calls() -> Vec<(&'static str, &'static str, Value)> {
    let chat_stream = |usage: bool| {
        let mut body = chat("gpt-4o-mini");
        body["stream"] = json!(true);
        if usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    };
    let response = |stream: bool| json!({"model": "gpt-4.1", "input": "say something", "max_output_tokens": 40, "stream": stream});
    let message = |stream: bool| {
        let mut body = chat("claude-sonnet-4-5");
        body["stream"] = json!(stream);
        body
    };
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "say something"}]}]});
    vec![
        ("openai", "/openai/v1/chat/completions", chat("gpt-4o-mini")),
        ("openai", "/openai/v1/chat/completions", chat_stream(true)),
        ("openai", "/openai/v1/responses", response(false)),
        ("openai", "/openai/v1/responses", response(true)),
        ("openai", "/openai/v1/embeddings", json!({"model": "text-embedding-3-small", "input": ["one", "two words"]})),
        ("anthropic", "/anthropic/v1/messages", message(false)),
        ("anthropic", "/anthropic/v1/messages", message(true)),
        ("gemini", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", gemini.clone()),
        ("gemini", "/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", gemini),
    ]
}

fn request(provider: &str, path: &str) -> http::request::Builder {
    if provider == "anthropic" { post(path).header("anthropic-version", "2023-06-01") } else { post(path) }
}

#[test]
fn every_operation_agrees_with_the_providers_books_streamed_or_not() {
    run(async {
        let world = World::new(YAML).await;
        let mut wrong = Vec::new();
        for (provider, path, body) in calls() {
            let (before, spent) = (world.provider(provider).billed(), total(&world));
            let answer = world.caller().ask(request(provider, path), body.to_string()).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
            settle().await;
            let after = world.provider(provider).billed();
            let (calls, tokens, usd) = total(&world);
            let ours = (calls - spent.0, tokens - spent.1, usd - spent.2);
            let theirs = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
            if ours != theirs || theirs.1 == 0 {
                wrong.push(format!("{path} {body}: we count {ours:?}, the provider bills {theirs:?}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// Calls, tokens and nano-dollars of everybody.
fn total(world: &World) -> (u64, u64, u64) {
    let all = world.shared.spend.by_caller();
    all.iter().fold((0, 0, 0), |sum, (_, spent)| (sum.0 + spent.calls, sum.1 + spent.tokens, sum.2 + spent.nano_usd))
}

#[test]
fn metrics_tell_the_classes_of_tokens_and_the_dollars() {
    run(async {
        let world = World::new(YAML).await;
        world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o-mini")).await;
        let of = |class| world.count("outrigger_tokens_total", &[("provider", "openai"), ("class", class), ("source", "provider")]);
        let (_, tokens, nano_usd) = world.provider("openai").billed();
        assert_eq!((of("output"), of("input") + of("output")), (24.0, tokens as f64), "{}", world.metrics());
        let cost = world.count("outrigger_cost_usd_total", &[("provider", "openai")]);
        assert!((cost * 1e9 - nano_usd as f64).abs() < 1.0, "{cost} {nano_usd}");
    });
}

#[test]
fn the_log_line_of_a_call_tells_what_it_used() {
    run(async {
        let world = World::new(YAML).await;
        let mut body = chat("gpt-4o-mini");
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        world.provider("openai").script(["slow=2s;rate=24"]);
        world.caller().call("/openai/v1/chat/completions", &body).await;
        let (_, _, nano_usd) = world.provider("openai").billed();
        let lines = world.log().await;
        let line = &lines[0];
        assert_eq!((lines.len(), line["provider"].as_str(), line["operation"].as_str()), (1, Some("openai"), Some("chat")), "{line:#}");
        assert_eq!((line["stream"].as_bool(), line["model"].as_str()), (Some(true), Some("gpt-4o-mini")));
        assert_eq!((line["tokens"]["output"].as_u64(), line["tokens"]["source"].as_str()), (Some(24), Some("provider")));
        let cost = line["cost_usd"].as_f64().expect("a number") * 1e9;
        assert!((cost - nano_usd as f64).abs() < 1.0, "{cost} {nano_usd}");
        assert_eq!((line["duration_ms"].as_u64(), line["first_byte_ms"].as_u64()), (Some(3_000), Some(2_000)));
    });
}

#[test]
fn every_stream_is_asked_for_its_usage_whatever_policies_are_on() {
    run(async {
        let world = World::new("outbound: {providers: {openai: {url: 'http://o.test'}}}").await;
        let mut body = chat("gpt-4o-mini");
        body["stream"] = json!(true);
        let answer = world.caller().call("/openai/v1/chat/completions", &body).await;
        assert!(!answer.text().contains("\"usage\":{") && !answer.text().contains("\"choices\":[]"), "{}", answer.text());
        assert_eq!(total(&world), world.provider("openai").billed());
        let seen = world.provider("openai").seen();
        assert!(seen[0].body.contains("include_usage"), "{}", seen[0].body);
    });
}

#[test]
fn a_server_that_does_not_know_stream_options_is_not_sent_them_again() {
    run(async {
        let world =
            World::new("inbound: {app: 'http://app.test'}\noutbound: {providers: {old: {api: openai, url: 'http://old.test'}}}").await;
        world.provider("old").script(["no-stream-options", "no-stream-options"]);
        let mut body = chat("gpt-4o-mini");
        body["stream"] = json!(true);
        for _ in 0..2 {
            assert_eq!(world.caller().call("/old/v1/chat/completions", &body).await.status.as_u16(), 200);
        }
        let asked: Vec<bool> = world.provider("old").seen().iter().map(|seen| seen.body.contains("stream_options")).collect();
        assert_eq!(asked, [true, false, false]);
    });
}

#[test]
fn a_stream_that_does_not_tell_and_one_that_is_cut_are_estimated_and_said_to_be() {
    run(async {
        let world = World::new("outbound: {metering: as_sent, providers: {openai: {url: 'http://o.test'}}}").await;
        let mut body = chat("gpt-4o-mini");
        body["stream"] = json!(true);
        world.caller().call("/openai/v1/chat/completions", &body).await;
        world.provider("openai").script(["cut-after=10"]);
        world.caller().call("/openai/v1/chat/completions", &body).await;
        let estimated = world.count("outrigger_tokens_total", &[("class", "output"), ("source", "estimated")]);
        assert!((20.0..60.0).contains(&estimated), "24 and about 10 were streamed: {estimated}\n{}", world.metrics());
    });
}

/// Where nothing had to read it (`as_sent`), nothing but its length is known.
#[test]
fn the_prompt_of_a_stream_that_does_not_tell_is_not_free() {
    for metering in ["exact", "as_sent"] {
        run(async move {
            let world = World::new(&format!("outbound: {{metering: {metering}, providers: {{openai: {{url: 'http://o.test'}}}}}}")).await;
            let body = json!({"model": "gpt-4o-mini", "stream": true, "messages": [{"role": "user", "content": "word ".repeat(2_000)}]});
            world.provider("openai").script(["cut-after=10"]);
            world.caller().call("/openai/v1/chat/completions", &body).await;
            let input = world.count("outrigger_tokens_total", &[("class", "input"), ("source", "estimated")]);
            let expected = if metering == "exact" { 2_000.0..2_010.0 } else { 2_500.0..2_550.0 };
            assert!(expected.contains(&input), "{metering}: 2,000 words, or 10,000 bytes and a little: {input}");
        });
    }
}

#[test]
fn a_call_with_a_fallback_costs_what_the_model_costs_that_answered() {
    run(async {
        let yaml = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {fallback: [{provider: openai, model: gpt-4o-mini}]}
";
        let world = World::new(yaml).await;
        world.provider("openai").script(["503"]);
        assert_eq!(world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await.status, StatusCode::OK);
        assert_eq!(total(&world), world.provider("openai").billed());
    });
}

#[test]
fn errors_cost_nothing() {
    run(async {
        let world = World::new(YAML).await;
        world.provider("openai").script(["500", "429"]);
        for _ in 0..2 {
            world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        }
        let (_, tokens, usd) = total(&world);
        assert_eq!((tokens, usd), (0, 0));
    });
}

/// A provider that was sent all of the request and then broke off may have done the work, and may bill it.
#[test]
fn a_try_that_broke_off_after_all_was_sent_is_charged_as_expected() {
    run(async {
        for fault in ["reset", "close", "garbage"] {
            let world = World::new(YAML).await;
            world.provider("openai").script([fault]);
            world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
            let (_, tokens, usd) = total(&world);
            // 50 of output, and the prompt.
            assert!((52..70).contains(&tokens) && usd > 500_000, "{fault}: {tokens} {usd}");
            assert!(world.count("outrigger_tokens_total", &[("source", "estimated")]) >= 50.0, "{fault}");
        }
        let world = World::new(YAML).await;
        world.dials.fail("openai", [Failing::Refused]);
        world.caller().call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        assert_eq!(total(&world).1, 0, "nothing was sent");
    });
}

#[test]
fn counting_tokens_costs_nothing() {
    run(async {
        let yaml = "
outbound:
  providers: {scripted: {api: anthropic, url: 'http://s.test'}}
  limits: [{name: budget, usd: 0.01, window: 1h}]
";
        let world = World::new(yaml).await;
        world.app.always(Reply::ok("{\"input_tokens\":14}").header("content-type", "application/json"));
        let body = json!({"model": "claude-opus-4-1", "messages": [{"role": "user", "content": "word ".repeat(5_000)}]});
        for _ in 0..3 {
            let answer = world.caller().call("/scripted/v1/messages/count_tokens", &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        settle().await;
        assert!(world.shared.spend.by_caller().iter().all(|(_, spent)| spent.nano_usd == 0));
    });
}
