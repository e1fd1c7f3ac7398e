//! The changes to header fields on their way through, and no others (RFC 9110 section 7.6, RFC 9112).
//!
//! Fields named by `Connection` are removed first: a client cannot use that list to remove fields that the proxy adds
//! afterwards. Fields of framing or identity are never removed by it.

use bytes::BytesMut;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{self, Entry},
};
use smallvec::SmallVec;

use crate::{
    arrival::Arrival,
    fields::{Claims, claims::Whose, content_length, has_token},
    http1::{ESSENTIAL, HOP_BY_HOP, Id},
    reject::{Fault, Reject},
};

/// The proxy's own part in the fields: its name, and the client's address.
#[derive(Debug)]
pub struct Forwarding<'a> {
    /// Our name in `Via`. It is unique to this process: a loop differs from a chain of sidecars.
    pub via: &'a Via,
    /// Fields that not every sender may set.
    pub claims: &'a Claims,
    /// Adds `X-Forwarded-*` (inbound only).
    pub forwarded: bool,
    /// The request asks for a WebSocket and may have it.
    pub upgrade: bool,
}

/// Our name in `Via`.
#[derive(Debug, Clone)]
pub struct Via {
    /// The pseudonym.
    pub name: HeaderValue,
    /// The whole field of a request that came over HTTP/1.1 and passed no other proxy.
    first: HeaderValue,
}

impl Via {
    /// A pseudonym for this process alone.
    pub fn unique() -> Self {
        let name = format!("outrigger-{:08x}", crate::clock::unguessable_id() as u32);
        let field = |text: &str| HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("outrigger"));
        Self { first: field(&format!("1.1 {name}")), name: field(&name) }
    }

    /// Whether the request has passed here before.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.get_all(header::VIA).iter().any(|via| memchr::memmem::find(via.as_bytes(), self.name.as_bytes()).is_some())
    }
}

/// The header fields of the request that goes to the target.
pub fn request(arrival: &Arrival, forwarding: &Forwarding<'_>) -> HeaderMap {
    let named = connection_options(&arrival.headers);
    let mut out = HeaderMap::with_capacity(arrival.headers.len() + 6);
    for (name, value) in &arrival.headers {
        let named = named.iter().any(|n| n == name.as_str()) && !is_essential(name);
        // An expectation in HTTP/1.0 has no meaning (RFC 9110 section 10.1.1).
        let void = name == header::EXPECT && arrival.version == Version::HTTP_10;
        let claimed = match forwarding.claims.whose(name) {
            Whose::Anybodys => false,
            Whose::Trusted => !arrival.trusted,
            Whose::Nobodys => true,
        };
        if !(named || void || claimed || is_hop_by_hop(name)) {
            out.append(name, value.clone());
        }
    }
    if out.contains_key(header::CONTENT_LENGTH)
        && !is_plain_length(&out)
        && let Ok(Some(length)) = content_length(&out)
    {
        out.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(hops @ 1..) = max_forwards(arrival) {
        out.insert(header::MAX_FORWARDS, HeaderValue::from(hops - 1));
    }
    if has_token(&arrival.headers, header::TE, "trailers") {
        out.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if forwarding.upgrade {
        out.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        out.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if forwarding.forwarded {
        forwarded(arrival, &mut out);
    }
    via(&mut out, arrival.version, forwarding.via);
    out
}

/// Makes the response head fit for the client: removes hop-by-hop fields, refuses ambiguous framing. `asked` is the request's method.
///
/// # Errors
/// The head is malformed: the target's fault.
pub fn response(asked: &Method, status: StatusCode, headers: &mut HeaderMap) -> Result<(), Malformed> {
    let bodiless = asked == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(first) = codings.next() {
        if codings.next().is_some() || !first.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed("a transfer coding other than one `chunked`"));
        }
        // Chunked wins over a length, and the length is wrong (RFC 9112 section 6.3).
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = content_length(headers).map_err(Malformed)?
        && !is_plain_length(headers)
    {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if bodiless && status != StatusCode::NOT_MODIFIED && asked != Method::HEAD {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip(headers);
    Ok(())
}

/// Makes the fields of a 1xx answer fit for the client: no hop-by-hop fields, no framing.
pub fn interim(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRAILER);
}

/// Removes the fields of one hop.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        for option in connection_options(headers) {
            if let Ok(name) = HeaderName::from_bytes(option.as_bytes())
                && !is_essential(&name)
            {
                headers.remove(name);
            }
        }
    }
    let present: SmallVec<[HeaderName; 2]> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    for name in present {
        headers.remove(name);
    }
}

