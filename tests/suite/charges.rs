//! What an answer says beside its tokens reaches every book: tiers, the provider's tools, passes of other models, seconds of sound.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::world::{Reply, World, json as post, run, settle};

const YAML: &str = "
outbound:
  providers: {scripted: {api: openai, url: 'http://s.test'}, scripted-claude: {api: anthropic, url: 'http://s.test'}}
  limits: [{name: all, key: global, usd: 1000, window: 1d, unpriced: allow}]
";
const JSON: &str = "application/json";
const SSE: &str = "text/event-stream";

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../transcripts/golden/", $name))
    };
}

/// Nano-dollars that the limit says are used.
async fn used(world: &World) -> u64 {
    // Of this path nothing is known: it is asked of the limits, and costs nothing.
    let request = Request::post("/scripted/v1/something/new").header("host", "localhost");
    let answer = world.caller().ask(request, "").await;
    let state = answer.header("ratelimit").to_owned();
    let left: u64 = state.split("r=").nth(1).expect("r").split(';').next().expect("a number").parse().expect("a number");
    1_000_000_000_000 - left
}

/// Nano-dollars of all callers.
fn spent(world: &World) -> u64 {
    world.shared.spend.by_caller().iter().map(|(_, spent)| spent.nano_usd).sum()
}

/// The call to which each answer is given, and what the provider bills for it.
fn answers() -> [(&'static str, Value, &'static str, &'static str, u64); 6] {
    let chat = json!({"model": "gpt-5.6-sol", "messages": [{"role": "user", "content": "hi"}]});
    let mut streamed = chat.clone();
    streamed["stream"] = json!(true);
    let response = json!({"model": "gpt-6.2-sol", "input": "hi", "stream": true});
    let message = |model: &str| json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    [
        // (220 x 4,000 + 1,024 x 400 + 256 x 5,000 + 48 x 20,000) x 2
        ("/scripted/v1/chat/completions", streamed, SSE, golden!("chat_tools.sse"), 7_059_200),
        // (9,000 x 2,000 + 300 x 10,000) / 2 + 10,000,000 + 2,500,000 + 30,000,000
        ("/scripted/v1/responses", response, SSE, golden!("responses_tools.sse"), 53_000_000),
        // 203,000 x 5,000 + 4,500 x 25,000
        ("/scripted-claude/v1/messages", message("claude-opus-4-6"), JSON, golden!("messages_compaction.json"), 1_127_500_000),
        // Sonnet 5: 1,760 x 2,000 + 412 x 200 + 531 x 10,000; Opus 5: 823 x 5,000 + 1,612 x 25,000
        ("/scripted-claude/v1/messages", message("claude-sonnet-5"), SSE, golden!("messages_advisor.sse"), 53_327_400),
        // (229 x 3,000 + 189 x 15,000) x 1.1
        ("/scripted-claude/v1/messages", message("claude-sonnet-4-6"), JSON, golden!("messages.json"), 3_874_200),
        // Fable 5: 900 x 10,000 + 12 x 50,000; Opus 5: 950 x 5,000 + 300 x 25,000
        ("/scripted-claude/v1/messages", message("claude-fable-5"), JSON, golden!("messages_fallback.json"), 21_850_000),
    ]
}

#[test]
fn what_is_said_beside_the_tokens_is_charged_in_every_book() {
    run(async {
        let world = World::new(YAML).await;
        let mut billed = 0;
        for (path, body, kind, text, nano_usd) in answers() {
            world.app.script([Reply::ok(text).header("content-type", kind)]);
            let answer = world.caller().ask(post(path), body.to_string()).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
            settle().await;
            billed += nano_usd;
            assert_eq!((spent(&world), used(&world).await), (billed, billed), "{path} {}", body["model"]);
        }
        let counted = world.count("outrigger_cost_usd_total", &[]);
        assert!((counted * 1e9 - billed as f64).abs() < 0.5, "metrics say {counted}, the books {billed}");
        let logged: f64 = world.log().await.iter().filter_map(|line| line["cost_usd"].as_f64()).sum();
        assert!((logged * 1e9 - billed as f64).abs() < 0.5, "log lines say {logged}, the books {billed}");
    });
}

#[test]
fn a_tier_that_was_asked_for_is_reserved_and_the_one_that_was_given_is_charged() {
    run(async {
        let world = World::new("{outbound: {providers: {scripted: {api: openai, url: 'http://s.test'}}, limits: [{name: all, key: global, usd: 0.03, window: 1d}]}}").await;
        let mut body = json!({"model": "gpt-6-astra", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
        let answer = |tier: &str| {
            let said = json!({"model": "gpt-6-astra", "service_tier": tier, "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}});
            Reply::ok("").bytes(said.to_string().into_bytes()).header("content-type", JSON)
        };
        body["service_tier"] = json!("ultrafast");
        // 100 x 50,000 x 6 and a prompt: more than $0.03.
        let refused = world.caller().ask(post("/scripted/v1/chat/completions"), body.to_string()).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        body["service_tier"] = json!("auto");
        for (tier, nano_usd) in [("default", 100_000), ("flex", 50_000), ("warp", 600_000)] {
            let before = spent(&world);
            world.app.script([answer(tier)]);
            world.caller().ask(post("/scripted/v1/chat/completions"), body.to_string()).await;
            settle().await;
            assert_eq!(spent(&world) - before, nano_usd, "{tier}");
        }
        // A tier that nobody knows is charged as the dearest, and counted.
        assert_eq!(world.count("outrigger_unpriced_calls_total", &[("model", "gpt-6-astra")]), 1.0);
    });
}
