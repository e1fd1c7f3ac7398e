//! An answer on its way to a client: its head, its body in the framing that the client understands, and whether another request may
//! follow on the connection.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use http::StatusCode;
use http_body::Body as _;

use super::{
    close::DRAINED,
    wire::{Coming, Expects, Wire},
};
use crate::{
    body::{Body, enclose::Unsent},
    fields::{content_length, has_token},
    http1::{Fields, Head, Id, Method, Version},
    listen::session::{Order, Outgoing},
    message::Response,
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

/// Writes `response`; says whether another request may follow. `leaving`: none may.
///
/// # Errors
/// The client takes no more, or the answer broke off: the connection must be closed.
pub async fn respond(wire: &Rc<Wire>, response: Response<Outgoing>, asked: Asked, leaving: bool) -> io::Result<bool> {
    let (mut head, body) = response.into_parts();
    let unsent = frame(asked, head.status, &mut head.headers, &body);
    let says_close = has_token(&head.headers, Id::Connection, "close");
    let keeps = asked.keeps && !leaving && !says_close && unsent != Unsent::UntilClose && wire.may_be_kept(unsent);
    {
        let mut state = wire.state.borrow_mut();
        // The final answer begins: no 1xx answer may follow.
        state.begin_answer();
        let out = state.out.tail();
        head.write(out);
        match (keeps, asked.old) {
            (false, _) if !head.headers.has(Id::Connection) => out.extend_from_slice(b"connection: close\r\n"),
            (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            _ => {}
        }
        out.extend_from_slice(b"\r\n");
    }
    let mut writing = Writing { body, unsent, takes_trailers: asked.takes_trailers, broken: None };
    poll_fn(|cx| writing.poll(wire, cx)).await?;
    Ok(keeps)
}

/// The framing of the answer's body (RFC 9112 section 6.3); the fields tell it afterwards.
fn frame(asked: Asked, status: StatusCode, fields: &mut Fields, body: &Outgoing) -> Unsent {
    fields.remove(Id::TransferEncoding);
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if bodiless {
        if status != StatusCode::NOT_MODIFIED {
            fields.remove(Id::ContentLength);
        }
        return Unsent::Nothing;
    }
    let announced = content_length(fields).ok().flatten();
    let length = announced.or_else(|| body.size_hint().exact());
    match length {
        // The answer to HEAD has no body of which a length could be told.
        Some(0) if asked.head_only && announced.is_none() => {}
        Some(length) if announced.is_none() => fields.insert_number(Id::ContentLength, length),
        _ => {}
    }
    match length {
        _ if asked.head_only => Unsent::Nothing,
        Some(length) => Unsent::Length(length),
        None if asked.old => Unsent::UntilClose,
        None => {
            fields.insert(Id::TransferEncoding, "chunked");
            Unsent::Chunked
        }
    }
}

impl Wire {
    /// Writes a 101.
    ///
    /// # Errors
    /// The client takes no more, or the connection must end at once.
    pub async fn write_switch(&self, response: &Response<Body>) -> io::Result<()> {
        {
            let mut state = self.state.borrow_mut();
            state.informs = false;
            let out = state.out.tail();
            response.head().write(out);
            out.extend_from_slice(b"\r\n");
        }
        let written = self.session.unless_at_end(pin!(poll_fn(|cx| self.poll_write(cx)))).await;
        written.unwrap_or_else(|| Err(io::ErrorKind::ConnectionAborted.into()))
    }

    /// Whether what is left of the request's body can be read and dropped, as far as is known when its answer begins.
    fn may_be_kept(&self, unsent: Unsent) -> bool {
        let state = self.state.borrow();
        match &state.body {
            Coming::Ended => true,
            // A client that was not told to go on may send its body or not.
            _ if state.expects != Expects::Nothing => false,
            Coming::Lost(_) => false,
            // An answer that streams may well be made of what is still to come.
            _ if unsent == Unsent::Chunked => true,
            Coming::Length(left) => *left <= DRAINED,
            Coming::Chunked(_) => true,
        }
    }
}

/// An answer's body on its way.
struct Writing {
    body: Outgoing,
    unsent: Unsent,
    takes_trailers: bool,
    /// The body broke: the bytes that came before go out, and the connection closes without the body's end.
    broken: Option<io::Error>,
}

impl Writing {
    fn poll(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if wire.session.poll_order(cx) == Order::End {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            let waits = self.poll_body(wire, cx);
            match wire.poll_write(cx) {
                Poll::Ready(Ok(())) if self.unsent == Unsent::Nothing => return Poll::Ready(self.broken.take().map_or(Ok(()), Err)),
                Poll::Ready(Ok(())) if waits => return self.poll_client(wire, cx),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Takes pieces until the outbox is full; says whether a piece is awaited.
    fn poll_body(&mut self, wire: &Wire, cx: &mut Context<'_>) -> bool {
        while self.unsent != Unsent::Nothing && wire.state.borrow().out.takes_more() {
            // No borrow lasts over this: the body may be made of the request's body.
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            let last = self.body.is_end_stream();
            let out = &mut wire.state.borrow_mut().out;
            let put = match polled {
                Poll::Pending => return true,
                Poll::Ready(Some(Ok(frame))) => self.unsent.put(out, frame, last, self.takes_trailers).map_err(io::Error::other),
                Poll::Ready(None) => self.unsent.end(out, None).map_err(io::Error::other),
                Poll::Ready(Some(Err(error))) => Err(io::Error::other(error.to_string())),
            };
            if let Err(error) = put {
                self.broken = Some(error);
                self.unsent = Unsent::Nothing;
            }
        }
        if self.unsent == Unsent::Nothing && self.broken.is_none() && !self.body.is_end_stream() {
            // The end is known by the length or by the method: the body may say so too, and is not waited for.
            let _ = Pin::new(&mut self.body).poll_frame(cx);
        }
        false
    }

    /// Nothing is to be written: has the client left?
    fn poll_client(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match wire.poll_gone(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}
