//! The bill of one response of a WebSocket session.

use super::Bill;
use crate::{
    clock::Instant,
    provider::{Observed, Work},
    proxy::pledge::{Order, Pledge},
    usage::{Usage, UsageSource},
};

impl Bill {
    /// Settles the bill of a response that began at `began`. A response in the background that goes on is pledged: a poll states its
    /// usage.
    pub fn response(mut self, order: Order, began: Instant, mut observed: Observed) {
        self.settled = true;
        self.began = began;
        let lease = self.lease.take();
        let works = &self.ask.proxy.shared.works;
        match &observed.work {
            Some(Work::GoesOn(id)) => {
                let order = Order { expected_cost: self.price_of_expected(&order, observed.terms), ..order };
                let pledge = Pledge { payers: self.payers.clone(), lease, order, id: id.clone() };
                return self.pledge(id, pledge);
            }
            Some(Work::Ended(id)) => works.charged(&self.provider, id, Instant::now()),
            None => {}
        }
        if observed.source == UsageSource::Missing && observed.error.is_none() {
            observed.usage = Usage { input: order.expected.input, ..Usage::default() };
            observed.source = UsageSource::Estimated;
        }
        self.conclude(&self.payers, lease, &order, &observed);
    }
}
