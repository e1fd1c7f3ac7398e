//! A connection becomes arrivals: accept, bound, parse strictly, hand over to [`crate::proxy`].
//!
//! Each worker has its own listening socket on the same address (SO_REUSEPORT): no connection ever changes threads.
//!
//! HTTP/1.1 is ours (`http1`); hyper carries HTTP/2. These parts of HTTP/2 are left to hyper, because no other place was found for them:
//!
//! | what hyper does | why it is left |
//! |---|---|
//! | cannot send 1xx over HTTP/2, nor 100 for its `Expect` | the h2 crate could; hyper does not expose it |
//! | HTTP/2 windows that a client never opens hold up to 64 KiB a stream, until the connection ends | a stream cannot be ended from outside |
//!
//! These decisions are made where RFC 9112 leaves a choice:
//!
//! | decision | why |
//! |---|---|
//! | HTTP/1.2 and above is refused, which a recipient may take for 1.1 (RFC 9110 section 2.5) | there is no such version; a client that names one is probing |
//! | an exchange ends when the client has shut down its sending side | a client that has left looks the same, and an answer that nobody reads costs the app work and money; nginx does so too |
//! | trailers go to clients that say `TE: trailers` | others do not read them (RFC 9110 section 6.5.1) |

pub mod bind;
mod census;
pub mod client;
mod h2;
mod http1;
pub mod narrow;
mod session;
pub mod strict;
pub mod tls;
mod watched;

use std::{cell::Cell, convert::Infallible, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use http::{Method, Request, Uri};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    arrival::{Arrival, ClientCertificate, Door, Informed, PeerText, is_grpc},
    body::{Body, tcp::Tcp},
    clock::Instant,
    config::Bounds,
    http1::{Fields, Id},
    message::RequestHead,
    pressure::{Level, descriptors},
    proxy::{Proxy, exchange::Exchange, live::LiveDoor},
    reject::Reject,
    telemetry::metrics::{Family, GaugeGuard},
};
pub use census::Census;
use census::{Full, Refusal, Seat};
pub use http1::Socket;
use http1::Wire;
use rustls::ServerConfig;
use session::{Order, Outgoing, SWEEP, Serving, Session, SessionBounds, Sessions};
use tls::Handshake;
pub use tls::Terminator;
use watched::Watched;

/// The counts that hold a connection: its seat, and the gauge.
type Held = (Seat, GaugeGuard);

/// The other end of a connection.
struct Peer {
    address: SocketAddr,
    text: PeerText,
    tls: bool,
    /// The handshake agreed on HTTP/2: no other protocol is read.
    chose_h2: bool,
    certificate: Option<Arc<ClientCertificate>>,
}

/// A request's place among those in hand.
struct Place(Rc<Listener>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.census.ended();
    }
}

/// One worker's listener of one door.
pub struct Listener {
    door: Door,
    proxy: Rc<Proxy>,
    sessions: Sessions,
    census: Arc<Census>,
    refusal: Rc<Refusal>,
    terminator: Arc<Terminator>,
    /// Answers close their connections.
    leaving: Cell<bool>,
}

impl Listener {
    /// A listener of `door`; `census` counts the door's connections over all workers, `terminator` says whether they speak TLS.
    pub fn new(door: Door, proxy: Rc<Proxy>, census: Arc<Census>, terminator: Arc<Terminator>) -> Rc<Self> {
        Rc::new(Self { door, proxy, sessions: Sessions::default(), census, refusal: Rc::default(), terminator, leaving: Cell::new(false) })
    }

