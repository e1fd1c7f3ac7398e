//! The scripted app: it answers as it is told, and remembers what it was asked.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, Sleep},
};

/// Bytes that a pipe holds before its writer waits.
pub const PIPE: usize = 16 * 1024;

/// The app. Clones are the same app.
#[derive(Clone, Default)]
pub struct Origin(Rc<Inner>);

#[derive(Default)]
struct Inner {
    script: RefCell<VecDeque<Reply>>,
    always: RefCell<Reply>,
    raw: RefCell<VecDeque<&'static str>>,
    seen: RefCell<Vec<Seen>>,
    connections: Cell<usize>,
    abandoned: Cell<usize>,
    produced: Cell<usize>,
}

/// A request as the app saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body; empty where the reply says that it is not read.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
}

impl Seen {
    /// A header field; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Reply {
    act: Act,
    after: Duration,
    status: StatusCode,
    headers: HeaderMap,
    pieces: VecDeque<(Duration, Bytes)>,
    end: End,
    length: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Answer,
    /// Answers before the body has been read.
    Early,
    /// The request's body comes back as it comes.
    Echo,
    /// Never answers.
    Hang,
    /// Closes the connection in place of an answer.
    Close,
    /// Switches to a tunnel that echoes.
    Tunnel,
}

#[derive(Debug, Clone)]
enum End {
    Clean,
    Trailers(HeaderMap),
    Break,
    Stall,
    /// Goes on for ever.
    Endless,
}

impl Default for Reply {
    fn default() -> Self {
        Self::ok("hello")
    }
}

impl Reply {
    /// 200 with this body and its length.
    pub fn ok(body: &'static str) -> Self {
        Self::status(200).body(body)
    }

    /// This status, no body.
    pub fn status(status: u16) -> Self {
        Self {
            act: Act::Answer,
            after: Duration::ZERO,
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            pieces: VecDeque::new(),
            end: End::Clean,
            length: Some(0),
        }
    }

    /// 200 with pieces, one every `pause`, of a length that is not announced.
    pub fn paced(pause: Duration, pieces: &[&'static str]) -> Self {
        let pieces = pieces.iter().map(|piece| (pause, Bytes::from_static(piece.as_bytes()))).collect();
        Self { pieces, length: None, ..Self::status(200) }
    }

    /// 200 with a body that does not end.
    pub fn endless() -> Self {
        Self { end: End::Endless, ..Self::paced(Duration::ZERO, &[]) }
    }

    /// The request's body comes back as it comes.
    pub fn echo() -> Self {
        Self { act: Act::Echo, ..Self::status(200) }
    }

    /// Never answers.
    pub fn hang() -> Self {
        Self { act: Act::Hang, ..Self::status(200) }
    }

    /// Closes the connection in place of an answer.
    pub fn close() -> Self {
        Self { act: Act::Close, ..Self::status(200) }
    }

    /// 101, then an echo.
    pub fn tunnel() -> Self {
        Self { act: Act::Tunnel, ..Self::status(101) }.header("connection", "upgrade").header("upgrade", "websocket")
    }

    /// With this body.
    pub fn body(mut self, body: &'static str) -> Self {
        self.length = Some(body.len() as u64);
        self.pieces = VecDeque::from([(Duration::ZERO, Bytes::from_static(body.as_bytes()))]);
        self
    }

    /// With this body, which need not be text.
    pub fn bytes(mut self, body: Vec<u8>) -> Self {
        self.length = Some(body.len() as u64);
        self.pieces = VecDeque::from([(Duration::ZERO, Bytes::from(body))]);
        self
    }

    /// With a header field more.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        self
    }

    /// This long after the request's end.
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Before the request's body has been read.
    pub fn early(mut self) -> Self {
        self.act = Act::Early;
        self
    }

    /// With a trailer field.
    pub fn trailer(mut self, name: &'static str, value: &'static str) -> Self {
        self.end = End::Trailers(HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]));
        self
    }

    /// Breaks off after the last piece.
    pub fn breaks(mut self) -> Self {
        self.end = End::Break;
        self
    }

    /// Falls silent after the last piece.
    pub fn stalls(mut self) -> Self {
        self.end = End::Stall;
        self
    }
}

impl Origin {
    /// From now on every request is answered so, once the script is used up.
    pub fn always(&self, reply: Reply) {
        *self.0.always.borrow_mut() = reply;
    }

