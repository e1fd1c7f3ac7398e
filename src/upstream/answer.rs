//! One request and its answer over an HTTP/1.1 connection: the head goes out with the first piece of the body, 1xx answers are
//! passed on, and the answer's body is read from the wire as it comes.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{
    Outgoing, headers,
    wire::{self, Unsendable, Wire},
};
use crate::{
    arrival::Informed,
    body::{
        Body, BodyError,
        dechunk::{Dechunk, Next},
        enclose::Unsent,
    },
    fields::content_length,
    http1::{self, Framing, Head, Id, Limits, Refusal, Scanner},
    message::AnswerHead,
    reject::Fault,
};

/// Bounds of an answer's head.
const LIMITS: Limits = Limits { bytes: 64 << 10, fields: 100, target: 0 };
/// Most 1xx answers before the final one; more make the answer malformed.
const MOST_INTERIM: u32 = 100;
/// A body with at least this many bytes to come is read in bulk.
const PLENTY: u64 = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub struct Lost {
    /// The party or part at fault.
    pub fault: Fault,
    /// The fault in words.
    pub detail: String,
}

impl Lost {
    fn reset(detail: impl Into<String>) -> Self {
        Self { fault: Fault::Reset, detail: detail.into() }
    }
}

impl From<Refusal> for Lost {
    fn from(refusal: Refusal) -> Self {
        Self { fault: Fault::Malformed, detail: format!("the answer is not HTTP/1.1: {refusal}") }
    }
}

/// Sends a request over `wire` and waits for the head of its answer; 1xx answers go to `interim`.
///
/// # Errors
/// The target gave no answer, or the request's own body failed.
pub async fn ask(wire: &wire::Shared, request: &Outgoing<'_>, body: Body, interim: Option<&Informed>) -> Result<(AnswerHead, Body), Lost> {
    let announced = content_length(&request.headers).ok().flatten();
    let unsent = match announced.or_else(|| body.exact_len()) {
        Some(0) => Unsent::Nothing,
        Some(length) => Unsent::Length(length),
        None => Unsent::Chunked,
    };
    wire.borrow_mut().begin(|out| write_head(out, request, unsent, announced.is_some()), body, unsent);
    let upgrade = request.headers.has(Id::Upgrade);
    let mut asking = Asking { scanner: Scanner::answers(LIMITS), head: Head::new(), asked: request.method, upgrade, interim, interims: 0 };
    poll_fn(|cx| asking.poll(&mut wire.borrow_mut(), cx)).await?;
    answered(wire, asking.head, request.method, upgrade)
}

