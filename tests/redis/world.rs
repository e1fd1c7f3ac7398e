//! An origin that counts, proxies that share a Redis, and what a test asks them.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::server::Server;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger::{
    admin::{Operator, State},
    app::{App, Desk, Source},
    clock::{Clock, Instant},
    config::read::{self, Overrides},
    policy::cache::{Event, Purge},
    store::memory::Which,
};
use tokio::net::{TcpListener, TcpStream};

/// Of the store, where it is stopped.
pub const DEADLINE: Duration = Duration::from_millis(250);
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An app and a model provider in one: counts what it is asked, and answers each time something else.
pub struct Origin {
    pub addr: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Origin {
    pub async fn start() -> Self {
        Self::playing(|request, n| Some(origin_answer(request, n))).await
    }

    /// What `play` says; `None` closes the connection.
    pub async fn playing(play: impl Fn(&Request<Incoming>, usize) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let (addr, asked) = (listener.local_addr().expect("bound"), Arc::new(AtomicUsize::new(0)));
        let (count, play) = (asked.clone(), Arc::new(play));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (count, play) = (count.clone(), play.clone());
                let answer = service_fn(move |request: Request<Incoming>| {
                    let answer = play(&request, count.fetch_add(1, SeqCst) + 1);
                    async move { answer.ok_or_else(|| std::io::Error::other("the script says so")) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), answer));
            }
        });
        Self { addr, asked }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

pub fn origin_answer(request: &Request<Incoming>, n: usize) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let response = Response::builder();
    if path.ends_with("/chat/completions") {
        let body = serde_json::json!({
            "id": format!("chatcmpl-{n}"), "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": format!("answer {n}")}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        });
        return response.header("content-type", "application/json").body(Full::new(body.to_string().into())).expect("a response");
    }
    let tag = path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut response = response.header("cache-control", "max-age=600").header("surrogate-key", tag);
    if path.contains("/vary/") {
        response = response.header("vary", "x-kind");
    }
    response.body(Full::new(format!("{path} {n}").into())).expect("a response")
}

/// A proxy with its doors open.
pub struct Replica(pub Arc<App>);

impl Replica {
    pub async fn start(origin: &Origin, store: &str) -> Self {
        Self::start_with(origin, store, "").await
    }

    /// With more blocks of the file.
    pub async fn start_with(origin: &Origin, store: &str, more: &str) -> Self {
        let file = yaml(origin, store) + more;
        let reading = read::parse_reading(&file, "test.yaml", &Overrides::default(), &|_| None);
        let reading = reading.unwrap_or_else(|wrong| panic!("{wrong}"));
        let app = App::start(Source { file: None, overrides: Overrides::default() }, reading).await.expect("starts");
        Self(app)
    }

    /// With a configuration that is a file.
    pub async fn start_from(file: &Path, origin: &Origin, store: &str) -> Self {
        std::fs::write(file, yaml(origin, store)).expect("written");
        let reading = read::load_reading(file, &Overrides::default(), &|_| None).unwrap_or_else(|wrong| panic!("{wrong}"));
        let app = App::start(Source { file: Some(file.to_owned()), overrides: Overrides::default() }, reading).await.expect("starts");
        Self(app)
    }

    /// With the Redis of `server`, connected, and caught up with purges.
    pub async fn up(origin: &Origin, server: &Server) -> Self {
        let replica = Self::start(origin, &redis(&server.url())).await;
        replica.until_ready().await;
        replica
    }

    pub async fn until_ready(&self) {
        let (began, mut look) = (Instant::now(), tokio::time::interval(Duration::from_millis(1)));
        while !self.0.shared.cache.stats().shared.is_some_and(|shared| shared.ready) {
            assert!(began.elapsed() < PATIENCE, "the store is not ready: {:?}", self.health());
            look.tick().await;
        }
    }

    pub async fn ask(&self, request: Request<Full<Bytes>>) -> Answer {
        self.ask_at(self.0.addresses.inbound.expect("open"), request).await
    }

