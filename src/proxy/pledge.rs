//! Work that goes on behind its answer: what was ordered, and who stands ready to pay for it.

use std::sync::Arc;

use super::payer::Payers;
use crate::{policy::limits::Lease, usage::Usage};

/// What a model call has ordered, as books name it: of a work that goes on behind its answer, that of the call which began it,
/// whoever asks about it later.
#[derive(Debug, Clone)]
pub struct Order {
    /// The provider that was asked.
    pub provider: Arc<str>,
    /// The model that was asked for.
    pub model: Option<Arc<str>>,
    /// The route of the call.
    pub route: Arc<str>,
    /// `gen_ai.provider.name` of the wire format.
    pub flavor: &'static str,
    /// The operation, in the word of metrics.
    pub operation: &'static str,
    /// Nothing tells which inbound request caused the call.
    pub unattributed: bool,
    /// What it was expected to use at most.
    pub expected: Usage,
}

/// What stands ready to pay for work that goes on behind its answer.
#[derive(Debug)]
pub struct Pledge {
    /// Those who may be charged.
    pub payers: Arc<Payers>,
    /// What was reserved.
    pub lease: Option<Lease>,
    /// What was ordered.
    pub order: Order,
    /// The provider's id of it.
    pub id: Box<str>,
}
