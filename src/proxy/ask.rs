//! The one record of a request. Every part of the proxy that works for the request shares it.
//!
//! An [`Ask`] begins with the arrival. Each fact is added once, in the order of `serve`, and never changed: the route, the
//! caller, the model call, the trace, the cause. Three cells tell progress: the upload, the tries, the charges. A task that
//! outlives the client holds the same record.

use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Proxy,
    acts::Degraded,
    live::{LiveDoor, LiveRoute, Worker, WorkerRoute},
    model::ModelCall,
};
use crate::{
    arrival::{Arrival, Door, RequestId},
    body::{room::Room, tap::TimeBounds, upload::Progress},
    caller::{Caller, Proof},
    cause::{self, Running},
    clock::Instant,
    config::{Fallback, Mode, Timeouts},
    policy::{
        limits::{Keyed, Over},
        privacy::Vault,
        timeout::{self, Deadline},
    },
    telemetry::{failures::TryStep, metrics::SpanPoint, trace::Trace},
};

/// The record of a request.
pub struct Ask {
    pub(super) proxy: Rc<Proxy>,
    /// The worker's view of the configuration's generation that the request began with, and keeps.
    pub worker: Rc<Worker>,
    /// The request as it came in.
    pub arrival: Arrival,
    /// Wall time of the arrival.
    pub at: SystemTime,
    /// Who began the request.
    pub origin: Origin,
    request_id: OnceCell<RequestId>,
    /// The request id that a provider is sent, if it is another.
    pub(super) sent_id: OnceCell<RequestId>,
    route: OnceCell<usize>,
    proof: OnceCell<Box<Proof>>,
    caller: OnceCell<Caller>,
    call: OnceCell<Box<ModelCall>>,
    trace: OnceCell<Trace>,
    token: OnceCell<u128>,
    deadline: OnceCell<Deadline>,
    /// Spent limits that have acted and let the request through.
    pub(super) over: RefCell<Option<Rc<Over>>>,
    /// The cheaper model that a spent limit has sent the call to.
    pub(super) degraded: OnceCell<Degraded>,
    /// Progress of the request's body, if there is one.
    upload: OnceCell<Rc<Progress>>,
    /// Progress of the tries.
    pub tries: TryLog,
    /// The values that were taken out of the call, and are put into its answer.
    vault: OnceCell<Box<Vault>>,
    /// The body's room in the process's budget, for as long as a try may send the body.
    pub(super) room: RefCell<Option<Room>>,
}

/// Who began a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client.
    Client,
    /// The proxy, to fill its cache. Such a request takes nothing from a limit.
    Warming,
    /// The proxy, to refresh a stored answer. Such a request counts for no caller.
    Refresh,
}

/// The progress of one request's tries.
#[derive(Debug, Default)]
pub struct TryLog {
    /// How many were made.
    pub made: Cell<u32>,
    /// Target of the last one.
    pub target: RefCell<Option<Arc<str>>>,
    /// The place of the configured key that the last one used.
    pub key: Cell<Option<u16>>,
    /// The name of the key that the last one used, of a provider with several keys.
    pub key_name: RefCell<Option<Arc<str>>>,
    /// Time spent waiting for upstreams, pauses included.
    pub waited: Cell<Duration>,
    /// Time from the last one's start to its response head.
    pub last: Cell<Option<Duration>>,
    /// Time from the arrival to the first event with content.
    pub first_token: Cell<Option<Duration>>,
    /// Whether a retry policy has decided that there is no further try.
    pub policy_ran: Cell<bool>,
    /// When the last one began.
    pub began: Cell<Option<Instant>>,
    /// The tries that did not go well, in order, and the targets that were passed over.
    pub steps: RefCell<Vec<TryStep>>,
    /// The fallback whose answer replaces the first target's.
    pub fallback: RefCell<Option<Fallen>>,
}

/// A fallback that answered.
#[derive(Debug, Clone)]
pub struct Fallen {
    /// The provider, or `respond`.
    pub to: Arc<str>,
    /// The model that it was asked for, if it is another.
    pub model: Option<Arc<str>>,
}

