//! A client's HTTP/1.1 connection: its socket, what has been read ahead, and what waits to be written.
//!
//! The connection's future, the body of the request in hand and the target's 1xx answers share it; all of them live on one worker.
//! Nobody holds it across a wait.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};

use crate::{
    arrival::Interim,
    body::{
        BodyError,
        ahead::Ahead,
        dechunk::{Dechunk, Next},
        inbox::{self, Expect},
        outbox::Outbox,
        room::Room,
    },
    http1::{Fields, Framing},
    listen::session::Session,
    message::AnswerHead,
};

/// What a client's bytes come over.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for S {}

/// A client waits for 100 no longer than this, whatever the target does; then the body is read and 100 said.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of 1xx answers that a client does not read; more are dropped, and so are those for which the budget of bodies has no room.
const MOST_INTERIM: usize = 64 << 10;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client's connection.
pub struct Wire {
    pub(in crate::listen) session: Rc<Session>,
    pub(super) state: RefCell<State>,
}

/// What of a connection changes.
pub struct State {
    /// `None`: it is closed.
    pub(super) socket: Option<Box<dyn Socket>>,
    pub(super) input: BytesMut,
    pub(super) out: Outbox,
    /// Something was written and may wait in the socket's own buffer.
    unflushed: bool,
    /// The last read brought as much as it could.
    bulk: bool,
    pub(super) body: Coming,
    pub(super) expects: Expects,
    /// 1xx may be sent to the request in hand.
    pub(super) informs: bool,
    /// Room that unsent 1xx answers take.
    room: Room,
    /// The number of the request in hand, from 1.
    pub(super) request: u32,
    /// Whoever waits for the body.
    reader: Option<Waker>,
    /// The connection's future, which watches the client once the body has come.
    watcher: Option<Waker>,
    /// The reader of the body waits for the socket.
    reading: bool,
    /// The client has left.
    gone: bool,
    patience: Option<Pin<Box<Sleep>>>,
}

/// What the client waits for before it sends its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// Nothing.
    Nothing,
    /// 100, which the target is asked for.
    OfTarget,
    /// 100, as soon as the body is wanted.
    OfUs,
}

/// What is still to come of the body of the request in hand.
pub enum Coming {
    /// Nothing.
    Ended,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<Dechunk>),
    /// Nothing that could be told from another request.
    Lost(String),
}

impl Coming {
    /// The body of a request that is framed so.
    pub fn of(framing: Framing) -> Self {
        match framing {
            Framing::Length(length @ 1..) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            _ => Self::Ended,
        }
    }
}

impl Wire {
    /// A new connection.
    pub fn new(socket: Box<dyn Socket>, session: Rc<Session>, room: Room) -> Rc<Self> {
        let state = State {
            socket: Some(socket),
            input: BytesMut::new(),
            out: Outbox::default(),
            unflushed: false,
            bulk: false,
            body: Coming::Ended,
            expects: Expects::Nothing,
            informs: false,
            room,
            request: 0,
            reader: None,
            watcher: None,
            reading: false,
            gone: false,
            patience: None,
        };
        Rc::new(Self { session, state: RefCell::new(state) })
    }

    /// A request is in hand: its number.
    pub fn begin(&self, body: Coming, expects: Expects, informs: bool) -> u32 {
        let mut state = self.state.borrow_mut();
        state.request = state.request.wrapping_add(1);
        (state.body, state.expects, state.informs) = (body, expects, informs);
        (state.reader, state.patience, state.reading) = (None, None, false);
        state.request
    }

