//! A policy that is not named does nothing: through an empty proxy.yaml an exchange carries what a direct one would.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;

use crate::world::{Origin, Reply, World, ms, run};

/// The same request, straight to the app.
async fn direct(app: &Origin, request: http::request::Builder, body: &'static str) -> (u16, HeaderMap, Bytes) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    app.accept(theirs);
    let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.expect("a handshake");
    let task = tokio::task::spawn_local(connection);
    let request = request.header("host", "shop.example").body(Full::new(Bytes::from(body))).expect("a request");
    let answer: Response<Incoming> = sender.send_request(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    task.abort();
    (head.status.as_u16(), head.headers, body)
}

/// Without what hyper's own server adds on each hop.
fn fields(mut headers: HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.remove("date");
    let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    all.sort();
    all
}

#[test]
fn answers_are_the_same_as_without_the_proxy() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}").await;
        let replies = [
            Reply::ok("{\"a\": 1}").header("content-type", "application/json").header("etag", "\"x\""),
            Reply::ok("cookies").header("set-cookie", "a=1; Path=/").header("set-cookie", "b=2; HttpOnly"),
            Reply::ok("odd").header("x-odd", "a  b,, c").header("server", "app/1").header("cache-control", "max-age=60"),
            Reply::status(201).header("location", "http://app.test/made"),
            Reply::status(204),
            Reply::status(301).header("location", "/there"),
            Reply::status(304).header("etag", "\"x\""),
            Reply::status(404).body("no"),
            Reply::status(418).body("teapot"),
            Reply::status(429).header("retry-after", "7").body("slow down"),
            Reply::status(500).body("trace"),
            Reply::status(503).header("retry-after", "3"),
            Reply::ok("\u{1f}\u{8b}\u{8} not really gzip").header("content-encoding", "gzip"),
            Reply::paced(ms(5), &["data: 1\n\n", "data: 2\n\n"]).header("content-type", "text/event-stream"),
        ];
        for reply in replies {
            let asked = || Request::put("/a%2Fb/../c?q=%20&r").header("accept-encoding", "br").header("cookie", "s=1");
            world.app.script([reply.clone(), reply]);
            let (status, headers, body) = direct(&world.app, asked(), "x=1").await;
            let through = world.client().ask(asked(), "x=1").await;
            assert_eq!((through.status.as_u16(), &through.body), (status, &body));
            let mut added = through.headers;
            assert!(added.remove("x-request-id").is_some(), "each answer tells the id under which the log has it");
            assert_eq!(fields(added), fields(headers));
        }
    });
}

#[test]
fn requests_arrive_as_they_were_sent() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}").await;
        for target in ["/", "/a//b", "/a%2Fb", "/%E2%82%AC?x=%26&y", "/a/./b/../c", "/?", "/;p=1?a=b?c"] {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
                let asked = || {
                    Request::builder().method(method).uri(target).header("x-a", "1").header("x-a", "2").header("authorization", "Bearer k")
                };
                direct(&world.app, asked(), "body").await;
                world.client().ask(asked(), "body").await;
                let seen = world.app.seen();
                let [.., straight, through] = seen.as_slice() else { panic!("two requests") };
                assert_eq!((&through.method, &through.target, &through.body), (&straight.method, &straight.target, &straight.body));
                let mut left = through.headers.clone();
                for added in ["via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"] {
                    assert!(left.remove(added).is_some(), "{added} is not there");
                }
                assert_eq!(fields(left), fields(straight.headers.clone()));
            }
        }
    });
}

#[test]
fn an_outbound_call_is_passed_on_untouched() {
    run(async {
        let world = World::new("outbound: {providers: {openai: {url: 'http://openai.test'}}}").await;
        let body = "{\"model\" : \"gpt-4o\",\n \"messages\":[{\"role\":\"user\",\"content\":\"hi \\u00e9\"}] }";
        let asked = crate::world::json("/openai/v1/chat/completions?beta=1")
            .header("authorization", "Bearer sk-app")
            .header("x-stainless-lang", "python");
        let answer = world.caller().ask(asked, body).await;
        assert_eq!(answer.status, 200);
        let seen = &world.provider("openai").seen()[0];
        assert_eq!((seen.path.as_str(), seen.body.as_str()), ("/v1/chat/completions?beta=1", body));
        assert_eq!(seen.header("x-stainless-lang"), Some("python"));
        assert_eq!(seen.header("authorization"), Some(outrigger::cli::mock::hash_credential("sk-app").as_str()));
        assert!(answer.json()["choices"][0]["message"]["content"].is_string());
    });
}

#[test]
fn errors_of_a_provider_are_its_own() {
    run(async {
        let world = World::new("outbound: {providers: {openai: {url: 'http://openai.test'}}}").await;
        for (fault, status) in [("401", 401), ("429;retry-after=2", 429), ("quota", 429), ("500", 500), ("503;html", 503)] {
            world.provider("openai").script([fault]);
            let answer = world.caller().call("/openai/v1/chat/completions", &crate::world::chat("gpt-4o")).await;
            assert_eq!(answer.status.as_u16(), status, "{fault}");
            assert_eq!(answer.header("proxy-status"), "", "{fault}: the answer is not ours");
            assert_eq!(world.provider("openai").seen().len(), 1);
            assert_eq!(answer.header("x-should-retry"), "");
            world.provider("openai").reset();
        }
    });
}
