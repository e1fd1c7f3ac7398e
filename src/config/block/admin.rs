//! `admin`: health, metrics and state.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::tokens::{self, Token};
use crate::config::{
    Secret,
    build::Build,
    scalars::{OrOff, W},
    schema::{Json, Key, Kind, Scalar, Table, kinds::SECRET},
    written::Items,
};

/// The admin door.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address of health, metrics and API; loopback by default. `None`: closed.
    pub listen: Option<SocketAddr>,
    /// Address of `/live`, `/ready` and `/metrics` alone. `None`: closed.
    pub probes: Option<SocketAddr>,
    /// Bearer tokens. Without one of role `operate`, changes go only over the socket.
    pub tokens: Vec<Token>,
    /// Unix socket of the command line, mode 0600. `None`: no socket.
    pub socket: Option<PathBuf>,
    /// Whether the socket has its usual place. The proxy then makes its directory, for this user alone.
    pub socket_is_usual: bool,
}

/// The admin door's usual port.
pub const ADMIN_PORT: u16 = 9901;

/// The usual place of the admin socket, on which proxy and command line agree. `port` is the port of the admin door. The place belongs
/// to this user alone: `$XDG_RUNTIME_DIR`, else a directory below that of temporary files.
pub fn usual_socket(port: u16, env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let own = || temporary(env).join(format!("outrigger-{}", rustix::process::geteuid().as_raw()));
    absolute(env("XDG_RUNTIME_DIR")).unwrap_or_else(own).join(format!("outrigger-{port}.sock"))
}

/// The directory of temporary files.
pub fn temporary(env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    absolute(env("TMPDIR")).unwrap_or_else(|| PathBuf::from("/tmp"))
}

fn absolute(dir: Option<String>) -> Option<PathBuf> {
    dir.map(PathBuf::from).filter(|dir| dir.is_absolute())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Written {
    listen: W<OrOff<SocketAddr>>,
    probes: W<OrOff<SocketAddr>>,
    token: Option<W<Secret>>,
    #[serde(default)]
    tokens: Items<tokens::Written>,
    socket: Option<W<OrOff<PathBuf>>>,
}

const ADDRESS_OR_OFF: Kind = Kind::Scalar(&Scalar::new::<OrOff<SocketAddr>>(
    "an address to listen on or `off`",
    Json::Pattern(r"^off$|^.+:[0-9]+$"),
    "127.0.0.1:9901",
));
const PATH_OR_OFF: Kind = Kind::Scalar(&Scalar::new::<OrOff<PathBuf>>("a path or `off`", Json::Text, "/run/outrigger.sock"));

pub(in crate::config) static TABLE: Table = Table::new(
    "admin",
    "Health, metrics and state.",
    &[
        Key::new("listen", ADDRESS_OR_OFF, "Everything; keep it on loopback.").default("127.0.0.1:9901"),
        Key::new("probes", ADDRESS_OR_OFF, "Only /live, /ready and /metrics; may face the network.").default("0.0.0.0:9902"),
        Key::new("token", SECRET, "Bearer token that allows changes and /api/config over TCP; without one, both go only over the socket.")
            .default("\"${OUTRIGGER_ADMIN_TOKEN:-}\"")
            .eg("\"${OUTRIGGER_ADMIN_TOKEN:-}\""),
        Key::new("tokens", Kind::List(&Kind::Table(&tokens::TABLE)), "More tokens, each with a name and a role.")
            .eg("[{name: grafana, role: read, token: \"${GRAFANA_TOKEN:-}\"}]"),
        Key::new("socket", PATH_OR_OFF, "Unix socket of the command line, readable by its owner alone.")
            .says("outrigger-PORT.sock in `$XDG_RUNTIME_DIR`, else in outrigger-UID/ below `$TMPDIR` or /tmp; PORT is the admin port"),
    ],
);

pub(in crate::config) fn build(build: &mut Build<'_>, written: Written) -> Admin {
    let listen = written.listen.0.0;
    let token = written.token.map(|token| token.0);
    if let Some(at) = listen
        && !at.ip().is_loopback()
    {
        let unprotected = if token.is_none() && written.tokens.is_empty() { ", and `admin.token` is not set" } else { "" };
        let message = format!(
            "`{at}` shows the state of the proxy to whoever reaches it{unprotected}; `probes` is the listener that may face the network"
        );
        build.note(build.seen.value("admin.listen"), message);
    }
    let socket_is_usual = written.socket.is_none();
    let socket = match written.socket {
        Some(word) => word.0.0,
        None => default_socket(build, listen.map_or(0, |at| at.port())),
    };
    let tokens = tokens::build(build, token.as_ref(), written.tokens);
    Admin { listen, probes: written.probes.0.0, tokens, socket, socket_is_usual }
}

/// The usual socket: one per admin port, for several proxies on a machine. `None`: the port is not known beforehand.
fn default_socket(build: &Build<'_>, port: u16) -> Option<PathBuf> {
    (port != 0).then(|| usual_socket(port, build.env))
}
