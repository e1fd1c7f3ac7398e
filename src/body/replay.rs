//! A request body that can be sent again: kept up to a bound while it streams, and never waited for.
//!
//! The first try streams as if nothing were kept. A later try begins with the kept bytes and goes on with the part that no
//! earlier try has read. Beyond the bound no bytes are kept, and there is no later try.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyError, room::Room};

/// The source of a request's bodies, one for each try.
pub enum Replay {
    /// An empty body, or one that is all in memory.
    Whole(Bytes),
    /// A body that is kept while it streams.
    Kept(Rc<RefCell<Kept>>),
    /// A body that can be sent once.
    Once(Option<Body>),
}

/// The kept part of a streaming body.
pub struct Kept {
    pieces: Vec<Bytes>,
    size: u64,
    limit: u64,
    /// Room that the pieces take.
    room: Room,
    /// More bytes came than `limit` or the room allows: the body cannot be repeated.
    overflowed: bool,
    /// The part that no try has read; absent while a try reads it.
    rest: Option<Body>,
}

impl Replay {
    /// A source that keeps nothing of a streaming body.
    pub fn new(body: Body) -> Self {
        match body {
            Body::Empty => Self::Whole(Bytes::new()),
            Body::Full(bytes) => Self::Whole(bytes),
            body => Self::Once(Some(body)),
        }
    }

    /// Keeps up to `limit` bytes, in `room`, of a body that has not been sent; 0 keeps nothing. A body that is known to be longer is not
    /// kept.
    pub fn keeping(self, limit: u64, room: impl FnOnce() -> Room) -> Self {
        match &self {
            Self::Once(Some(body)) if limit > 0 && body.exact_len().is_none_or(|len| len <= limit) => self.keeping_begin(limit, room),
            _ => self,
        }
    }

    /// As [`Replay::keeping`], whatever the body's length: it can be repeated until more than `limit` bytes of it were read.
    pub fn keeping_begin(self, limit: u64, room: impl FnOnce() -> Room) -> Self {
        match self {
            Self::Once(Some(body)) => {
                let kept = Kept { pieces: Vec::new(), size: 0, limit, room: room(), overflowed: false, rest: Some(body) };
                Self::Kept(Rc::new(RefCell::new(kept)))
            }
            other => other,
        }
    }

    /// The body for the next try; `None` if it cannot be repeated.
    pub fn take(&mut self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(Body::full(bytes.clone())),
            Self::Once(body) => body.take(),
            Self::Kept(kept) => {
                let mut state = kept.borrow_mut();
                if state.overflowed {
                    return None;
                }
                let rest = state.rest.take()?;
                drop(state);
                Some(Body::stream(Copy { kept: kept.clone(), at: 0, rest: Some(rest) }))
            }
        }
    }

    /// Another source of the same body, if it is all in memory; otherwise an empty one.
    pub fn share(&self) -> Self {
        match self {
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Kept(_) | Self::Once(_) => Self::Whole(Bytes::new()),
        }
    }

    /// Whether [`Replay::take`] would give a body.
    pub fn can_repeat(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Once(body) => body.is_some(),
            Self::Kept(kept) => {
                let kept = kept.borrow();
                !kept.overflowed && kept.rest.is_some()
            }
        }
    }
}

struct Copy {
    kept: Rc<RefCell<Kept>>,
    at: usize,
    rest: Option<Body>,
}

impl HttpBody for Copy {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut kept = this.kept.borrow_mut();
        if let Some(piece) = kept.pieces.get(this.at) {
            this.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        let Some(rest) = this.rest.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(rest).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            match frame.data_ref() {
                Some(piece) if !kept.overflowed => {
                    kept.size += piece.len() as u64;
                    if kept.size > kept.limit || !kept.room.take(piece.len() as u64) {
                        kept.overflowed = true;
                        kept.pieces = Vec::new();
                        kept.room.clear();
                    } else {
                        kept.pieces.push(piece.clone());
                        this.at += 1;
                    }
                }
                // Trailers are not kept: a body with trailers is not repeated.
                None => kept.overflowed = true,
                Some(_) => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.at >= self.kept.borrow().pieces.len() && self.rest.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        let ahead: u64 = kept.pieces.iter().skip(self.at).map(|p| p.len() as u64).sum();
        match self.rest.as_ref().map(|rest| rest.size_hint().exact()) {
            Some(Some(rest)) => SizeHint::with_exact(ahead + rest),
            None => SizeHint::with_exact(ahead),
            Some(None) => SizeHint::default(),
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            self.kept.borrow_mut().rest = Some(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::BodyExt;

    use super::*;
    use crate::body::room::BodyBudget;

    struct Pieces(VecDeque<&'static str>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front().map(|p| Ok(Frame::data(Bytes::from_static(p.as_bytes())))))
        }
    }

    fn streaming(limit: u64) -> Replay {
        within(limit, u64::MAX)
    }

    fn within(limit: u64, budget: u64) -> Replay {
        let body = Body::stream(Pieces(VecDeque::from(["ab", "cd", "ef"])));
        Replay::new(body).keeping(limit, || BodyBudget::new(budget).room())
    }

    async fn read(body: Body) -> Bytes {
        body.collect().await.expect("no error").to_bytes()
    }

    #[tokio::test]
    async fn a_second_try_gets_what_the_first_had_read_and_the_rest() {
        let mut replay = streaming(100);
        let mut first = replay.take().expect("first");
        assert_eq!(first.frame().await.expect("frame").expect("ok").into_data().expect("data"), "ab");
        assert!(!replay.can_repeat(), "the first try still reads");
        drop(first);
        assert_eq!(read(replay.take().expect("second")).await, "abcdef");
        assert_eq!(read(replay.take().expect("third")).await, "abcdef");
    }

    #[tokio::test]
    async fn a_body_over_the_bound_passes_once() {
        let mut replay = streaming(3);
        assert_eq!(read(replay.take().expect("first")).await, "abcdef");
        assert!(replay.take().is_none());
    }

    #[tokio::test]
    async fn a_body_that_the_process_has_no_room_for_passes_once() {
        let mut replay = within(100, 3);
        assert_eq!(read(replay.take().expect("first")).await, "abcdef");
        assert!(replay.take().is_none());
    }

    #[tokio::test]
    async fn a_whole_body_repeats_for_ever() {
        let mut replay = Replay::new(Body::full("x"));
        for _ in 0..3 {
            assert_eq!(read(replay.take().expect("again")).await, "x");
        }
    }
}
