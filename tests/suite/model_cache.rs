//! Model calls from the cache: what is kept, how it is given again, and how the app steers it.

use outrigger::clock::Chance;
use serde_json::{Value, json};

use crate::world::{Answer, World, chat, json as post, ms, pass, run, secs, settle};

async fn world(cache: &str) -> World {
    World::new(&format!(
        "outbound: {{providers: {{openai: {{url: 'http://o.test'}}, anthropic: {{url: 'http://a.test'}}}}, \
         defaults: {{cache: {{ttl: 1h, {cache}}}}}}}"
    ))
    .await
}

async fn ask(world: &World, path: &str, fields: &[(&'static str, &str)], body: &Value) -> Answer {
    let request =
        fields.iter().fold(post(path).header("anthropic-version", "2023-06-01"), |request, (name, value)| request.header(*name, *value));
    let answer = world.caller().ask(request, body.to_string()).await;
    settle().await;
    answer
}

const CHAT: &str = "/openai/v1/chat/completions";

fn is_hit(answer: &Answer) -> bool {
    answer.header("cache-status").contains("; hit")
}

/// Whether the second of two calls is a hit.
async fn is_kept(world: &World, path: &str, fields: &[(&'static str, &str)], body: &Value) -> bool {
    let first = ask(world, path, fields, body).await;
    assert!(first.status.is_success() && !is_hit(&first), "{first:?}");
    is_hit(&ask(world, path, fields, body).await)
}

#[test]
fn streams_are_given_again_at_once_or_as_they_came() {
    run(async {
        for (replay, original) in [("immediate", false), ("original", true)] {
            let world = world(&format!("replay: {replay}")).await;
            let mut call = chat("gpt-4o-mini");
            call["stream"] = json!(true);
            world.provider("openai").script(["slow=3s;tokens=20;rate=10;chunk=1"]);
            let first = ask(&world, CHAT, &[], &call).await;
            assert!(first.took > secs(4), "{:?}", first.took);
            let again = ask(&world, CHAT, &[], &call).await;
            assert!(is_hit(&again) && again.body == first.body);
            if original {
                // The pauses between the pieces, without the wait for the first one.
                let pauses = first.took.saturating_sub(secs(3));
                assert!(again.took.abs_diff(pauses) < ms(150), "{:?} after {:?}", again.took, first.took);
            } else {
                assert!(again.took < ms(20), "{:?}", again.took);
            }
            assert_eq!(world.provider("openai").billed().0, 1);
        }
    });
}

#[test]
fn answers_that_ask_for_tool_calls_are_kept_only_where_it_is_said() {
    run(async {
        let openai = |stream: bool| {
            let mut call = chat("gpt-4o-mini");
            call["stream"] = json!(stream);
            call["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": {}}}]);
            call["tool_choice"] = json!("required");
            call
        };
        let anthropic = |stream: bool| {
            let mut call = chat("claude-sonnet-4-5");
            call["stream"] = json!(stream);
            call["tools"] = json!([{"name": "weather", "input_schema": {}}]);
            call["tool_choice"] = json!({"type": "any"});
            call
        };
        for (cache, kept) in [("", false), ("tool_calls: store", true)] {
            let world = world(cache).await;
            for stream in [false, true] {
                assert_eq!(is_kept(&world, CHAT, &[], &openai(stream)).await, kept, "chat, stream {stream}");
                assert_eq!(is_kept(&world, "/anthropic/v1/messages", &[], &anthropic(stream)).await, kept, "messages, stream {stream}");
            }
            // Tools that were offered and not asked for do not matter.
            let mut unasked = openai(false);
            unasked["tool_choice"] = json!("none");
            assert!(is_kept(&world, CHAT, &[], &unasked).await);
        }
    });
}

#[test]
fn calls_above_a_temperature_pass_by_the_cache() {
    run(async {
        let with = |temperature: Value| {
            let mut call = chat("gpt-4o-mini");
            call["temperature"] = temperature;
            call
        };
        for (bound, temperature, kept) in [
            ("", json!(2), true),
            ("max_temperature: 0.3", json!(0), true),
            ("max_temperature: 0.3", json!(0.3), true),
            ("max_temperature: 0.3", json!(0.31), false),
            ("max_temperature: 0.3", Value::Null, false),
            ("max_temperature: 1", Value::Null, true),
        ] {
            let world = world(bound).await;
            assert_eq!(is_kept(&world, CHAT, &[], &with(temperature.clone())).await, kept, "{bound} {temperature}");
            let bypassed = world.count("outrigger_cache_bypasses_total", &[("reason", "temperature above max_temperature")]);
            assert_eq!(bypassed, if kept { 0.0 } else { 2.0 });
        }
        let world = world("max_temperature: 0").await;
        let embedding = json!({"model": "text-embedding-3-small", "input": "hello"});
        assert!(is_kept(&world, "/openai/v1/embeddings", &[], &embedding).await, "they have none");
    });
}

#[test]
fn the_app_may_shorten_the_time_of_an_answer() {
    run(async {
        let call = chat("gpt-4o-mini");
        for (asked, lives) in [("10", 10), ("90s", 90), ("2h", 3600)] {
            let world = world("").await;
            ask(&world, CHAT, &[("outrigger-cache-ttl", asked)], &call).await;
            pass(secs(lives - 2)).await;
            assert!(is_hit(&ask(&world, CHAT, &[], &call).await), "{asked}");
            pass(secs(3)).await;
            assert!(!is_hit(&ask(&world, CHAT, &[], &call).await), "{asked}");
        }
        let world = world("").await;
        for _ in 0..2 {
            let answer = ask(&world, CHAT, &[("outrigger-cache-ttl", "0")], &call).await;
            assert_eq!(answer.header("cache-status"), "outrigger; fwd=bypass; detail=\"request outrigger-cache-ttl 0\"");
        }
        let wrong = ask(&world, CHAT, &[("outrigger-cache-ttl", "soon")], &call).await;
        assert_eq!(wrong.status.as_u16(), 400);
        assert!(wrong.text().contains("`soon` is not a duration; write seconds, or 90s"), "{}", wrong.text());
        let seen = world.provider("openai").seen();
        assert!(seen.iter().all(|seen| !seen.headers.iter().any(|(name, _)| name.as_str().starts_with("outrigger-"))), "ours stay here");
    });
}

#[test]
fn the_app_steers_the_cache_with_cache_control() {
    run(async {
        let world = world("").await;
        let call = chat("gpt-4o-mini");
        let asked = async |directive: &str| is_hit(&ask(&world, CHAT, &[("cache-control", directive)], &call).await);
        assert!(!asked("no-store").await);
        assert!(!asked("max-age=60").await, "no-store has stored nothing");
        assert!(asked("max-age=60").await);
        pass(secs(61)).await;
        assert!(!asked("max-age=60").await, "too old for who asks");
        assert!(asked("max-age=60").await);
        assert!(!asked("no-cache").await);
        assert!(asked("").await);
    });
}

#[test]
fn prompts_by_zipf_are_mostly_answered_from_the_store_and_save_what_they_cost() {
    run(async {
        const PROMPTS: usize = 40;
        const ASKED: u32 = 600;
        let world = world("").await;
        let chance = Chance::seeded(7);
        let mut sums: Vec<f64> = (1..=PROMPTS).map(|rank| 1.0 / rank as f64).collect();
        (1..PROMPTS).for_each(|at| sums[at] += sums[at - 1]);
        let (mut prices, mut hits, mut saved) = (vec![0; PROMPTS], 0, 0);
        for _ in 0..ASKED {
            let point = chance.unit() * sums[PROMPTS - 1];
            let prompt = sums.partition_point(|sum| *sum < point);
            let mut call = chat("gpt-4o-mini");
            call["messages"][0]["content"] = json!(format!("question {prompt} {}", "and more ".repeat(prompt)));
            let before = world.provider("openai").billed().2;
            let answer = ask(&world, CHAT, &[], &call).await;
            let price = world.provider("openai").billed().2 - before;
            if is_hit(&answer) {
                (hits, saved) = (hits + 1, saved + prices[prompt]);
                assert_eq!(price, 0, "a hit is billed to nobody");
            } else {
                assert!(price > 0);
                prices[prompt] = price;
            }
        }
        assert!(f64::from(hits) / f64::from(ASKED) > 0.8, "{hits} of {ASKED}");
        assert_eq!(world.provider("openai").billed().0, u64::from(ASKED - hits), "each prompt is asked once");
        let usd = world.count("outrigger_cache_saved_usd_total", &[]);
        assert!((usd - saved as f64 / 1e9).abs() < 1e-9, "{usd} saved, {saved} nano-dollars expected");
    });
}
