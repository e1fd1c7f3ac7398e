//! What the outbound door understands of model calls. Everything here is pure: no I/O, no time, no chance.
pub mod call;
pub mod errors;
pub mod facts;
mod json;
pub mod meter;
pub mod rewrite;
pub mod sse;
