//! Before the first byte goes to the client an answer can still be judged: an error by its body, a stream by its first
//! event with content. After that it is committed.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
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
                Err(_) => return (Resumed::broken(read.freeze(), BodyError::Idle(left)), Some(connection)),
            },
        };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            None => break,
            Some(Ok(Ok(piece))) => read.extend_from_slice(&piece),
            Some(Ok(Err(_))) => {}
            Some(Err(error)) => return (Resumed::broken(read.freeze(), error), Some(connection)),
        }
        if read.len() > MAX_ERROR {
            return (Body::stream(Resumed { held: VecDeque::from([read.freeze()]), rest: Rest::Coming(body) }), Some(connection));
        }
    }
    connection.release(Instant::now());
    (Body::full(read.freeze()), None)
}

/// Holds a stream back until its first event with content; anything else passes at once.
pub async fn until_content(plan: &Plan, responded: Responded, bound: Option<Duration>, idle: Option<Duration>, deadline: Deadline) -> Held {
    let Responded { head, mut body, connection, .. } = responded;
    let streams = head.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"));
    let mut meter = Meter::new(plan.api, plan.operation, &head.headers);
    if !streams || meter.is_blind() {
        return Held::Content(Attempted { head, body, connection: Some(connection) });
    }
    let mut held = VecDeque::new();
    let mut size = 0;
    let until = bound.map(|after| (Instant::now() + after, Bound::FirstToken, after)).into_iter();
    let left = deadline.left(Instant::now()).map(|left| (Instant::now() + left, Bound::Total, left));
    let until = until.chain(left).min_by_key(|(at, ..)| *at);
    let mut error = None;
    let mut broken = None;
    while size < MAX_HELD {
        // A stream that goes silent before its first content is given up like one that has none in time.
        let silent = idle.map(|after| (Instant::now() + after, Bound::FirstToken, after));
        let frame = match until.into_iter().chain(silent).min_by_key(|(at, ..)| *at) {
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
            Err(cause) => {
                error = Some(ErrorClass::Transient);
                broken = Some(cause);
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
    let rest = broken.map_or(Rest::Coming(body), |error| Rest::Broken(Some(error)));
    let attempted = Attempted { head, body: Body::stream(Resumed { held, rest }), connection: Some(connection) };
    match error {
        Some(class) => Held::Error(attempted, class),
        None => Held::Content(attempted),
    }
}

/// What was read ahead, then the rest as it comes, or the error that came instead of it.
struct Resumed {
    held: VecDeque<Bytes>,
    rest: Rest,
}

enum Rest {
    Coming(Body),
    /// Said once; hyper itself says an error only once and then that all is over.
    Broken(Option<BodyError>),
}

impl Resumed {
    fn broken(read: Bytes, error: BodyError) -> Body {
        let held = if read.is_empty() { VecDeque::new() } else { VecDeque::from([read]) };
        Body::stream(Self { held, rest: Rest::Broken(Some(error)) })
    }
}

impl HttpBody for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = self.held.pop_front() {
            return std::task::Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match &mut self.rest {
            Rest::Coming(rest) => Pin::new(rest).poll_frame(cx),
            Rest::Broken(error) => std::task::Poll::Ready(error.take().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.rest {
            Rest::Coming(rest) => self.held.is_empty() && rest.is_end_stream(),
            Rest::Broken(error) => self.held.is_empty() && error.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.held.iter().map(|piece| piece.len() as u64).sum();
        match &self.rest {
            Rest::Coming(rest) => rest.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead)),
            // The head's length stands: it will not be reached.
            Rest::Broken(_) => SizeHint::default(),
        }
    }
}
