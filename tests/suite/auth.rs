//! Who may come in by what they can prove: keys of clients, what a route asks for, and what becomes of a credential.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Request, StatusCode};
use outrigger::{
    config::KeyFile,
    fetch,
    policy::auth::{issuer::Errander, key},
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{Answer, Reply, World, chat, json as post, run, secs};

/// The key that this seed makes.
fn key(seed: u8) -> String {
    key::mint([seed; 32])
}

fn row(seed: u8, name: &str, more: &Value) -> Value {
    let sha256: String = key::digest(&key(seed)).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut row = json!({"name": name, "shows": &key(seed)[..KeyFile::SHOWN], "sha256": sha256});
    row.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    row
}

/// A file of keys: 1 is ann's, 2 is ann's too, 3 is bob's with scopes, 4 is over.
fn keys() -> NamedTempFile {
    let rows = [
        row(1, "ann-1", &json!({"caller": "ann", "tier": "gold"})),
        row(2, "ann-2", &json!({"caller": "ann"})),
        row(3, "bob", &json!({"scopes": ["orders.read", "orders.write"]})),
        row(4, "old", &json!({"expires": "2020-01-01T00:00:00Z"})),
    ];
    write(&json!({"keys": rows}))
}

fn write(keys: &Value) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), keys.to_string()).expect("written");
    file
}

fn bearer(request: http::request::Builder, seed: u8) -> http::request::Builder {
    request.header("authorization", format!("Bearer {}", key(seed)))
}

