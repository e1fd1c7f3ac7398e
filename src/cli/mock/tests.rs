//! Tests of the mock on a loopback port of the system's choice: the behaviour that its clients rely on.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

use super::*;
use crate::cli::client::{Answer, Client, ClientError};

async fn world(options: Options) -> (Mock, Client, oneshot::Sender<()>) {
    let mock = Mock::bind(SocketAddr::from(([127, 0, 0, 1], 0)), options).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = mock.clone();
    tokio::spawn(async move {
        running
            .run(async {
                let _ = stopped.await;
            })
            .await;
    });
    let client = Client::tcp(mock.addr()).with_timeout(Duration::from_secs(10)).with_header("authorization", "Bearer sk-one");
    (mock, client, stop)
}

fn question(text: &str) -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]})
}

fn streamed(mut body: Value, usage: bool) -> Value {
    body["stream"] = json!(true);
    if usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

fn events(answer: &Answer) -> Vec<Value> {
    let text = answer.text();
    assert!(text.ends_with("\n\n"), "the last event is complete");
    text.split("\n\n")
        .filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn the_same_question_gets_the_same_answer_and_is_billed_twice() {
    let (mock, client, _stop) = world(Options::default()).await;
    let first = client.post("/v1/chat/completions", &question("hello")).await.unwrap().json().unwrap();
    let second = client.post("/v1/chat/completions", &question("hello")).await.unwrap().json().unwrap();
    assert_eq!(first["choices"], second["choices"]);
    assert_ne!(first["id"], second["id"]);
    let books = mock.books();
    assert_eq!((books.total.calls, books.requests, books.in_flight), (2, 2, 0));
    assert_eq!(books.total.usage.output, 2 * first["usage"]["completion_tokens"].as_u64().unwrap());
    assert_eq!(books.total.usage.input, 2 * first["usage"]["prompt_tokens"].as_u64().unwrap());
    assert_eq!(books.credentials[&hash_credential("sk-one")], books.models["gpt-4o-mini"]);
}

#[tokio::test]
async fn usage_comes_in_a_stream_only_when_asked() {
    let (mock, client, _stop) = world(Options::default()).await;
    let asked = client.post("/v1/chat/completions", &streamed(question("hello"), true)).await.unwrap();
    let asked_events = events(&asked);
    let (last, before) = asked_events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 24);
    assert!(before.iter().all(|event| event.get("usage") == Some(&Value::Null)));
    let plain = client.post("/v1/chat/completions", &streamed(question("hello"), false)).await.unwrap();
    let plain_events = events(&plain);
    assert_eq!(plain_events.len(), before.len());
    assert!(plain_events.iter().all(|event| event.get("usage").is_none()));
    let whole = client.post("/v1/chat/completions", &question("hello")).await.unwrap().json().unwrap();
    let text: String = plain_events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    let mut lone = question("hello");
    lone["stream_options"] = json!({"include_usage": true});
    assert_eq!(client.post("/v1/chat/completions", &lone).await.unwrap().status, 400);
    assert_eq!(mock.books().total.usage.output, 3 * 24);
}

#[tokio::test]
async fn tools_are_called_when_required() {
    let (_mock, client, _stop) = world(Options::default()).await;
    let mut body = question("weather?");
    body["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]);
    body["tool_choice"] = json!("required");
    let whole = client.post("/v1/chat/completions", &body).await.unwrap().json().unwrap();
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call["name"], "weather");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["city"].is_string());
    let events = events(&client.post("/v1/chat/completions", &streamed(body, false)).await.unwrap());
    let arguments: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()).collect();
    assert_eq!(call["arguments"], arguments);
}

#[tokio::test]
async fn responses_number_their_events_and_end_with_the_usage() {
    let (_mock, client, _stop) = world(Options::default()).await;
    let body = json!({"model": "gpt-4o", "input": "hello", "stream": true});
    let answer = client.post("/v1/responses", &body).await.unwrap();
    assert!(!answer.text().contains("[DONE]"));
    let events = events(&answer);
    assert!(events.iter().enumerate().all(|(n, event)| event["sequence_number"] == n));
    let last = events.last().unwrap();
    assert_eq!((last["type"].as_str(), last["response"]["usage"]["output_tokens"].as_u64()), (Some("response.completed"), Some(24)));
}

