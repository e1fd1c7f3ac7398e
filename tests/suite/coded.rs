//! Request bodies in a content coding: policies see the text, the provider gets the bytes as they came; where a policy must read
//! and cannot, the request is refused in the provider's own shape.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{Answer, Reply, World, chat, json as post, run, settle};

const MESSAGES: &str = "/anthropic/v1/messages";
const CHAT: &str = "/openai/v1/chat/completions";

const LIMITED: &str = "
outbound:
  providers: {anthropic: {url: 'http://a.test'}, openai: {url: 'http://o.test'}}
  limits: [{name: budget, usd: 0.40, window: 1h}]
  routes:
    - {name: opus, match: {operation: messages, models: ['claude-opus-*']}}
";

pub fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_ref()).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(text: impl AsRef<[u8]>) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text.as_ref(), ruzstd::encoding::CompressionLevel::Fastest)
}

fn message() -> String {
    json!({"model": "claude-opus-4-1", "max_tokens": 4000, "messages": [{"role": "user", "content": "word ".repeat(200)}]}).to_string()
}

/// The content coding that a provider saw.
fn header(headers: &[(String, String)]) -> &str {
    headers.iter().find(|(name, _)| name == "content-encoding").map_or("", |(_, value)| value)
}

async fn send(world: &World, path: &str, coding: &str, body: Vec<u8>) -> Answer {
    let request = post(path).header("anthropic-version", "2023-06-01").header("content-encoding", coding);
    world.caller().ask(request, body).await
}

#[test]
fn a_route_by_model_a_price_and_a_limit_see_the_text_and_the_provider_gets_the_bytes() {
    run(async {
        for (coding, body) in [("gzip", gzip(message())), ("zstd", zstd(message()))] {
            let world = World::new(LIMITED).await;
            world.provider("anthropic").script(["slow=10s", "slow=10s"]);
            // Each may cost $0.30 of output.
            let together = futures_util::join!(send(&world, MESSAGES, coding, body.clone()), send(&world, MESSAGES, coding, body.clone()),);
            let mut statuses = [together.0.status, together.1.status];
            statuses.sort();
            assert_eq!(statuses, [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS], "{coding}");
            let seen = world.provider("anthropic").seen();
            assert_eq!((seen.len(), header(&seen[0].headers)), (1, coding), "it could read it");
            let lines = world.log().await;
            let line = lines.iter().find(|line| line["status"] == 200).expect("a line");
            assert_eq!((line["route"].as_str(), line["model"].as_str()), (Some("opus"), Some("claude-opus-4-1")), "{coding}: {line:#}");
            assert_eq!(line["tokens"]["source"], "provider");
        }
    });
}

#[test]
fn what_cannot_be_read_is_refused_where_a_policy_must_read_it() {
    run(async {
        let world = World::new(LIMITED).await;
        let bomb = gzip(gzip(vec![b' '; 40 << 20]));
        for (coding, body, status, reason) in [
            ("compress", message().into_bytes(), 415, "coding_unknown"),
            ("gzip", message().into_bytes(), 400, "coding_broken"),
            (
                "gzip",
                {
                    let whole = gzip(message());
                    whole[..whole.len() - 4].to_vec()
                },
                400,
                "coding_broken",
            ),
            ("gzip, gzip", bomb, 413, "decoded_too_large"),
        ] {
            for (path, kind) in [(MESSAGES, "anthropic"), (CHAT, "openai")] {
                let answer = send(&world, path, coding, body.clone()).await;
                assert_eq!(answer.status.as_u16(), status, "{coding}: {}", answer.text());
                assert!(answer.header("proxy-status").contains(reason), "{}", answer.header("proxy-status"));
                let said: Value = answer.json();
                assert!(said["error"]["message"].as_str().expect("a message").contains("without a coding"), "{kind}: {said}");
            }
        }
        assert!(world.provider("anthropic").seen().is_empty() && world.provider("openai").seen().is_empty());
        assert_eq!(world.limit("budget").0, 0, "nothing was taken");
    });
}

