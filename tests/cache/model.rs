//! Model calls: found again by the same prompt and by nobody else, gone in time, and nothing kept that should not be.

use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::world::{Act, Seen, World, answer, said};

const CACHED: &str = "{name: chat, match: {operation: chat}, cache: {ttl: 1h}}";

fn chat(prompt: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}]})
}

fn completion(text: &str, finish: &str) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
    })
}

fn json_answer(body: &Value) -> Act {
    answer(200, &[("content-type", "application/json")], body.to_string())
}

fn numbered(seen: &Seen) -> Act {
    json_answer(&completion(&format!("answer {}", seen.nth), "stop"))
}

fn text(body: &Value) -> &str {
    body["choices"][0]["message"]["content"].as_str().unwrap_or_default()
}

async fn ask(world: &World, prompt: &str, fields: &[(&str, &str)]) -> String {
    text(&world.call(&chat(prompt), fields).await.json().expect("JSON")).to_owned()
}

#[tokio::test]
async fn the_same_prompt_is_found_and_another_is_not() {
    let world = World::new("", CACHED, numbered).await;
    assert_eq!(ask(&world, "hello", &[]).await, "answer 0");
    assert_eq!(ask(&world, "hello", &[]).await, "answer 0");
    assert_eq!(ask(&world, "hello!", &[]).await, "answer 1");
    // What says the same in other words is the same; what an SDK says about itself does not matter.
    let reordered = json!({"messages": [{"content": "hello", "role": "user"}], "model": "gpt-4o-mini"});
    let again = world.call(&reordered, &[("user-agent", "other/1"), ("x-stainless-retry-count", "1")]).await;
    assert_eq!(text(&again.json().expect("JSON")), "answer 0");
    // What changes the answer is another call.
    for (key, value) in [("temperature", json!(0.5)), ("seed", json!(1)), ("max_tokens", json!(5)), ("model", json!("gpt-4o"))] {
        let mut other = chat("hello");
        other[key] = value;
        assert!(!said(&world.call(&other, &[]).await).contains("; hit"), "{key}");
    }
    let mut stream = chat("hello");
    stream["stream"] = json!(true);
    assert!(!said(&world.call(&stream, &[]).await).contains("; hit"), "a stream is no whole answer");
}

#[tokio::test]
async fn a_refused_coding_is_neither_asked_for_nor_given() {
    let play = |seen: &Seen| {
        let json = completion("hello", "stop").to_string();
        if seen.header("accept-encoding") != Some("gzip") {
            return answer(200, &[("content-type", "application/json")], json);
        }
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gzip, json.as_bytes()).expect("in memory");
        answer(200, &[("content-type", "application/json"), ("content-encoding", "gzip")], gzip.finish().expect("in memory"))
    };
    let world = World::new("", CACHED, play).await;
    for (accepted, coded, fetched) in
        [("gzip, br", true, 1), ("br, gzip;q=0", false, 2), ("*;q=0, identity", false, 2), ("GZIP;q=0.5", true, 2), ("br", false, 2)]
    {
        let got = world.call(&chat("hello"), &[("accept-encoding", accepted)]).await;
        assert_eq!((got.header("content-encoding") == Some("gzip"), world.origin.count()), (coded, fetched), "{accepted}");
    }
}

#[tokio::test]
async fn a_coding_that_nobody_asked_for_is_not_kept() {
    let play = |_: &Seen| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gzip, completion("hello", "stop").to_string().as_bytes()).expect("in memory");
        answer(200, &[("content-type", "application/json"), ("content-encoding", "gzip")], gzip.finish().expect("in memory"))
    };
    let world = World::new("", CACHED, play).await;
    for (accepted, fetched) in [("identity", 1), ("identity", 2), ("gzip", 3), ("gzip", 3)] {
        world.call(&chat("hello"), &[("accept-encoding", accepted)]).await;
        assert_eq!(world.origin.count(), fetched, "{accepted}");
    }
}

