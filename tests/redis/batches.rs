//! A batch whose file went through one replica is reserved at another, and its results are charged once, to who created it, whichever
//! replica they pass.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;

use super::{
    server::Server,
    world::{Answer, Origin, Replica, eventually, redis_cli, request},
};

/// 2,000 of input and 1,000 of output at half of 2.5 and 10 dollars a million.
const PRICE: u64 = 7_500_000;

fn results() -> String {
    let usage = json!({"prompt_tokens": 1_000, "completion_tokens": 500, "total_tokens": 1_500});
    let body = json!({"object": "chat.completion", "model": "gpt-4o", "choices": [], "usage": usage});
    let line = json!({"id": "r", "custom_id": "a", "response": {"status_code": 200, "body": body}, "error": null}).to_string();
    format!("{line}\n{line}\n")
}

fn provider(asked: &Request<Incoming>, _: usize) -> Option<Response<Full<Bytes>>> {
    let body = match (asked.method().as_str(), asked.uri().path().rsplit('/').next().unwrap_or_default()) {
        ("POST", "files") => json!({"id": "file-1", "object": "file"}).to_string(),
        ("POST", _) => json!({"id": "batch_1", "object": "batch", "status": "validating"}).to_string(),
        (_, "content") => results(),
        _ => json!({"id": "batch_1", "object": "batch", "status": "completed", "output_file_id": "file-2"}).to_string(),
    };
    Some(Response::builder().header("content-type", "application/json").body(Full::new(body.into())).expect("a response"))
}

async fn ask(at: &Replica, caller: &str, method: &str, path: &str, kind: &str, body: &str) -> Answer {
    let fields = [("content-type", kind), ("authorization", "Bearer sk-app"), ("outrigger-caller", caller)];
    at.ask_at(at.0.addresses.outbound.expect("open"), request(method, &format!("/house{path}"), &fields, body)).await
}

async fn create(at: &Replica, file: &str) -> StatusCode {
    let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}).to_string();
    ask(at, "anna", "POST", "/batches", "application/json", &body).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_files_and_payers_of_batches() {
    let Some(server) = Server::start() else { return };
    let origin = Origin::playing(provider).await;
    let (one, two) = (Replica::up(&origin, &server).await, Replica::up(&origin, &server).await);
    let line = json!({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o", "max_tokens": 500, "messages": [{"role": "user", "content": "hi"}]}});
    let form = format!("--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\n{line}\n{line}\r\n--x--\r\n");
    let files = |some: usize| redis_cli(&server, &["KEYS", "{test}:file:*"]).lines().filter(|line| !line.is_empty()).count() == some;
    ask(&one, "anna", "POST", "/files", "multipart/form-data; boundary=x", &form).await;
    eventually("the file is in Redis", || files(1)).await;
    assert_eq!(create(&two, "file-9").await, StatusCode::FORBIDDEN, "nobody knows the file");
    assert_eq!(create(&two, "file-1").await, StatusCode::OK);
    eventually("the batch is in Redis", || redis_cli(&server, &["KEYS", "{test}:work:*"]).contains("work")).await;
    ask(&one, "bert", "GET", "/batches/batch_1", "", "").await;
    eventually("so is the file of its results", || files(2)).await;
    for at in [&one, &two, &one] {
        assert_eq!(ask(at, "cleo", "GET", "/files/file-2/content", "", "").await.body, results());
    }
    let spent = || {
        let all = [&one, &two].into_iter().flat_map(|replica| replica.0.shared.spend.by_caller());
        all.filter(|(_, spent)| spent.nano_usd > 0).map(|(who, spent)| (who.to_string(), spent.nano_usd)).collect::<Vec<_>>()
    };
    eventually("charged", || !spent().is_empty()).await;
    // The last of a worker's queue: then all before it are done.
    ask(&two, "last", "GET", "/files/file-2/content", "", "").await;
    eventually("not charged again", || spent() == [("anna".to_owned(), PRICE)]).await;
    assert!(!redis_cli(&server, &["KEYS", "*"]).contains("file-"), "ids of the provider's are hashed");
}
