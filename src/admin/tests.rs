//! Tests over real sockets on ports that the system chose.

mod feed;
mod foreign;

use bytes::Bytes;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1 as client_http1;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::{
    config::{Role, Secret, Token},
    telemetry::{
        flows::{Flow, Sums},
        metrics::{Exposition, Window},
    },
};

#[derive(Default)]
struct Fake {
    dependencies: Mutex<Vec<Dependency>>,
    not_ready: Mutex<Option<String>>,
    acted: Mutex<Vec<Action>>,
    ticks: Mutex<u64>,
    watched: Mutex<Vec<bool>>,
    flows: Mutex<std::collections::HashMap<Flow, Sums, foldhash::fast::RandomState>>,
}

impl Operator for Fake {
    fn health(&self) -> Health {
        let window = Window { requests: 200, errors: 1, nanos: 200 * 1_234_567, hits: 3, lookups: 4 };
        Health { uptime: Duration::from_secs(61), window, dependencies: self.dependencies.lock().clone() }
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().clone().map_or(Ok(()), Err)
    }

    fn metrics(&self, _: Exposition) -> String {
        "outrigger_draining 0\n".into()
    }

    fn view(&self, view: View) -> Value {
        json!({"view": format!("{view:?}")})
    }

    fn ask(&self, about: About, words: Vec<(String, String)>) -> Pin<Box<dyn Future<Output = Result<Value, Refused>> + Send + '_>> {
        Box::pin(async move {
            match words.iter().any(|(key, _)| key == "colour") {
                true => Err(Refused::Unclear("no such dimension".into())),
                false => Ok(json!({"asked": words, "about": format!("{about:?}")})),
            }
        })
    }

    fn live(&self) -> live::Numbers {
        *self.ticks.lock() += 1;
        live::Numbers { at: 1_000 + *self.ticks.lock(), flows: self.flows.lock().clone(), ..live::Numbers::default() }
    }

    fn minutes(&self) -> live::Minutes {
        vec![(0, Window { requests: 7, ..Window::default() })]
    }

    fn watch(&self, on: bool) {
        self.watched.lock().push(on);
    }

    fn act(&self, action: Action) -> Pin<Box<dyn Future<Output = Result<Value, Refused>> + Send + '_>> {
        Box::pin(async move {
            self.acted.lock().push(action.clone());
            match action {
                Action::Reload => Err(Refused::File(mistakes())),
                Action::OpenBreaker(name) if name == "nobody" => Err(Refused::NotFound("no such breaker".into())),
                _ => Ok(json!({"done": true})),
            }
        })
    }
}

/// Two mistakes, as the configuration's reader reports them.
fn mistakes() -> Mistakes {
    let read = config::read::parse("inbund: {}\ninbound: {app: 3000, listen: 80}\n", "proxy.yaml", &Default::default(), &|_| None);
    read.expect_err("two mistakes")
}

struct World {
    fake: Arc<Fake>,
    server: Server,
    dir: tempfile::TempDir,
}

impl World {
    async fn new(token: Option<&str>) -> Self {
        Self::with(token.into_iter().map(|token| ("admin", Role::Operate, token))).await
    }

