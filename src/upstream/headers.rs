//! The changes to header fields on their way through, and no others (RFC 9110 section 7.6, RFC 9112).
//!
//! Fields named by `Connection` are removed first: a client cannot use that list to remove fields that the proxy adds
//! afterwards. Fields of framing or identity are never removed by it.

use http::{Method, StatusCode, Version};

use crate::{
    arrival::Arrival,
    fields::{Claims, claims::Whose, content_length, has_token},
    http1::{Fields, Id, Name, Value},
    reject::{Fault, Reject},
};

/// What is added as a rule: forwarding fields, `Via`, a request id, a trace.
const ADDED_BYTES: usize = 448;
const ADDED_FIELDS: usize = 8;

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
    pub name: Box<str>,
}

impl Via {
    /// A pseudonym for this process alone.
    pub fn unique() -> Self {
        Self { name: format!("outrigger-{:08x}", crate::clock::unguessable_id() as u32).into() }
    }

    /// Whether the request has passed here before.
    pub fn is_in(&self, headers: &Fields) -> bool {
        headers.all(Id::Via).any(|via| memchr::memmem::find(via.as_bytes(), self.name.as_bytes()).is_some())
    }
}

/// The header fields of the request that goes to the target.
pub fn request(arrival: &Arrival, forwarding: &Forwarding<'_>) -> Fields {
    let came = &arrival.headers;
    let mut out = came.with_more(ADDED_BYTES, ADDED_FIELDS);
    out.remove_hop_by_hop();
    let old = arrival.version == Version::HTTP_10;
    let goes = |name: Name<'_>| {
        // An expectation in HTTP/1.0 has no meaning (RFC 9110 section 10.1.1).
        let void = old && name.id() == Id::Expect;
        let claimed = match forwarding.claims.whose(name) {
            Whose::Anybodys => false,
            Whose::Trusted => !arrival.trusted,
            Whose::Nobodys => true,
        };
        void || claimed
    };
    if out.names().any(goes) {
        out.retain(|name, _| !goes(name));
    }
    if out.has(Id::ContentLength)
        && !is_plain_length(&out)
        && let Ok(Some(length)) = content_length(&out)
    {
        out.insert_number(Id::ContentLength, length);
    }
    if let Some(hops @ 1..) = max_forwards(arrival) {
        out.insert_number(Id::MaxForwards, hops - 1);
    }
    if came.has(Id::Te) && has_token(came, Id::Te, "trailers") {
        out.insert(Id::Te, "trailers");
    }
    if forwarding.upgrade {
        out.insert(Id::Connection, "upgrade");
        out.insert(Id::Upgrade, "websocket");
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
pub fn response(asked: &Method, status: StatusCode, headers: &mut Fields) -> Result<(), Malformed> {
    let bodiless = asked == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if headers.has(Id::TransferEncoding) {
        let is_chunked = |coding: Value<'_>| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
        if !headers.get(Id::TransferEncoding).is_some_and(is_chunked) || headers.all(Id::TransferEncoding).nth(1).is_some() {
            return Err(Malformed("a transfer coding other than one `chunked`"));
        }
        // Chunked wins over a length, and the length is wrong (RFC 9112 section 6.3).
        headers.remove(Id::ContentLength);
    } else if let Some(length) = content_length(headers).map_err(Malformed)?
        && !is_plain_length(headers)
    {
        headers.insert_number(Id::ContentLength, length);
    }
    if bodiless && status != StatusCode::NOT_MODIFIED && asked != Method::HEAD {
        headers.remove(Id::ContentLength);
    }
    headers.remove_hop_by_hop();
    Ok(())
}

/// Makes the fields of a 1xx answer fit for the client: no hop-by-hop fields, no framing.
pub fn interim(headers: &mut Fields) {
    headers.remove_hop_by_hop();
    headers.remove(Id::ContentLength);
    headers.remove(Id::Trailer);
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
    arrival.header(Id::MaxForwards)?.parse().ok()
}

/// Whether there is one `Content-Length`, written as a plain number.
fn is_plain_length(headers: &Fields) -> bool {
    let mut lines = headers.all(Id::ContentLength);
    let first = lines.next().map(Value::as_bytes).unwrap_or_default();
    lines.next().is_none() && first.iter().all(u8::is_ascii_digit) && (first.len() == 1 || first.first() != Some(&b'0'))
}

/// Whether the request asks for a WebSocket (the only upgrade that passes).
pub fn wants_websocket(arrival: &Arrival) -> bool {
    arrival.version == Version::HTTP_11
        && arrival.method == Method::GET
        && has_token(&arrival.headers, Id::Connection, "upgrade")
        && has_token(&arrival.headers, Id::Upgrade, "websocket")
}

/// `X-Forwarded-*`: values from a trusted proxy are kept and extended, values from any other sender are replaced.
fn forwarded(arrival: &Arrival, out: &mut Fields) {
    let client = arrival.peer_text.text.as_bytes();
    if out.has(Id::XForwardedFor) {
        let list = joined(out, Id::XForwardedFor, client);
        out.insert(Id::XForwardedFor, list);
    } else {
        out.append_plain(Id::XForwardedFor, client);
    }
    if let Some(certificate) = &arrival.certificate {
        out.append(Id::XForwardedClientCert, &certificate.forwarded);
    }
    if !out.has(Id::XForwardedProto) {
        out.append_plain(Id::XForwardedProto, if arrival.tls { "https" } else { "http" });
    }
    if let Some(host) = arrival.headers.get(Id::Host)
        && !out.has(Id::XForwardedHost)
    {
        out.append_plain(Id::XForwardedHost, host);
    }
}

fn via(out: &mut Fields, version: Version, via: &Via) {
    let protocol = match version {
        Version::HTTP_10 => "1.0 ",
        Version::HTTP_2 => "2 ",
        _ => "1.1 ",
    };
    if out.has(Id::Via) {
        let list = joined(out, Id::Via, &[protocol.as_bytes(), via.name.as_bytes()].concat());
        out.insert(Id::Via, list);
    } else {
        out.append_plain_with(Id::Via, |line| {
            line.extend_from_slice(protocol.as_bytes());
            line.extend_from_slice(via.name.as_bytes());
        });
    }
}

/// All lines of a list in one, and one more member.
fn joined(fields: &Fields, name: Id, member: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    for line in fields.all(name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(member);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(headers: &[(&str, &str)], trusted: bool) -> Arrival {
        let mut map = Fields::new();
        for (name, value) in headers {
            map.append(name, value);
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

    fn forward(headers: &[(&str, &str)], trusted: bool) -> Fields {
        let via = Via { name: "outrigger-1".into() };
        request(&arrival(headers, trusted), &Forwarding { via: &via, claims: &Claims::inbound([], []), forwarded: true, upgrade: false })
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
            assert!(!out.has(gone), "{gone} must go");
        }
        assert_eq!((&out["host"], &out["authorization"], &out["te"], &out["trailer"]), ("a", "k", "trailers", "x-sum"));
    }

    #[test]
    fn connection_cannot_remove_what_the_proxy_adds() {
        let out = forward(&[("host", "a"), ("connection", "x-forwarded-for, via")], false);
        assert_eq!(&out["x-forwarded-for"], "10.0.0.9");
        assert_eq!(&out["via"], "1.1 outrigger-1");
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
        assert_eq!((&untrusted["x-forwarded-for"], &untrusted["x-forwarded-proto"]), ("10.0.0.9", "http"));
        assert!(!untrusted.has("forwarded") && !untrusted.has("x-real-ip"));
        let trusted = forward(&claims, true);
        assert_eq!((&trusted["x-forwarded-for"], &trusted["x-forwarded-proto"]), ("1.2.3.4, 10.0.0.9", "https"));
    }

    #[test]
    fn a_response_with_ambiguous_framing_is_refused_or_made_plain() {
        let fields = |list: &[(&'static str, &'static str)]| {
            let mut map = Fields::new();
            for (name, value) in list {
                map.append(*name, value);
            }
            map
        };
        let check = |list: &[(&'static str, &'static str)]| {
            let mut map = fields(list);
            response(&Method::GET, StatusCode::OK, &mut map).map(|()| map)
        };
        let both = check(&[("content-length", "3"), ("transfer-encoding", "chunked")]).expect("legal");
        assert!(!both.has("content-length") && !both.has("transfer-encoding"));
        assert_eq!(&check(&[("content-length", "2, 2")]).expect("legal")["content-length"], "2");
        assert_eq!(&check(&[("content-length", "005")]).expect("legal")["content-length"], "5");
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
