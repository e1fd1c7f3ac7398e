//! `privacy`: what a provider sees of a call with personal data, and what its caller gets back.

use http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::{
    coded::gzip,
    world::{Answer, Reply, World, json as post, ms, run},
};

const CHAT: &str = "/scripted/v1/chat/completions";

/// A world whose provider is the app, which answers as it is told.
fn yaml(policy: &str) -> String {
    let providers = "{scripted: {api: openai, url: 'http://o.test'}, scripted3: {api: plain, url: 'http://p.test'}}";
    format!("outbound: {{providers: {providers}, limits: [{{name: few, requests: 100, window: 1h}}], defaults: {{{policy}}}}}\n")
}

fn chat(text: &str) -> Value {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})
}

fn said(text: &str) -> Reply {
    let body = json!({"id": "c", "object": "chat.completion", "model": "gpt-4o", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": text}}], "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}});
    Reply::ok("").bytes(body.to_string().into_bytes()).header("content-type", "application/json")
}

fn content(answer: &Answer) -> String {
    let value: Value = answer.json();
    value["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

fn text_of(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).expect("JSON");
    value["messages"][0]["content"].as_str().expect("text").to_owned()
}

#[test]
fn a_provider_sees_placeholders_and_the_caller_its_own_values() {
    run(async {
        let world = World::new(&yaml("privacy: {}")).await;
        world.app.always(said("I wrote to [EMAIL_1] and not to [EMAIL_2]."));
        let answer = world.caller().call(CHAT, &chat("Write to ann@example.org, card 4111 1111 1111 1111.")).await;
        let seen = world.app.only();
        assert_eq!(text_of(&seen.body), "Write to [EMAIL_1], card [CARD_1].");
        assert_eq!(seen.header("content-length"), seen.body.len().to_string());
        assert_eq!(content(&answer), "I wrote to ann@example.org and not to [EMAIL_2].");
        assert_eq!(answer.header("content-length"), "", "it has another length");
        let found = |kind: &str| world.count("outrigger_privacy_found_total", &[("kind", kind), ("action", "placeholder")]);
        assert_eq!((found("email"), found("card"), world.count("outrigger_privacy_restored_total", &[])), (1.0, 1.0, 1.0));
        let log = format!("{:?}", world.log().await) + &world.metrics();
        assert!(!log.contains("ann@example.org") && !log.contains("4111 1111"), "never in clear");
    });
}

#[test]
fn a_coded_body_is_read_and_goes_on_as_text_and_a_coded_answer_is_read_too() {
    run(async {
        let world = World::new(&yaml("privacy: {}")).await;
        let coded = gzip(json!({"choices": [{"message": {"content": "to [EMAIL_1]"}}]}).to_string());
        world.app.always(Reply::ok("").bytes(coded).header("content-type", "application/json").header("content-encoding", "gzip"));
        let request = post(CHAT).header("content-encoding", "gzip").header("accept-encoding", "gzip, br");
        let answer = world.caller().ask(request, gzip(chat("ann@example.org").to_string())).await;
        let seen = world.app.only();
        assert_eq!(
            (text_of(&seen.body).as_str(), seen.header("content-encoding"), seen.header("accept-encoding")),
            ("[EMAIL_1]", "", "identity")
        );
        assert_eq!((content(&answer).as_str(), answer.header("content-encoding")), ("to ann@example.org", ""));
        world.app.always(Reply::ok("[EMAIL_1]").header("content-type", "text/plain").header("content-encoding", "compress"));
        world.caller().call(CHAT, &chat("ann@example.org")).await;
        assert_eq!(world.count("outrigger_privacy_unrestored_total", &[("reason", "content coding")]), 1.0);
    });
}

#[test]
fn a_stream_has_the_values_where_a_placeholder_is_cut_and_a_break_is_still_a_break() {
    run(async {
        let world = World::new(&yaml("privacy: {}")).await;
        let pieces = [
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"to [EM\"}}]}\n\nda",
            "ta: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"AIL_1] ok [\"}}]}\n\n",
        ];
        let done = ["data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", "data: [DONE]\n\n"];
        let call = json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "ann@example.org"}]});
        for (reply, end) in [
            (Reply::paced(ms(50), &[pieces[0], pieces[1], done[0], done[1]]), done.concat()),
            (Reply::paced(ms(50), &pieces).breaks(), String::new()),
        ] {
            world.app.always(reply.header("content-type", "text/event-stream"));
            let mut opened = world.caller().open(post(CHAT), call.to_string()).await;
            let (mut text, mut broken) = (String::new(), false);
            while let Some(piece) = opened.next().await {
                match piece {
                    Ok(piece) => text.push_str(std::str::from_utf8(&piece).expect("text")),
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            }
            let first = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"to ann@example.org\"}}]}\n\n";
            let second = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" ok [\"}}]}\n\n";
            assert!(text.starts_with(&(first.to_owned() + second)), "{text}");
            assert!(text.ends_with(&end) && broken == end.is_empty(), "{text}");
        }
    });
}

