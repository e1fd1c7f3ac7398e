//! In the making.

pub mod date;
pub mod directives;
pub mod freshness;
pub mod range;
pub mod storable;
pub mod validate;
pub mod vary;
