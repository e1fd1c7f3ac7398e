//! `on_cut: drain`: an answer whose reader has left is read to its end, within bounds, and charged by the usage that it states.

use serde_json::json;

use crate::world::{World, chat, json as post, pass, run, secs, settle};

fn yaml(more: &str) -> String {
    format!(
        "
outbound:
  providers: {{openai: {{url: 'http://o.test'}}}}
  limits: [{{name: all, usd: 1000, window: 1d}}]
  {more}
"
    )
}

/// Nano-dollars of one token of `gpt-4o`'s prompt.
const PROMPT_TOKEN: u64 = 2_500;
/// Nano-dollars of one token of its answer.
const WORD: u64 = 10_000;

/// Nano-dollars of our books and the provider's, and how many answers were read on with this result, after a reader has left a stream of 400
/// tokens after 50.
async fn left_early(more: &str, seconds: u64, result: &str) -> (u64, u64, f64) {
    let world = World::new(&yaml(more)).await;
    world.provider("openai").script(["tokens=400;rate=100;chunk=1"]);
    let mut call = chat("gpt-4o");
    (call["stream"], call["max_tokens"]) = (json!(true), json!(400));
    let mut reader = world.caller().open(post("/openai/v1/chat/completions").header("outrigger-caller", "ann"), call.to_string()).await;
    for _ in 0..50 {
        reader.text().await;
    }
    drop(reader);
    pass(secs(seconds)).await;
    settle().await;
    let spent = world.shared.spend.by_caller();
    let ours = spent.iter().find(|(caller, _)| &**caller == "ann").map_or(0, |(_, spent)| spent.nano_usd);
    let logged: f64 = world.log().await.iter().filter_map(|line| line["cost_usd"].as_f64()).sum();
    assert!((logged * 1e9 - ours as f64).abs() < 0.5, "log lines say {logged}, the books {ours}");
    (ours, world.provider("openai").billed().2, world.count("outrigger_drained_answers_total", &[("result", result)]))
}

#[test]
fn the_charge_is_what_the_provider_bills() {
    run(async {
        let (ours, theirs, exact) = left_early("on_cut: drain", 30, "exact").await;
        assert_eq!((ours, exact), (theirs, 1.0));
        let (settled, _, counted) = left_early("on_cut: settle", 30, "exact").await;
        assert!(settled > 0 && settled < ours && counted == 0.0, "{settled} of the words that were streamed, {ours} of all");
        let cached = "on_cut: drain\n  defaults: {cache: {ttl: 1h}}";
        assert_eq!(left_early(cached, 30, "exact").await.0, ours, "through the cache");
    });
}

#[test]
fn each_bound_ends_it() {
    run(async {
        for (bounds, result) in [("time: 1s", "time"), ("size: 1KiB", "size"), ("usd: 0.001", "usd")] {
            let (ours, theirs, counted) = left_early(&format!("on_cut: drain\n  drain: {{{bounds}}}"), 30, result).await;
            assert_eq!(counted, 1.0, "{bounds}");
            // The words that came are counted as they are billed, but for those on their way. No usage has come: the prompt is charged as
            // estimated, 31 tokens for 6.
            let all = theirs + 25 * PROMPT_TOKEN;
            assert!((all - 3 * WORD..=all).contains(&ours), "{bounds}: {ours}, {all}");
        }
    });
}
