//! One base URL for all models: a call whose path names no provider goes where its model's name leads, and is a call to that provider from
//! there on.

use http::{Request, StatusCode};
use outrigger::cli::mock::hash_credential;
use serde_json::{Value, json};

use crate::world::{Answer, Failing, World, chat, json, run};

const CHAT: &str = "/v1/chat/completions";
const YAML: &str = "
outbound:
  hosts: [shop.example]
  providers:
    openai: {url: 'http://o.test', keys: [sk-openai]}
    azure: {api: openai, url: 'http://a.test/v1', keys: [sk-azure]}
    anthropic: {url: 'http://c.test', keys: [sk-claude]}
  models:
    fast: openai/gpt-4o-mini
    smart: [anthropic/claude-opus-4-5, azure/gpt-4o, openai/gpt-4.1]
    big: azure/gpt-4.1
    gpt-4o: openai
    embed: openai/text-embedding-3-small
    'claude-*': anthropic
";

fn sent(world: &World, provider: &str) -> Vec<(String, String)> {
    let model = |body: &str| serde_json::from_str::<Value>(body).map(|body| body["model"].as_str().unwrap_or_default().to_owned());
    world.provider(provider).seen().iter().map(|seen| (seen.path.clone(), model(&seen.body).unwrap_or_default())).collect()
}

async fn claude(world: &World, model: &str) -> Answer {
    world.caller().ask(json("/v1/messages").header("anthropic-version", "2023-06-01"), chat(model).to_string()).await
}

fn one(path: &str, model: &str) -> Vec<(String, String)> {
    vec![(path.to_owned(), model.to_owned())]
}

#[test]
fn an_alias_leads_to_the_real_model_and_nothing_else_of_the_body_changes() {
    run(async {
        let world = World::new(YAML).await;
        let body = "{ \"temperature\":0.50, \"model\" : \"fast\",\"messages\":[{\"role\":\"user\",\"content\":\"say \\u0041\"}]}";
        let answer = world.caller().ask(json(CHAT), body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let seen = &world.provider("openai").seen()[0];
        // Metering has asked for nothing: the call does not stream.
        assert_eq!(seen.body, body.replace("\"fast\"", "\"gpt-4o-mini\""));
        assert_eq!((&*seen.path, seen.header("content-length")), (CHAT, Some(&*seen.body.len().to_string())));
        for (model, provider, path, real) in [
            ("big", "azure", CHAT, "gpt-4.1"),
            ("azure/gpt-4o", "azure", CHAT, "gpt-4o"),
            ("openai/gpt-4o-mini", "openai", CHAT, "gpt-4o-mini"),
            ("gpt-4o", "openai", CHAT, "gpt-4o"),
            ("smart", "azure", CHAT, "gpt-4o"),
        ] {
            world.provider(provider).reset();
            let answer = world.caller().call(CHAT, &chat(model)).await;
            assert_eq!(answer.status, StatusCode::OK, "{model}: {}", answer.text());
            assert_eq!(sent(&world, provider), one(path, real), "{model}");
        }
        for (model, real) in [("smart", "claude-opus-4-5"), ("claude-haiku-4-5", "claude-haiku-4-5")] {
            world.provider("anthropic").reset();
            assert_eq!(claude(&world, model).await.status, StatusCode::OK);
            assert_eq!(sent(&world, "anthropic"), one("/v1/messages", real));
        }
        assert_eq!(world.provider("anthropic").seen()[0].header("x-api-key"), Some(&*hash_credential("sk-claude")));
    });
}

#[test]
fn books_metrics_and_log_have_the_real_provider_and_model_and_the_log_the_alias() {
    run(async {
        let world = World::new(&format!("{YAML}  limits: [{{name: dear, key: [provider, model], usd: 5, window: 1d}}]\n")).await;
        assert_eq!(world.caller().call(CHAT, &chat("big")).await.status, StatusCode::OK);
        assert_eq!(world.limit("dear"), (1, 0, 0));
        let billed = world.provider("azure").billed();
        let tokens = world.count("outrigger_tokens_total", &[("provider", "azure")]);
        assert_eq!((billed.0, tokens), (1, billed.1 as f64), "{}", world.metrics());
        let line = world.log().await.pop().expect("a line");
        let model = line["model"].as_str().unwrap_or_default();
        assert_eq!((&line["provider"], &line["asked_model"], model), (&json!("azure"), &json!("big"), "gpt-4.1"), "{line:#}");
        assert!(line["cost_usd"].as_f64().is_some_and(|cost| cost > 0.0), "{line:#}");
    });
}

#[test]
fn the_next_place_of_the_same_api_comes_where_one_fails_and_then_the_routes_own() {
    run(async {
        let world = World::new(&format!("{YAML}  defaults: {{fallback: [{{respond: {{status: 418}}}}]}}\n")).await;
        world.provider("azure").script(["503"]);
        let answer = world.caller().call(CHAT, &chat("smart")).await;
        assert_eq!(
            (answer.status, answer.json()["model"].as_str().map(|model| model.starts_with("gpt-4.1"))),
            (StatusCode::OK, Some(true))
        );
        assert_eq!(sent(&world, "openai"), one(CHAT, "gpt-4.1"));
        assert_eq!(world.provider("openai").seen()[0].header("authorization"), Some(&*hash_credential("sk-openai")));
        world.provider("azure").script(["503"]);
        world.dials.fail("openai", [Failing::Refused, Failing::Refused]);
        world.provider("openai").script(["503"]);
        let answer = world.caller().call(CHAT, &chat("smart")).await;
        assert_eq!(answer.status, StatusCode::IM_A_TEAPOT, "{}", answer.text());
        world.provider("anthropic").script(["529"]);
        assert_eq!(claude(&world, "smart").await.status, StatusCode::IM_A_TEAPOT, "no other place speaks its API");
        // A stream that breaks before its first byte falls over, too.
        world.provider("azure").script(["error-in-stream=overloaded_error;after=0"]);
        let mut body = chat("smart");
        body["stream"] = json!(true);
        world.provider("openai").reset();
        let answer = world.caller().call(CHAT, &body).await;
        assert!(answer.status == StatusCode::OK && answer.text().contains("gpt-4.1"), "{}", answer.text());
    });
}

#[test]
fn what_no_name_is_for_is_refused_in_the_apis_shape_with_the_nearest_names() {
    run(async {
        let world = World::new(YAML).await;
        let answer = world.caller().call(CHAT, &chat("fsat")).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (StatusCode::NOT_FOUND, &json!("unknown_model")));
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains("`fast`")), "{}", answer.text());
        let answer = claude(&world, "fast").await;
        assert_eq!((answer.status, &answer.json()["error"]["type"]), (StatusCode::NOT_FOUND, &json!("not_found_error")));
        assert!(answer.text().contains("POST /v1/chat/completions"), "{}", answer.text());
        let answer = world.caller().call(CHAT, &chat("claude-haiku-4-5")).await;
        assert!(answer.status == StatusCode::NOT_FOUND && answer.text().contains("POST /v1/messages"), "{}", answer.text());
        let answer = world.caller().get("/v1/files").await;
        assert!(answer.status == StatusCode::NOT_FOUND && answer.text().contains("default_provider"), "{}", answer.text());
        assert_eq!(world.count("outrigger_rejects_total", &[("door", "outbound"), ("reason", "unknown_model")]), 4.0);
        for name in ["openai", "azure", "anthropic"] {
            assert!(world.provider(name).seen().is_empty(), "{name}");
        }
    });
}

