//! A head that was scanned, as the house reads requests.

use http::Method;

use crate::{
    http1::{self, Head, Refusal},
    message::RequestHead,
    reject::Reject,
};

/// The request that `head` is, and whether it is one that is proxied.
pub fn parts(head: Head) -> (RequestHead, Result<(), Reject>) {
    let method = head.method();
    match RequestHead::of(head) {
        Some(parts) if matches!(method, http1::Method::Connect | http1::Method::Trace) => (parts, Err(Reject::MethodNotAllowed)),
        Some(parts) => (parts, Ok(())),
        None => (RequestHead::default(), Err(Reject::Unreadable(Refusal::TargetByte))),
    }
}

/// What could be read of a request that is refused: its method and target, for the log.
pub fn begun(head: &Head) -> RequestHead {
    let mut parts = RequestHead::default();
    if let (Ok(method), Ok(uri)) = (Method::from_bytes(head.method_text()), head.target().try_into()) {
        (parts.method, parts.uri) = (method, uri);
    }
    parts
}
