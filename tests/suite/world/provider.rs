//! The proxy's way out: the pipes that stand for connections, how they fail, and the mock providers at their ends.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    rc::Rc,
};

use outrigger::{
    cli::mock::{Mock, Options, Seen},
    reject::Fault,
    upstream::{Dial, SendError, Stream, Target, connect::LocalFuture},
};

use super::{Origin, origin::PIPE};

/// Opens pipes to the app and the providers.
#[derive(Clone)]
pub struct Dials(Rc<Inner>);

struct Inner {
    app: Origin,
    providers: HashMap<String, Mock>,
    members: RefCell<HashMap<String, Origin>>,
    failing: RefCell<HashMap<String, VecDeque<Failing>>>,
}

/// How a connection fails to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Nobody listens.
    Refused,
    /// No answer, ever.
    Hang,
    /// A mistake of our own.
    Panic,
}

impl Dials {
    /// Leads to `app` and a mock for each name.
    pub fn new(app: Origin, names: impl Iterator<Item = String>) -> Self {
        let mock = |name| (name, Mock::unbound(Options { idle_close: None, ..Options::default() }));
        Self(Rc::new(Inner { app, providers: names.map(mock).collect(), members: RefCell::default(), failing: RefCell::default() }))
    }

    /// The scripted server behind the name of one member of the app.
    pub fn member(&self, target: &str) -> Origin {
        self.0.members.borrow_mut().entry(target.into()).or_default().clone()
    }

    /// The next connections to `target` fail so.
    pub fn fail(&self, target: &str, how: impl IntoIterator<Item = Failing>) {
        self.0.failing.borrow_mut().entry(target.into()).or_default().extend(how);
    }

    /// The mock behind a name.
    pub fn provider(&self, name: &str) -> Provider {
        Provider(self.0.providers.get(name).unwrap_or_else(|| panic!("no provider {name}")).clone())
    }
}

impl Dial for Dials {
    fn dial<'a>(&'a self, target: &'a Target, _: bool) -> LocalFuture<'a, Result<Stream, SendError>> {
        Box::pin(async move {
            let name = &*target.name;
            let failing = self.0.failing.borrow_mut().get_mut(name).and_then(VecDeque::pop_front);
            match failing {
                None => {}
                Some(Failing::Panic) => panic!("told to panic"),
                Some(Failing::Hang) => std::future::pending().await,
                Some(Failing::Refused) => {
                    let detail = format!("cannot connect to {name}: refused");
                    return Err(SendError { fault: Fault::Refused, detail, reused: false, unsent: true, timeout: None });
                }
            }
            let (ours, theirs) = tokio::io::duplex(PIPE);
            match self.0.providers.get(name) {
                Some(mock) => {
                    let mock = mock.clone();
                    tokio::task::spawn_local(async move { mock.serve(theirs).await });
                }
                None if name != "app" && !name.starts_with("scripted") => self.member(name).accept(theirs),
                None => self.0.app.accept(theirs),
            }
            Ok(Stream::Pipe(ours))
        })
    }
}

/// A mock provider.
pub struct Provider(Mock);

impl Provider {
    /// Faults for the next calls, one each.
    pub fn script<'a>(&self, faults: impl IntoIterator<Item = &'a str>) {
        self.0.script(faults).expect("faults");
    }

    /// What it saw, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.requests()
    }

    /// What it billed: calls, tokens and nano-dollars.
    pub fn billed(&self) -> (u64, u64, u64) {
        let books = self.0.books();
        (books.total.calls, books.total.usage.total(), books.total.nano_usd)
    }

    /// Forgets what it saw and billed.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// Answers that nobody waited for.
    pub fn abandoned(&self) -> u64 {
        self.0.books().abandoned
    }
}
