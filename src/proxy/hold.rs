//! Before the first byte goes to the client an answer can still be judged: an error by its body, a stream by its first
//! event with content. After that it is committed.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{attempt::Attempted, forward::Responded, model::Plan};
use crate::{
    body::{Body, BodyError},
    policy::timeout::Deadline,
    provider::{ErrorClass, Meter},
    reject::Bound,
    upstream::Connection,
};

/// Error bodies are small; what is larger is passed on unread.
const MAX_ERROR: usize = 64 << 10;
/// Events before the first one with content.
const MAX_HELD: usize = 256 << 10;

/// What a stream began with.
pub enum Held {
    /// Content, or an answer that is not a stream.
    Content(Attempted),
    /// An error inside a 200.
    Error(Attempted, ErrorClass),
    /// Neither came in time.
    Timeout(Bound, Duration),
}

/// Reads an error's body, so that it can be understood and still be passed on.
pub async fn error_body(mut body: Incoming, connection: Connection) -> (Body, Option<Connection>) {
    let mut read = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(piece) = frame.into_data() {
            read.extend_from_slice(&piece);
        }
        if read.len() > MAX_ERROR {
            return (Body::stream(Resumed { held: VecDeque::from([read.freeze()]), rest: body }), Some(connection));
        }
    }
    connection.release(Instant::now());
    (Body::full(read.freeze()), None)
}

/// Holds a stream back until its first event with content; anything else passes at once.
pub async fn until_content(plan: &Plan, responded: Responded, bound: Option<Duration>, deadline: Deadline) -> Held {
    let Responded { head, mut body, connection, .. } = responded;
    let streams = head.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let mut meter = Meter::new(plan.api, plan.operation, &head.headers);
    if !streams || meter.is_blind() {
        return Held::Content(Attempted { head, body: Body::Incoming(body), connection: Some(connection) });
    }
    let mut held = VecDeque::new();
    let mut size = 0;
    let until = bound.map(|after| (Instant::now() + after, Bound::FirstToken, after)).into_iter();
    let left = deadline.left(Instant::now()).map(|left| (Instant::now() + left, Bound::Total, left));
    let until = until.chain(left).min_by_key(|(at, ..)| *at);
    let mut error = None;
    while size < MAX_HELD {
        let frame = match until {
            None => body.frame().await,
            Some((at, bound, after)) => match tokio::time::timeout_at(at, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => return Held::Timeout(bound, after),
            },
        };
        let Some(frame) = frame else { break };
        let piece = match frame.map(Frame::into_data) {
            Ok(Ok(piece)) => piece,
            Ok(Err(_)) => break,
            // Broken before any content: as good as no answer.
            Err(_) => {
                error = Some(ErrorClass::Transient);
                break;
            }
        };
        size += piece.len();
        let news = meter.feed(&piece);
        held.push_back(piece);
        error = news.error;
        if news.first_content || news.ended || error.is_some() {
            break;
        }
    }
    let attempted = Attempted { head, body: Body::stream(Resumed { held, rest: body }), connection: Some(connection) };
    match error {
        Some(class) => Held::Error(attempted, class),
        None => Held::Content(attempted),
    }
}

/// What was read ahead, then the rest as it comes.
struct Resumed {
    held: VecDeque<Bytes>,
    rest: Incoming,
}

impl HttpBody for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.held.pop_front() {
            Some(piece) => std::task::Poll::Ready(Some(Ok(Frame::data(piece)))),
            None => Pin::new(&mut self.rest).poll_frame(cx).map_err(BodyError::Broken),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.held.iter().map(|piece| piece.len() as u64).sum();
        self.rest.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead))
    }
}
