//! The admin door: health, metrics and state for operators; changes for authorized operators alone.
//!
//! Three listeners share one set of pages. `admin` (loopback) shows almost everything; a bearer token of role `operate` gives access to
//! the configuration and to changes. As soon as there is a token of role `read`, looking needs a token too. The unix socket (0600) is for
//! the command line and needs no token. `probes` (all interfaces) has `/live`, `/ready` and `/metrics` alone. The pages get their content through [`Operator`]: this module knows nothing else
//! of the proxy.

mod access;
mod bind;
pub mod client;
mod health;
pub mod live;
mod owner;
mod page;
mod pages;
mod scrape;
mod stall;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, fmt, future::Future, io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
};

pub use bind::{BindError, Listeners, Socket};
pub use health::{Dependency, Health, State};

use crate::{
    config::{
        self,
        error::{Mistake, Mistakes},
        read::edit::Edit,
    },
    telemetry::metrics::Exposition,
};

/// Most connections of one listener; further ones wait in its backlog.
const MAX_CONNECTIONS: usize = 64;

/// Time for a complete request head, and for its body.
const READ: Duration = Duration::from_secs(10);

/// Longest request body.
const MAX_BODY: usize = 64 * 1024;

/// The rest of the proxy as the pages need it. Its methods run on the side runtime: they must not block.
pub trait Operator: Send + Sync + 'static {
    /// For `/health`.
    fn health(&self) -> Health;

    /// For `/ready`; the error says in words why the proxy is not ready (starting, draining).
    fn ready(&self) -> Result<(), String>;

    /// For `/metrics`.
    fn metrics(&self, form: Exposition) -> String;

    /// For `/api/...`. Secrets are redacted.
    fn view(&self, view: View) -> Value;

    /// The answer to a question. The question is given as pairs of words.
    fn ask(&self, about: About, words: Vec<(String, String)>) -> Pin<Box<dyn Future<Output = Result<Value, Refused>> + Send + '_>>;

    /// The numbers of now, for `/api/live`, and the flows since the last call.
    fn live(&self) -> live::Numbers;

    /// The last [`live::PAST`] minutes, for `/api/live`.
    fn minutes(&self) -> live::Minutes;

    /// Begins to count flows, or ends it: somebody looks, or nobody does.
    fn watch(&self, on: bool);

    /// Is told of every change that was asked for, and of every visitor who was turned away: who, what, and whether it was done.
    fn asked(&self, _who: &str, _what: &str, _outcome: VisitEnd) {}

    /// Makes a change that is already allowed. Gives the result, or why the change was not made.
    fn act(&self, action: Action) -> Pin<Box<dyn Future<Output = Result<Value, Refused>> + Send + '_>>;
}

/// How the request for a change, or for a page that is not for everybody, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisitEnd {
    /// The change was made.
    Done,
    /// The change was not made.
    Refused,
    /// The configuration was shown.
    Shown,
    /// The visitor may not do this.
    Forbidden,
}

/// A page of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum View {
    Config,
    Routes,
    /// The policies of every route with their numbers, as `outrigger explain` says them.
    Terms,
    Limits,
    Breakers,
    /// The app and the providers: keys, breakers, whether they answer.
    Targets,
    Cache,
    /// The cache keys that save most, ordered by this word.
    CacheTop(&'static str),
    Connections,
    /// Dollars by caller.
    Spend,
    /// The state of the ledger.
    Ledger,
    /// Requests that wait for a yes.
    Approvals,
    /// Clients that are out for a while.
    Bans,
    /// Incidents, channels and rules of alerts.
    Alerts,
    /// States and figures of monitors.
    Monitors,
}

/// The matter of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The ledger, for `/api/usage`.
    Usage,
    /// The last failures, for `/api/errors`.
    Errors,
    /// Requests that policies in `observe` would have refused, for `/api/observed`.
    Observed,
    /// The earlier versions of the configuration, for `/api/config/history`.
    History,
}

/// A change.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Read the configuration file again.
    Reload,
    /// Fail readiness, finish the requests in flight, leave.
    Drain,
    /// Drop cache entries.
    Purge {
        /// The entries meant.
        which: Purge,
        /// Mark them stale instead: they may still be served where stale answers may, and can be revalidated cheaply.
        soft: bool,
    },
    /// Fill the cache with these paths; an empty list means those of the configuration.
    Warm(Vec<String>),
    /// Hold a breaker open.
    OpenBreaker(String),
    /// Close a breaker and forget its failures.
    CloseBreaker(String),
    /// Change a limit while it counts.
    Limit {
        /// Its name; `None`: every limit that has a counter of this key.
        limit: Option<String>,
        /// Whose counter; `None`: the only one, or each.
        key: Option<String>,
        /// What becomes of it.
        order: LimitOrder,
    },
    /// Erase a caller's name from the ledger.
    Erase(Erased),
    /// Write a copy of the ledger to a new file.
    Snapshot(PathBuf),
    /// Put a copy in the place of the ledger.
    Restore(PathBuf),
    /// Let a client in again that is out.
    LiftBan(String),
    /// Send a test to this channel of alerts.
    TestAlert(String),
    /// Say what a change of the configuration would do. Changes nothing.
    Plan(Change),
    /// Change the configuration's file, and read it again.
    Change(Change, By),
    /// Answer a request that waits for a yes.
    Approve {
        /// Its id.
        id: String,
        /// The answer.
        yes: bool,
    },
}

