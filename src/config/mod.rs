//! The configuration as meant: every name is resolved, every number is in range, nothing is left to check.
//!
//! [`read`] turns `proxy.yaml` into a [`Config`], or into the complete list of its mistakes ([`error`]). Other modules parse no
//! configuration, and this module serves no request.
//!
//! Each policy stands in one file of `policy/`, each other block of the file in one file of `block/`: the type as meant, the form as
//! written, the rows of the schema, the build with every mistake, the tests. `schema` knows tables and prints them, `scalars` reads
//! words, `read` walks a file along the tables, `build` calls the builds in turn.

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
mod web_origin;
mod written;

use std::num::NonZeroUsize;

pub use block::*;
pub use key::KeyPart;
pub use mode::Mode;
pub use policy::*;
pub use secrecy::is_secret_value;
pub use tls::{Authorities, Identity, Pin};
pub use values::{Glob, Origin, PathPattern, Scheme, Secret, Segment, next_segment};
pub use web_origin::{Sent, WebOrigin};

/// One running proxy. Built by [`read`] only.
#[derive(Debug, Clone)]
pub struct Config {
    /// The door in front of the app. `None`: only `outbound` is wanted.
    pub inbound: Option<Inbound>,
    /// The door to model providers. `None`: the door stays closed.
    pub outbound: Option<Outbound>,
    /// Health, metrics, API.
    pub admin: Admin,
    /// Memory and Redis shared by cache, limits and secrets.
    pub store: Store,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
    /// What is watched, and who is told. `None`: nothing is watched.
    pub alerts: Option<Alerts>,
    /// The log of what matters for security. `None`: there is none.
    pub audit: Option<Audit>,
    /// What is checked. `None`: nothing.
    pub monitors: Option<Vec<Monitor>>,
    /// Where failures are reported. `None`: nowhere.
    pub sentry: Option<Sentry>,
    /// The page that shows it. `None`: there is none.
    pub status_page: Option<StatusPage>,
    /// How the process leaves.
    pub shutdown: Shutdown,
    /// Threads that serve. `None`: as many as the CPU quota allows.
    pub workers: Option<NonZeroUsize>,
    /// Resident bytes of the process beyond which it sheds load. `None`: it never sheds load.
    pub memory_limit: Option<u64>,
    /// Bytes of request bodies that the process may hold at once, for policies that read them first.
    pub body_budget: u64,
}
