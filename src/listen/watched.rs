//! A client's byte stream, observed: heads are followed as they come in, stalls noted, 1xx answers slipped in between.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{framing::Framing, session::Session};

/// A client's byte stream.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    session: Arc<Session>,
    framing: Framing,
}

impl<S> Watched<S> {
    /// Reports what passes on `stream` to `session`.
    pub fn new(stream: S, session: Arc<Session>) -> Self {
        Self { stream, session, framing: Framing::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            if this.session.is_idle() {
                this.session.begins();
            }
            if !this.session.is_tunnel()
                && let Some((head, flaw)) = this.framing.feed(new)
            {
                this.session.distrust(head, flaw);
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.session.writing(polled.is_ready());
        polled
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = crate::body::pieces::write(&mut self.stream, cx, bufs);
        self.session.writing(polled.is_ready());
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
            this.session.writing(written.is_ready());
            ready!(written)?;
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