impl Ask {
    /// The record of `arrival`.
    pub fn of(proxy: &Rc<Proxy>, worker: Rc<Worker>, arrival: Arrival, origin: Origin) -> Rc<Self> {
        let request_id = given_id(proxy, &arrival).map_or_else(OnceCell::new, OnceCell::from);
        Rc::new(Self {
            proxy: proxy.clone(),
            worker,
            at: proxy.shared.clock.wall(),
            origin,
            request_id,
            sent_id: OnceCell::new(),
            arrival,
            route: OnceCell::new(),
            proof: OnceCell::new(),
            caller: OnceCell::new(),
            call: OnceCell::new(),
            trace: OnceCell::new(),
            token: OnceCell::new(),
            deadline: OnceCell::new(),
            over: RefCell::default(),
            degraded: OnceCell::new(),
            upload: OnceCell::new(),
            tries: TryLog::default(),
            vault: OnceCell::new(),
            room: RefCell::new(None),
        })
    }

    /// The same request once more, begun by the proxy as a refresh.
    pub fn refreshing(&self) -> Rc<Self> {
        let arrival = Arrival { interim: None, at: Instant::now(), ..self.arrival.clone() };
        let again = Self::of(&self.proxy, self.worker.clone(), arrival, Origin::Refresh);
        again.routed(self.route_at());
        again.named(Some(Caller::new(crate::caller::PROXY, crate::caller::KnownBy::Proxy)));
        if let Some(proof) = self.proof() {
            again.proved(proof.clone());
        }
        if let Some(call) = self.call() {
            again.understood(Box::new(call.uncaused()));
        }
        again
    }

    /// Records the route.
    pub fn routed(&self, route_at: usize) {
        let _ = self.route.set(route_at);
        let timeouts = self.timeouts();
        let _ =
            self.deadline.set(timeout::deadline(self.arrival.at, timeouts, timeout::caller_deadline(&self.arrival.headers, self.door())));
    }

    /// Records what the request's credential has proved.
    pub fn proved(&self, proof: Proof) {
        let _ = self.proof.set(Box::new(proof));
    }

    /// Records the caller; `None`: no source that can be trusted names one.
    pub fn named(&self, caller: Option<Caller>) {
        if let Some(caller) = caller {
            let _ = self.caller.set(caller);
        }
    }

    /// Records the model call.
    pub fn understood(&self, call: Box<ModelCall>) {
        let _ = self.call.set(call);
    }

    /// Records the values that were taken out of the call.
    pub fn guards(&self, vault: Vault) {
        let _ = self.vault.set(Box::new(vault));
    }

    /// The values that were taken out of the call; `None`: none were.
    pub fn vault(&self) -> Option<&Vault> {
        self.vault.get().map(|vault| &**vault)
    }

    /// Records the trace, begun or continued.
    pub fn traced(&self, trace: Trace) {
        let _ = self.trace.set(trace);
    }

    /// Records the cause: from now on outbound calls may refer to this request.
    pub fn announced(&self, running: &Running<Keyed>) {
        let _ = self.token.set(running.token);
        let _ = self.request_id.set(running.request_id.clone());
    }

    /// Progress of the request's body; of a request without one: done.
    pub fn upload(&self) -> &Rc<Progress> {
        self.upload.get_or_init(Progress::nothing)
    }

    /// The request has a body, whose progress is told from now on. To be called before anybody asks for it.
    pub fn uploads(&self) -> Rc<Progress> {
        let progress = Rc::<Progress>::default();
        let set = self.upload.set(progress.clone());
        debug_assert!(set.is_ok(), "nobody has asked for it");
        progress
    }

    /// The listener.
    pub fn door(&self) -> Door {
        self.arrival.door
    }

    /// The listener's part of the configuration; `None` if it is not open any more.
    pub fn live_door(&self) -> Option<&LiveDoor> {
        self.worker.live.door(self.arrival.door)
    }

    /// Index of the route in its door. Before a route is found: the door's last one.
    pub fn route_at(&self) -> usize {
        self.route.get().copied().unwrap_or_else(|| self.live_door().map_or(0, LiveDoor::fallthrough))
    }

    /// The route; `None` if its door is not open.
    pub fn route(&self) -> Option<&LiveRoute> {
        self.live_door().and_then(|door| door.routes.get(self.route_at()))
    }

