//! The expected usage of a call before it is sent. Pure.

use super::{Facts, Ratios};
use crate::{config::Operation, usage::Usage};

/// Expected tokens of output if the request sets no bound of its own.
const UNBOUNDED_OUTPUT: u64 = 1024;

/// The tokens that limits reserve for a call: its estimated input, and as much output as the call allows.
pub fn expected_usage(operation: Operation, facts: &Facts) -> Usage {
    let output = match operation {
        Operation::Embeddings => 0,
        _ => facts.max_output.unwrap_or(UNBOUNDED_OUTPUT).saturating_mul(facts.n),
    };
    Usage { input: facts.estimated_input, output, ..Usage::default() }
}

/// The same usage in the tokens of `model`: the model's seed corrects the prompt, learned ratios do not.
pub fn expected_at_first(operation: Operation, facts: &Facts, model: Option<&str>) -> Usage {
    let usage = expected_usage(operation, facts);
    Usage { input: Ratios::default().of(model).prompt(usage.input), ..usage }
}
