//! Header fields on their way: what the proxy says of the client and itself, what belongs to one hop, what never leaves.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrigger::cli::mock::hash_credential;

use crate::world::{Failing, Reply, World, chat, json, run};

const PLAIN: &str = "inbound: {app: 'http://app.test'}";
const TRUSTING: &str = "inbound: {app: 'http://app.test', trusted_proxies: [10.0.0.0/8]}";

#[test]
fn the_app_learns_who_the_client_is_and_how_it_came() {
    run(async {
        let world = World::new(PLAIN).await;
        world.client().get("/").await;
        let seen = world.app.only();
        assert_eq!(seen.header("x-forwarded-for"), "203.0.113.7");
        assert_eq!(seen.header("x-forwarded-proto"), "http");
        assert_eq!(seen.header("x-forwarded-host"), "shop.example");
        assert_eq!(seen.header("host"), "shop.example", "the client's Host is kept");
        assert!(seen.header("via").starts_with("1.1 outrigger-"));
        assert_eq!(seen.header("x-request-id").len(), 32);
    });
}

#[test]
fn a_stranger_cannot_say_who_it_is_but_a_trusted_proxy_can() {
    run(async {
        let world = World::new(TRUSTING).await;
        let claims =
            || Request::get("/").header("x-forwarded-for", "1.2.3.4").header("x-forwarded-proto", "https").header("x-request-id", "mine");
        world.client().ask(claims().header("x-real-ip", "1.2.3.4").header("forwarded", "for=1.2.3.4"), "").await;
        world.client().from("10.0.0.9").ask(claims(), "").await;
        let seen = world.app.seen();
        assert_eq!((seen[0].header("x-forwarded-for"), seen[0].header("x-forwarded-proto")), ("203.0.113.7", "http"));
        assert_eq!((seen[0].header("x-real-ip"), seen[0].header("forwarded")), ("", ""));
        assert_ne!(seen[0].header("x-request-id"), "mine");
        assert_eq!((seen[1].header("x-forwarded-for"), seen[1].header("x-forwarded-proto")), ("1.2.3.4, 10.0.0.9", "https"));
        assert_eq!(seen[1].header("x-request-id"), "mine");
    });
}

#[test]
fn what_belongs_to_one_hop_stays_on_it() {
    run(async {
        let world = World::new(PLAIN).await;
        world.app.always(Reply::ok("x").header("connection", "x-private").header("x-private", "1").header("keep-alive", "timeout=5"));
        let asked = Request::get("/")
            .header("connection", "x-secret, te")
            .header("x-secret", "1")
            .header("te", "gzip")
            .header("proxy-connection", "a");
        let answer = world.client().ask(asked.header("upgrade", "h2c").header("http2-settings", "AAMAAABk"), "").await;
        let seen = world.app.only();
        for name in ["connection", "x-secret", "te", "proxy-connection", "upgrade", "http2-settings", "keep-alive"] {
            assert_eq!(seen.header(name), "", "{name} went to the app");
        }
        for name in ["x-private", "keep-alive"] {
            assert_eq!(answer.header(name), "", "{name} went to the client");
        }
    });
}

/// RFC 9110 section 6.6.1; hyper adds one to HTTP/1 alone.
#[test]
fn over_http2_an_answer_without_a_date_gets_one_too() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test', routes: [{match: {path: /shut}, access: {deny: [0.0.0.0/0]}}]}").await;
        world.app.raw(["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]);
        let pipe = TokioIo::new(world.client().raw());
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), pipe).await.expect("a handshake");
        tokio::task::spawn_local(connection);
        for (path, status) in [("/", StatusCode::OK), ("/shut", StatusCode::FORBIDDEN)] {
            let request = Request::get(format!("http://shop.example{path}")).body(Empty::<Bytes>::new()).expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            assert_eq!((answer.status(), answer.headers().get_all("date").iter().count()), (status, 1), "{:?}", answer.headers());
        }
    });
}

#[test]
fn a_request_that_comes_back_to_us_is_a_loop() {
    run(async {
        let world = World::new(PLAIN).await;
        world.client().get("/").await;
        let via = world.app.only().header("via").to_owned();
        let again = world.client().ask(Request::get("/").header("via", format!("1.0 other, {via}")), "").await;
        assert_eq!((again.status, world.app.asked()), (StatusCode::LOOP_DETECTED, 1));
        let other = world.client().ask(Request::get("/").header("via", "1.1 outrigger-00000000"), "").await;
        assert_eq!(other.status, StatusCode::OK, "another sidecar in the chain is no loop");
        assert!(world.app.seen()[1].header("via").starts_with("1.1 outrigger-00000000, 1.1 outrigger-"));
    });
}

#[test]
fn a_provider_sees_its_own_host_and_nothing_of_the_proxy() {
    run(async {
        let world = World::new("outbound: {providers: {openai: {url: 'http://openai.test:8443'}}}").await;
        let asked = json("/openai/v1/chat/completions")
            .header("host", "127.0.0.1:8081")
            .header("baggage", "a=1,outrigger=0123456789abcdef0123456789abcdef;p=1, b=2")
            .header("outrigger-caller", "alice")
            .header("outrigger-route", "x")
            .header("authorization", "Bearer sk-app");
        assert_eq!(world.caller().ask(asked, chat("gpt-4o").to_string()).await.status, StatusCode::OK);
        let seen = &world.provider("openai").seen()[0];
        assert_eq!(seen.header("host"), Some("openai.test:8443"));
        assert_eq!(seen.header("baggage").map(|members| members.replace(' ', "")), Some("a=1,b=2".to_owned()));
        for (name, value) in &seen.headers {
            assert!(!name.starts_with("outrigger") && !name.starts_with("x-forwarded"), "{name}: {value} left");
        }
        assert_eq!(seen.header("authorization"), Some(&*hash_credential("sk-app")), "{:?}", seen.headers);
    });
}

