//! A value that the leader of a flight hands to its followers. The cache never reads the value: payment is not its business.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use super::flight::Flight;

/// The slot of the leader's value; filled once.
#[derive(Debug, Default)]
pub struct Carried(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Carried {
    /// Fills the slot; a second value is ignored.
    pub fn set(&self, carried: Arc<dyn Any + Send + Sync>) {
        let _ = self.0.set(carried);
    }
}

/// A way to the value of a flight's leader.
#[derive(Debug)]
pub struct Carrier(Arc<Flight>);

impl Carrier {
    /// The carrier of this flight.
    pub(super) fn of(flight: Arc<Flight>) -> Self {
        Self(flight)
    }

    /// The leader's value; `None` if the slot is empty or the value has another type.
    pub fn load<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.carried.0.get().cloned()?.downcast().ok()
    }
}