    /// The targets that come after the first one, in order: those of the model's name, then those of the route.
    pub(super) fn then<'a>(&self, route: &'a LiveRoute) -> Cow<'a, [Fallback]> {
        match self.call().and_then(|call| call.by_model.as_ref()).filter(|by| !by.rest.is_empty()) {
            None => Cow::Borrowed(&route.fallback),
            Some(by) => by.rest.iter().chain(&route.fallback).cloned().collect(),
        }
    }

    /// Whether a target comes after the first one.
    pub(super) fn has_next(&self, route: &LiveRoute) -> bool {
        !route.fallback.is_empty() || self.call().and_then(|call| call.by_model.as_ref()).is_some_and(|by| !by.rest.is_empty())
    }

    /// Whether the target that is asked first has several members.
    pub fn has_members(&self) -> bool {
        match self.call() {
            None => self.route().and_then(|route| self.worker.live.apps.get(route.app)).is_some_and(|app| app.members.is_some()),
            Some(call) => self.worker.live.providers[call.provider_at].members.is_some(),
        }
    }

    /// Name of the route.
    pub fn route_name(&self) -> Arc<str> {
        self.route().map(|route| route.name.clone()).unwrap_or_default()
    }

    /// Name of the route, for those who only read it.
    pub fn route_text(&self) -> &str {
        self.route().map_or("", |route| &route.name)
    }

    /// Metric cells of the route.
    pub fn cells(&self) -> &WorkerRoute {
        self.worker.route(self.arrival.door, self.route_at())
    }

    /// The caller, if a source that can be trusted names one.
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.get()
    }

    /// What the request's credential has proved, if it has shown one.
    pub fn proof(&self) -> Option<&Proof> {
        self.proof.get().map(|proof| &**proof)
    }

    /// The caller's name.
    pub fn caller_name(&self) -> Option<&str> {
        self.caller.get().map(|caller| &*caller.name)
    }

    /// Outbound: the model call, once it is understood.
    pub fn call(&self) -> Option<&ModelCall> {
        self.call.get().map(|call| &**call)
    }

    /// The request's place in its trace, if it has one.
    pub fn trace(&self) -> Option<&Trace> {
        self.trace.get()
    }

    /// The request's span, for a value that is measured in it now; `None`: no trace, or one that is not sampled.
    pub fn within(&self) -> Option<SpanPoint> {
        self.trace()?.within(|| self.proxy.shared.clock.wall())
    }

    /// Inbound: the token by which outbound calls refer to this request.
    pub fn token(&self) -> Option<u128> {
        self.token.get().copied()
    }

    /// The id that finds everything about this request: the given one, else the token, else a number of its own.
    pub fn request_id(&self) -> &RequestId {
        self.request_id.get_or_init(RequestId::fresh)
    }

    /// The request id, if it is settled already.
    pub fn settled_id(&self) -> Option<&RequestId> {
        self.request_id.get()
    }

    /// The end of all its tries: the route's `total`, or how long the caller is willing to wait.
    pub fn deadline(&self) -> Deadline {
        self.deadline.get().copied().unwrap_or(Deadline::NONE)
    }

    /// Time bounds of the route, whether they enforce or observe.
    pub fn timeouts(&self) -> Option<&Timeouts> {
        self.route().and_then(|route| route.policies.timeouts.as_ref())
    }

    /// Time bounds of an answer's body. `total` ends no stream: streams are long by nature.
    pub fn body_bounds(&self, streams: bool) -> TimeBounds {
        let Some(timeouts) = self.enforced_timeouts() else { return TimeBounds::default() };
        let deadline = timeouts.total.filter(|_| !streams).map(|total| self.arrival.at + total);
        TimeBounds { idle: timeouts.idle, deadline }
    }

    /// Time bounds of the route, if they enforce.
    pub fn enforced_timeouts(&self) -> Option<&Timeouts> {
        self.timeouts().filter(|timeouts| timeouts.mode == Mode::Enforce)
    }
}

impl TryLog {
    /// A try at `target` begins at `now`.
    pub fn begin(&self, target: &Arc<str>, now: Instant) {
        self.began.set(Some(now));
        self.made.set(self.made.get() + 1);
        self.target.replace(Some(target.clone()));
    }

    /// Adds time that was spent waiting: for an upstream, or in a pause before a try.
    pub fn wait(&self, time: Duration) {
        self.waited.set(self.waited.get() + time);
    }
}

/// The request id that a trusted peer sent (outbound: the app).
fn given_id(proxy: &Proxy, arrival: &Arrival) -> Option<RequestId> {
    let id =
        arrival.header(cause::REQUEST_ID).filter(|id| !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()))?;
    let is_taken = match arrival.door {
        Door::Outbound => true,
        // A token belongs to the exchange that it was made for.
        Door::Inbound => arrival.trusted && !proxy.shared.causes.is_token(id),
    };
    is_taken.then(|| RequestId::Given(id.into()))
}
