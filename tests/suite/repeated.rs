//! What a cache is worth on a workload that repeats itself, read from the ledger.

use http::StatusCode;
use outrigger::store::ledger::{Measure, Question};

use crate::world::{World, chat, run, settle};

/// Nano-dollars that 100 requests have cost and have saved: ten questions, each asked ten times.
async fn hundred_requests(cache: &str) -> (u64, u64) {
    let world = World::new(&format!("outbound: {{providers: {{openai: {{url: 'http://o.test'}}}}, defaults: {{{cache}}}}}")).await;
    for request in 0..100 {
        world.provider("openai").script(["tokens=400"]);
        let mut call = chat("gpt-4o");
        (call["temperature"], call["max_tokens"]) = (0.into(), 400.into());
        call["messages"][0]["content"] = format!("question number {}", request % 10).into();
        let answer = world.caller().call("/openai/v1/chat/completions", &call).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    settle().await;
    let pairs = [("from", "1h"), ("by", "model")].into_iter().map(|(key, value)| (key.into(), value.into()));
    let question = Question::read(pairs, world.shared.clock.unix_millis() + 60_000).expect("a question");
    let total = world.shared.ledger.ask(&question).expect("an answer").total;
    assert_eq!(total.get(Measure::Calls), 100);
    (total.get(Measure::NanoUsd), total.get(Measure::SavedNanoUsd))
}

#[test]
fn a_hundred_requests_of_a_repeated_workload_cost_less_than_ten_cents() {
    run(async {
        const CENT: u64 = 10_000_000;
        let (plain, nothing) = hundred_requests("").await;
        assert!(plain > 10 * CENT && nothing == 0, "without a cache: {plain}");
        let (cached, saved) = hundred_requests("cache: {ttl: 1h}").await;
        assert!(cached < 10 * CENT, "{cached}");
        assert_eq!(cached + saved, plain, "what is not spent is saved");
    });
}
