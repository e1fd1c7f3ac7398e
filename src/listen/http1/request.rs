//! A head that was scanned, as the house reads requests.

use http::{Method, request};

use crate::{
    http1::{self, Head, Refusal, share},
    reject::Reject,
};

/// The request that `head` is, and whether it is one that is proxied.
pub fn parts(head: Head) -> (request::Parts, Result<(), Reject>) {
    let method = head.method();
    match share::request(head) {
        Some(parts) if matches!(method, http1::Method::Connect | http1::Method::Trace) => (parts, Err(Reject::MethodNotAllowed)),
        Some(parts) => (parts, Ok(())),
        None => (nothing(), Err(Reject::Unreadable(Refusal::TargetByte))),
    }
}

/// What could be read of a request that is refused: its method and target, for the log.
pub fn begun(head: &Head) -> request::Parts {
    let mut parts = nothing();
    if let (Ok(method), Ok(uri)) = (Method::from_bytes(head.method_text()), head.target().try_into()) {
        (parts.method, parts.uri) = (method, uri);
    }
    parts
}

fn nothing() -> request::Parts {
    http::Request::new(()).into_parts().0
}
