//! Reading from a socket: a read lands in one buffer of the thread, and only the bytes that came are kept.
//!
//! A waiting connection holds no buffer. A body that comes in bulk is read into its pieces directly, and is not copied.

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
/// The size of a read in bulk. Not 64 KiB: a segment of the loopback is one byte less, and every other read would be tiny.
const BULK: usize = 128 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SMALL].into_boxed_slice());
}

/// The expected amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// A head, an event, or an unknown amount.
    Little,
    /// A large body.
    Plenty,
}

/// Reads once and shows `look` the bytes that have come, before they are kept; `look` gives how many it has used up, and the others are
/// appended to `input`. Gives the number of all that came, 0 at the end.
pub fn poll_look<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    input: &mut BytesMut,
    look: impl FnOnce(&[u8]) -> usize,
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut come = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut come))?;
        let come = come.filled();
        let used = if come.is_empty() { 0 } else { look(come) };
        if used < come.len() {
            input.extend_from_slice(&come[used..]);
        }
        Poll::Ready(Ok(come.len()))
    })
}

/// Appends the bytes that have come on `stream` to `input`; gives their number, 0 at the end.
pub fn poll_fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    input: &mut BytesMut,
    expect: Expect,
) -> Poll<io::Result<usize>> {
    match expect {
        Expect::Little => poll_look(stream, cx, input, |_| 0),
        Expect::Plenty => {
            input.reserve(BULK);
            // The future may be dropped: it holds no bytes.
            let read = pin!(stream.read_buf(&mut *input)).poll(cx);
            if read.is_pending() && input.is_empty() {
                // A waiting connection holds no buffer.
                *input = BytesMut::new();
            }
            read
        }
    }
}