    /// The next requests are answered so, one each.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.0.script.borrow_mut().extend(replies);
    }

    /// The next connections answer their first head with these bytes and close.
    pub fn raw(&self, answers: impl IntoIterator<Item = &'static str>) {
        self.0.raw.borrow_mut().extend(answers);
    }

    /// What it was asked, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.seen.borrow().clone()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        self.0.seen.borrow_mut().clear();
    }

    /// How many requests it was asked.
    pub fn asked(&self) -> usize {
        self.0.seen.borrow().len()
    }

    /// The one request it was asked.
    pub fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen[0].clone()
    }

    /// Connections that were made to it.
    pub fn connections(&self) -> usize {
        self.0.connections.get()
    }

    /// Answers under way that nobody waited for.
    pub fn abandoned(&self) -> usize {
        self.0.abandoned.get()
    }

    /// Bytes of endless bodies that were taken.
    pub fn produced(&self) -> usize {
        self.0.produced.get()
    }

    /// Serves a connection.
    pub fn accept(&self, mut pipe: DuplexStream) {
        self.0.connections.set(self.0.connections.get() + 1);
        let raw = self.0.raw.borrow_mut().pop_front();
        let inner = self.0.clone();
        tokio::task::spawn_local(async move {
            if let Some(raw) = raw {
                let mut head = [0; PIPE];
                let _ = pipe.read(&mut head).await;
                let _ = pipe.write_all(raw.as_bytes()).await;
                return;
            }
            let service = service_fn(move |request| answer(inner.clone(), request));
            // How a connection ends is the proxy's affair.
            let _ = http1::Builder::new().half_close(false).serve_connection(TokioIo::new(pipe), service).with_upgrades().await;
        });
    }
}

async fn answer(origin: Rc<Inner>, mut request: Request<Incoming>) -> io::Result<Response<Sent>> {
    let reply = origin.script.borrow_mut().pop_front().unwrap_or_else(|| origin.always.borrow().clone());
    let mut abandoned = Abandoned(Some(origin.clone()));
    let upgrade = (reply.act == Act::Tunnel).then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let mut seen = Seen { method: head.method, target, headers: head.headers, body: Bytes::new(), trailers: None };
    let mut back = None;
    if matches!(reply.act, Act::Early | Act::Echo) {
        back = Some(body);
    } else {
        let read = body.collect().await.map_err(io::Error::other)?;
        seen.trailers = read.trailers().cloned();
        seen.body = read.to_bytes();
    }
    origin.seen.borrow_mut().push(seen);
    if !reply.after.is_zero() {
        tokio::time::timeout(reply.after, std::future::pending::<()>()).await.expect_err("time passes");
    }
    match reply.act {
        Act::Hang => std::future::pending().await,
        Act::Close => {
            abandoned.0 = None;
            return Err(io::Error::other("told to close"));
        }
        _ => {}
    }
    if let Some(upgrade) = upgrade {
        tokio::task::spawn_local(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.expect("an upgrade")));
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
    }
    if reply.pieces.is_empty() && matches!(reply.end, End::Clean) {
        abandoned.0 = None;
    }
    let mut response = Response::new(Sent {
        echo: back.take_if(|_| reply.act == Act::Echo),
        _unread: back,
        pieces: reply.pieces,
        end: Some(reply.end),
        length: if reply.act == Act::Echo { None } else { reply.length },
        due: None,
        guard: abandoned,
    });
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    Ok(response)
}

/// Counts an answer that was not waited for.
struct Abandoned(Option<Rc<Inner>>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        if let Some(origin) = self.0.take() {
            origin.abandoned.set(origin.abandoned.get() + 1);
        }
    }
}

/// The body of an answer.
struct Sent {
    echo: Option<Incoming>,
    _unread: Option<Incoming>,
    pieces: VecDeque<(Duration, Bytes)>,
    end: Option<End>,
    length: Option<u64>,
    due: Option<Pin<Box<Sleep>>>,
    guard: Abandoned,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Some(echo) = &mut this.echo {
            let polled = Pin::new(echo).poll_frame(cx).map_err(io::Error::other);
            if matches!(polled, Poll::Ready(None)) {
                this.guard.0 = None;
            }
            return polled;
        }
        if let Some((pause, _)) = this.pieces.front() {
            if !pause.is_zero() {
                let due = this.due.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + *pause)));
                std::task::ready!(due.as_mut().poll(cx));
                this.due = None;
            }
            let (_, piece) = this.pieces.pop_front().expect("just seen");
            if this.pieces.is_empty() && matches!(this.end, Some(End::Clean)) {
                this.guard.0 = None;
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match this.end.take() {
            None | Some(End::Clean) => {
                this.guard.0 = None;
                Poll::Ready(None)
            }
            Some(End::Trailers(fields)) => {
                this.guard.0 = None;
                Poll::Ready(Some(Ok(Frame::trailers(fields))))
            }
            Some(End::Break) => {
                // Later than the last piece: hyper drops what it has not written when a body errs.
                let due = this.due.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + Duration::from_millis(1))));
                if due.as_mut().poll(cx).is_pending() {
                    this.end = Some(End::Break);
                    return Poll::Pending;
                }
                this.guard.0 = None;
                Poll::Ready(Some(Err(io::Error::other("told to break"))))
            }
            Some(End::Stall) => {
                this.end = Some(End::Stall);
                Poll::Pending
            }
            Some(End::Endless) => {
                this.end = Some(End::Endless);
                if let Some(origin) = &this.guard.0 {
                    origin.produced.set(origin.produced.get() + ENDLESS.len());
                }
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(ENDLESS)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0) && self.guard.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

const ENDLESS: &[u8] = &[b'x'; 4096];
