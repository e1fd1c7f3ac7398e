//! HTTP/2 towards a target (RFC 9113): many requests over one connection, another connection when its streams run out.
//!
//! A slow reader holds its stream's window and nothing else: a connection's window is as large as all its streams' windows
//! together, and no stream waits for another.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, header, uri};
use hyper::{
    client::conn::http2::{self, SendRequest},
    rt::Executor,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Notify, time::Instant};

use super::{
    Outgoing, SendError, Stream, Target,
    pool::Freed,
    slots::{self, Slot},
};
use crate::{
    arrival::Informed,
    body::Body,
    config::Protocol,
    http1::{Fields, Id, IdSet, Value},
    reject::Fault,
    telemetry::metrics::TargetCells,
    underway::InHand,
};

/// Most streams of one connection, even if the target allows more.
const MAX_STREAMS: usize = 100;
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// A target that owes an answer and does not answer a ping within this time is gone.
const PING: Duration = Duration::from_secs(20);
/// Largest response head.
const MAX_HEAD: u32 = 64 << 10;

/// Streams allowed before the target's first SETTINGS: a request sent earlier may be one too many.
const UNSAID: usize = 0;
/// Longest wait for those SETTINGS, which are the target's first frame (RFC 9113 section 3.4).
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a connection did not start.
#[derive(Debug)]
pub enum Unstarted {
    /// hyper's error.
    Broken(hyper::Error),
    /// The target closed it.
    Closed,
    /// The target sends no SETTINGS: it does not speak HTTP/2.
    Silent,
}

/// A worker's HTTP/2 connections to one target.
#[derive(Default)]
pub struct Channels {
    open: RefCell<Vec<Rc<Channel>>>,
    /// Whether the target chose HTTP/2 on the last new connection.
    chose: Cell<Option<bool>>,
    /// The connection that a task is opening; other requests wait for the outcome.
    opening: RefCell<Option<Rc<Opening>>>,
}

/// One connection.
pub struct Channel {
    sender: SendRequest<Body>,
    /// Streams in use.
    streams: Cell<usize>,
    /// Most streams that the target allows.
    most: Rc<Cell<usize>>,
    idle_since: Cell<Instant>,
    served: Cell<bool>,
    /// The pool no longer has the connection.
    gone: Cell<bool>,
    cells: Rc<TargetCells>,
    freed: Rc<Freed>,
}

/// A place among a connection's streams.
pub struct Seat(Rc<Channel>, Option<InHand>);

/// A connection that is being opened.
#[derive(Default)]
pub struct Opening {
    ended: RefCell<Option<Option<SendError>>>,
    changed: Notify,
}

/// The duty to open it. Its drop tells the waiting requests the outcome, even after a panic or when the task is dropped.
pub struct Opener(Rc<Opening>);

impl Opener {
    /// The connection is open, or failed with `error`.
    pub fn ended(self, error: Option<SendError>) {
        *self.0.ended.borrow_mut() = Some(error);
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        let broke_off = || {
            let detail = "opening the connection broke off".to_owned();
            Some(SendError { fault: Fault::Reset, detail, reused: false, unsent: true, timeout: None })
        };
        self.0.ended.borrow_mut().get_or_insert_with(broke_off);
        self.0.changed.notify_waiters();
    }
}

impl Opening {
    /// Waits until the connection is open; the error says why it is not.
    pub async fn ended(&self) -> Result<(), SendError> {
        loop {
            let changed = self.changed.notified();
            if let Some(ended) = &*self.ended.borrow() {
                return ended.clone().map_or(Ok(()), Err);
            }
            changed.await;
        }
    }
}

impl Channels {
    /// A stream of an open connection.
    pub fn reserve(&self) -> Option<Seat> {
        let open = self.open.borrow();
        let channel = open.iter().find(|channel| channel.sender.is_ready() && channel.streams.get() < channel.most.get())?;
        Some(channel.take())
    }

