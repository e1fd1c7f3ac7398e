//! POST that only reads: answered from the cache by what the operator declares of its body, and by nothing less.

use flate2::{Compression, write::GzEncoder};
use http::{Request, header};
use http_body::Frame;
use serde_json::{Value, json as value};

use crate::world::{Answer, Reply, World, json, pass, run, secs, settle, upload};

/// When every world begins, as a field says it.
const BEGUN: &str = "Fri, 15 Jan 2027 08:00:00 GMT";

async fn world(cache: &str) -> World {
    let world = World::new(&format!(
        "inbound: {{app: 'http://app.test', routes: [{{name: r, match: {{path: /f}}, cache: {{{cache}}}}}, {{match: {{path: /other}}, cache: {{}}}}]}}"
    ))
    .await;
    world.app.script(["one", "two", "three", "four", "five"].map(|body| Reply::ok(body).header("content-type", "text/plain")));
    world
}

/// Asks, and lets what came be stored.
async fn ask(world: &World, body: impl ToString) -> Answer {
    let answer = world.client().ask(json("/f"), body.to_string()).await;
    settle().await;
    answer
}

async fn text(world: &World, body: impl ToString) -> String {
    ask(world, body).await.text().to_owned()
}

fn bypassed(world: &World, reason: &str) -> f64 {
    world.count("outrigger_cache_bypasses_total", &[("route", "r"), ("reason", reason)])
}

