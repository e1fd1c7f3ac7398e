//! In the making.

pub mod codec;
pub mod date;
pub mod directives;
pub mod entry;
pub mod flight;
pub mod freshness;
pub mod invalidate;
pub mod key;
pub mod range;
pub mod status;
pub mod storable;
pub mod validate;
pub mod vary;
use http::{HeaderMap, Method};
use std::sync::Arc;
/// Q.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Query<'a> {
    pub route: &'a Arc<str>,
    pub method: &'a Method,
    pub scheme: &'a str,
    pub host: &'a str,
    pub path_and_query: &'a str,
    pub headers: &'a HeaderMap,
    pub extra: &'a [(&'a str, &'a str)],
    pub model: Option<ModelKey<'a>>,
}
/// M.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct ModelKey<'a> {
    pub provider: &'a str,
    pub operation: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub tenant: &'a [u8],
    pub body: &'a [u8],
}
