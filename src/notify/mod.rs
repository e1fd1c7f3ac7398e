//! Notices on their way: rendered for each channel, kept until they are delivered, told once by all replicas.
//!
//! [`Courier`] owns the queue. A notice is tried for a day, with growing pauses; the queue is bounded. With a `state_dir` the queue, the
//! open incidents and who was told of them outlive a restart.

mod courier;
pub mod format;
pub mod letter;
mod mail;
mod pouch;
mod queue;
mod replicas;
mod shelf;
pub mod standard;

pub use courier::{ChannelState, Courier};
pub use queue::{Outcome, Queue};
pub use replicas::Replicas;
