//! How a worker begins exchanges: it takes no lock that other workers wait for, and allocates nothing for an exchange of a
//! caller that it has seen lately.

use std::{
    cell::{Cell, RefCell},
    hash::Hash,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Causes, SLACK, Ticks,
    lives::{self, Keep, LifeOf},
    names::Kind,
    payees::{Facts, Known},
    token::{Mark, TICK, Tick},
};
use crate::{arrival::RequestId, clock::unguessable_id};

/// Most payees that a worker finds without asking the table.
const NEAR: usize = 128;

/// A worker asks the table again for a payee that it has not used for this long.
const FORGET_NEAR: Tick = 60_000 / TICK as Tick;

/// One worker's way into the table: it takes no lock that other workers wait for, and allocates nothing for each exchange.
#[derive(Debug)]
pub struct WorkerCauses<C> {
    causes: Arc<Causes<C>>,
    home: (Arc<Mutex<lives::Shard>>, u32),
    near: RefCell<Box<[Slot<C>]>>,
}

type Slot<C> = Option<Rc<Near<C>>>;

/// A payee that the worker has used lately.
#[derive(Debug)]
struct Near<C> {
    known: Known<C>,
    /// The last tick in which the worker told the table of it.
    touched: Cell<Tick>,
}

/// The facts of an inbound exchange when it goes on to the app.
#[derive(Debug)]
pub struct Begin<'a, C> {
    /// The request id, if there is one already: given by a trusted proxy (never a token, see [`Causes::is_token`]), or printed
    /// before. Without one, the token is the request id.
    pub request_id: Option<&'a RequestId>,
    /// The caller, if a trusted source names it.
    pub caller: Option<&'a Arc<str>>,
    /// The inbound route.
    pub route: &'a Arc<str>,
    /// The charge that its calls must reserve against.
    pub charge: Option<&'a C>,
    /// The trace that the app sees.
    pub trace_id: Option<u128>,
}

/// A running exchange. The exchange ends when this is dropped.
#[derive(Debug)]
pub struct Running<C> {
    /// The token for the app, in `baggage`.
    pub token: u128,
    /// The request id of the exchange.
    pub request_id: RequestId,
    /// Keeps the payee from being forgotten.
    _near: Slot<C>,
    life: LifeOf,
    is_given: bool,
    ticks: Ticks,
    is_over: Cell<bool>,
}

impl<C: Eq + Hash + Clone> WorkerCauses<C> {
    /// The way of one more worker.
    pub(super) fn new(causes: &Arc<Causes<C>>) -> Self {
        let home = causes.lives.home(causes.workers.fetch_add(1, Relaxed));
        Self { causes: causes.clone(), home, near: RefCell::new((0..NEAR).map(|_| None).collect()) }
    }

    /// Begins an exchange that goes on to the app: from now on, calls may say that it caused them.
    pub fn begin(&self, begin: &Begin<'_, C>, now: Instant) -> Running<C> {
        let causes = &*self.causes;
        let now = causes.ticks.at(now);
        let near = self.near(&Facts { caller: begin.caller, route: begin.route, charge: begin.charge }, now);
        let given: Option<Arc<str>> = begin.request_id.map(|id| match id {
            RequestId::Given(text) => text.clone(),
            RequestId::Own(_) => id.to_string().into(),
        });
        let begun = near.as_ref().map_or(now, |near| now.max(near.known.since));
        let life = LifeOf::begin(&self.home, begun, given.clone());
        let mut token = None;
        if let Some(Near { known, .. }) = near.as_deref() {
            let mark = Mark { begun, payee: known.index, place: life.place };
            token = Some(causes.sealer.seal(mark));
            let name = |kind, name: &[u8]| {
                let horizon = now.saturating_sub(causes.keep.load(Relaxed));
                let is_running = |mark: Mark| causes.lives.is_running(mark.place, mark.begun);
                causes.names.give(causes.names.hash(kind, name), mark, known.since, horizon, is_running);
            };
            if let Some(given) = &given {
                name(Kind::RequestId, given.as_bytes());
            }
            if let Some(trace_id) = begin.trace_id {
                name(Kind::Trace, &trace_id.to_be_bytes());
            }
        }
        let token = token.unwrap_or_else(unguessable_id);
        let is_given = given.is_some();
        let request_id = begin.request_id.cloned().unwrap_or(RequestId::Own(token));
        Running { token, request_id, _near: near, life, is_given, ticks: causes.ticks, is_over: Cell::new(false) }
    }

    /// Lets go of payees that the worker has not used for a while: the table may then forget them.
    pub fn sweep(&self, now: Instant) {
        let now = self.causes.ticks.at(now);
        for near in self.near.borrow_mut().iter_mut() {
            near.take_if(|near| now.saturating_sub(near.touched.get()) > FORGET_NEAR);
        }
    }

    fn near(&self, facts: &Facts<'_, C>, now: Tick) -> Slot<C> {
        let payees = &self.causes.payees;
        let hash = payees.hash(facts);
        let slot = &mut self.near.borrow_mut()[hash as usize % NEAR];
        if let Some(near) = slot.as_ref().filter(|near| near.known.hash == hash && near.known.payee.is(facts)) {
            if near.touched.get() < now {
                payees.touch(&near.known, now);
                near.touched.set(now);
            }
            return Some(near.clone());
        }
        let near = Rc::new(Near { known: payees.intern(facts, hash, now)?, touched: Cell::new(now) });
        *slot = Some(near.clone());
        Some(near)
    }
}

impl<C> Running<C> {
    /// Nano-dollars that its calls have cost so far.
    pub fn spent(&self) -> u64 {
        self.life.spent()
    }

    /// Ends the exchange. Returns the cost of its calls in nano-dollars.
    pub fn end(&self, now: Instant) -> u64 {
        if self.is_over.replace(true) {
            return 0;
        }
        let now = self.ticks.at(now);
        let keep = match now.saturating_sub(self.life.begun) >= SLACK {
            true => Some(Keep::Long),
            false => self.is_given.then_some(Keep::Named),
        };
        self.life.end(now, keep)
    }
}

impl<C> Drop for Running<C> {
    fn drop(&mut self) {
        if !self.is_over.get() {
            self.end(Instant::now());
        }
    }
}
