//! A request and who brought it, as it came in. Made by `listen`, read-only for everything behind it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use crate::clock::Instant;

/// Which listener a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Door {
    Inbound,
    Outbound,
}

impl Door {
    /// The word used in metrics, logs and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// A peer's address, ready to be written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerText {
    /// IPv4-mapped addresses are unmapped.
    pub text: Arc<str>,
    /// The same.
    pub field: HeaderValue,
}

impl PeerText {
    /// The text of `peer`'s address.
    pub fn new(peer: SocketAddr) -> Self {
        let text = peer.ip().to_canonical().to_string();
        // An address is always valid in a field.
        let field = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { text: text.into(), field }
    }
}

/// What a verified client certificate says.
#[derive(Debug)]
pub struct ClientCertificate {
    /// Who it is: a URI, a DNS name, a mail address or a common name.
    pub name: Arc<str>,
    /// For the app: an element of `X-Forwarded-Client-Cert`.
    pub forwarded: HeaderValue,
}

/// A request's head and who brought it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The listener.
    pub door: Door,
    /// The TCP peer.
    pub peer: SocketAddr,
    /// Its address as text and as a field value, made once for its connection.
    pub peer_text: PeerText,
    /// Whether the peer spoke TLS to us.
    pub tls: bool,
    /// Who the peer is by its certificate, which has been verified.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The address of the client: the peer, or what trusted proxies say (IPv4-mapped addresses are unmapped).
    pub client: IpAddr,
    /// Whether the peer is one of `trusted_proxies`.
    pub trusted: bool,
    /// As sent.
    pub method: Method,
    /// As sent; origin-form (absolute-form is taken apart by `listen`).
    pub uri: Uri,
    /// As sent.
    pub version: Version,
    /// As sent.
    pub headers: HeaderMap,
    /// When the head was complete.
    pub at: Instant,
    /// Takes 1xx answers of the target; `None`: nobody does.
    pub interim: Option<Informed>,
}

/// A client's connection that takes answers before the answer: 1xx (RFC 9110 section 15.2).
pub trait Interim: fmt::Debug + Send + Sync {
    /// One has come for the connection's request of this number; `fields` are those that may be passed on. Never 101.
    fn interim(&self, request: u32, status: StatusCode, fields: &HeaderMap);
}

/// The request that 1xx answers are for.
#[derive(Debug, Clone)]
pub struct Informed {
    /// Its connection.
    pub connection: Arc<dyn Interim>,
    /// Its number there, so that a try that outlives it cannot speak to the next.
    pub request: u32,
}

impl Arrival {
    /// The path, as sent.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The host the client meant, without port, as sent.
    pub fn host(&self) -> &str {
        let host = self.headers.get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        match host.rfind(':') {
            Some(colon) if !host[colon..].contains(']') => &host[..colon],
            _ => host,
        }
    }

    /// Whether this is a gRPC call over HTTP/2, which cannot understand another kind of answer.
    pub fn wants_grpc_status(&self) -> bool {
        self.version == Version::HTTP_2 && self.is_grpc()
    }

    /// Whether it is a gRPC call (`application/grpc`, `application/grpc+proto`, `application/grpc-web`, ...).
    pub fn is_grpc(&self) -> bool {
        is_grpc(&self.headers)
    }

    /// A header as text; `None` if absent or not visible ASCII.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Whether these are a gRPC call's fields.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..TYPE.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
}
