//! The request that the tries carry from target to target, the aim of a try, and the answer.

use std::{rc::Rc, sync::Arc};

use super::{
    ask::Ask,
    bill::reading::Reading,
    funds::Funds,
    live::{LiveProvider, Worker},
    members::Among,
    request,
};
use crate::{
    body::{Body, replay::Replay, tap::TimeBounds},
    clock::Instant,
    http1::Fields,
    message::AnswerHead,
    policy::{given_up::CallId, limits::keys},
    provider,
    upstream::{Connection, Pool},
};

/// The state of one request's tries. It holds nothing of the client: the task of a fetch can outlive the client.
pub struct Sending {
    pub(super) ask: Rc<Ask>,
    pub(super) body: Replay,
    /// The fields, if some were added to those of the request.
    edited: Option<Box<Fields>>,
    pub(super) websocket: bool,
    /// The codings in which the answer can be read on the side.
    codings: request::AnswerCodings,
    /// Outbound: the money for the tries.
    pub(super) funds: Option<Funds>,
    /// Whether the client repeats a call that was given up a moment ago.
    pub(super) was_given_up: bool,
}

/// An answer that may go to the client.
pub struct Attempted {
    /// The cleaned head of the target's answer, or of a static answer.
    pub head: AnswerHead,
    /// The body for the client.
    pub body: Body,
    /// The connection, to be released at the body's end.
    pub connection: Option<Connection>,
    /// The time bounds that the body's reader has to enforce.
    pub bounds: TimeBounds,
    /// Model calls: the meter's findings while the answer passes.
    pub reading: Option<Rc<Reading>>,
}

/// One place to try.
#[derive(Clone, Copy)]
pub struct Aim<'a> {
    /// Of several members the one that is asked now.
    pub(super) pool: &'a Rc<Pool>,
    /// The members, if the target has several.
    pub(super) among: Option<Among<'a>>,
    pub(super) provider: Option<&'a LiveProvider>,
    /// The model that replaces the one in the request.
    pub(super) model: Option<&'a Arc<str>>,
}

impl<'a> Aim<'a> {
    /// At a provider.
    pub(super) fn at(worker: &'a Worker, provider: &'a LiveProvider, model: Option<&'a Arc<str>>) -> Self {
        let among = Among::of(provider.members.as_ref(), &worker.pools);
        Self { pool: &worker.pools[provider.target], among, provider: Some(provider), model }
    }

    /// The name of the target, all members together.
    pub(super) fn name(&self) -> &'a Arc<str> {
        self.among.map_or(&self.pool.target.name, |among| among.name())
    }
}

impl Sending {
    /// Prepares the tries of `ask`.
    pub fn new(ask: Rc<Ask>, body: Replay, websocket: bool, looks_inside: bool, funds: Option<Funds>) -> Self {
        let codings = request::AnswerCodings::of(&ask, looks_inside);
        let was_given_up = !ask.proxy.shared.given_up.is_empty()
            && call_id(&ask, &body).is_some_and(|call| ask.proxy.shared.given_up.take(call, Instant::now()));
        Self { ask, body, edited: None, websocket, codings, funds, was_given_up }
    }

    /// The same request once more, if its body is in memory. It is paid from the first one's remaining funds.
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

    /// The request's fields, to add to them (validators of a stored answer).
    pub fn headers_mut(&mut self) -> &mut Fields {
        let (ask, websocket, codings) = (&self.ask, self.websocket, self.codings);
        self.edited.get_or_insert_with(|| Box::new(request::fields(ask, websocket, codings)))
    }

    /// The fields for one try.
    pub(super) fn fields(&self) -> Fields {
        self.edited.as_deref().cloned().unwrap_or_else(|| request::fields(&self.ask, self.websocket, self.codings))
    }

    /// Takes `stream_options` out of the body for all further tries: the target does not know it. `false`: the body has none.
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
                // Another model's name is written into the text, which goes on without a coding.
                let text = self.ask.call().and_then(|call| call.text.as_ref()).unwrap_or(bytes);
                Some(Body::full(provider::with_model(text, model).unwrap_or_else(|| text.clone())))
            }
            _ => self.body.take(),
        }
    }
}

/// The id that tells a model call from others; `None`: the request is no model call, or its body was not read.
pub(super) fn call_id(ask: &Ask, body: &Replay) -> Option<CallId> {
    let (call, Replay::Whole(bytes)) = (ask.call()?, body) else { return None };
    let credential = keys::credential(&ask.arrival.headers, ask.arrival.uri.query()).unwrap_or_default();
    Some(ask.proxy.shared.given_up.id(&call.rest, credential, bytes))
}
