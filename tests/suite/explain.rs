//! What `outrigger explain` prints is what the running proxy does with the same request: the key, what is reserved, who is asked.

use clap::Parser;
use http::StatusCode;
use outrigger::{
    cli::explain::{ExplainArgs, Explained, explain},
    config::{
        human,
        read::{self, Overrides},
    },
    policy::cache::top::By,
};
use serde_json::{Value, json};

use crate::world::{World, run};

const YAML: &str = "
store: {secret: of-all-replicas}
inbound:
  app: http://app.test
  routes: [{name: page, match: {path: /page}, cache: {ttl: 1h, key: [header:accept-language]}}]
outbound:
  providers: {openai: {url: 'http://o.test'}, groq: {url: 'http://g.test'}, xai: {url: 'http://x.test'}}
  prices: [{model: house, input: 0.123456, output: 7}, {model: spread, input: 1, output: 1}]
  limits: [{name: budget, key: provider, usd: 25, window: 1d}]
  routes:
    - match: {operation: chat, models: [house, gpt-*]}
      cache: {ttl: 1h}
    - match: {operation: chat, models: [spread]}
      fallback: [{provider: groq, model: gpt-4o}, {provider: xai, model: gpt-4o-mini}, {respond: {status: 418}}]
";

const CHAT: &str = "/openai/v1/chat/completions";

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ExplainArgs,
}

fn tried(line: &[&str], body: &str) -> Result<Explained, String> {
    tried_with(YAML, line, body)
}

fn tried_with(yaml: &str, line: &[&str], body: &str) -> Result<Explained, String> {
    let overrides = Overrides { memory_limit: Some(512 << 20), ..Overrides::default() };
    let config = read::parse(yaml, "proxy.yaml", &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let line = Line::try_parse_from([&["explain"], line].concat()).unwrap_or_else(|error| panic!("{error}"));
    explain(&line.args, body.as_bytes(), &config)
}

fn explained(line: &[&str], body: &str) -> Value {
    let said = tried(line, body).unwrap_or_else(|error| panic!("{error}"));
    serde_json::to_value(said).expect("JSON")
}

/// The keys of all that was answered from the cache.
fn keys(world: &World) -> Vec<String> {
    world.shared.cache.top().rows(By::ALL[0].0, 10).iter().map(|row| row.key.to_string()).collect()
}

#[test]
fn personal_data_is_told_by_kind_and_the_key_is_that_of_what_leaves() {
    run(async {
        let yaml = "
outbound: {providers: {openai: {url: 'http://o.test'}}, defaults: {privacy: {refuse: [card]}, cache: {ttl: 1h}}}
store: {secret: s}
";
        let call = |text: &str| json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}).to_string();
        let world = World::new(yaml).await;
        for _ in 0..2 {
            let request = crate::world::json(CHAT).header("authorization", "Bearer sk-app");
            assert_eq!(world.caller().ask(request, call("ann@example.org")).await.status, StatusCode::OK);
        }
        let url = format!("http://localhost{CHAT}");
        let line = ["POST", &url, "--door", "outbound", "-H", "authorization: Bearer sk-app"];
        let told = |body: &str| {
            let said = tried_with(yaml, &line, body).unwrap_or_else(|error| panic!("{error}"));
            serde_json::to_value(said).expect("JSON")
        };
        let of_ann = told(&call("ann@example.org"));
        assert_eq!(keys(&world), [of_ann["cache_key"].as_str().expect("a key")]);
        let terms = &of_ann["policies"][0]["terms"];
        assert_eq!(terms["this request"], "email 1, placeholder", "{terms}");
        assert!(of_ann["refused"].is_null() && !of_ann.to_string().contains("ann@example.org"));
        assert!(told(&call("4111111111111111"))["refused"].as_str().expect("refused").contains("card (1)"));
        assert!(told("no JSON")["refused"].as_str().expect("refused").contains("not JSON"));
    });
}

#[test]
fn the_key_is_the_one_under_which_the_answer_is_kept() {
    run(async {
        let world = World::new(YAML).await;
        let body = json!({"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
        for _ in 0..2 {
            let request = crate::world::json(CHAT).header("authorization", "Bearer sk-app");
            assert_eq!(world.caller().ask(request, body.to_string()).await.status, StatusCode::OK);
        }
        let url = format!("http://localhost{CHAT}");
        let line = ["POST", &url, "--door", "outbound", "-H", "authorization: Bearer sk-app"];
        let told = explained(&line, &body.to_string())["cache_key"].clone();
        assert_eq!(keys(&world), [told.as_str().expect("a key")]);

        let world = World::new(YAML).await;
        for _ in 0..2 {
            let request = http::Request::get("/page?a=1").header("host", "shop.example").header("accept-language", "de");
            assert_eq!(world.client().ask(request, "").await.status, StatusCode::OK);
        }
        let told = explained(&["GET", "http://shop.example/page?a=1", "-H", "accept-language: de"], "");
        assert_eq!(keys(&world), [told["cache_key"].as_str().expect("a key")]);
    });
}

#[test]
fn the_price_of_a_call_is_what_its_limit_reserves() {
    run(async {
        let long = "word ".repeat(400_000);
        for body in [
            json!({"model": "house", "max_tokens": 1000, "messages": [{"role": "user", "content": "a question of some length"}]}),
            json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "no bound of its own"}]}),
            json!({"model": "gpt-5.4", "max_tokens": 10, "messages": [{"role": "user", "content": long}]}),
        ] {
            let world = World::new(YAML).await;
            let answer = world.caller().call(CHAT, &body).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            let state = answer.header("ratelimit");
            let remaining = state.split(";r=").nth(1).and_then(|rest| rest.split(';').next()).expect("what remains");
            let reserved = 25_000_000_000 - remaining.parse::<u64>().expect("a number");
            let told = explained(&["POST", CHAT], &body.to_string());
            assert_eq!(told["call"]["price_usd"], human::usd(reserved), "{told:#}");
        }
    });
}

