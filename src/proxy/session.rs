//! A WebSocket to a model, watched while its bytes pass: each response is charged when its last event has passed, and the session is
//! refused when a limit is spent.
//!
//! The watch reads beside the relay and changes nothing. A response that the app asks for is reserved; its charge settles the
//! reservation. A provider makes the responses of a connection one after the other: the oldest that is asked for begins next. What is under
//! way when the connection ends is estimated; what has not begun costs nothing.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
};

use tokio::sync::Notify;

use super::{
    ask::Ask,
    bill::Bill,
    demands::{self, Demands},
    payer::{Payer, Payers},
    pledge::Order,
};
use crate::{
    arrival::Arrival,
    body::websocket::{self, Deflate, Lost, Reader},
    clock::Instant,
    config::Operation,
    http1::Fields,
    policy::limits::{Lease, keys},
    provider::{
        self, Facts, Observed, Shape,
        session::{Create, ErrorEvent, FromApp, FromProvider, Session, Told},
    },
    reject::Reject,
    upstream::headers,
    usage::{Usage, UsageSource},
};

/// The name of a session in `outrigger_unmetered_calls_total`.
const UNREADABLE: &str = "a WebSocket session whose frames cannot be read";

/// Most responses that are asked for and have not begun. Further responses are not reserved.
const MOST_OPEN: usize = 256;

/// The model of a session that a WebSocket opens (Azure: the deployment).
pub(super) fn model_in_query(arrival: &Arrival, shape: &Shape) -> Option<Arc<str>> {
    let query = arrival.uri.query().filter(|_| shape.session.is_some() && headers::wants_websocket(arrival))?;
    let named = ["model", "deployment"].iter().find_map(|name| keys::parameter(query, name)).filter(|model| !model.is_empty())?;
    Some(percent_encoding::percent_decode(named).decode_utf8().ok()?.as_ref().into())
}

/// The watch over a session.
pub struct Watch {
    ask: Rc<Ask>,
    session: Session,
    from_app: RefCell<Reader>,
    from_provider: RefCell<Reader>,
    inner: RefCell<Inner>,
    todo: RefCell<VecDeque<Todo>>,
    news: Notify,
    lost: Cell<bool>,
}

struct Inner {
    asked: FromApp,
    heard: FromProvider,
    /// Responses that are asked for and have not begun, the oldest first.
    open: VecDeque<Rc<Open>>,
    /// The request for the response under way; `None`: none is known.
    started: Option<Rc<Open>>,
    /// The last model that the app asked for.
    model: Option<Arc<str>>,
    /// When the response under way began.
    began: Option<Instant>,
}

/// A response that is asked for.
struct Open {
    facts: Facts,
    /// The app's id of the event.
    event_id: Option<Box<str>>,
    model: Option<Arc<str>>,
    lease: RefCell<Reserved>,
}

enum Reserved {
    /// The limits are being asked.
    Asked,
    Held(Box<Lease>),
    /// The response has ended.
    Over,
}

/// Work that may have to wait.
enum Todo {
    /// Reserve for a response.
    Reserve(Rc<Open>),
    /// Refuse the session if a limit of this model is spent.
    Check(Option<Arc<str>>),
    /// Refuse the session if a limit needs events that cannot be read any more.
    Lost(Lost),
}

impl Watch {
    /// The watch over the tunnel that `ask` has opened; `None`: it is no session whose events are known. `head`: the fields of the 101.
    pub fn of(ask: &Rc<Ask>, head: &Fields) -> Option<Rc<Self>> {
        let session = ask.call()?.shape.session?;
        let fields = head.all("sec-websocket-extensions").map(|value| value.to_str().unwrap_or("?"));
        let agreed = Deflate::agreed(fields);
        let (client, server) = agreed.unwrap_or_default().unzip();
        let inner = Inner {
            asked: FromApp::new(session),
            heard: FromProvider::new(),
            open: VecDeque::new(),
            started: None,
            model: ask.call().and_then(|call| call.model.clone()),
            began: None,
        };
        let watch = Rc::new(Self {
            ask: ask.clone(),
            session,
            from_app: RefCell::new(Reader::new(client)),
            from_provider: RefCell::new(Reader::new(server)),
            inner: RefCell::new(inner),
            todo: RefCell::default(),
            news: Notify::new(),
            lost: Cell::new(false),
        });
        if let Err(lost) = agreed {
            watch.is_lost(lost);
        }
        Some(watch)
    }

