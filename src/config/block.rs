//! The blocks of the file that are no policies: one file each, with the type as meant, the form as written, the rows of the schema, the
//! build with every mistake, and the tests.

pub(super) mod admin;
pub(super) mod alerts;
pub(super) mod apps;
pub(super) mod audit;
pub(super) mod bounds;
mod errors;
pub(super) mod file;
pub(super) mod inbound;
mod keys;
pub(super) mod ledger;
mod members;
mod models;
pub(super) mod monitors;
pub(super) mod on_cut;
pub(super) mod outbound;
pub(super) mod price;
pub(super) mod provider;
pub(super) mod route;
pub(super) mod sentry;
pub(super) mod shutdown;
pub(super) mod status_page;
pub(super) mod store;
mod target;
pub(super) mod telemetry;
pub(super) mod tls;
mod tokens;
pub(super) mod unattributed;
pub(super) mod warm;

use ipnet::IpNet;

pub use admin::{ADMIN_PORT, Admin, temporary, usual_socket};
pub use alerts::{AlertRule, Alerts, Channel, Mail, MailSecurity, Means, Measure, Quiet, Severity, UnitOf, channels::signing_key};
pub use apps::NamedApp;
pub use audit::Audit;
pub use bounds::Bounds;
pub use errors::FailureBounds;
pub use inbound::{CallerSource, Inbound, Strict};
pub use keys::ProviderKey;
pub use ledger::Ledger;
pub use members::{Choose, Member, Members};
pub use models::{ModelAim, ModelRule, Models, names_version};
pub use monitors::{Monitor, Probe};
pub use on_cut::{DrainBounds, OnCut};
pub use outbound::Outbound;
pub use price::{LongPrice, Metering, Price, PriceTier};
pub use provider::{Api, Provider};
pub use route::{Match, Operation, Route};
pub use sentry::Sentry;
pub use shutdown::Shutdown;
pub use status_page::StatusPage;
pub use store::{Redis, Store};
pub use target::Protocol;
pub use telemetry::{LogFormat, SentLogs, Telemetry};
pub use tls::{ClientAuth, ListenerTls, RedisTls, TargetTls, TlsVersion};
pub use tokens::{Role, Token};
pub use unattributed::Unattributed;
pub use warm::Warm;

use super::{
    scalars::{Nets, W},
    schema::{Key, kinds::BOOL},
    written::Items,
};

/// The row of `server_timing`, which both doors have.
const SERVER_TIMING: Key = Key::new(
    "server_timing",
    BOOL,
    "Every answer says in `Server-Timing` what the proxy and the upstream took, what the cache did, and how many tries there were.",
)
.default("false");

/// A list of nets as meant: sorted, each once.
fn net_list(written: Items<W<Nets>>) -> Vec<IpNet> {
    let mut out: Vec<IpNet> = written.into_iter().flatten().flat_map(|nets| nets.0.0).collect();
    out.sort();
    out.dedup();
    out
}
