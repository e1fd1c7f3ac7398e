//! Certificates, a proxy whose file can change, an origin and a client that speak what the test says.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use outrigger::{
    app::{App, Source},
    config::read::{self, Overrides},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Nothing here takes longer unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for these names, with more to say.
    pub fn issue(&self, names: &[&str], more: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        more(&mut params);
        let key = KeyPair::generate().expect("a key");
        Pair { cert: params.signed_by(&key, &self.issuer).expect("signed").pem(), key: key.serialize_pem() }
    }

    pub fn plain(&self, names: &[&str]) -> Pair {
        self.issue(names, |_| {})
    }
}

/// A client's certificate with a URI as its name.
pub fn with_uri(uri: &str) -> impl FnOnce(&mut CertificateParams) {
    let uri = SanType::URI(uri.try_into().expect("ascii"));
    |params| params.subject_alt_names.push(uri)
}

/// Files of a test.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    /// `NAME.crt` and `NAME.key`.
    pub fn pair(&self, name: &str, pair: &Pair) {
        self.write(&format!("{name}.crt"), &pair.cert);
        self.write(&format!("{name}.key"), &pair.key);
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The running proxy.
pub struct Proxy {
    pub app: Arc<App>,
    pub address: SocketAddr,
}

/// Starts one worker with `inbound` (a YAML block, indented by two) from a file beside the certificates.
pub async fn start(files: &Files, inbound: &str) -> Proxy {
    begin(files, &format!("inbound:\n  listen: 127.0.0.1:0\n{inbound}")).await
}

/// Starts the outbound door before one provider, `house`; its callers are told what is wrong with it.
pub async fn start_outbound(files: &Files, house: &str) -> Proxy {
    begin(files, &format!("outbound:\n  listen: 127.0.0.1:0\n  providers:\n    house: {{api: plain, {house}}}\n")).await
}

async fn begin(files: &Files, doors: &str) -> Proxy {
    let text = format!(
        "{doors}workers: 1\nadmin: {{listen: off, probes: off, socket: off}}\n\
         telemetry: {{log: off}}\nshutdown: {{drain_delay: 0s, deadline: 2s}}\n"
    );
    let file = files.write("proxy.yaml", &text);
    let overrides = Overrides { memory_limit: Some(512 << 20), ..Overrides::default() };
    let reading = read::load_reading(&file, &overrides, &|_| None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let app = App::start(Source { file: Some(file), overrides }, reading).await.unwrap_or_else(|error| panic!("{error}"));
    Proxy { address: app.addresses.inbound.or(app.addresses.outbound).expect("open"), app }
}

impl Proxy {
    /// Waits until a metric has this line.
    pub async fn metric(&self, line: &str) {
        let seen = tokio::time::timeout(PATIENCE, async {
            while !self.app.telemetry.metrics().render().lines().any(|known| known == line) {
                tokio::task::yield_now().await;
            }
        });
        let text = || self.app.telemetry.metrics().render();
        let name = line.split('{').next().unwrap_or(line);
        assert!(seen.await.is_ok(), "{line}; there is:\n{}", text().lines().filter(|l| l.starts_with(name)).collect::<Vec<_>>().join("\n"));
    }
}

/// Who a client believes, what it shows, and what it offers.
#[derive(Default)]
pub struct Wishes<'a> {
    pub roots: Option<&'a Ca>,
    pub shows: Option<&'a Pair>,
    pub alpn: &'a [&'a [u8]],
    pub version: Option<&'static rustls::SupportedProtocolVersion>,
}

pub type TlsClient = tokio_rustls::client::TlsStream<TcpStream>;

/// Shakes hands with `address`, asking for `name`.
pub async fn connect(address: SocketAddr, name: &str, wishes: Wishes<'_>) -> io::Result<TlsClient> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(wishes.roots.map(|ca| CertificateDer::from_pem_slice(ca.pem.as_bytes()).expect("PEM")));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = wishes.version.map_or_else(|| rustls::ALL_VERSIONS.to_vec(), |version| vec![version]);
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions).expect("versions");
    let builder = builder.with_root_certificates(roots);
    let mut config = match wishes.shows {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let (chain, key) = der(pair);
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = wishes.alpn.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).expect("a name"), tcp).await
}

fn der(pair: &Pair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    (chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM"))
}

/// The names in the certificate that the server showed.
pub fn shown(stream: &TlsClient) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().expect("shown")[0].as_ref().to_vec()
}

/// The first certificate of a pair.
pub fn leaf(pair: &Pair) -> Vec<u8> {
    der(pair).0[0].as_ref().to_vec()
}

pub type Sender1 = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

/// HTTP/1 over a stream.
pub async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender1 {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1");
    tokio::spawn(connection);
    sender
}

pub type Sender2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// HTTP/2 over a stream.
pub async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Sender2 {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.timer(TokioTimer::new()).handshake(TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

pub fn get(uri: &str) -> Request<Full<Bytes>> {
    let request = Request::get(uri);
    let host = if uri.starts_with("/house/") { "localhost" } else { "app.test" };
    let request = if uri.starts_with('/') { request.header("host", host) } else { request };
    request.body(Full::default()).expect("a request")
}

pub async fn whole(response: Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    (head.status, head.headers, String::from_utf8_lossy(&body).into_owned())
}

/// Asks over HTTP/1 in clear text.
pub async fn ask(proxy: &Proxy, path: &str) -> (StatusCode, HeaderMap, String) {
    let mut sender = http1(TcpStream::connect(proxy.address).await.expect("listening")).await;
    whole(sender.send_request(get(path)).await.expect("an answer")).await
}

/// What an origin has seen of a request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which connection it came over, from 0.
    pub connection: usize,
    pub version: Version,
    pub uri: http::Uri,
    pub headers: HeaderMap,
}

/// An app that speaks HTTP/1 and HTTP/2 and notes what it was asked.
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// How the origin is reached.
#[derive(Clone)]
pub struct Secure {
    pub pair: Pair,
    pub alpn: &'static [&'static [u8]],
    /// Asks clients for a certificate of this authority.
    pub clients: Option<String>,
}

impl Origin {
    /// In clear text, or over TLS; `most` is the number of streams that one HTTP/2 connection takes at once.
    pub async fn start(secure: Option<Secure>, most: u32) -> Self {
        Self::answering(secure, most, |_| async { Response::new(Full::from("ok")) }).await
    }

    pub async fn answering<F, R>(secure: Option<Secure>, most: u32, answer: F) -> Self
    where
        F: Fn(Seen) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let notes = seen.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((tcp, _)) = listener.accept().await else { return };
                let (notes, secure, answer) = (notes.clone(), secure.clone(), answer.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (head, body) = request.into_parts();
                    let seen = Seen { connection, version: head.version, uri: head.uri, headers: head.headers };
                    notes.lock().expect("lock").push(seen.clone());
                    let answer = answer.clone();
                    async move {
                        let _ = body.collect().await;
                        Ok::<_, Infallible>(answer(seen).await)
                    }
                });
                tokio::spawn(async move {
                    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(most);
                    match secure {
                        None => drop(builder.serve_connection(TokioIo::new(tcp), service).await),
                        Some(secure) => {
                            if let Ok(stream) = TlsAcceptor::from(server(&secure)).accept(tcp).await {
                                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("lock").clone()
    }
}

fn server(secure: &Secure) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().expect("versions");
    let builder = match &secure.clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("an authority");
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let (chain, key) = der(&secure.pair);
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = secure.alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}