#[test]
fn configured_keys_replace_the_credential_that_the_app_sent() {
    run(async {
        let world = World::new(
            "outbound: {providers: {openai: {url: 'http://o.test', keys: [sk-1, sk-2]}, anthropic: {url: 'http://a.test', keys: [ak-1]}}}",
        )
        .await;
        for _ in 0..2 {
            let asked = json("/openai/v1/chat/completions").header("authorization", "Bearer sk-app").header("api-key", "sk-app");
            assert_eq!(world.caller().ask(asked, chat("gpt-4o").to_string()).await.status, StatusCode::OK);
        }
        let seen = world.provider("openai").seen();
        let keys: Vec<_> = seen.iter().map(|seen| seen.header("authorization").expect("a key").to_owned()).collect();
        assert_eq!(keys, [hash_credential("sk-1"), hash_credential("sk-2")], "keys take turns");
        assert!(seen.iter().all(|seen| seen.header("api-key").is_none()));

        let asked = json("/anthropic/v1/messages").header("anthropic-version", "2023-06-01").header("authorization", "Bearer sk-app");
        let answer = world.caller().ask(asked, chat("claude-sonnet-4-5").to_string()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let seen = &world.provider("anthropic").seen()[0];
        assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (Some(&*hash_credential("ak-1")), None));
    });
}

#[test]
fn the_app_gets_one_member_of_baggage_and_keeps_the_others() {
    run(async {
        let world = World::new("{inbound: {app: 'http://app.test'}, outbound: {providers: {openai: {url: 'http://o.test'}}}}").await;
        let forged = "k=v,outrigger=00000000000000000000000000000001";
        world.client().ask(Request::get("/").header("baggage", forged).header("outrigger-caller", "mallory"), "").await;
        let seen = world.app.only();
        let members: Vec<&str> = seen.header("baggage").split(',').collect();
        assert_eq!(members.len(), 2, "{members:?}");
        assert_eq!(members[0], "k=v");
        assert!(members[1].starts_with("outrigger=") && !members[1].ends_with("00001"));
        assert_eq!(seen.header("outrigger-caller"), "");
    });
}

#[test]
fn a_door_that_holds_keys_answers_to_its_own_app_alone() {
    run(async {
        let yaml = "outbound: {hosts: [proxy.internal], providers: {openai: {url: 'http://o.test', keys: [sk-1]}}}";
        let world = World::new(yaml).await;
        for (host, status) in
            [("localhost:8081", 200), ("127.0.0.1", 200), ("[::1]:8081", 200), ("proxy.internal", 200), ("evil.example", 421)]
        {
            let asked = json("/openai/v1/chat/completions").header("host", host);
            assert_eq!(world.caller().ask(asked, chat("gpt-4o").to_string()).await.status.as_u16(), status, "{host}");
        }
        assert_eq!(world.provider("openai").seen().len(), 4);
    });
}

/// Where a target is and what is wrong with it is for the log and for the app beside us, not for clients.
#[test]
fn errors_tell_strangers_nothing_of_the_house() {
    run(async {
        let world = World::new("inbound: {app: 'http://app.test'}\noutbound: {providers: {openai: {url: 'http://o.test'}}}").await;
        let client = world.client();
        world.dials.fail("app", [Failing::Refused]);
        let refused = client.get("/").await;
        world.app.raw(["nonsense\r\n\r\n"]);
        let garbled = client.get("/").await;
        world.app.script([Reply::close()]);
        let closed = client.post("/", "x").await;
        world.dials.fail("app", [Failing::Refused]);
        let grpc = client.ask(Request::post("/").header("content-type", "application/grpc"), "x").await;
        for (answer, said) in [
            (&refused, "app: it cannot be reached"),
            (&garbled, "app: its answer is not valid HTTP"),
            (&closed, "app: it closed the connection before it answered"),
            (&grpc, "app: it cannot be reached"),
        ] {
            assert!(answer.text().contains(said) && !answer.text().contains("connect to"), "{}", answer.text());
        }
        let caller = world.caller();
        world.dials.fail("openai", [Failing::Refused, Failing::Refused]);
        let app = caller.call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        assert!(app.text().contains("openai: cannot connect to openai: refused"), "{}", app.text());
        let stranger = caller.from("10.0.0.9").call("/openai/v1/chat/completions", &chat("gpt-4o")).await;
        assert!(stranger.text().contains("openai: it cannot be reached"), "{}", stranger.text());
        let details: Vec<_> = world.log().await.iter().map(|line| line["detail"].as_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(details[0], "app: cannot connect to app: refused; does the app listen there? (inbound.app, --app)");
        assert!(details[1].starts_with("app: ") && details[2].starts_with("app: "), "{details:?}");
        assert_eq!(&details[4..], ["openai: cannot connect to openai: refused", "openai: cannot connect to openai: refused"]);
    });
}
