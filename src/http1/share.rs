//! Heads as the maps of the `http` crate that share the head's bytes: how the house reads fields. Nothing is copied but names.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request, response};

use super::head::{Form, Head, Span, Version};

/// An answer's own reason phrase, where it is not the usual one: an extension of its head.
#[derive(Debug, Clone)]
pub struct Reason(pub Bytes);

/// An answer's head; `None`: it has more names than a map holds.
pub fn answer(mut head: Head) -> Option<response::Parts> {
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(head.status()).unwrap_or_default();
    let is_usual = head.reason() == parts.status.canonical_reason().unwrap_or_default().as_bytes();
    let bytes = Bytes::from(std::mem::take(&mut head.bytes));
    parts.headers = fields(&head, &bytes)?;
    if !is_usual {
        parts.extensions.insert(Reason(slice(&bytes, head.word)));
    }
    Some(parts)
}

/// A request's head, its target in origin-form and its Host the one that counts; `None`: it has more names than a map holds, or a target
/// that `http::Uri` cannot hold.
pub fn request(mut head: Head) -> Option<request::Parts> {
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(head.method_text()).ok()?;
    parts.version = match head.version() {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
        Version::Http2 => http::Version::HTTP_2,
    };
    // CONNECT has no path; it goes nowhere.
    let apart = (head.form() == Form::Absolute).then(|| Bytes::copy_from_slice(head.path_and_query()));
    let bytes = Bytes::from(std::mem::take(&mut head.bytes));
    if head.form() != Form::Authority {
        parts.uri = Uri::from_maybe_shared(apart.unwrap_or_else(|| slice(&bytes, head.target))).ok()?;
    }
    parts.headers = fields(&head, &bytes)?;
    if head.form() == Form::Absolute {
        parts.headers.insert(header::HOST, HeaderValue::from_maybe_shared(slice(&bytes, head.authority)).ok()?);
    }
    Some(parts)
}

fn fields(head: &Head, bytes: &Bytes) -> Option<HeaderMap> {
    /// Fields that the house adds, as a rule.
    const ADDED: usize = 8;
    let mut map = HeaderMap::try_with_capacity(head.len() + ADDED).ok()?;
    for field in head.fields() {
        let value = field.value as usize..(field.value + field.value_len) as usize;
        let name = HeaderName::from_bytes(&bytes[field.at as usize..][..usize::from(field.name_len)]).ok()?;
        map.try_append(name, HeaderValue::from_maybe_shared(bytes.slice(value)).ok()?).ok()?;
    }
    Some(map)
}

fn slice(bytes: &Bytes, span: Span) -> Bytes {
    bytes.slice(span.at as usize..(span.at + span.len) as usize)
}
