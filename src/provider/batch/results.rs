//! The results of a batch: what its lines have used, as they state it.
//!
//! Each line is metered as the operation that made it, and its length is judged by itself. Memory is bounded: one line, and a sum for each
//! group of lines that have one price.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Lines, TERMS};
use crate::{
    config::{Api, Operation},
    http1::Fields,
    provider::{
        json::{self, Count, Text},
        meter::{Meter, Observed},
        price::Steps,
    },
    usage::{Terms, Units, Usage, UsageSource},
};

/// Most groups of one batch whose model's name is kept.
const GROUPS: usize = 64;

/// What a batch has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens and units of the answers that have one price.
    pub groups: BTreeMap<Group, (Usage, Units)>,
    /// Lines of results.
    pub lines: u64,
    /// Answers that state no usage.
    pub untold: u64,
}

/// What the price of a line depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The model that answered.
    pub model: Option<String>,
    /// Whether the work was bound to a region.
    pub regional: bool,
    /// The step of prices that each answer's input is above; 0: it is above none.
    pub above: u64,
}

/// Reads results line by line while they pass.
#[derive(Debug)]
pub struct Results {
    api: Api,
    steps: Steps,
    lines: Lines,
    used: Used,
}

impl Results {
    /// The reader of results in the form of `api`. `steps`: those of the prices.
    pub fn new(api: Api, steps: &Steps) -> Self {
        Self { api, steps: steps.clone(), lines: Lines::default(), used: Used::default() }
    }

    /// Reads the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let (api, steps, used) = (self.api, &self.steps, &mut self.used);
        self.lines.feed(bytes, &mut |line| result(api, steps, used, line));
    }

    /// The sum of all lines.
    pub fn finish(mut self) -> Used {
        let (api, steps, used) = (self.api, &self.steps, &mut self.used);
        self.lines.end(&mut |line| result(api, steps, used, line));
        self.used
    }
}

fn result(api: Api, steps: &Steps, used: &mut Used, line: Option<&[u8]>) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Line<'a> {
        #[serde(borrow)]
        response: Option<Response<'a>>,
        #[serde(borrow)]
        result: Option<Outcome<'a>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Response<'a> {
        status_code: Count,
        #[serde(borrow)]
        body: Option<&'a RawValue>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Outcome<'a> {
        #[serde(rename = "type")]
        kind: Text,
        #[serde(borrow)]
        message: Option<&'a RawValue>,
    }
    used.lines += 1;
    let line = line.and_then(json::lenient::<Line<'_>>);
    let Some(line) = line else {
        used.untold += 1;
        return;
    };
    let (operation, answer) = match (api, line.response, line.result) {
        (Api::Anthropic, _, Some(outcome)) if outcome.kind.as_str() == "succeeded" => (Operation::Messages, outcome.message),
        (Api::OpenAi, Some(response), _) if response.status_code.0.is_none_or(|status| status < 400) => {
            (response.body.map_or(Operation::Chat, |body| operation(body.get().as_bytes())), response.body)
        }
        // Failed, cancelled, expired.
        _ => return,
    };
    let Some(answer) = answer else { return };
    let mut meter = Meter::new(api, operation, &Fields::new());
    meter.feed(answer.get().as_bytes());
    let observed = meter.finish(true, 0);
    if observed.source != UsageSource::Provider {
        used.untold += 1;
        return;
    }
    for part in &observed.parts {
        let model = part.model.as_deref().map(str::to_owned).or_else(|| observed.model.clone());
        used.add(steps, model, observed.terms.regional, &part.usage, &Units::default());
    }
    let whole = if observed.parts.is_empty() { observed.usage } else { Usage::default() };
    if observed.parts.is_empty() || observed.units != Units::default() {
        used.add(steps, observed.model, observed.terms.regional, &whole, &observed.units);
    }
}

/// The operation that made an answer of OpenAI, by the answer's own kind: a line of results does not name the operation.
fn operation(answer: &[u8]) -> Operation {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Kind<'a> {
        object: Text,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let kind: Kind<'_> = json::lenient(answer).unwrap_or_default();
    match (kind.object.as_str(), kind.data) {
        ("response", _) => Operation::Responses,
        ("list", _) => Operation::Embeddings,
        ("", Some(_)) => Operation::Images,
        _ => Operation::Chat,
    }
}

/// The sum of two counts of units.
fn plus(one: &Units, other: &Units) -> Units {
    Units {
        web_searches: one.web_searches.saturating_add(other.web_searches),
        file_searches: one.file_searches.saturating_add(other.file_searches),
        containers: one.containers.saturating_add(other.containers),
        grounding_queries: one.grounding_queries.saturating_add(other.grounding_queries),
        grounded_answers: one.grounded_answers.saturating_add(other.grounded_answers),
        audio_millis: one.audio_millis.saturating_add(other.audio_millis),
    }
}

impl Used {
    /// Adds the usage of one answer, or of a part of it. Beyond the bound a model's name is dropped, not its usage.
    fn add(&mut self, steps: &Steps, model: Option<String>, regional: bool, usage: &Usage, units: &Units) {
        let mut group = Group { model, regional, above: steps.below(usage.total_input()) };
        if self.groups.len() >= GROUPS && !self.groups.contains_key(&group) {
            group.model = None;
        }
        let sum = self.groups.entry(group).or_default();
        *sum = (sum.0.plus(usage), plus(&sum.1, units));
    }

    /// The answers of each group, as the meter would state them, at the batch price.
    pub fn observed(&self) -> impl Iterator<Item = Observed> {
        self.groups.iter().map(|(group, (usage, units))| Observed {
            usage: *usage,
            units: *units,
            terms: Terms { regional: group.regional, each_above: Some(group.above), ..TERMS },
            source: UsageSource::Provider,
            model: group.model.clone(),
            terminal: true,
            ..Observed::default()
        })
    }

    /// The estimated usage of answers that state none, from the expected usage of all; `None`: every answer states its usage. Each of them
    /// is as long as the average.
    pub fn untold(&self, expected: &Usage) -> Option<Observed> {
        let share = |tokens: u64| tokens.saturating_mul(self.untold) / self.lines.max(1);
        let usage = Usage { input: share(expected.input), output: share(expected.output), ..Usage::default() };
        let average = expected.total_input() / self.lines.max(1);
        let terms = Terms { each_above: Some(average.saturating_sub(1)), ..TERMS };
        let observed = Observed { usage, terms, source: UsageSource::Estimated, terminal: true, ..Observed::default() };
        (self.untold > 0).then_some(observed)
    }
}