    /// Reads the next bytes of the app that have passed, as many as one turn's work allows. Gives how many; let others work before the rest.
    pub fn sent(&self, bytes: &[u8]) -> usize {
        let mut reader = self.from_app.borrow_mut();
        let read = reader.feed_turn(bytes, |part| {
            let mut inner = self.inner.borrow_mut();
            if let Some(create) = inner.asked.feed(part) {
                self.creates(&mut inner, create);
            }
        });
        if let Some(lost) = reader.lost() {
            self.is_lost(lost);
        }
        read
    }

    /// As [`sent`](Self::sent), for bytes of the provider.
    pub fn heard(&self, bytes: &[u8]) -> usize {
        let mut reader = self.from_provider.borrow_mut();
        let read = reader.feed_turn(bytes, |part| {
            let mut inner = self.inner.borrow_mut();
            if let Some(told) = inner.hear(part) {
                self.told(&mut inner, told);
            }
        });
        if let Some(lost) = reader.lost() {
            self.is_lost(lost);
        }
        read
    }

    /// Whether another frame of the app may follow the bytes that have passed.
    pub fn app_is_between_frames(&self) -> bool {
        self.from_app.borrow().is_between_frames()
    }

    /// Whether another frame of the provider may follow the bytes that have passed, and another message.
    pub fn provider_is_between(&self) -> (bool, bool) {
        let reader = self.from_provider.borrow();
        (reader.is_between_frames(), reader.is_between_messages())
    }

    /// Whether the frames of the provider can still be read.
    pub fn is_readable(&self) -> bool {
        self.from_provider.borrow().lost().is_none()
    }

    /// Reserves and checks, for as long as the session lasts. Gives the reason for the session's end.
    pub async fn refused(&self) -> Reject {
        loop {
            let todo = self.todo.borrow_mut().pop_front();
            match todo {
                None => self.news.notified().await,
                Some(todo) => {
                    if let Err(reject) = self.carry_out(todo).await {
                        return reject;
                    }
                }
            }
        }
    }

    /// The connection has ended: what is under way is estimated, and what has not begun is given back.
    pub fn end(&self) {
        let mut inner = self.inner.borrow_mut();
        // The first event of the oldest request may have been on its way.
        let mut may_have_begun = true;
        if let Some(observed) = inner.heard.finish() {
            may_have_begun = false;
            let started = inner.started.take();
            self.settle(&mut inner, started.as_deref(), observed);
        }
        let can_hear = self.is_readable() && !self.lost.get();
        while let Some(open) = inner.open.pop_front() {
            let usage = match (can_hear, std::mem::take(&mut may_have_begun)) {
                // Nobody knows what has begun. A response that was not admitted was cut at once.
                (false, _) if open.is_held() || !demands::spends(&self.ask) => self.expected(open.model.as_deref(), &open.facts),
                (false, _) | (true, true) => Usage { input: self.expected(open.model.as_deref(), &open.facts).input, ..Usage::default() },
                (true, false) => {
                    open.give_back();
                    continue;
                }
            };
            let observed = Observed { usage, source: UsageSource::Estimated, ..Observed::default() };
            self.settle(&mut inner, Some(&open), observed);
        }
    }

