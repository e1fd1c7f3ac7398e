//! Batches: what a batch may cost at most, from its requests, and what it has used, from its results. Pure.
//!
//! OpenAI's batch names a file of requests that was uploaded before, one JSON text a line; its results are another such file.
//! Anthropic's batch has its requests in its own body; its results come line by line. A line that was cancelled, has expired or has
//! failed costs nothing. Memory is bounded: one line, and a sum for each model.
//!
//! Sources: OpenAI's Batch API (input and output objects, batch object), Anthropic's Message Batches API.

mod state;

use std::collections::BTreeMap;

use http::Method;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use state::{State, id, state, states};

use super::{
    call::recognise,
    expected::expected_usage,
    facts,
    json::{self, Count, Text},
    meter::{Meter, Observed},
    price::Prices,
};
use crate::{
    config::{Api, Operation},
    http1::{Fields, Id},
    usage::{Terms, Tier, Units, Usage, UsageSource},
};

/// Largest line that is read.
const LINE: usize = 8 << 20;
/// The terms of a batch's price.
const TERMS: Terms = Terms { tier: Tier::Batch, regional: false };
/// Most models of one batch.
const MODELS: usize = 32;
/// Bytes of a form's part head that are held.
const PART_HEAD: usize = 4 * 1024;

/// A request's place in the life of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Uploads a file, which may be the requests of a batch.
    Upload,
    /// Creates a batch.
    Create,
    /// Asks about this batch, or cancels it.
    Ask(Box<str>),
    /// Lists batches.
    List,
    /// Fetches the results of this batch.
    Results(Box<str>),
    /// Fetches this file, which may be the results of a batch.
    Content(Box<str>),
}

/// The most that a batch may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Requests.
    pub requests: u64,
    /// Tokens of input and output, by model.
    pub models: BTreeMap<String, [u64; 2]>,
}

impl Expected {
    /// All tokens.
    pub fn usage(&self) -> Usage {
        self.by_model().fold(Usage::default(), |sum, (_, usage)| sum.plus(&usage))
    }

    /// The tokens of each model.
    pub fn by_model(&self) -> impl Iterator<Item = (&str, Usage)> {
        self.models.iter().map(|(model, [input, output])| (&**model, Usage { input: *input, output: *output, ..Usage::default() }))
    }

    /// Nano-dollars at the batch price.
    ///
    /// # Errors
    /// A model has no price.
    pub fn cost(&self, prices: &Prices) -> Result<u64, &str> {
        self.by_model().try_fold(0, |sum: u64, (model, usage)| {
            let cost = prices.cost_under(model, &usage, TERMS).ok_or(model)?;
            Ok(sum.saturating_add(cost))
        })
    }

    /// The only model; `None`: there are several, or none.
    pub fn model(&self) -> Option<&str> {
        self.models.keys().next().filter(|_| self.models.len() == 1).map(String::as_str)
    }

    /// Adds a request; `None`: it names no model, or there are too many models.
    fn add(&mut self, api: Api, operation: Operation, body: &[u8]) -> Option<()> {
        let facts = facts::read(api, operation, body).ok()?;
        let usage = expected_usage(operation, &facts);
        let model = facts.model.filter(|model| model.len() <= 256)?;
        if self.models.len() == MODELS && !self.models.contains_key(&model) {
            return None;
        }
        let sums = self.models.entry(model).or_default();
        sums[0] = sums[0].saturating_add(usage.total_input());
        sums[1] = sums[1].saturating_add(usage.output);
        self.requests += 1;
        Some(())
    }

    /// Reads the body that creates an Anthropic batch; `None`: one of its requests cannot be read.
    pub fn of_messages(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            requests: Vec<Request<'a>>,
        }
        #[derive(Deserialize)]
        struct Request<'a> {
            #[serde(borrow)]
            params: &'a RawValue,
        }
        let mut expected = Self::default();
        for request in json::lenient::<Body<'_>>(body)?.requests {
            expected.add(Api::Anthropic, Operation::Messages, request.params.get().as_bytes())?;
        }
        Some(expected)
    }

    /// Adds a line of OpenAI's input file; `None`: it cannot be read.
    fn line(&mut self, line: &[u8]) -> Option<()> {
        #[derive(Deserialize)]
        struct Line<'a> {
            url: Text,
            #[serde(borrow)]
            body: &'a RawValue,
        }
        let line: Line<'_> = json::lenient(line)?;
        let shape = recognise(Api::OpenAi, &Method::POST, line.url.as_str());
        self.add(shape.api, shape.metered_as()?, line.body.get().as_bytes())
    }
}

