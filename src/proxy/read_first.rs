//! Request bodies that are read before they are sent, each up to a bound and all within a budget of the process.

use std::collections::VecDeque;

use bytes::Bytes;
use http_body_util::BodyExt;

use super::{ask::Ask, live::LiveDoor};
use crate::{
    body::{
        Body, BodyError,
        coding::{self, Text},
        resumed::Resumed,
    },
    reject::{Coded, Reject},
};

/// Largest body that is read first if the door sets no `max_body`.
const MAX_READ: u64 = 32 << 20;

/// Why a body was not read: it is too large.
pub(super) const TOO_LARGE: &str = "request body too large";
/// Why a body was not read: the budget is full.
pub(super) const NO_ROOM: &str = "no room for the request body";

/// The largest body that is read first at `door`, and the largest text of one in a content coding.
pub(super) fn most(door: &LiveDoor) -> u64 {
    door.bounds.max_body.unwrap_or(MAX_READ).min(MAX_READ)
}

/// The decoded text of a body that came in a content coding; `None`: the body has no coding. The bytes stay as they are. The text
/// takes room of the budget like the body.
///
/// # Errors
/// A coding that is unknown or broken, a text over the bound, no room for it.
pub fn text_of(ask: &Ask, door: &LiveDoor, body: &[u8]) -> Result<Option<Bytes>, Reject> {
    if ask.call().is_some_and(|call| call.asks_usage || call.rewritten.get()) {
        // The text was changed, and has no coding any more.
        return Ok(None);
    }
    match coding::decode(&ask.arrival.headers, body, most(door)) {
        Text::Plain => Ok(None),
        Text::Decoded(text) => match ask.room.borrow_mut().as_mut().is_none_or(|room| room.take(text.len() as u64)) {
            true => Ok(Some(text)),
            false => Err(no_room()),
        },
        Text::Unknown(name) => Err(Reject::BodyCoded(Coded::Unknown(name.into()))),
        Text::Broken => Err(Reject::BodyCoded(Coded::Broken)),
        Text::TooLarge(most) => Err(Reject::BodyCoded(Coded::TooLarge(most))),
    }
}

/// The refusal where the budget is full.
pub(super) fn no_room() -> Reject {
    Reject::Overloaded("request bodies in flight fill the process's budget (body_budget)".into())
}

/// The result of reading a body that is sent even if it cannot be read.
pub enum Read {
    /// All of it.
    Whole(Bytes),
    /// Not all of it: the whole body, read part first, to be sent as it came; and the reason.
    Partly(Body, &'static str),
}

/// Reads all of `body`: the request cannot go on without it.
///
/// # Errors
/// A body over the bound, no room for it, a client that breaks off.
pub async fn read(ask: &Ask, door: &LiveDoor, body: Body) -> Result<Bytes, Reject> {
    let max = most(door);
    match collect(ask, max, body, false).await? {
        Read::Whole(bytes) => Ok(bytes),
        Read::Partly(_, TOO_LARGE) => Err(Reject::BodyTooLarge(max)),
        Read::Partly(..) => Err(no_room()),
    }
}

/// Reads `body` if it is no larger than `max`, there is room, and it has no trailers.
///
/// # Errors
/// A client that breaks off.
pub async fn read_up_to(ask: &Ask, max: u64, body: Body) -> Result<Read, Reject> {
    collect(ask, max, body, true).await
}

/// Collects a body. Without `trailers` its trailers are dropped: no model API has any.
async fn collect(ask: &Ask, max: u64, mut body: Body, trailers: bool) -> Result<Read, Reject> {
    if body.exact_len().is_some_and(|len| len > max) {
        return Ok(Read::Partly(body, TOO_LARGE));
    }
    let mut room = ask.proxy.shared.bodies.room();
    let (mut frames, mut size) = (VecDeque::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(ask, &error))?;
        let len = frame.data_ref().map(|piece| piece.len() as u64);
        frames.push_back(frame);
        let problem = match len {
            None => Some("request trailers").filter(|_| trailers),
            Some(len) if size + len > max => Some(TOO_LARGE),
            Some(len) if !room.take(len) => Some(NO_ROOM),
            Some(len) => {
                size += len;
                None
            }
        };
        if let Some(problem) = problem {
            return Ok(Read::Partly(Resumed::frames(frames, body), problem));
        }
    }
    ask.room.replace(Some(room));
    let mut pieces: Vec<Bytes> = frames.into_iter().filter_map(|frame| frame.into_data().ok()).collect();
    Ok(Read::Whole(if pieces.len() == 1 { pieces.swap_remove(0) } else { pieces.concat().into() }))
}

fn broken(ask: &Ask, error: &BodyError) -> Reject {
    ask.upload().failure().map_or_else(|| Reject::BodyBroken(error.to_string().into()), super::client_failure)
}
