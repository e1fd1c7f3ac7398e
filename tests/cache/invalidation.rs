//! What goes, when, and what stays: purges by operators, by routes, and by unsafe methods.

use bytes::Bytes;
use http::Method;
use outrigger::{http1::Fields, policy::cache::CacheQuery};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::oneshot;

use crate::world::{Act, World, answer, said, streamed};

const ROUTES: &str = "{name: shop, match: {path: /shop/**, methods: [GET, HEAD]}, cache: {ttl: 1h, tags: [catalog]}}, \
     {name: blog, match: {path: /blog/**}, cache: {ttl: 1h, stale_if_error: 1h, tags: [posts]}}, \
     {match: {path: /shop/**, methods: [POST]}, purge: [catalog]}";

const PATHS: [&str; 4] = ["/shop/a", "/shop/b", "/blog/a", "/blog/tagged"];

async fn filled() -> World {
    let world = World::new(ROUTES, "", |seen| {
        let status = if seen.headers.contains_key("fail") { 500 } else { 200 };
        let tagged: &[(&str, &str)] =
            if seen.path == "/blog/tagged" { &[("surrogate-key", "one two"), ("cache-tag", "three")] } else { &[] };
        let location: &[(&str, &str)] = if seen.method == Method::PUT { &[("location", "/blog/a")] } else { &[] };
        answer(status, &[tagged, location].concat(), format!("answer {}", seen.nth))
    })
    .await;
    for path in PATHS {
        world.get(path, &[]).await;
    }
    assert_eq!(kept(&world).await, PATHS);
    world
}

/// Which of the paths are answered from the store. Asks with `only-if-cached`, so that nothing changes.
async fn kept(world: &World) -> Vec<&'static str> {
    let mut kept = Vec::new();
    for path in PATHS {
        if world.get(path, &[("cache-control", "only-if-cached")]).await.status.is_success() {
            kept.push(path);
        }
    }
    kept
}

#[tokio::test]
async fn operators_purge_by_tag_key_route_prefix_and_all() {
    for (what, count, left) in [
        (json!({"tag": "catalog"}), 2, &["/blog/a", "/blog/tagged"][..]),
        (json!({"tag": "posts"}), 2, &["/shop/a", "/shop/b"]),
        (json!({"tag": "two"}), 1, &["/shop/a", "/shop/b", "/blog/a"]),
        (json!({"tag": "three"}), 1, &["/shop/a", "/shop/b", "/blog/a"]),
        (json!({"tag": "nobody"}), 0, &PATHS),
        (json!({"route": "shop"}), 2, &["/blog/a", "/blog/tagged"]),
        (json!({"prefix": "/shop/a"}), 1, &["/shop/b", "/blog/a", "/blog/tagged"]),
        (json!({"prefix": "/blog/"}), 2, &["/shop/a", "/shop/b"]),
        (json!({"all": true}), 4, &[]),
    ] {
        let world = filled().await;
        assert_eq!(world.purge(what.clone()).await, count, "{what}");
        assert_eq!(kept(&world).await, left, "{what}");
        assert_eq!(world.metric("outrigger_cache_evictions_total{reason=\"purged\"}"), count as f64);
    }
}

#[tokio::test]
async fn operators_purge_by_the_key_that_is_explained() {
    let world = filled().await;
    let (host, route, headers) = (world.inbound.to_string(), "shop".into(), Fields::new());
    let (key, parts) = world.app.shared.cache.explain(CacheQuery {
        route: &route,
        method: &Method::GET,
        scheme: "http",
        host: &host,
        path_and_query: "/shop/a",
        headers: &headers,
        extra: &[],
        model: None,
        ttl: None,
        proved: false,
        body: None,
    });
    assert_eq!(parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["class", "scheme", "host", "path"]);
    assert_eq!(world.purge(json!({"key": key.to_string()})).await, 1);
    assert_eq!(kept(&world).await, ["/shop/b", "/blog/a", "/blog/tagged"]);
    let admin = outrigger::cli::client::Client::tcp(world.admin).with_header("authorization", "Bearer t");
    let bad = admin.post("/api/cache/purge", &json!({"key": "xyz"})).await.expect("an answer");
    assert_eq!(bad.status.as_u16(), 422, "{}", bad.text());
    assert!(bad.text().contains("32 hexadecimal digits"), "{}", bad.text());
}

