//! A batch is reserved when it is created, and charged once, at the batch price, when an answer states what it has used.

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::world::{Answer, Reply, World, json as post, run, settle};

const JSON: &str = "application/json";

fn yaml(limits: &str) -> String {
    format!("\noutbound:\n  providers: {{scripted: {{api: openai, url: 'http://s.test'}}}}\n{limits}\n")
}

const LIMITED: &str = "  limits: [{name: budget, usd: 3, window: 1h}]";

async fn ask(world: &World, caller: &str, request: http::request::Builder, body: impl Into<bytes::Bytes>, said: &str) -> Answer {
    world.app.always(Reply::ok("").bytes(said.as_bytes().to_vec()).header("content-type", JSON));
    let answer = world.caller().ask(request.header("outrigger-caller", caller).header("host", "localhost"), body).await;
    settle().await;
    answer
}

async fn get(world: &World, caller: &str, path: &str, said: &str) -> Answer {
    ask(world, caller, Request::get(format!("/scripted/v1{path}")), "", said).await
}

/// Uploads a file of `lines` requests for at most 100,000 tokens of output each: half a dollar at the batch price.
async fn upload(world: &World, id: &str, lines: usize) -> Answer {
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "max_tokens": 100_000, "messages": [{"role": "user", "content": "hi"}]}});
    let file = vec![line.to_string(); lines].join("\n");
    let form = format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xyz\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"b.jsonl\"\r\n\r\n{file}\r\n--xyz--\r\n"
    );
    let request = Request::post("/scripted/v1/files").header("content-type", "multipart/form-data; boundary=xyz");
    ask(world, "anna", request, form, &json!({"id": id, "object": "file", "purpose": "batch"}).to_string()).await
}

fn batch(id: &str, status: &str, more: Value) -> String {
    let mut batch =
        json!({"id": id, "object": "batch", "status": status, "input_file_id": "file-1", "output_file_id": null, "usage": null});
    batch.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    batch.to_string()
}

async fn create(world: &World, file: &str, id: &str) -> Answer {
    let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
    ask(world, "anna", post("/scripted/v1/batches"), body.to_string(), &batch(id, "validating", json!({}))).await
}

fn usage(output: u64) -> Value {
    json!({"input_tokens": 100_000, "output_tokens": output, "total_tokens": 100_000 + output})
}

/// 100,000 of input and 50,000 of output at half of 2.5 and 10 dollars a million.
const PRICE: u64 = 375_000_000;

fn spent(world: &World) -> Vec<(String, u64)> {
    let all = world.shared.spend.by_caller();
    all.iter().filter(|(_, spent)| spent.nano_usd > 0).map(|(caller, spent)| (caller.to_string(), spent.nano_usd)).collect()
}

#[test]
fn its_requests_are_reserved_and_its_usage_is_charged_once_to_the_one_who_created_it() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        assert_eq!(upload(&world, "file-1", 4).await.status, StatusCode::OK);
        assert_eq!(create(&world, "file-1", "batch_1").await.status, StatusCode::OK);
        assert_eq!(create(&world, "file-1", "batch_2").await.status, StatusCode::TOO_MANY_REQUESTS, "two of $2 do not fit into $3");
        get(&world, "bert", "/batches/batch_1", &batch("batch_1", "in_progress", json!({}))).await;
        assert_eq!(spent(&world), []);
        for _ in 0..3 {
            let done = json!({"model": "gpt-4o", "output_file_id": "file-2", "usage": usage(50_000)});
            get(&world, "bert", "/batches/batch_1", &batch("batch_1", "completed", done)).await;
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)]);
        }
        assert_eq!(create(&world, "file-1", "batch_3").await.status, StatusCode::OK, "the rest of the reservation was given back");
        let charged: Vec<_> = world.log().await.iter().filter_map(|line| line["cost_usd"].as_f64()).collect();
        assert_eq!(charged, [0.375]);
    });
}

#[test]
fn without_usage_in_its_state_the_lines_of_its_results_are_charged_once() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        upload(&world, "file-1", 4).await;
        create(&world, "file-1", "batch_1").await;
        get(&world, "anna", "/batches/batch_1", &batch("batch_1", "completed", json!({"output_file_id": "file-2"}))).await;
        assert_eq!(spent(&world), []);
        let line =
            |status: u16, body: Value| json!({"id": "r", "custom_id": "a", "response": {"status_code": status, "body": body}}).to_string();
        let answer = |output: u64| {
            json!({"object": "chat.completion", "model": "gpt-4o", "choices": [], "usage":
            {"prompt_tokens": 50_000, "completion_tokens": output, "total_tokens": 50_000 + output}})
        };
        let results = [
            line(200, answer(20_000)),
            line(500, json!({"error": {}})),
            json!({"custom_id": "x", "response": null, "error": {"code": "batch_expired"}}).to_string(),
            line(200, answer(30_000)),
        ]
        .join("\n");
        for _ in 0..2 {
            assert_eq!(get(&world, "bert", "/files/file-2/content", &results).await.text(), results);
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)]);
        }
        get(&world, "bert", "/files/file-9/content", &results).await;
        assert_eq!(spent(&world).len(), 1, "a file that is nobody's results");
    });
}

