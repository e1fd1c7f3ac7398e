//! Which route answers, seen in the metrics of a whole exchange.

use http::{Method, Request, StatusCode};

use crate::world::{World, chat, json, run};

/// The route that counted one more request since it was last asked.
struct Routes<'w> {
    world: &'w World,
    door: &'static str,
}

impl Routes<'_> {
    fn of(&self, name: &str) -> f64 {
        self.world.count("outrigger_requests_total", &[("door", self.door), ("route", name)])
    }
}

#[test]
fn the_most_specific_match_wins_whatever_the_order_of_the_file() {
    const YAML: &str = "
inbound:
  app: http://app.test
  routes:
    - {name: all, match: {path: /**}}
    - {name: api, match: {path: /api/**}}
    - {name: item, match: {path: /api/items/*}}
    - {name: new, match: {path: /api/items/new}}
    - {name: posted, match: {path: /api/items/new, methods: [POST]}}
    - {name: tenant, match: {path: /api/**, hosts: [a.example]}}
    - {name: beta, match: {path: /api/items/new, headers: {x-beta: '1'}}}
";
    let reversed: String = {
        let (head, routes) = YAML.split_at(YAML.find("    - ").expect("routes"));
        let mut lines: Vec<&str> = routes.lines().collect();
        lines.reverse();
        format!("{head}{}\n", lines.join("\n"))
    };
    for yaml in [YAML, &reversed] {
        run(async {
            let world = World::new(yaml).await;
            let routes = Routes { world: &world, door: "inbound" };
            for (request, name) in [
                (Request::get("/x"), "all"),
                (Request::get("/api"), "api"),
                (Request::get("/api/a/b"), "api"),
                (Request::get("/api/items/7?new"), "item"),
                (Request::get("/api/items/new"), "new"),
                (Request::post("/api/items/new"), "posted"),
                (Request::get("/api/items/new").header("x-beta", "1"), "beta"),
                (Request::get("/api/items/new").header("x-beta", "2"), "new"),
                (Request::get("/api/a").header("host", "a.example:8080"), "tenant"),
            ] {
                let before = routes.of(name);
                let asked = format!("{request:?}");
                assert_eq!(world.client().ask(request, "").await.status, StatusCode::OK);
                assert_eq!(routes.of(name), before + 1.0, "{asked} is for {name}\n{}", world.metrics());
            }
        });
    }
}

#[test]
fn what_no_route_matches_goes_through_the_defaults() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', routes: [{name: a, match: {path: /a}}]}").await;
        world.client().get("/b").await;
        assert_eq!(Routes { world: &world, door: "inbound" }.of("default"), 1.0);
    });
}

#[test]
fn a_path_that_means_two_routes_is_refused() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test', routes: [{name: admin, match: {path: /admin/**}, access: {allow: [10.0.0.0/8]}}]}",
        )
        .await;
        for path in ["/x/../admin/a", "/%61dmin/a", "//admin/a", "/./admin/a", "/x%2f..%2fadmin/a"] {
            let answer = world.client().get(path).await;
            assert!(answer.status == StatusCode::BAD_REQUEST || answer.status == StatusCode::FORBIDDEN, "{path}: {}", answer.status);
        }
        assert_eq!(world.app.asked(), 0);
        assert_eq!(world.client().get("/admin/a").await.status, StatusCode::FORBIDDEN);
        assert_eq!(world.client().from("10.1.1.1").get("/admin/a").await.status, StatusCode::OK);
        assert_eq!(world.client().get("/x/../y").await.status, StatusCode::OK, "what changes no route passes as it is");
    });
}

#[test]
fn an_outbound_call_is_found_by_provider_operation_and_model() {
    run(async {
        let world = World::new(
            "
outbound:
  providers: {openai: {url: 'http://openai.test'}, anthropic: {url: 'http://anthropic.test'}}
  routes:
    - {name: gpt, match: {operation: chat, models: ['gpt-*']}}
    - {name: mini, match: {operation: chat, models: ['gpt-4o-mini']}}
    - {name: vectors, match: {operation: embeddings}}
    - {name: claude, match: {provider: anthropic}}
",
        )
        .await;
        let routes = Routes { world: &world, door: "outbound" };
        let caller = world.caller();
        let embed = serde_json::json!({"model": "text-embedding-3-small", "input": "a"});
        for (path, body, name) in [
            ("/openai/v1/chat/completions", chat("gpt-4o"), "gpt"),
            ("/openai/v1/chat/completions", chat("gpt-4o-mini"), "mini"),
            ("/openai/v1/chat/completions", chat("o3"), "default"),
            ("/openai/v1/embeddings", embed, "vectors"),
            ("/anthropic/v1/messages", chat("claude-sonnet-4-5"), "claude"),
        ] {
            let before = routes.of(name);
            let asked = json(path).header("anthropic-version", "2023-06-01");
            let asked = if path.starts_with("/openai") { json(path) } else { asked };
            let answer = caller.ask(asked, body.to_string()).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            assert_eq!(routes.of(name), before + 1.0, "{path} {body}");
        }
    });
}

#[test]
fn an_unknown_provider_is_told_with_the_names_of_the_known_ones() {
    run(async {
        let world =
            World::new("outbound: {providers: {openai: {url: 'http://openai.test'}, house: {api: openai, url: 'http://h.test'}}}").await;
        for path in ["/opnai/v1/chat/completions", "/", "/chat/completions"] {
            let answer = world.caller().call(path, &chat("gpt-4o")).await;
            assert_eq!((answer.status, answer.json()["reason"].as_str()), (StatusCode::NOT_FOUND, Some("no_route")));
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains("openai") && detail.contains("house"), "{detail}");
        }
        assert!(world.provider("openai").seen().is_empty());
    });
}

#[test]
fn connect_and_trace_are_not_proxied() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}").await;
        let answer = world.client().ask(Request::builder().method(Method::TRACE).uri("/"), "").await;
        assert_eq!((answer.status, world.app.asked()), (StatusCode::METHOD_NOT_ALLOWED, 0));
    });
}

/// A base path is a wall: behind it lives somebody else, and a configured key would open the door.
#[test]
fn no_path_leads_out_of_a_targets_base() {
    run(async {
        let world = World::new(
            "inbound: {app: 'http://app.test/tenant-a', app_protocol: http1}
outbound:
  providers: {house: {api: openai, url: 'http://h.test/house', keys: [sk-house]}, plain: {api: plain, url: 'http://p.test'}}
",
        )
        .await;
        let call = async |path: String| world.caller().ask(json(&path).header("host", "localhost"), chat("gpt-4o").to_string()).await;
        for climbing in
            ["/../tenant-b", "/%2e%2e/tenant-b", "/a/.%2E/..;x/tenant-b", "/..%5Ctenant-b", "/..\\tenant-b", "/%252e%252e/tenant-b"]
        {
            let refused = world.client().get(climbing).await;
            assert_eq!((refused.status, refused.json()["reason"].as_str()), (StatusCode::BAD_REQUEST, Some("bad_request")), "{climbing}");
            assert!(refused.text().contains("base path"), "{}", refused.text());
            let refused = call(format!("/house{climbing}")).await;
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{climbing}");
            assert!(refused.text().contains("base path"), "{}", refused.text());
        }
        assert_eq!((world.app.asked(), world.provider("house").seen().len()), (0, 0));
        // Within the base, and where there is none, a path is the target's own affair.
        world.client().get("/a/../b?c=/../d").await;
        assert_eq!(world.app.only().target, "/tenant-a/a/../b?c=/../d");
        call("/plain/../x".to_owned()).await;
        assert_eq!(world.provider("plain").seen()[0].path, "/../x");
    });
}
