//! Small pieces are copied together and written as one: a head and a small body cost one plain `send`. The kernel takes longer
//! over a gathering write than the copy takes.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

/// Most bytes that are copied together.
const SMALL: usize = 4096;

thread_local! {
    static TOGETHER: RefCell<[u8; SMALL]> = const { RefCell::new([0; SMALL]) };
}

/// Writes `pieces` to `stream`, together if they are small.
pub fn write<S: AsyncWrite + Unpin>(stream: &mut S, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
    if let [piece] = pieces {
        return Pin::new(stream).poll_write(cx, piece);
    }
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    if total > SMALL {
        return Pin::new(stream).poll_write_vectored(cx, pieces);
    }
    TOGETHER.with_borrow_mut(|together| {
        let mut end = 0;
        for piece in pieces {
            together[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
        }
        Pin::new(stream).poll_write(cx, &together[..end])
    })
}