#[test]
fn the_default_provider_takes_the_rest_files_too() {
    run(async {
        let world = World::new(&format!("{YAML}  default_provider: [azure, anthropic]\n")).await;
        world.caller().call(CHAT, &chat("gpt-other")).await;
        world.caller().get("/v1/files?limit=2").await;
        world.caller().ask(Request::get("/v1/files").header("anthropic-version", "2023-06-01"), "").await;
        let paths: Vec<String> = world.provider("azure").seen().iter().map(|seen| seen.path.clone()).collect();
        assert_eq!(paths, [CHAT, "/v1/files?limit=2"]);
        assert_eq!(world.provider("anthropic").seen()[0].path, "/v1/files");
    });
}

#[test]
fn the_list_of_models_is_in_the_shape_of_each_api() {
    run(async {
        let world = World::new(YAML).await;
        let list = world.caller().get("/v1/models").await;
        let ids = |list: &Value| list["data"].as_array().expect("a list").iter().map(|one| one["id"].to_string()).collect::<String>();
        assert_eq!((list.status, list.header("content-type")), (StatusCode::OK, "application/json"));
        assert_eq!(
            ids(&list.json()),
            "\"gpt-4o\"\"smart\"\"embed\"\"fast\"\"big\"\"azure/gpt-4o\"\"openai/gpt-4.1\"\"openai/text-embedding-3-small\"\"openai/gpt-4o-mini\"\"azure/gpt-4.1\""
        );
        assert_eq!(list.json()["data"][3], json!({"id": "fast", "object": "model", "created": 0, "owned_by": "openai"}));
        let list = world.caller().ask(Request::get("/v1/models").header("anthropic-version", "2023-06-01"), "").await;
        assert_eq!(ids(&list.json()), "\"smart\"\"anthropic/claude-opus-4-5\"");
        assert_eq!((&list.json()["data"][0]["type"], &list.json()["has_more"]), (&json!("model"), &json!(false)));
        let one = world.caller().get("/v1/models/fast").await;
        assert_eq!((one.status, &one.json()["id"]), (StatusCode::OK, &json!("fast")));
        // One that is not in the list: its provider knows it.
        world.caller().get("/v1/models/azure/gpt-9").await;
        assert_eq!(world.provider("azure").seen()[0].path, "/v1/models/gpt-9");
        // The name is decoded to be known, and encoded again.
        world.provider("azure").reset();
        world.caller().get("/v1/models/azure/a%3Fb%20c").await;
        assert_eq!(world.provider("azure").seen()[0].path, "/v1/models/a%3Fb%20c");
        assert_eq!(world.caller().get("/v1/models/fsat").await.status, StatusCode::NOT_FOUND);
    });
}

