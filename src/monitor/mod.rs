//! Monitors without any input or output: results of checks go in, incidents and figures of availability come out.
//!
//! A [`Track`] follows one monitor. Two failures in a row open an incident, which began with the first of them; the first success ends
//! it. A slow answer is a warning. [`History`] keeps 90 days: incidents, and the time that was watched at all.

mod history;
mod track;

pub use history::{DAY, Days, History, Past};
pub use track::{Check, Event, State, Track};
