//! Reading from a socket: what has come lands in one place of the thread and only what came is kept.
//!
//! A connection that waits holds no buffer. A body that comes in bulk is read into the pieces themselves, so that nothing of it is
//! copied.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Most bytes of a read that are copied.
pub const SMALL: usize = 16 << 10;
/// The size of a read in bulk. Not 64 KiB: a segment of the loopback is one byte less, so that every other read would be a crumb.
const BULK: usize = 128 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SMALL].into_boxed_slice());
}

/// How much is likely to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// A head, an event, or something not known.
    Little,
    /// A large body.
    Plenty,
}

/// Puts what has come on `stream` behind `input`; gives the number of bytes, 0 at the end.
pub fn poll_fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    input: &mut BytesMut,
    expect: Expect,
) -> Poll<io::Result<usize>> {
    match expect {
        Expect::Little => SCRATCH.with_borrow_mut(|scratch| {
            let mut come = ReadBuf::new(scratch);
            ready!(Pin::new(stream).poll_read(cx, &mut come))?;
            input.extend_from_slice(come.filled());
            Poll::Ready(Ok(come.filled().len()))
        }),
        Expect::Plenty => {
            input.reserve(BULK);
            // Nothing is lost with the future: it holds no bytes.
            pin!(stream.read_buf(input)).poll(cx)
        }
    }
}
