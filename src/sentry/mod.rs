//! Error reports to Sentry (or to what speaks its protocol): envelopes made of the last failures, and the limits that the receiver sets.
//!
//! Nothing on the way of requests knows of it: a task beside it reads the ring of failures, which has no bodies and no secrets. A report
//! names the route, and neither the path nor the query; the caller is a hash.

mod event;
mod limits;

pub use event::{Panic, Place, dropped, envelope, of_failure, of_panic};
pub use limits::Limits;
