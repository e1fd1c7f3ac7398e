//! The meter's findings about an answer while it passes: what other parts of the proxy may know before the bill is settled.

use std::cell::{Cell, OnceCell, RefCell};

use crate::provider::{ErrorClass, Meter, Observed};

/// The meter's findings about an answer while it passes.
#[derive(Debug, Default)]
pub struct Reading {
    pub(super) meter: RefCell<Option<Meter>>,
    pub(super) streams: Cell<bool>,
    started: Cell<bool>,
    ended: Cell<bool>,
    error: Cell<Option<ErrorClass>>,
    pub(super) observed: OnceCell<Observed>,
}

impl Reading {
    /// Whether the answer is a stream of events.
    pub fn streams(&self) -> bool {
        self.streams.get()
    }

    /// Whether an event with content has passed.
    pub fn started(&self) -> bool {
        self.started.get()
    }

    /// Whether the protocol's own end has passed.
    pub fn ended(&self) -> bool {
        self.ended.get()
    }

    /// The error inside a 200.
    pub fn error(&self) -> Option<ErrorClass> {
        self.error.get()
    }

    /// Tokens of output that have passed, by the meter's own count.
    pub(super) fn spoken(&self) -> u64 {
        self.meter.borrow().as_ref().map_or(0, Meter::spoken)
    }

    /// Whether the meter can learn nothing from the answer.
    pub fn is_blind(&self) -> bool {
        self.meter.borrow().as_ref().is_none_or(Meter::is_blind)
    }

    /// Whether the body is surely no answer of the API. `false` while the body may still become one.
    pub fn is_no_answer(&self) -> bool {
        match self.observed.get() {
            Some(observed) => !observed.answered,
            None => self.meter.borrow().as_ref().is_some_and(Meter::is_foreign),
        }
    }

    /// The meter's result; `None` before the body has ended.
    pub fn observed(&self) -> Option<&Observed> {
        self.observed.get()
    }

    /// Reads the next piece; whether the first content has passed in it.
    pub(super) fn feed(&self, piece: &[u8]) -> bool {
        let mut meter = self.meter.borrow_mut();
        let Some(news) = meter.as_mut().map(|meter| meter.feed(piece)) else { return false };
        self.started.set(self.started.get() || news.first_content);
        self.ended.set(self.ended.get() || news.ended);
        self.error.set(self.error.get().or(news.error));
        news.first_content
    }
}