#[tokio::test]
async fn embeddings_are_the_same_as_numbers_and_as_base64() {
    let (_mock, client, _stop) = world(Options::default()).await;
    let ask = |format: &str| json!({"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 8, "encoding_format": format});
    let floats = client.post("/v1/embeddings", &ask("float")).await.unwrap().json().unwrap();
    let coded = client.post("/v1/embeddings", &ask("base64")).await.unwrap().json().unwrap();
    let first: Vec<f32> = floats["data"][0]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    assert_eq!(first.len(), 8);
    assert_ne!(floats["data"][0]["embedding"], floats["data"][1]["embedding"]);
    let bytes: Vec<u8> = first.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(coded["data"][0]["embedding"], answer::base64(&bytes));
}

#[tokio::test]
async fn anthropic_streams_cumulative_usage_and_caches_marked_prompts() {
    let (mock, client, _stop) = world(Options::default()).await;
    let client = client.with_header("anthropic-version", "2023-06-01");
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 10, "stream": true, "messages": [{"role": "user", "content": "hi"}],
        "system": [{"type": "text", "text": "x".repeat(8192), "cache_control": {"type": "ephemeral"}}]});
    for (written, read) in [(2051, 0), (0, 2051)] {
        let events = events(&client.post("/v1/messages", &body).await.unwrap());
        let usage = &events[0]["message"]["usage"];
        assert_eq!((&usage["cache_creation_input_tokens"], &usage["cache_read_input_tokens"]), (&json!(written), &json!(read)));
        assert_eq!(events[events.len() - 2]["usage"]["output_tokens"], 10);
        assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "max_tokens");
    }
    assert_eq!((mock.books().total.usage.cache_write, mock.books().total.usage.cache_read), (2051, 2051));
    let counted = client.post("/v1/messages/count_tokens", &body).await.unwrap().json().unwrap();
    assert_eq!(counted["input_tokens"].as_u64().unwrap(), 2051 + mock.books().total.usage.input / 2);
}

#[tokio::test]
async fn gemini_streams_as_events_and_as_an_array() {
    let (_mock, client, _stop) = world(Options::default()).await;
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let path = "/v1beta/models/gemini-2.5-flash";
    let whole = client.post(&format!("{path}:generateContent"), &body).await.unwrap().json().unwrap();
    let array = client.post(&format!("{path}:streamGenerateContent"), &body).await.unwrap().json().unwrap();
    let sse = events(&client.post(&format!("{path}:streamGenerateContent?alt=sse"), &body).await.unwrap());
    assert_eq!(array.as_array().unwrap().len(), sse.len());
    assert_eq!(sse.last().unwrap()["usageMetadata"], whole["usageMetadata"]);
}

#[tokio::test]
async fn scripted_faults_come_once_each_in_the_shape_of_the_api() {
    let (mock, client, _stop) = world(Options::default()).await;
    let script = json!(["429;retry-after=1", "quota", 503]);
    assert_eq!(client.post("/mock/script", &script).await.unwrap().status, 200);
    let limited = client.post("/v1/chat/completions", &question("x")).await.unwrap();
    assert_eq!((limited.status.as_u16(), limited.header("retry-after")), (429, Some("1")));
    assert_eq!(limited.json().unwrap()["error"]["code"], "rate_limit_exceeded");
    let spent = client.post("/v1/chat/completions", &question("x")).await.unwrap().json().unwrap();
    assert_eq!(spent["error"]["code"], "insufficient_quota");
    let down = client.clone().with_header("anthropic-version", "2023-06-01").post("/v1/messages", &question("x")).await.unwrap();
    assert_eq!((down.status.as_u16(), down.json().unwrap()["type"].as_str()), (503, Some("error")));
    assert_eq!(client.post("/v1/chat/completions", &question("x")).await.unwrap().status, 200);
    assert_eq!((mock.books().faults, mock.books().total.calls), (3, 1));
    assert_eq!(client.post("/mock/script", &json!(["nonsense"])).await.unwrap().status, 400);
}

