//! A request's body on its way to a provider: whether all of the body was taken, and which requests of a batch are in it.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    body::{Body, BodyError},
    provider::batch,
};

/// A request's body that tells when the sender has taken all of it.
pub(super) struct Watched {
    /// The body.
    pub inner: Body,
    /// Becomes true when all has been taken.
    pub sent: Rc<Cell<bool>>,
    /// The reader of an upload that may be the requests of a batch.
    pub upload: Option<Rc<RefCell<Option<batch::Upload>>>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let (Some(upload), Poll::Ready(Some(Ok(frame)))) = (&self.upload, &polled)
            && let (Some(upload), Some(piece)) = (upload.borrow_mut().as_mut(), frame.data_ref())
        {
            upload.feed(piece);
        }
        if matches!(polled, Poll::Ready(None)) || matches!(polled, Poll::Ready(Some(Ok(_)))) && self.inner.is_end_stream() {
            self.sent.set(true);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
