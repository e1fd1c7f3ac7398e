//! stub
pub mod access;
pub mod buckets;
pub mod breaker;
pub mod cache;
pub mod limits;
pub mod retry;
