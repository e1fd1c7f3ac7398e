//! The steps of prices by length: some models have other rates for an answer with more tokens of input than a step.
//!
//! Usage of several answers is added up step by step: a sum over answers that lie between two steps has the price of its answers.

use std::sync::Arc;

/// The steps of all models, the lowest first. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps(Arc<[u64]>);

impl Steps {
    /// These steps, in any order.
    pub fn new(all: impl IntoIterator<Item = u64>) -> Self {
        let mut all: Vec<u64> = all.into_iter().collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }

    /// The highest step that an answer with this many tokens of input is above; 0: it is above none.
    pub fn below(&self, input: u64) -> u64 {
        self.0[..self.0.partition_point(|step| *step < input)].last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_lies_above_the_steps_that_are_smaller() {
        let steps = Steps::new([272_000, 100_000, 272_000, 200_000]);
        for (input, step) in [(0, 0), (100_000, 0), (100_001, 100_000), (272_000, 200_000), (272_001, 272_000), (u64::MAX, 272_000)] {
            assert_eq!(steps.below(input), step, "{input}");
        }
        assert_eq!(Steps::default().below(u64::MAX), 0);
    }
}
