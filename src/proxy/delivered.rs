//! The result of a fetch for the client that began it: an answer, and the cache's part in it.

use http::header;

use super::sending::Attempted;
use crate::{
    body::{Body, tap::TimeBounds},
    message::Response,
    policy::cache::{HitInfo, Passed},
};

const CACHE_STATUS: header::HeaderName = header::HeaderName::from_static("cache-status");

/// The result of a fetch, for the client that began it.
pub struct Delivered {
    /// The answer.
    pub attempted: Attempted,
    /// The cache's part in it.
    pub role: Role,
}

/// The cache's part in an answer.
pub enum Role {
    /// The answer is from the store.
    Answered(HitInfo),
    /// The answer was fetched.
    Fetched,
    /// The answer was fetched past the cache, for this reason that lies in the request.
    PassedBy(&'static str),
}

impl Delivered {
    /// A target's answer, with this member of `Cache-Status`.
    pub fn fresh(mut attempted: Attempted, member: Option<String>) -> Self {
        if let Some(member) = member {
            attempted.head.headers.append(CACHE_STATUS, member);
        }
        Self { attempted, role: Role::Fetched }
    }

    /// A target's answer that is not stored.
    pub fn passed(attempted: Attempted, passed: Passed) -> Self {
        let role = passed.reason.filter(|_| passed.bypass).map_or(Role::Fetched, Role::PassedBy);
        Self { role, ..Self::fresh(attempted, passed.member) }
    }

    /// An answer from the store.
    pub fn stored((response, info): (Response<Body>, HitInfo)) -> Self {
        let (head, body) = response.into_parts();
        let attempted = Attempted { head, body, connection: None, bounds: TimeBounds::default(), reading: None };
        Self { attempted, role: Role::Answered(info) }
    }
}