#[test]
fn the_declared_fields_tell_questions_apart() {
    run(async {
        let world = world("ttl: 60s, body: [q, page.size]").await;
        assert_eq!(text(&world, r#"{"q":"a","page":{"size":3},"trace":1}"#).await, "one");
        let hit = ask(&world, r#"{ "trace": 2, "page": {"size": 3, "at": 7}, "q": "\u0061" }"#).await;
        assert_eq!((hit.text(), hit.header("cache-status")), ("one", "outrigger; hit; ttl=59"));
        assert_eq!(text(&world, r#"{"q":"b","page":{"size":3}}"#).await, "two");
        assert_eq!(text(&world, r#"{"q":"a","page":{"size":4}}"#).await, "three");
        assert_eq!(text(&world, r#"{"q":"a"}"#).await, "four");
        let seen = world.app.seen();
        assert_eq!((seen.len(), &seen[0].body[..]), (4, &br#"{"q":"a","page":{"size":3},"trace":1}"#[..]), "byte for byte");
        assert_eq!(seen[0].header("content-length"), "37");
        pass(secs(60)).await;
        assert_eq!(text(&world, r#"{"q":"a","page":{"size":3}}"#).await, "five", "gone after the ttl");
    });
}

#[test]
fn a_get_is_not_answered_with_a_post_nor_the_other_way_round() {
    run(async {
        let world = world("ttl: 60s, body: all").await;
        assert_eq!(text(&world, "{}").await, "one");
        assert_eq!(world.client().get("/f").await.text(), "two");
        settle().await;
        assert_eq!((text(&world, "{}").await, world.client().get("/f").await.text()), ("one".into(), "two"));
    });
}

#[test]
fn without_a_ttl_only_what_the_app_says_is_kept() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {body: all}}]}").await;
        world.app.script([
            Reply::ok("plain"),
            Reply::ok("old").header("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"),
            Reply::ok("tagged").header("etag", "\"a\""),
            Reply::ok("said").header("date", BEGUN).header("cache-control", "max-age=9").header("etag", "\"a\""),
            Reply::ok("again"),
        ]);
        for expected in ["plain", "old", "tagged", "said", "said"] {
            assert_eq!(text(&world, "{}").await, expected, "nothing is supposed of an answer to POST");
        }
        pass(secs(10)).await;
        assert_eq!(text(&world, "{}").await, "again");
        assert!(world.app.seen().iter().all(|seen| seen.header("if-none-match").is_empty()), "a POST is not made conditional");
    });
}

#[test]
fn a_declared_post_invalidates_nothing_and_another_one_does() {
    run(async {
        let world = world("ttl: 60s, body: all").await;
        assert_eq!(world.client().get("/f").await.text(), "one");
        settle().await;
        assert_eq!(text(&world, r#"{"a":1}"#).await, "two");
        let unread = world.client().ask(Request::post("/f").header("content-type", "text/plain"), "x").await;
        assert_eq!(
            (unread.text(), unread.header("cache-status")),
            ("three", "outrigger; fwd=bypass; detail=\"request body of another type than JSON\"")
        );
        assert_eq!(world.client().get("/f").await.text(), "one", "declared to only read, understood or not");
        world.client().ask(Request::delete("/f"), "").await;
        assert_eq!(world.app.asked(), 4);
        assert_eq!((world.client().get("/f").await.text().to_owned(), world.app.asked()), ("five".into(), 5));
        ask(&world, r#"{"a":1}"#).await;
        assert_eq!(world.app.asked(), 6, "what was read with POST went with the DELETE too");
    });
}

#[test]
fn credentials_and_cookies_are_kept_apart_as_ever() {
    run(async {
        let world = world("ttl: 60s, body: all").await;
        for (field, answers) in [("authorization", ["one", "two"]), ("cookie", ["three", "four"])] {
            for expected in answers {
                let request = Request::post("/f").header(header::CONTENT_TYPE, "application/json").header(field, "a=b");
                assert_eq!(world.client().ask(request, "{}").await.text(), expected, "{field}");
                settle().await;
            }
        }
    });
}

#[test]
fn a_body_over_the_bound_goes_to_the_app_whole_and_is_counted() {
    run(async {
        let world = world("ttl: 60s, body: all, max_request: 64").await;
        let large = value!({"a": "x".repeat(100)}).to_string();
        for expected in ["one", "two"] {
            let answer = ask(&world, &large).await;
            assert_eq!(
                (answer.text(), answer.header("cache-status")),
                (expected, "outrigger; fwd=bypass; detail=\"request body too large\"")
            );
        }
        // The same of a length that is not announced: it is found out half-way.
        let (pieces, body) = upload();
        let asked = tokio::task::spawn_local({
            let client = world.client();
            async move { client.send(json("/f").body(body).expect("a request")).await.whole().await }
        });
        for piece in [&large[..40], &large[40..80], &large[80..]] {
            pieces.send(Ok(Frame::data(piece.to_owned().into()))).await.expect("read");
        }
        drop(pieces);
        assert_eq!(asked.await.expect("no panic").text(), "three");
        assert!(world.app.seen().iter().all(|seen| seen.body == large.as_bytes()));
        assert_eq!(bypassed(&world, "request body too large"), 3.0);
        assert_eq!(world.count("outrigger_cache_requests_total", &[("result", "bypass")]), 3.0);
        assert_eq!(text(&world, "{}").await, "four");
        assert_eq!(text(&world, "{}").await, "four");
    });
}

#[test]
fn bodies_beyond_the_budget_of_the_process_pass_too() {
    run(async {
        let world = World::new("body_budget: 1MiB\ninbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {ttl: 60s, body: all, max_request: 2MiB}}]}").await;
        let large = value!({"a": "x".repeat(1_100_000)}).to_string();
        assert_eq!(ask(&world, &large).await.text(), "hello");
        assert_eq!(world.app.only().body.len(), large.len());
        assert_eq!(bypassed(&world, "no room for the request body"), 1.0);
        text(&world, "{}").await;
        assert_eq!(text(&world, "{}").await, "hello");
        assert_eq!(world.app.asked(), 2, "the room was given back");
    });
}

#[test]
fn trailers_of_a_request_are_not_lost() {
    run(async {
        let world = world("ttl: 60s, body: all").await;
        let (pieces, body) = upload();
        let asked = tokio::task::spawn_local({
            let client = world.client();
            async move { client.send(json("/f").header("trailer", "x-sum").body(body).expect("a request")).await.whole().await }
        });
        pieces.send(Ok(Frame::data("{}".into()))).await.expect("read");
        let trailers = http::HeaderMap::from_iter([(header::HeaderName::from_static("x-sum"), header::HeaderValue::from_static("7"))]);
        pieces.send(Ok(Frame::trailers(trailers))).await.expect("read");
        drop(pieces);
        assert_eq!(asked.await.expect("no panic").text(), "one");
        assert_eq!(world.app.only().trailers.expect("trailers")["x-sum"], "7");
        assert_eq!(bypassed(&world, "request trailers"), 1.0);
    });
}

#[test]
fn a_client_that_breaks_off_is_no_question() {
    run(async {
        let world = world("ttl: 60s, body: all").await;
        let (pieces, body) = upload();
        pieces.send(Ok(Frame::data("{".into()))).await.expect("read");
        let asked = tokio::task::spawn_local({
            let client = world.client();
            async move { client.send(json("/f").body(body).expect("a request")).await.status.as_u16() }
        });
        settle().await;
        asked.abort();
        drop(pieces);
        settle().await;
        assert_eq!(world.app.asked(), 0);
    });
}

#[test]
fn conditions_and_ranges_are_not_for_post() {
    run(async {
        let world = world("ttl: 60s, body: all").await;
        assert_eq!(text(&world, "{}").await, "one");
        for (field, expected) in [("if-none-match", "two"), ("range", "three")] {
            let answer = world.client().ask(json("/f").header(field, "*"), "{}").await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, expected));
        }
        assert_eq!(bypassed(&world, "conditional or range POST"), 2.0);
    });
}

#[test]
fn the_same_questions_at_once_are_asked_once() {
    run(async {
        let world =
            World::new("inbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {ttl: 60s, body: [q]}}]}").await;
        world.app.script([Reply::ok("one").after(secs(5))]);
        let asked: Vec<_> = (0..50)
            .map(|at| {
                let client = world.client();
                tokio::task::spawn_local(async move { client.call("/f", &value!({"q": "a", "at": at})).await.text().to_owned() })
            })
            .collect();
        for one in asked {
            assert_eq!(one.await.expect("no panic"), "one");
        }
        assert_eq!(world.app.asked(), 1);
    });
}

#[test]
fn stale_answers_are_refreshed_with_the_body() {
    run(async {
        let world = world("ttl: 60s, stale_while_revalidate: 60s, body: [q]").await;
        assert_eq!(text(&world, r#"{"q":"a"}"#).await, "one");
        pass(secs(70)).await;
        assert_eq!(text(&world, r#"{"q":"a"}"#).await, "one");
        assert_eq!(text(&world, r#"{"q":"a"}"#).await, "two");
        assert_eq!(&world.app.seen()[1].body[..], br#"{"q":"a"}"#);
    });
}

#[test]
fn observe_looks_and_changes_nothing() {
    run(async {
        let world = world("ttl: 60s, body: graphql, mode: observe").await;
        for expected in ["one", "two"] {
            let answer = world.client().ask(json("/f").header("accept-encoding", "br"), r#"{"query":"{ a }"}"#).await;
            assert_eq!((answer.text(), answer.header("cache-status")), (expected, ""));
            settle().await;
        }
        assert_eq!(world.app.seen()[0].header("accept-encoding"), "br");
        // They were no GraphQL answers.
        assert_eq!(world.count("outrigger_cache_requests_total", &[("result", "observed_hit")]), 0.0);
        world.app.script(["3", "4", "5", "6"].map(|_| graphql(r#"{"data":1}"#)));
        for _ in 0..5 {
            ask(&world, r#"{"query":"{ b }"}"#).await;
        }
        assert!(world.count("outrigger_cache_requests_total", &[("result", "observed_hit")]) > 0.0);
    });
}

fn graphql(body: &'static str) -> Reply {
    Reply::ok(body).header("content-type", "application/graphql-response+json; charset=utf-8")
}

#[test]
fn graphql_queries_are_told_apart_by_their_tokens() {
    run(async {
        let world =
            World::new("inbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {ttl: 60s, body: graphql}}]}").await;
        world.app.script([graphql(r#"{"data":1}"#), graphql(r#"{"data":2}"#), graphql(r#"{"data":3}"#), graphql(r#"{"data":4}"#)]);
        let ask = async |query: &str, name: Value, variables: Value| {
            text(&world, value!({"query": query, "operationName": name, "variables": variables})).await
        };
        let (none, vars) = (Value::Null, value!({"id": 1}));
        assert_eq!(ask("query A($id: ID) { a(id: $id), b }", none.clone(), vars.clone()).await, r#"{"data":1}"#);
        assert_eq!(ask("# again\nquery A($id: ID) {\n  a(id: $id)\n  b\n}", none.clone(), vars.clone()).await, r#"{"data":1}"#);
        assert_eq!(ask("query A($id: ID) { b a(id: $id) }", none.clone(), vars.clone()).await, r#"{"data":2}"#);
        assert_eq!(ask("query A($id: ID) { a(id: $id), b }", none, value!({"id": 2})).await, r#"{"data":3}"#);
        assert_eq!(ask("query A($id: ID) { a(id: $id), b }", "A".into(), vars).await, r#"{"data":4}"#);
        assert_eq!(world.app.asked(), 4);
    });
}

#[test]
fn mutations_are_never_kept_and_invalidate_what_was_read() {
    run(async {
        let world =
            World::new("inbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {ttl: 60s, body: graphql}}]}").await;
        world.app.always(graphql(r#"{"data":1}"#));
        let both = "query Q { a } mutation M { a }";
        let asked = async |body: Value| {
            let before = world.app.asked();
            ask(&world, body).await;
            world.app.asked() - before
        };
        assert_eq!(asked(value!({"query": "{ a }"})).await, 1);
        assert_eq!(asked(value!({"query": both, "operationName": "Q"})).await, 1);
        assert_eq!(asked(value!({"query": both, "operationName": "Q"})).await, 0);
        assert_eq!(asked(value!({"query": "subscription { a }"})).await, 1);
        assert_eq!((asked(value!({"query": "{ a }"})).await, bypassed(&world, "GraphQL subscription")), (0, 1.0));
        for (reason, body) in [
            ("GraphQL mutation", value!({"query": "mutation { a }"})),
            ("GraphQL mutation", value!({"query": both, "operationName": "M"})),
            ("GraphQL operation is not told", value!({"query": both})),
            ("GraphQL query cannot be read", value!({"query": "{ a"})),
            ("request body is a JSON array", value!([{"query": "{ a }"}])),
            ("GraphQL persisted query was not seen yet", value!({"extensions": {"persistedQuery": {"sha256Hash": "0".repeat(64)}}})),
        ] {
            let before = bypassed(&world, reason);
            assert_eq!((asked(body.clone()).await, asked(body.clone()).await), (1, 1), "{body}");
            assert_eq!(bypassed(&world, reason) - before, 2.0, "{body}");
            assert_eq!(asked(value!({"query": "{ a }"})).await, 1, "it may have changed something: {body}");
            assert_eq!(asked(value!({"query": "{ a }"})).await, 0);
        }
    });
}

#[test]
fn answers_with_errors_are_not_kept() {
    run(async {
        for (kept, reply) in [
            (true, graphql(r#"{"data":{"errors":1}}"#)),
            (true, graphql(r#"{"data":{},"errors":[]}"#)),
            (false, graphql(r#"{"data":{},"errors":[{"message":"half"}]}"#)),
            (false, graphql("not json")),
            (false, Reply::ok(r#"{"data":1}"#).header("content-type", "text/html")),
            (false, Reply::ok(r#"{"data":1}"#)),
            (false, graphql(r#"{"data":1}"#).header("content-encoding", "br")),
        ] {
            let world =
                World::new("inbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {ttl: 60s, body: graphql}}]}")
                    .await;
            world.app.always(reply.clone());
            for _ in 0..2 {
                ask(&world, r#"{"query":"{ a }"}"#).await;
            }
            assert_eq!(world.app.asked() == 1, kept, "{reply:?}");
        }
    });
}

#[test]
fn gzip_answers_are_looked_into() {
    run(async {
        for (kept, json) in [(true, r#"{"data":{}}"#), (false, r#"{"errors":[{"message":"no"}]}"#)] {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            std::io::Write::write_all(&mut gzip, json.as_bytes()).expect("in memory");
            let world =
                World::new("inbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {ttl: 60s, body: graphql}}]}")
                    .await;
            world.app.always(graphql("").bytes(gzip.finish().expect("in memory")).header("content-encoding", "gzip"));
            for _ in 0..2 {
                world.client().ask(json_accepting("gzip, br"), r#"{"query":"{ a }"}"#).await;
                settle().await;
            }
            assert_eq!((world.app.asked() == 1, world.app.seen()[0].header("accept-encoding")), (kept, "gzip"), "{json}");
        }
    });
}

fn json_accepting(codings: &str) -> http::request::Builder {
    json("/f").header("accept-encoding", codings)
}

#[test]
fn graphql_over_get_follows_http_alone() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', routes: [{name: r, match: {path: /f}, cache: {body: graphql}}]}").await;
        world.app.always(graphql(r#"{"errors":[]}"#).header("date", BEGUN).header("cache-control", "max-age=60"));
        for _ in 0..2 {
            world.client().get("/f?query={a}").await;
            settle().await;
        }
        assert_eq!(world.app.asked(), 1);
    });
}
