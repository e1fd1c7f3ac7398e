//! The bills of work that goes on after its answer: a background response, a batch. Such a work is charged once, to the payer who began
//! it, when an answer states its usage.

use std::{rc::Rc, sync::Arc};

use super::{Bill, late::Late};
use crate::{
    clock::Instant,
    policy::limits::Lease,
    provider::{Billed, Due, Observed, Work},
    proxy::{
        book::Owed,
        demands::Demands,
        model::ModelCall,
        payer::{Payer, Payers},
        pledge::{Order, Pledge},
    },
    usage::{Usage, UsageSource},
};

impl Bill {
    /// Settles an answer whose work goes on, or a poll of such a work. The work's usage is charged once, to the payer who began it, when
    /// the first answer states it.
    pub(super) fn settle_work(&mut self, call: &ModelCall, observed: &mut Observed) {
        let ask = self.ask.clone();
        let works = &ask.proxy.shared.works;
        let now = Instant::now();
        match &observed.work {
            Some(Work::GoesOn(id)) if call.shape.billed == Billed::ByAnswer => {
                let order = self.order(call);
                let order = Order { expected_cost: self.price_of_expected(&order, observed.terms), ..order };
                let pledge = Pledge { payers: self.payers.clone(), lease: self.lease.take(), order, id: id.clone() };
                self.pledge(id, pledge);
            }
            // The replicas' book is asked after the request.
            Some(Work::Ended(_)) if works.is_shared() => ask.proxy.late.put(Late::of(self, observed)),
            Some(Work::Ended(id)) => {
                let owed = works.end_here(&self.provider, id, now);
                self.settle_owed(call, observed, owed);
            }
            _ => self.settle_owed(call, observed, Owed::Charged(None)),
        }
    }

    /// Notes a work that goes on, with its payers. The request itself is no longer in flight.
    pub(super) fn pledge(&self, id: &str, pledge: Pledge) {
        let pledge = Pledge { lease: pledge.lease.map(Lease::landed), ..pledge };
        match self.ask.proxy.shared.works.begin(id, pledge, Instant::now()) {
            Ok(forgotten) => forgotten.into_iter().for_each(|pledge| self.forget(pledge)),
            // The work has its payer already: a repeated call is the same work.
            Err(known) => known.lease.map_or((), Lease::refund),
        }
    }

    /// Charges an ended work to its payer.
    pub(super) fn settle_owed(&mut self, call: &ModelCall, observed: &mut Observed, owed: Owed) {
        // A poll has reserved only its own request.
        if let Some(own) = self.lease.take() {
            own.keep();
        }
        match owed {
            Owed::Here(Due::From(Pledge { payers, lease, order, .. })) => {
                without_figures(observed, &order);
                self.conclude(&payers, lease, &order, observed);
            }
            Owed::Abroad(said) => {
                let (payers, lease, order) = self.abroad(call, said);
                without_figures(observed, &order);
                self.conclude(&payers, lease, &order, observed);
            }
            Owed::Here(Due::FromWhoAsks) => self.conclude(&self.who_asks(call, observed), None, &self.order(call), observed),
            Owed::Charged(Some(Pledge { lease: Some(lease), order, .. })) => {
                without_figures(observed, &order);
                let nano_usd = self.price(&order, observed).unwrap_or(0);
                lease.settle_here(observed.usage.total(), nano_usd, Instant::now());
            }
            Owed::Here(Due::Nothing) | Owed::Charged(_) => {}
        }
    }

    /// Moves the bill's reservation into a copy of the bill.
    pub(super) fn apart(&mut self) -> Self {
        let mut apart = self.beside();
        apart.lease = self.lease.take();
        apart
    }

    /// A copy of the bill, settled and without a reservation.
    pub(super) fn beside(&self) -> Self {
        let (ask, payers, provider, model) = (self.ask.clone(), self.payers.clone(), self.provider.clone(), self.model.clone());
        let (began, first_token) = (self.began, self.first_token);
        Self {
            ask,
            payers,
            lease: None,
            provider,
            model,
            began,
            first_token,
            reading: Rc::default(),
            sent: Rc::default(),
            upload: None,
            seen: None,
            settled: true,
        }
    }

    /// The payer of a work if it is unknown who began it: the caller who polls, under the limits' keys for the work's model.
    pub(super) fn who_asks(&self, call: &ModelCall, observed: &Observed) -> Arc<Payers> {
        let route = self.ask.route();
        let demands = route.map(|route| Demands::at(&self.ask, route, &self.provider, observed.model.as_deref()));
        Payers::led_by(Payer::of(&self.ask, call, demands.as_ref().and_then(Demands::own))).0
    }
}

/// Estimates a work that has ended without figures: it has read its prompt and written its answer.
fn without_figures(observed: &mut Observed, order: &Order) {
    if observed.source != UsageSource::Provider && observed.error.is_none() {
        let output = observed.usage.output.min(order.expected.output);
        observed.usage = Usage { input: order.expected.input, output, ..Usage::default() };
        observed.source = UsageSource::Estimated;
        observed.parts = Vec::new();
    }
}
