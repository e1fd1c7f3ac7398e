//! A small HTTP client for the command line: one connection per request, bounded in time and size, over TCP or a unix socket.
//!
//! It serves `demo`, `explain`, `health` and tests; the proxy's own upstream client is another.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::clock::Clock;

/// The address that requests go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Sends requests to one endpoint.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    timeout: Duration,
    max_body: usize,
    headers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, #[source] io::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The request is not valid HTTP (a bad path or header).
    #[error("not a request: {0}")]
    Request(#[from] http::Error),
    /// The connection broke, or the answer is not HTTP.
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    /// The body is not JSON.
    #[error("the answer is not JSON: {0}")]
    Json(#[from] serde_json::Error),
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
    /// From the beginning of the request (connecting included) to the last byte.
    pub took: Duration,
}

/// An answer whose body is still coming. Dropping it closes the connection.
#[derive(Debug)]
pub struct Opened {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// From the beginning of the request to the head.
    pub to_head: Duration,
    body: Incoming,
    begun: Instant,
    deadline: Instant,
    timeout: Duration,
    max_body: usize,
    connection: Connection,
}

/// The task that drives the connection; ends with its owner.
#[derive(Debug)]
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// A client of `endpoint`; 30 s for a whole request, 16 MiB for an answer.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, timeout: Duration::from_secs(30), max_body: 16 * 1024 * 1024, headers: HeaderMap::new() }
    }

    /// A client of a TCP address.
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::new(Endpoint::Tcp(addr))
    }

    /// A client of a unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::new(Endpoint::Unix(path.into()))
    }

    /// Sets the time for a whole request, from connecting to the last byte.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Adds a header field to every request; an invalid field is left out.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Sends a POST of JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Answer, ClientError> {
        self.send(Method::POST, path, Bytes::from(body.to_string())).await
    }

    /// Sends a request of any method; a body that is not empty goes as JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        self.open(method, path, body).await?.whole().await
    }

    /// Sends a request and returns at the head of its answer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn open(&self, method: Method, path: &str, body: Bytes) -> Result<Opened, ClientError> {
        let begun = Clock::system().now();
        let deadline = begun + self.timeout;
        let opening = async {
            match &self.endpoint {
                Endpoint::Tcp(addr) => {
                    let stream = TcpStream::connect(addr).await.map_err(|error| ClientError::Connect(addr.to_string(), error))?;
                    // Small requests must not wait for an acknowledgement; an error here means that the peer is gone.
                    let _ = stream.set_nodelay(true);
                    self.exchange(stream, &addr.to_string(), method, path, body).await
                }
                Endpoint::Unix(socket) => {
                    let stream = UnixStream::connect(socket).await;
                    let stream = stream.map_err(|error| ClientError::Connect(socket.display().to_string(), error))?;
                    self.exchange(stream, "localhost", method, path, body).await
                }
            }
        };
        let (response, connection) = timeout_at(deadline, opening).await.map_err(|_| ClientError::Timeout(self.timeout))??;
        let (head, body) = response.into_parts();
        Ok(Opened {
            status: head.status,
            headers: head.headers,
            to_head: begun.elapsed(),
            body,
            begun,
            deadline,
            timeout: self.timeout,
            max_body: self.max_body,
            connection,
        })
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(http::Response<Incoming>, Connection), ClientError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = Connection(tokio::spawn(async move {
            // The request on the connection gets the same error.
            let _ = connection.await;
        }));
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let mut request = request.body(Full::new(body))?;
        request.headers_mut().extend(self.headers.clone());
        Ok((sender.send_request(request).await?, connection))
    }
}

impl Answer {
    /// A header field as text; `None` if absent or not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// The body is not JSON.
    pub fn json(&self) -> Result<serde_json::Value, ClientError> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// `Retry-After` as a wait: whole seconds, or a date against `wall` (RFC 9110 section 10.2.3).
    pub fn retry_after(&self, wall: SystemTime) -> Option<Duration> {
        let value = self.header("retry-after")?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(value).ok().map(|at| at.duration_since(wall).unwrap_or_default()),
        }
    }
}

impl Opened {
    /// The next piece of the body; `None` at its end. Trailers are left out.
    ///
    /// # Errors
    /// The body breaks or the time is over.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = timeout_at(self.deadline, self.body.frame()).await.map_err(|_| ClientError::Timeout(self.timeout))?;
            match frame {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Time since the beginning of the request.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The rest of the body.
    ///
    /// # Errors
    /// The body breaks, is too large, or the time is over.
    pub async fn whole(mut self) -> Result<Answer, ClientError> {
        let mut body = Vec::new();
        while let Some(piece) = self.next().await? {
            if body.len() + piece.len() > self.max_body {
                return Err(ClientError::TooLarge(self.max_body));
            }
            body.extend_from_slice(&piece);
        }
        let took = self.elapsed();
        drop(self.connection);
        Ok(Answer { status: self.status, headers: self.headers, body: Bytes::from(body), took })
    }
}