    pub async fn ask_at(&self, addr: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
        let tcp = TcpStream::connect(addr).await.expect("connected");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.expect("connected");
        let _connection = Ended(tokio::spawn(connection));
        let response = sender.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("whole").to_bytes();
        Answer { status: head.status, headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(request("GET", path, &[], "")).await
    }

    pub async fn chat(&self, body: &str) -> Answer {
        let headers = [("content-type", "application/json"), ("authorization", "Bearer sk-app")];
        let request = request("POST", "/house/chat/completions", &headers, body);
        self.ask_at(self.0.addresses.outbound.expect("open"), request).await
    }

    pub fn purge(&self, which: Which<outrigger::policy::cache::key::Key>) {
        self.0.shared.cache.purge(&Purge { which, soft: false }, Clock::system().moment());
    }

    pub fn entries(&self) -> u64 {
        self.0.shared.cache.stats().memory.entries
    }

    pub fn events(&self, event: Event) -> u64 {
        self.0.shared.cache.stats().shared.expect("a store").events[event as usize]
    }

    pub async fn until(&self, event: Event, count: u64) {
        eventually(&format!("{event:?} is {count}"), || self.events(event) >= count).await;
    }

    pub fn metrics(&self) -> String {
        self.0.telemetry.metrics().render()
    }

    pub fn health(&self) -> (State, String) {
        let health = Desk::new(Arc::downgrade(&self.0)).health();
        let redis = health.dependencies.into_iter().find(|dependency| dependency.name == "redis").expect("told");
        (redis.state, redis.detail)
    }
}

fn yaml(origin: &Origin, store: &str) -> String {
    format!(
        r#"
inbound:
  listen: 127.0.0.1:0
  app: http://{origin}
  trusted_proxies: [127.0.0.1/32]
  caller: [header:x-user-id, client_ip]
  routes:
    - match: {{path: /c/**}}
      cache: {{tags: [things]}}
    - match: {{path: /keyed/**}}
      cache: {{key: ["header:x-kind"]}}
    - match: {{path: /guarded}}
      validate: {{methods: [GET]}}
      access: {{bans: {{after: 4, window: 1m, for: 10m, on: [validate]}}}}
    - match: {{path: /limited}}
      limits:
        - {{name: hundred, key: caller, requests: 100, window: 1m, alert_at: [0.5]}}
outbound:
  listen: 127.0.0.1:0
  providers:
    house: {{api: openai, url: "http://{origin}/v1"}}
  routes:
    - match: {{operation: chat, models: ["gpt-*"]}}
      cache: {{ttl: 1h}}
    - name: research
      match: {{operation: responses}}
      limits:
        - {{name: research, usd: 100, window: 1h}}
    - match: {{operation: other}}
      limits:
        - {{name: others, usd: 100, window: 1h}}
    - match: {{operation: chat, models: ["few-*"]}}
      limits:
        - {{name: few, requests: 2, window: 1m}}
admin: {{listen: off, probes: off, socket: off}}
telemetry: {{log: off}}
shutdown: {{drain_delay: 0s, deadline: 1s}}
workers: 1
store: {{memory: 8MiB, {store}}}
"#,
        origin = origin.addr
    )
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn is_hit(&self) -> bool {
        self.headers.get("cache-status").is_some_and(|status| status.as_bytes().starts_with(b"outrigger; hit"))
    }
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "shop.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")
}

/// With a deadline that a busy machine keeps.
pub fn redis(url: &str) -> String {
    format!("redis: \"{url}\", namespace: test, timeout: 5s")
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let (began, mut look) = (Instant::now(), tokio::time::interval(Duration::from_millis(1)));
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not so");
        look.tick().await;
    }
}

pub fn redis_cli(server: &Server, line: &[&str]) -> String {
    let out = std::process::Command::new("redis-cli").args(["-p", &server.port.to_string()]).args(line).output().expect("redis-cli");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// A connection that is closed when its client is gone.
struct Ended(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}