#[tokio::test]
async fn an_answer_is_gone_after_its_time() {
    const TTL: Duration = Duration::from_millis(300);
    let shorten = |config: &mut outrigger::config::Config| {
        let outbound = config.outbound.as_mut().expect("outbound");
        let cache = outbound.routes[0].policies.cache.as_mut().expect("a cache");
        cache.ttl = Some(TTL);
    };
    let world = World::with("", CACHED, shorten, numbered).await;
    let clock = outrigger::clock::Clock::system();
    let begun = clock.now();
    assert_eq!(ask(&world, "hello", &[]).await, "answer 0");
    let mut hits = 0;
    while ask(&world, "hello", &[]).await == "answer 0" {
        hits += 1;
        assert!(begun.elapsed() < Duration::from_secs(30), "it is never gone");
    }
    assert!(begun.elapsed() >= TTL, "gone after {:?}", begun.elapsed());
    assert!(hits > 0, "it was there before");
}

/// Lets an answer go stale at once and be given for an hour all the same, which no file can say of a model's answer today.
fn stale_at_once(config: &mut outrigger::config::Config) {
    let outbound = config.outbound.as_mut().expect("outbound");
    let cache = outbound.routes[0].policies.cache.as_mut().expect("a cache");
    (cache.ttl, cache.stale_while_revalidate) = (Some(Duration::from_millis(1)), Some(Duration::from_secs(3_600)));
}

/// Asks until refreshes have ended like this.
async fn until_refreshed(world: &World, result: &str) {
    let clock = outrigger::clock::Clock::system();
    let (begun, ended) = (clock.now(), format!("result=\"{result}\"}}"));
    let text = || world.app.telemetry.metrics().render();
    while !text().lines().any(|line| line.starts_with("outrigger_cache_refreshes_total{") && line.contains(&ended)) {
        ask(world, "hello", &[("outrigger-caller", "ann")]).await;
        assert!(begun.elapsed() < Duration::from_secs(30), "no refresh is {result}\n{}", text());
    }
}

#[tokio::test]
async fn the_proxy_pays_for_its_own_refreshes() {
    let world = World::with("", CACHED, stale_at_once, numbered).await;
    until_refreshed(&world, "done").await;
    let spent = world.app.shared.spend.by_caller();
    let of = |name: &str| spent.iter().find(|(caller, _)| **caller == *name).map_or((0, 0), |(_, spent)| (spent.calls, spent.nano_usd));
    let (own, theirs) = (of("outrigger"), of("ann"));
    assert_eq!((theirs.0, own.0 > 0, own.1), (1, true, own.0 * theirs.1), "{spent:?}");
}

#[tokio::test]
async fn a_refresh_that_a_limit_has_no_room_for_is_not_made() {
    let routes =
        "{match: {operation: chat}, cache: {ttl: 1h}, limits: [{name: budget, key: global, tokens: 2000, window: 1h, applies: misses}]}";
    let world = World::with("", routes, stale_at_once, numbered).await;
    // 1,500 are used.
    until_refreshed(&world, "refused").await;
    assert_eq!((world.origin.count(), ask(&world, "hello", &[]).await), (1, "answer 0".to_owned()));
}

#[tokio::test]
async fn tenants_have_their_own_answers_unless_they_share() {
    let (alice, bob) = ([("authorization", "Bearer alice")], [("authorization", "Bearer bob")]);
    let world = World::new("", CACHED, numbered).await;
    assert_eq!(ask(&world, "hello", &alice).await, "answer 0");
    assert_eq!(ask(&world, "hello", &bob).await, "answer 1");
    assert_eq!(ask(&world, "hello", &[]).await, "answer 2");
    assert_eq!((ask(&world, "hello", &alice).await, ask(&world, "hello", &bob).await), ("answer 0".into(), "answer 1".into()));
    let shared = World::new("", "{match: {operation: chat}, cache: {ttl: 1h, share: true}}", numbered).await;
    assert_eq!(ask(&shared, "hello", &alice).await, "answer 0");
    assert_eq!(ask(&shared, "hello", &bob).await, "answer 0");
}

/// Asks twice; whether the second answer came from the store.
async fn is_kept(world: &World, call: &Value) -> bool {
    world.call(call, &[]).await;
    said(&world.call(call, &[]).await).contains("; hit")
}

