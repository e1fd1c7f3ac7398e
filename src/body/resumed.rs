//! A body with a beginning that was read ahead: first the beginning, then the rest as it comes, or the error in its place.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyError};

/// The beginning that was read ahead, and the rest.
pub struct Resumed {
    ahead: VecDeque<Frame<Bytes>>,
    rest: Rest,
}

enum Rest {
    Coming(Body),
    /// Given once, then the end: a body gives its error only once.
    Broken(Option<BodyError>),
}

impl Resumed {
    /// These pieces, then `rest`.
    pub fn coming(ahead: impl IntoIterator<Item = Bytes>, rest: Body) -> Body {
        Self::frames(ahead.into_iter().filter(|piece| !piece.is_empty()).map(Frame::data).collect(), rest)
    }

    /// These frames, then `rest`.
    pub fn frames(ahead: VecDeque<Frame<Bytes>>, rest: Body) -> Body {
        Body::stream(Self { ahead, rest: Rest::Coming(rest) })
    }

    /// These pieces, then `error`.
    pub fn broken(ahead: impl IntoIterator<Item = Bytes>, error: BodyError) -> Body {
        let ahead = ahead.into_iter().filter(|piece| !piece.is_empty()).map(Frame::data).collect();
        Body::stream(Self { ahead, rest: Rest::Broken(Some(error)) })
    }
}

impl HttpBody for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            Rest::Coming(rest) => Pin::new(rest).poll_frame(cx),
            Rest::Broken(error) => Poll::Ready(error.take().map(Err)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty()
            && match &self.rest {
                Rest::Coming(rest) => rest.is_end_stream(),
                Rest::Broken(error) => error.is_none(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let ahead: u64 = self.ahead.iter().filter_map(Frame::data_ref).map(|piece| piece.len() as u64).sum();
        match &self.rest {
            // Trailers need chunks.
            _ if self.ahead.iter().any(Frame::is_trailers) => SizeHint::default(),
            Rest::Coming(rest) => rest.exact_len().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + ahead)),
            // The head's length stands, and will not be reached.
            Rest::Broken(_) => SizeHint::default(),
        }
    }
}
