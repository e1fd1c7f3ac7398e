//! The end of a client's connection, so that its last answer arrives, and what is read of a body that nobody wanted.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::wire::Wire;
use crate::{
    body::inbox::{self, Expect},
    listen::session::Order,
};

/// Bytes of an unwanted body that are read, so that the next request can be told.
pub const DRAINED: u64 = 64 << 10;
/// Time for them, and for a client to read the last answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that are read meanwhile.
const LINGER: usize = 256 << 10;

/// Reads what is left of the request's body and drops it, so that the next request can be told; `false`: it is too much.
pub async fn drain(wire: &Rc<Wire>) -> bool {
    if wire.has_all() {
        return true;
    }
    let mut left = DRAINED;
    let drained = poll_fn(|cx| {
        loop {
            if wire.session.poll_order(cx) == Order::End {
                return Poll::Ready(false);
            }
            match ready!(wire.poll_piece(cx)) {
                None => return Poll::Ready(true),
                Some(Err(_)) => return Poll::Ready(false),
                Some(Ok(frame)) => match left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len) as u64) {
                    Some(rest) => left = rest,
                    None => return Poll::Ready(false),
                },
            }
        }
    });
    timeout(PATIENCE, drained).await.unwrap_or(false)
}

/// Closes so that the client reads the answer first: a close with unread bytes is a reset, which may overtake the answer (RFC 9112
/// section 9.6).
///
/// # Errors
/// The connection broke meanwhile.
pub async fn gently(wire: &Rc<Wire>) -> io::Result<()> {
    let mut unread = !wire.has_all() || wire.has_more();
    let Some(mut stream) = wire.take_stream() else { return Ok(()) };
    let ended = wire.session.unless_at_end(pin!(stream.shutdown())).await;
    if ended.is_none() {
        return Ok(());
    }
    let mut left = LINGER;
    let mut input = bytes::BytesMut::new();
    let rest = pin!(poll_fn(|cx| {
        loop {
            input.clear();
            match inbox::poll_fill(&mut stream, cx, &mut input, Expect::Little) {
                Poll::Ready(Ok(n @ 1..)) if n <= left => (left, unread) = (left - n, true),
                Poll::Ready(_) => return Poll::Ready(()),
                // Nothing is unread, as far as anybody knows.
                Poll::Pending if !unread => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }));
    let _ = timeout(PATIENCE, wire.session.unless_at_end(rest)).await;
    Ok(())
}
