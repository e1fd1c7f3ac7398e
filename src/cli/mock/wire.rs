//! A connection that fails on request as networks fail: a reset in place of a close, or bytes that are not HTTP.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// 0 is a sound connection.
const RESET: u8 = 1;
const GARBAGE: u8 = 2;

/// The bytes of a server that does not speak HTTP.
const NOISE: &[u8] = b"\x16\x03\x01\x02 this is not HTTP\r\n\r\n";

/// Decides how one connection ends. Clones steer the same connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Steer(Arc<AtomicU8>);

impl Steer {
    /// The next close of the connection becomes a reset.
    pub(super) fn reset(&self) {
        self.0.store(RESET, Ordering::Relaxed);
    }

    /// The next written bytes are replaced by noise.
    pub(super) fn garble(&self) {
        self.0.store(GARBAGE, Ordering::Relaxed);
    }

    fn is(&self, state: u8) -> bool {
        self.0.load(Ordering::Relaxed) == state
    }
}

/// A transport that can be reset.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The next close sends a reset, if the transport has one.
    fn prepare_reset(&self) {}
}

impl Transport for TcpStream {
    fn prepare_reset(&self) {
        // Without linger the peer sees an orderly close; an error here means that the peer is gone already.
        let _ = socket2::SockRef::from(self).set_linger(Some(std::time::Duration::ZERO));
    }
}

impl Transport for tokio::io::DuplexStream {}

/// A steered transport.
pub(super) struct Wire<T: Transport> {
    inner: T,
    steer: Steer,
    noise_sent: bool,
}

impl<T: Transport> Wire<T> {
    pub(super) fn new(inner: T, steer: Steer) -> Self {
        Self { inner, steer, noise_sent: false }
    }

    /// Sends the noise once and pretends that `len` bytes were taken.
    fn poll_noise(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        if self.noise_sent {
            return Poll::Ready(Ok(len));
        }
        Pin::new(&mut self.inner).poll_write(cx, NOISE).map_ok(|_| {
            self.noise_sent = true;
            len
        })
    }
}

impl<T: Transport> Drop for Wire<T> {
    fn drop(&mut self) {
        if self.steer.is(RESET) {
            self.inner.prepare_reset();
        }
    }
}

impl<T: Transport> AsyncRead for Wire<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Transport> AsyncWrite for Wire<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.steer.is(GARBAGE) {
            return self.poll_noise(cx, buf.len());
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.steer.is(GARBAGE) {
            return self.poll_noise(cx, bufs.iter().map(|buf| buf.len()).sum());
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.steer.is(RESET) {
            // An orderly FIN would reach the peer before the reset.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
