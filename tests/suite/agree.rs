//! `outrigger explain` and the running proxy are asked the same questions, and say the same: route, refusal, caller, call, limits,
//! price, cache key, targets.

use clap::Parser;
use http::Request;
use outrigger::{
    cli::explain::{ExplainArgs, explain},
    config::{
        human,
        read::{self, Overrides},
    },
    policy::cache::top::By,
};
use serde_json::Value;

use crate::world::{Answer, World, run, settle};

const FILE: &str = r#"
store: {secret: of-all-replicas}
inbound:
  app: http://app.test/base
  strict_paths: STRICT
  trusted_proxies: [203.0.113.7/32]
  caller: [header:x-user-id, client_ip]
  limits: [{name: many, key: client_ip, requests: 900, window: 1h}]
  routes:
    - {name: any, match: {path: /api/**}}
    - {name: item, match: {path: "/api/items/*", methods: [GET, HEAD]}, cache: {ttl: 60s, key: [header:accept-language]}}
    - {name: search, match: {path: /search}, cache: {ttl: 60s, body: [q]}}
    - {name: users, match: {path: /chat}, limits: [{name: spend, key: caller, usd: 0.50, window: 1h}, {name: seen, key: caller, requests: 5, window: 1h, mode: observe}]}
    - {name: shut, match: {path: /shut/**}, access: {deny: [0.0.0.0/0]}}
    - {name: watched, match: {path: /watched}, access: {deny: [0.0.0.0/0], mode: observe}}
    - {name: host, match: {path: /api/**, hosts: [other.example]}}
    - {name: pages, match: {path: /pages/**, methods: [PUT]}, cors: {origins: ["https://page.example"]}, csrf: {exempt: [/pages/open/**]}}
    - {name: wide, match: {path: /wide/**}, cors: {origins: ["https://page.example"]}}
    - {name: deleted, match: {path: /wide/**, methods: [DELETE]}}
    - {name: moved, match: {path: /moved/**}, rewrite: {strip_prefix: /moved, add_prefix: /v2}}
    - {name: went, match: {path: /went/**}, redirect: {to: "https://new.example${rest}"}}
    - {name: own, match: {path: /own}, respond: {status: 404}}
    - {name: paged, match: {path: /paged}, cors: {origins: ["https://page.example"], mode: observe}, csrf: {mode: observe}}
outbound:
  providers:
    openai: {url: 'http://o.test', keys: [sk-of-ours]}
    anthropic: {url: 'http://a.test'}
    house: {api: openai, url: 'http://h.test/v1'}
    tools: {api: plain, url: 'http://t.test/tools'}
  prices: [{model: free, input: 0, output: 0}, {model: house, input: 0.5, output: 7}]
  limits: [{name: budget, key: provider, usd: 25, window: 1d}, {name: calls, key: caller, requests: 100, window: 1h}]
  defaults: {retry: {max_retries: 2}}
  routes:
    - {name: gpt, match: {operation: chat, models: ["gpt-*"]}, cache: {ttl: 1h}}
    - {name: cold, match: {operation: chat, models: [house, free]}, cache: {ttl: 1h, max_temperature: 0.3}}
    - {name: chat, match: {operation: chat}}
    - {name: embed, match: {operation: embeddings, provider: house}, cache: {ttl: 1h}}
"#;

const CHAT: &str = "/openai/v1/chat/completions";
const HELLO: &str = r#"{"model":"gpt-4o","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#;

/// Fields of a request.
type Fields = &'static [(&'static str, &'static str)];
/// Method, path, fields, body.
type Question = (&'static str, &'static str, Fields, &'static str);

const JSON: Fields = &[("content-type", "application/json")];

/// To the inbound door, in the name of the host `shop.example` unless it says otherwise.
const INBOUND: &[Question] = &[
    ("GET", "/", &[], ""),
    ("GET", "/api/other", &[], ""),
    ("GET", "/api/items/7?x=1", &[("accept-language", "de")], ""),
    ("HEAD", "/api/items/7", &[], ""),
    ("POST", "/api/items/7", &[], "x"),
    ("GET", "/api/items/7", &[("cookie", "a=b")], ""),
    ("GET", "/api/items/7", &[("authorization", "Bearer x")], ""),
    ("GET", "/api/items/7", &[("cache-control", "no-store")], ""),
    ("GET", "/api/items/7", &[], "a body"),
    ("GET", "/api/items/7", &[("host", "other.example")], ""),
    ("GET", "/api/x", &[("host", "other.example")], ""),
    ("GET", "/api/items/7", &[("x-user-id", "ann")], ""),
    ("GET", "/api/x", &[("x-forwarded-for", "198.51.100.4")], ""),
    ("POST", "/search", JSON, r#"{"q":"shoes","page":2}"#),
    ("POST", "/search", JSON, "no JSON"),
    ("GET", "/search", &[], ""),
    ("GET", "/moved/a//b?c=d", &[], ""),
    ("GET", "/moved", &[], ""),
    ("GET", "/moved/a/../b", &[], ""),
    ("GET", "/moved/%2e%2e", &[], ""),
    ("GET", "/went/a", &[], ""),
    ("POST", "/own", &[], "x"),
    ("GET", "/chat", &[("x-user-id", "ann")], ""),
    ("OPTIONS", "/chat", &[("origin", "http://x.example"), ("access-control-request-method", "POST")], ""),
    ("GET", "/shut/a", &[], ""),
    ("GET", "/watched", &[], ""),
    ("GET", "/api/../shut/a", &[], ""),
    ("GET", "/../x", &[], ""),
    ("GET", "/a/%2e%2e/..;/x", &[], ""),
    ("GET", "/a/..%2f..%2fx", &[], ""),
    ("GET", "/shop/..\\..\\x", &[], ""),
    ("GET", "/a/%2e/b", &[], ""),
    ("GET", "//x", &[], ""),
    ("GET", "/a%2fb", &[], ""),
    ("OPTIONS", "/pages/a", &[("origin", "https://page.example"), ("access-control-request-method", "DELETE")], ""),
    ("OPTIONS", "/wide/a", &[("origin", "https://page.example"), ("access-control-request-method", "DELETE")], ""),
    ("OPTIONS", "/wide/a", &[("origin", "https://evil.example"), ("access-control-request-method", "DELETE")], ""),
    ("OPTIONS", "/wide/a", &[("origin", "https://evil.example"), ("access-control-request-method", "PUT")], ""),
    ("OPTIONS", "/pages/a", &[("origin", "https://evil.example"), ("access-control-request-method", "PUT")], ""),
    ("PUT", "/pages/a", &[("origin", "https://evil.example")], "x"),
    ("PUT", "/pages/open/a", &[("origin", "https://evil.example")], "x"),
    ("PUT", "/pages/open/..%2fa", &[("origin", "https://evil.example")], "x"),
    ("PUT", "/pages/a", &[("sec-fetch-site", "same-origin")], "x"),
    ("OPTIONS", "/paged", &[("origin", "https://evil.example"), ("access-control-request-method", "PUT")], ""),
    ("POST", "/paged", &[("origin", "https://evil.example")], "x"),
];

/// To the outbound door, in the name of `localhost` unless it says otherwise.
const OUTBOUND: &[Question] = &[
    ("POST", CHAT, JSON, HELLO),
    ("POST", CHAT, JSON, r#"{"model":"gpt-4o","messages":[{"role":"user","content":"no bound"}],"stream":true}"#),
    ("POST", CHAT, &[("content-type", "application/json"), ("outrigger-caller", "ann")], HELLO),
    ("POST", CHAT, &[("content-type", "application/json"), ("cache-control", "no-store")], HELLO),
    ("POST", CHAT, &[("content-type", "application/json"), ("outrigger-cache-ttl", "0")], HELLO),
    ("POST", CHAT, &[("content-type", "application/json"), ("outrigger-cache-ttl", "soon")], HELLO),
    ("POST", CHAT, &[("content-type", "application/json"), ("host", "evil.example")], HELLO),
    ("POST", CHAT, JSON, r#"{"model":"who-knows","messages":[{"role":"user","content":"hi"}]}"#),
    ("POST", CHAT, JSON, "no JSON"),
    ("POST", CHAT, JSON, r#"{"messages":[]}"#),
    (
        "POST",
        "/house/chat/completions",
        JSON,
        r#"{"model":"house","max_tokens":50,"temperature":0,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    (
        "POST",
        "/house/chat/completions",
        JSON,
        r#"{"model":"house","max_tokens":50,"temperature":1,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    (
        "POST",
        "/house/chat/completions",
        JSON,
        r#"{"model":"free","max_tokens":50,"temperature":0,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    ("POST", "/house/embeddings", JSON, r#"{"model":"text-embedding-3-small","input":"x"}"#),
    (
        "POST",
        "/anthropic/v1/messages",
        JSON,
        r#"{"model":"claude-sonnet-4-5","max_tokens":50,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    ("GET", "/openai/v1/models", JSON, ""),
    ("GET", "/openai/v1/models/..%2fchat/completions", JSON, ""),
    ("POST", "/openai/v1/batches", JSON, r#"{"input_file_id":"f"}"#),
    (
        "POST",
        "/anthropic/v1/messages/batches",
        JSON,
        r#"{"requests":[{"custom_id":"a","params":{"model":"claude-opus-5","max_tokens":1000,"messages":[]}}]}"#,
    ),
    ("POST", "/anthropic/v1/messages/batches", JSON, r#"{"requests":[{"custom_id":"a","params":{"model":"who-knows","max_tokens":9}}]}"#),
    ("POST", "/openai/v1/responses/compact", JSON, r#"{"model":"gpt-4o","input":"hi"}"#),
    ("POST", "/openai/v1/moderations", JSON, r#"{"model":"omni-moderation-latest","input":"hi"}"#),
    ("POST", "/openai/v1/moderations", JSON, r#"{"model":"mistral-moderation-latest","input":"hi"}"#),
    ("PUT", "/openai/v1/whatever", JSON, "{}"),
    ("POST", "/openai/v1/what/is/this", JSON, "{}"),
    ("GET", "/tools/v1/a", JSON, ""),
    ("GET", "/tools/v1/../../x", JSON, ""),
    ("POST", "/nobody/v1/chat/completions", JSON, HELLO),
];

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ExplainArgs,
}

/// What `explain` says: a document, or a refusal.
fn told(yaml: &str, door: &str, host: &'static str, question: &Question) -> Result<Value, String> {
    let (method, path, fields, body) = question;
    let overrides = Overrides { memory_limit: Some(512 << 20), ..Overrides::default() };
    let config = read::parse(yaml, "proxy.yaml", &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let from = if door == "inbound" { "203.0.113.7" } else { "127.0.0.1" };
    let mut line: Vec<String> = ["explain", method, path, "--door", door, "--from", from].map(str::to_owned).into();
    for (name, value) in with_host(host, fields) {
        line.extend(["-H".to_owned(), format!("{name}: {value}")]);
    }
    if !body.is_empty() && door == "inbound" {
        // As a client would announce it.
        line.extend(["-H".to_owned(), format!("content-length: {}", body.len())]);
    }
    let line = Line::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
    explain(&line.args, body.as_bytes(), &config).map(|explained| serde_json::to_value(explained).expect("JSON"))
}

fn with_host(host: &'static str, fields: Fields) -> Vec<(&'static str, &'static str)> {
    let own = fields.iter().any(|(name, _)| *name == "host");
    fields.iter().copied().chain((!own).then_some(("host", host))).collect()
}

async fn asked(world: &World, door: &str, host: &'static str, question: &Question) -> Answer {
    let (method, path, fields, body) = question;
    let mut request = Request::builder().method(*method).uri(*path);
    for (name, value) in with_host(host, fields) {
        request = request.header(name, value);
    }
    let client = if door == "inbound" { world.client() } else { world.caller() };
    let answer = client.ask(request, *body).await;
    settle().await;
    answer
}

/// Limits of the door that have counted something so far.
fn counted(world: &World, door: &str) -> Vec<String> {
    let counts = world.shared.limits.counts();
    let of_door = counts.iter().filter(|count| count.door.as_str() == door && count.admitted + count.refused + count.observed > 0);
    of_door.map(|count| count.name.to_string()).collect()
}

/// Limits that `explain` says count the request. What a request may make its app spend counts with the calls.
fn counting(said: &Value) -> Vec<String> {
    let limits = said["policies"].as_array().expect("a list").iter().filter(|policy| policy["policy"] == "limits");
    let spending = |limit: &&Value| {
        let amount = limit["terms"]["amount"].as_str().unwrap_or_default();
        said["door"] == "inbound" && (amount.starts_with('$') || amount.contains("token"))
    };
    let now = limits.filter(|limit| limit["terms"]["this request"].is_null() && !spending(limit));
    let mut names: Vec<String> = now.map(|limit| limit["terms"]["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

/// Asks both, and compares what they say.
async fn compare(yaml: &str, door: &str, host: &'static str, question: &Question) {
    let about = format!("{door} {} {} {:?} {}", question.0, question.1, question.2, question.3);
    let world = World::new(yaml).await;
    let said = told(yaml, door, host, question);
    let answer = asked(&world, door, host, question).await;
    let counted = counted(&world, door);
    let state = answer.header("ratelimit").to_owned();
    asked(&world, door, host, question).await;
    let keys: Vec<String> = world.shared.cache.top().rows(By::ALL[0].0, 10).iter().map(|row| row.key.to_string()).collect();
    let asked_of: Vec<(String, usize)> = ["openai", "anthropic", "house", "tools"]
        .map(|name| (name.to_owned(), if door == "inbound" { 0 } else { world.provider(name).seen().len() }))
        .into();
    let log = world.log().await;
    let line = &log[0];
    let status = |refusal: &str| refusal.split(' ').next().and_then(|code| code.parse::<u16>().ok());
    let said = match said {
        Ok(said) => said,
        Err(refusal) => {
            // A name that is no provider's has no status in `explain`: it is a mistake of whoever asks.
            assert_eq!(answer.status.as_u16(), status(&refusal).unwrap_or(404), "{about}: {refusal}\n{line:#}");
            return;
        }
    };
    let refusal = said["refused"].as_str();
    match refusal {
        Some(refusal) => assert_eq!(Some(answer.status.as_u16()), status(refusal), "{about}: {refusal}\n{line:#}"),
        None => assert!(!line["outcome"].is_null() && line["reason"].is_null(), "{about}: nothing is refused\n{line:#}\n{said:#}"),
    }
    assert_eq!(line["route"], said["route"], "{about}\n{said:#}");
    if refusal.is_none() && (door == "inbound" || !said["caller"].is_null()) {
        assert_eq!(line["caller"], said["caller"], "{about}");
        assert_eq!(line["client_ip"], said["client"], "{about}");
    }
    if let (Some(seen), "inbound") = (world.app.seen().first(), door) {
        assert_eq!(said["target"], format!("http://app.test{}", seen.target), "{about}");
    } else if let (None, "inbound") = (refusal, door) {
        let itself = said["target"].as_str().is_some_and(|target| target.starts_with("the proxy itself"));
        assert!(itself || !answer.header("access-control-allow-origin").is_empty(), "{about}: the app is asked\n{said:#}");
    }
    if let Some(call) = said["call"].as_object() {
        for name in ["provider", "operation", "model"] {
            assert_eq!(line[name].as_str().unwrap_or_default(), call[name].as_str().unwrap_or_default(), "{about}: {name}");
        }
        let provider = call["provider"].as_str().expect("a name");
        for (name, times) in &asked_of {
            assert_eq!(*times > 0, refusal.is_none() && name == provider, "{about}: {name} was asked {times} times");
        }
    }
    if refusal.is_none() {
        assert_eq!(counted, counting(&said), "{about}\n{said:#}");
    }
    if let (None, Some(reserved)) = (refusal, state.split("budget\";r=").nth(1)) {
        let left: u64 = reserved.split([';', ',']).next().and_then(|left| left.parse().ok()).expect("a number");
        // What nobody bills has no price.
        let price = said["call"]["price_usd"].as_str().unwrap_or("0");
        assert_eq!(price, human::usd(25_000_000_000 - left), "{about}: {state}");
    }
    let word = line["cache"].as_str().unwrap_or("none");
    match said["cache_key"].as_str() {
        _ if refusal.is_some() => {}
        None => assert!(["none", "bypass"].contains(&word) && keys.is_empty(), "{about}: {word} {keys:?}\n{said:#}"),
        Some(_) if said["cache_key_note"].is_string() => assert_eq!(word, "bypass", "{about}\n{said:#}"),
        // HEAD stores nothing, and finds nothing here.
        Some(_) if question.0 == "HEAD" => assert_eq!(word, "miss", "{about}"),
        Some(key) => assert_eq!((word, &keys[..]), ("miss", &[key.to_owned()][..]), "{about}\n{said:#}"),
    }
}

#[test]
fn explain_and_the_inbound_door_agree() {
    for strict in ["false", "true"] {
        for question in INBOUND {
            run(compare(&FILE.replace("STRICT", strict), "inbound", "shop.example", question));
        }
    }
}

#[test]
fn explain_and_the_outbound_door_agree() {
    for question in OUTBOUND {
        run(compare(&FILE.replace("STRICT", "false"), "outbound", "localhost", question));
    }
}

#[test]
fn the_tries_that_explain_tells_of_are_made() {
    run(async {
        let yaml = FILE.replace("STRICT", "false");
        let world = World::new(&yaml).await;
        world.provider("openai").script(["503", "503", "503", "503"]);
        let question: Question = ("POST", CHAT, JSON, HELLO);
        let said = told(&yaml, "outbound", "localhost", &question).expect("explained");
        asked(&world, "outbound", "localhost", &question).await;
        let retry = said["policies"].as_array().expect("a list").iter().find(|policy| policy["policy"] == "retry").expect("one");
        let retries: usize = retry["terms"]["max_retries"].as_str().and_then(|text| text.parse().ok()).expect("a number");
        assert_eq!(world.provider("openai").seen().len(), 1 + retries);
        assert_eq!(world.log().await[0]["tries"], 1 + retries);
    });
}
