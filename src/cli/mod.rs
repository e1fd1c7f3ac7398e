//! In the making.

pub mod client;
pub mod demo;
pub mod mock;