#[test]
fn what_is_kept_has_placeholders_and_serves_each_caller_its_own_values() {
    run(async {
        let world = World::new(&yaml("privacy: {find: email}, cache: {ttl: 1h}")).await;
        world.app.always(said("Dear [EMAIL_1]"));
        for (mail, hit) in [("ann@example.org", false), ("bob@example.org", true), ("ann@example.org", true)] {
            let answer = world.caller().call(CHAT, &chat(&format!("greet {mail}"))).await;
            assert_eq!(content(&answer), format!("Dear {mail}"));
            assert_eq!(answer.header("cache-status").contains("hit"), hit, "{}", answer.header("cache-status"));
        }
        assert_eq!(world.app.asked(), 1, "all of them are one call to the provider");
    });
}

#[test]
fn a_mask_is_for_good_and_a_fallback_gets_no_more_than_the_first_target() {
    run(async {
        let yaml = "outbound: {providers: {scripted: {api: openai, url: 'http://o.test'}, scripted2: {api: openai, url: 'http://h.test'}},
            defaults: {privacy: {action: mask}, fallback: [{provider: scripted2, model: gpt-5}]}}";
        let world = World::new(yaml).await;
        world.app.script([Reply::status(500), said("to [EMAIL]")]);
        let request = post(CHAT).header("content-encoding", "gzip");
        let answer = world.caller().ask(request, gzip(chat("ann@example.org").to_string())).await;
        let seen = world.app.seen();
        assert_eq!(seen.len(), 2);
        for (seen, model) in seen.iter().zip(["gpt-4o", "gpt-5"]) {
            let value: Value = serde_json::from_slice(&seen.body).expect("JSON");
            assert_eq!((text_of(&seen.body).as_str(), value["model"].as_str()), ("[EMAIL]", Some(model)));
        }
        assert_eq!(content(&answer), "to [EMAIL]");
    });
}

#[test]
fn a_call_with_what_must_not_leave_is_refused_without_its_values() {
    run(async {
        let world = World::new(&yaml("privacy: {refuse: [card]}")).await;
        world.app.always(said("ok"));
        for _ in 0..3 {
            let answer = world.caller().call(CHAT, &chat("ann@example.org 4111111111111111")).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
            let said: Value = answer.json();
            assert!(said["error"]["message"].as_str().expect("a message").contains("card (1)"), "{said}");
            assert!(!answer.text().contains("4111") && answer.header("proxy-status").contains("privacy_refused"));
        }
        assert_eq!((world.app.asked(), world.limit("few").0), (0, 0), "it takes nothing from a limit");
    });
}

/// What cannot be read does not leave.
#[test]
fn what_cannot_be_read_is_refused_unless_it_may_pass() {
    run(async {
        let bodies = |path: &str| {
            vec![
                (post(path), b"no JSON".to_vec(), "not JSON"),
                (post(path), b"{\"a\":\"\xff\"}".to_vec(), "not UTF-8"),
                (post(path).header("content-encoding", "compress"), b"{}".to_vec(), "its content coding"),
                (
                    Request::post(path).header("content-type", "multipart/form-data; boundary=x"),
                    b"--x\r\n\r\na\r\n--x--\r\n".to_vec(),
                    "not JSON",
                ),
            ]
        };
        for path in [CHAT, "/scripted3/anything", "/scripted/v1/files"] {
            let world = World::new(&yaml("privacy: {}")).await;
            world.app.always(said("ok"));
            for (request, body, why) in bodies(path) {
                let answer = world.caller().ask(request, body).await;
                assert!(
                    answer.status.is_client_error() && answer.header("proxy-status").contains("privacy_unreadable"),
                    "{path} {why}: {}",
                    answer.text()
                );
                assert!(answer.text().contains(why) && answer.text().contains("unreadable: pass"), "{path}: {}", answer.text());
            }
            let upgrade = Request::get(path).header("connection", "upgrade").header("upgrade", "websocket");
            let upgrade = upgrade.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            assert_eq!(world.caller().ask(upgrade, "").await.status, StatusCode::FORBIDDEN);
            assert_eq!(world.app.asked(), 0);
            assert_eq!(world.caller().ask(Request::get("/scripted/v1/models"), "").await.status, StatusCode::OK, "nothing to read");

            let open = World::new(&yaml("privacy: {unreadable: pass}")).await;
            open.app.always(said("ok"));
            for (request, body, why) in bodies(path) {
                assert_eq!(open.caller().ask(request, body.clone()).await.status, StatusCode::OK, "{path} {why}");
                assert_eq!(open.app.seen().pop().expect("asked").body, body);
                assert!(open.count("outrigger_privacy_unread_total", &[("reason", why)]) >= 1.0);
            }
        }
    });
}

