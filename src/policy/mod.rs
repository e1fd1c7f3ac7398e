//! stub
pub mod access;
pub mod breaker;
pub mod buckets;
pub mod cache;
pub mod limits;
pub mod retry;
