//! A WebSocket to a model, watched while its bytes pass: each response is charged when its last event has passed, and the session is
//! refused when a limit is spent.
//!
//! The watch reads beside the relay and never delays it. A response that the app asks for is reserved; its charge settles the
//! reservation. What is under way when the connection ends is estimated.

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
    body::websocket::{Deflate, Lost, Reader},
    clock::Instant,
    config::Operation,
    http1::Fields,
    policy::limits::{Lease, keys},
    provider::{
        self, Facts, Observed, Shape,
        session::{Create, FromApp, FromProvider, Session, Told},
    },
    reject::Reject,
    upstream::headers,
    usage::{Usage, UsageSource},
};

/// The name of a session in `outrigger_unmetered_calls_total`.
const UNREADABLE: &str = "a WebSocket session whose frames cannot be read";

/// Most responses that are asked for and have not ended. Further responses are not reserved.
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
    inner: RefCell<Inner>,
    todo: RefCell<VecDeque<Todo>>,
    news: Notify,
    lost: Cell<bool>,
}

struct Inner {
    from_app: Reader,
    from_provider: Reader,
    asked: FromApp,
    heard: FromProvider,
    /// Responses that are asked for, the oldest first.
    open: VecDeque<Rc<Open>>,
    /// The last model that the app asked for.
    model: Option<Arc<str>>,
    /// When the response under way began.
    began: Option<Instant>,
}

/// A response that is asked for.
struct Open {
    facts: Facts,
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
            from_app: Reader::new(client),
            from_provider: Reader::new(server),
            asked: FromApp::new(session),
            heard: FromProvider::new(session),
            open: VecDeque::new(),
            model: ask.call().and_then(|call| call.model.clone()),
            began: None,
        };
        let watch = Rc::new(Self {
            ask: ask.clone(),
            session,
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

    /// Bytes of the app have passed.
    pub fn sent(&self, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        let Inner { from_app, asked, .. } = &mut *inner;
        let mut creates = Vec::new();
        from_app.feed(bytes, |part| creates.extend(asked.feed(part)));
        let lost = from_app.lost();
        creates.into_iter().for_each(|create| self.creates(&mut inner, create));
        drop(inner);
        if let Some(lost) = lost {
            self.is_lost(lost);
        }
    }

    /// Bytes of the provider have passed.
    pub fn heard(&self, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        let Inner { from_provider, heard, .. } = &mut *inner;
        let mut told = Vec::new();
        from_provider.feed(bytes, |part| told.extend(heard.feed(part)));
        let lost = from_provider.lost();
        told.into_iter().for_each(|told| self.told(&mut inner, told));
        if inner.heard.is_under_way() && inner.began.is_none() {
            inner.began = Some(Instant::now());
        }
        drop(inner);
        if let Some(lost) = lost {
            self.is_lost(lost);
        }
    }

    /// Whether another frame of the app may follow the bytes that have passed.
    pub fn app_is_between_frames(&self) -> bool {
        self.inner.borrow().from_app.is_between_frames()
    }

    /// Whether another frame of the provider may follow the bytes that have passed, and another message.
    pub fn provider_is_between(&self) -> (bool, bool) {
        let inner = self.inner.borrow();
        (inner.from_provider.is_between_frames(), inner.from_provider.is_between_messages())
    }

    /// Whether the frames of the provider can still be read.
    pub fn is_readable(&self) -> bool {
        self.inner.borrow().from_provider.lost().is_none()
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

    /// The connection has ended: what is under way is estimated.
    pub fn end(&self) {
        let mut inner = self.inner.borrow_mut();
        if let Some(observed) = inner.heard.finish() {
            let open = inner.next_open();
            self.settle(&mut inner, open.as_deref(), observed);
        }
        while let Some(open) = inner.next_open() {
            // A response that was not admitted was cut at once: it has cost its prompt at most.
            let admitted = matches!(*open.lease.borrow(), Reserved::Held(_)) || !demands::spends(&self.ask);
            let usage = if admitted {
                self.expected(open.model.as_deref(), &open.facts)
            } else {
                Usage { input: open.facts.estimated_input, ..Usage::default() }
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
                let lease = demands.reserve_again(ask).await?;
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
            demands.expect(ask, ask.route()?, model, self.expected(model, facts), facts.terms);
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
        let open = Rc::new(Open { model: inner.model.clone(), facts: create.facts, lease: RefCell::new(Reserved::Asked) });
        if inner.open.len() == MOST_OPEN {
            return;
        }
        if inner.open.is_empty() {
            inner.heard.prompt = open.facts.estimated_input;
        }
        inner.open.push_back(open.clone());
        if demands::spends(&self.ask) {
            self.do_later(Todo::Reserve(open));
        }
    }

    fn told(&self, inner: &mut Inner, told: Told) {
        match told {
            Told::Refused => {
                if let Some(Reserved::Held(lease)) = inner.next_open().map(|open| open.lease.replace(Reserved::Over)) {
                    lease.refund();
                }
            }
            Told::Ended(observed) => {
                let open = inner.next_open();
                self.settle(inner, open.as_deref(), *observed);
            }
            Told::Transcribed(observed) => {
                let model = inner.heard.transcriber().map(Arc::from);
                self.charge(model, None, Usage::default(), Instant::now(), *observed);
            }
        }
    }

    /// Charges a response.
    fn settle(&self, inner: &mut Inner, open: Option<&Open>, mut observed: Observed) {
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
            flavor: call.flavor(),
            operation: self.session.as_str(),
            unattributed: call.join.is_unattributed(),
            expected,
        };
        Bill::open(ask.clone(), payers, lease, provider, model.clone()).response(order, began, observed);
        if demands::spends(ask) {
            self.do_later(Todo::Check(model));
        }
    }
}

impl Inner {
    /// Takes the oldest response that is asked for. The prompt of the next one counts from now on.
    fn next_open(&mut self) -> Option<Rc<Open>> {
        let open = self.open.pop_front();
        self.heard.prompt = self.open.front().map_or(0, |open| open.facts.estimated_input);
        open
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
