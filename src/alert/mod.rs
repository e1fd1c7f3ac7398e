//! Alerts without any input or output: facts go in, incidents come out, and notices are made of them.
//!
//! [`Engine`] compares each look at the numbers ([`Facts`]) with the rules. It opens an incident, makes it worse and ends it.
//! [`Dispatch`] makes notices of these changes: it groups, waits for the end of quiet hours, reminds, and adds up the day. Both go by
//! the clock in the facts alone.

mod carry;
mod dispatch;
mod engine;
mod facts;
mod findings;
mod hits;
mod notice;
#[cfg(test)]
mod rules_tests;
pub mod runbook;
#[cfg(test)]
mod simulation;
mod trail;

pub use carry::{Carry, OpenIncident};
pub use dispatch::{Dispatch, Terms, in_window};
pub use engine::{Change, Engine, Incident, What};
pub use facts::{Counts, Facts, Gauge, Route, Standing, Totals};
pub use hits::{Hits, Struck};
pub use notice::{Hit, Item, Kind, Notice};