    async fn with<'a>(tokens: impl IntoIterator<Item = (&'a str, Role, &'a str)>) -> Self {
        let of = |(name, role, token): (&str, Role, &str)| Token { name: name.into(), role, token: Secret::new(token) };
        let tokens = tokens.into_iter().map(of).collect();
        let dir = tempfile::tempdir().expect("directory");
        let any = Some("127.0.0.1:0".parse().expect("address"));
        let config =
            config::Admin { listen: any, probes: any, tokens, socket: Some(dir.path().join("admin.sock")), socket_is_usual: false };
        let fake = Arc::new(Fake::default());
        let listeners = Listeners::bind(&config).await.expect("binds");
        let server = serve(listeners, Settings::new(&config), fake.clone());
        Self { fake, server, dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    async fn admin(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, http::HeaderMap, String) {
        ask(self.server.admin().expect("bound"), method, path, headers).await
    }

    async fn probes(&self, path: &str) -> StatusCode {
        ask(self.server.probes().expect("bound"), Method::GET, path, &[("host", "10.2.3.4:9902")]).await.0
    }
}

async fn ask(to: SocketAddr, method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, http::HeaderMap, String) {
    let tcp = TcpStream::connect(to).await.expect("connects");
    let (mut sender, connection) = client_http1::handshake(TokioIo::new(tcp)).await.expect("handshake");
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::<Bytes>::default()).expect("request")).await.expect("answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("body").to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

fn parse(body: &str) -> Value {
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn changes_over_tcp_need_the_token_and_over_the_socket_none() {
    let world = World::new(Some("s3cret")).await;
    for headers in [&[] as &[(&str, &str)], &[("authorization", "Bearer wrong")], &[("authorization", "Basic s3cret")]] {
        let (status, _, body) = world.admin(Method::POST, "/api/drain", headers).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(body.contains("Authorization: Bearer") && body.contains("admin.sock") && !body.contains("s3cret"), "{body}");
    }
    assert!(world.fake.acted.lock().is_empty());
    let (status, _, _) = world.admin(Method::POST, "/api/drain", &[("authorization", "Bearer s3cret")]).await;
    assert_eq!((status, world.fake.acted.lock().as_slice()), (StatusCode::OK, &[Action::Drain] as &[_]));
    let answer = client::request(&world.socket(), Method::POST, "/api/breakers/openai%2Fgpt-4o/open", None).await.expect("answer");
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, Some(json!({"done": true}))));
    assert_eq!(world.fake.acted.lock().last(), Some(&Action::OpenBreaker("openai/gpt-4o".into())));
    for (path, yes) in [("/api/approvals/00c0ffee", true), ("/api/approvals/00c0ffee/decline", false)] {
        assert_eq!(world.admin(Method::POST, path, &[]).await.0, StatusCode::FORBIDDEN, "a yes needs the operator's right");
        assert_eq!(world.admin(Method::POST, path, &[("authorization", "Bearer s3cret")]).await.0, StatusCode::OK);
        assert_eq!(world.fake.acted.lock().last(), Some(&Action::Approve { id: "00c0ffee".into(), yes }));
    }
}

