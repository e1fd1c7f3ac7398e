//! Opening a connection: name, address, TCP, TLS. Tests put a pipe in its place.

use std::{
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    SendError, Target,
    race::{self, Ended},
    tls::{self, ClientTls},
};
use crate::{
    body::tcp::Tcp,
    pressure::descriptors,
    reject::Fault,
    resolve::{Resolver, Source},
    telemetry::metrics::{Family, WorkerMetrics},
};

/// A future that stays on its worker.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Opens transport connections. One real implementation, one in tests.
pub trait Dial {
    /// A connection to `target`, TLS included; `http1`: for HTTP/1.1 alone.
    fn dial<'a>(&'a self, target: &'a Target, http1: bool) -> LocalFuture<'a, Result<Stream, SendError>>;
}

/// TCP and TLS.
pub struct Dialer {
    resolver: Resolver,
    metrics: WorkerMetrics,
}

/// A connected byte stream.
pub enum Stream {
    /// Clear text.
    Tcp(Tcp),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
    /// In memory.
    Pipe(DuplexStream),
}

impl Dialer {
    /// A worker's dialer; `resolver` is the process's.
    pub fn new(resolver: Resolver, metrics: WorkerMetrics) -> Self {
        Self { resolver, metrics }
    }

    /// The first of the target's addresses that answers. If the known addresses fail, the name is looked up once more: the
    /// target may have moved.
    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, SendError> {
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut failed: Option<SendError> = None;
        loop {
            let again = failed.is_some();
            let found = match self.resolver.resolve(host, port, again).await {
                Ok(found) => found,
                Err(why) => {
                    self.resolved("failed");
                    return Err(failed.unwrap_or_else(|| error(Fault::Dns, format!("cannot resolve {host}: {why}"))));
                }
            };
            self.resolved(found.source.as_str());
            if let Some(failed) = failed
                && found.addresses.iter().all(|address| tried.contains(address))
            {
                return Err(failed);
            }
            match race::first(&found.addresses, TcpStream::connect).await {
                Ended::Won { with: stream, lost } => {
                    lost.into_iter().for_each(|address| self.resolver.lost(host, address));
                    if !descriptors::leaves_reserve(&stream) {
                        return Err(error(Fault::Refused, "no file descriptor is left for it (ulimit -n)".to_owned()));
                    }
                    let _ = stream.set_nodelay(true);
                    let probes = socket2::TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
                    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&probes);
                    return Ok(stream);
                }
                Ended::Failed(attempts) => {
                    let error = error(Fault::Refused, unreachable(host, &attempts));
                    self.resolver.doubt(host);
                    if again || !matches!(found.source, Source::Cached | Source::Kept) {
                        return Err(error);
                    }
                    tried = found.addresses;
                    failed = Some(error);
                }
            }
        }
    }

    fn resolved(&self, outcome: &str) {
        if outcome != Source::Literal.as_str() {
            self.metrics.counter(Family::DnsAnswers, &[outcome]).inc();
        }
    }
}

/// The addresses that were tried, each with its error.
fn unreachable(host: &str, attempts: &[(SocketAddr, io::Error)]) -> String {
    match attempts {
        [] => format!("{host} has no address"),
        [(address, error)] => format!("cannot connect to {address}: {error}"),
        several => {
            let each: Vec<String> = several.iter().map(|(address, error)| format!("{address}: {error}")).collect();
            format!("cannot connect to {host} ({})", each.join("; "))
        }
    }
}

impl Dial for Dialer {
    fn dial<'a>(&'a self, target: &'a Target, http1: bool) -> LocalFuture<'a, Result<Stream, SendError>> {
        Box::pin(async move {
            let tcp = self.tcp(&target.origin.host, target.origin.port).await?;
            match &target.tls {
                None => Ok(Stream::Tcp(tcp.into())),
                Some(tls) => shake_hands(tcp, &target.origin.host, tls, http1).await,
            }
        })
    }
}

/// Idle time before TCP keepalive: it notices a target that has vanished, also under a stream or a tunnel without a time bound.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);

async fn shake_hands(tcp: TcpStream, host: &str, tls: &ClientTls, http1: bool) -> Result<Stream, SendError> {
    let config = if http1 { &tls.http1 } else { &tls.any };
    match TlsConnector::from(config.clone()).connect(tls.name.clone(), tcp).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(e) => Err(error(Fault::Tls, tls::explain(host, &e))),
    }
}

fn error(fault: Fault, detail: String) -> SendError {
    SendError { fault, detail, reused: false, unsent: true, timeout: None }
}

impl Stream {
    /// The protocol of the handshake (ALPN); `None` without TLS or without an agreement.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Tcp(_) | Self::Pipe(_) => None,
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Tls(_) => "Tls",
            Self::Pipe(_) => "Pipe",
        })
    }
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Tls($stream) => $call,
            Stream::Pipe($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(self, stream => crate::body::pieces::write(stream, cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Pipe(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
