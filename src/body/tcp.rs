//! A TCP stream that is read and written by the kernel's own calls.
//!
//! The C library's `send` and `recv` are points at which a thread may be cancelled, and each pays for that: 1.2% of a request that passes
//! through (perf). Everything else is tokio's.

use std::{
    io::{self, ErrorKind::WouldBlock},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A connected TCP stream in clear text.
#[derive(Debug)]
pub struct Tcp(TcpStream);

impl From<TcpStream> for Tcp {
    fn from(stream: TcpStream) -> Self {
        Self(stream)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.initialized().len() < buf.capacity() {
            // Large pieces of a body: tokio reads into memory that was never written.
            return Pin::new(&mut self.0).poll_read(cx, buf);
        }
        let stream = &self.0;
        let room = buf.initialize_unfilled();
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let mut short = None;
            let read = stream.try_io(Interest::READABLE, || {
                let (_, read) = recv(stream, &mut *room, RecvFlags::empty())?;
                if read == 0 || read == room.len() {
                    return Ok(read);
                }
                // Less than there was room for: nothing more is there. The readiness is taken back, as tokio's own reads do: the next
                // read waits instead of asking in vain.
                short = Some(read);
                Err(WouldBlock.into())
            });
            let read = match (short, read) {
                (Some(read), _) | (None, Ok(read)) => read,
                (None, Err(error)) if error.kind() == WouldBlock => continue,
                (None, Err(error)) => return Poll::Ready(Err(error)),
            };
            buf.advance(read);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = &self.0;
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || Ok(send(stream, buf, SendFlags::NOSIGNAL)?)) {
                Err(error) if error.kind() == WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Tcp, Tcp) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected").into(), far.expect("accepted").0.into())
    }

    /// More than sockets hold goes through, in pieces of all sizes, to the end.
    #[tokio::test]
    async fn every_byte_arrives_and_then_the_end() {
        let (mut near, mut far) = pair().await;
        let sent: Vec<u8> = (0..20_000_000_u32).map(|at| (at / 251) as u8).collect();
        let writes = async {
            for piece in sent.chunks(300_007) {
                near.write_all(piece).await.expect("taken");
            }
            near.shutdown().await.expect("shut down");
        };
        let reads = async {
            let (mut all, mut size) = (Vec::new(), 1);
            loop {
                let mut room = vec![0; size];
                let read = far.read(&mut room).await.expect("read");
                if read == 0 {
                    return all;
                }
                all.extend_from_slice(&room[..read]);
                size = size % 50_000 * 2 + 1;
            }
        };
        let ((), all) = tokio::join!(writes, reads);
        assert!(all == sent);
    }

    /// A read that has taken all there was waits for the next byte, and is woken by it; a closed connection is an error to write to.
    #[tokio::test]
    async fn a_read_waits_for_the_next_byte_and_a_write_after_the_end_fails() {
        let (mut near, mut far) = pair().await;
        let mut room = [0; 100];
        for turn in 0..3 {
            near.write_all(b"ping").await.expect("taken");
            assert_eq!(far.read(&mut room).await.expect("read"), 4, "{turn}");
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(Pin::new(&mut far).poll_read(&mut cx, &mut ReadBuf::new(&mut room)).is_pending());
        }
        drop(near);
        assert_eq!(far.read(&mut room).await.expect("the end"), 0);
        while far.write_all(b"pong").await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