    /// Whether the client begins with the preface of HTTP/2. To be asked first.
    pub fn poll_is_h2(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut state = self.state.borrow_mut();
        loop {
            let some = state.input.len().min(PREFACE.len());
            if state.input[..some] != PREFACE[..some] {
                return Poll::Ready(Ok(false));
            }
            if some == PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
            if ready!(state.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// The connection's stream, for another protocol or for its end.
    pub fn take_stream(&self) -> Option<Ahead<Box<dyn Socket>>> {
        let mut state = self.state.borrow_mut();
        let socket = state.socket.take()?;
        Some(Ahead::new(socket, std::mem::take(&mut state.input)))
    }

    /// The next piece of the body of the request in hand.
    pub fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state.borrow_mut().poll_piece(cx, &self.session)
    }

    /// Whether something was read and not taken.
    pub fn has_more(&self) -> bool {
        !self.state.borrow().input.is_empty()
    }

    /// Whether all of the request in hand has come.
    pub fn has_all(&self) -> bool {
        matches!(self.state.borrow().body, Coming::Ended)
    }

    /// Writes what waits. Ready when nothing does.
    pub fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state.borrow_mut().poll_write(cx, &self.session)
    }

    /// Ready when the client has left. Unread bytes are kept, up to a bound; beyond the bound a client that leaves is not seen.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.borrow_mut();
        loop {
            if state.gone {
                return Poll::Ready(());
            }
            if !matches!(state.body, Coming::Ended) {
                state.watcher = Some(cx.waker().clone());
            }
            if state.reading {
                // The reader of the body watches the socket meanwhile.
                return Poll::Pending;
            }
            if state.input.len() >= AHEAD {
                return Poll::Pending;
            }
            match ready!(state.poll_fill(cx)) {
                // The client does not wait for 100: neither does the reader.
                Ok(1..) => state.reader.take().into_iter().for_each(Waker::wake),
                Ok(0) | Err(_) => state.gone = true,
            }
        }
    }

    /// Closes the connection, whoever still holds it.
    pub fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.socket = None;
        state.informs = false;
        if !matches!(state.body, Coming::Ended) {
            state.body = Coming::Lost("the client's connection is closed".into());
        }
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of later requests that are read while one is in hand.
const AHEAD: usize = 16 << 10;

impl State {
    /// Reads on; 0 at the end of what the client sends.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(0)) };
        let plenty = self.bulk && matches!(self.body, Coming::Length(PLENTY..));
        let read = ready!(inbox::poll_fill(socket, cx, &mut self.input, if plenty { Expect::Plenty } else { Expect::Little }));
        self.bulk = read.as_ref().is_ok_and(|bytes| *bytes >= inbox::SMALL);
        Poll::Ready(read)
    }

    /// Reads on, and shows `look` what has come before it is kept; `look` gives how much of it it has used up.
    pub fn poll_look(&mut self, cx: &mut Context<'_>, look: impl FnOnce(&[u8]) -> usize) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Ok(0)) };
        let read = ready!(inbox::poll_look(socket, cx, &mut self.input, look));
        self.bulk = read.as_ref().is_ok_and(|bytes| *bytes >= inbox::SMALL);
        Poll::Ready(read)
    }