#[test]
fn a_list_charges_the_batches_that_it_tells_to_have_ended_and_that_somebody_has_begun_here() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        let list = |batches: Vec<String>| format!(r#"{{"object": "list", "data": [{}], "has_more": false}}"#, batches.join(", "));
        let done = |id: &str| batch(id, "completed", json!({"model": "gpt-4o", "output_file_id": "file-2", "usage": usage(50_000)}));
        upload(&world, "file-1", 4).await;
        create(&world, "file-1", "batch_1").await;
        get(&world, "bert", "/batches?limit=20", &list(vec![batch("batch_1", "in_progress", json!({}))])).await;
        assert_eq!(create(&world, "file-1", "batch_2").await.status, StatusCode::TOO_MANY_REQUESTS);
        for _ in 0..2 {
            get(&world, "bert", "/batches?limit=20", &list(vec![done("batch_9"), done("batch_1")])).await;
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)], "nobody has begun the other one here");
        }
        assert_eq!(create(&world, "file-1", "batch_2").await.status, StatusCode::OK, "the rest of the reservation was given back");
        get(&world, "bert", "/batches/batch_9", &done("batch_9")).await;
        assert_eq!(spent(&world).iter().map(|(_, cost)| *cost).collect::<Vec<_>>(), [PRICE, PRICE], "who asks about it pays");
        // Without usage the lines of its results are charged: the list tells which file has them.
        get(&world, "anna", "/batches", &list(vec![batch("batch_2", "completed", json!({"output_file_id": "file-3"}))])).await;
        let answer = json!({"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 100_000, "completion_tokens": 50_000}});
        get(&world, "anna", "/files/file-3/content", &json!({"response": {"status_code": 200, "body": answer}}).to_string()).await;
        assert_eq!(spent(&world)[0], ("anna".to_owned(), 2 * PRICE));
    });
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        let params = json!({"model": "claude-opus-5", "max_tokens": 150_000, "messages": []});
        let body = json!({"requests": [{"custom_id": "a", "params": params}]}).to_string();
        let create = async |id: &str| {
            let created = json!({"id": id, "type": "message_batch", "processing_status": "in_progress"}).to_string();
            ask(&world, "anna", post("/scripted/v1/messages/batches"), body.clone(), &created).await.status
        };
        assert_eq!(
            (create("msgbatch_1").await, create("msgbatch_2").await),
            (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS),
            "two of $1.88"
        );
        let counts = json!({"processing": 0, "succeeded": 0, "errored": 0, "canceled": 1, "expired": 0});
        let ended = json!({"id": "msgbatch_1", "type": "message_batch", "processing_status": "ended", "request_counts": counts});
        get(&world, "anna", "/messages/batches", &json!({"data": [ended], "has_more": false, "first_id": "x"}).to_string()).await;
        assert_eq!((create("msgbatch_3").await, spent(&world)), (StatusCode::OK, vec![]));
    });
}

#[test]
fn an_anthropic_batch_is_reserved_from_its_body_and_charged_from_its_results() {
    run(async {
        let world = World::new(&yaml(LIMITED)).await;
        let request = |model: &str, most: u64| json!({"custom_id": model, "params": {"model": model, "max_tokens": most, "messages": []}});
        let body = json!({"requests": [request("claude-opus-5", 90_000), request("claude-haiku-4-5", 90_000)]}).to_string();
        let created = json!({"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress"}).to_string();
        let create = async || ask(&world, "anna", post("/scripted/v1/messages/batches"), body.clone(), &created).await;
        assert_eq!(create().await.status, StatusCode::OK, "$1.13 and $0.23");
        assert_eq!(create().await.status, StatusCode::OK, "the same batch again: its id is known, and nothing is reserved twice");
        let result = |model: &str, kind: &str, output: u64| {
            let message = json!({"type": "message", "model": model, "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn",
                "usage": {"input_tokens": 1_000, "output_tokens": output, "service_tier": "batch"}});
            json!({"custom_id": model, "result": {"type": kind, "message": if kind == "succeeded" { message } else { Value::Null }}})
                .to_string()
        };
        let results = [
            result("claude-opus-5", "succeeded", 10_000),
            result("claude-haiku-4-5", "succeeded", 10_000),
            result("claude-opus-5", "canceled", 0),
            result("claude-opus-5", "expired", 0),
        ]
        .join("\n");
        // Half of: 1,000 at 5 and 10,000 at 25 dollars a million; 1,000 at 1 and 10,000 at 5.
        for _ in 0..2 {
            get(&world, "bert", "/messages/batches/msgbatch_1/results", &results).await;
            assert_eq!(spent(&world), [("anna".to_owned(), (5_000_000 + 250_000_000 + 1_000_000 + 50_000_000) / 2)]);
        }
        assert!(world.count("outrigger_cost_usd_total", &[("model", "claude-haiku-4-5")]) > 0.02);
    });
}

