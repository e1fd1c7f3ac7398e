//! The command line's way to a running proxy: one request over the admin socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::owner::{Distrust, trust, trust_socket};
use crate::config::{temporary, usual_socket};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The proxy's answer.
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
    /// No process listens.
    #[error("no running proxy answers on {path}: {error}; if its socket is elsewhere, name it with --socket")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The socket belongs to another user.
    #[error("{path} is not spoken to: {why}")]
    NotOurs {
        /// The socket.
        path: PathBuf,
        /// Why not.
        why: Distrust,
    },
    /// The path of the request is not valid.
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

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let path = || socket.to_owned();
    trust_socket(socket).map_err(|why| ClientError::NotOurs { path: path(), why })?;
    let unix = UnixStream::connect(socket).await.map_err(|error| ClientError::NotRunning { path: path(), error })?;
    // A file name can change hands; the peer's credentials name the process that listens.
    let listener = unix.peer_cred().map_err(|error| ClientError::NotRunning { path: path(), error })?;
    let who = || format!("who listens on {}", socket.display());
    trust(who, listener.uid()).map_err(|why| ClientError::NotOurs { path: path(), why })?;
    Ok(unix)
}

/// The present place of a socket at the old default path (directly among the temporary files): in a directory of this user alone.
fn place_of_old(socket: &Path, env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let name = socket.file_name()?.to_str()?;
    let port = name.strip_prefix("outrigger-")?.strip_suffix(".sock")?.parse().ok()?;
    (socket.parent() == Some(&temporary(env))).then(|| usual_socket(port, env))
}

async fn send(socket: &Path, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, ClientError> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    let request = match body {
        Some(body) => request.header(header::CONTENT_TYPE, "application/json").body(Full::from(body.to_string()))?,
        None => request.body(Full::default())?,
    };
    let unix = match connect(socket).await {
        Err(ClientError::NotRunning { path, error }) => match place_of_old(socket, &|name| std::env::var(name).ok()) {
            Some(now) => connect(&now).await?,
            None => return Err(ClientError::NotRunning { path, error }),
        },
        connected => connected?,
    };
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
        // the exchange itself gives the connection's error
        _ = &mut connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_old_leads_to_the_private_one_and_every_other_is_as_said() {
        let dir = tempfile::tempdir().expect("a directory");
        let env = |name: &str| (name == "TMPDIR").then(|| dir.path().display().to_string());
        let old = dir.path().join("outrigger-9901.sock");
        let now = place_of_old(&old, &env).expect("another");
        assert!(now == usual_socket(9901, &env) && now.parent() != old.parent() && now.file_name() == old.file_name(), "{now:?}");
        for said in [dir.path().join("admin.sock"), PathBuf::from("/run/outrigger-9901.sock"), PathBuf::from("outrigger-9901.sock")] {
            assert_eq!(place_of_old(&said, &env), None);
        }
    }
}
