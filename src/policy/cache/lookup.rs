//! The outcome of a look-up.

use super::{Fill, Follower, HitInfo};
use crate::{body::Body, message::Response};

/// The outcome of a look-up.
#[derive(Debug)]
pub enum Lookup {
    /// Answer with this.
    Hit(Response<Body>, HitInfo),
    /// Answer with this, and send the request of `revalidate` in the background. Without `revalidate`, a refresh is under way already.
    Stale {
        /// The answer.
        response: Response<Body>,
        /// The facts of the answer.
        info: HitInfo,
        /// The right and duty to refresh.
        revalidate: Option<Box<Fill>>,
    },
    /// Ask the origin with our validators.
    Revalidate(Box<Fill>),
    /// Ask the origin.
    Miss(Box<Fill>),
    /// Wait for another request's fetch.
    Join(Box<Follower>),
    /// The cache has no part in this request; the reason.
    Bypass(&'static str),
    /// `only-if-cached`, and nothing may be used: 504.
    OnlyIfCached,
}
