//! The money of a model call: the reservation for the next try, and the payers.
//!
//! Each try has a reservation of its own, made for its target, key and model. A try that cost nothing leaves its reservation to
//! the next try. A try that may have been billed keeps its reservation: the next try reserves anew, or is not made.

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
    /// The reservation for the next try; `None`: the last try has kept it.
    lease: Option<Lease>,
}

impl Funds {
    /// The funds of a model call. `exchange` takes the first seat among the payers. `None`: the request is no model call.
    pub fn of(exchange: &mut Exchange, demands: &Demands) -> Option<Self> {
        let ask = exchange.ask.clone();
        ask.call().map(|call| demands::tell_unmetered(&ask, call))?;
        let (payers, seat) = Payers::led_by(Payer::of(&ask, ask.call()?, demands.own()));
        exchange.seat = Some(seat);
        Some(Self { payers, lease: Some(exchange.take_funds().unwrap_or_default()) })
    }

    /// The payers.
    pub fn payers(&self) -> &Arc<Payers> {
        &self.payers
    }

    /// Opens the bill of the next try. The bill takes the reservation.
    pub fn open_bill(&mut self, ask: &Rc<Ask>, provider: &LiveProvider, model: Option<&Arc<str>>) -> Bill {
        Bill::open(ask.clone(), self.payers.clone(), self.lease.take(), provider.name.clone(), model.cloned())
    }

    /// Puts back the reservation of a try that cost nothing, for the next try.
    pub fn put_back(&mut self, lease: Option<Lease>) {
        self.lease = lease;
    }

    /// Reserves for one more try at the same target, if the last try has kept its reservation.
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

    /// Gives back the reservation at one target and reserves at the next, under the next one's key, provider, model and price.
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
    /// Gives back a reservation that no try has used.
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.refund();
        }
    }
}