/// The file that the body of an OpenAI batch names.
pub fn input_file(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        input_file_id: Text,
    }
    json::lenient::<Body>(body)?.input_file_id.0.filter(|id| !id.is_empty() && id.len() <= 256)
}

/// Splits a text into lines. The text comes in pieces.
#[derive(Debug, Default)]
struct Lines {
    held: Vec<u8>,
    too_large: bool,
}

impl Lines {
    /// Gives each line that ends; `None`: one that is too large.
    fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Option<&[u8]>)) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.hold(&bytes[..end]);
            self.end(each);
            bytes = &bytes[end + 1..];
        }
        self.hold(bytes);
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.too_large |= self.held.len() + bytes.len() > LINE;
        if self.too_large {
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, each: &mut dyn FnMut(Option<&[u8]>)) {
        if std::mem::take(&mut self.too_large) {
            each(None);
        } else if !self.held.trim_ascii().is_empty() {
            each(Some(&self.held));
        }
        self.held.clear();
    }
}

/// Reads an upload (`multipart/form-data`, RFC 7578) while it passes: the requests of a batch, if it has some.
#[derive(Debug)]
pub struct Upload {
    /// The boundary with the dashes and the line end before it.
    boundary: Vec<u8>,
    held: Vec<u8>,
    part: Part,
    lines: Lines,
    expected: Option<Expected>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its head is due.
    Head,
    File,
    /// Another field.
    Other,
}

impl Upload {
    /// The reader of a body with these fields; `None`: it is no form that can be read.
    pub fn new(headers: &Fields) -> Option<Self> {
        let kind = headers.get(Id::ContentType)?.to_str().ok()?;
        if headers.has(Id::ContentEncoding) || !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
            return None;
        }
        let boundary = kind.split(';').find_map(|term| term.trim().strip_prefix("boundary="))?.trim_matches('"');
        let boundary = Some(boundary).filter(|boundary| (1..=70).contains(&boundary.len()))?;
        // The first boundary has no line end before it.
        let held = b"\r\n".to_vec();
        let boundary = [b"\r\n--", boundary.as_bytes()].concat();
        Some(Self { boundary, held, part: Part::Other, lines: Lines::default(), expected: Some(Expected::default()) })
    }

    /// Reads the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.expected.is_none() {
            return;
        }
        self.held.extend_from_slice(bytes);
        loop {
            let before = (self.held.len(), self.part);
            match self.part {
                Part::Head => match memmem::find(&self.held, b"\r\n\r\n") {
                    Some(end) => {
                        self.part = kind_of(&self.held[..end]);
                        self.held.drain(..end + 2);
                    }
                    None if self.held.len() > PART_HEAD => self.expected = None,
                    None => {}
                },
                Part::File | Part::Other => match memmem::find(&self.held, &self.boundary) {
                    Some(at) => {
                        self.give(at);
                        self.held.drain(..self.boundary.len());
                        self.end_file();
                        self.part = Part::Head;
                    }
                    // The boundary may have begun.
                    None => self.give(self.held.len().saturating_sub(self.boundary.len())),
                },
            }
            if self.expected.is_none() || before == (self.held.len(), self.part) {
                return;
            }
        }
    }

    /// Takes the held bytes up to `end` as content of the part.
    fn give(&mut self, end: usize) {
        if self.part == Part::File {
            let (lines, expected) = (&mut self.lines, &mut self.expected);
            lines.feed(&self.held[..end], &mut |line| read(expected, line));
        }
        self.held.drain(..end);
    }

    fn end_file(&mut self) {
        if self.part == Part::File {
            let (lines, expected) = (&mut self.lines, &mut self.expected);
            lines.end(&mut |line| read(expected, line));
        }
    }

    /// The requests of the batch; `None`: it is none, or a line cannot be read.
    pub fn finish(self) -> Option<Expected> {
        self.expected.filter(|expected| expected.requests > 0)
    }
}

