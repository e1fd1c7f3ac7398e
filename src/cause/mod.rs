//! Joining the doors: the inbound exchange that caused an outbound call.
//!
//! Inbound, the app gets a token: in a member of `baggage`, which OpenTelemetry carries through the app, and as `x-request-id`,
//! unless a trusted proxy has set one. Outbound, the call is joined by the first of these that is sure:
//!
//! 1. the token in `baggage`;
//! 2. `x-request-id`: the token, or the id that came in from a trusted proxy;
//! 3. `outrigger-caller`, from the same host: no exchange, but a caller;
//! 4. the trace id, if all exchanges with that id are of one payee.
//!
//! A join is sure while the exchange runs and for `join_within` after its end. Later the join is a claim: recorded for ten
//! minutes (or twice `join_within`), and enforcing nothing. A call that cannot be joined stays unattributed: it is never joined
//! to the nearest exchange in time.
//!
//! # Memory
//!
//! A token proves by itself who pays (see `token.rs`): an exchange that is over takes no memory, whatever its rate. The table keeps:
//!
//! | what | bytes each | at most | when it is full |
//! |---|---|---|---|
//! | payee: caller, route, charge | 384 and the caller's text | 64 MiB, 160,000 | the one not used for longest goes; one in use stays |
//! | running exchange | 44 and a given id | 65,535 a worker | its token is sure for `join_within` after its begin |
//! | exchange that ended, and ran for half a second or more | 44 and a given id | 16,384 a worker | the first to end goes: its token is sure for `join_within` after its begin |
//! | shorter one with a given id | 44 and the id | 8,192 a worker | the first to end goes: the log names its token |
//! | given request id, trace id | 36 | 524,288, 18 MiB | the oldest goes, a running one stays |
//!
//! All of it is at most 64 + 18 MiB and 3 MiB for each worker (5 with its given ids). Memory is taken only as it is used: a
//! hundred thousand callers within the time of a claim take 40 MiB, ten take some kilobytes.
//!
//! A payee that was not used for the time of a claim is forgotten. Workers beyond sixteen share the lives of others.
//!
//! # Towards a provider
//!
//! Neither token nor given id leaves: [`Causes::conceal`] replaces them by derived ids, which join nothing.

mod begin;
mod fields;
mod lives;
mod names;
mod payees;
mod token;

#[cfg(test)]
mod tests;

use std::{
    hash::Hash,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

pub use begin::{Begin, Running, WorkerCauses};
pub use fields::{CALLER, REQUEST_ID, announce, said_caller, withdraw};
pub use payees::Payee;

use self::{
    lives::{LifeOf, Lives},
    names::{Kind, Meant, Names},
    payees::Payees,
    token::{HashKey, Mark, Sealer, TICK, Tick},
};
use crate::{
    arrival::{RequestId, digits},
    http1::{Fields, Name},
    telemetry::trace::TraceContext,
};

/// An exchange that ran this long or longer is remembered after its end. A token alone is sure for this much longer than
/// `join_within`: a shorter exchange needs no memory.
const SLACK: Tick = 4;

/// The shortest time for which a claim is recorded.
const CLAIM: Duration = Duration::from_secs(600);

/// An inbound exchange, as an outbound call sees it. It derefs to its payee.
#[derive(Debug)]
pub struct Cause<C> {
    /// The inbound request id. `None`: exchanges of one payee share the name by which the call was joined. Of an exchange that
    /// is long over, it is the token, even if the exchange had a given id.
    pub request_id: Option<RequestId>,
    payee: Arc<Payee<C>>,
    life: Option<LifeOf>,
}

impl<C> Cause<C> {
    /// Adds a call's cost to the exchange's sum, if the exchange is still known.
    pub fn spend(&self, nano_usd: u64) {
        if let Some(life) = &self.life {
            life.spend(nano_usd);
        }
    }
}

impl<C> Deref for Cause<C> {
    type Target = Payee<C>;

    fn deref(&self) -> &Payee<C> {
        &self.payee
    }
}

/// The cause found for an outbound call.
#[derive(Debug)]
pub enum Join<C> {
    /// An exchange that runs or ended a short time ago.
    Sure(Arc<Cause<C>>),
    /// An exchange that ended longer ago than `join_within`: recorded, enforces nothing.
    Claim(Arc<Cause<C>>),
    /// No exchange, but the app on the same host names the caller it asks for.
    Said(Arc<str>),
    /// No cause is known.
    Unattributed,
}

impl<C> Join<C> {
    /// The exchange, if the join is sure.
    pub fn sure(&self) -> Option<&Arc<Cause<C>>> {
        match self {
            Self::Sure(cause) => Some(cause),
            _ => None,
        }
    }

    /// The exchange, sure or claimed.
    pub fn cause(&self) -> Option<&Arc<Cause<C>>> {
        match self {
            Self::Sure(cause) | Self::Claim(cause) => Some(cause),
            Self::Said(_) | Self::Unattributed => None,
        }
    }

    /// The caller whose limits count the call.
    pub fn caller(&self) -> Option<&Arc<str>> {
        match self {
            Self::Sure(cause) => cause.caller.as_ref(),
            Self::Said(caller) => Some(caller),
            Self::Claim(_) | Self::Unattributed => None,
        }
    }

    /// The caller in whose name the call stands in the books.
    pub fn recorded_caller(&self) -> Option<&Arc<str>> {
        self.caller().or_else(|| self.cause()?.caller.as_ref())
    }

    /// Whether neither an exchange nor a caller is known.
    pub fn is_unattributed(&self) -> bool {
        matches!(self, Self::Unattributed)
    }

    fn is_certain(&self) -> bool {
        matches!(self, Self::Sure(_) | Self::Said(_))
    }
}

/// Inbound exchanges that outbound calls may refer to. Shared by all workers, bounded.
#[derive(Debug)]
pub struct Causes<C> {
    ticks: Ticks,
    sealer: Sealer,
    payees: Payees<C>,
    lives: Lives,
    names: Names,
    /// Makes derived ids.
    deriving: HashKey,
    /// Ticks for which a claim is recorded.
    keep: AtomicU32,
    workers: AtomicUsize,
}

/// Counts ticks since the table began.
#[derive(Debug, Clone, Copy)]
struct Ticks(Instant);

impl Ticks {
    fn at(self, now: Instant) -> Tick {
        Tick::try_from(now.saturating_duration_since(self.0).as_millis() / u128::from(TICK)).unwrap_or(Tick::MAX)
    }

    /// Whole ticks, rounded up.
    fn of(time: Duration) -> Tick {
        Tick::try_from(time.as_millis().div_ceil(u128::from(TICK))).unwrap_or(Tick::MAX)
    }
}

/// The table's contents, and the counts of what it had to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Payees.
    pub payees: usize,
    /// Exchanges that run.
    pub running: usize,
    /// Exchanges that ended and are kept.
    pub ended: usize,
    /// Request ids and trace ids of others.
    pub names: usize,
    /// Bytes of the whole table.
    pub bytes: usize,
    /// Payees forgotten before their time: there were too many.
    pub payees_forgotten: u64,
    /// Exchanges that no call can be joined to: every payee was in use.
    pub turned_away: u64,
    /// Ended exchanges that ran long, forgotten before their time.
    pub ended_forgotten: u64,
    /// Names forgotten before their time.
    pub names_forgotten: u64,
}

