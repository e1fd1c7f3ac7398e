//! A request as it came in, and its peer. `listen` makes it; all later code only reads it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use http::{HeaderValue, Method, StatusCode, Uri, Version};

use crate::{
    clock::{Instant, unguessable_id},
    http1::{Fields, Id, Named},
};

/// Which listener a request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Door {
    Inbound,
    Outbound,
}

impl Door {
    /// The word used in metrics, logs and the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// A peer's address as it is written. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PeerText {
    /// As text; an IPv4-mapped address is unmapped.
    pub text: Arc<str>,
}

impl PeerText {
    /// The text of `peer`'s address.
    pub fn new(peer: SocketAddr) -> Self {
        Self { text: peer.ip().to_canonical().to_string().into() }
    }
}

/// The id that finds everything about a request. The proxy's own number stays a number until it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestId {
    /// The proxy's own number; written as 32 hexadecimal digits.
    Own(u128),
    /// The text that a trusted peer sent.
    Given(Arc<str>),
}

impl RequestId {
    /// A fresh unguessable number.
    pub fn fresh() -> Self {
        Self::Own(unguessable_id())
    }

    /// The id's bytes, which are visible ASCII. The digits of a number are written into `room`.
    pub fn bytes<'a>(&'a self, room: &'a mut [u8; 32]) -> &'a [u8] {
        match self {
            Self::Own(number) => {
                *room = digits(*number);
                room
            }
            Self::Given(text) => text.as_bytes(),
        }
    }

    /// The id's text. The digits of a number are written into `room`.
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
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; 32]))
    }
}

/// The 32 hexadecimal digits of a number.
pub fn digits(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
        *pair = PAIRS[usize::from(byte)];
    }
    digits
}

/// The two digits of each byte.
static PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

/// The facts of a verified client certificate.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The client's name: a URI, a DNS name, a mail address or a common name.
    pub name: Arc<str>,
    /// The element of `X-Forwarded-Client-Cert` for the app.
    pub forwarded: HeaderValue,
}

/// A request's head and its peer.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The listener.
    pub door: Door,
    /// The TCP peer.
    pub peer: SocketAddr,
    /// The peer's address as text, made once per connection.
    pub peer_text: PeerText,
    /// Whether the peer's connection uses TLS.
    pub tls: bool,
    /// The peer's verified certificate, if it has one.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The client's address: the peer's, or the one that trusted proxies name. An IPv4-mapped address is unmapped.
    pub client: IpAddr,
    /// Whether the peer is one of `trusted_proxies`.
    pub trusted: bool,
    /// The method, as sent.
    pub method: Method,
    /// The target, as sent, in origin-form: `listen` takes absolute-form apart.
    pub uri: Uri,
    /// The version, as sent.
    pub version: Version,
    /// The fields, as sent.
    pub headers: Fields,
    /// The time at which the head was complete.
    pub at: Instant,
    /// Takes the target's 1xx answers; `None`: they are dropped.
    pub interim: Option<Informed>,
}

/// A client's connection that takes interim answers: 1xx (RFC 9110 section 15.2).
pub trait Interim: fmt::Debug {
    /// Takes an interim answer for the connection's request of this number. `fields` may all be passed on. `status` is never 101.
    fn interim(&self, request: u32, status: StatusCode, fields: &Fields);
}

/// The request that 1xx answers belong to.
#[derive(Debug, Clone)]
pub struct Informed {
    /// The request's connection.
    pub connection: Rc<dyn Interim>,
    /// The request's number there: a try that outlives the request must not answer the next one.
    pub request: u32,
}

impl Arrival {
    /// The path, as sent.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The host of the `Host` field, without the port, as sent; empty if there is none.
    pub fn host(&self) -> &str {
        let host = self.headers.text(Id::Host).unwrap_or_default();
        match memchr::memrchr(b':', host.as_bytes()) {
            // Not a colon of an IPv6 address.
            Some(colon) if !host.ends_with(']') => &host[..colon],
            _ => host,
        }
    }

    /// Whether this is a gRPC call over HTTP/2: its client understands a gRPC answer alone.
    pub fn wants_grpc_status(&self) -> bool {
        self.version == Version::HTTP_2 && self.is_grpc()
    }

    /// Whether this is a gRPC call (`application/grpc`, `application/grpc+proto`, `application/grpc-web`, ...).
    pub fn is_grpc(&self) -> bool {
        is_grpc(&self.headers)
    }

    /// A field's value as text; `None`: the field is absent or not visible ASCII.
    pub fn header(&self, name: impl Named) -> Option<&str> {
        self.headers.text(name)
    }
}

/// Whether `headers` are a gRPC call's fields.
pub fn is_grpc(headers: &Fields) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    headers.get(Id::ContentType).and_then(|value| value.as_bytes().get(..TYPE.len())).is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_32_digits_or_the_text_that_was_given() {
        let own = RequestId::Own(0x0123_4567_89ab_cdef_0000_0000_0000_00ff);
        assert_eq!(own.to_string(), "0123456789abcdef00000000000000ff");
        assert_eq!(RequestId::Given("lb-7".into()).text(&mut [0; 32]), "lb-7");
        assert_ne!(RequestId::fresh(), RequestId::fresh());
    }
}
