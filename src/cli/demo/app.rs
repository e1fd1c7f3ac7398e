//! The app of the demo: an ordinary small web service that knows nothing of the proxy.
//!
//! It calls a model through a base URL. It passes on the `baggage`, `traceparent` and `x-request-id` of its request, as
//! OpenTelemetry's instrumentation does in an app without a line of code.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, lookup_host},
    task::JoinSet,
};

use crate::cli::client::{Client, ClientError};

/// How long the app takes to make the product list.
const SLOW: Duration = Duration::from_millis(80);

/// Largest request body.
const MOST_BODY: usize = 1024 * 1024;

/// The fields that OpenTelemetry's instrumentation and request-id middlewares pass on.
const PROPAGATED: [&str; 3] = ["baggage", "traceparent", "x-request-id"];

const MODEL: &str = "gpt-4o-mini";

type AppBody = UnsyncBoxBody<Bytes, io::Error>;

/// The demo's app. Clones are the same app.
#[derive(Clone)]
pub struct DemoApp {
    listener: Arc<TcpListener>,
    addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    model_base: Uri,
    /// How often the product list was made.
    listed: AtomicU64,
    products: Mutex<Vec<String>>,
    flaky: Mutex<Flaky>,
    flaky_calls: AtomicU64,
}

struct Flaky {
    next: VecDeque<u16>,
    then: u16,
}

impl DemoApp {
    /// Opens the port (0: any). The app calls models at `model_base`, an `http` URL such as `http://127.0.0.1:8081/openai/v1`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(addr: SocketAddr, model_base: Uri) -> io::Result<Self> {
        let listener = Arc::new(TcpListener::bind(addr).await?);
        let addr = listener.local_addr()?;
        let state = State {
            model_base,
            listed: AtomicU64::new(0),
            products: Mutex::new(["anchor", "bilge pump", "compass"].map(str::to_owned).to_vec()),
            flaky: Mutex::new(Flaky { next: VecDeque::new(), then: 503 }),
            flaky_calls: AtomicU64::new(0),
        };
        Ok(Self { listener, addr, state: Arc::new(state) })
    }

    /// The bound address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sets the statuses of the next answers of `/flaky`, and of all answers after them (503 at first).
    pub fn flaky(&self, next: &[u16], then: u16) {
        *self.state.flaky.lock() = Flaky { next: next.iter().copied().collect(), then };
    }

    /// The number of calls of `/flaky` that reached the app.
    pub fn flaky_calls(&self) -> u64 {
        self.state.flaky_calls.load(Ordering::Relaxed)
    }

    /// The number of times the app made the product list.
    pub fn listed(&self) -> u64 {
        self.state.listed.load(Ordering::Relaxed)
    }

    /// Serves until `shutdown`; then cuts connections.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        // An error here means that the peer is gone.
                        let _ = stream.set_nodelay(true);
                        let state = self.state.clone();
                        connections.spawn(async move {
                            let service = service_fn(move |request| answer(state.clone(), request));
                            // The end of a connection concerns the client alone.
                            let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<AppBody>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MOST_BODY).collect().await else {
        return Ok(json_answer(StatusCode::PAYLOAD_TOO_LARGE, &json!({"error": "too large"})));
    };
    let body = body.to_bytes();
    Ok(match (&parts.method, parts.uri.path()) {
        (&Method::GET | &Method::HEAD, "/") => page(),
        (&Method::GET | &Method::HEAD, "/api/products") => products(&state).await,
        (&Method::POST, "/api/products") => add_product(&state, &body),
        (&Method::POST, "/chat") => chat(&state, &parts.headers, &body).await,
        (&Method::GET, "/events") => events(),
        (_, "/flaky") => flaky(&state),
        _ => json_answer(StatusCode::NOT_FOUND, &json!({"error": "not found"})),
    })
}

fn page() -> Response<AppBody> {
    let html = "<!doctype html><title>Harbour shop</title><h1>Harbour shop</h1>\
        <p><a href=\"/api/products\">products</a>, POST /chat, <a href=\"/events\">events</a>, <a href=\"/flaky\">flaky</a></p>\n";
    respond(StatusCode::OK, "text/html; charset=utf-8", html)
}

async fn products(state: &State) -> Response<AppBody> {
    tokio::time::sleep(SLOW).await;
    let made = state.listed.fetch_add(1, Ordering::Relaxed) + 1;
    let mut response = json_answer(StatusCode::OK, &json!({"products": *state.products.lock(), "made": made}));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
    response
}

fn add_product(state: &State, body: &[u8]) -> Response<AppBody> {
    const MOST: usize = 1_000;
    let name = serde_json::from_slice::<Value>(body).ok().and_then(|body| body["name"].as_str().map(str::to_owned));
    let mut products = state.products.lock();
    match name {
        Some(name) if products.len() < MOST => {
            products.push(name);
            json_answer(StatusCode::CREATED, &json!({"products": *products}))
        }
        _ => json_answer(StatusCode::BAD_REQUEST, &json!({"error": "a JSON object with a name is wanted"})),
    }
}