/// A flaw of the target's HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl Malformed {
    /// The answer to the client.
    pub fn into_reject(self, target: &super::Target) -> Reject {
        Reject::Connect { target: target.name.clone(), why: Fault::Malformed, detail: format!("the response has {}", self.0) }
    }
}

/// How many more proxies an OPTIONS request may pass (RFC 9110 section 7.6.2); `None`: any number, or another method.
pub fn max_forwards(arrival: &Arrival) -> Option<u64> {
    if arrival.method != Method::OPTIONS {
        return None;
    }
    arrival.header(header::MAX_FORWARDS)?.parse().ok()
}

/// Whether there is one `Content-Length`, written as a plain number.
fn is_plain_length(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = lines.next().map(HeaderValue::as_bytes).unwrap_or_default();
    lines.next().is_none() && first.iter().all(u8::is_ascii_digit) && (first.len() == 1 || first.first() != Some(&b'0'))
}

/// Whether the request asks for a WebSocket (the only upgrade that passes).
pub fn wants_websocket(arrival: &Arrival) -> bool {
    arrival.version == Version::HTTP_11
        && arrival.method == Method::GET
        && has_token(&arrival.headers, header::CONNECTION, "upgrade")
        && has_token(&arrival.headers, header::UPGRADE, "websocket")
}

/// `X-Forwarded-*`: values from a trusted proxy are kept and extended, values from any other sender are replaced.
fn forwarded(arrival: &Arrival, out: &mut HeaderMap) {
    match out.entry(X_FORWARDED_FOR) {
        Entry::Occupied(_) => {
            let mut list = BytesMut::new();
            for value in out.get_all(X_FORWARDED_FOR) {
                list.extend_from_slice(value.as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(arrival.peer_text.text.as_bytes());
            if let Ok(value) = HeaderValue::from_maybe_shared(list.freeze()) {
                out.insert(X_FORWARDED_FOR, value);
            }
        }
        Entry::Vacant(vacant) => {
            vacant.insert(arrival.peer_text.field.clone());
        }
    }
    if let Some(certificate) = &arrival.certificate {
        out.append(X_FORWARDED_CLIENT_CERT, certificate.forwarded.clone());
    }
    if !out.contains_key(X_FORWARDED_PROTO) {
        out.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if arrival.tls { "https" } else { "http" }));
    }
    if !out.contains_key(X_FORWARDED_HOST)
        && let Some(host) = arrival.headers.get(header::HOST)
    {
        out.insert(X_FORWARDED_HOST, host.clone());
    }
}

