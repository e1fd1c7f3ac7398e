//! Work that goes on after its answer: its order and its payers.

use std::sync::Arc;

use super::payer::Payers;
use crate::{policy::limits::Lease, usage::Usage};

/// The order of a model call, as the books name it. A work that goes on after its answer keeps the order of the call that began it,
/// also when another call polls it.
#[derive(Debug, Clone)]
pub struct Order {
    /// The provider that was asked.
    pub provider: Arc<str>,
    /// The model that was asked for.
    pub model: Option<Arc<str>>,
    /// The route of the call.
    pub route: Arc<str>,
    /// The inbound route that caused the call, where the payer's request ran at another replica. `None`: the payer's cause tells.
    pub inbound: Option<Arc<str>>,
    /// `gen_ai.provider.name` of the wire format.
    pub flavor: &'static str,
    /// The operation, in the word of metrics.
    pub operation: &'static str,
    /// Whether no inbound request is known to have caused the call.
    pub unattributed: bool,
    /// The tokens that it was expected to use at most.
    pub expected: Usage,
    /// The nano-dollars that work which goes on was expected to cost at most; `None`: nobody knows.
    pub expected_cost: Option<u64>,
}

/// The payment for work that goes on after its answer.
#[derive(Debug)]
pub struct Pledge {
    /// The payers.
    pub payers: Arc<Payers>,
    /// The reservation.
    pub lease: Option<Lease>,
    /// The order.
    pub order: Order,
    /// The provider's id of the work.
    pub id: Box<str>,
}
