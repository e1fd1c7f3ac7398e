//! The charges of a lease in the shared store, in a form that another replica can settle.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Inner, Limits, lease::Lease, shared::Hold};

/// A charge of tokens or dollars in the shared store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abroad {
    key: String,
    width: u64,
    reach: u64,
    slot: u64,
    reserved: u64,
    /// Nano-dollars, else tokens.
    money: bool,
}

impl Abroad {
    pub(super) fn of(hold: &Hold, reserved: u64, money: bool) -> Self {
        Self { key: hold.key.clone(), width: hold.width, reach: hold.reach, slot: hold.slot, reserved, money }
    }
}

/// The charges of another replica's lease.
#[derive(Debug)]
pub(super) struct Holds {
    inner: Arc<Inner>,
    all: Vec<Abroad>,
}

impl Holds {
    /// Corrects the charges to the true use.
    pub(super) fn settle(self, tokens: u64, nano_usd: u64) {
        let Some(sharing) = &self.inner.sharing else { return };
        for Abroad { key, width, reach, slot, reserved, money } in self.all {
            sharing.settle(Hold { key, width, reach, slot }, reserved, if money { nano_usd } else { tokens });
        }
    }
}

impl Limits {
    /// Another replica's lease, to be settled here. The lease holds nothing of the counters of this process.
    pub fn lease_abroad(&self, all: Vec<Abroad>) -> Lease {
        Lease::held_abroad(Holds { inner: self.inner.clone(), all })
    }
}
