//! `explain` and the proxy agree.

use clap::Parser;
use serde_json::{Value, json as json_of};

use super::*;

const FILE: &str = r#"
inbound:
  app: 3000
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id, client_ip]
  limits: [{key: client_ip, requests: 1000, window: 1m}]
  routes:
    - {match: {path: /api/**}, limits: [{name: spend, key: caller, usd: 0.50, window: 1h}]}
    - {match: {path: "/api/products/*", methods: [GET]}, cache: {ttl: 60s, key: [header:accept-language]}}
    - match: {path: /plan}
      limits:
        - {name: plan, key: caller, requests: 10, tier: header:x-plan, tiers: {free: 100, staff: off}, window: 1h}
        - {name: busy, key: caller, concurrency: 3, queue: {max: 20, wait: 30s}}
    - {match: {path: /search}, cache: {ttl: 60s, body: [q, page.size]}}
    - {match: {path: /graphql}, cache: {ttl: 60s, body: graphql}}
    - {match: {path: /api/admin, methods: [POST]}, access: {allow: [127.0.0.1]}}
outbound:
  providers: {openai: {keys: [sk-hunter2]}, anthropic: {}}
  limits: [{name: budget, key: [provider, api_key], usd: 25, window: 1d, alert_at: [0.5]}]
  defaults: {timeouts: {connect: 2s, first_token: 120s}, retry: {max_retries: 3}, breaker: {}}
  routes:
    - {name: gpt, match: {operation: chat, models: ["gpt-*"]}, cache: {ttl: 1h, mode: observe}, fallback: [{provider: openai, model: gpt-4o-mini}]}
    - {name: chat, match: {operation: chat}}
store: {secret: not-for-anybody}
"#;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ExplainArgs,
}

fn explained(line: &[&str]) -> Result<Explained, String> {
    let overrides = Overrides { memory_limit: Some(1 << 28), ..Overrides::default() };
    let config = read::parse(FILE, "proxy.yaml", &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let line = Line::try_parse_from([&["explain"], line].concat()).unwrap_or_else(|error| panic!("{error}"));
    explain(&line.args, &body(line.args.data.as_deref())?, &config)
}

fn json(line: &[&str]) -> Value {
    serde_json::to_value(explained(line).unwrap_or_else(|error| panic!("{error}"))).unwrap()
}

fn policies(of: &Value) -> Vec<&str> {
    of["policies"].as_array().unwrap().iter().map(|policy| policy["policy"].as_str().unwrap()).collect()
}

#[test]
fn the_door_follows_from_the_url() {
    for (url, door, because) in [
        ("http://127.0.0.1:8081/openai/v1/models", "outbound", "it listens on port 8081"),
        ("http://example.org:8080/openai/x", "inbound", "it listens on port 8080"),
        ("/anthropic/v1/messages", "outbound", "`anthropic` is a provider"),
        ("/api/products/1", "inbound", "no provider is named first in the path"),
        ("http://example.org/", "inbound", "no provider is named first in the path"),
    ] {
        let found = json(&["GET", url]);
        assert_eq!((found["door"].as_str(), found["door_because"].as_str()), (Some(door), Some(because)), "{url}");
    }
    assert_eq!(json(&["GET", "/openai/x", "--door", "inbound"])["door"], "inbound");
    assert!(explained(&["GET", "/nobody/v1", "--door", "outbound"]).unwrap_err().contains("one of: openai, anthropic"));
    assert!(explained(&["GET", "/x/../api/products/1"]).unwrap_err().contains("another route"));
}

#[test]
fn a_limit_tells_the_amount_of_the_tier_and_who_may_wait() {
    let terms = |headers: &[&str], from: &str| {
        let line = [&["GET", "/plan", "--from", from], headers].concat();
        let found = json(&line);
        (
            found["policies"][1]["terms"]["amount"].clone(),
            found["policies"][1]["terms"]["tier"].clone(),
            found["policies"][2]["terms"].clone(),
        )
    };
    let (amount, tier, busy) = terms(&["-H", "x-plan: free"], "10.0.0.1");
    assert_eq!((amount, tier), ("100 requests per hour".into(), "free (of free, staff)".into()));
    assert_eq!((&busy["amount"], &busy["queue"]), (&"3 requests in flight".into(), &"20 requests wait, each at most 30s".into()));
    assert_eq!(terms(&["-H", "x-plan: staff"], "10.0.0.1").0, "none: the limit does not count this tier");
    let own = ("10 requests per hour".into(), "none of free, staff: the limit's own amount holds".into());
    for (headers, from) in [(&["-H", "x-plan: free"][..], "192.0.2.1"), (&["-H", "x-plan: gold"], "10.0.0.1"), (&[], "10.0.0.1")] {
        let (amount, tier, _) = terms(headers, from);
        assert_eq!((amount, tier), own, "{headers:?} {from}");
    }
}

#[test]
fn a_model_call_is_explained_part_by_part() {
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}],"temperature":0,"max_tokens":9,"stream":true}"#;
    let line = ["POST", "/openai/v1/chat/completions", "-H", "authorization: Bearer sk-app", "-H", "outrigger-caller: ann", "-d", body];
    let found = json(&line);
    assert_eq!((&found["route"], &found["caller"], &found["call"]["model"]), (&"gpt".into(), &"ann".into(), &"gpt-4o".into()));
    assert_eq!((&found["call"]["stream"], &found["call"]["max_output_tokens"]), (&true.into(), &9.into()));
    assert_eq!(policies(&found), ["limits", "cache", "timeouts", "retry", "breaker", "fallback"]);
    let terms = |at: usize| &found["policies"][at]["terms"];
    assert_eq!(terms(0)["amount"], "$25 per day");
    assert_eq!((&terms(0)["key"], &terms(0)["alert at"]), (&"provider=openai api_key=(hashed)".into(), &"50%".into()));
    assert_eq!((&found["policies"][1]["mode"], &terms(1)["ttl"]), (&"observe".into(), &"1h".into()));
    assert_eq!((&terms(3)["max_retries"], &terms(5)["then"]), (&"3".into(), &json_of!(["openai with gpt-4o-mini"])));
    let parts = found["cache_key_parts"].as_array().unwrap();
    let names: Vec<_> = parts.iter().map(|part| part[0].as_str().unwrap()).collect();
    for name in ["class", "path", "provider", "operation", "tenant", "body"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let text = explained(&line).unwrap().to_string();
    assert!(!text.contains("sk-app") && !text.contains("hunter2") && !found.to_string().contains("sk-app"), "{text}");
    for part in ["* gpt", "would match too, but is less specific: models", "(observes only) ttl 1h", "$10 out for a million tokens"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    // Members in another order are the same request; another temperature is not.
    let key = |body: &str| json(&[&line[..7], &[body]].concat())["cache_key"].clone();
    let moved = r#"{"stream":true,"max_tokens":9,"temperature":0,"messages":[{"role":"user","content":"Hi"}],"model":"gpt-4o"}"#;
    assert_eq!(key(body), key(moved));
    assert_ne!(key(body), key(&body.replace("\"temperature\":0", "\"temperature\":0.5")));
}

#[test]
fn candidates_say_why_not() {
    let found = json(&["POST", "/openai/v1/chat/completions"]);
    assert_eq!(found["route"], "chat");
    let because: Vec<_> = found["candidates"].as_array().unwrap().iter().map(|one| one["because"].as_str().unwrap()).collect();
    assert_eq!(because, ["models: the request names none", "the most specific that matches", "only where no route matches"]);
    let found = json(&["GET", "/openai/v1/models"]);
    assert_eq!(found["route"], "default");
    assert_eq!(found["candidates"][0]["because"], "operation: does not match");
    assert_eq!(found["cache_key_note"], "no cache policy applies");
}

#[test]
fn the_inbound_door_believes_only_who_it_trusts() {
    let line = ["GET", "/api/products/7?x=1", "-H", "x-user-id: ann", "-H", "x-forwarded-for: 203.0.113.9", "-H", "accept-language: de"];
    let found = json(&line);
    assert_eq!((&found["caller"], &found["client"]), (&"127.0.0.1".into(), &"127.0.0.1".into()));
    let found = json(&[&line[..], &["--from", "10.1.2.3"]].concat());
    assert_eq!((&found["caller"], &found["client"]), (&"ann".into(), &"203.0.113.9".into()));
    assert_eq!(policies(&found), ["limits", "cache"]);
    assert_eq!(found["policies"][0]["terms"]["key"], "client_ip=203.0.113.9");
    let parts = found["cache_key_parts"].as_array().unwrap();
    assert!(parts.iter().any(|part| part[0] == "path" && part[1] == "/api/products/7?x=1"), "{parts:?}");
    assert!(parts.iter().any(|part| part[0] == "header:accept-language"), "{parts:?}");
    let found = json(&["POST", "/api/products/7"]);
    assert_eq!(found["policies"][1]["terms"]["counts"], "what the model calls that this request causes use");
    assert_eq!(found["policies"][1]["terms"]["amount"], "$0.50 per hour");
}

#[test]
fn a_post_that_only_reads_is_explained_part_by_part() {
    let parts = |path: &str, body: &str| {
        let found = json(&["POST", path, "-H", "content-type: application/json", "-d", body]);
        let parts = found["cache_key_parts"].as_array().unwrap_or_else(|| panic!("{found:#}")).clone();
        parts.iter().map(|part| (part[0].as_str().unwrap().to_owned(), part[1].as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    let found = parts("/search", r#"{"q":"shoes","trace":1}"#);
    for part in [("class", "post"), ("body:q", "\"shoes\""), ("body:page.size", "(not there)"), ("body:type", "application/json")] {
        assert!(found.contains(&(part.0.into(), part.1.into())), "{part:?} in {found:?}");
    }
    let found = parts("/graphql", r##"{"query":"{ a, b # c\n }","variables":{"x":1}}"##);
    for part in [("body:document", "{ a b }"), ("body:variables", r#"{"x":1}"#)] {
        assert!(found.contains(&(part.0.into(), part.1.into())), "{part:?} in {found:?}");
    }
    let line = ["POST", "/graphql", "-H", "content-type: application/json", "-d", r#"{"query":"mutation { a }"}"#];
    assert_eq!(json(&line)["cache_key_note"], "GraphQL mutation");
    assert_eq!(json(&line)["policies"][1]["terms"]["POST by"], "its GraphQL document and all beside it");
}

#[test]
fn mistakes_on_the_line_are_said() {
    for line in [&["explain", "GET", "/", "-H", "nocolon"][..], &["explain", "GET", "/", "--door", "back"], &["explain", "G ET", "/"]] {
        assert!(Line::try_parse_from(line).is_err(), "{line:?}");
    }
    assert!(explained(&["GET", "not a url"]).unwrap_err().contains("is not a URL"));
    assert!(explained(&["GET", "login"]).unwrap_err().contains("`login` is neither a path nor a URL"));
    assert!(explained(&["POST", "/openai/v1/embeddings", "-d", "@/no/such/file"]).unwrap_err().contains("cannot be read"));
}
