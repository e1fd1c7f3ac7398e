//! A client's byte stream, observed: heads are followed as they come in, stalls noted, 1xx answers slipped in between;
//! its first bytes tell HTTP/1 from HTTP/2.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    framing::{Flaw, Found, Framing},
    session::Session,
};

/// A client's byte stream.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    session: Arc<Session>,
    framing: Framing,
    /// The body that is coming in has lost its framing: nothing more of it is read.
    lost: bool,
    /// HTTP/2: frames are the h2 crate's to judge.
    multiplexed: bool,
    /// The connection's first bytes, read to tell the protocols apart.
    ahead: [u8; PREFACE.len()],
    /// How many of them there are, and how many hyper has had.
    read: usize,
    given: usize,
}

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl<S> Watched<S> {
    /// Reports what passes on `stream` to `session`.
    pub fn new(stream: S, session: Arc<Session>) -> Self {
        let framing = Framing::default();
        Self { stream, session, framing, lost: false, multiplexed: false, ahead: [0; PREFACE.len()], read: 0, given: 0 }
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// The client speaks HTTP/2, as agreed on. To be said before anything is read.
    pub fn speaks_h2(&mut self) -> bool {
        self.multiplexed = true;
        true
    }

    /// Whether the client begins with the preface of HTTP/2. To be asked before anything is read.
    pub fn poll_is_h2(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if self.ahead[..self.read] != PREFACE[..self.read] {
                return Poll::Ready(Ok(false));
            }
            if self.read == PREFACE.len() {
                self.multiplexed = true;
                return Poll::Ready(Ok(true));
            }
            let mut room = ReadBuf::new(&mut self.ahead[self.read..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
            match room.filled().len() {
                0 => return Poll::Ready(Ok(false)),
                n => self.read += n,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lost {
            return Poll::Ready(Err(malformed()));
        }
        let before = buf.filled().len();
        let polled = if this.given < this.read {
            let some = (this.read - this.given).min(buf.remaining());
            buf.put_slice(&this.ahead[this.given..this.given + some]);
            this.given += some;
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        };
        let new = &buf.filled()[before..];
        if !new.is_empty() && !this.multiplexed {
            if this.session.is_idle() {
                this.session.begins();
            }
            if !this.session.is_tunnel()
                && let Some(Found { head, flaw, at }) = this.framing.feed(new)
            {
                this.session.distrust(head, flaw);
                // hyper may wait for more (the end of a trailer section that ends in LF LF), or take it: it gets what comes before, and
                // an error for the rest.
                this.lost = flaw == Flaw::Lost;
                if this.lost && at == 0 {
                    return Poll::Ready(Err(malformed()));
                }
                if this.lost {
                    buf.set_filled(before + at);
                }
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = match this.session.label.is_due() {
            true => this.session.label.poll_write(&mut this.stream, cx, bufs),
            false => crate::body::pieces::write(&mut this.stream, cx, bufs),
        };
        this.session.label.written();
        this.session.writing(taken(&polled));
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has handed over all it had: the one moment at which something else fits in between.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.session.interims.is_waiting() {
            let written = this.session.interims.poll_write(&mut this.stream, cx);
            this.session.writing(written.is_ready().then_some(0));
            ready!(written)?;
        }
        this.session.label.flushed();
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the body's framing is malformed")
}

/// Bytes that went out; `None` if the client takes none now.
fn taken(polled: &Poll<io::Result<usize>>) -> Option<usize> {
    match polled {
        Poll::Pending => None,
        Poll::Ready(written) => Some(written.as_ref().copied().unwrap_or_default()),
    }
}
