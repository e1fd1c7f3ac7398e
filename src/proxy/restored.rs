//! An answer's body on its way back to the caller: placeholders are replaced in whole bodies and in streams.

use std::{
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::ask::Ask;
use crate::{
    body::{
        Body, BodyError,
        coding::{ContentEncoding, Decoder},
    },
    http1::Id,
    message::AnswerHead,
    policy::privacy::{self, StreamRestorer},
};

/// Largest body that is held whole to be looked through. A larger one passes with its placeholders.
const MOST_WHOLE: usize = 32 << 20;
/// Fields that tell of the very bytes of the body.
const OF_BYTES: [&str; 3] = ["content-digest", "content-md5", "digest"];

/// The answer to a request with placeholders.
pub(super) fn restore(ask: &Rc<Ask>, head: &mut AnswerHead, body: Body) -> Body {
    let kind = head.headers.text(Id::ContentType).map(|kind| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let way = match kind.as_deref() {
        Some("text/event-stream") => Way::Events(Box::default()),
        Some(kind) if kind.ends_with("json") || kind.starts_with("text/") || kind.contains("ndjson") => Way::Whole(Vec::new()),
        // An answer without a type is looked through: a provider's error, perhaps.
        None => Way::Whole(Vec::new()),
        Some(kind) => {
            if kind == "application/vnd.amazon.eventstream" {
                ask.cells().policies.privacy_unrestored("binary stream");
            }
            return body;
        }
    };
    if matches!(body, Body::Empty) {
        return body;
    }
    let decoder = match ContentEncoding::of(&head.headers) {
        ContentEncoding::Plain => None,
        ContentEncoding::Known(codings) => Some(Decoder::new(&codings)),
        ContentEncoding::Unknown(_) => {
            ask.cells().policies.privacy_unrestored("content coding");
            return body;
        }
    };
    if decoder.is_some() {
        head.headers.remove(Id::ContentEncoding);
    }
    head.headers.remove(Id::ContentLength);
    for name in OF_BYTES {
        head.headers.remove(name);
    }
    Body::stream(RestoredBody { ask: ask.clone(), inner: body, decoder, way, ready: VecDeque::new(), end: None, ended: false, restored: 0 })
}

/// How a body is looked through.
enum Way {
    /// At its end.
    Whole(Vec<u8>),
    /// Event by event.
    Events(Box<StreamRestorer>),
    /// Not any more.
    Passes,
}

struct RestoredBody {
    ask: Rc<Ask>,
    inner: Body,
    decoder: Option<Decoder>,
    way: Way,
    ready: VecDeque<Bytes>,
    /// What comes after what is ready: trailers, or the break of the body.
    end: Option<Result<Frame<Bytes>, BodyError>>,
    ended: bool,
    restored: u64,
}

impl RestoredBody {
    /// Takes a piece as it came.
    fn take(&mut self, piece: &Bytes) {
        let Some(mut decoder) = self.decoder.take() else { return self.text(piece) };
        let mut pieces = Vec::new();
        let fed = decoder.feed(piece, &mut |text| {
            pieces.push(Bytes::copy_from_slice(text));
            true
        });
        self.decoder = Some(decoder);
        pieces.iter().for_each(|piece| self.text(piece));
        if fed.is_err() {
            self.close(Some(Err(BodyError::Cut("the answer is not in the content coding that it names".into()))));
        }
    }

    fn text(&mut self, piece: &Bytes) {
        let Some(vault) = self.ask.vault() else { return };
        match &mut self.way {
            Way::Whole(held) if held.len() + piece.len() <= MOST_WHOLE => held.extend_from_slice(piece),
            Way::Whole(held) => {
                let held = std::mem::take(held);
                self.ready.extend([Bytes::from(held), piece.clone()]);
                self.way = Way::Passes;
                self.ask.cells().policies.privacy_unrestored("too large");
            }
            Way::Events(restorer) => restorer.feed(vault, piece, &mut |bytes| self.ready.push_back(bytes)),
            Way::Passes => self.ready.push_back(piece.clone()),
        }
    }

    /// Lets everything go that was held back; `end` comes after it.
    fn close(&mut self, end: Option<Result<Frame<Bytes>, BodyError>>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.end = end;
        self.inner = Body::Empty;
        let Some(vault) = self.ask.vault() else { return };
        match std::mem::replace(&mut self.way, Way::Passes) {
            Way::Whole(held) => {
                let whole = privacy::whole(vault, &held, &mut self.restored).map_or_else(|| Bytes::from(held), Bytes::from);
                self.ready.extend((!whole.is_empty()).then_some(whole));
            }
            Way::Events(mut restorer) => {
                restorer.finish(vault, &mut |bytes| self.ready.push_back(bytes));
                self.restored = restorer.restored();
            }
            Way::Passes => {}
        }
        self.ask.cells().policies.privacy_restored(self.restored);
    }
}

impl HttpBody for RestoredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                return Poll::Ready(this.end.take());
            }
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => this.take(&piece),
                    Err(trailers) => this.close(Some(Ok(trailers))),
                },
                Some(Err(error)) => this.close(Some(Err(error))),
                None if this.decoder.as_ref().is_some_and(|decoder| decoder.finish().is_err()) => {
                    this.close(Some(Err(BodyError::Cut("the answer's content coding is cut".into()))));
                }
                None => this.close(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ready.is_empty() && self.end.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
