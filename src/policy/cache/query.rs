//! A request, as the cache sees it: the parts of its key, and its demands on the store.

use std::{sync::Arc, time::Duration};

use http::Method;

use crate::http1::Fields;

/// A request, as the cache sees it.
#[derive(Debug, Clone, Copy)]
pub struct CacheQuery<'a> {
    /// Name of the route.
    pub route: &'a Arc<str>,
    /// The method, as sent.
    pub method: &'a Method,
    /// `http` or `https`, as the client meant.
    pub scheme: &'a str,
    /// Host with port, as the client meant.
    pub host: &'a str,
    /// Path and query, as sent; for model calls without credentials.
    pub path_and_query: &'a str,
    /// The header fields, as sent.
    pub headers: &'a Fields,
    /// Whether a credential of the request was verified: its answer is for one caller, as with `Authorization`.
    pub proved: bool,
    /// The values of the policy's extra key parts.
    pub extra: &'a [(&'a str, &'a str)],
    /// A model call's parts; makes any method cacheable under the policy's `ttl`.
    pub model: Option<ModelKey<'a>>,
    /// How long its answer may be kept, if the request says so; never longer than the policy's `ttl`.
    pub ttl: Option<Duration>,
    /// The parts of its body that tell one reading POST from another; they make POST cacheable.
    pub body: Option<&'a [BodyPart]>,
}

/// A part of a body: its name and its text, which is empty if there is no such part.
pub type BodyPart = (Box<str>, Box<[u8]>);

/// The parts of a model call's key, beside the URI.
#[derive(Debug, Clone, Copy)]
pub struct ModelKey<'a> {
    /// Provider name.
    pub provider: &'a str,
    /// Operation.
    pub operation: &'a str,
    /// Model, for people; it is in the body or the path.
    pub model: &'a str,
    /// API version and beta headers, sorted by name.
    pub headers: &'a [(&'a str, &'a str)],
    /// The owner of the entry; empty with `share`.
    pub tenant: &'a [u8],
    /// The canonical body.
    pub body: &'a [u8],
}
