//! An HTTP/1.1 connection to a target, driven by the task that waits for the answer: it has no task of its own.
//!
//! The request goes out while the answer is awaited. An answer that begins before the end of the request is passed on at once,
//! and a task sends the rest of the request. A dropped wire closes its connection.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::BytesMut;
use http_body::Body as _;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::{Stream, slots::Slot};
use crate::body::{
    Body, BodyError,
    ahead::Ahead,
    enclose::{Unsent, WrongLength},
    inbox::{self, Expect},
    outbox::Outbox,
};
use crate::underway::InHand;

/// A connection, the request on its way out, and the bytes read ahead of the answer.
pub struct Wire {
    stream: Stream,
    /// Bytes read and not yet taken.
    pub(super) input: BytesMut,
    /// The last read brought at least `inbox::SMALL` bytes.
    bulk: bool,
    out: Outbox,
    /// Written bytes may wait in the stream's own buffer.
    unflushed: bool,
    body: Body,
    unsent: Unsent,
    /// Bytes of the present request that have left.
    sent: u64,
    /// Why no more of the request can be sent.
    unsendable: Option<Unsendable>,
    /// The answer has ended, and the connection may carry another request.
    pub(super) rests: bool,
    /// The answer has lost its reader.
    left: bool,
    /// Wakes the task that sends the rest of the request.
    uploader: Option<Waker>,
    /// Wakes the reader of the answer when that task fails.
    pub(super) reader: Option<Waker>,
    _slot: Option<Slot>,
}

/// Why a request cannot be sent to its end.
#[derive(Debug, Clone)]
pub enum Unsendable {
    /// Its own body failed.
    Body(String),
    /// Its own body was silent for this long. An answer that has begun may do without the rest.
    Silent(Duration),
    /// The target takes no more bytes. It may have answered before.
    Target(String),
}

/// A wire that its request, its answer and the pool share.
pub type Shared = Rc<RefCell<Wire>>;

impl Wire {
    /// A new connection; `slot` is held until it is closed.
    pub fn new(stream: Stream, slot: Option<Slot>) -> Shared {
        Rc::new(RefCell::new(Self {
            stream,
            input: BytesMut::new(),
            bulk: false,
            out: Outbox::default(),
            unflushed: false,
            body: Body::Empty,
            unsent: Unsent::Nothing,
            sent: 0,
            unsendable: None,
            rests: false,
            left: false,
            uploader: None,
            reader: None,
            _slot: slot,
        }))
    }