    async fn carry_out(&self, todo: Todo) -> Result<(), Reject> {
        let ask = &*self.ask;
        match todo {
            Todo::Reserve(open) => {
                let Some(demands) = self.demands(open.model.as_deref(), Some(&open.facts)) else { return Ok(()) };
                let lease = demands.reserve_response(ask).await?;
                let mut reserved = open.lease.borrow_mut();
                match *reserved {
                    Reserved::Over => lease.refund(),
                    _ => *reserved = Reserved::Held(Box::new(lease)),
                }
                Ok(())
            }
            Todo::Check(model) => match self.demands(model.as_deref(), None) {
                Some(demands) => demands.look_again(ask).await,
                None => Ok(()),
            },
            Todo::Lost(lost) => {
                tracing::warn!(%lost, "the events of a WebSocket session are read no further");
                match demands::refuses_unmetered(ask) {
                    true => Err(Reject::Unmetered(UNREADABLE.into())),
                    false => {
                        demands::tell_unmetered_work(ask, UNREADABLE);
                        Ok(())
                    }
                }
            }
        }
    }

    /// The demands of a response by `model`. Without `facts`: of a response that may be asked for next.
    fn demands(&self, model: Option<&str>, facts: Option<&Facts>) -> Option<Demands> {
        let ask = &*self.ask;
        let mut demands = Demands::at(ask, ask.route()?, &self.provider(), model);
        if let Some(facts) = facts {
            demands.expect(ask, ask.route()?, model, &provider::expected_answer(self.expected(model, facts), facts));
        }
        Some(demands)
    }

    /// The usage that is expected of a response by `model`, in its tokens.
    fn expected(&self, model: Option<&str>, facts: &Facts) -> Usage {
        let usage = provider::expected_usage(Operation::Responses, facts);
        Usage { input: self.ask.proxy.shared.ratios.of(model).prompt(usage.input), ..usage }
    }

    /// The provider that answers.
    fn provider(&self) -> Arc<str> {
        let fallen = self.ask.tries.fallback.borrow().as_ref().map(|fallen| fallen.to.clone());
        fallen.or_else(|| self.ask.call().map(|call| call.provider.clone())).unwrap_or_default()
    }

    fn do_later(&self, todo: Todo) {
        self.todo.borrow_mut().push_back(todo);
        self.news.notify_one();
    }

    fn is_lost(&self, lost: Lost) {
        if !self.lost.replace(true) {
            self.do_later(Todo::Lost(lost));
        }
    }

    fn creates(&self, inner: &mut Inner, create: Create) {
        if let Some(model) = create.facts.model.as_deref() {
            inner.model = Some(model.into());
        }
        if inner.open.len() == MOST_OPEN {
            return;
        }
        let Create { facts, event_id } = create;
        let open = Rc::new(Open { model: inner.model.clone(), facts, event_id, lease: RefCell::new(Reserved::Asked) });
        inner.open.push_back(open.clone());
        if demands::spends(&self.ask) {
            self.do_later(Todo::Reserve(open));
        }
    }

    fn told(&self, inner: &mut Inner, told: Told) {
        match told {
            Told::Failed(failed) => match inner.at_fault(self.session, &failed) {
                AtFault::Asked(at) => {
                    if let Some(open) = inner.open.remove(at) {
                        open.give_back();
                    }
                }
                AtFault::UnderWay => {
                    if let Some(observed) = inner.heard.fail(&failed) {
                        let started = inner.started.take();
                        self.settle(inner, started.as_deref(), observed);
                    }
                }
                AtFault::Nothing => {}
            },
            Told::Ended(observed) => {
                let started = inner.started.take();
                self.settle(inner, started.as_deref(), *observed);
            }
            Told::Transcribed(observed) => {
                let model = inner.heard.transcriber().map(Arc::from);
                self.charge(model, None, Usage::default(), Instant::now(), *observed);
            }
        }
    }

