//! An answer on its way to a client: its head, its body in the framing that the client understands, and whether another request may
//! follow on the connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame};

use super::{
    close::DRAINED,
    wire::{Coming, Expects, Wire},
};
use crate::{
    body::{Body, outbox},
    fields::{content_length, has_token},
    http1::{self, Head, Method, Version, share::Reason},
    listen::session::{Order, Outgoing},
};

/// What of a request decides how its answer is written.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    head_only: bool,
    old: bool,
    keeps: bool,
    takes_trailers: bool,
}

impl Asked {
    /// Of a request's head.
    pub fn of(head: &Head) -> Self {
        Self {
            head_only: head.method() == Method::Head,
            old: head.version() == Version::Http10,
            // After a refused CONNECT nobody knows whether what follows is a request.
            keeps: head.keeps_alive() && head.method() != Method::Connect,
            takes_trailers: head.takes_trailers(),
        }
    }

    /// Whether its client understands 1xx answers (RFC 9110 section 15.2).
    pub fn knows_interim(self) -> bool {
        !self.old
    }

    /// Of a head that could not be read.
    pub const UNREADABLE: Self = Self { head_only: false, old: false, keeps: false, takes_trailers: false };
}

/// How the end of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Bodiless,
    Length(u64),
    Chunked,
    Close,
}

/// Writes `response`; says whether another request may follow. `leaving`: none may.
///
/// # Errors
/// The client takes no more, or the answer broke off: the connection must be closed.
pub async fn respond(wire: &Rc<Wire>, response: Response<Outgoing>, asked: Asked, leaving: bool) -> io::Result<bool> {
    let (mut head, body) = response.into_parts();
    let framing = framing(asked, head.status, &mut head.headers, &body);
    let keeps = asked.keeps
        && !leaving
        && framing != Framing::Close
        && wire.may_be_kept(&framing)
        && !has_token(&head.headers, header::CONNECTION, "close");
    {
        let mut state = wire.state.borrow_mut();
        // What comes before the answer has come.
        (state.informs, state.expects) = (false, Expects::Nothing);
        let out = state.out.front();
        write_head(out, head.status, head.extensions.get::<Reason>(), &head.headers);
        match (keeps, asked.old) {
            (false, _) if !head.headers.contains_key(header::CONNECTION) => out.extend_from_slice(b"connection: close\r\n"),
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            _ => {}
        }
        out.extend_from_slice(b"\r\n");
    }
    let mut writing = Writing { body, framing, takes_trailers: asked.takes_trailers, ended: framing == Framing::Bodiless, broken: None };
    poll_fn(|cx| writing.poll(wire, cx)).await?;
    Ok(keeps)
}

/// How the answer's end is told; its fields say so afterwards.
fn framing(asked: Asked, status: StatusCode, fields: &mut HeaderMap, body: &Outgoing) -> Framing {
    fields.remove(header::TRANSFER_ENCODING);
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if bodiless && status != StatusCode::NOT_MODIFIED {
        fields.remove(header::CONTENT_LENGTH);
    }
    if bodiless || asked.head_only {
        return Framing::Bodiless;
    }
    let announced = content_length(fields).ok().flatten();
    if let Some(length) = announced.or_else(|| body.size_hint().exact()) {
        if announced.is_none() {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        return Framing::Length(length);
    }
    if asked.old {
        return Framing::Close;
    }
    fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    Framing::Chunked
}

/// Writes the status line and the fields; the empty line is left to the caller.
pub fn write_head(out: &mut Vec<u8>, status: StatusCode, reason: Option<&Reason>, fields: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(match reason {
        Some(reason) => &reason.0,
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    });
    out.extend_from_slice(b"\r\n");
    outbox::write_fields(out, fields);
}

impl Wire {
    /// Writes a 101.
    ///
    /// # Errors
    /// The client takes no more.
    pub async fn write_switch(&self, response: &Response<Body>) -> io::Result<()> {
        {
            let mut state = self.state.borrow_mut();
            state.informs = false;
            let out = state.out.front();
            write_head(out, response.status(), None, response.headers());
            out.extend_from_slice(b"\r\n");
        }
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Whether what is left of the request's body can be read and dropped, as far as is known when its answer begins.
    fn may_be_kept(&self, framing: &Framing) -> bool {
        let state = self.state.borrow();
        match &state.body {
            Coming::Ended => true,
            // A client that was not told to go on may send its body or not.
            _ if state.expects != Expects::Nothing => false,
            Coming::Lost(_) => false,
            // An answer that streams may well be made of what is still to come.
            _ if *framing == Framing::Chunked => true,
            Coming::Length(left) => *left <= DRAINED,
            Coming::Chunked(_) => true,
        }
    }
}

/// An answer's body on its way.
struct Writing {
    body: Outgoing,
    framing: Framing,
    takes_trailers: bool,
    ended: bool,
    broken: Option<io::Error>,
}

impl Writing {
    fn poll(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if wire.session.poll_order(cx) == Order::End {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            let waits = self.poll_body(wire, cx);
            let written = wire.poll_write(cx);
            match written {
                Poll::Ready(Ok(())) if self.ended => return Poll::Ready(self.broken.take().map_or(Ok(()), Err)),
                Poll::Ready(Ok(())) if waits => return self.poll_client(wire, cx),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes pieces until the outbox is full, or none is there; says whether one is awaited.
    fn poll_body(&mut self, wire: &Wire, cx: &mut Context<'_>) -> bool {
        while !self.ended && wire.state.borrow().out.takes_more() {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return true,
                Poll::Ready(Some(Ok(frame))) => self.enclose(wire, frame),
                Poll::Ready(None) => self.end(wire, None),
                Poll::Ready(Some(Err(error))) => self.break_off(io::Error::other(error.to_string())),
            }
        }
        false
    }

    fn enclose(&mut self, wire: &Wire, frame: Frame<Bytes>) {
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(frame) => return self.end(wire, frame.into_trailers().ok()),
        };
        let mut state = wire.state.borrow_mut();
        match &mut self.framing {
            Framing::Bodiless => {}
            Framing::Close => state.out.push(piece, b""),
            Framing::Chunked if piece.is_empty() => {}
            Framing::Chunked => {
                http1::write_size(state.out.front(), piece.len());
                state.out.push(piece, b"\r\n");
            }
            Framing::Length(left) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    state.out.push(piece, b"");
                }
                None => return self.break_off(io::Error::other("the answer is longer than was announced")),
            },
        }
        drop(state);
        if self.body.is_end_stream() {
            self.end(wire, None);
        }
    }

    fn end(&mut self, wire: &Wire, trailers: Option<HeaderMap>) {
        match self.framing {
            Framing::Length(1..) => self.break_off(io::Error::other("the answer is shorter than was announced")),
            Framing::Chunked => {
                let trailers = trailers.filter(|_| self.takes_trailers);
                outbox::write_last(wire.state.borrow_mut().out.front(), trailers.as_ref());
                self.ended = true;
            }
            _ => self.ended = true,
        }
    }

    /// What has been handed over goes out; then the connection closes without the body's end.
    fn break_off(&mut self, error: io::Error) {
        self.broken = Some(error);
        self.ended = true;
    }

    /// Nothing is to be written: has the client left?
    fn poll_client(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match wire.poll_gone(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}
