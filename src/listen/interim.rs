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
    body::{Body, BodyError},
};

/// A client waits for 100 no longer than this, whatever the target does; then the body is read and 100 said.
const PATIENCE: Duration = Duration::from_secs(1);
/// Unsent 1xx answers of one request; more are dropped.
const MOST: usize = 64 << 10;

/// What goes out on a connection before its answer.
#[derive(Debug, Default)]
pub struct Interims {
    /// A request is in hand whose client understands 1xx (HTTP/1.1).
    understood: AtomicBool,
    /// What the client expects: [`NOTHING`], [`ASKED`], [`GRANTED`].
    expects: AtomicU8,
    reader: AtomicWaker,
    waiting: AtomicBool,
    bytes: Mutex<BytesMut>,
    written: AtomicWaker,
}

const NOTHING: u8 = 0;
/// The client waits for 100 before it sends its body.
const ASKED: u8 = 1;
/// hyper says 100 as soon as the body is read.
const GRANTED: u8 = 2;

impl Interims {
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
        let mut bytes = self.bytes.lock();
        while !bytes.is_empty() {
            let n = ready!(Pin::new(&mut *stream).poll_write(cx, &bytes))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(n);
        }
        *bytes = BytesMut::new();
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
        let mut bytes = interims.bytes.lock();
        if !interims.understood.load(Relaxed) || bytes.len() > MOST {
            return;
        }
        bytes.extend_from_slice(b"HTTP/1.1 ");
        bytes.extend_from_slice(status.as_str().as_bytes());
        bytes.extend_from_slice(b" ");
        bytes.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        bytes.extend_from_slice(b"\r\n");
        for (name, value) in fields {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        drop(bytes);
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
