//! Charges for ended work that wait for the replicas' book. The client has its answer; the charge comes a moment later.

use std::{cell::RefCell, collections::VecDeque};

use tokio::sync::Notify;

use super::{super::pledge::Pledge, Bill};
use crate::{
    clock::Instant,
    policy::limits::Lease,
    provider::{Due, Observed, Work, batch},
    proxy::book::{self, Owed},
    usage::{Usage, UsageSource},
};

/// Waiting charges at most; further ones go by this process's own book.
const MOST: usize = 1_024;

/// Charges that wait for the replicas' book, in order. Belongs to a worker.
#[derive(Default)]
pub struct Lates {
    waiting: RefCell<VecDeque<Late>>,
    news: Notify,
}

impl Lates {
    /// Adds a charge at the end.
    pub(super) fn put(&self, late: Late) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < MOST {
            waiting.push_back(late);
            self.news.notify_one();
        }
    }

    /// Waits until there is a charge.
    pub async fn some(&self) {
        self.news.notified().await;
    }

    /// Asks the book about all waiting charges and makes them. The future must not be dropped half-way: the book may have been told.
    pub async fn settle(&self) {
        while let Some(late) = self.next() {
            late.settle().await;
        }
    }

    /// Charges all that wait by this process's own book: at the end nobody is left to ask another.
    pub fn give_up(&self) {
        while let Some(late) = self.next() {
            drop(late);
        }
    }

    fn next(&self) -> Option<Late> {
        self.waiting.borrow_mut().pop_front()
    }
}

/// An ended work that is to be charged. If it is dropped before the replicas' book was asked, this process's own book decides.
pub struct Late {
    bill: Bill,
    observed: Observed,
    /// The pledge of a work that this process has forgotten.
    forgotten: Option<Pledge>,
    /// The usage of a batch.
    batch: Option<batch::Used>,
    /// Whether the work was deleted, or mentioned among others: a caller who does that pays for nobody else.
    only_known: OnlyKnown,
    done: bool,
}

/// Whether a work whose payer is unknown is charged to the caller who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnlyKnown {
    /// It is.
    No,
    /// The work was deleted: nobody can ask about it again.
    Deleted,
    /// The work was mentioned among others: a later question about it is charged.
    Listed,
}

impl Late {
    /// The work whose end `bill` has seen.
    pub(super) fn of(bill: &mut Bill, observed: &Observed) -> Self {
        Self { bill: bill.apart(), observed: observed.clone(), forgotten: None, batch: None, only_known: OnlyKnown::No, done: false }
    }

    /// A forgotten work: no answer will state its usage.
    pub(super) fn forgotten(bill: &Bill, pledge: Pledge) -> Self {
        let observed = Observed {
            usage: pledge.order.expected,
            source: UsageSource::Estimated,
            work: Some(Work::Ended(pledge.id.clone())),
            ..Observed::default()
        };
        Self { bill: bill.beside(), observed, forgotten: Some(pledge), batch: None, only_known: OnlyKnown::No, done: false }
    }

    /// A work that the app has deleted: no answer will state its usage. It is charged as it was reserved.
    pub(super) fn deleted(bill: &Bill, id: &str) -> Self {
        // All of the expected output: the smaller of the two counts.
        let usage = Usage { output: u64::MAX, ..Usage::default() };
        let observed = Observed { usage, source: UsageSource::Estimated, work: Some(Work::Ended(id.into())), ..Observed::default() };
        Self { bill: bill.beside(), observed, forgotten: None, batch: None, only_known: OnlyKnown::Deleted, done: false }
    }

    /// A batch that has ended.
    pub(super) fn batch(bill: &Bill, id: &str, used: batch::Used) -> Self {
        let observed = Observed { work: Some(Work::Ended(book::batch(id))), ..Observed::default() };
        Self { bill: bill.beside(), observed, forgotten: None, batch: Some(used), only_known: OnlyKnown::No, done: false }
    }

    /// A batch that a list tells to have ended.
    pub(super) fn listed(bill: &Bill, id: &str, used: batch::Used) -> Self {
        let mut late = Self::batch(bill, id, used);
        late.only_known = OnlyKnown::Listed;
        late
    }

    /// Asks the book and charges.
    pub async fn settle(mut self) {
        let ask = self.bill.ask.clone();
        if let Some(Work::Ended(id)) = &self.observed.work {
            let (works, provider, now) = (&ask.proxy.shared.works, &self.bill.provider, Instant::now());
            let owed = match self.only_known {
                OnlyKnown::Listed => works.end_if_known(provider, id, now).await,
                OnlyKnown::No | OnlyKnown::Deleted => works.end(provider, id, now).await,
            };
            self.done = true;
            self.charge(owed);
        }
    }

    fn charge(&mut self, owed: Owed) {
        if let Some(pledge) = self.forgotten.take() {
            return match owed {
                Owed::Charged(_) => pledge.lease.map_or((), Lease::keep),
                _ => self.bill.conclude_at(pledge.order.expected_cost, &pledge.payers, pledge.lease, &pledge.order, &self.observed),
            };
        }
        let ask = self.bill.ask.clone();
        let Some(call) = ask.call() else { return };
        if let Some(used) = self.batch.take() {
            return self.bill.settle_batch(call, &used, owed);
        }
        match owed {
            Owed::Here(Due::FromWhoAsks) if self.only_known == OnlyKnown::Deleted => {}
            owed => self.bill.settle_owed(call, &mut self.observed, owed),
        }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(Work::Ended(id)) = &self.observed.work {
            let ask = self.bill.ask.clone();
            let (works, provider, now) = (&ask.proxy.shared.works, &self.bill.provider, Instant::now());
            let owed = match self.only_known {
                OnlyKnown::Listed => works.end_here_if_known(provider, id, now),
                OnlyKnown::No | OnlyKnown::Deleted => works.end_here(provider, id, now),
            };
            self.charge(owed);
        }
    }
}
