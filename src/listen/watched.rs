//! A client's HTTP/2 byte stream, observed: the session learns whether the client takes the bytes.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::session::Session;

/// A client's byte stream.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    session: Rc<Session>,
}

impl<S> Watched<S> {
    /// Reports the bytes written to `stream` to `session`.
    pub fn new(stream: S, session: Rc<Session>) -> Self {
        Self { stream, session }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = crate::body::pieces::write(&mut self.stream, cx, bufs);
        self.session.writing(taken(&polled));
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes written; `None` if the client takes none now.
fn taken(polled: &Poll<io::Result<usize>>) -> Option<usize> {
    match polled {
        Poll::Pending => None,
        Poll::Ready(written) => Some(written.as_ref().copied().unwrap_or_default()),
    }
}