const INBOUND: &str = "
inbound:
  app: http://app.test
  limits: [{name: pace, key: client_ip, requests: 100, window: 1h}]
  defaults: {auth: {api_keys: {file: 'KEYS'}}}
  routes:
    - name: orders
      match: {path: /orders/**}
      auth: {scopes: [orders.write]}
      headers: {request: {set: {x-user: '${caller}'}}}
    - {name: gold, match: {path: /gold}, auth: {tiers: [gold]}}
    - {name: open, match: {path: /open}, auth: {anonymous: allow}}
    - {name: passed, match: {path: /passed}, auth: {pass: true}}
    - {name: watched, match: {path: /watched}, auth: {mode: observe}}
    - {name: off, match: {path: /off}, auth: {mode: off}}
    - {name: away, match: {path: /away}, access: {deny: 203.0.113.0/24}}
    - {name: paged, match: {path: /paged}, cors: {origins: ['https://page.example']}, csrf: {}}
";

async fn inbound(keys: &NamedTempFile) -> World {
    World::new(&INBOUND.replace("KEYS", &keys.path().display().to_string())).await
}

#[test]
fn a_request_proves_who_sends_it_or_is_told_what_is_missing() {
    run(async {
        let keys = keys();
        let world = inbound(&keys).await;
        let get = |path: &'static str| Request::get(path);
        for (asked, status, reason) in [
            (get("/a"), 401, "auth_missing"),
            (bearer(get("/a"), 9), 401, "auth_invalid"),
            (bearer(get("/a"), 4), 401, "auth_invalid"),
            (get("/a").header("authorization", "Bearer ork_short"), 401, "auth_invalid"),
            (get("/a").header("x-api-key", key(1)), 401, "auth_missing"),
            (bearer(get("/orders/1"), 1), 403, "auth_insufficient"),
            (bearer(get("/gold"), 2), 403, "auth_insufficient"),
            (bearer(get("/open"), 9), 401, "auth_invalid"),
            (get("/away"), 403, "access_denied"),
        ] {
            let shown = format!("{asked:?}");
            let refused = world.client().ask(asked, "").await;
            assert_eq!((refused.status.as_u16(), refused.json()["reason"].as_str()), (status, Some(reason)), "{shown}");
            assert!(refused.header("proxy-status").contains(reason), "{shown}");
            assert_eq!(refused.header("www-authenticate").is_empty(), reason == "access_denied", "{shown}");
        }
        assert_eq!((world.app.asked(), world.limit("pace")), (0, (0, 0, 0)), "who proves nothing reaches no app and uses up no limit");
        let lacks = world.client().ask(bearer(get("/orders/1"), 1), "").await;
        assert!(lacks.header("www-authenticate").contains("error=\"insufficient_scope\", scope=\"orders.write\""));
        for asked in [bearer(get("/a"), 1), bearer(get("/orders/1"), 3), bearer(get("/gold"), 1), get("/open"), bearer(get("/open"), 1)] {
            let shown = format!("{asked:?}");
            assert_eq!(world.client().ask(asked, "").await.status, StatusCode::OK, "{shown}");
        }
        assert_eq!(world.client().get("/off").await.status, StatusCode::OK);
        let log = world.log().await;
        let callers: Vec<&str> = log.iter().filter(|line| line["status"] == 200).filter_map(|line| line["caller"].as_str()).collect();
        assert_eq!(callers, ["ann", "bob", "ann", "203.0.113.7", "ann", "203.0.113.7"]);
        assert!(!log.iter().any(|line| line.to_string().contains("ork_")), "no line shows a key");
    });
}

#[test]
fn the_app_sees_who_asks_and_not_the_key_unless_it_is_passed_on() {
    run(async {
        let keys = keys();
        let world = inbound(&keys).await;
        let ask = |path: &'static str, seed| {
            let client = world.client();
            async move { client.ask(bearer(Request::get(path).header("x-user", "forged"), seed), "").await.status }
        };
        assert_eq!(ask("/orders/1", 3).await, StatusCode::OK);
        assert_eq!(ask("/passed", 1).await, StatusCode::OK);
        let seen = world.app.seen();
        assert_eq!((seen[0].header("x-user"), seen[0].header("authorization")), ("bob", ""));
        assert_eq!(seen[1].header("authorization"), format!("Bearer {}", key(1)));
        // Another's credential goes its way where nobody has to prove anything.
        world.client().ask(Request::get("/open").header("authorization", "Bearer of-the-app"), "").await;
        assert_eq!(world.app.seen()[2].header("authorization"), "Bearer of-the-app");
    });
}

#[test]
fn preflights_come_before_keys_and_forged_requests_after_them() {
    run(async {
        let keys = keys();
        let world = inbound(&keys).await;
        let page = |method: &str| Request::builder().method(method).uri("/paged").header("origin", "https://page.example");
        let preflight = world.client().ask(page("OPTIONS").header("access-control-request-method", "POST"), "").await;
        assert_eq!(preflight.status, StatusCode::NO_CONTENT);
        let refused = world.client().ask(page("GET"), "").await;
        assert_eq!((refused.status, refused.header("access-control-allow-origin")), (StatusCode::UNAUTHORIZED, "https://page.example"));
        let forged = || Request::post("/paged").header("origin", "https://evil.example");
        assert_eq!(world.client().ask(forged(), "x").await.json()["reason"], "auth_missing");
        assert_eq!(world.client().ask(bearer(forged(), 1), "x").await.json()["reason"], "csrf_refused");
    });
}

#[test]
fn a_policy_that_observes_lets_everybody_in_and_names_whom_it_would_refuse() {
    run(async {
        let keys = keys();
        let world = inbound(&keys).await;
        for asked in [Request::get("/watched"), bearer(Request::get("/watched"), 9), bearer(Request::get("/watched"), 1)] {
            assert_eq!(world.client().ask(asked, "").await.status, StatusCode::OK);
        }
        assert_eq!(world.app.seen()[2].header("authorization"), format!("Bearer {}", key(1)), "nothing is taken out");
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "watched"), ("policy", "auth")]), 2.0);
        let log = world.log().await;
        assert_eq!(log.iter().map(|line| line["would_refuse"].as_str()).collect::<Vec<_>>(), [Some("auth"), Some("auth"), None]);
    });
}

#[test]
fn a_key_that_is_taken_out_of_the_file_lets_nobody_in_any_more() {
    run(async {
        let keys = keys();
        let world = inbound(&keys).await;
        let ask = || bearer(Request::get("/a"), 1);
        assert_eq!(world.client().ask(ask(), "").await.status, StatusCode::OK);
        std::fs::write(keys.path(), json!({"keys": [row(2, "ann-2", &json!({}))]}).to_string()).expect("written");
        world.reload(&INBOUND.replace("KEYS", &keys.path().display().to_string())).expect("reads");
        assert_eq!(world.client().ask(ask(), "").await.json()["reason"], "auth_invalid");
        assert_eq!(world.client().ask(bearer(Request::get("/a"), 2), "").await.status, StatusCode::OK);
    });
}

#[test]
fn an_answer_to_one_who_has_proved_something_is_for_nobody_else() {
    run(async {
        let keys = keys();
        let yaml = "
inbound:
  app: http://app.test
  defaults: {auth: {api_keys: {file: 'KEYS', header: x-api-key}, anonymous: allow}, cache: {ttl: 1h}}
  routes: [{match: {path: /shared}, cache: {ttl: 1h, unsafe: true}}]
";
        let world = World::new(&yaml.replace("KEYS", &keys.path().display().to_string())).await;
        let ask = |path: &'static str, seed: u8| {
            let client = world.client();
            async move { client.ask(Request::get(path).header("x-api-key", key(seed)), "").await }
        };
        for seed in [1, 3] {
            assert!(!ask("/mine", seed).await.header("cache-status").contains("hit"));
        }
        assert!(!world.client().get("/mine").await.header("cache-status").contains("hit"));
        assert_eq!(world.app.asked(), 3, "each has been answered by the app");
        assert!(!ask("/mine", 1).await.header("cache-status").contains("hit"), "what was stored for nobody is not for one with a key");
        // The operator has said that this answer is the same for all.
        ask("/shared", 1).await;
        assert!(ask("/shared", 3).await.header("cache-status").contains("hit"));
    });
}

async fn outbound(keys: &NamedTempFile, more: &str) -> World {
    let yaml = "
outbound:
  listen: 0.0.0.0:8081
  hosts: [shop.example]
  providers:
    openai: {url: 'http://o.test', keys: [sk-own]}
    anthropic: {url: 'http://a.test', keys: [sk-own-too]}
  defaults: {auth: {api_keys: {file: 'KEYS' MORE}}, cache: {ttl: 1h}}
  limits: [{name: by-key, key: api_key, requests: 2, window: 1h, applies: all}]
";
    World::new(&yaml.replace("KEYS", &keys.path().display().to_string()).replace("MORE", more)).await
}

const CHAT: &str = "/openai/v1/chat/completions";

async fn call(world: &World, path: &str, field: &'static str, value: String) -> Answer {
    let asked = post(path).header(field, value).header("anthropic-version", "2023-06-01");
    let answer = world.caller().from("10.0.0.9").ask(asked, chat("gpt-4o").to_string()).await;
    crate::world::settle().await;
    answer
}

#[test]
fn a_door_with_provider_keys_asks_for_its_own_in_the_fields_of_every_sdk() {
    run(async {
        let keys = keys();
        let world = outbound(&keys, "").await;
        let refused = call(&world, CHAT, "authorization", "Bearer sk-guess".into()).await;
        let error = refused.json()["error"].clone();
        assert_eq!((refused.status.as_u16(), error["code"].as_str()), (401, Some("invalid_api_key")), "{error}");
        let refused = call(&world, "/anthropic/v1/messages", "x-api-key", key(9)).await;
        assert_eq!((refused.status.as_u16(), refused.json()["error"]["type"].as_str()), (401, Some("authentication_error")));
        assert!(world.provider("openai").seen().is_empty() && world.provider("anthropic").seen().is_empty());
        assert!(call(&world, CHAT, "authorization", format!("Bearer {}", key(1))).await.status.is_success());
        assert!(call(&world, "/anthropic/v1/messages", "x-api-key", key(3)).await.status.is_success());
        let log = world.log().await;
        let callers: Vec<_> = log.iter().filter(|line| line["status"] == 200).map(|line| line["caller"].clone()).collect();
        assert_eq!(callers, ["ann", "bob"], "the key's caller pays");
    });
}

#[test]
fn a_provider_is_shown_its_own_key_and_never_the_clients() {
    run(async {
        let keys = keys();
        let yaml = "outbound: {providers: {scripted: {api: openai, url: 'http://s.test', keys: [sk-own]}, scripted-open: {api: openai, url: \
                    'http://t.test'}}, defaults: {auth: {api_keys: {file: 'KEYS'}}}}";
        let world = World::new(&yaml.replace("KEYS", &keys.path().display().to_string())).await;
        world.app.always(Reply::ok("{}").header("content-type", "application/json"));
        let both = |path: &str| post(path).header("authorization", format!("Bearer {}", key(1))).header("x-api-key", "sk-of-the-app");
        for path in ["/scripted/v1/chat/completions", "/scripted-open/v1/chat/completions"] {
            assert_eq!(world.caller().ask(both(path), chat("gpt-4o").to_string()).await.status, StatusCode::OK);
        }
        let seen = world.app.seen();
        assert_eq!((seen[0].header("authorization"), seen[0].header("x-api-key")), ("Bearer sk-own", ""));
        assert_eq!((seen[1].header("authorization"), seen[1].header("x-api-key")), ("", "sk-of-the-app"), "the app's own passes");
    });
}

#[test]
fn stored_answers_and_limits_know_a_key_in_whatever_field_it_stands() {
    run(async {
        let keys = keys();
        let world = outbound(&keys, ", header: x-outrigger-key").await;
        let hit = |answer: &Answer| answer.header("cache-status").contains("; hit");
        assert!(!hit(&call(&world, CHAT, "x-outrigger-key", key(1)).await));
        assert!(!hit(&call(&world, CHAT, "x-outrigger-key", key(3)).await), "bob does not read ann's answers");
        assert!(hit(&call(&world, CHAT, "x-outrigger-key", key(2)).await), "ann's new key reads those of her old one");
        assert_eq!(world.provider("openai").billed().0, 2);
        assert_eq!(world.provider("openai").seen()[0].header("x-outrigger-key"), None);
        assert!(call(&world, CHAT, "x-outrigger-key", key(1)).await.status.is_success());
        assert_eq!(call(&world, CHAT, "x-outrigger-key", key(1)).await.status, StatusCode::TOO_MANY_REQUESTS, "the third by this key");
        assert!(call(&world, CHAT, "x-outrigger-key", key(3)).await.status.is_success());
    });
}

#[test]
fn a_thousand_addresses_with_bad_keys_leave_good_callers_alone() {
    run(async {
        let keys = keys();
        let world = inbound(&keys).await;
        let get = || Request::get("/a");
        let from = |nth: usize| format!("198.18.{}.{}", nth / 250, nth % 250);
        let mut refused = std::collections::BTreeMap::new();
        for second in 0..12 {
            // A thousand at first; a few of them go on.
            for nth in 0..if second < 2 { 1000 } else { 40 } {
                let answer = world.client().from(&from(nth)).ask(bearer(get(), 9), "").await;
                *refused.entry(answer.json()["reason"].as_str().expect("a reason").to_owned()).or_insert(0) += 1;
            }
            // One of its own address, and one behind an address that fails all the time.
            for address in ["203.0.113.7", &from(7)] {
                let good = world.client().from(address).ask(bearer(get(), 1), "").await;
                assert!(good.status == StatusCode::OK && good.took < crate::world::ms(1), "{address}: {:?}", good.took);
            }
            crate::world::pass(secs(1)).await;
        }
        // Ten at once, and one more in these twelve seconds.
        assert_eq!(refused, [("auth_invalid".to_owned(), 2000 + 40 * 9), ("auth_slowed".to_owned(), 40)].into());
        let slowed = loop {
            let answer = world.client().from(&from(7)).ask(bearer(get(), 9), "").await;
            if answer.json()["reason"] == "auth_slowed" {
                break answer;
            }
        };
        assert_eq!(slowed.status, StatusCode::TOO_MANY_REQUESTS);
        assert!((1..=6).contains(&slowed.header("retry-after").parse::<u64>().expect("seconds")), "{}", slowed.header("retry-after"));
        assert_eq!(world.client().from(&from(8)).get("/a").await.json()["reason"], "auth_missing", "who shows nothing guesses nothing");
        crate::world::pass(secs(120)).await;
        assert_eq!(world.client().from(&from(7)).ask(bearer(get(), 9), "").await.json()["reason"], "auth_invalid");
    });
}

/// The proxy with a service that answers as `says` does, and the number of its questions.
async fn served(
    more: &str,
    says: impl Fn(&http::HeaderMap) -> (u16, Vec<(&'static str, &'static str)>) + Send + Sync + 'static,
) -> (World, Arc<AtomicUsize>) {
    let yaml = format!(
        "inbound:\n  app: http://app.test\n  defaults: {{auth: {{forward: {{url: 'http://auth.test/check', copy: [x-user, x-email], scopes: x-scopes, cache: 10s}}, \
         {more}}}}}\n  routes: [{{name: admin, match: {{path: /admin}}, auth: {{scopes: [admin]}}}}, \
         {{name: public, match: {{path: /public/**}}, auth: {{mode: off}}}}]\n"
    );
    let (world, asked) = (World::new(&yaml).await, Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    world.shared.issuers.employ(Errander {
        send: Box::new(move |errand| {
            counted.fetch_add(1, Ordering::SeqCst);
            let (status, fields) = says(&errand.headers);
            let headers =
                fields.into_iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect();
            let status = StatusCode::from_u16(status).expect("a status");
            Box::pin(
                async move { Ok(fetch::Answer { status, headers, body: Default::default(), took: secs(0), peer: Default::default() }) },
            )
        }),
        on: tokio::runtime::Handle::current(),
        told: Box::new(|_, _| ()),
    });
    (world, asked)
}

#[test]
fn another_service_decides_and_nobody_passes_while_it_is_away() {
    run(async {
        let (world, asked) = served("", |fields| {
            let is = |name: &str, value: &str| fields.get(name).is_some_and(|is| is == value);
            assert!(is("x-forwarded-method", "GET") && is("x-forwarded-for", "203.0.113.7") && is("x-forwarded-host", "shop.example"));
            match fields.get("cookie").map(|cookie| cookie.to_str().expect("text")) {
                Some("sid=ann") => (200, vec![("x-user", "ann"), ("x-scopes", "read, admin"), ("x-other", "1")]),
                Some("sid=bob") => (204, vec![("x-user", "bob")]),
                Some("sid=mallory") => (403, vec![]),
                Some("sid=away") => (500, vec![]),
                _ => (302, vec![("location", "http://login.test/")]),
            }
        })
        .await;
        let ask = |path: &'static str, cookie: &'static str| {
            let client = world.client();
            async move { client.ask(Request::get(path).header("cookie", cookie).header("x-user", "root").header("x_email", "root@x"), "").await }
        };
        assert_eq!(ask("/admin", "sid=ann").await.status, StatusCode::OK);
        let seen = world.app.only();
        assert_eq!(
            (seen.header("x-user"), seen.header("x_email"), seen.header("x-other"), seen.header("cookie")),
            ("ann", "", "", "sid=ann")
        );
        for (path, cookie, status, reason) in [
            ("/admin", "sid=bob", 403, "auth_insufficient"),
            ("/a", "sid=mallory", 403, "auth_insufficient"),
            ("/a", "sid=nobody", 401, "auth_invalid"),
            ("/a", "sid=away", 503, "auth_unknown"),
        ] {
            let refused = ask(path, cookie).await;
            assert_eq!((refused.status.as_u16(), refused.json()["reason"].as_str()), (status, Some(reason)), "{cookie}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        // The same question has the same answer for ten seconds; another path is another question.
        assert_eq!(ask("/admin", "sid=ann").await.status, StatusCode::OK);
        assert_eq!(ask("/b", "sid=ann").await.status, StatusCode::OK);
        assert_eq!(asked.load(Ordering::SeqCst), 6);
        crate::world::pass(secs(11)).await;
        assert_eq!(ask("/admin", "sid=ann").await.status, StatusCode::OK);
        assert_eq!((asked.load(Ordering::SeqCst), world.app.asked()), (7, 4));
        // What only the service may say passes from nobody, on no route: not where nothing is asked, and not in another spelling.
        world.app.forget();
        assert_eq!(ask("/public/a", "sid=ann").await.status, StatusCode::OK);
        let seen = world.app.only();
        assert_eq!((seen.header("x-user"), seen.header("x_email"), seen.header("cookie")), ("", "", "sid=ann"));
        let log = world.log().await;
        assert_eq!(log.iter().filter(|line| line["caller"] == "ann").count(), 4);
    });
}

#[test]
fn a_service_is_not_asked_about_those_who_show_nothing_where_they_may_pass() {
    run(async {
        let (world, asked) = served("anonymous: allow", |_| (401, vec![])).await;
        assert_eq!((world.client().get("/a").await.status, asked.load(Ordering::SeqCst)), (StatusCode::OK, 0));
        let refused = world.client().ask(Request::get("/a").header("authorization", "Basic eDp5"), "").await;
        assert_eq!((refused.status, asked.load(Ordering::SeqCst)), (StatusCode::UNAUTHORIZED, 1));
    });
}

#[test]
fn each_target_is_a_question_of_its_own_whatever_bytes_it_has() {
    run(async {
        // The service lets one page pass; what it is not told it cannot decide about.
        let (world, asked) = served("", |fields| match fields.get("x-forwarded-uri").map(|uri| uri.as_bytes()) {
            Some(uri) if uri.starts_with(b"/page?") => (200, vec![("x-user", "bob")]),
            Some(_) => (403, vec![]),
            None => (200, vec![("x-user", "nobody")]),
        })
        .await;
        for (nth, (target, status)) in [("/page?\u{e9}", "200"), ("/admin?\u{e9}", "403"), ("/page?\u{e9}", "200")].into_iter().enumerate()
        {
            let mut raw = world.client().raw();
            let request = format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\ncookie: sid=bob\r\nconnection: close\r\n\r\n");
            raw.write_all(request.as_bytes()).await.expect("written");
            let mut answer = Vec::new();
            raw.read_to_end(&mut answer).await.expect("read");
            assert_eq!(String::from_utf8_lossy(&answer[9..12]), status, "{target}");
            assert_eq!(asked.load(Ordering::SeqCst), [1, 2, 2][nth], "{target}");
        }
    });
}

#[test]
fn a_cache_by_key_keeps_callers_apart_wherever_their_keys_stand() {
    run(async {
        let keys = keys();
        let world = World::new(&format!(
            "inbound:\n  app: http://app.test\n  defaults:\n    auth: {{api_keys: {{file: '{}', header: x-team-key}}, pass: true}}\n    \
             cache: {{ttl: 1h, unsafe: true, key: [api_key]}}\n",
            keys.path().display()
        ))
        .await;
        let ask = |seed| {
            let client = world.client();
            async move { client.ask(Request::get("/me").header("x-team-key", key(seed)), "").await.status }
        };
        for seed in [1, 3, 1, 3] {
            assert_eq!(ask(seed).await, StatusCode::OK);
        }
        let asked: Vec<String> = world.app.seen().iter().map(|seen| seen.header("x-team-key").to_owned()).collect();
        assert_eq!(asked, [key(1), key(3)], "each has an answer of its own, and keeps it");
    });
}

#[test]
fn who_only_observes_names_nobody() {
    run(async {
        let keys = keys();
        let world = inbound(&keys).await;
        assert_eq!(world.client().ask(bearer(Request::get("/watched"), 1), "").await.status, StatusCode::OK);
        assert_eq!(world.log().await[0]["caller"], "203.0.113.7", "as before the policy was written");
    });
}

#[test]
fn what_an_app_says_does_not_outdo_what_its_key_proves() {
    run(async {
        let keys = keys();
        let world = World::new(&format!(
            "outbound:\n  providers: {{openai: {{url: 'http://o.test'}}}}\n  defaults: {{auth: {{api_keys: {{file: '{}'}}}}}}\n",
            keys.path().display()
        ))
        .await;
        let asked = post("/openai/v1/chat/completions").header("x-api-key", key(1)).header("outrigger-caller", "victim");
        assert_eq!(world.caller().ask(asked, chat("gpt-4o").to_string()).await.status, StatusCode::OK);
        assert_eq!(world.log().await[0]["caller"], "ann");
    });
}
