//! The state of one running mock: its books, its script, the requests it saw.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    clock::{Chance, Clock},
    usage::Usage,
};

use super::{
    Options,
    books::Books,
    faults::{Fault, Script},
    prompts::Prompts,
};

/// Most bytes of a request's body that are remembered.
const BODY_KEPT: usize = 16 * 1024;

/// The state that the connections of one mock share.
pub(super) struct Ledger {
    pub options: Options,
    pub clock: Clock,
    pub books: Mutex<Books>,
    pub script: Mutex<Script>,
    pub prompts: Prompts,
    seen: Mutex<VecDeque<Seen>>,
    serial: AtomicU64,
    chance: Mutex<Chance>,
}

/// A request that the mock saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// 1 for the first.
    pub serial: u64,
    /// Upper case.
    pub method: String,
    /// With the query; the value of `key` is hashed.
    pub path: String,
    /// In the order in which they came; credentials are hashed.
    pub headers: Vec<(String, String)>,
    /// The first 16 KiB.
    pub body: String,
    /// The fault of the call; empty: none.
    pub fault: String,
}

impl Seen {
    /// The first field of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn to_json(&self) -> Value {
        json!({"serial": self.serial, "method": self.method, "path": self.path, "headers": self.headers, "body": self.body, "fault": self.fault})
    }
}

impl Ledger {
    pub(super) fn new(options: Options, clock: Clock) -> Arc<Self> {
        let chance = Mutex::new(Chance::seeded(options.seed));
        Arc::new(Self {
            options,
            clock,
            books: Mutex::default(),
            script: Mutex::default(),
            prompts: Prompts::default(),
            seen: Mutex::default(),
            serial: AtomicU64::new(0),
            chance,
        })
    }

    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The fault of the next call without one of its own: from the script, or else by `fail_rate`.
    pub(super) fn next_fault(&self, overloaded: u16) -> Option<Fault> {
        if let Some(fault) = self.script.lock().next() {
            return Some(fault);
        }
        let rate = self.options.fail_rate;
        (rate > 0.0 && self.chance.lock().unit() < rate).then(|| Fault::of_status(overloaded))
    }

    pub(super) fn remembers(&self) -> bool {
        self.options.remember > 0
    }

    pub(super) fn remember(&self, mut seen: Seen, body: &[u8]) {
        seen.body = String::from_utf8_lossy(&body[..body.len().min(BODY_KEPT)]).into_owned();
        let mut log = self.seen.lock();
        if log.len() >= self.options.remember {
            log.pop_front();
        }
        log.push_back(seen);
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().iter().cloned().collect()
    }

    pub(super) fn seen_json(&self) -> Value {
        Value::Array(self.seen.lock().iter().map(Seen::to_json).collect())
    }

    pub(super) fn reset(&self) {
        self.books.lock().reset();
        self.script.lock().set([]);
        self.seen.lock().clear();
        self.prompts.clear();
    }
}

/// One request under way: counted from its head to the end of its answer, and billed at that end, whatever the end is.
pub(super) struct Ticket {
    ledger: Arc<Ledger>,
    bill: Option<Bill>,
    finished: bool,
}

struct Bill {
    model: String,
    credential: String,
    usage: Usage,
}

impl Ticket {
    pub(super) fn open(ledger: &Arc<Ledger>) -> Self {
        let mut books = ledger.books.lock();
        books.requests += 1;
        books.in_flight += 1;
        drop(books);
        Self { ledger: ledger.clone(), bill: None, finished: false }
    }

    /// Sets the bill of the request. A stream begins with no output and adds the tokens that it [sends](Self::sent).
    pub(super) fn charge(&mut self, model: &str, credential: &str, usage: Usage) {
        self.bill = Some(Bill { model: model.to_owned(), credential: credential.to_owned(), usage });
    }

    pub(super) fn sent(&mut self, tokens: u64) {
        if let Some(bill) = &mut self.bill {
            bill.usage.output += tokens;
        }
    }

    pub(super) fn fault(&self) {
        self.ledger.books.lock().faults += 1;
    }

    /// The answer has reached its planned end.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut books = self.ledger.books.lock();
        books.in_flight = books.in_flight.saturating_sub(1);
        if !self.finished {
            books.abandoned += 1;
        }
        if let Some(bill) = self.bill.take() {
            books.bill(&bill.model, &bill.credential, bill.usage);
        }
    }
}
