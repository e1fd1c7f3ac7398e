//! The command line's way to a running proxy: one request over the admin socket.

use std::{io, path::Path, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What the proxy said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body, as it came.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `None` if it is none.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no running proxy answers on {path}: {error}; if its socket is elsewhere, name it with --socket")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The path of the request is none.
    #[error("not a request: {0}")]
    Request(#[from] http::Error),
    /// The connection broke.
    #[error("the proxy did not answer: {0}")]
    Broken(#[from] hyper::Error),
    /// The answer broke off or was too long.
    #[error("the proxy's answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("the proxy did not answer in {TIMEOUT:?}")]
    Timeout,
}

/// Sends one request over the socket and reads the whole answer, whatever its status.
pub async fn request(socket: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, ClientError> {
    tokio::time::timeout(TIMEOUT, send(socket, method, path, body)).await.map_err(|_| ClientError::Timeout)?
}

async fn send(socket: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, ClientError> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    let request = match body {
        Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Full::from(body.to_string()))?,
        None => request.body(Full::default())?,
    };
    let unix = UnixStream::connect(socket).await.map_err(|error| ClientError::NotRunning { path: socket.to_owned(), error })?;
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(unix)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(ClientError::Body)?;
        Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // the exchange tells what became of it
        _ = &mut connection => exchange.await,
    }
}
