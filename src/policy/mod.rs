//! The policies: each one is pure where it can be, and none imports another. [`buckets`] and [`turns`] hold the code that two of them share;
//! `proxy` tells the order in which they run.

pub mod access;
pub mod attacks;
pub mod auth;
pub mod balance;
pub mod bans;
pub mod breaker;
pub mod buckets;
pub mod cache;
pub mod coded;
pub mod compress;
pub mod cors;
pub mod csrf;
pub mod given_up;
pub mod headers;
pub mod keyring;
pub mod limits;
pub mod preflight;
pub mod privacy;
pub mod retry;
pub mod rewrite;
pub mod timeout;
pub mod turns;
pub mod validate;