#[test]
fn another_api_is_masked_in_all_its_strings() {
    run(async {
        let world = World::new(&yaml("privacy: {}")).await;
        world.app.always(Reply::ok("{\"echo\":\"[EMAIL_1]\"}").header("content-type", "application/json"));
        let answer = world.caller().ask(post("/scripted3/x").header("content-encoding", "gzip"), gzip("{\"q\":\"ann@example.org\"}")).await;
        let seen = world.app.only();
        assert_eq!((&seen.body[..], seen.header("content-encoding")), (&b"{\"q\":\"[EMAIL_1]\"}"[..], ""));
        assert_eq!(answer.text(), "{\"echo\":\"ann@example.org\"}");
    });
}

#[test]
fn observe_changes_nothing_and_tells_what_it_would_do() {
    run(async {
        let world = World::new(&yaml("privacy: {mode: observe, refuse: card}")).await;
        world.app.always(said("to [EMAIL_1]"));
        let body = chat("ann@example.org 4111111111111111").to_string();
        for coded in [false, true] {
            let (request, sent) = match coded {
                true => (post(CHAT).header("content-encoding", "gzip"), gzip(&body)),
                false => (post(CHAT), body.clone().into_bytes()),
            };
            let answer = world.caller().ask(request, sent.clone()).await;
            assert_eq!((answer.status, content(&answer).as_str()), (StatusCode::OK, "to [EMAIL_1]"));
            assert_eq!(world.app.seen().pop().expect("asked").body, sent);
        }
        world.caller().ask(post(CHAT), "no JSON").await;
        assert_eq!(world.count("outrigger_gate_observed_total", &[("policy", "privacy")]), 2.0);
        assert_eq!(world.count("outrigger_gate_observed_total", &[("policy", "privacy_unreadable")]), 1.0);
        assert_eq!(world.count("outrigger_privacy_found_total", &[("kind", "card"), ("action", "observed")]), 2.0);
        assert_eq!(world.log().await[0]["would_refuse"], "privacy");
    });
}

#[test]
fn paths_and_queries_are_scrubbed_before_they_are_logged() {
    run(async {
        let path = "/scripted3/users/ann%40example.org/cards?mail=bob@example.org&pan=4111111111111111";
        for (policy, clear) in [("privacy: {find: [email, card]}", false), ("privacy: {mode: observe}", true)] {
            let world = World::new(&yaml(policy)).await;
            world.app.always(Reply::status(500));
            world.caller().get(path).await;
            let lines = world.log().await;
            let line = lines[0].to_string();
            for value in ["ann%40example.org", "bob@example.org", "4111111111111111"] {
                assert_eq!(line.contains(value), clear, "{line}");
            }
            assert_eq!(lines[0]["path"].as_str().expect("a path").contains("/users/[EMAIL]/cards?mail="), !clear, "{line}");
            assert!(world.app.only().target.contains("ann%40example.org"), "the call itself is as it was");
        }
    });
}

#[test]
fn names_of_the_caller_come_from_its_request() {
    run(async {
        let world = World::new(&yaml("privacy: {find: email, names: ['header:x-user-name', 'field:metadata.user']}")).await;
        world.app.always(said("Dear [NAME_1]"));
        let mut call = chat("I am zoë, wife of Bo Lind");
        call["metadata"] = json!({"user": "Bo Lind"});
        let answer = world.caller().ask(post(CHAT).header("x-user-name", "Zo%C3%AB"), call.to_string()).await;
        assert_eq!(text_of(&world.app.only().body), "I am [NAME_2], wife of [NAME_1]");
        assert_eq!(content(&answer), "Dear Bo Lind");
    });
}
