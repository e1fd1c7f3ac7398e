//! Work that has ended while the book that replicas share is asked about it: the client has its answer, and the charge comes a moment later.

use std::{cell::RefCell, collections::VecDeque};

use tokio::sync::Notify;

use super::{super::pledge::Pledge, Bill};
use crate::{
    clock::Instant,
    provider::{Observed, Work},
    proxy::book::Owed,
    usage::UsageSource,
};

/// Ends of works that wait; more go by the book of this process.
const MOST: usize = 1_024;

/// What waits for the replicas' book, in order. Belongs to a worker.
#[derive(Default)]
pub struct Lates {
    waiting: RefCell<VecDeque<Late>>,
    news: Notify,
}

impl Lates {
    /// Puts one more at the end.
    pub(super) fn put(&self, late: Late) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < MOST {
            waiting.push_back(late);
            self.news.notify_one();
        }
    }

    /// Waits until some wait.
    pub async fn some(&self) {
        self.news.notified().await;
    }

    /// Asks the book about all that wait, and charges them. Not to be given up half-way: the book may have been told.
    pub async fn settle(&self) {
        while let Some(late) = self.next() {
            late.settle().await;
        }
    }

    fn next(&self) -> Option<Late> {
        self.waiting.borrow_mut().pop_front()
    }
}

/// The end of a work that is to be charged. Dropped before the replicas' book has been asked, it goes by that of this process.
pub struct Late {
    bill: Bill,
    observed: Observed,
    /// Who pays for a work that this process has forgotten.
    forgotten: Option<Pledge>,
    done: bool,
}

impl Late {
    /// What `bill` has seen the end of.
    pub(super) fn of(bill: &mut Bill, observed: &Observed) -> Self {
        Self { bill: bill.apart(), observed: observed.clone(), forgotten: None, done: false }
    }

    /// What nobody will say the use of.
    pub(super) fn forgotten(bill: &Bill, pledge: Pledge) -> Self {
        let observed = Observed {
            usage: pledge.order.expected,
            source: UsageSource::Estimated,
            work: Some(Work::Ended(pledge.id.clone())),
            ..Observed::default()
        };
        Self { bill: bill.beside(), observed, forgotten: Some(pledge), done: false }
    }

    /// Asks the book and charges.
    pub async fn settle(mut self) {
        let ask = self.bill.ask.clone();
        if let Some(Work::Ended(id)) = &self.observed.work {
            let owed = ask.proxy.shared.works.end(&self.bill.provider, id, Instant::now()).await;
            self.done = true;
            self.charge(owed);
        }
    }

    fn charge(&mut self, owed: Owed) {
        let ask = self.bill.ask.clone();
        let Some(call) = ask.call() else { return };
        match (self.forgotten.take(), owed) {
            (Some(pledge), Owed::Charged(_)) => pledge.lease.map_or((), crate::policy::limits::Lease::keep),
            (Some(pledge), _) => self.bill.conclude(&pledge.payers, pledge.lease, &pledge.order, &self.observed),
            (None, owed) => self.bill.settle_owed(call, &mut self.observed, owed),
        }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(Work::Ended(id)) = &self.observed.work {
            let owed = self.bill.ask.proxy.shared.works.end_here(&self.bill.provider, id, Instant::now());
            self.charge(owed);
        }
    }
}
