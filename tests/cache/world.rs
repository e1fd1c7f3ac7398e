//! A proxy in this process on free ports, in front of an origin that does what the test says; real sockets everywhere.

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest, service::service_fn};
use hyper_util::rt::TokioIo;
use outrigger::{
    app::{App, Source},
    cli::client::{Answer, Client, Opened},
    config::{
        Config,
        read::{self, Overrides},
    },
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the origin does with a request.
pub enum Act {
    /// Answers.
    Answer(Response<Script>),
    /// Answers once the test says what.
    Later(oneshot::Receiver<Response<Script>>),
    /// Closes the connection without an answer.
    Close,
}

/// A body whole, or as the test sends it.
pub enum Script {
    Whole(Option<Bytes>),
    /// An `Err` breaks the connection.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(whole) => Poll::Ready(whole.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => SizeHint::with_exact(whole.as_ref().map_or(0, Bytes::len) as u64),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// An answer with these fields.
pub fn reply(status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Script> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(Script::Whole(Some(body.into()))).expect("a response")
}

/// The same, at once.
pub fn answer(status: u16, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Act {
    Act::Answer(reply(status, fields, body))
}

/// Sends the pieces of a body.
pub type Pieces = mpsc::Sender<io::Result<Bytes>>;

/// A 200 whose body comes as the test sends it.
pub fn streamed(fields: &[(&str, &str)]) -> (Response<Script>, Pieces) {
    let (send, receive) = mpsc::channel(1024);
    (reply(200, fields, "").map(|_| Script::Pieces(receive)), send)
}

/// A request as the origin got it.
#[derive(Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    /// How many came before it to the same path.
    pub nth: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Play = dyn Fn(&Seen) -> Act + Send + Sync;

/// The origin: the app inbound, or a model provider outbound.
pub struct Origin {
    pub addr: SocketAddr,
    seen: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Origin {
    pub async fn start(play: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let seen = Arc::new(AtomicUsize::new(0));
        let play: Arc<Play> = Arc::new(play);
        let accepting = tokio::spawn({
            let seen = seen.clone();
            let counts: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
            async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let (seen, play, counts) = (seen.clone(), play.clone(), counts.clone());
                    tokio::spawn(async move {
                        let serve = service_fn(move |request: Request<Incoming>| one(request, seen.clone(), play.clone(), counts.clone()));
                        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), serve).await;
                    });
                }
            }
        });
        Self { addr, seen, accepting }
    }

    /// How many requests so far.
    pub fn count(&self) -> usize {
        self.seen.load(Ordering::Acquire)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn one(
    request: Request<Incoming>,
    seen: Arc<AtomicUsize>,
    play: Arc<Play>,
    counts: Arc<Mutex<HashMap<String, usize>>>,
) -> Result<Response<Script>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let nth = {
        let mut counts = counts.lock();
        let count = counts.entry(path.clone()).or_default();
        *count += 1;
        *count - 1
    };
    let this = Seen { method: head.method, path, headers: head.headers, body, nth };
    seen.fetch_add(1, Ordering::AcqRel);
    match play(&this) {
        Act::Answer(response) => Ok(response),
        Act::Later(response) => response.await.map_err(io::Error::other),
        Act::Close => Err(io::Error::other("the script says so")),
    }
}

/// The origin, the proxy, and how to ask it.
pub struct World {
    pub app: Arc<App>,
    pub origin: Origin,
    pub inbound: SocketAddr,
    pub outbound: SocketAddr,
    pub admin: SocketAddr,
    _dir: tempfile::TempDir,
    pub socket: std::path::PathBuf,
}

impl World {
    /// `inbound` and `outbound` are lists of routes in YAML's flow style, without brackets.
    pub async fn new(inbound: &str, outbound: &str, play: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::with(inbound, outbound, |_| {}, play).await
    }

    /// The same with the configuration changed after it was read, beyond what a file may say (lifetimes below a second).
    pub async fn with(
        inbound: &str,
        outbound: &str,
        change: impl FnOnce(&mut Config),
        play: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let origin = Origin::start(play).await;
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("admin.sock");
        let (at, socket_path) = (origin.addr, socket.display());
        let yaml = format!(
            "inbound: {{listen: \"127.0.0.1:0\", app: \"http://{at}\", routes: [{inbound}]}}\n\
             outbound:\n  listen: 127.0.0.1:0\n  providers: {{openai: {{url: \"http://{at}\"}}}}\n  routes: [{outbound}]\n\
             admin: {{listen: \"127.0.0.1:0\", probes: \"off\", socket: {socket_path}, token: t}}\n\
             store: {{memory: 8MiB}}\ntelemetry: {{log: \"off\"}}\nshutdown: {{drain_delay: 0s, deadline: 1s}}\n"
        );
        let overrides = Overrides::default();
        let mut reading = read::parse_reading(&yaml, "world.yaml", &overrides, &|_| None).unwrap_or_else(|why| panic!("{why}\n{yaml}"));
        change(&mut reading.config);
        let app = Box::pin(App::start(Source { file: None, overrides }, reading)).await.expect("started");
        let [inbound, outbound, admin] =
            [app.addresses.inbound, app.addresses.outbound, app.addresses.admin].map(|address| address.expect("open"));
        Self { app, origin, inbound, outbound, admin, _dir: dir, socket }
    }

    pub fn client(&self, fields: &[(&str, &str)]) -> Client {
        with_fields(Client::tcp(self.inbound).with_timeout(PATIENCE), fields)
    }

    pub async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, fields).await
    }

    /// Asks, and waits until what came is stored: the client has its last byte a moment earlier.
    pub async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
        let answer = self.client(fields).send(method, path, Bytes::new()).await.expect("an answer");
        self.until_landed().await;
        answer
    }

    /// The same at the outbound door.
    pub async fn call(&self, body: &serde_json::Value, fields: &[(&str, &str)]) -> Answer {
        let answer = self.open_call(body, fields).await.whole().await.expect("an answer");
        self.until_landed().await;
        answer
    }

    /// Asks at the outbound door, up to the head of the answer.
    pub async fn open_call(&self, body: &serde_json::Value, fields: &[(&str, &str)]) -> Opened {
        let client = with_fields(Client::tcp(self.outbound).with_timeout(PATIENCE), fields);
        client.open(Method::POST, "/openai/v1/chat/completions", body.to_string().into()).await.expect("an answer")
    }

    /// A page of the admin door.
    pub async fn page(&self, path: &str) -> Answer {
        Client::tcp(self.admin).get(path).await.expect("an answer")
    }

    /// A purge over the admin door; how many.
    pub async fn purge(&self, what: serde_json::Value) -> u64 {
        let client = Client::tcp(self.admin).with_header("authorization", "Bearer t");
        let done = client.post("/api/cache/purge", &what).await.expect("an answer");
        assert_eq!(done.status, StatusCode::OK, "{}", done.text());
        done.json().expect("JSON")["purged"].as_u64().expect("a number")
    }

    /// One number of `/metrics`, by the beginning of its line; 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.app.telemetry.metrics().render();
        let lines = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        lines.filter_map(|value| value.parse::<f64>().ok()).sum()
    }

    /// Waits until `done`.
    pub async fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !done(self) {
                tokio::task::yield_now().await;
            }
        });
        assert!(waited.await.is_ok(), "{what} did not happen");
    }

    /// Waits until no fetch is under way.
    pub async fn until_landed(&self) {
        let landed = |world: &Self| {
            let stats = world.app.shared.cache.stats();
            stats.flights == 0 && stats.memory.in_flight == 0
        };
        self.until("the end of the fetch", landed).await;
    }

    /// Waits until a number of `/metrics` is this one: an exchange is written down a moment after its client has everything.
    pub async fn until_metric(&self, series: &str, value: f64) {
        self.until(&format!("{series} {value}"), |world| (world.metric(series) - value).abs() < 1e-9).await;
    }

    /// Waits until so many requests are under way at a door.
    pub async fn until_in_flight(&self, door: &str, count: usize) {
        let series = format!("outrigger_inflight_requests{{door=\"{door}\"}}");
        self.until(&format!("{count} requests in flight"), |world| world.metric(&series) as usize == count).await;
    }
}

