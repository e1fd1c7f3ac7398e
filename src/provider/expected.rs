//! What a call is expected to use before it is sent. Pure.

use super::Facts;
use crate::{config::Operation, usage::Usage};

/// Tokens of output that are expected where the request sets no bound of its own.
const UNBOUNDED_OUTPUT: u64 = 1024;

/// What limits reserve for a call: its input as estimated, and as much output as it allows.
pub fn expected_usage(operation: Operation, facts: &Facts) -> Usage {
    let output = match operation {
        Operation::Embeddings => 0,
        _ => facts.max_output.unwrap_or(UNBOUNDED_OUTPUT).saturating_mul(facts.n),
    };
    Usage { input: facts.estimated_input, output, ..Usage::default() }
}
