//! Takes the event that only the proxy has asked for out of a stream: the usage of an OpenAI stream.
//!
//! It stands outside the tap: the meter sees the event and the client does not.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    body::{Body, BodyError},
    provider::Strip,
};

/// A body on its way through a [`Strip`].
pub struct Stripped {
    inner: Body,
    strip: Option<Strip>,
    ready: VecDeque<Bytes>,
}

impl Stripped {
    /// Takes the event out of `inner`.
    pub fn new(inner: Body) -> Self {
        Self { inner, strip: Some(Strip::new()), ready: VecDeque::new() }
    }
}

impl HttpBody for Stripped {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match (frame.into_data(), &mut this.strip) {
                    (Ok(piece), Some(strip)) => strip.feed(&piece, |piece| this.ready.push_back(piece)),
                    (Ok(piece), None) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    (Err(frame), _) => return Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => match this.strip.take().map(Strip::finish) {
                    Some(rest) if !rest.is_empty() => return Poll::Ready(Some(Ok(Frame::data(rest)))),
                    _ => return Poll::Ready(None),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.strip.is_none() && self.ready.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
