//! Answers before the answer (1xx, RFC 9110 section 15.2): hyper's server has no way to send them, so they are written between
//! its own writes; and `Expect: 100-continue` (section 10.1.1): a body that waits until the target asks for it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{io::AsyncWrite, time::Sleep};

use super::session::Session;
use crate::{
    arrival::Interim,
    body::{Body, BodyError, room::Room},
};

/// A client waits for 100 no longer than this, whatever the target does; then the body is read and 100 said.
const PATIENCE: Duration = Duration::from_secs(1);
/// Unsent 1xx answers of one connection; more are dropped, and so are those for which the budget of bodies has no room.
const MOST: usize = 64 << 10;

/// What goes out on a connection before its answer.
#[derive(Debug)]
pub struct Interims {
    /// A request is in hand whose client understands 1xx (HTTP/1.1).
    understood: AtomicBool,
    /// What the client expects: [`NOTHING`], [`ASKED`], [`GRANTED`].
    expects: AtomicU8,
    reader: AtomicWaker,
    waiting: AtomicBool,
    unsent: Mutex<Unsent>,
    written: AtomicWaker,
}

/// What waits until the client reads it, and its room in the budget.
#[derive(Debug)]
struct Unsent {
    bytes: BytesMut,
    room: Room,
}

const NOTHING: u8 = 0;
/// The client waits for 100 before it sends its body.
const ASKED: u8 = 1;
/// hyper says 100 as soon as the body is read.
const GRANTED: u8 = 2;

impl Interims {
    /// Nothing to send yet.
    pub fn new(room: Room) -> Self {
        Self {
            understood: AtomicBool::new(false),
            expects: AtomicU8::new(NOTHING),
            reader: AtomicWaker::new(),
            waiting: AtomicBool::new(false),
            unsent: Mutex::new(Unsent { bytes: BytesMut::new(), room }),
            written: AtomicWaker::new(),
        }
    }

    /// A request has come in for which 1xx may be sent; whether its body waits for one.
    pub fn begin(&self, expects: bool) {
        self.understood.store(true, Relaxed);
        self.expects.store(if expects { ASKED } else { NOTHING }, Relaxed);
    }

    /// Whether something must be written.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Relaxed)
    }

    /// Writes what waits. Only where nothing else is half written.
    pub fn poll_write<S: AsyncWrite + Unpin>(&self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unsent = self.unsent.lock();
        while !unsent.bytes.is_empty() {
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, &unsent.bytes))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            unsent.bytes.advance(n);
        }
        unsent.bytes = BytesMut::new();
        unsent.room.clear();
        self.waiting.store(false, Relaxed);
        self.written.wake();
        Poll::Ready(Ok(()))
    }

    /// Waits until nothing is left to write: the final answer must come after, and nothing after it.
    pub async fn end(&self) {
        self.understood.store(false, Relaxed);
        std::future::poll_fn(|cx| {
            if !self.is_waiting() {
                return Poll::Ready(());
            }
            self.written.register(cx.waker());
            Poll::Pending
        })
        .await;
    }

    fn grant(&self) {
        self.expects.store(GRANTED, Relaxed);
        self.reader.wake();
    }
}

impl Interim for Session {
    fn interim(&self, request: u32, status: StatusCode, fields: &HeaderMap) {
        let interims = &self.interims;
        if request != self.request() {
            return;
        }
        if status == StatusCode::CONTINUE && interims.expects.load(Relaxed) != NOTHING {
            // hyper writes it when the body is read.
            interims.grant();
            return;
        }
        let reason = status.canonical_reason().unwrap_or_default();
        let length = "HTTP/1.1 103 \r\n\r\n".len() + reason.len();
        let length = fields.iter().fold(length, |length, (name, value)| length + name.as_str().len() + value.len() + ": \r\n".len());
        let mut unsent = interims.unsent.lock();
        if !interims.understood.load(Relaxed) || unsent.bytes.len() + length > MOST || !unsent.room.take_if_free(length as u64) {
            return;
        }
        let bytes = &mut unsent.bytes;
        bytes.reserve(length);
        bytes.extend_from_slice(b"HTTP/1.1 ");
        bytes.extend_from_slice(status.as_str().as_bytes());
        bytes.extend_from_slice(b" ");
        bytes.extend_from_slice(reason.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in fields {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        drop(unsent);
        interims.waiting.store(true, Relaxed);
        self.wake();
    }
}

/// A body that is not read, so that the client is not asked for it, until the target wants it.
pub struct Expected {
    body: Body,
    session: Arc<Session>,
    patience: Pin<Box<Sleep>>,
}

impl Expected {
    /// Holds `body` back.
    pub fn new(body: Body, session: Arc<Session>) -> Self {
        Self { body, session, patience: Box::pin(tokio::time::sleep(PATIENCE)) }
    }
}

impl HttpBody for Expected {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let interims = &this.session.interims;
        if interims.expects.load(Relaxed) == ASKED {
            interims.reader.register(cx.waker());
            ready!(this.patience.as_mut().poll(cx));
            interims.expects.store(GRANTED, Relaxed);
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
