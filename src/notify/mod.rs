//! Notices on their way: rendered for each channel, kept until they are delivered, told once by all replicas.
//!
//! [`Courier`] owns the queue. A notice is tried for a day, with growing pauses; the queue is bounded and outlives a restart where there
//! is a `state_dir`.

mod courier;
pub mod format;
pub mod letter;
mod mail;
mod queue;
mod replicas;
pub mod standard;

pub use courier::{ChannelState, Courier};
pub use queue::{Outcome, Queue};
pub use replicas::Replicas;
