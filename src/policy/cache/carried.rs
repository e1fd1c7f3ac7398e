//! What the leader of a flight hands to whoever joins it. The cache does not look at it: who pays is not its business.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
};

use super::flight::Flight;

/// A place for what is handed over; filled once.
#[derive(Debug, Default)]
pub struct Carried(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Carried {
    /// Fills the place; a second filling is ignored.
    pub fn set(&self, carried: Arc<dyn Any + Send + Sync>) {
        let _ = self.0.set(carried);
    }
}

/// Leads to what a flight's leader has handed over.
#[derive(Debug)]
pub struct Carrier(Arc<Flight>);

impl Carrier {
    /// Of this flight.
    pub(super) fn of(flight: Arc<Flight>) -> Self {
        Self(flight)
    }

    /// What the leader has handed over, if it is of this type.
    pub fn load<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0.carried.0.get().cloned()?.downcast().ok()
    }
}
