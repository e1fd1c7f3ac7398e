//! The HTTP client of the exporters. The SDK calls it from threads without a runtime, where an async client would panic: every
//! request is a task of the side runtime, and the caller only waits for that task.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
    sync::Mutex,
};
use tokio_rustls::TlsConnector;

use super::OtlpError;
use crate::{
    config::{Origin, Scheme},
    resolve::Resolver,
};

/// Longest answer of a collector that is read.
const MAX_ANSWER: usize = 1024 * 1024;

/// The collector answered with another status than 2xx.
#[derive(Debug, thiserror::Error)]
#[error("the collector answered {0}")]
pub struct CollectorSaid(pub StatusCode);

/// Sends to one collector over one kept connection. Cheap to clone.
#[derive(Clone)]
pub struct OtlpClient(Arc<Inner>);

struct Inner {
    origin: Origin,
    host: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Option<TlsConnector>,
    timeout: Duration,
    side: Handle,
    names: Resolver,
    idle: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl OtlpClient {
    /// A client for `origin` that adds `headers` to every request and gives each `timeout`. `roots` replace the system's roots.
    pub fn new(
        origin: Origin,
        headers: Vec<(HeaderName, HeaderValue)>,
        timeout: Duration,
        side: Handle,
        names: Resolver,
        roots: Option<RootCertStore>,
    ) -> Result<Self, OtlpError> {
        let host = HeaderValue::from_str(&origin.authority()).map_err(|error| OtlpError::Endpoint(error.to_string()))?;
        let tls = match origin.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(connector(roots.unwrap_or_else(crate::config::tls::system_roots))?),
        };
        Ok(Self(Arc::new(Inner { origin, host, headers, tls, timeout, side, names, idle: Mutex::new(None) })))
    }

    /// The URL of a signal: the endpoint and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.0.origin)
    }

    /// Sends a body to the endpoint and `path`; gives the answer's body. Any status but 2xx is an error: [`CollectorSaid`].
    pub async fn post(&self, path: &str, content_encoding: Option<&'static str>, body: Bytes) -> Result<Bytes, HttpError> {
        let mut request = Request::post(self.url(path)).header(header::CONTENT_TYPE, "application/x-protobuf");
        if let Some(encoding) = content_encoding {
            request = request.header(header::CONTENT_ENCODING, encoding);
        }
        let response = self.send_bytes(request.body(body)?).await?;
        if !response.status().is_success() {
            return Err(CollectorSaid(response.status()).into());
        }
        Ok(response.into_body())
    }
}

impl HttpClient for OtlpClient {
    fn send_bytes<'a, 'async_trait>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        Self: 'async_trait,
    {
        let inner = self.0.clone();
        let task = self.0.side.spawn(async move {
            tokio::time::timeout(inner.timeout, inner.send(request)).await.map_err(|_| format!("no answer in {:?}", inner.timeout))?
        });
        Box::pin(async move { task.await? })
    }
}

impl Inner {
    async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        *request.uri_mut() = path.parse()?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request.headers_mut().insert(header::HOST, self.host.clone());
        let kept = self.idle.lock().await.take();
        if let Some(mut kept) = kept
            && kept.ready().await.is_ok()
            && let Ok(response) = self.exchange(kept, request.clone()).await
        {
            return Ok(response);
        }
        // no connection was kept, or the collector closed it meanwhile
        self.exchange(self.connect().await?, request).await
    }

    async fn exchange(&self, mut sender: SendRequest<Full<Bytes>>, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = sender.send_request(request.map(Full::new)).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
        *self.idle.lock().await = Some(sender);
        Ok(Response::from_parts(parts, body))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let (host, port) = (self.origin.host.as_str(), self.origin.port);
        let unknown = |why| format!("{host} has no address: {why}");
        // The runtime's own lookup is avoided: its blocking threads would hang with the name server.
        let found = self.names.resolve(host, port, false).await.map_err(unknown)?;
        let tcp = TcpStream::connect(&found.addresses[..]).await.inspect_err(|_| self.names.doubt(host))?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => handshake(tcp).await,
            Some(tls) => handshake(tls.connect(ServerName::try_from(self.origin.host.clone())?, tcp).await?).await,
        }
    }
}

async fn handshake(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<SendRequest<Full<Bytes>>, HttpError> {
    let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the OTLP collector broke");
        }
    });
    Ok(sender)
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl fmt::Debug for OtlpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpClient").field("origin", &self.0.origin).finish_non_exhaustive()
    }
}
