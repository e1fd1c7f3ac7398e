//! HTTP/1.1 with clients (RFC 9112): one future a connection, which reads heads, has them answered and writes the answers, in order.
//!
//! The exchange in hand lives in the connection's future: a connection that ends takes its exchange along. While an answer is made, the
//! client is watched, so that one who leaves ends what nobody waits for.

mod close;
mod request;
mod respond;
mod wire;

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Poll, ready},
};

use bytes::Buf;

pub use wire::{Socket, Wire};

use super::{
    Listener, Peer,
    session::{Order, Outgoing},
};
use crate::{
    arrival::{Door, Informed},
    body::Body,
    config::Bounds,
    http1::{Framing, Head, Limits, Refusal, Scanner},
    in_place,
    proxy::{Handled, Proxy, tunnel},
    reject::Reject,
};
use respond::{Asked, respond};
use wire::{Coming, Expects, Incoming};

/// Serves a connection to its end.
///
/// # Errors
/// The connection broke, or an answer could not be given to its end.
pub async fn serve(listener: &Rc<Listener>, wire: &Rc<Wire>, peer: &Rc<Peer>, bounds: &Bounds) -> io::Result<()> {
    let mut scanner = Scanner::requests(Limits { bytes: bounds.max_head, fields: bounds.max_headers, target: MAX_TARGET });
    loop {
        let mut head = Head::new();
        match wire.next_head(&mut scanner, &mut head).await? {
            Next::Head => {
                // Boxed: an idle connection holds no room for a request.
                if !in_place::pinned(|| one(listener, wire, peer, head)).await? {
                    return Box::pin(close::gently(wire)).await;
                }
            }
            Next::Refused(refusal) => {
                Box::pin(refuse(listener, wire, peer, &head, refusal)).await?;
                return Box::pin(close::gently(wire)).await;
            }
            Next::Nothing => return Box::pin(close::gently(wire)).await,
        }
    }
}

/// Longest request target; `max_head` is the tighter bound as a rule.
const MAX_TARGET: u16 = 65_534;

/// What a connection comes to next.
enum Next {
    /// A request's head is there.
    Head,
    /// What came is no request.
    Refused(Refusal),
    /// The client has left, or the connection must end.
    Nothing,
}

/// Serves one request; says whether another may follow.
async fn one(listener: &Rc<Listener>, wire: &Rc<Wire>, peer: &Rc<Peer>, head: Head) -> io::Result<bool> {
    let asked = Asked::of(&head);
    let mut serving = wire.session.serving();
    let framing = Framing::of_request(&head);
    let expects = match (head.expects_continue(), listener.door) {
        (false, _) => Expects::Nothing,
        (true, Door::Inbound) => Expects::OfTarget,
        // Outbound the body is needed before anybody can be asked: it is wanted at once.
        (true, Door::Outbound) => Expects::OfUs,
    };
    let number = wire.begin(Coming::of(framing), expects, asked.knows_interim());
    let informed = asked.knows_interim().then(|| Informed { connection: wire.clone(), request: number });
    let (parts, verdict) = request::parts(head);
    let (exchange, verdict) = listener.take_in(parts, verdict, peer, &wire.session, informed, &mut serving);
    let body =
        if framing.is_empty() || framing == Framing::Tunnel { Body::Empty } else { Body::stream(Incoming::new(wire.clone(), number)) };
    let handled = match verdict {
        // Boxed: an answer that streams holds no room for how it was made. Nothing is around it: a move costs its size.
        Ok(()) => wire.unless_gone(in_place::pinned(|| Proxy::handle(exchange, body, true))).await,
        Err(reject) => Some(Handled::Answer(Proxy::refuse(exchange, reject))),
    };
    match handled {
        None => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Handled::Answer(response)) => {
            let response = response.map(|body| Outgoing::new(body, serving));
            Ok(respond(wire, response, asked, listener.is_leaving()).await? && close::drain(wire).await)
        }
        Some(Handled::Tunnel(response, upstream, exchange)) => {
            wire.write_switch(&response).await?;
            wire.session.upgraded();
            if let Some(client) = wire.take_stream() {
                let tunnel = tunnel::run(client, upstream, exchange);
                wire.session.unless_at_end(Box::pin(tunnel)).await;
            }
            drop(serving);
            Ok(false)
        }
    }
}

/// Answers what is no request, as far as it could be read.
async fn refuse(listener: &Rc<Listener>, wire: &Rc<Wire>, peer: &Rc<Peer>, head: &Head, refusal: Refusal) -> io::Result<()> {
    let mut serving = wire.session.serving();
    wire.begin(Coming::Lost(refusal.to_string()), Expects::Nothing, false);
    let parts = request::begun(head);
    let (exchange, verdict) = listener.take_in(parts, Err(Reject::Unreadable(refusal)), peer, &wire.session, None, &mut serving);
    if let Err(reject) = verdict {
        let response = Proxy::refuse(exchange, reject).map(|body| Outgoing::new(body, serving));
        respond(wire, response, Asked::UNREADABLE, true).await?;
    }
    Ok(())
}

impl Wire {
    /// Reads until a head is there.
    async fn next_head(&self, scanner: &mut Scanner, head: &mut Head) -> io::Result<Next> {
        poll_fn(|cx| {
            loop {
                let order = self.session.poll_order(cx);
                let mut state = self.state.borrow_mut();
                if !state.input.is_empty() {
                    if self.session.is_idle() {
                        self.session.begins();
                    }
                    match scanner.scan(head, &state.input) {
                        Ok(Some(length)) => {
                            // Not `split_to`: two owners of the buffer cost an allocation.
                            state.input.advance(length);
                            return Poll::Ready(Ok(Next::Head));
                        }
                        Ok(None) => state.input.clear(),
                        Err(refusal) => return Poll::Ready(Ok(Next::Refused(refusal))),
                    }
                }
                if order == Order::End || (order == Order::Finish && !scanner.has_begun()) {
                    return Poll::Ready(Ok(Next::Nothing));
                }
                // An idle connection holds no buffer.
                state.input = bytes::BytesMut::new();
                let mut scanned = Ok(None);
                let read = state.poll_look(cx, |come| {
                    if self.session.is_idle() {
                        self.session.begins();
                    }
                    scanned = scanner.scan(head, come);
                    // A head as a rule comes at once: it is read where it landed, and nothing of it is kept.
                    match &scanned {
                        Ok(whole) => whole.unwrap_or(come.len()),
                        Err(_) => 0,
                    }
                });
                match (ready!(read), scanned) {
                    (Ok(0), _) => return Poll::Ready(Ok(Next::Nothing)),
                    (Ok(_), Ok(Some(_))) => return Poll::Ready(Ok(Next::Head)),
                    (Ok(_), Ok(None)) => {}
                    (Ok(_), Err(refusal)) => return Poll::Ready(Ok(Next::Refused(refusal))),
                    (Err(error), _) => return Poll::Ready(Err(error)),
                }
            }
        })
        .await
    }

    /// Runs `answer`; `None`: the client has left meanwhile, or the connection must end at once.
    async fn unless_gone<T>(&self, mut answer: Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        poll_fn(|cx| {
            if self.session.poll_order(cx) == Order::End {
                return Poll::Ready(None);
            }
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(answered));
            }
            // 1xx answers.
            if let Poll::Ready(Err(_)) = self.poll_write(cx) {
                return Poll::Ready(None);
            }
            self.poll_gone(cx).map(|()| None)
        })
        .await
    }
}