    /// Writes what waits, and tells `session` how the client takes it.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        if self.out.is_empty() && !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        while !self.out.is_empty() {
            self.unflushed = true;
            match self.out.poll_write(socket, cx) {
                Poll::Ready(Ok(sent)) => session.writing(Some(sent)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    session.writing(None);
                    return Poll::Pending;
                }
            }
        }
        self.room.clear();
        // TLS may hold back what was written.
        let flushed = Pin::new(socket).poll_flush(cx);
        self.unflushed = flushed.is_pending();
        session.writing(flushed.is_ready().then_some(0));
        flushed
    }

    /// The client is told to send its body.
    fn grant(&mut self) {
        self.expects = Expects::Nothing;
        self.patience = None;
        self.out.tail().extend_from_slice(CONTINUE);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Waits until the client may be asked for its body.
    fn poll_granted(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<()> {
        match self.expects {
            Expects::Nothing => return Poll::Ready(()),
            Expects::OfUs => {}
            Expects::OfTarget => {
                let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
                if patience.as_mut().poll(cx).is_pending() {
                    self.reader = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        self.grant();
        // The connection's future writes: a second writer would take its waker.
        session.wake();
        Poll::Ready(())
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, session: &Session) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if !self.input.is_empty() {
                // The client does not wait.
                (self.expects, self.patience) = (Expects::Nothing, None);
            }
            match &mut self.body {
                Coming::Ended => return Poll::Ready(None),
                Coming::Lost(why) => return Poll::Ready(Some(Err(BodyError::Cut(why.clone())))),
                Coming::Length(left) if !self.input.is_empty() => {
                    let some = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
                    *left -= some as u64;
                    let piece = self.input.split_to(some).freeze();
                    if *left == 0 {
                        self.body_is(Coming::Ended);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Coming::Length(_) => {}
                Coming::Chunked(chunks) => match chunks.next(&mut self.input) {
                    Ok(Next::Content(piece)) => {
                        if chunks.has_ended() {
                            self.body_is(Coming::Ended);
                        }
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    }
                    Ok(Next::End(trailers)) => {
                        self.body_is(Coming::Ended);
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Ok(Next::Missing) => {}
                    Err(flaw) => {
                        self.lose(flaw.to_string());
                        continue;
                    }
                },
            }
            ready!(self.poll_granted(cx, session));
            let filled = self.poll_fill(cx);
            self.reading = filled.is_pending();
            match ready!(filled) {
                Ok(1..) => {}
                Ok(0) => self.leave("the client closed the connection before the end of its request".into()),
                Err(error) => self.leave(error.to_string()),
            }
        }
    }

    /// The final answer begins: no 1xx answer follows, and the client need not be asked for its body.
    pub fn begin_answer(&mut self) {
        (self.informs, self.expects, self.patience) = (false, Expects::Nothing, None);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn lose(&mut self, why: String) {
        self.body_is(Coming::Lost(why));
        self.input.clear();
    }

    fn leave(&mut self, why: String) {
        self.gone = true;
        self.lose(why);
    }

    /// The body has come to its end, or has none.
    fn body_is(&mut self, body: Coming) {
        self.body = body;
        self.reading = false;
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }
}

/// A body of which so much is to come is read in bulk.
const PLENTY: u64 = 64 << 10;

/// The body of the request in hand.
pub struct Incoming {
    wire: Rc<Wire>,
    request: u32,
}

impl Incoming {
    /// The body of the request of this number.
    pub fn new(wire: Rc<Wire>, request: u32) -> Self {
        Self { wire, request }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let mut state = self.wire.state.borrow_mut();
        if state.request == self.request && state.reading {
            // The connection watches the socket itself now.
            state.reading = false;
            if let Some(watcher) = state.watcher.take() {
                watcher.wake();
            }
        }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.wire.state.borrow_mut();
        if state.request != self.request {
            return Poll::Ready(Some(Err(BodyError::Cut("the request is over".into()))));
        }
        state.poll_piece(cx, &self.wire.session)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.wire.state.borrow();
        state.request == self.request && matches!(state.body, Coming::Ended)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.wire.state.borrow().body {
            Coming::Ended => SizeHint::with_exact(0),
            Coming::Length(left) => SizeHint::with_exact(*left),
            Coming::Chunked(_) | Coming::Lost(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Interim for Wire {
    fn interim(&self, request: u32, status: StatusCode, fields: &Fields) {
        let mut state = self.state.borrow_mut();
        if request != state.request || !state.informs {
            return;
        }
        if status == StatusCode::CONTINUE && state.expects != Expects::Nothing {
            state.grant();
        } else {
            let mut head = Vec::new();
            AnswerHead { status, headers: fields.clone(), ..AnswerHead::default() }.write(&mut head);
            head.extend_from_slice(b"\r\n");
            if state.out.tail().len() + head.len() <= MOST_INTERIM && state.room.take_if_free(head.len() as u64) {
                state.out.tail().extend_from_slice(&head);
            }
        }
        drop(state);
        // Its future writes it.
        self.session.wake();
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
