//! What a model call is expected to use, before its answer says it.

use super::ModelCall;
use crate::{
    provider::{self, Observed, Ratios},
    usage::Usage,
};

impl ModelCall {
    /// The app's word for the model, if another name was written in its place.
    pub fn alias(&self) -> Option<&str> {
        self.by_model.as_ref()?.asked.as_deref()
    }

    /// The most tokens that the call is expected to use. Limits reserve that much.
    pub fn estimate(&self) -> Usage {
        self.facts.as_ref().map(|facts| provider::expected_usage(self.shape.operation, facts)).unwrap_or_default()
    }

    /// [`estimate`](Self::estimate) in the tokens of `model`, as far as its calls have taught.
    pub fn expected(&self, ratios: &Ratios, model: Option<&str>) -> Usage {
        let usage = self.estimate();
        let ratio = ratios.of(model.or(self.model.as_deref()));
        // Vectors and pictures are bounded by their own estimates: the prompt alone is text.
        Usage { input: ratio.prompt(usage.input), ..usage }
    }

    /// The answer that the call is expected to get, by which it is reserved, and charged if the answer says nothing.
    pub fn expecting(&self, ratios: &Ratios, model: Option<&str>) -> Observed {
        let facts = self.facts.as_ref();
        facts.map(|facts| provider::expected_answer(self.expected(ratios, model), facts)).unwrap_or_default()
    }
}
