//! What went wrong once, by what it did.

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, chat, json, run};

const CHAT: &str = "/openai/v1/chat/completions";
const PLAIN: &str = "inbound: {app: 'http://app.test'}";

#[test]
fn a_stream_that_breaks_before_its_first_content_is_broken_for_the_client_too() {
    run(async {
        let world = World::new("outbound: {providers: {openai: {url: 'http://o.test'}}, defaults: {retry: {max_retries: 0}}}").await;
        world.provider("openai").script(["cut-after=0"]);
        let mut body = chat("gpt-4o");
        body["stream"] = true.into();
        let answer = world.caller().call(CHAT, &body).await;
        assert!(answer.broken, "{} {}", answer.status, answer.text());
    });
}

#[test]
fn the_apps_credential_goes_to_the_provider_it_was_meant_for_and_to_no_other() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test'}, house: {api: openai, url: 'http://h.test'}}, \
             defaults: {fallback: [{provider: house}]}}",
        )
        .await;
        world.provider("openai").script(["503"]);
        let asked = json(CHAT).header("authorization", "Bearer sk-app").header("x-api-key", "sk-app");
        world.caller().ask(asked, chat("gpt-4o").to_string()).await;
        assert!(world.provider("openai").seen()[0].header("authorization").is_some());
        let house = world.provider("house").seen();
        assert_eq!((house.len(), house[0].header("authorization"), house[0].header("x-api-key")), (1, None, None));
    });
}

#[test]
fn an_app_that_answers_in_http_1_0_does_not_make_the_client_speak_it() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.raw(["HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nhello"]);
        let text = exchange(&world, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("transfer-encoding: chunked") && text.ends_with("0\r\n\r\n"), "{text}");
    });
}

#[test]
fn a_request_in_http_1_0_without_a_host_goes_on_with_one() {
    run(async {
        let world = World::new(PLAIN).await;
        let text = exchange(&world, "OPTIONS /health HTTP/1.0\r\n\r\n").await;
        assert!(text.contains(" 200 "), "{text}");
        assert_eq!(world.app.only().header("host"), "app.test");
    });
}

#[test]
fn an_app_may_copy_the_fields_it_was_asked_with_into_what_it_asks() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}\noutbound: {providers: {openai: {url: 'http://o.test'}}}").await;
        world.client().get("/").await;
        let via = world.app.only().header("via").to_owned();
        let answer = world.caller().ask(json(CHAT).header("via", via), chat("gpt-4o").to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    });
}

/// Writes a request and reads to the end of the connection.
async fn exchange(world: &World, request: &str) -> String {
    let mut pipe = world.client().raw();
    pipe.write_all(request.as_bytes()).await.expect("open");
    let mut text = String::new();
    pipe.read_to_string(&mut text).await.expect("text");
    text
}