    /// Charges a response.
    fn settle(&self, inner: &mut Inner, open: Option<&Open>, mut observed: Observed) {
        inner.asked.answered(observed.usage.total_output());
        observed.terms = observed.terms.or(open.map(|open| open.facts.terms).unwrap_or_default());
        let lease = open.and_then(|open| match open.lease.replace(Reserved::Over) {
            Reserved::Held(lease) => Some(*lease),
            Reserved::Asked | Reserved::Over => None,
        });
        let model = open.and_then(|open| open.model.clone()).or_else(|| inner.model.clone());
        let model = model.or_else(|| inner.heard.model().map(Arc::from));
        let expected = open.map(|open| self.expected(open.model.as_deref(), &open.facts)).unwrap_or_default();
        let began = inner.began.take().unwrap_or_else(Instant::now);
        self.charge(model, lease, expected, began, observed);
    }

    fn charge(&self, model: Option<Arc<str>>, lease: Option<Lease>, expected: Usage, began: Instant, observed: Observed) {
        let ask = &self.ask;
        let (Some(call), Some(route)) = (ask.call(), ask.route()) else { return };
        let provider = self.provider();
        let asked = model.as_deref().or(observed.model.as_deref());
        let demands = Demands::at(ask, route, &provider, asked);
        let payers = Payers::led_by(Payer::of(ask, call, demands.own())).0;
        let order = Order {
            provider: provider.clone(),
            model: model.clone(),
            route: route.name.clone(),
            inbound: None,
            flavor: call.flavor(),
            operation: self.session.as_str(),
            unattributed: call.join.is_unattributed(),
            expected,
            expected_cost: None,
        };
        Bill::open(ask.clone(), payers, lease, provider, model.clone()).response(order, began, observed);
        if demands::spends(ask) {
            self.do_later(Todo::Check(model));
        }
    }
}

impl Open {
    /// Whether its reservation is held.
    fn is_held(&self) -> bool {
        matches!(*self.lease.borrow(), Reserved::Held(_))
    }

    /// Nothing was done for it.
    fn give_back(&self) {
        if let Reserved::Held(lease) = self.lease.replace(Reserved::Over) {
            lease.refund();
        }
    }
}

/// What an `error` event is about.
enum AtFault {
    /// The request at this place among those that have not begun.
    Asked(usize),
    /// The response under way, which has ended with it.
    UnderWay,
    /// Another event of the app.
    Nothing,
}

impl Inner {
    /// Takes a part of a message of the provider. The oldest request begins with the first event of a response.
    fn hear(&mut self, part: websocket::Part<'_>) -> Option<Told> {
        let Self { asked, heard, open, started, began, .. } = self;
        heard.feed(part, &mut || {
            *started = open.pop_front();
            *began = Some(Instant::now());
            started.as_ref().map_or_else(|| asked.unasked(), |open| open.facts.estimated_input)
        })
    }

    /// Finds what an error is about: the event that it names, or else the one that it must mean.
    fn at_fault(&self, session: Session, failed: &ErrorEvent) -> AtFault {
        let under_way = self.heard.is_under_way();
        if let Some(id) = &failed.of {
            let is = |open: &Rc<Open>| open.event_id.as_ref() == Some(id);
            if let Some(at) = self.open.iter().position(is) {
                return AtFault::Asked(at);
            }
            // A Realtime response ends with an event of its own.
            if session == Session::Responses && under_way && self.started.as_ref().is_some_and(is) {
                return AtFault::UnderWay;
            }
        }
        let nameless = self.open.iter().position(|open| open.event_id.is_none());
        let waits = match session {
            Session::Realtime if failed.of.is_some() || under_way && !failed.is_busy => None,
            Session::Realtime => nameless,
            // The app sends requests alone. The provider need not name them.
            Session::Responses if failed.of.is_some() => nameless,
            Session::Responses => Some(0).filter(|_| !self.open.is_empty()),
        };
        match waits {
            Some(at) if !under_way || failed.refuses => AtFault::Asked(at),
            _ if under_way && session == Session::Responses => AtFault::UnderWay,
            _ => AtFault::Nothing,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
