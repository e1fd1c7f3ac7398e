//! The proxy's own errands over HTTP/1.1: notices, checks, error reports. One connection per request, bounded in time and size.
//!
//! Requests of clients never pass here: they have pools and policies. An errand runs on the side runtime.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    clock::Instant,
    config::{Authorities, tls::system_roots},
    resolve::Resolver,
};

/// Runs errands. Cheap to clone.
#[derive(Clone)]
pub struct Fetch(Arc<Inner>);

struct Inner {
    names: Resolver,
    /// TLS by the system's authorities; made at its first use.
    system: Mutex<Option<TlsConnector>>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Errand {
    /// Its method.
    pub method: Method,
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Its fields; Host and User-Agent are added.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Time for all of it.
    pub timeout: Duration,
    /// Most bytes of the answer's body that are read; the rest is left.
    pub max_body: usize,
    /// Authorities beside the system's.
    pub authorities: Authorities,
}

impl Errand {
    /// A request to `url` with the usual bounds: 15 s, 64 KiB.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(15),
            max_body: 64 << 10,
            authorities: Authorities::default(),
        }
    }

    /// With a JSON body.
    #[must_use]
    pub fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }
}

/// What an address said of itself.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// The address.
    pub address: Option<SocketAddr>,
    /// The last second in which its certificate is valid, since 1970.
    pub not_after: Option<i64>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body, as far as it is wanted.
    pub body: Bytes,
    /// From the beginning to the end of the body.
    pub took: Duration,
    /// Who answered.
    pub peer: Peer,
}

impl Answer {
    /// `Retry-After` as a wait: whole seconds, or a date against `wall` (RFC 9110 section 10.2.3).
    pub fn retry_after(&self, wall: std::time::SystemTime) -> Option<Duration> {
        let value = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        match value.parse::<f64>() {
            Ok(seconds) if (0.0..1e9).contains(&seconds) => Some(Duration::from_secs_f64(seconds)),
            _ => httpdate::parse_http_date(value).ok().map(|at| at.duration_since(wall).unwrap_or_default()),
        }
    }
}

/// Why there is no answer. The text holds no part of the URL but its host.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{says}")]
pub struct Failed {
    says: String,
    /// What was known of the peer by then.
    pub peer: Peer,
}

impl Failed {
    fn new(says: impl Into<String>) -> Self {
        Self { says: says.into(), peer: Peer::default() }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Fetch {
    /// Runs errands; `names` looks up hosts.
    pub fn new(names: Resolver) -> Self {
        Self(Arc::new(Inner { names, system: Mutex::default() }))
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// There is no answer in time, or none that is HTTP.
    pub async fn send(&self, errand: Errand) -> Result<Answer, Failed> {
        let within = errand.timeout;
        // Boxed: a client's future is large, and each task that may send one would hold it.
        match timeout(within, Box::pin(self.exchange(errand))).await {
            Ok(done) => done,
            Err(_) => Err(Failed::new(format!("no answer within {within:?}"))),
        }
    }

    /// Opens a connection and closes it: TCP, and TLS with it if `tls` says so. Gives the time until it was open.
    ///
    /// # Errors
    /// There is no connection in time.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        tls: bool,
        authorities: &Authorities,
        within: Duration,
    ) -> Result<(Peer, Duration), Failed> {
        let begun = Instant::now();
        let opening = async {
            let mut peer = Peer::default();
            let tcp = self.tcp(host, port, &mut peer).await?;
            if tls {
                self.secure(host, tcp, authorities, &mut peer).await?;
            }
            Ok((peer, begun.elapsed()))
        };
        match timeout(within, Box::pin(opening)).await {
            Ok(done) => done,
            Err(_) => Err(Failed::new(format!("no connection to {host}:{port} within {within:?}"))),
        }
    }

    async fn exchange(&self, errand: Errand) -> Result<Answer, Failed> {
        let begun = Instant::now();
        let wrong = |why: &str| Failed::new(format!("the URL {why}"));
        let uri: Uri = errand.url.parse().map_err(|_| wrong("cannot be read"))?;
        let host = uri.host().ok_or_else(|| wrong("has no host"))?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let mut peer = Peer::default();
        let tcp = self.tcp(&host, port, &mut peer).await?;
        let stream: Box<dyn Stream> = match tls {
            false => Box::new(tcp),
            true => Box::new(self.secure(&host, tcp, &errand.authorities, &mut peer).await?),
        };
        let fail = |what: &str, error: &dyn fmt::Display| Failed { says: format!("{what} {host}: {error}"), peer: peer.clone() };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| fail("no HTTP with", &error))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(errand.method)
            .uri(path)
            .body(Full::new(errand.body))
            .map_err(|error| fail("no request to", &error))?;
        *request.headers_mut() = errand.headers;
        let authority = uri.authority().map_or(host.as_str(), |authority| authority.as_str());
        let own = [(header::HOST, authority), (header::USER_AGENT, concat!("outrigger/", env!("CARGO_PKG_VERSION")))];
        for (name, value) in own {
            if let (false, Ok(value)) = (request.headers().contains_key(&name), HeaderValue::from_str(value)) {
                request.headers_mut().insert(name, value);
            }
        }
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let work = async {
            let response = sender.send_request(request).await.map_err(|error| fail("no answer from", &error))?;
            let (parts, body) = response.into_parts();
            let body = read(body, errand.max_body).await.map_err(|error| fail("half an answer from", &error))?;
            Ok(Answer { status: parts.status, headers: parts.headers, body, took: begun.elapsed(), peer: peer.clone() })
        };
        // The connection is driven here: it ends with the request.
        let mut work = std::pin::pin!(work);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            done = &mut work => done,
            _ = &mut connection => work.await,
        }
    }

