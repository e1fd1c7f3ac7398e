//! `validate`: what is not as the route says is refused before it counts, and what passes goes on byte for byte.

use std::{fs, io::Write};

use flate2::{Compression, write::GzEncoder};
use http::{Request, StatusCode};
use http_body::Frame;
use serde_json::{Value, json as value};
use tempfile::TempDir;

use crate::world::{Reply, World, json, run, upload};

const ORDER: &str = r#"{"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}}}"#;

/// A world whose route `r` validates so; `SCHEMA` is the file of a schema.
async fn world(validate: &str) -> (World, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("order.json");
    fs::write(&file, ORDER).expect("written");
    let validate = validate.replace("SCHEMA", &file.display().to_string());
    let text = format!(
        "inbound:\n  app: http://app.test\n  routes:\n    - {{name: r, match: {{path: /r/**}}, validate: {{{validate}}}, \
         limits: [{{name: pace, key: client_ip, requests: 100, window: 1h}}]}}\noutbound:\n  providers: {{openai: {{url: 'http://openai.test'}}}}\n  \
         routes:\n    - {{name: chat, match: {{operation: chat}}, validate: {{{validate}}}}}\n"
    );
    (World::new(&text).await, dir)
}

#[test]
fn what_is_wrong_is_told_at_once_as_a_problem_and_counts_nowhere() {
    run(async {
        let (world, _dir) = world("schema: SCHEMA, methods: [POST, GET], max_body: 1KiB").await;
        let refused = world.client().ask(json("/r/a"), r#"{"n": "many", "n": 1.5}"#).await;
        let told = refused.json();
        assert_eq!((refused.status, refused.header("content-type")), (StatusCode::UNPROCESSABLE_ENTITY, "application/problem+json"));
        assert_eq!((told["reason"].as_str(), told["status"].as_u64()), (Some("invalid_content"), Some(422)));
        let pointers: Vec<&str> = told["errors"].as_array().expect("a list").iter().filter_map(|error| error["pointer"].as_str()).collect();
        assert!(["#/n", "#"].iter().all(|place| pointers.contains(place)) && pointers.len() == 3, "{told:#}");
        for (asked, body, status, reason) in [
            (json("/r/a"), "{".to_owned(), 400, "invalid_json"),
            (json("/r/a"), format!(r#"{{"sku": "{}"}}"#, "x".repeat(2000)), 413, "invalid_size"),
            (Request::post("/r/a").header("content-type", "text/plain"), "{}".to_owned(), 415, "invalid_type"),
            (Request::put("/r/a"), String::new(), 405, "invalid_method"),
            (json("/r/a"), String::new(), 422, "invalid_content"),
        ] {
            let refused = world.client().ask(asked, body).await;
            assert_eq!((refused.status.as_u16(), refused.json()["reason"].as_str().unwrap_or_default()), (status, reason));
            assert_eq!(refused.header("allow"), if status == 405 { "POST, GET" } else { "" });
        }
        assert_eq!((world.app.asked(), world.limit("pace")), (0, (0, 0, 0)));
        assert_eq!(world.count("outrigger_rejects_total", &[("route", "r"), ("reason", "invalid_content")]), 2.0);
    });
}

#[test]
fn what_passes_goes_on_byte_for_byte_however_it_came() {
    run(async {
        let (world, _dir) = world("schema: SCHEMA").await;
        let body = "{ \"sku\" : \"a\\u0062\",\n \"n\":1.0e0 }";
        assert_eq!(world.client().ask(json("/r/a"), body).await.status, StatusCode::OK);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(body.as_bytes()).expect("written");
        let coded = gzip.finish().expect("written");
        assert_eq!(world.client().ask(json("/r/a").header("content-encoding", "gzip"), coded.clone()).await.status, StatusCode::OK);
        let (pieces, streamed) = upload();
        let sending = async {
            for piece in body.as_bytes().chunks(3) {
                pieces.send(Ok(Frame::data(piece.to_vec().into()))).await.expect("taken");
            }
            drop(pieces);
        };
        let asked = json("/r/a").body(streamed).expect("a request");
        let client = world.client();
        let (opened, ()) = tokio::join!(client.send(asked), sending);
        assert_eq!(opened.whole().await.status, StatusCode::OK);
        let seen = world.app.seen();
        assert_eq!(seen.iter().map(|seen| &seen.body[..]).collect::<Vec<_>>(), [body.as_bytes(), &coded, body.as_bytes()]);
        assert_eq!((seen[1].header("content-encoding"), seen[1].header("content-length")), ("gzip", coded.len().to_string().as_str()));
        // What is coded is looked into: a wrong text, an unknown coding, a bomb.
        for (coding, body, status) in [("gzip", b"no gzip".to_vec(), 400), ("rot13", b"{}".to_vec(), 415)] {
            let refused = world.client().ask(json("/r/a").header("content-encoding", coding), body).await;
            assert_eq!(refused.status.as_u16(), status, "{coding}");
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(br#"{"n": 1}"#).expect("written");
        let wrong = world.client().ask(json("/r/a").header("content-encoding", "gzip"), gzip.finish().expect("written")).await;
        assert_eq!(wrong.json()["errors"][0]["pointer"], "#");
        assert_eq!(world.app.asked(), 3);
    });
}

#[test]
fn a_policy_that_observes_lets_everything_pass_and_says_what_it_would_have_done() {
    run(async {
        let (world, _dir) = world("schema: SCHEMA, max_body: 16B, mode: observe").await;
        let large = format!(r#"{{"sku": "{}"}}"#, "x".repeat(100));
        for body in ["{}", r#"{"sku": "a"}"#, &large, "{"] {
            assert_eq!(world.client().ask(json("/r/a"), body.to_owned()).await.status, StatusCode::OK);
        }
        let sent: Vec<Vec<u8>> = world.app.seen().iter().map(|seen| seen.body.to_vec()).collect();
        assert_eq!(sent, ["{}", r#"{"sku": "a"}"#, &large, "{"].map(|body| body.as_bytes().to_vec()));
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "r"), ("policy", "validate")]), 3.0);
        let lines = world.log().await;
        assert_eq!(lines[0]["would_refuse"], "validate", "{:#}", lines[0]);
    });
}

#[test]
fn a_provider_route_refuses_in_the_providers_words() {
    run(async {
        let (world, _dir) = world("schema: SCHEMA").await;
        let call: Value = value!({"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]});
        let refused = world.caller().call("/openai/v1/chat/completions", &call).await;
        let error = refused.json()["error"].clone();
        assert_eq!((refused.status, error["code"].as_str()), (StatusCode::UNPROCESSABLE_ENTITY, Some("invalid_content")), "{error}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains("sku")), "{error}");
        assert!(world.provider("openai").seen().is_empty());
    });
}

#[test]
fn a_document_says_what_the_app_takes() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("api.yaml");
        let text = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths:\n  /orders/{id}:\n    get:\n      parameters:\n        \
                    - {name: id, in: path, required: true, schema: {type: integer}}\n        - {name: limit, in: query, schema: {type: integer, maximum: 9}}\n";
        fs::write(&file, text).expect("written");
        let world =
            World::new(&format!("inbound: {{app: 'http://app.test', defaults: {{validate: {{openapi: {}}}}}}}", file.display())).await;
        world.app.always(Reply::ok("x"));
        let ask = async |method: &str, path: &str| {
            let answer = world.client().ask(Request::builder().method(method).uri(path), "").await;
            (answer.status.as_u16(), answer.text().to_owned())
        };
        assert_eq!(ask("GET", "/orders/7?limit=9").await.0, 200);
        let (status, text) = ask("GET", "/orders/x?limit=10").await;
        assert!(status == 422 && text.contains("\"parameter\":\"id\"") && text.contains("\"parameter\":\"limit\""), "{status} {text}");
        assert_eq!(
            (ask("GET", "/other").await.0, ask("DELETE", "/orders/7").await.0, ask("GET", "/orders/%2e%2e").await.0),
            (404, 405, 404)
        );
        assert_eq!(world.app.asked(), 1);
    });
}