/// What becomes of a limit's counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOrder {
    /// It begins anew.
    Reset,
    /// Its amount is larger for a while.
    Raise {
        /// In hundredths of the amount.
        percent: u32,
        /// How long.
        time: Duration,
    },
}

/// A change of the configuration's file.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Edits, in this order.
    Edits(Vec<Edit>),
    /// An earlier version.
    Version(u64),
}

/// Who changes the configuration, and from what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Whose change it is.
    pub who: String,
    /// The hash of the file that the change was planned for; `None`: whatever the file is.
    pub base: Option<String>,
    /// What its maker says of it.
    pub note: Option<String>,
}

/// A name that is erased. `Debug` does not show the name: the log of changes must not keep the name.
#[derive(Clone, PartialEq, Eq)]
pub struct Erased(pub String);

impl fmt::Debug for Erased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a caller")
    }
}

/// The cache entries that a purge means.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purge {
    /// Those with this tag.
    Tag(String),
    /// The one under this key.
    Key(String),
    /// Those of this route.
    Route(String),
    /// Those whose path begins with this text.
    Prefix(String),
    /// Every one; must be `true`.
    All(bool),
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no such thing (404).
    NotFound(String),
    /// The request is not valid; every mistake found in it (422).
    Invalid(Vec<Mistake>),
    /// The file is refused; every mistake found in it (422).
    File(Mistakes),
    /// Not possible now (409).
    Conflict(String),
    /// A question that cannot be read (400).
    Unclear(String),
}

/// The access rules of the door.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Who may come in over TCP.
    tokens: access::Tokens,
    /// The socket as bound; refusals name it.
    pub socket: Option<PathBuf>,
}

impl Settings {
    /// As configured.
    pub fn new(config: &config::Admin) -> Self {
        Self { tokens: access::Tokens::new(&config.tokens), socket: None }
    }
}

/// The listener that a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrance {
    /// TCP, with the address of the connection.
    Admin(SocketAddr),
    /// The unix socket, with the user at its other end.
    Socket(Option<u32>),
    Probes,
}

impl Entrance {
    /// Whether the request came over an address that is not loopback.
    fn is_of_a_network(self) -> bool {
        matches!(self, Self::Admin(came_to) if !came_to.ip().to_canonical().is_loopback())
    }
}

/// The running door. Dropping it closes the listeners, ends their connections and removes the socket file.
pub struct Server {
    tasks: JoinSet<()>,
    admin: Option<SocketAddr>,
    probes: Option<SocketAddr>,
    _socket: Option<bind::SocketFile>,
}

struct Shared {
    operator: Arc<dyn Operator>,
    hub: Arc<live::Hub>,
    settings: Settings,
}

/// Serves the listeners on the current runtime (the side runtime).
pub fn serve(listeners: Listeners, mut settings: Settings, operator: Arc<dyn Operator>) -> Server {
    settings.socket = listeners.socket.as_ref().map(|socket| socket.file.path.clone());
    let shared = Arc::new(Shared { hub: live::Hub::new(operator.clone()), operator, settings });
    let mut tasks = JoinSet::new();
    let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let (admin, probes) = (address(&listeners.admin), address(&listeners.probes));
    if let Some(listener) = listeners.admin {
        tasks.spawn(accept(Door::Admin(listener), shared.clone()));
    }
    if let Some(listener) = listeners.probes {
        tasks.spawn(accept(Door::Probes(listener), shared.clone()));
    }
    let socket = listeners.socket.map(|socket| {
        tasks.spawn(accept(Door::Socket(socket.listener), shared.clone()));
        socket.file
    });
    Server { tasks, admin, probes, _socket: socket }
}

impl Server {
    /// The bound address of the admin listener.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The bound address of the probes listener.
    pub fn probes(&self) -> Option<SocketAddr> {
        self.probes
    }
}

enum Door {
    Admin(TcpListener),
    Probes(TcpListener),
    Socket(UnixListener),
}

/// Accepts for ever; connections end with the task.
async fn accept(door: Door, shared: Arc<Shared>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        let accepted: io::Result<()> = match &door {
            Door::Admin(listener) => listener.accept().await.and_then(|(tcp, _)| {
                let entrance = Entrance::Admin(tcp.local_addr()?);
                connections.spawn(async move { (connection(tcp, entrance, shared).await, permit).0 });
                Ok(())
            }),
            Door::Probes(listener) => listener.accept().await.map(|(tcp, _)| {
                connections.spawn(async move { (connection(tcp, Entrance::Probes, shared).await, permit).0 });
            }),
            Door::Socket(listener) => listener.accept().await.map(|(unix, _)| {
                let uid = unix.peer_cred().ok().map(|peer| peer.uid());
                connections.spawn(async move { (connection(unix, Entrance::Socket(uid), shared).await, permit).0 });
            }),
        };
        if let Err(error) = accepted {
            // most likely no descriptor is left: an immediate retry would only burn CPU
            tracing::warn!(%error, "the admin door cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn connection(io: impl AsyncRead + AsyncWrite + Unpin, entrance: Entrance, shared: Arc<Shared>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<Response<live::Body>, Infallible>(pages::answer(request, entrance, &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ)
        .max_buf_size(32 * 1024)
        .serve_connection(TokioIo::new(stall::Bounded::new(io)), answer);
    if let Err(error) = served.await {
        tracing::debug!(%error, "an admin connection broke");
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("admin", &self.admin).field("probes", &self.probes).field("tasks", &self.tasks.len()).finish()
    }
}
