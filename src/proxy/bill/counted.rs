//! The meter of a try's answer, and the words of a cut stream, counted by the model's own tokenizer.

use bytes::Bytes;

use super::Bill;
use crate::{
    config::{Api, Operation},
    http1::Fields,
    provider::{Facts, Meter, Observed, tokens::Tokenizer},
    proxy::model::ModelCall,
    usage::{Usage, UsageSource},
};

impl ModelCall {
    /// Keeps the body of a stream whose prompt may have to be counted. A counted answer is one text: a call for several is estimated.
    pub(in crate::proxy) fn keep_prompt(&mut self, body: Bytes) {
        let known = self.model.as_deref().and_then(Tokenizer::of).is_some() && self.shape.api == Api::OpenAi;
        let is_text = matches!(self.shape.operation, Operation::Chat | Operation::Responses);
        if let Some(facts) = self.facts.as_mut().filter(|facts| known && is_text && self.streams && facts.n == 1) {
            facts.prompt = Some(body);
        }
    }
}

impl Bill {
    /// The meter of an answer with these `headers`.
    pub(super) fn meter(&self, call: &ModelCall, operation: Operation, headers: &Fields) -> Meter {
        let most_output = call.facts.as_ref().and_then(Facts::most_output);
        let ratio = self.ratios().of(self.asked(call));
        Meter::new(call.shape.api, operation, headers).at_most(most_output).spoken_as(ratio).counted_by(self.tokenizer(call))
    }

    /// The tokenizer by which the try's answer may be counted.
    fn tokenizer(&self, call: &ModelCall) -> Option<Tokenizer> {
        call.facts.as_ref()?.prompt.as_ref()?;
        Tokenizer::of(self.asked(call)?)
    }

    /// Puts counted tokens in the place of estimated ones, if both the answer and its prompt can be counted.
    pub(super) fn count_words(&self, call: &ModelCall, observed: &mut Observed) {
        let Some(output) = observed.counted_output else { return };
        let prompt = call.facts.as_ref().and_then(|facts| facts.prompt.as_deref());
        let Some(input) = self.tokenizer(call).zip(prompt).and_then(|(tokenizer, prompt)| tokenizer.prompt(prompt)) else { return };
        observed.usage = Usage { input, output, ..Usage::default() };
        observed.source = UsageSource::Counted;
    }
}
