//! The state of a batch, as an answer about it tells. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Group, Used};
use crate::{
    config::{Api, Operation},
    http1::Fields,
    provider::{
        json::{self, Count, Perhaps, Text},
        meter::Meter,
        price::Steps,
    },
    usage::{Units, UsageSource},
};

/// The id of the object that an answer is about.
pub fn id(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        id: Text,
    }
    json::lenient::<Object>(answer)?.id.0.filter(|id| !id.is_empty() && id.len() <= 256)
}

/// The state of a batch, as the answer to a question about it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It goes on, or nothing is known.
    GoesOn,
    /// It has ended and used this.
    Ended(Used),
    /// It has ended. The lines of this file state what it has used.
    In(String),
}

/// Reads the answer that lists batches: OpenAI's and Anthropic's lists have the batches in `data`.
pub fn states(answer: &[u8], steps: &Steps) -> Vec<(String, State)> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    let list = json::lenient::<List<'_>>(answer).map(|list| list.data).unwrap_or_default();
    list.iter().filter_map(|batch| state(batch.get().as_bytes(), steps)).collect()
}

/// Reads the answer that creates a batch or asks about one: its id and its state. `steps`: those of the prices.
///
/// A batch's own usage is the sum of its lines. The sum does not tell the hosted tools of responses, nor how long each line was: where
/// either may cost, the lines decide.
pub fn state(answer: &[u8], steps: &Steps) -> Option<(String, State)> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Batch<'a> {
        status: Text,
        processing_status: Text,
        output_file_id: Text,
        endpoint: Text,
        model: Text,
        request_counts: Perhaps<Counts>,
        #[serde(borrow)]
        usage: Option<&'a RawValue>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Counts {
        completed: Count,
        succeeded: Count,
    }
    let batch: Batch<'_> = json::lenient(answer)?;
    let id = id(answer)?;
    let ended =
        matches!(batch.status.as_str(), "completed" | "expired" | "cancelled" | "failed") || batch.processing_status.as_str() == "ended";
    if !ended {
        return Some((id, State::GoesOn));
    }
    let mut meter = Meter::new(Api::OpenAi, Operation::Responses, &Fields::new());
    meter.feed(format!("{{\"usage\":{}}}", batch.usage.map_or("null", RawValue::get)).as_bytes());
    let observed = meter.finish(true, 0);
    let counts = batch.request_counts.0.unwrap_or_default();
    let done = counts.completed.0.or(counts.succeeded.0);
    let file = batch.output_file_id.0.filter(|file| !file.is_empty());
    if observed.source == UsageSource::Provider && observed.usage.total() > 0 {
        let input = observed.usage.total_input();
        let lines_decide = batch.endpoint.as_str().ends_with("/responses") || steps.below(input) > 0;
        if let Some(file) = file.clone().filter(|_| lines_decide) {
            return Some((id, State::In(file)));
        }
        // Without lines each answer is as long as the average.
        let above = steps.below(input / done.unwrap_or(1).max(1));
        let group = Group { model: batch.model.0.filter(|model| !model.is_empty()), regional: false, above };
        let groups = BTreeMap::from([(group, (observed.usage, Units::default()))]);
        return Some((id, State::Ended(Used { groups, ..Used::default() })));
    }
    Some((
        id,
        match (file, done) {
            (_, Some(0)) => State::Ended(Used::default()),
            (Some(file), _) => State::In(file),
            (None, None) if batch.status.as_str() == "failed" => State::Ended(Used::default()),
            _ => State::GoesOn,
        },
    ))
}
