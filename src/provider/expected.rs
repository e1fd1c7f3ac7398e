//! The expected usage of a call before it is sent. Pure.

use super::{Facts, Observed, Ratios};
use crate::{
    config::Operation,
    usage::{Units, Usage, UsageSource},
};

/// Expected tokens of output if the request sets no bound of its own.
const UNBOUNDED_OUTPUT: u64 = 1024;

/// Tokens of sound for a token of text that is spoken: about 21 in a second, in which 15 characters are said.
const SPEECH: u64 = 6;

/// The tokens that limits reserve for a call: its estimated input, and as much output as the call allows.
pub fn expected_usage(operation: Operation, facts: &Facts) -> Usage {
    let output = match operation {
        Operation::Embeddings => 0,
        // What is said has fewer tokens as text than as sound.
        Operation::Audio if facts.expected_millis > 0 => facts.estimated_input,
        Operation::Audio => facts.estimated_input.saturating_mul(SPEECH).max(UNBOUNDED_OUTPUT),
        _ => facts.max_output.unwrap_or(UNBOUNDED_OUTPUT).saturating_mul(facts.n),
    };
    Usage { input: facts.estimated_input, output, ..Usage::default() }
}

/// The units beside tokens that limits reserve for a call: the time of its sound.
pub fn expected_units(facts: &Facts) -> Units {
    Units { audio_millis: facts.expected_millis, ..Units::default() }
}

/// The answer that a call with these facts is expected to get, if it is expected to use `usage`.
pub fn expected_answer(usage: Usage, facts: &Facts) -> Observed {
    Observed { usage, units: expected_units(facts), terms: facts.terms, source: UsageSource::Estimated, ..Observed::default() }
}

/// The same usage in the tokens of `model`: the model's seed corrects the prompt, learned ratios do not.
pub fn expected_at_first(operation: Operation, facts: &Facts, model: Option<&str>) -> Usage {
    let usage = expected_usage(operation, facts);
    Usage { input: Ratios::default().of(model).prompt(usage.input), ..usage }
}