fn with_fields(client: Client, fields: &[(&str, &str)]) -> Client {
    fields.iter().fold(client, |client, (name, value)| client.with_header(name, value))
}

/// One connection that is used again and again.
pub struct Lasting(SendRequest<Full<Bytes>>);

impl Lasting {
    pub async fn to(addr: SocketAddr) -> Self {
        let tcp = TcpStream::connect(addr).await.expect("a connection");
        tcp.set_nodelay(true).expect("an option");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.expect("a connection");
        tokio::spawn(connection);
        Self(sender)
    }

    /// The status, `Cache-Status`, and the body.
    pub async fn get(&mut self, path: &str) -> (StatusCode, String, Bytes) {
        self.0.ready().await.expect("open");
        let request = Request::builder().uri(path).header("host", "a.example").body(Full::default()).expect("a request");
        let response = self.0.send_request(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let said = head.headers.get("cache-status").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        (head.status, said, body.collect().await.expect("a body").to_bytes())
    }
}

/// Starts all at once.
pub fn start<T: Send + 'static>(tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>) -> Vec<JoinHandle<T>> {
    tasks.into_iter().map(tokio::spawn).collect()
}

/// Every result in order.
pub async fn finish<T>(tasks: Vec<JoinHandle<T>>) -> Vec<T> {
    let mut done = Vec::with_capacity(tasks.len());
    for task in tasks {
        done.push(task.await.expect("no panic"));
    }
    done
}

/// What `Cache-Status` says of us.
pub fn said(answer: &Answer) -> &str {
    answer.header("cache-status").unwrap_or_default()
}
