//! The body of an answer: pieces at their pace, broken if a fault asks for it, billed for the pieces sent.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::clock::Instant;

use super::{call::Piece, faults::Within, ledger::Ticket, wire::Steer};

/// Time for sent pieces to arrive before the connection breaks.
const ARRIVES: Duration = Duration::from_millis(10);

/// A body that a fault broke.
#[derive(Debug, thiserror::Error)]
#[error("the mock was told to break here")]
pub(super) struct Severed;

/// A response body.
pub(super) enum Reply {
    Whole(Option<Bytes>),
    Pieces(Box<Pieces>),
}

/// Pieces over time.
pub(super) struct Pieces {
    left: std::vec::IntoIter<Piece>,
    sent: usize,
    per_token: Duration,
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    within: Option<(usize, Within)>,
    last: Option<Bytes>,
    steer: Steer,
    ticket: Option<Ticket>,
}

impl Reply {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl Pieces {
    /// `tokens_per_second` 0: at once. `error` is sent as the last piece if `within` says so.
    pub(super) fn new(pieces: Vec<Piece>, tokens_per_second: u32, ticket: Ticket, steer: Steer) -> Self {
        let per_token = if tokens_per_second == 0 { Duration::ZERO } else { Duration::from_secs(1) / tokens_per_second };
        Self { left: pieces.into_iter(), sent: 0, per_token, due: None, sleep: None, within: None, last: None, steer, ticket: Some(ticket) }
    }

    /// Sets the fault and the number of pieces before it; `error` is the event of [`Within::Error`].
    pub(super) fn broken(mut self, within: Option<(usize, Within)>, error: Bytes) -> Self {
        self.within = within;
        self.last = Some(error);
        self
    }

    fn finish(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            ticket.finish();
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        if let Some((at, within)) = &self.within
            && self.sent >= *at
        {
            match within {
                Within::Stall => return Poll::Pending,
                Within::Cut | Within::Reset => {
                    // hyper flushes while a body has no piece, and a reset destroys bytes that its peer has not read.
                    let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(ARRIVES)));
                    ready!(sleep.as_mut().poll(cx));
                    if matches!(within, Within::Reset) {
                        self.steer.reset();
                    }
                }
                Within::End | Within::Error(_) => {
                    let words = if matches!(within, Within::Error(_)) { self.last.take() } else { None };
                    self.left = Vec::new().into_iter();
                    self.within = None;
                    if let Some(words) = words {
                        return Poll::Ready(Some(Ok(Frame::data(words))));
                    }
                    self.finish();
                    return Poll::Ready(None);
                }
            }
            self.finish();
            return Poll::Ready(Some(Err(Severed)));
        }
        let Some(next) = self.left.as_slice().first() else {
            self.finish();
            return Poll::Ready(None);
        };
        if next.tokens > 0 && !self.per_token.is_zero() {
            ready!(self.poll_pace(cx, next.tokens));
        }
        let Some(piece) = self.left.next() else { return Poll::Ready(None) };
        self.sent += 1;
        if let Some(ticket) = &mut self.ticket {
            ticket.sent(u64::from(piece.tokens));
        }
        Poll::Ready(Some(Ok(Frame::data(piece.bytes))))
    }

    /// Waits until the next `tokens` may be sent. The pace follows the clock: delays do not add up.
    fn poll_pace(&mut self, cx: &mut Context<'_>, tokens: u32) -> Poll<()> {
        let sleep = match &mut self.sleep {
            Some(sleep) => sleep,
            None => {
                let due = self.due.unwrap_or_else(Instant::now) + self.per_token * tokens;
                self.due = Some(due);
                self.sleep.insert(Box::pin(tokio::time::sleep_until(due)))
            }
        };
        ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        Poll::Ready(())
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces.poll_piece(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
