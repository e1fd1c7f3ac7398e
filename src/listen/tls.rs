//! TLS with clients: the handshake, and the client's name from its certificate. A new configuration holds for new connections;
//! open ones keep the old one.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::session::Session;
use crate::{
    arrival::ClientCertificate,
    config::{ClientAuth, Identity, ListenerTls, tls},
};

/// The TLS configuration of a door's listeners; without one they speak clear text.
#[derive(Debug, Default)]
pub struct Terminator(ArcSwapOption<ServerConfig>);

impl Terminator {
    /// Sets the configuration of new connections; `None` is clear text.
    pub fn set(&self, config: Option<Arc<ServerConfig>>) {
        self.0.store(config);
    }

    /// The configuration of new connections.
    pub fn config(&self) -> Option<Arc<ServerConfig>> {
        self.0.load_full()
    }
}

/// The server side of handshakes as `tls` says. The error names the part of the configuration that cannot be applied.
pub fn server_config(tls: &ListenerTls) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(tls.min_version.and_later())
        .map_err(|e| e.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            authorities.add_to(&mut roots).map_err(|why| format!("`client_ca`: {why}"))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match tls.client_auth {
                ClientAuth::Require => verifier,
                ClientAuth::Request => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| format!("`client_ca` cannot be used: {error}"))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName(tls.identities.clone())));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A ticket holds the session on the client's side: no state is kept here, and any worker can resume it.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| format!("no session tickets: {error}"))?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Presents the certificate for the name that a client asks for (SNI, RFC 6066 section 3), or else the first.
#[derive(Debug)]
struct ByName(Vec<Identity>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.0.iter().find(|identity| identity.covers(name)));
        named.or(self.0.first()).map(|identity| identity.certified.clone())
    }
}

/// The end of a handshake.
#[derive(Debug)]
pub enum Handshake {
    /// A TLS connection; with the client's identity, if it showed a certificate.
    Done(Box<TlsStream<TcpStream>>, Option<Arc<ClientCertificate>>),
    /// The client does not speak TLS; it got an answer in clear text.
    Clear,
    /// The handshake failed.
    Failed(io::Error),
    /// The connection must end: a bound or an order.
    Ordered,
}

/// Performs the handshake of a new connection, within the session's bounds.
pub async fn accept(session: &Session, mut stream: TcpStream, config: Arc<ServerConfig>) -> Handshake {
    match session.unless_ordered(|cx| poll_is_clear(&stream, cx)).await {
        Some(Ok(false)) => {}
        Some(Ok(true)) => {
            session.unless_ended(refuse_clear(&mut stream)).await;
            return Handshake::Clear;
        }
        Some(Err(error)) => return Handshake::Failed(error),
        None => return Handshake::Ordered,
    }
    match session.unless_ended(TlsAcceptor::from(config).accept(stream)).await {
        Some(Ok(stream)) => {
            let certificate = identify(&stream);
            Handshake::Done(Box::new(stream), certificate)
        }
        Some(Err(error)) => Handshake::Failed(error),
        None => Handshake::Ordered,
    }
}

/// Whether the first byte cannot begin a TLS record. A silent client leaves the question open.
fn poll_is_clear(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
    const HANDSHAKE: u8 = 22;
    let mut first = [0; 1];
    let mut room = ReadBuf::new(&mut first);
    stream.poll_peek(cx, &mut room).map_ok(|n| n > 0 && first[0] != HANDSHAKE)
}

/// Refuses in clear text, and waits for the client to close: a close from this side could overtake the answer as a reset.
async fn refuse_clear(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(CLEAR_TEXT).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

const CLEAR_TEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
    proxy-status: outrigger; error=http_request_error; details=\"this listener speaks TLS\"\r\ncontent-length: 39\r\n\r\n\
    This listener speaks TLS: use https://\n";

fn identify(stream: &TlsStream<TcpStream>) -> Option<Arc<ClientCertificate>> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    let (name, element) = tls::client_names(leaf)?;
    let forwarded = HeaderValue::from_bytes(element.as_bytes()).ok()?;
    Some(Arc::new(ClientCertificate { name: name.into(), forwarded }))
}
