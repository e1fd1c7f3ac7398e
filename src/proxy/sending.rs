//! What is sent and what comes back: the request that tries carry from target to target, the place it goes to, and the answer.

use std::{rc::Rc, sync::Arc};

use http::{HeaderMap, response};

use super::{ask::Ask, bill::Reading, funds::Funds, live::LiveProvider, request};
use crate::{
    body::{Body, replay::Replay, tap::TimeBounds},
    clock::Instant,
    policy::{given_up::CallId, limits::keys},
    provider,
    upstream::{Connection, Pool},
};

/// What the tries of one request need beside what was asked. Holds nothing of the client: a task can outlive it.
pub struct Sending {
    pub(super) ask: Rc<Ask>,
    pub(super) body: Replay,
    /// The fields, where something was added to those of the request.
    edited: Option<Box<HeaderMap>>,
    pub(super) websocket: bool,
    /// AnswerCodings in which the answer can be read on the side.
    codings: request::AnswerCodings,
    /// Outbound: what pays for the tries.
    pub(super) funds: Option<Funds>,
    /// The client sends a call again that was given up a moment ago.
    pub(super) was_given_up: bool,
}

/// An answer that may go to the client.
pub struct Attempted {
    /// Cleaned; of the target, or of a static answer.
    pub head: response::Parts,
    /// To be passed on.
    pub body: Body,
    /// To be released at the body's end.
    pub connection: Option<Connection>,
    /// Time bounds that whoever reads the body has to keep.
    pub bounds: TimeBounds,
    /// Model calls: what is known of the answer while it passes.
    pub reading: Option<Rc<Reading>>,
}

/// Whose answer it is, if not the first target's: an extension of the answer's head. Such an answer is given and not kept,
/// because the first target's is asked for again once it is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// Another target's.
    Target,
    /// Ours, from the configuration.
    Fixed,
}

/// One place to try.
pub struct Aim<'a> {
    pub(super) pool: &'a Rc<Pool>,
    pub(super) provider: Option<&'a LiveProvider>,
    /// The model to ask for in place of the one that the request names.
    pub(super) model: Option<&'a Arc<str>>,
}

impl Sending {
    /// Prepares the tries of `ask`.
    pub fn new(ask: Rc<Ask>, body: Replay, websocket: bool, looks_inside: bool, funds: Option<Funds>) -> Self {
        let codings = request::AnswerCodings::of(&ask, looks_inside);
        let was_given_up = !ask.proxy.shared.given_up.is_empty()
            && call_id(&ask, &body).is_some_and(|call| ask.proxy.shared.given_up.take(call, Instant::now()));
        Self { ask, body, edited: None, websocket, codings, funds, was_given_up }
    }

    /// The same request once more, if its body is in memory; it costs what the first one has left.
    pub fn again(&self) -> Option<Self> {
        matches!(self.body, Replay::Whole(_)).then(|| Self {
            ask: self.ask.clone(),
            body: self.body.share(),
            edited: self.edited.clone(),
            websocket: self.websocket,
            codings: self.codings,
            funds: None,
            was_given_up: self.was_given_up,
        })
    }

    /// Fields that the request to the target must carry beside its own (validators of a stored answer).
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        let (ask, websocket, codings) = (&self.ask, self.websocket, self.codings);
        self.edited.get_or_insert_with(|| Box::new(request::fields(ask, websocket, codings)))
    }

    /// The fields for one try.
    pub(super) fn fields(&self) -> HeaderMap {
        self.edited.as_deref().cloned().unwrap_or_else(|| request::fields(&self.ask, self.websocket, self.codings))
    }

    /// The target does not know `stream_options`: the body goes without from now on. `false`: it was not in the body.
    pub(super) fn forget_usage(&mut self) -> bool {
        let Replay::Whole(bytes) = &self.body else { return false };
        let Some(without) = provider::without_stream_options(bytes) else { return false };
        self.body = Replay::Whole(without);
        true
    }

    /// The body for the next try, with the model that the aim asks for.
    pub(super) fn next_body(&mut self, aim: &Aim<'_>) -> Option<Body> {
        match (&self.body, aim.model) {
            (Replay::Whole(bytes), Some(model)) if self.ask.call().is_some_and(|call| call.shape.model_in_path.is_none()) => {
                // Another model stands in the text, which goes on without a coding.
                let text = self.ask.call().and_then(|call| call.text.as_ref()).unwrap_or(bytes);
                Some(Body::full(provider::with_model(text, model).unwrap_or_else(|| text.clone())))
            }
            _ => self.body.take(),
        }
    }
}

/// What tells a model call from others; `None`: it is none, or its body was not read.
pub(super) fn call_id(ask: &Ask, body: &Replay) -> Option<CallId> {
    let (call, Replay::Whole(bytes)) = (ask.call()?, body) else { return None };
    let credential = keys::credential(&ask.arrival.headers, ask.arrival.uri.query()).unwrap_or_default();
    Some(ask.proxy.shared.given_up.id(&call.rest, credential, bytes))
}