fn via(out: &mut HeaderMap, version: Version, name: &Via) {
    let protocol: &[u8] = match version {
        Version::HTTP_11 if !out.contains_key(header::VIA) => {
            out.insert(header::VIA, name.first.clone());
            return;
        }
        Version::HTTP_10 => b"1.0 ",
        Version::HTTP_2 => b"2 ",
        _ => b"1.1 ",
    };
    let mut value = BytesMut::with_capacity(32);
    for earlier in out.get_all(header::VIA) {
        value.extend_from_slice(earlier.as_bytes());
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(protocol);
    value.extend_from_slice(name.name.as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(value.freeze()) {
        out.insert(header::VIA, value);
    }
}

fn connection_options(headers: &HeaderMap) -> Vec<String> {
    let mut options = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for part in value.as_bytes().split(|b| *b == b',') {
            let part = part.trim_ascii();
            if !part.is_empty()
                && !part.eq_ignore_ascii_case(b"close")
                && !part.eq_ignore_ascii_case(b"keep-alive")
                && let Ok(text) = std::str::from_utf8(part)
            {
                options.push(text.to_ascii_lowercase());
            }
        }
    }
    options
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.has(Id::of(name.as_str().as_bytes()))
}

/// Fields that a `Connection` list must not remove: framing, identity, and fields for the end points.
fn is_essential(name: &HeaderName) -> bool {
    ESSENTIAL.has(Id::of(name.as_str().as_bytes()))
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(headers: &[(&str, &str)], trusted: bool) -> Arrival {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).expect("name"), HeaderValue::from_str(value).expect("value"));
        }
        Arrival {
            door: crate::arrival::Door::Inbound,
            peer: "10.0.0.9:4000".parse().expect("address"),
            peer_text: crate::arrival::PeerText::new("10.0.0.9:4000".parse().expect("address")),
            tls: false,
            certificate: None,
            client: "10.0.0.9".parse().expect("address"),
            trusted,
            method: Method::GET,
            uri: "/".parse().expect("uri"),
            version: Version::HTTP_11,
            headers: map,
            at: tokio::time::Instant::now(),
            interim: None,
        }
    }

    fn forward(headers: &[(&str, &str)], trusted: bool) -> HeaderMap {
        let via = Via { name: HeaderValue::from_static("outrigger-1"), first: HeaderValue::from_static("1.1 outrigger-1") };
        request(&arrival(headers, trusted), &Forwarding { via: &via, claims: &Claims::inbound([]), forwarded: true, upgrade: false })
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_are_removed() {
        let out = forward(
            &[
                ("connection", "keep-alive, X-Secret, host, authorization"),
                ("x-secret", "1"),
                ("host", "a"),
                ("authorization", "k"),
                ("te", "trailers, gzip"),
                ("upgrade", "h2c"),
                ("http2-settings", "x"),
                ("trailer", "x-sum"),
                ("outrigger-caller", "mallory"),
            ],
            false,
        );
        for gone in ["connection", "x-secret", "upgrade", "http2-settings", "outrigger-caller"] {
            assert!(!out.contains_key(gone), "{gone} must go");
        }
        assert_eq!(
            (&out["host"], &out["authorization"], &out["te"], &out["trailer"]),
            (&"a".parse().expect("v"), &"k".parse().expect("v"), &"trailers".parse().expect("v"), &"x-sum".parse().expect("v"))
        );
    }

    #[test]
    fn connection_cannot_remove_what_the_proxy_adds() {
        let out = forward(&[("host", "a"), ("connection", "x-forwarded-for, via")], false);
        assert_eq!(out["x-forwarded-for"], "10.0.0.9");
        assert_eq!(out["via"], "1.1 outrigger-1");
    }

    #[test]
    fn claims_of_an_untrusted_peer_are_replaced_and_of_a_trusted_one_extended() {
        let claims = [
            ("host", "a"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
        ];
        let untrusted = forward(&claims, false);
        assert_eq!(
            (&untrusted["x-forwarded-for"], &untrusted["x-forwarded-proto"]),
            (&"10.0.0.9".parse().expect("v"), &"http".parse().expect("v"))
        );
        assert!(!untrusted.contains_key("forwarded") && !untrusted.contains_key("x-real-ip"));
        let trusted = forward(&claims, true);
        assert_eq!(
            (&trusted["x-forwarded-for"], &trusted["x-forwarded-proto"]),
            (&"1.2.3.4, 10.0.0.9".parse().expect("v"), &"https".parse().expect("v"))
        );
    }

    #[test]
    fn a_response_with_ambiguous_framing_is_refused_or_made_plain() {
        let fields = |list: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in list {
                map.append(*name, HeaderValue::from_static(value));
            }
            map
        };
        let check = |list: &[(&'static str, &'static str)]| {
            let mut map = fields(list);
            response(&Method::GET, StatusCode::OK, &mut map).map(|()| map)
        };
        let both = check(&[("content-length", "3"), ("transfer-encoding", "chunked")]).expect("legal");
        assert!(!both.contains_key("content-length") && !both.contains_key("transfer-encoding"));
        assert_eq!(check(&[("content-length", "2, 2")]).expect("legal")["content-length"], "2");
        assert_eq!(check(&[("content-length", "005")]).expect("legal")["content-length"], "5");
        for bad in [
            [("transfer-encoding", "gzip")],
            [("transfer-encoding", "gzip, chunked")],
            [("content-length", "2, 3")],
            [("content-length", "+2")],
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
