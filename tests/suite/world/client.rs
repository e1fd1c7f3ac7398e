//! Clients: whoever speaks to one of the proxy's doors, over a pipe.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use outrigger::listen::Listener;
use serde_json::Value;
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{origin::PIPE, secs};

/// Nothing in a world takes longer than this, in the world's time.
const PATIENCE: Duration = secs(3600);

/// A request's body.
pub type Upload = UnsyncBoxBody<Bytes, io::Error>;

/// Speaks to one door from one address.
#[derive(Clone)]
pub struct Client {
    door: Rc<Listener>,
    peer: SocketAddr,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
    /// The body ended before its end.
    pub broken: bool,
    /// From the request's first byte to the answer's last.
    pub took: Duration,
}

/// An answer whose body is still coming. Dropping it closes the connection.
pub struct Opened {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    response: Option<Response<Incoming>>,
    begun: Instant,
    _connection: Connection,
}

/// A connection that is kept for many requests.
pub struct Connection {
    sender: SendRequest<Upload>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Client {
    /// Speaks to `door` from `peer`.
    pub fn new(door: Rc<Listener>, peer: &str) -> Self {
        Self { door, peer: SocketAddr::new(peer.parse().expect("an address"), 40_000) }
    }

    /// The same door from another address.
    pub fn from(&self, peer: &str) -> Self {
        Self::new(self.door.clone(), peer)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path), "").await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.ask(Request::post(path), body).await
    }

    /// POST of JSON.
    pub async fn call(&self, path: &str, body: &Value) -> Answer {
        self.ask(json(path), body.to_string()).await
    }

    /// Any request with a whole body, over a connection of its own.
    pub async fn ask(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        self.open(request, body).await.whole().await
    }

    /// As [`Self::ask`], up to the answer's head.
    pub async fn open(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Opened {
        self.send(request.body(full(body)).expect("a request")).await
    }

    /// As [`Self::open`], with any body.
    pub async fn send(&self, request: Request<Upload>) -> Opened {
        let begun = Instant::now();
        let mut connection = self.connect().await;
        let response = timeout(PATIENCE, connection.sender.send_request(named(request))).await.expect("an answer in time");
        let response = response.unwrap_or_else(|error| panic!("no answer: {error:?}"));
        let (status, headers) = (response.status(), response.headers().clone());
        Opened { status, headers, response: Some(response), begun, _connection: connection }
    }

    /// A connection for many requests.
    pub async fn connect(&self) -> Connection {
        let (sender, connection) = http1::handshake(TokioIo::new(self.raw())).await.expect("a handshake");
        let task = tokio::task::spawn_local(async move {
            // Its error is also the error of the request it carries.
            let _ = connection.with_upgrades().await;
        });
        Connection { sender, task }
    }

    /// A connection whose bytes the test writes itself.
    pub fn raw(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        tokio::task::spawn_local(self.door.clone().serve(theirs, self.peer));
        ours
    }
}

impl Connection {
    /// GET; `Err`: the connection is at its end.
    pub async fn get(&mut self, path: &str) -> Result<Answer, hyper::Error> {
        self.ask(Request::get(path), "").await
    }

    /// Any request; `Err`: the connection is at its end.
    pub async fn ask(&mut self, request: http::request::Builder, body: impl Into<Bytes>) -> Result<Answer, hyper::Error> {
        let begun = Instant::now();
        timeout(PATIENCE, self.sender.ready()).await.expect("in time")?;
        let request = named(request.body(full(body)).expect("a request"));
        let response = timeout(PATIENCE, self.sender.send_request(request)).await.expect("an answer in time")?;
        Ok(collect(response, begun).await)
    }
}

impl Opened {
    /// The next piece of data; `None` at the end; `Err` when the body breaks.
    pub async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let body = self.response.as_mut().expect("not taken").body_mut();
        loop {
            match timeout(PATIENCE, body.frame()).await.expect("a piece in time")? {
                Err(error) => return Some(Err(error)),
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
            }
        }
    }

    /// The next piece of data, as text; panics where there is none.
    pub async fn text(&mut self) -> String {
        String::from_utf8(self.next().await.expect("a piece").expect("unbroken").to_vec()).expect("text")
    }

    /// The rest of it.
    pub async fn whole(mut self) -> Answer {
        collect(self.response.take().expect("not taken"), self.begun).await
    }

    /// The bytes after a 101.
    pub async fn upgraded(mut self) -> (TokioIo<hyper::upgrade::Upgraded>, Self) {
        let response = self.response.take().expect("not taken");
        (TokioIo::new(hyper::upgrade::on(response).await.expect("an upgrade")), self)
    }
}

impl Answer {
    /// A header field; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Seconds of `Retry-After`.
    pub fn retry_after(&self) -> Duration {
        secs(self.header("retry-after").parse().unwrap_or_else(|_| panic!("no Retry-After in {:?}", self.headers)))
    }
}

/// A body that the test sends piece by piece; it ends when the sender is dropped, and breaks on an `Err`.
pub fn upload() -> (mpsc::Sender<io::Result<Frame<Bytes>>>, Upload) {
    let (sender, receiver) = mpsc::channel(1);
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) });
    (sender, StreamBody::new(pieces).boxed_unsync())
}

/// A POST of JSON.
pub fn json(path: &str) -> http::request::Builder {
    Request::post(path).header(header::CONTENT_TYPE, "application/json")
}

fn full(body: impl Into<Bytes>) -> Upload {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

fn named(mut request: Request<Upload>) -> Request<Upload> {
    // Model calls come from the app beside the proxy, everything else from afar.
    let host = if request.headers().contains_key(header::CONTENT_TYPE) && request.uri().path().contains("/v1/") {
        "localhost"
    } else {
        "shop.example"
    };
    request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static(host));
    request
}

async fn collect(response: Response<Incoming>, begun: Instant) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers, mut broken) = (Vec::new(), None, false);
    while let Some(frame) = timeout(PATIENCE, incoming.frame()).await.expect("a piece in time") {
        match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => body.extend_from_slice(&piece),
            Ok(Err(frame)) => trailers = frame.into_trailers().ok(),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    Answer { status: head.status, headers: head.headers, body: body.into(), trailers, broken, took: begun.elapsed() }
}
