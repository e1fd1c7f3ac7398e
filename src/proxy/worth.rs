//! Whether a passing answer is worth storing, and the savings of each later hit.

use std::rc::Rc;

use http::Method;

use super::{
    Proxy,
    ask::{Ask, Origin},
    bill::reading::Reading,
    enter,
};
use crate::{
    body::coding::{ContentEncoding, Decoder},
    config::{CacheBody, Operation},
    http1::{Fields, Id},
    message::{AnswerHead, Instead},
    policy::cache::{Worth, entry::Savings, graphql::Inspector},
    provider::Finish,
};

/// Judges an answer while it passes to the store.
pub struct Judge {
    ask: Rc<Ask>,
    /// The reading of a model's answer.
    reading: Option<Rc<Reading>>,
    /// The inspection of the answer to a GraphQL query.
    graphql: Option<Inspection>,
    asks_graphql: bool,
    keeps_tool_calls: bool,
    instead: Option<Instead>,
}

impl Judge {
    /// The judge of the answer to `ask`.
    pub fn new(ask: &Rc<Ask>) -> Self {
        let policy = ask.route().and_then(|route| route.policies.cache.as_ref());
        let asks_graphql = ask.arrival.method == Method::POST && policy.is_some_and(|policy| policy.body == Some(CacheBody::GraphQl));
        let keeps_tool_calls = policy.is_some_and(|policy| policy.tool_calls);
        Self { ask: ask.clone(), reading: None, graphql: None, asks_graphql, keeps_tool_calls, instead: None }
    }

    /// Takes the head of the answer.
    pub fn answered(&mut self, reading: Option<Rc<Reading>>, head: &AnswerHead) {
        self.reading = reading;
        self.graphql = self.asks_graphql.then(|| Inspection::of(&head.headers));
        self.instead = head.instead;
    }

    /// Takes a piece of the answer's body.
    pub fn feed(&mut self, piece: &[u8]) {
        if let Some(graphql) = &mut self.graphql {
            graphql.feed(piece);
        }
    }

    /// Whether a fetch ends when its last reader leaves: a model's answer costs money. A refresh has no reader and goes on.
    pub fn needs_readers(&self) -> bool {
        self.reading.is_some() && self.ask.origin != Origin::Refresh
    }

    /// Whether the complete answer may answer other requests. An answer may not if it is a fallback's, is an error inside a success,
    /// was cut or filtered, asks for tool calls, or has no end.
    pub fn verdict(&mut self, proxy: &Proxy) -> Worth {
        if self.instead.is_some() {
            return Worth::Discard("not of the target that was asked");
        }
        if let Some(graphql) = self.graphql.take()
            && !graphql.is_clean()
        {
            return Worth::Discard("GraphQL errors, or no plain answer");
        }
        let (Some(reading), Some(call)) = (&self.reading, self.ask.call()) else { return Worth::Store(None) };
        let Some(observed) = reading.observed() else { return Worth::Discard("no end was seen") };
        if observed.error.is_some() {
            return Worth::Discard("error inside a success");
        }
        if matches!(observed.finish, Some(Finish::Length | Finish::ContentFilter)) {
            return Worth::Discard("cut or filtered");
        }
        if observed.tool_calls && !self.keeps_tool_calls {
            return Worth::Discard("asks for tool calls");
        }
        if !observed.answered {
            return Worth::Discard("no answer");
        }
        let ended = observed.finish.is_some() || matches!(call.shape.operation, Operation::Embeddings);
        if !(observed.terminal && ended) {
            return Worth::Discard("no end was seen");
        }
        // The same price as the call's own charge.
        let prices = &proxy.worker().live.prices;
        let nano_usd = prices.charge(call.model.as_deref(), observed).unwrap_or(0);
        Worth::Store(Some(Savings { usage: observed.usage, nano_usd }))
    }

    /// Counts the end of a fetch: its answer was stored, or the reason why not.
    pub fn count_fill(&self, verdict: Worth, stored: bool) {
        let result = match verdict {
            Worth::Store(_) if stored => "stored",
            Worth::Store(_) => "too large, no room, or changed meanwhile",
            Worth::Discard(why) => why,
        };
        self.ask.cells().policies.filled(result);
    }

    /// Counts a fetch that ended before its body did.
    pub fn count_broken(&self) {
        self.ask.cells().policies.filled("broken off");
    }

    /// Counts the savings of joined requests: one call each.
    pub fn count_joined(&self, verdict: Worth, joined: u64) {
        if let Worth::Store(Some(savings)) = verdict {
            let cells = &self.ask.cells().policies;
            cells.saved_tokens.add(savings.usage.total().saturating_mul(joined));
            cells.saved_nano_usd.add(savings.nano_usd.saturating_mul(joined));
            enter::saved_by_joining(&self.ask, &savings, joined);
        }
    }
}

/// Inspects a GraphQL answer. It must be JSON, in a known coding or none, without `errors`.
enum Inspection {
    Plain(Inspector),
    Coded(Box<Decoder>, Inspector),
    /// A stream, a page, an unknown coding: a body that cannot be inspected.
    Opaque,
}

impl Inspection {
    fn of(head: &Fields) -> Self {
        let kind = head.get(Id::ContentType).and_then(|value| value.to_str().ok()).unwrap_or_default().trim().to_ascii_lowercase();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        match ContentEncoding::of(head) {
            _ if !(essence == "application/json" || essence.ends_with("+json")) => Self::Opaque,
            ContentEncoding::Plain => Self::Plain(Inspector::default()),
            ContentEncoding::Known(codings) => Self::Coded(Box::new(Decoder::new(&codings)), Inspector::default()),
            ContentEncoding::Unknown(_) => Self::Opaque,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        match self {
            Self::Plain(inspector) => inspector.feed(piece),
            Self::Coded(decoder, inspector) => {
                let take = &mut |piece: &[u8]| {
                    inspector.feed(piece);
                    true
                };
                if decoder.feed(piece, take).is_err() {
                    *self = Self::Opaque;
                }
            }
            Self::Opaque => {}
        }
    }

    fn is_clean(&self) -> bool {
        match self {
            Self::Plain(inspector) | Self::Coded(_, inspector) => inspector.is_clean(),
            Self::Opaque => false,
        }
    }
}