#[tokio::test]
async fn a_soft_purge_leaves_what_may_stand_in() {
    let world = filled().await;
    assert_eq!(world.purge(json!({"tag": "posts", "soft": true})).await, 2);
    assert_eq!(kept(&world).await, ["/shop/a", "/shop/b"], "stale is not fresh");
    let stood_in = world.get("/blog/a", &[("fail", "1")]).await;
    assert_eq!((stood_in.status.as_u16(), stood_in.text().as_str()), (200, "answer 0"));
    assert_eq!(world.get("/blog/a", &[]).await.text(), "answer 2");
    assert_eq!(world.purge(json!({"tag": "posts"})).await, 2, "hard");
    assert_eq!(world.get("/blog/a", &[("fail", "1")]).await.status.as_u16(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_purges_a_running_proxy() {
    let world = filled().await;
    let purge = |more: &'static [&'static str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(["purge", "--json"]).arg("--socket").arg(&world.socket).args(more).kill_on_drop(true);
        async move { command.output().await.expect("run") }
    };
    let done = purge(&["--tag", "posts", "--soft"]).await;
    let said_so = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said_so.contains("\"purged\": 2") && said_so.contains("\"soft\": true"), "{done:?}");
    assert_eq!(kept(&world).await, ["/shop/a", "/shop/b"]);
    assert_eq!(world.get("/blog/a", &[("fail", "1")]).await.status.as_u16(), 200);
    assert!(purge(&["--tag", "posts"]).await.status.success());
    assert_eq!(world.get("/blog/a", &[("fail", "1")]).await.status.as_u16(), 500);
    assert!(!purge(&["--key", "xyz"]).await.status.success());
    assert!(!purge(&[]).await.status.success(), "one must say what");
}

#[tokio::test]
async fn a_route_purges_its_tags_after_a_success_only() {
    let world = filled().await;
    world.send(Method::POST, "/shop/order", &[("fail", "1")]).await;
    assert_eq!(kept(&world).await, PATHS);
    world.send(Method::POST, "/shop/order", &[]).await;
    assert_eq!(kept(&world).await, ["/blog/a", "/blog/tagged"]);
}

/// How something is changed while a fetch is under way.
enum Change {
    Request(Method, &'static str),
    Purge(serde_json::Value),
}

#[tokio::test]
async fn what_was_fetched_before_a_change_is_neither_kept_nor_shared_after_it() {
    for (path, change) in [
        ("/shop/a", Change::Request(Method::POST, "/shop/order")),
        ("/blog/a", Change::Request(Method::PUT, "/blog/a")),
        ("/blog/a", Change::Purge(json!({"tag": "posts"}))),
        ("/blog/a", Change::Purge(json!({"prefix": "/blog"}))),
        ("/blog/a", Change::Purge(json!({"all": true}))),
    ] {
        // The head comes before the change, or after it.
        for head_first in [true, false] {
            let (response, pieces) = streamed(&[]);
            let (send, receive) = oneshot::channel();
            let old = Mutex::new(Some(receive));
            let world = World::new(ROUTES, "", move |seen| match old.lock().take() {
                Some(old) if seen.method == Method::GET => Act::Later(old),
                _ => answer(200, &[], "new"),
            })
            .await;
            let mut held = Some((send, response));
            let mut release = || {
                let (send, response) = held.take().expect("once");
                assert!(send.send(response).is_ok(), "the origin waits");
            };
            let first = tokio::spawn({
                let client = world.client(&[]);
                async move { client.get(path).await.expect("an answer") }
            });
            world.until("a fetch", |world| world.origin.count() == 1).await;
            if head_first {
                release();
            }
            match &change {
                Change::Request(method, path) => {
                    world.client(&[]).send(method.clone(), path, Bytes::new()).await.expect("an answer");
                }
                Change::Purge(what) => {
                    world.purge(what.clone()).await;
                }
            }
            let after = world.client(&[]).get(path).await.expect("an answer");
            assert_eq!(after.text(), "new", "{path}, asked after the change");
            if !head_first {
                release();
            }
            pieces.try_send(Ok(Bytes::from_static(b"old"))).expect("read");
            drop(pieces);
            assert_eq!(first.await.expect("no panic").text(), "old", "it asked before the change");
            assert_eq!(world.get(path, &[]).await.text(), "new", "{path}, later");
        }
    }
}

#[tokio::test]
async fn unsafe_methods_invalidate_what_they_change() {
    let world = filled().await;
    world.send(Method::DELETE, "/blog/tagged", &[("fail", "1")]).await;
    assert_eq!(kept(&world).await, PATHS, "it failed");
    world.send(Method::OPTIONS, "/blog/tagged", &[]).await;
    assert_eq!(kept(&world).await, PATHS, "it is safe");
    world.send(Method::DELETE, "/blog/tagged", &[]).await;
    assert_eq!(kept(&world).await, ["/shop/a", "/shop/b", "/blog/a"]);
    world.send(Method::PUT, "/blog/other", &[]).await;
    assert_eq!(kept(&world).await, ["/shop/a", "/shop/b"], "it is in Location");
}

#[tokio::test]
async fn operators_see_what_the_cache_holds_and_did() {
    let world = filled().await;
    let page = world.page("/api/cache").await.json().expect("JSON");
    assert_eq!((page["memory"]["entries"].as_u64(), page["answers"]["hit"].as_u64()), (Some(4), Some(4)), "{page}");
    let (bytes, budget) = (page["memory"]["bytes"].as_u64().expect("bytes"), page["memory"]["budget_bytes"].as_u64().expect("bytes"));
    assert!(0 < bytes && bytes < budget && budget == 8 << 20, "{page}");
    for (series, value) in [
        ("outrigger_cache_bytes", bytes as f64),
        ("outrigger_cache_entries", 4.0),
        ("outrigger_cache_budget_bytes", budget as f64),
        ("outrigger_cache_requests_total{door=\"inbound\",route=\"shop\",result=\"hit\"}", 2.0),
        ("outrigger_cache_requests_total{door=\"inbound\",route=\"blog\",result=\"miss\"}", 2.0),
    ] {
        world.until_metric(series, value).await;
    }
    assert!(said(&world.get("/shop/a", &[]).await).contains("; hit"));
}
