//! The policies: each one is pure where it can be and none imports another. What two of them share stands in
//! [`buckets`]; the order in which they run is told by `proxy`.

pub mod access;
pub mod breaker;
pub mod buckets;
pub mod cache;
pub mod given_up;
pub mod keyring;
pub mod limits;
pub mod preflight;
pub mod retry;
pub mod timeout;