/// What must be read: a route by model needs no limit, and the limit of the user who caused a call stands at the other door.
#[test]
fn a_route_by_model_and_a_limit_of_the_cause_must_read_it_too() {
    run(async {
        let by_model = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  routes: [{match: {models: ['gpt-*']}}]
";
        let answer = send(&World::new(by_model).await, CHAT, "compress", chat("gpt-4o").to_string().into_bytes()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{}", answer.text());

        let by_cause = "
inbound:
  app: http://app.test
  routes: [{name: chat, match: {path: /chat}, limits: [{name: user, key: client_ip, usd: 1, window: 1h}]}]
outbound: {providers: {openai: {url: 'http://o.test'}}}
";
        let world = World::new(by_cause).await;
        world.client().get("/chat").await;
        let baggage = world.app.only().header("baggage").to_owned();
        for (baggage, refused) in [(&*baggage, true), ("", false)] {
            let request = post(CHAT).header("content-encoding", "compress").header("baggage", baggage);
            let answer = world.caller().ask(request, "abc").await;
            assert_eq!(answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE, refused, "`{baggage}`: {}", answer.text());
        }
    });
}

#[test]
fn a_text_that_the_process_has_no_room_for_is_refused() {
    run(async {
        let world = World::new(&format!("body_budget: 1MiB{LIMITED}")).await;
        let text: String = (0..300_000).map(|number| format!("{number} ")).collect();
        let body = json!({"model": "claude-opus-4-1", "max_tokens": 10, "messages": [{"role": "user", "content": text}]});
        let answer = send(&world, MESSAGES, "gzip", gzip(body.to_string())).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
        assert!(answer.header("proxy-status").contains("overloaded"), "{}", answer.header("proxy-status"));
        assert_eq!((world.provider("anthropic").seen().len(), world.shared.bodies.used()), (0, 0), "what was taken has come back");
    });
}

#[test]
fn without_such_a_policy_everything_passes_as_it_came() {
    run(async {
        let yaml = "
outbound:
  providers: {scripted: {api: openai, url: 'http://s.test'}}
  defaults: {retry: {}}
";
        let world = World::new(yaml).await;
        world.app.always(Reply::ok("{}"));
        for (coding, body) in [("compress", b"abc".to_vec()), ("gzip", b"abc".to_vec()), ("gzip", gzip(chat("gpt-4o").to_string()))] {
            let answer = send(&world, "/scripted/v1/chat/completions", coding, body.clone()).await;
            assert_eq!(answer.status, StatusCode::OK, "{coding}");
            let seen = world.app.seen().pop().expect("it was asked");
            assert_eq!((seen.header("content-encoding"), &seen.body[..]), (coding, &body[..]));
        }
    });
}

#[test]
fn a_limit_is_not_walked_around_with_what_is_no_json() {
    run(async {
        let world = World::new(LIMITED).await;
        let utf16: Vec<u8> = message().encode_utf16().flat_map(u16::to_le_bytes).collect();
        let answer = world.caller().ask(post(MESSAGES).header("anthropic-version", "2023-06-01"), utf16).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "no model, no price: {}", answer.text());
        assert!(world.provider("anthropic").seen().is_empty());
    });
}

#[test]
fn one_text_has_one_entry_in_the_cache_in_whatever_coding() {
    run(async {
        let yaml = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  defaults: {cache: {ttl: 1h}}
";
        let world = World::new(yaml).await;
        let body = chat("gpt-4o").to_string();
        let first = send(&world, CHAT, "gzip", gzip(&body)).await;
        assert_eq!(first.status, StatusCode::OK);
        settle().await;
        for (coding, body) in [("zstd", zstd(&body)), ("identity", body.clone().into_bytes())] {
            let answer = send(&world, CHAT, coding, body).await;
            assert!(answer.header("cache-status").contains("hit"), "{coding}: {}", answer.header("cache-status"));
            assert_eq!(answer.body, first.body);
        }
        assert_eq!(world.provider("openai").seen().len(), 1);
    });
}

/// Both splices go into the text, which then goes on without a coding.
#[test]
fn a_changed_text_goes_on_without_its_coding() {
    run(async {
        let yaml = "
outbound:
  providers: {openai: {url: 'http://o.test'}}
  limits: [{name: tokens, tokens: 100k, window: 1m}]
  defaults: {fallback: [{provider: openai, model: gpt-4o-mini}]}
";
        let world = World::new(yaml).await;
        let mut body = chat("gpt-4o");
        assert_eq!(send(&world, CHAT, "gzip", gzip(body.to_string())).await.status, StatusCode::OK);
        assert_eq!(header(&world.provider("openai").seen()[0].headers), "gzip", "nothing to change");

        world.provider("openai").script(["503"]);
        assert_eq!(send(&world, CHAT, "gzip", gzip(body.to_string())).await.status, StatusCode::OK);
        let seen = world.provider("openai").seen();
        let sent: Value = serde_json::from_str(&seen.last().expect("a call").body).expect("plain JSON");
        assert_eq!((sent["model"].as_str(), header(&seen.last().expect("a call").headers)), (Some("gpt-4o-mini"), ""));

        body["stream"] = json!(true);
        let answer = send(&world, CHAT, "gzip", gzip(body.to_string())).await;
        assert_eq!(answer.status, StatusCode::OK);
        let seen = world.provider("openai").seen();
        let sent: Value = serde_json::from_str(&seen.last().expect("a call").body).expect("plain JSON");
        assert_eq!((&sent["stream_options"]["include_usage"], header(&seen.last().expect("a call").headers)), (&json!(true), ""));
        assert!(!answer.text().contains("\"usage\":{"), "the client had not asked for it");
        assert_eq!(world.log().await.last().expect("a line")["tokens"]["source"], "provider");
    });
}
