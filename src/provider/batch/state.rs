//! The state of a batch, as an answer about it tells. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Used;
use crate::{
    config::{Api, Operation},
    http1::Fields,
    provider::{
        json::{self, Count, Perhaps, Text},
        meter::Meter,
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
pub fn states(answer: &[u8]) -> Vec<(String, State)> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    let list = json::lenient::<List<'_>>(answer).map(|list| list.data).unwrap_or_default();
    list.iter().filter_map(|batch| state(batch.get().as_bytes())).collect()
}

/// Reads the answer that creates a batch or asks about one: its id and its state.
pub fn state(answer: &[u8]) -> Option<(String, State)> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Batch<'a> {
        status: Text,
        processing_status: Text,
        output_file_id: Text,
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
    if observed.source == UsageSource::Provider && observed.usage.total() > 0 {
        let model = batch.model.0.filter(|model| !model.is_empty());
        return Some((
            id,
            State::Ended(Used { models: BTreeMap::from([((model, false), (observed.usage, Units::default()))]), ..Used::default() }),
        ));
    }
    let counts = batch.request_counts.0.unwrap_or_default();
    let done = counts.completed.0.or(counts.succeeded.0);
    Some((
        id,
        match (batch.output_file_id.0.filter(|file| !file.is_empty()), done) {
            (_, Some(0)) => State::Ended(Used::default()),
            (Some(file), _) => State::In(file),
            (None, None) if batch.status.as_str() == "failed" => State::Ended(Used::default()),
            _ => State::GoesOn,
        },
    ))
}