#[test]
fn what_is_not_known_is_refused_under_a_limit_and_charged_without_one() {
    run(async {
        for (limits, status) in [(LIMITED, 403), ("  limits: [{name: budget, usd: 3, window: 1h, unmetered: allow}]", 200), ("", 200)] {
            let world = World::new(&yaml(limits)).await;
            let answer = create(&world, "file-7", "batch_1").await;
            assert_eq!(answer.status.as_u16(), status, "{limits} {}", answer.text());
            if status == 403 {
                assert_eq!(answer.json()["error"]["code"], "unmetered");
                continue;
            }
            let done = json!({"model": "gpt-4o", "usage": usage(50_000)});
            get(&world, "bert", "/batches/batch_1", &batch("batch_1", "completed", done)).await;
            assert_eq!(spent(&world), [("anna".to_owned(), PRICE)], "{limits}");
        }
        let world = World::new(&yaml(LIMITED)).await;
        let request = json!({"requests": [{"custom_id": "a", "params": {"model": "house", "max_tokens": 1, "messages": []}}]});
        let answer = ask(&world, "anna", post("/scripted/v1/messages/batches"), request.to_string(), "{}").await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["type"]),
            (StatusCode::FORBIDDEN, &json!("permission_error")),
            "{}",
            answer.text()
        );
    });
}

#[test]
fn a_batch_that_did_nothing_gives_everything_back() {
    run(async {
        for (status, more) in [("failed", json!({})), ("cancelled", json!({"request_counts": {"completed": 0, "total": 4}}))] {
            let world = World::new(&yaml(LIMITED)).await;
            upload(&world, "file-1", 4).await;
            create(&world, "file-1", "batch_1").await;
            let cancel = Request::builder().method(Method::POST).uri("/scripted/v1/batches/batch_1/cancel");
            ask(&world, "anna", cancel, "", &batch("batch_1", "cancelling", json!({}))).await;
            assert_eq!(create(&world, "file-1", "batch_2").await.status, StatusCode::TOO_MANY_REQUESTS);
            get(&world, "anna", "/batches/batch_1", &batch("batch_1", status, more)).await;
            assert_eq!(create(&world, "file-1", "batch_2").await.status, StatusCode::OK, "{status}");
            assert_eq!(spent(&world), []);
        }
    });
}

#[test]
fn many_short_lines_are_no_long_context() {
    run(async {
        let world = World::new(&yaml("  limits: [{name: budget, usd: 300, window: 1h}]")).await;
        upload(&world, "file-1", 4).await;
        create(&world, "file-1", "batch_1").await;
        let ended = json!({"model": "gpt-5.4", "output_file_id": "file-2", "request_counts": {"completed": 3},
            "usage": {"input_tokens": 700_002, "output_tokens": 3_000, "total_tokens": 703_002}});
        get(&world, "anna", "/batches/batch_1", &batch("batch_1", "completed", ended)).await;
        assert_eq!(spent(&world), [], "the sum does not tell how long each line was");
        let line = |input: u64| {
            let body = json!({"object": "chat.completion", "model": "gpt-5.4", "choices": [], "usage":
                {"prompt_tokens": input, "completion_tokens": 1_000, "total_tokens": input + 1_000}});
            json!({"custom_id": "a", "response": {"status_code": 200, "body": body}}).to_string()
        };
        let results = [line(200_000), line(200_000), line(300_002)].join("\n");
        get(&world, "anna", "/files/file-2/content", &results).await;
        // Half of 2.5 and 15 dollars a million; half of twice and one and a half times that for the line above 272,000.
        let short = 200_000 * 2_500 + 1_000 * 15_000;
        let long = 300_002 * 5_000 + 1_000 * 22_500;
        assert_eq!(spent(&world), [("anna".to_owned(), (2 * short + long) / 2)]);
    });
}