    /// Accepts until the future is dropped. Connections live on.
    pub async fn accept(self: Rc<Self>, socket: TcpListener) {
        let cells = self.proxy.worker().door(self.door).clone();
        loop {
            match socket.accept().await {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    let seat = match self.seat(&stream, peer) {
                        Ok(seat) => seat,
                        Err(full) => {
                            cells.accept_errors.inc();
                            if full == Full::Descriptors {
                                tracing::warn!(
                                    door = self.door.as_str(),
                                    "no file descriptor is left for another client: {NO_DESCRIPTORS}"
                                );
                            }
                            Refusal::say(&self.refusal, stream, full);
                            continue;
                        }
                    };
                    let held = (seat, cells.connections.enter());
                    keep_alive(&stream);
                    match self.terminator.config() {
                        None => drop(tokio::task::spawn_local(self.clone().serve_clear(Tcp::from(stream), peer, Some(held)))),
                        Some(config) => drop(tokio::task::spawn_local(self.clone().serve_tls(stream, peer, held, config))),
                    }
                }
                Err(error) => {
                    // Most likely even the reserve is used up: only waiting helps, and the kernel keeps the queue.
                    cells.accept_errors.inc();
                    tracing::warn!(%error, door = self.door.as_str(), "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place for a new connection, if there is one.
    fn seat(&self, stream: &TcpStream, peer: SocketAddr) -> Result<Seat, Full> {
        if !descriptors::leaves_reserve(stream) {
            return Err(Full::Descriptors);
        }
        let worker = self.proxy.worker();
        let Some(door) = worker.live.door(self.door) else { return Err(Full::Door) };
        // All clients of a trusted proxy come from its address.
        let per_ip = door.bounds.max_connections_per_ip.filter(|_| !client::is_trusted(peer.ip().to_canonical(), &door.trusted));
        self.census.enter(peer.ip(), door.bounds.max_connections, per_ip)
    }

    /// Ends connections that overstay their bounds. Runs until dropped.
    pub async fn sweep(self: Rc<Self>) {
        let mut every = tokio::time::interval(SWEEP);
        loop {
            every.tick().await;
            self.sessions.sweep(|why| {
                tracing::debug!(bound = why, door = self.door.as_str(), "a client connection has overstayed");
                self.proxy.telemetry.metrics.counter(Family::Timeouts, &["client", why]).inc();
            });
        }
    }

    /// From now on answers close their connections: clients go elsewhere.
    pub fn leave(&self) {
        self.leaving.set(true);
        // HTTP/2 has no such field: the connection sends GOAWAY, and requests in hand are finished.
        self.sessions.tell_multiplexed(Order::Finish);
    }

    /// Idle connections end now, the others after the answer in hand.
    pub fn finish(&self) {
        self.leaving.set(true);
        self.sessions.tell(Order::Finish);
    }

    /// Makes every connection check [`Proxy::stop`].
    pub fn look_at_stop(&self) {
        // A woken connection polls everything that it waits for.
        self.finish();
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.sessions.count()
    }

    /// Serves one client connection in clear text to its end.
    pub async fn serve(self: Rc<Self>, stream: impl Socket + 'static, peer: SocketAddr) {
        self.serve_clear(stream, peer, None).await;
    }

    /// `held` holds the counts of the connection until its very end, also as a tunnel.
    async fn serve_clear(self: Rc<Self>, stream: impl Socket + 'static, peer: SocketAddr, held: Option<Held>) {
        let bounds = self.proxy.bounds(self.door);
        let session = self.open_session(&bounds, held);
        self.serve_session(
            stream,
            Peer { address: peer, text: PeerText::new(peer), tls: false, chose_h2: false, certificate: None },
            session,
            &bounds,
        )
        .await;
    }

    async fn serve_tls(self: Rc<Self>, stream: TcpStream, peer: SocketAddr, held: Held, config: Arc<ServerConfig>) {
        let bounds = self.proxy.bounds(self.door);
        let session = self.open_session(&bounds, Some(held));
        let cells = self.proxy.worker().door(self.door).clone();
        // Boxed: the handshake's future is large, and the connection should not keep its size for life.
        let (stream, certificate) = match Box::pin(tls::accept(&session, stream, config)).await {
            Handshake::Done(stream, certificate) => (stream, certificate),
            Handshake::Clear => return cells.handshake("clear_text"),
            Handshake::Ordered => return cells.handshake("timeout"),
            Handshake::Failed(error) => {
                tracing::debug!(%error, %peer, "no TLS handshake");
                return cells.handshake("failed");
            }
        };
        cells.handshake("ok");
        let chose_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let peer = Peer { address: peer, text: PeerText::new(peer), tls: true, chose_h2, certificate };
        self.serve_session(stream, peer, session, &bounds).await;
    }

    fn open_session(&self, bounds: &Bounds, held: Option<Held>) -> Rc<Session> {
        let ticks = |bound: Duration| bound.as_secs().clamp(1, u64::from(u32::MAX)) as u32;
        let session = self.sessions.open(SessionBounds {
            head: ticks(bounds.header_read),
            idle: ticks(KEEP_ALIVE),
            write: ticks(WRITE_STALL),
            rate: bounds.min_rate.unwrap_or(0),
        });
        if let Some(held) = held {
            session.hold(held);
        }
        session
    }

    async fn serve_session(self: Rc<Self>, socket: impl Socket + 'static, peer: Peer, session: Rc<Session>, bounds: &Bounds) {
        let peer = Rc::new(peer);
        let wire = Wire::new(Box::new(socket), session, self.proxy.shared.bodies.room());
        let h2 = match peer.chose_h2 {
            true => Some(Ok(true)),
            false => wire.session.unless_ordered(|cx| wire.poll_is_h2(cx)).await,
        };
        let ended = match h2 {
            Some(Ok(true)) => Box::pin(self.serve_h2(&wire, &peer, bounds)).await,
            Some(Ok(false)) => http1::serve(&self, &wire, &peer, bounds).await,
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        wire.close();
        if let Err(error) = ended {
            tracing::debug!(%error, peer = %peer.address, "client connection ended");
        }
    }

    async fn serve_h2(self: &Rc<Self>, wire: &Rc<Wire>, peer: &Rc<Peer>, bounds: &Bounds) -> io::Result<()> {
        let session = wire.session.clone();
        let Some(stream) = wire.take_stream() else { return Ok(()) };
        session.multiplexes();
        let service = service_fn({
            let (listener, session, peer) = (self.clone(), session.clone(), peer.clone());
            move |request: Request<Incoming>| listener.clone().answer_h2(request, peer.clone(), session.clone())
        });
        let level = self.proxy.shared.pressure.level();
        let stream = Watched::new(stream, session.clone());
        let connection = h2::builder(bounds, level, &self.proxy.stop).serve_connection(TokioIo::new(stream), service);
        let ended = session.drive(connection, |connection| connection.graceful_shutdown()).await;
        ended.map_err(io::Error::other)
    }

    /// Checks that the door takes such a request and has room for it. The head has passed its own checks.
    fn admit(self: &Rc<Self>, door: &LiveDoor, head: &RequestHead, session: &Session, serving: &mut Serving) -> Result<(), Reject> {
        if door.strict.paths {
            narrow::path(head.uri.path())?;
        }
        if door.strict.headers {
            narrow::fields(&head.headers)?;
        }
        if self.proxy.shared.pressure.level() == Level::Full {
            return Err(Reject::Overloaded("the process has used up its memory (memory_limit)".into()));
        }
        if !self.census.begin(door.bounds.max_requests) {
            return Err(Reject::Overloaded("the listener has as many requests in hand as it may (bounds.max_requests)".into()));
        }
        serving.place = Some(Place(self.clone()));
        if door.bounds.min_rate.is_some() && is_grpc(&head.headers) {
            session.unhurried();
        }
        Ok(())
    }

    /// The request as it came in; peers in `trusted` are believed about the client's address.
    fn arrival(&self, head: RequestHead, peer: &Peer, trusted: &[ipnet::IpNet], interim: Option<Informed>) -> Arrival {
        let (client, trusted) = client::address(peer.address, &head.headers, trusted);
        let mut arrival = Arrival {
            door: self.door,
            peer: peer.address,
            peer_text: peer.text.clone(),
            tls: peer.tls,
            certificate: peer.certificate.clone(),
            client,
            trusted,
            method: head.method,
            uri: head.uri,
            version: head.version,
            headers: head.headers,
            at: Instant::now(),
            interim,
        };
        to_origin_form(&mut arrival);
        arrival
    }

    /// Begins the exchange of a request, and says whether it may be served. `verdict`: the result of the head's own checks.
    fn take_in(
        self: &Rc<Self>,
        head: RequestHead,
        verdict: Result<(), Reject>,
        peer: &Peer,
        session: &Session,
        interim: Option<Informed>,
        serving: &mut Serving,
    ) -> (Box<Exchange>, Result<(), Reject>) {
        let worker = self.proxy.worker();
        let door = worker.live.door(self.door);
        let verdict = verdict.and_then(|()| door.map_or(Ok(()), |door| self.admit(door, &head, session, serving)));
        let arrival = self.arrival(head, peer, door.map_or(&[][..], |door| &door.trusted), interim);
        (Exchange::begin(&self.proxy, worker, arrival), verdict)
    }

    /// Whether the connections of this listener end soon: under memory pressure even a connection's own memory counts.
    fn is_leaving(&self) -> bool {
        self.leaving.get() || self.proxy.shared.pressure.level() != Level::Easy
    }

    /// Not an `async fn`: the first part runs at once and keeps the future small, because hyper moves it about.
    fn answer_h2(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: Rc<Peer>,
        session: Rc<Session>,
    ) -> impl Future<Output = Result<http::Response<Outgoing>, Infallible>> {
        let mut serving = session.serving();
        let (parts, body) = request.into_parts();
        let mut head = RequestHead { method: parts.method, uri: parts.uri, version: parts.version, headers: Fields::from(&parts.headers) };
        let verdict = h2::flatten(&head.uri, &mut head.headers);
        let verdict = verdict.and_then(|()| strict::check(&head.method, &head.uri, head.version, &head.headers));
        let is_last = head.method == Method::CONNECT;
        let body = if hyper::body::Body::is_end_stream(&body) { Body::Empty } else { Body::Http2(body) };
        let (exchange, verdict) = self.take_in(head, verdict, &peer, &session, None, &mut serving);
        async move {
            let mut response = match verdict {
                // No HTTP/2 request becomes a tunnel.
                Ok(()) => Proxy::handle(exchange, body, false).await.into_answer(),
                Err(reject) => Proxy::refuse(exchange, reject),
            };
            let leaving = self.is_leaving();
            if leaving || is_last {
                response.headers_mut().insert(Id::Connection, "close");
            }
            if leaving {
                session.tell(Order::Finish);
            }
            Ok(h2::response(response.map(|body| Outgoing::new(body, serving))))
        }
    }
}

/// Turns on TCP keepalive: it ends connections whose other side has vanished (tunnels have no other bound).
fn keep_alive(stream: &TcpStream) {
    let probes = socket2::TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_keepalive(&probes) {
        tracing::debug!(%error, "no keepalive");
    }
}

/// Turns an absolute-form target into origin form: its authority replaces `Host` (RFC 9112 section 3.2.2).
fn to_origin_form(arrival: &mut Arrival) {
    if let Some(authority) = arrival.uri.authority() {
        arrival.headers.insert(Id::Host, authority.as_str());
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = arrival.uri.path_and_query().cloned();
        arrival.uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

const NO_DESCRIPTORS: &str = "close some, or raise the limit (`ulimit -Hn`, systemd LimitNOFILE=, docker --ulimit nofile=)";
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(15);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest idle time of a client connection; longer than most clients keep theirs.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A client that takes no byte for this long is gone.
const WRITE_STALL: Duration = Duration::from_secs(60);