#[test]
fn the_order_of_the_fallbacks_is_the_order_in_which_they_are_asked() {
    run(async {
        let world = World::new(YAML).await;
        for provider in ["openai", "groq", "xai"] {
            world.provider(provider).script(["503", "503"]);
        }
        let body = json!({"model": "spread", "messages": []});
        let answer = world.caller().call(CHAT, &body).await;
        let told = explained(&["POST", CHAT], &body.to_string());
        let then = told["policies"].as_array().expect("a list").last().expect("the last")["terms"]["then"].clone();
        assert_eq!(then, json!(["groq with gpt-4o", "xai with gpt-4o-mini", "answer 418 with 0 bytes of its own"]));
        assert_eq!(answer.status.as_u16(), 418, "{}", answer.text());
        let asked: Vec<usize> = ["openai", "groq", "xai"].map(|name| world.provider(name).seen().len()).to_vec();
        assert_eq!(asked, [1, 1, 1]);
    });
}

#[test]
fn a_path_that_means_two_calls_is_refused_as_the_proxy_refuses_it() {
    run(async {
        let world = World::new(YAML).await;
        for path in ["/openai/v1/models/..%2fchat/completions", "/openai/v1/threads/t_1%252Fruns", "/openai/v1/chat%252Fcompletions"] {
            let answer = world.caller().call(path, &json!({"model": "gpt-4o"})).await;
            let error = tried(&["POST", path], "{}").expect_err("two calls");
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert!(error.starts_with("400") && answer.text().contains(error.split_once(": ").expect("a reason").1), "{error}");
        }
    });
}

#[test]
fn a_poll_is_explained_as_the_limits_take_it() {
    let told = explained(&["GET", "/openai/v1/responses/resp_1"], "");
    let limit = told["policies"].as_array().expect("a list").iter().find(|policy| policy["policy"] == "limits").expect("told").to_string();
    assert!(limit.contains("it orders nothing"), "{limit}");
    let told = explained(&["GET", "/openai/v1/models"], "");
    assert!(told.to_string().contains("no provider bills it"), "{told:#}");
}

#[test]
fn a_name_of_a_model_is_explained_as_the_call_that_it_becomes() {
    const NAMED: &str = "
store: {secret: of-all-replicas}
outbound:
  providers: {openai: {url: 'http://o.test'}, house: {api: openai, url: 'http://h.test/v1'}, anthropic: {}}
  models: {big: [house/gpt-4.1, openai/gpt-4o]}
  defaults: {cache: {ttl: 1h}}
";
    let body = |model: &str| json!({"model": model, "messages": []}).to_string();
    let of = |path: &str, model: &str| {
        let said = tried_with(NAMED, &["POST", path, "--door", "outbound"], &body(model)).unwrap_or_else(|error| panic!("{error}"));
        (said.to_string(), serde_json::to_value(said).expect("JSON"))
    };
    let (text, bare) = of("/v1/chat/completions", "big");
    let (_, named) = of("/house/chat/completions", "gpt-4.1");
    assert_eq!((&bare["target"], &bare["call"]["model"]), (&json!("http://h.test/v1/chat/completions"), &json!("gpt-4.1")));
    assert_eq!((&bare["call"]["then"], &bare["call"]["provider"]), (&json!(["openai gpt-4o"]), &named["call"]["provider"]));
    assert!(text.contains("house: `big` of outbound.models") && text.contains("then openai gpt-4o"), "{text}");
    assert_eq!(bare["call"]["price"], named["call"]["price"]);
    for (path, model, why) in
        [("/v1/chat/completions", "bigg", "`big`"), ("/v1/messages", "big", "POST /v1/chat/completions"), ("/v2x/y", "big", "names")]
    {
        let refused = tried_with(NAMED, &["POST", path, "--door", "outbound"], &body(model)).expect_err(path);
        assert!(refused.contains("404 Not Found") && refused.contains(why), "{refused}");
    }
}
