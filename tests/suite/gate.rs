//! The gate: which pages of other origins may use the app, what they may not make a browser send, and the fields of answers.

use http::{Request, StatusCode};

use crate::world::{Reply, World, run};

const PAGE: &str = "https://page.example";

const CORS: &str = "
inbound:
  app: http://app.test
  limits: [{name: pace, key: client_ip, requests: 2, window: 1h}]
  routes:
    - name: api
      match: {path: /api/**, methods: [GET, PUT]}
      cors: {origins: ['https://page.example'], credentials: true, expose: [x-total], headers: [authorization]}
    - {name: watched, match: {path: /watched/**}, cors: {origins: ['https://page.example'], mode: observe}}
    - {name: wide, match: {path: /wide/**}, cors: {origins: ['https://page.example']}}
    - {name: deleted, match: {path: /wide/**, methods: [DELETE]}}
";

fn preflight(path: &str, origin: &str, method: &str) -> http::request::Builder {
    Request::options(path).header("origin", origin).header("access-control-request-method", method)
}

#[test]
fn a_preflight_is_answered_by_the_route_of_the_request_behind_it_and_counts_nowhere() {
    run(async {
        let world = World::new(CORS).await;
        for _ in 0..3 {
            let asked = preflight("/api/a", PAGE, "PUT").header("access-control-request-headers", "authorization");
            let answer = world.client().ask(asked, "").await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::NO_CONTENT, PAGE));
            assert_eq!(answer.header("access-control-allow-methods"), "GET, PUT");
            assert_eq!(answer.header("access-control-allow-headers"), "authorization");
            assert_eq!(answer.header("access-control-allow-credentials"), "true");
            assert_eq!(answer.header("access-control-max-age"), "600");
            assert!(answer.header("x-request-id").len() == 32 && answer.text().is_empty());
        }
        assert_eq!((world.app.asked(), world.limit("pace")), (0, (0, 0, 0)));
        for (asked, key) in [
            (preflight("/api/a", "https://evil.example", "PUT"), "cors.origins"),
            (preflight("/api/a", PAGE, "PUT").header("access-control-request-headers", "x-odd"), "cors.headers"),
        ] {
            let refused = world.client().ask(asked, "").await;
            assert_eq!((refused.status, refused.json()["reason"].as_str()), (StatusCode::FORBIDDEN, Some("cors_refused")));
            assert!(refused.text().contains(key), "{}", refused.text());
        }
        // The method has a route without the policy: the app answers for it, as before, also where the route of OPTIONS has one.
        assert_eq!(world.client().ask(preflight("/wide/a", PAGE, "DELETE"), "").await.status, StatusCode::OK);
        assert_eq!(world.client().ask(preflight("/wide/a", PAGE, "PUT"), "").await.status, StatusCode::NO_CONTENT);
        assert_eq!(world.app.asked(), 1);
    });
}

#[test]
fn answers_and_refusals_are_read_by_the_pages_of_the_route_alone() {
    run(async {
        let world = World::new(CORS).await;
        world.app.always(Reply::ok("x").header("access-control-allow-origin", "*").header("x-total", "7"));
        let ask = |origin: &'static str| {
            let client = world.client();
            async move { client.ask(Request::get("/api/a").header("origin", origin), "").await }
        };
        let read = ask(PAGE).await;
        assert_eq!((read.header("access-control-allow-origin"), read.header("access-control-allow-credentials")), (PAGE, "true"));
        assert!(read.header("access-control-expose-headers").starts_with("x-total, retry-after"));
        assert_eq!(read.header("vary"), "origin");
        let other = ask("https://evil.example").await;
        assert_eq!((other.status, other.header("access-control-allow-origin")), (StatusCode::OK, ""), "the app's `*` is not the last word");
        // The third request is over the limit.
        for (origin, allowed) in [(PAGE, PAGE), ("https://evil.example", "")] {
            let refused = ask(origin).await;
            assert_eq!((refused.status, refused.header("access-control-allow-origin")), (StatusCode::TOO_MANY_REQUESTS, allowed));
        }
    });
}

#[test]
fn a_policy_for_pages_that_observes_changes_nothing_and_names_what_it_would_refuse() {
    run(async {
        let world = World::new(CORS).await;
        world.app.always(Reply::ok("x").header("access-control-allow-origin", "*"));
        for origin in [PAGE, "https://evil.example"] {
            let answer = world.client().ask(preflight("/watched/a", origin, "POST"), "").await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (StatusCode::OK, "*"));
        }
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "watched"), ("policy", "cors")]), 1.0);
        world.client().ask(Request::get("/watched/a").header("origin", "https://evil.example"), "").await;
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "watched"), ("policy", "cors")]), 2.0, "it could not be read");
        let log = world.log().await;
        let words: Vec<&str> = log.iter().filter_map(|line| line["would_refuse"].as_str()).collect();
        assert_eq!(words, ["cors"]);
    });
}

const CSRF: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  defaults: {csrf: {trusted_origins: ['https://login.example'], exempt: [/hooks/**]}}
  routes:
    - {name: watched, match: {path: /watched}, csrf: {mode: observe}}
    - {name: open, match: {path: /open}, csrf: {mode: off}}
    - {name: paged, match: {path: /paged}, cors: {origins: ['https://page.example'], credentials: true}}
";

#[test]
fn what_a_page_of_another_site_makes_a_browser_send_is_refused_before_the_app() {
    run(async {
        let world = World::new(CSRF).await;
        let post = |path: &str, origin: &str| Request::post(path).header("origin", origin);
        for (asked, status) in [
            (post("/pay", "https://shop.example"), StatusCode::OK),
            (post("/pay", "https://login.example"), StatusCode::OK),
            (Request::post("/pay"), StatusCode::OK),
            (post("/pay", "https://evil.example"), StatusCode::FORBIDDEN),
            (post("/pay", "null"), StatusCode::FORBIDDEN),
            (Request::post("/pay").header("sec-fetch-site", "cross-site"), StatusCode::FORBIDDEN),
            (Request::get("/pay").header("sec-fetch-site", "cross-site"), StatusCode::OK),
            (post("/hooks/stripe", "https://evil.example"), StatusCode::OK),
            (post("/hooks/..%2fpay", "https://evil.example"), StatusCode::FORBIDDEN),
            (post("/hooks/..%252fpay", "https://evil.example"), StatusCode::FORBIDDEN),
            (Request::post("/pay").header("sec-fetch-site", "odd"), StatusCode::FORBIDDEN),
            (post("/paged", "https://page.example"), StatusCode::OK),
            (post("/open", "https://evil.example"), StatusCode::OK),
        ] {
            let shown = format!("{asked:?}");
            assert_eq!(world.client().ask(asked, "x").await.status, status, "{shown}");
        }
        let refused = world.client().ask(post("/pay", "https://evil.example"), "x").await;
        assert_eq!(refused.json()["reason"], "csrf_refused");
        assert!(refused.text().contains("csrf.trusted_origins"), "{}", refused.text());
        assert!(world.app.seen().iter().all(|seen| seen.target != "/pay" || seen.header("origin") != "https://evil.example"));
    });
}

#[test]
fn the_host_that_a_trusted_proxy_forwards_is_the_apps_own() {
    run(async {
        let world = World::new(CSRF).await;
        let asked = || Request::post("/pay").header("origin", "https://www.example").header("x-forwarded-host", "www.example");
        assert_eq!(world.client().from("10.0.0.9").ask(asked(), "x").await.status, StatusCode::OK);
        assert_eq!(world.client().ask(asked(), "x").await.status, StatusCode::FORBIDDEN, "a stranger may not name the host");
    });
}

#[test]
fn a_csrf_policy_that_observes_lets_everything_pass_and_counts_it() {
    run(async {
        let world = World::new(CSRF).await;
        let answer = world.client().ask(Request::post("/watched").header("origin", "https://evil.example"), "x").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "watched"), ("policy", "csrf")]), 1.0);
    });
}

const HEADERS: &str = "
inbound:
  app: http://app.test
  trusted_proxies: [10.0.0.0/8]
  caller: [header:x-user-id, client_ip]
  defaults: {headers: {secure: on}}
  routes:
    - name: edited
      match: {path: /edited}
      headers:
        request: {set: {x-user: '${caller}@${host}', x-env: prod}, remove: [x-debug]}
        response: {set: {x-route: '${route}', server: mine}, add: {link: '</a.css>'}, remove: [x-powered-by]}
    - {name: watched, match: {path: /watched}, headers: {secure: on, mode: observe}}
";

#[test]
fn one_line_makes_pages_and_refusals_safer() {
    run(async {
        let world = World::new(HEADERS).await;
        let page = || Reply::ok("<p>").header("content-type", "text/html").header("server", "app/1").header("set-cookie", "sid=1");
        world.app.always(page());
        let answer = world.client().from("10.0.0.9").ask(Request::get("/").header("x-forwarded-proto", "https"), "").await;
        assert_eq!((answer.header("server"), answer.header("set-cookie")), ("", "sid=1; Secure; HttpOnly; SameSite=Lax"));
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000");
        assert!(answer.header("content-security-policy-report-only").contains("default-src 'self'"));
        let in_clear = world.client().ask(Request::get("/").header("x-forwarded-proto", "https"), "").await;
        assert_eq!((in_clear.header("strict-transport-security"), in_clear.header("x-frame-options")), ("", "SAMEORIGIN"));
        let refused = world.client().ask(Request::builder().method("TRACE").uri("/"), "").await;
        assert_eq!((refused.status, refused.header("x-content-type-options")), (StatusCode::METHOD_NOT_ALLOWED, "nosniff"));
        let watched = world.client().get("/watched").await;
        assert_eq!((watched.header("server"), watched.header("x-frame-options")), ("app/1", ""));
        assert_eq!(world.count("outrigger_gate_observed_total", &[("route", "watched"), ("policy", "headers")]), 1.0);
    });
}

#[test]
fn fields_are_changed_by_hand_in_both_directions() {
    run(async {
        let world = World::new(HEADERS).await;
        world.app.always(Reply::ok("x").header("x-powered-by", "Express").header("link", "</b.css>").header("server", "app/1"));
        let asked = Request::get("/edited").header("x-user-id", "ann").header("x-user", "forged").header("x-debug", "1");
        let answer = world.client().from("10.0.0.9").ask(asked, "").await;
        let seen = world.app.only();
        assert_eq!((seen.header("x-user"), seen.header("x-env"), seen.header("x-debug")), ("ann@shop.example", "prod", ""));
        assert_eq!((answer.header("x-route"), answer.header("server"), answer.header("x-powered-by")), ("edited", "mine", ""));
        assert_eq!(answer.headers.get_all("link").iter().count(), 2);
        assert_eq!(answer.header("x-content-type-options"), "", "the route's own block replaces that of `defaults`");
    });
}

#[test]
fn a_provider_gets_the_fields_that_the_route_sets() {
    run(async {
        let yaml =
            "outbound: {providers: {openai: {url: 'http://o.test'}}, defaults: {headers: {request: {set: {openai-organization: org-1}}}}}";
        let world = World::new(yaml).await;
        world.caller().call("/openai/v1/chat/completions", &crate::world::chat("gpt-4o")).await;
        assert_eq!(world.provider("openai").seen()[0].header("openai-organization"), Some("org-1"));
    });
}