    /// Whether the idle connection is open and the target has sent nothing unasked.
    pub fn is_fresh(&mut self) -> bool {
        let mut byte = [0];
        // The next task that waits on it registers its own waker.
        let mut cx = Context::from_waker(Waker::noop());
        self.input.is_empty() && Pin::new(&mut self.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Begins a request: its head, written by `head`, and the body that follows.
    pub fn begin(&mut self, head: impl FnOnce(&mut Vec<u8>), body: Body, unsent: Unsent) {
        head(self.out.tail());
        (self.body, self.unsent) = (body, unsent);
        (self.sent, self.unsendable, self.rests) = (0, None, false);
    }

    /// Whether a byte of the request has left.
    pub fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Whether all of the request has left.
    pub fn has_sent_all(&self) -> bool {
        self.unsent == Unsent::Nothing && self.out.is_empty() && !self.unflushed && self.unsendable.is_none()
    }

    /// Why the request cannot be sent to its end.
    pub fn unsendable(&self) -> Option<&Unsendable> {
        self.unsendable.as_ref()
    }

    /// Sends the bytes that can be sent now. Ready when nothing is left to send, or nothing can be.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.unsendable.is_some() || self.has_sent_all() {
            return Poll::Ready(());
        }
        match ready!(self.poll_send_all(cx)) {
            Ok(()) => {}
            Err(why) => {
                (self.out, self.body, self.unsent) = (Outbox::default(), Body::Empty, Unsent::Nothing);
                self.unsendable = Some(why);
            }
        }
        Poll::Ready(())
    }

    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsendable>> {
        let mut body_waits = false;
        loop {
            while self.unsent != Unsent::Nothing && !body_waits && self.out.takes_more() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.unsent.put(&mut self.out, frame, self.body.is_end_stream(), true)?,
                    Poll::Ready(Some(Err(BodyError::Idle(after)))) => return Poll::Ready(Err(Unsendable::Silent(after))),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Unsendable::Body(error.to_string()))),
                    Poll::Ready(None) => self.unsent.end(&mut self.out, None)?,
                    Poll::Pending => body_waits = true,
                }
            }
            if self.unsent == Unsent::Nothing {
                if !self.body.is_end_stream() {
                    // The end is known by the length: the body may say so too, and is not waited for.
                    let _ = Pin::new(&mut self.body).poll_frame(cx);
                }
                if !matches!(self.body, Body::Empty) {
                    self.body = Body::Empty;
                }
            }
            if self.out.is_empty() {
                // TLS may hold back written bytes.
                ready!(Pin::new(&mut self.stream).poll_flush(cx)).map_err(target)?;
                self.unflushed = false;
                return if body_waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            self.unflushed = true;
            let written = self.out.poll_write(&mut self.stream, cx);
            self.sent += ready!(written).map_err(target)? as u64;
        }
    }

    /// Reads more, and shows `look` what has come before it is kept; `look` gives how much of it it has used up. 0 at the end.
    pub fn poll_look(&mut self, cx: &mut Context<'_>, look: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<usize>> {
        let read = ready!(inbox::poll_look(&mut self.stream, cx, &mut self.input, look));
        self.bulk = read.as_ref().is_ok_and(|bytes| *bytes >= inbox::SMALL);
        Poll::Ready(read)
    }

    /// Reads more; 0 at the end of the target's bytes. `plenty`: much is to come.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, plenty: bool) -> Poll<io::Result<usize>> {
        let expect = if plenty && self.bulk { Expect::Plenty } else { Expect::Little };
        let read = ready!(inbox::poll_fill(&mut self.stream, cx, &mut self.input, expect));
        self.bulk = read.as_ref().is_ok_and(|bytes| *bytes >= inbox::SMALL);
        Poll::Ready(read)
    }

    /// Ends the answer; `reusable`: its framing allows another request.
    pub fn answer_ended(&mut self, reusable: bool) {
        self.rests = reusable && self.has_sent_all() && self.input.is_empty();
        if self.rests {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
    }

    /// The answer has lost its reader: the rest of the request is not sent.
    pub fn leave(&mut self) {
        self.left = true;
        if let Some(uploader) = self.uploader.take() {
            uploader.wake();
        }
    }
}

/// Sends the rest of a request whose answer has begun, in a task.
pub fn send_on(wire: Shared) {
    tokio::task::spawn_local(std::future::poll_fn(move |cx| {
        let mut wire = wire.borrow_mut();
        if wire.left {
            return Poll::Ready(());
        }
        let polled = wire.poll_send(cx);
        wire.uploader = polled.is_pending().then(|| cx.waker().clone());
        if polled.is_ready()
            && let Some(reader) = wire.reader.take()
        {
            // Half a request is no request: the answer's reader cuts the answer.
            reader.wake();
        }
        polled
    }));
}

impl From<WrongLength> for Unsendable {
    fn from(wrong: WrongLength) -> Self {
        Self::Body(wrong.to_string())
    }
}

fn target(error: io::Error) -> Unsendable {
    Unsendable::Target(error.to_string())
}

/// A connection that no longer speaks HTTP. It keeps its place among the target's connections.
pub struct Tunnel {
    stream: Ahead<Stream>,
    _slot: Option<Slot>,
    _work: Option<InHand>,
}

impl Tunnel {
    /// Takes the connection out of its wire; `None`: the wire is still in use elsewhere.
    pub fn of(wire: Shared, work: Option<InHand>) -> Option<Self> {
        let wire = Rc::into_inner(wire)?.into_inner();
        Some(Self { stream: Ahead::new(wire.stream, wire.input), _slot: wire._slot, _work: work })
    }

    /// The tunnel's byte stream.
    pub fn stream(&mut self) -> &mut Ahead<Stream> {
        &mut self.stream
    }
}