/// Asks the model on behalf of a user of the app.
async fn chat(state: &State, inbound: &HeaderMap, body: &[u8]) -> Response<AppBody> {
    let prompt = serde_json::from_slice::<Value>(body).ok().and_then(|body| body["prompt"].as_str().map(str::to_owned));
    let Some(prompt) = prompt else {
        return json_answer(StatusCode::BAD_REQUEST, &json!({"error": "a JSON object with a prompt is wanted"}));
    };
    match ask(&state.model_base, inbound, &prompt).await {
        Ok((StatusCode::OK, answer)) => {
            json_answer(StatusCode::OK, &json!({"text": answer["choices"][0]["message"]["content"], "usage": answer["usage"]}))
        }
        // An app passes on a 429, and hides other failures.
        Ok((StatusCode::TOO_MANY_REQUESTS, answer)) => json_answer(StatusCode::TOO_MANY_REQUESTS, &answer),
        Ok((status, answer)) => json_answer(StatusCode::BAD_GATEWAY, &json!({"model_status": status.as_u16(), "answer": answer})),
        Err(error) => json_answer(StatusCode::BAD_GATEWAY, &json!({"error": error.to_string()})),
    }
}

async fn ask(base: &Uri, inbound: &HeaderMap, prompt: &str) -> Result<(StatusCode, Value), ClientError> {
    let host = base.authority().map(ToString::to_string).unwrap_or_default();
    let unreachable = |error| ClientError::Connect(host.clone(), error);
    let target = if base.port().is_some() { host.clone() } else { format!("{host}:80") };
    let addr = lookup_host(target).await.map_err(unreachable)?.next();
    let addr = addr.ok_or_else(|| unreachable(io::ErrorKind::NotFound.into()))?;
    let mut client = Client::tcp(addr).with_header("authorization", "Bearer sk-demo-app").with_header("user-agent", "harbour-shop/1.0");
    for name in PROPAGATED {
        // Several fields of one name form one list.
        let values: Vec<&str> = inbound.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        if !values.is_empty() {
            client = client.with_header(name, &values.join(","));
        }
    }
    let path = format!("{}/chat/completions", base.path().trim_end_matches('/'));
    let answer = client.post(&path, &json!({"model": MODEL, "messages": [{"role": "user", "content": prompt}]})).await?;
    Ok((answer.status, answer.json()?))
}

/// Five events, one every 50 ms.
fn events() -> Response<AppBody> {
    let stream = futures_util::stream::unfold(1_u32, |n| async move {
        if n > 5 {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok(Frame::data(Bytes::from(format!("id: {n}\ndata: tide {n}\n\n")))), n + 1))
    });
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn flaky(state: &State) -> Response<AppBody> {
    state.flaky_calls.fetch_add(1, Ordering::Relaxed);
    let mut flaky = state.flaky.lock();
    let status = flaky.next.pop_front().unwrap_or(flaky.then);
    json_answer(StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), &json!({"status": status}))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<AppBody> {
    respond(status, "application/json", value.to_string())
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<AppBody> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::mock::{Mock, Options};

    #[tokio::test]
    async fn a_chat_passes_on_whom_it_is_for_and_nothing_else() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mock = Mock::bind(any, Options::default()).await.unwrap();
        let base: Uri = format!("http://{}/v1", mock.addr()).parse().unwrap();
        let app = DemoApp::bind(any, base).await.unwrap();
        let (model, served) = (mock.clone(), app.clone());
        tokio::spawn(async move { model.run(std::future::pending()).await });
        tokio::spawn(async move { served.run(std::future::pending()).await });
        let client = Client::tcp(app.addr()).with_header("baggage", "outrigger=abc").with_header("x-user-id", "alice");
        let answer = client.post("/chat", &json!({"prompt": "hello"})).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(!answer.json().unwrap()["text"].as_str().unwrap().is_empty());
        let seen = &mock.requests()[0];
        assert_eq!(seen.header("baggage"), Some("outrigger=abc"));
        assert_eq!(seen.header("x-user-id"), None);
        let events = client.get("/events").await.unwrap();
        assert_eq!(events.text().matches("data: tide").count(), 5);
    }

    #[tokio::test]
    async fn flaky_follows_its_plan() {
        let app = DemoApp::bind(SocketAddr::from(([127, 0, 0, 1], 0)), Uri::from_static("http://localhost")).await.unwrap();
        let served = app.clone();
        tokio::spawn(async move { served.run(std::future::pending()).await });
        app.flaky(&[503, 200], 404);
        let client = Client::tcp(app.addr());
        for status in [503, 200, 404, 404] {
            assert_eq!(client.get("/flaky").await.unwrap().status, status);
        }
        assert_eq!(app.flaky_calls(), 4);
    }
}
