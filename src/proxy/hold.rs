//! Before the first byte goes to the client an answer can still be judged: an error by its body, a stream by its first
//! event with content. After that it is committed.

use std::time::Duration;

use bytes::BytesMut;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::{ask::Ask, sending::Attempted};
use crate::{
    body::{Body, BodyError, resumed::Resumed},
    policy::timeout::Deadline,
    provider::ErrorClass,
    reject::Bound,
    upstream::Connection,
};

/// Error bodies are small; what is larger is passed on unread.
const MAX_ERROR: usize = 64 << 10;
/// Bytes of events before the first one with content.
const MAX_HELD: usize = 256 << 10;

/// What a stream began with.
pub enum Beginning {
    /// Content, or an answer that is not a stream.
    Content(Attempted),
    /// An error inside of a 200.
    Error(Attempted, ErrorClass),
    /// Neither came in time.
    Timeout(Bound, Duration),
}

/// Reads an error's body, so that it can be understood and still be passed on. What breaks or stalls while it is read breaks
/// for the client too: a part is never passed on as the whole.
pub async fn error_body(mut body: Body, connection: Connection, idle: Option<Duration>, deadline: Deadline) -> (Body, Option<Connection>) {
    let mut read = BytesMut::new();
    loop {
        let left = [idle, deadline.left(Instant::now())].into_iter().flatten().min();
        let frame = match left {
            None => body.frame().await,
            Some(left) => match tokio::time::timeout(left, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return (Resumed::broken([read.freeze()], BodyError::Idle(left)), Some(connection)),
            },
        };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            None => break,
            Some(Ok(Ok(piece))) => read.extend_from_slice(&piece),
            Some(Ok(Err(_))) => {}
            Some(Err(error)) => return (Resumed::broken([read.freeze()], error), Some(connection)),
        }
        if read.len() > MAX_ERROR {
            return (Resumed::coming([read.freeze()], body), Some(connection));
        }
    }
    connection.release(Instant::now());
    (Body::full(read.freeze()), None)
}

/// Holds a stream back until its first event with content; anything else passes at once.
pub async fn until_content(ask: &Ask, attempted: Attempted) -> Beginning {
    let Attempted { head, mut body, connection, bounds, reading } = attempted;
    let Some(reading) = reading.filter(|reading| reading.streams() && !reading.is_blind()) else {
        return Beginning::Content(Attempted { head, body, connection, bounds, reading: None });
    };
    let timeouts = ask.enforced_timeouts();
    let (first_token, idle) = (timeouts.and_then(|timeouts| timeouts.first_token), timeouts.and_then(|timeouts| timeouts.idle));
    let began = Instant::now();
    let until = first_token.map(|after| (began + after, Bound::FirstToken, after)).into_iter();
    let until = until.chain(ask.deadline().next(began)).min_by_key(|(at, ..)| *at);
    let (mut held, mut size) = (Vec::new(), 0);
    let mut room = ask.proxy.shared.bodies.room();
    let mut broken = None;
    while size < MAX_HELD {
        // A stream that goes silent before its first content is given up like one that has none in time.
        let silent = idle.map(|after| (Instant::now() + after, Bound::FirstToken, after));
        let frame = match until.into_iter().chain(silent).min_by_key(|(at, ..)| *at) {
            None => body.frame().await,
            Some((at, bound, after)) => match tokio::time::timeout_at(at, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Beginning::Timeout(bound, after),
            },
        };
        let Some(frame) = frame else { break };
        match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => {
                size += piece.len();
                let fits = room.take(piece.len() as u64);
                held.push(piece);
                if !fits {
                    // No memory to hold it back: what comes is committed.
                    break;
                }
            }
            Ok(Err(_)) => break,
            // Broken before any content: as good as no answer.
            Err(cause) => {
                broken = Some(cause);
                break;
            }
        }
        if reading.started() || reading.ended() || reading.error().is_some() {
            break;
        }
    }
    let error = if broken.is_some() { Some(ErrorClass::Transient) } else { reading.error() };
    let body = match broken {
        Some(cause) => Resumed::broken(held, cause),
        None => Resumed::coming(held, body),
    };
    let attempted = Attempted { head, body, connection, bounds, reading: Some(reading) };
    match error {
        Some(class) => Beginning::Error(attempted, class),
        None => Beginning::Content(attempted),
    }
}