impl<C: Eq + Hash + Clone> Causes<C> {
    /// An empty table.
    pub fn new(now: Instant) -> Arc<Self> {
        Self::with_room(now, payees::BYTES)
    }

    fn with_room(now: Instant, payee_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            ticks: Ticks(now),
            sealer: Sealer::new(),
            payees: Payees::new(payee_bytes),
            lives: Lives::new(),
            names: Names::new(),
            deriving: HashKey::new(),
            keep: AtomicU32::new(Ticks::of(CLAIM)),
            workers: AtomicUsize::new(0),
        })
    }

    /// A worker's way into the table.
    pub fn worker(self: &Arc<Self>) -> WorkerCauses<C> {
        WorkerCauses::new(self)
    }

    /// The cause of an outbound request. `same_host`: the peer is on this host, and `outrigger-caller` counts.
    pub fn join(&self, headers: &Fields, same_host: bool, within: Duration, now: Instant) -> Join<C> {
        let asked = Asked { now: self.ticks.at(now), within: Ticks::of(within), keep: Ticks::of(CLAIM.max(within * 2)) };
        let by_baggage = fields::announced(headers).map_or(Join::Unattributed, |token| self.by_token(token, &asked));
        if by_baggage.is_certain() {
            return by_baggage;
        }
        let by_request_id = fields::request_id(headers).map_or(Join::Unattributed, |id| self.by_request_id(id, &asked));
        if by_request_id.is_certain() {
            return by_request_id;
        }
        if let Some(caller) = said_caller(headers).filter(|_| same_host) {
            return Join::Said(caller.into());
        }
        let by_trace = trace_id(headers).map_or(Join::Unattributed, |id| self.by_trace(id, &asked));
        if by_trace.is_certain() {
            return by_trace;
        }
        [by_baggage, by_request_id, by_trace].into_iter().find(|join| !join.is_unattributed()).unwrap_or(Join::Unattributed)
    }

    /// Forgets all that no call can refer to any more. Call every few seconds, off the hot path.
    pub fn sweep(&self, within: Duration, now: Instant) {
        let (now, keep) = (self.ticks.at(now), Ticks::of(CLAIM.max(within * 2)));
        self.keep.store(keep, Relaxed);
        // One tick more: an exchange may have begun at the end of its tick.
        let horizon = now.saturating_sub(keep.saturating_add(SLACK + 1));
        self.lives.sweep(horizon);
        self.names.sweep(horizon, |mark| self.lives.is_running(mark.place, mark.begun));
        self.payees.sweep(horizon, now);
    }

    /// Makes the fields of a call fit for a provider. Our member of `baggage` and all `outrigger-` fields go; a token or a
    /// known request id is replaced by the id derived from it. Returns the derived id in `x-request-id`, if there is one.
    pub fn conceal(&self, headers: &mut Fields) -> Option<RequestId> {
        withdraw(headers);
        if headers.names().any(is_ours) {
            headers.retain(|name, _| !is_ours(name));
        }
        let mut told = None;
        headers.rewrite(|name, value| {
            let instead = fields::replace_numbers(value.as_bytes(), |number| {
                self.sealer.open(number)?;
                Some(self.deriving.hash(&digits(number)))
            });
            let instead = instead.or_else(|| {
                let id = name.lower().ends_with("id").then(|| value.as_bytes().trim_ascii()).filter(|id| !id.is_empty())?;
                self.names.find(self.names.hash(Kind::RequestId, id))?;
                Some(digits(self.deriving.hash(id)).to_vec())
            });
            if name.id() == REQUEST_ID
                && let Some(fresh) = &instead
            {
                told = fields::number(fresh).map(RequestId::Own);
            }
            instead
        });
        told
    }

    /// Whether a request id is a token of ours: a client may not send one as the id of its own request.
    pub fn is_token(&self, id: &str) -> bool {
        fields::number(id.as_bytes()).and_then(|number| self.sealer.open(number)).is_some()
    }

    /// The table's contents, and the counts of what it had to forget.
    pub fn census(&self) -> Census {
        let (payees, payee_bytes) = self.payees.census();
        let (running, ended, life_bytes) = self.lives.census();
        let (names, name_bytes) = self.names.census();
        let (payees_forgotten, turned_away) = self.payees.lost();
        Census {
            payees,
            running,
            ended,
            names,
            bytes: payee_bytes + life_bytes + name_bytes,
            payees_forgotten,
            turned_away,
            ended_forgotten: self.lives.pressed_out(),
            names_forgotten: self.names.pressed_out(),
        }
    }

    fn by_token(&self, token: u128, asked: &Asked) -> Join<C> {
        self.sealer.open(token).map_or(Join::Unattributed, |mark| self.judge(mark, asked, true, None))
    }

    fn by_request_id(&self, id: &str, asked: &Asked) -> Join<C> {
        if let Some(mark) = fields::number(id.as_bytes()).and_then(|token| self.sealer.open(token)) {
            return self.judge(mark, asked, true, None);
        }
        let given = || Some(RequestId::Given(id.into()));
        match self.names.find(self.names.hash(Kind::RequestId, id.as_bytes())) {
            Some(Meant::One(mark)) => self.judge(mark, asked, true, given()),
            Some(Meant::Several(mark)) => self.judge(mark, asked, false, given()),
            Some(Meant::Nobody) | None => Join::Unattributed,
        }
    }

    fn by_trace(&self, id: u128, asked: &Asked) -> Join<C> {
        match self.names.find(self.names.hash(Kind::Trace, &id.to_be_bytes())) {
            Some(Meant::One(mark)) => self.judge(mark, asked, true, None),
            Some(Meant::Several(mark)) => self.judge(mark, asked, false, None),
            Some(Meant::Nobody) | None => Join::Unattributed,
        }
    }

    /// The join of a call to the exchange of `mark`. `alone`: no other exchange of the same payee is possible.
    fn judge(&self, mark: Mark, asked: &Asked, alone: bool, request_id: Option<RequestId>) -> Join<C> {
        // A worker's clock may be a little ahead of another's.
        if mark.begun > asked.now.saturating_add(SLACK) {
            return Join::Unattributed;
        }
        let Some(payee) = self.payees.find(mark.payee, mark.begun, asked.now) else { return Join::Unattributed };
        let seen = self.lives.see(mark.place, mark.begun);
        let since = |then: Tick| asked.now.saturating_sub(then);
        let sure = since(mark.begun) <= asked.within.saturating_add(SLACK)
            || seen.as_ref().is_some_and(|seen| seen.ended.is_none_or(|ended| since(ended) <= asked.within.saturating_add(1)));
        let recorded = sure || seen.is_some() || since(mark.begun) <= asked.keep;
        if !recorded {
            return Join::Unattributed;
        }
        let request_id = request_id.or_else(|| {
            let given = seen.and_then(|seen| seen.given);
            alone.then(|| given.map_or_else(|| RequestId::Own(self.sealer.seal(mark)), RequestId::Given))
        });
        let life = alone.then(|| self.lives.of(mark.place, mark.begun));
        let cause = Arc::new(Cause { request_id, payee, life });
        if sure { Join::Sure(cause) } else { Join::Claim(cause) }
    }
}

/// Whether the house alone may set a field of this name.
fn is_ours(name: Name<'_>) -> bool {
    let (name, ours) = (name.text(), b"outrigger-");
    name.get(..ours.len()).is_some_and(|start| start.eq_ignore_ascii_case(ours))
}

/// The time of a join, and its bounds.
struct Asked {
    now: Tick,
    within: Tick,
    keep: Tick,
}

/// The trace id of a request that names one trace.
fn trace_id(headers: &Fields) -> Option<u128> {
    let mut parents = headers.all("traceparent");
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    Some(u128::from_be_bytes(TraceContext::parse(parent.as_bytes())?.trace_id.to_bytes()))
}
