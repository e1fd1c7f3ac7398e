//! In the making.

pub mod check;