    async fn tcp(&self, host: &str, port: u16, peer: &mut Peer) -> Result<TcpStream, Failed> {
        let found = self.0.names.resolve(host, port, false).await.map_err(|why| Failed::new(format!("{host} has no address: {why}")))?;
        let tcp = TcpStream::connect(&found.addresses[..]).await.map_err(|error| {
            self.0.names.doubt(host);
            Failed::new(format!("no connection to {host}:{port}: {error}"))
        })?;
        peer.address = tcp.peer_addr().ok();
        // An error here means that the peer is gone; the request tells it.
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }

    async fn secure(&self, host: &str, tcp: TcpStream, authorities: &Authorities, peer: &mut Peer) -> Result<TlsStream<TcpStream>, Failed> {
        let fail = |why: String, peer: &Peer| Failed { says: format!("no TLS with {host}: {why}"), peer: peer.clone() };
        let connector = self.connector(authorities).map_err(|why| fail(why, peer))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|error| fail(error.to_string(), peer))?;
        let stream = connector.connect(name, tcp).await.map_err(|error| fail(error.to_string(), peer))?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        peer.not_after = leaf.and_then(|leaf| {
            let (_, leaf) = x509_parser::parse_x509_certificate(leaf).ok()?;
            Some(leaf.validity().not_after.timestamp())
        });
        Ok(stream)
    }

    fn connector(&self, authorities: &Authorities) -> Result<TlsConnector, String> {
        if !authorities.0.is_empty() {
            let mut roots = system_roots();
            authorities.add_to(&mut roots)?;
            return connector(roots);
        }
        let mut system = self.0.system.lock();
        if let Some(known) = &*system {
            return Ok(known.clone());
        }
        Ok(system.insert(connector(system_roots())?).clone())
    }
}

/// The body, at most `most` bytes of it.
async fn read(body: hyper::body::Incoming, most: usize) -> Result<Bytes, String> {
    let mut body = std::pin::pin!(Limited::new(body, usize::MAX));
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Ok(data) = frame.into_data() {
            let room = most - all.len();
            all.extend_from_slice(&data[..data.len().min(room)]);
            if all.len() >= most {
                break;
            }
        }
    }
    Ok(Bytes::from(all))
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers one request with this text; gives what was asked.
    async fn once(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let at = listener.local_addr().expect("an address");
        let asked = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("accepts");
            let (mut all, mut room) = (Vec::new(), [0; 4096]);
            while !all.windows(4).any(|end| end == b"\r\n\r\n") {
                let n = socket.read(&mut room).await.expect("reads");
                all.extend_from_slice(&room[..n]);
            }
            socket.write_all(answer.as_bytes()).await.expect("writes");
            String::from_utf8_lossy(&all).into_owned()
        });
        (at, asked)
    }

    #[tokio::test]
    async fn an_errand_is_one_request_and_a_bounded_answer() {
        let (at, asked) = once("HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 10\r\n\r\n0123456789").await;
        let fetch = Fetch::new(Resolver::default());
        let errand = Errand { max_body: 4, ..Errand::new(Method::POST, format!("http://{at}/a?b=c")).json(&serde_json::json!({"x": 1})) };
        let answer = fetch.send(errand).await.expect("answers");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (429, &b"0123"[..]));
        assert_eq!(answer.retry_after(std::time::UNIX_EPOCH), Some(Duration::from_secs(7)));
        let asked = asked.await.expect("ends");
        assert!(asked.starts_with("POST /a?b=c HTTP/1.1\r\n") && asked.contains(&format!("host: {at}\r\n")), "{asked}");
    }

    #[tokio::test]
    async fn a_failure_names_the_host_and_no_more_of_the_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let at = listener.local_addr().expect("an address");
        drop(listener);
        let fetch = Fetch::new(Resolver::default());
        let said = fetch.send(Errand::new(Method::GET, format!("http://{at}/secretpart"))).await.expect_err("nobody listens").to_string();
        assert!(said.contains("127.0.0.1") && !said.contains("secretpart"), "{said}");
        let within = Duration::from_secs(5);
        assert!(fetch.connect("127.0.0.1", at.port(), false, &Authorities::default(), within).await.is_err());
    }
}