fn read(expected: &mut Option<Expected>, line: Option<&[u8]>) {
    if line.and_then(|line| expected.as_mut()?.line(line)).is_none() {
        *expected = None;
    }
}

/// The kind of a part, by its head. The blank line's own end counts to its content, as the line end of a boundary does.
fn kind_of(head: &[u8]) -> Part {
    let is_file = memmem::find(head, b"name=\"file\"").is_some() || memmem::find(head, b"name=file").is_some();
    if is_file { Part::File } else { Part::Other }
}

/// What a batch has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens and units by the model that answered, and whether the work was bound to a region.
    pub models: BTreeMap<(Option<String>, bool), (Usage, Units)>,
    /// Lines of results.
    pub lines: u64,
    /// Answers that state no usage.
    pub untold: u64,
}

/// Reads results line by line while they pass.
#[derive(Debug)]
pub struct Results {
    api: Api,
    lines: Lines,
    used: Used,
}

impl Results {
    /// The reader of results in the form of `api`.
    pub fn new(api: Api) -> Self {
        Self { api, lines: Lines::default(), used: Used::default() }
    }

    /// Reads the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let (api, used) = (self.api, &mut self.used);
        self.lines.feed(bytes, &mut |line| result(api, used, line));
    }

    /// The sum of all lines.
    pub fn finish(mut self) -> Used {
        let (api, used) = (self.api, &mut self.used);
        self.lines.end(&mut |line| result(api, used, line));
        self.used
    }
}

fn result(api: Api, used: &mut Used, line: Option<&[u8]>) {
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
        (Api::OpenAi, Some(response), _) if response.status_code.0.is_none_or(|status| status < 400) => (Operation::Chat, response.body),
        // Failed, cancelled, expired.
        _ => return,
    };
    let Some(answer) = answer else { return };
    let mut meter = Meter::new(api, operation, &Fields::new());
    meter.feed(answer.get().as_bytes());
    let observed = meter.finish(true, 0);
    match observed.source {
        UsageSource::Provider => {
            // Beyond the bound a model's name is dropped, not its usage.
            let regional = observed.terms.regional;
            let mut add = |model: Option<String>, usage: &Usage, units: &Units| {
                let known = used.models.len() < MODELS || used.models.contains_key(&(model.clone(), regional));
                let sum = used.models.entry((model.filter(|_| known), regional)).or_default();
                *sum = (sum.0.plus(usage), plus(&sum.1, units));
            };
            for part in &observed.parts {
                let model = part.model.as_deref().map(str::to_owned).or_else(|| observed.model.clone());
                add(model, &part.usage, &Units::default());
            }
            let whole = if observed.parts.is_empty() { observed.usage } else { Usage::default() };
            add(observed.model.clone(), &whole, &observed.units);
        }
        _ => used.untold += 1,
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
    /// The answers of each model, as the meter would state them, at the batch price.
    pub fn observed(&self) -> impl Iterator<Item = Observed> {
        self.models.iter().map(|((model, regional), (usage, units))| Observed {
            usage: *usage,
            units: *units,
            terms: Terms { regional: *regional, ..TERMS },
            source: UsageSource::Provider,
            model: model.clone(),
            terminal: true,
            ..Observed::default()
        })
    }

    /// The estimated usage of answers that state none, from the expected usage of all; `None`: every answer states its usage.
    pub fn untold(&self, expected: &Usage) -> Option<Observed> {
        let share = |tokens: u64| tokens.saturating_mul(self.untold) / self.lines.max(1);
        let usage = Usage { input: share(expected.input), output: share(expected.output), ..Usage::default() };
        let observed = Observed { usage, terms: TERMS, source: UsageSource::Estimated, terminal: true, ..Observed::default() };
        (self.untold > 0).then_some(observed)
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
