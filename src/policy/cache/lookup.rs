//! What the cache says to a request.

use http::Response;

use super::{Fill, Follower, HitInfo};
use crate::body::Body;

/// What the cache says to a request.
#[derive(Debug)]
pub enum Lookup {
    /// Answer with this.
    Hit(Response<Body>, HitInfo),
    /// Answer with this, and send the fill's request in the background, if it is given (else somebody does already).
    Stale {
        /// The answer.
        response: Response<Body>,
        /// About it.
        info: HitInfo,
        /// The right and duty to refresh.
        revalidate: Option<Box<Fill>>,
    },
    /// Ask the origin with our validators.
    Revalidate(Box<Fill>),
    /// Ask the origin.
    Miss(Box<Fill>),
    /// Wait for somebody else's fetch.
    Join(Box<Follower>),
    /// The cache has no part in this request; the reason.
    Bypass(&'static str),
    /// `only-if-cached`, and nothing may be used: 504.
    OnlyIfCached,
}