/// Writes the request's head.
fn write_head(out: &mut Vec<u8>, request: &Outgoing<'_>, unsent: Unsent, announced: bool) {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(request.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    request.headers.write(out);
    match unsent {
        Unsent::Length(length) if !announced => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(length.to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Unsent::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// A request under way, and the beginning of its answer's head.
struct Asking<'a> {
    scanner: Scanner,
    head: Head,
    asked: &'a Method,
    upgrade: bool,
    interim: Option<&'a Informed>,
    interims: u32,
}

impl Asking<'_> {
    /// Ready when the head of the final answer is whole.
    fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let _ = wire.poll_send(cx);
        match wire.unsendable() {
            Some(Unsendable::Body(why)) => return Poll::Ready(Err(Lost::reset(why.clone()))),
            Some(Unsendable::Silent(after)) => return Poll::Ready(Err(Lost::reset(BodyError::Idle(*after).to_string()))),
            Some(Unsendable::Target(_)) | None => {}
        }
        loop {
            if !wire.input.is_empty() {
                let scanned = self.scanner.scan(&mut self.head, &wire.input)?;
                // Not `split_to`: two owners of the buffer cost an allocation.
                wire.input.advance(scanned.unwrap_or(wire.input.len()));
                if scanned.is_some() && self.is_final()? {
                    return Poll::Ready(Ok(()));
                }
                if scanned.is_some() {
                    continue;
                }
            }
            let mut scanned = Ok(None);
            let read = wire.poll_look(cx, |come| {
                scanned = self.scanner.scan(&mut self.head, come);
                match &scanned {
                    Ok(whole) => whole.unwrap_or(come.len()),
                    Err(_) => 0,
                }
            });
            match ready!(read) {
                Ok(1..) => {
                    if scanned?.is_some() && self.is_final()? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(0) => return Poll::Ready(Err(self.ended(wire))),
                Err(error) => return Poll::Ready(Err(Lost::reset(format!("the connection broke: {error}")))),
            }
        }
    }

    /// Whether the complete head is the final answer's; a 1xx is passed on.
    fn is_final(&mut self) -> Result<bool, Lost> {
        match self.head.status() {
            101 if self.upgrade => Ok(true),
            101 => Err(Refusal::Switch.into()),
            100..=199 => {
                self.interims += 1;
                if self.interims > MOST_INTERIM {
                    return Err(Lost { fault: Fault::Malformed, detail: format!("more than {MOST_INTERIM} answers before the answer") });
                }
                if let Some(to) = self.interim {
                    let mut head = AnswerHead::of(std::mem::take(&mut self.head));
                    headers::interim(&mut head.headers);
                    to.connection.interim(to.request, head.status, &head.headers);
                }
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    fn ended(&self, wire: &Wire) -> Lost {
        match wire.unsendable() {
            Some(Unsendable::Target(why)) => Lost::reset(format!("the connection broke while the request was sent: {why}")),
            _ if self.scanner.has_begun() => Lost::reset("the connection was closed within the head of the answer"),
            _ => Lost::reset(format!("the connection was closed before an answer to {}", self.asked)),
        }
    }
}

/// The answer whose head is complete: its body reads on from the wire.
fn answered(shared: &wire::Shared, head: Head, asked: &Method, upgrade: bool) -> Result<(AnswerHead, Body), Lost> {
    let framing = Framing::of_answer(&head, http1::Method::of(asked.as_str().as_bytes()), upgrade)?;
    let reusable = framing.may_reuse(&head);
    let parts = AnswerHead::of(head);
    let mut wire = shared.borrow_mut();
    let rest = match framing {
        Framing::Tunnel => return Ok((parts, Body::Empty)),
        Framing::None | Framing::Length(0) => {
            wire.answer_ended(reusable);
            return Ok((parts, Body::Empty));
        }
        // All of it has come with the head: it needs no reader.
        Framing::Length(length) if wire.input.len() as u64 == length && wire.has_sent_all() => {
            let whole = std::mem::take(&mut wire.input).freeze();
            wire.answer_ended(reusable);
            return Ok((parts, Body::full(whole)));
        }
        Framing::Length(length) => Rest::Length(length),
        Framing::Chunked => Rest::Chunked(Box::default()),
        Framing::UntilClose => Rest::UntilClose,
    };
    if !wire.has_sent_all() {
        wire::send_on(shared.clone());
    }
    drop(wire);
    Ok((parts, Body::stream(AnswerBody { wire: Some(shared.clone()), rest, reusable })))
}

/// The part of an answer's body that is still to come.
enum Rest {
    Length(u64),
    Chunked(Box<Dechunk>),
    UntilClose,
}

/// An answer's body, read from its connection as it comes.
pub struct AnswerBody {
    /// `None`: the body has ended.
    wire: Option<wire::Shared>,
    rest: Rest,
    /// The connection may serve again after it.
    reusable: bool,
}

impl Rest {
    /// The next piece of the bytes that were read.
    fn take(&mut self, input: &mut BytesMut) -> Result<Next, Refusal> {
        match self {
            Self::Chunked(chunks) => chunks.next(input),
            _ if input.is_empty() => Ok(Next::Missing),
            Self::UntilClose => Ok(Next::Content(input.split().freeze())),
            Self::Length(left) => {
                let some = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= some as u64;
                Ok(Next::Content(input.split_to(some).freeze()))
            }
        }
    }

    /// Whether the last piece has been taken.
    fn has_ended(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.has_ended(),
            Self::UntilClose => false,
        }
    }

    /// Whether at least [`PLENTY`] bytes are to come, or an unknown number.
    fn is_plenty(&self) -> bool {
        !matches!(self, Self::Length(..PLENTY))
    }
}

impl AnswerBody {
    fn end(&mut self, wire: &mut Wire) {
        wire.answer_ended(self.reusable);
        self.wire = None;
    }

    fn cut(&mut self, why: String) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.wire = None;
        Poll::Ready(Some(Err(BodyError::Cut(why))))
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(shared) = this.wire.clone() else { return Poll::Ready(None) };
        let mut wire = shared.borrow_mut();
        let wire = &mut *wire;
        loop {
            match this.rest.take(&mut wire.input) {
                Ok(Next::Content(piece)) => {
                    if this.rest.has_ended() {
                        this.end(wire);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Ok(Next::End(trailers)) => {
                    this.end(wire);
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Ok(Next::Missing) => {}
                Err(flaw) => return this.cut(format!("the answer's chunks are malformed: {flaw}")),
            }
            let Poll::Ready(filled) = wire.poll_fill(cx, this.rest.is_plenty()) else {
                if let Some(Unsendable::Body(why)) = wire.unsendable() {
                    return this.cut(format!("the request broke off: {why}"));
                }
                if !wire.has_sent_all() {
                    wire.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            match filled {
                Ok(1..) => {}
                Ok(0) if matches!(this.rest, Rest::UntilClose) => {
                    this.end(wire);
                    return Poll::Ready(None);
                }
                Ok(0) => return this.cut("the connection was closed before the end of the answer".into()),
                Err(error) => return this.cut(format!("the connection broke: {error}")),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.wire.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.wire, &self.rest) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Rest::Length(left)) => SizeHint::with_exact(*left),
            _ => SizeHint::default(),
        }
    }
}
