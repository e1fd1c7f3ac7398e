//! The one body type. Pieces pass as they come; a [`tap`] observes them.

pub mod accept;
pub mod ahead;
pub mod coding;
pub mod dechunk;
pub mod enclose;
pub mod encode;
pub mod events;
pub mod inbox;
pub mod outbox;
pub mod pieces;
pub mod replay;
pub mod resumed;
pub mod room;
pub mod stop;
pub mod tap;
pub mod tcp;
pub mod upload;
pub mod websocket;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http1::{Id, NEVER_TRAILERS};

/// A request or response body.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// Everything at once.
    Full(Bytes),
    /// From an HTTP/2 stream, as it comes. Only END_STREAM ends it well: hyper also gives an end for a reset or a GOAWAY
    /// without an error, and a body that was taken back half-way would pass for the whole.
    Http2(Incoming),
    /// Observed: usage, cache fill, the exchange's end.
    Tapped(Box<tap::Tap>),
    /// Anything else: replays, joined fills, tests.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>),
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The sender's HTTP/2 connection broke, or its frames were malformed.
    #[error("{0}")]
    Broken(#[from] hyper::Error),
    /// The sender's HTTP/1.1 connection broke, or its bytes were malformed; in words.
    #[error("{0}")]
    Cut(String),
    /// An HTTP/2 stream ended before its end.
    #[error("the stream was reset before its end")]
    Reset,
    /// No piece came for too long.
    #[error("no data for {0:?}")]
    Idle(std::time::Duration),
    /// The exchange's total time is over.
    #[error("the request's total time is over")]
    Deadline,
    /// The process shuts down, and the rest of the answer would take longer than the shutdown may.
    #[error("the proxy is shutting down and cannot wait for the rest of this answer")]
    Stopping,
    /// More than `max_body`.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// The shared fetch that this body read from failed.
    #[error("{0}")]
    Fill(String),
}

impl Body {
    /// A body of exactly these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }

    /// Boxes a stream of frames.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self::Stream(Box::pin(body))
    }

    /// `inner` with a known length, if there is one.
    pub fn sized(inner: Self, length: Option<u64>) -> Self {
        match length {
            Some(length) => Self::stream(Sized { inner, left: length }),
            None => inner,
        }
    }

    /// The exact number of bytes, if it is known or announced.
    pub fn exact_len(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

/// Removes fields that must not come after a body: framing, routing, and fields of one hop (RFC 9110 section 6.5.1).
pub fn scrub(trailers: &mut HeaderMap) {
    let never: Vec<HeaderName> = trailers.keys().filter(|name| NEVER_TRAILERS.has(Id::of(name.as_str().as_bytes()))).cloned().collect();
    for name in never {
        trailers.remove(name);
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Http2(_) => f.write_str("Http2"),
            Self::Tapped(_) => f.write_str("Tapped"),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Http2(incoming) => match poll_socket(incoming, cx) {
                Poll::Ready(None) if !incoming.is_end_stream() => {
                    *self = Self::Empty;
                    Poll::Ready(Some(Err(BodyError::Reset)))
                }
                polled => polled,
            },
            Self::Tapped(tap) => Pin::new(&mut **tap).poll_frame(cx),
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Http2(incoming) => incoming.is_end_stream(),
            Self::Tapped(tap) => tap.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Http2(incoming) => incoming.size_hint(),
            Self::Tapped(tap) => tap.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

fn poll_socket(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let mut polled = Pin::new(incoming).poll_frame(cx).map_err(BodyError::Broken);
    if let Poll::Ready(Some(Ok(frame))) = &mut polled
        && let Some(trailers) = frame.trailers_mut()
    {
        scrub(trailers);
    }
    polled
}

/// A body with a length that is known from elsewhere.
struct Sized {
    inner: Body,
    left: u64,
}

impl HttpBody for Sized {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(piece) = frame.data_ref()
        {
            self.left = self.left.saturating_sub(piece.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        // A writer stops at the length: it never asks for the end behind it.
        self.left == 0 || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