#[tokio::test]
async fn connections_break_as_told() {
    let (mock, client, _stop) = world(Options::default()).await;
    let with = |fault: &str| client.clone().with_header("x-mock-fault", fault);
    for fault in ["reset", "close", "garbage"] {
        let result = with(fault).post("/v1/chat/completions", &question("x")).await;
        assert!(matches!(result, Err(ClientError::Broken(_))), "{fault}: {result:?}");
    }
    for fault in ["cut-after=3", "reset-after=3"] {
        let mut stream =
            with(fault).open(Method::POST, "/v1/chat/completions", Bytes::from(streamed(question("x"), false).to_string())).await.unwrap();
        let mut text = String::new();
        let broken = loop {
            match stream.next().await {
                Ok(Some(piece)) => text.push_str(std::str::from_utf8(&piece).unwrap()),
                end => break end,
            }
        };
        assert!(broken.is_err(), "{fault}");
        if fault == "cut-after=3" {
            assert_eq!(text.matches("data: ").count(), 3);
        }
        let whole = with(fault).post("/v1/chat/completions", &question("x")).await;
        assert!(matches!(whole, Err(ClientError::Broken(_))), "{fault}");
    }
    let ended = with("end-after=3").post("/v1/chat/completions", &streamed(question("x"), false)).await.unwrap();
    assert_eq!(events(&ended).len(), 3);
    let failed = with("error-in-stream=overloaded_error").post("/v1/chat/completions", &streamed(question("x"), false)).await.unwrap();
    assert_eq!(events(&failed).last().unwrap()["error"]["type"], "overloaded_error");
    assert_eq!(mock.books().abandoned, 0);
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_stream_and_pays_for_what_came() {
    let (mock, client, _stop) = world(Options::default()).await;
    let slow = client.clone().with_header("x-mock-fault", "tokens=1000;rate=100");
    let body = Bytes::from(streamed(question("x"), false).to_string());
    let mut stream = slow.open(Method::POST, "/v1/chat/completions", body).await.unwrap();
    stream.next().await.unwrap();
    assert_eq!(mock.books().in_flight, 1);
    drop(stream);
    let hang = client.clone().with_header("x-mock-fault", "hang").with_timeout(Duration::from_millis(20));
    assert!(matches!(hang.post("/v1/chat/completions", &question("x")).await, Err(ClientError::Timeout(_))));
    while mock.books().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    let books = mock.books();
    assert_eq!((books.abandoned, books.total.calls), (2, 1));
    assert!(books.total.usage.output < 500);
}

#[tokio::test(start_paused = true)]
async fn pace_and_idle_close_follow_the_clock() {
    let mock = Mock::unbound(Options { latency: Duration::from_secs(1), tokens_per_second: 10, ..Options::default() });
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let server = mock.clone();
    tokio::spawn(async move { server.serve(far).await });
    let begun = tokio::time::Instant::now();
    let body = streamed(question("x"), false).to_string();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    near.write_all((head + &body).as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"0\r\n\r\n") {
        near.read_buf(&mut text).await.unwrap();
    }
    // 1 s of latency, then 24 tokens at 10/s; timers tick in milliseconds.
    let took = begun.elapsed().as_millis();
    assert!((3_400..3_450).contains(&took), "{took}");
    assert_eq!(near.read_buf(&mut text).await.unwrap(), 0, "closed when idle");
    let idle = begun.elapsed().as_millis() - took;
    assert!((5_000..5_100).contains(&idle), "{idle}");
}

#[tokio::test]
async fn chance_fails_the_asked_share() {
    let (mock, client, _stop) = world(Options { fail_rate: 0.5, seed: 7, ..Options::default() }).await;
    for _ in 0..100 {
        client.get("/v1/models").await.unwrap();
    }
    let faults = mock.books().faults;
    assert!((30..70).contains(&faults), "{faults}");
}

#[tokio::test]
async fn requests_are_remembered_without_their_secrets() {
    let (mock, client, _stop) = world(Options { remember: 2, ..Options::default() }).await;
    for text in ["one", "two", "three"] {
        client.post("/v1/chat/completions?key=sk-secret", &question(text)).await.unwrap();
    }
    let seen = mock.requests();
    assert_eq!(seen.len(), 2);
    assert!(seen[1].body.contains("three"));
    assert_eq!(seen[1].header("authorization"), Some(hash_credential("sk-one").as_str()));
    let shown = client.get("/mock/requests").await.unwrap().text();
    assert!(!shown.contains("sk-one") && !shown.contains("sk-secret"), "{shown}");
    mock.reset();
    assert_eq!((mock.requests().len(), mock.books().requests), (0, 0));
}