/// The app wrote its credential for one provider. A name in a body must not carry it to another.
#[test]
fn the_apps_own_credential_goes_to_the_default_provider_alone() {
    run(async {
        const BARE: &str = "
outbound:
  providers: {openai: {url: 'http://o.test'}, house: {api: openai, url: 'http://h.test'}}
  models: {pool: [house/gpt-4o, openai/gpt-4o]}
";
        let own = hash_credential("sk-app");
        for (default, wanted) in [("  default_provider: openai\n", [Some(&*own), None]), ("", [None, None])] {
            let world = World::new(&format!("{BARE}{default}")).await;
            for model in ["openai/gpt-4o", "house/gpt-4o"] {
                let request = json(CHAT).header("authorization", "Bearer sk-app").header("openai-organization", "org-1");
                world.caller().ask(request, chat(model).to_string()).await;
            }
            for (provider, wanted) in ["openai", "house"].into_iter().zip(wanted) {
                let seen = &world.provider(provider).seen()[0];
                assert_eq!(
                    (seen.header("authorization"), seen.header("openai-organization").is_some()),
                    (wanted, wanted.is_some()),
                    "{provider}"
                );
            }
        }
        // Within a pool, too: the second place is the one that the credential is for.
        let world = World::new(&format!("{BARE}  default_provider: openai\n")).await;
        world.provider("house").script(["503"]);
        world.caller().ask(json(CHAT).header("authorization", "Bearer sk-app"), chat("pool").to_string()).await;
        let seen = |name: &str| world.provider(name).seen()[0].header("authorization").map(str::to_owned);
        assert_eq!((seen("house"), seen("openai")), (None, Some(own)));
    });
}

#[test]
fn with_one_provider_nothing_has_to_be_written_and_a_route_sees_the_real_call() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}, anthropic: {url: 'http://c.test'}}
  routes: [{name: mini, match: {provider: openai, operation: chat, models: [gpt-4o-mini]}, cache: {ttl: 1h}}]
",
        )
        .await;
        let request = || json(CHAT).header("authorization", "Bearer sk-app");
        assert_eq!(world.caller().ask(request(), chat("gpt-4o-mini").to_string()).await.status, StatusCode::OK);
        assert_eq!(claude(&world, "claude-haiku-4-5").await.status, StatusCode::OK);
        let seen = world.provider("openai").seen();
        assert_eq!((seen.len(), seen[0].header("authorization")), (1, Some(&*hash_credential("sk-app"))));
        assert_eq!(world.count("outrigger_requests_total", &[("door", "outbound"), ("route", "mini")]), 1.0);
        // The same call by the provider's path is the same entry of the cache.
        let path = "/openai/v1/chat/completions";
        world.caller().ask(json(path).header("authorization", "Bearer sk-app"), chat("gpt-4o-mini").to_string()).await;
        world.caller().ask(request(), chat("openai/gpt-4o-mini").to_string()).await;
        assert_eq!(world.provider("openai").seen().len(), 1, "{}", world.metrics());
    });
}

#[test]
fn a_form_and_a_path_name_the_model_too() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://o.test'}, scripted: {api: gemini, url: 'http://g.test'}}
  models: {ears: openai/whisper-1, quick: scripted/gemini-2.5-flash}
",
        )
        .await;
        let form = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nears\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; \
                    filename=\"a.wav\"\r\n\r\nsound\r\n--x--\r\n";
        let request = Request::post("/v1/audio/transcriptions").header("content-type", "multipart/form-data; boundary=x");
        world.caller().ask(request, form).await;
        assert_eq!(world.provider("openai").seen()[0].body, form.replace("ears", "whisper-1"));
        world.caller().call("/v1beta/models/quick:generateContent?alt=json", &json!({"contents": []})).await;
        assert_eq!(world.app.only().target, "/v1beta/models/gemini-2.5-flash:generateContent?alt=json");
    });
}

#[test]
fn a_coded_body_is_read_and_goes_on_without_its_coding() {
    run(async {
        let world = World::new(YAML).await;
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut coder, chat("fast").to_string().as_bytes()).expect("written");
        let answer = world.caller().ask(json(CHAT).header("content-encoding", "gzip"), coder.finish().expect("whole")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let seen = &world.provider("openai").seen()[0];
        assert_eq!((seen.header("content-encoding"), &*seen.body), (None, &*chat("gpt-4o-mini").to_string()));
        let refused = world.caller().ask(json(CHAT).header("content-encoding", "zip"), "x").await;
        assert_eq!(refused.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "nobody can tell whose call it is");
    });
}

#[test]
fn whom_no_route_lets_in_learns_no_names() {
    run(async {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{\"keys\": []}").expect("written");
        let world = World::new(&format!("{YAML}  defaults: {{auth: {{api_keys: {{file: '{}'}}}}}}\n", file.path().display())).await;
        let answer = world.caller().call(CHAT, &chat("fsat")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
        assert!(!answer.text().contains("fast"), "{}", answer.text());
        for path in ["/v1/models", "/v1/models/fsat", "/v1/files"] {
            let answer = world.caller().get(path).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}: {}", answer.text());
        }
    });
}