    /// Whether a new connection to `target` will probably speak HTTP/2: then several requests can wait for one.
    pub fn are_expected(&self, target: &Target) -> bool {
        self.chose.get().unwrap_or(match target.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => target.tls.is_some(),
        })
    }

    /// Notes the protocol of a new connection.
    pub fn learn(&self, http2: bool) {
        self.chose.set(Some(http2));
    }

    /// The connection that is being opened; if no task opens one yet, with the duty to do so.
    pub fn opening(&self) -> (Rc<Opening>, Option<Opener>) {
        let mut opening = self.opening.borrow_mut();
        match &*opening {
            Some(known) if known.ended.borrow().is_none() => (known.clone(), None),
            _ => {
                let fresh = opening.insert(Rc::default()).clone();
                (fresh.clone(), Some(Opener(fresh)))
            }
        }
    }

    /// Begins HTTP/2 on a new connection in `slot`, and waits until the target has said how many streams it allows.
    pub async fn start(&self, stream: Stream, slot: Slot, cells: &Rc<TargetCells>, freed: &Rc<Freed>) -> Result<(), Unstarted> {
        let stirred = Rc::new(Notify::new());
        let begun = Rc::new(Cell::new(false));
        let mut builder = http2::Builder::new(Local { stirred: stirred.clone(), begun: begun.clone() });
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEAD)
            .initial_max_send_streams(UNSAID)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let (sender, mut connection) = builder.handshake(TokioIo::new(stream)).await.map_err(Unstarted::Broken)?;
        let most = Rc::new(Cell::new(UNSAID));
        let mut drive = {
            let most = most.clone();
            move |cx: &mut Context<'_>| {
                let polled = Pin::new(&mut connection).poll(cx);
                most.set(connection.current_max_send_streams().min(MAX_STREAMS));
                polled
            }
        };
        let settled = async {
            while most.get() == UNSAID {
                let mut stirred = pin!(stirred.notified());
                let ended = std::future::poll_fn(|cx| match drive(cx) {
                    Poll::Ready(ended) => Poll::Ready(Some(ended)),
                    Poll::Pending => stirred.as_mut().poll(cx).map(|()| None),
                });
                match ended.await {
                    None => {}
                    Some(Ok(())) => return Err(Unstarted::Closed),
                    Some(Err(error)) => return Err(Unstarted::Broken(error)),
                }
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, settled).await.map_err(|_| Unstarted::Silent)??;
        begun.set(true);
        tokio::task::spawn_local(async move {
            let _slot = slot;
            if let Err(error) = std::future::poll_fn(drive).await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        let channel = Channel {
            sender,
            streams: Cell::new(0),
            most,
            idle_since: Cell::new(Instant::now()),
            served: Cell::new(false),
            gone: Cell::new(false),
            cells: cells.clone(),
            freed: freed.clone(),
        };
        cells.idle.inc();
        self.open.borrow_mut().push(Rc::new(channel));
        Ok(())
    }

    /// Drops connections that are closed or were idle for too long, and as many more idle ones as `wanted` slots.
    pub fn sweep(&self, now: Instant, keep_idle: Duration, wanted: &mut usize) {
        self.open.borrow_mut().retain(|channel| {
            let idle = channel.streams.get() == 0;
            let given_up = idle && channel.sender.is_ready() && slots::is_wanted(wanted);
            let keep = channel.sender.is_ready() && !given_up && !(idle && now.duration_since(channel.idle_since.get()) >= keep_idle);
            if !keep {
                channel.go();
            }
            keep
        });
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.open.borrow().iter().for_each(|channel| channel.go());
    }
}

impl Channel {
    fn take(self: &Rc<Self>) -> Seat {
        if self.streams.replace(self.streams.get() + 1) == 0 {
            self.cells.idle.dec();
            self.cells.active.inc();
        }
        Seat(self.clone(), None)
    }

    /// Takes the connection out of the pool's counts; its streams may end.
    fn go(&self) {
        if !self.gone.replace(true) && self.streams.get() == 0 {
            self.cells.idle.dec();
        }
    }
}

impl Seat {
    /// The stream carries `work`, which is over with the stream.
    pub fn carry(&mut self, work: InHand) {
        self.1 = Some(work);
    }

    /// Notes that a request goes out. Gives whether the connection has served before.
    pub fn begin(&self) -> bool {
        self.0.served.replace(true)
    }

    /// The sender of requests on this connection.
    pub fn sender(&self) -> SendRequest<Body> {
        self.0.sender.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let channel = &*self.0;
        channel.streams.set(channel.streams.get() - 1);
        channel.freed.tell();
        if channel.streams.get() == 0 {
            channel.idle_since.set(Instant::now());
            channel.cells.active.dec();
            if !channel.gone.get() {
                channel.cells.idle.inc();
            }
        }
    }
}

/// Fields that are, or hold, somebody's credential.
const CREDENTIALS: IdSet = IdSet::of(&[Id::Authorization, Id::ProxyAuthorization, Id::Cookie, Id::ApiKey, Id::XApiKey, Id::XGoogApiKey]);

/// The request in HTTP/2's form: a whole target with its authority, and no `Expect`.
pub fn request(head: &Outgoing<'_>, body: Body, target: &Target, interim: Option<&Informed>) -> Request<Body> {
    let host = head.headers.get(Id::Host).map_or(target.authority.as_bytes(), Value::as_bytes);
    let mut parts = uri::Parts::default();
    parts.scheme = Some(if target.tls.is_some() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
    parts.authority = uri::Authority::try_from(host).ok();
    parts.path_and_query = head.uri.path_and_query().cloned();
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_else(|_| head.uri.clone());
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = HeaderMap::from(&head.headers);
    request.headers_mut().remove(header::HOST);
    // A credential is never put into the table of the connection's compression (RFC 7541 section 7.1.3).
    for (_, value) in request.headers_mut().iter_mut().filter(|(name, _)| CREDENTIALS.has(Id::of(name.as_str().as_bytes()))) {
        value.set_sensitive(true);
    }
    if request.headers_mut().remove(header::EXPECT).is_some()
        && let Some(to) = interim
    {
        // hyper does not report the target's 100: the client gets one at once.
        to.connection.interim(to.request, StatusCode::CONTINUE, &Fields::new());
    }
    request
}

/// Whether this proxy can send the request over HTTP/2.
pub fn can_carry(head: &Outgoing<'_>) -> bool {
    *head.method != Method::CONNECT && head.uri.path() != "*"
}

/// Whether the target says that it did not process the request: such a stream is safe to retry (RFC 9113 section 8.7).
pub fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<h2::Error>() else { return false };
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)))
}

/// Whether the target broke the rules of HTTP/2.
pub fn is_malformed(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_library())
}

/// Whether the target has reported that this request failed: no close has crossed the request.
pub fn is_answer(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_remote() && (error.is_reset() || error.is_go_away()))
}

/// Streams run on the connection's own worker. Until the connection has begun, each step of its reader is reported: hyper does
/// not say when the target's settings have come.
#[derive(Debug, Clone)]
struct Local {
    stirred: Rc<Notify>,
    begun: Rc<Cell<bool>>,
}

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        let Self { stirred, begun } = self.clone();
        tokio::task::spawn_local(async move {
            let mut task = pin!(task);
            std::future::poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                if !begun.get() {
                    stirred.notify_one();
                }
                polled
            })
            .await;
        });
    }
}
