//! stub
pub mod access;
pub mod breaker;
pub mod cache;
pub mod limits;
