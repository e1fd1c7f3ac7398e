//! The money of a model call: what is reserved for the next try, and who pays.
//!
//! Each try has a reservation of its own, made for the target, key and model that it asks. A try that cost nothing leaves its
//! reservation to the next one. A try that may have been billed takes it along: the next try reserves anew, or is not made.

use std::{rc::Rc, sync::Arc};

use super::{
    ask::Ask,
    bill::Bill,
    demands::{self, Demands},
    exchange::Exchange,
    live::{LiveProvider, LiveRoute},
    payer::{Payer, Payers},
};
use crate::{policy::limits::Lease, reject::Reject};

/// The money of a model call.
pub struct Funds {
    payers: Arc<Payers>,
    /// `None`: the last try has taken it.
    lease: Option<Lease>,
}

impl Funds {
    /// What pays for the tries of a model call: `exchange` takes the first place among those who may be charged. `None`: it is none.
    pub fn of(exchange: &mut Exchange, demands: &Demands) -> Option<Self> {
        let ask = exchange.ask.clone();
        ask.call().map(|call| demands::tell_unmetered(&ask, call))?;
        let (payers, seat) = Payers::led_by(Payer::of(&ask, ask.call()?, demands.own()));
        exchange.seat = Some(seat);
        Some(Self { payers, lease: Some(exchange.take_funds().unwrap_or_default()) })
    }

    /// Those who may be charged.
    pub fn payers(&self) -> &Arc<Payers> {
        &self.payers
    }

    /// The bill of the next try; it takes the reservation along.
    pub fn open_bill(&mut self, ask: &Rc<Ask>, provider: &LiveProvider, model: Option<&Arc<str>>) -> Bill {
        Bill::open(ask.clone(), self.payers.clone(), self.lease.take(), provider.name.clone(), model.cloned())
    }

    /// A try cost nothing: its reservation serves the next one.
    pub fn put_back(&mut self, lease: Option<Lease>) {
        self.lease = lease;
    }

    /// Reserves for one more try at the same target, if the last one has taken the reservation along.
    ///
    /// # Errors
    /// A limit has no room for it.
    pub async fn again(&mut self, ask: &Ask, route: &LiveRoute, provider: &LiveProvider, model: Option<&str>) -> Result<(), Reject> {
        if self.lease.is_none() {
            let demands = Demands::at(ask, route, &provider.name, model);
            self.lease = Some(demands.reserve_again(ask).await?);
        }
        Ok(())
    }

    /// Gives back what was reserved at one target and reserves at the next: under its own key, provider, model and price.
    ///
    /// # Errors
    /// A limit has no room for it, or the model has no price and needs one: the target is passed over.
    pub async fn move_to(&mut self, ask: &Ask, route: &LiveRoute, provider: &LiveProvider, model: Option<&str>) -> Result<(), Reject> {
        if let Some(lease) = self.lease.take() {
            lease.refund();
        }
        let demands = Demands::at(ask, route, &provider.name, model);
        self.lease = Some(demands.reserve_moved(ask).await?);
        Ok(())
    }
}

impl Drop for Funds {
    /// What no try has used was not needed.
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.refund();
        }
    }
}
