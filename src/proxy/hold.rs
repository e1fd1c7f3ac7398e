//! Judges an answer before its first byte goes to the client: an error by its body, a stream by its first event with content,
//! a small answer that is no stream by all of its body. After the first byte the answer is committed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Frame;
use http_body_util::BodyExt;

use super::{ask::Ask, bill::reading::Reading, sending::Attempted};
use crate::{
    body::{Body, BodyError, resumed::Resumed, room::Room},
    clock::Instant,
    policy::timeout::Deadline,
    provider::ErrorClass,
    reject::Bound,
    upstream::Connection,
};

/// Bytes of an error's body at most; a larger body is passed on unread.
const MAX_ERROR: usize = 64 << 10;
/// Bytes that are held back at most: events before the first one with content, or an answer that is no stream.
const MAX_HELD: usize = 256 << 10;
/// The longest pause within an answer that is held back to its end.
const PAUSE: Duration = Duration::from_secs(1);

/// The beginning of an answer.
pub enum Beginning {
    /// Content, or a body that cannot be judged.
    Content(Attempted),
    /// An error inside a 200, or a break.
    Error(Attempted, ErrorClass),
    /// A 200 without an answer: an empty body, comments alone, a page, JSON that is cut.
    Empty(Attempted),
    /// Neither came in time.
    Timeout(Bound, Duration),
}

/// Reads an error's body, which can still be passed on. A body that breaks or stalls meanwhile breaks for the client too: a part
/// is never passed on as the whole.
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

/// Holds an answer back until it can be judged: a stream until its first event with content, a small answer that is no stream
/// until its end.
pub async fn until_content(ask: &Ask, attempted: Attempted) -> Beginning {
    match attempted.reading.clone() {
        Some(reading) if reading.is_blind() => Beginning::Content(attempted),
        Some(reading) if reading.streams() => stream(ask, attempted, &reading).await,
        Some(reading) if !matches!(attempted.head.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) => {
            whole(ask, attempted, &reading).await
        }
        _ => Beginning::Content(attempted),
    }
}

async fn stream(ask: &Ask, mut attempted: Attempted, reading: &Reading) -> Beginning {
    let timeouts = ask.enforced_timeouts();
    let (first_token, idle) = (timeouts.and_then(|timeouts| timeouts.first_token), timeouts.and_then(|timeouts| timeouts.idle));
    let began = Instant::now();
    let until = first_token.map(|after| (began + after, Bound::FirstToken, after)).into_iter();
    let until = until.chain(ask.deadline().next(began)).min_by_key(|(at, ..)| *at);
    let mut ahead = Ahead::of(ask);
    while ahead.size < MAX_HELD {
        // A stream that goes silent before its first content is given up, like a stream without content in time.
        let silent = idle.map(|after| (Instant::now() + after, Bound::FirstToken, after));
        let frame = match until.into_iter().chain(silent).min_by_key(|(at, ..)| *at) {
            None => attempted.body.frame().await,
            Some((at, bound, after)) => match tokio::time::timeout_at(at, attempted.body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Beginning::Timeout(bound, after),
            },
        };
        if !ahead.take(frame) || reading.started() || reading.ended() || reading.error().is_some() {
            break;
        }
    }
    ahead.judged(attempted, reading)
}

/// Holds back an answer that is no stream. An answer that pauses for [`PAUSE`] is passed on: its bytes may keep the client's
/// connection alive.
async fn whole(ask: &Ask, mut attempted: Attempted, reading: &Reading) -> Beginning {
    if attempted.body.exact_len().is_some_and(|len| len > MAX_HELD as u64) {
        return Beginning::Content(attempted);
    }
    let mut ahead = Ahead::of(ask);
    while ahead.size < MAX_HELD && !reading.is_no_answer() {
        let now = Instant::now();
        let due = ask.deadline().next(now).filter(|(at, ..)| *at <= now + PAUSE);
        let frame = match tokio::time::timeout_at(due.map_or(now + PAUSE, |(at, ..)| at), attempted.body.frame()).await {
            Ok(frame) => frame,
            Err(_) => match due {
                Some((_, bound, after)) => return Beginning::Timeout(bound, after),
                None => break,
            },
        };
        if !ahead.take(frame) {
            break;
        }
    }
    ahead.judged(attempted, reading)
}

/// The part of an answer that was read ahead.
struct Ahead {
    pieces: Vec<Bytes>,
    size: usize,
    room: Room,
    end: ReadTo,
}

/// How far an answer was read ahead.
enum ReadTo {
    /// More may come.
    Middle,
    End,
    Break(BodyError),
}

impl Ahead {
    fn of(ask: &Ask) -> Self {
        Self { pieces: Vec::new(), size: 0, room: ask.proxy.shared.bodies.room(), end: ReadTo::Middle }
    }

    /// Takes a frame; `false`: no further frame is to be read ahead.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> bool {
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(piece))) => {
                self.size += piece.len();
                let fits = self.room.take(piece.len() as u64);
                self.pieces.push(piece);
                // Without memory to hold the answer back it is committed.
                fits
            }
            Some(Ok(Err(_))) => false,
            Some(Err(cause)) => {
                self.end = ReadTo::Break(cause);
                false
            }
            None => {
                self.end = ReadTo::End;
                false
            }
        }
    }

    /// The answer, ready to be passed on, and its beginning.
    fn judged(self, attempted: Attempted, reading: &Reading) -> Beginning {
        let broken = matches!(self.end, ReadTo::Break(_));
        let body = match self.end {
            ReadTo::Middle => Resumed::coming(self.pieces, attempted.body),
            ReadTo::End => Resumed::coming(self.pieces, Body::Empty),
            ReadTo::Break(cause) => Resumed::broken(self.pieces, cause),
        };
        let attempted = Attempted { body, ..attempted };
        match reading.error() {
            Some(class) => Beginning::Error(attempted, class),
            // An answer that broke before a byte was passed on counts as none.
            None if broken && !reading.ended() => Beginning::Error(attempted, ErrorClass::Transient),
            None if reading.is_no_answer() => Beginning::Empty(attempted),
            None => Beginning::Content(attempted),
        }
    }
}