#[tokio::test]
async fn without_a_token_tcp_changes_nothing_and_says_how() {
    let world = World::new(None).await;
    let (status, _, body) = world.admin(Method::POST, "/api/cache/purge", &[("authorization", "Bearer ")]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(body.contains("OUTRIGGER_ADMIN_TOKEN"), "{body}");
    assert_eq!(world.admin(Method::GET, "/api/routes", &[]).await.0, StatusCode::OK, "looking is free");
    assert!(world.fake.acted.lock().is_empty());
}

#[tokio::test]
async fn the_configuration_is_shown_to_whoever_may_change_it() {
    let world = World::new(Some("s3cret")).await;
    for headers in [&[] as &[(&str, &str)], &[("authorization", "Bearer wrong")]] {
        let (status, _, body) = world.admin(Method::GET, "/api/config", headers).await;
        assert!(status == StatusCode::FORBIDDEN && body.contains("the configuration is shown"), "{body}");
    }
    assert_eq!(world.admin(Method::GET, "/api/config", &[("authorization", "Bearer s3cret")]).await.0, StatusCode::OK);
    let answer = client::request(&world.socket(), Method::GET, "/api/config", None).await.expect("answer");
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_reader_looks_and_changes_nothing_and_others_do_not_even_look() {
    let world = World::with([("ci", Role::Operate, "one"), ("grafana", Role::Read, "two")]).await;
    let status = async |method: Method, path: &str, token: &str| {
        let value = format!("Bearer {token}");
        let fields = [("authorization", &*value)];
        world.admin(method, path, if token.is_empty() { &[] } else { &fields }).await
    };
    for (path, method, token, expected) in [
        ("/health", Method::GET, "two", StatusCode::OK),
        ("/health", Method::GET, "", StatusCode::FORBIDDEN),
        ("/api/errors", Method::GET, "wrong", StatusCode::FORBIDDEN),
        ("/api/errors", Method::GET, "two", StatusCode::OK),
        ("/api/errors", Method::GET, "one", StatusCode::OK),
        ("/api/config", Method::GET, "two", StatusCode::FORBIDDEN),
        ("/api/config", Method::GET, "one", StatusCode::OK),
        ("/api/drain", Method::POST, "two", StatusCode::FORBIDDEN),
        ("/metrics", Method::GET, "", StatusCode::OK),
    ] {
        let (answered, _, body) = status(method, path, token).await;
        assert_eq!(answered, expected, "{path} {token}: {body}");
        assert!(!body.contains("Bearer one") && !body.contains("Bearer two"));
    }
    assert!(world.fake.acted.lock().is_empty());
    let (_, _, body) = status(Method::POST, "/api/drain", "two").await;
    assert!(body.contains("`grafana` may only look"), "{body}");
    for (token, name, role) in
        [("one", json!("ci"), json!("operate")), ("two", json!("grafana"), json!("read")), ("", Value::Null, Value::Null)]
    {
        let said = parse(&status(Method::GET, "/api/whoami", token).await.2);
        assert_eq!((&said["name"], &said["role"], &said["reading_needs_token"]), (&name, &role, &json!(true)));
        assert_eq!(said["can_change"], json!(token == "one"));
    }
    let said = client::request(&world.socket(), Method::GET, "/api/whoami", None).await.expect("answer").json().expect("JSON");
    assert_eq!((&said["role"], &said["over"]), (&json!("operate"), &json!("socket")));
    assert!(said["name"].as_str().is_some_and(|name| name.starts_with("socket (user ")), "{said}");
}

#[tokio::test]
async fn a_socket_that_cannot_be_made_is_said_and_the_doors_open_all_the_same() {
    let dir = tempfile::tempdir().expect("directory");
    let any = Some("127.0.0.1:0".parse().expect("address"));
    let socket = Some(dir.path().join("no/such/admin.sock"));
    let config = config::Admin { listen: any, probes: any, tokens: Vec::new(), socket, socket_is_usual: false };
    let listeners = Listeners::bind(&config).await.expect("binds");
    assert!(listeners.no_socket.as_ref().is_some_and(|why| why.to_string().contains("no/such/admin.sock")));
    let server = serve(listeners, Settings::new(&config), Arc::new(Fake::default()));
    let (status, _, _) = ask(server.admin().expect("bound"), Method::GET, "/health", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let (_, _, said) = ask(server.admin().expect("bound"), Method::POST, "/api/drain", &[]).await;
    assert!(said.contains("there is none of"), "{said}");
}

#[tokio::test]
async fn health_is_503_when_something_is_down() {
    let world = World::new(None).await;
    let (status, headers, body) = world.admin(Method::GET, "/health", &[]).await;
    let body = parse(&body);
    assert_eq!((status, &body["status"]), (StatusCode::OK, &json!("healthy")));
    assert_eq!((&body["uptime"], &body["cache_hit_rate"], &body["error_rate_24h"]), (&json!(61), &json!(0.75), &json!(0.005)));
    assert_eq!((&body["avg_latency"], body["version"].as_str()), (&json!(1.235), Some(env!("CARGO_PKG_VERSION"))));
    assert_eq!(headers["cache-control"], "no-store");
    for (state, status, word) in
        [(State::Degraded, StatusCode::OK, "degraded"), (State::Down, StatusCode::SERVICE_UNAVAILABLE, "unhealthy")]
    {
        let app = Dependency { name: "app".into(), state: State::Ok, detail: String::new() };
        let redis = Dependency { name: "redis".into(), state, detail: "no answer".into() };
        *world.fake.dependencies.lock() = vec![redis, app];
        let (answered, _, body) = world.admin(Method::GET, "/health", &[]).await;
        let body = parse(&body);
        assert_eq!((answered, body["status"].as_str()), (status, Some(word)));
        assert_eq!(body["dependencies"]["redis"], json!({"state": state.as_str(), "detail": "no answer"}));
        assert_eq!(body["dependencies"]["app"], json!({"state": "ok"}));
    }
    assert_eq!(world.probes("/live").await, StatusCode::OK, "the process turns whatever it depends on");
    assert_eq!(world.probes("/ready").await, StatusCode::OK);
}

#[tokio::test]
async fn probes_show_three_pages_alone_and_ready_says_why_not() {
    let world = World::new(None).await;
    for (path, status) in [
        ("/live", StatusCode::OK),
        ("/ready", StatusCode::OK),
        ("/metrics", StatusCode::OK),
        ("/health", StatusCode::NOT_FOUND),
        ("/api/config", StatusCode::NOT_FOUND),
        ("/api/breakers/x/open", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(world.probes(path).await, status, "{path}");
    }
    *world.fake.not_ready.lock() = Some("draining".into());
    assert_eq!(world.probes("/ready").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(parse(&world.admin(Method::GET, "/ready", &[]).await.2)["reason"], "draining");
}

#[tokio::test]
async fn a_wrong_path_lists_the_pages_and_a_wrong_method_names_the_right_one() {
    let world = World::new(Some("t")).await;
    let (status, _, body) = world.admin(Method::GET, "/nope", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(parse(&body)["pages"].as_array().expect("list").contains(&json!("POST /api/cache/purge")));
    for (method, path, allow) in
        [(Method::GET, "/api/reload", "POST"), (Method::POST, "/health", "GET, HEAD"), (Method::DELETE, "/api/cache", "GET, HEAD")]
    {
        let (status, headers, _) = world.admin(method, path, &[("authorization", "Bearer t")]).await;
        assert_eq!((status, headers["allow"].to_str().expect("text")), (StatusCode::METHOD_NOT_ALLOWED, allow), "{path}");
    }
    let (status, headers, body) = world.admin(Method::HEAD, "/metrics", &[]).await;
    assert_eq!((status, headers["content-length"].to_str().expect("text"), body.as_str()), (StatusCode::OK, "21", ""));
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
}

#[tokio::test]
async fn every_listed_page_exists() {
    let world = World::new(None).await;
    let listed = parse(&world.admin(Method::GET, "/nothing", &[]).await.2);
    for page in listed["pages"].as_array().expect("list") {
        let (method, path) = page.as_str().and_then(|page| page.split_once(' ')).expect("method and path");
        let method: Method = method.parse().expect("method");
        if path == "/api/live" {
            continue; // it does not end; its own tests are in `feed`
        }
        let body = match path {
            "/api/cache/warm" => json!({"paths": ["/x"]}),
            "/api/ledger/erase" => json!({"caller": "x"}),
            "/api/ledger/snapshot" | "/api/ledger/restore" => json!({"file": "/x"}),
            "/api/config/plan" => json!({"edits": []}),
            "/api/config/apply" => json!({"base": "h", "edits": []}),
            "/api/config/rollback" => json!({"version": 1}),
            "/api/limits/reset" => json!({"limit": "x"}),
            "/api/limits/raise" => json!({"limit": "x", "times": 2, "for": "1h"}),
            _ => json!({"tag": "x"}),
        };
        let answer = client::request(&world.socket(), method, &path.replace("{name}", "x"), Some(&body)).await.expect("answer");
        assert!(answer.status.is_success() || path == "/api/reload", "{path}: {}", answer.status);
    }
}

#[tokio::test]
async fn a_foreign_host_gets_nothing() {
    let world = World::new(Some("t")).await;
    for path in ["/health", "/metrics", "/api/config", "/api/drain"] {
        let headers = [("host", "rebound.example"), ("authorization", "Bearer t")];
        assert_eq!(world.admin(Method::GET, path, &headers).await.0, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
}

/// The clock is paused: it jumps to the next timer whenever nothing else is to be done.
#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    let world = World::new(None).await;
    for first in ["", "GET /live HTTP/1.1\r\nHost: x\r\n\r\n", "GET /li"] {
        let mut tcp = TcpStream::connect(world.server.probes().expect("bound")).await.expect("connects");
        tcp.write_all(first.as_bytes()).await.expect("written");
        let begun = tokio::time::Instant::now();
        let mut all = Vec::new();
        tokio::time::timeout(READ * 3, tcp.read_to_end(&mut all)).await.expect("closed in time").expect("read");
        assert!(begun.elapsed() <= READ * 2, "{first:?}");
        assert_eq!(String::from_utf8_lossy(&all).contains("200 OK"), first.ends_with("\r\n\r\n"));
    }
}

#[tokio::test]
async fn refusals_of_the_operator_and_bad_purges_have_their_status() {
    let world = World::new(None).await;
    let post = |path: &'static str, body: Value| {
        let socket = world.socket();
        async move { client::request(&socket, Method::POST, path, Some(&body)).await.expect("answer") }
    };
    let reload = post("/api/reload", Value::Null).await;
    assert_eq!(reload.status, StatusCode::UNPROCESSABLE_ENTITY);
    let said = reload.json().expect("JSON");
    assert_eq!(said, mistakes().to_json(), "as `check --json` says them");
    let first = &said["mistakes"][0];
    assert_eq!(
        (&first["file"], &first["line"], &first["column"], &first["value"], &first["hint"]),
        (&"proxy.yaml".into(), &1.into(), &1.into(), &"inbund".into(), &"did you mean `inbound`?".into())
    );
    assert_eq!(post("/api/breakers/nobody/open", Value::Null).await.status, StatusCode::NOT_FOUND);
    for bad in [
        Value::Null,
        json!({}),
        json!({"all": false}),
        json!({"tag": 1}),
        json!({"nope": "x"}),
        json!({"tag": "a", "key": "b"}),
        json!({"tag": "a", "soft": "yes"}),
        json!({"soft": true}),
        json!("x".repeat(MAX_BODY)),
    ] {
        assert_eq!(post("/api/cache/purge", bad).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(post("/api/cache/purge", json!({"prefix": "/a"})).await.status, StatusCode::OK);
    let prefix = |soft| Action::Purge { which: Purge::Prefix("/a".into()), soft };
    assert_eq!(world.fake.acted.lock().last(), Some(&prefix(false)));
    assert_eq!(post("/api/cache/purge", json!({"prefix": "/a", "soft": true})).await.status, StatusCode::OK);
    assert_eq!(world.fake.acted.lock().last(), Some(&prefix(true)));
}

fn bind(path: &Path) -> Result<Socket, BindError> {
    Socket::bind(path)
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let world = World::new(None).await;
    let path = world.socket();
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(world.dir.path()).expect("directory").count(), 1, "nothing else is left behind");
    assert!(matches!(bind(&path), Err(BindError::InUse(_))), "a running proxy keeps its socket");
    let World { server, dir, .. } = world;
    drop(server);
    assert!(!path.exists());
    let refused = client::request(&path, Method::GET, "/health", None).await.expect_err("nobody");
    assert!(refused.to_string().contains("no running proxy"), "{refused}");
    drop(dir);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_anything_else_is_left_alone() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    assert!(path.exists(), "left by a process that was killed");
    let first = bind(&path).expect("replaced");
    fs::remove_file(&path).expect("removed");
    let second = bind(&path).expect("binds");
    drop(first);
    assert!(path.exists(), "the file is no longer the first one's");
    drop(second);
    fs::write(&path, "precious").expect("written");
    assert!(matches!(bind(&path), Err(BindError::NotASocket(_))));
    assert_eq!(fs::read(&path).expect("there"), b"precious");
    let missing = bind(&dir.path().join("no/such/admin.sock")).expect_err("no directory");
    assert!(missing.to_string().contains("directory must exist"), "{missing}");
}
