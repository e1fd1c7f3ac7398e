//! The last failures, and what policies in `observe` would have refused, for the admin door.

use std::sync::Arc;

use serde_json::Value;
use tokio::task::spawn_blocking;

use super::App;
use crate::{
    admin::Refused,
    telemetry::{failures::Filter, observed::ObservedFilter},
};

/// Answers a question to the ring. A page of many stories takes milliseconds: it is made on a thread that may block.
pub async fn ask(app: Arc<App>, words: Vec<(String, String)>) -> Result<Value, Refused> {
    let pairs = words.iter().map(|(key, value)| (&**key, &**value));
    let filter = Filter::read(pairs, app.shared.clock.unix_millis()).map_err(Refused::Unclear)?;
    let found = spawn_blocking(move || app.telemetry.failures().find(&filter)).await;
    found.map_err(|error| Refused::Conflict(error.to_string()))
}

/// Answers a question to the requests that policies in `observe` would have refused.
pub fn observed(app: &App, words: &[(String, String)]) -> Result<Value, Refused> {
    let pairs = words.iter().map(|(key, value)| (&**key, &**value));
    let filter = ObservedFilter::read(pairs, app.shared.clock.unix_millis()).map_err(Refused::Unclear)?;
    Ok(app.shared.observed.find(&filter))
}
