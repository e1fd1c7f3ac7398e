//! The configuration as meant: every name resolved, every number in range, nothing left to check.
//!
//! `read` turns `proxy.yaml` (written shape: `schema`) into these types or into a complete list of
//! mistakes (`error`). Nothing below this module parses configuration, and nothing here behaves.

mod block;
mod build;
pub mod error;
pub mod human;
mod key;
mod mode;
mod names;
mod policy;
pub mod read;
mod scalars;
pub mod schema;
mod secrecy;
#[cfg(test)]
mod testing;
pub mod tls;
mod values;
mod written;

use std::num::NonZeroUsize;

pub use block::*;
pub use key::KeyPart;
pub use mode::Mode;
pub use policy::*;
pub use tls::{Authorities, Identity, Pin};
pub use values::{Glob, Origin, PathPattern, Scheme, Secret, Segment};

/// One running proxy. Built by [`read`] only.
#[derive(Debug, Clone)]
pub struct Config {
    /// Clients to the app; absent when only `outbound` is wanted.
    pub inbound: Option<Inbound>,
    /// The app to model providers; absent opens nothing.
    pub outbound: Option<Outbound>,
    /// Health, metrics, API.
    pub admin: Admin,
    /// Memory and Redis shared by cache, limits and secrets.
    pub store: Store,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
    /// How the process leaves.
    pub shutdown: Shutdown,
    /// Threads that serve; `None`: as many as the CPU quota allows.
    pub workers: Option<NonZeroUsize>,
    /// Bytes the process may have resident before it sheds load. `None`: it never does.
    pub memory_limit: Option<u64>,
    /// Bytes of request bodies the process may hold at once for policies that read them first.
    pub body_budget: u64,
}
