//! The model call in a request, as the running proxy understands it.

use std::sync::Arc;

use bytes::Bytes;

use super::{Call, refused};
use crate::{
    arrival::Arrival,
    config::{Config, ModelAim, Outbound, human, names_version},
    http1::{Fields, Id},
    provider::{self, Choice, Facts, Prices, Shape, batch, choice},
    proxy::{
        cache_key::AskedCall,
        model::{means_one_thing, split},
    },
    reject::Reject,
};

/// The call as [`crate::proxy::model::understand`] reads it.
pub(super) struct Understood {
    pub(super) provider: Arc<str>,
    /// The URL that is asked.
    pub(super) target: String,
    pub(super) shape: Shape,
    pub(super) model: Option<String>,
    facts: Option<Facts>,
    batch: Option<batch::Expected>,
    streams: bool,
    pub(super) rest: String,
    /// The body with the provider's own name for the model, if it is another.
    pub(super) renamed: Option<Bytes>,
    choice: Option<Choice>,
    then: Vec<String>,
}

impl Understood {
    pub(super) fn of(arrival: &Arrival, body: &[u8], config: &Config) -> Result<Self, String> {
        let outbound = config.outbound.as_ref().ok_or("the file does not open the outbound door")?;
        let whole = arrival.uri.path_and_query().map_or("/", |path| path.as_str());
        let (name, rest) = split(whole);
        let named = outbound.providers.iter().position(|provider| &*provider.name == name);
        let bare = named.is_none() && names_version(name);
        let api = match named {
            Some(at) => outbound.providers[at].api,
            None if bare => choice::api_of(&arrival.method, arrival.path(), arrival.headers.has(choice::ANTHROPIC)),
            None => {
                let known: Vec<&str> = outbound.providers.iter().map(|provider| &*provider.name).collect();
                return Err(format!("no provider is called `{name}`; one of: {}", known.join(", ")));
            }
        };
        let rest = if bare { whole } else { rest };
        let path = rest.split('?').next().unwrap_or_default();
        let mut shape = provider::recognise(api, &arrival.method, path);
        means_one_thing(api, &shape, &arrival.method, path).map_err(refused)?;
        let facts =
            if shape.reads_body && shape.batch.is_none() { provider::read_or_estimate(shape.api, shape.operation, body) } else { None };
        let prices = || Prices::new(&outbound.prices);
        let creates = shape.batch == Some(batch::Step::Create);
        let batch = if creates { batch::Expected::of_messages(body, prices().steps()) } else { None };
        let model = shape
            .model_in_path
            .clone()
            .or_else(|| facts.as_ref().and_then(|facts| facts.model.clone()))
            .or_else(|| batch.as_ref().and_then(|batch| batch.model()).map(str::to_owned));
        let mut call = Self {
            provider: Arc::default(),
            target: String::new(),
            streams: shape.stream_in_path.unwrap_or_else(|| facts.as_ref().is_some_and(|facts| facts.stream)),
            rest: rest.to_owned(),
            model,
            facts,
            batch,
            renamed: None,
            choice: None,
            then: Vec::new(),
            shape: shape.clone(),
        };
        let at = match named {
            Some(at) => at,
            None => call.choose(arrival, body, outbound)?,
        };
        shape.asks_for(call.facts.as_ref().unwrap_or(&Facts::default()), |model| prices().is_free(model));
        let provider = &outbound.providers[at];
        let below = if bare { choice::below(&provider.url.base, &call.rest) } else { &call.rest };
        (call.target, call.provider) = (format!("{}{below}", provider.url), provider.name.clone());
        call.shape = Shape { model_in_path: call.shape.model_in_path, ..shape };
        Ok(call)
    }

    /// The provider that the model leads to; the call has the provider's own name for it from here on.
    fn choose(&mut self, arrival: &Arrival, body: &[u8], outbound: &Outbound) -> Result<usize, String> {
        let api = self.shape.api;
        if let Some(asked) = choice::listing(&arrival.method, arrival.path()) {
            let listed = asked.is_none_or(|name| choice::listed_model(outbound, api, &name).is_some());
            if let (true, Some(at)) = (listed, outbound.providers.iter().position(|provider| provider.api == api)) {
                self.then.push("the proxy itself answers: the names of outbound.models".into());
                return Ok(at);
            }
        }
        let choice = provider::choose(outbound, api, self.model.as_deref()).map_err(|why| refused(Reject::NoModel(why.into())))?;
        if let Some(model) = choice.model.as_deref() {
            if self.shape.model_in_path.is_some() {
                let (path, query) = self.rest.split_at(self.rest.find('?').unwrap_or(self.rest.len()));
                self.rest = format!("{}{query}", provider::with_model_in_path(api, path, model).unwrap_or_else(|| path.to_owned()));
                self.shape.model_in_path = Some(model.to_owned());
            } else {
                self.renamed = provider::with_model(&Bytes::copy_from_slice(body), model);
                self.facts.iter_mut().for_each(|facts| facts.model = Some(model.to_owned()));
            }
            self.model = Some(model.to_owned());
        }
        let told = |aim: &ModelAim| format!("{} {}", outbound.providers[aim.provider].name, aim.model.as_deref().unwrap_or("as asked"));
        self.then = choice.rest.iter().map(told).collect();
        let at = choice.provider;
        self.choice = Some(choice);
        Ok(at)
    }

    pub(super) fn asked<'a>(&'a self, body: &'a [u8]) -> AskedCall<'a> {
        AskedCall {
            provider: &self.provider,
            shape: &self.shape,
            model: self.model.as_deref(),
            facts: self.facts.as_ref(),
            streams: self.streams,
            rest: &self.rest,
            body: (!body.is_empty()).then_some(body),
        }
    }

    pub(super) fn shown(&self, headers: &Fields, config: &Config) -> Call {
        let prices = Prices::new(config.outbound.as_ref().map_or(&[], |outbound| &outbound.prices));
        let model = self.model.as_deref().unwrap_or_default();
        let free = self.shape.is_free() && !headers.has(Id::Upgrade);
        let facts = self.facts.as_ref().filter(|_| !free);
        let usage = facts.map(|facts| provider::expected_at_first(self.shape.operation, facts, self.model.as_deref()));
        let charge = |(facts, usage)| prices.charge(Some(model), &provider::expected_answer(usage, facts));
        let cost = match &self.batch {
            Some(batch) => batch.cost(&prices).ok(),
            None => facts.zip(usage).and_then(charge),
        };
        Call {
            provider: self.provider.to_string(),
            chosen: self.choice.as_ref().map(|choice| choice.because.clone()),
            then: self.then.clone(),
            api: self.shape.api.to_string(),
            operation: self.shape.operation.as_str(),
            billed: provider::billed::words(&self.shape, headers.has(Id::Upgrade)),
            model: self.model.clone(),
            stream: self.streams,
            estimated_input_tokens: self.facts.as_ref().map(|facts| facts.estimated_input),
            max_output_tokens: self.facts.as_ref().and_then(|facts| facts.max_output),
            expected_output_tokens: usage.as_ref().map(|usage| usage.output),
            price_usd: if free { Some("0".to_owned()) } else { cost.map(human::usd) },
            price: usage.as_ref().and_then(|usage| prices.in_words(model, usage)),
        }
    }
}
