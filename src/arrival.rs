//! A request and who brought it, as it came in. Made by `listen`, read-only for everything behind it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use crate::clock::{Instant, unguessable_id};

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

/// The id that finds everything about a request. A number of our own stays a number until it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestId {
    /// A number of our own; written as 32 digits.
    Own(u128),
    /// The text that a trusted peer sent.
    Given(Arc<str>),
}

impl RequestId {
    /// An unguessable number.
    pub fn fresh() -> Self {
        Self::Own(unguessable_id())
    }

    /// Its text; `room` is where the digits of a number go.
    pub fn text<'a>(&'a self, room: &'a mut [u8; 32]) -> &'a str {
        match self {
            Self::Own(number) => {
                *room = digits(*number);
                // Digits are always text.
                std::str::from_utf8(room).unwrap_or_default()
            }
            Self::Given(text) => text,
        }
    }

    /// As the value of a field; `None`: a text that cannot stand in one.
    pub fn field(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(self.text(&mut [0; 32])).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 32]))
    }
}

/// The 32 hexadecimal digits of a number.
pub fn digits(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (at, byte) in number.to_be_bytes().into_iter().enumerate() {
        digits[2 * at] = DIGITS[usize::from(byte >> 4)];
        digits[2 * at + 1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

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
pub trait Interim: fmt::Debug {
    /// One has come for the connection's request of this number; `fields` are those that may be passed on. Never 101.
    fn interim(&self, request: u32, status: StatusCode, fields: &HeaderMap);
}

/// The request that 1xx answers are for.
#[derive(Debug, Clone)]
pub struct Informed {
    /// Its connection.
    pub connection: Rc<dyn Interim>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_32_digits_or_the_text_that_was_given() {
        let own = RequestId::Own(0x0123_4567_89ab_cdef_0000_0000_0000_00ff);
        assert_eq!(own.to_string(), "0123456789abcdef00000000000000ff");
        assert_eq!(own.field().expect("a field"), "0123456789abcdef00000000000000ff");
        assert_eq!(RequestId::Given("lb-7".into()).text(&mut [0; 32]), "lb-7");
        assert_eq!(RequestId::Given("a\nb".into()).field(), None);
        assert_ne!(RequestId::fresh(), RequestId::fresh());
    }
}
