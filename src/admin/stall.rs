//! The bound of a stalled write: a peer that takes nothing for [`STALL`] loses its connection. Each byte that goes out begins the time
//! anew.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// How long a write may wait for its peer.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// A connection with the bound.
pub(super) struct Bounded<IO> {
    io: IO,
    /// Runs while a write waits.
    until: Option<Pin<Box<Sleep>>>,
}

impl<IO> Bounded<IO> {
    pub(super) fn new(io: IO) -> Self {
        Self { io, until: None }
    }

    fn bound<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.until = None;
            return done;
        }
        ready!(self.until.get_or_insert_with(|| Box::pin(sleep(STALL))).as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Bounded<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Bounded<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.bound(cx, done)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.bound(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_flush(cx);
        self.bound(cx, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_shutdown(cx);
        self.bound(cx, done)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{Instant, advance},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_left_and_a_slow_one_is_not() {
        let (near, mut far) = duplex(4);
        let mut near = Bounded::new(near);
        near.write_all(b"full").await.expect("there is room");
        // A peer that takes a byte in time.
        for _ in 0..3 {
            let (written, ()) = tokio::join!(near.write_all(b"x"), async {
                advance(STALL - Duration::from_secs(1)).await;
                far.read_u8().await.expect("a byte");
            });
            written.expect("there is room again");
        }
        let begun = Instant::now();
        let stalled = near.write_all(b"x").await.expect_err("no room");
        assert_eq!((stalled.kind(), begun.elapsed() < STALL * 2), (io::ErrorKind::TimedOut, true));
    }
}
