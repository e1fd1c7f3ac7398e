//! Request bodies that are read before they are sent, each up to a bound and all within a budget of the process.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::{Exchange, live::LiveDoor};
use crate::{
    body::{Body, BodyError},
    reject::Reject,
};

/// Room for request bodies that must be read before they are sent, for the whole process.
#[derive(Debug)]
pub struct BodyBudget {
    limit: u64,
    used: AtomicU64,
}

/// Largest body that is read first where the door sets no `max_body`.
const MAX_READ: u64 = 32 << 20;

/// What came of reading a body that is also sent if it cannot be read.
pub enum Read {
    /// All of it.
    Whole(Bytes),
    /// Not all: what was read and what follows, to be sent as it came; and why.
    Partly(Body, &'static str),
}

impl BodyBudget {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Reads all of `body`, without which the request cannot go on.
    ///
    /// # Errors
    /// A body over the bound, no room for it, a client that breaks off.
    pub async fn read(self: Arc<Self>, exchange: &mut Exchange, door: &LiveDoor, mut body: Body) -> Result<Bytes, Reject> {
        let max = door.bounds.max_body.unwrap_or(MAX_READ).min(MAX_READ);
        let mut room = Room { budget: self, taken: 0 };
        let mut pieces = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(exchange, &error))?;
            if let Ok(piece) = frame.into_data() {
                if (pieces.len() + piece.len()) as u64 > max {
                    return Err(Reject::BodyTooLarge(max));
                }
                if !room.take(piece.len() as u64) {
                    return Err(Reject::Overloaded("request bodies in flight fill the process's budget (body_budget)".into()));
                }
                pieces.extend_from_slice(&piece);
            }
        }
        exchange.room = Some(room);
        Ok(pieces.freeze())
    }

    /// Reads `body` if it is no larger than `max`, there is room, and it has no trailers.
    ///
    /// # Errors
    /// A client that breaks off.
    pub async fn read_up_to(self: Arc<Self>, exchange: &mut Exchange, max: u64, mut body: Body) -> Result<Read, Reject> {
        const TOO_LARGE: &str = "request body too large";
        if body.exact_len().is_some_and(|len| len > max) {
            return Ok(Read::Partly(body, TOO_LARGE));
        }
        let mut room = Room { budget: self, taken: 0 };
        let (mut frames, mut size) = (VecDeque::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(exchange, &error))?;
            let len = frame.data_ref().map(|piece| piece.len() as u64);
            frames.push_back(frame);
            let problem = match len {
                None => Some("request trailers"),
                Some(len) if size + len > max => Some(TOO_LARGE),
                Some(len) if !room.take(len) => Some("no room for the request body"),
                Some(len) => {
                    size += len;
                    None
                }
            };
            if let Some(problem) = problem {
                return Ok(Read::Partly(Body::stream(Resumed { frames, rest: body }), problem));
            }
        }
        exchange.room = Some(room);
        let mut pieces: Vec<Bytes> = frames.into_iter().filter_map(|frame| frame.into_data().ok()).collect();
        Ok(Read::Whole(if pieces.len() == 1 { pieces.swap_remove(0) } else { pieces.concat().into() }))
    }
}

fn broken(exchange: &Exchange, error: &BodyError) -> Reject {
    exchange.upload.failure().map_or_else(|| Reject::BodyBroken(error.to_string().into()), super::client_failure)
}

/// Bytes held of the budget; given back when dropped.
pub struct Room {
    budget: Arc<BodyBudget>,
    taken: u64,
}

impl Room {
    /// Whether there was room for so many bytes more.
    fn take(&mut self, bytes: u64) -> bool {
        let before = self.budget.used.fetch_add(bytes, Relaxed);
        self.taken += bytes;
        before + bytes <= self.budget.limit
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Relaxed);
    }
}

/// What was read of a body, and then the rest of it.
struct Resumed {
    frames: VecDeque<Frame<Bytes>>,
    rest: Body,
}

impl HttpBody for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.frames.iter().filter_map(|frame| frame.data_ref()).map(|piece| piece.len() as u64).sum();
        self.rest.exact_len().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(ahead + rest))
    }
}