#[tokio::test]
async fn what_is_no_good_answer_is_not_kept_and_tool_calls_only_where_they_are_wanted() {
    let tools = json!({
        "model": "gpt-4o-mini", "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}}],
    });
    let wanted = "{name: chat, match: {operation: chat}, cache: {ttl: 1h, tool_calls: store}}";
    let text = tools.to_string();
    let world = World::new("", wanted, move |_| answer(200, &[("content-type", "application/json")], text.clone())).await;
    assert!(is_kept(&world, &chat("hello")).await, "tool calls are stored where it is said");
    for (what, body, kept) in [
        ("a good answer", completion("fine", "stop"), true),
        ("tool calls", tools, false),
        ("cut by max_tokens", completion("cut of", "length"), false),
        ("filtered", completion("", "content_filter"), false),
        ("an error in a 200", json!({"error": {"message": "overloaded", "type": "server_error", "code": 503}}), false),
        ("nothing", json!({}), false),
    ] {
        let text = body.to_string();
        let world = World::new("", CACHED, move |_| answer(200, &[("content-type", "application/json")], text.clone())).await;
        assert_eq!(is_kept(&world, &chat("hello")).await, kept, "{what}");
    }
    for status in [400, 429, 500] {
        let world = World::new("", CACHED, move |_| answer(status, &[("content-type", "application/json")], r#"{"error":{}}"#)).await;
        assert!(!is_kept(&world, &chat("hello")).await, "{status}");
    }
}

#[tokio::test]
async fn embeddings_are_kept_and_a_page_in_their_place_is_not() {
    let large = json!({
        "object": "list", "model": "text-embedding-3-small", "usage": {"prompt_tokens": 5, "total_tokens": 5},
        "data": [{"object": "embedding", "index": 0, "embedding": vec![0.012_345_678; 3072]}],
    });
    let (json, page) = ("application/json", "<html>please sign in</html>".to_owned());
    for (what, kind, body, kept) in
        [("an answer", json, large.to_string(), true), ("a page", "text/html", page, false), ("nothing", json, "{}".to_owned(), false)]
    {
        let routes = "{match: {operation: embeddings}, cache: {ttl: 1d}}";
        let world = World::new("", routes, move |_| answer(200, &[("content-type", kind)], body.clone())).await;
        let client = outrigger::cli::client::Client::tcp(world.outbound);
        let call = json!({"model": "text-embedding-3-small", "input": "hello"});
        client.post("/openai/v1/embeddings", &call).await.expect("an answer");
        let second = client.post("/openai/v1/embeddings", &call).await.expect("an answer");
        assert_eq!(said(&second).contains("; hit"), kept, "{what}: {}", said(&second));
    }
}

#[tokio::test]
async fn streams_without_a_good_end_are_not_kept() {
    let event = |delta: Value, finish: Value| {
        let chunk = json!({"model": "gpt-4o-mini", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
        format!("data: {chunk}\n\n")
    };
    let content = event(json!({"content": "some"}), Value::Null);
    let stop = event(json!({}), json!("stop"));
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    let done = "data: [DONE]\n\n";
    for (what, body, kept) in [
        ("whole", format!("{content}{stop}{done}"), true),
        ("no end", content.clone(), false),
        ("an error at the end", format!("{content}{error}{done}"), false),
        ("cut by max_tokens", format!("{content}{}{done}", event(json!({}), json!("length"))), false),
        ("filtered", format!("{content}{}{done}", event(json!({}), json!("content_filter"))), false),
    ] {
        let world = World::new("", CACHED, move |_| answer(200, &[("content-type", "text/event-stream")], body.clone())).await;
        let mut call = chat("hello");
        call["stream"] = json!(true);
        assert_eq!(is_kept(&world, &call).await, kept, "{what}");
    }
}

#[tokio::test]
async fn a_fallbacks_answer_is_given_and_not_kept() {
    let routes = "{match: {operation: chat}, cache: {ttl: 1h}, fallback: [{provider: openai, model: gpt-4.1-mini}]}";
    let world = World::new("", routes, |seen| {
        let model = serde_json::from_slice::<Value>(&seen.body).expect("JSON")["model"].clone();
        match (model.as_str(), seen.nth) {
            (Some("gpt-4o-mini"), 0) => answer(500, &[("content-type", "application/json")], r#"{"error":{}}"#),
            _ => json_answer(&completion(model.as_str().unwrap_or_default(), "stop")),
        }
    })
    .await;
    assert_eq!(ask(&world, "hello", &[]).await, "gpt-4.1-mini");
    assert_eq!(ask(&world, "hello", &[]).await, "gpt-4o-mini");
    assert_eq!(ask(&world, "hello", &[]).await, "gpt-4o-mini");
    assert_eq!(world.origin.count(), 3);
}

#[tokio::test]
async fn a_list_that_a_fallback_gives_is_not_called_stored() {
    let routes = "{match: {operation: models}, cache: {ttl: 1m}, fallback: [{provider: openai, model: other}]}";
    let world = World::new("", routes, |seen| match seen.nth {
        0 => answer(503, &[], ""),
        _ => answer(200, &[], "{}"),
    })
    .await;
    let client = outrigger::cli::client::Client::tcp(world.outbound);
    for (stored, asked) in [(false, 2), (true, 3)] {
        let list = client.get("/openai/v1/models").await.expect("an answer");
        assert_eq!((list.status.as_u16(), said(&list).contains("stored"), world.origin.count()), (200, stored, asked), "{}", said(&list));
    }
}

#[tokio::test]
async fn callers_steer_the_cache() {
    let world = World::new("", CACHED, numbered).await;
    let asked = async |directive: &'static str| ask(&world, "hello", &[("cache-control", directive)]).await;
    assert_eq!(asked("no-store").await, "answer 0");
    assert_eq!(asked("max-age=60").await, "answer 1", "no-store has stored nothing");
    assert_eq!(asked("max-age=60").await, "answer 1");
    assert_eq!(asked("no-cache").await, "answer 2");
    assert_eq!(ask(&world, "hello", &[]).await, "answer 2", "no-cache has replaced it");
    assert_eq!(asked("max-age=0").await, "answer 3");
    let none = world.call(&chat("never asked"), &[("cache-control", "only-if-cached")]).await;
    assert_eq!(none.status.as_u16(), 504);
    assert_eq!(world.origin.count(), 4);
}

#[tokio::test]
async fn savings_are_hits_times_the_price_of_the_call() {
    const HITS: u32 = 7;
    let world = World::new("", CACHED, numbered).await;
    ask(&world, "hello", &[]).await;
    let series = "outrigger_cost_usd_total{route=\"chat\",provider=\"openai\",model=\"gpt-4o-mini\"}";
    world.until("the call's cost", |world| world.metric(series) > 0.0).await;
    let price = world.metric(series);
    for _ in 0..HITS {
        ask(&world, "hello", &[]).await;
    }
    world.until_in_flight("outbound", 0).await;
    assert_eq!(world.metric(series), price, "a hit costs nothing");
    let saved = price * f64::from(HITS);
    world.until_metric("outrigger_cache_saved_usd_total{door=\"outbound\",route=\"chat\"}", saved).await;
    world.until_metric("outrigger_cache_saved_tokens_total{door=\"outbound\",route=\"chat\"}", f64::from(1500 * HITS)).await;
    let page = world.page("/api/cache").await.json().expect("JSON");
    let usd: f64 = page["saved"]["usd"].as_str().expect("text").parse().expect("a number");
    assert!((usd - saved).abs() < 1e-9, "{page}");
}

#[tokio::test]
async fn nothing_of_one_call_is_given_to_another() {
    let world = World::new("", CACHED, |_| {
        let fields = [
            ("content-type", "application/json"),
            ("set-cookie", "__cf_bm=secret"),
            ("x-ratelimit-remaining-requests", "1"),
            ("openai-version", "2020-10-01"),
        ];
        answer(200, &fields, completion("x", "stop").to_string())
    })
    .await;
    world.call(&chat("hello"), &[]).await;
    let hit = world.call(&chat("hello"), &[]).await;
    assert!(said(&hit).contains("; hit"), "{}", said(&hit));
    let gone = |fields: &HeaderMap| !fields.contains_key("set-cookie") && !fields.contains_key("x-ratelimit-remaining-requests");
    assert!(gone(&hit.headers) && hit.header("openai-version").is_some(), "{:?}", hit.headers);
}
