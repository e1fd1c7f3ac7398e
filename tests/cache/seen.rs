//! What operators see of the cache: fills and why not, evictions and ages, the keys that save most.

use serde_json::{Value, json};

use crate::world::{World, answer};

fn completion(finish: &str) -> String {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
    })
    .to_string()
}

fn chat(prompt: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}]})
}

async fn top(world: &World, by: &str) -> Value {
    world.page(&format!("/api/cache/top?by={by}")).await.json().expect("JSON")
}

#[tokio::test]
async fn the_keys_that_save_most_are_shown_without_secrets() {
    let world = World::new(
        "{name: shop, match: {path: /**}, cache: {ttl: 1h}}",
        "{name: chat, match: {operation: chat}, cache: {ttl: 1h}}",
        |seen| {
            if seen.path.starts_with("/chat/") || seen.path.ends_with("/chat/completions") {
                return answer(200, &[("content-type", "application/json")], completion("stop"));
            }
            answer(200, &[], "x")
        },
    )
    .await;
    assert_eq!(top(&world, "time").await["keys"], json!([]));
    for _ in 0..6 {
        world.get("/often?token=hidden", &[]).await;
    }
    for _ in 0..4 {
        world.call(&chat("a prompt of theirs"), &[("authorization", "Bearer sk-hidden")]).await;
    }
    world.until_in_flight("outbound", 0).await;
    let by_usd = top(&world, "usd").await;
    let first = &by_usd["keys"][0];
    assert_eq!((&first["what"], &first["route"]), (&json!("openai chat gpt-4o-mini"), &json!("chat")));
    assert_eq!((&first["saved"]["requests"], &first["saved"]["tokens"]), (&json!(3), &json!(4500)));
    let saved = world.metric("outrigger_cache_saved_usd_total{door=\"outbound\",route=\"chat\"}");
    let usd: f64 = first["saved"]["usd"].as_str().expect("text").parse().expect("a number");
    assert!(saved > 0.0 && (usd - saved).abs() < 1e-9, "{usd} of {saved}");
    let by_requests = top(&world, "requests").await;
    assert_eq!(by_requests["keys"][0]["what"], json!(format!("GET {}/often", world.inbound)));
    assert_eq!(by_requests["keys"][0]["saved"]["requests"], json!(5));
    for hidden in ["hidden", "prompt of", "Bearer"] {
        assert!(!by_usd.to_string().contains(hidden) && !by_requests.to_string().contains(hidden), "{by_usd}");
    }
    // The key is the one that a purge takes.
    let key = by_requests["keys"][0]["key"].clone();
    assert_eq!(world.purge(json!({"key": key})).await, 1);
    assert_eq!(world.page("/api/cache/top?by=fame").await.status.as_u16(), 400);
}

#[tokio::test]
async fn fills_and_evictions_are_counted_by_reason_and_age() {
    let world = World::new(
        "{name: shop, match: {path: /**}, cache: {ttl: 1h}}",
        "{name: chat, match: {operation: chat}, cache: {ttl: 1h}}",
        |seen| {
            if seen.path.ends_with("/chat/completions") {
                return answer(200, &[("content-type", "application/json")], completion("length"));
            }
            answer(200, &[], "x")
        },
    )
    .await;
    world.get("/a", &[]).await;
    world.get("/b", &[]).await;
    world.call(&chat("hello"), &[]).await;
    world.until_metric("outrigger_cache_fills_total{door=\"inbound\",route=\"shop\",result=\"stored\"}", 2.0).await;
    world.until_metric("outrigger_cache_fills_total{door=\"outbound\",route=\"chat\",result=\"cut or filtered\"}", 1.0).await;
    assert_eq!(world.purge(json!({"prefix": "/"})).await, 2);
    world.until_metric("outrigger_cache_evictions_total{reason=\"purged\"}", 2.0).await;
    world.until_metric("outrigger_cache_eviction_age_seconds_count{reason=\"purged\"}", 2.0).await;
    world.until_metric("outrigger_cache_eviction_age_seconds_bucket{reason=\"purged\",le=\"3600\"}", 2.0).await;
    let page = world.page("/api/cache").await.json().expect("JSON");
    assert_eq!(page["evictions"]["purged"]["count"], json!(2));
}
