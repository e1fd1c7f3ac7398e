//! The bytes that wait for a socket: small pieces copied together, then at most one large piece, uncopied, with the bytes that close it.
//!
//! A head and a small body cost one plain `send`. A large piece is never copied: it goes out in a gathering write. The buffer
//! for small pieces comes from a store of the thread and goes back to it: an idle connection holds none.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::io::AsyncWrite;

use crate::http1;

/// Largest piece that is copied.
const SMALL: usize = 4096;
/// Most buffers in the thread's store, and the largest that it keeps.
const SPARE: usize = 64;
const LARGEST_SPARE: usize = 32 << 10;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The bytes that wait to be written.
#[derive(Debug, Default)]
pub struct Outbox {
    front: Vec<u8>,
    /// Bytes of `front` that were written.
    written: usize,
    piece: Bytes,
    /// The bytes that close the piece.
    back: &'static [u8],
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.piece.is_empty() && self.back.is_empty()
    }

    /// Whether another piece may be added: at most one large piece waits.
    pub fn takes_more(&self) -> bool {
        self.piece.is_empty() && self.back.is_empty() && self.front.len() - self.written < SMALL
    }

    /// The buffer behind all that waits. A large piece that waits is copied: ask [`Self::takes_more`] first.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.front.capacity() == 0 {
            self.front =
                SPARES.try_with(|spares| spares.borrow_mut().pop()).ok().flatten().unwrap_or_else(|| Vec::with_capacity(2 * SMALL));
        }
        if !self.piece.is_empty() || !self.back.is_empty() {
            self.front.extend_from_slice(&std::mem::take(&mut self.piece));
            self.front.extend_from_slice(std::mem::take(&mut self.back));
        }
        &mut self.front
    }

    /// Adds `piece`, then `back`. A second large piece is copied: ask [`Self::takes_more`] first.
    pub fn push(&mut self, piece: Bytes, back: &'static [u8]) {
        if piece.len() <= SMALL || !self.piece.is_empty() || !self.back.is_empty() {
            let tail = self.tail();
            tail.extend_from_slice(&piece);
            tail.extend_from_slice(back);
        } else {
            self.piece = piece;
            self.back = back;
        }
    }

    /// Writes waiting bytes; gives the number written in one write, 0 if none wait.
    pub fn poll_write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let front = &self.front[self.written..];
        let sent = if self.piece.is_empty() && self.back.is_empty() {
            ready!(Pin::new(stream).poll_write(cx, front))?
        } else {
            let pieces = [IoSlice::new(front), IoSlice::new(&self.piece), IoSlice::new(self.back)];
            ready!(super::pieces::write(stream, cx, if front.is_empty() { &pieces[1..] } else { &pieces }))?
        };
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(sent);
        Poll::Ready(Ok(sent))
    }

    fn advance(&mut self, sent: usize) {
        let of_front = sent.min(self.front.len() - self.written);
        self.written += of_front;
        if self.written == self.front.len() {
            self.give_back();
        }
        if of_front < sent {
            let of_piece = (sent - of_front).min(self.piece.len());
            self.piece.advance(of_piece);
            if self.piece.is_empty() {
                // An idle connection holds no memory of what it has sent.
                self.piece = Bytes::new();
            }
            self.back = &self.back[sent - of_front - of_piece..];
        }
    }

    fn give_back(&mut self) {
        self.written = 0;
        let mut front = std::mem::take(&mut self.front);
        if (1..=LARGEST_SPARE).contains(&front.capacity()) {
            front.clear();
            // A thread that ends has no store any more.
            let _ = SPARES.try_with(|spares| {
                let mut spares = spares.borrow_mut();
                if spares.len() < SPARE {
                    spares.push(front);
                }
            });
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Writes the last chunk of a body, and its trailers (RFC 9112 section 7.1.2).
pub fn write_last(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    let Some(trailers) = trailers else { return http1::write_last(out) };
    out.extend_from_slice(b"0\r\n");
    write_fields(out, trailers);
    out.extend_from_slice(b"\r\n");
}

/// Writes a line for each field.
pub fn write_fields(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A stream that takes a few bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let some = buf.len().min(self.1);
            self.0.extend_from_slice(&buf[..some]);
            Poll::Ready(Ok(some))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        /// However narrow the socket is, all bytes come out once and in order.
        #[test]
        fn what_is_put_in_comes_out(sizes in proptest::collection::vec((0usize..9000, any::<bool>()), 0..12), width in 1usize..6000) {
            let mut outbox = Outbox::default();
            let mut stream = Narrow(Vec::new(), width);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut wanted = Vec::new();
            for (at, (size, closed)) in sizes.into_iter().enumerate() {
                while !outbox.takes_more() {
                    prop_assert!(matches!(outbox.poll_write(&mut stream, &mut cx), Poll::Ready(Ok(1..))));
                }
                let back: &'static [u8] = if closed { b"\r\n" } else { b"" };
                outbox.tail().push(at as u8);
                wanted.push(at as u8);
                wanted.extend(std::iter::repeat_n(b'x', size).chain(back.iter().copied()));
                outbox.push(Bytes::from(vec![b'x'; size]), back);
                if closed {
                    outbox.tail().push(b'-');
                    wanted.push(b'-');
                }
            }
            while !outbox.is_empty() {
                prop_assert!(matches!(outbox.poll_write(&mut stream, &mut cx), Poll::Ready(Ok(1..))));
            }
            prop_assert!(stream.0 == wanted);
        }
    }
}
