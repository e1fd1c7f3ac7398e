//! In the making.

pub mod cache;
pub mod limits;
