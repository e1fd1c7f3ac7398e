//! Batches: what a batch may cost at most, from its requests, and what it has used, from its results. Pure.
//!
//! OpenAI's batch names a file of requests that was uploaded before, one JSON text a line; its results are another such file.
//! Anthropic's batch has its requests in its own body; its results come line by line. A line that was cancelled, has expired or has
//! failed costs nothing. Memory is bounded: one line, and a sum for each model.
//!
//! Sources: OpenAI's Batch API (input and output objects, batch object), Anthropic's Message Batches API.

mod results;
mod state;

use std::collections::BTreeMap;

use http::Method;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use results::{Group, Results, Used};
pub use state::{State, id, state, states};

use super::{
    call::recognise,
    expected::expected_usage,
    facts,
    json::{self, Text},
    price::{Prices, Steps},
};
use crate::{
    config::{Api, Operation},
    http1::{Fields, Id},
    usage::{Terms, Tier, Usage},
};

/// Largest line that is read.
const LINE: usize = 8 << 20;
/// The terms of a batch's price.
const TERMS: Terms = Terms { tier: Tier::Batch, regional: false, each_above: None };
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
    /// Tokens of input and output, by model and by the step of prices that the requests are above.
    pub models: BTreeMap<String, BTreeMap<u64, [u64; 2]>>,
}

impl Expected {
    /// All tokens.
    pub fn usage(&self) -> Usage {
        self.groups().fold(Usage::default(), |sum, (_, _, usage)| sum.plus(&usage))
    }

    /// The tokens of each model's requests above each step.
    fn groups(&self) -> impl Iterator<Item = (&str, u64, Usage)> {
        let usage = |[input, output]: &[u64; 2]| Usage { input: *input, output: *output, ..Usage::default() };
        self.models.iter().flat_map(move |(model, steps)| steps.iter().map(move |(step, tokens)| (&**model, *step, usage(tokens))))
    }

    /// Nano-dollars at the batch price. Long contexts are judged request by request.
    ///
    /// # Errors
    /// A model has no price.
    pub fn cost(&self, prices: &Prices) -> Result<u64, &str> {
        self.groups().try_fold(0, |sum: u64, (model, step, usage)| {
            let cost = prices.cost_under(model, &usage, Terms { each_above: Some(step), ..TERMS }).ok_or(model)?;
            Ok(sum.saturating_add(cost))
        })
    }

    /// The only model; `None`: there are several, or none.
    pub fn model(&self) -> Option<&str> {
        self.models.keys().next().filter(|_| self.models.len() == 1).map(String::as_str)
    }

    /// Adds a request; `None`: it names no model, or there are too many models.
    fn add(&mut self, steps: &Steps, api: Api, operation: Operation, body: &[u8]) -> Option<()> {
        let facts = facts::read(api, operation, body).ok()?;
        let usage = expected_usage(operation, &facts);
        let model = facts.model.filter(|model| model.len() <= 256)?;
        if self.models.len() == MODELS && !self.models.contains_key(&model) {
            return None;
        }
        let sums = self.models.entry(model).or_default().entry(steps.below(usage.total_input())).or_default();
        sums[0] = sums[0].saturating_add(usage.total_input());
        sums[1] = sums[1].saturating_add(usage.output);
        self.requests += 1;
        Some(())
    }

    /// Reads the body that creates an Anthropic batch; `None`: one of its requests cannot be read. `steps`: those of the prices.
    pub fn of_messages(body: &[u8], steps: &Steps) -> Option<Self> {
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
            expected.add(steps, Api::Anthropic, Operation::Messages, request.params.get().as_bytes())?;
        }
        Some(expected)
    }

    /// Adds a line of OpenAI's input file; `None`: it cannot be read.
    fn line(&mut self, steps: &Steps, line: &[u8]) -> Option<()> {
        #[derive(Deserialize)]
        struct Line<'a> {
            url: Text,
            #[serde(borrow)]
            body: &'a RawValue,
        }
        let line: Line<'_> = json::lenient(line)?;
        let shape = recognise(Api::OpenAi, &Method::POST, line.url.as_str());
        self.add(steps, shape.api, shape.metered_as()?, line.body.get().as_bytes())
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
    steps: Steps,
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
    /// The reader of a body with these fields; `None`: it is no form that can be read. `steps`: those of the prices.
    pub fn new(headers: &Fields, steps: &Steps) -> Option<Self> {
        let kind = headers.get(Id::ContentType)?.to_str().ok()?;
        if headers.has(Id::ContentEncoding) || !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
            return None;
        }
        let boundary = kind.split(';').find_map(|term| term.trim().strip_prefix("boundary="))?.trim_matches('"');
        let boundary = Some(boundary).filter(|boundary| (1..=70).contains(&boundary.len()))?;
        // The first boundary has no line end before it.
        let held = b"\r\n".to_vec();
        let boundary = [b"\r\n--", boundary.as_bytes()].concat();
        let (lines, steps) = (Lines::default(), steps.clone());
        Some(Self { boundary, held, part: Part::Other, lines, steps, expected: Some(Expected::default()) })
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
            let (lines, expected, steps) = (&mut self.lines, &mut self.expected, &self.steps);
            lines.feed(&self.held[..end], &mut |line| read(expected, steps, line));
        }
        self.held.drain(..end);
    }

    fn end_file(&mut self) {
        if self.part == Part::File {
            let (lines, expected, steps) = (&mut self.lines, &mut self.expected, &self.steps);
            lines.end(&mut |line| read(expected, steps, line));
        }
    }

    /// The requests of the batch; `None`: it is none, or a line cannot be read.
    pub fn finish(self) -> Option<Expected> {
        self.expected.filter(|expected| expected.requests > 0)
    }
}

fn read(expected: &mut Option<Expected>, steps: &Steps, line: Option<&[u8]>) {
    if line.and_then(|line| expected.as_mut()?.line(steps, line)).is_none() {
        *expected = None;
    }
}

/// The kind of a part, by its head. The blank line's own end counts to its content, as the line end of a boundary does.
fn kind_of(head: &[u8]) -> Part {
    let is_file = memmem::find(head, b"name=\"file\"").is_some() || memmem::find(head, b"name=file").is_some();
    if is_file { Part::File } else { Part::Other }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
