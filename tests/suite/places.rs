//! What a web server in front of an app does with paths: `rewrite`, `redirect`, `respond`.

use http::{Request, StatusCode};

use crate::world::{Reply, World, run};

const YAML: &str = "
inbound:
  app: http://app.test/base
  trusted_proxies: ['10.0.0.0/8']
  limits: [{name: pace, key: client_ip, requests: 100, window: 1h}]
  routes:
    - {name: api, match: {path: /api/**}, rewrite: {strip_prefix: /api, add_prefix: /v2}, cache: {ttl: 1h}}
    - {name: spa, match: {path: /app/**}, rewrite: {path: /index.html}}
    - {name: seen, match: {path: /seen/**}, rewrite: {strip_prefix: /seen, mode: observe}}
    - {name: old, match: {path: /old/**}, redirect: {to: \"https://new.example${rest}${query}\"}}
    - {name: here, match: {path: /here/**}, redirect: {to: \"${rest}\", status: 302}}
    - {name: tls, match: {path: /tls/**}, redirect: {to: \"https://${host}${uri}\", status: 301}}
    - {name: robots, match: {path: /robots.txt}, respond: {body: \"User-agent: *\"}, headers: {response: {set: {x-own: a}}}}
    - {name: gone, match: {path: /gone/**}, access: {allow: [\"192.0.2.0/24\"]}, respond: {status: 410}}
";

#[test]
fn the_app_sees_another_path_and_is_told_the_prefix() {
    run(async {
        let world = World::new(YAML).await;
        for (asked, seen, prefix) in [
            ("/api/users/7?a=%2F&b", "/base/v2/users/7?a=%2F&b", "/api"),
            ("/api", "/base/v2/", "/api"),
            ("/api//evil.example", "/base/v2/evil.example", "/api"),
            ("/app/any/page?x=1", "/base/index.html?x=1", ""),
            ("/seen/a", "/base/seen/a", ""),
            ("/other", "/base/other", ""),
        ] {
            world.app.forget();
            world.client().ask(Request::get(asked).header("x-forwarded-prefix", "/forged"), "").await;
            let request = world.app.only();
            assert_eq!((&*request.target, request.header("x-forwarded-prefix")), (seen, prefix), "{asked}");
        }
        // What a proxy before this one has taken away comes before.
        world.app.forget();
        world.client().from("10.0.0.9").ask(Request::get("/api/a").header("x-forwarded-prefix", "/shop/"), "").await;
        assert_eq!(world.app.only().header("x-forwarded-prefix"), "/shop/api");
        assert_eq!(world.count("outrigger_gate_observed_total", &[("policy", "rewrite")]), 1.0);
        let log = world.log().await;
        assert_eq!(
            (log[0]["path"].as_str(), log[0]["route"].as_str()),
            (Some("/api/users/7?a=%2F&b"), Some("api")),
            "the log has the client's path"
        );
        // The cache goes by the client's path.
        world.app.forget();
        let again = world.client().get("/api/users/7?a=%2F&b").await;
        assert!(world.app.asked() == 0 && again.header("cache-status").contains("hit"), "{}", again.header("cache-status"));
    });
}

#[test]
fn a_path_in_another_spelling_does_not_slip_past_the_prefix() {
    run(async {
        let world = World::new(YAML).await;
        for asked in ["/%61pi/x", "/x/../api/y", "/api/../other", "/api/a/..%2f..%2fother", "/api/./../a"] {
            assert_eq!(world.client().get(asked).await.status, StatusCode::BAD_REQUEST, "{asked}");
        }
        assert_eq!(world.app.asked(), 0);
    });
}

#[test]
fn a_client_is_sent_elsewhere_and_the_app_is_not_asked() {
    run(async {
        let world = World::new(YAML).await;
        for (asked, status, location) in [
            ("/old/a/b?c=d", 308, "https://new.example/a/b?c=d"),
            ("/old", 308, "https://new.example"),
            ("/here/a", 302, "/a"),
            ("/here", 302, "/"),
            ("/here//evil.example/x", 302, "/evil.example/x"),
            ("/tls/a?b", 301, "https://shop.example/tls/a?b"),
        ] {
            let answer = world.client().get(asked).await;
            assert_eq!((answer.status.as_u16(), answer.header("location"), answer.text()), (status, location, ""), "{asked}");
            assert!(!answer.header("x-request-id").is_empty() && !answer.header("ratelimit").is_empty());
        }
        assert_eq!(world.app.asked(), 0);
    });
}

#[test]
fn a_route_answers_by_itself_behind_its_gate() {
    run(async {
        let world = World::new(YAML).await;
        world.app.always(Reply::ok("the app"));
        let robots = world.client().get("/robots.txt").await;
        assert_eq!((robots.status, robots.text(), robots.header("x-own")), (StatusCode::OK, "User-agent: *", "a"));
        assert_eq!(robots.header("content-type"), "text/plain; charset=utf-8");
        let head = world.client().ask(Request::head("/robots.txt"), "").await;
        assert_eq!((head.header("content-length"), head.body.len()), ("13", 0));
        let posted = world.client().post("/robots.txt", vec![b'x'; 100_000]).await;
        assert_eq!(posted.text(), "User-agent: *");
        assert_eq!(world.client().get("/gone/a").await.status, StatusCode::FORBIDDEN);
        assert_eq!(world.client().from("192.0.2.9").get("/gone/a").await.status, StatusCode::GONE);
        assert_eq!(world.app.asked(), 0);
    });
}

#[test]
fn no_path_leads_out_of_what_is_put_before_it() {
    run(async {
        let world = World::new("inbound: {app: http://app.test, defaults: {rewrite: {add_prefix: /tenant-a}}}").await;
        for asked in ["/..%2fadmin", "/../admin", "/a/%2e%2e/../admin"] {
            assert_eq!(world.client().get(asked).await.status, StatusCode::BAD_REQUEST, "{asked}");
        }
        assert_eq!(world.app.asked(), 0);
        world.client().get("/a/../b").await;
        assert_eq!(world.app.only().target, "/tenant-a/a/../b", "what stays inside passes as it came");
    });
}
