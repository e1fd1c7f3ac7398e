//! `outrigger-report: usage`: a model call's own answer tells what was charged for it.

use http::HeaderMap;
use serde_json::json;

use crate::world::{Answer, World, chat, json as post, run};

const YAML: &str = "outbound: {providers: {openai: {url: 'http://o.test'}}, defaults: {cache: {ttl: 1h}}}";

async fn ask(world: &World, stream: bool, fields: &[(&str, &str)]) -> Answer {
    let mut body = chat("gpt-4o");
    body["stream"] = json!(stream);
    let request = fields.iter().fold(post("/openai/v1/chat/completions"), |request, (name, value)| request.header(*name, *value));
    world.caller().ask(request, body.to_string()).await
}

fn told(fields: &HeaderMap) -> Option<(String, String, String)> {
    let of = |name: &str| Some(fields.get(name)?.to_str().expect("text").to_owned());
    Some((of("outrigger-cost-usd")?, of("outrigger-tokens")?, of("outrigger-usage-source")?))
}

#[test]
fn an_answer_tells_its_cost_and_tokens_if_it_is_asked() {
    run(async {
        let world = World::new(YAML).await;
        let asks = ("outrigger-report", "usage");
        let plain = ask(&world, false, &[("cache-control", "no-store")]).await;
        assert_eq!(told(&plain.headers), None, "nobody has asked");
        let before = world.provider("openai").billed();
        let whole = ask(&world, false, &[asks]).await;
        let (_, tokens, nano) = world.provider("openai").billed();
        let (cost, said, source) = told(&whole.headers).expect("it tells");
        let sum: u64 = said.split(", ").filter_map(|class| class.split_once('=')?.1.parse::<u64>().ok()).sum();
        assert_eq!((cost, sum, &*source), (format!("0.{:09}", nano - before.2), tokens - before.1, "provider"), "{said}");
        assert_eq!(whole.json()["object"], "chat.completion", "{}", whole.text());
        assert_eq!(told(&ask(&world, false, &[asks]).await.headers), None, "from the cache: nothing was charged");
        let seen = world.provider("openai").seen();
        assert!(seen.iter().all(|seen| seen.headers.iter().all(|(name, _)| name != "outrigger-report")), "the provider does not see it");
    });
}

#[test]
fn a_stream_tells_it_in_trailers_to_a_client_that_reads_them() {
    run(async {
        let world = World::new("outbound: {providers: {openai: {url: 'http://o.test'}}}").await;
        let asks = ("outrigger-report", "usage");
        let stream = ask(&world, true, &[asks, ("te", "trailers"), ("connection", "te")]).await;
        let (_, _, nano) = world.provider("openai").billed();
        let told = stream.trailers.as_ref().and_then(told).unwrap_or_else(|| panic!("no trailers: {}", stream.text()));
        assert_eq!(told.0, format!("0.{nano:09}"));
        assert!(stream.text().ends_with("data: [DONE]\n\n"), "{}", stream.text());
        assert_eq!(ask(&world, true, &[asks]).await.trailers, None, "it does not read them");
    });
}
